"""Explain a classifier: occlusion attribution, accuracy by prefix, and example sequences for a look inside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.vision.video_io import VideoClip
from lstmkit.jobs.classifier.predictor import ClassifierPredictor
from lstmkit.jobs.common.token_labels import annotations, visible_token
from lstmkit.look.traces import Answer, ExampleSequence
from lstmkit.modules.audio_encoder import TIME_REDUCTION

_MAX_PREFIX_EXAMPLES = 500
_MAX_OCCLUSIONS = 200  # per example

Example = str | np.ndarray | AudioClip | VideoClip


def occlusion_attribution(predictor: ClassifierPredictor, encoded: np.ndarray, class_index: int) -> np.ndarray:
    """Occlude each step of an encoded example and measure the decrease of one class's probability.

    Examples of more than 200 steps are occluded several steps at a time; those steps share the change equally.

    Returns:
        ``(T,)`` changes of the probability; positive if the step supports the class.
    """
    width = -(-len(encoded) // _MAX_OCCLUSIONS)
    starts = range(0, len(encoded), width)
    occluded = [predictor.front_end.occlude(encoded, start, start + width) for start in starts]
    whole, *without = predictor.predict_probabilities([encoded, *occluded])[:, class_index]
    changes = np.zeros(len(encoded))
    for start, probability in zip(starts, without, strict=True):
        steps = changes[start : start + width]
        steps[:] = (whole - probability) / len(steps)
    return changes


def accuracy_by_prefix(
    predictor: ClassifierPredictor, encoded: Sequence[np.ndarray], targets: np.ndarray
) -> pd.DataFrame:
    """Accuracy if only the first part of each example is read.

    Of more than 500 examples, 500 at equal distances are taken.

    Args:
        predictor: The classifier.
        encoded: Examples.
        targets: Their class indices ``(N,)``.

    Returns:
        ``fraction of frames, accuracy``, in steps of a tenth.
    """
    rows = np.unique(np.linspace(0, len(encoded) - 1, min(_MAX_PREFIX_EXAMPLES, len(encoded))).astype(int))
    table = []
    for tenths in range(1, 11):
        prefixes = [encoded[i][: max(1, math.ceil(len(encoded[i]) * tenths / 10))] for i in rows]
        predicted = predictor.predict_probabilities(prefixes).argmax(axis=1)
        table.append((tenths / 10, float((predicted == targets[rows]).mean())))
    return pd.DataFrame(table, columns=pd.Index(["fraction of frames", "accuracy"]))


def example_sequence(predictor: ClassifierPredictor, example: Example, name: str) -> ExampleSequence:
    """One example for a look inside; its answers are the logits of the two most probable classes."""
    (encoded,) = predictor.front_end.encode([example])
    labels = predictor.front_end.steps(example)
    is_text = isinstance(example, str)
    values = example[:, 0] if isinstance(example, np.ndarray) else None
    if isinstance(example, AudioClip):
        labels, values = labels[::TIME_REDUCTION], encoded.mean(axis=1)  # as many as the trunk has steps
    if isinstance(example, VideoClip):
        values = example.frames.mean(axis=(1, 2, 3))  # brightness
    inputs = torch.from_numpy(encoded)[None].to(next(predictor.network.parameters()).device)
    with torch.no_grad():
        logits = predictor.network.eval()(inputs)[0][0]
    best = logits.topk(min(2, len(predictor.classes))).indices.tolist()
    return ExampleSequence(
        inputs,
        name=name,
        labels=[visible_token(label) for label in labels] if is_text else labels,
        values=values,
        annotations=annotations(labels) if is_text else {},
        answers={f"logit of {predictor.classes[i]!r}": _logit(i) for i in best},
    )


def _logit(class_index: int) -> Answer:
    def answer(output: Tensor) -> Tensor:
        return output[0, class_index]

    return answer
