"""A music composer as graphs: the keys of steps to what the heads read, and that to the logits of keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmkit.data.music.midi import N_KEYS
from lstmkit.export.graphs import Graph, JobExport, State, step_graph
from lstmkit.jobs.music_composer.generation import head_of
from lstmkit.jobs.music_composer.predictor import ComposerPredictor
from lstmkit.models.base import Ensemble


def exported_music_composer(predictor: ComposerPredictor) -> JobExport:
    """The graphs of the network and the settings of its runtime.

    ``network`` reads steps ``(B, T, 88)`` and gives the outputs ``(B, M, O)`` of the ``M`` members of an ensemble after
    the last one. Of these ``below`` gives the logits ``(B, 88)`` of the keys below all that sound, and ``logits`` those
    of each key given the higher ones.
    """
    model = predictor.model
    members = list(model.members) if isinstance(model, Ensemble) else [model]
    heads = nn.ModuleList(head_of(member) for member in members)

    def step(keys: Tensor, state: State) -> tuple[Tensor, State]:
        results = [member(keys, own) for member, own in zip(members, state, strict=True)]
        return torch.stack([outputs[:, -1] for outputs, _ in results], 1), tuple(after for _, after in results)

    def example(rows: int, time: int) -> tuple[dict[str, Tensor], State]:
        keys = torch.zeros(rows, time, N_KEYS)
        with torch.no_grad():
            return {"keys": keys}, tuple(member(keys)[1] for member in members)

    outputs = torch.zeros(2, len(members), head_of(members[0]).output_size)
    inputs = {"outputs": outputs, "keys": torch.zeros(2, N_KEYS)}
    dynamic = {"outputs": ("rows", None, None), "keys": ("rows", None)}
    graphs = {
        "network": step_graph(step, example, {"rows": 2, "time": 3}, ["outputs"], model),
        "below": Graph(_KeyLogits(heads, "below"), inputs, dynamic, ["logits"]),
        "logits": Graph(_KeyLogits(heads, "logits"), inputs, dynamic, ["logits"]),
    }
    return JobExport(graphs, {"quarters_per_step": predictor.settings.quarters_per_step})


class _KeyLogits(nn.Module):
    """Outputs ``(B, M, O)`` and keys ``(B, 88)`` to logits ``(B, 88)``, the mean over the heads."""

    def __init__(self, heads: nn.ModuleList, method: str) -> None:
        super().__init__()
        self.heads, self.method = heads, method

    def forward(self, outputs: Tensor, keys: Tensor) -> Tensor:
        pairs = zip(self.heads, outputs.unbind(1), strict=True)
        return torch.stack([getattr(head, self.method)(own, keys) for head, own in pairs]).mean(0)
