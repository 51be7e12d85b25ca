"""Replace torch.nn.LSTM: same arguments, same weights, same numbers; no packing for sequences of different lengths.

The sequences are days in Beijing, cut at different hours. Run: python examples/replace_torch_lstm.py
"""

from importlib.resources import as_file, files

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import lstmkit

with as_file(files("lstmkit") / "data/samples/beijing_hourly.csv") as path:
    hours = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=(1, 2, 3, 4), filling_values=0, dtype=np.float32)
days = torch.from_numpy(hours[: len(hours) // 24 * 24]).reshape(-1, 24, 4)
days = (days - days.mean((0, 1))) / days.std((0, 1))
lengths = torch.arange(len(days)) % 24 + 1

torch_lstm = torch.nn.LSTM(4, 32, num_layers=2, batch_first=True, bidirectional=True)
packed, _ = torch_lstm(pack_padded_sequence(days, lengths, batch_first=True, enforce_sorted=False))
expected, _ = pad_packed_sequence(packed, batch_first=True, total_length=24)

lstm = lstmkit.LSTM(4, 32, num_layers=2, batch_first=True, bidirectional=True)  # the same arguments
lstm.load_state_dict(torch_lstm.state_dict())  # the same weights, either way
output, (h, c) = lstm(days, lengths=lengths)

print(f"{len(days)} days, lengths {lengths.min()} to {lengths.max()}, output {tuple(output.shape)}")
print(f"largest difference: {(output - expected).abs().max():.1e}")
print(lstmkit.explain_backend(lstm, days, lengths))
