"""The only place that picks a back end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lstmkit.ops import reference
from lstmkit.ops import torch_backend as torch_fused
from lstmkit.ops.call import Backend, Call, Result, Stepper
from lstmkit.ops.cpu import backend as native
from lstmkit.ops.hopper import backend as cluster
from lstmkit.ops.triton import backend as gpu

#: Every back end, the fastest first: ``"auto"`` takes the first that can run.
_FASTEST_FIRST: tuple[Backend, ...] = (native, torch_fused, gpu, cluster, reference)
BACKENDS = {backend.NAME: backend for backend in _FASTEST_FIRST}


@dataclass(frozen=True)
class Candidate:
    """A back end's answer about one call: ``refusal`` is ``None`` where it can run; ``chosen`` where it would."""

    backend: str
    unsupported_reason: str | None
    chosen: bool


class BackendUnavailable(ValueError):
    """A back end was asked for by name and cannot run the call."""


def check_name(name: str) -> str:
    """``name`` itself.

    Raises:
        ValueError: It is neither ``"auto"`` nor a back end.
    """
    if name != "auto" and name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known: auto, {', '.join(BACKENDS)}")
    return name


def candidates(call: Call, wanted: str = "auto") -> list[Candidate]:
    """What each back end says of ``call``, and which one ``wanted`` comes to."""
    refusals = {name: backend.unsupported_reason(call) for name, backend in BACKENDS.items()}
    able = [name for name, unsupported_reason in refusals.items() if unsupported_reason is None]
    chosen = able[0] if check_name(wanted) == "auto" else wanted
    return [
        Candidate(name, unsupported_reason, unsupported_reason is None and name == chosen)
        for name, unsupported_reason in refusals.items()
    ]


def run(call: Call, wanted: str = "auto") -> Result:
    """Compute ``call`` on the back end ``wanted``.

    Raises:
        BackendUnavailable: The back end asked for by name cannot; it says why. There is no silent fallback.
    """
    if wanted == "auto":
        return next(b for b in BACKENDS.values() if b.unsupported_reason(call) is None).run(call)
    backend = BACKENDS[check_name(wanted)]
    unsupported_reason = backend.unsupported_reason(call)
    if unsupported_reason is not None:
        raise BackendUnavailable(f"backend {wanted!r} cannot run this: {unsupported_reason}")
    return backend.run(call)


def stepper(calls: Sequence[Call], residual: bool, wanted: str = "auto") -> Stepper | None:
    """A stepper over a stack of layers, where the back end that ``wanted`` comes to has one and can run them all."""
    for backend in BACKENDS.values() if wanted == "auto" else [BACKENDS[check_name(wanted)]]:
        if all(backend.unsupported_reason(call) is None for call in calls):
            make = getattr(backend, "Stepper", None)
            return make(calls, residual) if make else None
    return None
