"""How good summaries are: ROUGE (Lin 2004) of Google's rouge-score."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from rouge_score.rouge_scorer import RougeScorer

_KINDS = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}
BEST = dict.fromkeys(_KINDS, "high")


def scores(summaries: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Mean F1 over all summaries, 0 to 100.

    >>> scores(["the red dogs"], ["a red dog"])
    {'ROUGE-1': 66.67, 'ROUGE-2': 50.0, 'ROUGE-L': 66.67}
    """
    scorer = RougeScorer(list(_KINDS.values()), use_stemmer=True)
    found = [scorer.score(wanted, told) for told, wanted in zip(summaries, references, strict=True)]
    return {
        name: round(100 * float(np.mean([each[kind].fmeasure for each in found])), 2) for name, kind in _KINDS.items()
    }


def signature() -> str:
    """What the scores are exactly."""
    return (
        f"ROUGE: mean F1, one reference each; rouge-score {version('rouge-score')}, lower-cased letters and digits, "
        "Porter's stemmer."
    )
