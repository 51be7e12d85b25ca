"""A look inside convolutional recurrent layers: one place as an ordinary layer, and maps over the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from lstmkit.errors import UserError
from lstmkit.layers.conv_recurrent import ConvLSTM2d, ConvRecurrentLayer2d, ConvRNN2d
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.layers.rnn import LSTM, RNN
from lstmkit.layers.state import LayerState
from lstmkit.plots.style import SMALL, WIDTH, new_figure
from lstmkit.plots.video import draw_frame

MAX_MAPS = 6  #: Frames side by side.
_OUTLINE = "#D55E00"


class PlaceLayer(NamedTuple):
    """One layer of a convolutional stack at one place, as an ordinary layer.

    Attributes:
        layer: Reads the neighborhood in the frame, and the previous outputs of the neighbors.
        x: Its inputs ``(1, T, F·k² + C·(k² - 1))``.
        state: Its initial state.
        place: Row and column.
    """

    layer: RecurrentLayer
    x: Tensor
    state: LayerState
    place: tuple[int, int]


@torch.no_grad()
def place_layers(module: ConvRecurrentLayer2d, x: Tensor, state: LayerState | None) -> list[PlaceLayer]:
    """Each layer of a stack at the place where its memory is largest, the mean over time and channels.

    At one place a ConvLSTM is an LSTM: the outputs of the neighbors are further inputs, since they are known from the
    step before. Gates and states are those of the convolutional layer.

    Args:
        module: The stack.
        x: ``(1, T, F, H, W)``.
        state: Its initial state.

    Raises:
        UserError: The cell is neither an LSTM nor an RNN.
    """
    if not isinstance(module, (ConvLSTM2d, ConvRNN2d)):
        name = type(module).__name__
        raise UserError(f"a layer of the class {name} cannot be inspected: inspect a ConvLSTM2d or a ConvRNN2d")
    found, traces = [], module.trace(x, state).gates
    initial = (state,) if isinstance(state, Tensor) else state or ()
    for k, spec in enumerate(module.specs):
        hidden = traces[k, 0]["hidden"]
        memory = traces[k, 0].get("cell", hidden)
        zeros = torch.zeros_like(hidden[:, 0])
        before = tuple(s[k] for s in initial) or (zeros,) * len(spec.cell.states)
        strength = memory[0].abs().mean((0, 1))
        row, column = divmod(int(strength.argmax()), strength.shape[1])
        previous = torch.cat([before[0].unsqueeze(1), hidden[:, :-1]], 1)
        own, neighbors = (_patches(each, module.kernel_size, row, column) for each in (x, previous))
        is_neighbor = torch.arange(module.kernel_size**2, device=x.device) != module.kernel_size**2 // 2
        inputs = torch.cat([own.flatten(2), neighbors[..., is_neighbor].flatten(2)], 2)
        layer = _ordinary(module, k, is_neighbor).to(x.device)
        states = tuple(s[:, :, row, column].unsqueeze(0) for s in before)
        found.append(PlaceLayer(layer, inputs, states[0] if len(states) == 1 else states, (row, column)))
        x = hidden
    return found


def _patches(x: Tensor, side: int, row: int, column: int) -> Tensor:
    """The neighborhood of a place, ``(1, T, F, k²)``, zero beyond the border."""
    padded = F.pad(x, (side // 2,) * 4)
    return padded[..., row : row + side, column : column + side].flatten(-2)


def _ordinary(module: ConvRecurrentLayer2d, k: int, is_neighbor: Tensor) -> RecurrentLayer:
    """The ordinary layer with the weights of layer ``k``."""
    spec, p = module.specs[k], module.weights(k)
    recurrent = p["weight_hh"].flatten(2)
    weights = {
        "weight_ih_l0": torch.cat([p["weight_ih"].flatten(1), recurrent[..., is_neighbor].flatten(1)], 1),
        "weight_hh_l0": recurrent[..., ~is_neighbor].flatten(1),
    }
    weights |= {f"{name}_l0": w for name, w in p.items() if w.dim() < 4}
    sizes = (weights["weight_ih_l0"].shape[1], spec.hidden_size)
    if spec.kind == "lstm":
        layer: RecurrentLayer = LSTM(*sizes, bias=spec.bias, batch_first=True, peephole=spec.peephole)
    else:
        layer = RNN(*sizes, bias=spec.bias, batch_first=True)
    layer.load_state_dict(weights)
    return layer.eval()


# ---- maps over the frame ---------------------------------------------------------------------------------------------


@torch.no_grad()
def memory_maps(module: ConvRecurrentLayer2d, x: Tensor, state: LayerState | None = None) -> dict[str, np.ndarray]:
    """Means over the channels of the last layer, by name ``(T, H, W)``.

    ``forget gate`` is that of an LSTM, or the update gate of a GRU; an RNN has none. ``memory`` is the mean absolute
    cell state, or hidden state.

    Args:
        module: The layers.
        x: ``(1, T, F, H, W)``.
        state: Their initial state.

    >>> sorted(memory_maps(ConvLSTM2d(1, 2), torch.zeros(1, 3, 1, 4, 4)))
    ['forget gate', 'memory']
    """
    gates = module.trace(x, state).gates[module.num_layers - 1, 0]
    maps = {"forget gate": gates.get("forget", gates.get("update")), "memory": gates.get("cell", gates["hidden"]).abs()}
    return {name: gate[0].mean(1).float().cpu().numpy() for name, gate in maps.items() if gate is not None}


def memory_figure(
    maps: dict[str, np.ndarray],
    steps: Sequence[int],
    frames: np.ndarray | None = None,
    outlines: Sequence[np.ndarray] | None = None,
) -> Figure:
    """Draw frames in one row, and below them the maps of the same steps.

    Args:
        maps: By name ``(T, h, w)``; each row of the figure has one color scale.
        steps: The steps that are drawn.
        frames: ``(T, H, W, C)`` uint8, drawn on top.
        outlines: For each step boxes ``(N, 4)``, left, top, width and height in pixels of the frames.
    """
    height, width = next(iter(maps.values())).shape[1:] if frames is None else frames.shape[1:3]
    rows = len(maps) + (frames is not None)
    figure = new_figure(rows * (WIDTH / len(steps) * height / width + 0.25) + 0.3)
    axes = figure.subplots(rows, len(steps), squeeze=False)
    if frames is not None:
        for ax, step in zip(axes[0], steps, strict=True):
            draw_frame(ax, frames[step])
    for row, (name, values) in enumerate(maps.items(), rows - len(maps)):
        low, high = float(values[list(steps)].min()), float(values[list(steps)].max())
        for ax, step in zip(axes[row], steps, strict=True):
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            ax.imshow(values[step], cmap="cividis", vmin=low, vmax=max(high, low + 1e-6), extent=extent)
            ax.set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel(f"{name}\n{low:.2g} to {high:.2g}", fontsize=SMALL - 2)
    for ax, step in zip(axes[0], steps, strict=True):
        ax.set_title(f"step {step}", fontsize=SMALL - 1, pad=3)
    for column, step in enumerate(steps):
        for box in () if outlines is None else outlines[step]:
            for ax in axes[:, column]:
                _draw_outline(ax, box)
    return figure


def evenly_spread(steps: int) -> list[int]:
    """At most :data:`MAX_MAPS` of the steps of a sequence."""
    return np.unique(np.linspace(0, steps - 1, min(MAX_MAPS, steps)).round().astype(int)).tolist()


def _draw_outline(ax: Axes, xywh: np.ndarray) -> None:
    ax.add_patch(Rectangle((xywh[0], xywh[1]), xywh[2], xywh[3], fill=False, edgecolor=_OUTLINE, linewidth=1.2))
