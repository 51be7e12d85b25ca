"""Traces of the recurrent layers of any model on one sequence: gates, states, memory half-lives.

The model runs once, and hooks capture the calls of each recurrent layer. The layers are then traced separately in
windows of 1,000 steps. So memory grows by one float per step for each input, output and unit of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from lstmkit.errors import UserError
from lstmkit.layers.conv_recurrent import ConvRecurrentLayer2d
from lstmkit.layers.recurrent import LayerState, RecurrentLayer
from lstmkit.layers.rnn import GRU, LSTM, RNN
from lstmkit.look.conv_layers import place_layers
from lstmkit.look.gates import MEMORY_GATES, SIGMOID_GATES, half_life_from

MAX_STEPS = 1_000_000  #: Longest sequence that can be traced.
_MAX_COLUMNS = 500  # columns of a heat map: more would be narrower than a pixel of the page
_WINDOW = 1000  # steps traced at a time

Answer = Callable[[Any], Tensor]


class LayerKey(NamedTuple):
    """Identifies a layer: the recurrent module's name in the model, its layer and direction (1 is reversed), from 0.

    >>> str(LayerKey("encoder.lstm", 0, 1))
    'encoder.lstm, layer 1, reversed'
    """

    module: str
    layer: int
    direction: int

    def __str__(self) -> str:
        return f"{self.module}, layer {self.layer + 1}{', reversed' if self.direction else ''}"


@dataclass(frozen=True, eq=False)
class ExampleSequence:
    """One sequence to inspect, with labels and annotations.

    Attributes:
        inputs: Arguments of the model: one sequence ``(1, T, F)``, or whatever the model takes.
        name: Name of the sequence.
        labels: ``T`` labels, one per step of the recurrent layers; ``None`` for step numbers.
        values: ``(T',)`` a series drawn above the gates over the same time span.
        value_name: Name of that series.
        annotations: By name ``(T,)`` annotations of the steps: booleans, numbers, or categories as text. NaN and ``""``
            mean unknown.
        forecast_start: First step of a forecast's horizon. Gates from there on are drawn but not averaged.
        answers: By name a function of the model's output (its first tensor if it returns several) to the scalar that is
            attributed to the inputs. By default the norm of the output at the last step.
        frames: ``(T, H, W, C)`` uint8 frames of a video, drawn above the maps of convolutional layers.
        outlines: Boxes ``(N, 4)`` around the objects of each frame, left, top, width and height in pixels.
        drawn_steps: Steps whose maps are drawn; by default some that are evenly spread.

    >>> ExampleSequence(torch.zeros(1, 3, 2), labels=["the", "old", "man"]).name
    ''
    """

    inputs: Tensor | tuple[Any, ...]
    name: str = ""
    labels: Sequence[str] | None = None
    values: np.ndarray | None = None
    value_name: str = "value"
    annotations: Mapping[str, np.ndarray | Sequence[Any]] = field(default_factory=dict)
    forecast_start: int | None = None
    answers: Mapping[str, Answer] = field(default_factory=dict)
    frames: np.ndarray | None = None
    outlines: Sequence[np.ndarray] | None = None
    drawn_steps: Sequence[int] = ()


class GateSaturation(NamedTuple):
    """Saturation of one gate, ``(H,)`` each.

    Attributes:
        mean: Mean over the steps.
        closed: Fraction of steps with the gate below 0.1.
        open: Fraction of steps with the gate above 0.9.
    """

    mean: np.ndarray
    closed: np.ndarray
    open: np.ndarray


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """The trace of one layer and direction.

    Attributes:
        key: Module, layer and direction.
        layer: The lstmkit layer, or an lstmkit layer with the weights of the ``torch.nn`` layer.
        steps: Number of steps, ``T``.
        steps_per_column: Steps averaged in a column of ``gates``: 1 up to 500 steps.
        gates: Gates and states by name, ``(columns, H)``.
        state: ``(T, H)`` cell state, or hidden state if the cell has no cell state.
        half_lives: ``(H,)`` in steps (:func:`lstmkit.look.gates.half_life`); ``None`` for an RNN, which has no gate.
        openness: Saturation by gate.
    """

    key: LayerKey
    layer: RecurrentLayer
    steps: int
    steps_per_column: int
    gates: dict[str, np.ndarray]
    state: np.ndarray
    half_lives: np.ndarray | None
    openness: dict[str, GateSaturation]

    @property
    def units(self) -> int:
        """Number of units, ``H``."""
        return self.state.shape[1]


class LayerCall(NamedTuple):
    """One call of a recurrent module: a sequence in the module's own layout, and the initial state.

    The sequence of a convolutional layer is ``(1, T, F, H, W)``.
    """

    x: Tensor
    state: LayerState | None


def trace_layers(model: nn.Module, example_sequence: ExampleSequence | Tensor) -> dict[LayerKey, LayerTrace]:
    """Run the model on one sequence and trace each of its recurrent layers.

    Args:
        model: Any module with ``LSTM``, ``GRU`` or ``RNN`` layers of lstmkit or ``torch.nn``, or such a layer.
        example_sequence: The sequence.

    Returns:
        A trace per layer and direction, in the order in which the layers ran.

    Raises:
        UserError: No recurrent layer exists or ran, the batch has more than one sequence, or the sequence has no steps
            or more than :data:`MAX_STEPS`.

    >>> from lstmkit.look.traces import trace_layers
    >>> traces = trace_layers(nn.LSTM(3, 5, batch_first=True), torch.randn(1, 40, 3))
    >>> [(str(key), trace.gates["forget"].shape) for key, trace in traces.items()]
    [('LSTM, layer 1', (40, 5))]
    """
    example_sequence = (
        example_sequence if isinstance(example_sequence, ExampleSequence) else ExampleSequence(example_sequence)
    )
    traces: dict[LayerKey, LayerTrace] = {}
    for name, (layer, calls) in captured_calls(model, example_sequence).items():
        traces |= _trace_layer(name, layer, calls, example_sequence.forecast_start)
    return traces


# ---- capturing the layers' inputs ----------------------------------------------------------------------------------


def captured_calls(
    model: nn.Module, example_sequence: ExampleSequence
) -> dict[str, tuple[RecurrentLayer, list[LayerCall]]]:
    """Each recurrent layer that ran and the arguments of its calls, in the order of the first calls.

    A convolutional stack appears as an ordinary layer for each of its layers, at the place where its memory is largest.

    Raises:
        UserError: See :func:`trace_layers`.
    """
    found: dict[str, tuple[RecurrentLayer, list[LayerCall]]] = {}
    for name, (module, calls) in module_calls(model, example_sequence).items():
        if isinstance(module, ConvRecurrentLayer2d):
            found |= _calls_at_places(name, module, calls)
        else:
            found[name] = as_lstmkit_layer(module), calls
    return found


def _calls_at_places(
    name: str, module: ConvRecurrentLayer2d, calls: Sequence[LayerCall]
) -> dict[str, tuple[RecurrentLayer, list[LayerCall]]]:
    """The layers of a convolutional stack at one place each; its calls are joined, as they are consecutive in time."""
    with evaluation_mode(module):
        layers = place_layers(module, torch.cat([call.x for call in calls], 1), calls[0].state)
    return {
        f"{name}.{k}" if len(layers) > 1 else name: (each.layer, [LayerCall(each.x, each.state)])
        for k, each in enumerate(layers, 1)
    }


def module_calls(model: nn.Module, example_sequence: ExampleSequence) -> dict[str, tuple[nn.Module, list[LayerCall]]]:
    """Each recurrent module that ran and the arguments of its calls, in the order of the first calls.

    Raises:
        UserError: See :func:`trace_layers`.
    """
    calls: dict[str, list[LayerCall]] = {}
    layers = recurrent_modules(model)

    def capture(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: calls.setdefault(name, []).append(_layer_call(module, args, kwargs))

    hooks = [m.register_forward_pre_hook(capture(name), with_kwargs=True) for name, m in layers.items()]
    try:
        with torch.no_grad(), evaluation_mode(model):
            run_model(model, example_sequence)
    finally:
        for hook in hooks:
            hook.remove()
    if not calls:
        raise UserError(f"none of the model's recurrent layers ({', '.join(layers)}) ran on this input")
    return {name: (layers[name], layer_calls) for name, layer_calls in calls.items()}


def run_model(model: nn.Module, example_sequence: ExampleSequence) -> Tensor:
    """The model's output; its first tensor if it returns several."""
    inputs = example_sequence.inputs if isinstance(example_sequence.inputs, tuple) else (example_sequence.inputs,)
    output = model(*inputs)
    while isinstance(output, (tuple, list)):
        output = output[0]
    return output.data if isinstance(output, PackedSequence) else output


def recurrent_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The recurrent layers of a model by name, except those in a module with ``excluded_from_inspection = True``.

    Raises:
        UserError: The model has no recurrent layer.
    """
    excluded = {
        m for parent in model.modules() if getattr(parent, "excluded_from_inspection", False) for m in parent.modules()
    }
    layers: dict[str, nn.Module] = {
        name or type(m).__name__: m
        for name, m in model.named_modules()
        if isinstance(m, (RecurrentLayer, ConvRecurrentLayer2d, nn.RNNBase)) and m not in excluded
    }
    if not layers:
        raise UserError(f"{type(model).__name__} has no recurrent layer (LSTM, GRU or RNN) to inspect")
    return layers


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Context in evaluation mode; afterwards every module gets its previous mode back."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


def as_lstmkit_layer(module: nn.Module) -> RecurrentLayer:
    """The module itself if it is an lstmkit layer, else an lstmkit layer with the weights of the ``torch.nn`` layer."""
    if isinstance(module, RecurrentLayer):
        return module
    assert isinstance(module, nn.RNNBase)
    options: dict[str, Any] = {
        name: getattr(module, name) for name in ("num_layers", "bias", "batch_first", "bidirectional")
    }
    weight = module.all_weights[0][0]
    options |= {"device": weight.device, "dtype": weight.dtype}
    if isinstance(module, nn.LSTM):
        layer: RecurrentLayer = LSTM(module.input_size, module.hidden_size, proj_size=module.proj_size, **options)
    elif isinstance(module, nn.GRU):
        layer = GRU(module.input_size, module.hidden_size, **options)
    else:
        layer = RNN(module.input_size, module.hidden_size, nonlinearity=str(module.nonlinearity), **options)
    layer.load_state_dict(module.state_dict())
    return layer.eval()


def _layer_call(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LayerCall:
    """The arguments of a recurrent module's call, truncated to the sequence's length: ``(T, 1, F)`` or ``(1, T, F)``.

    Raises:
        UserError: The batch has more than one sequence, or the sequence has no steps or too many.
    """
    named = dict(zip(("x", "state", "lengths"), args, strict=False))
    x: Any = named.get("x", kwargs.get("x", kwargs.get("input")))
    state = named.get("state", kwargs.get("state", kwargs.get("hx")))
    lengths = named.get("lengths", kwargs.get("lengths"))
    if isinstance(x, PackedSequence):
        x, lengths = pad_packed_sequence(x, batch_first=module.batch_first)
    if x.dim() == 2:
        x = x.unsqueeze(0 if module.batch_first else 1)
        if state is not None:
            state = state.unsqueeze(1) if isinstance(state, Tensor) else tuple(s.unsqueeze(1) for s in state)
    batch, steps = x.shape[:2] if module.batch_first else x.shape[1::-1]
    if batch != 1:
        raise UserError(f"inspection takes one sequence at a time, the batch has {batch}: pass a batch of 1")
    if lengths is not None:
        steps = int(torch.as_tensor(lengths).reshape(()))
        x = x.narrow(1 if module.batch_first else 0, 0, steps)
    if not steps:
        raise UserError("the sequence has no steps: pass at least one")
    if steps > MAX_STEPS:
        raise UserError(f"the sequence has {steps:,} steps, inspection takes at most {MAX_STEPS:,}: pass a part of it")
    return LayerCall(x.detach(), state)


# ---- tracing in windows --------------------------------------------------------------------------------------------


def _trace_layer(
    name: str, layer: RecurrentLayer, calls: Sequence[LayerCall], forecast_start: int | None
) -> dict[LayerKey, LayerTrace]:
    """Trace a layer over its calls, which are consecutive in time."""
    time = 1 if layer.batch_first else 0
    total = sum(call.x.shape[time] for call in calls)
    counted = total if forecast_start is None else forecast_start
    accumulators: dict[tuple[int, int], _TraceAccumulator] = {}
    offset = 0
    with evaluation_mode(layer):
        for call in calls:
            for window in layer.trace_windows(call.x, call.state, _WINDOW):
                accumulator = accumulators.setdefault(window.place, _TraceAccumulator(total, counted))
                gates = {name: gate[0].float().cpu().numpy() for name, gate in window.gates.items()}
                accumulator.add(offset + window.start, gates)
            offset += call.x.shape[time]
    return {
        LayerKey(name, *place): accumulator.result(LayerKey(name, *place), layer)
        for place, accumulator in sorted(accumulators.items())
    }


class _TraceAccumulator:
    """Accumulates the gates of one layer and direction from windows in any order.

    Args:
        steps: Length of the sequence.
        counted: Number of leading steps that enter the averages.
    """

    def __init__(self, steps: int, counted: int) -> None:
        self.steps, self.counted = steps, min(counted, steps)
        self.steps_per_column = math.ceil(steps / _MAX_COLUMNS)
        self.gates: dict[str, np.ndarray] = {}
        self.state = np.empty((0, 0), dtype=np.float32)
        self.openness: dict[str, np.ndarray] = {}  # sums, (3, H)
        self.log_memory_gate: np.ndarray | float = 0.0  # sum of the logarithms of the memory gate

    def add(self, start: int, gates: dict[str, np.ndarray]) -> None:
        """Add the gates ``(t, H)`` of the steps from ``start`` on."""
        state = gates.get("cell", gates["hidden"])
        if not self.gates:
            columns = math.ceil(self.steps / self.steps_per_column)
            self.gates = {name: np.zeros((columns, gate.shape[1])) for name, gate in gates.items()}
            self.state = np.empty((self.steps, state.shape[1]), dtype=np.float32)
        rows = np.arange(start, start + len(state))
        self.state[rows] = state
        for name, gate in gates.items():
            np.add.at(self.gates[name], rows // self.steps_per_column, gate)
            if name in SIGMOID_GATES:
                self._add_statistics(name, gate[: max(0, self.counted - start)].astype(float))

    def _add_statistics(self, name: str, gate: np.ndarray) -> None:
        sums = np.stack([gate.sum(axis=0), (gate < 0.1).sum(axis=0), (gate > 0.9).sum(axis=0)])
        self.openness[name] = self.openness.get(name, 0) + sums
        if name in MEMORY_GATES:
            with np.errstate(divide="ignore"):
                self.log_memory_gate = self.log_memory_gate + np.log(gate).sum(axis=0)

    def result(self, key: LayerKey, layer: RecurrentLayer) -> LayerTrace:
        """The trace, once all windows were added."""
        column_sizes = np.bincount(np.arange(self.steps) // self.steps_per_column)[:, None]
        counted = self.counted or math.nan
        log_mean = self.log_memory_gate
        return LayerTrace(
            key,
            layer,
            self.steps,
            self.steps_per_column,
            {name: sums / column_sizes for name, sums in self.gates.items()},
            self.state,
            half_life_from(log_mean / counted) if isinstance(log_mean, np.ndarray) else None,
            {name: GateSaturation(*(sums / counted)) for name, sums in self.openness.items()},
        )
