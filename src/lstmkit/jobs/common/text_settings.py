"""The settings of jobs that turn text into tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import setting, settings_class


@settings_class
class TextSettings(JobSettings):
    """How text becomes tokens: see :class:`lstmkit.data.text.tokenizer.Tokenizer`."""

    old_settings: ClassVar[Mapping[str, str]] = {
        "tokens": "tokenization",
        "vocabulary": "vocab_size",
        "at_least": "min_count",
        "lower": "lowercase",
        "embed_size": "embedding_size",
    }
    old_choices: ClassVar[Mapping[str, Mapping[str, str]]] = {"tokenization": {"spaces": "whitespace"}}

    tokenization: str = setting(
        "tokenization: words and punctuation (words), split at spaces (whitespace), characters (chars) or subword "
        "units (bpe)",
        default="words",
        group="text",
        choices=("words", "whitespace", "chars", "bpe"),
    )
    vocab_size: int = setting(
        "maximum number of tokens in the vocabulary; 0 = all (8,000 with bpe)", default=0, group="text", low=0
    )
    min_count: int = setting(
        "minimum occurrences of a token in the training data to enter the vocabulary", default=1, group="text", low=1
    )
    lowercase: bool = setting("convert text to lowercase", default=False, group="text")
    embedding_size: int = setting("size of token embeddings; 0 = hidden_size", default=0, low=0)
