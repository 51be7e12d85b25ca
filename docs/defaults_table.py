"""Write the tables of docs/defaults.md from results/defaults.json. With --check, only compare them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from marked import fill

ROOT = Path(__file__).parent.parent

LIMITED = "Training was limited to three minutes. "

#: Why defaults lose, by set. Kept by hand: a losing row without a reason and a reason without a losing row are errors.
REASONS = {
    "arrowhead": "One test series of 175 fewer than the regression on convolutions, which is a part of the model. The "
    "network alone has little to learn from 36 examples.",
    "exchange_rate": "Exchange rates are close to random walks. Tuned settings lose, too.",
    "gunpoint": "Three test series of 150 fewer than the regression on convolutions, which is a part of the model. "
    "Five validation series say little about its weight. Tuned settings lose to it, too.",
    "imdb": "Half of the probabilities are those of a network trained on 4,500 reviews. Tuned settings lose, too "
    "(0.856).",
    "m3_quarterly": "No reason is known. AutoETS is behind.",
    "aeslc": LIMITED + "Tuned settings train for 45 minutes.",
    "moving_digits": LIMITED + "Tuned settings train for 39 minutes.",
    "moving_digits_sentences": LIMITED + "Tuned settings train for 56 minutes.",
    "multi30k_de_en": LIMITED + "Tuned settings train for 78 minutes.",
    "multi30k_en_de": LIMITED + "Tuned settings train for 85 minutes.",
    "ptb_regularised": LIMITED + "Tuned settings train for 160 minutes.",
    "osuleaf": "Seven test series of 242 fewer than the regression on convolutions, which is a part of the model. "
    "20 validation series say little about its weight.",
    "plaid": "A tie with the regression on convolutions, which is a part of the model.",
    "skab": "Sub-PCA is a part of the model. The network alone has 0.840, and lowers the mean of both.",
    "tourism_monthly": "Percentage errors are larger than those of AutoETS (23.3 and 21.1 %), since medians minimize "
    "absolute errors. MASE is lower than that of every baseline.",
    "tourism_quarterly": "Percentage errors are larger than those of AutoETS, since medians minimize "
    "absolute errors. MASE is lower than that of every baseline.",
    "tourism_yearly": "The network forecasts growth that did not come: percentage errors are 27.7 %, those of the last "
    "value 23.6 %. MASE, too, is lower only than that of the last value.",
    "trec": "Five questions of 500 fewer, within the standard error. Tuned settings lose, too (0.900).",
}


def share(rows: list[dict[str, Any]]) -> str:
    """On how many rows defaults beat the best baseline; rows without a baseline do not count."""
    judged = [row["won"] for row in rows if row["won"] is not None]
    return f"Defaults beat every baseline on **{sum(judged)} of {len(judged)}** rows ({sum(judged) / len(judged):.0%})."


def table(rows: list[dict[str, Any]]) -> str:
    """One row per set under the name of its job, in bold where defaults beat the best baseline."""
    lines = ["| set | metric | defaults | tuned | best baseline | seconds |", "|---|---|--:|--:|---|--:|"]
    job = ""
    for row in rows:
        if row["job"] != job:
            job = row["job"]
            lines.append(f"| **{job.replace('_', ' ')}** | | | | | |")
        score = number(row["defaults"])
        cells = [
            row["set"],  # no code: it would be broken within the name
            f"{row['metric']}&nbsp;{'↑' if row['better'] == 'high' else '↓'}",
            f"**{score}**" if row["won"] else score,
            number(row["tuned"]),
            "–" if row["baseline"] is None else f"{row['baseline']} {number(row['best_baseline'])}",
            f"{row['seconds']:,.0f}" + (" †" if row["budget"] else ""),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if any(row["budget"] for row in rows):
        lines += ["", "† Training time was limited (`budget`)."]
    return "\n".join(lines)


def losses(rows: list[dict[str, Any]], reasons: dict[str, str]) -> str:
    """The rows on which a baseline is as good or better, with the reason.

    Raises:
        ValueError: A losing row has no reason, or a reason has no losing row.
    """
    lost = [row for row in rows if row["won"] is False]
    names = {row["set"] for row in lost}
    if without := sorted(names - reasons.keys()):
        raise ValueError(f"defaults lose without a reason in docs/defaults_table.py: {', '.join(without)}")
    if unused := sorted(reasons.keys() - names):
        raise ValueError(f"docs/defaults_table.py has reasons of sets that are not lost: {', '.join(unused)}")
    return "\n".join(
        f"- `{row['set']}`: {number(row['defaults'])}, {row['baseline']} {number(row['best_baseline'])}. "
        f"{reasons[row['set']]}"
        for row in lost
    )


def number(value: float | None) -> str:
    """Three decimals, fewer of large numbers."""
    return "–" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def measured(rows: list[dict[str, Any]]) -> str:
    """When and where the rows of this record were measured."""
    own = [row for row in rows if "machine" in row]
    dates = sorted(row["date"] for row in own)
    period = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    processors = ", ".join(sorted({row["machine"]["processor"] for row in own}))
    versions = ", ".join(
        f"{name} {' and '.join(sorted({row['versions'][name] for row in own}))}"
        for name in ("lstmkit", "torch", "python")
    )
    return f"Measured {period}, one thread, {processors}, {versions}."


def section(record: dict[str, Any], reasons: dict[str, str]) -> str:
    """Share, table, the losing rows, and the recipes that have not been run."""
    rows = record["rows"]
    parts = [share(rows), table(rows), measured(rows)]
    if record["not_run"]:
        names = ", ".join(f"`{name}`" for name in record["not_run"])
        parts.append(f"Not run yet: {names}.")
    return "\n\n".join([*parts, "## Where defaults lose", losses(rows, reasons) or "Nowhere."])


if __name__ == "__main__":
    content = json.loads((ROOT / "results" / "defaults.json").read_text(encoding="utf-8"))
    try:
        text = section(content, REASONS)
    except ValueError as err:
        sys.exit(str(err))
    fill(ROOT / "docs" / "defaults.md", "defaults", text, "results/defaults.json")
