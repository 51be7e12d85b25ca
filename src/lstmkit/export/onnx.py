"""Modules as ONNX files. The recurrent layers in them become operators of ONNX, see :mod:`.onnx_layers`.

torch records the module (``torch.export``), its ONNX exporter translates everything but the recurrent layers, and ONNX
IR folds what does not depend on the input, such as the order of the gates in the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.errors import UserError, one_line
from lstmkit.export.recording import dynamic_dimensions, first_cause, layer_or_module, quiet, recorded
from lstmkit.libraries import imports_of
from lstmkit.ops import dispatch
from lstmkit.training.checkpoint import write_bytes
from lstmkit.version import __version__

OPSETS = (17, 18, 19, 20, 21, 22, 23)  #: Versions of ONNX's operators that can be written.
DEFAULT_OPSET = 18

_ALL_SIZES = 2**62  # of constants that are folded, in values


def export_onnx(
    module: nn.Module,
    path: str | Path,
    inputs: Mapping[str, Tensor] | None = None,
    *,
    dynamic: Mapping[str, Sequence[str | None]] | None = None,
    outputs: Sequence[str] = (),
    lengths: bool = False,
    state: bool = False,
    opset: int = DEFAULT_OPSET,
) -> Path:
    """Write a layer, or any module that contains layers, as an ONNX file without custom operators.

    A plain LSTM, GRU or RNN, with peepholes and coupled gates too, becomes the operator of that name. Projection, layer
    normalization and zoneout (by its mean, as in evaluation mode) become a ``Scan`` over the equations of the cell.

    A layer alone has the input ``x`` as its ``forward`` takes it, with batch and time of any size; ``lengths (B,)``,
    int64, if requested; and the initial states ``h_0 (L·D, B, P)`` and ``c_0 (L·D, B, H)`` if requested, else zeros.
    Its outputs are ``output``, ``h_n`` and ``c_n``.

    Args:
        module: A layer of lstmkit, or a module whose ``forward`` takes and returns tensors. It is exported in
            evaluation mode, and left in the mode it is in.
        path: The file to write.
        inputs: Example inputs by the names of ``forward``'s arguments, in order. Not for a layer alone.
        dynamic: Names of the dimensions of any size, by input: ``{"x": ("batch", "time", None)}``. Equal names are
            equal sizes. All other sizes are those of the example inputs. Not for a layer alone.
        outputs: Names of the outputs, if they are to have other names than the exporter gives. Not for a layer alone.
        lengths: Whether a layer alone takes lengths.
        state: Whether a layer alone takes its initial state.
        opset: Version of ONNX's operators, in :data:`OPSETS`.

    Returns:
        The path.

    Raises:
        UserError: The module cannot be exported, or an argument is missing or does not fit.
        MissingLibraryError: The extra ``export`` is not installed.
        OSError: The file cannot be written.

    >>> from lstmkit import LSTM
    >>> export_onnx(LSTM(3, 5, batch_first=True), "layer.onnx", lengths=True).name
    'layer.onnx'
    """
    if opset not in OPSETS:
        raise UserError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    module, inputs, dynamic, outputs = layer_or_module(module, inputs, dynamic, outputs, lengths, state)
    write_bytes(Path(path), onnx_model(module, inputs, dynamic, outputs, opset).SerializeToString())
    return Path(path)


def onnx_model(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    dynamic: Mapping[str, Sequence[str | None]],
    outputs: Sequence[str] = (),
    opset: int = DEFAULT_OPSET,
) -> Any:
    """The ``onnx.ModelProto`` of a module that takes ``inputs`` by position.

    Other arguments and errors as in :func:`export_onnx`.
    """
    with imports_of("export", "ONNX export"):
        import onnx
        from onnx_ir.passes.common import InlinePass, RemoveUnusedFunctionsPass, RemoveUnusedNodesPass
        from onnxscript.optimizer import fold_constants

        from lstmkit.export import onnx_layers
    name = type(getattr(module, "exported", module)).__name__
    dimensions = dynamic_dimensions(inputs, dynamic)
    with recorded(module), quiet("torch.onnx", "onnxscript", "onnx_ir"), dispatch.recorded_by(onnx_layers.run):
        try:
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                dynamic_shapes=(dimensions,),  # of one argument, *inputs
                input_names=list(inputs),
                output_names=list(outputs) or None,
                opset_version=opset,
                verbose=False,
            )
        except RuntimeError as err:  # the exporter's errors are such
            raise UserError(f"{name} cannot be exported: {one_line(first_cause(err))}") from err
        assert program is not None  # with dynamo=True
        model = program.model
        InlinePass()(model)  # the body of a Scan is a function of the model
        fold_constants(model, input_size_limit=_ALL_SIZES, output_size_limit=_ALL_SIZES)
        RemoveUnusedNodesPass()(model)
        RemoveUnusedFunctionsPass()(model)
    model.producer_name, model.producer_version = "lstmkit", __version__
    proto = program.model_proto
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as err:  # torch does not convert the body of a Scan to old versions
        raise UserError(f"{name} needs operators that version {opset} lacks: set opset to 18 or more") from err
    if fixed := _fixed_dimensions(proto, dynamic):  # torch's exporter gives way without a word
        raise UserError(
            f"{name} cannot be exported: it fixes the size of {', '.join(fixed)}: read sizes from x.shape, not len(x), "
            "and let no condition depend on them"
        )
    return proto


def _fixed_dimensions(proto: Any, dynamic: Mapping[str, Sequence[str | None]]) -> list[str]:
    """Dimensions of any size that have one size in the graph."""
    return [
        f"{symbol!r} of {node.name}"
        for node in proto.graph.input
        for symbol, dimension in zip(dynamic.get(node.name, ()), node.type.tensor_type.shape.dim, strict=False)
        if symbol and not dimension.dim_param
    ]
