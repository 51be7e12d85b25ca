"""Speed of the layers on a GPU, compared with cuDNN and a compiled loop: alternating runs after a numerical check.

Times are medians of CUDA events. The floor is a lower bound on the time: bytes at the memory bandwidth, and matrix
products at the peak rate of the chip, both measured here. If the units are spread over several blocks, one
synchronization per step is added, measured with blocks that do nothing else. --quick runs few cases. --rehearse runs
tiny cases on the CPU in the interpreter of Triton, without a measurement of speed.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import machine
from lstmkit.layers import rnn as layers
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.ops import dispatch
from lstmkit.ops.triton import launch as gpu_plan

#: Back ends of lstmkit for GPUs.
DESIGNS = ("triton", "cluster")
RECORD = Path(__file__).parent.parent / "results/speed/gpu_layers.json"
Work = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A layer and its batch.

    Attributes:
        kind: ``"LSTM"`` or ``"GRU"``.
        units, batch, steps: Sizes; there are as many inputs as units.
        dtype: ``"bfloat16"`` or ``"float32"``.
        options: Options of the layer. If cuDNN lacks one, the peer is a compiled loop.
        ragged: Lengths from a quarter of the steps to all of them; packed for cuDNN.
    """

    kind: str
    units: int
    batch: int
    steps: int
    dtype: str
    options: tuple[tuple[str, Any], ...] = ()
    ragged: bool = False

    @property
    def variant(self) -> bool:
        """Whether cuDNN lacks this layer."""
        return any(name != "bidirectional" for name, _ in self.options)


def cases(quick: bool) -> list[Case]:
    """One property changes at a time, the most important first; variants have few steps, since compilation is slow."""
    plain = Case("LSTM", 256, 16, 512, "bfloat16")
    small, large = replace(plain, units=64), Case("LSTM", 768, 16, 1024, "bfloat16")
    selected = [large, plain, small, replace(small, ragged=True), replace(plain, ragged=True)]
    selected += [replace(each, options=(("bidirectional", True),)) for each in (small, plain)]
    if not quick:
        selected += [replace(plain, units=units) for units in (128, 512, 1024)]
        selected += [replace(plain, kind="GRU", units=units) for units in (64, 256, 768)]
        selected += [replace(plain, units=units, dtype="float32") for units in (64, 128, 256, 512)]
        selected += [replace(plain, units=units, batch=batch) for units in (64, 512) for batch in (1, 64, 256)]
        selected += [replace(plain, steps=steps) for steps in (128, 2048)]
    options: list[dict[str, Any]] = [{"peephole": True}, {"layer_norm": True}, {"zoneout": 0.1}]
    if not quick:
        options += [{"coupled": True}, {"recurrent_dropout": 0.2}]
    return selected + [replace(small, steps=32, options=tuple(each.items())) for each in options]


# ---- implementations -------------------------------------------------------------------------------------------------


