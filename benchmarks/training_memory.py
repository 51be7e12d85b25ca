"""Memory of one training step beyond weights and input; each implementation is measured in its own process.

As a script it measures one implementation: ``training_memory.py NAME BACKEND THREADS CASE``; CASE is an index into
:data:`CASES`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from layer_cases import LSTMKIT, TORCH, Case

CASES = (
    Case("lstm", "train", 32, 100, 64, 128),
    Case("lstm", "train", 64, 100, 256, 512),
    Case("lstm", "train", 16, 1000, 16, 128),
)
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(name: str, case: Case, backend: str, threads: int) -> dict[str, float]:
    """Megabytes: ``saved`` between forward and backward pass, and ``peak``."""
    if not _RESET.exists():
        return {}
    # Freed memory is returned to the system at once, so that it is not counted.
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, name, backend, str(threads), str(CASES.index(case))]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {name} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def _megabytes(name: str) -> float:
    line = next(line for line in _STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def _measure_here(name: str, case: Case, backend: str) -> dict[str, float]:
    import dataclasses

    import peers

    # A few steps first load the libraries, start the threads and allocate the gradients of the weights.
    layer, data = peers.prepare(dataclasses.replace(case, steps=4), 0, backend)
    module = (
        layer if name == LSTMKIT else peers._with_weights_of(layer, peers._layer(peers.TORCH_LAYERS[case.kind], case))
    )
    for _ in range(2):
        module(data.x.requires_grad_())[0].backward(data.weighting)
    _, data = peers.prepare(case, 0, backend)
    x = data.x.requires_grad_()
    _RESET.write_text("5", encoding="ascii")  # resets the high-water mark
    before = _megabytes("VmRSS")
    output, _ = module(x)
    saved = _megabytes("VmRSS") - before
    output.backward(data.weighting)
    return {"saved": round(saved, 1), "peak": round(_megabytes("VmHWM") - before, 1)}


def _main() -> None:
    name, backend, threads, index = sys.argv[1:]
    import torch

    torch.set_num_threads(int(threads))
    print(json.dumps(_measure_here(name, CASES[int(index)], backend)))


def rows(backend: str, threads: int) -> list[dict[str, object]]:
    """One row per case with the megabytes of lstmkit and torch.nn; none if the system does not report them."""
    measured_rows = []
    for case in CASES:
        megabytes = {name: measure(name, case, backend, threads) for name in (LSTMKIT, TORCH)}
        if all(megabytes.values()):
            measured_rows.append({"case": case.shape, "implementations": megabytes})
    return measured_rows


if __name__ == "__main__":
    _main()
