"""Our layers beside torch.nn's, alternating in one process: medians and their ratio, after the numbers were compared.

A ratio above 1 means that ours is faster. Times are of this machine, now; only the ratios say something.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import lstmkit

#: T, B, input, hidden
SHAPES = [(100, 1, 32, 32), (100, 32, 64, 128), (100, 64, 256, 512), (1000, 16, 16, 128), (100, 256, 8, 32)]
PAIRS = {"LSTM": (lstmkit.LSTM, nn.LSTM), "GRU": (lstmkit.GRU, nn.GRU), "RNN": (lstmkit.RNN, nn.RNN)}


def training_step(layer: nn.Module, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Forward and backward, from a clean slate."""

    def step() -> torch.Tensor:
        layer.zero_grad()
        output = layer(x)[0]
        output.square().mean().backward()
        return output

    return step


def medians(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of each, taken in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, found in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            function()
            found.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="auto", help="the back end of ours")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    table = Table("layer", "T×B×I×H", "backend", "ours ms", "torch.nn ms", "ratio", title="training step, float32")
    for name, (ours_class, theirs_class) in PAIRS.items():
        for n_steps, batch, inputs, hidden in SHAPES:
            theirs = theirs_class(inputs, hidden)
            ours = ours_class(inputs, hidden, backend=args.backend)
            ours.load_state_dict(theirs.state_dict())
            x = torch.randn(n_steps, batch, inputs)
            ours_step, theirs_step = training_step(ours, x), training_step(theirs, x)
            chosen = str(lstmkit.explain_backend(ours, x).chosen)
            shape = f"{n_steps}×{batch}×{inputs}×{hidden}"
            if not torch.allclose(ours_step(), theirs_step(), atol=1e-4):
                table.add_row(name, shape, chosen, "numbers differ", "", "")
                continue
            a, b = medians(ours_step, theirs_step, args.rounds)
            table.add_row(name, shape, chosen, f"{1e3 * a:.1f}", f"{1e3 * b:.1f}", f"{b / a:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
