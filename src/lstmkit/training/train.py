"""The training loop. It depends on models, batches and files, but not on any job."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batches
from lstmkit.errors import ModelFileError, TrainingError, one_line
from lstmkit.libraries import imports_of
from lstmkit.models.base import Model, map_state
from lstmkit.progress import Progress, Task, duration
from lstmkit.training import checkpoint
from lstmkit.training.optimization import TrainSettings, learning_rate, optimizer_for
from lstmkit.training.random_state import random_state, set_random_state

_ESTIMATED_AT = 15  # training step after which the time of a training is estimated; the first steps are slower
_SHORT = 10.0  # seconds of a training that are not worth an estimate
_NON_MONOTONE_INTERVAL = 5  # epochs without improvement after which NT-ASGD starts averaging (Merity et al. 2018)


@dataclass
class History:
    """The history of a training.

    Attributes:
        rows: One row per epoch with ``epoch``, ``train_loss``, ``valid_loss``, ``lr`` and ``seconds``.
        best_epoch: Epoch with the lowest validation loss, from 1; -1 if there is none.
        best_loss: Its validation loss.
        ended: Why training ended.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    best_loss: float = math.inf
    ended: str = "all epochs done"

    @property
    def finished(self) -> bool:
        """False if training was interrupted (Ctrl-C) and can be resumed."""
        return self.ended != "interrupted"


def train(
    model: Model,
    loader: Batches,
    valid: Batches | None,
    settings: TrainSettings,
    *,
    folder: Path | None = None,
    resume: bool = False,
    tensorboard: Path | None = None,
    progress: Progress | None = None,
    title: str = "training",
    until: Callable[[Model], bool] | None = None,
    after_epoch: Callable[[Sequence[Mapping[str, float]], Model], None] | None = None,
) -> History:
    """Train a model in place and load the weights of the best epoch; without ``valid``, those of the last epoch.

    Args:
        model: The model.
        loader: Training batches.
        valid: Validation batches for early stopping; ``None`` to run all epochs.
        settings: Settings of the training.
        folder: Folder for a checkpoint after every epoch; ``None`` to keep the best weights in memory only.
        resume: Resume from the last checkpoint in ``folder``, if there is one. On the CPU, with the same machine and
            thread count, the result equals that of an uninterrupted training bit for bit.
        tensorboard: Folder for a TensorBoard log; ``None`` for none.
        progress: Receives the progress.
        title: Title of the progress bar.
        until: Called after every epoch with the weights that are kept; training ends if it returns true.
        after_epoch: Called after every epoch, once its checkpoint is written, with the rows of the history so far and
            with the weights that are kept. Its time counts as part of a budget.

    Returns:
        The history of the training.

    Raises:
        TrainingError: There are no examples, the loss or gradient is not finite, or the validation loss was NaN or
            infinite in all epochs.
        ModelFileError: The checkpoint is damaged or belongs to another model.
    """
    if not len(loader):
        raise TrainingError("the training set is empty: provide at least one example")
    if valid is not None and not len(valid):
        raise TrainingError(
            "the validation set is empty: none of its examples can be used, as their answers do not occur in training: "
            "give more data, or none for validation"
        )
    progress = progress or Progress()
    run = _TrainingState(model, loader, valid, settings, folder, progress.say)
    if resume:
        run.restore()
    with progress.task(title, run.units, "s" if settings.budget else "") as task, _log(tensorboard) as log:
        try:
            reached = False
            while not run.is_over() and not reached:
                row = run.run_epoch(task)
                for name, value in row.items():
                    log(name, value, run.epoch)
                if after_epoch is not None:
                    run.call(after_epoch)
                reached = until is not None and until(run.averaged.eval())
            run.history.ended = "goal reached" if reached else run.why_it_ended()
            run.check_validation_loss()
        except KeyboardInterrupt:
            run.history.ended = "interrupted"
    run.load_best()
    return run.history


