"""Moving MNIST digits with boxes and identities: opaque digits that cross, bounce and hide each other."""

from __future__ import annotations

import numpy as np

from lstmkit.data.vision.boxed_clips import Boxes
from lstmkit.data.vision.video_io import VideoClip
from lstmkit.recipes._moving_mnist import NAMES, Digits

SIDE, FRAMES, RATE = 80, 40, 10.0  #: Height and width in pixels, frames per clip, frames per second.
_INK = 40  # level from which a pixel counts as ink
_MARGIN = 1  # pixels of opaque black around the ink
_SPEEDS = (1.0, 3.5)  # pixels per frame
_MIN_VISIBLE = 0.25  # of the ink: a digit with less is hidden, and has no box


def moving_digits(known: Digits, count: int, seed: int) -> list[tuple[VideoClip, Boxes]]:
    """``count`` clips of two to four digits each, with a box for each digit that is not hidden.

    Each digit is an opaque tile with its own depth, so that a nearer one hides those behind it. Tiles move at constant
    speed and bounce at the border.
    """
    rng = np.random.default_rng(seed)
    return [_clip(known, f"clip {number}", rng) for number in range(1, count + 1)]


def _clip(known: Digits, name: str, rng: np.random.Generator) -> tuple[VideoClip, Boxes]:
    picked = rng.integers(len(known.pictures), size=int(rng.integers(2, 5)))
    tiles = [_tile(known.pictures[k]) for k in picked]
    paths = [_bouncing(tile.shape, rng) for tile in tiles]
    frames = np.zeros((FRAMES, SIDE, SIDE, 1), dtype=np.uint8)
    rows = []
    for t in range(FRAMES):
        owner = np.full((SIDE, SIDE), -1)
        for k, (tile, path) in enumerate(zip(tiles, paths, strict=True)):  # the last one is the nearest
            y, x = path[t]
            place = (slice(y, y + tile.shape[0]), slice(x, x + tile.shape[1]))
            frames[t][place] = tile[..., None]
            owner[place] = k
        for k, (tile, path) in enumerate(zip(tiles, paths, strict=True)):
            y, x = path[t]
            ink = tile >= _INK
            visible = owner[y : y + tile.shape[0], x : x + tile.shape[1]] == k
            if (ink & visible).sum() >= _MIN_VISIBLE * ink.sum():
                width, height = tile.shape[1] - 2 * _MARGIN, tile.shape[0] - 2 * _MARGIN
                rows.append((t, NAMES[known.labels[picked[k]]], x + _MARGIN, y + _MARGIN, width, height, k + 1))
    return VideoClip(name, frames, np.arange(FRAMES) / RATE, RATE), Boxes.of_rows(rows)


def _tile(picture: np.ndarray) -> np.ndarray:
    """The part of an image with ink, and a margin."""
    rows, columns = (np.flatnonzero((picture >= _INK).any(axis)) for axis in (1, 0))
    return np.pad(picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], _MARGIN)


def _bouncing(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Top and left of a tile in each frame, ``(T, 2)``."""
    room = np.array([SIDE - shape[0], SIDE - shape[1]], dtype=float)
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*_SPEEDS)
    path = rng.uniform(0, room) + np.arange(FRAMES)[:, None] * speed * np.array([np.sin(angle), np.cos(angle)])
    folded = np.abs((path + room) % (2 * room) - room)  # reflected at 0 and at the end of the room
    return folded.round().astype(int)
