"""The contract of an exported job."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmkit.errors import DataError, ModelFileError
from lstmkit.libraries import imports_of
from lstmkit.runtime.graph import Graph

if TYPE_CHECKING:
    from lstmkit.data.text.tokenizer import Tokenizer

BATCH = 64  #: Examples that run at once.


class ExportedJob(ABC):
    """A job that was exported: the graphs, and the preparation and decoding around them.

    Args:
        folder: The exported folder.
        graphs: Names of its graphs.
        settings: What the job wrote into ``export.json``.
        threads: Threads of each operator.
    """

    def __init__(self, folder: Path, graphs: Sequence[str], settings: Mapping[str, Any], threads: int) -> None:
        self.folder, self.settings = folder, settings
        if not all(isinstance(name, str) and name.isidentifier() for name in graphs):
            raise ModelFileError(f"{folder} is damaged: export the run again")
        self.graphs = {name: Graph(folder / f"{name}.onnx", threads) for name in graphs}
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}

    @abstractmethod
    def predict(self, data: Any) -> list[dict[str, Any]]:
        """Answers, as ``to_records`` of the job gives them; keywords are options of the job's own ``predict``."""

    @property
    def network(self) -> Graph:
        """The graph named ``network``."""
        return self.graphs["network"]

    def tokenizer(self, kind: str, name: str = "tokenizer.json") -> Tokenizer:
        """The tokenizer in a file of the folder, which is read once.

        Raises:
            ModelFileError: The file is missing or damaged.
        """
        if (kind, name) not in self._tokenizers:
            with imports_of("text", "text"):
                from lstmkit.data.text.tokenizer import Tokenizer
            try:
                content = (self.folder / name).read_text(encoding="utf-8")
                self._tokenizers[kind, name] = Tokenizer(kind, content)
            except (OSError, ValueError) as err:
                raise ModelFileError(f"{self.folder / name} cannot be read: export the run again") from err
        return self._tokenizers[kind, name]


def batches_by_length(sequences: Sequence[Sized], size: int = BATCH) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of similar length: their indices ``(B,)`` and lengths ``(B,)``, at most ``size`` at once."""
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield rows, lengths[rows]


def texts_of(data: Any) -> list[str]:
    """Texts that were given: one, or a list.

    Raises:
        DataError: They are something else.
    """
    texts = [data] if isinstance(data, str) else list(data)
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise DataError(f"input {number} is {type(text).__name__}: give texts")
    return texts
