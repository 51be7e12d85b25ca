"""CTC decoding: greedy, prefix beam search with a language model, and forced alignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

BLANK = 0  #: Class of the blank.

#: ``score(states, ids) -> (log_p (N, V), states)`` for ``N`` prefixes. Inputs are the state before the last character
#: and that character. Outputs are log-probabilities of the next character, where the blank stands for the end of the
#: text, and the new states. An empty prefix has the state ``None`` and the blank as its last character.
LanguageModelScore = Callable[[Sequence[Any], Sequence[int]], tuple[np.ndarray, Sequence[Any]]]


class AlignedCharacter(NamedTuple):
    """A decoded character and its position.

    Attributes:
        id: Class of the character.
        start, end: First step, and the step after the last.
        p: Highest probability of the character at these steps.
    """

    id: int
    start: int
    end: int
    p: float


class GreedyDecoder:
    """Greedy (best path) decoding, incremental: the best class of each step, repeats merged, blanks removed.

    >>> log_p = np.log([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    >>> greedy = GreedyDecoder()
    >>> greedy.push(log_p[:1]), greedy.push(log_p[1:])
    (None, None)
    >>> [(character.start, character.end) for character in greedy.characters]
    [(0, 2), (3, 4)]
    """

    def __init__(self) -> None:
        self.characters: list[AlignedCharacter] = []
        self._last, self._steps = BLANK, 0

    def push(self, log_p: np.ndarray) -> None:
        """Decode further steps ``(S, V)`` of log-probabilities."""
        for step, (best, p) in enumerate(
            zip(log_p.argmax(1).tolist(), log_p.max(1).tolist(), strict=True), self._steps
        ):
            p = min(1.0, float(np.exp(p)))
            if best != BLANK and best == self._last:
                previous = self.characters[-1]
                self.characters[-1] = previous._replace(end=step + 1, p=max(p, previous.p))
            elif best != BLANK:
                self.characters.append(AlignedCharacter(best, step, step + 1, p))
            self._last = best
        self._steps += len(log_p)


def greedy(log_p: np.ndarray) -> list[AlignedCharacter]:
    """Greedy decoding of all steps ``(S, V)`` at once; see :class:`GreedyDecoder`."""
    decoder = GreedyDecoder()
    decoder.push(log_p)
    return decoder.characters


def forced_align(log_p: np.ndarray, ids: Sequence[int]) -> list[AlignedCharacter]:
    """Forced alignment: the most probable position of each character of a known text (Viterbi).

    Args:
        log_p: ``(S, V)`` log-probabilities.
        ids: The text, without blanks.

    Raises:
        ValueError: The text needs more steps than there are; see :func:`min_steps`.
    """
    if not len(ids):
        return []
    if min_steps(ids) > len(log_p):
        raise ValueError(f"the text needs at least {min_steps(ids)} steps, log_p has {len(log_p)}")
    states = np.full(2 * len(ids) + 1, BLANK)
    states[1::2] = ids
    emissions = log_p[:, states].astype(np.float64)
    can_skip_blank = np.zeros(len(states), dtype=bool)  # between two different characters
    can_skip_blank[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), -np.inf)
    score[:2] = emissions[0, :2]
    back = np.zeros(emissions.shape, dtype=np.int8)
    for step in range(1, len(emissions)):
        from_previous = np.concatenate([[-np.inf], score[:-1]])
        from_second = np.where(can_skip_blank, np.concatenate([[-np.inf, -np.inf], score[:-2]]), -np.inf)
        candidates = np.stack([score, from_previous, from_second])
        back[step] = candidates.argmax(0)
        score = candidates.max(0) + emissions[step]
    state = len(states) - 1 - int(score[-2] > score[-1])
    path = np.zeros(len(emissions), dtype=np.int64)
    for step in range(len(emissions) - 1, -1, -1):
        path[step] = state
        state -= int(back[step, state])
    aligned = []
    for i, character in enumerate(ids):
        (steps,) = np.nonzero(path == 2 * i + 1)
        p = min(1.0, float(np.exp(log_p[steps, character].max())))
        aligned.append(AlignedCharacter(int(character), int(steps[0]), int(steps[-1]) + 1, p))
    return aligned


def min_steps(ids: Sequence[int]) -> int:
    """Minimum number of steps of a text: one per character, and a blank between equal neighbors.

    >>> min_steps([1, 1, 2])
    4
    """
    return len(ids) + sum(a == b for a, b in pairwise(ids))


class PrefixHypothesis(NamedTuple):
    """A result of the prefix beam search.

    Attributes:
        ids: Characters of the text.
        score: Ranking score: ``log_p`` plus the weighted language model score and the insertion bonus.
        log_p: CTC log-probability: the sum over all alignments that were not pruned.
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
    """Prefix beam search: the most probable texts, best first.

    The probabilities of all alignments of a prefix are summed, separately for those that end in a blank (Graves 2012,
    "Supervised Sequence Labelling", section 7.5; Hannun et al. 2014, arXiv:1408.2873). With a language model, texts are
    ranked by ``log p(text | steps) + weight · log p(text) + insertion_bonus · characters``.

    Args:
        log_p: ``(S, V)`` log-probabilities.
        width: Beam width.
        score: The language model; called once per step for all new prefixes.
        weight: Weight of its log-probabilities.
        insertion_bonus: Score added per character, since a language model favors short texts.

    >>> log_p = np.log([[0.6, 0.4], [0.6, 0.4]])
    >>> greedy(log_p), prefix_beam_search(log_p, 4)[0].ids  # empty: 0.36; one character: 0.64 in three alignments
    ([], (1,))
    """
    tree = _PrefixTree(score, weight, insertion_bonus, log_p.shape[1])
    nodes = np.zeros(1, dtype=np.int64)  # prefixes on the beam; 0 is the empty one
    blank, other = np.zeros(1), np.full(1, -np.inf)  # log p of the alignments that end in a blank, and in a character
    for step in range(len(log_p)):
        emission = np.asarray(log_p[step], dtype=np.float64)
        both = _log_add(blank, other)
        last = tree.last(nodes)
        extended = both[:, None] + emission
        rows = np.arange(len(nodes))
        extended[rows, last] = blank + emission[last]  # a repeated character needs a blank in between
        extended[:, BLANK] = -np.inf
        unchanged = np.where(last == BLANK, -np.inf, other + emission[last])
        for row, (parent, character) in enumerate(zip(tree.parent_rows(nodes), last, strict=True)):
            if parent >= 0:  # the parent prefix is on the beam too: its extension is this same prefix
                unchanged[row] = np.logaddexp(unchanged[row], extended[parent, character])
                extended[parent, character] = -np.inf
        blank = both + emission[BLANK]
        ranked = np.concatenate([_log_add(blank, unchanged) + tree.prior(nodes), (extended + tree.next(nodes)).ravel()])
        best = _top_indices(ranked, width)
        kept, new = best[best < len(nodes)], best[best >= len(nodes)] - len(nodes)  # rows, and flat extensions
        parents, characters = np.divmod(new, log_p.shape[1])
        children = tree.extend(nodes[parents], characters)
        blank = np.concatenate([blank[kept], np.full(len(new), -np.inf)])
        other = np.concatenate([unchanged[kept], extended[parents, characters]])
        nodes = np.concatenate([nodes[kept], children])
    total = _log_add(blank, other)
    ranked = total + tree.prior(nodes) + tree.ending(nodes)
    order = np.argsort(-ranked, kind="stable")
    return [
        PrefixHypothesis(tree.text(int(nodes[i])), float(ranked[i]), float(total[i]))
        for i in order
        if total[i] > -np.inf
    ]


def _log_add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Logarithms of the sums of probabilities."""
    return np.asarray(np.logaddexp(a, b))


def _top_indices(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the highest finite scores, unordered."""
    indices = np.argpartition(-scores, count)[:count] if len(scores) > count else np.arange(len(scores))
    return indices[scores[indices] > -np.inf]


class _PrefixTree:
    """Prefixes as nodes of a tree, with their language model states and scores."""

    def __init__(self, score: LanguageModelScore | None, weight: float, insertion_bonus: float, size: int) -> None:
        self._score, self._weight, self._bonus = score, weight, insertion_bonus
        self._parents, self._characters = [-1], [BLANK]
        self._children: dict[tuple[int, int], int] = {}
        self._priors = [0.0]
        self._next: dict[int, np.ndarray] = {}
        self._states: dict[int, Any] = {}
        self._no_score = np.full(size, insertion_bonus)
        self._no_score[BLANK] = 0.0
        self._score_nodes([0], [None])

    def last(self, nodes: np.ndarray) -> np.ndarray:
        """The last character of each prefix; the blank for the empty prefix."""
        return np.array([self._characters[node] for node in nodes.tolist()])

    def parent_rows(self, nodes: np.ndarray) -> list[int]:
        """The index of each node's parent among ``nodes``; -1 if it is not among them."""
        rows = {node: i for i, node in enumerate(nodes.tolist())}
        return [rows.get(self._parents[node], -1) for node in nodes.tolist()]

    def prior(self, nodes: np.ndarray) -> np.ndarray:
        """The language model score plus insertion bonus of each prefix, ``(N,)``."""
        return np.array([self._priors[node] for node in nodes.tolist()])

    def next(self, nodes: np.ndarray) -> np.ndarray:
        """The same for each prefix extended by each character, ``(N, V)``."""
        steps = np.stack([self._next.get(node, self._no_score) for node in nodes.tolist()])
        return self.prior(nodes)[:, None] + steps

    def ending(self, nodes: np.ndarray) -> np.ndarray:
        """The language model score of the end of the text, ``(N,)``."""
        return np.array([self._next.get(node, self._no_score)[BLANK] for node in nodes.tolist()])

    def extend(self, parents: np.ndarray, characters: np.ndarray) -> np.ndarray:
        """The nodes of the extended prefixes; new ones are scored by the language model."""
        nodes, new = [], []
        for parent, character in zip(parents.tolist(), characters.tolist(), strict=True):
            node = self._children.setdefault((parent, character), len(self._parents))
            if node == len(self._parents):
                self._parents.append(parent)
                self._characters.append(character)
                self._priors.append(self._priors[parent] + float(self._next.get(parent, self._no_score)[character]))
                new.append(node)
            nodes.append(node)
        if new:
            self._score_nodes(new, [self._states.get(self._parents[node]) for node in new])
        return np.array(nodes, dtype=np.int64)

    def _score_nodes(self, nodes: list[int], states: list[Any]) -> None:
        if self._score is None:
            return
        log_probabilities, new_states = self._score(states, [self._characters[node] for node in nodes])
        for node, log_p, state in zip(nodes, log_probabilities, new_states, strict=True):
            self._next[node] = self._weight * log_p + self._no_score
            self._states[node] = state

    def text(self, node: int) -> tuple[int, ...]:
        """The characters of a prefix."""
        characters = []
        while node:
            characters.append(self._characters[node])
            node = self._parents[node]
        return tuple(reversed(characters))
