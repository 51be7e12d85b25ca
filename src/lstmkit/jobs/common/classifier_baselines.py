"""What classes are held against: shares of the training part, words counted (scikit-learn does the work), neighbours.

Targets are classes ``(N,)``, or, where several labels may hold, ``(N, C)``; answers are probabilities ``(N, C)``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier

from lstmkit.progress import Progress

_STRENGTHS = (1.0, 10.0, 100.0)  # C of the logistic regression, chosen on the validation part
POINTS = 100  # to which sequences are resampled for neighbours
_MAX_TRAIN_SEQUENCES = 10_000

Choice = Callable[[np.ndarray], float]  #: Probabilities of the validation part to their loss.


def by_share(counts: np.ndarray, total: int, n: int) -> np.ndarray:
    """Each class as probable as it is frequent, ``(n, C)``: its likeliest is the majority class."""
    return np.tile(counts / max(1, total), (n, 1))


def tfidf_logistic_regression(
    train: tuple[Sequence[str], np.ndarray],
    valid: tuple[Sequence[str], Choice] | None,
    texts: Sequence[str],
    *,
    classes: int,
    balanced: bool,
    progress: Progress,
) -> np.ndarray:
    """A logistic regression on words and pairs of words, weighted by TF-IDF: the bag of words.

    Args:
        train: Texts and targets.
        valid: Texts, and the loss of their probabilities, to choose the regression's strength by; ``None`` for 1.
        texts: To answer.
        classes: ``C``; one that the training part lacks gets 0.
        balanced: Whether rare classes weigh more.
        progress: Whom to tell.
    """
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]")
    seen, targets = words.fit_transform(train[0]), train[1]
    asked = words.transform(texts)
    best, answers = np.inf, np.empty((0, 0))
    strengths = _STRENGTHS if valid is not None else _STRENGTHS[:1]
    with progress.task("TF-IDF and logistic regression", len(strengths)) as task:
        for done, strength in enumerate(strengths, 1):
            model = _logistic(seen, targets, strength, balanced)
            loss = 0.0 if valid is None else valid[1](_answers(model, words.transform(valid[0]), targets, classes))
            if loss < best:
                best, answers = loss, _answers(model, asked, targets, classes)
            task.update(done)
    return answers


def _logistic(seen: Any, targets: np.ndarray, strength: float, balanced: bool) -> Any:
    plain = LogisticRegression(C=strength, max_iter=1000, class_weight="balanced" if balanced else None)
    model = plain if targets.ndim == 1 else OneVsRestClassifier(plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "Label .* is present in all training examples")
        warnings.filterwarnings("ignore", "Label not .* is present in all training examples")
        return model.fit(seen, targets)


def _answers(model: Any, asked: Any, targets: np.ndarray, classes: int) -> np.ndarray:
    told = model.predict_proba(asked)
    if targets.ndim == 2:
        return told
    answers = np.zeros((told.shape[0], classes))
    answers[:, model.classes_] = told
    return answers


def nearest_neighbor(
    train: tuple[Sequence[np.ndarray], np.ndarray],
    sequences: Sequence[np.ndarray],
    *,
    seed: int,
    progress: Progress,
    points: int = POINTS,
) -> np.ndarray:
    """The targets of the nearest training sequence, in Euclidean distance, all resampled to as many points.

    Args:
        train: Sequences ``(T, F)`` on one scale, and targets; of more than 10,000 some at random.
        sequences: To answer.
        seed: Of that choice.
        progress: Whom to tell.
        points: How many.

    Returns:
        ``(N,)`` or ``(N, C)``, as targets are.
    """
    rows = np.random.default_rng(seed).permutation(len(train[0]))[:_MAX_TRAIN_SEQUENCES]
    with progress.task("nearest neighbours", 1) as task:
        known = np.stack([resampled(train[0][row], points) for row in rows])
        model = KNeighborsClassifier(1).fit(known, np.arange(len(rows)))
        nearest = model.predict(np.stack([resampled(one, points) for one in sequences]))
        task.update(1)
    return train[1][rows[nearest]]


def resampled(steps: np.ndarray, points: int = POINTS) -> np.ndarray:
    """``(T, F)`` at as many points evenly over its time, on straight lines between steps, as one vector.

    >>> resampled(np.array([[0.0], [99.0]]))[[0, 1, 99]].tolist()
    [0.0, 1.0, 99.0]
    """
    at = np.linspace(0, len(steps) - 1, points)
    return np.concatenate([np.interp(at, np.arange(len(steps)), column) for column in steps.T])
