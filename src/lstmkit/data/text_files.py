"""Open text files: UTF-8 with or without a byte order mark, UTF-16 with one, gzipped or not."""

from __future__ import annotations

import codecs
import io
import os
from pathlib import Path, PurePath
from typing import IO

from lstmkit.data.files import open_file
from lstmkit.errors import DataError


def text_suffix(path: str | os.PathLike[str]) -> str:
    """Suffix in lower case, without ``.gz``.

    >>> text_suffix("corpus/Pairs.TSV.gz")
    '.tsv'
    """
    file = PurePath(path)
    return PurePath(file.stem if file.suffix.lower() == ".gz" else file.name).suffix.lower()


def open_bytes(path: Path, *, copies: int = 1) -> IO[bytes]:
    """Open a file, see :func:`lstmkit.data.files.open_file`; one with the suffix ``.gz`` is decompressed."""
    return open_file(path, gzipped=path.suffix.lower() == ".gz", copies=copies)


def open_text(path: Path) -> io.TextIOWrapper:
    """Open a text file for reading. Only ``\\n`` ends a line."""
    with open_bytes(path) as file:
        encoding = encoding_of(file.read(2))
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, newline="\n")


def encoding_of(start: bytes) -> str:
    """Encoding of a text that begins with ``start``, at least two bytes: UTF-16 if it has its byte order mark."""
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def decode_text(content: bytes, name: str) -> str:
    """Decode the content of a text file.

    Args:
        content: Its bytes, not compressed.
        name: Its name in messages.

    Raises:
        DataError: It is not text. The message names the line.

    >>> decode_text(codecs.BOM_UTF8 + b"to be", "hamlet.txt")
    'to be'
    """
    encoding = encoding_of(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as err:
        if encoding == "utf-16":
            raise DataError(f"{name} is not UTF-16 ({err.reason}): save the file as UTF-8") from err
        line = content.count(b"\n", 0, err.start) + 1
        byte = content[err.start]
        raise DataError(f"{name}, line {line}: byte 0x{byte:02X} is not UTF-8: save the file as UTF-8") from err
