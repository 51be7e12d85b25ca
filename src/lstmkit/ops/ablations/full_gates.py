"""The LSTM whose gates see the gates of the step before, for the GPU kernels: as one with a wide hidden state.

That state is the output and the input, forget and output gate side by side, ``(B, 4 H)``; its weights are those of the
output and those of the gates, which the candidate does not see.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lstmkit.cells import Params, State
from lstmkit.ops.call import Zoneout

KIND = "lstm_full_gates"


def wide_weight(params: Params) -> Tensor:
    """``(4 H, 4 H)``, of ``weight_hh`` and ``weight_gates``."""
    i, f, o = params["weight_gates"].chunk(3)
    return torch.cat([params["weight_hh"], torch.cat([i, f, torch.zeros_like(i), o])], 1)


def narrow_weights(wide: Tensor) -> dict[str, Tensor]:
    """The two that :func:`wide_weight` puts together."""
    units = len(wide) // 4
    i, f, _, o = wide[:, units:].chunk(4)
    return {"weight_hh": wide[:, :units], "weight_gates": torch.cat([i, f, o])}


def wide_state(state: State) -> State:
    """The wide hidden state and the cell state, of the five that the cell has."""
    h, c, *gates = state
    return torch.cat([h, *gates], -1), c


def narrow_state(state: Sequence[Tensor]) -> State:
    """The five."""
    h, *gates = state[0].chunk(4, -1)
    return h, state[1], *gates


def wide_mask(mask: Tensor | None) -> Tensor | None:
    """Gates are seen whole."""
    return None if mask is None else torch.cat([mask, mask.new_ones(len(mask), 3 * mask.shape[1])], 1)


def wide_zoneout(zoneout: Zoneout, shape: tuple[int, int, int], like: Tensor) -> Zoneout:
    """Of the wide hidden state and of the cell state: one share, or a mask ``(T, B, 4 H)`` of parts of ``shape``."""
    h, c, *gates = zoneout
    if not isinstance(h, Tensor) and all(not isinstance(zone, Tensor) and zone == h for zone in gates):
        return h, c
    parts = (zone if isinstance(zone, Tensor) else like.new_full((), zone) for zone in (h, *gates))
    return torch.cat([part.expand(shape) for part in parts], -1), c


def narrow_noise(mask: Tensor | None, zoneout: Zoneout) -> tuple[Tensor | None, Zoneout]:
    """What the two before put together."""
    wide, c = zoneout
    h, *gates = wide.chunk(4, -1) if isinstance(wide, Tensor) else [wide] * 4
    return None if mask is None else mask[:, : mask.shape[1] // 4], (h, c, *gates)
