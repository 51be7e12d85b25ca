"""Forecast the temperature of the next day from a CSV, and compare it with simple baselines.

Run: python examples/forecast_csv.py [FOLDER]. The folder receives the run (model, report.html) and forecast.csv.
"""

import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

from lstmkit import Forecaster, load


def main(folder: Path) -> None:
    with as_file(files("lstmkit") / "data/samples/beijing_hourly.csv") as path:
        forecaster = Forecaster(horizon=24, target_col="temperature", past_covariates=("pressure", "wind"))
        forecaster.set_params(epochs=4, steps_per_epoch=25, lr=0.003, test_windows=3)
        forecaster.fit(path, run=folder / "run", overwrite=True)
        print(forecaster.evaluation)  # the last 3 days, which the model has not seen

        forecast = load(folder / "run").predict(path)
    forecast.to_csv(folder / "forecast.csv", index=False)
    print(forecast[["ds", "forecast", "forecast-lo-80", "forecast-hi-80"]].iloc[::6].to_string(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
