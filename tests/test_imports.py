"""Who may import whom: downwards only, as the design has it."""

import ast
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
    "progress": set(),
    "settings": BASE,
    "cells": set(),
    "_native": set(),  # the C++ extension
    "ops": {"_native", "cells"},
    "stream": {"ops"},
    "recurrent": {"cells", "ops", "stream"},
    "layers": {"cells", "ops", "recurrent"},
    "data": {*BASE, "metrics"},
    "metrics": set(),
    "decode": set(),
    "decode_ctc": set(),
    "calibrate": set(),
    "thresholds": set(),
    "detection": {"thresholds"},
    "alarms": {"data", "thresholds"},
    "baselines": BASE,
    "checkpoint": BASE,
    "parts": {"cells", "data", "layers", "ops", "recurrent"},
    "fronts": {*BASE, "data", "parts"},
    "model": {"data", "parts", "recurrent"},
    "encoder_decoder": {"data", "model", "parts", "recurrent"},
    "autoencoder": {"data", "model", "recurrent"},
    "draw_model": {"data", "model", "parts", "recurrent"},
    "window_model": {"data", "model", "parts", "recurrent", "stream"},
    "synthesizer": {"data", "model", "parts", "recurrent"},
    "train": {*BASE, "checkpoint", "data", "model"},
    "predict": {*BASE, "data", "model"},
    "run": {*BASE, "checkpoint"},
    "report": {*BASE, "checkpoint"},
    "look": {*BASE, "alarms", "cells", "layers", "recurrent", "report", "thresholds"},
    "jobs": {
        *BASE, "alarms", "autoencoder", "baselines", "calibrate", "checkpoint", "data", "decode", "decode_ctc",
        "detection", "draw_model", "encoder_decoder", "fronts", "look", "metrics", "model", "parts", "predict",
        "recurrent", "report", "run", "settings", "synthesizer", "thresholds", "train", "window_model", "",
    },
    "recipes": {*BASE, "baselines", "checkpoint", "data", "detection", "jobs", "report", "results", "run", "settings"},
    "results": {""},
    "lab": {
        *BASE, "cells", "checkpoint", "data", "layers", "look", "model", "parts", "recurrent", "report", "results",
        "settings", "train",
    },
    "demo": {*BASE, "jobs", "look", "report"},
    "": {"errors", "layers", "ops", "recurrent", "stream"},
    "cli": {*BASE, "data", "demo", "jobs", "lab", "look", "recipes", "report", "run", "settings"},
}  # fmt: skip


def room(path: Path) -> str:
    """The room a file is in: its folder or name under the package; the package itself is ``""``."""
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported(path: Path) -> set[str]:
    """Rooms of the package that a file imports when it runs; what is only imported for types does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = []
    for node in ast.walk(tree):
        if id(node) in typed:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "lstmkit":
            names += [f"lstmkit.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names.append(node.module or "")
    return {[*name.split("."), ""][1] for name in names if name.split(".")[0] == "lstmkit"}


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_downwards(path):
    here = room(path)
    assert here in ALLOWED, "a new room: say in ALLOWED what it may import"
    assert imported(path) - {here} <= ALLOWED[here]


def test_the_rule_has_no_circle():
    """Rooms can be put in an order in which each imports only earlier ones (the package itself gives its version)."""
    left = {name: rooms - {""} for name, rooms in ALLOWED.items()}
    while left:
        free = [name for name, rooms in left.items() if not rooms & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


def test_the_loop_lives_once():
    """Only train.py differentiates and steps an optimiser."""
    loops = [p for p in FILES if ".backward(" in p.read_text(encoding="utf-8")]
    assert [p.name for p in loops] == ["train.py"]


def test_the_layers_need_no_job_s_libraries():
    heavy = ["pandas", "matplotlib", "typer", "rich", "statsforecast", "jinja2"]
    code = f"import sys, lstmkit; lstmkit.LSTM(1, 1); print([m for m in {heavy} if m in sys.modules])"
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
