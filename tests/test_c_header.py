"""C headers, compiled and run beside the layers that they were written from. One library holds all cases."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cases import LAYERS, case_id, cell_specs, layer_cases, make_layer, spec_id
from lstmkit import GRU, LSTM, RNN, UserError
from lstmkit.cells import CellSpec
from lstmkit.export.c_header import export_c
from lstmkit.layers.recurrent import RecurrentLayer

STEPS = 20
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
COMPILER, CPP_COMPILER = shutil.which("cc"), shutil.which("c++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler: cc is not in the PATH")

#: A layer class and its arguments for each cell that a layer has.
CLASSES = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "rnn_tanh": ("RNN", {}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
}


def layer_of(spec: CellSpec) -> RecurrentLayer:
    """Two layers with the cell; some have zoneout and residual connections."""
    name, options = CLASSES[spec.kind]
    options = options | {option: getattr(spec, option) for option in spec.cell.options}
    zoneout, residual = (0.2 if spec.bias else 0.0), spec.layer_norm or spec.peephole
    layer = LAYERS[name](3, 5, 2, bias=spec.bias, zoneout=zoneout, residual=residual, **options)
    assert layer.specs[0] == spec
    return layer


def networks() -> dict[str, nn.Module]:
    """Every cell with every option, every option of the layers that counts in one direction, and stacks with heads."""
    found: dict[str, nn.Module] = {}
    torch.manual_seed(0)
    for spec in cell_specs():
        if spec.kind in CLASSES:
            found[spec_id(spec)] = layer_of(spec)
    for name, options in layer_cases():
        one_way = {key: value for key, value in options.items() if key not in ("bidirectional", "merge")}
        if one_way or not options:
            found[case_id((name, one_way))] = make_layer(name, one_way, dtype=torch.float32)
    found["LSTM and linear"] = nn.Sequential(LSTM(1, 8), nn.Linear(8, 1))
    found["mixed"] = nn.Sequential(
        nn.Identity(), LSTM(2, 5, proj_size=3), nn.Tanh(), GRU(3, 4, num_layers=2), nn.Dropout(0.5),
        nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), RNN(6, 3)), nn.Linear(3, 2), nn.Sigmoid(),
    )  # fmt: skip
    found["the same modules twice"] = nn.Sequential(recurrent := GRU(3, 3), tanh := nn.Tanh(), recurrent, tanh)
    found["computed weights"] = torch.nn.utils.parametrizations.weight_norm(LSTM(3, 4), "weight_hh_l0")
    found["linear first"] = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), GRU(2, 2))
    for network in found.values():  # gains of layer normalization start as ones, its biases as zeros
        for key, weight in network.named_parameters():
            if "_ln_" in key:
                nn.init.normal_(weight, mean=1.0 if "weight" in key else 0.0, std=0.3)
    return found


NETWORKS = networks()
NAMES = {case: f"case{k}" for k, case in enumerate(NETWORKS)}
INPUT_SIZES = {"LSTM and linear": 1, "mixed": 2}

#: Weights that are hard to write: the smallest and largest numbers, minus zero, numbers of nine digits.
EXTREMES = LSTM(2, 1)
with torch.no_grad():
    numbers = [1e-45, -1.1754942e-38, 3.4028235e38, -0.0, 0.1, 16777217.0, 1 / 3, -123456.789]
    EXTREMES.weight_ih_l0.copy_(torch.tensor(numbers).reshape(4, 2))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """All cases and a function for each that runs steps, in one library."""
    folder = tmp_path_factory.mktemp("headers")
    source = []
    for network, name in [(EXTREMES, "extremes"), *((NETWORKS[case], name) for case, name in NAMES.items())]:
        export_c(network.train(), folder / f"{name}.h", name)
        source.append(
            f'#include "{name}.h"\n'
            f"static {name}_state {name}_now;\n"
            f"void reset_{name}(void) {{ {name}_reset(&{name}_now); }}\n"
            f"void run_{name}(const float *x, float *y, int n) {{\n"
            f"    for (int t = 0; t < n; t++)\n"
            f"        {name}_step(&{name}_now, x + t * {name}_input_size, y + t * {name}_output_size);\n"
            f"}}\n"
        )
    arrays = re.findall(r"static const float (extremes_\w+)", (folder / "extremes.h").read_text())
    source += [f"const float *get_{array}(void) {{ return {array}; }}\n" for array in arrays]
    (folder / "all.c").write_text("".join(source))
    command = [COMPILER, "-std=c99", *STRICT, "-shared", "-fPIC", "all.c", "-o", "all.so", "-lm"]
    compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr[:3000]
    if CPP_COMPILER is not None:
        command = [CPP_COMPILER, *STRICT, "-fsyntax-only", "-x", "c++", "all.c"]
        compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert compiled.returncode == 0, compiled.stderr[:3000]
    return ctypes.CDLL(str(folder / "all.so"))


def run_header(library: ctypes.CDLL, name: str, x: np.ndarray, output_size: int) -> np.ndarray:
    y = np.full((len(x), output_size), np.nan, np.float32)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (x, y)]
    getattr(library, f"run_{name}")(*pointers, len(x))
    return y


@torch.no_grad()
def run_network(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The network over ``x (T, F)``, recurrent layers step by step."""
    if isinstance(network, nn.Sequential):
        for part in network:
            x = run_network(part, x)
        return x
    network.eval()
    if not isinstance(network, RecurrentLayer):
        return network(x)
    stream = network.stream()
    return torch.cat([stream(step.unsqueeze(0)) for step in x])


