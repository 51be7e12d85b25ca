"""Our Triton kernels beside cuDNN and a compiled loop, on a GPU: CUDA events, medians, sides in turns, checked first.

The floor of a case is what cannot be less: bytes at the memory's speed and products at the chip's, both measured here,
and for units over several blocks a meeting a step, measured with blocks that do nothing else. --quick has few cases;
--rehearse runs all of it on the processor in Triton's interpreter, with tiny cases, and says nothing of speed.
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

#: Our back ends for GPUs.
DESIGNS = ("triton", "cluster")
RECORD = Path(__file__).parent.parent / "results/speed/gpu_layers.json"
Work = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A layer and its batch.

    Attributes:
        kind: ``"LSTM"`` or ``"GRU"``.
        units, batch, steps: Of it; as many inputs as units.
        dtype: ``"bfloat16"`` or ``"float32"``.
        options: Of the layer; those that cuDNN lacks make a compiled loop the peer.
        ragged: Lengths from a quarter of the steps to all of them; cuDNN is given them packed.
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
        """Whether cuDNN does not have it."""
        return any(name != "bidirectional" for name, _ in self.options)


def cases(quick: bool) -> list[Case]:
    """One thing is changed at a time, what matters most first; variants with few steps: the loop is long to compile."""
    plain = Case("LSTM", 256, 16, 512, "bfloat16")
    small, large = replace(plain, units=64), Case("LSTM", 768, 16, 1024, "bfloat16")
    found = [large, plain, small, replace(small, ragged=True), replace(plain, ragged=True)]
    found += [replace(each, options=(("bidirectional", True),)) for each in (small, plain)]
    if not quick:
        found += [replace(plain, units=units) for units in (128, 512, 1024)]
        found += [replace(plain, kind="GRU", units=units) for units in (64, 256, 768)]
        found += [replace(plain, units=units, dtype="float32") for units in (64, 128, 256, 512)]
        found += [replace(plain, units=units, batch=batch) for units in (64, 512) for batch in (1, 64, 256)]
        found += [replace(plain, steps=steps) for steps in (128, 2048)]
    options: list[dict[str, Any]] = [{"peephole": True}, {"layer_norm": True}, {"zoneout": 0.1}]
    if not quick:
        options += [{"coupled": True}, {"recurrent_dropout": 0.2}]
    return found + [replace(small, steps=32, options=tuple(each.items())) for each in options]


# ---- the sides -------------------------------------------------------------------------------------------------------


class Sides:
    """Our designs and the peer, with the same weights and numbers."""

    def __init__(self, case: Case, device: torch.device) -> None:
        torch.manual_seed(0)
        dtype = getattr(torch, case.dtype)
        options = {**dict(case.options), "device": device, "dtype": dtype, "batch_first": False}
        make = functools.partial(getattr(layers, case.kind), case.units, case.units, **options)
        self.ours: dict[str, RecurrentLayer] = {name: make(backend=name) for name in DESIGNS}
        self.x = torch.randn(case.steps, case.batch, case.units, device=device, dtype=dtype)
        self.lengths = _lengths(case) if case.ragged else None
        self.case = case
        both = bool(dict(case.options).get("bidirectional"))
        if case.variant:
            self.peer: Any = make(backend="reference")
        else:
            self.peer = getattr(torch.nn, case.kind)(case.units, case.units, bidirectional=both).to(device, dtype)
        weights = self.peer.state_dict()
        for layer in self.ours.values():
            layer.load_state_dict(weights)
        self._loop = torch.compile(self.peer, dynamic=False) if case.variant and device.type == "cuda" else self.peer

    def run_ours(self, name: str, x: Tensor) -> Tensor:
        return self.ours[name](x, lengths=self.lengths)[0]

    def run_peer(self, x: Tensor) -> Tensor:
        if self.case.variant:
            return self._loop(x)[0]
        if self.lengths is None:
            return self.peer(x)[0]
        packed = pack_padded_sequence(x, self.lengths, enforce_sorted=False)
        return pad_packed_sequence(self.peer(packed)[0], total_length=len(x))[0]

    def works(self, name: str) -> dict[str, Work]:
        """Forward alone, and with all gradients, of one of ours or of the ``"peer"``."""
        layer = self.peer if name == "peer" else self.ours[name]
        run = self.run_peer if name == "peer" else functools.partial(self.run_ours, name)
        asking = self.x.detach().requires_grad_()
        given = torch.randn_like(run(self.x).detach())

        def train() -> None:
            layer.zero_grad(set_to_none=True)
            asking.grad = None
            run(asking).backward(given)

        return {"forward": torch.no_grad()(lambda: run(self.x)), "training": train}


def _lengths(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(case.steps // 4, case.steps + 1, (case.batch,), generator=generator)


def worst(case: Case, name: str, device: torch.device) -> float:
    """How far outputs and gradients are from float64 on the same numbers: the largest of ``|ours - its| / |its|``.

    Of noise, the same seed draws other numbers in another precision: such a case is checked without it.
    """
    quiet = {option: value for option, value in case.options if option not in ("zoneout", "recurrent_dropout")}
    sides = Sides(replace(case, steps=min(case.steps, 64), options=tuple(quiet.items())), device)
    make, options = getattr(layers, case.kind), {"device": device, "dtype": torch.float64, "batch_first": False}
    exact = make(case.units, case.units, backend="reference", **options, **quiet)
    exact.load_state_dict(sides.ours[name].state_dict())
    found = []
    for layer, x in ((sides.ours[name], sides.x), (exact, sides.x.double())):
        asking = x.detach().requires_grad_()
        output = layer(asking, lengths=sides.lengths)[0]
        torch.manual_seed(1)
        output.backward(torch.randn(output.shape, device=device, dtype=torch.float64).to(output.dtype))
        found.append([output.detach(), asking.grad, *(p.grad for p in layer.parameters())])
    return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(*found, strict=True))


# ---- time ------------------------------------------------------------------------------------------------------------


def median_ms(works: list[Work], device: torch.device, rounds: int) -> list[float]:
    """Milliseconds of each, in turns."""
    found: list[list[float]] = [[] for _ in works]
    for turn in range(rounds + 2):
        for work, times in zip(works, found, strict=True):
            taken = _once(work, device)
            if turn > 1:  # two to warm up
                times.append(taken)
    return [statistics.median(times) for times in found]


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
    """What a chip can do: bytes a second, products and sums a second by type, seconds of a meeting by blocks."""

    bandwidth: float
    flops: dict[str, float]
    meeting: dict[int, float]

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
        return cls(bandwidth, flops, {blocks: _meeting(blocks, device) for blocks in (8, 16, 32, 48, 64)})

    def floor_ms(self, case: Case, work: str, blocks: int) -> dict[str, float]:
        """Least milliseconds of a work, by what takes them: what is read and written once, and multiplied."""
        gates = {"LSTM": 4, "GRU": 3}[case.kind]
        size, cell = getattr(torch, case.dtype).itemsize, {"LSTM": 4, "GRU": 0}[case.kind]
        directions = 2 if dict(case.options).get("bidirectional") else 1
        numbers = case.steps * case.batch * case.units * directions
        told = numbers * size * (2 * gates + 2)  # x, the input's share to and fro, the output
        passes = 1
        if work == "training":  # gates and cell states to and fro; gradients of shares thrice, of output, x, weights
            told += numbers * (size * (2 * 4 + 4 * gates + 5) + 2 * cell)
            passes = 3
        meets = 0.0 if blocks < 2 else self.meeting.get(blocks, max(self.meeting.values(), default=0.0))
        return {
            "bytes": 1000 * told / self.bandwidth,
            "products": 1000 * passes * 2 * 2 * gates * numbers * case.units / self.flops[case.dtype],
            "meetings": 1000 * (2 if passes > 1 else 1) * case.steps * meets,  # of both directions at once
        }


def _meeting(blocks: int, device: torch.device, times: int = 2000) -> float:
    """Seconds that so many blocks take to wait for each other."""
    import triton
    import triton.language as tl

    from lstmkit.ops.triton.primitives import meet

    @triton.jit
    def meetings(counter, times, BLOCKS: tl.constexpr):
        for k in range(times):
            meet(counter, (k + 1) * BLOCKS)

    def run() -> None:
        counter = torch.zeros(1, dtype=torch.int32, device=device)
        meetings[(blocks,)](counter, times, blocks, launch_cooperative_grid=True)  # type: ignore[call-arg]

    return median_ms([run], device, 5)[0] / 1000 / times


# ---- all of it -------------------------------------------------------------------------------------------------------


def measure(case: Case, chip: Chip, device: torch.device, rounds: int) -> dict[str, Any]:
    """A row: what each design is worth beside the peer, or why nothing is said of it."""
    row: dict[str, Any] = {**asdict(case), "options": dict(case.options)}
    sides = Sides(case, device)
    row["designs"] = {name: checked(case, name, sides, device) for name in DESIGNS}
    right = [name for name, found in row["designs"].items() if "error" in found and "wrong" not in found]
    works = {name: sides.works(name) for name in (*right, "peer")}
    for work in ("forward", "training"):
        *ours, peer = median_ms([each[work] for each in works.values()], device, rounds)
        row[f"peer_{work}_ms"] = peer
        for name, ms in zip(right, ours, strict=True):
            found = row["designs"][name]
            found[work] = {"ms": ms, "ratio": peer / ms, "floor_ms": chip.floor_ms(case, work, found["blocks"])}
    return row


def checked(case: Case, name: str, sides: Sides, device: torch.device) -> dict[str, Any]:
    """How exact a design is; whoever refuses, fails or is wrong gets no speed."""
    call = sides.ours[name].call_for(sides.x, sides.lengths)
    unsupported_reason = dispatch.BACKENDS[name].unsupported_reason(call)
    if unsupported_reason is not None:
        return {"refused": unsupported_reason}
    try:
        found: dict[str, Any] = {"error": worst(case, name, device)}
    except Exception as error:  # a kernel that does not run here must not end the run of the others
        return {"failed": f"{type(error).__name__}: {error}"[:500]}
    allowed = 0.05 if case.dtype == "bfloat16" else 1e-4
    if not found["error"] < allowed:
        found["wrong"] = f"{found['error']:.2g} from float64, above {allowed:g}"
    # What a meeting of a cluster takes is not measured: its floor has none.
    return {**found, "blocks": gpu_plan.Plan.of(call.spec, (False,), sides.x.dtype).tiles if name == "triton" else 1}


def line(row: dict[str, Any]) -> str:
    about = f"{row['kind']:4} H={row['units']:<5} B={row['batch']:<4} T={row['steps']:<5} {row['dtype']:9}"
    about += (" ragged" if row["ragged"] else "") + "".join(f" {name}" for name in row["options"])
    return "\n".join([about, *(f"  {name:8} {said(found)}" for name, found in row["designs"].items())])


def said(found: dict[str, Any]) -> str:
    """Of one design."""
    if "forward" not in found:
        return next(found[why] for why in ("refused", "failed", "wrong") if why in found)
    parts = []
    for work in ("forward", "training"):
        one = found[work]
        parts.append(f"{work} {one['ms']:.3f} ms, {one['ratio']:.2f}× (floor {sum(one['floor_ms'].values()):.3f})")
    return f"{', '.join(parts)}; error {found['error']:.1e}"


def means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Geometric means of both kinds of work and the least of them, by group and of the better design."""
    groups = {
        "plain, bfloat16": lambda r: not r["options"] and not r["ragged"] and r["dtype"] == "bfloat16",
        "plain, float32": lambda r: not r["options"] and not r["ragged"] and r["dtype"] == "float32",
        "bidirectional": lambda r: "bidirectional" in r["options"],
        "ragged": lambda r: r["ragged"],
        "variants": lambda r: bool(set(r["options"]) - {"bidirectional"}),
    }
    found = {}
    for name, belongs in groups.items():
        ratios = [ratio for row in rows if belongs(row) for ratio in best(row).values()]
        if ratios:
            found[name] = {"mean": statistics.geometric_mean(ratios), "least": min(ratios)}
    return found


