"""The results as tables on a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

import roofline

Row = dict


#: A load at the start above this means that others are at work: no time is to be trusted.
BUSY = 0.5


def machine(head: Row, limits: roofline.Machine) -> str:
    busy = f"others are using this machine: load {head['load']} before the start\n" if head["load"] > BUSY else ""
    return (
        f"{head['cpu']}, {head['level']}, {head['threads']} threads; Python {head['python']}, torch {head['torch']}, "
        f"ONNX Runtime {head['onnxruntime'] or 'not installed'}, lstmkit {head['lstmkit']}\n"
        f"peak {limits.flops / 1e9:.0f} GFLOP/s ({limits.source}), memory {limits.bandwidth / 1e9:.1f} GB/s\n{busy}"
    )


def group(found: Row) -> Group:
    """One line for each case and peer: times, ratio with the quartiles of the rounds, the two limits."""
    streaming = found["group"] == "stream"
    unit, scale = ("µs", 1e3) if streaming else ("ms", 1.0)
    table = Table(title=f"{found['title']}, {unit}", title_justify="left", title_style="bold")
    for name in ("B×T×I×H", "back end"):
        table.add_column(name, no_wrap=True)
    table.add_column("ours", justify="right", no_wrap=True)
    table.add_column("against", no_wrap=True)
    for name in ("theirs", "ratio", "quartiles", "FMA limit", "memory limit", "of peak"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found["rows"]:
        start = [row["case"], row.get("backend", "–")]
        if "refused" in row:
            table.add_row(*start, "–")
            continue
        limits = row["roofline"]
        start.append(milliseconds(scale * row["sides"]["ours"]["ms"]))
        end = [*(milliseconds(scale * limits[key]) for key in ("fma_ms", "memory_ms")), f"{limits['of_peak']:.0%}"]
        peers = [(name, side) for name, side in row["sides"].items() if name != "ours"]
        for k, (name, side) in enumerate(peers):
            table.add_row(*(["", "", ""] if k else start), name, *peer(side, scale), *([] if k else end))
    return Group(table, *notes(found), Text(verdict(found)), Text())


def peer(side: Row, scale: float) -> list[str]:
    """Time, ratio, quartiles of the ratio."""
    if "ratio" not in side:
        return ["–"] * 3
    low, high = side["quartiles"]
    return [milliseconds(scale * side["ms"]), f"{side['ratio']:.2f}", f"{low:.2f}–{high:.2f}"]


def milliseconds(value: float) -> str:
    """Three digits: 0.00512, 5.12, 512."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.0e}"


def notes(found: Row) -> list[Text]:
    """Whatever was not measured, and why; how long compiling took."""
    lines = []
    for row in found["rows"]:
        if "refused" in row:
            lines.append(f"{row['case']}: {row['refused']}")
        for name, side in row["sides"].items():
            if "refused" in side:
                lines.append(f"{row['case']}, {name}: {side['refused']}")
            if "compile_s" in side:
                lines.append(f"{row['case']}: compiling took {side['compile_s']} s")
    return [Text(line, style="dim") for line in lines]


def verdict(found: Row) -> str:
    """The group's mean beside its target."""
    if "mean" not in found:
        return "nothing measured"
    least = f", never under {found['floor']:.2f}" if found["floor"] else ""
    return (
        f"geometric mean {found['mean']:.2f}, least {found['least']:.2f} against {' / '.join(found['against'])}; "
        f"target {found['target']:.2f}{least}: {met(found)}"
    )


def memory(rows: list[Row]) -> Table:
    table = Table(title="Memory of an LSTM training step, MB", title_justify="left", title_style="bold")
    table.add_column("B×T×I×H", no_wrap=True)
    for name in ("kept for backward, ours", "torch.nn", "ratio", "peak, ours", "torch.nn", "ratio"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = []
        for what in ("saved", "peak"):
            ours, theirs = (row["sides"][side][what] for side in ("ours", "torch.nn"))
            cells += [f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.2f}" if ours > 0 else "–"]
        table.add_row(row["case"], *cells)
    return table


def summary(found: Row) -> Group:
    """Everything beside its target."""
    table = Table(title="Summary", title_justify="left", title_style="bold")
    for name in ("case", "against"):
        table.add_column(name)
    for name in ("mean", "least", "target", "never under", ""):
        table.add_column(name, justify="right")
    for group in found["groups"]:
        target, floor = f"{group['target']:.2f}", f"{group['floor']:.2f}" if group["floor"] else ""
        if "mean" in group:
            mean, least = f"{group['mean']:.2f}", f"{group['least']:.2f}"
            table.add_row(group["title"], " / ".join(group["against"]), mean, least, target, floor, met(group))
        else:
            refusals = {row.get("refused", "no peer") for row in group["rows"]}
            table.add_row(group["title"], ", ".join(sorted(refusals)), "–", "–", target, floor, "–")
    for share in found["of_peak"]:
        kind = "forward" if share["group"] == "lstm-infer" else "training"
        mean, least, target = (f"{share[key]:.0%}" for key in ("mean", "least", "target"))
        table.add_row(
            f"of the FMA peak, {kind}, H≥128, B≥16", found["peak"]["source"], mean, least, "", target, met(share)
        )
    before, after = found["peak"]["flops"], found["peak"]["flops_after"]
    lines = [f"peak at the end {after / 1e9:.0f} GFLOP/s, at the start {before / 1e9:.0f}"]
    if abs(after / before - 1) > 0.1:
        lines.append("the machine's speed changed on the way: the shares of the peak are as uncertain")
    if found["load"] > BUSY:
        lines.append("others were using this machine, which slows some peers far more than others: trust no ratio here")
    return Group(table, *(Text(line, style="dim") for line in lines))


def met(result: Row) -> str:
    """Whether the target was met; nothing is judged by part of the cases or of the peers."""
    return {True: "met", False: "not met", None: f"not judged, {result.get('partly')}"}[result["met"]]
