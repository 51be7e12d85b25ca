"""Streams of many steps: the outputs of a batch, in memory that does not grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from processes import resident_mb

import lstmkit
from lstmkit.progress import Progress

COUNT = 10_000_000
CHUNK = 10_000  # steps that are compared with one call of the layer
FEATURES, HIDDEN = 8, 32
LAYERS = {"LSTM": lstmkit.LSTM, "GRU": lstmkit.GRU, "RNN": lstmkit.RNN}


def measure(count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """``count`` steps of each layer, with the state carried from chunk to chunk in both."""
    return {"layers": {name: _measure_layer(name, count, progress) for name in LAYERS}}


@torch.no_grad()
def _measure_layer(name: str, count: int, progress: Progress) -> dict[str, Any]:
    torch.manual_seed(0)
    layer = LAYERS[name](FEATURES, HIDDEN, num_layers=2, batch_first=True).eval()
    stream, state = layer.stream(), None
    streamed, resident, difference = torch.empty(CHUNK, HIDDEN), [], 0.0
    chunks = max(2, count // CHUNK)
    with progress.task(f"streaming through {name}", chunks) as task:
        for chunk in range(chunks):
            x = torch.randn(1, CHUNK, FEATURES)
            expected, state = layer(x, state)
            for step, out in zip(x[0].split(1), streamed.split(1), strict=True):
                stream(step, out=out)
            difference = max(difference, float((streamed - expected[0]).abs().max()))
            resident.append(resident_mb())
            task.update(chunk + 1)
    warm = resident[len(resident) // 10 :]
    return {
        "steps": chunks * CHUNK,
        "max_difference": difference,
        "mb_first": warm[0],
        "mb_last": warm[-1],
        "mb_max": max(warm),
    }
