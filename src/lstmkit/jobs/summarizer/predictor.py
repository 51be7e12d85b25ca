"""The predictor of summarization."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import Self

from lstmkit.data.text.generated_text import GeneratedText, InputSegment, split_into_segments
from lstmkit.data.text.text_pairs import SUMMARIES, TextPairs
from lstmkit.data.text.tokenizer import Tokenizer
from lstmkit.jobs.common.seq2seq_predictor import (
    Seq2SeqPredictor,
    fit_tokenizers,
    load_tokenizers,
)
from lstmkit.jobs.summarizer.settings import SummarizerSettings
from lstmkit.progress import Progress


@dataclass(frozen=True, eq=False)
class Summary(GeneratedText):
    """A text and its summary, see :class:`GeneratedText`; ``source_tokens`` are the first tokens, which were read."""


class SummarizerPredictor(Seq2SeqPredictor[SummarizerSettings]):
    """Tokenizers and encoder-decoder of a summarizer. Only the first ``max_tokens`` tokens of a text are read.

    Attributes:
        median_summary_words: Median number of words in a summary of the training split.
    """

    result_class = Summary
    task_title = SUMMARIES.doing

    def __init__(
        self,
        settings: SummarizerSettings,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        median_summary_words: int,
    ) -> None:
        super().__init__(settings, source_tokenizer, target_tokenizer)
        self.median_summary_words = median_summary_words

    @classmethod
    def fitted(cls, settings: SummarizerSettings, train: TextPairs, progress: Progress) -> Self:
        words = round(statistics.median(len(summary.split()) for summary in train.targets))
        return cls(settings, *fit_tokenizers(settings, train, progress), words)

    def segments(self, lines: Sequence[str]) -> list[InputSegment]:
        settings = self.settings
        segments = split_into_segments(lines, self.source_tokenizer, settings.max_tokens, settings.copy_mechanism)
        return [segment for segment in segments if segment.start == 0]

    @property
    def max_output_tokens(self) -> tuple[int, int]:
        return 0, self.settings.max_summary_tokens

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Number of texts above ``max_tokens`` tokens."""
        token_ids = self.source_tokenizer.encode(" ".join(text.split()) for text in texts)
        return sum(len(ids) > self.settings.max_tokens for ids in token_ids)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "usual_words": self.median_summary_words}

    @classmethod
    def from_state(cls, settings: SummarizerSettings, state: Mapping[str, Any]) -> Self:
        return cls(settings, *load_tokenizers(settings, state), int(state["usual_words"]))
