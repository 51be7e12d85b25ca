"""The main job on a real series that comes with the package, in one go."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from lstmkit import look
from lstmkit.jobs.forecaster.job import Forecaster
from lstmkit.progress import Progress
from lstmkit.report import format_table

SAMPLE = "data/samples/beijing_hourly.csv"


def run_demo(run: Path, progress: Progress) -> None:
    """Fit a day-ahead temperature forecast for Beijing, backtest it beside the baselines, forecast, draw the gates.

    Args:
        run: Folder for model, report and pictures; one that a demo made before is written anew.
        progress: Whom to tell.
    """
    with as_file(files("lstmkit").joinpath(SAMPLE)) as path:
        print("Hourly temperature at Beijing, March to August 2014. What will the next 24 hours bring?\n")
        forecaster = Forecaster(
            horizon=24, target_col="temperature", past_covariates=("dew_point", "pressure", "wind"), test_windows=30
        )
        forecaster.fit(path, run=run, overwrite=True, progress=progress)
        print(f"{forecaster.evaluation}\n")
        forecast = forecaster.predict(path)
        forecaster.plot(path, forecast).savefig(run / "forecast.png", dpi=150)
        shown = forecast[["ds", "forecast", "forecast-lo-80", "forecast-hi-80"]].iloc[::4]
        print(f"The next day, every fourth hour, with 80 % intervals (°C):\n{format_table(shown)}\n")
        inside = {s.title: s for s in look.sections(forecaster.network, forecaster.example_sequences(path))}
    for title, name in {"The gates": "gates.png", "Memory": "memory.png", "One step of the cell": "cell.png"}.items():
        figure = inside[title].figure
        assert figure is not None
        figure.savefig(run / name, dpi=150)
    openness = inside["Saturation"].table
    assert openness is not None
    print(f"How open the gates are:\n{format_table(openness)}\n")
    for what, name in {
        "report": "report.html",
        "forecast": "forecast.png",
        "gates": "gates.png",
        "cell": "cell.png",
        "model": "",
    }.items():
        print(f"{what:<9} {run / name}")
