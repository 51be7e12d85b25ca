"""Moving MNIST: generated video clips of moving digits, written as MP4 files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmkit.data import catalog
from lstmkit.data.vision.idx import read_idx_file
from lstmkit.data.vision.image_io import import_pillow
from lstmkit.data.vision.video_io import write_video

SIDE, FRAMES, RATE = 64, 20, 10.0  #: Height and width in pixels, frames per clip, frames per second.
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
MOTIONS = (*DIRECTIONS, "clockwise", "counterclockwise", "grows", "shrinks", "turns", "still")
_BOX = 28  # height and width of an MNIST image in pixels
_INK = 20  # height and width of its central part that has ink
_MIN_DISTANCE = 14.0  # pixels between two digits at the start, horizontally or vertically
_DISTANCE_RANGE = (14.0, 28.0)  # pixels that a digit travels


class Pose(NamedTuple):
    """Pose of a digit: center in pixels, scale relative to the MNIST image, angle in degrees."""

    x: float
    y: float
    size: float = 1.0
    angle: float = 0.0


class Digits(NamedTuple):
    """Images ``(N, 28, 28)`` uint8 and labels ``(N,)``."""

    pictures: np.ndarray
    labels: np.ndarray

    def part(self, rows: slice) -> Digits:
        """A slice of the digits."""
        return Digits(self.pictures[rows], self.labels[rows])


def digits(folder: Path, options: dict[str, Any], part: str) -> Digits:
    """Read the ``"train"`` or ``"test"`` set of MNIST."""
    files = (catalog.locate(folder.name, options[f"{part}_{kind}"]) for kind in ("images", "labels"))
    return Digits(*map(read_idx_file, files))


def moving(motion: str, rng: np.random.Generator) -> list[Pose]:
    """A random trajectory of one digit with the given motion: one pose per frame."""
    t = np.linspace(0, 1, FRAMES)
    margin = _INK / 2 + 1
    if motion in DIRECTIONS:
        return straight(motion, rng.uniform(*_DISTANCE_RANGE), start_of(motion, _DISTANCE_RANGE[1], margin, rng))
    x, y = rng.uniform(margin + 8, SIDE - margin - 8, 2)
    if motion in ("clockwise", "counterclockwise"):
        sign, first_angle = (1 if motion == "clockwise" else -1), rng.uniform(0, 2 * math.pi)
        angles = first_angle + sign * t * math.radians(rng.uniform(270, 400))  # y points down: clockwise is positive
        radius, center = rng.uniform(9, 18), rng.uniform(SIDE / 2 - 3, SIDE / 2 + 3, 2)
        return [Pose(center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in angles]
    if motion in ("grows", "shrinks"):
        small, large = rng.uniform(0.5, 0.8), rng.uniform(1.15, 1.6)
        first, last = (small, large) if motion == "grows" else (large, small)
        return [Pose(x, y, size=first + (last - first) * s) for s in t]
    rotation = rng.choice((-1, 1)) * rng.uniform(90, 200) if motion == "turns" else 0.0
    return [Pose(x, y, angle=rotation * s) for s in t]


def start_of(motion: str, travel: float, margin: float, rng: np.random.Generator) -> tuple[float, float]:
    """A random start from which a digit can travel that far without leaving the frame."""
    right, down = DIRECTIONS[motion]
    ranges = [(margin + travel * max(0, -sign), SIDE - margin - travel * max(0, sign)) for sign in (right, down)]
    x, y = (rng.uniform(*bounds) for bounds in ranges)
    return x, y


def straight(motion: str, travel: float, start: tuple[float, float]) -> list[Pose]:
    """A straight trajectory over ``travel`` pixels at constant speed."""
    right, down = DIRECTIONS[motion]
    return [Pose(start[0] + right * travel * s, start[1] + down * travel * s) for s in np.linspace(0, 1, FRAMES)]


def two_trajectories(motions: tuple[str, str], rng: np.random.Generator) -> list[list[Pose]]:
    """Random trajectories of two digits, the left one first, which do not overlap at the start."""
    margin = _INK / 2 + 1
    while True:
        travels = rng.uniform(_DISTANCE_RANGE[0], 24.0, 2)
        starts = [start_of(motion, travel, margin, rng) for motion, travel in zip(motions, travels, strict=True)]
        across, down = starts[1][0] - starts[0][0], abs(starts[1][1] - starts[0][1])
        if across > 6 and max(across, down) > _MIN_DISTANCE + 4:
            return [straight(*arguments) for arguments in zip(motions, travels, starts, strict=True)]


def drawn(images: Sequence[np.ndarray], trajectories: Sequence[Sequence[Pose]]) -> np.ndarray:
    """Render images ``(28, 28)`` on their trajectories to ``(T, 64, 64)`` uint8; overlaps take the brighter pixel."""
    pillow = import_pillow("PIL.Image")
    frames = np.zeros((FRAMES, SIDE, SIDE), dtype=np.uint8)
    for pixels, trajectory in zip(images, trajectories, strict=True):
        image = pillow.fromarray(pixels)
        for frame, pose in zip(frames, trajectory, strict=True):
            cos, sin = (function(math.radians(pose.angle)) / pose.size for function in (math.cos, math.sin))
            x, y = _BOX / 2 - cos * pose.x - sin * pose.y, _BOX / 2 + sin * pose.x - cos * pose.y
            inverse = (cos, sin, x, -sin, cos, y)
            moved = image.transform((SIDE, SIDE), pillow.Transform.AFFINE, inverse, pillow.Resampling.BILINEAR)
            np.maximum(frame, np.asarray(moved), out=frame)
    return frames


def write_motions(known: Digits, count: int, folder: Path, seed: int) -> None:
    """Write ``count`` clips of one digit each as ``motion/number.mp4``, cycling through the motions."""
    rng = np.random.default_rng(seed)
    for motion in MOTIONS:
        (folder / motion).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        motion = MOTIONS[number % len(MOTIONS)]
        image = known.pictures[rng.integers(len(known.pictures))]
        write_video(drawn([image], [moving(motion, rng)]), folder / motion / f"{number}.mp4", RATE)


def is_held_out_combination(digit: int, direction: str) -> bool:
    """Whether a digit never moves in this direction in training; this holds for one of the four directions.

    >>> [digit for digit in range(10) if is_held_out_combination(digit, "up")]
    [2, 6]
    """
    return list(DIRECTIONS)[digit % len(DIRECTIONS)] == direction


def sentence(labels: Sequence[int], directions: Sequence[str]) -> str:
    """The caption of a clip, the left digit first.

    >>> sentence([3, 8], ["left", "up"])
    'a three goes left while an eight goes up'
    """
    names = [("an " if label == 8 else "a ") + NAMES[label] for label in labels]
    return " while ".join(f"{name} goes {direction}" for name, direction in zip(names, directions, strict=True))


def write_sentences(known: Digits, count: int, folder: Path, seed: int, *, new: bool = False, alone: float = 0) -> None:
    """Write ``count`` clips of two digits each as ``number.mp4``, and ``captions.csv`` with a caption for each.

    Args:
        known: Digits to use.
        count: Number of clips.
        folder: Output folder.
        seed: Random seed.
        new: Whether each clip has at least one held-out combination (:func:`is_held_out_combination`); else none does.
        alone: Fraction of clips with a single digit, whose captions are easier to learn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(seed), []
    while len(rows) < count:
        size = 1 if rng.random() < alone else 2
        picked = rng.integers(len(known.pictures), size=size)
        motions = [str(motion) for motion in rng.choice(list(DIRECTIONS), size)]
        labels = known.labels[picked].tolist()
        if any(map(is_held_out_combination, labels, motions)) != new:
            continue
        name = f"{len(rows)}.mp4"
        trajectories = [moving(motions[0], rng)] if size == 1 else two_trajectories((motions[0], motions[1]), rng)
        write_video(drawn(list(known.pictures[picked]), trajectories), folder / name, RATE)
        rows.append(f"{name},{sentence(labels, motions)}\n")
    (folder / "captions.csv").write_text("image,caption\n" + "".join(rows), encoding="utf-8")
