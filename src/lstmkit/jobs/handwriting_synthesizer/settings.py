"""Settings of the handwriting synthesizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class HandwritingSettings(JobSettings):
    """Settings of :class:`lstmkit.HandwritingSynthesizer`."""

    name: ClassVar[str] = "handwriting_synthesizer"
    summary: ClassVar[str] = "Model handwriting as pen strokes: score drawings, continue one, write texts by hand."
    extra: ClassVar[str] = "writing"
    old_names: ClassVar[tuple[str, ...]] = ("writer",)
    old_settings: ClassVar[Mapping[str, str]] = {
        "mixtures": "mixture_components",
        "window_mixtures": "window_components",
        "longest": "max_points",
    }

    valid_fraction: float = setting("validation fraction of the drawings", default=0.1, group="data", low=0, high=0.5)
    test_fraction: float = setting("test fraction of the drawings", default=0.1, group="data", low=0, high=0.5)
    mixture_components: int = setting("Gaussian components of the pen-offset mixture", default=20, low=1, high=500)
    window_components: int = setting(
        "Gaussian components of the attention window over the text", default=10, low=1, high=500
    )
    hidden_size: int = inherited(JobSettings, "hidden_size", default=200)
    num_layers: int = inherited(
        JobSettings,
        "num_layers",
        default=2,
        help="number of recurrent layers; with texts the first moves the attention window",
    )
    max_points: int = setting(
        "maximum number of points in a training window; 0 = whole drawings, as always with texts",
        default=400,
        group="training",
        low=0,
    )
    batch_size: int = inherited(JobSettings, "batch_size", default=32, help="drawings per batch")
    lr: float = inherited(JobSettings, "lr", default=0.003)
    weight_decay: float = inherited(JobSettings, "weight_decay", default=0.0001)
