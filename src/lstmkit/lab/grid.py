"""Grid comparison of cells, depths, directions and amounts of data on real sequences, over several seeds."""

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
from lstmkit.lab import ExperimentResult, Lab, build_settings
from lstmkit.lab.cell_variants import KINDS, count_parameters, hidden_size_for_budget, initialize_gate_biases
from lstmkit.lab.corpora import CORPORA, Corpus
from lstmkit.models.sequence import SequenceModel
from lstmkit.plots.style import BLUE, GRAY, MARKERS, SMALL, legend, line_style, new_figure, style_axes
from lstmkit.progress import Progress
from lstmkit.settings import unknown
from lstmkit.training.optimization import TrainSettings
from lstmkit.training.random_state import seeded
from lstmkit.training.train import mean_loss, train

_AXES = ("kind", "layers", "directions", "share")
_X_COLUMNS = ("layers", "directions", "fraction of data")  # of the table, in the order of preference for the x axis


@dataclass(frozen=True)
class GridSettings:
    """Settings of a grid comparison: all combinations of kinds, layers, directions and shares, with every seed.

    Attributes:
        data: A key of :data:`lstmkit.lab.corpora.CORPORA`.
        kinds: Cell variants, keys of :data:`lstmkit.lab.cell_variants.KINDS`.
        layers: Numbers of layers.
        directions: 1 for unidirectional, 2 for bidirectional.
        shares: Fractions of the training sequences to use.
        units: Hidden size of an LSTM with one layer; the others get about the same number of parameters.
        epochs: Maximum number of epochs.
        steps_per_epoch: Batches per epoch; 0 for all sequences.
        batch_size: Sequences per batch.
        lr: Peak learning rate of AdamW with cosine decay.
        dropout: Dropout probability before the head and between layers.
        keep_bias: Initial gate bias (:func:`lstmkit.lab.cell_variants.initialize_gate_biases`); ``None`` for the
            layers' default.
        patience: Epochs without a better validation loss before training stops early.
        seeds: Runs per combination.
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
        """Build from a lab's settings.

        Raises:
            SettingError: Unknown data, cell or setting.
        """
        grid = build_settings(cls, settings)
        if grid.data not in CORPORA:
            raise SettingError(unknown(grid.data, CORPORA, what="data"))
        for kind in grid.kinds:
            if kind not in KINDS:
                raise SettingError(unknown(kind, KINDS, what="cell"))
        return grid


def run(lab: Lab, progress: Progress) -> ExperimentResult:
    """Train every combination with every seed and evaluate the best weights on the test set."""
    settings = GridSettings.of(lab.settings)
    corpus = CORPORA[settings.data]()
    rows = []
    for values in itertools.product(settings.kinds, settings.layers, settings.directions, settings.shares):
        for seed in range(settings.seeds):
            combination = dict(zip(_AXES, values, strict=True)) | {"seed": seed}
            rows.append(combination | _train_one(settings, corpus, combination, progress))
    frame = pd.DataFrame(rows)
    table = summary(frame)
    return ExperimentResult(table, frame, figure(table, corpus.unit))


def _train_one(
    settings: GridSettings, corpus: Corpus, combination: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    seed = combination["seed"]
    with seeded(seed):
        model = _build(settings, corpus, combination)
    train_settings = TrainSettings(
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
    loader = Loader(corpus.train.first(combination["share"]), settings.batch_size, seed, settings.steps_per_epoch)
    valid, test = Loader(corpus.valid, 64), Loader(corpus.test, 64)
    title = ", ".join(f"{name} {value}" for name, value in combination.items())
    history = train(model, loader, valid, train_settings, progress=progress, title=title)
    row = {
        "units": model.trunk.hidden_size,
        "parameters": count_parameters(model.trunk),
        "epochs": len(history.rows),
        "valid": history.best_loss,
        "test": mean_loss(model, test, train_settings),
    }
    return row if corpus.is_correct is None else row | {"right": _accuracy(model, corpus, test)}


@torch.no_grad()
def _accuracy(model: SequenceModel, corpus: Corpus, loader: Loader) -> float:
    """The fraction of sequences with a correct output."""
    model.eval()
    assert corpus.is_correct is not None
    correct = [corpus.is_correct(model(batch.inputs, None, batch.lengths)[0], batch) for batch in loader.epoch()]
    return float(torch.cat(correct).float().mean())


def _build(settings: GridSettings, corpus: Corpus, combination: Mapping[str, Any]) -> SequenceModel:
    variant = KINDS[combination["kind"]]
    budget = count_parameters(KINDS["LSTM"].build(corpus.input_size, settings.units))
    shape: dict[str, Any] = {"num_layers": combination["layers"], "bidirectional": combination["directions"] == 2}
    width = hidden_size_for_budget(variant, corpus.input_size, budget, **shape)
    trunk = variant.build(corpus.input_size, width, dropout=settings.dropout, **shape)
    if settings.keep_bias is not None:
        initialize_gate_biases(trunk, settings.keep_bias)
    head = _DropoutHead(settings.dropout, corpus.head(trunk.output_size))
    return SequenceModel(nn.Identity(), trunk, head)


class _DropoutHead(nn.Module):
    """A head with dropout on its input."""

    def __init__(self, dropout: float, head: Any) -> None:
        super().__init__()
        self.dropout, self.head = nn.Dropout(dropout), head
        self.loss = head.loss

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(features))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per combination: the mean over seeds and its 95 % confidence interval (Student's t).

    With two seeds, ``from`` and ``to`` are the two values, since the interval would be too wide to be useful.
    """
    table = []
    for _, group in rows.groupby(list(_AXES), sort=False):
        first = group.iloc[0]
        test, n = group["test"].to_numpy(), len(group)
        half = math.nan if n == 1 else float(np.ptp(test)) / 2
        if n > 2:
            half = stats.t.ppf(0.975, n - 1) * test.std(ddof=1) / math.sqrt(n)
        table.append(
            {
                "cell": first["kind"],
                "layers": int(first["layers"]),
                "directions": int(first["directions"]),
                "fraction of data": float(first["share"]),
                "units": int(first["units"]),
                "parameters": int(first["parameters"]),
                "test": float(test.mean()),
                "from": float(test.mean() - half),
                "to": float(test.mean() + half),
                "valid": float(group["valid"].mean()),
                **({"accuracy, %": 100 * float(group["right"].mean())} if "right" in group else {}),
                "seeds": n,
            }
        )
    return pd.DataFrame(table)


