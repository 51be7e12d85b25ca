"""How a pass is laid out on a GPU's blocks, and launched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from lstmkit.cells import CellSpec

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  #: Whether Triton runs on the processor, for tests.
EPS = 1e-5  # of every norm, as torch.nn.functional.layer_norm has it
KINDS = {"lstm": 0, "lstm_linear_input": 0, "lstm_linear_output": 0, "gru": 1, "rnn_tanh": 2, "rnn_relu": 3}
_LEAST = 16  # numbers of a side of a product, for Triton
_ROWS = _LEAST  # sequences of a block
_WARPS = 8  # of a block: with four, registers are spilled
_ON_CHIP = 160 * 1024  # bytes of weights that a block keeps
TYPES = {torch.float64: tl.float64, torch.float32: tl.float32, torch.bfloat16: tl.float32, torch.float16: tl.float32}


@dataclass(frozen=True)
class Plan:
    """How a pass is laid out on blocks.

    Attributes:
        spec: The cell.
        reverse: From the last step to the first.
        units: Of a block.
    """

    spec: CellSpec
    reverse: bool
    units: int

    @classmethod
    def of(cls, spec: CellSpec, reverse: bool, dtype: torch.dtype) -> Plan:
        """Whole, where all weights go on one chip; else as many units a block as do."""
        width = _width(spec.hidden_size)
        needs_all = spec.layer_norm or spec.proj_size
        fitting = width if needs_all else max(_LEAST, min(width, _ON_CHIP // _bytes(spec, width, 1, dtype)))
        return cls(spec, reverse, 1 << (fitting.bit_length() - 1))

    @property
    def whole(self) -> bool:
        """Whether a block has all units."""
        return self.units >= self.spec.hidden_size

    @property
    def meets(self) -> bool:
        """Whether blocks wait for each other; where they should and cannot, a launch does one step."""
        return not self.whole and not INTERPRETED

    @property
    def tiles(self) -> int:
        """Blocks for the same sequences."""
        return -(-self.spec.hidden_size // self.units)

    def constants(self, around: Around, dtype: torch.dtype) -> dict[str, Any]:
        """Those of both kernels."""
        spec = self.spec
        kind = KINDS[spec.kind]
        return {
            "KIND": kind, "G": len(spec.gates) if kind < 2 else 1, "H": spec.hidden_size, "P": spec.output_size,
            "ROWS": _ROWS, "UNITS": self.units, "OUTS": _width(spec.output_size),
            "COUPLED": int(spec.coupled), "PEEP": spec.peephole, "NORM": spec.layer_norm, "PROJ": spec.proj_size > 0,
            "LINEAR_IN": spec.kind == "lstm_linear_input", "LINEAR_OUT": spec.kind == "lstm_linear_output",
            "MASK": around.mask is not None, "ZONE_H": _zone(around.zone_h), "ZONE_C": _zone(around.zone_c),
            "RAGGED": around.lengths is not None, "REVERSE": int(self.reverse),
            "WHOLE": self.whole, "MEET": self.meets, "TILES": self.tiles, "EPS": EPS,
            "ACC": TYPES[dtype], "SEES": _operands(dtype), "PRECISION": "tf32x3" if dtype is torch.float32 else "ieee",
        }  # fmt: skip


class Around(NamedTuple):
    """What a pass is told beside numbers to be differentiated by.

    Attributes:
        lengths: ``(B,)``, or ``None``.
        mask: ``(B, P)``, the recurrent mask, or ``None``.
        zone_h, zone_c: Zoneout: masks ``(T, B, size)``, or one share; 0 for none.
    """

    lengths: Tensor | None
    mask: Tensor | None
    zone_h: Tensor | float
    zone_c: Tensor | float

    def part(self, steps: slice) -> Around:
        """Of some of the steps, as if there were no others."""
        zones = (zone[steps] if isinstance(zone, Tensor) else zone for zone in (self.zone_h, self.zone_c))
        return Around(None if self.lengths is None else self.lengths - steps.start, self.mask, *zones)


def too_large(spec: CellSpec, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why the kernels cannot run a cell of that size, or ``None``."""
    if INTERPRETED:
        return None
    width = _width(spec.hidden_size)
    if (spec.layer_norm or spec.proj_size) and _bytes(spec, width, width, dtype) > _ON_CHIP:
        return "a norm or a projection wants all units in one block, and there are too many of them for that"
    if _bytes(spec, width, _LEAST, dtype) > _ON_CHIP or Plan.of(spec, False, dtype).tiles > _processors(device):
        return "there are too many units: their weights do not go on the chip together"
    return None


def _width(size: int) -> int:
    """Of a block that has so many: a power of two."""
    return 1 << (max(_LEAST, size) - 1).bit_length()


def _bytes(spec: CellSpec, width: int, units: int, dtype: torch.dtype) -> int:
    """Of the recurrent weights of some units."""
    return len(spec.gates) * width * units * dtype.itemsize


def launch(
    kernel: Any, plan: Plan, named: dict[str, Any], constants: dict[str, Any], steps: int, batch: int, *, back: bool
) -> None:
    """All steps in a launch, where blocks need not wait for each other, or can; then all of them must run at once."""
    device = named["hs"].device
    blocks = -(-batch // _ROWS)
    named |= {"T": steps, "B": batch, "counter": torch.zeros(blocks, dtype=torch.int32, device=device)}
    together = plan.whole or plan.meets
    stretches = [(0, steps)] if together else [(k, k + 1) for k in range(steps)]
    at_once = _processors(device) // plan.tiles if plan.meets else blocks
    options = {"num_warps": _WARPS, "launch_cooperative_grid": plan.meets}
    for block in range(0, blocks, at_once):
        for first, last in reversed(stretches) if back else stretches:
            grid = min(at_once, blocks - block), plan.tiles
            kernel[grid](**named, block=block, first=first, last=last, **constants, **({} if INTERPRETED else options))


def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def noise(around: Around) -> dict[str, Any]:
    """By the kernels' names, row by row in memory."""
    zones = {"h": around.zone_h, "c": around.zone_c}
    found: dict[str, Any] = {"mask": None if around.mask is None else around.mask.contiguous()}
    found["lengths"] = None if around.lengths is None else around.lengths.contiguous()
    for name, zone in zones.items():
        found[f"zone_{name}"] = zone.contiguous() if isinstance(zone, Tensor) else None
        found[f"share_{name}"] = 0.0 if isinstance(zone, Tensor) else float(zone)
    return found


def _zone(zone: Tensor | float) -> int:
    return 1 if isinstance(zone, Tensor) else 2 if zone else 0


def _operands(dtype: torch.dtype) -> Any:
    """What products multiply; the interpreter has none of half precision."""
    return TYPES[dtype] if INTERPRETED or dtype.itemsize > 2 else getattr(tl, str(dtype).removeprefix("torch."))
