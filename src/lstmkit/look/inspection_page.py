"""What there is to see inside a model, as sections of a page: gates, memory, saturation, units, effects, the cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from lstmkit.errors import SettingError, UserError
from lstmkit.look.attribution import LONGEST, attribution_figure, effects
from lstmkit.look.cell_diagram import cell_figure
from lstmkit.look.cell_step import SUPPORTED_CELLS, cell_step
from lstmkit.look.gates import gate_figure, half_life_figure, saturation_figure
from lstmkit.look.traces import ExampleSequence, LayerKey, LayerTrace, trace_layers
from lstmkit.look.unit_activations import check_units, correlations, most_variable_units, peak_activations, state_figure
from lstmkit.report import Section, write_report

_SHOWN_UNITS = 4  # whose states are drawn where none is asked for


@dataclass(frozen=True)
class InspectionOptions:
    """What of a model to show.

    Attributes:
        units: Units to draw, from 0; empty for all gates, and the states of those that vary most.
        layer: The layer to look at, from 1; ``None`` for all, of which units and cell are shown of the last.
        sort_by: The gate or state that the heat maps are sorted by.
        step: The step of the cell's drawing, from 0; ``None`` for the last (before a forecast's horizon).
        unroll: Draw the cell alone.
    """

    units: tuple[int, ...] = ()
    layer: int | None = None
    sort_by: str = "forget"
    step: int | None = None
    unroll: bool = False


def sections(
    model: nn.Module, example_sequences: Sequence[ExampleSequence], view: InspectionOptions | None = None
) -> list[Section]:
    """Everything to be seen inside a model.

    Args:
        model: Any module with recurrent layers.
        specimens: The first is drawn; all of them are searched for what units fire on.
        view: What to show.

    Raises:
        UserError: A layer, unit or step that there is not; or what :func:`trace_layers` refuses.
    """
    view, example_sequence = view or InspectionOptions(), example_sequences[0]
    seen = _chosen(trace_layers(model, example_sequence), view)
    *_, main = (place for place in seen if not place.direction)  # the last that ran
    check_units(view.units, seen[main])
    if view.unroll:
        return [_cell(model, example_sequence, seen[main], view)]
    found = [
        section for one in seen.values() for section in gate_sections(example_sequence, one, view, alone=len(seen) == 1)
    ]
    examples = [
        (example_sequence, seen[main]),
        *((other, trace_layers(model, other)[main]) for other in example_sequences[1:]),
    ]
    found += _units(examples, view)
    found.append(_effect(model, example_sequence, seen[main].steps))
    if seen[main].layer.specs[main.layer].kind in SUPPORTED_CELLS:
        found.append(_cell(model, example_sequence, seen[main], view))
    return found


def write_inspection_page(
    path: str | Path,
    model: nn.Module,
    example_sequences: ExampleSequence | Sequence[ExampleSequence],
    view: InspectionOptions | None = None,
) -> list[Section]:
    """Write :func:`sections` as one self-contained page, and return them.

    Args:
        path: The HTML file.
        model: Any module with recurrent layers.
        specimens: One, or several to search.
        view: What to show.

    >>> import tempfile, torch
    >>> from lstmkit import LSTM
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shown = write_inspection_page(f"{folder}/look.html", LSTM(2, 4), ExampleSequence(torch.randn(30, 1, 2)))
    >>> shown[0].title
    'The gates'
    """
    shown = sections(
        model, [example_sequences] if isinstance(example_sequences, ExampleSequence) else example_sequences, view
    )
    about = {"model": type(model).__name__, "parameters": f"{sum(p.numel() for p in model.parameters()):,}"}
    write_report(Path(path), f"Inside {about['model']}", [], shown, about)
    return shown


def _chosen(seen: dict[LayerKey, LayerTrace], view: InspectionOptions) -> dict[LayerKey, LayerTrace]:
    if view.layer is not None:
        layers = sorted({place.layer + 1 for place in seen})
        seen = {place: one for place, one in seen.items() if place.layer + 1 == view.layer}
        if not seen:
            raise UserError(f"there is no layer {view.layer}: the model has {layers[0]} to {layers[-1]}")
    known = {name for one in seen.values() for name in one.gates}
    if view.sort_by != InspectionOptions.sort_by and view.sort_by not in known:
        raise SettingError(f"there is nothing called {view.sort_by!r} to sort by; there are {', '.join(sorted(known))}")
    return seen


def gate_sections(
    example_sequence: ExampleSequence,
    seen: LayerTrace,
    view: InspectionOptions = InspectionOptions(),
    alone: bool = True,
) -> list[Section]:
    """Heat maps, memory and saturation of one layer and direction."""
    where = "" if alone else f", {seen.place}"
    blended = f" A column is the mean of {seen.every} steps." if seen.every > 1 else ""
    each = _by_unit(seen)
    figure = gate_figure(
        seen.gates,
        labels=example_sequence.labels,
        values=example_sequence.values,
        title=example_sequence.name,
        units=[unit for unit in view.units if unit < seen.units] or 64,  # a narrower layer may have none of them
        sort_by=view.sort_by,
        horizon_from=example_sequence.begins,
        steps=seen.steps,
    )
    counted = " Steps of the forecast are drawn, not counted." if example_sequence.begins is not None else ""
    text = "What the layer keeps, takes in and gives out, step by step. The numbers are means over time."
    found = [Section(f"The gates{where}", text + blended + counted, each, figure, caption=f"Gates and states{where}")]
    if seen.half_lives is not None:
        lives = pd.DataFrame({"unit": np.arange(seen.units), "half-life, steps": seen.half_lives})
        found.append(
            Section(
                f"Memory{where}",
                "After how many steps half of what a unit holds is gone, if nothing new is written: "
                "-ln 2 / ln f, with f the geometric mean over time of the gate that keeps the memory.",
                lives.sort_values("half-life, steps", ascending=False),
                half_life_figure(seen.half_lives),
                caption=f"Memory half-life of each unit{where}",
            )
        )
    if seen.openness:
        found.append(
            Section(
                f"Saturation{where}",
                "A mark is a unit: how often its gate was nearly shut (to the right) and nearly open (to the top). "
                "At the lower left a gate is always in between.",
                _by_gate(seen),
                saturation_figure(seen.openness),
                caption=f"How often gates are nearly shut and nearly open{where}",
            )
        )
    return found


def _by_unit(seen: LayerTrace) -> pd.DataFrame:
    """A row a unit: the mean of each gate, and of each state's size."""
    table = pd.DataFrame({"unit": np.arange(seen.units)})
    for name, gate in seen.gates.items():
        values = seen.openness[name].mean if name in seen.openness else np.abs(gate).mean(axis=0)
        column = name if name in seen.openness else f"|{name}|"
        table[column] = np.pad(values, (0, seen.units - len(values)), constant_values=np.nan)
    return table


