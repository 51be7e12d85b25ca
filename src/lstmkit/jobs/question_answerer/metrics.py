"""Scores of answers: accuracy, or exact match and F1 as SQuAD defines them, of model and baselines."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lstmkit.data.text.question_answering import Questions
from lstmkit.data.text.questions import Question
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.evaluation.text_metrics import has_unspaced_script, words
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.question_answerer.baselines import baseline_answers
from lstmkit.jobs.question_answerer.predictor import QuestionAnswererPredictor
from lstmkit.progress import Progress

#: For each answer type, whether a higher or a lower score is better.
METRIC_DIRECTIONS = {"classification": {"accuracy": "high"}, "span": {"exact match": "high", "F1": "high"}}

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(answer: str) -> list[str]:
    """The words of an answer as SQuAD compares them (Rajpurkar et al. 2016): no case, punctuation or articles.

    Characters of scripts without spaces are words of their own.

    >>> normalize_answer("The Normans.")
    ['normans']
    """
    plain = _ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION))
    return words(plain) if has_unspaced_script(plain) else plain.split()


def token_f1(prediction: str, reference: str) -> float:
    """The harmonic mean of precision and recall over the words of two answers.

    >>> token_f1("the old garden", "garden")
    0.6666666666666666
    """
    predicted, expected = normalize_answer(prediction), normalize_answer(reference)
    num_common = sum((Counter(predicted) & Counter(expected)).values())
    if not predicted or not expected:
        return float(predicted == expected)
    return 2 * num_common / (len(predicted) + len(expected))


def is_exact_match(prediction: str, question: Question) -> bool:
    """Whether the prediction equals one of the correct answers after normalization."""
    return any(normalize_answer(prediction) == normalize_answer(answer) for answer in question.answers)


def scores(answer_type: str, predictions: Sequence[str], questions: Sequence[Question]) -> dict[str, float]:
    """Scores from 0 to 1; a question with several correct answers takes the best one."""
    pairs = list(zip(predictions, questions, strict=True))
    accuracy = float(np.mean([is_exact_match(prediction, question) for prediction, question in pairs]))
    if answer_type == "classification":
        return {"accuracy": accuracy}
    f1 = [max(token_f1(prediction, answer) for answer in question.answers) for prediction, question in pairs]
    return {"exact match": accuracy, "F1": float(np.mean(f1))}


def scores_by_question_type(details: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Accuracy of each model on each question type: one row per type, in the order of the data."""
    references = [normalize_answer(answer) for answer in details["correct answer"]]
    correct = {m: [normalize_answer(a) == r for a, r in zip(details[m], references, strict=True)] for m in models}
    types = details["question type"]
    return pd.DataFrame({"question type": types, **correct}).groupby("question type", sort=False).mean().reset_index()


def evaluate(
    predictor: QuestionAnswererPredictor, test: Questions, train: Sequence[Question], progress: Progress
) -> Evaluation:
    """Score the model and the baselines on held-out questions.

    Args:
        predictor: With a trained network.
        test: Questions with answers.
        train: The training split, for baselines that learn; empty for a loaded model.
        progress: Where to report progress.
    """
    answer_type = predictor.answer_type
    answers = {predictor.settings.cell.upper(): [answer.text for answer in predictor.answers(test.items, progress)]}
    answers |= baseline_answers(answer_type, train, test.items, predictor.most_frequent_answer, progress)
    rows = [{"model": name, **scores(answer_type, texts, test.items)} for name, texts in answers.items()]
    details = pd.DataFrame(
        {
            "question type": [question.kind for question in test],
            "question": [question.question for question in test],
            "correct answer": [question.answer for question in test],
            **answers,
        }
    )
    unit = "validation answers" if answer_type == "classification" else "starts and ends of validation answers"
    notes = [f"{len(test):,} questions. {predictor.scaling.describe(unit)}."]
    learned = ("most frequent answer per question", "TF-IDF, logistic regression")
    missing = learned if answer_type == "classification" and not train else ()
    correct = [is_exact_match(own, question) for own, question in zip(next(iter(answers.values())), test, strict=True)]
    examples = ScoredExamples.mean("questions", np.array(correct, dtype=float), is_fraction=True)
    directions = METRIC_DIRECTIONS[answer_type]
    return Evaluation(pd.DataFrame(rows), directions, details, tuple(notes), test, missing, examples)
