"""The README and the architecture page match the code. The other pages in docs run as doctests."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import lstmkit
from lstmkit.jobs import class_name, job_names

ROOT = Path(__file__).parent.parent
PACKAGE = Path(lstmkit.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def sales(tmp_path, monkeypatch):
    """``sales.csv`` and ``prices.csv``, as the README names them."""
    monkeypatch.chdir(tmp_path)
    days = pd.date_range("2024-01-01", periods=224, freq="D")
    price = 3.0 + (np.arange(224) % 11 == 0)
    units = 80 + 20 * (days.dayofweek >= 5) - 5 * price
    frame = pd.DataFrame({"date": days.strftime("%Y-%m-%d"), "sales": units, "price": price})
    frame.iloc[:200].to_csv("sales.csv", index=False)
    frame.iloc[200:][["date", "price"]].to_csv("prices.csv", index=False)


def test_readme_python_runs(sales):
    forecast, layers = python_blocks()
    names = {"x": torch.randn(3, 100, 32), "torch": torch}
    exec(forecast, names)
    assert names["frame"]["forecast"].notna().all()
    assert Path("run/report.html").exists()
    exec(layers, names)


def test_readme_lists_all_jobs():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", README, flags=re.MULTILINE)
    assert dict(rows) == {name: class_name(name) for name in job_names()}


def test_readme_links_exist():
    links = re.findall(r"\]\(([^):]+)\)", README)
    assert len(links) > 30
    assert not [link for link in links if not (ROOT / link).exists()]


def test_readme_figures_match_results():
    rows = re.findall(r"\| \*\*([\d.]+)(×?)\*\* \| (.+?) \| \[.+?\]\((.+?)\) \|$", README, flags=re.MULTILINE)
    assert len(rows) == 5
    for value, unit, baselines, source in rows:
        text = (ROOT / source).read_text(encoding="utf-8")
        if unit:
            assert f"**{value}{unit}**" in text, value
            continue
        result = json.loads(text)
        recorded = [v for row in result["scores"] for v in row.values() if isinstance(v, float)]
        recorded += [published["value"] for published in result["published"]]
        for number in (value, *re.findall(r"\d\.\d+", baselines)):
            assert number in {f"{v:.3f}" for v in recorded}, number


def example_in_a_docstring():
    """Docstring examples run in an empty folder, so that their files are not left in the repository.

    >>> list(Path().iterdir())
    []
    """


def _find(name: str) -> Path | None:
    """A file or folder named on a page, relative to the repository or to the package."""
    return next((path for path in (ROOT / name, PACKAGE / name) if path.exists()), None)


def test_architecture_tree_exists():
    blocks = re.findall(r"```\n(.*?)```", ARCHITECTURE.split("## The tree")[1].split("\n## ")[0], flags=re.DOTALL)
    named = [line.split()[0] for block in blocks for line in block.strip().splitlines()]
    assert len(named) > 30
    assert not [name for name in named if _find(name) is None]


def test_files_named_in_the_architecture_exist():
    spans = re.findall(r"`([\w./-]+(?:/|\.(?:py|md|toml|yml|json|h)))`", ARCHITECTURE)
    folder = PACKAGE / "jobs/recommender"  # a job with all of the files that jobs have
    created_by_readers = {"report.html", "backend.py", "results/my_recipe.json"}
    missing = [name for name in spans if _find(name) is None and not (folder / name).exists()]
    assert set(missing) <= {*created_by_readers, "generation.py", "$LSTMKIT_DATA/my_set/"}


def test_functions_named_in_the_architecture_exist():
    rows = re.findall(r"^\| [^|]+ \| `([\w.]+)` \| `([\w./]+)` \|$", ARCHITECTURE, flags=re.MULTILINE)
    assert len(rows) > 30
    for name, file in rows:
        path = _find(file)
        assert path is not None, file
        for part in name.split("."):
            declared = rf"\b(def|class|struct) {part}\b"
            assert re.search(declared, path.read_text(encoding="utf-8")), f"{name} in {file}"


def test_import_order_matches_the_architecture():
    """A module imports only modules to its left in the list, type imports included."""
    order = re.sub(r"[>\s]", "", ARCHITECTURE.split("stands to its left:")[1].split("`tests/")[0]).split(",")
    for path in sorted(PACKAGE.rglob("*.py")):
        here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if here in ("__init__", "__main__"):
            continue
        text = re.sub(r"from lstmkit import (\w+)", r"from lstmkit.\1 import", path.read_text(encoding="utf-8"))
        imported = set(re.findall(r"^\s*(?:from|import) lstmkit\.(\w+)", text, flags=re.MULTILINE)) - {here, "_native"}
        assert imported <= set(order[: order.index(here)]), path


def test_type_checking_imports_list_all_jobs():
    text = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    listed = dict(re.findall(r"from lstmkit\.jobs\.(\w+)\.job import (\w+)", text))
    assert listed == {name: class_name(name) for name in job_names()}


@pytest.mark.parametrize(
    "script",
    [
        "docs/results_table.py",
        "docs/evidence_table.py",
        "docs/lab_page.py",
        "docs/answers_table.py",
        "docs/speed_table.py",
        "docs/formats_table.py",
        "docs/reliability_table.py",
        "docs/forecasters_table.py",
        "docs/thresholds_table.py",
        "docs/defaults_table.py",
        "docs/exports_table.py",
        "docs/serving_table.py",
    ],
)
def test_generated_tables_match_results(script):
    done = subprocess.run([sys.executable, ROOT / script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
