"""The training loop, its checkpoints after interruptions, and the prediction loop."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch, Loader
from lstmkit.errors import MissingLibraryError, ModelFileError, TrainingError
from lstmkit.jobs.anomaly_detector.job import AnomalyDetector
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import PatchEncoder
from lstmkit.modules.heads import QuantileHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress, Task, TerminalProgress
from lstmkit.training import checkpoint
from lstmkit.training.optimization import TrainSettings, learning_rate
from lstmkit.training.predict import predict
from lstmkit.training.random_state import seeded
from lstmkit.training.run_folder import RunFolder
from lstmkit.training.train import History, mean_loss, train
from noisy_training import CPU, PER_EPOCH, PLAIN, Sums, fit_noisy, interrupt

torch.set_num_threads(1)

#: For the models below whose weights can be followed by hand.
BY_HAND = replace(PLAIN, lr=0.25, weight_decay=0.0, warmup=0.0, lr_schedule="none", max_grad_norm=0.0, ema_decay=0.0)


# ---- models and data -------------------------------------------------------------------------------------------------


class Scripted(Model):
    """One weight, which every step increases by the learning rate; the validation losses are fixed in advance.

    Args:
        valid_losses: Loss of each validation in turn; the last one is repeated.
        gradient: Gradient of the loss with respect to the weight.
    """

    def __init__(self, valid_losses: Sequence[float] = (1.0,), gradient: float = -1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.valid_losses, self.gradient = valid_losses, gradient
        self.validated: list[float] = []  # the weight at each validation

    def forward(self, inputs: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        return self.weight * inputs, state

    def loss(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        if self.training:
            return self.gradient * self.weight, None
        self.validated.append(self.weight.item())
        return torch.tensor(self.valid_losses[min(len(self.validated), len(self.valid_losses)) - 1]), None

    step = forward


class Numbers:
    """``N`` examples, each its row number; a batch continues the one before, except every ``restarts`` rows."""

    def __init__(self, n: int, lengths: Sequence[int] | None = None, restarts: int = 0) -> None:
        self.n, self.restarts = n, restarts
        self.lengths = None if lengths is None else np.array(lengths)

    def __len__(self) -> int:
        return self.n

    def batch(self, rows: np.ndarray) -> Batch:
        goes_on = bool(self.restarts) and rows[0] % self.restarts != 0
        return Batch(torch.as_tensor(rows, dtype=torch.float32), rows=rows, continues=goes_on)


class RecordingProgress(Progress):
    """Calls ``at(done)`` at every update, and records titles, steps and notes."""

    def __init__(self, at: Callable[[int], None] = lambda done: None) -> None:
        self.at, self.titles, self.done, self.notes, self.said = at, [], [], [], []

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Task]:
        self.titles.append((title, total) if not unit else (title, total, unit))
        yield self

    def update(self, done: int, note: str = "") -> None:
        self.done.append(done)
        self.notes.append(note)
        self.at(done)


def fit_scripted(model: Scripted, settings: TrainSettings, n_batches: int = 2, **more: Any) -> History:
    valid = Loader(Numbers(1), 1)
    return train(model, Loader(Numbers(n_batches), 1, seed=0), valid, settings, **more)


def assert_same_training(first: tuple[dict[str, Tensor], History], second: tuple[dict[str, Tensor], History]) -> None:
    """Equal weights bit for bit, and equal histories except for the seconds."""
    for _, history in (first, second):
        for row in history.rows:
            assert row.pop("seconds", 1.0) > 0
    assert first[1] == second[1]
    assert first[0].keys() == second[0].keys()
    for name, weights in first[0].items():
        assert torch.equal(weights, second[0][name]), name


# ---- resuming --------------------------------------------------------------------------------------------------------

VARIANTS = {
    "averaged": PLAIN,
    "plain weights": replace(PLAIN, ema_decay=0.0),
    "linear, no clipping": replace(PLAIN, lr_schedule="linear", max_grad_norm=0.0, warmup=0.0),
    "constant rate, patience": replace(PLAIN, lr_schedule="none", ema_decay=0.5, patience=1, lr=0.5),
    "bf16": replace(PLAIN, precision="bf16"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_interrupted_anywhere_resumes_to_the_same_bits(variant: str, tmp_path: Path) -> None:
    """Ctrl-C in the first, a middle or the last step of an epoch, in training or validation."""
    settings = VARIANTS[variant]
    whole = fit_noisy(settings)
    n_losses = PER_EPOCH * len(whole[1].rows)
    for stop_at in sorted({1, 3, 4, 6, 8, n_losses - 2, n_losses}):
        folder = tmp_path / str(stop_at)
        folder.mkdir()
        _, history = fit_noisy(settings, folder, stop_at=stop_at)
        assert history.ended == "interrupted"
        assert len(history.rows) == (stop_at - 1) // PER_EPOCH
        assert_same_training(fit_noisy(settings, folder), whole)


def test_a_training_interrupted_again_and_again_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = fit_noisy(PLAIN)
    for stop_at in (7, 2, 8, 4):
        assert fit_noisy(PLAIN, tmp_path, stop_at=stop_at)[1].ended == "interrupted"
    assert_same_training(fit_noisy(PLAIN, tmp_path), whole)


def test_a_training_without_validation_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = fit_noisy(PLAIN, valid=False)
    assert whole[1].best_epoch == PLAIN.epochs
    fit_noisy(PLAIN, tmp_path, valid=False, stop_at=8)
    assert_same_training(fit_noisy(PLAIN, tmp_path, valid=False), whole)


def test_interrupt_inside_the_progress_bar(tmp_path: Path) -> None:
    """At the end of the second epoch, which is complete by then."""
    progress = RecordingProgress(lambda done: interrupt() if done == 6 else None)
    _, history = fit_noisy(PLAIN, tmp_path, progress=progress)
    assert (history.ended, len(history.rows)) == ("interrupted", 2)
    assert_same_training(fit_noisy(PLAIN, tmp_path), fit_noisy(PLAIN))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_stop_while_a_checkpoint_is_written_loses_that_epoch_at_most(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C or a full disk while the second epoch's files are written: those of the first epoch are intact."""
    real, calls = os.replace, itertools.count(1)

    def replace_until(source: Any, target: Any) -> None:
        if next(calls) == 2:
            raise error("stopped")
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_until)
        if error is OSError:
            with pytest.raises(OSError, match="stopped"):
                fit_noisy(PLAIN, tmp_path)
        else:
            assert fit_noisy(PLAIN, tmp_path)[1].ended == "interrupted"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert_same_training(fit_noisy(PLAIN, tmp_path), fit_noisy(PLAIN))


