"""Write the rates in docs/anomalies.md from results/anomalies/thresholds.json. With --check, only compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from marked import fill

ROOT = Path(__file__).parent.parent
SHOWN = (("rolling_quantile", 500), ("rolling", 500), ("dynamic", 500), ("quantile", 0), ("pot", 0))


def section(result: dict[str, Any]) -> str:
    """One row per method with the default window, then the mean rate of each group of series."""
    by_name = {(row["method"], row["window"]): row for row in result["methods"]}
    rows = [by_name[name] for name in SHOWN]
    lines = [
        f"Measured on {rows[0]['series']} series at the default rate of {result['rate']:g}, with small models "
        "(`benchmarks/anomaly_thresholds.py`):",
        "",
        "| threshold | mean rate | series with at most 3 times the rate | anomalies found | alarm precision "
        "| false events per 1,000 steps |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['method']} | {row['mean rate']:.4f} | {row['within a factor 3']:.0%} "
        f"| {row['anomalies found']} of {row['anomalies']} | {row['alarm precision']:.3f} "
        f"| {row['false events per 1,000 steps']:.2f} |"
        for row in rows
    ]
    methods = [row["method"] for row in rows]
    lines += [
        "",
        f"| mean rate by group | {' | '.join(f'`{name}`' for name in methods)} |",
        "|---|" + "--:|" * len(rows),
    ]
    for group in rows[0]["rates"]:
        lines.append(f"| {group} | {' | '.join(format(row['rates'][group], '.4f') for row in rows)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    record = json.loads((ROOT / "results/anomalies/thresholds.json").read_text(encoding="utf-8"))
    fill(ROOT / "docs/anomalies.md", "thresholds", section(record), "results/anomalies/thresholds.json")
