"""A tag for each token of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.data.padding import pad_sequences
from lstmkit.errors import DataError
from lstmkit.runtime import crf
from lstmkit.runtime.arithmetic import softmax
from lstmkit.runtime.base import ExportedJob, batches_by_length


class Tagger(ExportedJob):
    """Predicts the tags of sentences."""

    def predict(self, data: Any) -> list[dict[str, Any]]:
        """The tags of sentences, with the probability of each.

        Args:
            data: Lists of tokens, or texts, which are split at spaces.

        Returns:
            ``tokens, tags, probabilities`` for each sentence; all empty for a sentence without tokens.

        Raises:
            DataError: A sentence is neither.
        """
        sentences = [_tokens(number, one) for number, one in enumerate(data, 1)]
        records: list[dict[str, Any]] = [{"tokens": (), "tags": (), "probabilities": ()} for _ in sentences]
        rows_with_tokens = [row for row, tokens in enumerate(sentences) if tokens]
        encoded = self._encode([sentences[row] for row in rows_with_tokens])
        for rows, lengths in batches_by_length(encoded):
            width = max(encoded[row].shape[1] for row in rows)
            padded = [np.pad(encoded[row], ((0, 0), (0, width - encoded[row].shape[1]))) for row in rows]
            (logits,) = self.network(inputs=pad_sequences(padded, 0), lengths=lengths)
            for row, of_sentence, length in zip(rows, logits, lengths, strict=True):
                best, p = self._decode(of_sentence[:length])
                records[rows_with_tokens[row]] = {
                    "tokens": sentences[rows_with_tokens[row]],
                    "tags": tuple(self.settings["tags"][k] for k in best),
                    "probabilities": tuple(float(own[k]) for own, k in zip(p, best, strict=True)),
                }
        return records

    def _encode(self, sentences: Sequence[tuple[str, ...]]) -> list[np.ndarray]:
        """``(T, 1 + C)`` of each sentence: the word's id, and its characters' ids from 1, 0 past the end of a word."""
        words = self.tokenizer("whitespace", "words.json").encode(" ".join(tokens) for tokens in sentences)
        characters = self.tokenizer("chars", "characters.json")
        longest = self.settings["max_characters"]
        encoded = []
        for tokens, ids in zip(sentences, words, strict=True):
            spelled = [1 + np.array(own) for own in characters.encode(token[:longest] for token in tokens)]
            encoded.append(np.column_stack([np.array(ids), pad_sequences(spelled, 0)]))
        return encoded

    def _decode(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best tags ``(T,)`` of logits ``(T, K)``, and the probability of every tag, ``(T, K)``."""
        if self.settings["crf"] is None:
            return logits.argmax(1), softmax(logits)
        weights = {name: np.array(weight) for name, weight in self.settings["crf"].items()}
        return crf.viterbi(logits, **weights), crf.marginals(logits, **weights)


def _tokens(number: int, sentence: Any) -> tuple[str, ...]:
    tokens = tuple(sentence.split()) if isinstance(sentence, str) else tuple(sentence)
    for token in tokens:
        if not isinstance(token, str) or not token or len(token.split()) != 1:
            raise DataError(f"sentence {number} has the token {token!r}: give tokens as text without spaces")
    return tokens