def figure(table: pd.DataFrame, unit: str) -> Figure:
    """Draw the test loss of each cell against depth, directions or amount of data, or as points if none varies.

    Args:
        table: From :func:`summary`.
        unit: Unit of the loss.
    """
    x_column = next((name for name in _X_COLUMNS if table[name].nunique() > 1), None)
    return _points(table, unit) if x_column is None else _lines(table, x_column, unit)


def _points(table: pd.DataFrame, unit: str) -> Figure:
    figure_ = new_figure(1.0 + 0.3 * len(table))
    ax = figure_.subplots()
    y = np.arange(len(table))
    ax.axvline(table["test"].iloc[0], color=GRAY, linewidth=0.8)
    half = table["to"] - table["test"]
    ax.errorbar(table["test"], y, xerr=half.fillna(0), fmt="o", color=BLUE, capsize=3, linewidth=1.4)
    style_axes(ax)
    ax.set_yticks(y, table["cell"])
    ax.invert_yaxis()
    spread = "95 % confidence interval" if table["seeds"].max() > 2 else "range over seeds"
    ax.set_xlabel(f"test loss, {unit}; lower is better; {spread}", fontsize=SMALL)
    return figure_


def _lines(table: pd.DataFrame, x_column: str, unit: str) -> Figure:
    figure_ = new_figure(3.4)
    ax = figure_.subplots()
    handles: dict[str, Any] = {}
    others = [name for name in _X_COLUMNS if name != x_column and table[name].nunique() > 1]
    for i, (_, group) in enumerate(table.groupby(["cell", *others], sort=False)):
        half, style = (group["to"] - group["test"]).fillna(0), {"marker": MARKERS[i % len(MARKERS)], **line_style(i)}
        bars = ax.errorbar(group[x_column], group["test"], yerr=half, capsize=3, **style)
        first = group.iloc[0]
        handles[", ".join([first["cell"], *(f"{name} {first[name]:g}" for name in others)])] = bars.lines[0]
    style_axes(ax)
    if x_column == "fraction of data":
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    ax.set_xticks(sorted(set(table[x_column])), [f"{v:g}" for v in sorted(set(table[x_column]))])
    ax.set_xlabel(x_column, fontsize=SMALL)
    ax.set_ylabel(f"test loss, {unit}", fontsize=SMALL)
    legend(figure_, handles)
    return figure_
