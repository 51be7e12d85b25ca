"""Run the numeric tests in processes limited to the instructions of an older CPU.

torch, its libraries for matrix products, NumPy's, and the extension choose their kernels by the CPU. Other kernels
round differently. A normal run takes a small sample of the tests; ``--complete`` takes all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lstmkit.ops.cpu.kernels import extension

TESTS = Path(__file__).parent
NUMERIC = (
    "test_captioner.py",
    "test_cells.py",
    "test_triton.py",
    "test_hopper.py",
    "test_inside.py",
    "test_layers.py",
    "test_look.py",
    "test_cpu_kernels.py",
    "test_ops.py",
    "test_modules.py",
    "test_train.py",
    "test_video.py",
    "test_linear_cross_entropy.py",
    "test_windows.py",
)
#: The sample is taken from these files, which import few modules.
SAMPLED = ("test_cells.py", "test_layers.py", "test_ops.py", "test_linear_cross_entropy.py")

#: Environment variables that torch, MKL, oneDNN and OpenBLAS read.
LIBRARIES = ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE")
#: Their values for each of torch's capabilities.
CAPABILITIES = {
    "avx2": ("avx2", "AVX2", "AVX2", "Haswell"),
    "default": ("default", "SSE4_2", "SSE41", "Nehalem"),
}
#: The extension's instruction set for each capability.
INSTRUCTION_SETS = {"avx2": "x86_64_v3", "default": "portable"}


def cpus() -> list[tuple[str | None, str | None]]:
    """Pairs of a torch capability and an instruction set of the extension: every one but the best."""
    names = [] if extension is None else extension.names()
    pairs: list[tuple[str | None, str | None]] = [
        (capability, isa if isa in names else None) for capability, isa in INSTRUCTION_SETS.items()
    ]
    best = names[:1]  # all other tests use it
    return pairs + [(None, name) for name in names if name not in (*INSTRUCTION_SETS.values(), *best)]


CPUS = pytest.mark.parametrize(("capability", "isa"), cpus(), ids=lambda name: name or "any")


def run_again(capability: str | None, isa: str | None, folder: Path, *arguments: str) -> None:
    """Run pytest in a process that is limited to these instructions; skip if this CPU lacks them."""
    if capability == "avx2" and torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("torch finds no AVX2 in this CPU")
    prefixes = ("PYTEST_", "LSTMKIT_ISA", *LIBRARIES)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    # Inductor takes a graph from its cache that was compiled for wider vectors, and computes half of it.
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # other plugins take a second to import
    if capability is not None:
        environment |= dict(zip(LIBRARIES, CAPABILITIES[capability], strict=True))
    if isa is not None:
        environment["LSTMKIT_ISA"] = isa
    command = [sys.executable, "-m", "pytest", "-v", "-x", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False)
    output = done.stdout[-6000:] + done.stderr[-2000:]
    assert done.returncode == 0, output
    assert f"CPU: torch {(capability or '').upper()}" in done.stdout, output
    assert isa is None or f"extension {isa}\n" in done.stdout, output


@CPUS
def test_sample_of_numeric_tests(capability: str | None, isa: str | None, tmp_path: Path) -> None:
    run_again(capability, isa, tmp_path, "--one-in", "50", *SAMPLED)


@pytest.mark.complete
@CPUS
@pytest.mark.parametrize("module", NUMERIC)
def test_all_numeric_tests(module: str, capability: str | None, isa: str | None, tmp_path: Path) -> None:
    run_again(capability, isa, tmp_path, "--complete", module)
