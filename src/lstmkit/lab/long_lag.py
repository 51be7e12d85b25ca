"""Long time lag tasks: which cells solve them by the criterion of the 1997 paper, and with how many sequences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lstmkit.data.batch import Loader
from lstmkit.errors import SettingError, TrainingError
from lstmkit.lab import ExperimentResult, Lab, build_settings
from lstmkit.lab.cell_variants import KINDS, count_parameters, hidden_size_for_budget, initialize_gate_biases
from lstmkit.lab.synthetic_tasks import TASKS, GeneratedSequences, Task
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.plots.style import BLUE, GRAY, MARKERS, SMALL, legend, line_style, new_figure, style_axes
from lstmkit.progress import Progress
from lstmkit.settings import unknown
from lstmkit.training.optimization import TrainSettings
from lstmkit.training.random_state import seeded
from lstmkit.training.train import train

SOLVED = "solved"
_TEST_SEED = 2**31  # different from all seeds of training and checks


@dataclass(frozen=True)
class LongLagSettings:
    """Settings of a long-lag experiment.

    Attributes:
        task: A key of :data:`lstmkit.lab.synthetic_tasks.TASKS`.
        lengths: Sequence lengths, the paper's T; a model is trained for each.
        kinds: Cell variants, keys of :data:`lstmkit.lab.cell_variants.KINDS`.
        units: Hidden size of the LSTM; the others get about the same number of parameters.
        sequences: Maximum number of training sequences.
        batch_size: Sequences per batch.
        lr: Learning rate of AdamW.
        rates: By cell variant, learning rates to try instead of ``lr``; the table has the best of them.
        clip: Maximum norm of the gradient; 0 for no clipping.
        keep_bias: Initial gate bias (:func:`lstmkit.lab.cell_variants.initialize_gate_biases`). ``None`` for the
            logarithm of T, which makes the memory half-life about as long as the lag.
        check_every: Training sequences between two checks of the criterion.
        checked: New sequences per check.
        tolerated: Number of errors among them that is tolerated.
        tested: Sequences of the final test.
        seeds: Runs per combination.
    """

    task: str
    lengths: tuple[int, ...]
    kinds: tuple[str, ...] = ("RNN", "GRU", "LSTM")
    units: int = 16
    sequences: int = 40_000
    batch_size: int = 20
    lr: float = 1e-2
    rates: Mapping[str, Sequence[float]] = field(default_factory=dict)
    clip: float = 1.0
    keep_bias: float | None = None
    check_every: int = 2_000
    checked: int = 2_000
    tolerated: int = 0
    tested: int = 2_560
    seeds: int = 3

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> LongLagSettings:
        """Build from a lab's settings.

        Raises:
            SettingError: Unknown task, cell or setting, or a length below the task's minimum.
        """
        experiment = build_settings(cls, settings)
        if experiment.task not in TASKS:
            raise SettingError(unknown(experiment.task, TASKS, what="task"))
        for kind in (*experiment.kinds, *experiment.rates):
            if kind not in KINDS:
                raise SettingError(unknown(kind, KINDS, what="cell"))
        min_length = TASKS[experiment.task].min_length
        for length in experiment.lengths:
            if length < min_length:
                raise SettingError(f"{experiment.task} needs lengths of at least {min_length}, got {length}")
        return experiment


def run(lab: Lab, progress: Progress) -> ExperimentResult:
    """Train every cell variant on every length with every seed."""
    settings = LongLagSettings.of(lab.settings)
    rows = run_all(settings, progress)
    best = best_learning_rates(rows)
    return ExperimentResult(summary(best, lab.published), rows, figure(best, settings, lab.published))


def run_all(settings: LongLagSettings, progress: Progress) -> pd.DataFrame:
    """Train all combinations of length, cell variant, learning rate and seed.

    Returns:
        One row per run with ``kind, length, lr, seed, units, parameters, solved, ended, sequences, wrong, loss``:
        whether and after how many training sequences the criterion was met, errors among the ``tested`` sequences, and
        test loss.
    """
    rows: list[dict[str, Any]] = []
    for length in settings.lengths:
        task = TASKS[settings.task](length)
        for name in settings.kinds:
            for lr in settings.rates.get(name, [settings.lr]):
                for seed in range(settings.seeds):
                    combination = {"kind": name, "length": length, "lr": lr, "seed": seed}
                    rows.append(combination | _train_one(replace(settings, lr=lr), task, name, seed, progress))
    return pd.DataFrame(rows)


def best_learning_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs with the best learning rate of each cell variant and length: most solved, then fewest test errors."""
    scores = rows.groupby(["length", "kind", "lr"], sort=False)[["solved", "wrong"]].mean().reset_index()
    best = scores.sort_values(["solved", "wrong"], ascending=[False, True]).drop_duplicates(["length", "kind"])
    return rows.merge(best[["length", "kind", "lr"]], on=["length", "kind", "lr"])


