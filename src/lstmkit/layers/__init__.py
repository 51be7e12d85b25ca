"""LSTM, GRU and RNN as torch modules: stacked, bidirectional, streaming, with traces of every gate."""

from __future__ import annotations

from lstmkit.layers.conv_recurrent import BottleneckLSTM2d, ConvGRU2d, ConvLSTM2d, ConvRNN2d
from lstmkit.layers.quantization import quantize
from lstmkit.layers.recurrent import Trace
from lstmkit.layers.rnn import GRU, LSTM, RNN, BackendReport, explain_backend
from lstmkit.layers.stream import Stream
from lstmkit.ops.dispatch import BackendUnavailable

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BackendReport",
    "BackendUnavailable",
    "BottleneckLSTM2d",
    "ConvGRU2d",
    "ConvLSTM2d",
    "ConvRNN2d",
    "Stream",
    "Trace",
    "explain_backend",
    "quantize",
]
