"""Settings of the anomaly detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class

ADAPTIVE = ("rolling_quantile", "rolling", "dynamic")  #: Threshold methods whose threshold changes from step to step.


@settings_class
class AnomalySettings(JobSettings):
    """Settings of :class:`lstmkit.AnomalyDetector`."""

    name: ClassVar[str] = "anomaly_detector"
    summary: ClassVar[str] = "Detect anomalies in sensor series; compare with a moving z-score and Sub-PCA."
    extra: ClassVar[str] = "text"
    main_settings: ClassVar[tuple[str, ...]] = ("id_col", *JobSettings.main_settings)
    old_settings: ClassVar[Mapping[str, str]] = {
        "channels": "value_cols",
        "context": "covariates",
        "ahead": "horizon",
        "code_size": "latent_size",
        "combine": "score_aggregation",
        "smooth": "smoothing_half_life",
        "warm_up": "burn_in",
        "threshold": "threshold_method",
        "rate": "false_alarm_rate",
        "history": "threshold_window",
        "gap": "merge_gap",
        "margin": "vus_buffer",
    }
    old_choices: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "method": {"predict": "prediction", "reconstruct": "reconstruction"},
        "threshold_method": {"extreme": "pot", "recent": "rolling"},
    }

    time_col: str = setting(
        "column of the timestamps; without one, rows are equally spaced steps",
        default="time",
        group="data",
        names="date column",
    )
    id_col: str = setting("column of the series id; optional", default="id", group="data", names="column")
    value_cols: tuple[str, ...] = setting(
        "columns to score for anomalies; empty = all numeric columns", default=(), group="data", names="number column"
    )
    covariates: tuple[str, ...] = setting(
        "columns the model reads but does not score, such as commands", default=(), group="data", names="number column"
    )
    valid_fraction: float = setting(
        "validation fraction of each series, also used for calibration", default=0.2, group="data", low=0, high=0.5
    )
    test_fraction: float = setting(
        "test fraction at the end of each series, if the data have labels", default=0.3, group="data", low=0, high=0.8
    )
    method: str = setting(
        "anomaly score: prediction error, or reconstruction error of an autoencoder",
        default="prediction",
        choices=("prediction", "reconstruction"),
    )
    horizon: int = setting(
        "steps predicted at each step (method prediction)",
        default=3,
        low=1,
        high=500,
        only_with={"method": ("prediction",)},
    )
    latent_size: int = setting(
        "size of the autoencoder's latent code (method reconstruction)",
        default=8,
        low=1,
        only_with={"method": ("reconstruction",)},
    )
    window: int = setting(
        "training window in steps; with method reconstruction also the reconstructed window", default=100, low=2
    )
    batch_size: int = inherited(JobSettings, "batch_size", default=32, help="windows per batch")
    steps_per_epoch: int = inherited(
        JobSettings,
        "steps_per_epoch",
        default=50,
        help="training steps per epoch; 0 = one pass over all windows, -1 = as many passes as make 32 steps",
    )
    lr: float = inherited(JobSettings, "lr", default=3e-3)
    score_aggregation: str = setting(
        "aggregation of channel scores into one score per step",
        default="mean",
        group="decoding",
        choices=("mean", "max"),
    )
    subspace_weight: float = setting(
        "weight in the score of the distance of recent steps from the principal subspace of training windows "
        "(Sub-PCA), the rest is the network's, as exponents of a geometric mean; 0 = the network alone",
        default=0.5,
        group="decoding",
        low=0,
        high=1,
    )
    smoothing_half_life: float = setting(
        "half-life in steps of the exponential smoothing of the network's scores; 0 = no smoothing",
        default=10.0,
        group="decoding",
        low=0,
    )
    burn_in: int = setting(
        "steps at the start of a series without alarms, while the state settles", default=20, group="decoding", low=0
    )
    threshold_method: str = setting(
        "threshold: quantile of past scores, at least their mean plus standard deviations (rolling_quantile), rolling "
        "mean plus standard deviations (rolling), nonparametric dynamic thresholding (dynamic), quantile of validation "
        "scores (quantile), or peaks over threshold with a generalized Pareto fit to them (pot)",
        default="rolling_quantile",
        group="decoding",
        choices=(*ADAPTIVE, "quantile", "pot"),
    )
    false_alarm_rate: float = setting(
        "target false alarms per step (all methods but dynamic)",
        default=0.005,
        group="decoding",
        low=1e-9,
        high=0.09,
        only_with={"threshold_method": ("rolling_quantile", "rolling", "quantile", "pot")},
    )
    threshold_window: int = setting(
        "steps of past scores that a rolling or dynamic threshold uses",
        default=500,
        group="decoding",
        low=50,
        high=1_000_000,
        only_with={"threshold_method": ADAPTIVE},
    )
    pruning: float = setting(
        "minimum relative decrease between peak scores (dynamic; Hundman et al. 2018)",
        default=0.13,
        only_with={"threshold_method": ("dynamic",)},
        group="decoding",
        low=0,
        high=1,
    )
    merge_gap: int = setting(
        "maximum gap in steps between alarms merged into one event", default=5, group="decoding", low=0
    )
    max_event_steps: int = setting(
        "maximum length of an event in steps: a longer alarm is closed and counted, and the next event begins; "
        "0 = no maximum",
        default=100,
        group="decoding",
        low=0,
    )
    label_col: str = setting(
        "column with 1 for anomalous steps; read by evaluate only", default="label", group="evaluation", names="column"
    )
    vus_buffer: int = setting(
        "maximum buffer in steps around a labeled anomaly in VUS-PR", default=100, group="evaluation", low=0
    )
