"""A language model as a graph: tokens and the state before them to the logits of the next token and the new state."""

from __future__ import annotations

import torch
from torch import Tensor

from lstmkit.data.text.tokenizer import UNKNOWN
from lstmkit.export.graphs import JobExport, State, step_graph
from lstmkit.jobs.language_model.predictor import LanguageModelPredictor


def exported_language_model(predictor: LanguageModelPredictor) -> JobExport:
    """The graph of the network and the settings of its runtime."""
    model, tokenizer = predictor.model, predictor.tokenizer

    def step(ids: Tensor, state: State) -> tuple[Tensor, State]:
        logits, state = model(ids, state)
        return logits[:, -1], state

    def example(rows: int, time: int) -> tuple[dict[str, Tensor], State]:
        ids = torch.zeros(rows, time, dtype=torch.int64)
        with torch.no_grad():
            return {"ids": ids}, model(ids)[1]

    graph = step_graph(step, example, {"rows": 2, "time": 3}, ["logits"], model)
    settings = {
        "tokenization": tokenizer.kind,
        "end_id": predictor.end_id,
        "unknown_id": tokenizer.token_to_id(UNKNOWN),
    }
    return JobExport({"network": graph}, settings, {"tokenizer.json": tokenizer.to_json()})
