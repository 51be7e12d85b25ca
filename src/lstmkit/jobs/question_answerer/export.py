"""A question answerer as a graph: stories to the logits of answers, or of the first and last token of a span."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.export.graphs import Graph, JobExport
from lstmkit.jobs.question_answerer.methods import AnswerClassifier, SpanExtractor
from lstmkit.jobs.question_answerer.predictor import QuestionAnswererPredictor
from lstmkit.models.base import Model


def exported_question_answerer(predictor: QuestionAnswererPredictor) -> JobExport:
    """The graph and the settings of a fitted question answerer.

    The graph maps ``inputs`` and ``lengths (B,)`` to ``logits``: word ids of sentences ``(B, N, W)`` to ``(B, C)``, or
    tokens of question and passage ``(B, T, 3)`` to ``(B, T, 2)``.
    """
    settings, answer_model = predictor.settings, predictor.answer_model
    exported: dict[str, Any] = {
        "answer_type": answer_model.name,
        "temperature": predictor.scaling.temperature,
        "max_tokens": settings.max_tokens,
        "batch_size": 4 * settings.batch_size,
    }
    if isinstance(answer_model, AnswerClassifier):
        exported |= {"answers": list(answer_model.answers), "max_sentences": settings.max_sentences}
        example, dynamic = torch.ones(2, 3, 4, dtype=torch.int64), ("rows", "sentences", "words")
    else:
        assert isinstance(answer_model, SpanExtractor)
        exported |= {"max_answer_tokens": settings.max_answer_tokens}
        example, dynamic = torch.ones(2, 5, 3, dtype=torch.int64), ("rows", "time", None)
    inputs = {"inputs": example, "lengths": torch.tensor([example.shape[1], example.shape[1] - 1])}
    graph = Graph(_Logits(predictor.model), inputs, {"inputs": dynamic, "lengths": ("rows",)}, ["logits"])
    return JobExport({"network": graph}, exported, {"tokenizer.json": answer_model.tokenizer.to_json()})


class _Logits(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.exported = model

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        return self.exported(inputs, None, lengths)[0]
