"""Compiles the Triton kernels for a Hopper GPU, which need not be there, and prints what each needs, a line a kernel.

A program of its own: in the tests' process Triton interprets.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lstmkit.cells import CellSpec
from lstmkit.ops.triton import kernels, launch

PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
WIDE = ("cs", "d_cs", "norm_stats", "partial_sums", "dh", "dc")  # pointers to what is as exact as it is computed
NUMBERS = {"block": "i32", "blocks": "i32", "T": "i32", "B": "i32"}
CASES = [
    (CellSpec("lstm", 64, 128), torch.bfloat16),
    (CellSpec("lstm", 64, 768), torch.bfloat16),  # over 48 blocks
    (CellSpec("lstm", 64, 64, proj_size=32, peephole=True, layer_norm=True), torch.bfloat16),
    (CellSpec("gru", 64, 128), torch.float32),  # over eight
    (CellSpec("lstm", 64, 256, proj_size=128, peephole=True, layer_norm=True), torch.bfloat16),  # over sixteen
    (CellSpec("lstm_full_gates", 64, 128), torch.float64),
]


def compiled(kernel: Any, spec: CellSpec, dtype: torch.dtype, around: launch.NonDifferentiableInputs) -> dict[str, Any]:
    """What a kernel needs."""
    reverse = (False, True) if spec.peephole else (False,)
    constants = launch.Plan.of(spec, reverse, dtype).constants(around, dtype)
    constants |= {"SAVES": 1, "BIAS": spec.bias, "SEPARATE_DGH": spec.kind == "gru" or spec.layer_norm}
    constants = launch.with_triton_types(constants | {"TRACED": spec.peephole})
    absent = [name for name, told in launch.noise_arguments(around).items() if told is None]
    constants |= dict.fromkeys(absent if spec.peephole else [*absent, "d_saved", "d_cs"])
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    narrow = {torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.float64: "*fp64"}[dtype]
    wide = "*fp64" if dtype is torch.float64 else "*fp32"
    types = NUMBERS | {"counter": "*i32", "lengths": "*i64"} | dict.fromkeys(WIDE, wide)
    types |= dict.fromkeys(constants, "constexpr")
    names = kernel.arg_names
    source = ASTSource(
        kernel,
        {name: types.get(name, narrow) for name in names},
        {(names.index(name),): value for name, value in constants.items()},
    )
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": launch._WARPS})
    with tempfile.TemporaryDirectory() as folder:
        assembly = Path(folder, "kernel.ptx")
        assembly.write_text(made.asm["ptx"])
        command = [PTXAS, "-arch=sm_90a", "-v", assembly, "-o", Path(folder, "kernel.cubin")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = re.search(r"(\d+) bytes spill stores", said)
    assert spilled
    return {
        "shared": made.metadata.shared,
        "spilled": int(spilled[1]),
        "products": made.asm["ptx"].count("mma.sync"),  # of tiles, a step and warp: the loop is there once
        "tensor cores": "mma.sync" in made.asm["ptx"] or "wgmma" in made.asm["ptx"],
    }


if __name__ == "__main__":
    plain, noisy = launch.NonDifferentiableInputs(None, None, 0.0, 0.0), torch.empty(1)
    for spec, dtype in CASES:
        around = launch.NonDifferentiableInputs(noisy, noisy, noisy, noisy) if spec.peephole else plain
        for kernel in (kernels.forward, kernels.backward):
            case = f"{spec.kind} {spec.hidden_size} {dtype}".replace("torch.", "")
            print(json.dumps({"case": case, **compiled(kernel, spec, dtype, around)}), flush=True)
