"""The laboratory: experiments on the memory of LSTM, GRU and simple recurrent networks.

A lab is a ``.toml`` file in this package. It has the experiment (a module of this package), its settings and seeds, and
published figures with their sources. ``lstmkit lab NAME`` runs it and writes a JSON file and a figure.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from lstmkit.errors import SettingError, UserError
from lstmkit.progress import Progress
from lstmkit.report import format_table, save_figure
from lstmkit.settings import unknown
from lstmkit.training import checkpoint
from lstmkit.training.provenance import provenance, read_toml

T = TypeVar("T")


@dataclass(frozen=True)
class Lab:
    """An experiment with its settings.

    Attributes:
        name: Name of the lab and its file.
        title: One line.
        question: The question that the experiment answers.
        experiment: Module of this package that runs it.
        settings: Settings of the experiment.
        published: Published figures, each with at least ``name`` and ``source``.

    >>> find_lab("adding").experiment
    'long_lag'
    """

    name: str
    title: str
    question: str
    experiment: str
    settings: dict[str, Any]
    published: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class ExperimentResult:
    """The result of an experiment.

    Attributes:
        table: Summary table.
        rows: One row per run.
        figure: Figure of the summary.
    """

    table: pd.DataFrame
    rows: pd.DataFrame
    figure: Figure


class Experiment(Protocol):
    """Interface of the module of an experiment."""

    def run(self, lab: Lab, progress: Progress) -> ExperimentResult:
        """Run the experiment.

        Raises:
            UserError: A setting is invalid.
        """
        ...


@dataclass(frozen=True, eq=False)
class LabResult:
    """A lab and its result.

    Attributes:
        lab: The lab.
        result: The result of its experiment.
        minutes: Run time.
    """

    lab: Lab
    result: ExperimentResult
    minutes: float

    def to_json(self) -> dict[str, Any]:
        """Settings, all rows, published figures and provenance: everything needed to reproduce the result."""
        rows, table = (
            frame.astype(object).where(frame.notna(), None).to_dict("records")
            for frame in (self.result.rows, self.result.table)
        )
        return {
            "lab": self.lab.name,
            "title": self.lab.title,
            "question": self.lab.question,
            "experiment": self.lab.experiment,
            "settings": self.lab.settings,
            "table": table,
            "rows": rows,
            "published": self.lab.published,
            "minutes": round(self.minutes, 1),
            **provenance(),
        }

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``folder/<lab>.json`` and ``folder/<lab>.png``; returns both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        json_path, figure_path = folder / f"{self.lab.name}.json", folder / f"{self.lab.name}.png"
        checkpoint.write_json(json_path, self.to_json())
        save_figure(self.result.figure, figure_path, dpi=150, metadata={"Software": None})
        return json_path, figure_path

    def __str__(self) -> str:
        lines = [f"  {p['name']} ({p['source']})" for p in self.lab.published]
        published = "\npublished:\n" + "\n".join(lines) if lines else ""
        return f"{self.lab.title}\n{format_table(self.result.table)}\n{self.minutes:.1f} minutes{published}"


def all_labs() -> list[Lab]:
    """All labs, sorted by name."""
    return [_read(path) for path in sorted(Path(__file__).parent.glob("*.toml"))]


def find_lab(name: str, changes: Mapping[str, Any] | None = None) -> Lab:
    """Find a lab by name, optionally with changed settings.

    Raises:
        UserError: No lab has this name.
        SettingError: The lab does not have a changed setting.
    """
    labs = {lab.name: lab for lab in all_labs()}
    if name not in labs:
        raise UserError(unknown(name, labs, what="lab"))
    lab = labs[name]
    for setting in changes or {}:
        if setting not in lab.settings:
            raise SettingError(unknown(setting, lab.settings, what="setting"))
    return Lab(**{**vars(lab), "settings": {**lab.settings, **(changes or {})}})


find = find_lab


def run(lab: Lab, progress: Progress) -> LabResult:
    """Run a lab.

    Raises:
        UserError: A setting is invalid.
    """
    experiment: Experiment = importlib.import_module(f"{__name__}.{lab.experiment}")  # type: ignore[assignment]
    started = time.perf_counter()
    result = experiment.run(lab, progress)
    return LabResult(lab, result, (time.perf_counter() - started) / 60)


def build_settings(settings_class: Callable[..., T], settings: Mapping[str, Any]) -> T:
    """Build an experiment's settings from those of a lab file; lists become tuples.

    Raises:
        SettingError: The experiment does not have a setting.
    """
    names = [f.name for f in fields(settings_class)]  # type: ignore[arg-type]
    for name in settings:
        if name not in names:
            raise SettingError(unknown(name, names, what="setting"))
    return settings_class(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})


def _read(path: Path) -> Lab:
    return Lab(path.stem, **{"published": [], **read_toml(path)})
