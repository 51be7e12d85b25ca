"""An ONNX file as a function of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstmkit.errors import DataError, ModelFileError
from lstmkit.libraries import imports_of

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
}


class Graph:
    """A graph with named inputs and outputs, and perhaps a state.

    Args:
        path: The ONNX file.
        threads: Threads of each operator.

    Raises:
        ModelFileError: The file is missing or damaged.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        with imports_of("export", "an exported model"):
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors
        if not path.is_file():
            raise ModelFileError(f"{path} is missing: export the run again")
        try:
            self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as err:  # onnxruntime's errors have no common class
            raise ModelFileError(f"{path} is damaged or of a newer version ({type(err).__name__})") from err
        self._inputs = {node.name: node for node in self._session.get_inputs()}
        self.outputs: tuple[str, ...] = tuple(node.name for node in self._session.get_outputs())
        self.states = tuple(name for name in self._inputs if name.startswith("state_"))

    def __call__(self, *states: np.ndarray, **inputs: Any) -> list[np.ndarray]:
        """All outputs, in order. Inputs are converted to the graph's types; ``states`` are those of :attr:`states`.

        Raises:
            DataError: An input has another shape than the graph reads.
        """
        given = {**inputs, **dict(zip(self.states, states, strict=True))}
        return self._session.run(None, {name: self._converted(name, value) for name, value in given.items()})

    def step(self, states: Sequence[np.ndarray], **inputs: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The outputs that are not states, and the new states; a state without an output stays."""
        found = dict(zip(self.outputs, self(*states, **inputs), strict=True))
        after = [found.pop(f"new_{name}", old) for name, old in zip(self.states, states, strict=True)]
        return list(found.values()), after

    def zero_states(self, **sizes: int) -> list[np.ndarray]:
        """Initial states of zeros, for the sizes of dimensions by name."""
        return [
            np.zeros([sizes[d] if isinstance(d, str) else d for d in node.shape], _TYPES[node.type])
            for node in (self._inputs[name] for name in self.states)
        ]

    def _converted(self, name: str, value: Any) -> np.ndarray:
        """A value in the type of an input. Raises DataError if it has another shape."""
        node = self._inputs[name]
        array = np.asarray(value, dtype=_TYPES[node.type])
        expected = [size if isinstance(size, int) else "any" for size in node.shape]
        fits = [size in ("any", own) for size, own in zip(expected, array.shape, strict=False)]
        if array.ndim != len(expected) or not all(fits):
            raise DataError(f"the data have the shape {array.shape}, the model reads ({', '.join(map(str, expected))})")
        return np.ascontiguousarray(array)


def take_rows(states: Sequence[np.ndarray], rows: np.ndarray) -> list[np.ndarray]:
    """Rows of states whose first dimension is the batch."""
    return [state[rows] for state in states]
