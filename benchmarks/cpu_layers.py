"""Speed of the layers on a CPU, compared with other libraries: alternating runs in one process.

Outputs and gradients are checked first. A ratio above 1 means that lstmkit is faster. Times depend on the machine;
ratios and the fraction of the FMA peak say more. layer_cases.py has the cases and targets, docs/speed.md the method
and the results.
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
from implementation import Data, Implementation, Unavailable
from layer_cases import COMPILED, GROUPS, LSTMKIT, PEAK_TARGETS, Case, Group, geometric_mean, is_large
from timing import Times, in_turns

RECORD = Path(__file__).parent.parent / "results/speed/cpu_layers.json"
#: Calls per turn in streaming, where single steps are too short to time.
STREAM_CALLS = 100


def main() -> None:
    args = arguments()
    warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
    if args.threads:
        torch.set_num_threads(args.threads)
    threads = torch.get_num_threads()
    log(f"measuring the machine, {threads} threads")
    limits = roofline.measure(threads)
    head = machine.describe(threads, args.seed)
    console = Console() if sys.stdout.isatty() else Console(width=180)
    console.print(terminal_tables.machine(head, limits))

    groups = []
    for group in GROUPS:
        rows = [measure(group, case, args, limits) for case in group.cases if is_selected(group, case, args.only)]
        if rows:
            groups.append(group_result(group, rows))
            console.print(terminal_tables.group(groups[-1]))
    memory = []
    if args.only is None or args.only in "memory":
        log("memory")
        import training_memory

        memory = training_memory.rows(args.backend, threads)
        console.print(terminal_tables.memory(memory))

    after = roofline.measure(threads)
    record = {
        **head,
        "quick": args.quick,
        "backend": args.backend,
        "peak": {"flops": limits.flops, "source": limits.source, "flops_after": after.flops},
        "bandwidth": {"bytes": limits.bandwidth, "bytes_after": after.bandwidth},
        "groups": groups,
        "of_peak": [fraction for name, target in PEAK_TARGETS.items() for fraction in of_peak(groups, name, target)],
        "memory": memory,
    }
    if groups:
        console.print(terminal_tables.summary(record))
    for path in [args.json, RECORD if args.record else None]:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            log(f"wrote {path}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", help="only cases whose group and shape contain TEXT, or 'memory'")
    parser.add_argument("--quick", action="store_true", help="without torch.compile, which takes minutes to compile")
    parser.add_argument("--threads", type=int, help="number of threads of all implementations (default: torch's)")
    parser.add_argument("--seconds", type=float, default=1.5, help="time per implementation of a case (default 1.5)")
    parser.add_argument("--rounds", type=int, help="number of rounds per case, instead of --seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="auto", help="back end of lstmkit (default auto)")
    parser.add_argument("--peer", action="append", default=[], choices=sorted(jax_peers.NAMES), help="add a peer")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all results to this file")
    parser.add_argument("--record", action="store_true", help="write results/speed/cpu_layers.json, for docs/speed.md")
    args = parser.parse_args()
    if args.record and args.only:
        parser.error("--record needs the whole suite: leave out --only")
    if args.rounds is not None and args.rounds < 2:
        parser.error("--rounds must be at least 2")
    return args


def is_selected(group: Group, case: Case, only: str | None) -> bool:
    return only is None or only in f"{group.name} {case.shape}"


def log(text: str) -> None:
    """Print progress to standard error."""
    print(text, file=sys.stderr, flush=True)


# ---- one case ----------------------------------------------------------------------------------------------------


def measure(group: Group, case: Case, args: argparse.Namespace, limits: roofline.Machine) -> dict[str, object]:
    """One row: a numerical check against the reference, then the times."""
    log(f"{group.name}  {case.shape}")
    row: dict[str, object] = {"case": case.shape, "large": is_large(case), "implementations": {}}
    if case.dtype == "bfloat16" and not machine.has_bf16():
        return row | {"refused": "not on this CPU"}
    layer, data = peers.prepare(case, args.seed, args.backend)
    row["backend"] = str(lstmkit.explain_backend(layer, data.x, data.lengths).chosen)
    expected = peers.reference(case, layer, data)
    lstmkit_layer = peers.lstmkit_layer(case, layer, data)
    by_name = numerical_check.errors(lstmkit_layer.tensors(), expected)
    row["error"] = dict([numerical_check.worst(by_name)])
    if complaint := numerical_check.complaint(by_name, case):
        return row | {"refused": complaint}

    implementations, columns = [lstmkit_layer], {}
    for name in names_of_peers(group, args):
        peer, columns[name] = checked_peer(name, case, layer, data, expected)
        implementations += [peer] if peer else []
    calls = STREAM_CALLS if case.mode == "stream" else None
    works, peaks = [implementation.work for implementation in implementations], []
    if row["large"] and group.name in PEAK_TARGETS and limits.source == roofline.FMA_LOOP:
        # The peak is measured in turns too, so that other processes slow both down.
        works.append(lambda: peaks.append(roofline.fma_peak(torch.get_num_threads())))
    times = in_turns(works, args.seconds, args.rounds, calls)
    columns[LSTMKIT] = {"ms": 1e3 * times[0].median}
    for peer, peer_times in zip(implementations[1:], times[1 : len(implementations)], strict=True):
        ratio, low, high = times[0].ratio(peer_times)
        columns[peer.name] |= {"ms": 1e3 * peer_times.median, "ratio": ratio, "quartiles": [low, high]}
    row |= {
        "implementations": columns,
        "rounds": len(times[0].seconds),
        "roofline": limits_of(case, data, limits, times[0], peaks),
    }
    ratios = [columns[name]["ratio"] for name in group.judged if "ratio" in columns.get(name, {})]
    return row | {"ratio": min(ratios)} if ratios else row


def checked_peer(
    name: str, case: Case, layer: torch.nn.Module, data: Data, expected: numerical_check.Tensors
) -> tuple[Implementation | None, dict[str, object]]:
    """The peer if it runs on this machine and passes the numerical check, and notes on it."""
    try:
        peer = peers.peer(name, case, layer, data)
    except Unavailable as reason:
        return None, {"refused": str(reason)}
    if complaint := numerical_check.complaint(numerical_check.errors(peer.tensors(), expected), case):
        return None, {"refused": complaint}
    return peer, dict(peer.notes)


def names_of_peers(group: Group, args: argparse.Namespace) -> list[str]:
    names = [*group.judged, *group.shown]
    if group.name in ("lstm-train", "lstm-infer"):
        names += [jax_peers.NAMES[name] for name in args.peer]
    return [name for name in names if not (args.quick and name == COMPILED)]


def limits_of(case: Case, data: Data, limits: roofline.Machine, times: Times, peaks: list[float]) -> dict[str, float]:
    """The roofline. ``peaks`` are measured in the same rounds as ``times``, after some warm-up; or empty."""
    work = roofline.work(case, None if data.lengths is None else int(data.lengths.sum()))
    fma_ms, memory_ms = work.limits_ms(limits)
    rounds = len(times.seconds)
    in_rounds = peaks[-rounds:] or [limits.flops] * rounds
    fractions = [work.flops / seconds / peak for seconds, peak in zip(times.seconds, in_rounds, strict=True)]
    return {
        "flops": work.flops,
        "bytes": work.bytes,
        "fma_ms": fma_ms,
        "memory_ms": memory_ms,
        "of_peak": statistics.median(fractions),
    }


# ---- many cases --------------------------------------------------------------------------------------------------


def group_result(group: Group, rows: list[dict]) -> dict[str, object]:
    """The rows of a group, their mean, and the target."""
    ratios = [row["ratio"] for row in rows if "ratio" in row]
    against = [name for name in group.judged if any("ratio" in row["implementations"].get(name, {}) for row in rows)]
    result = {"group": group.name, "title": group.title, "against": against}
    result |= {"target": group.target, "floor": group.floor, "rows": rows}
    if ratios:
        result |= {"mean": geometric_mean(ratios), "least": min(ratios), "met": None}
        missing = [name for name in group.judged if name not in against]
        if len(rows) < len(group.cases):
            result["partly"] = f"{len(rows)} of {len(group.cases)} cases"
        elif missing:
            result["partly"] = f"without {', '.join(missing)}"
        else:  # a case that failed the numerical check does not meet the target
            enough = result["least"] >= (group.floor or 0) and result["mean"] >= group.target
            result["met"] = enough and len(ratios) == len(rows)
    return result


def of_peak(groups: list[dict], name: str, target: float) -> list[dict[str, object]]:
    """The fraction of the FMA peak over the large cases of one group, if it was measured."""
    rows = [row for group in groups if group["group"] == name for row in group["rows"] if row["large"]]
    fractions = [row["roofline"]["of_peak"] for row in rows if "roofline" in row]
    if not fractions:
        return []
    met = min(fractions) >= target and len(fractions) == len(rows)
    return [{"group": name, "mean": geometric_mean(fractions), "least": min(fractions), "target": target, "met": met}]


if __name__ == "__main__":
    main()
