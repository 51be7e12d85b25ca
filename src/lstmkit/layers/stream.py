"""A recurrent layer fed live: one step or a few at a time, its state kept."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lstmkit.layers.state import LayerState, autocast_dtype
from lstmkit.ops import dispatch
from lstmkit.ops.call import Stepper

if TYPE_CHECKING:
    from lstmkit.layers.recurrent import RecurrentLayer


class Stream:
    """A layer fed live: each call takes the next step or steps and goes on from where the last one ended.

    Single steps of a layer in ``eval`` mode go through the back end's stepper where it has one: all layers in one call,
    their weights packed once. Weights that an optimiser or ``load_state_dict`` changes are packed anew at the next
    step; after a change through ``.data``, which leaves no mark, call :meth:`reload`. No gradients are kept: over an
    endless stream they would fill the memory.

    >>> from lstmkit import LSTM
    >>> layer = LSTM(3, 5, batch_first=True).eval()
    >>> live, x = layer.stream(), torch.randn(2, 4, 3)
    >>> one_by_one = torch.stack([live(x[:, t]) for t in range(4)], dim=1)
    >>> torch.allclose(one_by_one, layer(x)[0], atol=1e-6)
    True
    """

    def __init__(self, layer: RecurrentLayer, state: LayerState | None = None) -> None:
        if layer.bidirectional:
            raise ValueError("a bidirectional layer cannot stream: its reversed direction sees the future")
        self.layer, self._state = layer, state
        self._stepper: Stepper | None = None
        #: Shape and dtype of the steps that the stepper is for, or that there can be none for; the weights it has
        #: read, and those of them that torch counts the changes of.
        self._fits: tuple[torch.Size, torch.dtype] | None = None
        self._read: list[Tensor | None] = []
        self._counted: list[Tensor] = []
        self._versions: list[int] = []
        self._training = layer.training

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """One step ``(B, F) -> (B, P)``, or several, ``(B, T, F)`` or time first, as the layer has it.

        Args:
            out: For one step: where the result goes, a contiguous ``(B, P)`` tensor of ``x``'s dtype on the CPU; then
                nothing is allocated.

        Raises:
            ValueError: A shape or dtype that does not fit.
        """
        if self._stepper is not None and self._up_to_date():
            done = self._stepper(x, out)
            if done is not None:
                return done
        return self._checked_step(x, out)

    def _checked_step(self, x: Tensor, out: Tensor | None) -> Tensor:
        """A step that the stepper, if there is one, has not done at once; or several steps."""
        if out is not None:
            self._check_out(x, out)
        output = None
        if x.dim() == 2:
            if (x.shape, x.dtype) != self._fits or not self._up_to_date():
                self._prepare(x)
            if self._stepper is not None and type(x) in (Tensor, nn.Parameter):
                plain = x.detach().resolve_neg().clone(memory_format=torch.contiguous_format)
                output = self._stepper(plain, None)
        if output is None:
            output = self._run_layer(x)
        return output if out is None else out.copy_(output)

    @property
    def state(self) -> LayerState | None:
        """The state after the last step, as ``forward`` gives it; ``None`` before the first."""
        if self._stepper is None:
            return self._state
        states = self._stepper.state()
        return states[0] if len(states) == 1 else states

    @state.setter
    def state(self, state: LayerState | None) -> None:
        self._state = state
        self._stepper = self._fits = None

    def reload(self) -> None:
        """Read the weights again at the next step, and keep the state."""
        self.state = self.state

    def reset(self) -> None:
        """Forget all that was seen."""
        self.state = None

    def __getstate__(self) -> dict[str, Any]:
        """For copies: the state, not the stepper, which is made again."""
        return self.__dict__ | {"_state": self.state, "_stepper": None, "_fits": None}

    def _check_out(self, x: Tensor, out: Tensor) -> None:
        if x.dim() != 2:
            raise ValueError(f"out is for one step (B, F), got input {tuple(x.shape)}")
        shape = (x.shape[0], self.layer.output_size)
        if tuple(out.shape) != shape or out.dtype != x.dtype or not out.is_cpu or not out.is_contiguous():
            raise ValueError(f"out must be a contiguous {x.dtype} tensor {shape} on the CPU, got {tuple(out.shape)}")

    def _up_to_date(self) -> bool:
        """Whether mode and weights are those that the stepper was made with."""
        now = self.layer._parameters.values()
        same = len(now) == len(self._read) and all(map(operator.is_, now, self._read))
        return same and self.layer.training == self._training and [w._version for w in self._counted] == self._versions

    @torch.no_grad()
    def _prepare(self, x: Tensor) -> None:
        """A stepper for steps like ``x``, if there can be one."""
        layer, state = self.layer, self.state
        self.state = state
        self._fits, self._training = (x.shape, x.dtype), layer.training
        self._read = list(layer._parameters.values())
        self._counted = [weight for weight in self._read if weight is not None and not weight.is_inference()]
        self._versions = [weight._version for weight in self._counted]
        computed = len(layer._modules) > 0  # torch.nn.utils.parametrize: weights are functions of others
        random = layer.dropout or layer.zoneout or layer.recurrent_dropout or layer.weight_drop
        if computed or (layer.training and random) or autocast_dtype(x) is not None or torch.compiler.is_compiling():
            return
        steps, _, _ = layer._check_input(x.unsqueeze(1 if layer.batch_first else 0), None)
        initial = layer._initial_state(state, steps, one=False)
        inputs = [steps, *(steps.new_empty(1, x.shape[0], spec.input_size) for spec in layer.specs[1:])]
        calls = [layer._call(k, steps, initial, None, trace=False) for k, steps in enumerate(inputs)]
        self._stepper = dispatch.stepper(calls, layer.residual, layer.backend)

    @torch.no_grad()
    def _run_layer(self, x: Tensor) -> Tensor:
        """Any number of steps through the layer itself."""
        time = 1 if self.layer.batch_first else 0
        output, self.state = self.layer(x.unsqueeze(time) if x.dim() == 2 else x, self.state)
        return output.squeeze(time) if x.dim() == 2 else output
