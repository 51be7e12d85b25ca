"""Linear-chain conditional random fields; the equations are those of :class:`lstmkit.modules.crf.CRF`."""

from __future__ import annotations

import numpy as np


def viterbi(emissions: np.ndarray, transitions: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The most probable tags ``(T,)``.

    Args:
        emissions: ``(T, K)``.
        transitions: ``(K, K)``, from the row's tag to the column's.
        first, last: ``(K,)``.

    >>> viterbi(np.array([[1.0, 0.0], [0.0, 0.1]]), np.eye(2), np.zeros(2), np.zeros(2)).tolist()
    [0, 0]
    """
    score, back = first + emissions[0], []
    for own in emissions[1:]:
        extended = score[:, None] + transitions
        back.append(extended.argmax(0))
        score = extended.max(0) + own
    path = [int((score + last).argmax())]
    for previous in reversed(back):
        path.append(int(previous[path[-1]]))
    return np.array(path[::-1])


def marginals(emissions: np.ndarray, transitions: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Probability ``(T, K)`` of each tag at each step, by the forward-backward algorithm; arguments as above.

    >>> marginals(np.zeros((2, 4)), np.zeros((4, 4)), np.zeros(4), np.zeros(4)).tolist()[0]
    [0.25, 0.25, 0.25, 0.25]
    """
    forward = [first + emissions[0]]
    for own in emissions[1:]:
        forward.append(np.logaddexp.reduce(forward[-1][:, None] + transitions, axis=0) + own)
    backward = [last]
    for own in emissions[:0:-1]:
        backward.append(np.logaddexp.reduce(transitions + own + backward[-1], axis=1))
    total = np.logaddexp.reduce(forward[-1] + last)
    return np.exp(np.array(forward) + np.array(backward[::-1]) - total)
