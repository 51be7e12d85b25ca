"""How far back the error of the last step reaches: the gradient against the lag, before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lstmkit.lab import ExperimentResult, Lab
from lstmkit.lab.long_lag import LongLagSettings, build, learn, wrong
from lstmkit.lab.synthetic_tasks import TASKS, GeneratedSequences
from lstmkit.look.gradient_flow import gradient_flow
from lstmkit.models.sequence import SequenceModel
from lstmkit.plots.style import MARKERS, SMALL, legend, line_style, new_figure, style_axes
from lstmkit.progress import Progress
from lstmkit.training.train import seeded

_SEQUENCES = 32  # that a gradient is averaged over
_LEAST = 1e-12  # below it is nothing to be drawn


@dataclass(frozen=True)
class FlowLine:
    """One line of the picture.

    Attributes:
        kind: A name in :data:`lstmkit.lab.cell_variants.KINDS`.
        keep_bias: Where the bias of the forget (update) gate starts.
        scale: What the recurrent weights are multiplied by at the start.
        clip: Largest norm of the gradient in training; 0 for none.
    """

    kind: str
    keep_bias: float = 0.0
    scale: float = 1.0
    clip: float = 1.0

    def __str__(self) -> str:
        said = [self.kind]
        if self.scale != 1:
            said.append(f"weights × {self.scale:g}")
        if self.kind != "RNN":
            said.append(f"bias {self.keep_bias:g}")
        return ", ".join(said) + ("" if self.clip else ", not clipped")


def run(lab: Lab, progress: Progress) -> ExperimentResult:
    """The flow in every network of the lab, before and after it was trained on the lab's task."""
    settings = dict(lab.settings)
    lines = [FlowLine(**line) for line in settings.pop("lines")]
    task_settings = LongLagSettings.of(settings)
    length = task_settings.lengths[0]
    task = TASKS[task_settings.task](length)
    inputs = GeneratedSequences(task, _SEQUENCES, 2**31).batch(np.arange(_SEQUENCES)).inputs[:, :length]
    flows: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    rows = []
    for line in lines:
        own = replace(task_settings, keep_bias=line.keep_bias, clip=line.clip)
        with seeded(0):
            model = build(own, task, line.kind)
            scale_recurrent(model, line.scale)
        before = gradient_flow(model.trunk, inputs)["hidden"]
        ended, sequences = learn(own, task, model, 0, progress, f"flow, {line}")
        after = gradient_flow(model.trunk, inputs)["hidden"]
        flows[str(line)] = before, after
        missed, _ = wrong(model, task, task_settings.tested, 2**31)
        rows += [
            {"network": str(line), "lag": lag, "before": float(before[lag]), "after": float(after[lag])}
            for lag in range(length)
        ]
        rows[-1] |= {"ended": ended, "sequences": sequences, "wrong": missed}
    return ExperimentResult(_table(rows), pd.DataFrame(rows), flow_figure(flows))


def scale_recurrent(model: SequenceModel, scale: float) -> None:
    """Multiply the recurrent weights."""
    with torch.no_grad():
        for name, weight in model.trunk.named_parameters():
            if name.startswith("weight_hh"):
                weight.mul_(scale)


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A row a network: how much of the gradient is left at the longest lag, and what training came to."""
    frame = pd.DataFrame(rows)
    found = []
    for name, group in frame.groupby("network", sort=False):
        last = group.iloc[-1]
        found.append(
            {
                "network": name,
                "left before training": _left(group["before"].to_numpy()),
                "left after training": _left(group["after"].to_numpy()),
                "training": last["ended"],
                "sequences": int(last["sequences"]),
                "wrong": int(last["wrong"]),
            }
        )
    return pd.DataFrame(found)


def _left(flow: np.ndarray) -> float:
    """The gradient at the longest lag over that at lag 0."""
    return float(flow[-1] / flow[0]) if flow[0] else float("nan")


def flow_figure(flows: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Before training on the left, after it on the right, on one logarithmic scale."""
    figure = new_figure(4.2)
    axes = figure.subplots(1, 2, sharey=True)
    handles: dict[str, Any] = {}
    for i, (name, both) in enumerate(flows.items()):
        for ax, flow in zip(axes, both, strict=True):
            lags, every = np.arange(len(flow)), max(1, len(flow) // 6)
            (handles[name],) = ax.plot(
                lags, np.where(flow > _LEAST, flow, np.nan), linewidth=1.5, markersize=4,
                marker=MARKERS[i % len(MARKERS)], markevery=(every * i // len(flows), every), **line_style(i),
            )  # fmt: skip
    for ax, title in zip(axes, ("before training", "after training"), strict=True):
        style_axes(ax)
        ax.set_yscale("log")
        ax.set_ylim(_LEAST, None)
        ax.set_title(title, loc="left", fontsize=SMALL + 1)
        ax.set_xlabel("lag: steps before the last", fontsize=SMALL)
    axes[0].set_ylabel("size of the gradient", fontsize=SMALL)
    legend(figure, handles)
    return figure
