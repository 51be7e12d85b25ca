"""Write the tables of docs/forecasting.md and of decision 30 from results/defaults. With --check, only compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from marked import fill

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "results" / "defaults" / "forecasters.json"
CHOICES = ROOT / "results" / "defaults" / "forecaster_choices.json"


def owa(record: dict[str, Any]) -> str:
    """OWA of each model on each set, the best of a set in bold."""
    models = list(dict.fromkeys(row["model"] for row in record["rows"]))
    models.sort(key=lambda name: (name != "lstmkit", "(" in name))
    lines = [f"| set | series | {' | '.join(models)} |", "|---|--:|" + "--:|" * len(models)]
    for name in sorted({row["set"] for row in record["rows"]}):
        rows = {row["model"]: row for row in record["rows"] if row["set"] == name}
        best = min(round(row["OWA"], 3) for row in rows.values())
        cells = ["–" if model not in rows else _bold(rows[model]["OWA"], best) for model in models]
        count = next(iter(rows.values()))["series"]
        lines.append(f"| {name.replace('_', ', ')} | {count:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def of_lstmkit(record: dict[str, Any]) -> str:
    """Scores, coverage and time of lstmkit, with the time of the others."""
    lines = [
        "| set | error, % | MASE | coverage of 50 / 80 / 95 % | seconds | AutoETS, seconds | NHITS, seconds |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    by_set = {(row["set"], row["model"]): row for row in record["rows"]}
    for (name, model), row in sorted(by_set.items()):
        if model == "lstmkit":
            coverage = " / ".join(f"{row[f'coverage-{level}']:.0f}" for level in (50, 80, 95))
            others = (by_set.get((name, other)) for other in ("AutoETS", "NHITS (neuralforecast)"))
            seconds = " | ".join("–" if other is None else f"{other['seconds']:.0f}" for other in (row, *others))
            numbers = f"{row['percent']:.2f} | {row['MASE']:.3f} | {coverage} | {seconds}"
            lines.append(f"| {name.replace('_', ', ')} | {numbers} |")
    return "\n".join(lines) + f"\n\n{_measured(record)}"


def _measured(record: dict[str, Any]) -> str:
    return (
        f"Measured {record['date']}, one thread: {record['cpu']}, Python {record['python']}, torch {record['torch']}, "
        f"lstmkit {record['lstmkit']}."
    )


def combinations(record: dict[str, Any]) -> str:
    """MASE of network, smoothing and their combinations on each development set."""
    lines = [
        "| set | series × origins | network | smoothing | one half | chosen (weight) | best in hindsight |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in record["rows"]:
        if row["settings"] == {}:
            scores = " | ".join(f"{row[name]:.3f}" for name in ("network", "smoothing", "half"))
            chosen = f"**{row['MASE']:.3f}** ({row['weight']:.2f}) | {row['hindsight']:.3f}"
            lines.append(f"| {_name(row)} | {row['series']} × {row['origins']} | {scores} | {chosen} |")
    return "\n".join(lines) + f"\n\n{_measured(record)}"


def intervals(record: dict[str, Any]) -> str:
    """Coverage and CRPS of each development set, with the network's own widths and with usual ones beside them."""
    before = {row["set"]: row for row in record["rows"] if row["settings"] == {"usual_width_weight": 0}}
    lines = [
        "| set | CRPS, network alone | CRPS, combined | coverage, network alone | coverage, combined |",
        "|---|--:|--:|--:|--:|",
    ]
    ratios = []
    for row in record["rows"]:
        if row["settings"] == {} and row["set"] in before:
            pair = (before[row["set"]], row)
            ratios.append(row["CRPS"] / pair[0]["CRPS"])
            best = min(round(r["CRPS"], 3) for r in pair)
            crps = " | ".join(_bold(r["CRPS"], best) for r in pair)
            coverage = " | ".join(" / ".join(f"{r[f'coverage-{level}']:.0f}" for level in (50, 80, 95)) for r in pair)
            lines.append(f"| {_name(row)} | {crps} | {coverage} |")
    mean = f"The mean ratio of CRPS, combined to network alone, is {sum(ratios) / len(ratios):.3f}."
    return "\n".join(lines) + f"\n\n{mean}"


def _name(row: dict[str, Any]) -> str:
    return row["set"].replace("_", " ").replace("m3", "M3").replace("m4", "M4")


def _bold(value: float, best: float) -> str:
    text = f"{value:.3f}"
    return f"**{text}**" if round(value, 3) == best else text


if __name__ == "__main__":
    content = json.loads(RECORD.read_text(encoding="utf-8"))
    page = ROOT / "docs" / "forecasting.md"
    fill(page, "owa", owa(content), "results/defaults/forecasters.json")
    fill(page, "defaults", of_lstmkit(content), "results/defaults/forecasters.json")
    choices = json.loads(CHOICES.read_text(encoding="utf-8"))
    decision = ROOT / "docs" / "decisions" / "0030-defaults.md"
    fill(decision, "combinations", combinations(choices), "results/defaults/forecaster_choices.json")
    fill(decision, "intervals", intervals(choices), "results/defaults/forecaster_choices.json")