class Implementations:
    """The back ends of lstmkit and the peer, with the same weights and inputs."""

    def __init__(self, case: Case, device: torch.device) -> None:
        torch.manual_seed(0)
        dtype = getattr(torch, case.dtype)
        options = {**dict(case.options), "device": device, "dtype": dtype, "batch_first": False}
        make = functools.partial(getattr(layers, case.kind), case.units, case.units, **options)
        self.lstmkit: dict[str, RecurrentLayer] = {name: make(backend=name) for name in DESIGNS}
        self.x = torch.randn(case.steps, case.batch, case.units, device=device, dtype=dtype)
        self.lengths = _lengths(case) if case.ragged else None
        self.case = case
        both = bool(dict(case.options).get("bidirectional"))
        if case.variant:
            self.peer: Any = make(backend="reference")
        else:
            self.peer = getattr(torch.nn, case.kind)(case.units, case.units, bidirectional=both).to(device, dtype)
        weights = self.peer.state_dict()
        for layer in self.lstmkit.values():
            layer.load_state_dict(weights)
        self._loop = torch.compile(self.peer, dynamic=False) if case.variant and device.type == "cuda" else self.peer

    def run_lstmkit(self, name: str, x: Tensor) -> Tensor:
        return self.lstmkit[name](x, lengths=self.lengths)[0]

    def run_peer(self, x: Tensor) -> Tensor:
        if self.case.variant:
            return self._loop(x)[0]
        if self.lengths is None:
            return self.peer(x)[0]
        packed = pack_padded_sequence(x, self.lengths, enforce_sorted=False)
        return pad_packed_sequence(self.peer(packed)[0], total_length=len(x))[0]

    def works(self, name: str) -> dict[str, Work]:
        """Forward pass, and training step with all gradients, of a back end or of the ``"peer"``."""
        layer = self.peer if name == "peer" else self.lstmkit[name]
        run = self.run_peer if name == "peer" else functools.partial(self.run_lstmkit, name)
        x = self.x.detach().requires_grad_()
        output_gradient = torch.randn_like(run(self.x).detach())

        def train() -> None:
            layer.zero_grad(set_to_none=True)
            x.grad = None
            run(x).backward(output_gradient)

        return {"forward": torch.no_grad()(lambda: run(self.x)), "training": train}


