"""The recurrence of an LSTM or a GRU in half precision on clusters of a Hopper GPU: laid out, compiled and launched.

``kernels.cu`` has the kernels. Buffers are those of ``triton/kernels.py``. NVRTC compiles, through ``cuda.core``,
for the sizes at hand; that is loaded when the first kernel is asked for.
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
SHARED_MEMORY_BYTES = 227 * 1024  #: Bytes of shared memory that a block can have.
KINDS = {"lstm": 0, "gru": 1}
TYPES = (torch.bfloat16, torch.float16)
_WARPS = 8  # of a block: more would have fewer registers each
_REGISTERS = 228  # of a thread, for weights, sums, operands and the pointwise part: with more, ptxas spills
_CLUSTERS = (16, 8, 4, 2, 1)
_SEQUENCES = (8, 16, 32)
_PREFETCH_DEPTHS = range(6, 13)  # pieces that a warp may have under way from memory, where it does not keep them all
_MAX_FETCHED_FRACTION = 0.5  # of the weights, at each step


@dataclass(frozen=True)
class ClusterPlan:
    """How a pass in one direction of the gradient is laid out on clusters.

    Attributes:
        kind: ``"lstm"`` or ``"gru"``.
        hidden: Units.
        dtype: Of all that is not float32.
        backward: Whether it is the pass for the gradient.
        blocks: Of a cluster.
        sequences: Of a cluster.
        split: Warps that share the sums of the same units, each over some of the hidden state.
        in_registers: Pieces of weights that a warp keeps there.
        in_shared: Pieces that it keeps in shared memory; the others are fetched at each step.
        ahead: How many of those are under way at a time.
        warps: Of a block.
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
    ahead: int = 0
    warps: int = _WARPS
    counted: bool = True

    @classmethod
    @functools.lru_cache(maxsize=1024)
    def of(
        cls, spec: CellSpec, batch: int, dtype: torch.dtype, *, backward: bool, multiprocessor_count: int = 132
    ) -> ClusterPlan:
        """The one for which :attr:`cycles`, and how often all processors are full, promise most."""
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
        """Of a block: whole groups of eight."""
        return 8 * _ceil_div(self.hidden, 8 * self.blocks)

    @property
    def groups(self) -> int:
        return self.units // 8

    @property
    def columns(self) -> int:
        """Groups of eight sequences."""
        return self.sequences // 8

    @property
    def pairs(self) -> int:
        """Of units, of a thread in the pointwise part, where a warp has eight units of eight sequences."""
        return _ceil_div(self.groups * self.columns, self.warps)

    @property
    def tiles(self) -> int:
        """Of 16 rows, of a warp."""
        if self.backward:
            return 2 * _ceil_div(self.blocks * self.units, 32 * self.warps)
        return _ceil_div(self.groups * self.split // self.warps * self.gates, 2)

    @property
    def chunks(self) -> int:
        """Of 32 numbers that are summed over, of a warp."""
        if self.backward:
            return _ceil_div(self.groups * self.gates, 4)
        return _ceil_div(self.blocks * self.units, 32 * self.split)

    @property
    def pieces(self) -> int:
        """Of a warp's weights, of 512 bytes each."""
        return 2 * self.tiles * self.chunks

    @property
    def fetched(self) -> int:
        """Pieces that a warp does not keep."""
        return self.pieces - self.in_registers - self.in_shared

    @property
    def shared_bytes(self) -> int:
        operand = 2 * self.split * self.chunks * 32 * self.sequences * 2
        if self.backward:
            exchanged = 2 * self.blocks * self.units * self.sequences * 4
        else:
            exchanged = self.split * self.units * self.sequences * 16
        return operand + exchanged + 16 + self.warps * (self.in_shared + self.ahead) * 512

    @property
    def cycles(self) -> int:
        """Of a step, about: what is counted, by what a processor does of it in a cycle."""
        products = self.warps * self.pieces * self.columns * 2
        read = self.warps * (self.in_shared + 2 * self.fetched) * 512  # what is fetched is written, too
        operand = self.warps * self.chunks * 64 * self.sequences
        sums = 0 if self.backward else 2 * self.split * self.units * self.sequences * 16
        sent = self.blocks * self.units * self.sequences * (4 if self.backward else 2)
        work = max(products, (read + operand) // 128)
        both = max(work, sent // 12) if self.backward else work + sent // 12  # backward sends while it multiplies
        return max(both + sums // 128 + 150 * self.pairs + 700, self.warps * self.fetched * 512 // 32)

    def constants(self, *, reverse: bool, ragged: bool, saves: bool = True, bias: bool = True) -> dict[str, int]:
        """Those of the kernel."""
        return {
            "KIND": KINDS[self.kind], "H": self.hidden, "CLUSTER": self.blocks, "UNITS": self.units,
            "SEQUENCES": self.sequences, "WARPS": self.warps, "SPLIT": self.split,
            "IN_REGISTERS": self.in_registers, "IN_SHARED": self.in_shared, "AHEAD": self.ahead,
            "SHARED_BYTES": self.shared_bytes,
            "COUNTED": int(self.counted), "FP16": int(self.dtype is torch.float16), "BACKWARD": int(self.backward),
            "RAGGED": int(ragged), "REVERSE": int(reverse), "SAVES": int(saves), "BIAS": int(bias),
        }  # fmt: skip

    def _weight_placements(self) -> Iterator[ClusterPlan]:
        """The same for each way to share sums: first registers are filled, then shared memory."""
        for split in [1] if self.backward else [2**i for i in range(self.warps.bit_length())]:
            if not self.backward and self.groups * split % self.warps:
                continue
            plan = replace(self, split=split)
            live = plan.chunks + 2 if plan.backward else plan.tiles + 1  # tiles of sums, chunks of the operand
            taken = 4 * plan.columns * live + 30 * plan.pairs
            registers = min(plan.pieces, max(0, _REGISTERS - taken) // 4)
            room = (SHARED_MEMORY_BYTES - plan.shared_bytes) // (plan.warps * 512)
            others = plan.pieces - registers
            fetched, ahead = _min_fetched(others, room) if others > room else (0, 0)
            if fetched <= min(others, _MAX_FETCHED_FRACTION * plan.pieces):
                yield replace(plan, in_registers=registers, in_shared=others - fetched, ahead=ahead)


def _min_fetched(pieces: int, room: int) -> tuple[int, int]:
    """The least that are fetched of so many, in turns, where there is less room; and how many are under way."""
    return min((ahead * _ceil_div(pieces - room + ahead, ahead), ahead) for ahead in _PREFETCH_DEPTHS)


def fits(spec: CellSpec, dtype: torch.dtype) -> str | None:
    """Why the kernels have no such cell, or ``None``."""
    if spec.kind not in KINDS or spec.peephole or spec.coupled or spec.layer_norm or spec.proj_size:
        return "the cluster kernels have the plain LSTM and the GRU only"
    if dtype not in TYPES:
        return f"the cluster kernels are for half precision, not {dtype}"
    if spec.hidden_size % 8:
        return "the cluster kernels want units in eights"
    shapes = [ClusterPlan(spec.kind, spec.hidden_size, dtype, back, 16, 8) for back in (False, True)]
    if not all(any(shape._weight_placements()) for shape in shapes):
        return "there are too many units: too few of their weights go on the chips of a cluster"
    return None


def missing(device: torch.device) -> str | None:
    """What there is not to run the kernels, or ``None``."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != 9:
        return "the cluster kernels are for Hopper GPUs"
    try:
        importlib.import_module("cuda.core")
    except ImportError as error:
        return f"cuda.core is missing ({error}): install it with the extra 'cluster'"
    return None


# ---- passes ----------------------------------------------------------------------------------------------------------


def run_forward(
    plan: ClusterPlan, gx: Tensor, w_hh: Tensor, b_hh: Tensor | None, lengths: Tensor | None,
    hs: Tensor, cs: Tensor | None, saved: Tensor | None, *, reverse: bool = False,
) -> None:  # fmt: skip
    """All steps, as ``triton.kernels.forward``; ``cs`` is the LSTM's, ``saved`` is kept for the gradient.

    Shapes: ``gx (T, B, G, H)``, ``w_hh (G, H, H)``, ``b_hh (G, H)``, ``lengths (B,)``, ``hs (T + 1, B, H)``;
    ``saved (T, B, 4, H)`` with ``cs (T + 1, B, H)`` in float32, or none with ``cs (1, B, H)``.
    """
    named = plan.constants(reverse=reverse, ragged=lengths is not None, saves=saved is not None, bias=b_hh is not None)
    buffers = (gx, packed(plan, w_hh), b_hh, lengths, hs, cs, saved)
    _launch(plan, named, buffers, len(gx), gx.shape[1])


def run_backward(
    plan: ClusterPlan, d_output: Tensor, w_hh: Tensor, lengths: Tensor | None, hs: Tensor, cs: Tensor | None,
    saved: Tensor, dh: Tensor, dc: Tensor | None, dgx: Tensor, dgh: Tensor | None, *, reverse: bool = False,
) -> None:  # fmt: skip
    """All steps back, as ``triton.kernels.backward``; ``cs`` and ``dc`` are the LSTM's, ``dgh`` the GRU's.

    ``dh`` and ``dc`` come in as the gradients of the final state, and go out as those of the initial one.
    """
    named = plan.constants(reverse=reverse, ragged=lengths is not None)
    buffers = (d_output, packed(plan, w_hh), lengths, hs, cs, saved, dh, dc, dgx, dgh)
    _launch(plan, named, buffers, *d_output.shape[:2])


def packed(plan: ClusterPlan, w_hh: Tensor) -> Tensor:
    """Weights as the kernels read them: for each block, warp, and lane one piece after the other; 0 where none is.

    A piece is what a warp's lanes have of 16 x 16 weights. Lane ``4r + c`` has eight of 32 numbers that are summed
    over, side by side, so that what they are multiplied by is read 16 bytes at a time; a piece has four of them.
    """
    blocks, units, groups, warps = plan.blocks, plan.units, plan.groups, plan.warps
    w_hh = w_hh.view(plan.gates, plan.hidden, plan.hidden)
    beyond = blocks * units - plan.hidden
    if plan.backward:
        rows = plan.tiles * 16 * warps
        w = torch.nn.functional.pad(w_hh, (0, rows - plan.hidden, 0, beyond))
        w = w.view(plan.gates, blocks, groups, 8, warps, plan.tiles // 2, 8, 4)  # of four units next to each other
        w = w.permute(1, 4, 5, 7, 6, 2, 0, 3).reshape(blocks, warps, 2 * plan.tiles, 8, groups * plan.gates, 8)
        w = torch.nn.functional.pad(w, (0, 0, 0, 4 * plan.chunks - groups * plan.gates))
        w = w.view(blocks, warps, plan.tiles // 2, 4, 8, plan.chunks, 4, 8).permute(0, 1, 2, 5, 3, 4, 6, 7)
    else:
        split, of_rows = plan.split, warps // plan.split
        w = torch.nn.functional.pad(w_hh, (0, plan.chunks * split * 32 - plan.hidden, 0, beyond))
        w = w.view(plan.gates, blocks, of_rows, groups // of_rows, 8, split, plan.chunks, 4, 8)
        w = w.permute(1, 2, 5, 6, 3, 0, 4, 7, 8).reshape(blocks, warps, plan.chunks, -1, 8, 4, 8)
        w = torch.nn.functional.pad(w, (0, 0, 0, 0, 0, 0, 0, 2 * plan.tiles - w.shape[3]))
    halves = w.reshape(blocks, warps, plan.pieces // 2, 2, 8, 4, 2, 2, 2)
    return halves.permute(0, 1, 2, 6, 4, 5, 7, 3, 8).contiguous()


# ---- small things ----------------------------------------------------------------------------------------------------


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _launch(
    plan: ClusterPlan, named: dict[str, int], buffers: tuple[Tensor | None, ...], steps: int, batch: int
) -> None:
    device = next(b.device for b in buffers if b is not None)
    pointers = (0 if b is None else b.data_ptr() for b in buffers)
    with torch.cuda.device(device):
        core = importlib.import_module("cuda.core")
        kernel = _loaded_kernel(tuple(named.items()), device.index)
        grid = core.LaunchConfig(
            grid=_ceil_div(batch, plan.sequences),  # in clusters
            cluster=plan.blocks, block=32 * plan.warps, shmem_size=plan.shared_bytes,
        )  # fmt: skip
        core.launch(_CurrentTorchStream(), grid, kernel, *pointers, ctypes.c_int(steps), ctypes.c_int(batch))


class _CurrentTorchStream:
    """The stream that torch is on."""

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, torch.cuda.current_stream().cuda_stream  # the protocol's version, and the stream


def compiled(constants: dict[str, int]) -> Any:
    """The one kernel of these constants, for any Hopper GPU."""
    core = importlib.import_module("cuda.core")
    options = core.ProgramOptions(
        arch=ARCHITECTURE, std="c++17", include_path=str(SOURCE.parent),
        define_macro=[(name, str(value)) for name, value in constants.items()],
    )  # fmt: skip
    return core.Program(SOURCE.read_text(), "c++", options).compile("cubin")


@functools.cache
def _loaded_kernel(constants: tuple[tuple[str, int], ...], device: int) -> Any:
    """Ready to be launched on a device."""
    core, driver = importlib.import_module("cuda.core"), importlib.import_module("cuda.bindings.driver")
    core.Device(device).set_current()
    named = dict(constants)
    kernel = compiled(named).get_kernel("backward" if named["BACKWARD"] else "forward")
    of = driver.CUfunction_attribute
    wanted = {
        of.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: named["SHARED_BYTES"],
        of.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED: 1,  # more than eight blocks
    }
    for attribute, value in wanted.items():
        (error,) = driver.cuKernelSetAttribute(attribute, value, kernel.handle, driver.CUdevice(device))
        if error != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"{attribute.name} cannot be {value}: {error.name}")
    return kernel
