"""Gradient flow: how much of the gradient at the last step reaches earlier steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lstmkit.layers.recurrent import RecurrentLayer

Loss = Callable[[Tensor], Tensor]


def gradient_flow(layer: RecurrentLayer, x: Tensor, loss: Loss | None = None) -> dict[str, np.ndarray]:
    """Norms ``|∂L/∂h_t|`` of the gradient of a loss at the last step, for every earlier step.

    The gradient with respect to the hidden state of a step holds its cell state fixed, and vice versa. At lag 0 the
    cell state has no gradient, because no step follows. In a simple recurrent network the product of the Jacobians
    shrinks or grows exponentially with the lag (Hochreiter 1991; Bengio, Simard and Frasconi 1994). Along an LSTM's
    cell state it is scaled by the forget gates.

    Args:
        layer: A unidirectional layer; the states of the top layer of a stack are used.
        x: Input ``(T, B, F)``, or ``(B, T, F)`` if the layer is batch first.
        loss: Maps the last hidden state ``(B, P)`` to a scalar. By default the state's projection onto a fixed random
            unit vector, the same for all layers of that width, so that the gradient at lag 0 is 1.

    Returns:
        ``"hidden"`` and, for an LSTM, ``"cell"``: ``(T,)`` Euclidean norms, averaged over the batch, lag 0 first.

    Raises:
        ValueError: The layer is bidirectional, or the input has no steps.

    >>> from lstmkit import LSTM, RNN
    >>> x = torch.zeros(50, 2, 3)
    >>> rnn = gradient_flow(RNN(3, 8), x)["hidden"]
    >>> rnn.shape, bool(rnn[49] < 1e-6 < rnn[0])
    ((50,), True)
    """
    if layer.bidirectional:
        raise ValueError("gradient flow needs a unidirectional layer: pass one with bidirectional=False")
    steps = x.transpose(0, 1) if layer.batch_first else x
    if not len(steps):
        raise ValueError(f"the input has no steps: its shape is {tuple(x.shape)}")
    time = 1 if layer.batch_first else 0
    states: list[tuple[Tensor, ...]] = []
    with torch.enable_grad():
        state = None
        for step in steps:
            _, state = layer(step.detach().unsqueeze(time), state)
            states.append(state if isinstance(state, tuple) else (state,))
        loss_value = (loss or _random_projection)(states[-1][0][-1])
        by_name = list(zip(*states[::-1], strict=True))
        grads = torch.autograd.grad(loss_value, [state for group in by_name for state in group], allow_unused=True)
    norms = [0.0 if g is None else float(g[-1].double().norm(dim=-1).mean()) for g in grads]
    names = layer.specs[-1].cell.states
    return {name: np.array(norms[i * len(steps) : (i + 1) * len(steps)]) for i, name in enumerate(names)}


def _random_projection(hidden: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(hidden.shape[-1], generator=generator, dtype=torch.float64)
    return (hidden @ (direction / direction.norm()).to(hidden)).sum()
