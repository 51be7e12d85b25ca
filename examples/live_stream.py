"""Watch a live stream for anomalies: each hour's temperature and dew point get a score when they arrive.

The stream is the last week of the Beijing sample, with a hanging thermometer from hour 60 to 67.
Run: python examples/live_stream.py [FOLDER]. The folder receives the model.
"""

import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

import pandas as pd

from lstmkit import AnomalyDetector, load


def main(folder: Path) -> None:
    with as_file(files("lstmkit") / "data/samples/beijing_hourly.csv") as path:
        values = pd.read_csv(path)[["temperature", "dew_point"]].to_numpy(float)
    past, live = values[:-168], values[-168:].copy()
    live[60:68, 0] = live[60, 0] + 12  # the fault

    detector = AnomalyDetector(hidden_size=16, window=72, epochs=6, lr=0.01).fit(past)
    detector.save(folder / "model")

    stream = load(folder / "model").stream()
    alarms = []
    for hour, row in enumerate(live):
        result = stream.step(row)  # constant time and memory: the state of the LSTM is kept
        if result.is_alarm:
            alarms.append(hour)
            print(f"hour {hour}: score {result.score:.1f} is above the threshold {result.threshold:.1f}")
    false = [hour for hour in alarms if not 60 <= hour <= 72]
    print(f"{len(alarms)} alarms in {len(live)} hours, {len(false)} of them outside hours 60 to 72")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
