"""Which cell learns a task with a long time lag, by the 1997 paper's criterion, and from how many sequences."""

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
from lstmkit.lab import ExperimentResult, Lab, declared
from lstmkit.lab.cell_variants import KINDS, hidden_size_for_budget, initialize_gate_biases, parameters
from lstmkit.lab.synthetic_tasks import TASKS, GeneratedSequences, Task
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.plots.style import BLUE, GREY, MARKERS, SMALL, legend, line_style, new_figure, style_axes
from lstmkit.progress import Progress
from lstmkit.settings import unknown
from lstmkit.training.train import TrainSettings, seeded, train

SOLVED = "solved"
_TEST_SEED = 2**31  # apart from all training and checking seeds


@dataclass(frozen=True)
class LongLagSettings:
    """One task, and how it is learnt.

    Attributes:
        task: A name in :data:`lstmkit.lab.synthetic_tasks.TASKS`.
        lengths: The paper's T, each learnt for itself.
        kinds: Names in :data:`lstmkit.lab.cell_variants.KINDS`.
        units: Of the LSTM; the others get as many as its number of parameters allows.
        sequences: Training sequences at most.
        batch_size: Sequences in a step.
        lr: Learning rate of AdamW.
        rates: For a kind the learning rates that it is tried with, in place of ``lr``; the table has the best of them.
        clip: Largest norm of the gradient; 0 for none.
        keep_bias: How open the memory starts (:func:`lstmkit.lab.cell_variants.initialize_gate_biases`); ``None``: the logarithm of T,
            so that its half-life is about as long as the lag.
        check_every: Training sequences between two checks of the criterion.
        checked: Fresh sequences of a check.
        tolerated: How many of them may be wrong.
        tested: Sequences of the final test.
        seeds: Runs of each.
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
        """From a lab's settings.

        Raises:
            SettingError: An unknown task, cell or setting, or a length that the task cannot have.
        """
        found = declared(cls, settings)
        if found.task not in TASKS:
            raise SettingError(unknown(found.task, TASKS, what="task"))
        for kind in (*found.kinds, *found.rates):
            if kind not in KINDS:
                raise SettingError(unknown(kind, KINDS, what="cell"))
        for length in found.lengths:
            if length < TASKS[found.task].shortest:
                raise SettingError(f"{found.task} needs lengths of at least {TASKS[found.task].shortest}, got {length}")
        return found


def run(lab: Lab, progress: Progress) -> ExperimentResult:
    """Train every kind on every length, with every seed."""
    settings = LongLagSettings.of(lab.settings)
    rows = run_all(settings, progress)
    best = best_learning_rates(rows)
    return ExperimentResult(summary(best, lab.published), rows, figure(best, settings, lab.published))


def run_all(settings: LongLagSettings, progress: Progress) -> pd.DataFrame:
    """A row a run.

    Returns:
        ``kind, length, lr, seed, units, parameters, solved, ended, sequences, wrong, loss``: if the criterion was
        reached, after how many sequences (of a run that did not: all of them), how many of the ``tested`` were
        wrong, the loss.
    """
    rows: list[dict[str, Any]] = []
    for length in settings.lengths:
        task = TASKS[settings.task](length)
        for name in settings.kinds:
            for lr in settings.rates.get(name, [settings.lr]):
                for seed in range(settings.seeds):
                    about = {"kind": name, "length": length, "lr": lr, "seed": seed}
                    rows.append(about | _one(replace(settings, lr=lr), task, name, seed, progress))
    return pd.DataFrame(rows)


def best_learning_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each kind and length the runs with its best learning rate: most solved, then fewest wrong at the test."""
    scores = rows.groupby(["length", "kind", "lr"], sort=False)[["solved", "wrong"]].mean().reset_index()
    best = scores.sort_values(["solved", "wrong"], ascending=[False, True]).drop_duplicates(["length", "kind"])
    return rows.merge(best[["length", "kind", "lr"]], on=["length", "kind", "lr"])


def _one(settings: LongLagSettings, task: Task, name: str, seed: int, progress: Progress) -> dict[str, Any]:
    with seeded(seed):
        model = build(settings, task, name)
    ended, sequences = learn(settings, task, model, seed, progress, f"{task.title} {task.length}, {name}, seed {seed}")
    missed, loss = wrong(model, task, settings.tested, _TEST_SEED + seed)
    return {
        "units": model.trunk.hidden_size,
        "parameters": parameters(model),
        "solved": ended == SOLVED,
        "ended": ended,
        "sequences": sequences,
        "wrong": missed,
        "loss": loss,
    }


def learn(
    settings: LongLagSettings, task: Task, model: Model, seed: int, progress: Progress, title: str
) -> tuple[str, int]:
    """Train until the criterion is reached: how it ended, and after how many sequences.

    A training whose numbers overflow has "broken down": without clipping that is a finding.
    """
    batches = math.ceil(settings.check_every / settings.batch_size)
    per_epoch = batches * settings.batch_size
    epochs = math.ceil(settings.sequences / per_epoch)
    checks = iter(range(1, epochs + 1))

    def solved(model: Model) -> bool:
        return wrong(model, task, settings.checked, seed=1_000_003 * (seed + 1) + next(checks))[0] <= settings.tolerated

    loader = Loader(GeneratedSequences(task, epochs * per_epoch, seed), settings.batch_size, seed, batches)
    how = _train_settings(settings, epochs, seed)
    try:
        history = train(model, loader, None, how, progress=progress, title=title, until=solved)
    except TrainingError:
        return "broke down", (epochs - len(list(checks))) * per_epoch
    return SOLVED if history.ended == "goal reached" else "not solved", len(history.rows) * per_epoch


