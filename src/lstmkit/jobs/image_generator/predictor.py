"""What the image generator's ``fit`` leaves: labels, mean image and network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from typing_extensions import Self

from lstmkit.data.vision.image_set import ImageDataset, Images, binarize, encode_labels
from lstmkit.jobs.image_generator.settings import ImageGeneratorSettings
from lstmkit.jobs.predictor import Predictor
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.draw import DrawModel
from lstmkit.modules.draw_attention import DrawReader, DrawWriter, FullImageReader, FullImageWriter
from lstmkit.modules.trunk import build_trunk


class ImageGeneratorPredictor(Predictor[ImageGeneratorSettings]):
    """Encodes images and holds the DRAW network.

    Args:
        settings: The settings that it is fitted with.
        labels: The classes of a class-conditional model; else empty.
        mean_image: ``(height, width)``, the mean of the training images, from 0 to 1.
    """

    def __init__(self, settings: ImageGeneratorSettings, labels: Sequence[str], mean_image: np.ndarray) -> None:
        super().__init__(settings)
        self.labels = tuple(labels)
        self.mean_image = mean_image

    @classmethod
    def fitted(cls, settings: ImageGeneratorSettings, train: Images) -> Self:
        """Take labels and mean image from the training split.

        Raises:
            DataError: The model is class-conditional and an image has no label.
        """
        labels = sorted(set(train.require_labels())) if settings.class_conditional else ()
        return cls(settings, labels, train.pixels.mean(axis=0))

    def build(self) -> Model:
        settings, num_labels = self.settings, len(self.labels)
        shape = height, width = settings.height, settings.width
        stack = {"num_layers": settings.num_layers, "dropout": settings.dropout}
        decoder = build_trunk(settings.cell, settings.latent_size + num_labels, settings.hidden_size, **stack)
        state_size = decoder.output_size
        reader = DrawReader(state_size, *shape, settings.read_size) if settings.read_size else FullImageReader()
        writer = (
            DrawWriter(state_size, *shape, settings.write_size)
            if settings.write_size
            else FullImageWriter(state_size, *shape)
        )
        read = 2 * (settings.read_size**2 if settings.read_size else height * width)
        encoder = build_trunk(settings.cell, read + state_size + num_labels, settings.hidden_size, **stack)
        model = DrawModel(
            reader,
            encoder,
            decoder,
            writer,
            shape,
            settings.latent_size,
            settings.glimpses,
            num_labels,
            binarize=settings.binarization == "stochastic",
        )
        # The canvas starts as the mean image.
        model.blank.data.copy_(torch.from_numpy(self.mean_image).clamp(0.01, 0.99).logit())
        return model

    # ---- encode --------------------------------------------------------------------------------------------------

    def dataset(self, images: Images, *, training: bool = False) -> ImageDataset:
        """Encoded images, with labels for a class-conditional model.

        Args:
            images: At the size of the settings.
            training: Keep gray values under stochastic binarization: the network samples pixels anew at every step.
                Else pixels are sampled once, by the seed.

        Raises:
            DataError: An image has no label, or one that the model does not know.
        """
        labels = self.encode_labels(images.require_labels(), images.name) if self.labels else None
        keep_gray = training and self.settings.binarization == "stochastic"
        return ImageDataset(images.pixels if keep_gray else self.binarized(images.pixels), labels)

    def encode_labels(self, labels: Sequence[str], name: str) -> np.ndarray:
        """``(N,)`` class ids. Raises DataError if a label is unknown."""
        return encode_labels(labels, self.labels, name)

    def binarized(self, images: np.ndarray) -> np.ndarray:
        """Images ``(N, height, width)`` after the binarization of the settings."""
        if self.settings.binarization == "stochastic":
            return binarize(images, self.settings.seed)
        return (images >= 0.5).astype(np.float32) if self.settings.binarization == "threshold" else images

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"kinds": list(self.labels), "ink": self.mean_image.round(6).tolist()}

    @classmethod
    def from_state(cls, settings: ImageGeneratorSettings, state: Mapping[str, Any]) -> Self:
        labels, mean_image = tuple(state["kinds"]), np.array(state["ink"], dtype=np.float32)
        if not all(isinstance(label, str) for label in labels) or bool(labels) != settings.class_conditional:
            raise ValueError("the labels do not fit the setting class_conditional")
        in_range = ((mean_image >= 0) & (mean_image <= 1)).all()
        if mean_image.shape != (settings.height, settings.width) or not in_range:
            raise ValueError("the mean image does not fit height and width, or a value is not from 0 to 1")
        return cls(settings, labels, mean_image)


def draw_networks(model: Model) -> list[DrawModel]:
    """The network, or all networks of an ensemble."""
    members = model.members if isinstance(model, Ensemble) else [model]
    return [member for member in members if isinstance(member, DrawModel)]