class _TrainingState:
    """The state of a running training, as saved in a checkpoint."""

    def __init__(
        self,
        model: Model,
        loader: Batches,
        valid: Batches | None,
        settings: TrainSettings,
        folder: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self.model, self.loader, self.valid, self.settings, self.folder = model, loader, valid, settings, folder
        self.say = say
        model.to(settings.device)
        self.averaged = copy.deepcopy(model).requires_grad_(False) if settings.uses_averaging else model
        self.optimizer = optimizer_for(model, settings)
        self.epoch = 0
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self._estimated, self._estimate_from = False, 0.0
        self._validation_seconds: float | None = None  # of the last validation
        self._called_seconds = 0.0  # of functions called after epochs

    @property
    def units(self) -> int:
        """Length of the progress bar: training steps, or the seconds of a budget."""
        return math.ceil(self.settings.budget) or self.settings.epochs * len(self.loader)

    def is_over(self) -> bool:
        """Whether no further epoch is trained."""
        if self.settings.budget:
            return self._remaining(self._finished_seconds) <= 0
        return self.epoch >= self.settings.epochs or self.out_of_patience()

    def why_it_ended(self) -> str:
        if self.settings.budget:
            return "time budget spent"
        if self.out_of_patience():
            return f"stopped early: no improvement for {self.settings.patience} epochs"
        return "all epochs done"

    def call(self, after_epoch: Callable[[Sequence[Mapping[str, float]], Model], None]) -> None:
        started = time.perf_counter()
        after_epoch(self.history.rows, self.averaged)
        self._called_seconds += time.perf_counter() - started

    @property
    def _finished_seconds(self) -> float:
        return sum(row["seconds"] for row in self.history.rows) + self._called_seconds

    def _remaining(self, spent: float) -> float:
        """Seconds of the budget that are left for training steps: the last validation takes some."""
        return self.settings.budget - spent - (self._validation_seconds or 0.0)

    def _learning_rate(self, step: int, spent: float) -> float:
        if not self.settings.budget:
            return learning_rate(self.settings, step, self.settings.epochs * len(self.loader))
        ticks = 10_000
        return learning_rate(self.settings, int(ticks * min(1.0, spent / self.settings.budget)), ticks)

    def run_epoch(self, task: Task) -> dict[str, float]:
        """Train one epoch, validate, and save. If it is interrupted, the previous checkpoint stays valid.

        A budget that is spent ends the epoch before all its steps.
        """
        settings, total = self.settings, torch.zeros((), device=self.settings.device)
        started, before = time.perf_counter(), self._finished_seconds
        if settings.budget and self._validation_seconds is None:
            self._validate()  # to know its time
        self.model.train()
        state: Any = None
        lr, steps = 0.0, 0
        for i, batch in enumerate(self.loader.epoch(self.epoch)):
            spent = before + time.perf_counter() - started
            if settings.budget and i and self._remaining(spent) <= 0:
                break
            step = self.epoch * len(self.loader) + i
            lr, steps = self._learning_rate(step, spent), i + 1
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            state = map_state(state, Tensor.detach) if batch.continues else None
            with _precision(settings):
                loss, state = self.model.loss(batch.to(settings.device), state)
            self._step(loss, step)
            total += loss.detach()
            self._estimate(i)
            if step % 10 == 0:
                note = self._progress_text(float(loss.detach()), self.epoch + 1)
                task.update(self._units_done(step + 1, spent), note)
        row = {"epoch": self.epoch + 1, "train_loss": float(total) / steps, "lr": lr}
        if self.valid is not None:
            row["valid_loss"] = self._validate()
        row["seconds"] = time.perf_counter() - started
        self._record_epoch(row)
        done = self._units_done(self.epoch * len(self.loader), before + row["seconds"])
        task.update(done, self._progress_text(row["train_loss"], self.epoch))
        return row

    def _units_done(self, steps: int, spent: float) -> int:
        return min(self.units, int(spent)) if self.settings.budget else steps

    def _validate(self) -> float:
        started = time.perf_counter()
        loss = math.nan if self.valid is None else mean_loss(self.averaged, self.valid, self.settings)
        self._validation_seconds = time.perf_counter() - started
        return loss

    def _estimate(self, i: int) -> None:
        """Say how long training takes at most, from the time of the first steps; once, and not for short ones."""
        last = min(_ESTIMATED_AT, len(self.loader) - 1)
        if i == last // 3:
            self._estimate_from = time.perf_counter()
        if i != last or self._estimated or self.settings.budget:
            return
        self._estimated = True
        seconds_per_step = (time.perf_counter() - self._estimate_from) / max(1, last - last // 3)
        # A batch of validation examples is larger, but has no gradients: it counts as a step.
        per_epoch = len(self.loader) + (0 if self.valid is None else len(self.valid))
        seconds = (self.settings.epochs - self.epoch) * per_epoch * seconds_per_step
        if seconds > _SHORT:
            early = ", less if validation stops improving" if self.settings.patience and self.valid is not None else ""
            self.say(f"about {duration(seconds)} for {self.settings.epochs} epochs of {len(self.loader)} steps{early}")

    def _step(self, loss: Tensor, step: int) -> None:
        settings = self.settings
        self._check_finite("loss", loss, step)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.max_grad_norm or math.inf)
        self._check_finite("gradient", norm, step)
        self.optimizer.step()
        if settings.uses_averaging:
            decay = self._averaging_decay(step)
            with torch.no_grad():
                for average, current in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
                    average.lerp_(current, 1 - decay)
                for average, current in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
                    average.copy_(current)

    def _averaging_decay(self, step: int) -> float:
        """Decay of the weight average at a step."""
        if self.settings.optimizer != "asgd":
            # The decay is smaller in the first steps, so that the average forgets the initial weights.
            return min(self.settings.ema_decay, (1 + step) / (10 + step))
        if self.averaging_start_epoch is None:
            return 0.0
        averaged_steps = step - self.averaging_start_epoch * len(self.loader)
        return averaged_steps / (averaged_steps + 1)

    @property
    def averaging_start_epoch(self) -> int | None:
        """The epoch, from 0, in which NT-ASGD starts averaging; ``None`` if it has not started.

        It starts after an epoch whose validation loss is higher than the lowest of more than 5 epochs before.
        """
        losses = [row["valid_loss"] for row in self.history.rows if "valid_loss" in row]
        starts = (
            e
            for e in range(_NON_MONOTONE_INTERVAL + 1, len(losses) + 1)
            if losses[e - 1] > min(losses[: e - _NON_MONOTONE_INTERVAL])
        )
        return next(starts, None)

    def _check_finite(self, name: str, value: Tensor, step: int) -> None:
        if not torch.isfinite(value):
            raise TrainingError(
                f"the {name} became {value.item()} at step {step + 1}: "
                f"lower lr (now {self.settings.lr:g}) or max_grad_norm"
            )

    def _progress_text(self, loss: float, epoch: int) -> str:
        best = f", best validation {self.history.best_loss:.4g}" if self.history.best_epoch >= 0 else ""
        of = "" if self.settings.budget else f"/{self.settings.epochs}"
        return f"loss {loss:.4g} in epoch {epoch}{of}{best}"

    def _record_epoch(self, row: dict[str, float]) -> None:
        self.epoch += 1
        self.history.rows.append(row)
        loss = row.get("valid_loss", -math.inf)  # without validation the last epoch is the best
        if loss < self.history.best_loss or self.valid is None:
            self.best = {name: t.detach().clone() for name, t in self.averaged.state_dict().items()}
            self.history.best_loss, self.history.best_epoch = loss, self.epoch
        if self.folder is not None:
            self._save(self.folder / checkpoint.TRAINING_STATE)

    def out_of_patience(self) -> bool:
        patience = self.settings.patience
        return bool(patience and self.valid is not None and self.epoch - max(self.history.best_epoch, 0) >= patience)

    def check_validation_loss(self) -> None:
        """Raise an error if the validation loss was NaN or infinite in all epochs."""
        if self.valid is not None and self.epoch and self.history.best_epoch < 0:
            loss = self.history.rows[-1]["valid_loss"]
            raise TrainingError(
                f"the validation loss was {loss} in all {self.epoch} epochs: check the validation set for very large "
                f"values, or lower lr (now {self.settings.lr:g})"
            )

    def load_best(self) -> None:
        self.model.load_state_dict(self.best if self.best is not None else self.averaged.state_dict())
        self.model.eval()

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def _save(self, path: Path) -> None:
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        if self.settings.uses_averaging:
            tensors |= {f"averaged.{name}": t for name, t in self.averaged.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in (self.best or {}).items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in moments.items()}
        tensors |= {f"random.{name}": t for name, t in random_state(self.settings.device).items()}
        note = {"epoch": self.epoch, "rows": self.history.rows, "best_epoch": self.history.best_epoch}
        checkpoint.write_tensors(path, tensors, note)

    def restore(self) -> None:
        """Load the last checkpoint of the folder, if it has one."""
        if self.folder is None or not (self.folder / checkpoint.TRAINING_STATE).exists():
            return
        path = self.folder / checkpoint.TRAINING_STATE
        tensors, note = checkpoint.read_tensors(path)
        try:
            self._restore_state(tensors, note)
        except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as err:
            raise ModelFileError(
                f"{path} is not a checkpoint of this model ({one_line(err)}): start a new run"
            ) from err

    def _restore_state(self, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
        parts = {name: _under(name, tensors) for name in ("model", "averaged", "best", "optimizer", "random")}
        self.model.load_state_dict(parts["model"])
        if self.settings.uses_averaging:
            self.averaged.load_state_dict(parts["averaged"])
        optimizer = self.optimizer.state_dict()
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        indices = {name.split(".")[0] for name in parts["optimizer"]}
        optimizer["state"] = {int(i): _under(i, parts["optimizer"]) for i in indices}
        for i, moments in optimizer["state"].items():  # fused steps need the memory format of the weights
            optimizer["state"][i] = {name: _in_memory_format_of(t, weights[i]) for name, t in moments.items()}
        self.optimizer.load_state_dict(optimizer)
        set_random_state(parts["random"], self.settings.device)
        self.epoch, rows, best_epoch = note["epoch"], note["rows"], note["best_epoch"]
        self.history = History(rows=rows)
        if best_epoch > 0:
            self.history.best_epoch = best_epoch
            self.history.best_loss = rows[best_epoch - 1].get("valid_loss", -math.inf)
            self.best = parts["best"]


def online_sgd(model: nn.Module, lr: float, clip: float) -> Callable[[Tensor], None]:
    """A function that makes one SGD step for a loss, for online learning.

    Args:
        model: The model to update.
        lr: Learning rate.
        clip: Maximum norm of the gradient.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()

    return step


@torch.no_grad()
def mean_loss(model: Model, loader: Batches, settings: TrainSettings) -> float:
    """Mean loss over all examples of a loader, in evaluation mode; NaN if there are none."""
    model.eval()
    total, count, state = 0.0, 0, None
    for batch in loader.epoch():
        state = state if batch.continues else None
        with _precision(settings):
            loss, state = model.loss(batch.to(settings.device), state)
        total, count = total + float(loss) * len(batch), count + len(batch)
    return total / count if count else math.nan


def _precision(settings: TrainSettings) -> AbstractContextManager[Any]:
    return torch.autocast(settings.device.type, torch.bfloat16, enabled=settings.precision == "bf16")


def _in_memory_format_of(t: Tensor, like: Tensor) -> Tensor:
    """The tensor in the memory format of ``like`` if the shapes are equal, else unchanged."""
    return torch.empty_like(like).copy_(t) if t.shape == like.shape else t


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = prefix + "."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


@contextmanager
def _log(folder: Path | None) -> Iterator[Any]:
    """Context with a function ``log(name, value, epoch)`` that writes to TensorBoard, or does nothing."""
    if folder is None:
        yield lambda name, value, epoch: None
        return
    with imports_of("tensorboard", "tensorboard=true"):
        from torch.utils.tensorboard import SummaryWriter
    with SummaryWriter(str(folder)) as writer:
        yield writer.add_scalar
