"""Programs of torch.export compute what the modules compute, for other shapes too, with torch alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from cases import LAYERS, layer_options, make_layer
from job_cases import CASES, make
from lstmkit import LSTM, export_torch
from lstmkit.errors import UserError

CLOSE = {"rtol": 1e-5, "atol": 1e-6}

#: Runs a program in a process that has torch, but not lstmkit.
WITHOUT_LSTMKIT = """
import json, sys, torch
sys.modules["lstmkit"] = None
x, lengths = torch.tensor(json.loads(sys.argv[2])), torch.tensor(json.loads(sys.argv[3]))
program = torch.export.load(sys.argv[1]).module()
print(json.dumps([output.tolist() for output in program(x, lengths)]))
"""


class Tagger(nn.Module):
    """A layer of both directions and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        output, (h, _) = self.layer(x, lengths=lengths)
        return self.head(output), h


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([6, 1, 4])


def exported(module: nn.Module, path: Path, kernels: bool) -> Path:
    inputs = {"x": torch.zeros(2, 5, 3), "lengths": torch.tensor([5, 2])}
    dynamic = {"x": ("batch", "time", None), "lengths": ("batch",)}
    return export_torch(module, path, inputs, dynamic=dynamic, kernels=kernels)


@pytest.mark.parametrize("kernels", [False, True])
def test_a_module_is_the_same_as_a_program(kernels: bool, data: tuple[Tensor, Tensor], tmp_path: Path):
    module = Tagger().eval()
    program = torch.export.load(exported(module, tmp_path / "tagger.pt2", kernels)).module()
    with torch.no_grad():
        for found, expected in zip(program(*data), module(*data), strict=True):
            torch.testing.assert_close(found, expected, **CLOSE)


def test_a_program_runs_without_lstmkit(data: tuple[Tensor, Tensor], tmp_path: Path):
    module = Tagger().eval()
    path = exported(module, tmp_path / "tagger.pt2", kernels=False)
    values = [json.dumps(tensor.tolist()) for tensor in data]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_LSTMKIT, str(path), *values], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        for found, expected in zip(json.loads(done.stdout), module(*data), strict=True):
            torch.testing.assert_close(torch.tensor(found), expected, **CLOSE)


@pytest.mark.sampled(9)
@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name, cls in LAYERS.items() for options in layer_options(cls)], ids=str
)
def test_a_layer_is_the_same_as_a_program(name: str, options: dict[str, Any], tmp_path: Path):
    layer = make_layer(name, options).eval()
    program = torch.export.load(export_torch(layer, tmp_path / "layer.pt2", lengths=True)).module()
    x = torch.randn(*((3, 7) if layer.batch_first else (7, 3)), 3, dtype=torch.float64)
    lengths = torch.tensor([7, 2, 5])
    with torch.no_grad():
        output, _ = layer(x, None, lengths)
        torch.testing.assert_close(program(x, lengths)[0], output, **CLOSE)


def test_a_job_is_written_as_programs(tmp_path: Path):
    job = make("classifier").fit(CASES["classifier"].data())
    files = job.export(tmp_path, "torch")
    names = ["network.pt2", "network_kernels.pt2", "tokenizer.json", "export.json"]
    assert [path.name for path in files] == names
    ids, lengths = torch.randint(0, 5, (3, 4)), torch.tensor([4, 2, 1])
    with torch.no_grad():
        expected = job.exported().graphs["network"].module.eval()(ids, lengths)
        for path in files[:2]:
            torch.testing.assert_close(torch.export.load(path).module()(ids, lengths), expected, **CLOSE)


def test_every_graph_of_a_job_is_a_program_that_torch_loads(tmp_path: Path):
    """The step of a captioner has inputs whose equal sizes torch 2.13 cannot check in a program that was loaded."""
    job = make("captioner").fit(CASES["captioner"].data())
    job.export(tmp_path, "torch")
    for name, graph in job.exported().graphs.items():
        program = torch.export.load(tmp_path / f"{name}.pt2").module()
        with torch.no_grad():
            assert_close(program(*graph.inputs.values()), graph.module.eval()(*graph.inputs.values()), **CLOSE)


@pytest.mark.complete
@pytest.mark.filterwarnings("ignore")  # of torch itself
def test_a_program_with_our_kernels_is_compiled_ahead_of_time(tmp_path: Path):
    """AOTInductor compiles it for any number of sequences and steps."""
    layer = LSTM(3, 5, num_layers=2, batch_first=True, bidirectional=True).eval()
    path = export_torch(layer, tmp_path / "layer.pt2", lengths=True, kernels=True)
    with torch.no_grad():
        package = torch._inductor.aoti_compile_and_package(
            torch.export.load(path), package_path=str(tmp_path / "compiled.pt2")
        )
        compiled = torch._inductor.aoti_load_package(package)
        for x, lengths in ((torch.randn(4, 9, 3), [9, 4, 0, 2]), (torch.randn(2, 30, 3), [30, 7])):
            output, h, c = compiled(x, torch.tensor(lengths))
            expected, state = layer(x, lengths=lengths)
            assert_close((output, h, c), (expected, *state), **CLOSE)


def test_an_earlier_export_fixes_no_dimension(tmp_path: Path):
    """Exports of one layer after another: first with any number of steps, then with any number of sequences too."""
    layer, x = LSTM(3, 5, batch_first=True), torch.randn(4, 9, 3)
    for dimensions in ((None, "time", None), ("batch", "time", None)):
        path = export_torch(layer, tmp_path / "layer.pt2", {"x": x}, dynamic={"x": dimensions})
    program, other = torch.export.load(path).module(), torch.randn(2, 6, 3)
    with torch.no_grad():
        assert_close(program(other)[0], layer(other)[0])


def test_inputs_are_asked_for(tmp_path: Path):
    with pytest.raises(UserError, match="give example inputs"):
        export_torch(Tagger(), tmp_path / "tagger.pt2")
    with pytest.raises(UserError, match="for a layer alone"):
        export_torch(Tagger(), tmp_path / "tagger.pt2", lengths=True)
