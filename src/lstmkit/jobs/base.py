"""The contract of a job: raw data in, answers and evidence out. A job says what is special to it; the rest is here."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from typing_extensions import Self

from lstmkit import settings
from lstmkit.data.batch import Batches, Loader
from lstmkit.errors import ModelFileError, SettingError, TrainingError, UserError
from lstmkit.look.traces import ExampleSequence
from lstmkit.models.base import Ensemble, Model
from lstmkit.modules.trunk import TRUNKS
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section, format_table, number, write_report
from lstmkit.settings import setting, settings_class
from lstmkit.training import checkpoint
from lstmkit.training.run_folder import RunFolder
from lstmkit.training.train import OPTIMIZERS, History, TrainSettings, seeded, train
from lstmkit.version import __version__


@dataclass(frozen=True)
class DataSplit:
    """A job's examples, split: ``valid`` for stopping and calibration, ``test`` for the evidence; ``None`` if empty."""

    train: Any
    valid: Any | None
    test: Any | None


@dataclass(frozen=True)
class Evaluation:
    """How well, against what.

    Attributes:
        table: A row a model: this one first, then the baselines.
        best: For each score whether ``"low"`` or ``"high"`` is better, or what it should be near (``"near:80"``).
        details: What the scores were taken from, as a frame.
        notes: What must be known to read the table.
    """

    table: pd.DataFrame
    best: dict[str, str]
    details: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([format_table(self.table, self.best), *self.notes])

    @property
    def verdict(self) -> str:
        """The first score of the table in a sentence: this model's, and the best baseline's."""
        score, way = next(iter(self.best.items()))
        (ours, value), *others = self.table[["model", score]].itertuples(index=False)
        said = f"{score[:1].upper()}{score[1:]} of {ours} on the held-out test: {number(value)}."
        known = [(name, v) for name, v in others if pd.notna(v)]
        if not known or pd.isna(value):
            return said
        name, rival = (min if way == "low" else max)(known, key=lambda row: row[1])
        worse = value > rival if way == "low" else value < rival
        return f"{said} The best baseline, {name}, has {number(rival)}{': use that one' if worse else ''}."

    def to_json(self) -> dict[str, Any]:
        """Table and notes, ready for JSON, which has no infinity: a score that is not a finite number is ``None``."""
        finite = self.table.replace([math.inf, -math.inf], math.nan)
        rows = finite.astype(object).where(finite.notna(), None).to_dict("records")
        return {"table": rows, "notes": list(self.notes)}


