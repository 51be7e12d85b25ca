"""Streaming: run a recurrent layer one step or a few steps at a time and keep its state."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.layers.state import LayerState, StreamableLayer
from lstmkit.ops.call import Stepper


class Stream:
    """A recurrent layer that runs live: each call takes the next step or steps and continues from the last state.

    In ``eval`` mode, single steps go through the stepper of the back end if it has one. A stepper runs all layers in
    one call and packs their weights once. If an optimizer or ``load_state_dict`` changes the weights, the next step
    packs them again. A change through ``.data`` leaves no trace; call :meth:`reload` after it. No gradients are kept,
    because an endless stream would fill the memory with them.

    Args:
        layer: A layer that runs in one direction.
        state: Initial state as in ``forward``; zeros by default.

    Raises:
        ValueError: The layer is bidirectional.

    >>> from lstmkit import LSTM
    >>> layer = LSTM(3, 5, batch_first=True).eval()
    >>> stream, x = layer.stream(), torch.randn(2, 4, 3)
    >>> outputs = torch.stack([stream(x[:, t]) for t in range(4)], dim=1)
    >>> torch.allclose(outputs, layer(x)[0], atol=1e-6)
    True
    """

    def __init__(self, layer: StreamableLayer, state: LayerState | None = None) -> None:
        if layer.bidirectional:
            raise ValueError("a bidirectional layer cannot stream: its reversed direction needs future steps")
        self.layer, self._state = layer, state
        self._stepper: Stepper | None = None
        #: Shape and dtype of the steps for which a stepper was last made (or found impossible).
        self._step_signature: tuple[torch.Size, torch.dtype] | None = None
        #: The weights that the stepper has packed; those of them whose changes torch counts, and their versions.
        self._weights: list[Tensor | None] = []
        self._versioned_weights: list[Tensor] = []
        self._versions: list[int] = []
        self._training = layer.training

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Run one step ``(B, F) -> (B, P)``, or several: ``(B, T, F)`` if ``batch_first``, else ``(T, B, F)``.

        Args:
            x: The next step or steps.
            out: Only for one step: a contiguous ``(B, P)`` CPU tensor of the dtype of ``x`` that receives the result.
                With ``out``, a step allocates nothing.

        Raises:
            ValueError: A shape or dtype does not fit.
        """
        if self._stepper is not None and self._is_current():
            output = self._stepper(x, out)
            if output is not None:
                return output
        return self._checked_step(x, out)

    def _checked_step(self, x: Tensor, out: Tensor | None) -> Tensor:
        """Steps that the present stepper does not accept as they are."""
        if out is not None:
            self._check_out(x, out)
        output = None
        if x.dim() == 2:
            if (x.shape, x.dtype) != self._step_signature or not self._is_current():
                self._prepare(x)
            if self._stepper is not None and type(x) in (Tensor, nn.Parameter):
                plain = x.detach().resolve_neg().clone(memory_format=torch.contiguous_format)
                output = self._stepper(plain, None)
        if output is None:
            output = self._run_layer(x)
        return output if out is None else out.copy_(output)

    @property
    def state(self) -> LayerState | None:
        """The state after the last step, shaped as in ``forward``; ``None`` before the first step."""
        if self._stepper is None:
            return self._state
        states = self._stepper.state()
        return states[0] if len(states) == 1 else states

    @state.setter
    def state(self, state: LayerState | None) -> None:
        self._state = state
        self._stepper = self._step_signature = None

    def reload(self) -> None:
        """Read the weights again at the next step; the state stays."""
        self.state = self.state

    def reset(self) -> None:
        """Set the state back to zeros."""
        self.state = None

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: the state, but not the stepper, which the copy makes anew."""
        return self.__dict__ | {"_state": self.state, "_stepper": None, "_step_signature": None}

    def _check_out(self, x: Tensor, out: Tensor) -> None:
        if x.dim() != 2:
            raise ValueError(f"out needs a single step (B, F) as input, got shape {tuple(x.shape)}")
        shape = (x.shape[0], self.layer.output_size)
        if tuple(out.shape) != shape or out.dtype != x.dtype or not out.is_cpu or not out.is_contiguous():
            raise ValueError(f"out must be a contiguous {x.dtype} tensor {shape} on the CPU, got {tuple(out.shape)}")

    def _is_current(self) -> bool:
        """Whether mode and weights are those for which the stepper was made."""
        weights = self.layer.stored_parameters()
        if len(weights) != len(self._weights) or not all(map(operator.is_, weights, self._weights)):
            return False
        return (
            self.layer.training == self._training
            and [weight._version for weight in self._versioned_weights] == self._versions
        )

    @torch.no_grad()
    def _prepare(self, x: Tensor) -> None:
        """Make a stepper for steps like ``x``, if there can be one."""
        self.state = state = self.state
        self._step_signature, self._training = (x.shape, x.dtype), self.layer.training
        self._weights = list(self.layer.stored_parameters())
        self._versioned_weights = [
            weight for weight in self._weights if weight is not None and not weight.is_inference()
        ]
        self._versions = [weight._version for weight in self._versioned_weights]
        self._stepper = self.layer.make_stepper(x, state)

    @torch.no_grad()
    def _run_layer(self, x: Tensor) -> Tensor:
        """Any number of steps through the layer's own ``forward``."""
        time = 1 if self.layer.batch_first else 0
        output, self.state = self.layer(x.unsqueeze(time) if x.dim() == 2 else x, self.state)
        return output.squeeze(time) if x.dim() == 2 else output
