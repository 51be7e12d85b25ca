"""Selection of the back end that runs a call; no other module selects one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lstmkit.ops import reference, torch_backend
from lstmkit.ops.call import Backend, Call, Result, Stepper
from lstmkit.ops.cpu import backend as cpu_backend
from lstmkit.ops.hopper import backend as hopper_backend
from lstmkit.ops.triton import backend as triton_backend

#: Every back end, the fastest first: ``"auto"`` takes the first that can run.
_FASTEST_FIRST: tuple[Backend, ...] = (cpu_backend, torch_backend, triton_backend, hopper_backend, reference)
BACKENDS = {backend.NAME: backend for backend in _FASTEST_FIRST}

_recorder: tuple[int, Callable[[Call], Result]] | None = None  # and the thread whose calls it takes
_recording = threading.Lock()


@dataclass(frozen=True)
class Candidate:
    """The answer of a back end about one call.

    Attributes:
        backend: Its name.
        unsupported_reason: Why it cannot run the call, or ``None`` if it can.
        chosen: Whether it would run the call.
    """

    backend: str
    unsupported_reason: str | None
    chosen: bool


class BackendUnavailable(ValueError):
    """The back end requested by name cannot run the call."""


def check_name(name: str) -> str:
    """Return ``name``.

    Raises:
        ValueError: It is neither ``"auto"`` nor the name of a back end.
    """
    if name != "auto" and name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known: auto, {', '.join(BACKENDS)}")
    return name


def candidates(call: Call, wanted: str = "auto") -> list[Candidate]:
    """The answers of all back ends about ``call``, if ``wanted`` (``"auto"`` or a name) is requested."""
    reasons = {name: backend.unsupported_reason(call) for name, backend in BACKENDS.items()}
    able = [name for name, reason in reasons.items() if reason is None]
    chosen = able[0] if check_name(wanted) == "auto" else wanted
    return [Candidate(name, reason, reason is None and name == chosen) for name, reason in reasons.items()]


def run(call: Call, wanted: str = "auto") -> Result:
    """Run ``call`` on the back end ``wanted`` (``"auto"`` or a name).

    Raises:
        BackendUnavailable: The back end requested by name cannot run it, with the reason. There is no silent fallback.
    """
    if _recorder is not None and _recorder[0] == threading.get_ident():
        return _recorder[1](call)
    if wanted == "auto":
        return next(b for b in BACKENDS.values() if b.unsupported_reason(call) is None).run(call)
    backend = BACKENDS[check_name(wanted)]
    reason = backend.unsupported_reason(call)
    if reason is not None:
        raise BackendUnavailable(f"backend {wanted!r} cannot run this: {reason}")
    return backend.run(call)


@contextmanager
def recorded_by(recorder: Callable[[Call], Result]) -> Iterator[None]:
    """Within the block, ``recorder`` takes the calls of this thread in place of any back end.

    For exporters: they run a module once and put a call into another language. One thread can record at a time.
    """
    global _recorder
    with _recording:
        _recorder = threading.get_ident(), recorder  # no ContextVar: torch.compile cannot read one
        try:
            yield
        finally:
            _recorder = None


def stepper(calls: Sequence[Call], residual: bool, wanted: str = "auto") -> Stepper | None:
    """A stepper over a stack of layers on the back end ``wanted``; ``None`` if that back end has no stepper.

    Args:
        calls: One step of each layer, the bottom layer first.
        residual: Every layer after the first adds its input to its output.
        wanted: ``"auto"`` for the first back end that can run all calls, or a name.
    """
    for backend in BACKENDS.values() if wanted == "auto" else [BACKENDS[check_name(wanted)]]:
        if all(backend.unsupported_reason(call) is None for call in calls):
            make = getattr(backend, "Stepper", None)
            return make(calls, residual) if make else None
    return None
