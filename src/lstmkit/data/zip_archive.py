"""Read files inside a zip archive without unpacking it to disk."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from lstmkit.errors import DataError, one_line

_MAX_MEMBER_BYTES = 500_000_000  # uncompressed size of one file


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive.

    Raises:
        DataError: The file does not exist, or is damaged.
    """
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as err:
        raise DataError(f"no such file: {path}") from err
    except (OSError, zipfile.BadZipFile) as err:
        raise DataError(
            f"{path.name} is not a readable zip archive ({one_line(err)}): download or create it again"
        ) from err


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
        DataError: The file is missing, damaged, encrypted, or larger than 500 MB.
    """
    try:
        if archive.getinfo(name).file_size > _MAX_MEMBER_BYTES:
            raise DataError(f"{name} in {where} has more than {_MAX_MEMBER_BYTES:,} bytes: unpack it first")
        return archive.read(name)
    except KeyError as err:
        raise DataError(
            f"{where} has no file {name!r}, but its table names it: add the file, or remove the row"
        ) from err
    except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError) as err:
        raise DataError(f"{name} in {where} cannot be read ({one_line(err)}): unpack it first") from err


def is_hidden_file(name: str) -> bool:
    """Whether a file or one of its folders is hidden: its name begins with a dot or is ``__MACOSX``."""
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in PurePosixPath(name).parts)
