"""Files for RTNeural and Neural Amp Modeler, read back by readers in NumPy that follow the C++ loaders.

The readers share no code with the exporters. They are written from ``RTNeural/model_loader.h`` (commit 96119da),
``lstm/lstm.h``, ``gru/gru.h`` and ``activation``, and from ``NAM/lstm.cpp`` (commit 8bebfef).
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lstmkit import GRU, LSTM, RNN, UserError
from lstmkit.export.rtneural import export_nam, export_rtneural
from lstmkit.layers.recurrent import RecurrentLayer

STEPS = 20


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "sigmoid": sigmoid}


class RTNeuralModel:
    """``json_parser::parseJson`` and ``Model::forward``: each layer is a function of one step."""

    def __init__(self, parent: dict[str, Any]) -> None:
        self.size = parent["in_shape"][-1]
        self.steps: list[Any] = []
        for layer in parent["layers"]:
            dims = layer["shape"][-1]
            weights = [np.array(w, np.float64) for w in layer["weights"]]
            if layer["type"] == "dense":
                assert [w.shape for w in weights] == [(self.size, dims), (dims,)]
                self.steps.append(lambda x, w=weights: x @ w[0] + w[1])
            elif layer["type"] == "lstm":
                assert [w.shape for w in weights] == [(self.size, 4 * dims), (dims, 4 * dims), (4 * dims,)]
                self.steps.append(RTNeuralLSTM(dims, *weights))
            elif layer["type"] == "gru":
                assert [w.shape for w in weights] == [(self.size, 3 * dims), (dims, 3 * dims), (2, 3 * dims)]
                self.steps.append(RTNeuralGRU(dims, *weights))
            else:
                assert layer["type"] == "activation"
            if layer["type"] in ("dense", "activation") and layer["activation"]:
                self.steps.append(ACTIVATIONS[layer["activation"]])
            self.size = dims

    def forward(self, x: np.ndarray) -> np.ndarray:
        for step in self.steps:
            x = step(x)
        return x


class RTNeuralLSTM:
    """``setWVals``: the columns are those of the input gate, the forget gate, the candidate, the output gate."""

    def __init__(self, size: int, W: np.ndarray, U: np.ndarray, b: np.ndarray) -> None:
        self.i, self.f, self.c, self.o = (
            (W[:, k * size : (k + 1) * size], U[:, k * size : (k + 1) * size], b[k * size : (k + 1) * size])
            for k in range(4)
        )
        self.ht1, self.ct1 = np.zeros(size), np.zeros(size)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        i, f, c, o = (x @ W + self.ht1 @ U + b for W, U, b in (self.i, self.f, self.c, self.o))
        self.ct1 = sigmoid(f) * self.ct1 + sigmoid(i) * np.tanh(c)
        self.ht1 = sigmoid(o) * np.tanh(self.ct1)
        return self.ht1


class RTNeuralGRU:
    """``setWVals``: the columns are those of z, r and c; ``setBVals``: row 0 is beside W, row 1 beside U."""

    def __init__(self, size: int, W: np.ndarray, U: np.ndarray, b: np.ndarray) -> None:
        self.z, self.r, self.c = (
            (W[:, k * size : (k + 1) * size], U[:, k * size : (k + 1) * size], b[:, k * size : (k + 1) * size])
            for k in range(3)
        )
        self.ht1 = np.zeros(size)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        h = self.ht1
        z, r = (sigmoid(x @ W + h @ U + b[0] + b[1]) for W, U, b in (self.z, self.r))
        W, U, b = self.c
        c = np.tanh(x @ W + r * (h @ U + b[1]) + b[0])
        self.ht1 = (1 - z) * c + z * h
        return self.ht1


class NAMModel:
    """``get_dsp`` and ``nam::lstm::LSTM``: the weights are taken from one list, in order."""

    def __init__(self, content: dict[str, Any]) -> None:
        assert re.fullmatch(r"0\.5\.\d+", content["version"])
        assert content["architecture"] == "LSTM"
        self.sample_rate = content["sample_rate"]
        inputs, hidden = content["config"]["input_size"], content["config"]["hidden_size"]
        weights = iter(content["weights"])

        def take(*shape: int) -> np.ndarray:
            return np.array([next(weights) for _ in range(int(np.prod(shape)))], np.float32).reshape(shape)

        self.cells = []
        for k in range(content["config"]["num_layers"]):
            size = hidden if k else inputs
            w, b = take(4 * hidden, size + hidden), take(4 * hidden)
            self.cells.append({"w": w, "b": b, "h": take(hidden), "c": take(hidden)})
        self.head_weight, self.head_bias = take(hidden), take(1)[0]
        assert next(weights, None) is None

    def process(self, x: np.ndarray) -> np.ndarray:
        return np.array([self.process_sample(sample) for sample in x])

    def process_sample(self, sample: float) -> float:
        x = np.array([sample], np.float32)
        for cell in self.cells:
            i, f, g, o = np.split(cell["w"] @ np.concatenate([x, cell["h"]]) + cell["b"], 4)
            cell["c"] = sigmoid(f) * cell["c"] + sigmoid(i) * np.tanh(g)
            x = cell["h"] = sigmoid(o) * np.tanh(cell["c"])
        return self.head_weight @ x + self.head_bias


@torch.no_grad()
def run_network(network: nn.Module, x: torch.Tensor) -> np.ndarray:
    """The network over ``x (T, F)``."""
    for part in network if isinstance(network, nn.Sequential) else [network]:
        x = part(x)[0] if isinstance(part, RecurrentLayer) else part(x)
    return x.numpy()


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "LSTM": LSTM(3, 5),
        "GRU": GRU(3, 5),
        "stacked LSTM": LSTM(3, 5, num_layers=3),
        "stacked GRU": GRU(3, 5, num_layers=2),
        "LSTM without bias": LSTM(3, 5, bias=False),
        "GRU without bias": GRU(3, 5, bias=False),
        "LSTM and dense": nn.Sequential(LSTM(3, 8), nn.Linear(8, 1)),
        "GRU and dense layers": nn.Sequential(
            GRU(3, 8), nn.Linear(8, 4, bias=False), nn.ReLU(), nn.Linear(4, 2), nn.Tanh()
        ),
        "activations alone": nn.Sequential(LSTM(3, 8), nn.ReLU(), nn.Linear(8, 2), nn.Tanh(), nn.Sigmoid()),
        "mixed": nn.Sequential(nn.Linear(3, 2), LSTM(2, 4), nn.Identity(), GRU(4, 3), nn.Linear(3, 2), nn.Sigmoid()),
    }


NETWORKS = networks()


@pytest.mark.parametrize("case", NETWORKS)
def test_rtneural_computes_what_the_network_does(case: str, tmp_path: Path):
    network = NETWORKS[case].eval()
    model = RTNeuralModel(json.loads(export_rtneural(network, tmp_path / "model.json").read_text()))
    x = torch.randn(STEPS, 3, generator=torch.Generator().manual_seed(1))
    expected = run_network(network, x)
    outputs = np.stack([model.forward(step) for step in x.numpy().astype(np.float64)])
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-3


def test_the_file_of_rtneural_has_the_keys_of_its_keras_models(tmp_path: Path):
    network = nn.Sequential(LSTM(1, 8), nn.Linear(8, 1), nn.Tanh())
    content = json.loads(export_rtneural(network, tmp_path / "model.json").read_text())
    assert content["in_shape"] == [None, None, 1]
    described = [{key: layer[key] for key in layer if key != "weights"} for layer in content["layers"]]
    assert described == [
        {"type": "lstm", "activation": "tanh", "shape": [None, None, 8]},
        {"type": "dense", "activation": "tanh", "shape": [None, None, 1]},
    ]


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_nam_computes_what_the_network_does(num_layers: int, bias: bool, tmp_path: Path):
    torch.manual_seed(0)
    network = nn.Sequential(LSTM(1, 6, num_layers, bias), nn.Linear(6, 1, bias)).eval()
    model = NAMModel(json.loads(export_nam(network, tmp_path / "amp.nam", 48000).read_text()))
    x = torch.randn(STEPS, 1, generator=torch.Generator().manual_seed(1))
    expected = run_network(network, x)
    np.testing.assert_allclose(model.process(x[:, 0].numpy()), expected[:, 0], rtol=0, atol=1e-5)
    assert np.ptp(expected) > 1e-3
    assert model.sample_rate == 48000


def test_nam_takes_several_modules_as_one_stack(tmp_path: Path):
    torch.manual_seed(0)
    network = nn.Sequential(LSTM(1, 6), nn.Dropout(0.1), LSTM(6, 6), nn.Linear(6, 1)).eval()
    model = NAMModel(json.loads(export_nam(network, tmp_path / "amp.nam", 44100.0).read_text()))
    x = torch.randn(STEPS, 1, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(model.process(x[:, 0].numpy()), run_network(network, x)[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (RNN(1, 4), "(RNN) has the cell rnn_tanh: RTNeural has only lstm, gru"),
        (LSTM(1, 4, peephole=True), "(LSTM) has peephole: RTNeural has only plain layers"),
        (LSTM(1, 4, proj_size=2, coupled=True), "(LSTM) has proj_size and coupled: RTNeural has only plain layers"),
        (GRU(1, 4, layer_norm=True), "(GRU) has layer_norm"),
        (GRU(1, 4, zoneout=0.1), "(GRU) has zoneout"),
        (LSTM(1, 4, 2, residual=True), "(LSTM), layer 1 has residual"),
        (LSTM(1, 4, bidirectional=True), "(LSTM) is bidirectional"),
        (nn.Sequential(LSTM(1, 4), nn.Softmax(-1)), "1 (Softmax) cannot be exported"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_rtneural_refuses_what_it_does_not_have(module: nn.Module, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=re.escape(message)):
        export_rtneural(module, tmp_path / "model.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (LSTM(1, 4), "(LSTM) is the last part: NAM needs nn.Linear(hidden_size, 1) there"),
        (nn.Sequential(LSTM(1, 4), nn.Linear(4, 2)), "1 (Linear) is the last part"),
        (nn.Sequential(LSTM(1, 4), nn.Linear(4, 1), nn.Tanh()), "2 (Tanh) is the last part"),
        (nn.Sequential(LSTM(1, 4), nn.Tanh(), nn.Linear(4, 1)), "1 (Tanh): NAM has only LSTM layers before"),
        (nn.Sequential(LSTM(2, 4), nn.Linear(4, 1)), "0 (LSTM) reads 2 values per step"),
        (nn.Sequential(LSTM(1, 4), LSTM(4, 3), nn.Linear(3, 1)), "1 (LSTM) has 3 units, 0 (LSTM) has 4"),
        (nn.Sequential(GRU(1, 4), nn.Linear(4, 1)), "0 (GRU) has the cell gru: NAM has only lstm"),
        (nn.Sequential(LSTM(1, 4, zoneout=0.1), nn.Linear(4, 1)), "0 (LSTM) has zoneout: NAM has only plain layers"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_nam_refuses_what_it_does_not_have(module: nn.Module, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=re.escape(message)):
        export_nam(module, tmp_path / "amp.nam", 48000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sample_rate", [0, -1.0, float("nan"), float("inf")])
def test_nam_needs_a_sample_rate(sample_rate: float, tmp_path: Path):
    with pytest.raises(UserError, match="sample_rate must be a positive number of Hz"):
        export_nam(nn.Sequential(LSTM(1, 4), nn.Linear(4, 1)), tmp_path / "amp.nam", sample_rate)