@needs_compiler
@pytest.mark.parametrize("case", NETWORKS)
def test_the_header_computes_what_the_network_does(case: str, library: ctypes.CDLL):
    x = torch.randn(STEPS, INPUT_SIZES.get(case, 3), generator=torch.Generator().manual_seed(1))
    expected = run_network(NETWORKS[case], x).numpy()
    getattr(library, f"reset_{NAMES[case]}")()
    outputs = run_header(library, NAMES[case], x.numpy(), expected.shape[1])
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-3  # an output that never changes would compare nothing


@needs_compiler
def test_the_state_stays_between_calls_until_it_is_reset(library: ctypes.CDLL):
    x = np.random.default_rng(0).normal(size=(STEPS, 1)).astype(np.float32)
    name = NAMES["LSTM and linear"]
    getattr(library, f"reset_{name}")()
    whole = run_header(library, name, x, 1)
    continued = run_header(library, name, x, 1)
    getattr(library, f"reset_{name}")()
    halves = [run_header(library, name, half, 1) for half in (x[:7], x[7:])]
    assert np.array_equal(np.concatenate(halves), whole)
    assert not np.allclose(continued, whole)


@needs_compiler
def test_input_and_output_may_be_the_same_array(library: ctypes.CDLL):
    x = np.random.default_rng(0).normal(size=(STEPS, 1)).astype(np.float32)
    name = NAMES["LSTM and linear"]
    getattr(library, f"reset_{name}")()
    expected = run_header(library, name, x, 1)
    getattr(library, f"reset_{name}")()
    pointer = x.ctypes.data_as(ctypes.c_void_p)
    getattr(library, f"run_{name}")(pointer, pointer, STEPS)
    assert np.array_equal(x, expected)


@needs_compiler
@pytest.mark.parametrize("key", ["weight_ih", "weight_hh", "bias_ih", "bias_hh"])
def test_weights_read_back_bit_for_bit(key: str, library: ctypes.CDLL):
    weight = EXTREMES.state_dict()[f"{key}_l0"].numpy().ravel(order="F")  # column by column
    function = getattr(library, f"get_extremes_{key}_0")
    function.restype = ctypes.POINTER(ctypes.c_float)
    assert np.ctypeslib.as_array(function(), weight.shape).tobytes() == weight.tobytes()


def test_the_header_says_what_it_is(tmp_path: Path):
    network = nn.Sequential(LSTM(2, 8, peephole=True, zoneout=0.1), nn.Linear(8, 3), nn.Tanh())
    lines = export_c(network, tmp_path / "amp.h", "amp").read_text().splitlines()
    assert lines[2:5] == [" *   0  lstm, 2 -> 8, peephole, zoneout", " *   1  linear, 8 -> 3", " *   2  tanh, 3"]
    n_weights = sum(weight.numel() for weight in network.parameters())
    assert f"input: 2 float, output: 3 float. Weights {4 * n_weights} bytes, state 64 bytes" in lines[6]
    assert network.training
    assert all(part.training for part in network)


def test_float64_weights_are_rounded(tmp_path: Path):
    torch.manual_seed(0)
    network = LSTM(2, 3, dtype=torch.float64)
    text = export_c(network, tmp_path / "a.h").read_text()
    assert export_c(network.float(), tmp_path / "b.h").read_text() == text


class OtherLinear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def nan_layer() -> LSTM:
    layer = LSTM(2, 3)
    nn.init.constant_(layer.weight_hh_l0, float("nan"))
    return layer


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (LSTM(2, 3, bidirectional=True), "(LSTM) is bidirectional: its reversed direction needs future steps"),
        (nn.Sequential(LSTM(2, 3), nn.Conv1d(3, 1, 1)), "1 (Conv1d) cannot be exported"),
        (nn.Sequential(LSTM(2, 3), nn.Sequential(nn.GELU())), "1.0 (GELU) cannot be exported"),
        (nn.Sequential(LSTM(2, 3), OtherLinear(3, 1)), "1 (OtherLinear) cannot be exported"),
        (nn.Sequential(nn.LSTM(2, 3)), "0 (LSTM) is torch's layer: load its state_dict into lstmkit.LSTM"),
        (nn.Sequential(LSTM(2, 3), nn.Linear(4, 1)), "1 (Linear) reads 4 values, but 0 (LSTM) gives 3"),
        (nn.Sequential(LSTM(2, 3), nn.Tanh(), GRU(2, 3)), "2 (GRU) reads 2 values, but 1 (Tanh) gives 3"),
        (nn.Sequential(nn.Tanh(), LSTM(2, 3)), "0 (Tanh) is the first part"),
        (nn.Linear(2, 3), "Linear has no recurrent layer"),
        (nn.Sequential(), "Sequential has no recurrent layer"),
        (nan_layer(), "(LSTM): weight_hh has values that are NaN, infinite or too large for float32"),
        (LSTM(2, 3, device="meta"), "(LSTM): weight_ih has no values yet"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_exported_is_refused(module: nn.Module, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        export_c(module, tmp_path / "network.h")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_cell_without_equations_here_is_refused(tmp_path: Path):
    others = {spec.kind: spec for spec in cell_specs() if spec.kind not in CLASSES}
    for kind, spec in others.items():
        layer = LSTM(3, 5)
        layer.specs = (spec,)
        with pytest.raises(UserError, match=f"has the cell {kind}"):
            export_c(layer, tmp_path / "network.h")


@pytest.mark.parametrize("name", ["", "2nd", "my-net", "_private", "größe", "a b", "a*/b", "a\n"])
def test_a_name_that_is_no_identifier_is_refused(name: str, tmp_path: Path):
    with pytest.raises(UserError, match="is not a C identifier"):
        export_c(LSTM(2, 3), tmp_path / "network.h", name)
