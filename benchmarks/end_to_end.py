"""Shared code of the end-to-end benchmarks: a training step, a row of results, and the loop over the cases."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import machine
from lstmkit.training.optimization import TrainSettings
from timing import Times

RECORDS = Path(__file__).parent.parent / "results/speed"
TARGET = 1.3
AUDIO = "seconds of audio"  #: A unit; seconds of audio per second are the inverse of the real-time factor.

AS_TRAINED = TrainSettings(
    epochs=1, lr=1e-4, weight_decay=1e-2, warmup=0, lr_schedule="none", max_grad_norm=0.5, ema_decay=0,
    patience=0, precision="float32",
    seed=0, device=torch.device("cpu"),
)  # fmt: skip


def stepper(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A function that does one training step."""

    def step() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        return value.detach()

    return step


def row(case: Any, work: str, count: float, times: list[Times], unit: str = "") -> dict[str, Any]:
    """Results of one case at one kind of work.

    Args:
        case: The case.
        work: Kind of work.
        count: Units processed per call.
        times: Of lstmkit and of the peer.
        unit: Unit of this row, if it is not that of the benchmark.
    """
    lstmkit, peer = times
    ratio, low, high = lstmkit.ratio(peer)
    return {
        **asdict(case),
        "work": work,
        **({"unit": unit} if unit else {}),
        "tokens_s": count / lstmkit.median,
        "torch_tokens_s": count / peer.median,
        "ratio": ratio,
        "low": low,
        "high": high,
    }


def main(
    doc: str | None,
    cases: Sequence[Any],
    measure: Callable[[Any, float], list[dict[str, Any]]],
    record: str,
    unit: str,
    threads: Sequence[int] = (),
) -> None:
    """Measure every case.

    Args:
        doc: Docstring of the script.
        cases: Dataclasses with a ``name``.
        measure: Takes a case and the seconds per model, returns rows of :func:`row`.
        record: Name of the file in ``results/speed``.
        unit: Unit of rows that have none of their own.
        threads: Numbers of threads to measure with; default: torch's.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--threads", type=int, nargs="+", default=threads or [torch.get_num_threads()], help="numbers of threads"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="time per model of a case")
    parser.add_argument("--record", action="store_true", help=f"write results/speed/{record}.json")
    args = parser.parse_args()
    rows = []
    for count in args.threads:
        torch.set_num_threads(count)
        for case in cases:
            print(f"{case.name}, {count} threads", file=sys.stderr, flush=True)
            measured = [{**result, "threads": count} for result in measure(case, args.seconds)]
            print("\n".join(_line(result, unit) for result in measured), flush=True)
            rows += measured
    means = {
        work: _mean([r["ratio"] for r in rows if r["work"] == work]) for work in dict.fromkeys(r["work"] for r in rows)
    }
    print(", ".join(f"{work} {mean:.2f}" for work, mean in means.items()), f"(geometric means; target {TARGET})")
    if args.record:
        about = {**machine.describe(max(args.threads), 0), "target": TARGET, "unit": unit}
        text = json.dumps({**about, "means": means, "rows": rows}, indent=1)
        (RECORDS / f"{record}.json").write_text(text + "\n", encoding="utf-8")


def _line(r: dict[str, Any], unit: str) -> str:
    unit = r.get("unit", unit)
    factor = f", real-time factor {1 / r['tokens_s']:.4f}" if unit == AUDIO else ""
    return (
        f"{r['name']:36} {r['threads']} threads {r['work']:15} {r['tokens_s']:9,.1f} {unit}/s, torch.nn "
        f"{r['torch_tokens_s']:9,.1f}: {r['ratio']:.2f} ({r['low']:.2f} to {r['high']:.2f}){factor}"
    )


def _mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))
