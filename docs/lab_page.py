"""Write the results of docs/lab.md from results/lab/*.json. With --check, only report whether they are up to date."""

from __future__ import annotations

import json
from pathlib import Path

from marked import fill

from lstmkit.report import numbers

ROOT = Path(__file__).parent.parent


def sections() -> str:
    """One section per experiment: its question, figure, table and settings."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "results/lab").glob("*.json"))]
    return "\n\n".join(map(section, results))


def section(result: dict) -> str:
    name = result["lab"]
    machine = result["machine"]
    threads = f"{machine['threads']} thread" + "s" * (machine["threads"] > 1)
    settings = ", ".join(f"{key} {value}" for key, value in result["settings"].items() if key != "lines")
    sources = sorted({p["source"] for p in result["published"]})
    lines = [
        f"### {name}",
        f"{result['title']}. {result['question']}",
        f"![{result['title']}](../results/lab/{name}.png)",
        table(result["table"]),
        f"`lstmkit lab {name}`: {result['minutes']:.0f} minutes on {threads} of an "
        f"{machine['processor']}, {result['date']}, torch {result['versions']['torch']}. Settings: {settings}. "
        f"All runs: [results/lab/{name}.json](../results/lab/{name}.json).",
    ]
    if sources:
        lines.append("Published: " + "; ".join(sources) + ".")
    return "\n\n".join(lines)


def table(rows: list[dict]) -> str:
    """A Markdown table; the numbers of a column have the same number of decimals."""
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