def test_best_weights_and_history_on_disk_are_consistent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stop at any file operation, a training resumed and interrupted at once keeps its best epoch."""
    scripted = [5.0, 4.0, 3.0, 2.0]
    for n_operations in range(1, 7):
        folder, real, calls = tmp_path / str(n_operations), os.replace, itertools.count(1)
        folder.mkdir()

        def replace_until(source: Any, target: Any, real=real, calls=calls, n=n_operations) -> None:
            if next(calls) >= n:
                raise KeyboardInterrupt
            real(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", replace_until)
            fit_scripted(Scripted(scripted), BY_HAND, folder=folder)
        model = Scripted(scripted)
        at_once = RecordingProgress(lambda done: interrupt())
        history = fit_scripted(model, BY_HAND, folder=folder, resume=True, progress=at_once)
        epochs_kept = max(history.best_epoch, 0)
        if epochs_kept:
            assert model.weight.item() == pytest.approx(0.25 * 2 * epochs_kept)
            assert history.best_loss == scripted[epochs_kept - 1]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_process_resumes_to_the_same_bits(tmp_path: Path) -> None:
    script = Path(__file__).with_name("noisy_training.py")
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in the third epoch\n"
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    _, note = checkpoint.read_tensors(tmp_path / "last.safetensors")
    assert note["epoch"] == 2
    assert_same_training(fit_noisy(PLAIN, tmp_path), fit_noisy(PLAIN))


def test_resuming_a_finished_training_does_nothing(tmp_path: Path) -> None:
    for settings in (PLAIN, replace(PLAIN, patience=1, lr=0.5, lr_schedule="none", epochs=8)):
        folder = tmp_path / str(settings.patience)
        folder.mkdir()
        first = fit_noisy(settings, folder)
        assert_same_training(fit_noisy(settings, folder, stop_at=1), first)


def test_resuming_without_a_checkpoint_starts_from_scratch(tmp_path: Path) -> None:
    assert_same_training(fit_noisy(PLAIN, tmp_path), fit_noisy(PLAIN))


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "folder", "no parts", "other model", "list for a note"])
def test_a_damaged_checkpoint_is_named(damage: str, tmp_path: Path) -> None:
    """A one-line error names the file, whatever is wrong with it."""
    fit_noisy(PLAIN, tmp_path, stop_at=8)
    path = tmp_path / "last.safetensors"
    content = path.read_bytes()
    tensors, note = checkpoint.read_tensors(path)
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("these are not tensors")
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "no parts":
        checkpoint.write_tensors(path, {k: t for k, t in tensors.items() if not k.startswith("random")}, note)
    elif damage == "other model":
        checkpoint.write_tensors(path, {k: t[..., None] for k, t in tensors.items()}, note)
    else:
        checkpoint.write_tensors(path, tensors, [1, 2])  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match=r"last\.safetensors") as err:
        fit_noisy(PLAIN, tmp_path)
    assert "\n" not in str(err.value)


# ---- random numbers --------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first = fit_noisy(PLAIN)
    torch.rand(7)  # what the caller draws in between does not matter
    assert_same_training(fit_noisy(PLAIN), first)
    other, _ = fit_noisy(replace(PLAIN, seed=1))
    assert not torch.equal(other["encoder.linear.weight"], first[0]["encoder.linear.weight"])


def test_checkpoints_do_not_change_the_training(tmp_path: Path) -> None:
    assert_same_training(fit_noisy(PLAIN, tmp_path), fit_noisy(PLAIN))


def test_seeded_restores_the_random_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(1):
        assert torch.equal(torch.rand(3), inside)
    torch.manual_seed(5)
    with pytest.raises(ZeroDivisionError), seeded(1):
        torch.rand(1 // 0)
    assert torch.equal(torch.rand(3), expected)


# ---- early stopping, and which weights are kept ----------------------------------------------------------------------


def test_early_stopping_stops_and_keeps_the_best_weights() -> None:
    """Best in epoch 3, patience 2: training stops after epoch 5."""
    model = Scripted([3.0, 2.0, 1.0, 1.0, 4.0, 0.5])
    history = fit_scripted(model, replace(BY_HAND, epochs=9, patience=2))
    assert history.ended == "stopped early: no improvement for 2 epochs"
    assert [row["valid_loss"] for row in history.rows] == [3.0, 2.0, 1.0, 1.0, 4.0]
    assert (history.best_epoch, history.best_loss, history.finished) == (3, 1.0, True)
    assert model.weight.item() == model.validated[2] == pytest.approx(0.25 * 6)
    assert not model.training


def test_improvement_resets_the_patience() -> None:
    model = Scripted([3.0, 4.0, 2.0, 4.0, 1.0, 4.0, 4.0])
    assert fit_scripted(model, replace(BY_HAND, epochs=9, patience=2)).best_epoch == 5


def test_without_patience_all_epochs_run_and_the_best_is_kept() -> None:
    model = Scripted([1.0, 2.0, 3.0, 4.0])
    history = fit_scripted(model, BY_HAND)
    assert (history.ended, len(history.rows), history.best_epoch) == ("all epochs done", 4, 1)
    assert model.weight.item() == model.validated[0]


class Clock:
    """A clock that advances by a tick whenever it is read."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def perf_counter(self) -> float:
        self.now += self.tick
        return self.now


