"""Settings of the captioner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.common.text_settings import TextSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class CaptionerSettings(TextSettings):
    """Settings of :class:`lstmkit.Captioner`."""

    name: ClassVar[str] = "captioner"
    summary: ClassVar[str] = "Caption images and videos with soft attention; compare with a nearest-neighbor caption."
    extra: ClassVar[str] = "video"
    main_settings: ClassVar[tuple[str, ...]] = ("height", "width", *TextSettings.main_settings)
    pipeline_tags: ClassVar[Mapping[str, str]] = {"image": "image-to-text"}
    old_settings: ClassVar[Mapping[str, str]] = {
        "colour": "color",
        "channels": "conv_channels",
        "stages": "conv_stages",
        "shift": "max_translation",
        "flip": "horizontal_flip",
        "longest": "max_tokens",
        "smoothing": "label_smoothing",
    }

    path_col: str = setting(
        "column of image or video paths, relative to the table's folder", default="image", group="data", names="column"
    )
    text_col: str = setting("column of the captions", default="caption", group="data", names="label column")
    height: int = setting("image or frame height in pixels", default=96, group="image", low=16, high=512)
    width: int = setting("image or frame width in pixels", default=96, group="image", low=16, high=512)
    color: bool = setting("read color images; otherwise grayscale", default=True, group="image")
    frame_rate: float = setting(
        "maximum frames per second read from a video; 0 = all", default=10.0, group="video", low=0
    )
    conv_channels: int = setting(
        "channels of the first convolution stage; doubled at each further stage", default=16, low=1
    )
    conv_stages: int = setting("number of convolution stages; each halves height and width", default=4, low=1, high=6)
    feature_size: int = setting("size of the feature vector per image-grid cell", default=128, low=1)
    max_translation: float = setting(
        "maximum random translation in training, as a fraction of the image side",
        default=0.1,
        group="image",
        low=0,
        high=0.5,
    )
    horizontal_flip: bool = setting(
        "flip images horizontally with probability 0.5 in training", default=False, group="image"
    )
    lowercase: bool = inherited(TextSettings, "lowercase", default=True)
    max_tokens: int = setting(
        "maximum number of tokens in a caption, in training and decoding", default=30, group="text", low=1, high=1000
    )
    hidden_size: int = inherited(
        TextSettings, "hidden_size", default=128, help="hidden units per layer; in the clip encoder per direction"
    )
    attention: str = setting("attention score function", default="additive", choices=("additive", "general"))
    label_smoothing: float = setting("label smoothing", default=0.0, group="training", low=0, high=0.9)
    length_penalty: float = setting(
        "exponent of the length normalization of beam scores; 0 = none", default=1.0, group="decoding", low=0, high=5
    )
    dropout: float = inherited(
        TextSettings, "dropout", default=0.3, help="dropout probability before attention and output layer"
    )
    input_dropout: float = setting("dropout probability on token embeddings", default=0.3, low=0, high=0.95)
    lr: float = inherited(TextSettings, "lr", default=2e-3)
    valid_fraction: float = setting(
        "validation fraction of the images or clips", default=0.1, group="data", low=0, high=0.5
    )
    test_fraction: float = setting("test fraction of the images or clips", default=0.1, group="data", low=0, high=0.5)
