"""How right answers are, and what they are held against."""

from __future__ import annotations

import re
import string
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lstmkit.data.text.question_answering import Question
from lstmkit.jobs.common.classifier_baselines import tfidf_logistic_regression
from lstmkit.jobs.common.text_retrieval import nearest_sentence
from lstmkit.progress import Progress

#: By the way to answer, which way its scores are better.
BEST = {"choice": {"accuracy": "high"}, "span": {"exact match": "high", "F1": "high"}}

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal(answer: str) -> list[str]:
    """The words that count, as SQuAD counts them (Rajpurkar et al. 2016): no case, no punctuation, no articles.

    >>> normal("The Normans.")
    ['normans']
    """
    return _ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split()


def f1(said: str, right: str) -> float:
    """Of the words in common: the harmonic mean of their share in what was said and in what is right.

    >>> f1("the old garden", "garden")
    0.6666666666666666
    """
    ours, theirs = normal(said), normal(right)
    common = sum((Counter(ours) & Counter(theirs)).values())
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * common / (len(ours) + len(theirs))


def is_exact_match(said: str, one: Question) -> bool:
    """Whether it is one of the right answers, by the words that count."""
    return any(normal(said) == normal(right) for right in one.answers)


def scores(way: str, said: Sequence[str], asked: Sequence[Question]) -> dict[str, float]:
    """A row of the table, 0 to 1; against the best of several right answers."""
    right = float(np.mean([is_exact_match(s, one) for s, one in zip(said, asked, strict=True)]))
    if way == "choice":
        return {"accuracy": right}
    shared = [max(f1(s, answer) for answer in one.answers) for s, one in zip(said, asked, strict=True)]
    return {"exact match": right, "F1": float(np.mean(shared))}


def by_kind(details: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Of each kind of question and each model the share that is right: a row a kind, in the order of the data."""
    right = {m: [normal(s) == normal(r) for s, r in zip(details[m], details["right"], strict=True)] for m in models}
    found = pd.DataFrame({"kind": details["kind"], **right}).groupby("kind", sort=False).mean()
    return found.reset_index()


# ---- baselines ---------------------------------------------------------------------------------------------------


def most_frequent(train: Sequence[Question]) -> str:
    """The answer that is given most often."""
    return Counter(one.answer for one in train).most_common(1)[0][0]


def baselines(
    way: str, train: Sequence[Question], asked: Sequence[Question], frequent: str, progress: Progress
) -> dict[str, list[str]]:
    """Answers by name; what learns needs the training part."""
    if way == "span":
        return {"the sentence most like the question": [nearest_sentence(o.question, o.sentences) for o in asked]}
    always = {"the most frequent answer": [frequent] * len(asked)}
    if not train:
        return always
    usual = _MostFrequentByQuestion(train, frequent)
    names = sorted({one.answer for one in train})
    number = {name: i for i, name in enumerate(names)}
    targets = np.array([number[one.answer] for one in train])
    told = {"the usual answer to the question": [usual(one.question) for one in asked]}
    if len(names) > 1:
        stated = tfidf_logistic_regression(
            ([_whole(one) for one in train], targets),
            None,
            [_whole(one) for one in asked],
            classes=len(names),
            balanced=False,
            progress=progress,
        )
        told["TF-IDF, logistic regression"] = [names[i] for i in stated.argmax(1)]
    return told | always


def _whole(one: Question) -> str:
    return f"{one.question} {one.story}"


class _MostFrequentByQuestion:
    """The answer that training has most often for the same question; for a new one, for its first word."""

    def __init__(self, train: Sequence[Question], frequent: str) -> None:
        self._counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        self._frequent = frequent
        for one in train:
            for key in self._keys(one.question):
                self._counts[key][one.answer] += 1

    @staticmethod
    def _keys(question: str) -> list[tuple[str, ...]]:
        words = tuple(question.lower().split())
        return [words, words[:1]]

    def __call__(self, question: str) -> str:
        known = (self._counts[key] for key in self._keys(question) if key in self._counts)
        return next((counts.most_common(1)[0][0] for counts in known), self._frequent)
