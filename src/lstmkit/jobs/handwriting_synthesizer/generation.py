"""What a model tells of the points of drawings, how likely it finds them, and new ones drawn from it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.ink.strokes import MAX_POINTS, Ink, InkDataset, numbered, offsets_to_strokes, scaled
from lstmkit.data.ink.svg import render_svg
from lstmkit.errors import SettingError
from lstmkit.models.base import Ensemble, Model, State
from lstmkit.models.sequence import SequenceModel
from lstmkit.models.soft_window import SoftWindowModel, reached_end_of_text
from lstmkit.modules.mixture_density import NOISE_SIZE, MixtureDensityHead, PenMixture, together
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

_TOGETHER = 64  # drawings that are scored side by side
MAX_BIAS = 20.0
GIVEN = "#999999"  # the colour of what was not written but given


@dataclass(frozen=True, eq=False)
class Handwriting:
    """What was written.

    Attributes:
        text: Of all of it; ``""`` without one.
        strokes: ``(T, 3)``: how far each point is from the one before, to the right and down, and whether the pen is
            lifted after it.
        given: So many of the points were not written but given, the first ones.
        window: ``(T, U)``, how much of each character was read at each point; ``None`` without a text.
        nats: How unlikely the model found each point that it wrote, in the data's unit.
        ended: Whether it came to its end; else it was stopped at the most points.
        name: What pictures call it.
    """

    text: str
    strokes: np.ndarray
    given: int
    window: np.ndarray | None
    nats: tuple[float, ...]
    ended: bool
    name: str

    @property
    def ink(self) -> Ink:
        """As a drawing: to be written on, scored, or kept beside those that were read."""
        return Ink(self.strokes, self.name, self.text)

    def svg(self) -> str:
        """The drawing as an SVG page."""
        return page([self])


def page(written: Sequence[Handwriting]) -> str:
    """All of it as one SVG page, one below the other; what was given is grey."""
    drawings = [
        [
            (line, GIVEN if end <= one.given else "")
            for line, end in zip(offsets_to_strokes(one.strokes), ends(one), strict=True)
        ]
        for one in written
    ]
    return render_svg(drawings, [one.text or one.name for one in written])


def ends(written: Handwriting) -> list[int]:
    """How many points there are up to the end of each line."""
    return [*(np.flatnonzero(written.strokes[:-1, 2] > 0) + 1).tolist(), len(written.strokes)]


def table_of(written: Sequence[Handwriting]) -> str:
    """A line a point: ``id, x, y, pen, text``, which can be read again."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["id", "x", "y", "pen", "text"])
    for number, one in enumerate(written, 1):
        x, y = np.cumsum(one.strokes[:, :2].astype(np.float64), axis=0).T
        if one.strokes[0, :2].any():
            rows.writerow([number, 0, 0, 0, one.text])
        pens = one.strokes[:, 2].astype(int)
        rows.writerows([number, f"{a:.6g}", f"{b:.6g}", pen, one.text] for a, b, pen in zip(x, y, pens, strict=True))
    return out.getvalue().rstrip("\n")


def write_file(written: Sequence[Handwriting], path: Path) -> None:
    """An SVG page (``.svg``), arrays (``.npz``), or with any other ending the points as a table."""
    ending = path.suffix.lower()
    if ending == ".npz":
        offsets = np.cumsum([0, *(len(one.strokes) for one in written)]).astype(np.int32)
        texts = np.array([one.text for one in written])
        with path.open("wb") as file:
            np.savez_compressed(
                file, strokes=np.concatenate([one.strokes for one in written]), offsets=offsets, texts=texts
            )
    else:
        path.write_text((page(written) if ending == ".svg" else table_of(written)) + "\n", encoding="utf-8")


class Wish(NamedTuple):
    """How to write, see :meth:`lstmkit.HandwritingSynthesizer.handwrite`."""

    bias: float
    seed: int
    length: int
    first: int

    def check(self) -> None:
        """Raise a SettingError for a number out of its range."""
        if not 0 <= self.bias <= MAX_BIAS or not 0 <= self.seed < 2**32:
            raise SettingError(f"bias must be within 0…{MAX_BIAS:g}, seed within 0…2³²; got {self.bias:g}, {self.seed}")
        if not 0 <= self.length <= MAX_POINTS or self.first < -1:
            raise SettingError(
                f"length must be at most {MAX_POINTS:,} points (0: as the model has it), first at least 0 (or -1 for "
                f"all); got {self.length}, {self.first}"
            )


class Task(NamedTuple):
    """One drawing to write.

    Attributes:
        text: What; ``""`` without one.
        given: ``(T, 3)`` points to go on from, in the data's unit.
        longest: Points to write at most.
        name: What it is called.
    """

    text: str
    given: np.ndarray
    longest: int
    name: str