def best(row: dict[str, Any]) -> dict[str, float]:
    """The ratio of each work, of the better design."""
    found: dict[str, float] = {}
    for design in row["designs"].values():
        for work in ("forward", "training"):
            if work in design:
                found[work] = max(found.get(work, 0.0), design[work]["ratio"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few cases")
    parser.add_argument("--rehearse", action="store_true", help="on the processor, tiny")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=math.inf, help="no case is begun after so many")
    parser.add_argument(
        "--record", type=Path, nargs="?", const=RECORD, help="write the rows; gpu_layers.json, or there"
    )
    args = parser.parse_args()
    if args.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        sys.exit("there is no GPU: --rehearse runs this on the processor, and says nothing of speed")
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
    found = means(rows)
    if left_out:
        print(f"{left_out} cases were left out: the time was over")
    if args.rehearse:
        print("a rehearsal: nothing is said of speed")
    else:
        print(", ".join(f"{name} {group['mean']:.2f}×" for name, group in found.items()), "(theirs over ours)")
    if args.record:
        about = {**machine.describe(1, 0), "gpu": torch.cuda.get_device_name() if device.type == "cuda" else "none"}
        about |= {"cuda": torch.version.cuda, "chip": asdict(chip), "left_out": left_out, "means": found, "rows": rows}
        args.record.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
