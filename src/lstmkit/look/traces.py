"""What the recurrent layers of any model did on one sequence: gates to draw, states, and how long each unit remembers.

The module is run once and what each of its recurrent layers was given is caught on the way; those are then traced by
themselves, a window at a time, so that a sequence of 100,000 steps needs little more memory than its states: held are
one float for each step and each of a layer's inputs, outputs and units, a window of gates, and what is drawn.
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
from lstmkit.layers.recurrent import LayerState, RecurrentLayer
from lstmkit.layers.rnn import GRU, LSTM, RNN
from lstmkit.look.gates import MEMORY_GATES, SIGMOID_GATES, half_life_from

LONGEST = 1_000_000  #: Steps of a sequence that is looked at.
_COLUMNS = 1000  # of a heat map: more would be narrower than the picture's dots
_WINDOW = 1000  # steps traced at once

Answer = Callable[[Any], Tensor]


class LayerKey(NamedTuple):
    """Where in a model: the recurrent module's name in it, its layer and direction (1 is reversed), from 0."""

    module: str
    layer: int
    direction: int

    def __str__(self) -> str:
        return f"{self.module}, layer {self.layer + 1}{', reversed' if self.direction else ''}"


@dataclass(frozen=True, eq=False)
class ExampleSequence:
    """One sequence to look at, and what stands beside it.

    Attributes:
        inputs: What the module is called with: one sequence, ``(1, T, F)`` or as the module takes it.
        name: What it is called.
        labels: What stands at each step of the recurrent layers, ``T`` of them; ``None`` for step numbers.
        values: ``(T',)`` a series drawn above the gates, over the same span of time.
        annotations: By name ``(T,)`` what is known of each step: true or false, numbers, or categories as text. NaN and
            ``""`` stand for not known.
        begins: The step at which a forecast's horizon begins: what gates do from there on is drawn, not counted.
        answers: By name a number of the module's output (its first tensor, where it gives several): what the effect of
            the inputs is measured on. By default the size of the output at the last step.
    """

    inputs: Tensor | tuple[Any, ...]
    name: str = ""
    labels: Sequence[str] | None = None
    values: np.ndarray | None = None
    annotations: Mapping[str, np.ndarray | Sequence[Any]] = field(default_factory=dict)
    begins: int | None = None
    answers: Mapping[str, Answer] = field(default_factory=dict)


class GateSaturation(NamedTuple):
    """How open one gate was, unit by unit, ``(H,)`` each.

    Attributes:
        mean: Over the steps.
        shut: The share of steps at which it was nearly shut, below 0.1.
        open: At which it was nearly open, above 0.9.
    """

    mean: np.ndarray
    shut: np.ndarray
    open: np.ndarray


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """What one layer and direction did.

    Attributes:
        place: Which.
        layer: The layer itself, ours or one of ours with the same weights.
        steps: ``T``.
        every: Steps in a column of ``gates``.
        gates: Gates and states by name, ``(columns, H)``: means over ``every`` steps, which is 1 up to 1,000 steps.
        state: ``(T, H)``, what the units hold at every step: the cell state, or the hidden state where there is none.
        half_lives: ``(H,)`` in steps (:func:`lstmkit.look.gates.half_life`); ``None`` for an RNN, which has no gate.
        openness: For each gate and unit how open it was.
    """

    place: LayerKey
    layer: RecurrentLayer
    steps: int
    every: int
    gates: dict[str, np.ndarray]
    state: np.ndarray
    half_lives: np.ndarray | None
    openness: dict[str, GateSaturation]

    @property
    def units(self) -> int:
        """``H``."""
        return self.state.shape[1]


class Given(NamedTuple):
    """One call of a recurrent module: one sequence, batch and time as the module has them, and the initial state."""

    x: Tensor
    state: LayerState | None


def trace_layers(model: nn.Module, example_sequence: ExampleSequence | Tensor) -> dict[LayerKey, LayerTrace]:
    """Run the model on one sequence and tell what each of its recurrent layers did.

    Args:
        model: Any module with ``LSTM``, ``GRU`` or ``RNN`` layers in it, lstmkit's or ``torch.nn``'s; or one of them.
        specimen: The sequence.

    Returns:
        By place, in the order in which the layers ran.

    Raises:
        UserError: No recurrent layer, or none that ran; more than one sequence; none or too many steps.

    >>> from lstmkit.look.traces import trace_layers
    >>> seen = trace_layers(nn.LSTM(3, 5, batch_first=True), torch.randn(1, 40, 3))
    >>> [(str(place), one.gates["forget"].shape) for place, one in seen.items()]
    [('LSTM, layer 1', (40, 5))]
    """
    example_sequence = (
        example_sequence if isinstance(example_sequence, ExampleSequence) else ExampleSequence(example_sequence)
    )
    seen: dict[LayerKey, LayerTrace] = {}
    for name, (layer, calls) in caught(model, example_sequence).items():
        seen |= _trace_layer(name, layer, calls, example_sequence.begins)
    return seen


# ---- what the layers were given ------------------------------------------------------------------------------------


