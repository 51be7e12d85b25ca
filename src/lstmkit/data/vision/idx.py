"""IDX, the format of MNIST's files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from lstmkit.errors import DataError


def read_idx(content: bytes) -> np.ndarray:
    """The array of bytes in a file: two zeros, 8, the number of dimensions, each of them, then the bytes.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])).tolist()
    [7, 8, 9]
    """
    shape = np.frombuffer(content, ">i4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def read_idx_file(path: Path) -> np.ndarray:
    """What an IDX file holds, gzipped or not.

    Raises:
        DataError: There is no such file, or it is none.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    content = path.read_bytes()
    try:
        return read_idx(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as err:
        raise DataError(f"{path.name} is no IDX file that can be read: get it again") from err
