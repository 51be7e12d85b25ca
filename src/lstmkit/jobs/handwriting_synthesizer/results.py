"""Generated handwriting, as SVG, points or arrays; and scores of drawings by point."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lstmkit.data.ink.points import Ink, offsets_to_strokes
from lstmkit.data.ink.svg import render_svg

PRIME_COLOR = "#999999"  # in SVG files
FILE_SUFFIXES = (".svg", ".npz")  #: Of :func:`write_file`.


class PointScores(NamedTuple):
    """How well a model predicts the points of one drawing.

    Attributes:
        nll: ``(T, 2)`` negative log-likelihood in nats of the offset and the pen; a third column, of the drawing's end,
            if the model predicts it.
        pen_up: ``(T,)`` probability that the pen is lifted after the point.
    """

    nll: np.ndarray
    pen_up: np.ndarray


@dataclass(frozen=True, eq=False)
class Handwriting:
    """A generated drawing.

    Attributes:
        text: What is written, the text of the prime included; ``""`` without a text.
        strokes: ``(T, 3)``: offset from the point before, to the right and down, and whether the pen is lifted after.
        num_prime_points: Number of points of the prime; they come first.
        window: ``(T, U)`` attention weight of each character at each point; ``None`` without a text.
        nll_per_point: Negative log-likelihood in nats of each generated point, in the data's unit.
        ended: Whether the model ended the drawing; false if it was cut off at the maximum number of points.
        name: Title of the drawing in pictures.
    """

    text: str
    strokes: np.ndarray
    num_prime_points: int
    window: np.ndarray | None
    nll_per_point: tuple[float, ...]
    ended: bool
    name: str

    @property
    def ink(self) -> Ink:
        """The drawing as data: a prime, or an example to score."""
        return Ink(self.strokes, self.name, self.text)

    def svg(self) -> str:
        """The drawing as an SVG page."""
        return to_svg([self])


def to_svg(drawings: Sequence[Handwriting]) -> str:
    """All drawings on one SVG page, one below the other; primes are gray."""
    lines = [
        [
            (line, PRIME_COLOR if end <= drawing.num_prime_points else "")
            for line, end in zip(offsets_to_strokes(drawing.strokes), _stroke_ends(drawing), strict=True)
        ]
        for drawing in drawings
    ]
    return render_svg(lines, [drawing.text or drawing.name for drawing in drawings])


def to_csv(drawings: Sequence[Handwriting]) -> str:
    """One row per point: ``id, x, y, pen, text``; :func:`lstmkit.data.ink.strokes.read_strokes` reads it."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["id", "x", "y", "pen", "text"])
    for number, drawing in enumerate(drawings, 1):
        x, y = np.cumsum(drawing.strokes[:, :2].astype(np.float64), axis=0).T
        if drawing.strokes[0, :2].any():
            rows.writerow([number, 0, 0, 0, drawing.text])
        points = zip(x.tolist(), y.tolist(), drawing.strokes[:, 2].astype(int), strict=True)
        rows.writerows([number, a, b, pen, drawing.text] for a, b, pen in points)
    return out.getvalue().rstrip("\n")


def write_file(drawings: Sequence[Handwriting], path: Path) -> None:
    """Write an SVG page (``.svg``) or arrays (``.npz``)."""
    if path.suffix.lower() == ".npz":
        offsets = np.cumsum([0, *(len(drawing.strokes) for drawing in drawings)]).astype(np.int32)
        strokes = np.concatenate([drawing.strokes for drawing in drawings])
        with path.open("wb") as file:
            np.savez_compressed(
                file, strokes=strokes, offsets=offsets, texts=np.array([drawing.text for drawing in drawings])
            )
    else:
        path.write_text(to_svg(drawings) + "\n", encoding="utf-8")


def _stroke_ends(drawing: Handwriting) -> list[int]:
    """Number of points up to the end of each stroke."""
    return [*(np.flatnonzero(drawing.strokes[:-1, 2] > 0) + 1).tolist(), len(drawing.strokes)]
