"""Write the README's table of results from results/*.json. With --check, only say whether it is up to date."""

from __future__ import annotations

import json
from pathlib import Path

from marked import fill

ROOT = Path(__file__).parent.parent


def table() -> str:
    """One row a recipe: ours, the baselines measured beside it, and what was published."""
    lines = ["| recipe | score | lstmkit | beside it, same data and machine | published |", "|---|---|---|---|---|"]
    for path in sorted((ROOT / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        ours, *others = result["scores"]
        score = next(name for name in ours if name != "model")
        beside = ", ".join(f"{row['model']} {row[score]:.3f}" for row in others if row[score] is not None)
        published = ", ".join(f"{p['name']} {p['value']:.3f}" for p in result["published"] if p["metric"] == score)
        lines.append(
            f"| [{result['recipe']}](results/{path.name}): {result['title']} | {score} | **{ours[score]:.3f}** "
            f"| {beside} | {published or '–'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    fill(ROOT / "README.md", "results", table(), "results/")
