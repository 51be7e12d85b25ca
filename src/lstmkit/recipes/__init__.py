"""Recipes: benchmarks with a data set, settings, a protocol and published figures with their sources.

A recipe is a ``.toml`` file in this package. Its protocol splits and scores the data set as in the literature; it is a
function in the module of the job, ``recipes/<job>.py``, or one in ``_protocols.py``, which most jobs can use.
"""

from __future__ import annotations

import importlib
import pkgutil
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

#: ``fit(data, validation)`` fits the job; the caller decides where the run is stored.
Fit = Callable[..., Any]

#: ``protocol(job, fit, folder, options, progress) -> scores``: one row per model, the job's model first.
Protocol = Callable[[Any, Fit, Path, dict[str, Any], Progress], pd.DataFrame]

_HIGHER_IS_BETTER = {"accuracy", "macro F1", "micro F1", "BLEU", "chrF", "BLEU, lower-cased"}
_HIGHER_IS_BETTER |= {"exact match", "F1", "tasks at 95 %", "ROUGE-1", "ROUGE-2", "ROUGE-L", "Recall@20", "MRR@20"}
_HIGHER_IS_BETTER |= {
    "Q3",
    "Q8",
    "SOV3",
    "SOV8",
    "VUS-PR",
    "range F1",
    "composite F1",
    "overlap F1",
    "anomalies found",
    "precision",
    "NAB",
    "NAB, best threshold",
}
_HIGHER_IS_BETTER |= {"span F1", "pen-lift F1", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "exact match, new pairs"}
_HIGHER_IS_BETTER |= {"R²", "median NSE", "median KGE"}
_HIGHER_IS_BETTER |= {"average precision", "average precision, not S0", "ROC AUC", "precision@100 per day", "recall"}
_HIGHER_IS_BETTER |= {"precision at 10 % effort", "recall at 10 % effort"}
_HIGHER_IS_BETTER |= {"diagonality", "focus rate", "directions right"}


@dataclass(frozen=True)
class Recipe:
    """A benchmark: settings, protocol and published figures.

    Attributes:
        name: Name of the recipe and its file.
        title: One line.
        job: Name of the job.
        data: Name of the data set in the catalog.
        protocol: Name of the protocol, one of :func:`protocols`.
        options: Options of the protocol.
        settings: Settings of the job.
        published: Published figures with ``name``, ``metric``, ``value`` and ``source``.
        remarks: Remarks on the comparison.
    """

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
    """The result of a recipe.

    Attributes:
        recipe: The recipe.
        table: Scores, one row per model.
        minutes: Training time.
    """

    recipe: Recipe
    table: pd.DataFrame
    minutes: float

    def to_json(self) -> dict[str, Any]:
        """Settings, scores, published figures and provenance: everything needed to reproduce the result."""
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
        """Write ``folder/<recipe>.json``; returns the path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.recipe.name}.json"
        checkpoint.write_json(path, self.to_json())
        return path

    def __str__(self) -> str:
        names = [name for name in self.table.columns if name != "model"]
        best = {name: "high" if higher_is_better(name) else "low" for name in names}
        lines = [f"  {p['name']}: {p['metric']} {p['value']} ({p['source']})" for p in self.recipe.published]
        published = "\npublished:\n" + "\n".join(lines) if lines else ""
        table = format_table(self.table, best)
        return f"{self.recipe.title}\n{table}\ntraining took {self.minutes:.1f} minutes{published}"


def higher_is_better(metric: str) -> bool:
    """Whether higher values of a metric, a column of a protocol's table, are better.

    >>> higher_is_better("accuracy"), higher_is_better("perplexity")
    (True, False)
    """
    return metric in _HIGHER_IS_BETTER or metric.startswith(("accuracy, ", "NSE ", "HR@", "NDCG@"))


def all_recipes() -> list[Recipe]:
    """All recipes, sorted by name."""
    return [_read(path) for path in sorted(Path(__file__).parent.glob("*.toml"))]


def recipe(name: str) -> Recipe:
    """Find a recipe by name.

    Raises:
        UserError: No recipe has this name.
    """
    recipes = {r.name: r for r in all_recipes()}
    if name not in recipes:
        raise UserError(unknown(name, recipes, what="recipe"))
    return recipes[name]


def protocols(job: str) -> dict[str, Protocol]:
    """The protocols of a job by name: those of ``_protocols.py``, and those of ``recipes/<job>.py`` if there is one."""
    found: dict[str, Protocol] = dict(importlib.import_module(f"{__name__}._protocols").PROTOCOLS)
    if job in (module.name for module in pkgutil.iter_modules(__path__)):
        found |= importlib.import_module(f"{__name__}.{job}").PROTOCOLS
    return found


def reproduce(
    name: str, progress: Progress, run: Path | None = None, resume: bool = False, overwrite: bool = False
) -> Outcome:
    """Download the data, fit the job, and score it with the recipe's protocol.

    Args:
        name: Name of the recipe.
        progress: Receives the progress.
        run: Folder of the run, with a checkpoint after every epoch; ``None`` to store none.
        resume: Resume the run in the folder.
        overwrite: Delete the run in the folder first.

    Raises:
        UserError: The recipe or its protocol does not exist, its data cannot be found or downloaded, or the run folder
            cannot be used.
    """
    selected = recipe(name)
    if run is not None and not resume:
        RunFolder.check_available(run, overwrite)  # fails before the data are prepared
    known = protocols(selected.job)
    if selected.protocol not in known:
        raise UserError(f"recipe {name!r}: {unknown(selected.protocol, known, what='protocol')}")
    folder = catalog.locate(selected.data, download=True)
    job = job_class(selected.job)(**selected.settings)
    fit = _RunFits(job, run, resume, overwrite, progress)
    table = known[selected.protocol](job, fit, folder, selected.options, progress)
    return Outcome(selected, table, fit.seconds / 60)


@dataclass
class _RunFits:
    """Calls ``job.fit`` with the run folder; later fits, as in cross-validation, get folders inside it."""

    job: Any
    run: Path | None
    resume: bool
    overwrite: bool
    progress: Progress
    done: int = 0
    seconds: float = 0.0

    def __call__(self, data: Any, validation: Any | None = None) -> None:
        folder = self.run / f"fit-{self.done + 1}" if self.run and self.done else self.run
        started = self.done == 0 or (folder is not None and folder.exists())
        resume = self.resume and started
        options = {"run": folder, "resume": resume, "overwrite": self.overwrite, "progress": self.progress}
        self.job.fit(data, validation=validation, **options)
        self.done += 1
        self.seconds += self.job.training_seconds


def _read(path: Path) -> Recipe:
    return Recipe(path.stem, **{"options": {}, "published": [], "remarks": [], **read_toml(path)})
