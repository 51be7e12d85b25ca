"""LSTM layers with weights in 8 bits: our kernels beside float32 and beside ONNX Runtime's DynamicQuantizeLSTM.

Every layer has as many inputs as units, random weights and one thread. The difference to float32 is checked first.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor

import lstmkit
import machine
from lstmkit.export.quantization import quantized
from timing import in_turns

RECORD = Path(__file__).parent.parent / "results/speed/int8_layers.json"
SIZES = (64, 128, 256, 512, 1024)
BATCHES = (1, 4, 32)
STEPS = 100
LARGEST_DIFFERENCE = 0.05  # of outputs below 1


def onnx_runtime(layer: lstmkit.LSTM, x: Tensor, int8: bool) -> Callable[[], Tensor]:
    """The layer in ONNX Runtime, with or without weights in 8 bits."""
    with tempfile.TemporaryDirectory() as folder:
        path = lstmkit.export_onnx(layer, Path(folder) / "layer.onnx")
        model = onnx.load(path)
    model = quantized(model) if int8 else model
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {"x": x.numpy()}
    return lambda: torch.from_numpy(session.run(["output"], inputs)[0])


def layer_row(units: int, batch: int, seconds: float) -> dict[str, Any]:
    """Seconds of a call and of a step in a stream, ratios of times, and the largest difference to float32."""
    layer, x = lstmkit.LSTM(units, units).eval(), torch.randn(STEPS, batch, units)
    small = lstmkit.quantize(layer)
    steps = x.unbind()

    def stream_of(one: lstmkit.LSTM) -> Callable[[], Tensor]:
        stream = one.stream()
        return lambda: [stream(step) for step in steps][-1]

    works = {
        "float32": lambda: layer(x)[0],
        "int8": lambda: small(x)[0],
        "onnx float32": onnx_runtime(layer, x, int8=False),
        "onnx int8": onnx_runtime(layer, x, int8=True),
        "stream float32": stream_of(layer),
        "stream int8": stream_of(small),
    }
    with torch.no_grad():
        expected = works["float32"]()
        differences = {name: float((works[name]() - expected).abs().max()) for name in ("int8", "onnx int8")}
        if max(differences.values()) > LARGEST_DIFFERENCE:
            raise SystemExit(f"{units} units: outputs differ by {differences}")
        times = dict(zip(works, in_turns(list(works.values()), seconds), strict=True))

    def ratio(peer: str, own: str) -> float:
        return round(times[own].ratio(times[peer])[0], 2)

    return {
        "units": units,
        "batch": batch,
        "milliseconds": {name: round(1e3 * one.median, 3) for name, one in times.items()},
        "difference": {name: round(value, 4) for name, value in differences.items()},
        "to float32": ratio("float32", "int8"),
        "to onnx float32": ratio("onnx float32", "int8"),
        "to onnx int8": ratio("onnx int8", "int8"),
        "stream to float32": ratio("stream float32", "stream int8"),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each implementation of a row")
    parser.add_argument("--record", action="store_true", help=f"write results/speed/{RECORD.name}, for docs/speed.md")
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = []
    for units in SIZES:
        for batch in BATCHES:
            rows.append(layer_row(units, batch, given.seconds))
            print(json.dumps(rows[-1]), flush=True)
    means = {
        key: round(math.exp(sum(math.log(row[key]) for row in rows) / len(rows)), 2)
        for key in rows[0]
        if key.startswith(("to ", "stream to"))
    }
    print(json.dumps(means))
    if given.record:
        about = {**machine.describe(1, 0), "vnni": bool(machine.flags() & {"avx512_vnni", "avx_vnni"}), "steps": STEPS}
        RECORD.write_text(json.dumps({**about, "rows": rows, "means": means}, indent=1) + "\n", encoding="utf-8")
