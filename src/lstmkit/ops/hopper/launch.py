"""Layout, compilation and launch of the kernels for thread block clusters of Hopper GPUs.

``kernels.cu`` has the kernels: an LSTM or a GRU in half precision. The tensors are those of ``triton/kernels.py``.
NVRTC compiles a kernel for the sizes of a call, through ``cuda.core``; the first launch imports it.

A warp multiplies with fragments of 16 x 16 weights (512 bytes), the operands of the tensor cores' ``mma`` instruction.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lstmkit.cells import CellSpec

SOURCE = Path(__file__).with_name("kernels.cu")
ARCHITECTURE = "sm_90a"
SHARED_MEMORY_BYTES = 227 * 1024  #: Shared memory that a block can have.
KINDS = {"lstm": 0, "gru": 1}
DTYPES = (torch.bfloat16, torch.float16)
_WARPS = 8  # per block; with more, each would have fewer registers
_REGISTERS = 228  # per thread, for weights, sums, operands and the pointwise part; with more, ptxas spills
_CLUSTERS = (16, 8, 4, 2, 1)
_SEQUENCES = (8, 16, 32)
_PREFETCH_DEPTHS = range(6, 13)  # weight fragments in flight from memory per warp, if it does not keep them all
_MAX_FETCHED_FRACTION = 0.5  # of the weights, fetched at each step


@dataclass(frozen=True)
class ClusterPlan:
    """The layout of a forward or a backward pass on clusters.

    Attributes:
        kind: ``"lstm"`` or ``"gru"``.
        hidden: Hidden units.
        dtype: Type of everything that is not float32.
        backward: Whether this is the backward pass.
        blocks: Blocks per cluster.
        sequences: Sequences per cluster.
        split: Warps that share the sums of the same units, each over a part of the hidden state.
        in_registers: Weight fragments that a warp keeps in registers.
        in_shared: Weight fragments that a warp keeps in shared memory; the others are fetched at each step.
        prefetch_depth: Fetched fragments that are in flight at a time.
        warps: Warps per block.
        counted: Whether a block waits for the bytes sent to it rather than for all other blocks.
    """

    kind: str
    hidden: int
    dtype: torch.dtype
    backward: bool
    blocks: int
    sequences: int
    split: int = 1
    in_registers: int = 0
    in_shared: int = 0
    prefetch_depth: int = 0
    warps: int = _WARPS
    counted: bool = True

    @classmethod
    @functools.lru_cache(maxsize=1024)
    def of(
        cls, spec: CellSpec, batch: int, dtype: torch.dtype, *, backward: bool, multiprocessor_count: int = 132
    ) -> ClusterPlan:
        """The layout with the lowest estimated time: :attr:`cycles` times the number of waves of clusters."""
        shapes = (
            cls(spec.kind, spec.hidden_size, dtype, backward, blocks, sequences)
            for blocks in _CLUSTERS
            for sequences in _SEQUENCES
        )
        plans = (plan for shape in shapes for plan in shape._weight_placements())

        def cost(plan: ClusterPlan) -> int:
            clusters = _ceil_div(batch, plan.sequences)
            return plan.cycles * _ceil_div(clusters, max(1, multiprocessor_count // plan.blocks))

        return min(plans, key=cost)

    @property
    def gates(self) -> int:
        return 4 if self.kind == "lstm" else 3

    @property
    def units(self) -> int:
        """Units per block, a multiple of eight."""
        return 8 * _ceil_div(self.hidden, 8 * self.blocks)

    @property
    def groups(self) -> int:
        """Groups of eight units per block."""
        return self.units // 8

    @property
    def columns(self) -> int:
        """Groups of eight sequences per cluster."""
        return self.sequences // 8

    @property
    def pairs(self) -> int:
        """Pairs of units per thread in the pointwise part, where a warp has eight units of eight sequences."""
        return _ceil_div(self.groups * self.columns, self.warps)

    @property
    def tiles(self) -> int:
        """Tiles of 16 rows per warp."""
        if self.backward:
            return 2 * _ceil_div(self.blocks * self.units, 32 * self.warps)
        return _ceil_div(self.groups * self.split // self.warps * self.gates, 2)

    @property
    def chunks(self) -> int:
        """Chunks of 32 terms of the sums per warp."""
        if self.backward:
            return _ceil_div(self.groups * self.gates, 4)
        return _ceil_div(self.blocks * self.units, 32 * self.split)

    @property
    def weight_fragments(self) -> int:
        """Weight fragments per warp, of 512 bytes each."""
        return 2 * self.tiles * self.chunks

    @property
    def fetched_fragments(self) -> int:
        """Weight fragments that a warp fetches at each step."""
        return self.weight_fragments - self.in_registers - self.in_shared

    @property
    def shared_bytes(self) -> int:
        """Shared memory per block."""
        operand = 2 * self.split * self.chunks * 32 * self.sequences * 2
        if self.backward:
            exchanged = 2 * self.blocks * self.units * self.sequences * 4
        else:
            exchanged = self.split * self.units * self.sequences * 16
        return operand + exchanged + 16 + self.warps * (self.in_shared + self.prefetch_depth) * 512

    @property
    def cycles(self) -> int:
        """Estimated clock cycles per step: amounts of work by what a multiprocessor does of each in a cycle."""
        products = self.warps * self.weight_fragments * self.columns * 2
        read = self.warps * (self.in_shared + 2 * self.fetched_fragments) * 512  # fetched fragments are written, too
        operand = self.warps * self.chunks * 64 * self.sequences
        sums = 0 if self.backward else 2 * self.split * self.units * self.sequences * 16
        sent = self.blocks * self.units * self.sequences * (4 if self.backward else 2)
        work = max(products, (read + operand) // 128)
        both = max(work, sent // 12) if self.backward else work + sent // 12  # backward sends while it multiplies
        return max(both + sums // 128 + 150 * self.pairs + 700, self.warps * self.fetched_fragments * 512 // 32)

    def constants(self, *, reverse: bool, ragged: bool, saves: bool = True, bias: bool = True) -> dict[str, int]:
        """The macros that the kernel is compiled with."""
        return {
            "KIND": KINDS[self.kind], "H": self.hidden, "CLUSTER": self.blocks, "UNITS": self.units,
            "SEQUENCES": self.sequences, "WARPS": self.warps, "SPLIT": self.split,
            "IN_REGISTERS": self.in_registers, "IN_SHARED": self.in_shared, "AHEAD": self.prefetch_depth,
            "SHARED_BYTES": self.shared_bytes,
            "COUNTED": int(self.counted), "FP16": int(self.dtype is torch.float16), "BACKWARD": int(self.backward),
            "RAGGED": int(ragged), "REVERSE": int(reverse), "SAVES": int(saves), "BIAS": int(bias),
        }  # fmt: skip

    def _weight_placements(self) -> Iterator[ClusterPlan]:
        """This layout with each possible ``split``: weights fill the registers first, then shared memory."""
        for split in [1] if self.backward else [2**i for i in range(self.warps.bit_length())]:
            if not self.backward and self.groups * split % self.warps:
                continue
            plan = replace(self, split=split)
            live = plan.chunks + 2 if plan.backward else plan.tiles + 1  # tiles of sums, chunks of the operand
            used = 4 * plan.columns * live + 30 * plan.pairs
            registers = min(plan.weight_fragments, max(0, _REGISTERS - used) // 4)
            capacity = (SHARED_MEMORY_BYTES - plan.shared_bytes) // (plan.warps * 512)
            others = plan.weight_fragments - registers
            fetched, depth = _min_fetched(others, capacity) if others > capacity else (0, 0)
            if fetched <= min(others, _MAX_FETCHED_FRACTION * plan.weight_fragments):
                yield replace(plan, in_registers=registers, in_shared=others - fetched, prefetch_depth=depth)


def _min_fetched(fragments: int, capacity: int) -> tuple[int, int]:
    """The fewest fragments to fetch if only ``capacity`` of them can stay, and the prefetch depth that allows it."""
    return min((depth * _ceil_div(fragments - capacity + depth, depth), depth) for depth in _PREFETCH_DEPTHS)


def spec_limit_reason(spec: CellSpec, dtype: torch.dtype) -> str | None:
    """Why the kernels do not support the cell or the dtype, or ``None``."""
    if spec.kind not in KINDS or spec.peephole or spec.coupled or spec.layer_norm or spec.proj_size:
        return "the cluster kernels have the plain LSTM and the GRU only"
    if dtype not in DTYPES:
        return f"the cluster kernels are for half precision, not {dtype}"
    if spec.hidden_size % 8:
        return f"the cluster kernels need hidden_size to be a multiple of 8, got {spec.hidden_size}"
    shapes = [ClusterPlan(spec.kind, spec.hidden_size, dtype, backward, 16, 8) for backward in (False, True)]
    if not all(any(shape._weight_placements()) for shape in shapes):
        return f"too many units ({spec.hidden_size}): too few of their weights fit on the chips of a cluster"
    return None


def device_limit_reason(device: torch.device) -> str | None:
    """Why the kernels cannot run on ``device``, or ``None``."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != 9:
        return "the cluster kernels are for Hopper GPUs"
    try:
        importlib.import_module("cuda.core")
    except ImportError as error:
        return f"cuda.core is missing ({error}): pip install 'lstmkit[cluster]'"
    return None


