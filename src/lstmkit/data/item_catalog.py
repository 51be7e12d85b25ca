"""Ids of items, and the catalog that a recommender knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Integral

import numpy as np

from lstmkit.errors import DataError

_WHOLE_NUMBER = re.compile(r"(-?\d+)(?:\.0+)?")


class ItemCatalog:
    """Items by their ids.

    Args:
        items: The ids, all different.

    >>> catalog = ItemCatalog(["7", "tea"])
    >>> catalog.index_of("tea"), catalog.index_of("7.0"), catalog.index_of("milk")
    (1, 0, -1)
    """

    def __init__(self, items: Sequence[str]) -> None:
        self.index = {item: i for i, item in enumerate(items)}
        whole = ((_WHOLE_NUMBER.fullmatch(item), i) for item, i in self.index.items())
        self._whole_numbers = {match[1]: i for match, i in whole if match}

    def index_of(self, item: str) -> int:
        """The index of an item, -1 if it is not in the catalog. ``2.0``, as tables have it, is also the item ``2``."""
        index = self.index.get(item, -1)
        if index < 0 and (whole := _WHOLE_NUMBER.fullmatch(item)):
            return self._whole_numbers.get(whole[1], -1)
        return index

    def indices_of(self, items: Sequence[str]) -> np.ndarray:
        """The index ``(N,)`` of each item, see :meth:`index_of`."""
        return np.array([self.index_of(item) for item in items], dtype=np.int64)


def item_id(item: object, where: str) -> str:
    """Convert an item id to text.

    Raises:
        DataError: It is neither text nor an integer.
    """
    if isinstance(item, str) and item.strip():
        return item
    if isinstance(item, Integral) and not isinstance(item, bool):
        return str(int(item))
    raise DataError(f"{where}: {item!r} is not an item id: give text or an integer")
