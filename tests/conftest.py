"""Settings and fixtures for all tests."""

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

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


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a placeholder instead of the report page, which takes longer than everything else."""
    monkeypatch.setattr("lstmkit.jobs.base.Job.write_report", lambda self, path, examples: path.write_text("report"))


@pytest.fixture(scope="session")
def exported_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a case's ONNX export, made once for all processes of a run. Copy it to change it."""
    from job_cases import fitted  # needs libraries that the layers do not

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str) -> Path:
        path = shared / f"export-{name.replace(':', '-')}"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                files = fitted(name).export(path)
                assert sorted(files) == sorted(path.iterdir())
        return path

    return folder


@pytest.fixture(scope="session")
def onnx_functions_parsed_once() -> Iterator[None]:
    """onnxscript parses the source of its 500 functions for every graph, 0.4 s each: with this once in a process."""
    try:
        apis: Any = importlib.import_module("torch.onnx._internal._lazy_import").onnxscript_apis
    except (ImportError, AttributeError):  # a private place of torch: without it the tests only take longer
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apis, "get_torchlib_ops", functools.cache(apis.get_torchlib_ops))
        yield


@pytest.fixture(params=extension.names() if extension else [])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test with the kernels of each instruction set."""
    assert extension is not None
    before = extension.name()
    extension.use(request.param)
    yield request.param
    extension.use(before)
