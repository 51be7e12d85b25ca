"""The contract of a predictor: what ``fit`` leaves behind."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from typing_extensions import Self

from lstmkit import settings as settings_module
from lstmkit.errors import SettingError, UserError
from lstmkit.jobs.settings import JobSettings
from lstmkit.layers.quantization import quantize, quantize_
from lstmkit.models.base import Ensemble, Model
from lstmkit.training import checkpoint
from lstmkit.version import __version__

S = TypeVar("S", bound=JobSettings)


class Predictor(ABC, Generic[S]):
    """What ``fit`` leaves: settings, front end, network and calibration.

    A predictor encodes examples, runs the network and decodes its outputs. It lies below everything else of a job:
    metrics, plots, reports, generation, streaming, export and serving take a predictor and never the job.

    Attributes:
        settings: The settings that it was fitted with.
    """

    def __init__(self, settings: S) -> None:
        self.settings = settings
        self._model: Model | None = None

    @abstractmethod
    def build(self) -> Model:
        """Create an untrained network for the fitted front end."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that was fitted except the network's weights, ready for JSON."""

    @classmethod
    @abstractmethod
    def from_state(cls, settings: S, state: Mapping[str, Any]) -> Self:
        """The predictor that :meth:`state` describes, without its network.

        Raises:
            LookupError, TypeError, ValueError: The state is damaged.
        """

    @property
    def model(self) -> Model:
        """The trained network, or an ensemble of networks.

        Raises:
            UserError: It is not trained yet.
        """
        if self._model is None:
            raise UserError("there is no trained model yet: call fit first, or lstmkit.load a saved one")
        return self._model

    @model.setter
    def model(self, model: Model) -> None:
        self._model = model

    @property
    def network(self) -> Model:
        """The trained network; the first one of an ensemble."""
        return self.model.members[0] if isinstance(self.model, Ensemble) else self.model  # type: ignore[return-value]

    def set_members(self, members: Sequence[Model]) -> None:
        """Take trained networks: one as it is, several as an ensemble."""
        self.model = members[0] if len(members) == 1 else Ensemble(members)

    @property
    def data_kinds(self) -> Collection[str]:
        """Those of :data:`lstmkit.settings.DATA_KINDS` whose settings count for the fitted data."""
        return settings_module.DATA_KINDS

    @property
    def device(self) -> torch.device:
        """The device that ``settings.device`` names."""
        return device_named(self.settings.device)

    def quantized(self) -> Self:
        """A copy whose recurrent layers have weights in 8 bits, see :func:`lstmkit.quantize`.

        Raises:
            UserError: There is no trained model yet, or weights are not finite.
        """
        predictor = copy.copy(self)
        try:
            predictor.model = quantize(self.model)
        except ValueError as err:
            raise UserError(str(err)) from err
        return predictor

    def save(self, path: str | Path) -> Path:
        """Write the model's folder: ``weights.safetensors`` and ``model.json``."""
        weights = {name: t for name, t in self.model.state_dict().items() if isinstance(t, Tensor)}
        description = {
            "job": self.settings.name,
            "lstmkit": __version__,
            "settings": settings_module.values(self.settings),
            "members": len(self.model.members) if isinstance(self.model, Ensemble) else 1,
            "state": self.state(),
        }
        checkpoint.save_model(Path(path), weights, description)
        return Path(path)

    @classmethod
    def from_saved(cls, settings: S, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> Self:
        """The predictor that :meth:`save` wrote, in evaluation mode.

        Raises:
            LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError: Description and weights
                do not make a model.
        """
        predictor = cls.from_state(settings, description["state"])
        members = description["members"]
        check_size(predictor.build, members, sum(t.numel() for t in weights.values()))
        predictor.set_members([predictor.build() for _ in range(members)])
        if any(t.dtype == torch.int8 for t in weights.values()):
            quantize_(predictor.model)
        predictor.model.load_state_dict(weights)
        predictor.model.eval()
        return predictor


def check_size(build: Callable[[], Model], members: int, saved: int) -> None:
    """Check that an ensemble has no more weights than its file, before memory and time are spent on it.

    The network is built once on torch's meta device, whose tensors have a shape but no memory. Building stops as soon
    as it has many more weights than the file, so a million layers take no longer than the layers that the file has.

    Args:
        build: Builds one member.
        members: Number of members.
        saved: Number of weights, of all members, in the file.

    Raises:
        ValueError: The ensemble has more weights than the file.
    """
    limit = 2 * saved + 10_000  # weights may be registered and then replaced by others
    registered = 0

    def count(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        nonlocal registered
        registered += 0 if weight is None else max(weight.numel(), 1)
        if registered > limit:
            raise ValueError(f"its settings make a network of more than {limit} weights, its file has {saved}")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            network = build()
    finally:
        hook.remove()
    size = sum(t.numel() for t in network.state_dict().values() if isinstance(t, Tensor))
    if members * size > saved:
        raise ValueError(f"its settings make {members * size} weights in {members} networks, its file has {saved}")


def device_named(name: str) -> torch.device:
    """The device of that name; ``"auto"`` is CUDA if there is a GPU, else the CPU.

    Raises:
        SettingError: The device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as err:
        raise SettingError(f"device {name!r} is not available: {str(err).splitlines()[0]}") from err
    return device
