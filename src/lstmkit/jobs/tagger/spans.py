"""Names and other stretches of tokens, written as tags that begin and go on: B-PER, I-PER, O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """First token, the token after the last, and kind of every span (IOB2).

    An ``I-`` that goes on nothing of its kind begins a span, as CoNLL's own script has it (Tjong Kim Sang 2002).

    >>> sorted(spans(["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-PER"]))
    [(0, 2, 'PER'), (3, 4, 'LOC'), (4, 5, 'LOC'), (5, 6, 'PER')]
    """
    found = set()
    start, kind = 0, ""
    for t, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and not (prefix == "I" and name == kind):
            found.add((start, t, kind))
            kind = ""
        if not kind and prefix in ("B", "I") and name:
            start, kind = t, name
    return found


def span_f1(told: Iterable[Sequence[str]], found: Iterable[Sequence[str]]) -> float:
    """F1 over spans: one counts if its beginning, its end and its kind are right."""
    right = wanted = given = 0
    for truth, answer in zip(told, found, strict=True):
        a, b = spans(truth), spans(answer)
        right, wanted, given = right + len(a & b), wanted + len(a), given + len(b)
    return 2 * right / (wanted + given) if wanted + given else 0.0