# ---- passes ----------------------------------------------------------------------------------------------------------


def run_forward(
    plan: ClusterPlan, gx: Tensor, w_hh: Tensor, b_hh: Tensor | None, lengths: Tensor | None,
    hs: Tensor, cs: Tensor | None, saved: Tensor | None, *, reverse: bool = False,
) -> None:  # fmt: skip
    """Run all steps, as ``triton.kernels.forward`` does; only an LSTM has ``cs``.

    Shapes: ``gx (T, B, G, H)``, ``w_hh (G, H, H)``, ``b_hh (G, H)``, ``lengths (B,)``, ``hs (T + 1, B, H)``;
    ``saved (T, B, 4, H)`` with ``cs (T + 1, B, H)`` in float32, or no ``saved`` with ``cs (1, B, H)``.
    """
    constants = plan.constants(
        reverse=reverse, ragged=lengths is not None, saves=saved is not None, bias=b_hh is not None
    )
    buffers = (gx, pack_weights(plan, w_hh), b_hh, lengths, hs, cs, saved)
    _launch(plan, constants, buffers, len(gx), gx.shape[1])


def run_backward(
    plan: ClusterPlan, d_output: Tensor, w_hh: Tensor, lengths: Tensor | None, hs: Tensor, cs: Tensor | None,
    saved: Tensor, dh: Tensor, dc: Tensor | None, dgx: Tensor, dgh: Tensor | None, *, reverse: bool = False,
) -> None:  # fmt: skip
    """Run all steps backward, as ``triton.kernels.backward`` does; only an LSTM has ``cs`` and ``dc``, a GRU ``dgh``.

    ``dh`` and ``dc`` hold the gradients of the final state and are overwritten with those of the initial state.
    """
    constants = plan.constants(reverse=reverse, ragged=lengths is not None)
    buffers = (d_output, pack_weights(plan, w_hh), lengths, hs, cs, saved, dh, dc, dgx, dgh)
    _launch(plan, constants, buffers, *d_output.shape[:2])


