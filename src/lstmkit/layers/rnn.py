"""LSTM, GRU and RNN: drop-in replacements for the layers of ``torch.nn``, with more options.

The arguments before ``*`` are those of ``torch.nn``, with the same order, defaults, weight names, shapes and initial
values; a ``state_dict`` loads in both directions. :class:`RecurrentLayer` documents the keyword-only arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lstmkit.cells import CellSpec
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.ops import dispatch


class LSTM(RecurrentLayer):
    """Long short-term memory (LSTM) layer, a superset of ``torch.nn.LSTM``.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype: As in
            ``torch.nn.LSTM``.
        peephole: The gates also read the cell state (weights ``weight_peep_l0 (gates, H)``: input, forget, output).
        coupled: The input gate is ``1 - forget``; the weight matrices have the blocks forget, candidate, output.
        layer_norm: Layer normalization inside the cell.
        zoneout, recurrent_dropout, weight_drop, variational, residual, merge, forget_bias, recompute, backend: See
            :class:`RecurrentLayer`.

    >>> x = torch.randn(2, 7, 3)
    >>> output, (h, c) = LSTM(3, 5, batch_first=True, peephole=True)(x, lengths=[7, 4])
    >>> output.shape, h.shape, bool((output[1, 4:] == 0).all())
    (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]), True)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        peephole: bool = False,
        coupled: bool = False,
        layer_norm: bool = False,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_drop: float = 0.0,
        variational: bool = False,
        residual: bool = False,
        merge: str = "concat",
        forget_bias: float | None = None,
        recompute: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__(
            CellSpec("lstm", input_size, hidden_size, bias, proj_size, peephole, coupled, layer_norm),
            num_layers,
            batch_first,
            dropout,
            bidirectional,
            merge=merge,
            residual=residual,
            variational=variational,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            weight_drop=weight_drop,
            forget_bias=forget_bias,
            recompute=recompute,
            backend=backend,
            device=device,
            dtype=dtype,
        )


class GRU(RecurrentLayer):
    """Gated recurrent unit (GRU) layer, a superset of ``torch.nn.GRU``.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: As in
            ``torch.nn.GRU``.
        layer_norm: Layer normalization inside the cell.
        zoneout, recurrent_dropout, weight_drop, variational, residual, merge, recompute, backend: See
            :class:`RecurrentLayer`.

    >>> output, h = GRU(3, 5, bidirectional=True, merge="sum")(torch.randn(7, 2, 3))
    >>> output.shape, h.shape
    (torch.Size([7, 2, 5]), torch.Size([2, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        layer_norm: bool = False,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_drop: float = 0.0,
        variational: bool = False,
        residual: bool = False,
        merge: str = "concat",
        recompute: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__(
            CellSpec("gru", input_size, hidden_size, bias, layer_norm=layer_norm),
            num_layers,
            batch_first,
            dropout,
            bidirectional,
            merge=merge,
            residual=residual,
            variational=variational,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            weight_drop=weight_drop,
            forget_bias=None,
            recompute=recompute,
            backend=backend,
            device=device,
            dtype=dtype,
        )


class RNN(RecurrentLayer):
    """Plain recurrent (Elman) layer, a superset of ``torch.nn.RNN``.

    Args:
        nonlinearity: ``"tanh"`` or ``"relu"``.
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: As in
            ``torch.nn.RNN``.
        layer_norm: Layer normalization inside the cell.
        zoneout, recurrent_dropout, weight_drop, variational, residual, merge, recompute, backend: See
            :class:`RecurrentLayer`.

    >>> output, h = RNN(3, 5, nonlinearity="relu")(torch.randn(7, 3))
    >>> output.shape, h.shape
    (torch.Size([7, 5]), torch.Size([1, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        layer_norm: bool = False,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_drop: float = 0.0,
        variational: bool = False,
        residual: bool = False,
        merge: str = "concat",
        recompute: bool = False,
        backend: str = "auto",
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"unknown nonlinearity {nonlinearity!r}; known: tanh, relu")
        self.nonlinearity = nonlinearity
        super().__init__(
            CellSpec(f"rnn_{nonlinearity}", input_size, hidden_size, bias, layer_norm=layer_norm),
            num_layers,
            batch_first,
            dropout,
            bidirectional,
            merge=merge,
            residual=residual,
            variational=variational,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            weight_drop=weight_drop,
            forget_bias=None,
            recompute=recompute,
            backend=backend,
            device=device,
            dtype=dtype,
        )


@dataclass(frozen=True)
class BackendReport:
    """Which back end would run a layer, and why the others cannot; printing it shows a line for each.

    Attributes:
        candidates: The answer of each back end, the fastest first.
    """

    candidates: tuple[dispatch.Candidate, ...]

    @property
    def chosen(self) -> str | None:
        """Name of the back end that would run; ``None`` if the one requested by name cannot."""
        return next((c.backend for c in self.candidates if c.chosen), None)

    def __str__(self) -> str:
        def status(c: dispatch.Candidate) -> str:
            return "runs this" if c.chosen else c.unsupported_reason or "could run this too"

        return "\n".join(f"{c.backend:<10} {status(c)}" for c in self.candidates)


def explain_backend(layer: RecurrentLayer, x: Tensor, lengths: Tensor | Sequence[int] | None = None) -> BackendReport:
    """Report which back end would run ``layer`` on ``x``, and why the others would not.

    >>> print(explain_backend(LSTM(3, 4, peephole=True), torch.zeros(5, 2, 3)))
    native     runs this
    torch      torch has no peephole option
    triton     the Triton kernels are for GPUs, the input is on cpu
    cluster    the cluster kernels are for Hopper GPUs
    reference  could run this too
    """
    return BackendReport(tuple(dispatch.candidates(layer.call_for(x, lengths), layer.backend)))
