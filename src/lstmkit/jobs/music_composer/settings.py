"""Settings of the music composer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class ComposerSettings(JobSettings):
    """Settings of :class:`lstmkit.MusicComposer`."""

    name: ClassVar[str] = "music_composer"
    summary: ClassVar[str] = "Model piano music (MIDI): score pieces, continue one, harmonize a melody."
    extra: ClassVar[str] = "music"
    main_settings: ClassVar[tuple[str, ...]] = ("quarters_per_step", *JobSettings.main_settings)
    old_names: ClassVar[tuple[str, ...]] = ("composer",)
    old_settings: ClassVar[Mapping[str, str]] = {
        "step": "quarters_per_step",
        "output": "distribution",
        "embed_size": "embedding_size",
        "nade_size": "nade_hidden_size",
        "window": "max_steps",
        "transpose": "max_transposition",
    }

    quarters_per_step: float = setting(
        "time step of the piano roll in quarter notes, for MIDI files", default=0.5, group="data", low=0.03125, high=16
    )
    max_transposition: int = setting(
        "transposition augmentation: training pieces are moved by up to this many semitones up and down, at random; "
        "-1 = 5 if less than half of them share a tonic, else 0",
        default=-1,
        group="data",
        low=-1,
        high=88,
    )
    valid_fraction: float = setting("validation fraction of the pieces", default=0.1, group="data", low=0, high=0.5)
    test_fraction: float = setting("test fraction of the pieces", default=0.1, group="data", low=0, high=0.5)
    distribution: str = setting(
        "output distribution over the 88 keys: autoregressive from the highest key down (nade), or independent",
        default="nade",
        choices=("nade", "independent"),
    )
    embedding_size: int = setting("size of the linear embedding of a step's 88 keys", default=100, low=1)
    nade_hidden_size: int = setting("hidden units of the NADE", default=100, low=1)
    hidden_size: int = inherited(JobSettings, "hidden_size", default=200)
    dropout: float = inherited(JobSettings, "dropout", default=0.3)
    max_steps: int = setting(
        "maximum number of steps in a training excerpt; 0 = whole pieces", default=200, group="training", low=0
    )
    batch_size: int = inherited(JobSettings, "batch_size", default=16, help="excerpts per batch")
    lr: float = inherited(JobSettings, "lr", default=0.01)
