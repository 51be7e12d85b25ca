"""Construction of the recurrent trunk from a job's settings."""

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
    """Build a batch-first stack of recurrent layers; an LSTM's forget gate bias starts at 1.

    Args:
        cell: Name of the cell, a key of :data:`TRUNKS`.
        input_size, hidden_size, num_layers: Sizes of the layer.
        dropout: Dropout probability between layers; ignored if there is one layer.
        options: Further keyword arguments of the layer.

    >>> build_trunk("gru", 3, 8, num_layers=2).output_size
    8
    """
    if cell == "lstm":
        options = {"forget_bias": 1.0, **options}
    dropout = dropout if num_layers > 1 else 0.0
    return TRUNKS[cell](input_size, hidden_size, num_layers, batch_first=True, dropout=dropout, **options)
