"""Our Triton kernels beside cuDNN and a compiled loop, on a GPU: CUDA events, medians, sides in turns, checked first.

The floor of a case is what cannot be less: bytes at the memory's speed and products at the chip's, both measured here,
and for units over several blocks a meeting a step, measured with blocks that do nothing else. --quick has few cases;
--rehearse runs all of it on the processor in Triton's interpreter, with tiny cases, and says nothing of speed.
"""

from __future__ import annotations

import argparse
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
from lstmkit import layers
from lstmkit.ops import dispatch
from lstmkit.recurrent import RecurrentLayer

RECORD = Path(__file__).parent.parent / "results/speed/gpu.json"
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
    """One thing is changed at a time; variants with few steps, for the loop takes long to compile."""
    plain = Case("LSTM", 256, 16, 512, "bfloat16")
    found = [plain, Case("LSTM", 768, 16, 1024, "bfloat16"), Case("LSTM", 64, 16, 512, "bfloat16")]
    if not quick:
        found += [replace(plain, units=units) for units in (128, 512, 1024)]
        found += [replace(plain, units=units, batch=batch) for units in (64, 512) for batch in (1, 64, 256)]
        found += [replace(plain, steps=steps) for steps in (128, 2048)]
        found += [replace(plain, units=units, dtype="float32") for units in (64, 128, 256)]
        found += [replace(plain, kind="GRU", units=units) for units in (64, 256, 768)]
    found.append(replace(plain, units=64, ragged=True))
    found += [replace(plain, ragged=True), replace(plain, options=(("bidirectional", True),))]
    one = replace(plain, units=64, steps=128)
    options: list[dict[str, Any]] = [{"peephole": True}, {"layer_norm": True}, {"zoneout": 0.1}]
    if not quick:
        options += [{"coupled": True}, {"recurrent_dropout": 0.2}]
    return found + [replace(one, options=tuple(each.items())) for each in options]


# ---- the sides -------------------------------------------------------------------------------------------------------


class Sides:
    """Ours and the peer, with the same weights and numbers."""

    def __init__(self, case: Case, device: torch.device) -> None:
        torch.manual_seed(0)
        dtype = getattr(torch, case.dtype)
        make = getattr(layers, case.kind)
        options = {**dict(case.options), "device": device, "dtype": dtype, "batch_first": False}
        self.ours: RecurrentLayer = make(case.units, case.units, backend="triton", **options)
        self.x = torch.randn(case.steps, case.batch, case.units, device=device, dtype=dtype)
        self.lengths = _lengths(case) if case.ragged else None
        self.case = case
        if case.variant:
            self.peer: Any = make(case.units, case.units, backend="reference", **options)
        else:
            both = bool(dict(case.options).get("bidirectional"))
            self.peer = getattr(torch.nn, case.kind)(case.units, case.units, bidirectional=both).to(device, dtype)
        self.peer.load_state_dict(self.ours.state_dict())
        self._loop = torch.compile(self.peer, dynamic=False) if case.variant and device.type == "cuda" else self.peer

    def run_ours(self, x: Tensor) -> Tensor:
        return self.ours(x, lengths=self.lengths)[0]

    def run_peer(self, x: Tensor) -> Tensor:
        if self.case.variant:
            return self._loop(x)[0]
        if self.lengths is None:
            return self.peer(x)[0]
        packed = pack_padded_sequence(x, self.lengths, enforce_sorted=False)
        return pad_packed_sequence(self.peer(packed)[0], total_length=len(x))[0]

    def works(self, run: Callable[[Tensor], Tensor], layer: torch.nn.Module) -> tuple[Work, Work]:
        """Forward alone, and with all gradients."""
        asking = self.x.detach().requires_grad_()
        given = torch.randn_like(run(self.x).detach())

        def train() -> None:
            layer.zero_grad(set_to_none=True)
            asking.grad = None
            run(asking).backward(given)

        return torch.no_grad()(lambda: run(self.x)), train


