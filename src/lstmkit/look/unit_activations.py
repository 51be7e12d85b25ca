"""Which units fire on what: the steps at which a unit holds most, and what is known of those steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.errors import UserError
from lstmkit.look.gates import label_time
from lstmkit.look.traces import ExampleSequence, LayerTrace
from lstmkit.plots.style import BLACK, BLUE, DASHES, GREY, SMALL, new_figure, shown, style_axes

Example = tuple[ExampleSequence, LayerTrace]

_AROUND = 4  # labels shown to either side of a step
_COLUMNS = ("annotation", "unit", "chosen", "checked")
_LEAST = 8  # known steps in each half, below which a correlation says nothing


def check_units(units: Sequence[int], seen: LayerTrace) -> None:
    """
    Raises:
        UserError: One of them does not exist.
    """
    width = seen.state.shape[1]
    for unit in units:
        if not 0 <= unit < width:
            raise UserError(f"there is no unit {unit} in {seen.place}: it has 0 to {width - 1}")


def peak_activations(examples: Sequence[Example], units: Sequence[int], most: int = 5) -> pd.DataFrame:
    """The steps at which each unit holds most and least, over all examples.

    Of steps beside each other, where a unit stays high, only the highest is named.

    Args:
        examples: Specimens, and what one layer and direction did on each.
        units: From 0.
        most: Steps at either end, for each unit.

    Returns:
        ``unit, held, step, at, around`` and, of several examples, ``example``: what the unit held, the step (from 0),
        its label, and the labels around it.

    Raises:
        UserError: A unit that does not exist.
    """
    rows = []
    for unit in units:
        for example_sequence, seen in examples:
            check_units([unit], seen)
            held = seen.state[:, unit]
            for way in (1, -1):
                rows += [(unit, way, example_sequence, step, float(held[step])) for step in _peaks(way * held, most)]
    found = []
    for unit in units:
        for way in (1, -1):
            of_unit = sorted((row for row in rows if row[:2] == (unit, way)), key=lambda row: -way * row[4])
            found += of_unit[:most]
    several = len(examples) > 1
    return pd.DataFrame(
        [
            {"unit": unit, "held": held}
            | ({"example": shown(example_sequence.name, 30)} if several else {})
            | {"step": step, "at": _label(example_sequence, step), "around": _around(example_sequence, step)}
            for unit, _, example_sequence, step, held in found
        ]
    )


def _peaks(values: np.ndarray, most: int) -> list[int]:
    """The highest steps, each no lower than those beside it."""
    edges = np.concatenate([[-np.inf], values, [-np.inf]])
    tops = np.flatnonzero((values > edges[:-2]) & (values >= edges[2:]))  # of a plateau its first step
    return [int(step) for step in tops[np.argsort(-values[tops], kind="stable")[:most]]]


def _label(example_sequence: ExampleSequence, step: int) -> str:
    return (
        ""
        if example_sequence.labels is None or step >= len(example_sequence.labels)
        else shown(example_sequence.labels[step], 20) or "␣"
    )


def _around(example_sequence: ExampleSequence, step: int) -> str:
    if example_sequence.labels is None:
        return ""
    words = [
        _label(example_sequence, s)
        for s in range(max(0, step - _AROUND), min(len(example_sequence.labels), step + _AROUND + 1))
    ]
    gap = "" if all(len(word) == 1 for word in words) else " "
    return gap.join(words)


def correlations(examples: Sequence[Example], most: int = 3) -> pd.DataFrame:
    """Which units go along with what is known of the steps.

    Of many units one will go along with anything by chance. So the units are chosen on the first half of the steps, and
    the second half, which had no say in it, tells what to believe. Numbers and truth values are held against the state
    as they are; of categories, each stands for the unit's mean state in it, taken from the first half alone.

    Args:
        examples: Specimens with annotations, and what one layer and direction did on each.
        most: Units for each annotation.

    Returns:
        ``annotation, unit, chosen, checked``: Pearson's correlation in the first and in the second half of the steps.
        Annotations that do not vary, or are hardly known, are left out.
    """
    names = list(dict.fromkeys(name for example_sequence, _ in examples for name in example_sequence.annotations))
    rows = []
    for name in names:
        noted, state = _annotated_states(examples, name)
        half = len(noted) // 2
        first, second = slice(0, half), slice(half, None)
        if half < _LEAST:
            continue
        chosen = _correlation(*_against(noted, noted[first], state[first], state[first]))
        checked = _correlation(*_against(noted, noted[second], state[second], state[first]))
        best = np.argsort(-np.abs(np.nan_to_num(chosen)), kind="stable")[:most]
        rows += [(name, int(unit), chosen[unit], checked[unit]) for unit in best if math.isfinite(chosen[unit])]
    return pd.DataFrame(dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True)) if rows else {})


def _annotated_states(examples: Sequence[Example], name: str) -> tuple[np.ndarray, np.ndarray]:
    """One annotation and the states ``(N, H)`` at all steps at which it is known."""
    notes, states = [], []
    for example_sequence, seen in examples:
        if name not in example_sequence.annotations:
            continue
        note = np.asarray(example_sequence.annotations[name])
        if note.shape != (seen.steps,):
            raise UserError(f"the annotation {name!r} is {note.shape}, expected one for each of {seen.steps} steps")
        known = note != "" if note.dtype.kind in "US" else ~pd.isna(note)
        notes.append(note[known])
        states.append(seen.state[known].astype(float))
    return np.concatenate(notes), np.concatenate(states)


def _against(
    noted: np.ndarray, note: np.ndarray, state: np.ndarray, learnt: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The annotation as numbers ``(N, H)`` or ``(N, 1)``, beside the states.

    Args:
        noted: All of the annotation; its first ``len(learnt)`` entries belong to ``learnt``.
        note: The part that is compared.
        state: Of that part.
        learnt: States that tell what a category stands for.
    """
    if note.dtype.kind not in "USO":
        return note.astype(float)[:, None], state
    means = pd.DataFrame(learnt).groupby(noted[: len(learnt)]).mean()
    return means.reindex(note).to_numpy(), state


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each column, over the rows where both are known; NaN where one does not vary."""
    known = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    x, y = x[known], y[known]
    if not len(x):
        return np.full(y.shape[1], np.nan)
    varies = (np.ptp(x, axis=0) > 0) & (np.ptp(y, axis=0) > 0)  # a rounded mean leaves of a constant more than nothing
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (x * y).sum(axis=0) / np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.where(varies, found, np.nan)


def most_variable_units(seen: LayerTrace, most: int) -> list[int]:
    """Units worth a look where none is asked for: those whose state varies most."""
    return [int(unit) for unit in np.argsort(-np.nan_to_num(seen.state.std(axis=0)), kind="stable")[:most]]


def state_figure(example: Example, units: Sequence[int]) -> Figure:
    """What some units hold over one sequence, a panel a unit.

    Args:
        example: The sequence, and what one layer and direction did on it.
        units: From 0.

    Raises:
        UserError: A unit that does not exist.
    """
    example_sequence, seen = example
    check_units(units, seen)
    figure = new_figure(0.6 + 0.95 * len(units))
    axes = figure.subplots(len(units), 1, squeeze=False, sharex=True)[:, 0]
    for ax, unit in zip(axes, units, strict=True):
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.plot(seen.state[:, unit], color=BLUE, linewidth=1.3, marker="." if seen.steps == 1 else "")
        ax.set_ylabel(f"unit {unit}", fontsize=SMALL)
        style_axes(ax)
        if example_sequence.begins is not None:
            ax.axvline(example_sequence.begins - 0.5, color=BLACK, linestyle=DASHES[1], linewidth=1.2)
    label_time(axes[-1], seen.steps, example_sequence.labels)
    return figure
