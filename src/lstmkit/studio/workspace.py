"""The folder of the studio: data that were added, and runs. The server chooses all names in it."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lstmkit.data.folders import visible_files
from lstmkit.errors import DataError, UserError, one_line
from lstmkit.training.checkpoint import write_bytes

_ID = re.compile(r"[a-z0-9][a-z0-9_]*(-[a-z0-9]+)*")
_MAX_NAME = 60  # characters of a file's name
_START = "start.json"


class NotFoundError(UserError):
    """There is nothing with such a name in the studio."""


@dataclass(frozen=True)
class Upload:
    """Data that were added.

    Attributes:
        id: Its name in addresses.
        path: The file, or a folder if there are several files.
        seconds: When it was added, in seconds since 1970.
    """

    id: str
    path: Path
    seconds: float

    @property
    def title(self) -> str:
        """How pages name it."""
        return self.id if self.path.is_dir() else self.path.name

    @property
    def size(self) -> int:
        """Bytes of its files."""
        files = visible_files(self.path) if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files)


@dataclass(frozen=True)
class Run:
    """A training that was started.

    Attributes:
        folder: Its folder.
        job: Name of the job.
        data: The id of its data.
        settings: The settings that were given.
        seconds: When it was started, in seconds since 1970.
    """

    folder: Path
    job: str
    data: str
    settings: Mapping[str, Any]
    seconds: float

    @property
    def id(self) -> str:
        """Its name in addresses."""
        return self.folder.name

    @property
    def model_folder(self) -> Path:
        """The run folder that ``fit`` writes."""
        return self.folder / "run"

    @property
    def log(self) -> Path:
        """What ``fit`` printed to stderr."""
        return self.folder / "progress.log"

    @property
    def answers(self) -> Path:
        """The folder of what the model answered."""
        return self.folder / "answers"


class Workspace:
    """The folder of the studio.

    Args:
        root: The folder; it is made when the first data are added.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._uploads, self._runs = self.root / "data", self.root / "runs"

    # ---- data --------------------------------------------------------------------------------------------------------

    def uploads(self) -> list[Upload]:
        """All data, the newest first."""
        return _newest_first(filter(None, map(self._read_upload, _folders(self._uploads))))

    def upload(self, id: str) -> Upload:
        """The data with an id.

        Raises:
            NotFoundError: There are none.
        """
        upload = self._read_upload(_named(self._uploads, id))
        if upload is None:
            raise NotFoundError(f"there are no data {one_line(id)!r}: add a file")
        return upload

    def add(self, files: Iterable[tuple[str, IO[bytes]]]) -> Upload:
        """Keep a copy of one or several files.

        Args:
            files: The name and content of each. Of a name only letters, digits and ``. _ -`` are used; the names of
                folders before it, from a chosen folder, become subfolders.

        Raises:
            DataError: There is no file.
        """
        named = [(_parts(name), content) for name, content in files]
        if not named:
            raise DataError("no file was chosen: choose one, or drop it on the page")
        folder = self._new_folder(self._uploads, named[0][0][0].partition(".")[0])
        for parts, content in named:
            place = folder.joinpath("files", *parts[1:-1])  # the chosen folder itself is ``files``
            place.mkdir(parents=True, exist_ok=True)
            with _free_path(place, parts[-1]).open("wb") as file:
                shutil.copyfileobj(content, file)
        return self.upload(folder.name)

    def remove_upload(self, id: str) -> None:
        """Delete data. Runs keep their models.

        Raises:
            NotFoundError: There are none with the id.
        """
        self.upload(id)
        shutil.rmtree(self._uploads / id)

    def _read_upload(self, folder: Path) -> Upload | None:
        place = folder / "files"
        files = sorted(place.iterdir()) if place.is_dir() else []
        if not files:
            return None
        is_single = len(files) == 1 and files[0].is_file()
        return Upload(folder.name, files[0] if is_single else place, place.stat().st_mtime)

    # ---- runs --------------------------------------------------------------------------------------------------------

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        return _newest_first(filter(None, map(self._read_run, _folders(self._runs))))

    def run(self, id: str) -> Run:
        """The run with an id.

        Raises:
            NotFoundError: There is none.
        """
        run = self._read_run(_named(self._runs, id))
        if run is None:
            raise NotFoundError(f"there is no run {one_line(id)!r}: choose one from the list")
        return run

    def new_run(self, job: str, data: str, settings: Mapping[str, Any]) -> Run:
        """A folder for a run that is about to start."""
        run = Run(self._new_folder(self._runs, job), job, data, settings, time.time())
        start = {"job": job, "data": data, "settings": settings, "seconds": run.seconds}
        write_bytes(run.folder / _START, json.dumps(start, indent=2).encode())
        return run

    def remove_run(self, run: Run) -> None:
        """Delete a run and its model."""
        shutil.rmtree(run.folder)

    def _read_run(self, folder: Path) -> Run | None:
        try:
            start = json.loads((folder / _START).read_bytes())
            return Run(folder, start["job"], start["data"], start["settings"], start["seconds"])
        except (OSError, ValueError, LookupError, TypeError):  # a folder of something else
            return None

    def _new_folder(self, parent: Path, name: str) -> Path:
        stem = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_") or "data"
        parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            folder = parent / f"{stem}-{number}"
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return folder


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def _named(parent: Path, id: str) -> Path:
    """The folder with an id; one that cannot exist if the id is not of the form that the server gives."""
    return parent / (id if _ID.fullmatch(id) else "-")


def _newest_first(items: Iterable[Any]) -> list[Any]:
    return sorted(items, key=lambda item: -item.seconds)


def _parts(name: str) -> list[str]:
    """The parts of a path in harmless characters.

    >>> _parts("../clips/yes (1)/a b.wav"), _parts("C:\\\\data\\\\sales.csv")
    (['clips', 'yes_1_', 'a_b.wav'], ['C_', 'data', 'sales.csv'])
    """
    parts = (re.sub(r"[^A-Za-z0-9._-]+", "_", part).lstrip("._-") for part in re.split(r"[/\\]", name))
    return [_shortened(part) for part in parts if part] or ["file"]


def _shortened(name: str) -> str:
    stem, dot, suffixes = name.partition(".")
    return stem[:_MAX_NAME] + dot + suffixes[-_MAX_NAME:]


def _free_path(folder: Path, name: str) -> Path:
    """A path in the folder that is not taken: ``a-2.csv`` after ``a.csv``."""
    stem, dot, suffixes = name.partition(".")
    names = (name, *(f"{stem}-{number}{dot}{suffixes}" for number in range(2, 100_000)))
    return next(path for path in (folder / each for each in names) if not path.exists())
