"""What to write by hand: options, checks, and the tasks that a model writes point by point."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lstmkit.data.ink.points import MAX_POINTS, MAX_TEXT_LENGTH, Ink
from lstmkit.errors import DataError, SettingError, listing

MAX_BIAS = 20.0
MIN_POINTS = 2  #: Points of a drawing.
_MAX_DRAWINGS = 1000  # generated in one call
_MAX_LENGTH_RATIO = 2.0  # maximum length of a generated text, in mean lengths of such a text


class GenerationOptions(NamedTuple):
    """How to generate; see :meth:`lstmkit.HandwritingSynthesizer.generate`."""

    bias: float = 0.0
    seed: int = 0
    max_new_points: int = 0
    prime_points: int = -1

    def check(self) -> None:
        """Raise SettingError if a value is out of range."""
        if not 0 <= self.bias <= MAX_BIAS or not 0 <= self.seed < 2**32:
            raise SettingError(f"bias must be within 0…{MAX_BIAS:g}, seed within 0…2³²; got {self.bias:g}, {self.seed}")
        if not 0 <= self.max_new_points <= MAX_POINTS or self.prime_points < -1:
            raise SettingError(
                f"max_new_points must be 1 to {MAX_POINTS:,} (or 0 for the model's own limit), prime_points at least 0 "
                f"(or -1 for all); got {self.max_new_points}, {self.prime_points}"
            )


class HandwritingTask(NamedTuple):
    """One drawing to generate.

    Attributes:
        text: What to write, the prime's text included; ``""`` without a text.
        prime: ``(T, 3)`` points to continue from, in the data's unit.
        max_points: Maximum number of new points.
        name: Name of the drawing.
    """

    text: str
    prime: np.ndarray
    max_points: int
    name: str


def check_count(count: int) -> None:
    """Raise DataError unless so many drawings can be generated at once."""
    if not 1 <= count <= _MAX_DRAWINGS:
        raise DataError(f"1 to {_MAX_DRAWINGS:,} drawings can be generated at once, got {count:,}")


def check_drawings_to_continue(has_prime: bool, has_texts: bool) -> None:
    """Check data of a model without texts that are not a number of drawings.

    Args:
        has_prime: Whether there is a prime beside the data.
        has_texts: Whether the data are texts.

    Raises:
        SettingError: There is a prime.
        DataError: The data are texts.
    """
    if has_prime:
        raise SettingError("prime goes with a number of drawings: give drawings to continue as the data instead")
    if has_texts:
        raise DataError("this model was trained without texts: give a number of drawings, or drawings to continue")


def drawing_tasks(count: int, options: GenerationOptions, max_training_points: int) -> list[HandwritingTask]:
    """Tasks of drawings without texts; ``max_training_points`` is the length of the longest training drawing."""
    empty, max_points = np.zeros((0, 3), dtype=np.float32), options.max_new_points or max_training_points
    return [HandwritingTask("", empty, max_points, f"drawing {i}") for i in range(1, count + 1)]


def continuation_task(ink: Ink, options: GenerationOptions, max_training_points: int) -> HandwritingTask:
    """The task to continue a drawing without a text."""
    stop = None if options.prime_points < 0 else options.prime_points
    return HandwritingTask("", ink.points[:stop], options.max_new_points or max_training_points, ink.name)


def text_task(
    text: str, prime: Ink | None, options: GenerationOptions, characters: str, points_per_character: float
) -> HandwritingTask:
    """The task to write a text.

    Args:
        text: The text.
        prime: A drawing to continue, with its text; ``None`` for none.
        options: How to generate.
        characters: The known characters.
        points_per_character: Mean points per character in the training split.

    Raises:
        DataError: The text is empty or too long, has an unknown character, or the prime has no text.
        SettingError: ``prime_points`` is given.

    >>> text_task(" ab ", None, GenerationOptions(), "ab", 10.0).max_points
    60
    """
    if options.prime_points >= 0:
        raise SettingError("prime_points is for models without texts: a prime with a text is read as a whole")
    text = " ".join(text.split())
    if not text or len(text) > MAX_TEXT_LENGTH:
        raise DataError(f"a text to write must have 1 to {MAX_TEXT_LENGTH:,} characters, got {len(text):,}")
    if prime is not None and not prime.text:
        raise DataError(f"the prime {prime.name} has no text: give the text that it shows")
    space = " " if " " in characters else ""
    whole = text if prime is None else f"{prime.text}{space}{text}"
    unknown = sorted(set(whole) - set(characters))
    if unknown:
        raise DataError(
            f"{text[:40]!r} has characters that the training split lacks, {listing(map(repr, unknown))}: "
            f"remove them (known characters: {characters})"
        )
    points = np.zeros((0, 3), dtype=np.float32) if prime is None else prime.points
    usual = _MAX_LENGTH_RATIO * points_per_character * (len(text) + 1)
    return HandwritingTask(whole, points, options.max_new_points or min(MAX_POINTS, math.ceil(usual)), text)
