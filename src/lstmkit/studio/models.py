"""The models that pages ask, loaded once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lstmkit.jobs import load

if TYPE_CHECKING:
    from lstmkit.jobs.base import Job

_KEPT = 3  # models in memory


class Models:
    """Loads models and lets one page at a time compute with them."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[Path, int], Job] = {}
        self._lock = threading.Lock()

    @contextmanager
    def use(self, folder: Path) -> Iterator[tuple[Job, list[str]]]:
        """The job in a run folder, and a list that receives the warnings of the block. Other pages wait meanwhile.

        Raises:
            ModelFileError: The folder holds no model, or a damaged one.
        """
        with self._lock, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            messages: list[str] = []
            yield self._load(folder), messages
            messages += dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, UserWarning))

    def _load(self, folder: Path) -> Job:
        weights = folder / "weights.safetensors"
        key = (folder, weights.stat().st_mtime_ns if weights.exists() else 0)
        if key not in self._jobs:
            while len(self._jobs) >= _KEPT:
                del self._jobs[next(iter(self._jobs))]
            self._jobs[key] = load(folder)
        return self._jobs[key]
