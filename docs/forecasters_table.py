"""Write the tables of docs/forecasting.md from results/defaults/forecasters.json. With --check, only compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from marked import fill

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "results" / "defaults" / "forecasters.json"


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
        "| set | error, % | MASE | coverage of 50 / 80 / 95 % | seconds | AutoETS, seconds |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    by_set = {(row["set"], row["model"]): row for row in record["rows"]}
    for (name, model), row in sorted(by_set.items()):
        if model == "lstmkit":
            coverage = " / ".join(f"{row[f'coverage-{level}']:.0f}" for level in (50, 80, 95))
            ets = by_set[name, "AutoETS"]["seconds"]
            numbers = f"{row['percent']:.2f} | {row['MASE']:.3f} | {coverage} | {row['seconds']:.0f} | {ets:.0f}"
            lines.append(f"| {name.replace('_', ', ')} | {numbers} |")
    about = (
        f"Measured {record['date']}, one thread: {record['cpu']}, Python {record['python']}, torch {record['torch']}, "
    )
    return "\n".join(lines) + f"\n\n{about}lstmkit {record['lstmkit']}."


def _bold(value: float, best: float) -> str:
    text = f"{value:.3f}"
    return f"**{text}**" if round(value, 3) == best else text


if __name__ == "__main__":
    content = json.loads(RECORD.read_text(encoding="utf-8"))
    page = ROOT / "docs" / "forecasting.md"
    fill(page, "owa", owa(content), "results/defaults/forecasters.json")
    fill(page, "defaults", of_lstmkit(content), "results/defaults/forecasters.json")
