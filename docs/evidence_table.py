"""Write the tables of docs/evidence.md from results/*.json. With --check, only report whether they are up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from marked import fill

from lstmkit.recipes import higher_is_better, recipe

ROOT = Path(__file__).parent.parent

_SPACE = "\u00a0"  # no line break before a number


class Application(NamedTuple):
    """What LSTMs are used for.

    Attributes:
        name: The heading.
        page: The page of the job that does it, in ``docs/``; a planned one is named once it is there.
        recipes: The recipes that belong here; those without a result are left out.
        job: Recipes of this job that no application names belong here, too.
    """

    name: str
    page: str
    recipes: tuple[str, ...]
    job: str = ""


APPLICATIONS = (
    Application("Language models", "language-models.md", (), "language_model"),
    Application("Translation", "translation.md", (), "translator"),
    Application("Summaries", "summaries.md", (), "summarizer"),
    Application("Question answering", "answers.md", (), "question_answerer"),
    Application("Text classification", "classification.md", ("sst2", "mr", "imdb", "trec")),
    Application("Tagging", "tagging.md", (), "tagger"),
    Application("Speech recognition", "transcription.md", ("an4", "fsdd_strings")),
    Application("Spoken commands", "commands.md", ("fsdd", "fsdd_speakers", "arabic_speech_commands")),
    Application("Speech synthesis", "speech-synthesis.md", (), "speech_synthesizer"),
    Application("Handwriting recognition: pen strokes", "transcription.md", ("unipen_lines", "cursive_words")),
    Application("Handwriting and print recognition: images", "transcription.md", (), "transcriber"),
    Application("Handwriting synthesis", "handwriting-synthesis.md", (), "handwriting_synthesizer"),
    Application("Forecasts: weather", "forecasting.md", ("nyc_weather",)),
    Application("Forecasts: energy", "forecasting.md", ("vic_elec", "ett")),
    Application(
        "Forecasts: stocks and currencies", "forecasting.md", ("gafa_stock", "gafa_stock_returns", "exchange_rate")
    ),
    Application("Forecasts: demand and other series", "forecasting.md", (), "forecaster"),
    Application("Anomaly detection", "anomalies.md", (), "anomaly_detector"),
    Application("Fraud detection", "events.md", ("fraud_cards_simulated", "fraud_cards_simulated_week", "fraud_sales")),
    Application("Intrusion detection", "events.md", ("nsl_kdd", "kdd99_ordered", "ctu_zeek_flows"), "event_classifier"),
    Application("Regression on sequences", "regression.md", (), "regressor"),
    Application("Recommendation: shopping and games", "recommendation.md", ("amazon_beauty", "amazon_games")),
    Application("Recommendation: films and sessions", "recommendation.md", (), "recommender"),
    Application("Objects in video", "object-detection.md", (), "object_detector"),
    Application("Actions in video", "video.md", ("moving_digits", "hand_gestures")),
    Application("Image and video captions", "captions.md", (), "captioner"),
    Application("Image generation", "painting.md", (), "image_generator"),
    Application("Music", "music.md", (), "music_composer"),
    Application("Protein structure", "protein-structure.md", (), "secondary_structure_predictor"),
    Application("Classification of series and images", "classification.md", (), "classifier"),
)

#: Applications without a recipe, and why.
UNMEASURED = {
    "Tagging": "No recipe and no figure: the usual corpora, CoNLL-2003 and OntoNotes, need a license of their owners. "
    "Protein structure, below, is tagging of residues.",
}


def tables() -> str:
    """One table per application with results or a reason for their absence."""
    results = _results()
    named = {name for application in APPLICATIONS for name in application.recipes}
    by_job: dict[str, list[str]] = {}
    for name in results:
        if name not in named:
            by_job.setdefault(recipe(name).job, []).append(name)
    parts = []
    for application in APPLICATIONS:
        names = [name for name in application.recipes if name in results] + by_job.pop(application.job, [])
        if not names and application.name not in UNMEASURED:
            continue
        page = application.page
        link = f"\n\nThe job: [{_title(page)}]({page})." if (ROOT / "docs" / page).exists() else ""
        body = _table([results[name] for name in names]) if names else UNMEASURED[application.name]
        parts.append(f"## {application.name}\n\n{body}{link}")
    assert not by_job, f"no application has the recipes of {sorted(by_job)}"
    return "\n\n".join(parts)


def _results() -> dict[str, dict[str, Any]]:
    """The results of recipes by name."""
    results = {}
    for path in sorted((ROOT / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if "recipe" in result:  # the others are records of other pages
            results[result["recipe"]] = result
    return results


def _table(results: list[dict[str, Any]]) -> str:
    lines = ["| data | score | lstmkit | best baseline | best published figure |", "|---|---|---|---|---|"]
    return "\n".join(lines + [_row(result) for result in results])


def _row(result: dict[str, Any]) -> str:
    """The first score of a recipe; bold is the better of model and baseline, both if they are equal to three digits."""
    model, *others = result["scores"]
    score = next(name for name in model if name != "model")
    sign = 1 if higher_is_better(score) else -1
    # Rows of the network itself, such as its greedy decoding or a second training, are not baselines.
    network = model["model"].split()[0].rstrip(",")
    rows = [row for row in others if row[score] is not None and row["model"].split()[0].rstrip(",") != network]
    baseline = max(rows, key=lambda row: sign * row[score], default=None)
    ours = f"{model['model']}{_SPACE}{_number(model[score])}"
    theirs = f"{baseline['model']}{_SPACE}{_number(baseline[score])}" if baseline else "–"
    lead = sign * (float(_number(model[score])) - float(_number(baseline[score]))) if baseline else 1.0
    ours, theirs = f"**{ours}**" if lead >= 0 else ours, f"**{theirs}**" if lead <= 0 else theirs
    figures = [figure for figure in result["published"] if figure["metric"] == score]
    best = max(figures, key=lambda figure: sign * figure["value"], default=None)
    published = f"{best['name']}{_SPACE}{_number(best['value'])} ({best['source']})" if best else "–"
    name, arrow = result["recipe"], "↑" if sign > 0 else "↓"
    data = f"{result['title']} ([{name}](../results/{name}.json))"
    return f"| {data} | {score}{_SPACE}{arrow} | {ours} | {theirs} | {published} |"


def _title(page: str) -> str:
    """The heading of a page, up to a colon."""
    heading, _, _ = (ROOT / "docs" / page).read_text(encoding="utf-8").removeprefix("# ").partition("\n")
    return heading.partition(":")[0]


def _number(value: float) -> str:
    """Three significant digits; below a thousandth 0.

    >>> [_number(value) for value in (100.0, 40.6, 0.98765, 0.0552, 8e-8)]
    ['100', '40.6', '0.988', '0.0552', '0.00']
    """
    return f"{value if abs(value) >= 1e-3 else 0.0:#.3g}".rstrip(".")


if __name__ == "__main__":
    fill(ROOT / "docs/evidence.md", "evidence", tables(), "results/")
