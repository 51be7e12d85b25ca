"""Into a classifier: what decided an answer, and an example to look at its network with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.vision.video_io import VideoClip
from lstmkit.jobs.common.token_labels import annotations, shown
from lstmkit.look.traces import Answer, ExampleSequence
from lstmkit.modules.audio_encoder import TIME_REDUCTION

if TYPE_CHECKING:
    from lstmkit.jobs.classifier.job import Classifier

_MAX_PREFIX_EXAMPLES = 500  # examples that are seen in parts
_PIECES = 200  # of an example that are erased one after the other


def decided(job: Classifier, encoded: np.ndarray, which: int) -> np.ndarray:
    """``(T,)``: by how much the probability of class ``which`` falls as each step of an encoded example is erased.

    Of a long example several steps are erased together, and share the change.
    """
    every = -(-len(encoded) // _PIECES)
    starts = range(0, len(encoded), every)
    variants = [job.front_end.without(encoded, start, start + every) for start in starts]
    whole, *without = job.stated([encoded, *variants])[:, which]
    changes = np.zeros(len(encoded))
    for start, now in zip(starts, without, strict=True):
        piece = changes[start : start + every]
        piece[:] = (whole - now) / len(piece)
    return changes


def early(job: Classifier, encoded: Sequence[np.ndarray], targets: np.ndarray) -> pd.DataFrame:
    """How often the answer is right when only the first part of each example was seen.

    Of more than 500 examples every so many are taken.

    Args:
        encoded: Examples.
        targets: Their classes ``(N,)``.

    Returns:
        ``share seen, accuracy``, a row a tenth.
    """
    some = np.unique(np.linspace(0, len(encoded) - 1, min(_MAX_PREFIX_EXAMPLES, len(encoded))).astype(int))
    rows = []
    for tenth in range(1, 11):
        begun = [encoded[i][: max(1, math.ceil(len(encoded[i]) * tenth / 10))] for i in some]
        rows.append((tenth / 10, float((job.stated(begun).argmax(axis=1) == targets[some]).mean())))
    return pd.DataFrame(rows, columns=pd.Index(["share seen", "accuracy"]))


def example_sequence(job: Classifier, example: str | np.ndarray | AudioClip | VideoClip, name: str) -> ExampleSequence:
    """One example, with the logits of the two likeliest classes as what is asked of it."""
    (encoded,) = job.front_end.encode([example])
    labels = job.front_end.steps(example)
    is_text = isinstance(example, str)
    values = example[:, 0] if isinstance(example, np.ndarray) else None
    if isinstance(example, AudioClip):
        labels, values = labels[::TIME_REDUCTION], encoded.mean(axis=1)  # as many as the trunk has steps
    if isinstance(example, VideoClip):
        values = example.frames.mean(axis=(1, 2, 3))  # how bright each frame is
    inputs = torch.from_numpy(encoded)[None].to(next(job.network.parameters()).device)
    with torch.no_grad():
        first = job.network.eval()(inputs)[0][0].topk(min(2, len(job.classes))).indices.tolist()
    return ExampleSequence(
        inputs,
        name=name,
        labels=[shown(label) for label in labels] if is_text else labels,
        values=values,
        annotations=annotations(labels) if is_text else {},
        answers={f"logit of {job.classes[c]!r}": _logit(c) for c in first},
    )


def _logit(which: int) -> Answer:
    def answer(output: Tensor) -> Tensor:
        return output[0, which]

    return answer
