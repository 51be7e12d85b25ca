"""The settings of summarization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.common.seq2seq_settings import Seq2SeqSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class SummarizerSettings(Seq2SeqSettings):
    """Settings of :class:`lstmkit.Summarizer`."""

    name: ClassVar[str] = "summarizer"
    summary: ClassVar[str] = "Summarize texts with a pointer-generator; compare with Lead-1 and other baselines."
    pipeline_tags: ClassVar[Mapping[str, str]] = {"": "summarization"}

    tokenization: str = inherited(Seq2SeqSettings, "tokenization", default="words")
    vocab_size: int = inherited(Seq2SeqSettings, "vocab_size", default=20_000)
    copy_mechanism: bool = inherited(Seq2SeqSettings, "copy_mechanism", default=True)
    label_smoothing: float = inherited(Seq2SeqSettings, "label_smoothing", default=0.0)
    no_repeat_ngram_size: int = inherited(Seq2SeqSettings, "no_repeat_ngram_size", default=3)
    max_tokens: int = setting(
        "maximum number of tokens read from a text; the rest is cut off", default=200, group="text", low=1
    )
    max_summary_tokens: int = setting(
        "maximum number of tokens in a summary; longer ones are left out of training",
        default=50,
        group="decoding",
        low=1,
        high=10_000,
    )
    text_col: str = setting("column of the texts", default="text", group="data", names="text column")
    summary_col: str = setting("column of the summaries", default="summary", group="data", names="label column")
