"""Formats of data files: each reader declares those that it takes, and refuses every other file by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lstmkit.data.files import check_regular_file
from lstmkit.errors import DataError

#: Encodings of text: UTF-8 with or without a byte order mark, or UTF-16 with one; other bytes are refused, or Latin-1.
UTF = "UTF-8 or UTF-16"
UTF_OR_LATIN = f"{UTF}, else Latin-1"


@dataclass(frozen=True)
class DataFormat:
    """A format of data files.

    Attributes:
        name: Its name.
        suffixes: Endings of its files, in lower case; empty if it takes any ending.
        gzip: Whether a file may be gzipped: its ending is followed by ``.gz``.
        folder: Whether it is a folder of files instead of a file.
        encoding: Encoding of its text; empty if it is not text.
        notes: What else its files may have, such as separators, headers and comments.

    >>> DataFormat("table", (".csv",), gzip=True).matches(Path("SALES.CSV.gz"))
    True
    """

    name: str
    suffixes: tuple[str, ...] = ()
    gzip: bool = False
    folder: bool = False
    encoding: str = ""
    notes: str = ""

    @property
    def endings(self) -> tuple[str, ...]:
        """All endings, those of gzipped files too."""
        return (*self.suffixes, *(f"{suffix}.gz" for suffix in self.suffixes if self.gzip))

    def matches(self, path: Path) -> bool:
        """Whether a path may have the format, by its ending; a folder may have only that of a folder."""
        if self.folder or path.is_dir():
            return self.folder and path.is_dir()
        return not self.suffixes or path.name.lower().endswith(self.endings)

    def only(self, *suffixes: str) -> DataFormat:
        """The format with some of its endings."""
        return replace(self, suffixes=suffixes)


def check_format(path: Path, formats: Sequence[DataFormat]) -> Path:
    """Return ``path`` if its ending is one of the formats.

    Raises:
        DataError: It is not, and the message lists the endings that are. Or there is no such file.
    """
    if any(each.matches(path) for each in formats):
        return path
    check_regular_file(path)
    raise DataError(f"{path}: unsupported file format: give {_listed(formats)}")


def _listed(formats: Iterable[DataFormat]) -> str:
    """What to give: the endings of each format, or a folder.

    >>> _listed([DataFormat("table", (".csv", ".tsv"), gzip=True), DataFormat("folder of clips", folder=True)])
    'table (.csv, .tsv, gzipped or not) or folder of clips'
    """
    kinds = [
        each.name + (f" ({', '.join(each.suffixes)}{', gzipped or not' if each.gzip else ''})" if each.suffixes else "")
        for each in formats
    ]
    return " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
