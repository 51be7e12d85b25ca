"""Input attribution: how much each step's input contributes to an output, by gradient and by occlusion."""

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
from lstmkit.look.traces import ExampleSequence, evaluation_mode, module_calls, recurrent_modules, run_model
from lstmkit.plots.style import BLACK, DASHES, SMALL, legend, line_style, new_figure, style_axes, truncated

MAX_STEPS = 10_000  #: Longest sequence that is attributed: the gradient needs the gates of all steps at once.
_MAX_OCCLUSIONS = 200  # model runs per sequence; longer sequences are occluded several steps at a time


@dataclass(frozen=True, eq=False)
class InputAttribution:
    """Attribution of one output value to the inputs of the model's first recurrent layer.

    Attributes:
        gradient: ``(T,)`` Euclidean norm of the output's gradient with respect to each step's input.
        occlusion: ``(T,)`` change of the output if a step's input is replaced by the mean over all steps. In a long
            sequence several steps are replaced together, and each gets an equal part of the change.
        value: The output itself.
    """

    gradient: np.ndarray
    occlusion: np.ndarray
    value: float


def input_attributions(model: nn.Module, example_sequence: ExampleSequence) -> dict[str, InputAttribution]:
    """Attribute each output of the example sequence to the input of every step.

    The input is what the model's first recurrent layer reads, for example embedded words. Paths that bypass the
    recurrent layers are not included. The gradient is the effect of a small change, occlusion that of the whole input.
    If they disagree, the model is saturated at that step.

    Args:
        model: Any module with ``LSTM``, ``GRU`` or ``RNN`` layers, of lstmkit or ``torch.nn``.
        example_sequence: The sequence, and the outputs to attribute.

    Returns:
        The attribution by output name.

    Raises:
        UserError: The model has no recurrent layer, the batch has more than one sequence, the sequence has more than
            :data:`MAX_STEPS` steps, or an output is not finite.

    >>> from lstmkit import LSTM
    >>> layer = LSTM(2, 4, batch_first=True)
    >>> (attribution,) = input_attributions(layer, ExampleSequence(torch.randn(1, 30, 2))).values()
    >>> attribution.gradient.shape, attribution.occlusion.shape
    ((30,), (30,))
    """
    name, (layer, calls) = next(iter(module_calls(model, example_sequence).items()))
    time = 1 if layer.batch_first else 0
    x = torch.cat([call.x for call in calls], time)
    steps = x.shape[time]
    if steps > MAX_STEPS:
        raise UserError(
            f"the sequence has {steps:,} steps, input attribution takes at most {MAX_STEPS:,}: pass a part of it"
        )
    outputs = example_sequence.answers or {"norm of the last output": _last_output_norm}
    module = recurrent_modules(model)[name]

    def compute_outputs(x: Tensor) -> list[Tensor]:
        with _replaced_inputs(module, x.split([call.x.shape[time] for call in calls], time)):
            output = run_model(model, example_sequence)
        return [select(output) for select in outputs.values()]

    with evaluation_mode(model):
        gradients = _gradients(compute_outputs, x)
        values, changes = _occlusion(compute_outputs, x, time)
    norms = [g.double().flatten(2).norm(dim=-1).flatten().cpu().numpy() for g in gradients]
    return {name: InputAttribution(g, c, v) for name, g, c, v in zip(outputs, norms, changes, values, strict=True)}


def _last_output_norm(output: Tensor) -> Tensor:
    """The norm of the output at the last step ``(1, T, O)``, or of the only output ``(1, O)``."""
    return (output[0, -1] if output.dim() == 3 else output[0]).norm()


@contextmanager
def _replaced_inputs(module: nn.Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Replace the module's input by ``inputs``, one for each call."""
    remaining = [*reversed(inputs)]

    def replace(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not remaining:
            return args, kwargs
        new: Any = remaining.pop()
        name = next((name for name in ("x", "input") if name in kwargs), None)
        original = kwargs[name] if name else args[0]
        if isinstance(original, PackedSequence):
            new = pack_padded_sequence(new, original.batch_sizes.new_tensor([len(original.data)]), module.batch_first)
        elif original.numel() == new.numel():
            new = new.reshape(original.shape)
        return ((new, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: new})

    hook = module.register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _gradients(compute_outputs: Callable[[Tensor], list[Tensor]], x: Tensor) -> list[Tensor]:
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        outputs = compute_outputs(leaf)
        grads = [torch.autograd.grad(y, leaf, retain_graph=True, allow_unused=True)[0] for y in outputs]
    return [torch.zeros_like(x) if g is None else g for g in grads]


@torch.no_grad()
def _occlusion(
    compute_outputs: Callable[[Tensor], list[Tensor]], x: Tensor, time: int
) -> tuple[list[float], list[np.ndarray]]:
    """The outputs, and the change ``(T,)`` of each if a step is occluded."""
    steps = x.shape[time]
    mean = x.mean(dim=time, keepdim=True)
    steps_per_occlusion = math.ceil(steps / _MAX_OCCLUSIONS)
    values = [float(y) for y in compute_outputs(x)]
    if not all(map(math.isfinite, values)):
        raise UserError("an output of the model is not finite, so it cannot be attributed: check weights and inputs")
    changes = [np.zeros(steps) for _ in values]
    for start in range(0, steps, steps_per_occlusion):
        count = min(steps_per_occlusion, steps - start)
        occluded = x.clone()
        occluded.narrow(time, start, count).copy_(mean.expand_as(occluded.narrow(time, start, count)))
        for change, now, before in zip(changes, compute_outputs(occluded), values, strict=True):
            change[start : start + count] = (before - float(now)) / count
    return values, changes


def attribution_figure(
    attributions: Mapping[str, InputAttribution],
    *,
    labels: Sequence[str] | None = None,
    forecast_start: int | None = None,
) -> Figure:
    """Draw occlusion and gradient over time, one panel per output.

    Args:
        attributions: By output name.
        labels: Label of each step.
        forecast_start: First step of the forecast horizon, marked by a line.
    """
    figure = new_figure(0.8 + 1.9 * len(attributions))
    axes = figure.subplots(len(attributions), 1, squeeze=False, sharex=True)[:, 0]
    handles: dict[str, Any] = {}
    for ax, (name, attribution) in zip(axes, attributions.items(), strict=True):
        steps = np.arange(len(attribution.occlusion))
        ax.axhline(0, color=BLACK, linewidth=0.8)
        handles["change by occlusion"] = ax.bar(steps, attribution.occlusion, width=1.0, color="#9ecae1")
        (handles["gradient norm"],) = ax.plot(
            steps, attribution.gradient, linewidth=1.4, marker="." if len(steps) == 1 else "", **line_style(1)
        )
        ax.set_title(f"{truncated(name)}: {attribution.value:.4g}", loc="left", fontsize=SMALL + 1, parse_math=False)
        style_axes(ax)
        if forecast_start is not None:
            ax.axvline(forecast_start - 0.5, color=BLACK, linestyle=DASHES[1], linewidth=1.2)
    label_time(axes[-1], len(next(iter(attributions.values())).occlusion), labels)
    legend(figure, handles)
    return figure
