"""Clips of MNIST's digits that move, made by a seed and written once as MP4 files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmkit.data import catalog
from lstmkit.data.vision.idx import read_idx_file
from lstmkit.data.vision.image_io import library
from lstmkit.data.vision.video_io import write_video

SIDE, FRAMES, RATE = 64, 20, 10.0  #: Dots of a side, frames, frames a second.
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
MOTIONS = (*DIRECTIONS, "clockwise", "counterclockwise", "grows", "shrinks", "turns", "still")
_BOX = 28  # dots of a side of MNIST's pictures
_INK = 20  # of these in the middle that have ink
_MIN_DISTANCE = 14.0  # dots between two digits when they start, across or down
_DISTANCE_RANGE = (14.0, 28.0)  # dots that a digit goes


class Pose(NamedTuple):
    """Where a digit is: its middle in dots, its size in that of its picture, its angle in degrees."""

    x: float
    y: float
    size: float = 1.0
    angle: float = 0.0


class Digits(NamedTuple):
    """Pictures ``(N, 28, 28)`` uint8 and which digit each is, ``(N,)``."""

    pictures: np.ndarray
    labels: np.ndarray

    def part(self, rows: slice) -> Digits:
        """Some of them."""
        return Digits(self.pictures[rows], self.labels[rows])


def digits(folder: Path, options: dict[str, Any], part: str) -> Digits:
    """A part of MNIST as it is given, ``"train"`` or ``"test"``."""
    files = (catalog.locate(folder.name, options[f"{part}_{of}"]) for of in ("images", "labels"))
    return Digits(*map(read_idx_file, files))


def moving(motion: str, rng: np.random.Generator) -> list[Pose]:
    """One digit's way through a clip of its own: where it starts, how far and how fast is drawn."""
    t = np.linspace(0, 1, FRAMES)
    margin = _INK / 2 + 1
    if motion in DIRECTIONS:
        return straight(motion, rng.uniform(*_DISTANCE_RANGE), start_of(motion, _DISTANCE_RANGE[1], margin, rng))
    x, y = rng.uniform(margin + 8, SIDE - margin - 8, 2)
    if motion in ("clockwise", "counterclockwise"):
        sign, begin = (1 if motion == "clockwise" else -1), rng.uniform(0, 2 * math.pi)
        angles = begin + sign * t * math.radians(rng.uniform(270, 400))  # y grows downwards: clockwise is positive
        radius, middle = rng.uniform(9, 18), rng.uniform(SIDE / 2 - 3, SIDE / 2 + 3, 2)
        return [Pose(middle[0] + radius * math.cos(a), middle[1] + radius * math.sin(a)) for a in angles]
    if motion in ("grows", "shrinks"):
        small, large = rng.uniform(0.5, 0.8), rng.uniform(1.15, 1.6)
        begin, end = (small, large) if motion == "grows" else (large, small)
        return [Pose(x, y, size=begin + (end - begin) * s) for s in t]
    through = rng.choice((-1, 1)) * rng.uniform(90, 200) if motion == "turns" else 0.0
    return [Pose(x, y, angle=through * s) for s in t]


def start_of(motion: str, travel: float, margin: float, rng: np.random.Generator) -> tuple[float, float]:
    """Where a digit may start to go a way without leaving the frame."""
    right, down = DIRECTIONS[motion]
    spans = [(margin + travel * max(0, -go), SIDE - margin - travel * max(0, go)) for go in (right, down)]
    x, y = (rng.uniform(*span) for span in spans)
    return x, y


def straight(motion: str, travel: float, start: tuple[float, float]) -> list[Pose]:
    """A way that goes as far as ``travel`` dots, evenly."""
    right, down = DIRECTIONS[motion]
    return [Pose(start[0] + right * travel * s, start[1] + down * travel * s) for s in np.linspace(0, 1, FRAMES)]


