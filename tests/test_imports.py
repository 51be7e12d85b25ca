"""Who may import whom: downwards only, as the design has it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lstmkit

SOURCE = Path(lstmkit.__file__).parent

#: Each room may import the rooms named here, itself, and nothing else of the package.
BASE = {"errors", "progress"}
ALLOWED = {
    "errors": set(),
    "version": set(),
    "progress": set(),
    "settings": BASE,
    "cells": set(),
    "_native": set(),  # the C++ extension
    "ops": {"_native", "cells"},
    "layers": {"cells", "ops"},
    "evaluation": set(),
    "data": {*BASE, "evaluation"},
    "decoding": set(),
    "modules": {"cells", "data", "layers", "ops"},
    "models": {"data", "layers", "modules"},
    "frontends": {*BASE, "data", "modules"},
    "training": {*BASE, "data", "models", "version"},
    "report": {*BASE, "training"},
    "plots": {*BASE, "report"},
    "look": {*BASE, "cells", "layers", "plots", "report"},
    "jobs": {
        *BASE, "data", "decoding", "evaluation", "frontends", "layers", "look", "models", "modules", "plots", "report",
        "settings", "training", "version",
    },
    "recipes": {*BASE, "data", "evaluation", "jobs", "report", "settings", "training"},
    "lab": {
        *BASE, "cells", "data", "layers", "look", "models", "modules", "plots", "report", "settings", "training",
    },
    "demo": {*BASE, "jobs", "look", "report"},
    "": {"errors", "jobs", "layers", "version"},
    "__main__": {"cli"},
    "command_options": {*BASE, "settings"},
    "cli": {
        *BASE, "command_options", "data", "demo", "jobs", "lab", "look", "recipes", "report", "settings", "training",
        "version",
    },
}  # fmt: skip


def room(path: Path) -> str:
    """The room a file is in: its folder or name under the package; the package itself is ``""``."""
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, in functions and under ``TYPE_CHECKING`` too."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return {name for name in names if name.split(".")[0] == "lstmkit"}


def rooms(names: set[str]) -> set[str]:
    """The rooms of modules: a name directly in the package is that of the package itself."""
    found = set()
    for name in names:
        first = name.split(".")[1] if "." in name else ""
        found.add(first if first in ALLOWED or (SOURCE / f"{first}.py").exists() or (SOURCE / first).is_dir() else "")
    return found


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_downwards(path):
    here = room(path)
    assert here in ALLOWED, "a new room: say in ALLOWED what it may import"
    assert rooms(imported(path) - {"lstmkit"}) - {here} <= ALLOWED[here]


def test_the_rule_has_no_circle():
    """Rooms can be put in an order in which each imports only earlier ones."""
    left = dict(ALLOWED)
    while left:
        free = [name for name, rooms in left.items() if not rooms & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


def test_no_file_imports_itself_by_way_of_others():
    """File by file, imports for types and in functions counted; the ``__init__`` of a package is not counted."""
    modules = {".".join(["lstmkit", *p.relative_to(SOURCE).with_suffix("").parts]): p for p in FILES}
    modules = {name: p for name, p in modules.items() if p.name != "__init__.py"}
    left = {name: (imported(p) & modules.keys()) - {name} for name, p in modules.items()}
    while left:
        free = [name for name, needs in left.items() if not needs & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


def test_nobody_imports_a_job_but_the_face_and_its_callers():
    """``job.py`` is settings, fit and a predictor; what lies below it never imports it."""
    for path in FILES:
        if room(path) == "jobs":
            names = {name for name in imported(path) if re.fullmatch(r"lstmkit\.jobs\.\w+\.job(\..*)?", name)}
            assert not names, f"{path.relative_to(SOURCE)} imports {sorted(names)}"


def test_the_loop_lives_once():
    """Only train.py differentiates and steps an optimiser."""
    loops = [p for p in FILES if ".backward(" in p.read_text(encoding="utf-8")]
    assert [p.name for p in loops] == ["train.py"]


def test_the_layers_need_no_job_s_libraries():
    heavy = ["pandas", "matplotlib", "typer", "rich", "statsforecast", "jinja2"]
    code = f"import sys, lstmkit; lstmkit.LSTM(1, 1); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
def test_what_answers_at_once_imports_no_heavy_library(code, heavy):
    """The package itself, and the command line for help, versions and settings."""
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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


def test_editors_see_the_names_that_the_package_finds():
    """The imports for type checkers in ``__init__.py`` are the public names; jobs are found by their folders."""
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    names = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names | {"UserError", "__version__"} == set(lstmkit.__all__)
