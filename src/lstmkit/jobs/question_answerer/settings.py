"""Settings of the question answerer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class

ANSWER_TYPES = ("classification", "span")


@settings_class
class QuestionAnswererSettings(JobSettings):
    """Settings of :class:`lstmkit.QuestionAnswerer`."""

    name: ClassVar[str] = "question_answerer"
    summary: ClassVar[str] = "Answer questions about a story or passage with attention over its sentences or words."
    extra: ClassVar[str] = "text"
    main_settings: ClassVar[tuple[str, ...]] = ("answer_type", *JobSettings.main_settings)
    pipeline_tags: ClassVar[Mapping[str, str]] = {"": "question-answering"}
    old_names: ClassVar[tuple[str, ...]] = ("answerer",)
    old_settings: ClassVar[Mapping[str, str]] = {
        "answers": "answer_type",
        "kind_col": "question_type_col",
        "at_least": "min_count",
        "lower": "lowercase",
        "most_sentences": "max_sentences",
        "most_words": "max_tokens",
        "longest": "max_answer_tokens",
        "embed_size": "embedding_size",
    }
    old_choices: ClassVar[Mapping[str, Mapping[str, str]]] = {"answer_type": {"choice": "classification"}}

    answer_type: str = setting(
        "answer type: class among the training answers (classification), span of the story (span), or inferred from "
        "the data (auto)",
        default="auto",
        choices=("auto", *ANSWER_TYPES),
    )
    story_col: str = setting("column of the stories or passages", default="story", group="data", names="text column")
    question_col: str = setting("column of the questions", default="question", group="data", names="text column")
    answer_col: str = setting("column of the answers", default="answer", group="data", names="label column")
    question_type_col: str = setting(
        "column of the question type, for scores by type", default="kind", group="data", names="column"
    )
    min_count: int = setting(
        "minimum occurrences of a token in the training data to enter the vocabulary", default=1, group="text", low=1
    )
    lowercase: bool = setting("convert text to lowercase", default=True, group="text")
    max_sentences: int = setting(
        "maximum number of sentences read from a story, counted from its end (answer type classification)",
        default=100,
        group="text",
        low=1,
    )
    max_tokens: int = setting(
        "maximum number of tokens read from a passage, sentence or question", default=400, group="text", low=1
    )
    max_answer_tokens: int = setting(
        "maximum number of tokens in an answer (answer type span)", default=15, group="decoding", low=1
    )
    hops: int = setting("attention hops over the story (answer type classification)", default=3, low=1, high=20)
    hidden_size: int = inherited(JobSettings, "hidden_size", default=64, help="hidden units per layer and direction")
    embedding_size: int = setting("size of token embeddings; 0 = hidden_size", default=0, low=0)
    input_dropout: float = setting("dropout probability on token embeddings", default=0.1, low=0, high=0.95)
    epochs: int = inherited(JobSettings, "epochs", default=40)
    batch_size: int = inherited(JobSettings, "batch_size", default=16, help="questions per batch")
    lr: float = inherited(JobSettings, "lr", default=3e-3)
    patience: int = inherited(JobSettings, "patience", default=12)
    valid_fraction: float = setting(
        "validation fraction of the stories, also used for calibration", default=0.1, group="data", low=0, high=0.5
    )
    test_fraction: float = setting("test fraction of the stories", default=0.1, group="data", low=0, high=0.5)
