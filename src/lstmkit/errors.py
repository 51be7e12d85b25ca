"""A user's mistakes. Each says what is wrong, where, and what to do, in one line; the command line exits with 2."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend. Its message is one line."""


class DataError(UserError):
    """The data cannot be used as they are."""


class SettingError(UserError):
    """A setting is unknown or out of range."""


class ModelFileError(UserError):
    """A saved model or run is damaged, unfinished, or from a newer version."""


class TrainingError(UserError):
    """Training cannot go on (the loss is no longer a number)."""


def format_timestamp(timestamp: object) -> str:
    """A stamp as a message shows it: a day without its midnight."""
    return str(timestamp).removesuffix(" 00:00:00")


def one_line(text: object) -> str:
    """The start of any text, on one line."""
    return " ".join(str(text).split())[:200]


def listing(names: Iterable[object]) -> str:
    """Names in a row, not too many."""
    shown = [one_line(name) for name in names]
    return ", ".join(shown[:12]) + (f", … ({len(shown)} in all)" if len(shown) > 12 else "")
