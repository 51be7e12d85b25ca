"""Write the speed of text models into docs/speed.md, from results/speed/text.json. With --check, only say if so."""

from __future__ import annotations

import json
from pathlib import Path

from marked import fill

ROOT = Path(__file__).parent.parent


def table() -> str:
    """A row a model and kind of work."""
    found = json.loads((ROOT / "results/speed/text.json").read_text(encoding="utf-8"))
    means = ", ".join(f"{work} **{mean:.2f}×**" for work, mean in found["means"].items())
    lines = [
        f"Measured {found['date']}: {found['cpu']} ({found['level']}), {found['threads']} threads, torch "
        f"{found['torch']}, lstmkit {found['lstmkit']}. Geometric means: {means}; target {found['target']:g}×.",
        "",
        "| model | words × width, layers | batch × window | work | tokens/s | torch.nn | ratio | quartiles |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
    ]
    return "\n".join([*lines, *map(line, found["rows"])])


def line(row: dict) -> str:
    """What was measured of one model at one kind of work."""
    cells = [
        row["name"],
        f"{row['vocabulary']:,} × {row['hidden']}, {row['layers']}",
        f"{row['batch']} × {row['window']}",
        row["work"],
        f"{row['tokens_s']:,.0f}",
        f"{row['torch_tokens_s']:,.0f}",
        f"**{row['ratio']:.2f}**",
        f"{row['low']:.2f}–{row['high']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    fill(ROOT / "docs/speed.md", "text", table(), "results/")
