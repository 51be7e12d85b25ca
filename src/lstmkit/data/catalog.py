"""The catalogue of public data: which files a set has, where they come from, and how to tell that they are the same.

A set is looked for in ``$LSTMKIT_DATA/NAME/``, then in the cache (``$LSTMKIT_CACHE/NAME/``, else the user's own cache
folder). The network is used only where a caller asks for it. Every file whose sha256 is known is checked, each time.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pooch

from lstmkit.errors import DataError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class DataFile:
    """One file of a set.

    Attributes:
        name: Its name, as at the source; ``FOLDER__NAME`` where it must be told from others of that name.
        url: Its address at a fixed commit; empty where it was made from other files.
        sha256: Of the file as at the source; empty where its makers hand it out themselves and no sum is known.
        sha256_gz: Of ``name + ".gz"``, its gzip as it may be kept on this machine; ``None`` where it is not kept so.
        made_from: Where there is no address: which files it was made from, and how.
    """

    name: str
    url: str
    sha256: str
    sha256_gz: str | None = None
    made_from: str = ""

    @property
    def origin(self) -> str:
        """Where to get it, as messages say it."""
        return self.url or f"{'a file made' if self.sha256 else 'what comes'} from {self.made_from}"

    def hashes(self) -> dict[str, str]:
        """The sha256 of each name under which the file may be kept."""
        return {self.name: self.sha256} | ({f"{self.name}.gz": self.sha256_gz} if self.sha256_gz else {})


@dataclass(frozen=True)
class CatalogEntry:
    """One data set of the catalogue. Who uses it keeps to ``licence`` and names ``citation``."""

    name: str
    title: str
    license: str
    citation: str
    files: tuple[DataFile, ...]


@functools.cache
def _catalog() -> dict[str, CatalogEntry]:
    with Path(__file__).with_name("catalog.toml").open("rb") as file:
        tables = tomllib.load(file)
    return {
        name: CatalogEntry(name, t["title"], t["licence"], t["citation"], tuple(DataFile(**f) for f in t["files"]))
        for name, t in tables.items()
    }


def names() -> list[str]:
    """The names of all sets.

    >>> "tinyshakespeare" in names()
    True
    """
    return list(_catalog())


def entry(name: str) -> CatalogEntry:
    """The set called ``name``.

    Raises:
        DataError: There is none; the message gives the nearest name.

    >>> entry("ett").title
    'Electricity Transformer Temperature, hourly (ETTh1, ETTh2)'
    """
    if name not in _catalog():
        raise DataError(f"unknown data set {name!r}{_nearest(name, names())}")
    return _catalog()[name]


def locate(name: str, filename: str | None = None, *, download: bool = False) -> Path:
    """Where the set ``name`` is on this machine: the path of its file ``filename``, else the folder with all its files.

    Args:
        name: A set of the catalogue.
        filename: One of its files, with or without ``.gz``; the path may be of the other of the two.
        download: Whether to fetch what is not there, into the cache.

    Raises:
        DataError: No such set or file; it is not here and was not to be fetched or could not be; or its content is
            not the right one. The message says which file to put where, and its address.
    """
    files = entry(name).files if filename is None else (_file(entry(name), filename),)
    folders = _folders(name)
    here = next((folder for folder in folders if all(_kept(folder, file) for file in files)), folders[-1])
    paths = [_kept(here, file) or _fetch(name, file, folders, download) for file in files]
    for path, file in zip(paths, files, strict=True):
        _check(path, file)
    return here if filename is None else paths[0]


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else f" (known: {', '.join(known)})"


def _file(of: CatalogEntry, filename: str) -> DataFile:
    for file in of.files:
        if filename in (file.name, f"{file.name}.gz", file.name.removesuffix(".gz")):
            return file
    raise DataError(
        f"data set {of.name!r} has no file {filename!r}{_nearest(filename, [file.name for file in of.files])}"
    )


def _folders(name: str) -> list[Path]:
    """Where the set may be, the cache last."""
    given, cache = os.environ.get("LSTMKIT_DATA"), os.environ.get("LSTMKIT_CACHE")
    roots = [Path(given).expanduser()] if given else []
    roots.append(Path(cache).expanduser() if cache else Path(pooch.os_cache("lstmkit")))
    return [root / name for root in roots]


def _kept(folder: Path, file: DataFile) -> Path | None:
    """The path of ``file`` in ``folder``, as at the source or as its gzip."""
    return next((folder / name for name in file.hashes() if (folder / name).is_file()), None)


def _check(path: Path, file: DataFile) -> None:
    found, expected = hashlib.sha256(path.read_bytes()).hexdigest(), file.hashes()[path.name]
    if expected and found != expected:
        raise DataError(
            f"{path} is not the file of the catalogue: its sha256 is {found[:12]}…, not {expected[:12]}…: "
            f"take it away, or put {file.origin} in its place"
        )


def _fetch(name: str, file: DataFile, folders: list[Path], download: bool) -> Path:
    """``file`` downloaded into the cache, the last of ``folders``."""
    places = " or ".join(str(folder / file.name) for folder in folders)
    if not file.url:
        raise DataError(
            f"data set {name!r}: {file.name} is not on this machine and has no address to fetch it from: put "
            f"{file.origin} at {places}"
        )
    if not download:
        raise DataError(
            f"data set {name!r}: {file.name} is not on this machine: fetch it with 'lstmkit data {name}', or put "
            f"{file.url} at {places}"
        )
    try:
        return Path(pooch.retrieve(file.url, f"sha256:{file.sha256}", fname=file.name, path=folders[-1]))
    except OSError as error:  # no network, no room
        reason = type(error).__name__
    except ValueError:  # pooch has taken the file away again
        reason = f"its sha256 is not {file.sha256[:12]}…"
    raise DataError(f"data set {name!r}: {file.name} could not be fetched ({reason}): put {file.url} at {places}")
