"""How an image generator is served."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkit.jobs.image_generator.predictor import ImageGeneratorPredictor
from lstmkit.jobs.serving import JsonForm, Serving, array_of

_MAX_IMAGES = 64


def serving(predictor: ImageGeneratorPredictor) -> Serving:
    """A number of images to generate; images to reconstruct if the model has no classes, which they would need."""
    images = list[list[list[float]]]
    return Serving(
        JsonForm(int if predictor.labels else int | images, 1, _data),
        max_items=_MAX_IMAGES,
    )


def _data(data: Any) -> Any:
    return data if isinstance(data, int) else array_of(data, np.float32)
