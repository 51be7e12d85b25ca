"""The 3-state class of each of the eight states, and probabilities and states of both alphabets that agree with it.

A mapping is one letter of ``STATES["ss3"]`` for each letter of ``STATES["ss8"]``. Probabilities are ``(..., 3)`` and
``(..., 8)``, in the order of ``STATES``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax, logsumexp

from lstmkit.data.proteins.residues import STATES
from lstmkit.errors import DataError

DSSP_MAPPING = "HHHEECCC"  #: Helices H, G, I; strands E, B; coil T, S, C.


def fit_mapping(ss3: Sequence[str], ss8: Sequence[str], name: str) -> str:
    """The most frequent class of each state in training chains; that of :data:`DSSP_MAPPING` for a state without any.

    Files differ: some count π-helices or bridges as coil.

    Args:
        ss3, ss8: States of the same chains.
        name: Name of the data in messages.

    Raises:
        DataError: A class has no state: the two columns contradict each other.

    >>> fit_mapping(["HHEC"], ["HGES"], "the frame")
    'HHHEECCC'
    """
    counts = {state: dict.fromkeys(STATES["ss3"], 0) for state in STATES["ss8"]}
    for classes, states in zip(ss3, ss8, strict=True):
        for class_, state in zip(classes, states, strict=True):
            counts[state][class_] += 1
    mapping = "".join(
        max(of_state, key=lambda class_: of_state[class_]) if any(of_state.values()) else default
        for of_state, default in zip(counts.values(), DSSP_MAPPING, strict=True)
    )
    if without := sorted(set(STATES["ss3"]) - set(mapping)):
        raise DataError(
            f"{name}: no state of the 8-state column is mostly {without[0]!r} in the 3-state column: correct one of "
            "them, or give only one (ss3_col='' or ss8_col='')"
        )
    return mapping


def check_mapping(mapping: str) -> str:
    """The mapping itself. Raises ValueError if a state has no class, or a class no state."""
    if len(mapping) != len(STATES["ss8"]) or {*mapping} != {*STATES["ss3"]}:
        raise ValueError("the classes of the eight states are damaged")
    return mapping


def within_class(logits: np.ndarray, classes: np.ndarray, mapping: str) -> np.ndarray:
    """Logits ``(N, 8)`` with minus infinity for states outside the class ``(N,)`` of each residue."""
    return np.where(_class_of_state(mapping) == classes[:, None], logits, -np.inf)


def joint_probabilities(ss3: np.ndarray, logits: np.ndarray, mapping: str) -> np.ndarray:
    """8-state probabilities ``(T, 8)`` that add up to the 3-state ones within each class.

    The 3-state output says how probable a class is, the 8-state output says which of its states it is.

    Args:
        ss3: 3-state probabilities ``(T, 3)``.
        logits: 8-state logits ``(T, 8)``.
        mapping: The class of each state.

    >>> p = joint_probabilities(np.array([[0.5, 0.2, 0.3]]), np.zeros((1, 8)), DSSP_MAPPING)
    >>> p.round(2).tolist()
    [[0.17, 0.17, 0.17, 0.1, 0.1, 0.1, 0.1, 0.1]]
    """
    class_of_state = _class_of_state(mapping)
    log_p = np.asarray(log_softmax(logits.astype(np.float64), axis=1))
    members = class_of_state == np.arange(len(STATES["ss3"]))[:, None]  # (3, 8)
    log_class = np.asarray(logsumexp(np.where(members, log_p[:, None], -np.inf), axis=2))  # (T, 3)
    return ss3[:, class_of_state] * np.exp(log_p - log_class[:, class_of_state])


def joint_states(ss3: np.ndarray, ss8: np.ndarray, mapping: str) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class ``(T,)``, and the most probable of its states ``(T,)``, as indices."""
    classes = ss3.argmax(axis=1)
    return classes, within_class(ss8, classes, mapping).argmax(axis=1)


def _class_of_state(mapping: str) -> np.ndarray:
    """Index of the class ``(8,)`` of each state."""
    return np.array([STATES["ss3"].index(letter) for letter in mapping])
