"""The settings of translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.common.seq2seq_settings import Seq2SeqSettings
from lstmkit.settings import setting, settings_class


@settings_class
class TranslatorSettings(Seq2SeqSettings):
    """Settings of :class:`lstmkit.Translator`."""

    name: ClassVar[str] = "translator"
    summary: ClassVar[str] = "Translate sentences with attention and beam search; compare with a translation memory."
    pipeline_tags: ClassVar[Mapping[str, str]] = {"": "translation"}

    max_tokens: int = setting(
        "maximum number of tokens per line: longer pairs are left out of training, longer inputs are translated in "
        "segments",
        default=100,
        group="text",
        low=1,
    )
    source_col: str = setting("column of the source sentences", default="source", group="data", names="text column")
    target_col: str = setting("column of the translations", default="target", group="data", names="label column")
