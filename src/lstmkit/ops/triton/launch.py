"""The layout of a pass on the thread blocks of a GPU, and the launch of its kernel.

The first launch imports Triton, which takes a while.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstmkit.cells import CellSpec
from lstmkit.ops.ablations import full_gates

EPS = 1e-5  # of every layer normalization, as in torch.nn.functional.layer_norm
KINDS = {"lstm": 0, "lstm_linear_input": 0, "lstm_linear_output": 0, full_gates.KIND: 0}
KINDS |= {"gru": 1, "rnn_tanh": 2, "rnn_relu": 3}
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_MIN_DOT_SIZE = 16  # smallest side of a matrix product in Triton
_ROWS = _MIN_DOT_SIZE  # sequences per block
_PARTIAL_BLOCK_UNITS = (16, 8)  # units per block if several blocks share the units
_WARPS = 8  # per block; with four, registers spill
_MAX_WEIGHT_BYTES = 160 * 1024  # recurrent weights that a block keeps on chip


@dataclass(frozen=True)
class Plan:
    """The layout of one pass, or of both passes of a layer, on thread blocks.

    Attributes:
        spec: The cell.
        reverse: For each pass, whether it runs from the last step to the first; of two passes, the second does.
        units: Hidden units per block.
        loop: Name of the :class:`~lstmkit.ops.triton.loop.TimeLoop` that runs it.
    """

    spec: CellSpec
    reverse: tuple[bool, ...]
    units: int
    loop: str = "triton"

    @classmethod
    def of(cls, spec: CellSpec, reverse: tuple[bool, ...], dtype: torch.dtype) -> Plan:
        """All units in one block if their weights fit on one chip, else few units per block."""
        plans = (cls(spec, reverse, units) for units in (_block_width(spec.hidden_size), *_PARTIAL_BLOCK_UNITS))
        fitting = [plan for plan in plans if plan.fits(dtype) or interpreted()]
        return fitting[0] if fitting else cls(spec, reverse, _PARTIAL_BLOCK_UNITS[-1])

    @classmethod
    def for_loop(cls, loop: str, spec: CellSpec, reverse: tuple[bool, ...]) -> Plan:
        """The plan of another back end's loop, which lays out its blocks itself and returns complete gradients."""
        return cls(spec, reverse, spec.hidden_size, loop)

    @property
    def full_gate_recurrence(self) -> bool:
        """Whether gates read the gates of the step before, which are then part of the hidden state."""
        return self.spec.kind == full_gates.KIND

    @property
    def hidden_width(self) -> int:
        """Width of the hidden state that the gates read, ``P``."""
        return 4 * self.spec.hidden_size if self.full_gate_recurrence else self.spec.output_size

    @property
    def state_widths(self) -> tuple[int, ...]:
        """Width of the hidden state, and of the cell state if there is one."""
        return (self.hidden_width, *self.spec.state_sizes[1:2])

    @property
    def single_block(self) -> bool:
        """Whether one block has all units, and reads no more than its own hidden state."""
        return self.tiles == 1 and not self.full_gate_recurrence

    @property
    def _reverse_code(self) -> int:
        """0 for a forward pass, 1 for a reversed one, 2 for both."""
        return 2 if len(self.reverse) > 1 else int(any(self.reverse))

    @property
    def tiles(self) -> int:
        """Number of blocks that share the units of the same sequences."""
        return -(-self.spec.hidden_size // self.units)

    def fits(self, dtype: torch.dtype) -> bool:
        """Whether the recurrent weights of a block fit on one chip."""
        if self.units > max(_PARTIAL_BLOCK_UNITS) and not self.single_block:
            return False  # the partial sums, which warps exchange, would be large
        size = _block_width if self.single_block else _padded_size
        projected = size(self.spec.hidden_size) if self.spec.proj_size else 0
        n_weights = (len(self.spec.gates) * size(self.hidden_width) + projected) * self.units
        return n_weights * dtype.itemsize <= _MAX_WEIGHT_BYTES

    def constants(self, fixed: NonDifferentiableInputs, dtype: torch.dtype) -> dict[str, Any]:
        """The compile-time constants that both kernels share; types as names."""
        spec, accumulator = self.spec, _dtype_name(accumulation_dtype(dtype))
        operand = accumulator if interpreted() else _dtype_name(dtype)  # the interpreter has no half-precision products
        kind = KINDS[spec.kind]
        return {
            "KIND": kind, "G": len(spec.gates) if kind < 2 else 1, "H": spec.hidden_size, "P": self.hidden_width,
            "ROWS": _ROWS, "UNITS": self.units, "OUTPUT_WIDTH": _block_width(self.hidden_width),
            "COUPLED": int(spec.coupled), "PEEP": spec.peephole, "NORM": spec.layer_norm, "PROJ": spec.proj_size > 0,
            "LINEAR_IN": spec.kind == "lstm_linear_input", "LINEAR_OUT": spec.kind == "lstm_linear_output",
            "FULL_GATES": self.full_gate_recurrence, "MASK": fixed.mask is not None,
            "ZONEOUT_H": _zoneout_kind(fixed.zoneout_h), "PROBABILITY_H": _zoneout_probability(fixed.zoneout_h),
            "ZONEOUT_C": _zoneout_kind(fixed.zoneout_c), "PROBABILITY_C": _zoneout_probability(fixed.zoneout_c),
            "RAGGED": fixed.lengths is not None, "DIRECTIONS": len(self.reverse), "REVERSE": self._reverse_code,
            "SINGLE_BLOCK": self.single_block, "TILES": self.tiles, "WIDTH": _next_power_of_two(self.tiles),
            "EPS": EPS, "SPLIT": _WARPS, "CHUNK_P": _chunk(self.hidden_width), "CHUNK_H": _chunk(spec.hidden_size),
            "CHUNK_GH": _chunk(len(spec.gates) * spec.hidden_size),
            "ACC": accumulator, "OPERAND_TYPE": operand, "PRECISION": "tf32x3" if dtype is torch.float32 else "ieee",
        }  # fmt: skip


class NonDifferentiableInputs(NamedTuple):
    """The inputs of the passes that have no gradients.

    Attributes:
        lengths: Steps of each sequence, ``(B,)``, or ``None``.
        mask: The recurrent dropout mask, ``(D, B, P)``, or ``None``.
        zoneout_h, zoneout_c: Zoneout of hidden and cell state: masks ``(D, T, B, size)``, or a probability; 0 for none.
    """

    lengths: Tensor | None
    mask: Tensor | None
    zoneout_h: Tensor | float
    zoneout_c: Tensor | float

    def part(self, steps: slice) -> NonDifferentiableInputs:
        """Only some of the steps, as if there were no others."""
        zoneout = (z[:, steps] if isinstance(z, Tensor) else z for z in (self.zoneout_h, self.zoneout_c))
        lengths = None if self.lengths is None else self.lengths - steps.start
        return NonDifferentiableInputs(lengths, self.mask, *zoneout)


def interpreted() -> bool:
    """Whether the interpreter of Triton is on, which runs the kernels on the CPU, slowly, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def size_limit_reason(spec: CellSpec, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why the kernels cannot run a cell of this size, or ``None``."""
    if interpreted():
        return None
    plan = Plan.of(spec, (False,), dtype)
    if not plan.fits(dtype) or plan.tiles > multiprocessor_count(device):
        return f"too many units ({spec.hidden_size}): their weights do not fit on the chip together"
    return None


def _block_width(size: int) -> int:
    """Width of a block that holds ``size`` values."""
    return _next_power_of_two(max(_MIN_DOT_SIZE, size))


def _next_power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _padded_size(size: int) -> int:
    """``size`` rounded up so that all warps get an equal part."""
    return -(-size // (_MIN_DOT_SIZE * _WARPS)) * _MIN_DOT_SIZE * _WARPS


def _chunk(size: int) -> int:
    """Terms of a sum that are multiplied at once: as many as possible without much padding."""
    return min(_padded_size(size) & -_padded_size(size), 8 * _MIN_DOT_SIZE * _WARPS)


def launch(name: str, plan: Plan, arguments: dict[str, Any], constants: dict[str, Any], steps: int, batch: int) -> None:
    """Launch a kernel for all steps; blocks that wait for each other are all resident at once."""
    kernel = getattr(importlib.import_module("lstmkit.ops.triton.kernels"), name)
    device = arguments["hs"].device
    blocks = -(-batch // _ROWS)
    directions, total = len(plan.reverse), len(plan.reverse) * blocks
    arguments |= {"T": steps, "B": batch, "blocks": blocks}
    arguments["counter"] = torch.zeros(total, dtype=torch.int32, device=device)
    arguments["partial_sums"] = torch.empty(
        2, directions, batch, 2, plan.tiles, dtype=accumulation_dtype(arguments["hs"].dtype), device=device
    )
    resident = total if plan.single_block or interpreted() else multiprocessor_count(device) // plan.tiles
    options = {} if interpreted() else {"num_warps": _WARPS, "launch_cooperative_grid": not plan.single_block}
    options |= with_triton_types(constants)
    for block in range(0, total, resident):
        kernel[min(resident, total - block), plan.tiles](**arguments, block=block, **options)


def with_triton_types(constants: dict[str, Any]) -> dict[str, Any]:
    """The constants with types of Triton in place of their names."""
    language = importlib.import_module("triton.language")
    return constants | {name: getattr(language, constants[name]) for name in ("ACC", "OPERAND_TYPE")}


def multiprocessor_count(device: torch.device) -> int:
    """Number of streaming multiprocessors of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def noise_arguments(fixed: NonDifferentiableInputs) -> dict[str, Any]:
    """Masks and lengths by the names of the kernel parameters, contiguous; ``None`` for one that is missing."""
    return {name: value.contiguous() if isinstance(value, Tensor) else None for name, value in fixed._asdict().items()}


def _zoneout_kind(zoneout: Tensor | float) -> int:
    """``NONE``, ``MASKS`` or ``PROBABILITY`` of ``primitives.py``."""
    return 1 if isinstance(zoneout, Tensor) else 2 if zoneout else 0


def _zoneout_probability(zoneout: Tensor | float) -> float:
    return 0.0 if isinstance(zoneout, Tensor) else float(zoneout)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums and cell states for values of ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
