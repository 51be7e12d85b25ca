"""Catalog of public data sets: their files, URLs, licenses and checksums.

A data set is searched in ``$LSTMKIT_DATA/NAME/``, then in the cache (``$LSTMKIT_CACHE/NAME/``, else the user's cache
folder). Files are downloaded only if the caller asks for it. A known sha256 is checked at each call.
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
    """One file of a data set.

    Attributes:
        name: File name at the source; ``FOLDER__NAME`` if several files have that name.
        url: URL at a fixed commit; empty if the file was made from other files.
        sha256: Checksum of the file at the source; empty if its authors distribute it themselves and none is known.
        sha256_gz: Checksum of a local gzipped copy ``name + ".gz"``; ``None`` if there is no such copy.
        made_from: If there is no URL: the files it was made from, and how.
    """

    name: str
    url: str
    sha256: str
    sha256_gz: str | None = None
    made_from: str = ""

    @property
    def origin(self) -> str:
        """Where to get the file, for messages."""
        return self.url or f"{'a file made' if self.sha256 else 'the file obtained'} from {self.made_from}"

    def hashes(self) -> dict[str, str]:
        """Checksums by file name: the file, and its gzipped copy if it may have one."""
        return {self.name: self.sha256} | ({f"{self.name}.gz": self.sha256_gz} if self.sha256_gz else {})


@dataclass(frozen=True)
class CatalogEntry:
    """One data set of the catalog. Its use is subject to ``license``; publications cite ``citation``."""

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
        name: CatalogEntry(name, t["title"], t["license"], t["citation"], tuple(DataFile(**f) for f in t["files"]))
        for name, t in tables.items()
    }


def names() -> list[str]:
    """Names of all data sets.

    >>> "tinyshakespeare" in names()
    True
    """
    return list(_catalog())


def entry(name: str) -> CatalogEntry:
    """The data set ``name``.

    Raises:
        DataError: Unknown name; the message suggests the closest one.

    >>> entry("ett").title
    'Electricity Transformer Temperature, hourly (ETTh1, ETTh2)'
    """
    if name not in _catalog():
        raise DataError(f"unknown data set {name!r}{_suggestion(name, names())}")
    return _catalog()[name]


def locate(name: str, filename: str | None = None, *, download: bool = False) -> Path:
    """Local path of a data set: of its file ``filename``, or of the folder with all its files.

    Args:
        name: A data set of the catalog.
        filename: One of its files, with or without ``.gz``. The returned path may be that of the gzipped copy.
        download: Whether to download missing files into the cache.

    Raises:
        DataError: Unknown data set or file; the file is missing or cannot be downloaded; or its checksum is wrong. The
            message names the URL and the path to put the file at.
    """
    files = entry(name).files if filename is None else (_file(entry(name), filename),)
    folders = _folders(name)
    folder = next((f for f in folders if all(_local_path(f, file) for file in files)), folders[-1])
    paths = [_local_path(folder, file) or _fetch(name, file, folders, download) for file in files]
    for path, file in zip(paths, files, strict=True):
        _check(path, file)
    return folder if filename is None else paths[0]


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else f" (known: {', '.join(known)})"


def _file(dataset: CatalogEntry, filename: str) -> DataFile:
    for file in dataset.files:
        if filename in (file.name, f"{file.name}.gz", file.name.removesuffix(".gz")):
            return file
    known = [file.name for file in dataset.files]
    raise DataError(f"data set {dataset.name!r} has no file {filename!r}{_suggestion(filename, known)}")


def _folders(name: str) -> list[Path]:
    """Folders that may hold the data set, the cache last."""
    data_folder, cache_folder = os.environ.get("LSTMKIT_DATA"), os.environ.get("LSTMKIT_CACHE")
    roots = [Path(data_folder).expanduser()] if data_folder else []
    roots.append(Path(cache_folder).expanduser() if cache_folder else Path(pooch.os_cache("lstmkit")))
    return [root / name for root in roots]


def _local_path(folder: Path, file: DataFile) -> Path | None:
    """Path of ``file`` or its gzipped copy in ``folder``; ``None`` if neither exists."""
    return next((folder / name for name in file.hashes() if (folder / name).is_file()), None)


def _check(path: Path, file: DataFile) -> None:
    actual, expected = hashlib.sha256(path.read_bytes()).hexdigest(), file.hashes()[path.name]
    if expected and actual != expected:
        raise DataError(
            f"{path} is not the file of the catalog: its sha256 is {actual[:12]}…, expected {expected[:12]}…: "
            f"delete it, or replace it by {file.origin}"
        )


def _fetch(name: str, file: DataFile, folders: list[Path], download: bool) -> Path:
    """Download ``file`` into the cache, the last of ``folders``."""
    places = " or ".join(str(folder / file.name) for folder in folders)
    if not file.url:
        raise DataError(
            f"data set {name!r}: {file.name} is not on this machine and has no URL: put {file.origin} at {places}"
        )
    if not download:
        raise DataError(
            f"data set {name!r}: {file.name} is not on this machine: download it with 'lstmkit data {name}', or put "
            f"{file.url} at {places}"
        )
    try:
        return Path(pooch.retrieve(file.url, f"sha256:{file.sha256}", fname=file.name, path=folders[-1]))
    except OSError as error:  # no network, or disk full
        reason = type(error).__name__
    except ValueError:  # checksum mismatch: pooch has deleted the file
        reason = f"its sha256 is not {file.sha256[:12]}…"
    raise DataError(f"data set {name!r}: {file.name} could not be downloaded ({reason}): put {file.url} at {places}")
