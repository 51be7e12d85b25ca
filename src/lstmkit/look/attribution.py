"""What each input did to an answer: by the gradient, and by taking the input away."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from lstmkit.errors import UserError
from lstmkit.look.gates import label_time
from lstmkit.look.traces import ExampleSequence, caught, evaluating, recurrent_modules, run
from lstmkit.plots.style import BLACK, DASHES, SMALL, legend, line_style, new_figure, shown, style_axes

LONGEST = 10_000  #: Steps up to which effects are computed: the gradient needs every step's gates at once.
_PIECES = 200  # of the sequence that are taken away one after the other


@dataclass(frozen=True, eq=False)
class InputAttribution:
    """What the inputs of the first recurrent layer did to one number of the model's output.

    Attributes:
        gradient: ``(T,)`` Euclidean norm of the answer's gradient by each step's input.
        erased: ``(T,)`` by how much the answer changes if a step's input is replaced by the mean over all steps; of a
            long sequence several steps are replaced together, and share the change.
        value: The answer.
    """

    gradient: np.ndarray
    erased: np.ndarray
    value: float


def effects(model: nn.Module, example_sequence: ExampleSequence) -> dict[str, InputAttribution]:
    """The effect of every step's input on each of the specimen's answers, through the recurrent layers.

    The input is what the model's first recurrent layer reads (of a text model the embedded words), in its steps; ways
    round the recurrent layers are not counted. A gradient tells what a small change would do, erasing what the
    whole input did; where they disagree the model is saturated there.

    Raises:
        UserError: No recurrent layer; more than one sequence; more than :data:`LONGEST` steps; no finite answer.
    """
    name, (layer, calls) = next(iter(caught(model, example_sequence).items()))
    time = 1 if layer.batch_first else 0
    x = torch.cat([given.x for given in calls], time)
    steps = x.shape[time]
    if steps > LONGEST:
        raise UserError(f"{steps:,} steps are too many for the effect of each ({LONGEST:,} at most): give a part")
    answers = example_sequence.answers or {"size of the last output": _size_of_last}
    module = recurrent_modules(model)[name]

    def outcome(x: Tensor) -> list[Tensor]:
        with _replaced_inputs(module, x.split([given.x.shape[time] for given in calls], time)):
            output = run(model, example_sequence)
        return [answer(output) for answer in answers.values()]

    with evaluating(model):
        gradients = _gradients(outcome, x)
        values, changes = _occlusion(outcome, x, time)
    over_features = [g.double().norm(dim=-1).flatten().cpu().numpy() for g in gradients]
    return {
        name: InputAttribution(g, c, v) for name, g, c, v in zip(answers, over_features, changes, values, strict=True)
    }


def _size_of_last(output: Tensor) -> Tensor:
    """The norm of the output at the last step: ``(1, T, O)``, or ``(1, O)`` of a model with one answer."""
    return (output[0, -1] if output.dim() == 3 else output[0]).norm()


@contextmanager
def _replaced_inputs(module: nn.Module, pieces: Sequence[Tensor]) -> Iterator[None]:
    """The module reads ``pieces``, one a call, in place of what it is called with."""
    left = [*reversed(pieces)]

    def replace(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not left:
            return args, kwargs
        given = left.pop()
        name = next((name for name in ("x", "input") if name in kwargs), None)
        was = kwargs[name] if name else args[0]
        if isinstance(was, PackedSequence):
            given = pack_padded_sequence(given, was.batch_sizes.new_tensor([len(was.data)]), module.batch_first)
        elif was.numel() == given.numel():
            given = given.reshape(was.shape)
        return ((given, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: given})

    hook = module.register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _gradients(outcome: Callable[[Tensor], list[Tensor]], x: Tensor) -> list[Tensor]:
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        found = outcome(leaf)
        grads = [torch.autograd.grad(y, leaf, retain_graph=True, allow_unused=True)[0] for y in found]
    return [torch.zeros_like(x) if g is None else g for g in grads]


@torch.no_grad()
def _occlusion(outcome: Callable[[Tensor], list[Tensor]], x: Tensor, time: int) -> tuple[list[float], list[np.ndarray]]:
    """The answers, and for each answer by how much it changes as each step is erased."""
    steps = x.shape[time]
    blank = x.mean(dim=time, keepdim=True)
    together = math.ceil(steps / _PIECES)
    values = [float(y) for y in outcome(x)]
    if not all(map(math.isfinite, values)):
        raise UserError("the model's answer is no finite number: there is no effect to measure")
    changes = [np.zeros(steps) for _ in values]
    for start in range(0, steps, together):
        count = min(together, steps - start)
        without = x.clone()
        without.narrow(time, start, count).copy_(blank.expand_as(without.narrow(time, start, count)))
        for change, now, before in zip(changes, outcome(without), values, strict=True):
            change[start : start + count] = (before - float(now)) / count
    return values, changes


def attribution_figure(
    found: Mapping[str, InputAttribution], *, labels: Sequence[str] | None = None, begins: int | None = None
) -> Figure:
    """Over time, a panel an answer: by how much it rests on each step (erased), and the gradient's size beside it.

    Args:
        found: By answer.
        labels: What stands at each step.
        begins: The step at which a forecast's horizon begins: a line marks it.
    """
    figure = new_figure(0.8 + 1.9 * len(found))
    axes = figure.subplots(len(found), 1, squeeze=False, sharex=True)[:, 0]
    handles: dict[str, Any] = {}
    for ax, (name, effect) in zip(axes, found.items(), strict=True):
        steps = np.arange(len(effect.erased))
        ax.axhline(0, color=BLACK, linewidth=0.8)
        handles["change that the input made"] = ax.bar(steps, effect.erased, width=1.0, color="#9ecae1")
        (handles["size of the gradient"],) = ax.plot(
            steps, effect.gradient, linewidth=1.4, marker="." if len(steps) == 1 else "", **line_style(1)
        )
        ax.set_title(f"{shown(name)}: {effect.value:.4g}", loc="left", fontsize=SMALL + 1, parse_math=False)
        style_axes(ax)
        if begins is not None:
            ax.axvline(begins - 0.5, color=BLACK, linestyle=DASHES[1], linewidth=1.2)
    label_time(axes[-1], len(next(iter(found.values())).erased), labels)
    legend(figure, handles)
    return figure
