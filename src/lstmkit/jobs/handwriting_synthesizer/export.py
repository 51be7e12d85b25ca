"""A handwriting synthesizer as a graph: a point and the state before it to the mixture of the next point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.export.graphs import JobExport, State, step_graph
from lstmkit.jobs.handwriting_synthesizer.generation import head_of
from lstmkit.jobs.handwriting_synthesizer.predictor import HandwritingPredictor
from lstmkit.models.base import Ensemble
from lstmkit.models.soft_window import SoftWindowModel, SoftWindowState
from lstmkit.modules.mixture_density import PenMixture, mean_mixture


def exported_handwriting_synthesizer(predictor: HandwritingPredictor) -> JobExport:
    """The graph and the settings of a fitted handwriting synthesizer."""
    model, characters = predictor.model, predictor.characters
    members: list[Any] = list(model.members) if isinstance(model, Ensemble) else [model]
    owner = nn.ModuleList(members)

    def mixture(outputs: list[Tensor]) -> tuple[Tensor, ...]:
        of_members = [head_of(m).mixture(output[:, -1]) for m, output in zip(members, outputs, strict=True)]
        merged: PenMixture = of_members[0] if len(of_members) == 1 else mean_mixture(of_members)
        return tuple(part for part in merged if part is not None)

    def step(point: Tensor, states: State) -> tuple[tuple[Tensor, ...], State]:
        results = [m(point.unsqueeze(1), state) for m, state in zip(members, states, strict=True)]
        return mixture([output for output, _ in results]), tuple(state for _, state in results)

    def step_of_text(point: Tensor, text: Tensor, states: State) -> tuple[tuple[Tensor, ...], State]:
        outputs, after, at_end = [], [], []
        for member, (window, middles, lower, upper) in zip(members, states, strict=True):
            before = SoftWindowState(text, window, middles, text[:, None, :, 0], lower, upper)
            output, new = member(point.unsqueeze(1), before)
            outputs.append(output)
            after.append((new.window, new.middles, new.lower, new.upper))
            at_end.append(new.weights[:, -1].argmax(-1) == text.shape[1] - 1)
        share = torch.stack(at_end).float().mean(0)
        return (*mixture(outputs), share), tuple(after)

    def example(rows: int) -> tuple[dict[str, Tensor], State]:
        point = torch.zeros(rows, 3)
        with torch.no_grad():
            return {"point": point}, tuple(member(point.unsqueeze(1))[1] for member in members)

    def example_of_text(rows: int, length: int) -> tuple[dict[str, Tensor], State]:
        point, ids, states = torch.zeros(rows, 3), torch.zeros(rows, length - 1, dtype=torch.int64), []
        for member in members:
            assert isinstance(member, SoftWindowModel)
            with torch.no_grad():
                _, state = member(point.unsqueeze(1), member.initial_state(ids))
            states.append((state.window, state.middles, state.lower, state.upper))
        return {"point": point, "text": members[0].initial_state(ids).text}, tuple(states)

    names = ["logits", "means", "log_deviations", "correlations", "pen"]
    if characters is None:
        graph = step_graph(step, example, {"rows": 2}, [*names, "last"], owner)
    else:
        graph = step_graph(step_of_text, example_of_text, {"rows": 2, "length": 3}, [*names, "at_end"], owner)
    settings = {
        "characters": characters,
        "offset_scale": predictor.offset_scale,
        "points_per_character": predictor.points_per_character,
        "max_training_points": predictor.max_training_points,
    }
    return JobExport({"network": graph}, settings)
