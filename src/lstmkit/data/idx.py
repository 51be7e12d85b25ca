"""IDX, the format of MNIST's files."""

from __future__ import annotations

import numpy as np


def read_idx(content: bytes) -> np.ndarray:
    """The array of bytes in a file: two zeros, 8, the number of dimensions, each of them, then the bytes.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])).tolist()
    [7, 8, 9]
    """
    shape = np.frombuffer(content, ">i4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)
