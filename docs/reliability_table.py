"""Write the tables of docs/reliability.md from results/reliability. With --check, only say if they are up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from marked import fill

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "reliability"
NAMES = (
    *("killed_fits", "two_fits", "failing_disks", "damaged_models", "damaged_inputs", "long_streams"),
    "threads_and_forks",
)


def table(rows: list[tuple[str, Any, str]]) -> str:
    """Lines of what was tried, how often, and what came of it."""
    return "\n".join(["| what | trials | result |", "|---|--:|---|", *(f"| {w} | {n:,} | {r} |" for w, n, r in rows)])


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def killed_fits(figures: dict[str, Any]) -> str:
    stages = list(next(iter(figures["jobs"].values()))["kills"])
    lines = [
        f"| job | kills | {' | '.join(stages)} | runs at their end | equal to an undisturbed one | faults |",
        "|---|" + "--:|" * (len(stages) + 4),
    ]
    for name, job in figures["jobs"].items():
        kills = job["kills"].values()
        cells = [sum(kills), *kills, job["finished"], job["equal"], len(job["faults"])]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def two_fits(figures: dict[str, Any]) -> str:
    endings = figures["endings"]
    both = sum(endings.values())
    return table(
        [
            (
                "two fits start at once in one folder",
                both,
                "; ".join(f"{n:,}× {ending}" for ending, n in endings.items()),
            ),
            (
                "the fit that holds the folder is killed, another resumes at once",
                figures["killed"],
                f"{figures['resumed_at_once']:,} resumed, with the model of an undisturbed fit",
            ),
        ]
    )


def failing_disks(figures: dict[str, Any]) -> str:
    one, small, gone = (figures[name] for name in ("one_operation_fails", "disk_of_limited_size", "folder_deleted"))
    errors = ", ".join(one["errors"])
    rows = [
        (
            f"each of {one['operations']} file operations of a fit fails once ({errors})",
            one["trials"],
            f"one line each; resumed to the same model; {count(len(one['faults']), 'fault')}",
        )
    ]
    if "trials" in small:
        rows.append(
            (
                "disk too small, or read-only from some moment on; then mended",
                small["trials"],
                f"{small['stopped']:,} stopped with one line; all ended with the same model; "
                f"{count(len(small['faults']), 'fault')}",
            )
        )
    rows.append(
        (
            "folder deleted during the fit",
            gone["trials"],
            f"{gone['stopped']:,} stopped with one line, {gone['saved_anew']:,} saved into the folder made anew, the "
            f"others had ended; {count(len(gone['faults']), 'fault')}",
        )
    )
    return table(rows)


def damaged_models(figures: dict[str, Any]) -> str:
    return table([("mutations", figures["mutations"], _outcomes(figures))]) + _extremes(figures)


def damaged_inputs(figures: dict[str, Any]) -> str:
    result = (
        f"{figures['read']:,} read, {figures['refused']:,} refused in a line, {count(len(figures['faults']), 'fault')}"
    )
    return table([(f"mutations of {figures['samples']} samples", figures["mutations"], result)]) + _extremes(figures)


def _outcomes(figures: dict[str, Any]) -> str:
    parts = [f"{n:,} {outcome}" for outcome, n in sorted(figures["outcomes"].items())]
    return ", ".join([*parts, count(len(figures["faults"]), "fault")])


def _extremes(figures: dict[str, Any]) -> str:
    seconds, megabytes = figures["slowest_seconds"], figures["growth_mb"]
    return (
        f"\n\nThe slowest file took {seconds[0]:.1f} s ({seconds[1]}); the memory of a process grew by at most "
        f"{megabytes[0]:.0f} MB over all its files ({megabytes[1]})."
    )


def long_streams(figures: dict[str, Any]) -> str:
    lines = ["| layer | steps | largest difference to the batch | MB after a tenth | MB at the end | MB at most |"]
    lines.append("|---|--:|--:|--:|--:|--:|")
    for name, layer in figures["layers"].items():
        memory = " | ".join(f"{layer[key]:.1f}" for key in ("mb_first", "mb_last", "mb_max"))
        lines.append(f"| {name} | {layer['steps']:,} | {layer['max_difference']:.1e} | {memory} |")
    return "\n".join(lines)


def threads_and_forks(figures: dict[str, Any]) -> str:
    result = f"{count(len(figures['faults']), 'other answer')}, {figures['hung']:,} hung"
    calls = f"calls in {figures['threads']} threads while {count(figures['forks'], 'child')} forked".replace(
        "childs", "children"
    )
    return table([(calls, figures["calls"], result)])


def section(name: str) -> str:
    """The table of an experiment, and where it was measured."""
    record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    about = f"Measured {record['date']} in {record['minutes']:g} minutes: {record['cpu']}, Python {record['python']}, "
    return f"{globals()[name](record['figures'])}\n\n{about}torch {record['torch']}, lstmkit {record['lstmkit']}."


if __name__ == "__main__":
    for name in NAMES:
        fill(ROOT / "docs" / "reliability.md", name, section(name), f"results/reliability/{name}.json")