def build(settings: LongLagSettings, task: Task, name: str) -> SequenceModel:
    """The network of one kind for a task, with about the LSTM's number of parameters."""
    lstm = KINDS["LSTM"].build(task.input_size, settings.units)
    kind = KINDS[name]
    width = hidden_size_for_budget(kind, task.input_size, parameters(lstm))
    bias = math.log(task.length) if settings.keep_bias is None else settings.keep_bias
    trunk = kind.build(task.input_size, width)
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
def wrong(model: Model, task: Task, count: int, seed: int) -> tuple[int, float]:
    """How many of so many fresh sequences the model answers wrongly, and its mean loss on them."""
    model.eval()
    missed, total = 0, 0.0
    for batch in Loader(GeneratedSequences(task, count, seed), 250).epoch():
        outputs, _ = model(batch.inputs, None, batch.lengths)
        missed += int((~task.right(outputs, batch)).sum())
        total += float(model.loss(batch)[0]) * len(batch)
    return missed, total / count


def summary(rows: pd.DataFrame, published: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row for each length and kind: how many seeds solved it, from how many sequences (median), wrong at the test.

    What was published stands below, with what of it is known.
    """
    found: list[dict[str, Any]] = []
    for _, group in rows.groupby(["length", "kind"], sort=False):
        first = group.iloc[0]
        done = group.loc[group["solved"]]
        found.append(
            {
                "T": int(first["length"]),
                "cell": first["kind"],
                "units": int(first["units"]),
                "parameters": int(first["parameters"]),
                "lr": float(first["lr"]),
                "solved": f"{len(done)} of {len(group)}",
                "sequences needed": float(done["sequences"].median()) if len(done) else math.nan,
                "wrong at the test": float(group["wrong"].median()),
            }
        )
    for other in published:
        known = {"T": other["length"], "cell": other["name"], "sequences needed": other["sequences"]}
        found.append(known | {"wrong at the test": other.get("wrong", math.nan)})
    return pd.DataFrame(found)


def figure(rows: pd.DataFrame, settings: LongLagSettings, published: Sequence[Mapping[str, Any]]) -> Figure:
    """The share of wrong answers at the test, and the sequences that were needed: over T, or of one T a bar a cell."""
    return (_over_lengths if rows["length"].nunique() > 1 else _bars)(rows, settings, published)


def _over_lengths(rows: pd.DataFrame, settings: LongLagSettings, published: Sequence[Mapping[str, Any]]) -> Figure:
    drawn = new_figure(3.6)
    left, right = drawn.subplots(1, 2)
    handles: dict[str, Any] = {}
    for i, kind in enumerate(settings.kinds):
        of_kind = rows.loc[rows["kind"] == kind]
        share = of_kind.groupby("length")["wrong"].median() / settings.tested * 100
        style = line_style(i) | {"marker": MARKERS[i % len(MARKERS)], "linewidth": 1.6}
        (handles[kind],) = left.plot(share.index, share, **style)
        needed = of_kind.loc[of_kind["solved"]].groupby("length")["sequences"].median()
        right.plot(needed.index, needed, **style)
    if published:
        at = {p["length"]: p["sequences"] for p in published}
        style = line_style(6) | {"marker": "X", "linewidth": 1.0}
        (handles[published[0]["name"]],) = right.plot(list(at), list(at.values()), **style)
    left.set_ylabel("wrong at the test, %", fontsize=SMALL)
    left.set_ylim(-4, 104)
    right.set_ylabel("sequences until solved", fontsize=SMALL)
    if bool(rows["solved"].any()) or published:
        right.set_yscale("log")
    else:
        right.set_yticks([])
        where = {"ha": "center", "va": "center", "transform": right.transAxes}
        right.text(0.5, 0.5, f"by no cell in {settings.sequences:,}", fontsize=SMALL, **where)
    for ax in (left, right):
        style_axes(ax)
        ax.set_xlabel("T, steps", fontsize=SMALL)
        ax.set_xticks(sorted({*rows["length"], *(p["length"] for p in published)}))
    left.set_xlim(right.get_xlim())
    legend(drawn, handles)
    return drawn


def _bars(rows: pd.DataFrame, settings: LongLagSettings, published: Sequence[Mapping[str, Any]]) -> Figure:
    names = [*settings.kinds, *(p["name"] for p in published)]
    drawn = new_figure(0.9 + 0.34 * len(names))
    left, right = drawn.subplots(1, 2, sharey=True)
    for y, kind in enumerate(settings.kinds):
        of_kind = rows.loc[rows["kind"] == kind]
        _bar(left, y, float(of_kind["wrong"].median()) / settings.tested * 100, "{:.3g} %")
        needed = of_kind.loc[of_kind["solved"], "sequences"]
        if len(needed):
            _bar(right, y, float(needed.median()), "{:,.0f}")
        else:
            right.text(0, y, f" not solved in {settings.sequences:,}", va="center", fontsize=SMALL)
    for y, other in enumerate(published, len(settings.kinds)):
        if "wrong" in other:
            _bar(left, y, other["wrong"] / settings.tested * 100, "{:.3g} %", GREY)
        _bar(right, y, other["sequences"], "{:,.0f}", GREY)
    for ax, title in ((left, "wrong at the test"), (right, "sequences until solved")):
        style_axes(ax)
        ax.set_title(title, loc="left", fontsize=SMALL + 1)
        ax.set_xlim(0, 1.3 * ax.get_xlim()[1])
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    return drawn


def _bar(ax: Axes, y: int, value: float, text: str, colour: str = BLUE) -> None:
    ax.barh(y, value, height=0.62, color=colour)
    ax.text(value, y, f" {text.format(value)}", va="center", fontsize=SMALL)
