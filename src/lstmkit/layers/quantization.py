"""Recurrent layers with weights in 8 bits, for inference."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from lstmkit.layers.recurrent import RecurrentLayer

Module = TypeVar("Module", bound=nn.Module)


def quantize(module: Module) -> Module:
    """A copy of a layer or module whose recurrent layers have weights in 8 bits, in evaluation mode.

    Weight matrices take a quarter of the memory. Small batches of wide layers are faster, since the time goes into
    reading weights; the arithmetic is in :mod:`lstmkit.int8`. Biases, peepholes, normalization and states stay as they
    are, and so do other modules. Copies run, stream and trace. Their weights do not learn, and they are not exported.
    If an input or state requires a gradient, activations are not rounded.

    Args:
        module: A layer of lstmkit, or a module that contains some.

    Raises:
        ValueError: The module has no layer of lstmkit, computes weights (``torch.nn.utils.parametrize``), or has
            weights that are not finite.

    >>> import torch
    >>> from lstmkit import LSTM
    >>> layer = LSTM(8, 64)
    >>> small, x = quantize(layer), torch.randn(5, 2, 8)
    >>> bool((small(x)[0] - layer(x)[0]).abs().max() < 0.02)
    True
    """
    return quantize_(copy.deepcopy(module))


def quantize_(module: Module) -> Module:
    """:func:`quantize` in place."""
    layers = [part for part in module.modules() if isinstance(part, RecurrentLayer)]
    if not layers:
        raise ValueError(f"{type(module).__name__} has no LSTM, GRU or RNN of lstmkit to quantize")
    for layer in layers:
        layer.quantize_()
    return module.eval()


def has_int8_weights(module: nn.Module) -> bool:
    """Whether some recurrent layer of a module has weights in 8 bits."""
    return any(isinstance(part, RecurrentLayer) and part.is_quantized for part in module.modules())
