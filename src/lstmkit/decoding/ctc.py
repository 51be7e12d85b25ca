"""From the log-probabilities of CTC to texts: greedy, by a prefix beam search, and where each character stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

BLANK = 0  #: The class that writes nothing.

#: ``score(states, ids) -> (log_p (N, V), states)``: of each of ``N`` texts, its state before its last character and
#: that character, the logarithmic probability of what comes next; of the blank, that the text ends. The state of an
#: empty text is ``None`` and its last character the blank.
LanguageModelScore = Callable[[Sequence[Any], Sequence[int]], tuple[np.ndarray, Sequence[Any]]]


class Written(NamedTuple):
    """A character and where it was read.

    Attributes:
        id: Its class.
        start, end: Steps, the end excluded.
        p: The highest probability that one of these steps gives it.
    """

    id: int
    start: int
    end: int
    p: float


class GreedyDecoder:
    """The most probable class of each step, repeats taken once, blanks left out; steps may come in bit by bit.

    >>> log_p = np.log([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    >>> greedy = GreedyDecoder()
    >>> greedy.push(log_p[:1]), greedy.push(log_p[1:])
    (None, None)
    >>> [(one.start, one.end) for one in greedy.written]
    [(0, 2), (3, 4)]
    """

    def __init__(self) -> None:
        self.written: list[Written] = []
        self._last, self._steps = BLANK, 0

    def push(self, log_p: np.ndarray) -> None:
        """``(S, V)`` further steps."""
        for step, (best, p) in enumerate(
            zip(log_p.argmax(1).tolist(), log_p.max(1).tolist(), strict=True), self._steps
        ):
            p = min(1.0, float(np.exp(p)))
            if best != BLANK and best == self._last:
                before = self.written[-1]
                self.written[-1] = before._replace(end=step + 1, p=max(p, before.p))
            elif best != BLANK:
                self.written.append(Written(best, step, step + 1, p))
            self._last = best
        self._steps += len(log_p)


def greedy(log_p: np.ndarray) -> list[Written]:
    """What :class:`GreedyDecoder` writes of ``(S, V)`` steps."""
    whole = GreedyDecoder()
    whole.push(log_p)
    return whole.written


def forced_align(log_p: np.ndarray, ids: Sequence[int]) -> list[Written]:
    """The most probable way to read a text: at which steps each of its characters stands (Viterbi).

    Args:
        log_p: ``(S, V)``.
        ids: The text, without blanks.

    Raises:
        ValueError: The text needs more steps than there are.
    """
    if not len(ids):
        return []
    if min_steps(ids) > len(log_p):
        raise ValueError(f"a text that needs {min_steps(ids)} steps cannot be read in {len(log_p)}")
    states = np.full(2 * len(ids) + 1, BLANK)
    states[1::2] = ids
    told = log_p[:, states].astype(np.float64)
    skips = np.zeros(len(states), dtype=bool)  # from a character straight to the next, where they differ
    skips[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), -np.inf)
    score[:2] = told[0, :2]
    back = np.zeros(told.shape, dtype=np.int8)
    for step in range(1, len(told)):
        one = np.concatenate([[-np.inf], score[:-1]])
        two = np.where(skips, np.concatenate([[-np.inf, -np.inf], score[:-2]]), -np.inf)
        ways = np.stack([score, one, two])
        back[step] = ways.argmax(0)
        score = ways.max(0) + told[step]
    state = len(states) - 1 - int(score[-2] > score[-1])
    path = np.zeros(len(told), dtype=np.int64)
    for step in range(len(told) - 1, -1, -1):
        path[step] = state
        state -= int(back[step, state])
    found = []
    for i, which in enumerate(ids):
        (steps,) = np.nonzero(path == 2 * i + 1)
        p = min(1.0, float(np.exp(log_p[steps, which].max())))
        found.append(Written(int(which), int(steps[0]), int(steps[-1]) + 1, p))
    return found


def min_steps(ids: Sequence[int]) -> int:
    """Steps that a text takes at least: one a character, and a blank between two that are the same.

    >>> min_steps([1, 1, 2])
    4
    """
    return len(ids) + sum(a == b for a, b in pairwise(ids))


class PrefixHypothesis(NamedTuple):
    """A text that a prefix beam search found.

    Attributes:
        ids: Its characters.
        score: What it was ranked by: ``log_p``, and what the language model and the bonus add.
        log_p: Its logarithmic probability by CTC: of all its alignments that were not pruned.
    """

    ids: tuple[int, ...]
    score: float
    log_p: float


def prefix_beam_search(
    log_p: np.ndarray,
    width: int,
    score: LanguageModelScore | None = None,
    weight: float = 0.5,
    insertion_bonus: float = 0.0,
) -> list[PrefixHypothesis]:
    """The most probable texts, as far as ``width`` beginnings held at a time can tell; the best first.

    Of each beginning the probability of all its alignments is summed, those that end in a blank apart from the others
    (Graves 2012, "Supervised Sequence Labelling", section 7.5; Hannun et al. 2014, arXiv:1408.2873). With a language
    model texts are ranked by ``log p(text | steps) + weight · log p(text) + bonus · characters``.

    Args:
        log_p: ``(S, V)``.
        width: Beginnings that are held.
        score: The language model; asked once a step, of all beginnings that are new.
        weight: Of its logarithmic probabilities.
        bonus: For each character, since a language model favours short texts.

    >>> log_p = np.log([[0.6, 0.4], [0.6, 0.4]])
    >>> greedy(log_p), prefix_beam_search(log_p, 4)[0].ids  # 0.36 for nothing, 0.64 for one character, in three ways
    ([], (1,))
    """
    tree = _PrefixTree(score, weight, insertion_bonus, log_p.shape[1])
    nodes = np.zeros(1, dtype=np.int64)  # of the beginnings that are held; 0 is the empty one
    blank, other = np.zeros(1), np.full(1, -np.inf)  # log p of the alignments that end in a blank, and in a character
    for step in range(len(log_p)):
        told = np.asarray(log_p[step], dtype=np.float64)
        both = _log_add(blank, other)
        last = tree.last(nodes)
        longer = both[:, None] + told
        rows = np.arange(len(nodes))
        longer[rows, last] = blank + told[last]  # once more the same character: a blank must stand between
        longer[:, BLANK] = -np.inf
        stays = np.where(last == BLANK, -np.inf, other + told[last])
        for row, (parent, character) in enumerate(zip(tree.places(nodes), last, strict=True)):
            if parent >= 0:  # its own beginning is held too: that going on is no other text
                stays[row] = np.logaddexp(stays[row], longer[parent, character])
                longer[parent, character] = -np.inf
        blank = both + told[BLANK]
        ranked = np.concatenate([_log_add(blank, stays) + tree.prior(nodes), (longer + tree.next(nodes)).ravel()])
        best = _top_indices(ranked, width)
        old, new = best[best < len(nodes)], best[best >= len(nodes)] - len(nodes)  # rows, and ways to go on
        parents, characters = np.divmod(new, log_p.shape[1])
        grown = tree.grow(nodes[parents], characters)
        blank = np.concatenate([blank[old], np.full(len(new), -np.inf)])
        other = np.concatenate([stays[old], longer[parents, characters]])
        nodes = np.concatenate([nodes[old], grown])
    total = _log_add(blank, other)
    ranked = total + tree.prior(nodes) + tree.ending(nodes)
    order = np.argsort(-ranked, kind="stable")
    return [
        PrefixHypothesis(tree.text(int(nodes[i])), float(ranked[i]), float(total[i]))
        for i in order
        if total[i] > -np.inf
    ]


def _log_add(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Logarithms of the sums of probabilities."""
    return np.asarray(np.logaddexp(one, other))


def _top_indices(scores: np.ndarray, count: int) -> np.ndarray:
    """Where the highest stand, impossible ones left out."""
    found = np.argpartition(-scores, count)[:count] if len(scores) > count else np.arange(len(scores))
    return found[scores[found] > -np.inf]


class _PrefixTree:
    """Beginnings of texts, each a node that knows its own beginning, and what the language model says of them."""

    def __init__(self, score: LanguageModelScore | None, weight: float, insertion_bonus: float, size: int) -> None:
        self._score, self._weight, self._bonus = score, weight, insertion_bonus
        self._parents, self._characters = [-1], [BLANK]
        self._children: dict[tuple[int, int], int] = {}
        self._priors = [0.0]
        self._next: dict[int, np.ndarray] = {}
        self._states: dict[int, Any] = {}
        self._nothing = np.full(size, insertion_bonus)
        self._nothing[BLANK] = 0.0
        self._ask([0], [None])

    def last(self, nodes: np.ndarray) -> np.ndarray:
        """The last character of each; of the empty one the blank."""
        return np.array([self._characters[node] for node in nodes.tolist()])

    def places(self, nodes: np.ndarray) -> list[int]:
        """For each where its own beginning stands among them; -1 where it does not."""
        place = {node: i for i, node in enumerate(nodes.tolist())}
        return [place.get(self._parents[node], -1) for node in nodes.tolist()]

    def prior(self, nodes: np.ndarray) -> np.ndarray:
        """What language model and bonus give each."""
        return np.array([self._priors[node] for node in nodes.tolist()])

    def next(self, nodes: np.ndarray) -> np.ndarray:
        """``(N, V)``: what they give each with one character more."""
        steps = np.stack([self._next.get(node, self._nothing) for node in nodes.tolist()])
        return self.prior(nodes)[:, None] + steps

    def ending(self, nodes: np.ndarray) -> np.ndarray:
        """What the language model adds where the text ends."""
        return np.array([self._next.get(node, self._nothing)[BLANK] for node in nodes.tolist()])

    def grow(self, parents: np.ndarray, characters: np.ndarray) -> np.ndarray:
        """The nodes with one character more; the language model is asked of those that are new."""
        found, new = [], []
        for parent, character in zip(parents.tolist(), characters.tolist(), strict=True):
            node = self._children.setdefault((parent, character), len(self._parents))
            if node == len(self._parents):
                self._parents.append(parent)
                self._characters.append(character)
                self._priors.append(self._priors[parent] + float(self._next.get(parent, self._nothing)[character]))
                new.append(node)
            found.append(node)
        if new:
            self._ask(new, [self._states.get(self._parents[node]) for node in new])
        return np.array(found, dtype=np.int64)

    def _ask(self, nodes: list[int], states: list[Any]) -> None:
        if self._score is None:
            return
        told, after = self._score(states, [self._characters[node] for node in nodes])
        for node, log_p, state in zip(nodes, told, after, strict=True):
            self._next[node] = self._weight * log_p + self._nothing
            self._states[node] = state

    def text(self, node: int) -> tuple[int, ...]:
        """The characters from the beginning on."""
        found = []
        while node:
            found.append(self._characters[node])
            node = self._parents[node]
        return tuple(reversed(found))
