"""A language model as a graph: tokens and the state before them to the logits of the next token and the new state."""

from __future__ import annotations

from lstmkit.data.text.tokenizer import UNKNOWN
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.common.token_export import token_step_graph
from lstmkit.jobs.language_model.predictor import LanguageModelPredictor


def exported_language_model(predictor: LanguageModelPredictor) -> JobExport:
    """The graph of the network and the settings of its runtime."""
    tokenizer = predictor.tokenizer
    settings = {
        "tokenization": tokenizer.kind,
        "end_id": predictor.end_id,
        "unknown_id": tokenizer.token_to_id(UNKNOWN),
    }
    graphs = {"network": token_step_graph(predictor.model, "ids", "logits")}
    return JobExport(graphs, settings, {"tokenizer.json": tokenizer.to_json()})