def _lengths(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(case.steps // 4, case.steps + 1, (case.batch,), generator=generator)


def worst(case: Case, name: str, device: torch.device) -> float:
    """The largest relative error of outputs and gradients against float64, ``|a - b| / |b|``.

    Zoneout and recurrent dropout are left out, because the same seed gives other masks in another precision.
    """
    deterministic = {option: value for option, value in case.options if option not in ("zoneout", "recurrent_dropout")}
    implementations = Implementations(
        replace(case, steps=min(case.steps, 64), options=tuple(deterministic.items())), device
    )
    make, options = getattr(layers, case.kind), {"device": device, "dtype": torch.float64, "batch_first": False}
    exact = make(case.units, case.units, backend="reference", **options, **deterministic)
    exact.load_state_dict(implementations.lstmkit[name].state_dict())
    results = []
    for layer, x in ((implementations.lstmkit[name], implementations.x), (exact, implementations.x.double())):
        leaf = x.detach().requires_grad_()
        output = layer(leaf, lengths=implementations.lengths)[0]
        torch.manual_seed(1)
        output.backward(torch.randn(output.shape, device=device, dtype=torch.float64).to(output.dtype))
        results.append([output.detach(), leaf.grad, *(p.grad for p in layer.parameters())])
    return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(*results, strict=True))


# ---- time ------------------------------------------------------------------------------------------------------------


def median_ms(works: list[Work], device: torch.device, rounds: int) -> list[float]:
    """Median milliseconds of each function, measured in turns."""
    milliseconds: list[list[float]] = [[] for _ in works]
    for turn in range(rounds + 2):
        for work, times in zip(works, milliseconds, strict=True):
            elapsed = _once(work, device)
            if turn > 1:  # two rounds of warm-up
                times.append(elapsed)
    return [statistics.median(times) for times in milliseconds]


def _once(work: Work, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - start)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


@dataclass(frozen=True)
class Chip:
    """Limits of a chip: bytes per second, operations per second by dtype, seconds of a synchronization by blocks."""

    bandwidth: float
    flops: dict[str, float]
    synchronization: dict[int, float]

    @classmethod
    def measured(cls, device: torch.device) -> Chip:
        if device.type != "cuda":
            return cls(math.inf, {"bfloat16": math.inf, "float32": math.inf}, {})
        big = torch.empty(2**28, device=device)
        copied = torch.empty_like(big)
        bandwidth = 2 * big.nbytes / (median_ms([lambda: copied.copy_(big)], device, 10)[0] / 1000)
        flops = {}
        for name in ("bfloat16", "float32"):
            a = torch.randn(4096, 4096, device=device, dtype=getattr(torch, name))
            ms = median_ms([lambda a=a: a @ a], device, 10)[0]
            flops[name] = 2 * 4096**3 / (ms / 1000)
        return cls(
            bandwidth, flops, {blocks: _synchronization_seconds(blocks, device) for blocks in (8, 16, 32, 48, 64)}
        )

    def floor_ms(self, case: Case, work: str, blocks: int) -> dict[str, float]:
        """Lower bound in milliseconds: memory traffic, matrix products, and synchronization of blocks."""
        gates = {"LSTM": 4, "GRU": 3}[case.kind]
        size, cell = getattr(torch, case.dtype).itemsize, {"LSTM": 4, "GRU": 0}[case.kind]
        directions = 2 if dict(case.options).get("bidirectional") else 1
        numbers = case.steps * case.batch * case.units * directions
        traffic = numbers * size * (2 * gates + 2)  # x, the input projection written and read, the output
        passes = 1
        if work == "training":  # gates and cell states written and read; gradients of projections, output, x, weights
            traffic += numbers * (size * (2 * 4 + 4 * gates + 5) + 2 * cell)
            passes = 3
        synchronization = (
            0.0 if blocks < 2 else self.synchronization.get(blocks, max(self.synchronization.values(), default=0.0))
        )
        return {
            "bytes": 1000 * traffic / self.bandwidth,
            "products": 1000 * passes * 2 * 2 * gates * numbers * case.units / self.flops[case.dtype],
            "synchronization": 1000
            * (2 if passes > 1 else 1)
            * case.steps
            * synchronization,  # both directions at once
        }


def _synchronization_seconds(blocks: int, device: torch.device, times: int = 2000) -> float:
    """Seconds of one synchronization of this many blocks."""
    import triton
    import triton.language as tl

    from lstmkit.ops.triton.primitives import meet

    @triton.jit
    def synchronize(counter, times, BLOCKS: tl.constexpr):
        for k in range(times):
            meet(counter, (k + 1) * BLOCKS)

    def run() -> None:
        counter = torch.zeros(1, dtype=torch.int32, device=device)
        synchronize[(blocks,)](counter, times, blocks, launch_cooperative_grid=True)  # type: ignore[call-arg]

    return median_ms([run], device, 5)[0] / 1000 / times


# ---- the benchmark ---------------------------------------------------------------------------------------------------


def measure(case: Case, chip: Chip, device: torch.device, rounds: int) -> dict[str, Any]:
    """One row: the times of each back end and of the peer, or why a back end was not timed."""
    row: dict[str, Any] = {**asdict(case), "options": dict(case.options)}
    implementations = Implementations(case, device)
    row["designs"] = {name: checked(case, name, implementations, device) for name in DESIGNS}
    passed = [name for name, result in row["designs"].items() if "error" in result and "wrong" not in result]
    works = {name: implementations.works(name) for name in (*passed, "peer")}
    for work in ("forward", "training"):
        *times, peer = median_ms([each[work] for each in works.values()], device, rounds)
        row[f"peer_{work}_ms"] = peer
        for name, ms in zip(passed, times, strict=True):
            result = row["designs"][name]
            result[work] = {"ms": ms, "ratio": peer / ms, "floor_ms": chip.floor_ms(case, work, result["blocks"])}
    return row


def checked(case: Case, name: str, implementations: Implementations, device: torch.device) -> dict[str, Any]:
    """The error of a back end. One that is unsupported, fails or exceeds the tolerance is not timed."""
    call = implementations.lstmkit[name].call_for(implementations.x, implementations.lengths)
    unsupported_reason = dispatch.BACKENDS[name].unsupported_reason(call)
    if unsupported_reason is not None:
        return {"refused": unsupported_reason}
    try:
        result: dict[str, Any] = {"error": worst(case, name, device)}
    except Exception as error:  # one failing kernel must not stop the benchmark
        return {"failed": f"{type(error).__name__}: {error}"[:500]}
    tolerance = 0.05 if case.dtype == "bfloat16" else 1e-4
    if not result["error"] < tolerance:
        result["wrong"] = f"error {result['error']:.2g} against float64, tolerance {tolerance:g}"
    # Synchronization of a cluster is not measured, so its floor does not include it.
    return {
        **result,
        "blocks": gpu_plan.Plan.of(call.spec, (False,), implementations.x.dtype).tiles if name == "triton" else 1,
    }


def line(row: dict[str, Any]) -> str:
    about = f"{row['kind']:4} H={row['units']:<5} B={row['batch']:<4} T={row['steps']:<5} {row['dtype']:9}"
    about += (" ragged" if row["ragged"] else "") + "".join(f" {name}" for name in row["options"])
    return "\n".join([about, *(f"  {name:8} {summary(result)}" for name, result in row["designs"].items())])


def summary(result: dict[str, Any]) -> str:
    """The results of one back end."""
    if "forward" not in result:
        return next(result[why] for why in ("refused", "failed", "wrong") if why in result)
    parts = []
    for work in ("forward", "training"):
        times = result[work]
        floor = sum(times["floor_ms"].values())
        parts.append(f"{work} {times['ms']:.3f} ms, {times['ratio']:.2f}× (floor {floor:.3f})")
    return f"{', '.join(parts)}; error {result['error']:.1e}"


def means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Geometric mean and minimum over both kinds of work by group, for the faster back end."""
    groups = {
        "plain, bfloat16": lambda r: not r["options"] and not r["ragged"] and r["dtype"] == "bfloat16",
        "plain, float32": lambda r: not r["options"] and not r["ragged"] and r["dtype"] == "float32",
        "bidirectional": lambda r: "bidirectional" in r["options"],
        "ragged": lambda r: r["ragged"],
        "variants": lambda r: bool(set(r["options"]) - {"bidirectional"}),
    }
    means_by_group = {}
    for name, belongs in groups.items():
        ratios = [ratio for row in rows if belongs(row) for ratio in best(row).values()]
        if ratios:
            means_by_group[name] = {"mean": statistics.geometric_mean(ratios), "least": min(ratios)}
    return means_by_group


def best(row: dict[str, Any]) -> dict[str, float]:
    """The ratio of the faster back end, by kind of work."""
    ratios: dict[str, float] = {}
    for design in row["designs"].values():
        for work in ("forward", "training"):
            if work in design:
                ratios[work] = max(ratios.get(work, 0.0), design[work]["ratio"])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few cases")
    parser.add_argument("--rehearse", action="store_true", help="tiny cases on the CPU")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no case after this many minutes")
    parser.add_argument(
        "--record", type=Path, nargs="?", const=RECORD, help="write the rows; gpu_layers.json, or there"
    )
    args = parser.parse_args()
    if args.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        sys.exit("no GPU: --rehearse runs tiny cases on the CPU, without a measurement of speed")
    device, start = torch.device("cpu" if args.rehearse else "cuda"), time.monotonic()
    chip = Chip.measured(device)
    rows, left_out = [], 0
    for case in cases(args.quick):
        if time.monotonic() - start > 60 * args.minutes:
            left_out += 1
            continue
        small = replace(case, units=min(case.units, 20), batch=min(case.batch, 2), steps=4)
        row = measure(small if args.rehearse else case, chip, device, 1 if args.rehearse else args.rounds)
        print(line(row), flush=True)
        rows.append(row)
    means_by_group = means(rows)
    if left_out:
        print(f"{left_out} cases were left out: time limit reached")
    if args.rehearse:
        print("rehearsal: the times say nothing about speed")
    else:
        print(
            ", ".join(f"{name} {group['mean']:.2f}×" for name, group in means_by_group.items()),
            "(time of the peer / time of lstmkit)",
        )
    if args.record:
        about = {**machine.describe(1, 0), "gpu": torch.cuda.get_device_name() if device.type == "cuda" else "none"}
        about |= {
            "cuda": torch.version.cuda,
            "chip": asdict(chip),
            "left_out": left_out,
            "means": means_by_group,
            "rows": rows,
        }
        args.record.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
