"""Settings of the object detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class ObjectDetectorSettings(JobSettings):
    """Settings of :class:`lstmkit.ObjectDetector`."""

    name: ClassVar[str] = "object_detector"
    summary: ClassVar[str] = "Find and follow objects in video; compare with background subtraction."
    extra: ClassVar[str] = "detection"
    main_settings: ClassVar[tuple[str, ...]] = ("height", "width", *JobSettings.main_settings)
    pipeline_tags: ClassVar[Mapping[str, str]] = {"": "object-detection"}

    height: int = setting("frame height in pixels", default=128, group="image", low=16, high=1024)
    width: int = setting("frame width in pixels", default=160, group="image", low=16, high=1024)
    color: bool = setting("read color frames; otherwise grayscale", default=False, group="image")
    frame_step: int = setting("read each n-th frame of a video; 1 = all", default=1, group="video", low=1)
    recurrent: bool = setting(
        "carry a memory from frame to frame; otherwise the same network sees each frame alone", default=True
    )
    bottleneck: bool = setting(
        "Bottleneck-LSTM with depthwise separable convolutions, faster; otherwise a full convolutional cell",
        default=False,
        only_with={"cell": ("lstm",)},
    )
    conv_channels: int = setting(
        "channels of the first convolution stage; doubled at each further stage", default=16, low=1
    )
    conv_stages: int = setting("number of convolution stages; each halves height and width", default=2, low=1, high=5)
    kernel_size: int = setting("side of the convolutions over the memory, odd", default=3, low=1, high=9)
    hidden_size: int = inherited(JobSettings, "hidden_size", default=32, help="channels of the memory per layer")
    bptt_steps: int = setting("frames per training step", default=8, group="training", low=1)
    segment_batches: int = setting(
        "training steps over which the memory is carried before the next segment", default=4, group="training", low=1
    )
    batch_size: int = inherited(JobSettings, "batch_size", default=4, help="video segments per batch")
    max_translation: float = setting(
        "maximum random shift of a segment in training, as a fraction of the frame",
        default=0.1,
        group="image",
        low=0,
        high=0.5,
    )
    horizontal_flip: bool = setting("flip half of the training segments", default=False, group="image")
    brightness: float = setting(
        "maximum random change of contrast and brightness in training, as a fraction",
        default=0.1,
        group="image",
        low=0,
        high=0.9,
    )
    blank_probability: float = setting(
        "probability that a training frame is black, so that the memory learns to bridge it",
        default=0.1,
        group="video",
        low=0,
        high=0.9,
    )
    max_noise: float = setting(
        "maximum standard deviation of noise in training, as a fraction of white",
        default=0.05,
        group="image",
        low=0,
        high=1,
    )
    size_weight: float = setting("weight of the loss of box sizes", default=1.0, group="training", low=0)
    offset_weight: float = setting("weight of the loss of center offsets", default=1.0, group="training", low=0)
    max_unseen: int = setting(
        "frames after which an object that is not detected is forgotten", default=15, group="decoding", low=0, high=1000
    )
    max_distance: float = setting(
        "largest jump of an object from frame to frame, in diagonals of its box", default=0.8, group="decoding", low=0
    )
    lr: float = inherited(JobSettings, "lr", default=2e-3)
    valid_fraction: float = setting("validation fraction of the clips", default=0.1, group="data", low=0, high=0.5)
    test_fraction: float = setting("test fraction of the clips", default=0.1, group="data", low=0, high=0.5)
