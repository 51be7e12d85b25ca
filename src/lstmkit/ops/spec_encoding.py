"""A :class:`CellSpec` as a list of integers, and back: a compiled graph of ``torch.library`` ops holds no objects."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from lstmkit.cells import CELLS, CellSpec

_KINDS = tuple(CELLS)
SPEC_SIZE = 9  #: Length of an encoded spec.


def encode_spec(spec: CellSpec) -> list[int]:
    """The spec as ``SPEC_SIZE`` integers."""
    options = (spec.bias, spec.peephole, spec.coupled, spec.layer_norm, spec.int8)
    return [_KINDS.index(spec.kind), spec.input_size, spec.hidden_size, spec.proj_size, *map(int, options)]


def decode_spec(numbers: Sequence[int]) -> CellSpec:
    """The spec that :func:`encode_spec` has encoded."""
    return _spec(tuple(numbers))


@functools.lru_cache(maxsize=1024)
def _spec(numbers: tuple[int, ...]) -> CellSpec:
    kind, inputs, units, projection, bias, *options = numbers
    return CellSpec(_KINDS[kind], inputs, units, bool(bias), projection, *map(bool, options))


def gradient_flags(needs: Any, count: int) -> list[bool]:
    """For each of ``count`` tensors, whether it needs a gradient; torch gives one flag for all if none does."""
    return list(needs) if isinstance(needs, (list, tuple)) else [bool(needs)] * count
