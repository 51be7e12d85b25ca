"""Unit activations: the steps at which a unit's state peaks, and correlations with annotations of the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.errors import UserError
from lstmkit.look.gates import label_time
from lstmkit.look.traces import ExampleSequence, LayerTrace
from lstmkit.plots.style import BLACK, BLUE, DASHES, GRAY, SMALL, new_figure, style_axes, truncated

TracedExample = tuple[ExampleSequence, LayerTrace]

_CONTEXT = 4  # labels shown on either side of a step
_COLUMNS = ("annotation", "unit", "selection", "held out")
_MIN_STEPS = 8  # annotated steps in each half below which no correlation is computed


def check_units(units: Sequence[int], trace: LayerTrace) -> None:
    """Check that the units exist.

    Raises:
        UserError: A unit does not exist in the layer.
    """
    width = trace.state.shape[1]
    for unit in units:
        if not 0 <= unit < width:
            raise UserError(f"unit {unit} does not exist in {trace.key}: choose 0 to {width - 1}")


def peak_activations(examples: Sequence[TracedExample], units: Sequence[int], n_peaks: int = 5) -> pd.DataFrame:
    """The steps at which each unit's state has its highest and lowest values, over all examples.

    Only local extrema count, so that a unit that stays high for several steps is listed once.

    Args:
        examples: Sequences and their traces of one layer and direction.
        units: Units, from 0.
        n_peaks: Highest and lowest steps to list per unit.

    Returns:
        Columns ``unit, activation, step, label, context`` and, if there are several examples, ``example``: the state,
        the step (from 0), its label and the labels around it.

    Raises:
        UserError: A unit does not exist.
    """
    rows = []
    for unit in units:
        for example_sequence, trace in examples:
            check_units([unit], trace)
            state = trace.state[:, unit]
            for sign in (1, -1):
                peaks = _local_maxima(sign * state, n_peaks)
                rows += [(unit, sign, example_sequence, step, float(state[step])) for step in peaks]
    selected = []
    for unit in units:
        for sign in (1, -1):
            candidates = sorted((row for row in rows if row[:2] == (unit, sign)), key=lambda row: -sign * row[4])
            selected += candidates[:n_peaks]
    several = len(examples) > 1
    return pd.DataFrame(
        [
            {"unit": unit, "activation": activation}
            | ({"example": truncated(example_sequence.name, 30)} if several else {})
            | {"step": step, "label": _label(example_sequence, step), "context": _context(example_sequence, step)}
            for unit, _, example_sequence, step, activation in selected
        ]
    )


def _local_maxima(values: np.ndarray, count: int) -> list[int]:
    """The steps of the ``count`` highest local maxima, highest first; a plateau counts once, at its first step."""
    padded = np.concatenate([[-np.inf], values, [-np.inf]])
    maxima = np.flatnonzero((values > padded[:-2]) & (values >= padded[2:]))
    return [int(step) for step in maxima[np.argsort(-values[maxima], kind="stable")[:count]]]


def _label(example_sequence: ExampleSequence, step: int) -> str:
    return (
        ""
        if example_sequence.labels is None or step >= len(example_sequence.labels)
        else truncated(example_sequence.labels[step], 20) or "␣"
    )


def _context(example_sequence: ExampleSequence, step: int) -> str:
    if example_sequence.labels is None:
        return ""
    words = [
        _label(example_sequence, s)
        for s in range(max(0, step - _CONTEXT), min(len(example_sequence.labels), step + _CONTEXT + 1))
    ]
    gap = "" if all(len(word) == 1 for word in words) else " "
    return gap.join(words)


def correlations(examples: Sequence[TracedExample], n_units: int = 3) -> pd.DataFrame:
    """The units whose state correlates most with each annotation of the steps.

    Among many units some correlate with anything by chance. So units are selected on the first half of the steps, and
    the second half gives an unbiased correlation. Numbers and booleans are correlated with the state directly. A
    category is first replaced by the unit's mean state in it, estimated on the first half.

    Args:
        examples: Sequences with annotations and their traces of one layer and direction.
        n_units: Units to list per annotation.

    Returns:
        Columns ``annotation, unit, selection, held out``: Pearson correlation in the first and in the second half of
        the steps. Annotations that are constant or known at fewer than 16 steps are left out.

    Raises:
        UserError: An annotation has not one value per step.
    """
    names = list(dict.fromkeys(name for example_sequence, _ in examples for name in example_sequence.annotations))
    rows = []
    for name in names:
        annotation, state = _annotated_states(examples, name)
        half = len(annotation) // 2
        first, second = slice(0, half), slice(half, None)
        if half < _MIN_STEPS:
            continue
        selection = _correlation(_as_numbers(annotation, annotation[first], state[first]), state[first])
        held_out = _correlation(_as_numbers(annotation, annotation[second], state[first]), state[second])
        best = np.argsort(-np.abs(np.nan_to_num(selection)), kind="stable")[:n_units]
        rows += [(name, int(unit), selection[unit], held_out[unit]) for unit in best if math.isfinite(selection[unit])]
    return pd.DataFrame(dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True)) if rows else {})


def _annotated_states(examples: Sequence[TracedExample], name: str) -> tuple[np.ndarray, np.ndarray]:
    """One annotation ``(N,)`` and the states ``(N, H)`` at all steps with a known annotation."""
    annotations, states = [], []
    for example_sequence, trace in examples:
        if name not in example_sequence.annotations:
            continue
        annotation = np.asarray(example_sequence.annotations[name])
        if annotation.shape != (trace.steps,):
            raise UserError(
                f"the annotation {name!r} has shape {annotation.shape}: expected one value for each of "
                f"{trace.steps} steps"
            )
        known = annotation != "" if annotation.dtype.kind in "US" else ~pd.isna(annotation)
        annotations.append(annotation[known])
        states.append(trace.state[known].astype(float))
    return np.concatenate(annotations), np.concatenate(states)


def _as_numbers(annotation: np.ndarray, part: np.ndarray, first_states: np.ndarray) -> np.ndarray:
    """A part of an annotation as numbers, ``(N, 1)``, or for categories ``(N, H)``: the mean state of each category.

    Args:
        annotation: The whole annotation; its first entries belong to ``first_states``.
        part: The part to convert.
        first_states: States from which the means are estimated.
    """
    if part.dtype.kind not in "USO":
        return part.astype(float)[:, None]
    means = pd.DataFrame(first_states).groupby(annotation[: len(first_states)]).mean()
    return means.reindex(part).to_numpy()


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson correlation of each column over the rows in which both are finite; NaN if either is constant."""
    known = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    x, y = x[known], y[known]
    if not len(x):
        return np.full(y.shape[1], np.nan)
    varies = (np.ptp(x, axis=0) > 0) & (np.ptp(y, axis=0) > 0)  # a rounded mean leaves a residue of a constant
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (x * y).sum(axis=0) / np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.where(varies, correlation, np.nan)


