"""The settings of the forecaster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings, chosen_or_weight
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class ForecasterSettings(JobSettings):
    """Settings of :class:`lstmkit.Forecaster`."""

    name: ClassVar[str] = "forecaster"
    summary: ClassVar[str] = "Forecast time series with prediction intervals; compare with SeasonalNaive and AutoETS."
    extra: ClassVar[str] = "forecast"
    main_settings: ClassVar[tuple[str, ...]] = ("horizon", "id_col", *JobSettings.main_settings)
    pipeline_tags: ClassVar[Mapping[str, str]] = {"": "time-series-forecasting"}
    old_names: ClassVar[tuple[str, ...]] = ("forecast",)
    old_settings: ClassVar[Mapping[str, str]] = {
        "past": "past_covariates",
        "future": "future_covariates",
        "static": "static_covariates",
        "calendar": "calendar_features",
        "season": "season_length",
        "patch": "patch_length",
        "answer_from": "readout",
        "samples": "num_samples",
        "log": "log_transform",
        "level": "centering",
        "scale": "scaling",
        "experts": "linear_experts",
    }
    old_choices: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "readout": {"past": "last_state", "horizon": "horizon_states"},
        "centering": {"season": "seasonal_naive"},
        "scaling": {"difference": "seasonal_difference"},
    }

    horizon: int = setting("steps to forecast", default=24, group="data", low=1)
    id_col: str = setting("column of the series id", default="unique_id", group="data", names="column")
    time_col: str = setting("column of the timestamps", default="ds", group="data", names="date column")
    target_col: str = setting("column of the values to forecast", default="y", group="data", names="number column")
    freq: str | None = setting("pandas frequency (h, D, MS, …); inferred if not given", default=None, group="data")
    past_covariates: tuple[str, ...] = setting(
        "columns known only up to the forecast origin", default=(), group="data", names="number column"
    )
    future_covariates: tuple[str, ...] = setting(
        "columns known over the horizon", default=(), group="data", names="number column"
    )
    static_covariates: tuple[str, ...] = setting(
        "columns with one value per series", default=(), group="data", names="column"
    )
    calendar_features: bool = setting("add calendar features (hour, weekday, …)", default=True, group="data")
    season_length: int = setting(
        "season length in steps; 0 = from the frequency (24 for hourly, 12 for monthly, …)",
        default=0,
        group="data",
        low=0,
    )
    log_transform: bool = setting(
        "model the logarithm of the values, which must be above 0", default=False, group="data"
    )
    centering: str = setting(
        "value subtracted from each window",
        default="auto",
        group="data",
        choices=("auto", "none", "mean", "last", "seasonal_naive"),
    )
    scaling: str = setting(
        "value each window is divided by",
        default="auto",
        group="data",
        choices=("auto", "none", "std", "seasonal_difference", "mean"),
    )
    valid_fraction: float = setting(
        "validation fraction at the end of each series, also used for calibration",
        default=0.15,
        group="data",
        low=0,
        high=0.5,
    )
    window: int = setting("input window in steps; 0 = chosen from season length and horizon", default=0, low=0)
    patch_length: int = setting(
        "steps per patch, read as one step of the LSTM; 0 = chosen from the season length", default=0, low=0
    )
    method: str = setting(
        "multi-step strategy: all steps at once (direct), or one step at a time from sampled values (recursive)",
        default="direct",
        choices=("direct", "recursive"),
    )
    distribution: str = setting(
        "output distribution (method recursive)",
        default="student_t",
        only_with={"method": ("recursive",)},
        choices=("normal", "student_t", "negative_binomial"),
    )
    readout: str = setting(
        "states the forecast is read from: the last of the input window (last_state), or one per patch of the horizon "
        "(horizon_states); auto = horizon_states with future covariates (method direct)",
        only_with={"method": ("direct",)},
        default="auto",
        choices=("auto", "last_state", "horizon_states"),
    )
    linear_experts: int = setting(
        "number of linear maps from input window to horizon, mixed by a softmax gate on the LSTM state; 0 = none",
        only_with={"method": ("direct",)},
        default=4,
        low=0,
    )
    smoothing_weight: float = setting(
        "weight of exponential smoothing in the forecast, the rest is the network's; -1 = chosen on the "
        "validation split (method direct), or 0 without one",
        default=-1.0,
        low=-1,
        high=1,
        check=chosen_or_weight,
    )
    usual_width_weight: float = setting(
        "weight of the usual interval widths, in the unit of seasonal differences, the rest is the network's; -1 = "
        "chosen on the validation split (method direct), or 0 without one",
        default=-1.0,
        low=-1,
        high=1,
        check=chosen_or_weight,
    )
    adaptive_rate: float = setting(
        "how fast interval widths follow the coverage of forecasts that newer data have answered (adaptive conformal "
        "inference): change after a miss, in mean seasonal differences; 0 = widths are constant",
        only_with={"method": ("direct",)},
        default=0.0,
        group="decoding",
        low=0,
        high=10,
    )
    residual: bool = setting("residual connections around recurrent layers after the first", default=True)
    steps_per_epoch: int = inherited(
        JobSettings,
        "steps_per_epoch",
        default=50,
        help="training steps per epoch; 0 = one pass over all windows, -1 = as many passes as make 32 steps",
    )
    num_samples: int = setting(
        "number of sampled paths (method recursive)",
        default=200,
        group="decoding",
        low=2,
        only_with={"method": ("recursive",)},
    )
    levels: tuple[int, ...] = setting(
        "prediction interval levels in percent", default=(50, 80, 95), group="decoding", low=1, high=99
    )
    test_windows: int = setting(
        "number of test windows at the end of each series; -1 = up to 5, within a fifth of the series",
        default=-1,
        group="evaluation",
        low=-1,
    )