class _Told:
    """What a model tells of points: one, or an ensemble, whose mixtures are put together.

    Args:
        model: The model.
        batch: Inputs ``(B, T, 3)``, scaled; perhaps a text.
        state: What the model carries; ``None`` to begin.

    Attributes:
        mixture: Of all points of the batch.
        state: To go on from.
    """

    def __init__(self, model: Model, batch: Batch, state: State | None = None) -> None:
        members = list(model.members) if isinstance(model, Ensemble) else [model]
        states = state or [m.begin(batch.extras["text"]) if isinstance(m, SoftWindowModel) else None for m in members]
        found = [m(batch.inputs, s, batch.lengths) for m, s in zip(members, states, strict=True)]
        mixtures = [head_of(member).mixture(outputs) for member, (outputs, _) in zip(members, found, strict=True)]
        self.mixture: PenMixture = mixtures[0] if len(mixtures) == 1 else together(mixtures)
        self.state: State = tuple(state for _, state in found)

    def window(self) -> np.ndarray:
        """``(T, U + 1)``: what the first of the batch read, the mean of the members."""
        return torch.stack([state.weights[0] for state in self.state]).mean(0).float().cpu().numpy()

    def is_at_text_end(self) -> bool:
        """Whether most of the members have come to the end of the text."""
        return 2 * sum(map(reached_end_of_text, self.state)) > len(self.state)


def head_of(model: Model | torch.nn.Module) -> MixtureDensityHead:
    """The head of one network."""
    assert isinstance(model, (SequenceModel, SoftWindowModel))
    assert isinstance(model.head, MixtureDensityHead)
    return model.head


def score_drawings(
    model: Model, source: InkDataset, scale: float, device: torch.device, progress: Progress | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each drawing ``(T, 3)`` nats of its points' offsets, of the pen, of the end; and ``(T,)`` chances of lifting.

    Densities are in the data's unit: an offset in it is ``scale`` times the scaled one, in both directions, so that its
    density is the scaled one's divided by ``scale²``.
    """
    unit = torch.tensor([2 * math.log(scale), 0.0, 0.0])

    def decode(model: Model, batch: Batch) -> list[tuple[np.ndarray, np.ndarray]]:
        assert batch.targets is not None
        assert batch.lengths is not None
        mixture = _Told(model, batch).mixture
        nats = (mixture.nats(batch.targets) + unit.to(batch.targets.device)).double().cpu().numpy()
        chances = mixture.pen.sigmoid().double().cpu().numpy()
        return [(nats[i, :n], chances[i, :n]) for i, n in enumerate(batch.lengths.tolist())]

    return predict(model, Loader(source, _TOGETHER), decode, device=device, progress=progress)


def write(
    model: Model,
    tasks: Sequence[Task],
    wish: Wish,
    scale: float,
    characters: Sequence[str] | None,
    device: torch.device,
    progress: Progress | None = None,
) -> list[Handwriting]:
    """One for each task. What is given is read first (section 5.5); then each point is drawn and fed back."""

    def decode(model: Model, batch: Batch) -> list[Handwriting]:
        assert batch.rows is not None
        row = int(batch.rows[0])
        task = tasks[row]
        generator = torch.Generator().manual_seed(wish.seed + row)
        told = _Told(model, batch)
        windows = [told.window()] if characters is not None else []
        points: list[Tensor] = []
        nats: list[float] = []
        ended = False
        while True:
            noise = torch.rand(NOISE_SIZE, generator=generator).to(batch.inputs)
            mixture = PenMixture(*(None if t is None else t[0, -1] for t in told.mixture))  # type: ignore[arg-type]
            point = mixture.draw(noise, wish.bias)
            points.append(point)
            nats.append(float(mixture.nats(point)[:2].sum()) + 2 * math.log(scale))
            enough = len(task.given) + len(points) >= 2  # points, as every drawing has
            ended = enough and bool(point[3] > 0)
            if ended or (enough and len(points) >= task.longest):
                break
            told = _Told(model, Batch(point[None, None, :3]), told.state)
            if characters is not None:
                ended = enough and told.is_at_text_end()
                if ended:  # what this step tells is no longer written
                    break
                windows.append(told.window())
        drawn = scaled(torch.stack(points)[:, :3].cpu().numpy(), 1 / scale)
        drawn[-1, 2] = 1.0
        strokes = np.concatenate([task.given, drawn]).astype(np.float32)
        window = np.concatenate(windows)[:, : len(task.text)] if characters is not None else None
        return [Handwriting(task.text, strokes, len(task.given), window, tuple(nats), ended, task.name)]

    # One drawing at a time, so that what is written hangs on no other.
    source = _PrimedDrawings(tasks, scale, characters)
    return predict(model, Loader(source, 1), decode, device=device, progress=progress, title="writing")


class _PrimedDrawings:
    """What is given of drawings, after nothing, as a source of batches."""

    lengths = None

    def __init__(self, tasks: Sequence[Task], scale: float, characters: Sequence[str] | None) -> None:
        self.tasks, self.scale, self.characters = tasks, scale, characters

    def __len__(self) -> int:
        return len(self.tasks)

    def batch(self, rows: np.ndarray) -> Batch:
        (task,) = (self.tasks[row] for row in rows)
        read = np.concatenate([np.zeros((1, 3), dtype=np.float32), scaled(task.given, self.scale)])
        extras = {}
        if self.characters is not None:
            extras = {"text": torch.from_numpy(numbered(task.text, self.characters)).unsqueeze(0)}
        return Batch(torch.from_numpy(read).unsqueeze(0), rows=rows, extras=extras)
