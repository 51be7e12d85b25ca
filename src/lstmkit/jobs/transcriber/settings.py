"""Settings of the transcriber."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class TranscriberSettings(JobSettings):
    """Settings of :class:`lstmkit.Transcriber`."""

    name: ClassVar[str] = "transcriber"
    summary: ClassVar[str] = (
        "Transcribe audio, images of text lines or pen strokes with CTC; characters with their positions."
    )
    extra: ClassVar[str] = "sound"
    pipeline_tags: ClassVar[Mapping[str, str]] = {"audio": "automatic-speech-recognition", "image": "image-to-text"}
    old_settings: ClassVar[Mapping[str, str]] = {
        "file_col": "path_col",
        "reads": "input_type",
        "rate": "sample_rate",
        "bands": "n_mels",
        "channels": "conv_channels",
        "width": "feature_size",
        "masks": "spec_augment_masks",
        "speed": "speed_perturbation",
        "centred": "mean_normalization",
        "noise": "image_augmentation",
        "beam": "beam_size",
        "lm_bonus": "insertion_bonus",
        "longest": "max_seconds",
        "start": "init_from",
    }
    old_choices: ClassVar[Mapping[str, Mapping[str, str]]] = {"input_type": {"sounds": "audio", "lines": "images"}}

    path_col: str = setting("column of audio or image paths", default="file", group="data", names="column")
    text_col: str = setting("column of the transcripts", default="text", group="data", names="label column")
    input_type: str = setting(
        "input type of numeric arrays; auto = inferred as images or features",
        default="auto",
        group="data",
        choices=("auto", "audio", "images", "features", "strokes"),
    )
    valid_fraction: float = setting("validation fraction of the examples", default=0.1, group="data", low=0, high=0.5)
    test_fraction: float = setting("test fraction of the examples", default=0.1, group="data", low=0, high=0.5)
    sample_rate: int = setting(
        "sample rate in Hz; audio is resampled to it", default=16000, group="audio", low=1000, high=768000
    )
    n_mels: int = setting("number of mel bands; frames are 10 ms apart", default=40, group="audio", low=4, high=256)
    spec_augment_masks: int = setting(
        "SpecAugment time masks and frequency masks per example, of each kind (not for images)",
        default=2,
        group="audio",
        low=0,
        high=20,
    )
    speed_perturbation: float = setting(
        "maximum relative change of speed in training (not for images)", default=0.1, group="audio", low=0, high=0.5
    )
    mean_normalization: bool = setting(
        "subtract each example's mean feature vector (cepstral mean normalization)", default=False, group="audio"
    )
    height: int = setting(
        "height of text-line images in pixels, a multiple of 4", default=48, group="image", low=8, high=512
    )
    reading_order: str = setting(
        "direction of the text in images; auto = that of most letters of the training texts",
        default="auto",
        group="image",
        choices=("auto", "left-to-right", "right-to-left"),
    )
    line_normalization: bool = setting(
        "find the page in an image, deskew the text line and crop it to its ink", default=True, group="image"
    )
    conv_channels: int = setting(
        "channels of the first convolution over images; doubled in the second", default=24, group="image", low=1
    )
    image_augmentation: float = setting(
        "strength of image augmentation (shear, shift, stretch, ink width, noise) in training; 0 = none, 1 = default",
        default=1.0,
        group="image",
        low=0,
        high=3,
    )
    feature_size: int = setting(
        "size of the feature vector the convolutions pass to the recurrent layers", default=128, low=1
    )
    strides: tuple[int, ...] = setting(
        "time stride of each convolution; always 2,2 for images", default=(2, 2), low=1, high=8
    )
    hidden_size: int = inherited(JobSettings, "hidden_size", default=128, help="hidden units per layer and direction")
    num_layers: int = inherited(JobSettings, "num_layers", default=1)
    bidirectional: bool = setting(
        "read the sequence in both directions; streaming needs --no-bidirectional", default=True
    )
    dropout: float = inherited(JobSettings, "dropout", default=0.3)
    init_from: str = setting(
        "run folder whose weights initialize training; empty = none", default="", group="training", names="run"
    )
    epochs: int = inherited(JobSettings, "epochs", default=40)
    batch_size: int = inherited(JobSettings, "batch_size", default=8)
    lr: float = inherited(JobSettings, "lr", default=0.003)
    patience: int = inherited(JobSettings, "patience", default=10)
    beam_size: int = setting("beam size of the CTC decoder; 1 = greedy", default=1, group="decoding", low=1, high=1000)
    lm: str = setting(
        "run folder of a character language model for shallow fusion; empty = none",
        default="",
        group="decoding",
        names="run",
    )
    lm_weight: float = setting("weight of the language model's log-probabilities", default=0.5, group="decoding", low=0)
    insertion_bonus: float = setting(
        "score added per character, against the language model's bias to short texts", default=0.0, group="decoding"
    )
    max_seconds: float = setting(
        "maximum seconds of audio transcribed at once; longer audio is cut at pauses",
        default=30.0,
        group="decoding",
        low=1,
    )
