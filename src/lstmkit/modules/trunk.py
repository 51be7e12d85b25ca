"""The recurrent trunk, from settings to a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.layers.rnn import GRU, LSTM, RNN

#: The cells that every job offers, by the name of its ``cell`` setting.
TRUNKS: dict[str, Callable[..., RecurrentLayer]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


def build_trunk(
    cell: str, input_size: int, hidden_size: int, *, num_layers: int, dropout: float = 0.0, **options: Any
) -> RecurrentLayer:
    """A batch-first stack of ``num_layers``; an LSTM's forget gates start open (bias 1).

    Args:
        cell: A name in :data:`TRUNKS`.
        input_size, hidden_size, num_layers: As of the layer.
        dropout: Between layers, where there are several.
        options: Further keywords of the layer.
    """
    if cell == "lstm":
        options = {"forget_bias": 1.0, **options}
    dropout = dropout if num_layers > 1 else 0.0
    return TRUNKS[cell](input_size, hidden_size, num_layers, batch_first=True, dropout=dropout, **options)
