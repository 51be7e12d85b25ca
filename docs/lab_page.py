"""Write what the labs found into docs/lab.md, from results/lab/*.json. With --check, only say if it is up to date."""

from __future__ import annotations

import json
from pathlib import Path

from marked import fill

from lstmkit.report import numbers

ROOT = Path(__file__).parent.parent


def sections() -> str:
    """A section a lab: what it asks, its picture, its table, how it came about."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "results/lab").glob("*.json"))]
    return "\n\n".join(map(section, found))


def section(found: dict) -> str:
    name = found["lab"]
    machine = found["machine"]
    threads = f"{machine['threads']} thread" + "s" * (machine["threads"] > 1)
    settings = ", ".join(f"{key} {value}" for key, value in found["settings"].items() if key != "lines")
    sources = sorted({p["source"] for p in found["published"]})
    lines = [
        f"### {name}",
        f"{found['title']}. {found['question']}",
        f"![{found['title']}](../results/lab/{name}.png)",
        table(found["table"]),
        f"`lstmkit lab {name}`: {found['minutes']:.0f} minutes on {threads} of an "
        f"{machine['processor']}, {found['date']}, torch {found['versions']['torch']}. Settings: {settings}. "
        f"Every run: [results/lab/{name}.json](../results/lab/{name}.json).",
    ]
    if sources:
        lines.append("Published: " + "; ".join(sources) + ".")
    return "\n\n".join(lines)


def table(rows: list[dict]) -> str:
    """Markdown; a column of numbers has as many decimals as it needs."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: column([row.get(name) for row in rows]) for name in names}
    lines = [
        "| " + " | ".join(names) + " |",
        "|" + "".join("--:|" if numeric else "---|" for _, numeric in columns.values()),
    ]
    lines += ["| " + " | ".join(cells) + " |" for cells in zip(*(texts for texts, _ in columns.values()), strict=True)]
    return "\n".join(lines)


def column(values: list) -> tuple[list[str], bool]:
    known = [v for v in values if v is not None]
    if known and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in known):
        return numbers([float("nan") if v is None else v for v in values]), True
    return ["–" if v is None else str(v) for v in values], False


if __name__ == "__main__":
    fill(ROOT / "docs/lab.md", "labs", sections(), "results/lab/")