def most_variable_units(trace: LayerTrace, count: int) -> list[int]:
    """The units whose state has the largest standard deviation, largest first."""
    return [int(unit) for unit in np.argsort(-np.nan_to_num(trace.state.std(axis=0)), kind="stable")[:count]]


def state_figure(example: TracedExample, units: Sequence[int]) -> Figure:
    """Draw the state of units over one sequence, one panel per unit.

    Args:
        example: The sequence and its trace of one layer and direction.
        units: Units, from 0.

    Raises:
        UserError: A unit does not exist.
    """
    example_sequence, trace = example
    check_units(units, trace)
    figure = new_figure(0.6 + 0.95 * len(units))
    axes = figure.subplots(len(units), 1, squeeze=False, sharex=True)[:, 0]
    for ax, unit in zip(axes, units, strict=True):
        ax.axhline(0, color=GRAY, linewidth=0.8)
        ax.plot(trace.state[:, unit], color=BLUE, linewidth=1.3, marker="." if trace.steps == 1 else "")
        ax.set_ylabel(f"unit {unit}", fontsize=SMALL)
        style_axes(ax)
        if example_sequence.forecast_start is not None:
            ax.axvline(example_sequence.forecast_start - 0.5, color=BLACK, linestyle=DASHES[1], linewidth=1.2)
    label_time(axes[-1], trace.steps, example_sequence.labels)
    return figure
