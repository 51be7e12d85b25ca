"""Character and word error rates by jiwer, and confusions of characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version

import jiwer
import numpy as np

from lstmkit.evaluation.confidence import ScoredExamples

METRIC_DIRECTIONS = {"CER": "low", "WER": "low", "sentence error rate": "low"}
EPSILON = "∅"  #: Marks a character that is missing.


def scores(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Character, word and sentence error rates in percent.

    If the references have no character at all, each character of a hypothesis counts as one error.

    >>> scores(["a dog ran", "b"], ["a dog ran", "a"])
    {'CER': 10.0, 'WER': 25.0, 'sentence error rate': 50.0}
    """
    wrong = sum(a != b for a, b in zip(hypotheses, references, strict=True))
    characters = jiwer.process_characters(list(references), list(hypotheses))
    words = jiwer.process_words(list(references), list(hypotheses))
    return {
        "CER": 100 * characters.cer,
        "WER": 100 * words.wer,
        "sentence error rate": 100 * wrong / len(references),
    }


def scored_examples(hypotheses: Sequence[str], references: Sequence[str]) -> ScoredExamples:
    """The texts with the character error rate of any of them."""
    edits = [edit_distance(*pair) for pair in zip(hypotheses, references, strict=True)]
    return ScoredExamples.ratio("texts", 100 * np.array(edits), np.array([len(text) for text in references]))


def edit_distance(hypothesis: str, reference: str) -> int:
    """Substituted, inserted and deleted characters."""
    edits = jiwer.process_characters([reference], [hypothesis])
    return edits.substitutions + edits.insertions + edits.deletions


def confusions(hypotheses: Sequence[str], references: Sequence[str]) -> Counter[tuple[str, str]]:
    """How often a character of the reference was predicted as another; :data:`EPSILON` for a missing one.

    >>> confusions(["dags", "cats"], ["dogs", "cat"])
    Counter({('o', 'a'): 1, ('∅', 's'): 1})
    """
    counts: Counter[tuple[str, str]] = Counter()
    aligned = jiwer.process_characters(list(references), list(hypotheses))
    for reference, hypothesis, chunks in zip(aligned.references, aligned.hypotheses, aligned.alignments, strict=True):
        for chunk in chunks:
            of = reference[chunk.ref_start_idx : chunk.ref_end_idx]
            by = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
            if chunk.type == "substitute":
                counts.update(zip(of, by, strict=True))
            elif chunk.type == "delete":
                counts.update((character, EPSILON) for character in of)
            elif chunk.type == "insert":
                counts.update((EPSILON, character) for character in by)
    return counts


def signature() -> str:
    """Exact definition of the scores."""
    return (
        "CER, WER: character and word error rate in percent, by jiwer "
        f"{version('jiwer')}; case and punctuation count, Unicode NFC, one space between words. "
        "Sentence error rate: texts with any error."
    )
