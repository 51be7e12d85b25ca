"""Read files inside a zip archive without unpacking it to disk."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from lstmkit.data.files import check_decoded_size, check_regular_file, reading
from lstmkit.errors import DataError


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive.

    Raises:
        DataError: The file does not exist, or is damaged.
    """
    check_regular_file(path)
    with reading(path.name, "is not a readable zip archive", "download or create it again"):
        archive = zipfile.ZipFile(path)
    if "" in archive.NameToInfo:  # which zipfile cannot handle
        archive.close()
        raise DataError(f"{path.name} is not a readable zip archive (a file has no name): download or create it again")
    return archive


def file_names(archive: zipfile.ZipFile) -> list[str]:
    """Sorted names of the files in an archive, without hidden files."""
    return sorted(
        info.filename for info in archive.infolist() if not info.is_dir() and not is_hidden_file(info.filename)
    )


def read_member(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    """Content of the file ``name`` in an archive.

    Args:
        archive: The archive.
        name: The file in it.
        where: Name of the archive in messages.

    Raises:
        DataError: The file is missing, damaged, encrypted, or larger than :func:`lstmkit.data.files.max_decoded_bytes`.
    """
    if name not in archive.NameToInfo:
        raise DataError(f"{where} has no file {name!r}, but its table names it: add the file, or remove the row")
    check_decoded_size(archive.getinfo(name).file_size, f"{name} in {where}")
    with reading(f"{name} in {where}", advice="unpack it first"):
        return archive.read(name)


def is_hidden_file(name: str) -> bool:
    """Whether a file or one of its folders is hidden: its name begins with a dot or is ``__MACOSX``."""
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in PurePosixPath(name).parts)
