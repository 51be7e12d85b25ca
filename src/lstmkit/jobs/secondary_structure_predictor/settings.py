"""Settings of the secondary structure predictor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class SecondaryStructureSettings(JobSettings):
    """Settings of :class:`lstmkit.SecondaryStructurePredictor`."""

    name: ClassVar[str] = "secondary_structure_predictor"
    summary: ClassVar[str] = "Predict the secondary structure of proteins; compare with a windowed regression."
    extra: ClassVar[str] = "proteins"
    old_names: ClassVar[tuple[str, ...]] = ("structure_predictor",)
    old_settings: ClassVar[Mapping[str, str]] = {
        "vector_size": "embedding_size",
        "widths": "kernel_sizes",
        "channels": "conv_channels",
        "longest": "max_residues",
    }

    id_col: str = setting("column of the chain id", default="id", group="data", names="column")
    sequence_col: str = setting(
        "column of the amino-acid sequences", default="sequence", group="data", names="text column"
    )
    residue_col: str = setting(
        "column of the residue letter, in a table with one row per residue",
        default="residue",
        group="data",
        names="column",
    )
    ss3_col: str = setting(
        "column of the 3-state structure; empty = do not predict it", default="ss3", group="data", names="column"
    )
    ss8_col: str = setting(
        "column of the 8-state structure; empty = do not predict it", default="ss8", group="data", names="column"
    )
    profile_cols: tuple[str, ...] = setting(
        "numeric columns of the sequence profile, in a table with one row per residue",
        default=(),
        group="data",
        names="number column",
    )
    max_residues: int = setting(
        "maximum number of residues read at once; longer chains are read in overlapping windows",
        default=1000,
        group="data",
        low=1,
    )
    valid_fraction: float = setting(
        "validation fraction of the chains, also used for calibration", default=0.1, group="data", low=0, high=0.5
    )
    test_fraction: float = setting("test fraction of the chains", default=0.1, group="data", low=0, high=0.5)
    embedding_size: int = setting("size of residue embeddings", default=32, low=1)
    kernel_sizes: tuple[int, ...] = setting(
        "kernel sizes of the convolutions in residues, odd; empty = no convolutions", default=(3, 7, 11), low=1, high=99
    )
    conv_channels: int = setting("channels of each convolution", default=48, low=1)
    hidden_size: int = inherited(JobSettings, "hidden_size", default=160, help="hidden units per layer and direction")
    num_layers: int = inherited(JobSettings, "num_layers", default=2)
    bidirectional: bool = setting("read the sequence in both directions", default=True)
    dropout: float = inherited(JobSettings, "dropout", default=0.4)
    epochs: int = inherited(JobSettings, "epochs", default=20)
    batch_size: int = inherited(
        JobSettings, "batch_size", default=32, help="chains, or windows of long chains, per batch"
    )
    lr: float = inherited(JobSettings, "lr", default=0.002)
    mask_col: str = setting(
        "column of the evaluation mask: 1 for residues that are scored",
        default="eval_mask",
        group="evaluation",
        names="column",
    )
