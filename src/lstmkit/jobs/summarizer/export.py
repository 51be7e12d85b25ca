"""A summarizer as graphs: source tokens to the decoder's state, and a step of the decoder."""

from __future__ import annotations

from lstmkit.data.text.text_pairs import SUMMARIES
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.common.seq2seq_export import exported_seq2seq
from lstmkit.jobs.summarizer.predictor import SummarizerPredictor


def exported_summarizer(predictor: SummarizerPredictor) -> JobExport:
    """The graphs and the settings of a fitted summarizer."""
    return exported_seq2seq(predictor, SUMMARIES.target, first_segment_only=True)
