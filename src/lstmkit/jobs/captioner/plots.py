"""Pictures and clips with the sentences that were written for them, and where each word looked."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lstmkit.plots.style import SMALL, WIDTH, new_figure
from lstmkit.plots.text import attention_figure
from lstmkit.plots.video import draw_frame

_COLUMNS = 3  # pictures side by side
_WORDS = 5  # and where words looked
_MOST_WORDS = 30


def captions_figure(seen: Sequence[Any], texts: Sequence[str]) -> Figure:
    """Pictures, or the middle frames of clips, each with its sentence below."""
    dots = [_representative_frame(one) for one in seen]
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


def caption_attention_figure(seen: Any, tokens: Sequence[str], attention: np.ndarray, text: str) -> Figure:
    """Where each word looked, drawn over the picture or over that frame of a clip; of features by their number.

    Args:
        seen: A picture ``(H, W, C)``, a clip, or features ``(S, F)``.
        tokens: The words.
        attention: ``(tokens, h, w)`` of a picture, ``(tokens, T, h, w)`` of a clip, ``(tokens, S)`` of features.
        text: The sentence.
    """
    tokens = list(tokens)[:_MOST_WORDS]
    attention = attention[: len(tokens)]
    if attention.ndim == 2:
        return attention_figure([str(i) for i in range(1, attention.shape[1] + 1)], tokens, attention)
    if isinstance(seen, np.ndarray):
        lit = [_highlighted(seen, weights) for weights in attention]
        return _drawn([[seen, *lit]], [["", *tokens]])
    return _over_time(seen, tokens, attention, text)


def _highlighted(dots: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A picture that is dark where a word did not look; cells are joined smoothly."""
    high, wide = dots.shape[:2]
    rows, columns = (np.linspace(-0.5, n - 0.5, side) for n, side in zip(weights.shape, (high, wide), strict=True))
    across = np.stack([np.interp(columns, np.arange(weights.shape[1]), row) for row in weights])
    whole = np.stack([np.interp(rows, np.arange(weights.shape[0]), column) for column in across.T], axis=1)
    share = 0.15 + 0.85 * whole / max(float(whole.max()), 1e-9)
    return (dots * share[..., None]).astype(np.uint8)


def _over_time(clip: Any, tokens: Sequence[str], attention: np.ndarray, text: str) -> Figure:
    """Frames of the clip, and below for each word that which it looked at most, bright where."""
    moments = np.unique(np.linspace(0, len(clip.frames) - 1, min(_WORDS, len(clip.frames))).round().astype(int))
    most = attention.sum(axis=(2, 3)).argmax(axis=1)
    lit = [_highlighted(clip.frames[t], weights[t]) for t, weights in zip(most, attention, strict=True)]
    figure = _drawn(
        [list(clip.frames[moments]), lit],
        [
            [f"{clip.times[t]:.1f} s" for t in moments],
            [f"{token}  {clip.times[t]:.1f} s" for token, t in zip(tokens, most, strict=True)],
        ],
    )
    figure.suptitle(textwrap.shorten(text, 90, placeholder=" …"), fontsize=SMALL + 1, parse_math=False)
    return figure


def _drawn(groups: Sequence[Sequence[np.ndarray]], titles: Sequence[Sequence[str]]) -> Figure:
    """Pictures side by side, each with its title; each group begins a line."""
    pairs: list[tuple[np.ndarray | None, str]] = []
    for pictures, names in zip(groups, titles, strict=True):
        pairs += zip(pictures, names, strict=True)
        pairs += [(None, "")] * (-len(pairs) % _WORDS)
    first = groups[0][0]
    rows = len(pairs) // _WORDS
    figure = new_figure(rows * (WIDTH / _WORDS * first.shape[0] / first.shape[1] + 0.28))
    axes = figure.subplots(rows, _WORDS, squeeze=False)
    for ax, (picture, title) in zip(axes.flat, pairs, strict=True):
        if picture is None:
            ax.set_axis_off()
        else:
            draw_frame(ax, picture)
            ax.set_title(title, fontsize=SMALL, parse_math=False, pad=3)
    return figure


def _representative_frame(one: Any) -> np.ndarray:
    """A picture itself, of a clip its middle frame."""
    return one if isinstance(one, np.ndarray) else one.frames[len(one.frames) // 2]
