"""The settings of summarization."""

from __future__ import annotations

from typing import ClassVar

from lstmkit.jobs.common.seq2seq_settings import Seq2SeqSettings
from lstmkit.settings import setting, settings_class


@settings_class
class SummarizerSettings(Seq2SeqSettings):
    """Settings of :class:`lstmkit.Summarizer`."""

    name: ClassVar[str] = "summarizer"
    summary: ClassVar[str] = "Summarize texts with a pointer-generator; compare with Lead-1 and other baselines."

    tokenization: str = setting(
        "tokenization: words and punctuation (words), split at spaces (whitespace), characters (chars) or subword "
        "units (bpe)",
        default="words",
        group="text",
        choices=("whitespace", "words", "chars", "bpe"),
    )
    vocab_size: int = setting(
        "maximum number of tokens per vocabulary; 0 = all (8,000 with bpe)", default=20_000, group="text", low=0
    )
    copy_mechanism: bool = setting(
        "copy words from the source (pointer-generator), including out-of-vocabulary words; implies one shared "
        "vocabulary",
        default=True,
    )
    label_smoothing: float = setting("label smoothing", default=0.0, group="training", low=0, high=0.9)
    no_repeat_ngram_size: int = setting(
        "length in tokens of n-grams that are generated at most once; 0 = no limit", default=3, group="decoding", low=0
    )
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
    text_col: str = setting("column of the texts", default="text", group="data")
    summary_col: str = setting("column of the summaries", default="summary", group="data")
