"""Our layers beside the others, alternating in one process: medians and their ratios, once the numbers were compared.

A ratio above 1 means that ours is faster. Times are of this machine, now; the ratios and the share of the FMA peak say
more. layer_cases.py has what is measured and the targets, docs/speed.md what came out and how it was measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from pathlib import Path

import torch
from rich.console import Console

import jax_peers
import lstmkit
import machine
import numerical_check
import peers
import roofline
import terminal_tables
from implementation import Data, Side, Unavailable
from layer_cases import COMPILED, GROUPS, PEAK_TARGETS, Case, Group, geometric_mean, is_large
from timing import Times, in_turns

RECORD = Path(__file__).parent.parent / "results/speed/cpu_layers.json"
#: Calls in one turn of streaming, whose steps are too short to be timed alone.
STREAM_CALLS = 100


def main() -> None:
    args = arguments()
    warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
    if args.threads:
        torch.set_num_threads(args.threads)
    threads = torch.get_num_threads()
    say(f"measuring the machine, {threads} threads")
    limits = roofline.measure(threads)
    head = machine.describe(threads, args.seed)
    console = Console() if sys.stdout.isatty() else Console(width=180)
    console.print(terminal_tables.machine(head, limits))

    groups = []
    for group in GROUPS:
        rows = [measure(group, case, args, limits) for case in group.cases if wanted(group, case, args.only)]
        if rows:
            groups.append(result(group, rows))
            console.print(terminal_tables.group(groups[-1]))
    memory = []
    if args.only is None or args.only in "memory":
        say("memory")
        import training_memory

        memory = training_memory.rows(args.backend, threads)
        console.print(terminal_tables.memory(memory))

    after = roofline.measure(threads)
    found = {
        **head,
        "quick": args.quick,
        "backend": args.backend,
        "peak": {"flops": limits.flops, "source": limits.source, "flops_after": after.flops},
        "bandwidth": {"bytes": limits.bandwidth, "bytes_after": after.bandwidth},
        "groups": groups,
        "of_peak": [share for name, target in PEAK_TARGETS.items() for share in of_peak(groups, name, target)],
        "memory": memory,
    }
    if groups:
        console.print(terminal_tables.summary(found))
    for path in [args.json, RECORD if args.record else None]:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            say(f"wrote {path}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", help="cases with this in 'group shape', or 'memory'")
    parser.add_argument("--quick", action="store_true", help="without torch.compile, which takes minutes to compile")
    parser.add_argument("--threads", type=int, help="threads of everyone (default: as torch has it)")
    parser.add_argument("--seconds", type=float, default=1.5, help="time for each side of a case (default 1.5)")
    parser.add_argument("--rounds", type=int, help="rounds of each case, instead of --seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="auto", help="the back end of ours (default auto)")
    parser.add_argument(
        "--peer", action="append", default=[], choices=sorted(jax_peers.NAMES), help="one more to compare with"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything there")
    parser.add_argument("--record", action="store_true", help="write results/speed/cpu_layers.json, for docs/speed.md")
    args = parser.parse_args()
    if args.record and args.only:
        parser.error("--record is for the whole suite, without --only")
    if args.rounds is not None and args.rounds < 2:
        parser.error("--rounds must be at least 2")
    return args


def wanted(group: Group, case: Case, only: str | None) -> bool:
    return only is None or only in f"{group.name} {case.shape}"


def say(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)


# ---- one case ----------------------------------------------------------------------------------------------------


def measure(group: Group, case: Case, args: argparse.Namespace, limits: roofline.Machine) -> dict[str, object]:
    """One row: compared with the reference first, then timed."""
    say(f"{group.name}  {case.shape}")
    row: dict[str, object] = {"case": case.shape, "large": is_large(case), "sides": {}}
    if case.dtype == "bfloat16" and not machine.has_bf16():
        return row | {"refused": "not on this CPU"}
    layer, data = peers.prepare(case, args.seed, args.backend)
    row["backend"] = str(lstmkit.explain_backend(layer, data.x, data.lengths).chosen)
    wanted_numbers = peers.reference(case, layer, data)
    ours = peers.ours(case, layer, data)
    by_name = numerical_check.errors(ours.numbers(), wanted_numbers)
    row["error"] = dict([numerical_check.worst(by_name)])
    if complaint := numerical_check.differ(by_name, case):
        return row | {"refused": complaint}

    sides, columns = [ours], {}
    for name in names_of_peers(group, args):
        side, columns[name] = checked_peer(name, case, layer, data, wanted_numbers)
        sides += [side] if side else []
    calls = STREAM_CALLS if case.mode == "stream" else None
    works, peaks = [side.work for side in sides], []
    if row["large"] and group.name in PEAK_TARGETS and limits.source == roofline.FMA_LOOP:
        # The machine's peak takes its turn too: what others take from it is taken from both.
        works.append(lambda: peaks.append(roofline.fma_peak(torch.get_num_threads())))
    times = in_turns(works, args.seconds, args.rounds, calls)
    columns["ours"] = {"ms": 1e3 * times[0].median}
    for side, theirs in zip(sides[1:], times[1 : len(sides)], strict=True):
        ratio, low, high = times[0].ratio(theirs)
        columns[side.name] |= {"ms": 1e3 * theirs.median, "ratio": ratio, "quartiles": [low, high]}
    row |= {
        "sides": columns,
        "rounds": len(times[0].seconds),
        "roofline": limits_of(case, data, limits, times[0], peaks),
    }
    ratios = [columns[name]["ratio"] for name in group.judged if "ratio" in columns.get(name, {})]
    return row | {"ratio": min(ratios)} if ratios else row


def checked_peer(
    name: str, case: Case, layer: torch.nn.Module, data: Data, wanted_numbers: numerical_check.Numbers
) -> tuple[Side | None, dict[str, object]]:
    """The peer, if it runs here and its numbers are right, and what there is to say of it."""
    try:
        side = peers.peer(name, case, layer, data)
    except Unavailable as reason:
        return None, {"refused": str(reason)}
    if complaint := numerical_check.differ(numerical_check.errors(side.numbers(), wanted_numbers), case):
        return None, {"refused": complaint}
    return side, dict(side.notes)


def names_of_peers(group: Group, args: argparse.Namespace) -> list[str]:
    names = [*group.judged, *group.shown]
    if group.name in ("lstm-train", "lstm-infer"):
        names += [jax_peers.NAMES[name] for name in args.peer]
    return [name for name in names if not (args.quick and name == COMPILED)]


def limits_of(case: Case, data: Data, limits: roofline.Machine, times: Times, peaks: list[float]) -> dict[str, float]:
    """The roofline. ``peaks``: measured in turns with ``times``, the last ones in the same rounds; or none."""
    work = roofline.work(case, None if data.lengths is None else int(data.lengths.sum()))
    fma_ms, memory_ms = work.limits_ms(limits)
    rounds = len(times.seconds)
    in_rounds = peaks[-rounds:] or [limits.flops] * rounds
    shares = [work.flops / seconds / peak for seconds, peak in zip(times.seconds, in_rounds, strict=True)]
    return {
        "flops": work.flops,
        "bytes": work.bytes,
        "fma_ms": fma_ms,
        "memory_ms": memory_ms,
        "of_peak": statistics.median(shares),
    }


# ---- many cases --------------------------------------------------------------------------------------------------


def result(group: Group, rows: list[dict]) -> dict[str, object]:
    """The rows of a group and what they come to, beside the target."""
    ratios = [row["ratio"] for row in rows if "ratio" in row]
    against = [name for name in group.judged if any("ratio" in row["sides"].get(name, {}) for row in rows)]
    found = {"group": group.name, "title": group.title, "against": against}
    found |= {"target": group.target, "floor": group.floor, "rows": rows}
    if ratios:
        found |= {"mean": geometric_mean(ratios), "least": min(ratios), "met": None}
        missing = [name for name in group.judged if name not in against]
        if len(rows) < len(group.cases):
            found["partly"] = f"{len(rows)} of {len(group.cases)} cases"
        elif missing:
            found["partly"] = f"without {', '.join(missing)}"
        else:  # a case without a ratio, because its numbers differ, meets nothing
            enough = found["least"] >= (group.floor or 0) and found["mean"] >= group.target
            found["met"] = enough and len(ratios) == len(rows)
    return found


def of_peak(groups: list[dict], name: str, target: float) -> list[dict[str, object]]:
    """The share of the FMA peak over the large cases of one group, if it was measured."""
    rows = [row for group in groups if group["group"] == name for row in group["rows"] if row["large"]]
    shares = [row["roofline"]["of_peak"] for row in rows if "roofline" in row]
    if not shares:
        return []
    met = min(shares) >= target and len(shares) == len(rows)
    return [{"group": name, "mean": geometric_mean(shares), "least": min(shares), "target": target, "met": met}]


if __name__ == "__main__":
    main()
