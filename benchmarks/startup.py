"""Start-up times of the package and the command line: medians of alternating runs, each in its own process."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 5
CASES = {
    "import torch (for comparison)": ["-c", "import torch"],
    "import lstmkit": ["-c", "import lstmkit"],
    "lstmkit.LSTM": ["-c", "import lstmkit; lstmkit.LSTM"],
    "lstmkit --help": ["-m", "lstmkit", "--help"],
    "lstmkit fit classifier --help": ["-m", "lstmkit", "fit", "classifier", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Wall-clock seconds of one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, arguments in CASES.items():
            times[name].append(seconds(arguments))
    for name, measured in times.items():
        print(f"{name:32} {statistics.median(measured):6.2f} s")
