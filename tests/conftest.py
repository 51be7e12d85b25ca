"""For all tests."""

import importlib
import os
from collections.abc import Iterator

import pytest
import torch

from lstmkit.ops.native_kernels import extension

# Without a GPU Triton's kernels run in its interpreter, which it asks for when it is loaded. Only tests/test_gpu.py
# lets the dispatch know.
if not torch.cuda.is_available():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        importlib.import_module("lstmkit.ops.gpu_kernels")

# Models of a few numbers: a second thread only waits for the first. And checkpoints promise the same bits for the same
# number of threads.
torch.set_num_threads(1)

# test_any_cpu.py sets this, to test the extension's kernels for older CPUs.
if extension is not None and (name := os.environ.get("LSTMKIT_ISA")):
    extension.use(name)


def pytest_report_header() -> str:
    kernels = "not installed" if extension is None else extension.name()
    return f"CPU: torch {torch.backends.cpu.get_cpu_capability()}, extension {kernels}"


@pytest.fixture(params=extension.names() if extension else [])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kernels of one instruction set after the other."""
    assert extension is not None
    before = extension.name()
    extension.use(request.param)
    yield request.param
    extension.use(before)
