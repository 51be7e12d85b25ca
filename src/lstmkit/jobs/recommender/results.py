"""Recommendations: the best next items of a session, and a session that is followed click by click."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lstmkit.data.sessions import item_id
from lstmkit.jobs.recommender.metrics import without
from lstmkit.models.base import Model


@dataclass(frozen=True)
class Recommendation:
    """What is likely to come next in a session, the best first.

    Attributes:
        session: Its name.
        items: Ids; none where no item of the session is known.
        scores: Of each.
        probabilities: Of each, of all items of the catalogue; ``None`` where the model was trained to rank.
        unknown: Items of the session that training has not seen: they are passed over.
    """

    session: str
    items: tuple[str, ...]
    scores: tuple[float, ...]
    probabilities: tuple[float, ...] | None
    unknown: tuple[str, ...]


def table_of(answer: Sequence[Recommendation]) -> pd.DataFrame:
    """A row an item: session, rank, item, score and, where it is stated, probability."""
    parts = []
    for one in answer:
        frame = pd.DataFrame({"rank": range(1, len(one.items) + 1), "item": one.items, "score": one.scores})
        frame.insert(0, "session", one.session)
        parts.append(frame if one.probabilities is None else frame.assign(probability=one.probabilities))
    return pd.concat(parts)


class Choice(NamedTuple):
    """How the best are chosen.

    Attributes:
        catalogue: The items' ids.
        k: How many.
        drop: Whether items of the session itself are left out.
        stated: Whether scores are logits of probabilities.
    """

    catalogue: tuple[str, ...]
    k: int
    drop: bool
    stated: bool

    def best(self, session: str, scores: Tensor, history: np.ndarray, unknown: tuple[str, ...]) -> Recommendation:
        """Of scores ``(V,)`` after a history of item numbers."""
        able = without(scores.unsqueeze(0), [history])[0] if self.drop else scores
        values, ids = able.topk(min(self.k, len(scores)))
        ids = ids[~values.isneginf()]
        shares = tuple(scores.softmax(0)[ids].tolist()) if self.stated else None
        items = tuple(self.catalogue[i] for i in ids.tolist())
        return Recommendation(session, items, tuple(scores[ids].tolist()), shares, unknown)

    def nothing(self, session: str, unknown: tuple[str, ...]) -> Recommendation:
        """Where no item is known."""
        return Recommendation(session, (), (), () if self.stated else None, unknown)


class StreamingSession:
    """A session that goes on: the network's state is kept from click to click, so that each costs one step.

    Args:
        model: Whose ``step`` gives scores ``(1, V)``.
        number: An item's number by its id, ``None`` where it is not known.
        choice: How the best are chosen.
        device: Where to compute.
    """

    def __init__(self, model: Model, number: Callable[[str], int | None], choice: Choice, device: torch.device) -> None:
        self._model, self._number, self._choice, self._device = model.to(device).eval(), number, choice, device
        self._state: Any = None
        self._scores: Tensor | None = None
        self._history: list[int] = []
        self._unknown: tuple[str, ...] = ()

    @torch.inference_mode()
    def click(self, item: str | int) -> Recommendation:
        """Take the next item, and recommend what follows it.

        Raises:
            DataError: It is neither text nor a whole number.
        """
        name = item_id(item, f"click {1 + len(self._history) + len(self._unknown)}")
        number = self._number(name)
        if number is None:
            self._unknown = (*self._unknown, name)
        else:
            self._history.append(number)
            scores, self._state = self._model.step(torch.tensor([number], device=self._device), self._state)
            self._scores = scores[0]
        if self._scores is None:
            return self._choice.nothing("live", self._unknown)
        return self._choice.best("live", self._scores, np.array(self._history), self._unknown)