@pytest.mark.parametrize("n_batches", [3, 10_000], ids=["many epochs", "part of an epoch"])
def test_a_budget_replaces_epochs_and_patience(n_batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training lasts as long as the budget says, and the learning rate falls to 0 by the clock."""
    monkeypatch.setattr("lstmkit.training.train.time", Clock(0.01))
    settings = replace(BY_HAND, epochs=1, patience=1, lr_schedule="linear", budget=4.0)
    progress = RecordingProgress()
    history = fit_scripted(Scripted([2.0]), settings, n_batches, progress=progress)
    assert history.ended == "time budget spent"
    assert 3.6 < sum(row["seconds"] for row in history.rows) <= 4.4
    assert len(history.rows) > 10 if n_batches == 3 else len(history.rows) == 1
    assert history.rows[-1]["lr"] < 0.1 * settings.lr
    assert progress.titles == [("training", 4, "s")]
    assert progress.done[-1] in (3, 4)


def test_a_resumed_budget_counts_the_time_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstmkit.training.train.time", Clock(0.01))
    settings = replace(PLAIN, budget=3.0)
    _, first = fit_noisy(settings, tmp_path, stop_at=60)
    assert first.ended == "interrupted"
    _, history = fit_noisy(settings, tmp_path)
    assert history.rows[: len(first.rows)] == first.rows
    assert len(history.rows) > len(first.rows)
    assert 2.7 < sum(row["seconds"] for row in history.rows) < 3.3


def test_the_time_is_said_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes a second by this clock: 3 epochs of 20 steps and a batch of validation."""
    monkeypatch.setattr("lstmkit.training.train.time", Clock(1.0))
    progress = RecordingProgress()
    fit_scripted(Scripted([2.0]), replace(BY_HAND, epochs=3, patience=5), 20, progress=progress)
    assert progress.said == ["about 2 min for 3 epochs of 20 steps, less if validation stops improving"]
    seconds = RecordingProgress()
    monkeypatch.setattr("lstmkit.training.train.time", Clock(0.5))
    fit_scripted(Scripted([2.0]), replace(BY_HAND, epochs=3), 20, progress=seconds)
    assert seconds.said == ["about 35 s for 3 epochs of 20 steps"]
    short = RecordingProgress()
    monkeypatch.setattr("lstmkit.training.train.time", Clock(0.001))
    fit_scripted(Scripted([2.0]), replace(BY_HAND, epochs=3), 20, progress=short)
    assert short.said == []


def test_without_validation_the_last_weights_are_kept() -> None:
    model = Scripted()
    history = train(model, Loader(Numbers(2), 1, seed=0), None, replace(BY_HAND, patience=1))
    assert (history.ended, history.best_epoch, model.validated) == ("all epochs done", 4, [])
    assert "valid_loss" not in history.rows[0]
    assert model.weight.item() == pytest.approx(0.25 * 8)


def test_interrupt_in_the_first_epoch_keeps_the_current_weights() -> None:
    model, after_two = Scripted(), RecordingProgress(lambda done: interrupt() if done == 1 else None)
    history = fit_scripted(model, BY_HAND, n_batches=20, progress=after_two)
    assert (history.ended, history.finished, history.rows, history.best_epoch) == ("interrupted", False, [], -1)
    assert model.weight.item() == pytest.approx(0.25)
    assert not model.training


def test_interrupt_keeps_the_best_weights() -> None:
    """Epoch 2 is the best, the interrupt comes in epoch 4."""
    model = Scripted([3.0, 1.0, 2.0])
    in_the_fourth = RecordingProgress(lambda done: interrupt() if done == 31 else None)
    history = fit_scripted(model, BY_HAND, n_batches=10, progress=in_the_fourth)
    assert (history.ended, history.best_epoch, len(history.rows)) == ("interrupted", 2, 3)
    assert model.weight.item() == model.validated[1] == pytest.approx(0.25 * 20)


def test_interrupt_without_validation_keeps_the_last_complete_epoch() -> None:
    model, in_the_third = Scripted(), RecordingProgress(lambda done: interrupt() if done == 21 else None)
    history = train(model, Loader(Numbers(10), 1, seed=0), None, BY_HAND, progress=in_the_third)
    assert (history.ended, history.best_epoch) == ("interrupted", 2)
    assert model.weight.item() == pytest.approx(0.25 * 20)


# ---- losses that are not numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_loss_names_step_and_learning_rate(bad: float) -> None:
    class Breaking(Scripted):
        def loss(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
            loss, state = super().loss(batch, state)
            return (loss * bad if self.weight.item() >= 0.75 else loss), state

    with pytest.raises(TrainingError, match=rf"the loss became -?{bad} at step 4: lower lr \(now 0.25\)"):
        fit_scripted(Breaking(), BY_HAND)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_non_finite_gradient_never_reaches_the_weights(clip: float) -> None:
    """The gradient of the square root at 0 is infinite."""
    model = Scripted()
    model.loss = lambda batch, state=None: (torch.sqrt(0 * model.weight), None)  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="the gradient became nan at step 1"):
        fit_scripted(model, replace(BY_HAND, max_grad_norm=clip))
    assert model.weight.item() == 0.0


def test_non_finite_validation_loss_is_never_the_best() -> None:
    model = Scripted([math.nan, 2.0, math.inf, math.nan])
    history = fit_scripted(model, BY_HAND)
    assert (history.best_epoch, history.best_loss, history.ended) == (2, 2.0, "all epochs done")
    assert model.weight.item() == model.validated[1]


@pytest.mark.parametrize("patience", [0, 2])
def test_validation_loss_that_is_never_finite_is_an_error(patience: int, tmp_path: Path) -> None:
    """Also when resuming."""
    settings = replace(BY_HAND, patience=patience)
    for _ in range(2):
        with pytest.raises(TrainingError, match=f"validation loss was nan in all {patience or 4} epochs"):
            fit_scripted(Scripted([math.nan]), settings, folder=tmp_path, resume=True)


def test_no_examples_are_an_error() -> None:
    for n_batches in (0, 5):
        with pytest.raises(TrainingError, match="the training set is empty"):
            train(Scripted(), Loader(Numbers(0), 4, 0, n_batches), None, BY_HAND)
    with pytest.raises(TrainingError, match="the validation set is empty"):
        train(Scripted(), Loader(Numbers(2), 4, 0), Loader(Numbers(0), 4), BY_HAND)


def test_order_depends_on_the_epoch() -> None:
    orders: list[list[int]] = []

    class RecordingModel(Scripted):
        def loss(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
            orders.append(batch.inputs.int().tolist())
            return super().loss(batch, state)

    loader = Loader(Numbers(5), 2, seed=0)
    train(RecordingModel(), loader, None, BY_HAND)
    assert orders == [batch.inputs.int().tolist() for epoch in range(4) for batch in loader.epoch(epoch)]
    assert len({str(orders[i : i + 3]) for i in range(0, 12, 3)}) == 4


# ---- one step --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("none", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0.5, 1.0, 1.0, *((1 + math.cos(math.pi * k / 8)) / 2 for k in range(1, 8))]),
    ],
)
def test_learning_rate_schedule(decay: str, expected: list[float]) -> None:
    settings = replace(PLAIN, lr=2.0, warmup=0.2, lr_schedule=decay)
    assert [learning_rate(settings, step, 10) / 2 for step in range(10)] == pytest.approx(expected)


