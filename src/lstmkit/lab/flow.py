"""Gradient flow: the norm of the gradient against the lag, before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lstmkit.lab import ExperimentResult, Lab
from lstmkit.lab.long_lag import LongLagSettings, build, count_errors, train_until_solved
from lstmkit.lab.synthetic_tasks import TASKS, GeneratedSequences
from lstmkit.look.gradient_flow import gradient_flow
from lstmkit.models.sequence import SequenceModel
from lstmkit.plots.style import MARKERS, SMALL, legend, line_style, new_figure, style_axes
from lstmkit.progress import Progress
from lstmkit.training.random_state import seeded

_N_SEQUENCES = 32  # sequences over which a gradient is averaged
_MIN_GRADIENT = 1e-12  # smallest norm that is drawn


@dataclass(frozen=True)
class FlowLine:
    """One line of the figure.

    Attributes:
        kind: Cell variant, a key of :data:`lstmkit.lab.cell_variants.KINDS`.
        keep_bias: Initial bias of the forget (update) gate.
        scale: Factor on the initial recurrent weights.
        clip: Maximum norm of the gradient in training; 0 for no clipping.
    """

    kind: str
    keep_bias: float = 0.0
    scale: float = 1.0
    clip: float = 1.0

    def __str__(self) -> str:
        parts = [self.kind]
        if self.scale != 1:
            parts.append(f"weights × {self.scale:g}")
        if self.kind != "RNN":
            parts.append(f"bias {self.keep_bias:g}")
        return ", ".join(parts) + ("" if self.clip else ", not clipped")


def run(lab: Lab, progress: Progress) -> ExperimentResult:
    """Compute the gradient flow of every network of the lab before and after training."""
    settings = dict(lab.settings)
    lines = [FlowLine(**line) for line in settings.pop("lines")]
    task_settings = LongLagSettings.of(settings)
    length = task_settings.lengths[0]
    task = TASKS[task_settings.task](length)
    inputs = GeneratedSequences(task, _N_SEQUENCES, 2**31).batch(np.arange(_N_SEQUENCES)).inputs[:, :length]
    flows: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    rows = []
    for line in lines:
        line_settings = replace(task_settings, keep_bias=line.keep_bias, clip=line.clip)
        with seeded(0):
            model = build(line_settings, task, line.kind)
            scale_recurrent(model, line.scale)
        before = gradient_flow(model.trunk, inputs)["hidden"]
        ended, sequences = train_until_solved(line_settings, task, model, 0, progress, f"flow, {line}")
        after = gradient_flow(model.trunk, inputs)["hidden"]
        flows[str(line)] = before, after
        errors, _ = count_errors(model, task, task_settings.tested, 2**31)
        rows += [
            {"network": str(line), "lag": lag, "before": float(before[lag]), "after": float(after[lag])}
            for lag in range(length)
        ]
        rows[-1] |= {"ended": ended, "sequences": sequences, "wrong": errors}
    return ExperimentResult(_table(rows), pd.DataFrame(rows), flow_figure(flows))


def scale_recurrent(model: SequenceModel, scale: float) -> None:
    """Multiply the recurrent weights by ``scale``, in place."""
    with torch.no_grad():
        for name, weight in model.trunk.named_parameters():
            if name.startswith("weight_hh"):
                weight.mul_(scale)


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per network: the fraction of the gradient at the longest lag, and the outcome of training."""
    frame = pd.DataFrame(rows)
    table = []
    for name, group in frame.groupby("network", sort=False):
        last = group.iloc[-1]
        table.append(
            {
                "network": name,
                "remaining gradient before training": _remaining_gradient(group["before"].to_numpy()),
                "remaining gradient after training": _remaining_gradient(group["after"].to_numpy()),
                "training": last["ended"],
                "sequences": int(last["sequences"]),
                "test errors": int(last["wrong"]),
            }
        )
    return pd.DataFrame(table)


def _remaining_gradient(flow: np.ndarray) -> float:
    """The gradient norm at the longest lag divided by that at lag 0."""
    return float(flow[-1] / flow[0]) if flow[0] else float("nan")


def flow_figure(flows: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw the gradient flow before (left) and after training (right) on a logarithmic scale.

    Args:
        flows: By network, the gradient norms ``(T,)`` before and after training, lag 0 first.
    """
    figure = new_figure(4.2)
    axes = figure.subplots(1, 2, sharey=True)
    handles: dict[str, Any] = {}
    for i, (name, both) in enumerate(flows.items()):
        for ax, flow in zip(axes, both, strict=True):
            lags, spacing = np.arange(len(flow)), max(1, len(flow) // 6)
            (handles[name],) = ax.plot(
                lags, np.where(flow > _MIN_GRADIENT, flow, np.nan), linewidth=1.5, markersize=4,
                marker=MARKERS[i % len(MARKERS)], markevery=(spacing * i // len(flows), spacing), **line_style(i),
            )  # fmt: skip
    for ax, title in zip(axes, ("before training", "after training"), strict=True):
        style_axes(ax)
        ax.set_yscale("log")
        ax.set_ylim(_MIN_GRADIENT, None)
        ax.set_title(title, loc="left", fontsize=SMALL + 1)
        ax.set_xlabel("lag: steps before the last", fontsize=SMALL)
    axes[0].set_ylabel("gradient norm", fontsize=SMALL)
    legend(figure, handles)
    return figure