def _train_one(settings: LongLagSettings, task: Task, name: str, seed: int, progress: Progress) -> dict[str, Any]:
    with seeded(seed):
        model = build(settings, task, name)
    title = f"{task.title} {task.length}, {name}, seed {seed}"
    ended, sequences = train_until_solved(settings, task, model, seed, progress, title)
    errors, loss = count_errors(model, task, settings.tested, _TEST_SEED + seed)
    return {
        "units": model.trunk.hidden_size,
        "parameters": count_parameters(model),
        "solved": ended == SOLVED,
        "ended": ended,
        "sequences": sequences,
        "wrong": errors,
        "loss": loss,
    }


def train_until_solved(
    settings: LongLagSettings, task: Task, model: Model, seed: int, progress: Progress, title: str
) -> tuple[str, int]:
    """Train until the criterion is met.

    Returns:
        ``"solved"``, ``"not solved"`` or ``"broke down"`` (the loss or gradient overflowed), and the number of training
        sequences.
    """
    batches = math.ceil(settings.check_every / settings.batch_size)
    per_epoch = batches * settings.batch_size
    epochs = math.ceil(settings.sequences / per_epoch)
    checks = iter(range(1, epochs + 1))

    def solved(model: Model) -> bool:
        check_seed = 1_000_003 * (seed + 1) + next(checks)
        return count_errors(model, task, settings.checked, check_seed)[0] <= settings.tolerated

    loader = Loader(GeneratedSequences(task, epochs * per_epoch, seed), settings.batch_size, seed, batches)
    train_settings = _train_settings(settings, epochs, seed)
    try:
        history = train(model, loader, None, train_settings, progress=progress, title=title, until=solved)
    except TrainingError:
        return "broke down", (epochs - len(list(checks))) * per_epoch
    return SOLVED if history.ended == "goal reached" else "not solved", len(history.rows) * per_epoch


def build(settings: LongLagSettings, task: Task, name: str) -> SequenceModel:
    """Build the network of a cell variant for a task, with about as many parameters as the LSTM."""
    lstm = KINDS["LSTM"].build(task.input_size, settings.units)
    variant = KINDS[name]
    width = hidden_size_for_budget(variant, task.input_size, count_parameters(lstm))
    bias = math.log(task.length) if settings.keep_bias is None else settings.keep_bias
    trunk = variant.build(task.input_size, width)
    initialize_gate_biases(trunk, bias)
    return SequenceModel(torch.nn.Identity(), trunk, task.head(trunk.output_size))  # type: ignore[arg-type]


def _train_settings(settings: LongLagSettings, epochs: int, seed: int) -> TrainSettings:
    return TrainSettings(
        epochs=epochs,
        lr=settings.lr,
        weight_decay=0.0,
        warmup=0.0,
        lr_schedule="none",
        max_grad_norm=settings.clip,
        ema_decay=0.99,
        patience=0,
        precision="float32",
        seed=seed,
        device=torch.device("cpu"),
    )


@torch.no_grad()
def count_errors(model: Model, task: Task, count: int, seed: int) -> tuple[int, float]:
    """Number of errors of the model on ``count`` new sequences, and its mean loss on them."""
    model.eval()
    errors, total = 0, 0.0
    for batch in Loader(GeneratedSequences(task, count, seed), 250).epoch():
        outputs, _ = model(batch.inputs, None, batch.lengths)
        errors += int((~task.is_correct(outputs, batch)).sum())
        total += float(model.loss(batch)[0]) * len(batch)
    return errors, total / count


