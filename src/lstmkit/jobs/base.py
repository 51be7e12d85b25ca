"""The contract of a job: raw data in, answers and evidence out. A job is settings, ``fit`` and a predictor."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Sized
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from typing_extensions import Self

from lstmkit import settings
from lstmkit.data.batch import Batches, Loader
from lstmkit.data.formats import DataFormat
from lstmkit.errors import DataError, MissingLibraryError, ModelFileError, TrainingError, UserError
from lstmkit.export.graphs import JobExport, check_arguments, write_folder
from lstmkit.export.onnx import DEFAULT_OPSET
from lstmkit.jobs.answers import write_answers
from lstmkit.jobs.evaluation import FIT_SPLITS, NO_SCORES, Evaluation, fit_scores, saved_evaluation
from lstmkit.jobs.model_card import CardData, model_card
from lstmkit.jobs.predictor import Predictor, device_named
from lstmkit.jobs.settings import JobSettings
from lstmkit.jobs.validation_scores import ValidationScores
from lstmkit.layers.quantization import has_int8_weights
from lstmkit.look.traces import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.plots.training import training_curve
from lstmkit.progress import Progress, default_progress, seconds_in
from lstmkit.report import Section, write_report
from lstmkit.training.optimization import TrainSettings
from lstmkit.training.random_state import seeded
from lstmkit.training.run_folder import RunFolder
from lstmkit.training.train import History, train
from lstmkit.version import __version__

P = TypeVar("P", bound=Predictor[Any])

#: Ways to give ``predict`` data without a file, for pages and forms, and the kind of data that the model must read for
#: each (one of :data:`lstmkit.settings.DATA_KINDS`; "" = any): lines of text; the text columns of one row of a table; a
#: recorded clip; pen strokes; the number of new examples.
LIVE_INPUTS = {"lines": "text", "row": "text", "microphone": "audio", "canvas": "ink", "count": ""}

SAMPLE = 200  #: Validation examples that are scored while a job trains.


@dataclass(frozen=True)
class DataSplit:
    """A job's examples in three splits; ``None`` if a split is empty.

    Attributes:
        train: What the network and everything else is fitted to.
        valid: For early stopping and calibration.
        test: For the evaluation; nothing is fitted to it.
    """

    train: Any
    valid: Any | None
    test: Any | None


def sampled_rows(count: int, at_most: int) -> np.ndarray:
    """Indices of ``at_most`` of ``count`` examples, evenly spread.

    >>> sampled_rows(9, at_most=3).tolist()
    [0, 4, 8]
    """
    return np.linspace(0, count - 1, min(count, at_most)).astype(int)


class Job(JobSettings, ABC, Generic[P]):
    """The base of every job. A job is a class of settings and this class: ``class Tagger(TaggerSettings, Job[...])``.

    Attributes:
        predictor_class: The class of :attr:`predictor`.
        data_formats: Formats of the files that ``fit`` and ``evaluate`` take.
        live_inputs: Those of :data:`LIVE_INPUTS` that its ``predict`` understands.
        answer_suffixes: Endings of the files that ``write`` makes beside JSON, whatever the answers; the first is that
            of the field.
        optional_answer_suffixes: Endings of the files that ``write`` makes of some answers only; it refuses others with
            a UserError.
        progress: Where ``fit`` and ``export`` report their progress.
    """

    predictor_class: ClassVar[type[Predictor[Any]]]
    data_formats: ClassVar[tuple[DataFormat, ...]]
    live_inputs: ClassVar[tuple[str, ...]] = ()
    answer_suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    optional_answer_suffixes: ClassVar[tuple[str, ...]] = ()

    _predictor: P | None = None
    _histories: tuple[History, ...] = ()
    _evaluation: Evaluation | None = None
    _held_out: tuple[str, Any] | None = None  # what evaluation scores when it is first asked for
    progress: Progress = Progress()

    # ---- what a job implements -----------------------------------------------------------------------------------

    @abstractmethod
    def read(self, data: Any) -> Any:
        """A file or object as examples. Raises DataError."""

    @abstractmethod
    def split(self, examples: Any, validation: Any | None) -> DataSplit:
        """The splits for training, validation and test. Raises DataError if there are too few examples."""

    @abstractmethod
    def prepare(self, train: Any) -> P:
        """A predictor whose front end is fitted to the training split; it has no network yet."""

    @abstractmethod
    def source(self, examples: Any) -> Any:
        """Encoded examples with targets that can be batched: a ``Source``, or what :meth:`batches` takes."""

    @abstractmethod
    def calibrate(self, valid: Any | None) -> None:
        """Calibrate the predictor on the validation split: temperatures, thresholds, interval widths.

        A second call gives what the first gave: it starts from the network, not from an earlier calibration.
        """

    @abstractmethod
    def evaluate_examples(self, test: Any, progress: Progress) -> Evaluation:
        """Score the model and the baselines on held-out examples."""

    @abstractmethod
    def report_sections(self, examples: Any) -> list[Section]:
        """The job's own part of the report: :attr:`full_evaluation`, figures, what was done to the data."""

    @abstractmethod
    def predict(self, data: Any) -> Any:
        """Answers, as objects of the field."""

    @abstractmethod
    def evaluate(self, data: Any) -> Evaluation:
        """Score the model and the field's baselines on data that it was not fitted to."""

    @abstractmethod
    def to_text(self, predictions: Any) -> str:
        """What :meth:`predict` returned, as a file of the field has it."""

    @abstractmethod
    def to_records(self, predictions: Any) -> list[dict[str, Any]]:
        """What :meth:`predict` returned, ready for JSON."""

    @abstractmethod
    def plot(self, data: Any, predictions: Any) -> Figure:
        """A figure of what :meth:`predict` returned."""

    @abstractmethod
    def example_sequences(self, data: Any) -> list[ExampleSequence]:
        """Sequences of ``data`` for a look inside the network: the first is drawn, all are searched.

        Further keywords of a job choose among them; the command line takes them as options.
        """

    @abstractmethod
    def exported(self) -> JobExport:
        """The graphs of the fitted job, and what its runtime needs to know beside them."""

    # ---- what a job may change -----------------------------------------------------------------------------------

    def notes_on(self, examples: Any) -> tuple[str, ...]:
        """Lines about the data that :meth:`fit` says before it trains, once nothing can be refused any more."""
        return ()

    def sample(self, examples: Any) -> Any:
        """At most :data:`SAMPLE` examples of a split, evenly spread: enough for scores while the job trains."""
        return examples if len(examples) <= SAMPLE else examples.subset(sampled_rows(len(examples), SAMPLE))

    def batches(self, source: Any, seed: int | None) -> Batches:
        """The mini-batches of a source: shuffled by ``seed`` for training, without one in order for validation."""
        if seed is None:
            return Loader(source, 4 * self.batch_size)
        return Loader(source, self.batch_size, seed, self.steps_per_epoch)

    def data_digest(self, examples: Any) -> str:
        """A digest of the data: a run is only resumed on the same data."""
        return examples.digest()

    def with_labels(self, data: Any, y: Any) -> Any:
        """``data`` with the labels that scikit-learn passes apart.

        Raises:
            DataError: This job reads its targets from the data.
        """
        raise DataError(f"{type(self).__name__}.fit takes its targets inside the data, not as a second argument")

    def write(self, predictions: Any, path: Path) -> None:
        """Write what :meth:`predict` returned to a file: JSON for ``.json`` and ``.jsonl``, else its text.

        Raises:
            UserError: The ending is that of another format, unless a job writes it.
        """
        write_answers(path, lambda: self.to_text(predictions), lambda: self.to_records(predictions))

    # ---- fit -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: Any,
        y: Any | None = None,
        *,
        validation: Any | None = None,
        run: str | Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Read, split, prepare, train and calibrate; with ``run`` also save, evaluate and report.

        Args:
            data: What the job reads: a path, a frame, arrays or lists.
            y: Labels, if they are apart from the data, as scikit-learn passes them.
            validation: Data for validation; by default a fraction of ``data`` is held out.
            run: Folder for model, checkpoints, history, metrics and report.
            resume: Resume the run in that folder. All settings must be those that it was started with; only ``epochs``
                and ``budget`` may be greater. Training then goes on from its last state, and the learning rate is that
                of the schedule for the new length: after a finished cosine or linear decay it rises again.
            overwrite: Delete the run in that folder first.
            progress: Where to report progress; by default bars on a terminal.

        Raises:
            UserError: The data, the settings or the folder are not usable; nothing has been written then.
        """
        progress = progress or default_progress()
        device = device_named(self.device)
        if run is not None:  # before the data are read, which may take long
            about, old_names = self._run_metadata(), self.old_names
            RunFolder.check(Path(run), about, resume=resume, overwrite=overwrite, old_names=old_names)
        self._reset()
        self.progress = progress
        examples = self.read(data if y is None else self.with_labels(data, y))
        held_out = None if validation is None else self.read(validation)
        splits = self.split(examples, held_out)
        self._predictor = self.prepare(splits.train)
        train_source = self.source(splits.train)
        valid_source = None if splits.valid is None else self.source(splits.valid)
        with nullcontext() if run is None else self._run_folder(run, [examples, held_out], resume, overwrite) as folder:
            for note in self.notes_on(examples):
                self.progress.say(note)
            try:
                self._train(train_source, valid_source, splits.valid, device, folder, resume)
            except (TrainingError, MissingLibraryError):
                if folder is not None:
                    folder.delete_if_empty()
                raise
            self.calibrate(splits.valid)
            self.keep_context(examples)
            self._held_out = self._part_to_score(splits)
            if folder is not None:
                self._save_and_report(folder, examples)
        return self

    @property
    def evaluation(self) -> Evaluation | None:
        """Scores on the test split of ``fit``, or on the validation split if there is none: its ``scored`` says which.

        ``fit`` computes them if it has a run folder, whose ``metrics.json`` keeps them; without one they are computed
        when they are first asked for, once. For a loaded model they are those of ``metrics.json``, without details.
        ``None`` if nothing was held out, if the held-out data have no labels, or if that file is missing or damaged.
        For other data, call :meth:`evaluate`.
        """
        if self._evaluation is None and self._held_out is not None:
            scored, examples = self._held_out
            self._evaluation = replace(self.evaluate_examples(examples, self.progress), scored=scored)
            self._held_out = None
        return self._evaluation

    @evaluation.setter
    def evaluation(self, evaluation: Evaluation | None) -> None:
        self._evaluation, self._held_out = evaluation, None

    @property
    def full_evaluation(self) -> Evaluation | None:
        """:attr:`evaluation`, if it has details and outputs: not if it was read from ``metrics.json``."""
        evaluation = self.evaluation
        return None if evaluation is None or evaluation.is_from_file else evaluation

    def keep_context(self, examples: Any) -> None:
        """Keep in the predictor what answers for newer data need of all data that ``fit`` got; nothing is fitted."""

    def can_score(self, examples: Any) -> bool:
        """Whether :meth:`evaluate_examples` can score held-out examples: whether they have labels, if it needs them."""
        return True

    def _part_to_score(self, splits: DataSplit) -> tuple[str, Any] | None:
        parts = zip(FIT_SPLITS, (splits.test, splits.valid), strict=True)
        return next(((name, part) for name, part in parts if part is not None and self.can_score(part)), None)

    def restore_training_data(self, train: Any, validation: Any | None = None, *, digests: Any = None) -> Self:
        """Give a loaded job the data that it was fitted to: what its baselines are fitted to. The model stays as it is.

        Args:
            train: The data that ``fit`` got.
            validation: The validation data that ``fit`` got, if any.
            digests: Digests of the data that the run was fitted to, as ``run.json`` has them; ``None`` = unknown.

        Raises:
            DataError: They are other data.
        """
        predictor = self.predictor
        examples = self.read(train)
        held_out = None if validation is None else self.read(validation)
        current = [self.data_digest(part) for part in (examples, held_out) if part is not None]
        if digests is not None and current != list(digests):
            name = getattr(examples, "name", "the data")
            raise DataError(
                f"{name}: not the data that the run was fitted to: give the same data, and the validation data if fit "
                "had them"
            )
        parts = self.split(examples, held_out)
        self._predictor = self.prepare(parts.train)
        self._predictor.model = copy.deepcopy(predictor.model)
        self.calibrate(parts.valid)  # keeps the validation split for the baselines
        self._predictor = predictor
        return self

    @property
    def training_seconds(self) -> float:
        """Training time in seconds, over all parts of a resumed run."""
        return sum(row["seconds"] for history in self._histories for row in history.rows)

    def _reset(self) -> None:
        """Drop everything that an earlier fit has learned: all attributes but the settings."""
        for name in set(vars(self)) - settings.declared(type(self)).keys():
            delattr(self, name)

    def _run_metadata(self) -> dict[str, Any]:
        return {"job": self.name, "settings": settings.values(self)}

    def _run_folder(self, path: str | Path, data: Sequence[Any | None], resume: bool, overwrite: bool) -> RunFolder:
        digests = [self.data_digest(examples) for examples in data if examples is not None]
        about = {**self._run_metadata(), "data": digests}
        folder = RunFolder.start(Path(path), about, resume=resume, overwrite=overwrite, old_names=self.old_names)
        for name, before in folder.started_with.items():
            whole = self.budget or f"{self.epochs} epochs"
            early = "" if self.budget else "; training that has stopped early stays as it is"
            self.progress.say(
                f"resuming with {name}={getattr(self, name)} instead of {before or 'none'}: from here on the learning "
                f"rate follows the schedule for {whole}{early}"
            )
        return folder

    def _train(
        self,
        train_source: Any,
        valid_source: Any,
        valid_examples: Any,
        device: torch.device,
        folder: RunFolder | None,
        resume: bool,
    ) -> None:
        members: list[Model] = []
        scores = None
        if valid_examples is not None and self.can_score(valid_examples):
            scores = ValidationScores(partial(self._validate, self.sample(valid_examples)), self.progress.say)
        valid = None if valid_source is None else self.batches(valid_source, None)
        for member in range(self.ensemble_size):
            with seeded(self.seed + member):
                model = self.predictor.build()
                history = train(
                    model,
                    self.batches(train_source, self.seed + member),
                    valid,
                    self._train_settings(device, self.seed + member),
                    folder=None if folder is None else folder.checkpoints(member),
                    resume=resume,
                    tensorboard=folder.tensorboard(member) if folder is not None and self.tensorboard else None,
                    progress=self.progress,
                    title="training" if self.ensemble_size == 1 else f"training {member + 1}/{self.ensemble_size}",
                    after_epoch=partial(self._after_epoch, folder, None if member else scores),
                )
            self._histories = (*self._histories, history)
            if history.rows:  # else it was stopped in its first epoch and has learned nothing
                members.append(model)
            if not members:
                raise KeyboardInterrupt
            if not history.finished:
                self.progress.say("interrupted: keeping the best weights so far")
                break
        self.predictor.set_members(members)

    def _train_settings(self, device: torch.device, seed: int) -> TrainSettings:
        shared = {name: getattr(self, name) for name in TrainSettings.__dataclass_fields__ if hasattr(self, name)}
        budget = seconds_in(self.budget) / self.ensemble_size
        return TrainSettings(**{**shared, "seed": seed, "device": device, "budget": budget})

    def _after_epoch(
        self,
        folder: RunFolder | None,
        scores: ValidationScores | None,
        rows: Sequence[Mapping[str, float]],
        model: Model,
    ) -> None:
        if folder is not None:
            folder.write_history([*(history.rows for history in self._histories), rows])
        if scores is not None:
            scores.after_epoch(rows, model)

    def _validate(self, examples: Any, model: Model) -> Evaluation:
        """Scores of a copy of a network in training, beside those of the baselines; nothing is shown meanwhile."""
        progress, predictor = self.progress, self.predictor
        try:
            self.progress, self._predictor = Progress(), copy.deepcopy(predictor)
            self.predictor.set_members([copy.deepcopy(model)])
            self.calibrate(examples)
            return self.evaluate_examples(examples, self.progress)
        finally:
            self.progress, self._predictor = progress, predictor

    def _save_and_report(self, folder: RunFolder, examples: Any) -> None:
        self.save(folder.path)
        folder.write_history([h.rows for h in self._histories])
        folder.write_metrics({**fit_scores(self.evaluation), "training": [h.ended for h in self._histories]})
        self.write_report(folder.report, examples)
        count = len(examples) if isinstance(examples, Sized) else None
        digest = str(folder.read_run_metadata(folder.path)["data"][0])
        data = CardData(self.predictor.data_kinds, digest, count)
        folder.write_card(model_card(self, data, self.evaluation, [h.ended for h in self._histories]))

    def write_report(self, path: Path, examples: Any) -> None:
        """Write a page, self-contained HTML: results, figures, training curve, settings and versions.

        Args:
            path: The HTML file.
            examples: What :meth:`read` returned: the data of :attr:`evaluation`.
        """
        sections = self.report_sections(examples)
        if self._histories:
            curves = {f"seed {k}": (h.rows, h.best_epoch) for k, h in enumerate(self._histories)}
            ended = "; ".join(dict.fromkeys(h.ended for h in self._histories))
            text = f"Loss by epoch. Training ended: {ended}. The weights of the best epoch are kept."
            sections.append(Section("Training", text=text, figure=training_curve(curves), caption="Loss by epoch"))
        facts = {"job": self.name, "lstmkit": __version__, "torch": torch.__version__}
        facts |= {name: str(value) for name, value in settings.in_effect(self, self.predictor.data_kinds).items()}
        evaluation = self.full_evaluation
        lead = [self.summary, NO_SCORES] if evaluation is None else evaluation.lead
        write_report(path, f"lstmkit {self.name}", lead, sections, facts)

    # ---- the saved model -----------------------------------------------------------------------------------------

    @property
    def predictor(self) -> P:
        """What ``fit`` left: front end, network, calibration.

        Raises:
            UserError: There is none yet.
        """
        if self._predictor is None:
            raise UserError(f"this {type(self).__name__} is not fitted: call fit first, or lstmkit.load a saved one")
        return self._predictor

    def check_fitted(self) -> None:
        """Raise UserError if there is no predictor yet: before data are read that may take long."""
        _ = self.predictor

    @property
    def is_fitted(self) -> bool:
        """Whether there is a predictor."""
        return self._predictor is not None

    @property
    def model(self) -> Model:
        """The trained network, or an ensemble. Raises UserError if there is none yet."""
        return self.predictor.model

    @property
    def network(self) -> Model:
        """The trained network; the first one of an ensemble. Raises UserError if there is none yet."""
        return self.predictor.network

    def save(self, path: str | Path) -> Path:
        """Write the model's folder: ``weights.safetensors`` and ``model.json``."""
        return self.predictor.save(path)

    def export(
        self, path: str | Path, format: str = "onnx", *, quantize: str = "none", opset: int = DEFAULT_OPSET
    ) -> list[Path]:
        """Write the networks of the fitted job, with what their use needs, for other programs.

        Args:
            path: A folder, new or with an earlier export; new for ``"safetensors"``.
            format: ``"onnx"`` for :mod:`lstmkit.runtime`, ``"torch"`` for ``torch.export.load``, or
                ``"safetensors"`` for :func:`lstmkit.load`: the model alone, as :meth:`save` writes it.
            quantize: ``"int8"`` for weights in 8 bits, in the formats ``"onnx"`` and ``"safetensors"``.
            opset: Version of ONNX's operators, 17 to 23.

        Returns:
            The files that were written.

        Raises:
            UserError: The job is not fitted, or an argument is out of range, or the folder has other files.
            MissingLibraryError: The extra ``export`` is not installed.
            OSError: A file cannot be written.
        """
        check_arguments(Path(path), format, quantize, opset)
        if format == "safetensors":
            predictor = self.predictor.quantized() if quantize == "int8" else self.predictor
            return sorted(predictor.save(path).iterdir())
        if has_int8_weights(self.model):
            raise UserError("weights in 8 bits cannot be exported: load the run again and export with quantize=int8")
        self.progress.say("recording the networks, some seconds for each")
        return write_folder(self.name, self.exported(), Path(path), format, quantize=quantize, opset=opset)

    def quantize(self) -> Self:
        """Keep the weight matrices of the recurrent layers in 8 bits from now on; see :func:`lstmkit.quantize`.

        The model then takes less memory and answers faster, with slightly other numbers: compare its scores. It can be
        saved and loaded, but not exported.

        Raises:
            UserError: The job is not fitted, or weights are not finite.
        """
        self._predictor = self.predictor.quantized()
        return self

    @classmethod
    def from_saved(cls, weights: Mapping[str, Tensor], description: Mapping[str, Any], path: Path) -> Self:
        """The job that :meth:`save` wrote.

        Raises:
            ModelFileError: Description and weights do not make a model of this job.
        """
        try:
            job = cls(**cls.current(description["settings"]))
            job._predictor = cls.predictor_class.from_saved(job.snapshot(), weights, description)  # type: ignore[assignment]
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as err:
            reason = str(err).splitlines()[0] if str(err) else type(err).__name__
            raise ModelFileError(
                f"{path} is not a valid {cls.name} model ({reason}): restore the file, or fit again"
            ) from err
        job._evaluation = RunFolder.read_metrics(path, saved_evaluation)
        return job

    def __repr__(self) -> str:
        """The settings that differ from their defaults, and whether it is fitted."""
        return f"<{super().__repr__()}, {'fitted' if self.is_fitted else 'not fitted'}>"

    def _repr_html_(self) -> str:
        """The job and its evaluation, for a notebook."""
        table = "" if self._evaluation is None else self._evaluation._repr_html_()
        return f"<code>{escape(repr(self))}</code>{table}"
