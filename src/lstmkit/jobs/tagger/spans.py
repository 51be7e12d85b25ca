"""Spans of tokens in IOB2 tags (``B-PER``, ``I-PER``, ``O``) and their F1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def iob_spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """First token, token after the last, and type of every span (IOB2).

    An ``I-`` tag that continues no span of its type starts one, as in the CoNLL script (Tjong Kim Sang 2002).

    >>> sorted(iob_spans(["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-PER"]))
    [(0, 2, 'PER'), (3, 4, 'LOC'), (4, 5, 'LOC'), (5, 6, 'PER')]
    """
    spans = set()
    start, kind = 0, ""
    for t, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and not (prefix == "I" and name == kind):
            spans.add((start, t, kind))
            kind = ""
        if not kind and prefix in ("B", "I") and name:
            start, kind = t, name
    return spans


def span_f1(true_tags: Iterable[Sequence[str]], predicted_tags: Iterable[Sequence[str]]) -> float:
    """Micro F1 over spans; a span is correct if its start, its end and its type are."""
    correct = num_true = num_predicted = 0
    for true, predicted in zip(true_tags, predicted_tags, strict=True):
        a, b = iob_spans(true), iob_spans(predicted)
        correct, num_true, num_predicted = correct + len(a & b), num_true + len(a), num_predicted + len(b)
    return 2 * correct / (num_true + num_predicted) if num_true + num_predicted else 0.0
