"""Settings of the regressor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.common.row_settings import RowSettings
from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class RegressorSettings(RowSettings):
    """Settings of :class:`lstmkit.Regressor`."""

    name: ClassVar[str] = "regressor"
    summary: ClassVar[str] = (
        "Predict numbers for sequences or each of their steps; compare with ridge regression and gradient boosting."
    )
    extra: ClassVar[str] = "text"
    main_settings: ClassVar[tuple[str, ...]] = ("target_cols", "id_col", "predict_at", *JobSettings.main_settings)
    pipeline_tags: ClassVar[Mapping[str, str]] = {"": "tabular-regression"}

    target_cols: tuple[str, ...] = setting(
        "columns of the numbers to predict; an empty cell has no target",
        default=("target",),
        group="data",
        names="number column",
    )
    static_cols: tuple[str, ...] = setting(
        "columns among those that are read that have one value per sequence", default=(), group="data", names="column"
    )
    predict_at: str = setting(
        "steps with a prediction: every one, or the last of each sequence",
        default="every_step",
        group="data",
        choices=("every_step", "last_step"),
    )
    max_target: float = setting(
        "maximum of the targets: larger ones count as this, and no prediction is larger; 0 = no maximum",
        default=0.0,
        group="data",
        low=0,
    )
    compress_tails: bool = setting(
        "compress columns with values beyond 8 standard deviations by the inverse hyperbolic sine; otherwise numbers "
        "are only shifted and scaled, as export_c and audio plug-ins need it",
        default=True,
        group="data",
    )
    split_strategy: str = setting(
        "what is held out: whole sequences (entity), the end of each sequence (time), or the first of these if "
        "there are 10 sequences or more (auto)",
        default="auto",
        group="data",
        choices=("auto", "entity", "time"),
    )
    valid_fraction: float = setting(
        "validation fraction of the sequences, or of each sequence; intervals are calibrated on it",
        default=0.15,
        group="data",
        low=0,
        high=0.5,
    )
    test_fraction: float = setting(
        "test fraction of the sequences, or of each sequence", default=0.15, group="data", low=0, high=0.5
    )
    entity_aware: bool = setting(
        "static columns control the input gate, and nothing else does (EA-LSTM; needs static_cols and cell lstm)",
        default=False,
    )
    output_dropout: float = setting(
        "dropout probability on the features of the last layer", default=0.0, low=0, high=0.95
    )
    batch_size: int = inherited(JobSettings, "batch_size", default=32, help="sequences, or segments of them, per batch")
    lr: float = inherited(JobSettings, "lr", default=3e-3)
    loss: str = setting(
        "loss of standardized targets: squared (mse), absolute (mae) or Huber error, squared error relative to the "
        "variance of each sequence's targets (nse), or quantiles (pinball), whose intervals have varying widths",
        default="mse",
        group="training",
        choices=("mse", "mae", "huber", "nse", "pinball"),
    )
    bptt_steps: int = setting(
        "steps that gradients flow back through; the state is carried on (predict_at every_step)",
        default=256,
        group="training",
        low=1,
        only_with={"predict_at": ("every_step",)},
    )
    segment_steps: int = setting(
        "maximum length of a training sequence: longer ones are cut, elsewhere in each epoch; 0 = as long as fills "
        "a batch, at least bptt_steps",
        default=0,
        group="training",
        low=0,
        only_with={"predict_at": ("every_step",)},
    )
    burn_in: int = setting(
        "steps at the start of a sequence that are neither learned nor scored, while the state settles",
        default=0,
        group="training",
        low=0,
        only_with={"predict_at": ("every_step",)},
    )
    levels: tuple[int, ...] = setting(
        "prediction interval levels in percent", default=(80, 95), group="decoding", low=1, high=99
    )
    rul_score: bool = setting(
        "score with the asymmetric PHM08 score of remaining useful life, too", default=False, group="evaluation"
    )
