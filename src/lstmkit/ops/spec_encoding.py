"""What ops of ``torch.library`` put into a compiled graph, which holds no objects: a cell is whole numbers there."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from lstmkit.cells import CELLS, CellSpec

_KINDS = tuple(CELLS)
SIZE = 8  #: How many numbers a cell is.


def encode_spec(spec: CellSpec) -> list[int]:
    options = (spec.bias, spec.peephole, spec.coupled, spec.layer_norm)
    return [_KINDS.index(spec.kind), spec.input_size, spec.hidden_size, spec.proj_size, *map(int, options)]


def decode_spec(numbers: Sequence[int]) -> CellSpec:
    """The cell that they are."""
    return _spec(tuple(numbers))


@functools.lru_cache(maxsize=1024)
def _spec(numbers: tuple[int, ...]) -> CellSpec:
    kind, inputs, units, projection, bias, peephole, coupled, norm = numbers
    return CellSpec(_KINDS[kind], inputs, units, bool(bias), projection, bool(peephole), bool(coupled), bool(norm))


def each(needs: Any, count: int) -> list[bool]:
    """Which of a list of tensors want a gradient; where none does, torch says so once for all."""
    return list(needs) if isinstance(needs, (list, tuple)) else [bool(needs)] * count
