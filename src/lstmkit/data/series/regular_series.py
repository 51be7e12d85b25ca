"""What windows need to know of series, whatever library holds their timestamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class RegularSeries(Protocol):
    """Series with regular timestamps: those of :class:`~lstmkit.data.series.series_set.SeriesSet`, or of a runtime."""

    @property
    def ids(self) -> Sequence[str]:
        """Id of each series."""
        ...

    @property
    def freq(self) -> str | int:
        """Pandas offset alias, or the step of whole-number timestamps."""
        ...

    @property
    def y(self) -> Sequence[np.ndarray]:
        """``(T_i,)`` float64 each; NaN is missing."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """Observed steps of each series, ``(N,)`` int64."""
        ...

    @property
    def covariates(self) -> Mapping[str, Sequence[np.ndarray]]:
        """By name, one array per series, float64 with NaN or objects with ``None``."""
        ...

    @property
    def static(self) -> Mapping[str, Sequence[float | str | None]]:
        """By name, one value per series; ``None`` is missing."""
        ...

    @property
    def future(self) -> Sequence[str]:
        """Names of the covariates known in advance."""
        ...

    def __len__(self) -> int: ...

    def timestamps(self, i: int, start: int, stop: int) -> Any:
        """Timestamps of steps ``start .. stop - 1`` of series ``i``; ``stop`` may lie after the end."""
        ...

    def time_text(self, i: int, step: int) -> str:
        """The timestamp of a step of series ``i``, for messages."""
        ...

    def wall_clock(self, i: int, start: int, stop: int) -> np.ndarray:
        """The same in local time, datetime64[ns]; only for dates."""
        ...
