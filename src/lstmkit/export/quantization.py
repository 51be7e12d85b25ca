"""Weights of an ONNX model in 8 bits, by ONNX Runtime's own tool."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from lstmkit.export.recording import quiet
from lstmkit.libraries import imports_of

_OPERATORS = ("LSTM", "MatMul", "Gather")  # of large weights; others would only lose digits


def quantized(model: Any) -> Any:
    """A model with weights in 8 bits, one scale per channel; activations are quantized while it runs.

    ``LSTM`` becomes ``DynamicQuantizeLSTM``, an operator of ONNX Runtime that other runtimes may lack. ``MatMul``
    becomes ``MatMulInteger``, and embeddings are kept in 8 bits. The weights of ``GRU``, ``RNN`` and of the bodies of
    ``Scan`` stay in float32: ONNX Runtime has no 8-bit operator for them.

    Args:
        model: An ``onnx.ModelProto``; it loses its inferred shapes.
    """
    with imports_of("export", "quantization"):
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    model.graph.ClearField("value_info")  # shapes of weights that the tool transposes, as it makes MatMul of Gemm
    # The tool advises on the root logger to prepare the model.
    with tempfile.TemporaryDirectory() as folder, quiet(""):
        path = Path(folder) / "quantized.onnx"
        quantize_dynamic(
            model, path, op_types_to_quantize=list(_OPERATORS), per_channel=True, weight_type=QuantType.QInt8
        )
        return onnx.load(path)
