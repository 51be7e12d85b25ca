"""The inspection page of a model: gates, memory, saturation, unit activations, input attribution, one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from lstmkit.errors import SettingError, UserError
from lstmkit.layers.conv_recurrent import ConvRecurrentLayer2d
from lstmkit.look.attribution import MAX_STEPS, attribution_figure, input_attributions
from lstmkit.look.cell_diagram import cell_figure
from lstmkit.look.cell_step import SUPPORTED_CELLS, cell_step
from lstmkit.look.conv_layers import evenly_spread, memory_figure, memory_maps
from lstmkit.look.gates import gate_figure, half_life_figure, saturation_figure
from lstmkit.look.traces import (
    ExampleSequence,
    LayerKey,
    LayerTrace,
    as_lstmkit_layer,
    evaluation_mode,
    module_calls,
    recurrent_modules,
    trace_layers,
)
from lstmkit.look.unit_activations import check_units, correlations, most_variable_units, peak_activations, state_figure
from lstmkit.report import Section, write_report

#: What the maps of a convolutional layer show.
MAP_TEXT = (
    "Means over the channels of the last layer. A high forget gate keeps the memory of a place, a low one replaces it. "
    "An object that is hidden is held where the memory stays large. Each row has its own color scale. Boxes are around "
    "the objects of the step. The sections on gates and units are about the place where the memory is largest."
)
_DEFAULT_UNITS = 4  # units whose states are drawn if none are selected


@dataclass(frozen=True)
class InspectionOptions:
    """Selection of what the inspection page shows.

    Attributes:
        units: Units to draw, from 0. If empty: all units in the gate maps, and the states of the most variable units.
        layer: The layer to inspect, from 1. ``None`` inspects all; unit states and cell are those of the last.
        sort_by: The gate or state by which the heat maps are sorted.
        step: The step of the cell diagram, from 0; ``None`` for the last step before a forecast's horizon.
        unroll: Show the cell diagram only.

    >>> InspectionOptions(units=(3, 1), layer=2).sort_by
    'forget'
    """

    units: tuple[int, ...] = ()
    layer: int | None = None
    sort_by: str = "forget"
    step: int | None = None
    unroll: bool = False


def sections(
    model: nn.Module, example_sequences: Sequence[ExampleSequence], options: InspectionOptions | None = None
) -> list[Section]:
    """Build all sections of the inspection page.

    Args:
        model: Any module with recurrent layers.
        example_sequences: The first is drawn; all are searched for peak activations and correlations.
        options: What to show.

    Raises:
        UserError: A selected layer, unit or step does not exist, or :func:`trace_layers` fails.
        SettingError: ``options.sort_by`` is not a gate or state of the model.
    """
    options, example_sequence = options or InspectionOptions(), example_sequences[0]
    traces = _select_traces(trace_layers(model, example_sequence), options)
    *_, last = (key for key in traces if not key.direction)  # the last layer that ran
    check_units(options.units, traces[last])
    if options.unroll:
        return [_cell_section(model, example_sequence, traces[last], options)]
    page = map_sections(model, example_sequence)
    page += [
        section
        for trace in traces.values()
        for section in gate_sections(example_sequence, trace, options, alone=len(traces) == 1)
    ]
    examples = [
        (example_sequence, traces[last]),
        *((other, trace_layers(model, other)[last]) for other in example_sequences[1:]),
    ]
    page += _unit_sections(examples, options)
    page.append(_attribution_section(model, example_sequence, traces[last].steps))
    if traces[last].layer.specs[last.layer].kind in SUPPORTED_CELLS:
        page.append(_cell_section(model, example_sequence, traces[last], options))
    return page


def write_inspection_page(
    path: str | Path,
    model: nn.Module,
    example_sequences: ExampleSequence | Sequence[ExampleSequence],
    options: InspectionOptions | None = None,
    name: str = "",
) -> list[Section]:
    """Write :func:`sections` as one self-contained HTML page and return them.

    Args:
        path: The HTML file.
        model: Any module with recurrent layers.
        example_sequences: One sequence, or several to search for peak activations.
        options: What to show.
        name: What the model is called in the title, for example ``"the classifier"``; by default "a model".

    Raises:
        UserError, SettingError: See :func:`sections`.

    >>> import tempfile, torch
    >>> from lstmkit import LSTM
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shown = write_inspection_page(f"{folder}/look.html", LSTM(2, 4), ExampleSequence(torch.randn(30, 1, 2)))
    >>> shown[0].title
    'Gates'
    """
    sequences = [example_sequences] if isinstance(example_sequences, ExampleSequence) else example_sequences
    page = sections(model, sequences, options)
    facts = {"model": type(model).__name__, "parameters": f"{sum(p.numel() for p in model.parameters()):,}"}
    write_report(Path(path), f"Inside {name or 'a model'}: {architecture(model)}", [], page, facts)
    return page


def architecture(model: nn.Module) -> str:
    """The cells and the number of layers of a model's recurrent modules, alike ones once.

    Raises:
        UserError: The model has no recurrent layer.

    >>> architecture(nn.LSTM(3, 5, num_layers=2, bidirectional=True))
    'LSTM, 2 layers, bidirectional'
    """
    descriptions = []
    for module in recurrent_modules(model).values():
        is_convolutional = isinstance(module, ConvRecurrentLayer2d)
        specs = module.specs if isinstance(module, ConvRecurrentLayer2d) else as_lstmkit_layer(module).specs
        directions = 2 if module.bidirectional else 1
        layers = f"{len(specs)} layer{'s' * (len(specs) > 1)}"
        kind = "convolutional " * is_convolutional + specs[0].kind.upper()
        descriptions.append(f"{kind}, {layers}{', bidirectional' * (directions == 2)}")
    return "; ".join(dict.fromkeys(descriptions))


def map_sections(model: nn.Module, example_sequence: ExampleSequence) -> list[Section]:
    """Maps of the memory over the frame, for each convolutional module."""
    page = []
    for name, (module, calls) in module_calls(model, example_sequence).items():
        if isinstance(module, ConvRecurrentLayer2d):
            with evaluation_mode(module):
                maps = memory_maps(module, torch.cat([call.x for call in calls], 1), calls[0].state)
            steps = example_sequence.drawn_steps or evenly_spread(len(maps["memory"]))
            figure = memory_figure(maps, steps, example_sequence.frames, example_sequence.outlines)
            page.append(Section("Memory over the frame", MAP_TEXT, figure=figure, caption=f"Memory of {name}"))
    return page


def _select_traces(traces: dict[LayerKey, LayerTrace], options: InspectionOptions) -> dict[LayerKey, LayerTrace]:
    if options.layer is not None:
        layers = sorted({key.layer + 1 for key in traces})
        traces = {key: trace for key, trace in traces.items() if key.layer + 1 == options.layer}
        if not traces:
            raise UserError(f"layer {options.layer} does not exist: choose {layers[0]} to {layers[-1]}")
    gates = {name for trace in traces.values() for name in trace.gates}
    if options.sort_by != InspectionOptions.sort_by and options.sort_by not in gates:
        raise SettingError(f"cannot sort by {options.sort_by!r}: choose one of {', '.join(sorted(gates))}")
    return traces


def gate_sections(
    example_sequence: ExampleSequence,
    trace: LayerTrace,
    options: InspectionOptions = InspectionOptions(),
    alone: bool = True,
) -> list[Section]:
    """Sections with the gates, memory half-lives and saturation of one layer and direction.

    Args:
        example_sequence: The sequence that was traced.
        trace: The trace of the layer.
        options: What to show.
        alone: Whether the page has no other layer; else the titles name this one.
    """
    where = "" if alone else f", {trace.key}"
    columns = f" A column is the mean of {trace.steps_per_column} steps." if trace.steps_per_column > 1 else ""
    figure = gate_figure(
        trace.gates,
        labels=example_sequence.labels,
        values=example_sequence.values,
        value_name=example_sequence.value_name,
        title=example_sequence.name,
        units=[unit for unit in options.units if unit < trace.units] or 64,  # a narrower layer may have none of them
        sort_by=options.sort_by,
        forecast_start=example_sequence.forecast_start,
        steps=trace.steps,
    )
    horizon = (
        " Steps of the forecast horizon are drawn but not averaged."
        if example_sequence.forecast_start is not None
        else ""
    )
    text = f"Gates and states of each unit at each step. The table has means over time.{columns}{horizon}"
    page = [Section(f"Gates{where}", text, _unit_table(trace), figure, caption=f"Gates and states{where}")]
    if trace.half_lives is not None:
        half_lives = pd.DataFrame({"unit": np.arange(trace.units), "half-life, steps": trace.half_lives})
        page.append(
            Section(
                f"Memory half-life{where}",
                "The number of steps after which half of a unit's memory is lost if nothing new is written: "
                "-ln 2 / ln f, where f is the geometric mean over time of the forget gate (GRU: update gate).",
                half_lives.sort_values("half-life, steps", ascending=False),
                half_life_figure(trace.half_lives),
                caption=f"Memory half-life of each unit{where}",
            )
        )
    if trace.openness:
        page.append(
            Section(
                f"Saturation{where}",
                "Each point is a unit: the fraction of steps with the gate below 0.1 (x axis) and above 0.9 (y axis). "
                "A gate at the bottom left is never saturated.",
                _gate_table(trace),
                saturation_figure(trace.openness),
                caption=f"How often gates are nearly closed and nearly open{where}",
            )
        )
    return page


def _unit_table(trace: LayerTrace) -> pd.DataFrame:
    """One row per unit: the mean of each gate and the mean absolute value of each state."""
    table = pd.DataFrame({"unit": np.arange(trace.units)})
    for name, gate in trace.gates.items():
        values = trace.openness[name].mean if name in trace.openness else np.abs(gate).mean(axis=0)
        column = name if name in trace.openness else f"|{name}|"
        table[column] = np.pad(values, (0, trace.units - len(values)), constant_values=np.nan)
    return table


def _gate_table(trace: LayerTrace) -> pd.DataFrame:
    rows = [
        {
            "gate": name,
            "mean": float(saturation.mean.mean()),
            "below 0.1": float(saturation.closed.mean()),
            "above 0.9": float(saturation.open.mean()),
        }
        for name, saturation in trace.openness.items()
    ]
    return pd.DataFrame(rows)


def _unit_sections(examples: Sequence[tuple[ExampleSequence, LayerTrace]], options: InspectionOptions) -> list[Section]:
    example_sequence, trace = examples[0]
    units = list(options.units) or most_variable_units(trace, _DEFAULT_UNITS)
    state = "cell state" if "cell" in trace.gates else "hidden state"
    selection = "" if options.units else " The most variable units are shown."
    searched = f" {len(examples)} sequences were searched." if len(examples) > 1 else ""
    page = [
        Section(
            "Unit activations",
            f"The {state} of single units in {trace.key}. The table lists the steps with its highest and lowest values."
            f"{selection}{searched}",
            peak_activations(examples, units),
            state_figure((example_sequence, trace), units),
            caption=f"The {state} of {len(units)} units",
        )
    ]
    table = correlations(examples)
    if len(table):
        page.append(
            Section(
                "Correlation with annotations",
                "For each annotation, the units whose state correlates with it most. The units are selected on the "
                "first half of the steps ('selection'). Trust the correlation on the second half ('held out').",
                table,
                caption="Correlation of unit states with annotations of the steps",
            )
        )
    return page


def _attribution_section(model: nn.Module, example_sequence: ExampleSequence, steps: int) -> Section:
    title = "Input attribution"
    if steps > MAX_STEPS:
        return Section(
            title, f"Not computed: the sequence has {steps:,} steps. Inspect a part of at most {MAX_STEPS:,} steps."
        )
    attributions = input_attributions(model, example_sequence)
    table = pd.DataFrame({"step": np.arange(len(next(iter(attributions.values())).occlusion))})
    if example_sequence.labels is not None:
        table["label"] = [str(label) for label in example_sequence.labels]
    for name, attribution in attributions.items():
        table[f"{name}: occlusion"], table[f"{name}: gradient"] = attribution.occlusion, attribution.gradient
    text = (
        "Occlusion: the change of the output if the input of a step is replaced by its mean over time. Gradient: the "
        "norm of the output's gradient with respect to the input. Paths that bypass the recurrent layers are excluded."
    )
    figure = attribution_figure(
        attributions, labels=example_sequence.labels, forecast_start=example_sequence.forecast_start
    )
    return Section(title, text, table, figure, caption="Attribution of the output to the input of each step")


def _cell_section(
    model: nn.Module, example_sequence: ExampleSequence, trace: LayerTrace, options: InspectionOptions
) -> Section:
    unit = options.units[0] if options.units else most_variable_units(trace, 1)[0]
    start = example_sequence.forecast_start
    last = (trace.steps if start is None else max(1, min(start, trace.steps))) - 1
    step = last if options.step is None else options.step
    result = cell_step(model, example_sequence, trace.key, step, unit)
    label = "" if example_sequence.labels is None else example_sequence.labels[step]
    table = pd.DataFrame(
        {
            "equation": [line.unicode for line in result.equations],
            "with numbers": [line.numbers for line in result.equations],
            "value": [line.value for line in result.equations],
        }
    )
    memory = (
        "The line at the top is the memory, which is only scaled and added to."
        if result.kind in ("lstm", "gru")
        else "A simple recurrent network has no path on which its memory passes unchanged."
    )
    text = f"One unit at one step ({result.where}). {memory}"
    figure = cell_figure(result, read=label)
    return Section("One step of the cell", text, table, figure, caption="Diagram of the cell with its values")
