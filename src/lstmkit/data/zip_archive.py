"""What is in a zip, file by file; nothing is unpacked to the disk."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from lstmkit.errors import DataError, one_line

_MAX_MEMBER_BYTES = 500_000_000  # bytes of a file in it


def opened(path: Path) -> zipfile.ZipFile:
    """The zip.

    Raises:
        DataError: There is none, or it is damaged.
    """
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as err:
        raise DataError(f"no such file: {path}") from err
    except (OSError, zipfile.BadZipFile) as err:
        raise DataError(f"{path.name} is no zip that can be read ({one_line(err)}): get it again") from err


def names(archive: zipfile.ZipFile) -> list[str]:
    """Its files in order, without those that are hidden."""
    return sorted(one.filename for one in archive.infolist() if not one.is_dir() and not is_hidden_file(one.filename))


def content(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    """What the file ``name`` holds; ``where`` is what messages call the zip.

    Raises:
        DataError: It is not there, damaged, locked, or larger than 500 MB.
    """
    try:
        if archive.getinfo(name).file_size > _MAX_MEMBER_BYTES:
            raise DataError(f"{name} in {where} has more than {_MAX_MEMBER_BYTES:,} bytes: unpack it first")
        return archive.read(name)
    except KeyError as err:
        raise DataError(f"{where} has no file {name!r}: its table names it") from err
    except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError) as err:
        raise DataError(f"{name} in {where} cannot be read ({one_line(err)}): unpack it first") from err


def is_hidden_file(name: str) -> bool:
    """Whether a file, or a folder it lies in, begins with a dot, or is what a Mac puts beside."""
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
