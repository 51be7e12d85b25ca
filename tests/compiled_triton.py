"""Compile the Triton kernels for a Hopper GPU and print the resources of each kernel as a line of JSON.

No GPU is needed. This is a separate script because Triton runs in interpreter mode in the process of the tests.
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
WIDE = (
    "cs",
    "d_cs",
    "norm_stats",
    "partial_sums",
    "dh",
    "dc",
)  # pointers to tensors in the precision of the computation
SCALARS = {"block": "i32", "blocks": "i32", "T": "i32", "B": "i32"}
CASES = [
    (CellSpec("lstm", 64, 128), torch.bfloat16),
    (CellSpec("lstm", 64, 768), torch.bfloat16),  # 48 blocks
    (CellSpec("lstm", 64, 64, proj_size=32, peephole=True, layer_norm=True), torch.bfloat16),
    (CellSpec("gru", 64, 128), torch.float32),  # 8 blocks
    (CellSpec("lstm", 64, 256, proj_size=128, peephole=True, layer_norm=True), torch.bfloat16),  # 16 blocks
    (CellSpec("lstm_full_gates", 64, 128), torch.float64),
]


def compiled(kernel: Any, spec: CellSpec, dtype: torch.dtype, inputs: launch.NonDifferentiableInputs) -> dict[str, Any]:
    """Shared memory, spilled bytes and tensor-core instructions of a compiled kernel."""
    reverse = (False, True) if spec.peephole else (False,)
    constants = launch.Plan.of(spec, reverse, dtype).constants(inputs, dtype)
    constants |= {"SAVES": 1, "BIAS": spec.bias, "SEPARATE_DGH": spec.kind == "gru" or spec.layer_norm}
    constants = launch.with_triton_types(constants | {"TRACED": spec.peephole})
    absent = [name for name, value in launch.noise_arguments(inputs).items() if value is None]
    constants |= dict.fromkeys(absent if spec.peephole else [*absent, "d_saved", "d_cs"])
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    narrow = {torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.float64: "*fp64"}[dtype]
    wide = "*fp64" if dtype is torch.float64 else "*fp32"
    types = SCALARS | {"counter": "*i32", "lengths": "*i64"} | dict.fromkeys(WIDE, wide)
    types |= dict.fromkeys(constants, "constexpr")
    names = kernel.arg_names
    source = ASTSource(
        kernel,
        {name: types.get(name, narrow) for name in names},
        {(names.index(name),): value for name, value in constants.items()},
    )
    binary = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": launch._WARPS})
    with tempfile.TemporaryDirectory() as folder:
        assembly = Path(folder, "kernel.ptx")
        assembly.write_text(binary.asm["ptx"])
        command = [PTXAS, "-arch=sm_90a", "-v", assembly, "-o", Path(folder, "kernel.cubin")]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = re.search(r"(\d+) bytes spill stores", log)
    assert spilled
    return {
        "shared": binary.metadata.shared,
        "spilled": int(spilled[1]),
        "products": binary.asm["ptx"].count("mma.sync"),  # tiles per step and warp; the loop is not unrolled
        "tensor cores": "mma.sync" in binary.asm["ptx"] or "wgmma" in binary.asm["ptx"],
    }


if __name__ == "__main__":
    plain, noisy = launch.NonDifferentiableInputs(None, None, 0.0, 0.0), torch.empty(1)
    for spec, dtype in CASES:
        inputs = launch.NonDifferentiableInputs(noisy, noisy, noisy, noisy) if spec.peephole else plain
        for kernel in (kernels.forward, kernels.backward):
            case = f"{spec.kind} {spec.hidden_size} {dtype}".replace("torch.", "")
            print(json.dumps({"case": case, **compiled(kernel, spec, dtype, inputs)}), flush=True)
