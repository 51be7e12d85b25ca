"""Summarization of texts."""

from __future__ import annotations

from lstmkit.runtime.seq2seq import TextGenerator


class Summarizer(TextGenerator):
    """Summarizes texts. Only the first tokens of a long one are read, as the job does."""
