"""Baselines of classifiers: class frequencies, TF-IDF with logistic regression, and the nearest neighbor.

Targets are class indices ``(N,)``, or 0 or 1 for each label ``(N, C)``. Results are probabilities ``(N, C)``.
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

#: C of the logistic regression, of which one is chosen on the validation split.
REGULARIZATION = (1.0, 10.0, 100.0)
POINTS = 100  #: Points to which sequences are resampled for the nearest neighbor.
_MAX_TRAIN_SEQUENCES = 10_000

ValidationLoss = Callable[[np.ndarray], float]  #: From the probabilities of the validation split to their loss.


def class_frequencies(counts: np.ndarray, total: int, n: int) -> np.ndarray:
    """``(n, C)``: the training frequency of each class for every example. Its argmax is the majority class.

    Args:
        counts: ``(C,)`` training examples per class.
        total: Training examples.
        n: Examples to predict.
    """
    return np.tile(counts / max(1, total), (n, 1))


def tfidf_logistic_regression(
    train: tuple[Sequence[str], np.ndarray],
    valid: tuple[Sequence[str], ValidationLoss] | None,
    texts: Sequence[str],
    *,
    classes: int,
    balanced: bool,
    progress: Progress,
) -> np.ndarray:
    """Logistic regression on TF-IDF of words and word pairs (scikit-learn).

    Args:
        train: Texts and targets.
        valid: Texts, and the loss of their probabilities, to choose the regularization; ``None`` for ``C=1``.
        texts: Texts to predict.
        classes: Number of classes; one that is missing from the training split gets 0.
        balanced: Whether classes are weighted inversely to their frequency.
        progress: Where to report progress.
    """
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]")
    features, targets = vectorizer.fit_transform(train[0]), train[1]
    test_features = vectorizer.transform(texts)
    best, probabilities = np.inf, np.empty((0, 0))
    candidates = REGULARIZATION if valid is not None else REGULARIZATION[:1]
    with progress.task("TF-IDF and logistic regression", len(candidates)) as task:
        for done, c in enumerate(candidates, 1):
            model = logistic_regression(features, targets, c, balanced)
            loss = 0.0
            if valid is not None:
                loss = valid[1](_probabilities(model, vectorizer.transform(valid[0]), targets, classes))
            if loss < best:
                best, probabilities = loss, _probabilities(model, test_features, targets, classes)
            task.update(done)
    return probabilities


def logistic_regression(features: Any, targets: np.ndarray, c: float, balanced: bool) -> Any:
    """Scikit-learn's logistic regression, fitted; of targets ``(N, C)`` one for each label.

    Args:
        features: ``(N, F)``, sparse or not.
        targets: Class indices ``(N,)``, or 0 or 1 for each label ``(N, C)``.
        c: Inverse strength of the regularization.
        balanced: Whether classes are weighted inversely to their frequency.
    """
    binary = LogisticRegression(C=c, max_iter=1000, class_weight="balanced" if balanced else None)
    model = binary if targets.ndim == 1 else OneVsRestClassifier(binary)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "Label .* is present in all training examples")
        warnings.filterwarnings("ignore", "Label not .* is present in all training examples")
        return model.fit(features, targets)


def _probabilities(model: Any, features: Any, targets: np.ndarray, classes: int) -> np.ndarray:
    known = model.predict_proba(features)
    if targets.ndim == 2:
        return known
    probabilities = np.zeros((known.shape[0], classes))
    probabilities[:, model.classes_] = known
    return probabilities


def nearest_neighbor(
    train: tuple[Sequence[np.ndarray], np.ndarray],
    sequences: Sequence[np.ndarray],
    *,
    seed: int,
    progress: Progress,
    points: int = POINTS,
) -> np.ndarray:
    """The targets of the nearest training sequence, by Euclidean distance after resampling to equal length.

    Args:
        train: Standardized sequences ``(T, F)``, and targets; of more than 10,000 a random sample is used.
        sequences: Sequences to predict.
        seed: Random seed of that sample.
        progress: Where to report progress.
        points: Length after resampling.

    Returns:
        ``(N,)`` or ``(N, C)``, like the targets.
    """
    rows = np.random.default_rng(seed).permutation(len(train[0]))[:_MAX_TRAIN_SEQUENCES]
    with progress.task("nearest neighbor", 1) as task:
        known = np.stack([resampled(train[0][row], points) for row in rows])
        model = KNeighborsClassifier(1).fit(known, np.arange(len(rows)))
        nearest = model.predict(np.stack([resampled(sequence, points) for sequence in sequences]))
        task.update(1)
    return train[1][rows[nearest]]


def resampled(sequence: np.ndarray, points: int = POINTS) -> np.ndarray:
    """A sequence ``(T, F)`` resampled linearly to ``points`` steps, as one vector.

    >>> resampled(np.array([[0.0], [99.0]]))[[0, 1, 99]].tolist()
    [0.0, 1.0, 99.0]
    """
    positions = np.linspace(0, len(sequence) - 1, points)
    return np.concatenate([np.interp(positions, np.arange(len(sequence)), column) for column in sequence.T])
