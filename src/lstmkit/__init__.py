"""lstmkit: long short-term memory networks whose gates can be read, from the layer to the whole job."""

from lstmkit.layers import GRU, LSTM, RNN, explain_backend
from lstmkit.recurrent import Stream, Trace

__version__ = "0.1.0"

__all__ = ["GRU", "LSTM", "RNN", "Stream", "Trace", "__version__", "explain_backend"]
