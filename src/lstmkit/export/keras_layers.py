"""Layers that Keras has and torch has not: masks of steps that go from layer to layer, states kept between calls.

Shapes: ``B`` batch, ``T`` steps, ``F`` features, ``P`` output features. A mask is ``(B, T)``, bool, and False where a
step is skipped. The rules are those of Keras 3.15: ``layers/rnn/rnn.py``, ``bidirectional.py`` and
``backend/torch/rnn.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.layers.recurrent import MERGES, RecurrentLayer
from lstmkit.layers.state import LayerState

#: Activations by the name that Keras 3 gives them.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
    "softmax": lambda: nn.Softmax(dim=-1),
    "log_softmax": lambda: nn.LogSoftmax(dim=-1),
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
}


class MaskedLayer(nn.Module):
    """A layer that reads or changes the mask: ``forward(x, mask)`` returns the output and its mask."""


class KerasSequential(nn.Sequential):
    """Layers in a row that pass a mask of steps along, as ``keras.Sequential`` does.

    Layers of :class:`MaskedLayer` get the mask of the layer before; the others leave it as it is.

    >>> from lstmkit import LSTM
    >>> model = KerasSequential(
    ...     KerasEmbedding(10, 4, mask_zero=True),
    ...     KerasRecurrent(LSTM(4, 3, batch_first=True), return_sequences=False),
    ...     nn.Linear(3, 2),
    ... )
    >>> padded, whole = model(torch.tensor([[5, 2, 0, 0]])), model(torch.tensor([[5, 2]]))
    >>> bool(torch.allclose(padded, whole))
    True
    """

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Run all layers.

        Args:
            x: ``(B, T, F)``; ``(B, T)`` whole numbers if the first layer is an embedding.

        Returns:
            ``(B, T, P)``, or ``(B, P)`` after a recurrent layer without ``return_sequences``.
        """
        mask: Tensor | None = None
        for layer in self:
            if isinstance(layer, MaskedLayer):
                x, mask = layer(x, mask)
            else:
                x = layer(x)
        return x

    def reset_states(self) -> None:
        """Set the states of all stateful layers to zeros: before a sequence that does not continue the last one."""
        for layer in self:
            if isinstance(layer, KerasRecurrent):
                layer.reset_states()


class KerasEmbedding(MaskedLayer):
    """Vectors of whole numbers, ``keras.layers.Embedding``.

    Args:
        num_embeddings: Numbers ``0..num_embeddings - 1``.
        embedding_dim: Size of a vector.
        mask_zero: The steps with the number 0 are masked.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, mask_zero: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(num_embeddings, embedding_dim)
        self.mask_zero = mask_zero

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Vectors ``(B, T, embedding_dim)`` of the numbers ``x (B, T)``, and the mask."""
        numbers = x.long()
        return self.table(numbers), numbers != 0 if self.mask_zero else mask

    def extra_repr(self) -> str:
        return f"mask_zero={self.mask_zero}"


