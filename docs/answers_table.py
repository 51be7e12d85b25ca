"""Write the table of bAbI tasks in docs/answers.md from results/babi.json. With --check, only compare it."""

from __future__ import annotations

import json
from pathlib import Path

from marked import fill

ROOT = Path(__file__).parent.parent


def table() -> str:
    """One row per task, one column per model and for the published LSTM; accuracy in percent."""
    result = json.loads((ROOT / "results/babi.json").read_text(encoding="utf-8"))
    models = {row["model"]: row for row in result["scores"]}
    models["LSTM, published"] = {p["metric"]: p["value"] for p in result["published"]}
    tasks = {"accuracy": "mean", **{name: name.removeprefix("qa") for name in result["scores"][0] if name[:2] == "qa"}}
    lines = [f"| task | {' | '.join(models)} |", "|---|" + "--:|" * len(models)]
    for name, shown in tasks.items():
        lines.append(f"| {shown} | {' | '.join(f'{100 * row[name]:.1f}' for row in models.values())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    fill(ROOT / "docs/answers.md", "babi", table(), "results/")
