"""Handwriting: texts and drawings, point by point."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstmkit.data.ink.points import NOISE_SIZE, Ink, encode_text, find_jumps, scale_offsets, validated_ink
from lstmkit.decoding.handwriting import (
    MIN_POINTS,
    GenerationOptions,
    HandwritingTask,
    check_count,
    check_drawings_to_continue,
    continuation_task,
    drawing_tasks,
    text_task,
)
from lstmkit.errors import DataError
from lstmkit.runtime.base import ExportedJob
from lstmkit.runtime.pen import PenMixture

#: ``noise(seed) -> next``: for the seed of a drawing a function that gives ``(5,)`` uniform numbers for each point.
Noise = Callable[[int], Callable[[], np.ndarray]]


def numpy_noise(seed: int) -> Callable[[], np.ndarray]:
    """Uniform numbers of numpy's generator."""
    rng = np.random.default_rng(seed)
    return lambda: rng.random(NOISE_SIZE)


class HandwritingSynthesizer(ExportedJob):
    """Writes texts by hand, or draws."""

    def predict(
        self,
        data: Any,
        *,
        bias: float = 0.0,
        seed: int = 0,
        prime: Any = None,
        prime_points: int = -1,
        max_new_points: int = 0,
        noise: Noise = numpy_noise,
    ) -> list[dict[str, Any]]:
        """Write texts, generate drawings, or continue drawings.

        Points have the job's distribution, but come from other random numbers. A drawing is an array ``(T, 3)``:
        offset to the right and down from the point before, and whether the pen is lifted after the point (0 or 1).

        Args:
            data: For a model with texts: a text, or a list of texts. Without texts: a number of drawings, or a list of
                drawings to continue.
            bias, seed, prime_points, max_new_points: As in :meth:`lstmkit.HandwritingSynthesizer.predict`.
            prime: A list with one drawing to continue, in whose style the model writes; for a model with texts a pair
                of a drawing and its text.
            noise: Where random numbers come from, see :data:`Noise`.

        Returns:
            ``name, text, strokes, num_prime_points, ended, nll_per_point`` for each drawing, as the job's ``predict``.

        Raises:
            DataError: A text is empty or has an unknown character, or what is given is no drawing.
            SettingError: An option is out of range.
        """
        options = GenerationOptions(bias, seed, max_new_points, prime_points)
        options.check()
        first = None if prime is None else _drawings(prime)[0]
        plan = self._draw if self.settings["characters"] is None else self._write
        tasks = plan(data, options, first)
        check_count(len(tasks))
        return [self._generated(task, options.bias, noise(options.seed + row)) for row, task in enumerate(tasks)]

    def _write(self, data: Any, options: GenerationOptions, prime: Ink | None) -> list[HandwritingTask]:
        texts = [data] if isinstance(data, str) else data
        if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
            raise DataError("this model writes texts: give a list of texts")
        characters, pace = self.settings["characters"], self.settings["points_per_character"]
        return [text_task(text, prime, options, characters, pace) for text in texts]

    def _draw(self, data: Any, options: GenerationOptions, prime: Ink | None) -> list[HandwritingTask]:
        longest = self.settings["max_training_points"]
        if isinstance(data, int):
            check_count(data)
            if prime is None:
                return drawing_tasks(data, options, longest)
            return [continuation_task(prime, options, longest)] * data
        has_texts = isinstance(data, (list, tuple)) and any(isinstance(entry, str) for entry in data)
        check_drawings_to_continue(prime is not None, has_texts or isinstance(data, str))
        return [continuation_task(ink, options, longest) for ink in _drawings(data)]

    # ---- point by point ----------------------------------------------------------------------------------------------

    def _generated(self, task: HandwritingTask, bias: float, noise: Callable[[], np.ndarray]) -> dict[str, Any]:
        """The drawing of a task."""
        scale, text = self.settings["offset_scale"], self._one_hot(task.text)
        read = np.concatenate([np.zeros((1, 3), dtype=np.float32), scale_offsets(task.prime, scale)])
        mixture, _, states = self._step(read[0], text, self.network.zero_states(rows=1))
        for point in read[1:]:
            mixture, _, states = self._step(point, text, states)
        points: list[np.ndarray] = []
        nll: list[float] = []
        while True:
            points.append(mixture.sample(noise(), bias).astype(np.float32))
            nll.append(mixture.nll(points[-1]) + 2 * math.log(scale))
            may_end = len(task.prime) + len(points) >= MIN_POINTS
            ended = may_end and bool(points[-1][3] > 0)
            if ended or (may_end and len(points) >= task.max_points):
                break
            mixture, at_end, states = self._step(points[-1][:3], text, states)
            if may_end and at_end:  # the prediction of this step is not written any more
                ended = True
                break
        sampled = scale_offsets(np.stack(points)[:, :3], 1 / scale)
        sampled[-1, 2] = 1.0
        return {
            "name": task.name,
            "text": task.text,
            "strokes": np.concatenate([task.prime, sampled]).astype(np.float32).tolist(),
            "num_prime_points": len(task.prime),
            "ended": ended,
            "nll_per_point": nll,
        }

    def _one_hot(self, text: str) -> dict[str, np.ndarray]:
        """The network's input ``text (1, U + 1, C)``: one-hot characters and a zero vector; empty without texts."""
        characters = self.settings["characters"]
        if characters is None:
            return {}
        ids = np.append(encode_text(text, characters), 0)
        return {"text": np.eye(len(characters) + 1, dtype=np.float32)[None, ids, 1:]}

    def _step(
        self, point: np.ndarray, text: dict[str, np.ndarray], states: Sequence[np.ndarray]
    ) -> tuple[PenMixture, bool, list[np.ndarray]]:
        """The mixture after a point ``(3,)``, whether most networks are at the end of the text, and the states."""
        outputs, after = self.network.step(states, point=point[None], **text)
        *parts, pen, end = (output[0].astype(np.float64) for output in outputs)
        logits, means, log_deviations, correlations = parts
        last = None if text else float(end)
        mixture = PenMixture(logits, means, log_deviations, correlations, float(pen), last)
        return mixture, bool(text) and float(end) > 0.5, list(after)


def _drawings(data: Any) -> list[Ink]:
    """Drawings of a list, each an array, or a pair of an array and its text; those with a jump are left out."""
    if not isinstance(data, (list, tuple, np.ndarray)) or not len(data):
        raise DataError("give a list of drawings (T, 3), at least one")
    drawings = [_drawing(entry, f"drawing {number}") for number, entry in enumerate(data, 1)]
    kept = ~find_jumps([drawing.points for drawing in drawings]).has_jump
    if not kept.any():
        raise DataError("every drawing has a jump of the pen: correct them")
    return [drawing for drawing, keep in zip(drawings, kept, strict=True) if keep]


def _drawing(entry: Any, name: str) -> Ink:
    has_text = isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[1], str)
    points, text = entry if has_text else (entry, "")
    try:
        array = np.asarray(points, dtype=np.float64)
    except (ValueError, TypeError):
        array = np.empty(0)
    return validated_ink(array, name, text, "the list")
