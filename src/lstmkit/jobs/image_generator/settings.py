"""Settings of the image generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class

MAX_IMAGE_SIZE = 256  # pixels of a side; as lstmkit.data.vision.image_set has it, which imports torch


@settings_class
class ImageGeneratorSettings(JobSettings):
    """Settings of :class:`lstmkit.ImageGenerator`."""

    name: ClassVar[str] = "image_generator"
    summary: ClassVar[str] = "Generate images with attention (DRAW); compare with a Bernoulli mixture."
    extra: ClassVar[str] = "pictures"
    main_settings: ClassVar[tuple[str, ...]] = ("height", "width", "class_conditional", *JobSettings.main_settings)
    pipeline_tags: ClassVar[Mapping[str, str]] = {"": "unconditional-image-generation"}
    old_names: ClassVar[tuple[str, ...]] = ("painter",)
    old_settings: ClassVar[Mapping[str, str]] = {
        "inverted": "invert",
        "shades": "binarization",
        "kinds": "class_conditional",
        "steps": "glimpses",
        "latent": "latent_size",
    }
    old_choices: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "binarization": {"drawn": "stochastic", "halved": "threshold", "kept": "none"}
    }

    height: int = setting("image height in pixels", default=28, group="image", low=2, high=MAX_IMAGE_SIZE)
    width: int = setting("image width in pixels", default=28, group="image", low=2, high=MAX_IMAGE_SIZE)
    invert: bool = setting("invert pixel values: dark pixels are ink", default=False, group="image")
    binarization: str = setting(
        "binarization of gray values: sampled in every epoch (stochastic), at 0.5 (threshold), or none",
        default="stochastic",
        group="image",
        choices=("stochastic", "threshold", "none"),
    )
    class_conditional: bool = setting("condition the model on image labels", default=False)
    glimpses: int = setting("number of glimpses (time steps) per image", default=32, low=1, high=1000)
    latent_size: int = setting("size of the latent variable per glimpse", default=32, low=1)
    read_size: int = setting(
        "side of the read attention grid in filters; 0 = read the whole image", default=5, low=0, high=MAX_IMAGE_SIZE
    )
    write_size: int = setting(
        "side of the write attention grid in filters; 0 = write to the whole canvas",
        default=5,
        low=0,
        high=MAX_IMAGE_SIZE,
    )
    hidden_size: int = inherited(
        JobSettings, "hidden_size", default=256, help="hidden units per layer, of encoder and decoder"
    )
    dropout: float = inherited(JobSettings, "dropout", default=0.0)
    batch_size: int = inherited(JobSettings, "batch_size", default=100, help="images per batch")
    ema_decay: float = inherited(JobSettings, "ema_decay", default=0.999)
    max_grad_norm: float = inherited(JobSettings, "max_grad_norm", default=5.0)
    valid_fraction: float = setting("validation fraction of the images", default=0.05, group="data", low=0, high=0.5)
    test_fraction: float = setting("test fraction of the images", default=0.1, group="data", low=0, high=0.5)