def pack_weights(plan: ClusterPlan, w_hh: Tensor) -> Tensor:
    """Weights in the order in which the kernels read them: by block, warp, fragment and lane; padded with zeros.

    A fragment is a 16 x 16 tile of weights, spread over the lanes of a warp. Lane ``4r + c`` has eight of 32 adjacent
    terms of a sum, so that it reads the other operand 16 bytes at a time; a fragment has four of these.
    """
    blocks, units, groups, warps = plan.blocks, plan.units, plan.groups, plan.warps
    w_hh = w_hh.view(plan.gates, plan.hidden, plan.hidden)
    padding = blocks * units - plan.hidden
    if plan.backward:
        rows = plan.tiles * 16 * warps
        w = torch.nn.functional.pad(w_hh, (0, rows - plan.hidden, 0, padding))
        w = w.view(plan.gates, blocks, groups, 8, warps, plan.tiles // 2, 8, 4)  # four adjacent units
        w = w.permute(1, 4, 5, 7, 6, 2, 0, 3).reshape(blocks, warps, 2 * plan.tiles, 8, groups * plan.gates, 8)
        w = torch.nn.functional.pad(w, (0, 0, 0, 4 * plan.chunks - groups * plan.gates))
        w = w.view(blocks, warps, plan.tiles // 2, 4, 8, plan.chunks, 4, 8).permute(0, 1, 2, 5, 3, 4, 6, 7)
    else:
        split, row_warps = plan.split, warps // plan.split
        w = torch.nn.functional.pad(w_hh, (0, plan.chunks * split * 32 - plan.hidden, 0, padding))
        w = w.view(plan.gates, blocks, row_warps, groups // row_warps, 8, split, plan.chunks, 4, 8)
        w = w.permute(1, 2, 5, 6, 3, 0, 4, 7, 8).reshape(blocks, warps, plan.chunks, -1, 8, 4, 8)
        w = torch.nn.functional.pad(w, (0, 0, 0, 0, 0, 0, 0, 2 * plan.tiles - w.shape[3]))
    halves = w.reshape(blocks, warps, plan.weight_fragments // 2, 2, 8, 4, 2, 2, 2)
    return halves.permute(0, 1, 2, 6, 4, 5, 7, 3, 8).contiguous()


# ---- helpers ---------------------------------------------------------------------------------------------------------


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _launch(
    plan: ClusterPlan, constants: dict[str, int], buffers: tuple[Tensor | None, ...], steps: int, batch: int
) -> None:
    device = next(b.device for b in buffers if b is not None)
    pointers = (0 if b is None else b.data_ptr() for b in buffers)
    with torch.cuda.device(device):
        core = importlib.import_module("cuda.core")
        kernel = _loaded_kernel(tuple(constants.items()), device.index)
        grid = core.LaunchConfig(
            grid=_ceil_div(batch, plan.sequences),  # in clusters
            cluster=plan.blocks, block=32 * plan.warps, shmem_size=plan.shared_bytes,
        )  # fmt: skip
        core.launch(_CurrentTorchStream(), grid, kernel, *pointers, ctypes.c_int(steps), ctypes.c_int(batch))


class _CurrentTorchStream:
    """The current stream of torch, in the protocol of ``cuda.core``."""

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, torch.cuda.current_stream().cuda_stream  # the protocol's version, and the stream


def compile_kernel(constants: dict[str, int]) -> Any:
    """Compile the kernel with these macros, for any Hopper GPU."""
    core = importlib.import_module("cuda.core")
    options = core.ProgramOptions(
        arch=ARCHITECTURE, std="c++17", include_path=str(SOURCE.parent),
        define_macro=[(name, str(value)) for name, value in constants.items()],
    )  # fmt: skip
    return core.Program(SOURCE.read_text(), "c++", options).compile("cubin")


@functools.cache
def _loaded_kernel(constants: tuple[tuple[str, int], ...], device: int) -> Any:
    """A compiled kernel, loaded on a device."""
    core, driver = importlib.import_module("cuda.core"), importlib.import_module("cuda.bindings.driver")
    core.Device(device).set_current()
    macros = dict(constants)
    kernel = compile_kernel(macros).get_kernel("backward" if macros["BACKWARD"] else "forward")
    attributes = {
        driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: macros["SHARED_BYTES"],
        driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED: 1,  # more than eight blocks
    }
    for attribute, value in attributes.items():
        (error,) = driver.cuKernelSetAttribute(attribute, value, kernel.handle, driver.CUdevice(device))
        if error != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"cannot set {attribute.name} to {value}: {error.name}")
    return kernel
