"""Text by lines, read from its file as they are asked for: a corpus may be bigger than memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from lstmkit.errors import DataError

_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+|\n+")

MAX_LINE_LENGTH = 1_000_000  #: Characters; a longer line is read as several, so that memory holds it.


@dataclass(frozen=True)
class Text:
    """Lines ``first`` to ``last`` (excluded) of a text.

    Attributes:
        source: Its file, as it is or gzipped; or its lines.
        first: From 0.
        last: The line after its last.
        name: What messages call it.
        whole: Whether a line is one line, however long: what stands beside it in another file must stay there.
    """

    source: Path | tuple[str, ...]
    first: int
    last: int
    name: str
    whole: bool = False

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[str]:
        """Line after line, without its end."""
        lines = _file_lines(self.source, self.whole) if isinstance(self.source, Path) else iter(self.source)
        return itertools.islice(lines, self.first, self.last)

    def part(self, first: int, last: int) -> Text:
        """The lines ``first`` to ``last`` of these."""
        return replace(self, first=self.first + first, last=self.first + min(last, len(self)))

    def digest(self) -> str:
        """A fingerprint of the lines."""
        found = hashlib.sha256()
        for line in self:
            found.update(line.encode() + b"\n")
        return found.hexdigest()


def read_text(data: object, *, whole: bool = False) -> Text:
    """A text file (UTF-8, gzipped or not), or lines; ``whole``: with no line cut, however long.

    Raises:
        DataError: There is no such file, it is empty or not UTF-8: the message names the line.

    >>> list(read_text(["to be", "or not"]))
    ['to be', 'or not']
    """
    if isinstance(data, Text):
        return data
    if isinstance(data, Sequence) and not isinstance(data, str):
        lines = [line for entry in data for line in _checked(entry).split("\n")]
        return _not_empty(Text(tuple(lines), 0, len(lines), "the text"))
    if not isinstance(data, (str, Path)):
        raise DataError(f"give the path of a text file, or lines of text, not {type(data).__name__}")
    path = Path(data)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    return _not_empty(Text(path, 0, sum(1 for _ in _file_lines(path, whole)), path.name, whole))


def _checked(entry: object) -> str:
    if not isinstance(entry, str):
        raise DataError(f"a text is lines of text, but one of them is {type(entry).__name__} {entry!r}")
    return entry


def _not_empty(text: Text) -> Text:
    if not any(line.strip() for line in text):
        raise DataError(f"{text.name} is empty: there is no text in it")
    return text


def _file_lines(path: Path, whole: bool = False) -> Iterator[str]:
    """The lines of a file; the end of the last may be left out."""
    try:
        with _open(path) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as file:
            while line := file.readline(-1 if whole else MAX_LINE_LENGTH):
                yield line.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise DataError(_not_utf8(path)) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as err:
        raise DataError(f"{path.name} is no whole gzip file: {err}") from err


def _not_utf8(path: Path) -> str:
    """Where a file is no text: the decoder reads ahead and cannot tell the line."""
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if "\ufffd" in (text := line.decode("utf-8", errors="replace")) and text.encode() != line:
                bad = line[len(text[: text.index("\ufffd")].encode())]
                return f"{path.name}, line {number}: byte 0x{bad:02X} is not UTF-8: save the file as UTF-8"
    return f"{path.name} is not UTF-8: save the file as UTF-8"


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def sentences(text: str) -> list[str]:
    """A text's lines, cut after ``.``, ``!`` and ``?``; blank ones left out.

    >>> sentences("Mary left. Did she?\\nYes")
    ['Mary left.', 'Did she?', 'Yes']
    """
    return [found for piece in _SENTENCE_ENDS.split(text) if (found := piece.strip())]
