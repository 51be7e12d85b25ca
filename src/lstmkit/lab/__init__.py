"""The memory laboratory: experiments that show what an LSTM can do that a plain network cannot, and why.

A lab is a ``.toml`` here: which experiment (a module here), its settings and seeds, and what was published, with its
source. ``lstmkit lab NAME`` runs it and writes numbers and picture.
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
    """One experiment with its settings.

    Attributes:
        name: Of its file.
        title: A line.
        question: What it asks.
        experiment: The module here that runs it.
        settings: Of the experiment.
        published: Figures of others: each with at least ``name`` and ``source``.
    """

    name: str
    title: str
    question: str
    experiment: str
    settings: dict[str, Any]
    published: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class ExperimentResult:
    """What an experiment gave.

    Attributes:
        table: What to read.
        rows: Every run, from which the table was made.
        figure: The answer, drawn.
    """

    table: pd.DataFrame
    rows: pd.DataFrame
    figure: Figure


class Experiment(Protocol):
    """What the module of an experiment has."""

    def run(self, lab: Lab, progress: Progress) -> ExperimentResult:
        """Do it.

        Raises:
            UserError: A setting that does not do.
        """
        ...


@dataclass(frozen=True, eq=False)
class Outcome:
    """A lab that was run."""

    lab: Lab
    findings: ExperimentResult
    minutes: float

    def to_json(self) -> dict[str, Any]:
        """Everything that is needed to believe it, or to do it again."""
        rows, table = (
            frame.astype(object).where(frame.notna(), None).to_dict("records")
            for frame in (self.findings.rows, self.findings.table)
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
        """``folder/<lab>.json`` and ``folder/<lab>.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        numbers, picture = folder / f"{self.lab.name}.json", folder / f"{self.lab.name}.png"
        checkpoint.write_json(numbers, self.to_json())
        save_figure(self.findings.figure, picture, dpi=150, metadata={"Software": None})
        return numbers, picture

    def __str__(self) -> str:
        lines = [f"  {p['name']} ({p['source']})" for p in self.lab.published]
        published = "\npublished:\n" + "\n".join(lines) if lines else ""
        return f"{self.lab.title}\n{format_table(self.findings.table)}\n{self.minutes:.1f} minutes{published}"


def all_labs() -> list[Lab]:
    """Every lab, by name."""
    return [_read(path) for path in sorted(Path(__file__).parent.glob("*.toml"))]


def find(name: str, changes: Mapping[str, Any] | None = None) -> Lab:
    """The lab of that name, some of its settings changed.

    Raises:
        UserError: There is none.
        SettingError: It has no such setting.
    """
    known = {lab.name: lab for lab in all_labs()}
    if name not in known:
        raise UserError(unknown(name, known, what="lab"))
    lab = known[name]
    for setting in changes or {}:
        if setting not in lab.settings:
            raise SettingError(unknown(setting, lab.settings, what="setting"))
    return Lab(**{**vars(lab), "settings": {**lab.settings, **(changes or {})}})


def run(lab: Lab, progress: Progress) -> Outcome:
    """Run the experiment."""
    experiment: Experiment = importlib.import_module(f"{__name__}.{lab.experiment}")  # type: ignore[assignment]
    started = time.perf_counter()
    findings = experiment.run(lab, progress)
    return Outcome(lab, findings, (time.perf_counter() - started) / 60)


def declared(settings_class: Callable[..., T], settings: Mapping[str, Any]) -> T:
    """An experiment's settings from those of its file; lists become tuples.

    Raises:
        SettingError: The experiment has no such setting.
    """
    known = [f.name for f in fields(settings_class)]  # type: ignore[arg-type]
    for name in settings:
        if name not in known:
            raise SettingError(unknown(name, known, what="setting"))
    return settings_class(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})


def _read(path: Path) -> Lab:
    return Lab(path.stem, **{"published": [], **read_toml(path)})
