"""A secondary structure predictor as a graph: residues, and perhaps a profile, to the probabilities of states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmkit.data.proteins.residues import STATES
from lstmkit.export.graphs import Graph, JobExport
from lstmkit.jobs.secondary_structure_predictor.predictor import StructurePredictor


def exported_structure_predictor(predictor: StructurePredictor) -> JobExport:
    """The graph of the network and the settings of its runtime."""
    inputs = {"ids": torch.ones(2, 5, dtype=torch.int64), "lengths": torch.tensor([5, 4])}
    dynamic = {"ids": ("batch", "time"), "lengths": ("batch",)}
    if predictor.profile is not None:
        inputs["profile"] = torch.zeros(2, 5, predictor.profile.width, dtype=torch.float64)
        dynamic["profile"] = ("batch", "time", None)
    graph = Graph(_StateProbabilities(predictor), inputs, dynamic, predictor.state_alphabets)
    settings = {
        "states": {alphabet: STATES[alphabet] for alphabet in predictor.state_alphabets},
        "mapping": predictor.mapping,
        "profile_columns": list(predictor.settings.profile_cols),
        "max_residues": predictor.settings.max_residues,
    }
    return JobExport({"network": graph}, settings)


class _StateProbabilities(nn.Module):
    """Residue ids ``(B, T)``, lengths ``(B,)``, profile ``(B, T, F)`` to probabilities ``(B, T, C)`` per alphabet."""

    def __init__(self, predictor: StructurePredictor) -> None:
        super().__init__()
        self.model = predictor.model
        self.profile = None if predictor.profile is None else predictor.profile.preparation()
        self.sizes = [len(STATES[alphabet]) for alphabet in predictor.state_alphabets]
        self.temperatures = [predictor.scaling[alphabet].temperature for alphabet in predictor.state_alphabets]
        classes = [STATES["ss3"].index(letter) for letter in predictor.mapping or ""]
        self.class_of_state: Tensor | None
        self.register_buffer("class_of_state", torch.tensor(classes) if classes else None)

    def forward(self, ids: Tensor, lengths: Tensor, profile: Tensor | None = None) -> tuple[Tensor, ...]:
        inputs = ids
        if self.profile is not None and profile is not None:
            inputs = torch.cat([ids.unsqueeze(2).float(), self.profile(profile)], 2)
        logits = self.model(inputs, None, lengths)[0].double().split(self.sizes, -1)
        scaled = [of_alphabet / t for of_alphabet, t in zip(logits, self.temperatures, strict=True)]
        if self.class_of_state is None:
            return tuple(of_alphabet.softmax(-1) for of_alphabet in scaled)
        ss3, log_p = scaled[0].softmax(-1), scaled[1].log_softmax(-1)
        members = self.class_of_state == torch.arange(self.sizes[0]).unsqueeze(1)  # (3, 8)
        log_class = log_p.unsqueeze(-2).masked_fill(~members, -torch.inf).logsumexp(-1)
        return ss3, ss3[..., self.class_of_state] * (log_p - log_class[..., self.class_of_state]).exp()
