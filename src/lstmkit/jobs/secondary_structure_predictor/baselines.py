"""What states of residues are held against: the most frequent, and a regression on a window of residues.

Residues are numbered from 1, chain by chain ``(T,)``; states from 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from lstmkit.progress import Progress

WINDOW_SIZE = 17  #: Residues, the one in question in the middle.
_MOST = 100_000  # residues that are learnt from


def most_frequent_states(
    chains: Sequence[np.ndarray], states: Sequence[np.ndarray], letters: int, kinds: int
) -> np.ndarray:
    """The most frequent state of each residue ``(letters,)``; of one that does not occur the most frequent of all.

    >>> most_frequent_states([np.array([1, 1, 2])], [np.array([0, 0, 1])], letters=4, kinds=2).tolist()
    [0, 0, 1, 0]
    """
    counts = np.zeros((letters, kinds))
    for residues, told in zip(chains, states, strict=True):
        np.add.at(counts, (residues, told), 1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), counts.sum(axis=0).argmax())


def windowed_logistic_regression(
    train: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    chains: Sequence[np.ndarray],
    *,
    letters: int,
    seed: int,
    progress: Progress,
) -> list[np.ndarray]:
    """A logistic regression on which residue stands where in a window of :data:`WINDOW_SIZE`.

    Args:
        train: Chains and their states; of more than 100,000 residues some at random.
        chains: To answer.
        letters: How many numbers of residues there are; 0 stands past a chain's end.
        seed: Of that choice.
        progress: Whom to tell.

    Returns:
        Of each chain its states ``(T,)``.
    """
    seen, told = np.concatenate([_windows(one) for one in train[0]]), np.concatenate(train[1])
    rows = np.random.default_rng(seed).permutation(len(seen))[:_MOST]
    with progress.task(f"logistic regression on {WINDOW_SIZE} residues", 1) as task, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(kinds := np.unique(told[rows])) == 1:  # there is nothing to regress
            return [np.full(len(one), kinds[0]) for one in chains]
        model = LogisticRegression(max_iter=100).fit(_one_hot(seen[rows], letters), told[rows])
        said = [model.predict(_one_hot(_windows(one), letters)) for one in chains]
        task.update(1)
    return said


def _windows(residues: np.ndarray) -> np.ndarray:
    """``(T, WINDOW)``."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(residues, WINDOW_SIZE // 2), WINDOW_SIZE)


def _one_hot(windows: np.ndarray, letters: int) -> csr_matrix:
    columns = (windows + letters * np.arange(WINDOW_SIZE)).ravel()
    starts = np.arange(0, columns.size + 1, WINDOW_SIZE)
    return csr_matrix((np.ones(columns.size), columns, starts), shape=(len(windows), letters * WINDOW_SIZE))
