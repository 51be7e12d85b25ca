"""A tagger as a graph: words and characters to the logits of tags; a CRF over them is decoded beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.data.text.tokenizer import Tokenizer
from lstmkit.export.graphs import Graph, JobExport
from lstmkit.jobs.tagger.predictor import MAX_CHARACTERS, TaggerPredictor, tag_head
from lstmkit.models.base import Model


def exported_tagger(predictor: TaggerPredictor) -> JobExport:
    """The graph of the network and the settings of its runtime."""
    inputs = {"inputs": torch.ones(2, 3, 1 + 4, dtype=torch.int64), "lengths": torch.tensor([3, 2])}
    dynamic = {"inputs": ("batch", "time", "word_and_characters"), "lengths": ("batch",)}
    crf = tag_head(predictor.model).crf
    settings: dict[str, Any] = {"tags": list(predictor.tags), "max_characters": MAX_CHARACTERS, "crf": None}
    if crf is not None:
        settings["crf"] = {name: weight.tolist() for name, weight in crf.state_dict().items()}
    vocabularies: dict[str, Tokenizer] = {"words": predictor.word_vocab, "characters": predictor.char_vocab}
    texts = {f"{name}.json": vocabulary.to_json() for name, vocabulary in vocabularies.items()}
    return JobExport({"network": Graph(_Logits(predictor.model), inputs, dynamic, ["logits"])}, settings, texts)


class _Logits(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        return self.model(inputs, None, lengths)[0]
