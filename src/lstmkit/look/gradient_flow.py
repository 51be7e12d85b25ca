"""How much of an error at the end reaches back in time: the gradient against the lag."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lstmkit.layers.recurrent import RecurrentLayer

Loss = Callable[[Tensor], Tensor]


def gradient_flow(layer: RecurrentLayer, x: Tensor, loss: Loss | None = None) -> dict[str, np.ndarray]:
    """``|∂L/∂h_t|`` of a loss at the last step, for every step back from it.

    Hidden and cell state of a step are what the next one sees: ``∂L/∂h_t`` is how the loss changes with the one where
    the other is held, and of the cell state likewise (at lag 0, where nothing comes after it, not at all). In a plain
    network the product of the steps' Jacobians shrinks or grows exponentially with the lag (Hochreiter 1991; Bengio,
    Simard and Frasconi 1994); along an LSTM's cell state it is scaled by the forget gates.

    Args:
        layer: One direction; of a stack, its top layer is looked at.
        x: Input ``(T, B, F)``, or ``(B, T, F)`` as the layer has it.
        loss: Of the last hidden state ``(B, P)``, a number. By default the state along one random direction of unit
            length, the same for all layers of that width: the gradient at lag 0 is then 1.

    Returns:
        ``"hidden"`` and, for an LSTM, ``"cell"``: ``(T,)`` Euclidean norms, the mean over the batch, lag 0 first.

    Raises:
        ValueError: The layer is bidirectional, or there are no steps.

    >>> from lstmkit import LSTM, RNN
    >>> x = torch.zeros(50, 2, 3)
    >>> rnn = gradient_flow(RNN(3, 8), x)["hidden"]
    >>> rnn.shape, bool(rnn[49] < 1e-6 < rnn[0])
    ((50,), True)
    """
    if layer.bidirectional:
        raise ValueError("a bidirectional layer has no last step that all others come before: look at one direction")
    steps = x.transpose(0, 1) if layer.batch_first else x
    if not len(steps):
        raise ValueError(f"no steps in an input {tuple(x.shape)}")
    time = 1 if layer.batch_first else 0
    states: list[tuple[Tensor, ...]] = []
    with torch.enable_grad():
        state = None
        for step in steps:
            _, state = layer(step.detach().unsqueeze(time), state)
            states.append(state if isinstance(state, tuple) else (state,))
        error = (loss or _along_one_direction)(states[-1][0][-1])
        kinds = list(zip(*states[::-1], strict=True))
        found = torch.autograd.grad(error, [s for kind in kinds for s in kind], allow_unused=True)
    norms = [0.0 if g is None else float(g[-1].double().norm(dim=-1).mean()) for g in found]
    names = layer.specs[-1].cell.states
    return {name: np.array(norms[i * len(steps) : (i + 1) * len(steps)]) for i, name in enumerate(names)}


def _along_one_direction(hidden: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(hidden.shape[-1], generator=generator, dtype=torch.float64)
    return (hidden @ (direction / direction.norm()).to(hidden)).sum()
