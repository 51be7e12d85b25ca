"""Likelihood of drawings, and new points sampled from a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.ink.points import NOISE_SIZE, encode_text, scale_offsets
from lstmkit.data.ink.strokes import InkDataset
from lstmkit.decoding.handwriting import MIN_POINTS, GenerationOptions, HandwritingTask
from lstmkit.jobs.handwriting_synthesizer.results import Handwriting, PointScores
from lstmkit.models.base import Ensemble, Model, State
from lstmkit.models.soft_window import SoftWindowModel, reached_end_of_text
from lstmkit.modules.mixture_density import MixtureDensityHead, PenMixture, mean_mixture
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

_BATCH_SIZE = 64  # drawings that are scored together


class _PenPredictions:
    """A model's predictions of the next points; an ensemble's mixtures are merged.

    Args:
        model: A network or an ensemble.
        batch: Scaled inputs ``(B, T, 3)``; with texts also ``extras["text"]``.
        state: The state to continue from; ``None`` at the start.

    Attributes:
        mixture: Distribution of the next point, at every point of the batch.
        state: The state after the last point.
    """

    def __init__(self, model: Model, batch: Batch, state: State | None = None) -> None:
        members = list(model.members) if isinstance(model, Ensemble) else [model]
        states = state or [
            m.initial_state(batch.extras["text"]) if isinstance(m, SoftWindowModel) else None for m in members
        ]
        results = [m(batch.inputs, s, batch.lengths) for m, s in zip(members, states, strict=True)]
        mixtures = [head_of(member).mixture(outputs) for member, (outputs, _) in zip(members, results, strict=True)]
        self.mixture: PenMixture = mixtures[0] if len(mixtures) == 1 else mean_mixture(mixtures)
        self.state: State = tuple(state for _, state in results)

    def last_mixture(self) -> PenMixture:
        """The mixture of the first example, at the last point."""
        return PenMixture(*(None if t is None else t[0, -1] for t in self.mixture))  # type: ignore[arg-type]

    def window(self) -> np.ndarray:
        """``(T, U + 1)`` attention weights of the first example, averaged over the members."""
        return torch.stack([state.weights[0] for state in self.state]).mean(0).float().cpu().numpy()

    def is_at_text_end(self) -> bool:
        """Whether most members have reached the end of the text."""
        return 2 * sum(map(reached_end_of_text, self.state)) > len(self.state)


def head_of(model: Model | torch.nn.Module) -> MixtureDensityHead:
    """The head of one network."""
    head = model.head
    if not isinstance(head, MixtureDensityHead):
        raise TypeError(f"{type(head).__name__} does not predict pen offsets")
    return head


def score_drawings(
    model: Model, source: InkDataset, offset_scale: float, device: torch.device, progress: Progress | None = None
) -> list[PointScores]:
    """Scores of each drawing; ``nll (T, 3)`` has the offset, the pen and the end.

    Densities are in the data's unit. An offset is ``offset_scale`` times the scaled one in both directions, so its
    density is the scaled one's divided by ``offset_scale²``.
    """
    unit = torch.tensor([2 * math.log(offset_scale), 0.0, 0.0])

    def decode(model: Model, batch: Batch) -> list[PointScores]:
        if batch.targets is None or batch.lengths is None:
            raise ValueError("a batch of drawings has targets and lengths")
        mixture = _PenPredictions(model, batch).mixture
        nll = (mixture.nll(batch.targets) + unit.to(batch.targets.device)).double().cpu().numpy()
        pen_up = mixture.pen.sigmoid().double().cpu().numpy()
        return [PointScores(nll[i, :n], pen_up[i, :n]) for i, n in enumerate(batch.lengths.tolist())]

    return predict(model, Loader(source, _BATCH_SIZE), decode, device=device, progress=progress)


def generate_handwriting(
    model: Model,
    tasks: Sequence[HandwritingTask],
    options: GenerationOptions,
    offset_scale: float,
    characters: Sequence[str] | None,
    device: torch.device,
    progress: Progress | None = None,
) -> list[Handwriting]:
    """One drawing per task. The model reads the prime (Graves 2013, section 5.5), then samples point by point.

    Args:
        model: A network or an ensemble.
        tasks: What to generate.
        options: Bias and seed; task ``i`` has the seed ``options.seed + i``.
        offset_scale: The network's offsets are the data's divided by this.
        characters: The known characters; ``None`` without texts.
        device: Where to compute.
        progress: Where to report progress.
    """

    def decode(model: Model, batch: Batch) -> list[Handwriting]:
        row = 0 if batch.rows is None else int(batch.rows[0])
        task = tasks[row]
        generator = torch.Generator().manual_seed(options.seed + row)
        predictions = _PenPredictions(model, batch)
        windows = [predictions.window()] if characters is not None else []
        points: list[Tensor] = []
        nll: list[float] = []
        ended = False
        while True:
            noise = torch.rand(NOISE_SIZE, generator=generator).to(batch.inputs)
            mixture = predictions.last_mixture()
            point = mixture.sample(noise, options.bias)
            points.append(point)
            nll.append(float(mixture.nll(point)[:2].sum()) + 2 * math.log(offset_scale))
            may_end = len(task.prime) + len(points) >= MIN_POINTS
            ended = may_end and bool(point[3] > 0)
            if ended or (may_end and len(points) >= task.max_points):
                break
            predictions = _PenPredictions(model, Batch(point[None, None, :3]), predictions.state)
            if characters is not None:
                ended = may_end and predictions.is_at_text_end()
                if ended:  # the prediction of this step is not written any more
                    break
                windows.append(predictions.window())
        sampled = scale_offsets(torch.stack(points)[:, :3].cpu().numpy(), 1 / offset_scale)
        sampled[-1, 2] = 1.0
        strokes = np.concatenate([task.prime, sampled]).astype(np.float32)
        window = np.concatenate(windows)[:, : len(task.text)] if characters is not None else None
        return [Handwriting(task.text, strokes, len(task.prime), window, tuple(nll), ended, task.name)]

    # One drawing per batch, so that no drawing depends on another.
    source = _PrimedDrawings(tasks, offset_scale, characters)
    return predict(model, Loader(source, 1), decode, device=device, progress=progress, title="generating")


class _PrimedDrawings:
    """The primes after a zero point, as a source of batches."""

    lengths = None

    def __init__(self, tasks: Sequence[HandwritingTask], offset_scale: float, characters: Sequence[str] | None) -> None:
        self.tasks, self.offset_scale, self.characters = tasks, offset_scale, characters

    def __len__(self) -> int:
        return len(self.tasks)

    def batch(self, rows: np.ndarray) -> Batch:
        (task,) = (self.tasks[row] for row in rows)
        inputs = np.concatenate([np.zeros((1, 3), dtype=np.float32), scale_offsets(task.prime, self.offset_scale)])
        extras = {}
        if self.characters is not None:
            extras = {"text": torch.from_numpy(encode_text(task.text, self.characters)).unsqueeze(0)}
        return Batch(torch.from_numpy(inputs).unsqueeze(0), rows=rows, extras=extras)
