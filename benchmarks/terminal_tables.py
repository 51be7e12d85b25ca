"""Results as tables in a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

import roofline
from layer_cases import LSTMKIT, TORCH

Row = dict


#: A load above this at the start means that other processes are running: times are unreliable.
BUSY_LOAD = 0.5


def machine(head: Row, limits: roofline.Machine) -> str:
    busy = (
        f"other processes use this machine: load {head['load']} before the start\n" if head["load"] > BUSY_LOAD else ""
    )
    return (
        f"{head['cpu']}, {head['level']}, {head['threads']} threads; Python {head['python']}, torch {head['torch']}, "
        f"ONNX Runtime {head['onnxruntime'] or 'not installed'}, lstmkit {head['lstmkit']}\n"
        f"peak {limits.flops / 1e9:.0f} GFLOP/s ({limits.source}), memory {limits.bandwidth / 1e9:.1f} GB/s\n{busy}"
    )


def group(result: Row) -> Group:
    """One line per case and peer: times, ratio with its quartiles, and the two limits."""
    streaming = result["group"] == "stream"
    unit, scale = ("µs", 1e3) if streaming else ("ms", 1.0)
    table = Table(title=f"{result['title']}, {unit}", title_justify="left", title_style="bold")
    for name in ("B×T×I×H", "back end"):
        table.add_column(name, no_wrap=True)
    table.add_column("lstmkit", justify="right", no_wrap=True)
    table.add_column("peer", no_wrap=True)
    for name in ("peer's time", "ratio", "quartiles", "FMA limit", "memory limit", "of peak"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result["rows"]:
        start = [row["case"], row.get("backend", "–")]
        if "refused" in row:
            table.add_row(*start, "–")
            continue
        limits = row["roofline"]
        start.append(milliseconds(scale * row["implementations"][LSTMKIT]["ms"]))
        end = [*(milliseconds(scale * limits[key]) for key in ("fma_ms", "memory_ms")), f"{limits['of_peak']:.0%}"]
        peers = [(name, times) for name, times in row["implementations"].items() if name != LSTMKIT]
        for k, (name, times) in enumerate(peers):
            table.add_row(*(["", "", ""] if k else start), name, *peer(times, scale), *([] if k else end))
    return Group(table, *notes(result), Text(verdict(result)), Text())


def peer(times: Row, scale: float) -> list[str]:
    """Time, ratio, quartiles of the ratio."""
    if "ratio" not in times:
        return ["–"] * 3
    low, high = times["quartiles"]
    return [milliseconds(scale * times["ms"]), f"{times['ratio']:.2f}", f"{low:.2f}–{high:.2f}"]


def milliseconds(value: float) -> str:
    """Three significant digits: 0.00512, 5.12, 512."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.0e}"


def notes(result: Row) -> list[Text]:
    """What was not measured and why, and the compilation times."""
    lines = []
    for row in result["rows"]:
        if "refused" in row:
            lines.append(f"{row['case']}: {row['refused']}")
        for name, times in row["implementations"].items():
            if "refused" in times:
                lines.append(f"{row['case']}, {name}: {times['refused']}")
            if "compile_s" in times:
                lines.append(f"{row['case']}: compilation took {times['compile_s']} s")
    return [Text(line, style="dim") for line in lines]


def verdict(result: Row) -> str:
    """The mean of the group and its target."""
    if "mean" not in result:
        return "nothing measured"
    least = f", minimum {result['floor']:.2f}" if result["floor"] else ""
    return (
        f"geometric mean {result['mean']:.2f}, minimum {result['least']:.2f} against {' / '.join(result['against'])}; "
        f"target {result['target']:.2f}{least}: {met(result)}"
    )


def memory(rows: list[Row]) -> Table:
    table = Table(title="Memory of an LSTM training step, MB", title_justify="left", title_style="bold")
    table.add_column("B×T×I×H", no_wrap=True)
    for name in ("saved for backward, lstmkit", "torch.nn", "ratio", "peak, lstmkit", "torch.nn", "ratio"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = []
        for what in ("saved", "peak"):
            lstmkit, torch = (row["implementations"][name][what] for name in (LSTMKIT, TORCH))
            cells += [f"{lstmkit:.1f}", f"{torch:.1f}", f"{torch / lstmkit:.2f}" if lstmkit > 0 else "–"]
        table.add_row(row["case"], *cells)
    return table


def summary(record: Row) -> Group:
    """All results with their targets."""
    table = Table(title="Summary", title_justify="left", title_style="bold")
    for name in ("case", "peer"):
        table.add_column(name)
    for name in ("mean", "minimum", "target", "minimum target", ""):
        table.add_column(name, justify="right")
    for group in record["groups"]:
        target, floor = f"{group['target']:.2f}", f"{group['floor']:.2f}" if group["floor"] else ""
        if "mean" in group:
            mean, least = f"{group['mean']:.2f}", f"{group['least']:.2f}"
            table.add_row(group["title"], " / ".join(group["against"]), mean, least, target, floor, met(group))
        else:
            refusals = {row.get("refused", "no peer") for row in group["rows"]}
            table.add_row(group["title"], ", ".join(sorted(refusals)), "–", "–", target, floor, "–")
    for fraction in record["of_peak"]:
        kind = "forward" if fraction["group"] == "lstm-infer" else "training"
        mean, least, target = (f"{fraction[key]:.0%}" for key in ("mean", "least", "target"))
        table.add_row(
            f"fraction of the FMA peak, {kind}, H≥128, B≥16",
            record["peak"]["source"],
            mean,
            least,
            "",
            target,
            met(fraction),
        )
    before, after = record["peak"]["flops"], record["peak"]["flops_after"]
    lines = [f"peak at the end {after / 1e9:.0f} GFLOP/s, at the start {before / 1e9:.0f}"]
    if abs(after / before - 1) > 0.1:
        lines.append("the speed of the machine changed during the run: the fractions of the peak are uncertain")
    if record["load"] > BUSY_LOAD:
        lines.append(
            "other processes used this machine, which slows some peers more than others: the ratios are unreliable"
        )
    return Group(table, *(Text(line, style="dim") for line in lines))


def met(result: Row) -> str:
    """Whether the target was met; not judged if cases or peers are missing."""
    return {True: "met", False: "not met", None: f"not judged, {result.get('partly')}"}[result["met"]]
