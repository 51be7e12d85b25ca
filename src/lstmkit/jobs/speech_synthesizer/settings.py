"""Settings of the speech synthesizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class SpeechSettings(JobSettings):
    """Settings of :class:`lstmkit.SpeechSynthesizer`."""

    name: ClassVar[str] = "speech_synthesizer"
    summary: ClassVar[str] = "Synthesize speech (WAV) in a recorded voice; compare with concatenated recordings."
    extra: ClassVar[str] = "sound"
    main_settings: ClassVar[tuple[str, ...]] = ("sample_rate", *JobSettings.main_settings)
    pipeline_tags: ClassVar[Mapping[str, str]] = {"": "text-to-speech"}
    old_names: ClassVar[tuple[str, ...]] = ("speaker",)
    old_settings: ClassVar[Mapping[str, str]] = {
        "rate": "sample_rate",
        "bands": "n_mels",
        "window": "window_seconds",
        "hop": "hop_seconds",
        "trim": "trim_db",
        "longest": "max_seconds",
        "lower": "lowercase",
        "together": "reduction_factor",
        "embed_size": "embedding_size",
        "attention_width": "attention_kernel_size",
        "guided": "guided_attention_weight",
        "guide": "guided_attention_sigma",
        "rounds": "griffin_lim_iterations",
    }

    valid_fraction: float = setting("validation fraction of the recordings", default=0.1, group="data", low=0, high=0.5)
    test_fraction: float = setting("test fraction of the recordings", default=0.1, group="data", low=0, high=0.5)
    lowercase: bool = setting("convert text to lowercase", default=True, group="text")
    sample_rate: int = setting(
        "sample rate in Hz; recordings are resampled to it", default=22050, group="audio", low=4000, high=96000
    )
    n_mels: int = setting(
        "number of mel bands, up to the Nyquist frequency", default=80, group="audio", low=4, high=256
    )
    window_seconds: float = setting("analysis window in seconds", default=0.05, group="audio", low=0.005, high=0.5)
    hop_seconds: float = setting("hop between frames in seconds", default=0.0125, group="audio", low=0.001, high=0.1)
    trim_db: float = setting(
        "threshold in dB below peak for trimming silence at both ends; 0 = no trimming",
        default=40.0,
        group="audio",
        low=0,
        high=120,
    )
    max_seconds: float = setting(
        "maximum seconds of a recording in training, and of synthesized speech",
        default=12.0,
        group="audio",
        low=0.01,
        high=120,
    )
    griffin_lim_iterations: int = setting(
        "iterations of the Griffin-Lim vocoder", default=60, group="audio", low=1, high=10000
    )
    reduction_factor: int = setting(
        "mel frames per decoder step (Tacotron's reduction factor)", default=3, low=1, high=20
    )
    embedding_size: int = setting("size of character embeddings; 0 = hidden_size", default=0, low=0)
    hidden_size: int = inherited(
        JobSettings, "hidden_size", default=128, help="hidden units per layer; in the text encoder per direction"
    )
    prenet_size: int = setting("hidden units of the two prenet layers", default=64, low=1)
    prenet_dropout: float = setting("dropout probability in the prenet", default=0.5, low=0, high=0.95)
    attention_size: int = setting("hidden units of the attention", default=64, low=1)
    attention_kernel_size: int = setting(
        "kernel size in characters of the location features of the attention, odd", default=15, low=1, high=301
    )
    guided_attention_weight: float = setting(
        "weight of the guided attention loss; 0 = none", default=1.0, group="training", low=0
    )
    guided_attention_sigma: float = setting(
        "width of the guided attention diagonal, as a fraction of the text length",
        default=0.2,
        group="training",
        low=0.01,
        high=10,
    )
    epochs: int = inherited(JobSettings, "epochs", default=60)
    batch_size: int = inherited(JobSettings, "batch_size", default=32, help="recordings per batch")
    lr: float = inherited(JobSettings, "lr", default=0.002)
    ema_decay: float = inherited(JobSettings, "ema_decay", default=0.999)
    patience: int = inherited(JobSettings, "patience", default=10)
