"""Modules as programs of ``torch.export``, files that end in ``.pt2``."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.errors import UserError, one_line
from lstmkit.export.recording import dynamic_dimensions, first_cause, layer_or_module, quiet, recorded
from lstmkit.export.scan import scan_pass
from lstmkit.ops import dispatch
from lstmkit.ops.call import Call, Result
from lstmkit.ops.cpu import backend as cpu
from lstmkit.training.checkpoint import write_bytes


def export_torch(
    module: nn.Module,
    path: str | Path,
    inputs: Mapping[str, Tensor] | None = None,
    *,
    dynamic: Mapping[str, Sequence[str | None]] | None = None,
    lengths: bool = False,
    state: bool = False,
    kernels: bool = False,
) -> Path:
    """Write a layer, or any module that contains layers, as a ``.pt2`` file for ``torch.export.load``.

    The file runs with torch alone: each layer is a ``scan`` over the equations of its cell. With ``kernels`` the layers
    that the CPU back end can run are its operators instead; such a file needs ``import lstmkit.layers`` first.

    Args:
        module, path, inputs, dynamic, lengths, state: As in :func:`lstmkit.export_onnx`.
        kernels: Whether to keep the operators of the CPU back end.

    Returns:
        The path.

    Raises:
        UserError: The module cannot be exported, or an argument is missing or does not fit.
        OSError: The file cannot be written.

    >>> from lstmkit import LSTM
    >>> layer = LSTM(3, 5, batch_first=True)
    >>> program = torch.export.load(export_torch(layer, "layer.pt2"))
    >>> x = torch.randn(4, 9, 3)
    >>> with torch.no_grad():
    ...     torch.allclose(program.module()(x)[0], layer(x)[0], atol=1e-6)
    True
    """
    module, inputs, dynamic, _ = layer_or_module(module, inputs, dynamic, (), lengths, state)
    write_bytes(Path(path), torch_program(module, inputs, dynamic, kernels))
    return Path(path)


def torch_program(
    module: nn.Module, inputs: Mapping[str, Tensor], dynamic: Mapping[str, Sequence[str | None]], kernels: bool
) -> bytes:
    """The bytes of a ``.pt2`` file; arguments and errors as in :func:`export_torch`."""
    named = dynamic_dimensions(inputs, dynamic)  # whose ranges torch finds itself
    dimensions = tuple(dict.fromkeys(of_input, torch.export.Dim.DYNAMIC) for of_input in named)
    recorder = _with_kernels if kernels else _with_scans
    with recorded(module), quiet("torch.export"), dispatch.recorded_by(recorder):
        # Some modules are recorded only if equal sizes are checked when the program runs, and torch 2.13 cannot load
        # some programs that check them.
        with suppress(RuntimeError, ValueError):
            return _program(module, inputs, dimensions, is_checked_later=True)
        try:
            return _program(module, inputs, dimensions, is_checked_later=False)
        except (RuntimeError, ValueError) as err:
            name = type(getattr(module, "exported", module)).__name__
            raise UserError(f"{name} cannot be exported: {one_line(first_cause(err))}") from err


def _program(
    module: nn.Module, inputs: Mapping[str, Tensor], dimensions: tuple[dict[int, Any], ...], is_checked_later: bool
) -> bytes:
    """A program that torch can load again. Raises RuntimeError or ValueError."""
    program = torch.export.export(
        module,
        tuple(inputs.values()),
        dynamic_shapes=(dimensions,),
        prefer_deferred_runtime_asserts_over_guards=is_checked_later,
    )
    content = io.BytesIO()
    torch.export.save(program, content)
    torch.export.load(io.BytesIO(content.getvalue()))
    return content.getvalue()


def _with_scans(call: Call) -> Result:
    return Result.of([scan_pass(call, p) for p in call.passes])


def _with_kernels(call: Call) -> Result:
    if cpu.unsupported_reason(call):
        return _with_scans(call)
    # AOTInductor (torch 2.13) gives the operator None in the place of an empty list, so the initial states are tensors.
    return cpu.run(call._replace(passes=tuple(p._replace(state=call.state_of(p)) for p in call.passes)))
