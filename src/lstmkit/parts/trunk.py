"""The recurrent trunk, from settings to a layer."""

from __future__ import annotations

from collections.abc import Callable

from lstmkit.layers import GRU, LSTM, RNN
from lstmkit.recurrent import RecurrentLayer

#: The cells that every job offers, by the name of its ``cell`` setting.
TRUNKS: dict[str, Callable[..., RecurrentLayer]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


def build_trunk(
    cell: str,
    input_size: int,
    hidden_size: int,
    *,
    num_layers: int,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    residual: bool = False,
    bidirectional: bool = False,
) -> RecurrentLayer:
    """A batch-first stack of ``num_layers``; an LSTM's forget gates start open (bias 1)."""
    options = {"forget_bias": 1.0} if cell == "lstm" else {}
    return TRUNKS[cell](
        input_size,
        hidden_size,
        num_layers,
        batch_first=True,
        dropout=dropout if num_layers > 1 else 0.0,
        recurrent_dropout=recurrent_dropout,
        residual=residual,
        bidirectional=bidirectional,
        **options,
    )