def summary(rows: pd.DataFrame, published: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per length and cell variant: seeds that solved the task, median training sequences and test errors.

    Published figures are appended, as far as they are known.
    """
    table: list[dict[str, Any]] = []
    for _, group in rows.groupby(["length", "kind"], sort=False):
        first = group.iloc[0]
        solved = group.loc[group["solved"]]
        table.append(
            {
                "T": int(first["length"]),
                "cell": first["kind"],
                "units": int(first["units"]),
                "parameters": int(first["parameters"]),
                "lr": float(first["lr"]),
                "solved": f"{len(solved)} of {len(group)}",
                "sequences needed": float(solved["sequences"].median()) if len(solved) else math.nan,
                "test errors": float(group["wrong"].median()),
            }
        )
    for other in published:
        row = {"T": other["length"], "cell": other["name"], "sequences needed": other["sequences"]}
        table.append(row | {"test errors": other.get("wrong", math.nan)})
    return pd.DataFrame(table)


def figure(rows: pd.DataFrame, settings: LongLagSettings, published: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw test errors and the training sequences needed, against T or, for a single T, as bars."""
    return (_over_lengths if rows["length"].nunique() > 1 else _bars)(rows, settings, published)


def _over_lengths(rows: pd.DataFrame, settings: LongLagSettings, published: Sequence[Mapping[str, Any]]) -> Figure:
    figure_ = new_figure(3.6)
    left, right = figure_.subplots(1, 2)
    handles: dict[str, Any] = {}
    for i, kind in enumerate(settings.kinds):
        runs = rows.loc[rows["kind"] == kind]
        error_rate = runs.groupby("length")["wrong"].median() / settings.tested * 100
        style = line_style(i) | {"marker": MARKERS[i % len(MARKERS)], "linewidth": 1.6}
        (handles[kind],) = left.plot(error_rate.index, error_rate, **style)
        needed = runs.loc[runs["solved"]].groupby("length")["sequences"].median()
        right.plot(needed.index, needed, **style)
    if published:
        sequences = {p["length"]: p["sequences"] for p in published}
        style = line_style(6) | {"marker": "X", "linewidth": 1.0}
        (handles[published[0]["name"]],) = right.plot(list(sequences), list(sequences.values()), **style)
    left.set_ylabel("test error, %", fontsize=SMALL)
    left.set_ylim(-4, 104)
    right.set_ylabel("sequences until solved", fontsize=SMALL)
    if bool(rows["solved"].any()) or published:
        right.set_yscale("log")
    else:
        right.set_yticks([])
        layout = {"ha": "center", "va": "center", "transform": right.transAxes}
        right.text(0.5, 0.5, f"not solved within {settings.sequences:,} sequences", fontsize=SMALL, **layout)
    for ax in (left, right):
        style_axes(ax)
        ax.set_xlabel("T, steps", fontsize=SMALL)
        ax.set_xticks(_length_ticks({*rows["length"]}, {p["length"] for p in published}))
    left.set_xlim(right.get_xlim())
    legend(figure_, handles)
    return figure_


def _length_ticks(lengths: set[int], published: set[int]) -> list[int]:
    """All lengths that were run, and the published ones whose labels do not overlap them.

    >>> _length_ticks({100, 400, 1000}, {100, 500, 1000})
    [100, 400, 1000]
    """
    gap = 0.15 * (max(lengths | published) - min(lengths | published))
    return sorted(lengths | {n for n in published if all(abs(n - other) > gap for other in lengths)})


def _bars(rows: pd.DataFrame, settings: LongLagSettings, published: Sequence[Mapping[str, Any]]) -> Figure:
    lengths = {int(rows["length"].iloc[0]), *(p["length"] for p in published)}
    published_names = [p["name"] if len(lengths) == 1 else f"{p['name']}, T = {p['length']}" for p in published]
    names = [*settings.kinds, *published_names]
    figure_ = new_figure(0.9 + 0.34 * len(names))
    left, right = figure_.subplots(1, 2, sharey=True)
    for y, kind in enumerate(settings.kinds):
        runs = rows.loc[rows["kind"] == kind]
        _bar(left, y, float(runs["wrong"].median()) / settings.tested * 100, "{:.3g} %")
        needed = runs.loc[runs["solved"], "sequences"]
        if len(needed):
            _bar(right, y, float(needed.median()), "{:,.0f}")
        else:
            right.text(0, y, f" not solved within {settings.sequences:,}", va="center", fontsize=SMALL)
    for y, other in enumerate(published, len(settings.kinds)):
        if "wrong" in other:
            _bar(left, y, other["wrong"] / settings.tested * 100, "{:.3g} %", GRAY)
        _bar(right, y, other["sequences"], "{:,.0f}", GRAY)
    for ax, title in ((left, "test error"), (right, "sequences until solved")):
        style_axes(ax)
        ax.set_title(title, loc="left", fontsize=SMALL + 1)
        ax.set_xlim(0, 1.3 * ax.get_xlim()[1])
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    return figure_


def _bar(ax: Axes, y: int, value: float, text: str, color: str = BLUE) -> None:
    ax.barh(y, value, height=0.62, color=color)
    ax.text(value, y, f" {text.format(value)}", va="center", fontsize=SMALL)
