"""Folders for the files of requests: their names are the server's, and nothing of them stays."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX, _LOCK = "lstmkit-serve-", "lock"


@contextmanager
def upload_root() -> Iterator[Path]:
    """The folder of this server's uploads; it is removed at the end.

    A killed server cannot remove its folder. The next one of the same user does: the lock in it is free then.
    """
    _remove_abandoned()
    root = Path(tempfile.mkdtemp(prefix=_PREFIX))  # mode 0700
    lock = FileLock(root / _LOCK)
    lock.acquire()
    try:
        yield root
    finally:
        lock.release()
        shutil.rmtree(root, ignore_errors=True)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):  # another user's, one in use, or removed meanwhile
            is_own = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
            if is_own and not folder.is_symlink() and (folder / _LOCK).exists():
                with FileLock(folder / _LOCK, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def request_folder(root: Path) -> Iterator[Path]:
    """A new folder for the files of one request."""
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
