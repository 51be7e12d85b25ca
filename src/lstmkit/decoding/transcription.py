"""Transcriptions: a text with the position of each word and character."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from lstmkit.data.text.bidi import Reordered, from_display
from lstmkit.decoding.ctc import AlignedCharacter, LanguageModelScore, forced_align, greedy, prefix_beam_search
from lstmkit.errors import SettingError


class AlignedText(NamedTuple):
    """A word or a character with its position.

    Attributes:
        text: The word or character.
        start, end: Position in the transcription's unit.
        confidence: For a character the highest probability that the network gives it at its position; for a word the
            mean over its characters.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcription:
    """The text of one example, with positions.

    Attributes:
        name: The example's name.
        text: The transcribed text.
        unit: Unit of positions: ``"second"``, ``"pixel"`` from the left, ``"point"`` of the pen, or ``"step"``.
        words: Separated by spaces.
        characters: Each character, also spaces.
    """

    name: str
    text: str
    unit: str
    words: tuple[AlignedText, ...]
    characters: tuple[AlignedText, ...]

    @property
    def confidence(self) -> float | None:
        """Mean over the characters; ``None`` without characters. It is not the probability that the text is right."""
        return float(np.mean([character.confidence for character in self.characters])) if self.characters else None

    def shifted(self, by: float) -> Transcription:
        """The same with all positions increased by ``by``."""
        words, characters = (
            tuple(part._replace(start=part.start + by, end=part.end + by) for part in parts)
            for parts in (self.words, self.characters)
        )
        return Transcription(self.name, self.text, self.unit, words, characters)


class CTCDecoder(NamedTuple):
    """Decodes CTC outputs: greedily, or by beam search with an optional language model.

    Attributes:
        beam_size: Hypotheses that are kept; 1 takes the most probable character of each step.
        lm_score: Scores of a language model, if there is one.
        lm_weight, insertion_bonus: See :func:`prefix_beam_search`.
    """

    beam_size: int = 1
    lm_score: LanguageModelScore | None = None
    lm_weight: float = 0.0
    insertion_bonus: float = 0.0

    def check(self) -> None:
        """Raise SettingError if the options do not fit together."""
        if self.lm_score is not None and self.beam_size == 1:
            raise SettingError("a language model needs a beam search: give beam_size=8 or more, or no language model")
        if not 1 <= self.beam_size <= 1000 or self.lm_weight < 0:
            raise SettingError(
                f"beam_size must be 1 to 1,000 and lm_weight at least 0, got {self.beam_size}, {self.lm_weight:g}"
            )

    def __call__(self, log_p: np.ndarray) -> list[AlignedCharacter]:
        if self.beam_size == 1:
            return greedy(log_p)
        best, *_ = prefix_beam_search(log_p, *self)
        return forced_align(log_p, best.ids)

    def row_name(self, model: str) -> str:
        """The name of a model with this decoder in a table."""
        language = ", language model" if self.lm_score is not None else ""
        return f"{model}, beam {self.beam_size}{language}" if self.beam_size > 1 else model


def to_transcription(
    decoded: Sequence[AlignedCharacter],
    alphabet: str,
    name: str,
    unit: str,
    to_positions: Callable[[np.ndarray], np.ndarray],
    reading_order: str = "",
) -> Transcription:
    """Characters and words with positions; leading, trailing and repeated spaces are left out.

    Args:
        decoded: Characters with their positions in encoder steps; class 1 is the first of the alphabet.
        alphabet: The characters, in the order of their classes.
        name, unit: Of the transcription.
        to_positions: Converts encoder steps to positions.
        reading_order: Direction of the line in which the characters are displayed; empty if they are in logical order.
    """
    ends = [(character.start, character.end) for character in decoded]
    positions = np.sort(to_positions(np.array(ends, dtype=np.float64).reshape(-1)).reshape(-1, 2), axis=1).tolist()
    text = "".join(alphabet[character.id - 1] for character in decoded)
    logical = from_display(text, reading_order) if reading_order else Reordered(text, list(range(len(text))))
    characters: list[AlignedText] = []
    for character, source in zip(logical.text, logical.sources, strict=True):
        if character != " " or (characters and characters[-1].text != " "):
            start, end = positions[source]
            characters.append(AlignedText(character, start, end, decoded[source].p))
    if characters and characters[-1].text == " ":
        characters.pop()
    words = []
    for is_space, group in groupby(characters, lambda character: character.text == " "):
        if not is_space:
            letters = list(group)
            word = "".join(letter.text for letter in letters)
            confidence = float(np.mean([letter.confidence for letter in letters]))
            start, end = min(letter.start for letter in letters), max(letter.end for letter in letters)
            words.append(AlignedText(word, start, end, confidence))
    text = "".join(character.text for character in characters)
    return Transcription(name, text, unit, tuple(words), tuple(characters))


def join_transcriptions(segments: Sequence[Transcription], name: str, unit: str) -> Transcription:
    """Segments of a recording as one transcription, with spaces between segments."""
    words: tuple[AlignedText, ...] = ()
    characters: tuple[AlignedText, ...] = ()
    for segment in segments:
        if segment.characters and characters:
            characters += (AlignedText(" ", characters[-1].end, segment.characters[0].start, 1.0),)
        words, characters = words + segment.words, characters + segment.characters
    return Transcription(name, "".join(character.text for character in characters), unit, words, characters)


def to_record(transcription: Transcription) -> dict[str, Any]:
    """A transcription, ready for JSON."""
    return {
        "name": transcription.name,
        "text": transcription.text,
        "confidence": transcription.confidence,
        "unit": transcription.unit,
        "words": [word._asdict() for word in transcription.words],
        "characters": [character._asdict() for character in transcription.characters],
    }