def _by_gate(seen: LayerTrace) -> pd.DataFrame:
    rows = [
        {
            "gate": name,
            "mean": float(o.mean.mean()),
            "below 0.1": float(o.shut.mean()),
            "above 0.9": float(o.open.mean()),
        }
        for name, o in seen.openness.items()
    ]
    return pd.DataFrame(rows)


def _units(examples: Sequence[tuple[ExampleSequence, LayerTrace]], view: InspectionOptions) -> list[Section]:
    example_sequence, seen = examples[0]
    units = list(view.units) or most_variable_units(seen, _SHOWN_UNITS)
    kind = "cell state" if "cell" in seen.gates else "hidden state"
    chosen = "" if view.units else " Shown are the units that vary most."
    of = f" Searched: {len(examples)} sequences." if len(examples) > 1 else ""
    found = [
        Section(
            "What units fire on",
            f"The {kind} of single units in {seen.place}, and the steps at which they hold most and least.{chosen}{of}",
            peak_activations(examples, units),
            state_figure((example_sequence, seen), units),
            caption=f"The {kind} of {len(units)} units",
        )
    ]
    table = correlations(examples)
    if len(table):
        found.append(
            Section(
                "What units go along with",
                "For each thing known of the steps, the units whose state goes along with it most. They were chosen on "
                "the first half of the steps; the second half had no say, so believe the column 'checked'.",
                table,
                caption="Correlation of units with what is known of the steps",
            )
        )
    return found


def _effect(model: nn.Module, example_sequence: ExampleSequence, steps: int) -> Section:
    title = "What inputs did to the answer"
    if steps > LONGEST:
        said = f"Not computed: of {steps:,} steps. Give a part of the sequence, {LONGEST:,} steps at most, to see it."
        return Section(title, said)
    found = effects(model, example_sequence)
    table = pd.DataFrame({"step": np.arange(len(next(iter(found.values())).erased))})
    if example_sequence.labels is not None:
        table["at"] = [str(label) for label in example_sequence.labels]
    for name, effect in found.items():
        table[f"{name}: change"], table[f"{name}: gradient"] = effect.erased, effect.gradient
    text = (
        "By how much the answer would differ without each input (its mean over time in its place), and how steeply it "
        "rises with it. Ways from the input to the answer that go round the recurrent layers are not counted."
    )
    figure = attribution_figure(found, labels=example_sequence.labels, begins=example_sequence.begins)
    return Section(title, text, table, figure, caption="Effect of each input on the answer")


def _cell(model: nn.Module, example_sequence: ExampleSequence, seen: LayerTrace, view: InspectionOptions) -> Section:
    unit = view.units[0] if view.units else most_variable_units(seen, 1)[0]
    last = (seen.steps if example_sequence.begins is None else max(1, min(example_sequence.begins, seen.steps))) - 1
    step = last if view.step is None else view.step
    found = cell_step(model, example_sequence, seen.place, step, unit)
    read = "" if example_sequence.labels is None else example_sequence.labels[step]
    table = pd.DataFrame(
        {
            "equation": [line.plain for line in found.equations],
            "with its numbers": [line.numbers for line in found.equations],
            "value": [line.value for line in found.equations],
        }
    )
    text = (
        "The line on top is the memory: it is only scaled and added to."
        if found.kind in ("lstm", "gru")
        else "A plain network has no line for its memory to pass along unchanged."
    )
    text = f"One unit at one step ({found.where}). {text}"
    return Section("One step of the cell", text, table, cell_figure(found, read=read), caption="The cell, with numbers")
