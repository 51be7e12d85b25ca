"""The demo: a day-ahead temperature forecast for Beijing, from the sample series in the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstmkit import look
from lstmkit.libraries import imports_of
from lstmkit.progress import Progress
from lstmkit.report import format_table

if TYPE_CHECKING:
    from lstmkit.jobs.forecaster.job import Forecaster

SAMPLE = "data/samples/beijing_hourly.csv"


def run_demo(run: Path, progress: Progress) -> None:
    """Fit a forecaster, backtest it against the baselines, forecast the next day and inspect the gates.

    Args:
        run: Folder of the run with model, report and figures; an existing one is overwritten.
        progress: Receives the progress messages.
    """
    with as_file(files("lstmkit").joinpath(SAMPLE)) as path:
        print("Hourly temperature in Beijing, March to August 2014. Forecasting the next 24 hours.\n")
        forecaster = _forecaster(test_windows=30)
        forecaster.fit(path, run=run, overwrite=True, progress=progress)
        print(f"{forecaster.evaluation}\n")
        forecast = forecaster.predict(path)
        forecaster.plot(path, forecast).savefig(run / "forecast.png", dpi=150)
        rows = forecast[["ds", "forecast", "forecast-lo-80", "forecast-hi-80"]].iloc[::4]
        print(f"Forecast of every fourth hour with 80 % prediction intervals, °C:\n{format_table(rows)}\n")
        page = {s.title: s for s in look.sections(forecaster.network, forecaster.example_sequences(path))}
    figures = {"Gates": "gates.png", "Memory half-life": "memory.png", "One step of the cell": "cell.png"}
    for title, name in figures.items():
        figure = page[title].figure
        assert figure is not None
        figure.savefig(run / name, dpi=150)
    saturation = page["Saturation"].table
    assert saturation is not None
    print(f"Gate saturation:\n{format_table(saturation)}\n")
    for label, name in {
        "report": "report.html",
        "forecast": "forecast.png",
        "gates": "gates.png",
        "cell": "cell.png",
        "model": "",
    }.items():
        print(f"{label:<9} {run / name}")


def fit_demo(run: Path, progress: Progress) -> None:
    """Fit the forecaster of the demo for a few seconds, for a first look at what a run does.

    Args:
        run: Folder of the run.
        progress: Receives the progress messages.
    """
    with as_file(files("lstmkit").joinpath(SAMPLE)) as path:
        _forecaster(epochs=3, test_windows=3).fit(path, run=run, progress=progress)


def _forecaster(**settings: Any) -> Forecaster:
    with imports_of("forecast", "the demo"):
        from lstmkit.jobs.forecaster.job import Forecaster

    covariates = ("dew_point", "pressure", "wind")
    return Forecaster(horizon=24, target_col="temperature", past_covariates=covariates, **settings)
