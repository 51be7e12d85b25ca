"""Settings and fixtures for all tests."""

import importlib
import os
from collections.abc import Iterator

import pytest
import torch

from lstmkit.data import batch
from lstmkit.ops.cpu.kernels import extension

collect_ignore = ["data"]  # what made it needs other libraries

# Without a GPU the Triton kernels run in Triton's interpreter. Triton reads the variable when it is imported. Only
# tests/test_triton.py makes the dispatch use them.
if not torch.cuda.is_available():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        importlib.import_module("lstmkit.ops.triton.kernels")

# The models are tiny: a second thread only waits for the first one. Checkpoints give the same bits only for the same
# number of threads.
torch.set_num_threads(1)

# Tiny data need no 32 steps per epoch; the tests of that floor set it again.
batch.MIN_STEPS_PER_EPOCH = 1

# test_any_cpu.py sets this, to test the extension's kernels for older CPUs.
if extension is not None and (name := os.environ.get("LSTMKIT_ISA")):
    extension.use(name)


def pytest_report_header() -> str:
    kernels = "not installed" if extension is None else extension.name()
    return f"CPU: torch {torch.backends.cpu.get_cpu_capability()}, extension {kernels}"


@pytest.fixture(params=extension.names() if extension else [])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test with the kernels of each instruction set."""
    assert extension is not None
    before = extension.name()
    extension.use(request.param)
    yield request.param
    extension.use(before)
