"""Find the files of a folder."""

from __future__ import annotations

from pathlib import Path

from lstmkit.data.zip_archive import is_hidden_file


def visible_files(folder: Path) -> list[Path]:
    """Sorted files of a folder and its subfolders, without hidden files; the folder itself may be hidden."""
    files = (path for path in folder.rglob("*") if not is_hidden_file(path.relative_to(folder).as_posix()))
    return sorted(path for path in files if path.is_file())
