"""Clips for a look inside the network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.vision.boxed_clips import UNKNOWN_ID, BoxedClip, Boxes
from lstmkit.jobs.object_detector.predictor import ObjectDetectorPredictor
from lstmkit.look import ExampleSequence
from lstmkit.look.conv_layers import MAX_MAPS

_MAX_FRAMES = 100  # of a clip: attribution runs the network once per frame


def example_sequence(predictor: ObjectDetectorPredictor, each: BoxedClip) -> ExampleSequence:
    """The first frames of a clip, with the number of objects in each; the answer is the highest score at the end."""
    device = next(predictor.network.parameters()).device
    frames = torch.from_numpy(np.ascontiguousarray(each.clip.frames[:_MAX_FRAMES])).unsqueeze(0).to(device)
    boxes = each.boxes if each.boxes is not None else Boxes.of_rows([])
    counts = np.bincount(boxes.frames, minlength=len(each))[: frames.shape[1]]
    num_classes = len(predictor.classes)

    def highest_score(outputs: Tensor) -> Tensor:
        return outputs[0, -1, :num_classes].max()

    return ExampleSequence(
        frames,
        name=each.name,
        annotations={"objects": counts.astype(float)} if each.boxes is not None else {},
        answers={"highest logit of the last frame": highest_score},
        frames=each.clip.frames[: frames.shape[1]],
        outlines=[each.placement.to_model(boxes.of_frame(frame).xywh) for frame in range(frames.shape[1])],
        drawn_steps=_around_a_gap(boxes, frames.shape[1]),
    )


def _around_a_gap(boxes: Boxes, steps: int) -> list[int]:
    """Steps around the first frames in which an object is hidden; the first steps if none is."""
    start = 0
    for identity in np.unique(boxes.ids[boxes.ids != UNKNOWN_ID]):
        own = boxes.frames[boxes.ids == identity]
        gaps = own[:-1][np.diff(own) > 1]
        if len(gaps):
            start = max(0, int(gaps[0]) - 1)
            break
    return list(range(min(start, max(0, steps - MAX_MAPS)), min(start + MAX_MAPS, steps)))
