"""What the captioner's encoder reads: images, video clips, or features of another network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import Self

from lstmkit.data.captioned_media import CaptionedMedia
from lstmkit.data.vision.image_io import channel_mean_std
from lstmkit.data.vision.video_io import ClipFormat, VideoClip
from lstmkit.errors import DataError
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.modules.image_encoder import FeatureEncoder, ImageEncoder, ImageGridEncoder, PixelNormalizer
from lstmkit.modules.video_encoder import VideoGridEncoder

#: Kinds of input, as :attr:`CaptionedMedia.kind` names them, and the word for one of them in messages.
INPUT_KINDS = {"images": "image", "clips": "clip", "features": "feature array"}

#: Kinds of settings that count for each kind of input.
SETTING_GROUPS = {"images": ("text", "image"), "clips": ("text", "image", "video"), "features": ("text",)}


class VisualInput(NamedTuple):
    """Encodes images, clips or features for the network.

    Attributes:
        kind: One of :data:`INPUT_KINDS`.
        format: Size and channels of images and frames.
        num_stages: Convolution stages; each halves height and width.
        feature_size: Size of each feature vector, if the inputs are features; else 0.
        mean, std: Of each channel in the training split.
    """

    kind: str
    format: ClipFormat
    num_stages: int
    feature_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, train: CaptionedMedia, format: ClipFormat, num_stages: int) -> Self:
        """Take kind, mean and standard deviation from the training split."""
        if train.kind == "features":
            fitted = cls(train.kind, format, num_stages, train.inputs[0].shape[1], (), ())
            fitted.encode(train.inputs)
            return fitted
        mean, std = channel_mean_std([_as_array(item) for item in train.inputs])
        return cls(train.kind, format, num_stages, 0, tuple(mean.tolist()), tuple(std.tolist()))

    def encode(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        """Arrays for a batch: pixels ``(H, W, C)`` or ``(T, H, W, C)`` uint8, or features ``(S, F)``.

        Raises:
            DataError: An input has another size or number of channels, or another feature size.
        """
        arrays, expected = [_as_array(item) for item in inputs], self.step_shape
        for number, array in enumerate(arrays, 1):
            if array.shape[-len(expected) :] != expected:
                raise DataError(f"input {number} has the shape {array.shape}, but the model reads {('…', *expected)}")
        return arrays

    @property
    def step_shape(self) -> tuple[int, ...]:
        """The shape of an image or a frame ``(H, W, C)``, or of a feature vector ``(F,)``."""
        channels = 3 if self.format.color else 1
        return (self.feature_size,) if self.feature_size else (self.format.height, self.format.width, channels)

    def grid_shape(self, encoded: np.ndarray) -> tuple[int, ...]:
        """The shape of what is attended to.

        It is ``(h, w)`` cells of an image, ``(T, h, w)`` cells of a clip, or ``(S,)`` feature vectors.
        """
        if self.kind == "features":
            return (len(encoded),)
        return self.grid_size if self.kind == "images" else (len(encoded), *self.grid_size)

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of an image's grid."""
        rows, columns = (-(-side // 2**self.num_stages) for side in (self.format.height, self.format.width))
        return rows, columns

    def build(
        self,
        conv_channels: int,
        output_size: int,
        temporal_layer: Callable[[int], RecurrentLayer],
        max_translation: float,
        horizontal_flip: bool,
    ) -> ImageGridEncoder | VideoGridEncoder | FeatureEncoder:
        """The untrained encoder.

        Args:
            conv_channels: Channels of the first stage; doubled at each further stage.
            output_size: Features of a cell.
            temporal_layer: Makes the recurrent layer of the given input size that reads each cell over the frames.
            max_translation, horizontal_flip: Augmentation in training; clips are not flipped.
        """
        if self.kind == "features":
            return FeatureEncoder(self.feature_size, output_size)
        widths = [conv_channels * 2**stage for stage in range(self.num_stages)]
        normalizer, encoder = PixelNormalizer(self.mean, self.std), ImageEncoder(len(self.mean), widths)
        cells = math.prod(self.grid_size)
        if self.kind == "images":
            return ImageGridEncoder(normalizer, encoder, output_size, cells, max_translation, horizontal_flip)
        grid = ImageGridEncoder(normalizer, encoder, output_size, cells)
        return VideoGridEncoder(grid, temporal_layer(output_size), max_translation)

    def state(self) -> dict[str, Any]:
        """Everything but the settings, ready for JSON."""
        return {"reads": self.kind, "width": self.feature_size, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], format: ClipFormat, num_stages: int) -> Self:
        """What :meth:`state` described. Raises ValueError if the state is damaged."""
        mean, std = tuple(state["mean"]), tuple(state["std"])
        kind = "images" if state["reads"] == "pictures" else state["reads"]  # "pictures" in models saved by 0.1
        loaded = cls(kind, format, num_stages, int(state["width"]), mean, std)
        channels = 0 if loaded.kind == "features" else 3 if format.color else 1
        if loaded.kind not in INPUT_KINDS or bool(loaded.feature_size) != (loaded.kind == "features"):
            raise ValueError("the kind of input is unknown, or does not fit the feature size")
        if len(mean) != channels or len(std) != channels or not all(s > 0 for s in std):
            raise ValueError("mean and std do not fit the color channels")
        return loaded


def _as_array(item: Any) -> np.ndarray:
    """A clip's frames, or the array itself."""
    return item.frames if isinstance(item, VideoClip) else item