class KerasMasking(MaskedLayer):
    """Masks the steps whose features are all ``mask_value``, ``keras.layers.Masking``."""

    def __init__(self, mask_value: float = 0.0) -> None:
        super().__init__()
        self.mask_value = mask_value

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``x (B, T, F)`` with zeros at the masked steps, and the new mask, which replaces ``mask``."""
        mask = (x != self.mask_value).any(-1)
        return x.masked_fill(~mask.unsqueeze(-1), 0), mask

    def extra_repr(self) -> str:
        return f"mask_value={self.mask_value}"


class KerasBatchNorm(nn.BatchNorm1d):
    """Batch normalization of the last dimension, ``keras.layers.BatchNormalization``.

    In training it computes as ``torch.nn.BatchNorm1d`` over all steps, masked ones too; Keras leaves these out.

    Args:
        num_features: Size of the last dimension.
        eps: Added to the variance.
        momentum: Weight of the new batch in the running statistics, torch's convention; Keras has 1 minus it.
        axis: The dimension that the file names; another one than the last is refused when the layer runs.
    """

    def __init__(self, num_features: int, eps: float = 1e-3, momentum: float = 0.01, axis: int = -1) -> None:
        super().__init__(num_features, eps, momentum)
        self.axis = axis

    def forward(self, input: Tensor) -> Tensor:
        """Normalize ``input (..., F)``.

        Raises:
            ValueError: ``axis`` is not its last dimension.
        """
        if self.axis not in (-1, input.dim() - 1):
            raise ValueError(
                f"this BatchNormalization has axis={self.axis}, the input {tuple(input.shape)}: only the last axis can "
                "be normalized"
            )
        return super().forward(input.reshape(-1, input.shape[-1])).view(input.shape)


class KerasRecurrent(MaskedLayer):
    """A recurrent layer with the options of ``keras.layers.RNN`` and ``keras.layers.Bidirectional``.

    Masked steps are skipped, wherever they are: the state passes over them.

    Args:
        layer: A layer of lstmkit with one layer and ``batch_first=True``.
        return_sequences: Return the output of every step, else that of the last one only.
        go_backwards: Run from the last step to the first; the outputs are in that order. Not for two directions.
        stateful: Start from the state after the last call, until :meth:`reset_states`.
        zero_output_for_mask: The output of masked steps is 0, else that of the step before. Two directions have 0.
        dropout: Dropout probability on the input, in training; the same features at all steps of a sequence.

    Raises:
        ValueError: The layer has another form, or ``go_backwards`` is given for two directions.
    """

    def __init__(
        self,
        layer: RecurrentLayer,
        return_sequences: bool = True,
        *,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if layer.num_layers != 1 or not layer.batch_first:
            raise ValueError("KerasRecurrent takes a layer with num_layers=1 and batch_first=True")
        if go_backwards and layer.bidirectional:
            raise ValueError("go_backwards needs a layer of one direction")
        self.layer = layer
        self.return_sequences, self.go_backwards, self.stateful = return_sequences, go_backwards, stateful
        self.zero_output_for_mask = return_sequences if layer.bidirectional else zero_output_for_mask
        self.dropout = dropout
        self.state: LayerState | None = None

    def reset_states(self) -> None:
        """Start the next call from zeros."""
        self.state = None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Run over time.

        Args:
            x: ``(B, T, F)``.
            mask: ``(B, T)``; ``None`` = no step is masked.

        Returns:
            ``(B, T, P)`` and ``mask``; ``(B, P)`` and ``None`` without ``return_sequences``.

        Raises:
            ValueError: The layer is stateful, and its state is that of another number of sequences.
        """
        steps, kept = (x.flip(1), None if mask is None else mask.flip(1)) if self.go_backwards else (x, mask)
        if self.training and self.dropout:
            steps = steps * F.dropout(steps.new_ones(steps.shape[0], 1, steps.shape[2]), self.dropout)
        if kept is None:
            output, final = self.layer(steps, self._initial_state(steps))
        else:
            count = kept.cumsum(1)  # of unmasked steps up to here
            output, final = self.layer(_compacted(steps, kept, count), self._initial_state(steps), count[:, -1])
            output = self._spread(output, kept, count)
        if self.stateful:
            self.state = final.detach() if isinstance(final, Tensor) else tuple(part.detach() for part in final)
        if self.return_sequences:
            return output, mask
        h = final if isinstance(final, Tensor) else final[0]
        last = MERGES[self.layer.merge](torch.cat([h[0], h[1]], -1)) if self.layer.bidirectional else h[0]
        return last * kept[:, -1:] if kept is not None and self.zero_output_for_mask else last, None

    def _initial_state(self, x: Tensor) -> LayerState | None:
        if self.state is None:
            return None
        batch = (self.state if isinstance(self.state, Tensor) else self.state[0]).shape[1]
        if batch != x.shape[0]:
            raise ValueError(
                f"this stateful layer has the state of {batch} sequences, the input has {x.shape[0]}: give as many, or "
                "call reset_states()"
            )
        return self.state

    def _spread(self, output: Tensor, mask: Tensor, count: Tensor) -> Tensor:
        """The output of the unmasked steps ``(B, T, P)`` at their places; the others as ``zero_output_for_mask``."""
        place = (count - 1).clamp(min=0).unsqueeze(-1).expand_as(output)
        has_output = mask if self.zero_output_for_mask else count > 0
        return output.gather(1, place) * has_output.unsqueeze(-1)

    def extra_repr(self) -> str:
        names = ("return_sequences", "go_backwards", "stateful", "zero_output_for_mask", "dropout")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def _compacted(x: Tensor, mask: Tensor, count: Tensor) -> Tensor:
    """The unmasked steps of each sequence of ``x (B, T, F)`` first, in order; what follows them has no meaning."""
    batch, n_steps, features = x.shape
    place = torch.where(mask, count - 1, n_steps)  # masked steps are written past the end
    compacted = x.new_zeros(batch, n_steps + 1, features)
    return compacted.scatter(1, place.unsqueeze(-1).expand_as(x), x)[:, :n_steps]
