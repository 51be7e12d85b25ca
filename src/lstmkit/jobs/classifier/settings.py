"""Settings of the classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.common.text_settings import TextSettings
from lstmkit.jobs.settings import chosen_or_weight
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class ClassifierSettings(TextSettings):
    """Settings of :class:`lstmkit.Classifier`."""

    name: ClassVar[str] = "classifier"
    summary: ClassVar[str] = "Classify texts, time series, audio or video clips; compare with simple baselines."
    extra: ClassVar[str] = "text"
    pipeline_tags: ClassVar[Mapping[str, str]] = {
        "text": "text-classification",
        "audio": "audio-classification",
        "video": "video-classification",
    }
    old_settings: ClassVar[Mapping[str, str]] = {
        "longest": "max_tokens",
        "pool": "pooling",
        "layer_dropout": "hidden_dropout",
        "sound_col": "path_col",
        "name_label": "label_pattern",
        "rate": "sample_rate",
        "bands": "n_mels",
        "channels": "conv_channels",
        "shift": "max_time_shift",
        "noise": "min_snr_db",
        "speed": "speed_perturbation",
        "masks": "spec_augment_masks",
        "colour": "color",
        "frame_size": "feature_size",
        "frame_shift": "max_translation",
        "class_weights": "class_weight",
    }

    text_col: str = setting("column of the texts", default="text", group="data", names="text column")
    label_col: str = setting("column of the labels", default="label", group="data", names="label column")
    id_col: str = setting("column of the example id", default="id", group="data", names="column")
    value_cols: tuple[str, ...] = setting(
        "numeric columns of time series in long form; rows with one id form one example",
        default=(),
        group="data",
        names="number column",
    )
    path_col: str = setting(
        "column of audio or video paths, relative to the table's folder", default="path", group="data", names="column"
    )
    label_sep: str = setting(
        "separator between the labels of an example (multi-label); empty = one label per example",
        default="",
        group="data",
    )
    label_pattern: str = setting(
        "regular expression whose one group is the label in a file name; empty = folder name is the label",
        default="",
        group="data",
    )
    valid_fraction: float = setting(
        "validation fraction of the examples, also used for calibration", default=0.1, group="data", low=0, high=0.5
    )
    test_fraction: float = setting("test fraction of the examples", default=0.1, group="data", low=0, high=0.5)
    min_count: int = inherited(TextSettings, "min_count", default=2)
    lowercase: bool = inherited(TextSettings, "lowercase", default=True)
    max_tokens: int = setting("maximum number of tokens read from a text; 0 = all", default=0, group="text", low=0)
    sample_rate: int = setting(
        "sample rate in Hz after resampling; 0 = lowest of the training clips, at most 16,000",
        default=0,
        group="audio",
        low=0,
        high=48_000,
    )
    n_mels: int = setting("number of mel bands", default=40, group="audio", low=4, high=256)
    conv_channels: int = setting("channels of each convolution over log-mel frames", default=32, group="audio", low=1)
    max_time_shift: float = setting(
        "maximum seconds of silence added before and after a clip in training", default=0.1, group="audio", low=0
    )
    min_snr_db: float = setting(
        "minimum signal-to-noise ratio in dB of noise added in training; 0 = no noise",
        default=25.0,
        group="audio",
        low=0,
    )
    speed_perturbation: float = setting(
        "maximum relative change of speed and of pitch in training", default=0.1, group="audio", low=0, high=0.5
    )
    spec_augment_masks: int = setting(
        "SpecAugment time masks and frequency masks per clip, of each kind", default=1, group="audio", low=0
    )
    height: int = setting("frame height in pixels", default=64, group="video", low=16, high=512)
    width: int = setting("frame width in pixels", default=64, group="video", low=16, high=512)
    color: bool = setting("read color frames; otherwise grayscale", default=True, group="video")
    frame_rate: float = setting(
        "maximum frames per second read from a clip; 0 = all", default=10.0, group="video", low=0
    )
    feature_size: int = setting("size of the feature vector per frame", default=128, group="video", low=1)
    max_translation: float = setting(
        "maximum random translation in training, as a fraction of the frame side",
        default=0.1,
        group="video",
        low=0,
        high=0.5,
    )
    hidden_size: int = inherited(TextSettings, "hidden_size", default=64, help="hidden units per layer and direction")
    bidirectional: bool = setting("read the sequence in both directions", default=True)
    pooling: str = setting(
        "pooling over time: last state per direction, mean, maximum, or attention",
        default="max",
        choices=("last", "mean", "max", "attention"),
    )
    dropout: float = inherited(TextSettings, "dropout", default=0.5, help="dropout probability before the output layer")
    hidden_dropout: float = setting("dropout probability between recurrent layers", default=0.3, low=0, high=0.95)
    input_dropout: float = setting(
        "dropout probability on token embeddings, audio features or frame features", default=0.3, low=0, high=0.95
    )
    word_dropout: float = setting(
        "dropout probability of whole vocabulary entries per batch (embedding dropout)", default=0.1, low=0, high=0.95
    )
    ngram_weight: float = setting(
        "weight of logistic regression on tokens and token pairs in the probabilities of texts, the rest is the "
        "network's; -1 = chosen on the validation split, or 0 without one; one label per example only",
        default=-1.0,
        group="text",
        low=-1,
        high=0.95,
        check=chosen_or_weight,
    )
    convolution_weight: float = setting(
        "weight of logistic regression on random convolutions in the probabilities of time series, the rest is the "
        "network's; -1 = chosen on the validation split, or 0 without one; one label per example only",
        default=-1.0,
        low=-1,
        high=0.95,
        check=chosen_or_weight,
    )
    class_weight: str = setting(
        "class weights in the loss: none, or inversely proportional to class frequency (balanced)",
        default="none",
        group="training",
        choices=("none", "balanced"),
    )
    batch_size: int = inherited(TextSettings, "batch_size", default=32)
    threshold: float = setting(
        "probability threshold for each label (multi-label)", default=0.5, group="decoding", low=0, high=1
    )