@settings_class
class Job(ABC):
    """What every job shares. Use one of the jobs; ``lstmkit jobs`` lists them."""

    name: ClassVar[str]
    summary: ClassVar[str]

    cell: str = setting("recurrent cell", default="lstm", choices=TRUNKS)
    hidden_size: int = setting("units in a layer", default=64, low=1)
    num_layers: int = setting("recurrent layers", default=1, low=1)
    dropout: float = setting("share of values dropped between parts in training", default=0.1, low=0, high=0.95)
    epochs: int = setting("passes at most", default=30, low=1)
    steps_per_epoch: int = setting("training steps in an epoch; 0 for a pass over all examples", default=0, low=0)
    batch_size: int = setting("examples in a step", default=64, low=1)
    optimizer: str = setting(
        "adamw, sgd, or sgd whose weights are averaged once validation no longer improves (asgd)",
        default="adamw",
        choices=OPTIMIZERS,
    )
    lr: float = setting("peak learning rate", default=1e-3, low=0)
    weight_decay: float = setting("weight decay", default=1e-2, low=0)
    warmup: float = setting("share of the steps over which the rate rises", default=0.05, low=0, high=1)
    decay: str = setting("how the rate falls", default="cosine", choices=("cosine", "linear", "none"))
    clip: float = setting("largest norm of the gradient; 0 for no clipping", default=1.0, low=0)
    average: float = setting(
        "decay of the moving average of weights that is kept; 0 for none", default=0.99, low=0, high=1
    )
    patience: int = setting("epochs without a better validation loss before stopping; 0 for never", default=6, low=0)
    precision: str = setting("arithmetic of training", default="float32", choices=("float32", "bf16"))
    seed: int = setting("of weights, noise and order", default=0, low=0, high=2**32)
    seeds: int = setting("models trained alike and averaged", default=1, low=1)
    device: str = setting("where to compute: auto, cpu, cuda, cuda:1, …", default="auto")
    tensorboard: bool = setting("write a TensorBoard log into the run folder", default=False)

    # Learnt by fit; not settings.
    _model: Model | None = field(default=None, init=False, repr=False)
    _histories: list[History] = field(default_factory=list, init=False, repr=False)
    evaluation: Evaluation | None = field(default=None, init=False, repr=False)  # of the test part, if fit had a run
    _progress: Progress = field(default_factory=Progress, init=False, repr=False)  # whom fit tells

    # ---- what a job says of itself -------------------------------------------------------------------------------

    @abstractmethod
    def read(self, data: Any) -> Any:
        """A file or object as examples. Raises DataError."""

    @abstractmethod
    def split(self, examples: Any, validation: Any | None) -> DataSplit:
        """The parts for training, validation and test. Raises DataError if they do not suffice."""

    @abstractmethod
    def prepare(self, train: Any) -> None:
        """Fit what turns examples into numbers, on the training part alone."""

    @abstractmethod
    def build(self) -> Model:
        """A fresh model for the prepared data."""

    @abstractmethod
    def source(self, examples: Any) -> Any:
        """Prepared examples that can be put into batches: a ``Source``, or what :meth:`batches` takes."""

    def batches(self, source: Any, seed: int | None) -> Batches:
        """The mini-batches of a source: for training in the order of ``seed``, without one for validation."""
        if seed is None:
            return Loader(source, 4 * self.batch_size)
        return Loader(source, self.batch_size, seed, self.steps_per_epoch)

    @abstractmethod
    def calibrate(self, valid: Any | None) -> None:
        """Make stated probabilities true, on the validation part."""

    def fingerprint(self, examples: Any) -> str:
        """A digest of the data: a run is only resumed on the same."""
        return examples.digest()

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that was prepared and calibrated, ready for JSON."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` gave."""

    @abstractmethod
    def score(self, test: Any, progress: Progress) -> Evaluation:
        """The model and its baselines on held-out examples."""

    @abstractmethod
    def sections(self, examples: Any) -> list[Section]:
        """The job's own part of the report: ``evaluation``, pictures, what was done to the data."""

    @abstractmethod
    def predict(self, data: Any) -> Any:
        """Answers, as objects of the field."""

    @abstractmethod
    def text(self, answer: Any) -> str:
        """What :meth:`predict` gave, as a file of the field has it."""

    def write(self, answer: Any, path: Path) -> None:
        """What :meth:`predict` gave, as a file: its text, where a job has no other kind for the name's ending."""
        path.write_text(self.text(answer) + "\n", encoding="utf-8")

    @abstractmethod
    def records(self, answer: Any) -> list[dict[str, Any]]:
        """What :meth:`predict` gave, ready for JSON."""

    @abstractmethod
    def picture(self, data: Any, answer: Any) -> Figure:
        """What :meth:`predict` gave, drawn."""

    @abstractmethod
    def example_sequences(self, data: Any) -> list[ExampleSequence]:
        """Sequences of ``data`` to look at inside :attr:`network`: the first is drawn, in all is searched.

        What a job adds to choose them by are keywords of its own, which the command line takes as options.
        """

    @abstractmethod
    def evaluate(self, data: Any) -> Evaluation:
        """The model beside the field's baselines, on data it was not fitted to."""

    # ---- fit -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: Any,
        validation: Any | None = None,
        *,
        run: str | Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Read, prepare, train, calibrate; with ``run`` also keep the model, evaluate it and write the report.

        Args:
            data: What the job reads.
            validation: Data to validate on; else a part of ``data`` is held out.
            run: Folder for model, checkpoints, history, metrics and report.
            resume: Go on with the run in that folder.
            overwrite: Delete the run in that folder first.
            progress: Whom to tell; by default bars on a terminal.

        Raises:
            UserError: Data, settings or the folder do not do; nothing has been written then.
        """
        progress = progress or default_progress()
        device = self._device()
        self._forget()
        self._progress = progress
        examples = self.read(data)
        held_out = None if validation is None else self.read(validation)
        parts = self.split(examples, held_out)
        self.prepare(parts.train)
        train_source = self.source(parts.train)
        valid_source = None if parts.valid is None else self.source(parts.valid)
        folder = None
        if run is not None:
            prints = [self.fingerprint(read) for read in (examples, held_out) if read is not None]
            about = {"job": self.name, "settings": settings.values(self), "data": prints}
            folder = RunFolder.start(Path(run), about, resume=resume, overwrite=overwrite)
        try:
            self._train(train_source, valid_source, device, folder, resume, progress)
        except TrainingError:
            if folder is not None:
                folder.delete_if_empty()
            raise
        self.calibrate(parts.valid)
        if folder is not None:
            self._finish(folder, examples, parts, progress)
        return self

    @property
    def training_seconds(self) -> float:
        """How long the training took, all parts of a resumed one together."""
        return sum(row["seconds"] for history in self._histories for row in history.rows)

    def _forget(self) -> None:
        """Drop what an earlier fit learnt."""
        for learnt in dataclasses.fields(self):
            if not learnt.init:
                plain = learnt.default_factory is dataclasses.MISSING
                setattr(self, learnt.name, learnt.default if plain else learnt.default_factory())  # type: ignore[misc]

    def _train(
        self,
        train_source: Any,
        valid_source: Any,
        device: torch.device,
        folder: RunFolder | None,
        resume: bool,
        progress: Progress,
    ) -> None:
        members: list[Model] = []
        self._histories = []
        valid = None if valid_source is None else self.batches(valid_source, None)
        for member in range(self.seeds):
            with seeded(self.seed + member):
                model = self.build()
                history = train(
                    model,
                    self.batches(train_source, self.seed + member),
                    valid,
                    self._train_settings(device, self.seed + member),
                    folder=None if folder is None else folder.checkpoints(member),
                    resume=resume,
                    tensorboard=folder.tensorboard(member) if folder is not None and self.tensorboard else None,
                    progress=progress,
                    title="training" if self.seeds == 1 else f"training {member + 1}/{self.seeds}",
                )
            self._histories.append(history)
            if history.rows:  # else it was stopped in its first epoch and has learnt nothing
                members.append(model)
            if not members:
                raise KeyboardInterrupt
            if not history.finished:
                progress.say("interrupted: keeping the best weights so far")
                break
        self._model = members[0] if len(members) == 1 else Ensemble(members)

    def _train_settings(self, device: torch.device, seed: int) -> TrainSettings:
        shared = {name: getattr(self, name) for name in TrainSettings.__dataclass_fields__ if hasattr(self, name)}
        return TrainSettings(**{**shared, "seed": seed, "device": device})

    def _finish(self, folder: RunFolder, examples: Any, parts: DataSplit, progress: Progress) -> None:
        self.save(folder.path)
        folder.write_history([h.rows for h in self._histories])
        self.evaluation = None if parts.test is None else self.score(parts.test, progress)
        endings = [h.ended for h in self._histories]
        folder.write_metrics({"test": self.evaluation and self.evaluation.to_json(), "training": endings})
        self.write_report(folder.report, examples)

    def write_report(self, path: Path, examples: Any) -> None:
        """The run's page, self-contained HTML: what was learnt, how well, against what."""
        from lstmkit.plots.training import training_curve

        sections = self.sections(examples)
        if self._histories:
            curves = {f"seed {k}": (h.rows, h.best_epoch) for k, h in enumerate(self._histories)}
            ended = "; ".join(dict.fromkeys(h.ended for h in self._histories))
            text = f"Loss by epoch. Training ended: {ended}. The weights of the best epoch are kept."
            sections.append(Section("Training", text=text, figure=training_curve(curves), caption="Loss by epoch"))
        facts = {"job": self.name, "lstmkit": __version__, "torch": torch.__version__}
        facts |= {name: str(value) for name, value in settings.values(self).items()}
        lead = [self.summary] if self.evaluation is None else [self.evaluation.verdict]
        write_report(path, f"lstmkit {self.name}", lead, sections, facts)

    # ---- the saved model -----------------------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        """The trained network.

        Raises:
            UserError: There is none yet.
        """
        if self._model is None:
            raise UserError(f"this {type(self).__name__} has no model yet: call fit first, or lstmkit.load a saved one")
        return self._model

    @property
    def network(self) -> Model:
        """The one trained network; of an ensemble the first.

        Raises:
            UserError: There is none yet.
        """
        return self.model.members[0] if isinstance(self.model, Ensemble) else self.model  # type: ignore[return-value]

    def save(self, path: str | Path) -> Path:
        """Write the model's folder: ``weights.safetensors`` and ``model.json``."""
        weights = {name: t for name, t in self.model.state_dict().items() if isinstance(t, Tensor)}
        description = {
            "job": self.name,
            "lstmkit": __version__,
            "settings": settings.values(self),
            "members": len(self.model.members) if isinstance(self.model, Ensemble) else 1,
            "state": self.state(),
        }
        checkpoint.save_model(Path(path), weights, description)
        return Path(path)

    @classmethod
    def from_saved(cls, weights: dict[str, Tensor], description: dict[str, Any], where: Path) -> Self:
        """The job that :meth:`save` wrote.

        Raises:
            ModelFileError: Description and weights do not make a model of this job.
        """
        try:
            job = cls(**description["settings"])
            job.load_state(description["state"])
            members = [job.build() for _ in range(description["members"])]
            job._model = members[0] if len(members) == 1 else Ensemble(members)
            job._model.load_state_dict(weights)
            job._model.eval()
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as err:
            reason = str(err).splitlines()[0] if str(err) else type(err).__name__
            raise ModelFileError(
                f"{where} holds no sound {cls.name} model ({reason}): restore it, or fit anew"
            ) from err
        return job

    def _device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as err:
            raise SettingError(f"device {self.device!r} is not to be had here: {str(err).splitlines()[0]}") from err
        return device
