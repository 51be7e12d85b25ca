"""How a captioner is served."""

from __future__ import annotations

import numpy as np

from lstmkit.jobs.captioner.predictor import CaptionerPredictor
from lstmkit.jobs.common.seq2seq_serving import MAX_BEAM_SIZE
from lstmkit.jobs.serving import JsonForm, Serving, arrays_form

Image = list[list[list[int]]]  # (H, W, 3)


def serving(predictor: CaptionerPredictor) -> Serving:
    """Images, clips or features as nested lists."""
    return Serving(_data(predictor), max_values={"beam_size": MAX_BEAM_SIZE, "n_best": MAX_BEAM_SIZE})


def _data(predictor: CaptionerPredictor) -> JsonForm:
    visual = predictor.visual_input
    pixels = np.zeros((2, visual.format.height, visual.format.width, 3), dtype=int).tolist()
    if visual.kind == "images":
        return arrays_form(list[Image], pixels[:1], np.uint8)
    if visual.kind == "clips":
        return arrays_form(list[list[Image]], [pixels], np.uint8)
    return arrays_form(list[list[list[float]]], [[[0.0] * visual.feature_size] * 4])
