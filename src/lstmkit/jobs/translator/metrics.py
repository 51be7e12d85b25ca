"""How good translations are: BLEU and chrF of sacreBLEU, of all sentences and by their length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

_LENGTHS = (8, 12, 16, 24)  # words of a source, at most, in a row of the table by length

#: Scores by name. Published figures of tokenised, lower-cased text are near the last.
_METRICS = {"BLEU": BLEU, "chrF": CHRF, "BLEU, lower-cased": lambda: BLEU(lowercase=True)}
BEST = dict.fromkeys(_METRICS, "high")


def scores(translations: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Corpus scores, 0 to 100.

    >>> scores(["ein Hund läuft im Park"], ["Ein Hund läuft im Park"])["BLEU, lower-cased"]
    100.0
    """
    found = {name: make().corpus_score(translations, [references]).score for name, make in _METRICS.items()}
    return {name: round(score, 2) for name, score in found.items()}


def signatures() -> list[str]:
    """What each score is exactly, as sacreBLEU writes it."""
    found = []
    for name, make in _METRICS.items():
        metric = make()
        metric.corpus_score(["a"], [["a"]])
        found.append(f"{name}: {metric.get_signature().format()}")
    return found


def by_length(sources: Sequence[str], references: Sequence[str], told: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """BLEU of each model, sentences of like length together."""
    words = [len(source.split()) for source in sources]
    rows = []
    for low, high in zip((0, *_LENGTHS), (*_LENGTHS, None), strict=True):
        here = [i for i, n in enumerate(words) if n > low and (high is None or n <= high)]
        if not here:
            continue
        name = f"over {low}" if high is None else f"{low + 1} to {high}"
        row: dict[str, object] = {"words of the source": name, "sentences": len(here)}
        for model, lines in told.items():
            row[model] = scores([lines[i] for i in here], [references[i] for i in here])["BLEU"]
        rows.append(row)
    return pd.DataFrame(rows)
