"""How much memory one training step takes beyond the weights and the input: each side in a process of its own.

Run as a program, it measures one side: ``training_memory.py SIDE BACKEND THREADS CASE``, CASE an index into
:data:`CASES`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from layer_cases import TORCH, Case

CASES = (
    Case("lstm", "train", 32, 100, 64, 128),
    Case("lstm", "train", 64, 100, 256, 512),
    Case("lstm", "train", 16, 1000, 16, 128),
)
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(side: str, case: Case, backend: str, threads: int) -> dict[str, float]:
    """Megabytes by name: ``saved``, what is held between forward and backward; ``peak``, the most at any time."""
    if not _RESET.exists():
        return {}
    # Freed memory goes back at once, so that what is left over is not counted as what is needed.
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, side, backend, str(threads), str(CASES.index(case))]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {side} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def _megabytes(name: str) -> float:
    line = next(line for line in _STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def _measure_here(side: str, case: Case, backend: str) -> dict[str, float]:
    import dataclasses

    import peers

    # A few steps load the libraries, start the threads, and leave the gradients of the weights allocated.
    layer, data = peers.prepare(dataclasses.replace(case, steps=4), 0, backend)
    module = layer if side == "ours" else peers._with_weights_of(layer, peers._layer(peers.THEIRS[case.kind], case))
    for _ in range(2):
        module(data.x.requires_grad_())[0].backward(data.weighting)
    _, data = peers.prepare(case, 0, backend)
    x = data.x.requires_grad_()
    _RESET.write_text("5", encoding="ascii")  # the high-water mark begins anew here
    before = _megabytes("VmRSS")
    output, _ = module(x)
    saved = _megabytes("VmRSS") - before
    output.backward(data.weighting)
    return {"saved": round(saved, 1), "peak": round(_megabytes("VmHWM") - before, 1)}


def _main() -> None:
    side, backend, threads, index = sys.argv[1:]
    import torch

    torch.set_num_threads(int(threads))
    print(json.dumps(_measure_here(side, CASES[int(index)], backend)))


def rows(backend: str, threads: int) -> list[dict[str, object]]:
    """One row a case: ours and torch's megabytes; nothing where the system cannot say."""
    found = []
    for case in CASES:
        sides = {side: measure(side, case, backend, threads) for side in ("ours", TORCH)}
        if all(sides.values()):
            found.append({"case": case.shape, "sides": sides})
    return found


if __name__ == "__main__":
    _main()
