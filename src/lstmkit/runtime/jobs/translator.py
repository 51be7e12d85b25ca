"""Translation of texts."""

from __future__ import annotations

from lstmkit.runtime.seq2seq import TextGenerator


class Translator(TextGenerator):
    """Translates texts. Long ones are translated in segments, as the job does."""
