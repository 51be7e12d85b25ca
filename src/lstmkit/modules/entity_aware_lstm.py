"""Entity-aware LSTM: an LSTM whose input gate depends on static features alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lstmkit.layers.rnn import LSTM


class EntityAwareLSTM(LSTM):
    """Entity-aware LSTM (EA-LSTM) of Kratzert et al. 2019, "Towards learning universal, regional, and local
    hydrological behaviors via machine learning applied to large-sample datasets", HESS 23, eqs. 8 to 13.

    With static features ``s`` and dynamic features ``d_t``::

        i   = σ(W_i s + b_i)                          constant over time, one for each entity
        f_t = σ(W_f d_t + U_f h_{t-1} + b_f)          and so candidate and output gate
        c_t = f_t ⊙ c_{t-1} + i ⊙ ĉ_t

    This is an LSTM that reads both kinds of features and has zeros in its weights: those of the input gate for dynamic
    features and ``h``, those of the other gates for static features. So every kernel, trace, stream and export of an
    LSTM works. A second layer and further ones are plain LSTMs.

    Args:
        input_size: Features ``F``, static ones included.
        hidden_size: Units ``H``.
        num_layers: Number of stacked layers.
        static: Indices of the static features.
        options: Further keyword arguments of :class:`lstmkit.LSTM`, without those that change its weights.

    Raises:
        ValueError: There is no static feature, or an index is not a feature.

    >>> layer = EntityAwareLSTM(3, 4, static=[2], batch_first=True)
    >>> gates = layer.trace(torch.randn(1, 5, 2, generator=torch.manual_seed(0)).repeat(1, 1, 2)[..., :3])
    >>> layer(torch.zeros(2, 5, 3))[0].shape
    torch.Size([2, 5, 4])
    """

    input_mask: Tensor
    recurrent_mask: Tensor

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, static: Sequence[int], **options: Any
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, **options)
        if not static or not all(0 <= index < input_size for index in static):
            raise ValueError(f"static must be indices of 0 to {input_size - 1}, at least one; got {list(static)}")
        is_static = torch.zeros(input_size)
        is_static[list(static)] = 1
        gates = self.specs[0].gates
        is_input_gate = torch.zeros(len(gates))
        is_input_gate[gates.index("input")] = 1
        rows = is_input_gate.repeat_interleave(hidden_size)[:, None]
        self.register_buffer("input_mask", rows * is_static + (1 - rows) * (1 - is_static), persistent=False)
        self.register_buffer("recurrent_mask", 1 - rows, persistent=False)
        with torch.no_grad():
            for name, weight in self.weights(0, 0).items():
                dict(self.named_parameters())[f"{name}_l0"].copy_(weight)

    def weights(self, layer: int, direction: int) -> dict[str, Tensor]:
        """As in :class:`lstmkit.layers.recurrent.RecurrentLayer`, with the zeros of the first layer."""
        weights = super().weights(layer, direction)
        if layer or self.is_quantized:  # 8-bit copies are of weights with these zeros
            return weights
        masks = {"weight_ih": self.input_mask, "weight_hh": self.recurrent_mask}
        return {name: w * masks[name].to(w.dtype) if name in masks else w for name, w in weights.items()}
