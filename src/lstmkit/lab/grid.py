"""Cells, depths, directions and amounts of data side by side on real sequences: means over seeds, with intervals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy import stats
from torch import nn

from lstmkit.data.batch import Loader
from lstmkit.errors import SettingError
from lstmkit.lab import ExperimentResult, Lab, declared
from lstmkit.lab.cell_variants import KINDS, hidden_size_for_budget, initialize_gate_biases, parameters
from lstmkit.lab.corpora import CORPORA, Corpus
from lstmkit.models.sequence import SequenceModel
from lstmkit.plots.style import BLUE, GREY, MARKERS, SMALL, legend, line_style, new_figure, style_axes
from lstmkit.progress import Progress
from lstmkit.settings import unknown
from lstmkit.training.train import TrainSettings, mean_loss, seeded, train

_AXES = ("kind", "layers", "directions", "share")


@dataclass(frozen=True)
class GridSettings:
    """What is set side by side. Every combination of kinds, layers, directions and shares is trained with every seed.

    Attributes:
        data: A name in :data:`lstmkit.lab.corpora.CORPORA`.
        kinds: Names in :data:`lstmkit.lab.cell_variants.KINDS`.
        layers: Depths.
        directions: 1 forward only, 2 both.
        shares: Of the training sequences that are given, the first so many.
        units: Of an LSTM of one layer; all others get as many as its number of parameters allows.
        epochs: At most.
        steps_per_epoch: 0 for a pass over all sequences.
        batch_size: Sequences in a step.
        lr: Learning rate of AdamW, falling to 0 by the cosine.
        dropout: Before the head, and between layers.
        keep_bias: How open the memory starts (:func:`lstmkit.lab.cell_variants.initialize_gate_biases`); ``None``: as layers start.
        patience: Epochs without a better validation loss.
        seeds: Runs of each.
    """

    data: str
    kinds: tuple[str, ...] = ("RNN", "GRU", "LSTM")
    layers: tuple[int, ...] = (1,)
    directions: tuple[int, ...] = (1,)
    shares: tuple[float, ...] = (1.0,)
    units: int = 64
    epochs: int = 50
    steps_per_epoch: int = 0
    batch_size: int = 16
    lr: float = 3e-3
    dropout: float = 0.0
    keep_bias: float | None = None
    patience: int = 8
    seeds: int = 3

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> GridSettings:
        """From a lab's settings.

        Raises:
            SettingError: Unknown data, cell or setting.
        """
        found = declared(cls, settings)
        if found.data not in CORPORA:
            raise SettingError(unknown(found.data, CORPORA, what="data"))
        for kind in found.kinds:
            if kind not in KINDS:
                raise SettingError(unknown(kind, KINDS, what="cell"))
        return found


def run(lab: Lab, progress: Progress) -> ExperimentResult:
    """Train all of them; the test part is scored once, with the weights that validated best."""
    settings = GridSettings.of(lab.settings)
    corpus = CORPORA[settings.data]()
    rows = []
    for values in itertools.product(settings.kinds, settings.layers, settings.directions, settings.shares):
        for seed in range(settings.seeds):
            about = dict(zip(_AXES, values, strict=True)) | {"seed": seed}
            rows.append(about | _one(settings, corpus, about, progress))
    frame = pd.DataFrame(rows)
    table = summary(frame)
    return ExperimentResult(table, frame, figure(table, corpus.unit))


def _one(settings: GridSettings, corpus: Corpus, about: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    seed, share = about["seed"], about["share"]
    with seeded(seed):
        model = _build(settings, corpus, about)
    how = TrainSettings(
        epochs=settings.epochs,
        lr=settings.lr,
        weight_decay=1e-2,
        warmup=0.02,
        lr_schedule="cosine",
        max_grad_norm=1.0,
        ema_decay=0.99,
        patience=settings.patience,
        precision="float32",
        seed=seed,
        device=torch.device("cpu"),
    )
    loader = Loader(corpus.train.first(share), settings.batch_size, seed, settings.steps_per_epoch)
    valid, test = Loader(corpus.valid, 64), Loader(corpus.test, 64)
    title = ", ".join(f"{name} {value}" for name, value in about.items())
    history = train(model, loader, valid, how, progress=progress, title=title)
    found = {
        "units": model.trunk.hidden_size,
        "parameters": parameters(model.trunk),
        "epochs": len(history.rows),
        "valid": history.best_loss,
        "test": mean_loss(model, test, how),
    }
    return found if corpus.right is None else found | {"right": _right(model, corpus, test)}


@torch.no_grad()
def _right(model: SequenceModel, corpus: Corpus, loader: Loader) -> float:
    """The share of sequences that are answered rightly."""
    model.eval()
    assert corpus.right is not None
    found = [corpus.right(model(batch.inputs, None, batch.lengths)[0], batch) for batch in loader.epoch()]
    return float(torch.cat(found).float().mean())


def _build(settings: GridSettings, corpus: Corpus, about: Mapping[str, Any]) -> SequenceModel:
    kind = KINDS[about["kind"]]
    budget = parameters(KINDS["LSTM"].build(corpus.input_size, settings.units))
    shape: dict[str, Any] = {"num_layers": about["layers"], "bidirectional": about["directions"] == 2}
    width = hidden_size_for_budget(kind, corpus.input_size, budget, **shape)
    trunk = kind.build(corpus.input_size, width, dropout=settings.dropout, **shape)
    if settings.keep_bias is not None:
        initialize_gate_biases(trunk, settings.keep_bias)
    head = _DropoutHead(settings.dropout, corpus.head(trunk.output_size))
    return SequenceModel(nn.Identity(), trunk, head)


class _DropoutHead(nn.Module):
    """A head behind dropout."""

    def __init__(self, share: float, head: Any) -> None:
        super().__init__()
        self.dropout, self.head = nn.Dropout(share), head
        self.loss = head.loss

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(features))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each combination: the mean over seeds, and the 95 % interval of that mean (Student's t).

    Of two seeds it would be wider than anything measured: there ``from`` and ``to`` are the two.
    """
    found = []
    for _, group in rows.groupby(list(_AXES), sort=False):
        first = group.iloc[0]
        test, n = group["test"].to_numpy(), len(group)
        half = math.nan if n == 1 else float(np.ptp(test)) / 2
        if n > 2:
            half = stats.t.ppf(0.975, n - 1) * test.std(ddof=1) / math.sqrt(n)
        found.append(
            {
                "cell": first["kind"],
                "layers": int(first["layers"]),
                "directions": int(first["directions"]),
                "share of data": float(first["share"]),
                "units": int(first["units"]),
                "parameters": int(first["parameters"]),
                "test": float(test.mean()),
                "from": float(test.mean() - half),
                "to": float(test.mean() + half),
                "valid": float(group["valid"].mean()),
                **({"right, %": 100 * float(group["right"].mean())} if "right" in group else {}),
                "seeds": n,
            }
        )
    return pd.DataFrame(found)


