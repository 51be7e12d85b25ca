"""Published results to be held against: a data set, settings, a protocol, and figures with their source.

A recipe is a ``.toml`` here. Its protocol, how the field splits and scores that data set, is a function in the module
of its job, ``recipes/<job>.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.errors import UserError
from lstmkit.jobs import job_class
from lstmkit.progress import Progress
from lstmkit.report import format_table
from lstmkit.settings import unknown
from lstmkit.training import checkpoint
from lstmkit.training.provenance import provenance, read_toml
from lstmkit.training.run_folder import RunFolder

#: ``fit(data, validation)`` of the job; where its run is kept is the caller's affair.
Fit = Callable[..., Any]

#: ``protocol(job, fit, folder, options, progress) -> scores``: a row a model, this one first.
Protocol = Callable[[Any, Fit, Path, dict[str, Any], Progress], pd.DataFrame]

_HIGHER_IS_BETTER = {"accuracy", "macro F1", "micro F1", "BLEU", "chrF", "BLEU, lower-cased"}
_HIGHER_IS_BETTER |= {"exact match", "F1", "tasks at 95 %", "ROUGE-1", "ROUGE-2", "ROUGE-L", "Recall@20", "MRR@20"}
_HIGHER_IS_BETTER |= {"Q3", "Q8", "SOV3", "SOV8", "VUS-PR", "range F1", "overlap F1", "NAB", "NAB, best level"}
_HIGHER_IS_BETTER |= {"lift F1", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "exact match, new pairs"}


@dataclass(frozen=True)
class Recipe:
    """One published result: how to train for it, how it is scored, and what others got."""

    name: str
    title: str
    job: str
    data: str
    protocol: str
    options: dict[str, Any]
    settings: dict[str, Any]
    published: list[dict[str, Any]]
    remarks: list[str]


@dataclass(frozen=True)
class Outcome:
    """What reproducing a recipe gave."""

    recipe: Recipe
    table: pd.DataFrame
    minutes: float

    def to_json(self) -> dict[str, Any]:
        """Everything that is needed to believe it, or to do it again."""
        return {
            "recipe": self.recipe.name,
            "title": self.recipe.title,
            "data": self.recipe.data,
            "protocol": self.recipe.protocol,
            "options": self.recipe.options,
            "settings": self.recipe.settings,
            "scores": self.table.astype(object).where(self.table.notna(), None).to_dict("records"),
            "published": self.recipe.published,
            "remarks": self.recipe.remarks,
            "training_minutes": round(self.minutes, 1),
            **provenance("pandas"),
        }

    def write(self, folder: Path) -> Path:
        """``folder/<recipe>.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.recipe.name}.json"
        checkpoint.write_json(path, self.to_json())
        return path

    def __str__(self) -> str:
        names = [name for name in self.table.columns if name != "model"]
        best = {n: "high" if n in _HIGHER_IS_BETTER or n.startswith("accuracy, ") else "low" for n in names}
        lines = [f"  {p['name']}: {p['metric']} {p['value']} ({p['source']})" for p in self.recipe.published]
        published = "\npublished:\n" + "\n".join(lines) if lines else ""
        return f"{self.recipe.title}\n{format_table(self.table, best)}\ntraining took {self.minutes:.1f} minutes{published}"


def all_recipes() -> list[Recipe]:
    """Every recipe, by name."""
    return [_read(path) for path in sorted(Path(__file__).parent.glob("*.toml"))]


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: There is none.
    """
    known = {r.name: r for r in all_recipes()}
    if name not in known:
        raise UserError(unknown(name, known, what="recipe"))
    return known[name]


def reproduce(
    name: str, progress: Progress, run: Path | None = None, resume: bool = False, overwrite: bool = False
) -> Outcome:
    """Fetch the data, fit, and score by the recipe's protocol.

    Args:
        name: Of the recipe.
        progress: Whom to tell.
        run: Folder for the run, with a checkpoint after every epoch; ``None`` to keep none.
        resume: Go on with the run in that folder.
        overwrite: Delete the run in that folder first.

    Raises:
        UserError: No such recipe, its data are not to be had, or the run does not do.
    """
    wanted = recipe(name)
    if run is not None and not resume:
        RunFolder.check_available(run, overwrite)  # said now, not after the data are made
    folder = catalog.locate(wanted.data, download=True)
    protocols: dict[str, Protocol] = importlib.import_module(f"{__name__}.{wanted.job}").PROTOCOLS
    job = job_class(wanted.job)(**wanted.settings)
    fits = _RunFits(job, run, resume, overwrite, progress)
    table = protocols[wanted.protocol](job, fits, folder, wanted.options, progress)
    return Outcome(wanted, table, fits.seconds / 60)


@dataclass
class _RunFits:
    """``job.fit`` into ``run``; what a cross-validation fits after that goes into folders in it."""

    job: Any
    run: Path | None
    resume: bool
    overwrite: bool
    progress: Progress
    done: int = 0
    seconds: float = 0.0

    def __call__(self, data: Any, validation: Any | None = None) -> None:
        place = self.run / f"fit-{self.done + 1}" if self.run and self.done else self.run
        begun = self.done == 0 or (place is not None and place.exists())
        resume = self.resume and begun
        options = {"run": place, "resume": resume, "overwrite": self.overwrite, "progress": self.progress}
        self.job.fit(data, validation=validation, **options)
        self.done += 1
        self.seconds += self.job.training_seconds


def _read(path: Path) -> Recipe:
    return Recipe(path.stem, **{"options": {}, "published": [], "remarks": [], **read_toml(path)})
