"""The import rules: each part of the package imports only parts below it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lstmkit

SOURCE = Path(lstmkit.__file__).parent

#: Each part may import the parts named here, itself, and nothing else of the package.
BASE = {"errors", "libraries", "progress"}
ALLOWED = {
    "errors": set(),
    "version": set(),
    "libraries": {"errors"},
    "progress": set(),
    "settings": BASE,
    "int8": set(),
    "cells": {"int8"},
    "ops": {"cells"},
    "layers": {"cells", "int8", "ops"},
    "evaluation": set(),
    "data": {*BASE, "evaluation"},
    "decoding": {*BASE, "data", "evaluation"},
    "modules": {"cells", "data", "layers", "ops"},
    "models": {"data", "layers", "modules"},
    "frontends": {*BASE, "data", "modules"},
    "training": {*BASE, "data", "models", "version"},
    "report": {*BASE, "training"},
    "plots": {*BASE, "report"},
    "look": {*BASE, "cells", "layers", "plots", "report"},
    "jobs": {
        *BASE, "data", "decoding", "evaluation", "export", "frontends", "layers", "look", "models", "modules", "plots",
        "report", "settings", "training", "version",
    },
    "recipes": {*BASE, "data", "evaluation", "jobs", "report", "settings", "training"},
    "export": {*BASE, "cells", "data", "layers", "ops", "training", "version"},
    "hub": {*BASE, "data", "jobs", "training"},
    "runtime": {*BASE, "data", "decoding", "evaluation"},
    "lab": {
        *BASE, "cells", "data", "layers", "look", "models", "modules", "plots", "report", "settings", "training",
    },
    "demo": {*BASE, "jobs", "look", "report"},
    "studio": {
        *BASE, "command_options", "data", "demo", "jobs", "look", "plots", "report", "settings", "training",
        "web_access",
    },
    "": {"errors", "export", "hub", "jobs", "layers", "version"},
    "__main__": {"cli", "errors", "libraries"},
    "command_options": {*BASE, "settings"},
    "web_access": set(),
    "serve": {*BASE, "command_options", "data", "demo", "jobs", "version", "web_access"},
    "cli": {
        *BASE, "command_options", "data", "demo", "hub", "jobs", "lab", "look", "recipes", "report", "settings",
        "serve", "studio",
        "training", "version",
    },
}  # fmt: skip


def part_of(path: Path) -> str:
    """The part a file belongs to: its top-level folder or module; the package itself is ``""``."""
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_modules(path: Path) -> set[str]:
    """Modules of the package that a file imports, also in functions and under ``TYPE_CHECKING``."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return {name for name in names if name.split(".")[0] == "lstmkit"}


def parts_of(names: set[str]) -> set[str]:
    """The parts of modules; a name directly in the package belongs to the package itself."""
    parts = set()
    for name in names:
        first = name.split(".")[1] if "." in name else ""
        parts.add(first if first in ALLOWED or (SOURCE / f"{first}.py").exists() or (SOURCE / first).is_dir() else "")
    return parts


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_follow_the_rules(path):
    part = part_of(path)
    assert part in ALLOWED, "a new part: list in ALLOWED what it may import"
    assert parts_of(imported_modules(path) - {"lstmkit"}) - {part} <= ALLOWED[part]


def test_the_allowed_imports_have_no_cycle():
    """The parts have an order in which each imports only earlier ones."""
    remaining = dict(ALLOWED)
    while remaining:
        free = [name for name, allowed in remaining.items() if not allowed & remaining.keys()]
        assert free, f"a cycle among {sorted(remaining)}"
        for name in free:
            del remaining[name]


def test_modules_have_no_import_cycle():
    """No module imports itself through others, in functions and for types too; ``__init__`` files do not count."""
    modules = {".".join(["lstmkit", *p.relative_to(SOURCE).with_suffix("").parts]): p for p in FILES}
    modules = {name: p for name, p in modules.items() if p.name != "__init__.py"}
    remaining = {name: (imported_modules(p) & modules.keys()) - {name} for name, p in modules.items()}
    while remaining:
        free = [name for name, needs in remaining.items() if not needs & remaining.keys()]
        assert free, f"a cycle among {sorted(remaining)}"
        for name in free:
            del remaining[name]


def test_modules_of_jobs_do_not_import_job_modules():
    """``job.py`` holds settings, fit and a predictor; no module in ``jobs`` imports it."""
    for path in FILES:
        if part_of(path) == "jobs":
            names = {name for name in imported_modules(path) if re.fullmatch(r"lstmkit\.jobs\.\w+\.job(\..*)?", name)}
            assert not names, f"{path.relative_to(SOURCE)} imports {sorted(names)}"


def test_only_train_py_has_a_training_loop():
    """Only train.py computes gradients and steps an optimizer."""
    loops = [p for p in FILES if ".backward(" in p.read_text(encoding="utf-8")]
    assert [p.name for p in loops] == ["train.py"]


def test_layers_do_not_import_the_libraries_of_jobs():
    heavy = ["pandas", "matplotlib", "typer", "rich", "statsforecast", "jinja2"]
    code = f"import sys, lstmkit; lstmkit.LSTM(1, 1); print([m for m in {heavy} if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import lstmkit; lstmkit.__version__", ["torch", "numpy", "pandas", "matplotlib", "typer"]),
        ("import lstmkit; lstmkit.__all__", ["torch", "pandas", "matplotlib", "typer"]),
        ("import lstmkit.cli", ["torch", "pandas", "matplotlib", "scipy", "sklearn", "statsforecast"]),
        *((f"run({args!r})", ["torch", "pandas", "matplotlib", "scipy", "sklearn", "statsforecast"])
          for args in (["--help"], ["--version"], ["jobs", "forecaster"], ["fit", "forecaster", "--help"])),
    ],
    ids=str,
)  # fmt: skip
def test_fast_commands_import_no_heavy_library(code, heavy):
    """The package, and help, versions and settings on the command line, import no heavy library."""
    setup = """
import contextlib, io, sys
def run(args):
    from lstmkit.cli import main
    sys.argv[1:] = args
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main()
    assert out.getvalue()
"""
    code = f"{setup}\n{code}\nprint([m for m in {heavy} if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_every_public_name_exists():
    for name in lstmkit.__all__:
        assert getattr(lstmkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lstmkit.nothing  # noqa: B018


def test_test_modules_do_not_import_each_other():
    """Shared helpers live in modules without tests."""
    for path in Path(__file__).parent.glob("*.py"):
        names = [name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for name in _imports(node)]
        assert not [name for name in names if name.startswith("test_")], path.name


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_imports_for_type_checkers_are_the_public_names():
    """The type-checking imports in ``__init__.py`` are the public names; jobs are found by their folders."""
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    names = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names | {"UserError", "__version__"} == set(lstmkit.__all__)
