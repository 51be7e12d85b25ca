"""The LSTM with full gate recurrence, computed by the GPU kernels as an LSTM with a wide hidden state.

Its gates also read the gates of the step before. The wide state ``(B, 4 H)`` concatenates the output and the input,
forget and output gates; its weights concatenate ``weight_hh`` and ``weight_gates``, which the candidate does not have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lstmkit.cells import Params, State
from lstmkit.ops.call import Zoneout

KIND = "lstm_full_gates"


def wide_weight(params: Params) -> Tensor:
    """``weight_hh`` and ``weight_gates`` as one matrix ``(4 H, 4 H)``."""
    i, f, o = params["weight_gates"].chunk(3)
    return torch.cat([params["weight_hh"], torch.cat([i, f, torch.zeros_like(i), o])], 1)


def narrow_weights(wide: Tensor) -> dict[str, Tensor]:
    """The two matrices that :func:`wide_weight` concatenates, by name."""
    units = len(wide) // 4
    i, f, _, o = wide[:, units:].chunk(4)
    return {"weight_hh": wide[:, :units], "weight_gates": torch.cat([i, f, o])}


def wide_state(state: State) -> State:
    """The five states of the cell as two: the wide hidden state and the cell state."""
    h, c, *gates = state
    return torch.cat([h, *gates], -1), c


def narrow_state(state: Sequence[Tensor]) -> State:
    """The five states of the cell, from the two of :func:`wide_state`."""
    h, *gates = state[0].chunk(4, -1)
    return h, state[1], *gates


def wide_mask(mask: Tensor | None) -> Tensor | None:
    """The recurrent dropout mask ``(B, H)`` as ``(B, 4 H)``; gates are not dropped."""
    return None if mask is None else torch.cat([mask, mask.new_ones(len(mask), 3 * mask.shape[1])], 1)


def wide_zoneout(zoneout: Zoneout, shape: tuple[int, int, int], like: Tensor) -> Zoneout:
    """Zoneout of the two wide states: a probability, or a mask ``(T, B, 4 H)`` of parts of ``shape``."""
    h, c, *gates = zoneout
    if not isinstance(h, Tensor) and all(not isinstance(z, Tensor) and z == h for z in gates):
        return h, c
    parts = (z if isinstance(z, Tensor) else like.new_full((), z) for z in (h, *gates))
    return torch.cat([part.expand(shape) for part in parts], -1), c


def narrow_noise(mask: Tensor | None, zoneout: Zoneout) -> tuple[Tensor | None, Zoneout]:
    """Mask and zoneout of the five states, from those of the wide states."""
    wide, c = zoneout
    h, *gates = wide.chunk(4, -1) if isinstance(wide, Tensor) else [wide] * 4
    return None if mask is None else mask[:, : mask.shape[1] // 4], (h, c, *gates)
