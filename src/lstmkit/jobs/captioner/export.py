"""A captioner as graphs: pixels or features to the decoder's state, and a step of the decoder."""

from __future__ import annotations

from typing import Any

import torch

from lstmkit.export.graphs import JobExport
from lstmkit.jobs.captioner.predictor import CaptionerPredictor
from lstmkit.jobs.common.seq2seq_export import encoder_decoder_graphs


def exported_captioner(predictor: CaptionerPredictor) -> JobExport:
    """The graphs and the settings of a fitted captioner."""
    settings, visual_input = predictor.settings, predictor.visual_input
    shape = visual_input.step_shape
    dtype = torch.float32 if visual_input.kind == "features" else torch.uint8
    steps = {} if visual_input.kind == "images" else {"time": 3}
    example = torch.zeros(2, *steps.values(), *shape, dtype=dtype)
    dynamic = ("rows", *steps, *(None for _ in shape))
    exported: dict[str, Any] = {
        "reads": visual_input.kind,
        "shape": list(shape),
        "grid": [] if visual_input.kind == "features" else list(visual_input.grid_size),
        "tokenization": settings.tokenization,
        "length_penalty": settings.length_penalty,
        "max_output_tokens": [0, settings.max_tokens],
        "batch_size": settings.batch_size,
    }
    graphs = encoder_decoder_graphs(predictor.model, example, dynamic)
    return JobExport(graphs, exported, {"tokenizer.json": predictor.tokenizer.to_json()})
