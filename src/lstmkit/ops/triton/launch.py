"""How a pass is laid out on a GPU's blocks, and launched. Triton is loaded with the first launch: it takes its time."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstmkit.cells import CellSpec
from lstmkit.ops.ablations import full_gates

EPS = 1e-5  # of every norm, as torch.nn.functional.layer_norm has it
KINDS = {"lstm": 0, "lstm_linear_input": 0, "lstm_linear_output": 0, full_gates.KIND: 0}
KINDS |= {"gru": 1, "rnn_tanh": 2, "rnn_relu": 3}
_LEAST = 16  # numbers of a side of a product, for Triton
_ROWS = _LEAST  # sequences of a block
_FEW = (16, 8)  # units of a block that has not all
_WARPS = 8  # of a block: with four, registers are spilled
_MAX_WEIGHT_BYTES = 160 * 1024  # bytes of weights that a block keeps
TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Plan:
    """How a pass, or a layer's two at once, is laid out on blocks.

    Attributes:
        spec: The cell.
        reverse: Of each pass, whether it goes from the last step to the first; of two, the second does.
        units: Of a block.
        clusters: Whether the kernels for clusters run it, which lay it out themselves.
    """

    spec: CellSpec
    reverse: tuple[bool, ...]
    units: int
    clusters: bool = False

    @classmethod
    def of(cls, spec: CellSpec, reverse: tuple[bool, ...], dtype: torch.dtype) -> Plan:
        """All units in one block, where all weights go on one chip; else few a block."""
        plans = (cls(spec, reverse, units) for units in (_width(spec.hidden_size), *_FEW))
        fitting = [plan for plan in plans if plan.fits(dtype) or interpreted()]
        return fitting[0] if fitting else cls(spec, reverse, _FEW[-1])

    @classmethod
    def on_clusters(cls, spec: CellSpec, reverse: tuple[bool, ...]) -> Plan:
        """As if a block had all units: what comes out is complete."""
        return cls(spec, reverse, spec.hidden_size, clusters=True)

    @property
    def full(self) -> bool:
        """Whether gates see the gates of the step before, which are then parts of the hidden state."""
        return self.spec.kind == full_gates.KIND

    @property
    def seen(self) -> int:
        """Width of the hidden state that gates see."""
        return 4 * self.spec.hidden_size if self.full else self.spec.output_size

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the hidden state, and of the cell state if there is one."""
        return (self.seen, *self.spec.state_sizes[1:2])

    @property
    def whole(self) -> bool:
        """Whether a block has all units, and sees no more than its own hidden state."""
        return self.tiles == 1 and not self.full

    @property
    def _turned(self) -> int:
        """0 for a pass from the first step on, 1 for one from the last on, 2 for both."""
        return 2 if len(self.reverse) > 1 else int(any(self.reverse))

    @property
    def tiles(self) -> int:
        """Blocks for the same sequences."""
        return -(-self.spec.hidden_size // self.units)

    def fits(self, dtype: torch.dtype) -> bool:
        """Whether the recurrent weights of a block go on one chip."""
        if self.units > max(_FEW) and not self.whole:
            return False  # the parts of sums, which warps exchange, are large
        size = _width if self.whole else _padded
        shown = size(self.spec.hidden_size) if self.spec.proj_size else 0
        return (len(self.spec.gates) * size(self.seen) + shown) * self.units * dtype.itemsize <= _MAX_WEIGHT_BYTES

    def constants(self, around: NonDifferentiableInputs, dtype: torch.dtype) -> dict[str, Any]:
        """Those of both kernels; types by their names."""
        spec, computed = self.spec, _named(accumulation_dtype(dtype))
        seen = computed if interpreted() else _named(dtype)  # the interpreter has no products of half precision
        kind = KINDS[spec.kind]
        return {
            "KIND": kind, "G": len(spec.gates) if kind < 2 else 1, "H": spec.hidden_size, "P": self.seen,
            "ROWS": _ROWS, "UNITS": self.units, "OUTS": _width(self.seen),
            "COUPLED": int(spec.coupled), "PEEP": spec.peephole, "NORM": spec.layer_norm, "PROJ": spec.proj_size > 0,
            "LINEAR_IN": spec.kind == "lstm_linear_input", "LINEAR_OUT": spec.kind == "lstm_linear_output",
            "FULL": self.full, "MASK": around.mask is not None,
            "ZONE_H": _zone(around.zone_h), "SHARE_H": _share(around.zone_h),
            "ZONE_C": _zone(around.zone_c), "SHARE_C": _share(around.zone_c),
            "RAGGED": around.lengths is not None, "WAYS": len(self.reverse), "REVERSE": self._turned,
            "WHOLE": self.whole, "TILES": self.tiles, "WIDTH": _next_power_of_two(self.tiles), "EPS": EPS,
            "SPLIT": _WARPS, "CHUNK_P": _chunk(self.seen), "CHUNK_H": _chunk(spec.hidden_size),
            "CHUNK_GH": _chunk(len(spec.gates) * spec.hidden_size),
            "ACC": computed, "SEES": seen, "PRECISION": "tf32x3" if dtype is torch.float32 else "ieee",
        }  # fmt: skip


class NonDifferentiableInputs(NamedTuple):
    """What passes are told beside numbers to be differentiated by.

    Attributes:
        lengths: ``(B,)``, or ``None``.
        mask: ``(D, B, P)``, the recurrent mask, or ``None``.
        zone_h, zone_c: Zoneout: masks ``(D, T, B, size)``, or one share; 0 for none.
    """

    lengths: Tensor | None
    mask: Tensor | None
    zone_h: Tensor | float
    zone_c: Tensor | float

    def part(self, steps: slice) -> NonDifferentiableInputs:
        """Of some of the steps, as if there were no others."""
        zones = (zone[:, steps] if isinstance(zone, Tensor) else zone for zone in (self.zone_h, self.zone_c))
        return NonDifferentiableInputs(None if self.lengths is None else self.lengths - steps.start, self.mask, *zones)


def interpreted() -> bool:
    """Whether Triton's interpreter is on, which runs the kernels on the processor, slowly, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def size_limit_reason(spec: CellSpec, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why the kernels cannot run a cell of that size, or ``None``."""
    if interpreted():
        return None
    plan = Plan.of(spec, (False,), dtype)
    if not plan.fits(dtype) or plan.tiles > multiprocessor_count(device):
        return "there are too many units: their weights do not go on the chip together"
    return None


def _width(size: int) -> int:
    """Of a block that has so many."""
    return _next_power_of_two(max(_LEAST, size))


def _next_power_of_two(size: int) -> int:
    """The power of two from ``size`` on."""
    return 1 << (size - 1).bit_length()


def _padded(size: int) -> int:
    """Up to what warps can share."""
    return -(-size // (_LEAST * _WARPS)) * _LEAST * _WARPS


def _chunk(size: int) -> int:
    """Numbers of a sum that are multiplied at once: the more the better, without many that are not there."""
    return min(_padded(size) & -_padded(size), 8 * _LEAST * _WARPS)


def launch(name: str, plan: Plan, named: dict[str, Any], constants: dict[str, Any], steps: int, batch: int) -> None:
    """All steps in a launch of a kernel; blocks that wait for each other must all run at once."""
    kernel = getattr(importlib.import_module("lstmkit.ops.triton.kernels"), name)
    device = named["hs"].device
    blocks = -(-batch // _ROWS)
    ways, everyone = len(plan.reverse), len(plan.reverse) * blocks
    named |= {"T": steps, "B": batch, "blocks": blocks}
    named["counter"] = torch.zeros(everyone, dtype=torch.int32, device=device)
    named["parts"] = torch.empty(
        2, ways, batch, 2, plan.tiles, dtype=accumulation_dtype(named["hs"].dtype), device=device
    )
    at_once = everyone if plan.whole or interpreted() else multiprocessor_count(device) // plan.tiles
    options = {} if interpreted() else {"num_warps": _WARPS, "launch_cooperative_grid": not plan.whole}
    options |= with_triton_types(constants)
    for block in range(0, everyone, at_once):
        kernel[min(at_once, everyone - block), plan.tiles](**named, block=block, **options)


def with_triton_types(constants: dict[str, Any]) -> dict[str, Any]:
    """As Triton wants them."""
    language = importlib.import_module("triton.language")
    return constants | {name: getattr(language, constants[name]) for name in ("ACC", "SEES")}


def multiprocessor_count(device: torch.device) -> int:
    """Streaming multiprocessors of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def noise(around: NonDifferentiableInputs) -> dict[str, Any]:
    """By the kernels' names, row by row in memory."""
    found = {"mask": around.mask, "lengths": around.lengths, "zone_h": around.zone_h, "zone_c": around.zone_c}
    return {name: one.contiguous() if isinstance(one, Tensor) else None for name, one in found.items()}


def _zone(zone: Tensor | float) -> int:
    return 1 if isinstance(zone, Tensor) else 2 if zone else 0


def _share(zone: Tensor | float) -> float:
    return 0.0 if isinstance(zone, Tensor) else float(zone)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums and cell states are, between numbers of ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