def _lengths(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(case.steps // 4, case.steps + 1, (case.batch,), generator=generator)


def worst(case: Case, device: torch.device) -> float:
    """How far outputs and gradients are from float64 on the same numbers: the largest of ``|ours - its| / |its|``.

    Of noise, the same seed draws other numbers in another precision: such a case is checked without it.
    """
    quiet = tuple((name, value) for name, value in case.options if name not in ("zoneout", "recurrent_dropout"))
    sides = Sides(replace(case, steps=min(case.steps, 64), options=quiet), device)
    exact = getattr(layers, case.kind)(
        case.units,
        case.units,
        backend="reference",
        device=device,
        dtype=torch.float64,
        batch_first=False,
        **dict(quiet),
    )
    exact.load_state_dict(sides.ours.state_dict())
    found = []
    for layer, x in ((sides.ours, sides.x), (exact, sides.x.double())):
        asking = x.detach().requires_grad_()
        output = layer(asking, lengths=sides.lengths)[0]
        torch.manual_seed(1)
        output.backward(torch.randn(output.shape, device=device, dtype=torch.float64).to(output.dtype))
        found.append([output, asking.grad, *(p.grad for p in layer.parameters())])
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

    def floor_ms(self, case: Case, blocks: int) -> dict[str, float]:
        """Least milliseconds of the loop's forward, by what takes them."""
        gates = {"LSTM": 4, "GRU": 3}[case.kind]
        size = getattr(torch, case.dtype).itemsize
        directions = 2 if dict(case.options).get("bidirectional") else 1
        numbers = case.steps * case.batch * case.units * directions
        told = numbers * (2 * gates + 2) * size + gates * case.units**2 * size * directions
        work = 2 * 2 * gates * numbers * case.units
        meets = 0.0 if blocks < 2 else self.meeting.get(blocks, max(self.meeting.values(), default=0.0))
        return {
            "bytes": 1000 * told / self.bandwidth,
            "products": 1000 * work / self.flops[case.dtype],
            "meetings": 1000 * case.steps * directions * meets,
        }


def _meeting(blocks: int, device: torch.device, times: int = 2000) -> float:
    """Seconds that so many blocks take to wait for each other."""
    import triton
    import triton.language as tl

    from lstmkit.ops.gpu_kernels import _meet

    @triton.jit
    def meetings(counter, times, BLOCKS: tl.constexpr):
        for k in range(times):
            _meet(counter, (k + 1) * BLOCKS)

    def run() -> None:
        counter = torch.zeros(1, dtype=torch.int32, device=device)
        meetings[(blocks,)](counter, times, blocks, launch_cooperative_grid=True)

    return median_ms([run], device, 5)[0] / 1000 / times


# ---- all of it -------------------------------------------------------------------------------------------------------


def measure(case: Case, chip: Chip, device: torch.device, rounds: int) -> dict[str, Any]:
    """A row: milliseconds of both sides, their ratios, the error, the floor."""
    from lstmkit.ops import gpu_plan

    row: dict[str, Any] = {**asdict(case), "options": dict(case.options)}
    sides = Sides(case, device)
    call = sides.ours.call_for(sides.x, sides.lengths)
    refusal = dispatch.BACKENDS["triton"].refusal(call)
    if refusal is not None:
        return {**row, "refused": refusal}
    row["error"] = worst(case, device)
    allowed = 0.05 if case.dtype == "bfloat16" else 1e-4
    if not row["error"] < allowed:
        return {**row, "wrong": f"{row['error']:.2g} from float64, above {allowed:g}"}
    blocks = gpu_plan.Plan.of(call.spec, False, sides.x.dtype).tiles
    ours, theirs = sides.works(sides.run_ours, sides.ours), sides.works(sides.run_peer, sides.peer)
    for work, mine, other in (("forward", ours[0], theirs[0]), ("training", ours[1], theirs[1])):
        a, b = median_ms([mine, other], device, rounds)
        row[work] = {"ms": a, "peer_ms": b, "ratio": b / a}
    return {**row, "blocks": blocks, "floor_ms": chip.floor_ms(case, blocks)}


def line(row: dict[str, Any]) -> str:
    about = f"{row['kind']:4} H={row['units']:<5} B={row['batch']:<4} T={row['steps']:<5} {row['dtype']:9}"
    about += (" ragged" if row["ragged"] else "") + "".join(f" {name}" for name in row["options"])
    if "forward" not in row:
        return f"{about}: {row.get('refused') or row['wrong']}"
    parts = [f"{work} {row[work]['ms']:.3f} ms, {row[work]['ratio']:.2f}×" for work in ("forward", "training")]
    return f"{about}: {', '.join(parts)}; floor {sum(row['floor_ms'].values()):.3f} ms; error {row['error']:.1e}"


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Geometric means of both kinds of work, by group."""
    groups = {
        "plain, bfloat16": lambda r: not r["options"] and not r["ragged"] and r["dtype"] == "bfloat16",
        "plain, float32": lambda r: not r["options"] and not r["ragged"] and r["dtype"] == "float32",
        "ragged": lambda r: r["ragged"],
        "variants": lambda r: bool(set(r["options"]) - {"bidirectional"}),
    }
    found = {}
    for name, belongs in groups.items():
        ratios = [r[work]["ratio"] for r in rows if belongs(r) and "forward" in r for work in ("forward", "training")]
        if ratios:
            found[name] = statistics.geometric_mean(ratios)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few cases")
    parser.add_argument("--rehearse", action="store_true", help="on the processor, tiny")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--record", type=Path, nargs="?", const=RECORD, help="write the rows; gpu.json, or there")
    args = parser.parse_args()
    if args.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        sys.exit("there is no GPU: --rehearse runs this on the processor, and says nothing of speed")
    device = torch.device("cpu" if args.rehearse else "cuda")
    chip = Chip.measured(device)
    rows = []
    for case in cases(args.quick):
        small = replace(case, units=min(case.units, 20), batch=min(case.batch, 2), steps=4)
        row = measure(small if args.rehearse else case, chip, device, 1 if args.rehearse else args.rounds)
        print(line(row), flush=True)
        rows.append(row)
    if args.rehearse:
        return
    found = means(rows)
    print(", ".join(f"{name} {mean:.2f}×" for name, mean in found.items()), "(geometric means; theirs over ours)")
    if args.record:
        about = {**machine.describe(1, 0), "gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        about |= {"chip": asdict(chip), "means": found, "rows": rows}
        args.record.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
