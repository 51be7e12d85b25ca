"""Pictures and clips with the sentences that were written for them, and where each word looked."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lstmkit.look.clips import draw_frame
from lstmkit.look.drawing import SMALL, WIDTH, new_figure
from lstmkit.look.text import attention_figure

_COLUMNS = 3  # pictures side by side
_WORDS = 5  # and where words looked
_MOST_WORDS = 30
_MOMENTS = 8  # of a clip


def captions_figure(seen: Sequence[Any], texts: Sequence[str]) -> Figure:
    """Pictures, or the middle frames of clips, each with its sentence below."""
    dots = [_still(one) for one in seen]
    rows = -(-len(dots) // _COLUMNS)
    side = WIDTH / _COLUMNS
    figure = new_figure(rows * (side * dots[0].shape[0] / dots[0].shape[1] + 0.55))
    axes = figure.subplots(rows, _COLUMNS, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, one, text in zip(axes.flat, dots, texts, strict=False):
        ax.set_axis_on()
        draw_frame(ax, one)
        ax.set_xlabel(textwrap.fill(text, 30, max_lines=3, placeholder=" …"), fontsize=SMALL, parse_math=False)
    return figure


def attended_figure(seen: Any, tokens: Sequence[str], attention: np.ndarray, text: str) -> Figure:
    """Where each word looked: of a picture drawn over it; of a clip by its frames; of features by their number.

    Args:
        seen: A picture ``(H, W, C)``, a clip, or features ``(S, F)``.
        tokens: The words.
        attention: ``(tokens, h, w)`` of a picture, ``(tokens, S)`` of others.
        text: The sentence.
    """
    tokens = list(tokens)[:_MOST_WORDS]
    if attention.ndim == 3:
        return _over(seen, tokens, attention)
    if isinstance(seen, np.ndarray):
        return attention_figure([str(i) for i in range(1, attention.shape[1] + 1)], tokens, attention[: len(tokens)])
    return _over_time(seen, tokens, attention[: len(tokens)], text)


def _over(dots: np.ndarray, tokens: Sequence[str], attention: np.ndarray) -> Figure:
    """The picture again for each word, bright where it looked (as Xu et al. 2015 draw it)."""
    count = len(tokens) + 1
    rows = -(-count // _WORDS)
    high = WIDTH / _WORDS * dots.shape[0] / dots.shape[1]
    figure = new_figure(rows * (high + 0.28))
    axes = figure.subplots(rows, _WORDS, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    draw_frame(axes.flat[0], dots)
    axes.flat[0].set_axis_on()
    for ax, token, weights in zip(axes.flat[1:], tokens, attention, strict=False):
        ax.set_axis_on()
        draw_frame(ax, _lit(dots, weights))
        ax.set_title(token, fontsize=SMALL, parse_math=False, pad=3)
    return figure


def _lit(dots: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A picture that is dark where a word did not look; cells are joined smoothly."""
    high, wide = dots.shape[:2]
    rows, columns = (np.linspace(-0.5, n - 0.5, side) for n, side in zip(weights.shape, (high, wide), strict=True))
    across = np.stack([np.interp(columns, np.arange(weights.shape[1]), row) for row in weights])
    whole = np.stack([np.interp(rows, np.arange(weights.shape[0]), column) for column in across.T], axis=1)
    share = 0.15 + 0.85 * whole / max(float(whole.max()), 1e-9)
    return (dots * share[..., None]).astype(np.uint8)


def _over_time(clip: Any, tokens: Sequence[str], attention: np.ndarray, text: str) -> Figure:
    """Frames above, and below a row a word, dark where it looked."""
    drawn = np.unique(np.linspace(0, len(clip.frames) - 1, min(_MOMENTS, len(clip.frames))).round().astype(int))
    high = min(WIDTH / len(drawn) * clip.frames.shape[1] / clip.frames.shape[2], 2.2)
    figure = new_figure(high + 0.7 + 0.2 * max(1, len(tokens)))
    grid = figure.add_gridspec(2, len(drawn), height_ratios=[high, 0.3 + 0.2 * max(1, len(tokens))])
    for column, i in enumerate(drawn):
        ax = figure.add_subplot(grid[0, column])
        draw_frame(ax, clip.frames[i])
        ax.set_title(f"{clip.times[i]:.1f} s", fontsize=SMALL)
    below = figure.add_subplot(grid[1, :])
    if len(tokens):
        end = float(clip.seconds)
        below.imshow(attention, aspect="auto", cmap="Greys", vmin=0, extent=(0, end, len(tokens) - 0.5, -0.5))
    below.set_yticks(range(len(tokens)), tokens, fontsize=SMALL, parse_math=False)
    below.tick_params(axis="x", labelsize=SMALL)
    below.set_xlabel("seconds", fontsize=SMALL)
    figure.suptitle(textwrap.shorten(text, 90, placeholder=" …"), fontsize=SMALL + 1, parse_math=False)
    return figure


def _still(one: Any) -> np.ndarray:
    """A picture itself, of a clip its middle frame."""
    return one if isinstance(one, np.ndarray) else one.frames[len(one.frames) // 2]