def two_trajectories(motions: tuple[str, str], rng: np.random.Generator) -> list[list[Pose]]:
    """Two digits' ways, that of the one that starts farther left first; apart from one another when they start."""
    margin = _INK / 2 + 1
    while True:
        travels = rng.uniform(_DISTANCE_RANGE[0], 24.0, 2)
        starts = [start_of(motion, travel, margin, rng) for motion, travel in zip(motions, travels, strict=True)]
        across, down = starts[1][0] - starts[0][0], abs(starts[1][1] - starts[0][1])
        if across > 6 and max(across, down) > _MIN_DISTANCE + 4:
            return [straight(*one) for one in zip(motions, travels, starts, strict=True)]


def drawn(pictures: Sequence[np.ndarray], ways: Sequence[Sequence[Pose]]) -> np.ndarray:
    """``(T, 64, 64)`` uint8: each picture ``(28, 28)`` on its way, the brighter dot where two meet."""
    pillow = library("PIL.Image")
    frames = np.zeros((FRAMES, SIDE, SIDE), dtype=np.uint8)
    for picture, way in zip(pictures, ways, strict=True):
        image = pillow.fromarray(picture)
        for frame, pose in zip(frames, way, strict=True):
            cos, sin = (of(math.radians(pose.angle)) / pose.size for of in (math.cos, math.sin))
            back = (cos, sin, _BOX / 2 - cos * pose.x - sin * pose.y, -sin, cos, _BOX / 2 + sin * pose.x - cos * pose.y)
            moved = image.transform((SIDE, SIDE), pillow.Transform.AFFINE, back, pillow.Resampling.BILINEAR)
            np.maximum(frame, np.asarray(moved), out=frame)
    return frames


def write_motions(known: Digits, count: int, folder: Path, seed: int) -> None:
    """``count`` clips of one digit each as ``motion/number.mp4``, every motion in turn."""
    rng = np.random.default_rng(seed)
    for motion in MOTIONS:
        (folder / motion).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        motion = MOTIONS[number % len(MOTIONS)]
        picture = known.pictures[rng.integers(len(known.pictures))]
        write_video(drawn([picture], [moving(motion, rng)]), folder / motion / f"{number}.mp4", RATE)


def is_held_out_combination(digit: int, direction: str) -> bool:
    """Whether a way is kept from training for a digit: one of four.

    >>> [digit for digit in range(10) if is_held_out_combination(digit, "up")]
    [2, 6]
    """
    return list(DIRECTIONS)[digit % len(DIRECTIONS)] == direction


def sentence(labels: Sequence[int], directions: Sequence[str]) -> str:
    """What digits do, that which starts farther left first.

    >>> sentence([3, 8], ["left", "up"])
    'a three goes left while an eight goes up'
    """
    names = [("an " if label == 8 else "a ") + NAMES[label] for label in labels]
    return " while ".join(f"{name} goes {way}" for name, way in zip(names, directions, strict=True))


def write_sentences(known: Digits, count: int, folder: Path, seed: int, *, new: bool = False, alone: float = 0) -> None:
    """``count`` clips of two digits each as ``number.mp4``, and ``captions.csv`` with a sentence for each.

    Args:
        known: Pictures to take them from.
        count: How many.
        folder: Where they come to lie.
        seed: Of them.
        new: Whether at least one of the two goes a way that :func:`is_held_out_combination` for it; else none does.
        alone: Share of clips that have one digit only, whose sentences are easier to learn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(seed), []
    while len(rows) < count:
        size = 1 if rng.random() < alone else 2
        picked = rng.integers(len(known.pictures), size=size)
        ways = [str(way) for way in rng.choice(list(DIRECTIONS), size)]
        labels = known.labels[picked].tolist()
        if any(map(is_held_out_combination, labels, ways)) != new:
            continue
        name = f"{len(rows)}.mp4"
        moves = [moving(ways[0], rng)] if size == 1 else two_trajectories((ways[0], ways[1]), rng)
        write_video(drawn(list(known.pictures[picked]), moves), folder / name, RATE)
        rows.append(f"{name},{sentence(labels, ways)}\n")
    (folder / "captions.csv").write_text("image,caption\n" + "".join(rows), encoding="utf-8")
