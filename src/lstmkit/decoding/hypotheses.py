"""Results of beam search, of tensors and of arrays alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple


class Hypothesis(NamedTuple):
    """A result of beam search.

    Attributes:
        ids: Token ids, without the end token.
        score: Log-probability, normalized by length.
        log_p: Log-probability in nats, end token included.
        rows: For each token the row of the step's batch that predicted it, to look up other outputs of that call.
    """

    ids: tuple[int, ...]
    score: float
    log_p: float
    rows: tuple[int, ...]


def backtrack(
    finished: Sequence[Any], tokens: Sequence[Any], parents: Sequence[Any], end: int, n_best: int
) -> list[list[Hypothesis]]:
    """Follow the parent rows of finished hypotheses back to the first token.

    Args:
        finished: Score, log-probability, last step, parent row and last token of the hypotheses, each ``(B, width)``,
            best first. Sequences of probability 0 are left out.
        tokens, parents: Token and parent row of each row of the beam, ``(B, width)`` for each step.
        end: Id of the end token.
        n_best: Maximum number of hypotheses per example.

    Returns:
        The hypotheses of each example, best first.
    """
    width = finished[0].shape[1]
    columns = [field.tolist() for field in finished]
    token_lists, parent_lists = ([step.tolist() for step in steps] for steps in (tokens, parents))
    hypotheses: list[list[Hypothesis]] = []
    for b, rows in enumerate(zip(*columns, strict=True)):
        best = []
        for score, log_p, step, parent, token in list(zip(*rows, strict=True))[:n_best]:
            if log_p == -math.inf:
                continue
            ids, beam_rows = ([], []) if token == end else ([token], [parent])
            row = parent
            for t in range(step - 1, -1, -1):
                ids.append(token_lists[t][b][row])
                row = parent_lists[t][b][row]
                beam_rows.append(row)
            batch_rows = tuple(b * width + row for row in reversed(beam_rows))
            best.append(Hypothesis(tuple(reversed(ids)), score, log_p, batch_rows))
        hypotheses.append(best)
    return hypotheses
