"""A translator as graphs: source tokens to the decoder's state, and a step of the decoder."""

from __future__ import annotations

from lstmkit.data.text.text_pairs import TRANSLATIONS
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.common.seq2seq_export import exported_seq2seq
from lstmkit.jobs.translator.predictor import TranslatorPredictor


def exported_translator(predictor: TranslatorPredictor) -> JobExport:
    """The graphs and the settings of a fitted translator."""
    return exported_seq2seq(predictor, TRANSLATIONS.target)