def figure(table: pd.DataFrame, unit: str) -> Figure:
    """Over depth, directions or amount of data a line a cell; where none varies, a mark a cell. Bars are intervals."""
    along = next((name for name in ("layers", "directions", "share of data") if table[name].nunique() > 1), None)
    return _marks(table, unit) if along is None else _lines(table, along, unit)


def _marks(table: pd.DataFrame, unit: str) -> Figure:
    drawn = new_figure(1.0 + 0.3 * len(table))
    ax = drawn.subplots()
    y = np.arange(len(table))
    ax.axvline(table["test"].iloc[0], color=GREY, linewidth=0.8)
    half = table["to"] - table["test"]
    ax.errorbar(table["test"], y, xerr=half.fillna(0), fmt="o", color=BLUE, capsize=3, linewidth=1.4)
    style_axes(ax)
    ax.set_yticks(y, table["cell"])
    ax.invert_yaxis()
    ax.set_xlabel(f"test loss, {unit} (less is better); 95 % intervals over seeds (of two: both)", fontsize=SMALL)
    return drawn


def _lines(table: pd.DataFrame, along: str, unit: str) -> Figure:
    drawn = new_figure(3.4)
    ax = drawn.subplots()
    handles: dict[str, Any] = {}
    for i, (cell, group) in enumerate(table.groupby("cell", sort=False)):
        half = (group["to"] - group["test"]).fillna(0)
        bars = ax.errorbar(group[along], group["test"], yerr=half, marker=MARKERS[i], capsize=3, **line_style(i))
        handles[str(cell)] = bars.lines[0]
    style_axes(ax)
    if along == "share of data":
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    ax.set_xticks(sorted(set(table[along])), [f"{v:g}" for v in sorted(set(table[along]))])
    ax.set_xlabel(along, fontsize=SMALL)
    ax.set_ylabel(f"test loss, {unit}", fontsize=SMALL)
    legend(drawn, handles)
    return drawn
