"""The scripts in ``examples/`` run, print their result, and write only to their output folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

#: For each script: a pattern of its output, and the files in its output folder.
EXPECTED = {
    "forecast_csv.py": (r"SeasonalNaive(.|\n)*forecast-lo-80(.|\n)*2014-09-01 18:00", {"forecast.csv", "run"}),
    "hierarchical_forecasts.py": (
        r"Norway/west/Bergen(.|\n)*forecast/BottomUp: .* 0\.00\nforecast/MinTrace_method-wls_var: .* 0\.00\n",
        set(),
    ),
    "replace_torch_lstm.py": (r"output \(184, 24, 64\)\nlargest difference: \d\.\de-0[678]\n", set()),
    "look_inside.py": (r"forget +0\.\d\d\n(.|\n)*half-life of the units, in steps: \[ *\d", {"inside.html"}),
    "live_stream.py": (r"hour 6\d: score (.|\n)*alarms in 168 hours", {"model"}),
    "distortion.py": (
        r"error-to-signal ratio 0\.0[01]\d\d, \d+ times real time\n",
        {"dry.wav", "wet.wav", "amp.json", "amp.nam", "amp.h", "amp.so"},
    ),
    "custom_cell.py": (r"lstm +1216 weights, test error 0\.\d\d .*\none_gate +1196 weights, test error 0\.\d\d", set()),
}


def test_all_examples_are_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_examples_are_short(name):
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 40


@pytest.mark.parametrize("name", EXPECTED)
def test_examples_run(name, tmp_path):
    pattern, written = EXPECTED[name]
    folder, elsewhere = tmp_path / "out", tmp_path / "cwd"
    folder.mkdir()
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *([folder] if written else [])],
        cwd=elsewhere,
        env=os.environ | {"TRITON_INTERPRET": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(pattern, done.stdout), done.stdout
    assert {path.name for path in folder.iterdir()} == written
    assert not list(elsewhere.iterdir())
