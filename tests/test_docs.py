"""What the README says runs. The pages in docs are run as doctests."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def sales(tmp_path, monkeypatch):
    """``sales.csv`` and ``prices.csv``, as the README names them."""
    monkeypatch.chdir(tmp_path)
    days = pd.date_range("2024-01-01", periods=224, freq="D")
    price = 3.0 + (np.arange(224) % 11 == 0)
    sold = 80 + 20 * (days.dayofweek >= 5) - 5 * price
    frame = pd.DataFrame({"date": days.strftime("%Y-%m-%d"), "sales": sold, "price": price})
    frame.iloc[:200].to_csv("sales.csv", index=False)
    frame.iloc[200:][["date", "price"]].to_csv("prices.csv", index=False)


def test_the_readme_s_python_runs(sales):
    forecast, layers = python_blocks()
    names = {"x": torch.randn(3, 100, 32)}
    exec(forecast, names)
    assert names["frame"]["forecast"].notna().all()
    assert Path("run/report.html").exists()
    exec(layers, names)


def an_example():
    """An example runs in an empty folder, so that the files it writes are not left in the tree.

    >>> list(Path().iterdir())
    []
    """


def test_every_file_in_the_readme_s_tree_exists():
    tree = README.split("## The tree")[1].split("```")[1].strip().splitlines()
    folders = (ROOT, ROOT / "src/lstmkit")
    columns = [re.split(r"\s\s+", line.strip() + "  ")[0] for line in tree if not line.startswith("src/")]
    named = [name.strip() for column in columns for name in column.split()]
    assert len(named) > 30
    for name in named:
        assert any(list(folder.glob(name.rstrip("/"))) for folder in folders), name


@pytest.mark.parametrize(
    "script",
    ["docs/results_table.py", "docs/lab_page.py", "docs/answers_table.py", "docs/speed_table.py"],
)
def test_the_tables_are_those_in_results(script):
    done = subprocess.run([sys.executable, ROOT / script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
