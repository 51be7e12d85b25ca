"""Look inside a model: its gates while a sequence plays, and hypotheses about its units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from lstmkit.errors import SettingError, UserError
from lstmkit.look.state_matches import StateMatch, matching_ranges, units_on
from lstmkit.look.traces import ExampleSequence, LayerTrace, trace_layers
from lstmkit.studio.forms import keyword_fields, read_keywords
from lstmkit.studio.page import message_of, render, run_of, studio_of, title_of
from lstmkit.studio.sparklines import sparkline

_MAX_SEQUENCES = 40  # searched
_CONTEXT = 12  # steps shown on either side of a match
_MAX_LABEL = 24  # characters of a step's label


@dataclass(frozen=True)
class Match:
    """A range of steps as the page shows it.

    Attributes:
        name: Name of its sequence.
        start: First step.
        last: Last step.
        units: The units that are on.
        before, inside, after: The labels around and in it; empty if the steps have none.
        picture: The input around it as SVG; empty if it is no series.
    """

    name: str
    start: int
    last: int
    units: Sequence[int]
    before: str
    inside: str
    after: str
    picture: str


def show(request: Request) -> Response:
    """The page of a run."""
    studio, run = studio_of(request), run_of(request)
    query = {name: request.query_params.getlist(name) for name in request.query_params}
    context: dict[str, Any] = {"matches": None, "trace": None, "layers": [], "selected": (), "error": ""}
    context |= {"hypothesis_error": "", "form": {}}
    with studio.models.use(run.model_folder) as (job, _):
        fields = [
            field.with_value(query.get(field.name, [field.value])[0]) for field in keyword_fields(job.example_sequences)
        ]
        try:
            keywords = read_keywords(job.example_sequences, query)
            data = studio.workspace.upload(run.data).path
            sequences = job.example_sequences(data, **keywords)[:_MAX_SEQUENCES]
            traces = trace_layers(job.network, sequences[0])
            keys = {str(key): key for key in traces}
            chosen = query.get("layer", [""])[0]
            layer = chosen if chosen in keys else [name for name, key in keys.items() if not key.direction][-1]
            trace = traces[keys[layer]]
            context |= {"layers": list(keys), "layer": layer, "trace": _trace_data(sequences[0], trace)}
            context["form"] = _hypothesis_form(query, trace.state)
            if "start" in query:
                others = [trace_layers(job.network, other)[keys[layer]] for other in sequences[1:]]
                context |= _hypothesis(sequences, [trace, *others], context["form"])
        except UserError as err:
            context["error"] = message_of(request, err)
    return render(
        "look.html.j2",
        422 if context["error"] or context["hypothesis_error"] else 200,
        title=f"Inside {run.id}",
        run=run,
        job_title=title_of(run.job),
        fields=fields,
        layer=context.pop("layer", ""),
        **context,
    )


def _trace_data(sequence: ExampleSequence, trace: LayerTrace) -> dict[str, Any]:
    """What the page draws: gates ``(H, columns)`` with the units in one order, the input, and labels of the columns."""
    memory = next((trace.gates[name] for name in ("forget", "update") if name in trace.gates), None)
    order = np.arange(trace.units) if memory is None else np.argsort(memory.mean(axis=0), kind="stable")
    is_grouped = {name: values.shape[1] == trace.units for name, values in trace.gates.items()}
    gates = {
        name: np.round((values[:, order] if is_grouped[name] else values).T.astype(float), 3).tolist()
        for name, values in trace.gates.items()
    }
    columns = len(next(iter(trace.gates.values())))
    starts = np.arange(columns) * trace.steps_per_column
    labels = sequence.labels
    return {
        "name": sequence.name,
        "gates": gates,
        "units": order.tolist(),
        "steps": starts.tolist(),
        "per_column": trace.steps_per_column,
        "labels": [str(step) if labels is None else _label(labels, int(step)) for step in starts],
        "has_labels": labels is not None,
        "values": None if sequence.values is None else _input_values(sequence.values, trace.steps, starts),
        "value_name": sequence.value_name,
        "forecast_start": sequence.forecast_start,
    }


def _input_values(values: np.ndarray, steps: int, starts: np.ndarray) -> list[float | None]:
    """The series of the input at each column; it spans the same time as the steps."""
    rows = (starts * len(values) / steps).astype(int).clip(0, len(values) - 1)
    return [float(value) if np.isfinite(value) else None for value in np.asarray(values, dtype=float)[rows]]


def _label(labels: Sequence[str], step: int) -> str:
    text = str(labels[step]) if step < len(labels) else ""
    return text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"


# ---- hypotheses ------------------------------------------------------------------------------------------------------


def _hypothesis_form(query: dict[str, list[str]], state: np.ndarray) -> dict[str, Any]:
    """What the form of the hypothesis holds: what was sent, or a range that is likely to be of interest."""
    if "start" in query:
        sent = {"min_steps": "1", **{name: values[0] for name, values in query.items()}}
        names = ("start", "last", "threshold", "units", "min_steps")
        return {**{name: sent.get(name, "") for name in names}, "only_there": "only_there" in sent}
    start, last, threshold = likely_range(state)
    return {
        "start": start,
        "last": last,
        "threshold": f"{threshold:.2f}",
        "units": "",
        "min_steps": 1,
        "only_there": True,
    }


def likely_range(state: np.ndarray) -> tuple[int, int, float]:
    """First and last step of the highest peak of a unit, and a threshold halfway up to it.

    Args:
        state: ``(T, H)``.

    >>> likely_range(np.array([[0.0], [0.8], [0.9], [0.1]]))
    (1, 2, 0.675)
    """
    above = state - state.mean(axis=0)
    step, unit = (int(index) for index in np.unravel_index(np.argmax(above), above.shape))
    values = state[:, unit]
    threshold = float(values.mean() + values[step]) / 2
    is_on = values >= threshold
    start = step - int(np.argmin(is_on[step::-1])) + 1 if not is_on[: step + 1].all() else 0
    last = step + int(np.argmin(is_on[step:])) - 1 if not is_on[step:].all() else len(values) - 1
    return start, last, threshold


def _hypothesis(
    sequences: Sequence[ExampleSequence], traces: Sequence[LayerTrace], form: dict[str, Any]
) -> dict[str, Any]:
    """The units that a range of steps or the reader selects, and where else they are on together."""
    try:
        threshold = _parsed(form["threshold"], "the threshold", float)
        start, last = _parsed(form["start"], "the first step", int), _parsed(form["last"], "the last step", int)
        typed = tuple(_parsed(text, "a unit", int) for text in form["units"].replace(",", " ").split())
        only_there = form["only_there"]
        units = typed or units_on(traces[0].state, start, last + 1, threshold, only_there=only_there)
        if not units:
            raise SettingError(
                f"no unit is on from step {start} to {last}{' and off around it' if only_there else ''} at the "
                f"threshold {threshold:g}: choose another threshold, or other steps"
            )
        min_steps = _parsed(form["min_steps"], "the fewest steps", int)
        found = matching_ranges([trace.state for trace in traces], units, threshold, min_steps=min_steps)
    except SettingError as err:
        return {"hypothesis_error": str(err)}
    return {"selected": units, "matches": [_match(sequences[match.example], match) for match in found]}


def _match(sequence: ExampleSequence, match: StateMatch) -> Match:
    labels = sequence.labels
    low, high = max(0, match.start - _CONTEXT), match.stop + _CONTEXT
    before = inside = after = picture = ""
    if sequence.values is not None and sequence.values.ndim == 1:
        picture = sparkline(np.asarray(sequence.values, dtype=float), match.start, match.stop, 3 * _CONTEXT)
    if labels is not None and not picture:
        gap = "" if all(len(label) == 1 for label in labels) else " "
        parts = (labels[low : match.start], labels[match.start : match.stop], labels[match.stop : high])
        before, inside, after = (gap.join(map(str, part)) for part in parts)
    name = sequence.name or f"sequence {match.example + 1}"
    return Match(name, match.start, match.stop - 1, match.units, before, inside, after, picture)


def _parsed(text: str | int, what: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError as err:
        raise SettingError(f"{what} must be a number, got {text!r}") from err
