"""Errors caused by input. Each message is one line: what is wrong, where, what to do. The command line exits with 2."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Base class of errors that the user can fix. The message is one line, whatever names of files and columns hold.

    >>> str(UserError("a.zip: two\\nlines is no name"))
    'a.zip: two lines is no name'
    """

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class DataError(UserError):
    """The data cannot be read or used."""


class SettingError(UserError):
    """A setting is unknown, invalid or out of range."""


class ModelFileError(UserError):
    """A saved model or run is damaged, incomplete, or from a newer version."""


class MissingLibraryError(UserError, ImportError):
    """A library of the job is not installed."""


class TrainingError(UserError):
    """Training cannot continue, for example because the loss is NaN."""


def format_timestamp(timestamp: object) -> str:
    """A timestamp as text, without the time of day if it is midnight."""
    return str(timestamp).removesuffix(" 00:00:00")


def one_line(text: object) -> str:
    """The first 200 characters of a text, on one line."""
    return " ".join(str(text).split())[:200]


def listing(names: Iterable[object]) -> str:
    """Comma-separated names, at most 12."""
    texts = [one_line(name) for name in names]
    return ", ".join(texts[:12]) + (f", … ({len(texts)} in total)" if len(texts) > 12 else "")
