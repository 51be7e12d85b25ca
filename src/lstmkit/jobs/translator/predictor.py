"""The predictor of translation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lstmkit.data.text.generated_text import GeneratedText, InputSegment, split_into_segments
from lstmkit.data.text.text_pairs import TRANSLATIONS
from lstmkit.jobs.common.seq2seq_predictor import Seq2SeqPredictor
from lstmkit.jobs.translator.settings import TranslatorSettings


@dataclass(frozen=True, eq=False)
class Translation(GeneratedText):
    """A line and its translation, see :class:`GeneratedText`."""


class TranslatorPredictor(Seq2SeqPredictor[TranslatorSettings]):
    """Tokenizers and encoder-decoder of a translator. Lines above ``max_tokens`` are translated in segments."""

    result_class = Translation
    task_title = TRANSLATIONS.doing

    def segments(self, lines: Sequence[str]) -> list[InputSegment]:
        settings = self.settings
        return split_into_segments(lines, self.source_tokenizer, settings.max_tokens, settings.copy_mechanism)

    @property
    def max_output_tokens(self) -> tuple[int, int]:
        return 2, 10
