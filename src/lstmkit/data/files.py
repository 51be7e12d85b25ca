"""Open files that may be damaged or hostile: only regular files, bounded memory, and every error as one line."""

from __future__ import annotations

import gzip
import io
import math
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

import numpy as np

from lstmkit.errors import DataError, SettingError, UserError, one_line

DECODED_MB_VARIABLE = "LSTMKIT_MAX_DECODED_MB"  #: Environment variable: memory that one decoded file may take, in MB.
DEFAULT_DECODED_MB = 1000  #: Its default.


@contextmanager
def reading(
    name: object, problem: str = "cannot be read", advice: str = "download or export it again"
) -> Iterator[None]:
    """The boundary of every reader: whatever a parser raises inside becomes one DataError. Our own errors pass.

    Args:
        name: Path or name of the file in the message.
        problem: What is wrong with it then.
        advice: What to do with the file.

    >>> with reading("a.csv.gz"):
    ...     gzip.decompress(b"id,value")
    Traceback (most recent call last):
        ...
    lstmkit.errors.DataError: a.csv.gz cannot be read (Not a gzipped file (b'id')): download or export it again
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as err:
        raise DataError(f"{name} does not fit into memory: split it, or {advice}") from err
    except Exception as err:
        reason = one_line(getattr(err, "strerror", None) or err) or type(err).__name__
        raise DataError(f"{name} {problem} ({reason}): {advice}") from err


_confinement: ContextVar[Path | None] = ContextVar("confinement", default=None)  # a folder, with its links resolved


@contextmanager
def confined_to(folder: Path) -> Iterator[None]:
    """Open only files below ``folder`` in this block, whatever paths the data name. For data of strangers.

    >>> with confined_to(Path("uploads")):
    ...     open_file(Path("uploads/../secret.csv"))
    Traceback (most recent call last):
        ...
    lstmkit.errors.DataError: uploads/../secret.csv is not among the given files: give it with them, in one archive
    """
    token = _confinement.set(folder.resolve())
    try:
        yield
    finally:
        _confinement.reset(token)


def is_file(path: Path) -> bool:
    """Whether ``path`` is a file that may be opened, see :func:`confined_to`."""
    return _may_be_opened(path) and path.is_file()


def _may_be_opened(path: Path) -> bool:
    folder = _confinement.get()
    return folder is None or path.resolve().is_relative_to(folder)


def check_regular_file(path: Path) -> Path:
    """Return ``path`` if it is a regular file or a link to one, which can be opened without waiting.

    Raises:
        DataError: It does not exist, is a folder, a pipe or a device, or lies elsewhere than :func:`confined_to` says.
    """
    try:
        if not _may_be_opened(path):
            raise DataError(f"{path} is not among the given files: give it with them, in one archive")
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"no such file: {path}") from None
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError) as err:  # a null character in the name; a loop of links
        reason = one_line(getattr(err, "strerror", None) or err)
        raise DataError(f"{path} cannot be opened ({reason}): give another file") from err
    if stat.S_ISDIR(mode):
        raise DataError(f"{path} is a folder: give a file")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path} is a pipe or a device: copy what it holds to a file, and give that")
    return path


def max_decoded_bytes() -> int:
    """Memory that one decoded file may take, in bytes: ``LSTMKIT_MAX_DECODED_MB``, by default 1,000 MB.

    Raises:
        SettingError: The variable is not a number of megabytes.
    """
    text = os.environ.get(DECODED_MB_VARIABLE, str(DEFAULT_DECODED_MB))
    if not text.isascii() or not text.isdigit() or not int(text):
        raise SettingError(f"{DECODED_MB_VARIABLE}={text!r} is not a whole number of megabytes above 0: give one")
    return 1_000_000 * int(text)


def check_decoded_size(size: int, name: object) -> None:
    """Raise DataError if a file takes more memory when decoded than :func:`max_decoded_bytes`; call it before decoding.

    Args:
        size: The memory in bytes.
        name: Name of the file in the message.
    """
    limit = max_decoded_bytes()
    if size > limit:
        megabytes = limit // 1_000_000
        raise DataError(
            f"{name} takes more than {megabytes:,} MB when decoded: split it, or, if you trust it, set "
            f"{DECODED_MB_VARIABLE} to more than {megabytes}"
        )


class _BoundedReader(io.RawIOBase):
    """Reads from ``source`` until it has given more bytes than a file may have."""

    def __init__(self, source: gzip.GzipFile, name: str, copies: int) -> None:
        self._source, self._name, self._copies, self._size = source, name, copies, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._source.read(len(buffer))
        self._size += len(content)
        check_decoded_size(self._copies * self._size, self._name)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._source.close()
        super().close()


def open_file(path: Path, *, gzipped: bool = False, copies: int = 1) -> IO[bytes]:
    """Open a regular file for reading. A gzip file is decompressed in steps, up to :func:`max_decoded_bytes`.

    Args:
        path: The file.
        gzipped: Whether it is a gzip file.
        copies: Memory that its reader needs, in bytes per decompressed byte.

    Raises:
        DataError: As :func:`check_regular_file`; while reading, as :func:`check_decoded_size`.
    """
    check_regular_file(path)
    if not gzipped:
        return path.open("rb")
    return io.BufferedReader(_BoundedReader(gzip.GzipFile(path), path.name, copies), 1 << 16)


def read_bytes(path: Path, *, gzipped: bool = False, copies: int = 1) -> bytes:
    """Content of a regular file, see :func:`open_file`; a plain file has the same bound as a gzipped one."""
    with open_file(path, gzipped=gzipped, copies=copies) as file:
        if not gzipped:
            check_decoded_size(copies * path.stat().st_size, path.name)
        return file.read()


def load_npz(path: Path, content: str) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file by name. Pickled objects are refused.

    Args:
        path: The file.
        content: What it should hold, in the message of an error: ``"strokes"``.

    Raises:
        DataError: The file does not exist, is damaged, or takes too much memory; an array claims more values than its
            file has.
    """
    check_regular_file(path)
    with (
        reading(path.name, f"is not a readable .npz of {content}", "create it with numpy.savez"),
        zipfile.ZipFile(path) as archive,
    ):
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        check_decoded_size(sum(info.file_size for info in members), path.name)
        arrays = {}
        for info in members:
            name = info.filename.removesuffix(".npy")
            arrays[name] = _npy_array(archive.read(info), f"{path.name}, array {name}")
        return arrays


def _npy_array(content: bytes, name: str) -> np.ndarray:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if math.prod(shape) * dtype.itemsize > len(content) - file.tell():
        raise DataError(f"{name} claims the shape {shape}, but its file is smaller: create it again")
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
