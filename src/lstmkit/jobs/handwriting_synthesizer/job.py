"""Handwriting: strokes of a pen, how likely they are, how they go on, and texts written by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from lstmkit.data.batch import Batches, Loader
from lstmkit.data.ink.strokes import (
    MAX_POINTS,
    MAX_TEXT_LENGTH,
    Ink,
    InkDataset,
    InkSet,
    numbered,
    read_strokes,
    scaled,
    shift_right,
)
from lstmkit.data.text.lines import read_text
from lstmkit.errors import DataError, SettingError, listing
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.common.splitting import looked_at, random_split
from lstmkit.jobs.handwriting_synthesizer import report
from lstmkit.jobs.handwriting_synthesizer.baselines import Plain, baselines_from_text, fit_handwriting_baselines
from lstmkit.jobs.handwriting_synthesizer.generation import (
    Handwriting,
    Task,
    Wish,
    head_of,
    score_drawings,
    table_of,
    write,
    write_file,
)
from lstmkit.jobs.handwriting_synthesizer.plots import ink_figure, soft_window_figure
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.models.soft_window import SoftWindowModel
from lstmkit.modules.mixture_density import MixtureDensityHead
from lstmkit.modules.soft_window import SoftWindow
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class

_ROUNDING_STD = 1 / math.sqrt(12)  # the deviation of what rounding to whole numbers takes away
_MIN_RELATIVE_STD = 1e-3  # the smallest deviation of other data, in deviations of their offsets
_MAX_LENGTH_RATIO = 2.0  # times the usual points of a text are written at most
_SCALE_RANGE = 1e-12, 1e12  # that numbers can be divided by
_MAX_TEXTS = 1000  # that are written at once
_BEST = {"NLL per point": "low", "of it the pen": "low", "lift F1": "high"}


@settings_class
class HandwritingSynthesizer(Job):
    """Learn handwriting, or other drawings of a pen; tell how likely a drawing is, go on with one, write a text.

    Data: a ``.npz`` of strokes in parts, a table of points, SVG files, or lists; see
    :func:`lstmkit.data.ink.strokes.read_strokes`. Where the drawings have texts, the model learns to write texts.

    >>> zigzag = [[1, 1, 0], [1, -1, 0], [1, 1, 0], [1, -1, 1]] * 2
    >>> writer = HandwritingSynthesizer(hidden_size=16, num_layers=1, mixtures=2, epochs=30, lr=0.03, batch_size=8)
    >>> writer = writer.fit([zigzag] * 20)
    >>> one, other = writer.handwrite(2, bias=2, seed=1)
    >>> one.strokes.shape[1], one.svg()[:4]
    (3, '<svg')
    """

    name: ClassVar[str] = "handwriting_synthesizer"
    summary: ClassVar[str] = "Learn handwriting, as strokes of a pen; score it, go on with it, write texts by hand."

    mixtures: int = setting("Gaussians that tell where the pen goes next", default=20, low=1, high=500)
    window_mixtures: int = setting(
        "Gaussians that tell which characters are being written", default=10, low=1, high=500
    )
    longest: int = setting(
        "points of a drawing that are trained on at once, through which gradients flow back; 0 for whole drawings; "
        "those with texts always are whole",
        default=400,
        low=0,
    )
    hidden_size: int = setting("units in a layer", default=200, low=1)
    num_layers: int = setting("recurrent layers; with texts the first of them moves the window", default=2, low=1)
    batch_size: int = setting("drawings in a step", default=32, low=1)
    lr: float = setting("peak learning rate", default=3e-3, low=0)
    weight_decay: float = setting("weight decay", default=1e-4, low=0)
    valid_share: float = setting("share of the drawings to validate on", default=0.1, low=0, high=0.5)
    test_share: float = setting("share held out for the test", default=0.1, low=0, high=0.5)

    _scale: float = field(default=1.0, init=False, repr=False)  # the offsets' deviation in the training part
    _floor: float = field(default=1.0, init=False, repr=False)  # the smallest deviation told, in the data's unit
    _characters: str | None = field(default=None, init=False, repr=False)  # None where drawings have no texts
    _pace: float = field(default=1.0, init=False, repr=False)  # points a character, or a drawing without texts
    _longest: int = field(default=1, init=False, repr=False)  # points of the training part's longest drawing
    _plain: Plain | None = field(default=None, init=False, repr=False)

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> InkSet:
        return read_strokes(data)

    def split(self, examples: InkSet, validation: InkSet | None) -> DataSplit:
        """As the data have it, else at random by the seed."""
        if examples.parts is not None:
            train = examples.given("train")
            if train is None:
                raise DataError(f"{examples.name} has no drawing to train on: none stands under train")
            held_out = examples.given("valid") if validation is None else validation
            return DataSplit(train, held_out, examples.given("test"))
        return random_split(examples, validation, "drawing", self.valid_share, self.test_share, self.seed)

    def prepare(self, train: InkSet) -> None:
        """The offsets' scale, the characters, how long drawings are; and the baselines, all by the training part."""
        drawings = [ink.points for ink in train.inks]
        offsets = np.concatenate(drawings)[:, :2].astype(np.float64)
        self._scale = float(offsets.std())
        if not _SCALE_RANGE[0] <= self._scale:
            raise DataError(f"{train.name}: all offsets of the training part are the same: nothing was drawn")
        whole = bool((offsets == np.round(offsets)).all())
        self._floor = min(_ROUNDING_STD, self._scale) if whole else _MIN_RELATIVE_STD * self._scale
        self._characters = "".join(sorted({c for ink in train.inks for c in ink.text})) if train.has_texts else None
        self._longest = max(map(len, drawings))
        counts = [len(ink.text) for ink in train.inks] if self._characters is not None else [1] * len(train)
        self._pace = len(offsets) / sum(counts)
        self._plain = fit_handwriting_baselines(drawings, self._floor, self.seed)

    def source(self, examples: InkSet) -> InkSet:
        if self._characters is not None and not examples.has_texts:
            raise DataError(f"{examples.name} has no texts, the model was fitted to drawings with texts: give them too")
        return examples

    def batches(self, source: InkSet, seed: int | None) -> Batches:
        if seed is None:
            return Loader(self._numbers(source), 4 * self.batch_size)
        window = self.longest if self._characters is None else 0
        return Loader(self._numbers(source, window), self.batch_size, seed, self.steps_per_epoch)

    def _numbers(self, examples: InkSet, window: int = 0) -> InkDataset:
        return InkDataset(examples, self._scale, window, self._characters)

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        floor = self._floor / self._scale

        def trunk(width: int, layers: int) -> Any:
            return build_trunk(
                self.cell, width, self.hidden_size, num_layers=layers, dropout=self.dropout, variational=True,
                residual=True,
            )  # fmt: skip

        if self._characters is None:
            head = MixtureDensityHead(self.hidden_size, self.mixtures, floor, True, self.dropout)
            return SequenceModel(nn.Identity(), trunk(3, self.num_layers), head)
        read = 3 + len(self._characters)
        window = SoftWindow(self.hidden_size, self.window_mixtures, 1 / self._pace)
        upper = trunk(read + self.hidden_size, self.num_layers - 1) if self.num_layers > 1 else None
        width = self.hidden_size * (1 if upper is None else 2)
        head = MixtureDensityHead(width, self.mixtures, floor, False, self.dropout)
        return SoftWindowModel(len(self._characters), trunk(read, 1), window, upper, head)

    def calibrate(self, valid: InkSet | None) -> None:
        """Nothing: densities are the network's own."""

    # ---- writing -------------------------------------------------------------------------------------------------

    def handwrite(
        self,
        what: int | str | Sequence[str] = 1,
        *,
        bias: float = 0.0,
        seed: int = 0,
        prime: Any = None,
        first: int = -1,
        length: int = 0,
    ) -> list[Handwriting]:
        """Write texts, or so many drawings.

        Args:
            what: Texts, if the model was fitted to drawings with texts; else how many to draw.
            bias: Towards what is most likely: 0 for as it is, above 1 for neat and all alike.
            seed: Of the drawing; the second text has the next one.
            prime: A drawing to go on from, whose hand is taken up: a path, a list of one, or an :class:`Ink`; of
                several the first. With texts it must have one, and what is to be written comes after it.
            first: Without texts: how many of its points; -1 for all.
            length: Points to write at most (a drawing has two at least); 0 for as many as the training part's longest
                drawing has, and of texts twice as many as are usual.

        Raises:
            DataError: A character that the training part does not have, a blank text, or no such drawing.
            SettingError: A number out of its range.
        """
        self.model  # noqa: B018  (says so if there is none)
        wish = Wish(bias, seed, length, first)
        wish.check()
        begun = None if prime is None else self.read(prime).inks[0]
        if self._characters is None:
            return self._written(self._drawings(what, begun, wish), wish)
        if first >= 0:
            raise SettingError("first is for models without texts: a drawing with a text is taken as a whole")
        if isinstance(what, int):
            raise DataError("this model writes texts: give some, not how many")
        texts = [what] if isinstance(what, str) else list(what)
        return self._written([self._text_task(text, begun, wish) for text in texts], wish)

    def predict(
        self,
        data: Any,
        *,
        bias: float = 0.0,
        seed: int = 0,
        prime: Any = None,
        first: int = -1,
        length: int = 0,
    ) -> list[Handwriting]:
        """Write; see :meth:`handwrite`.

        Args:
            data: With texts: a file of them, a line each, a list, or drawings, whose texts are written anew. Without:
                how many to draw, or drawings to go on from.
            bias, seed, prime, first, length: As of :meth:`handwrite`.
        """
        self.model  # noqa: B018
        if self._characters is not None:
            texts = _texts(data)
            found = [ink.text for ink in self.source(self.read(data)).inks] if texts is None else texts
            return self.handwrite(found, bias=bias, seed=seed, prime=prime, first=first, length=length)
        if isinstance(data, int) or (isinstance(data, str) and data.isdecimal()):
            return self.handwrite(int(data), bias=bias, seed=seed, prime=prime, first=first, length=length)
        if prime is not None:
            raise SettingError("prime is the drawing to go on from: give it as the data, or as data how many to draw")
        wish = Wish(bias, seed, length, first)
        wish.check()
        if _texts(data) is not None:
            raise DataError("this model was fitted to drawings without texts: give a number of drawings, or drawings")
        return self._written([self._continue_task(ink, wish) for ink in self.read(data).inks], wish)

    def _written(self, tasks: list[Task], wish: Wish) -> list[Handwriting]:
        if not 1 <= len(tasks) <= _MAX_TEXTS:
            raise DataError(f"1 to {_MAX_TEXTS:,} are written at once, got {len(tasks):,}")
        return write(self.model, tasks, wish, self._scale, self._characters, self._device())

    def _drawings(self, what: Any, begun: Ink | None, wish: Wish) -> list[Task]:
        if not isinstance(what, int):
            raise DataError("this model was fitted to drawings without texts: give how many to draw")
        if not 1 <= what <= _MAX_TEXTS:
            raise DataError(f"1 to {_MAX_TEXTS:,} are written at once, got {what:,}")
        if begun is not None:
            return [self._continue_task(begun, wish)] * what
        nothing = np.zeros((0, 3), dtype=np.float32)
        return [Task("", nothing, wish.length or self._longest, f"drawing {i}") for i in range(1, what + 1)]

    def _continue_task(self, ink: Ink, wish: Wish) -> Task:
        given = ink.points if wish.first < 0 else ink.points[: wish.first]
        return Task("", given, wish.length or self._longest, ink.name)

    def _text_task(self, text: str, begun: Ink | None, wish: Wish) -> Task:
        assert self._characters is not None
        text = " ".join(text.split())
        if not text or len(text) > MAX_TEXT_LENGTH:
            raise DataError(f"a text to write has {len(text):,} characters: 1 to {MAX_TEXT_LENGTH:,} are written")
        if begun is not None and not begun.text:
            raise DataError(f"{begun.name} has no text: to go on from a drawing, the model must know what it says")
        space = " " if " " in self._characters else ""
        whole = text if begun is None else f"{begun.text}{space}{text}"
        unknown = sorted(set(whole) - set(self._characters))
        if unknown:
            raise DataError(
                f"the training part has no {listing(map(repr, unknown))}, so that nobody knows how it is written: "
                f"leave it out of {text[:40]!r} (known: {self._characters})"
            )
        given = np.zeros((0, 3), dtype=np.float32) if begun is None else begun.points
        longest = wish.length or min(MAX_POINTS, math.ceil(_MAX_LENGTH_RATIO * self._pace * (len(text) + 1)))
        return Task(whole, given, longest, text)

    def text(self, answer: list[Handwriting]) -> str:
        """A line a point: ``id, x, y, pen, text``."""
        return table_of(answer)

    def write(self, answer: list[Handwriting], path: Path) -> None:
        """An SVG page (``.svg``), arrays (``.npz``), or a table of points."""
        write_file(answer, path)

    def records(self, answer: list[Handwriting]) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "text": one.text,
                "strokes": one.strokes.tolist(),
                "given": one.given,
                "ended": one.ended,
                "nats": list(one.nats),
            }
            for one in answer
        ]

    def picture(self, data: Any, answer: list[Handwriting]) -> Figure:
        """Of texts the first, with the window's path over it; else all drawings."""
        first = answer[0]
        if first.window is not None:
            return soft_window_figure(first.strokes, first.window, first.text, first.text)
        return ink_figure([one.strokes for one in answer], [""] * len(answer), [one.given for one in answer])

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Negative log-likelihood per point, beside plain densities; of data in parts the test part."""
        self.model  # noqa: B018
        read = self.read(data)
        return self.score(self.source(read.given("test") or read), progress or default_progress())

    def score(self, test: InkSet, progress: Progress) -> Evaluation:
        assert self._plain is not None
        told = score_drawings(self.model, self._numbers(self.source(test)), self._scale, self._device(), progress)
        drawings = [ink.points.astype(np.float64) for ink in test.inks]
        rows = {
            f"{self.cell.upper()}, {self.mixtures} Gaussians": [(nats[:, :2], chance) for nats, chance in told],
            "autoregression of 2 points": [self._plain.autoregression(one) for one in drawings],
            "mixture without memory": [self._plain.mixture(one) for one in drawings],
            "one Gaussian": [self._plain.single_gaussian(one) for one in drawings],
        }
        lengths = [len(one) for one in drawings]
        points = np.concatenate(drawings)
        details = pd.DataFrame(
            {
                "drawing": np.repeat([ink.name for ink in test.inks], lengths),
                "point": np.concatenate([np.arange(n) for n in lengths]),
                **dict(zip(("right", "down", "lifted"), points.T, strict=True)),
                **{name: np.concatenate([nats.sum(1) for nats, _ in each]) for name, each in rows.items()},
            }
        )
        table = []
        for name, each in rows.items():
            pen = float(np.concatenate([nats[:, 1] for nats, _ in each]).mean())
            foreseen = np.concatenate([chance for _, chance in each]) > 0.5
            scores = (details[name].mean(), pen, lift_f1(foreseen, points[:, 2] > 0))
            table.append({"model": name, **dict(zip(_BEST, scores, strict=True))})
        return Evaluation(pd.DataFrame(table), dict(_BEST), details, self._notes(test, told))

    def _notes(self, test: InkSet, told: list[tuple[np.ndarray, np.ndarray]]) -> tuple[str, ...]:
        unit = (
            f"{test.points:,} points of {len(test):,} drawings. Nats of a point's offset, a density per square unit of "
            f"the data, and of its pen. The model tells offsets divided by {self._scale:.4g}, which adds 2 ln "
            f"{self._scale:.4g} = {2 * math.log(self._scale):.3f} nats a point; no model tells a deviation below "
            f"{self._floor:.3g} units.",
        )
        if self._characters is None:
            ends = np.mean([nats[:, 2].sum() for nats, _ in told])
            return (*unit, f"Where a drawing ends is told as well, {ends:.3f} nats a drawing; it is not counted above.")
        unknown = sum(c not in self._characters for ink in test.inks for c in ink.text)
        return (*unit, f"{unknown:,} characters that training had none of were read as nothing.") if unknown else unit

    def sections(self, examples: InkSet) -> list[Section]:
        return report.sections(self, examples)

    def example_sequences(self, data: Any, drawing: int = 1) -> list[ExampleSequence]:
        """Drawings, that of number ``drawing`` (from 1) first."""
        self.model  # noqa: B018
        read = self.source(self.read(data))
        return [self._specimen(read.inks[row]) for row in looked_at(drawing, read, "drawing")]

    def _specimen(self, ink: Ink) -> ExampleSequence:
        device = next(self.network.parameters()).device
        before = shift_right(ink.points)
        inputs: Any = torch.from_numpy(scaled(before, self._scale)).unsqueeze(0).to(device)
        if isinstance(self.network, SoftWindowModel) and self._characters is not None:
            text = torch.from_numpy(numbered(ink.text, self._characters)).unsqueeze(0).to(device)
            inputs = (inputs, self.network.begin(text))
        head = head_of(self.network)
        return ExampleSequence(
            inputs,
            name=ink.name,
            annotations={
                "pen lifted before": before[:, 2].astype(bool),
                "to the right": before[:, 0].astype(float),
                "down": before[:, 1].astype(float),
            },
            answers={"logit of lifting the pen at the last point": lambda output: head.mixture(output[0, -1]).pen},
        )

    @property
    def pace(self) -> float:
        """Points a character in the training part; without texts a drawing's."""
        return self._pace

    @property
    def units(self) -> tuple[float, float]:
        """What offsets are divided by, and the smallest deviation that is told, in the data's unit."""
        return self._scale, self._floor

    @property
    def characters(self) -> str | None:
        """Those of the training part's texts; ``None`` where it has none."""
        return self._characters

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        assert self._plain is not None
        return {
            "scale": self._scale,
            "floor": self._floor,
            "characters": self._characters,
            "pace": self._pace,
            "longest": self._longest,
            "baselines": self._plain.text(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._scale, self._floor, self._pace = (float(state[name]) for name in ("scale", "floor", "pace"))
        self._characters, self._longest = state["characters"], state["longest"]
        if (
            not 0 < self._floor <= self._scale <= _SCALE_RANGE[1]
            or self._scale < _SCALE_RANGE[0]
            or not 1e-3 <= self._pace <= MAX_POINTS
        ):
            raise ValueError("its scale, floor or pace are no numbers of drawings")
        if not isinstance(self._longest, int) or not 1 <= self._longest <= MAX_POINTS:
            raise ValueError("its longest drawing has no number of points")
        if self._characters is not None and len(set(self._characters)) != len(str(self._characters)):
            raise ValueError("its characters are not each another")
        self._plain = baselines_from_text(state["baselines"])


def lift_f1(foreseen: np.ndarray, lifted: np.ndarray) -> float:
    """F1 of the points after which the pen is lifted, 0 where none was foreseen: ``(T,)`` bool each.

    >>> lift_f1(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    found = int((foreseen & lifted).sum())
    return 2 * found / max(1, int(foreseen.sum()) + int(lifted.sum()))


def _texts(data: Any) -> list[str] | None:
    """Texts to write, if that is what is given: a ``.txt`` file, or a list; ``None`` for anything else."""
    if isinstance(data, (str, Path)):
        plain = Path(data).suffix.lower() == ".txt"
        return [line for line in read_text(data) if line.strip()] if plain else None
    if isinstance(data, (list, tuple)) and data and all(isinstance(one, str) for one in data):
        return list(data)
    return None
