"""Front end for text: tokens with learned embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import nn

from lstmkit.data.text.tokenizer import UNKNOWN, Tokenizer
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.progress import Progress


@dataclass
class TextFrontEnd:
    """Texts as token ids. An empty text is read as one unknown token, so that every text has a prediction.

    Attributes:
        tokenization: Kind of tokenizer, see :class:`Tokenizer`.
        vocab_size: Maximum vocabulary size; 0 for all tokens.
        min_count: Minimum count of a token.
        lowercase: Whether to convert text to lower case.
        max_tokens: Maximum tokens of a text, the rest is cut off; 0 for no limit.
        embedding_size: Embedding size.
        word_dropout, dropout: See :class:`TokenEncoder`.
    """

    kind: ClassVar[str] = "text"

    tokenization: str
    vocab_size: int
    min_count: int
    lowercase: bool
    max_tokens: int
    embedding_size: int
    word_dropout: float
    dropout: float
    _tokenizer: Tokenizer | None = field(default=None, init=False, repr=False)

    def fit(self, inputs: Sequence[str], progress: Progress) -> None:
        self._tokenizer = Tokenizer.fit(
            inputs,
            self.tokenization,
            vocab_size=self.vocab_size,
            min_count=self.min_count,
            lowercase=self.lowercase,
            progress=progress,
            num_lines=len(inputs),
        )

    @property
    def tokenizer(self) -> Tokenizer:
        """The fitted tokenizer."""
        assert self._tokenizer is not None
        return self._tokenizer

    @property
    def unknown_id(self) -> int:
        return self.tokenizer[UNKNOWN] if UNKNOWN in self.tokenizer else 0  # noqa: SIM401

    def encode(self, inputs: Sequence[str]) -> list[np.ndarray]:
        """Token ids ``(T,)`` of each text."""
        last = self.max_tokens or None
        return [np.array(ids[:last] or [self.unknown_id]) for ids in self.tokenizer.encode(inputs)]

    def build(self) -> tuple[nn.Module, int]:
        return TokenEncoder(
            len(self.tokenizer), self.embedding_size, self.word_dropout, self.dropout
        ), self.embedding_size

    def steps(self, example: str) -> list[str]:
        """Tokens as they are written in the text, out-of-vocabulary words included."""
        return self.tokenizer.tokenize(example)[: self.max_tokens or None] or [""]

    def occlude(self, encoded: np.ndarray, start: int, end: int) -> np.ndarray:
        """Delete the tokens; one unknown token remains if all are deleted."""
        occluded = np.delete(encoded, slice(start, end))
        return occluded if len(occluded) else np.array([self.unknown_id])

    def notes(self, encoded: Sequence[np.ndarray]) -> list[str]:
        """Fraction of unknown tokens, and number of truncated texts."""
        notes = []
        if UNKNOWN in self.tokenizer:
            fraction = float(np.mean(np.concatenate(encoded) == self.unknown_id))
            notes.append(f"Unknown tokens: {fraction:.1%}.")
        n_truncated = sum(len(ids) == self.max_tokens for ids in encoded)
        if self.max_tokens and n_truncated:
            notes.append(f"Texts were truncated to {self.max_tokens} tokens ({n_truncated} of {len(encoded)}).")
        return notes

    def state(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.to_json()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._tokenizer = Tokenizer(self.tokenization, state["tokenizer"])
        if not len(self._tokenizer):
            raise ValueError("its vocabulary is empty")
