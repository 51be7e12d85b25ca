"""Baselines: the most frequent state, and a logistic regression on a window of residues.

Residue ids count from 1, ``(T,)`` per chain; states count from 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from lstmkit.progress import Progress

WINDOW_SIZE = 17  #: Residues; the predicted one is in the middle.
_MAX_RESIDUES = 100_000  # training residues of the regression


def most_frequent_states(
    chains: Sequence[np.ndarray], states: Sequence[np.ndarray], letters: int, kinds: int
) -> np.ndarray:
    """The most frequent state of each residue id ``(letters,)``; that of all residues for an id that does not occur.

    >>> most_frequent_states([np.array([1, 1, 2])], [np.array([0, 0, 1])], letters=4, kinds=2).tolist()
    [0, 0, 1, 0]
    """
    counts = np.zeros((letters, kinds))
    for residues, of_chain in zip(chains, states, strict=True):
        np.add.at(counts, (residues, of_chain), 1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), counts.sum(axis=0).argmax())


def windowed_logistic_regression(
    train: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    chains: Sequence[np.ndarray],
    *,
    letters: int,
    seed: int,
    progress: Progress,
) -> list[np.ndarray]:
    """A logistic regression on the one-hot residues of a window of :data:`WINDOW_SIZE`.

    Args:
        train: Chains and their states; at most 100,000 random residues are used.
        chains: The chains to predict.
        letters: Number of residue ids; 0 is padding.
        seed: Seed of the random choice.
        progress: Where to report progress.

    Returns:
        States ``(T,)`` of each chain.
    """
    windows, states = np.concatenate([_windows(ids) for ids in train[0]]), np.concatenate(train[1])
    rows = np.random.default_rng(seed).permutation(len(windows))[:_MAX_RESIDUES]
    with progress.task(f"logistic regression on {WINDOW_SIZE} residues", 1) as task, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(kinds := np.unique(states[rows])) == 1:  # a regression needs two classes
            return [np.full(len(ids), kinds[0]) for ids in chains]
        model = LogisticRegression(max_iter=100).fit(_one_hot(windows[rows], letters), states[rows])
        predictions = [model.predict(_one_hot(_windows(ids), letters)) for ids in chains]
        task.update(1)
    return predictions


def _windows(residues: np.ndarray) -> np.ndarray:
    """``(T, WINDOW)``."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(residues, WINDOW_SIZE // 2), WINDOW_SIZE)


def _one_hot(windows: np.ndarray, letters: int) -> csr_matrix:
    columns = (windows + letters * np.arange(WINDOW_SIZE)).ravel()
    starts = np.arange(0, columns.size + 1, WINDOW_SIZE)
    return csr_matrix((np.ones(columns.size), columns, starts), shape=(len(windows), letters * WINDOW_SIZE))
