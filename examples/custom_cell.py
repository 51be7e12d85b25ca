"""Define a cell with one gate, c = f * c + (1 - f) * candidate, and compare it with an LSTM on hourly temperatures.

Run: python examples/custom_cell.py"""

from importlib.resources import as_file, files

import numpy as np
import torch

from lstmkit.cells import CELLS, Cell, CellSpec, project_state
from lstmkit.layers.recurrent import RecurrentLayer


def one_gate_step(spec, params, gx, h, state):
    f, candidate = (gx + project_state(spec, params, h)).chunk(2, -1)
    f, candidate = torch.sigmoid(f), torch.tanh(candidate)
    c = f * state[1] + (1 - f) * candidate
    return (torch.tanh(c), c), {"forget": f, "candidate": candidate}


CELLS["one_gate"] = Cell(("hidden", "cell"), ("forget", "candidate"), frozenset(), one_gate_step)
plain = {"merge": "concat", "residual": False, "variational": False, "recurrent_dropout": 0.0, "zoneout": 0.0}
plain |= {"weight_drop": 0.0, "forget_bias": None, "recompute": False, "backend": "auto", "device": None, "dtype": None}
with as_file(files("lstmkit") / "data/samples/beijing_hourly.csv") as path:
    y = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=1, dtype=np.float32)
y = torch.from_numpy((y - np.nanmean(y)) / np.nanstd(y)).nan_to_num()[: 91 * 48 + 1]
x, target = y[:-1].reshape(91, 48, 1), (y[1:] - y[:-1]).reshape(91, 48, 1)  # 91 windows; the last 20 are the test
for kind, size in (("lstm", 16), ("one_gate", 23)):  # about the same number of weights
    torch.manual_seed(0)
    layer, head = RecurrentLayer(CellSpec(kind, 1, size), 1, True, 0.0, False, **plain), torch.nn.Linear(size, 1)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.01)
    for _ in range(40):
        loss = (head(layer(x[:71])[0]) - target[:71]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = (head(layer(x[71:])[0]) - target[71:]).square().mean() / target[71:].square().mean()
    print(f"{kind:<9} {sum(w.numel() for w in layer.parameters())} weights, test error {error:.2f} (1 = no change)")
