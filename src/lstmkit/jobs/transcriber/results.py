"""What was written down, and where each word and character was read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.decoding.ctc import LanguageModelScore, Written, forced_align, greedy, prefix_beam_search
from lstmkit.errors import SettingError
from lstmkit.models.base import Model
from lstmkit.progress import Progress
from lstmkit.training.predict import predict


class Piece(NamedTuple):
    """A word or a character.

    Attributes:
        text: Itself.
        start, end: Where it was read, in the transcription's unit.
        confidence: Of a character the highest probability that the network gives it where it was read; of a word the
            mean over its characters.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcription:
    """A text, and where it was read.

    Attributes:
        name: Of the example.
        text: What it says.
        unit: Of places: ``"second"``, ``"dot"`` of a picture from its left, ``"point"`` of the pen, or ``"step"``.
        words: What stands between spaces.
        characters: Each character, spaces too.
    """

    name: str
    text: str
    unit: str
    words: tuple[Piece, ...]
    characters: tuple[Piece, ...]

    @property
    def confidence(self) -> float | None:
        """The mean over the characters; ``None`` where there are none. It is no probability that the text is right."""
        return float(np.mean([one.confidence for one in self.characters])) if self.characters else None

    def moved(self, by: float) -> Transcription:
        """The same, so much later."""
        words, characters = (
            tuple(one._replace(start=one.start + by, end=one.end + by) for one in of)
            for of in (self.words, self.characters)
        )
        return Transcription(self.name, self.text, self.unit, words, characters)


class CTCDecoder(NamedTuple):
    """How texts are found.

    Attributes:
        beam: Beginnings that are held; 1 takes the most probable character of each step.
        score: Of a language model, if there is one.
        weight, bonus: As of :func:`prefix_beam_search`.
    """

    beam: int = 1
    score: LanguageModelScore | None = None
    weight: float = 0.0
    insertion_bonus: float = 0.0

    def check(self) -> None:
        """Raise a SettingError where the parts do not fit together."""
        if self.score is not None and self.beam == 1:
            raise SettingError("a language model ranks texts of a beam: give --beam 8 or more, or no --lm")
        if not 1 <= self.beam <= 1000 or self.weight < 0:
            raise SettingError(f"beam must be 1 to 1,000 and lm_weight at least 0, got {self.beam}, {self.weight:g}")

    def __call__(self, log_p: np.ndarray) -> list[Written]:
        if self.beam == 1:
            return greedy(log_p)
        best, *_ = prefix_beam_search(log_p, self.beam, self.score, self.weight, self.insertion_bonus)
        return forced_align(log_p, best.ids)

    def named(self, model: str) -> str:
        """What the table calls a model that is decoded so."""
        language = ", language model" if self.score is not None else ""
        return f"{model}, beam {self.beam}{language}" if self.beam > 1 else model


def transcribed(
    written: Sequence[Written], alphabet: str, name: str, unit: str, places: Callable[[np.ndarray], np.ndarray]
) -> Transcription:
    """Characters and words of what was written, spaces at the ends and second ones left out.

    Args:
        written: Where characters stand, in steps of the trunk; class 1 is the first of the alphabet.
        alphabet: All characters.
        name, unit: Of the transcription.
        places: Where such steps begin.
    """
    starts = places(np.array([one.start for one in written], dtype=np.float64))
    ends = places(np.array([one.end for one in written], dtype=np.float64))
    pieces: list[Piece] = []
    for one, start, end in zip(written, starts.tolist(), ends.tolist(), strict=True):
        character = alphabet[one.id - 1]
        if character != " " or (pieces and pieces[-1].text != " "):
            pieces.append(Piece(character, start, end, one.p))
    if pieces and pieces[-1].text == " ":
        pieces.pop()
    words = []
    for is_space, some in groupby(pieces, lambda piece: piece.text == " "):
        if not is_space:
            of = list(some)
            confidence = float(np.mean([piece.confidence for piece in of]))
            words.append(Piece("".join(piece.text for piece in of), of[0].start, of[-1].end, confidence))
    return Transcription(name, "".join(piece.text for piece in pieces), unit, tuple(words), tuple(pieces))


def transcribe_batches(
    model: Model,
    encoded: Sequence[np.ndarray],
    stride: int,
    decoding: CTCDecoder,
    *,
    at_once: int,
    device: torch.device,
    progress: Progress | None = None,
) -> list[list[Written]]:
    """Of each encoded example ``(T, F)`` what it says, in steps of the trunk.

    Args:
        model: Gives ``(B, ceil(T / stride), 1 + V)``.
        encoded: The examples.
        stride: Steps that become one.
        decoding: How.
        at_once: Examples in a batch.
        device, progress: As of :func:`predict`.
    """

    def decode(model: Model, batch: Batch) -> list[list[Written]]:
        assert batch.lengths is not None
        outputs, _ = model(batch.inputs, None, batch.lengths)
        log_p = normal(outputs)
        counts = (-(-batch.lengths // stride)).tolist()
        return [decoding(steps[:count]) for steps, count in zip(log_p, counts, strict=True)]

    loader = Loader(TextPairDataset(list(encoded)), at_once)
    return predict(model, loader, decode, device=device, progress=progress, title="transcribing")


def normal(outputs: torch.Tensor) -> np.ndarray:
    """Logarithmic probabilities, also of an ensemble, whose mean adds up to less than 1."""
    return outputs.float().log_softmax(-1).cpu().numpy()


def joined(pieces: Sequence[Transcription], name: str, unit: str) -> Transcription:
    """Parts of a recording as one, a space between those that say something."""
    words: tuple[Piece, ...] = ()
    characters: tuple[Piece, ...] = ()
    for one in pieces:
        if one.characters and characters:
            characters += (Piece(" ", characters[-1].end, one.characters[0].start, 1.0),)
        words, characters = words + one.words, characters + one.characters
    return Transcription(name, "".join(piece.text for piece in characters), unit, words, characters)


def record(one: Transcription) -> dict[str, Any]:
    """Ready for JSON."""
    return {
        "name": one.name,
        "text": one.text,
        "confidence": one.confidence,
        "unit": one.unit,
        "words": [piece._asdict() for piece in one.words],
        "characters": [piece._asdict() for piece in one.characters],
    }
