"""Write the table of docs/results.md from results/*.json. With --check, only report whether it is up to date."""

from __future__ import annotations

import json
from pathlib import Path

from marked import fill

ROOT = Path(__file__).parent.parent


def table() -> str:
    """One row per recipe: the model, the baselines, and published figures."""
    lines = ["| recipe | score | lstmkit | baselines, same data and machine | published |", "|---|---|---|---|---|"]
    for path in sorted((ROOT / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if "recipe" not in result:  # defaults.json, the record of another page
            continue
        model, *baselines = result["scores"]
        score = next(name for name in model if name != "model")
        measured = ", ".join(f"{row['model']} {row[score]:.3f}" for row in baselines if row[score] is not None)
        published = ", ".join(f"{p['name']} {p['value']:.3f}" for p in result["published"] if p["metric"] == score)
        lines.append(
            f"| `{result['recipe']}`: {result['title']} | {score} | **{model[score]:.3f}** "
            f"| {measured} | {published or '–'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    fill(ROOT / "docs/results.md", "results", table(), "results/")
