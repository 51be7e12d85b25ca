"""Baselines of question answering: the most frequent answer, bag of words, and the most similar sentence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from lstmkit.data.text.questions import Question
from lstmkit.jobs.common.classifier_baselines import tfidf_logistic_regression
from lstmkit.jobs.common.text_retrieval import nearest_sentence
from lstmkit.progress import Progress


def most_frequent_answer(train: Sequence[Question]) -> str:
    """The most frequent training answer."""
    return Counter(question.answer for question in train).most_common(1)[0][0]


def baseline_answers(
    answer_type: str, train: Sequence[Question], questions: Sequence[Question], most_frequent: str, progress: Progress
) -> dict[str, list[str]]:
    """The answers of each baseline, by its name.

    Args:
        answer_type: ``"classification"`` or ``"span"``.
        train: The training split; empty for a loaded model, which leaves out the baselines that learn.
        questions: What to answer.
        most_frequent: The most frequent training answer.
        progress: Where to report progress.
    """
    if answer_type == "span":
        return {"most similar sentence": [nearest_sentence(q.question, q.sentences) for q in questions]}
    constant = {"most frequent answer": [most_frequent] * len(questions)}
    if not train:
        return constant
    by_question = _MostFrequentByQuestion(train, most_frequent)
    names = sorted({question.answer for question in train})
    class_ids = {name: i for i, name in enumerate(names)}
    targets = np.array([class_ids[question.answer] for question in train])
    answers = {"most frequent answer per question": [by_question(question.question) for question in questions]}
    if len(names) > 1:
        probabilities = tfidf_logistic_regression(
            ([_question_and_story(question) for question in train], targets),
            None,
            [_question_and_story(question) for question in questions],
            classes=len(names),
            balanced=False,
            progress=progress,
        )
        answers["TF-IDF, logistic regression"] = [names[i] for i in probabilities.argmax(1)]
    return answers | constant


def _question_and_story(question: Question) -> str:
    return f"{question.question} {question.story}"


class _MostFrequentByQuestion:
    """The most frequent training answer to the same question; for a new question, to its first word.

    Args:
        train: The training split.
        most_frequent: The answer if training has neither.
    """

    def __init__(self, train: Sequence[Question], most_frequent: str) -> None:
        self._counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        self._most_frequent = most_frequent
        for question in train:
            for key in self._keys(question.question):
                self._counts[key][question.answer] += 1

    @staticmethod
    def _keys(question: str) -> list[tuple[str, ...]]:
        words = tuple(question.lower().split())
        return [words, words[:1]]

    def __call__(self, question: str) -> str:
        matches = (self._counts[key] for key in self._keys(question) if key in self._counts)
        return next((counts.most_common(1)[0][0] for counts in matches), self._most_frequent)
