"""How good transcripts are: character and word error rates by jiwer, and what was taken for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version

import jiwer

BEST = {"CER": "low", "WER": "low", "wrong": "low"}
EPSILON = "∅"  #: Stands for a character that is not there.


def scores(found: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """Per cent: characters and words replaced, left out or put in, of all there are; and texts not quite right.

    Where there is no character at all to find, each that was written counts as a whole error.

    >>> scores(["a dog ran", "b"], ["a dog ran", "a"])
    {'CER': 10.0, 'WER': 25.0, 'wrong': 50.0}
    """
    wrong = sum(a != b for a, b in zip(found, wanted, strict=True))
    characters = jiwer.process_characters(list(wanted), list(found))
    words = jiwer.process_words(list(wanted), list(found))
    return {
        "CER": 100 * characters.cer,
        "WER": 100 * words.wer,
        "wrong": 100 * wrong / len(wanted),
    }


def edit_distance(found: str, wanted: str) -> int:
    """Characters to be replaced, put in or left out."""
    of = jiwer.process_characters([wanted], [found])
    return of.substitutions + of.insertions + of.deletions


def confusions(found: Sequence[str], wanted: Sequence[str]) -> Counter[tuple[str, str]]:
    """How often a character, or nothing, was taken for another, or for nothing.

    >>> confusions(["dags", "cats"], ["dogs", "cat"])
    Counter({('o', 'a'): 1, ('∅', 's'): 1})
    """
    counts: Counter[tuple[str, str]] = Counter()
    aligned = jiwer.process_characters(list(wanted), list(found))
    for reference, told, chunks in zip(aligned.references, aligned.hypotheses, aligned.alignments, strict=True):
        for chunk in chunks:
            of = reference[chunk.ref_start_idx : chunk.ref_end_idx]
            by = told[chunk.hyp_start_idx : chunk.hyp_end_idx]
            if chunk.type == "substitute":
                counts.update(zip(of, by, strict=True))
            elif chunk.type == "delete":
                counts.update((one, EPSILON) for one in of)
            elif chunk.type == "insert":
                counts.update((EPSILON, one) for one in by)
    return counts


def signature() -> str:
    """What the scores are exactly."""
    return (
        f"CER, WER: edits of characters and words over those that should stand there, in per cent; jiwer "
        f"{version('jiwer')}; case and punctuation count, Unicode's NFC, one space between words. "
        "Wrong: texts not quite right."
    )