def caught(model: nn.Module, example_sequence: ExampleSequence) -> dict[str, tuple[RecurrentLayer, list[Given]]]:
    """Each recurrent module that ran, and what it was called with, in the order of the first calls."""
    calls: dict[str, list[Given]] = {}
    layers = recurrent_modules(model)

    def catch(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: calls.setdefault(name, []).append(_one_sequence(module, args, kwargs))

    hooks = [m.register_forward_pre_hook(catch(name), with_kwargs=True) for name, m in layers.items()]
    try:
        with torch.no_grad(), evaluating(model):
            run(model, example_sequence)
    finally:
        for hook in hooks:
            hook.remove()
    if not calls:
        raise UserError(f"none of the model's recurrent layers ({', '.join(layers)}) ran on this input")
    return {name: (as_lstmkit_layer(layers[name]), given) for name, given in calls.items()}


def run(model: nn.Module, example_sequence: ExampleSequence) -> Tensor:
    """The model's output, the first tensor where it gives several."""
    inputs = example_sequence.inputs if isinstance(example_sequence.inputs, tuple) else (example_sequence.inputs,)
    output = model(*inputs)
    while isinstance(output, (tuple, list)):
        output = output[0]
    return output.data if isinstance(output, PackedSequence) else output


def recurrent_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The recurrent layers of a model by name, but for those in a part that says ``reads_aside = True``.

    Raises:
        UserError: There is none.
    """
    aside = {inner for m in model.modules() if getattr(m, "reads_aside", False) for inner in m.modules()}
    found: dict[str, nn.Module] = {
        name or type(m).__name__: m
        for name, m in model.named_modules()
        if isinstance(m, (RecurrentLayer, nn.RNNBase)) and m not in aside
    }
    if not found:
        raise UserError(f"{type(model).__name__} has no recurrent layer (LSTM, GRU or RNN) to look into")
    return found


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode; afterwards every module is as it was."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


def as_lstmkit_layer(module: nn.Module) -> RecurrentLayer:
    """One of lstmkit's layers with the module's weights, for a trace; the module itself if it is one."""
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


def _one_sequence(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
    """What a recurrent module was called with, cut to the sequence's own length, ``(T, 1, F)`` or ``(1, T, F)``."""
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
        raise UserError(f"one sequence is looked at at a time, the model was given {batch}")
    if lengths is not None:
        steps = int(torch.as_tensor(lengths).reshape(()))
        x = x.narrow(1 if module.batch_first else 0, 0, steps)
    if not steps:
        raise UserError("the sequence has no steps: nothing to look at")
    if steps > LONGEST:
        raise UserError(f"the sequence has {steps:,} steps, more than the {LONGEST:,} that can be drawn: give a part")
    return Given(x.detach(), state)


# ---- the trace, a window at a time ---------------------------------------------------------------------------------


def _trace_layer(
    name: str, layer: RecurrentLayer, calls: Sequence[Given], begins: int | None
) -> dict[LayerKey, LayerTrace]:
    """Trace a layer over its calls, which follow each other in time."""
    time = 1 if layer.batch_first else 0
    total = sum(given.x.shape[time] for given in calls)
    watchers: dict[tuple[int, int], _TraceAccumulator] = {}
    first = 0
    with evaluating(layer):
        for given in calls:
            for piece in layer.trace_windows(given.x, given.state, _WINDOW):
                watcher = watchers.setdefault(
                    piece.place, _TraceAccumulator(total, total if begins is None else begins)
                )
                gates = {name: gate[0].float().cpu().numpy() for name, gate in piece.gates.items()}
                watcher.add(first + piece.start, gates)
            first += given.x.shape[time]
    return {
        LayerKey(name, *place): watcher.seen(LayerKey(name, *place), layer)
        for place, watcher in sorted(watchers.items())
    }


class _TraceAccumulator:
    """Takes the gates of one layer and direction, window by window, in any order."""

    def __init__(self, steps: int, counted: int) -> None:
        self.steps, self.counted = steps, min(counted, steps)
        self.every = math.ceil(steps / _COLUMNS)
        self.gates: dict[str, np.ndarray] = {}
        self.state = np.empty((0, 0), dtype=np.float32)
        self.openness: dict[str, np.ndarray] = {}  # sums, (3, H)
        self.log_keep: np.ndarray | float = 0.0  # sum of the logarithms of the gate that keeps the memory

    def add(self, start: int, gates: dict[str, np.ndarray]) -> None:
        """The gates ``(t, H)`` of the steps from ``start`` on."""
        held = gates.get("cell", gates["hidden"])
        if not self.gates:
            columns = math.ceil(self.steps / self.every)
            self.gates = {name: np.zeros((columns, gate.shape[1])) for name, gate in gates.items()}
            self.state = np.empty((self.steps, held.shape[1]), dtype=np.float32)
        rows = np.arange(start, start + len(held))
        self.state[rows] = held
        for name, gate in gates.items():
            np.add.at(self.gates[name], rows // self.every, gate)
            if name in SIGMOID_GATES:
                self._count(name, gate[: max(0, self.counted - start)].astype(float))

    def _count(self, name: str, gate: np.ndarray) -> None:
        sums = np.stack([gate.sum(axis=0), (gate < 0.1).sum(axis=0), (gate > 0.9).sum(axis=0)])
        self.openness[name] = self.openness.get(name, 0) + sums
        if name in MEMORY_GATES:
            with np.errstate(divide="ignore"):
                self.log_keep = self.log_keep + np.log(gate).sum(axis=0)

    def seen(self, place: LayerKey, layer: RecurrentLayer) -> LayerTrace:
        """All of it, once every step was added."""
        in_column = np.bincount(np.arange(self.steps) // self.every)[:, None]
        counted = self.counted or math.nan
        return LayerTrace(
            place,
            layer,
            self.steps,
            self.every,
            {name: summed / in_column for name, summed in self.gates.items()},
            self.state,
            half_life_from(self.log_keep / counted) if isinstance(self.log_keep, np.ndarray) else None,
            {name: GateSaturation(*(sums / counted)) for name, sums in self.openness.items()},
        )
