"""Text that a decoder generates: segments of the input, decoded texts, and the texts of whole lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import Self

from lstmkit.data.text.copy_vocabulary import encode_source
from lstmkit.data.text.tokenizer import UNKNOWN, Tokenizer, detokenize


class InputSegment(NamedTuple):
    """What the encoder reads at once: a line, or a part of a long line.

    Attributes:
        line: Index of the line, from 0.
        start: Position of the first token in the line.
        ids: ``(S,)`` token ids, at least one; with the copy mechanism unknown words have ids from the vocabulary size
            on.
        words: The ``S`` tokens as the line has them.
    """

    line: int
    start: int
    ids: np.ndarray
    words: tuple[str, ...]


class DecodedText(NamedTuple):
    """A text decoded for a segment.

    Attributes:
        text: The text.
        tokens: Its ``T`` tokens, unknown words replaced by words of the source.
        score: Log probability, normalized by length.
        attention: ``(T, S)`` attention weights. They are kept for a line's first segment only: those of a very long
            line would fill the memory.
        generation_probabilities: With the copy mechanism ``T`` probabilities that a token is generated, not copied.
    """

    text: str
    tokens: tuple[str, ...]
    score: float
    attention: np.ndarray
    generation_probabilities: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class GeneratedText:
    """A source text and the text generated for it.

    Attributes:
        source: The source text.
        text: The generated text of the best score.
        score: Its log probability in nats, normalized by length.
        source_tokens: The ``S`` tokens that the encoder read.
        tokens: The ``T`` generated tokens, unknown words replaced by words of the source.
        attention: ``(T, S)`` attention weights.
        n_best: Texts and scores, best first.
        generation_probabilities: With the copy mechanism ``T`` probabilities that a token is generated, not copied
            (``p_gen`` of See et al. 2017).
    """

    source: str
    text: str
    score: float
    source_tokens: tuple[str, ...]
    tokens: tuple[str, ...]
    attention: np.ndarray
    n_best: tuple[tuple[str, float], ...]
    generation_probabilities: tuple[float, ...] = ()

    @classmethod
    def from_segments(
        cls, lines: Sequence[str], segments: Sequence[InputSegment], texts: Sequence[Sequence[DecodedText]]
    ) -> list[Self]:
        """The text of each line, an empty one of a line without segments.

        Args:
            lines: The lines.
            segments: Their segments.
            texts: The texts of each segment, best first.
        """
        by_line: list[list[int]] = [[] for _ in lines]
        for index, segment in enumerate(segments):
            by_line[segment.line].append(index)
        generated = []
        for line, indices in zip(lines, by_line, strict=True):
            if not indices:
                generated.append(cls(line, "", 0.0, (), (), np.zeros((0, 0), np.float32), (("", 0.0),)))
                continue
            first, n_best = texts[indices[0]][0], join_segments([texts[index] for index in indices])
            (text, score), words, p_gen = n_best[0], segments[indices[0]].words, first.generation_probabilities
            generated.append(cls(line, text, score, words, first.tokens, first.attention, tuple(n_best), p_gen))
        return generated

    def record(self, target: str, copy_mechanism: bool) -> dict[str, Any]:
        """The text and what belongs to it, ready for JSON; ``target`` is the name of the generated text."""
        record: dict[str, Any] = {
            "source": self.source,
            target: self.text,
            "score": self.score,
            "n_best": [{target: text, "score": score} for text, score in self.n_best],
            "source_tokens": list(self.source_tokens),
            "tokens": list(self.tokens),
            "attention": [[round(float(weight), 4) for weight in row] for row in self.attention],
        }
        if copy_mechanism:
            record["generation_probabilities"] = [round(p, 4) for p in self.generation_probabilities]
        return record


def split_into_segments(
    lines: Sequence[str], tokenizer: Tokenizer, max_tokens: int, copy_mechanism: bool = False
) -> list[InputSegment]:
    """Split lines into segments of at most ``max_tokens`` tokens; a blank line has none."""
    segments = []
    for line, (line_ids, line_words) in enumerate(tokenizer.encode_with_tokens(lines)):
        for start in range(0, len(line_ids), max_tokens):
            ids, words = line_ids[start : start + max_tokens], line_words[start : start + max_tokens]
            if copy_mechanism:
                ids, _ = encode_source(tokenizer, ids, words)
            segments.append(InputSegment(line, start, np.array(ids), tuple(words)))
    return segments


def decode_text(
    ids: tuple[int, ...],
    score: float,
    attention: np.ndarray,
    segment: InputSegment,
    tokenizer: Tokenizer,
    generation_probabilities: tuple[float, ...] = (),
) -> DecodedText:
    """The text of generated ids, with words of the source for unknown words.

    A copied word is taken from its position. ``<unk>`` is replaced by the most attended word (Luong et al. 2015b, Jean
    et al. 2015).
    """
    unknown = tokenizer.token_to_id(UNKNOWN)
    tokens = tokenizer.tokens(ids)
    for position, token_id in enumerate(ids):
        if token_id == unknown:
            tokens[position] = segment.words[int(attention[position].argmax())]
        elif token_id >= len(tokenizer):
            tokens[position] = segment.words[int((segment.ids == token_id).argmax())]
    if tokenizer.kind == "words":
        text = detokenize(tokens)
    elif tokenizer.kind == "bpe":
        text = tokenizer.decode(ids)
    else:
        text = ("" if tokenizer.kind == "chars" else " ").join(tokens)
    kept = np.zeros((0, 0), np.float32) if segment.start else attention
    return DecodedText(" ".join(text.split()), tuple(tokens), score, kept, generation_probabilities)


def join_segments(segments: Sequence[Sequence[DecodedText]]) -> list[tuple[str, float]]:
    """The n-best texts of a line and their scores: the k-th text of each segment, or its last, joined."""
    count = max((len(texts) for texts in segments), default=1)
    by_rank = [[texts[min(rank, len(texts) - 1)] for texts in segments] for rank in range(count)]
    return [(" ".join(t.text for t in texts), sum(t.score for t in texts)) for texts in by_rank]
