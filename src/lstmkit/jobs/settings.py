"""The settings that every job shares. This module and the ``settings.py`` of each job import no heavy library, so that
the command line can list and explain jobs at once."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

from lstmkit.progress import seconds_in
from lstmkit.settings import Settings, renamed, setting, settings_class


def chosen_or_weight(value: float) -> None:
    """Check a weight for which -1 means that it is chosen.

    Raises:
        ValueError: It is between -1 and 0.
    """
    if -1 < value < 0:
        raise ValueError("-1, which is to choose it, or a weight from 0")


@settings_class
class JobSettings(Settings):
    """Settings of every job, and what a job says of itself.

    Attributes:
        name: The job's name on the command line: that of its folder.
        summary: What it does, in one line.
        main_settings: The settings that a reader looks at first; forms show them before all others.
        extra: Which of pip's extras installs its libraries: ``pip install 'lstmkit[EXTRA]'``.
        pipeline_tags: The task in the words of the Hugging Face hub, by kind of data, of which ``""`` means any; empty
            if the hub has no word for it.
        old_names: Names of the job in earlier versions.
        old_settings: Old names of the settings declared here: ``{"bands": "n_mels"}``.
        old_choices: By today's name of a setting declared here, old values: ``{"method": {"predict": "prediction"}}``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    extra: ClassVar[str]
    main_settings: ClassVar[tuple[str, ...]] = ("epochs", "budget", "hidden_size")
    pipeline_tags: ClassVar[Mapping[str, str]] = {}
    old_names: ClassVar[tuple[str, ...]] = ()
    old_settings: ClassVar[Mapping[str, str]] = {
        "decay": "lr_schedule",
        "clip": "max_grad_norm",
        "average": "ema_decay",
        "seeds": "ensemble_size",
        "valid_share": "valid_fraction",
        "test_share": "test_fraction",
    }
    old_choices: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    cell: str = setting("recurrent cell", default="lstm", choices=("lstm", "gru", "rnn"))
    hidden_size: int = setting("hidden units per layer", default=64, low=1)
    num_layers: int = setting("number of recurrent layers", default=1, low=1)
    dropout: float = setting("dropout probability between layers", default=0.1, low=0, high=0.95)
    epochs: int = setting("maximum number of epochs", default=30, group="training", low=1)
    budget: str = setting(
        "training time, as 90s, 10min or 2h, in place of epochs and early stopping; empty = epochs. The learning rate "
        "follows the clock, so results are not reproducible to the bit",
        default="",
        group="training",
        check=seconds_in,
    )
    steps_per_epoch: int = setting(
        "training steps per epoch; 0 = one pass over all examples, -1 = as many passes as make 32 steps",
        default=-1,
        group="training",
        low=-1,
    )
    batch_size: int = setting("examples per batch", default=64, group="training", low=1)
    optimizer: str = setting(
        "optimizer: AdamW, SGD, or averaged SGD, which averages weights once validation stops improving (asgd)",
        default="adamw",
        group="training",
        choices=("adamw", "sgd", "asgd"),
    )
    lr: float = setting("peak learning rate", default=1e-3, group="training", low=0)
    weight_decay: float = setting("weight decay", default=1e-2, group="training", low=0)
    warmup: float = setting(
        "fraction of training steps with linear learning-rate warmup", default=0.05, group="training", low=0, high=1
    )
    lr_schedule: str = setting(
        "learning-rate schedule after warmup",
        default="cosine",
        group="training",
        choices=("cosine", "linear", "none"),
    )
    max_grad_norm: float = setting("maximum gradient norm; 0 = no clipping", default=1.0, group="training", low=0)
    ema_decay: float = setting(
        "decay of the exponential moving average of weights; 0 = no averaging",
        default=0.99,
        group="training",
        low=0,
        high=1,
    )
    patience: int = setting(
        "epochs without improvement of the validation loss before early stopping; 0 = no early stopping",
        default=6,
        group="training",
        low=0,
    )
    precision: str = setting(
        "training precision; bf16 = autocast to bfloat16",
        default="float32",
        group="training",
        choices=("float32", "bf16"),
    )
    seed: int = setting(
        "random seed of weights, dropout and batch order", default=0, group="training", low=0, high=2**32
    )
    ensemble_size: int = setting(
        "number of models trained with consecutive seeds and averaged", default=1, group="training", low=1
    )
    device: str = setting("compute device: auto, cpu, cuda, cuda:1, …", default="auto", group="training")
    tensorboard: bool = setting("write a TensorBoard log to the run folder", default=False, group="training")

    @classmethod
    def current(cls, saved: Mapping[str, Any]) -> dict[str, Any]:
        """Saved settings under today's names and values; those of version 0.1 are understood."""
        names: dict[str, str] = {}
        choices: dict[str, Mapping[str, str]] = {}
        for base in reversed(cls.__mro__):
            names |= vars(base).get("old_settings", {})
            choices |= vars(base).get("old_choices", {})
        return renamed(saved, names, choices)


def settings_of(job: str) -> type[JobSettings]:
    """The settings class of a job, by the name of its folder; nothing else of the job is imported.

    Raises:
        TypeError: The ``settings.py`` of the folder has no class with that name.
    """
    module = importlib.import_module(f"lstmkit.jobs.{job}.settings")
    classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, JobSettings)]
    found = next((c for c in classes if c.__module__ == module.__name__ and vars(c).get("name") == job), None)
    if found is None:
        raise TypeError(f"{module.__file__} has no class of settings with the folder's name: give one name = {job!r}")
    return found
