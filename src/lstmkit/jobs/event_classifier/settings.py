"""Settings of the event classifier."""

from __future__ import annotations

from typing import ClassVar

from lstmkit.jobs.common.row_settings import RowSettings
from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class EventClassifierSettings(RowSettings):
    """Settings of :class:`lstmkit.EventClassifier`."""

    name: ClassVar[str] = "event_classifier"
    summary: ClassVar[str] = "Classify every event of a stream; compare with forests and boosting on aggregates."
    extra: ClassVar[str] = "text"
    main_settings: ClassVar[tuple[str, ...]] = ("id_col", "time_col", "label_col", *JobSettings.main_settings)

    label_col: str = setting(
        "column of the labels; an event with an empty cell is context only",
        default="label",
        group="data",
        names="label column",
    )
    positive_label: str = setting("of two labels the one to detect; empty = the rarer one", default="", group="data")
    min_count: int = inherited(RowSettings, "min_count", default=5)
    split_strategy: str = setting(
        "what is held out: the latest events (time), or whole entities (entity)",
        default="time",
        group="data",
        choices=("time", "entity"),
    )
    valid_fraction: float = setting(
        "validation fraction of the labeled events, also used for calibration",
        default=0.15,
        group="data",
        low=0,
        high=0.5,
    )
    test_fraction: float = setting("test fraction of the labeled events", default=0.2, group="data", low=0, high=0.8)
    label_delay_days: float = setting(
        "days until the label of an event is known: labels of events this shortly before a held-out part are not used",
        default=0.0,
        group="data",
        low=0,
    )
    known_positives: str = setting(
        "held-out events of entities that are known to be positive, such as blocked cards: score them, or drop them",
        default="score",
        group="data",
        choices=("score", "drop"),
    )
    window: int = setting(
        "events in a training window; the first half of all but an entity's first window is context", default=128, low=2
    )
    numeric_bins: int = setting(
        "bins of the piecewise-linear encoding of numbers; 0 = numbers as they are", default=32, low=0, high=1000
    )
    encoder_size: int = setting("size of the encoding of an event", default=128, low=1)
    hidden_size: int = inherited(JobSettings, "hidden_size", default=64, help="hidden units per layer and direction")
    bidirectional: bool = setting(
        "read later events of the entity, too: for labels in hindsight, not for alarms", default=False
    )
    dropout: float = inherited(
        JobSettings, "dropout", default=0.3, help="dropout probability of encodings, features and between layers"
    )
    class_weight: str = setting(
        "weight of a class in the loss: equal (none), or inverse to its frequency (balanced)",
        default="none",
        group="training",
        choices=("none", "balanced"),
    )
    focal_gamma: float = setting(
        "exponent of the focal loss (Lin et al. 2017); 0 = cross-entropy", default=0.0, group="training", low=0, high=10
    )
    batch_size: int = inherited(JobSettings, "batch_size", default=16, help="windows per batch")
    lr: float = inherited(JobSettings, "lr", default=3e-3)
    weight_decay: float = inherited(JobSettings, "weight_decay", default=0.1)
    threshold_method: str = setting(
        "threshold of alarms, fitted to the validation part: best F1 (f1), lowest cost (cost), or a number of alarms "
        "per day (alarms)",
        default="f1",
        group="decoding",
        choices=("f1", "cost", "alarms"),
    )
    false_alarm_cost: float = setting("cost of a false alarm", default=1.0, group="decoding", low=0)
    miss_cost: float = setting("cost of a missed positive event", default=10.0, group="decoding", low=0)
    alarms_per_day: float = setting(
        "alarms per day",
        default=100.0,
        group="decoding",
        low=0,
        only_with={"threshold_method": ("alarms",)},
    )
    eval_k: int = setting(
        "entities inspected per day, for the precision of the k most suspicious ones",
        default=100,
        group="evaluation",
        low=1,
    )
