"""Reader of IDX, the file format of MNIST."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lstmkit.data.files import open_file, read_bytes, reading


def read_idx(content: bytes) -> np.ndarray:
    """Parse an IDX array of bytes: two zero bytes, type 8, the number of dimensions, the shape, then the values.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])).tolist()
    [7, 8, 9]
    """
    shape = np.frombuffer(content, ">i4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def read_idx_file(path: Path) -> np.ndarray:
    """Read an IDX file, gzipped or not.

    Raises:
        DataError: The file does not exist, or is not an IDX file.
    """
    with open_file(path) as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    with reading(path.name, "is not a readable IDX file", "download it again"):
        return read_idx(read_bytes(path, gzipped=gzipped))
