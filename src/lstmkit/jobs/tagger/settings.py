"""Settings of the tagger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class TaggerSettings(JobSettings):
    """Settings of :class:`lstmkit.Tagger`."""

    name: ClassVar[str] = "tagger"
    summary: ClassVar[str] = "Tag every token of a sentence; compare with the most frequent tag per word."
    extra: ClassVar[str] = "text"
    main_settings: ClassVar[tuple[str, ...]] = ("crf", *JobSettings.main_settings)
    pipeline_tags: ClassVar[Mapping[str, str]] = {"": "token-classification"}
    old_settings: ClassVar[Mapping[str, str]] = {
        "token_column": "token_col",
        "tag_column": "tag_col",
        "lower": "lowercase",
        "at_least": "min_count",
        "word_size": "embedding_size",
        "letter_size": "char_feature_size",
    }

    token_col: int = setting("index of the token column, from 0", default=0, group="data", low=0)
    tag_col: int = setting("index of the tag column, from 0; -1 = last", default=-1, group="data", low=-1)
    valid_fraction: float = setting("validation fraction of the sentences", default=0.1, group="data", low=0, high=0.5)
    test_fraction: float = setting("test fraction of the sentences", default=0.1, group="data", low=0, high=0.5)
    lowercase: bool = setting(
        "lowercase words for the word embeddings; character features keep the case", default=True, group="text"
    )
    min_count: int = setting(
        "minimum occurrences of a word in the training data to get an embedding", default=2, group="text", low=1
    )
    embedding_size: int = setting("size of word embeddings", default=100, low=1)
    char_feature_size: int = setting(
        "size of the character-LSTM features of a word, both directions together; 0 = none", default=50, low=0
    )
    hidden_size: int = inherited(JobSettings, "hidden_size", default=100, help="hidden units per layer and direction")
    bidirectional: bool = setting("read the sequence in both directions", default=True)
    crf: bool = setting("conditional random field (CRF) output layer", default=False)
    dropout: float = inherited(
        JobSettings, "dropout", default=0.3, help="dropout probability of words, of features and between layers"
    )
    batch_size: int = inherited(JobSettings, "batch_size", default=32, help="sentences per batch")
    lr: float = inherited(JobSettings, "lr", default=5e-3)
