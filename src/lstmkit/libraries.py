"""Imports of libraries that an extra of pip installs: a missing one is one line that names the extra."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lstmkit.errors import MissingLibraryError


@contextmanager
def imports_of(extra: str, purpose: str) -> Iterator[None]:
    """Context of imports that need an extra.

    Args:
        extra: Name of the extra: ``pip install 'lstmkit[EXTRA]'``.
        purpose: What needs the libraries, in the message.

    Raises:
        MissingLibraryError: A library is not installed.

    >>> with imports_of("sound", "audio"):
    ...     import no_such_library
    Traceback (most recent call last):
        ...
    lstmkit.errors.MissingLibraryError: audio needs no_such_library: pip install 'lstmkit[sound]'
    """
    try:
        yield
    except ModuleNotFoundError as err:
        library = (err.name or "").partition(".")[0]
        if library in ("", "lstmkit"):
            raise  # a bug in the package
        raise MissingLibraryError(f"{purpose} needs {library}: pip install 'lstmkit[{extra}]'") from err


def import_library(name: str, extra: str, purpose: str) -> Any:
    """Import a module of an extra, see :func:`imports_of`."""
    with imports_of(extra, purpose):
        return importlib.import_module(name)