def test_learning_rate_without_warmup_and_with_warmup_only() -> None:
    assert learning_rate(replace(PLAIN, lr=2.0, warmup=0.0), 0, 10) == 2.0
    rates = [learning_rate(replace(PLAIN, lr=2.0, warmup=1.0), step, 4) for step in range(4)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert learning_rate(replace(PLAIN, lr=2.0, warmup=0.0), 0, 1) == 2.0


def test_optimizer_uses_the_schedule() -> None:
    """Under a constant gradient AdamW moves a weight by the learning rate, so the total is the sum of the rates."""
    settings, model = replace(BY_HAND, lr_schedule="linear", warmup=0.5, epochs=3), Scripted()
    history = train(model, Loader(Numbers(4), 1, seed=0), None, settings)
    rates = [learning_rate(settings, step, 12) for step in range(12)]
    assert model.weight.item() == pytest.approx(sum(rates), rel=1e-5)
    assert [row["lr"] for row in history.rows] == pytest.approx(rates[3::4])


@pytest.mark.parametrize(("clip", "gradient", "expected"), [(0.5, -8.0, -0.5), (0.5, -0.25, -0.25), (0.0, -8.0, -8.0)])
def test_gradients_are_clipped(clip: float, gradient: float, expected: float) -> None:
    model = Scripted(gradient=gradient)
    fit_scripted(model, replace(BY_HAND, max_grad_norm=clip))
    assert model.weight.grad is not None
    assert float(model.weight.grad) == pytest.approx(expected, rel=1e-4)


def test_weight_decay_pulls_weights_to_zero() -> None:
    model = Scripted(gradient=0.0)
    nn.init.ones_(model.weight)
    fit_scripted(model, replace(BY_HAND, weight_decay=0.2, epochs=1))
    assert model.weight.item() == pytest.approx((1 - 0.25 * 0.2) ** 2)


def test_averaged_weights_are_validated_and_kept() -> None:
    """Decay 0.2, and less in the first steps: 1/10, 2/11; 3/12 exceeds it."""
    model, settings = Scripted([1.0]), replace(BY_HAND, ema_decay=0.2, epochs=1)
    validated: list[float] = []
    model.validated = validated  # the averaged copy, taken by deepcopy, gets its own list
    history = fit_scripted(model, settings, n_batches=3)
    average = 0.0
    for weight, decay in zip((0.25, 0.5, 0.75), (0.1, 2 / 11, 0.2), strict=True):
        average = decay * average + (1 - decay) * weight
    assert history.best_epoch == 1
    assert model.weight.item() == pytest.approx(average)
    assert validated == []


def test_buffers_are_copied_not_averaged() -> None:
    """Buffers such as running means are copied; an average would lag behind."""

    class Counting(Scripted):
        steps: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))

        def loss(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
            self.steps += self.training
            return super().loss(batch, state)

    model = Counting()
    fit_scripted(model, replace(BY_HAND, ema_decay=0.9, epochs=1), n_batches=5)
    assert int(model.steps) == 5


def test_bf16_autocasts_training_and_validation_and_learns() -> None:
    modes_and_dtypes: list[tuple[bool, torch.dtype]] = []

    def losses(precision: str) -> list[float]:
        with seeded(0):
            model = SequenceModel(
                PatchEncoder(2, 1, 8), build_trunk("lstm", 8, 8, num_layers=1), QuantileHead(8, [0.5], 3)
            )
        model.encoder.register_forward_hook(
            lambda module, inputs, output: modes_and_dtypes.append((model.training, output.dtype))  # type: ignore[misc]
        )
        settings = replace(PLAIN, precision=precision, epochs=12, lr=0.05, ema_decay=0.0)
        history = train(model, Loader(Sums(128), 8, 0), Loader(Sums(16, 1), 8), settings)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        return [row["valid_loss"] for row in history.rows]

    half = losses("bf16")
    assert set(modes_and_dtypes) == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert half[-1] < 0.5 * half[0]
    modes_and_dtypes.clear()
    whole = losses("float32")
    assert {dtype for _, dtype in modes_and_dtypes} == {torch.float32}
    assert half[0] == pytest.approx(whole[0], rel=0.05)


# ---- state from batch to batch ---------------------------------------------------------------------------------------


def test_state_is_carried_and_detached_if_a_batch_continues() -> None:
    """Truncated backpropagation: rows 0, 3, 6 start without a state, the others get the detached previous state."""
    calls: list[tuple[bool, Any]] = []

    class Carrying(Scripted):
        def loss(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
            calls.append((self.training, state))
            loss, _ = super().loss(batch, state)
            row = batch.inputs + 0 * self.weight
            return loss, (row, (row + 10, row + 20))

    source = Numbers(7, restarts=3)
    train(Carrying(), Loader(source, 1), Loader(source, 1), replace(BY_HAND, epochs=1))
    for training in (True, False):
        states = [state for when, state in calls if when is training]
        assert [state is None for state in states] == [True, False, False, True, False, False, True]
        for row, state in enumerate(states):
            if state is not None:
                first, (second, third) = state
                assert [float(t) for t in (first, second, third)] == [row - 1, row + 9, row + 19]
                assert not any(t.requires_grad for t in (first, second, third))


class Chunks:
    """One batch of long sequences, split into ``n`` batches that continue each other."""

    lengths: np.ndarray | None = None

    def __init__(self, inputs: Tensor, targets: Tensor, n: int) -> None:
        self.inputs, self.targets = inputs.chunk(n, dim=1), targets.chunk(n, dim=1)

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: np.ndarray) -> Batch:
        (i,) = rows
        return Batch(self.inputs[i], targets=self.targets[i], continues=bool(i > 0))


@pytest.mark.parametrize("n_members", [1, 2])
def test_loss_over_continuing_batches_equals_the_whole(n_members: int) -> None:
    """For one model and for an ensemble, whose state is nested."""

    class EveryStep(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features.sum(-1)

        def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
            return (outputs - batch.targets).square().mean()

    with seeded(0):
        inputs, targets = torch.randn(3, 12, 2), torch.randn(3, 12)
        members = [
            SequenceModel(PatchEncoder(2, 1, 4), build_trunk("lstm", 4, 4, num_layers=2), EveryStep())
            for _ in range(n_members)
        ]
    model = members[0] if n_members == 1 else Ensemble(members)
    whole = mean_loss(model, Loader(Chunks(inputs, targets, 1), 1), PLAIN)
    assert mean_loss(model, Loader(Chunks(inputs, targets, 4), 1), PLAIN) == pytest.approx(whole, rel=1e-5)
    train(model, Loader(Chunks(inputs, targets, 4), 1), None, PLAIN)  # and it trains that way


def test_mean_loss_is_over_examples_not_batches() -> None:
    """Batches of 4 and 1 are weighted 4 to 1."""

    class BatchMean(Scripted):
        def loss(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
            return batch.inputs.mean(), None

    assert mean_loss(BatchMean(), Loader(Numbers(5), 4), PLAIN) == pytest.approx(2.0)


# ---- progress --------------------------------------------------------------------------------------------------------


def test_progress_receives_steps_and_losses() -> None:
    progress = RecordingProgress()
    fit_scripted(Scripted([3.0, 2.0]), BY_HAND, n_batches=25, progress=progress, title="a title")
    assert progress.titles == [("a title", 100)]
    assert progress.done == sorted(progress.done)
    assert progress.done[-1] == 100
    assert progress.notes[-1].endswith("best validation 2")
    assert all(note.startswith("loss ") for note in progress.notes)


def test_progress_of_a_resumed_training_continues(tmp_path: Path) -> None:
    fit_noisy(PLAIN, tmp_path, stop_at=2 * PER_EPOCH + 1)
    progress = RecordingProgress()
    fit_noisy(PLAIN, tmp_path, progress=progress)
    assert (min(progress.done) > 6, max(progress.done)) == (True, 12)


def test_lines_of_progress_go_to_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """stdout only has results, and a log file has no progress bars."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    progress = TerminalProgress()
    progress.say("[bold] is no markup")
    fit_scripted(Scripted(), BY_HAND, progress=progress, title="training it")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "[bold] is no markup\ntraining it …\n"


def test_terminal_has_a_progress_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    with TerminalProgress().task("working", 4) as task:
        task.update(3, "loss 1.5")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "working" in captured.err
    assert "75%" in captured.err
    assert "loss 1.5" in captured.err


def test_tensorboard_has_all_metrics_of_every_epoch(tmp_path: Path) -> None:
    fit_scripted(Scripted([3.0, 2.0, 1.0, 4.0]), BY_HAND, tensorboard=tmp_path / "log")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the reader
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        log = EventAccumulator(str(tmp_path / "log"))
        log.Reload()
    assert {"train_loss", "valid_loss", "lr"} <= set(log.Tags()["scalars"])
    assert [(e.step, e.value) for e in log.Scalars("valid_loss")] == [(1, 3.0), (2, 2.0), (3, 1.0), (4, 4.0)]


def test_missing_tensorboard_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(MissingLibraryError, match=r"pip install 'lstmkit\[tensorboard\]'"):
        fit_scripted(Scripted(), BY_HAND, tensorboard=tmp_path)


def test_tensorboard_is_not_written_by_default(tmp_path: Path) -> None:
    fit_scripted(Scripted(), BY_HAND, folder=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


# ---- predicting ------------------------------------------------------------------------------------------------------


def test_predictions_are_in_the_order_of_the_source() -> None:
    """The loader sorts by length; the predictions are in the order of the rows."""
    loader, progress = Loader(Numbers(7, lengths=[3, 1, 2, 9, 1, 5, 4]), 3), RecordingProgress()
    modes: list[tuple[bool, bool]] = []

    def decode(model: Model, batch: Batch) -> list[str]:
        modes.append((model.training, torch.is_grad_enabled()))
        return [f"answer {row:.0f}" for row in batch.inputs]

    model = Scripted()
    predictions = predict(model, loader, decode, device=CPU, progress=progress, title="predicting")
    assert predictions == [f"answer {row}" for row in range(7)]
    assert set(modes) == {(False, False)}
    assert (progress.titles, progress.done) == ([("predicting", 3)], [1, 2, 3])
    assert predict(model, Loader(Numbers(0), 3), decode, device=CPU) == []


def test_decoder_with_too_few_results_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        predict(Scripted(), Loader(Numbers(4), 4), lambda model, batch: ["one"], device=CPU)


def test_every_train_setting_is_a_setting_of_every_job() -> None:
    """A missing one would be ignored without an error."""
    from lstmkit import settings
    from lstmkit.jobs.base import Job

    assert {f.name for f in fields(TrainSettings)} <= settings.declared(Job).keys()


def test_run_without_a_complete_epoch_is_deleted(tmp_path: Path):
    """Only a run without a checkpoint is deleted."""
    folder = RunFolder.start(tmp_path / "run", {"job": "x", "settings": {}, "data": []}, resume=False, overwrite=False)
    (folder.checkpoints(0) / "last.safetensors").write_bytes(b"kept")
    folder.delete_if_empty()
    assert (tmp_path / "run/run.json").exists()
    (folder.checkpoints(0) / "last.safetensors").unlink()
    folder.delete_if_empty()
    assert not (tmp_path / "run").exists()


def test_fit_that_diverges_at_once_leaves_no_run(tmp_path: Path):
    wave = np.sin(np.arange(300) / 5)
    settings = {"lr": 1e30, "max_grad_norm": 0.0, "hidden_size": 4, "epochs": 1, "window": 20, "warmup": 0.0}
    with pytest.raises(TrainingError, match="lower lr"):
        AnomalyDetector(**settings).fit(wave, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
