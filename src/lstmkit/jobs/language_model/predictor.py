"""The predictor of a language model: tokenizer, unigram counts, network and neural cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import Self

from lstmkit.data.text.lines import Text
from lstmkit.data.text.token_stream import token_stream
from lstmkit.data.text.tokenizer import END, Tokenizer
from lstmkit.errors import DataError
from lstmkit.jobs.language_model.settings import LanguageModelSettings
from lstmkit.jobs.predictor import Predictor
from lstmkit.models.base import Model
from lstmkit.models.sequence import NextTokenModel
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress


class TokenStream(NamedTuple):
    """A text as the model reads it.

    Attributes:
        ids: ``(N,)`` token ids, line after line, each line with its end.
        characters: Number of characters, line ends included.
    """

    ids: np.ndarray
    characters: int

    @classmethod
    def read(cls, text: Text, tokenizer: Tokenizer, progress: Progress) -> TokenStream:
        """Tokenize a text; the ids lie in a temporary file.

        Raises:
            DataError: The text has fewer than two tokens.
        """
        ids = token_stream(text, tokenizer, progress)
        if len(ids) < 2:
            raise DataError(f"{text.name} has {len(ids)} tokens, but a language model needs at least 2: give more text")
        return cls(ids, sum(len(line) + 1 for line in text))


class CacheSettings(NamedTuple):
    """The neural cache of Grave, Joulin and Usunier 2017, "Improving Neural Language Models with a Continuous Cache".

    Attributes:
        size: Number of past steps in the cache.
        weight: Interpolation weight of the cache in the probability (their lambda).
        theta: How sharply the cache prefers similar hidden states (their theta, with states of length 1).
    """

    size: int
    weight: float
    theta: float


class LanguageModelPredictor(Predictor[LanguageModelSettings]):
    """Tokenizer, unigram counts, network and neural cache of a language model.

    Attributes:
        tokenizer: Splits text into tokens.
        unigram_counts: ``(V,)`` occurrences of each token in the training split.
        cache: The neural cache, tuned on the validation split; ``None`` without one.
    """

    def __init__(
        self,
        settings: LanguageModelSettings,
        tokenizer: Tokenizer,
        unigram_counts: np.ndarray,
        cache: CacheSettings | None = None,
    ) -> None:
        super().__init__(settings)
        self.tokenizer = tokenizer
        self.unigram_counts = unigram_counts
        self.cache = cache

    @property
    def vocab_size(self) -> int:
        """Number of tokens in the vocabulary."""
        return len(self.tokenizer)

    @property
    def end_id(self) -> int:
        """The token id of a line's end."""
        if not self.tokenizer.keeps_line_ends:
            return self.tokenizer[END]
        return next(self.tokenizer.encode([""], add_line_end=True))[0]

    @property
    def network(self) -> NextTokenModel:
        """The trained network; the first one of an ensemble."""
        network = super().network
        assert isinstance(network, NextTokenModel)
        return network

    def build(self) -> Model:
        settings = self.settings
        width = settings.embedding_size or settings.hidden_size
        encoder = TokenEncoder(self.vocab_size, width, settings.word_dropout, settings.input_dropout)
        trunk = build_trunk(
            settings.cell,
            width,
            settings.hidden_size,
            num_layers=settings.num_layers,
            dropout=settings.hidden_dropout,
            variational=True,
            recurrent_dropout=settings.recurrent_dropout,
            weight_drop=settings.weight_drop,
        )
        tied = encoder.embedding if settings.tie_weights else None
        head = TokenHead(trunk.output_size, self.vocab_size, tied, settings.cutoffs)
        return NextTokenModel(
            encoder, trunk, head, settings.dropout, settings.activation_reg, settings.temporal_activation_reg
        )

    def read_stream(self, text: Text, progress: Progress) -> TokenStream:
        """The token stream of a text. Raises DataError if the text has fewer than two tokens."""
        return TokenStream.read(text, self.tokenizer, progress)

    def with_line_start(self, ids: np.ndarray) -> np.ndarray:
        """``(N,) -> (N + 1,)``: token ids with a line end before the first."""
        return np.concatenate([[self.end_id], ids])

    def state(self) -> dict[str, Any]:
        return {
            "tokenizer": self.tokenizer.to_json(),
            "counts": self.unigram_counts.tolist(),
            "cache": None if self.cache is None else list(self.cache),
        }

    @classmethod
    def from_state(cls, settings: LanguageModelSettings, state: Mapping[str, Any]) -> Self:
        tokenizer = Tokenizer(settings.tokenization, state["tokenizer"])
        counts = np.array(state["counts"], dtype=np.int64)
        if counts.shape != (len(tokenizer),) or (counts < 0).any():
            raise ValueError("the token counts do not match the vocabulary")
        if not tokenizer.keeps_line_ends and END not in tokenizer:
            raise ValueError(f"the vocabulary has no {END} token")
        cache = None if state["cache"] is None else CacheSettings(*state["cache"])
        return cls(settings, tokenizer, counts, cache)
