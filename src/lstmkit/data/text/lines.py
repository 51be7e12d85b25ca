"""Lines of text, streamed from the file, so that a corpus may be larger than memory."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lstmkit.data.files import check_regular_file, reading
from lstmkit.data.formats import UTF, DataFormat
from lstmkit.data.text_files import open_bytes, open_text
from lstmkit.errors import DataError

_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+|\n+")

TEXT_FILE = DataFormat(
    "text file",
    gzip=True,
    encoding=UTF,
    notes="Any ending; one that ends in .gz is gzipped. A line ends at a line feed. No comments.",
)
MAX_LINE_LENGTH = 1_000_000  #: Maximum characters of a line; a longer line is split, so that it fits in memory.
MAX_WHOLE_LENGTH = 10_000_000  #: Maximum characters of a line that must stay whole; a longer one is refused.


@dataclass(frozen=True)
class Text:
    """Lines ``first .. last - 1`` of a text.

    Attributes:
        source: The file, gzipped or not; or the lines.
        first: First line, from 0.
        last: Line after the last one.
        name: Its name in messages.
        whole: Whether long lines are kept whole, so that lines of parallel files stay aligned.

    >>> len(Text(("to be", "or not"), 0, 2, "a play").slice(0, 1))
    1
    """

    source: Path | tuple[str, ...]
    first: int
    last: int
    name: str
    whole: bool = False

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[str]:
        """Iterate over the lines, without line breaks."""
        lines = _file_lines(self.source, self.whole) if isinstance(self.source, Path) else iter(self.source)
        return itertools.islice(lines, self.first, self.last)

    def slice(self, first: int, last: int) -> Text:
        """Lines ``first .. last - 1`` of this text."""
        return replace(self, first=self.first + first, last=self.first + min(last, len(self)))

    def digest(self) -> str:
        """SHA-256 of the lines."""
        digest = hashlib.sha256()
        for line in self:
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()


def read_text(data: object, *, whole: bool = False) -> Text:
    """Read a text file (UTF-8, or UTF-16 with a byte order mark; gzipped or not), or take lines of text.

    Args:
        data: The path of a file, or a list of lines.
        whole: Whether to keep lines whole, up to :data:`MAX_WHOLE_LENGTH` characters; by default long ones are split,
            see :data:`MAX_LINE_LENGTH`.

    Raises:
        DataError: The file does not exist, is empty or not UTF-8, or a line that must stay whole is too long. The
            message names the line.

    >>> list(read_text(["to be", "or not"]))
    ['to be', 'or not']
    """
    if isinstance(data, Text):
        return data
    if isinstance(data, Sequence) and not isinstance(data, str):
        lines = [line for entry in data for line in _validated_line(entry).split("\n")]
        return _not_empty(Text(tuple(lines), 0, len(lines), "the text"))
    if not isinstance(data, (str, Path)):
        raise DataError(f"give the path of a text file, or lines of text, not {type(data).__name__}")
    path = check_regular_file(Path(data))
    return _not_empty(Text(path, 0, sum(1 for _ in _file_lines(path, whole)), path.name, whole))


def _validated_line(entry: object) -> str:
    if not isinstance(entry, str):
        raise DataError(
            f"a text must be a list of strings, but one entry is {type(entry).__name__} {entry!r}: give strings"
        )
    return entry


def _not_empty(text: Text) -> Text:
    if not any(line.strip() for line in text):
        raise DataError(f"{text.name} is empty: give a file with text")
    return text


def _file_lines(path: Path, whole: bool = False) -> Iterator[str]:
    """Lines of a file; the last one may lack a line break."""
    problem = "is not a complete gzip file" if path.suffix == ".gz" else "cannot be read"
    with reading(path.name, problem, "download or create it again"):
        try:
            with open_text(path) as file:
                longest = MAX_WHOLE_LENGTH + 1 if whole else MAX_LINE_LENGTH
                for number, line in enumerate(iter(lambda: file.readline(longest), ""), 1):
                    if whole and len(line.removesuffix("\n")) > MAX_WHOLE_LENGTH:
                        raise DataError(
                            f"{path.name}, line {number} has more than {MAX_WHOLE_LENGTH:,} characters: break it into "
                            "several lines"
                        )
                    yield line.removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise DataError(_not_utf8(path)) from None


def _not_utf8(path: Path) -> str:
    """Message with the line of the first invalid byte; the decoder reads ahead and does not know the line."""
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            if "\ufffd" in (text := line.decode("utf-8", errors="replace")) and text.encode() != line:
                bad = line[len(text[: text.index("\ufffd")].encode())]
                return f"{path.name}, line {number}: byte 0x{bad:02X} is not UTF-8: save the file as UTF-8"
    return f"{path.name} is not UTF-8: save the file as UTF-8"


def read_prompts(data: object, name: str = "") -> list[str]:
    """Lines of a text that each get an answer. Blank lines at the end are dropped.

    Args:
        data: What :func:`read_text` reads.
        name: Name of the text in messages; by default that of the file.

    Raises:
        DataError: As :func:`read_text`; or a line is blank.

    >>> read_prompts(["to be", ""])
    ['to be']
    """
    text = read_text(data, whole=True)
    lines = list(text)
    while not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise DataError(f"{name or text.name}, line {number} is blank: write a text there, or remove the line")
    return lines


def split_sentences(text: str) -> list[str]:
    """Split a text at line breaks and after ``.``, ``!`` and ``?``; blank sentences are dropped.

    >>> split_sentences("Mary left. Did she?\\nYes")
    ['Mary left.', 'Did she?', 'Yes']
    """
    return [sentence.strip() for sentence in _SENTENCE_ENDS.split(text) if sentence.strip()]
