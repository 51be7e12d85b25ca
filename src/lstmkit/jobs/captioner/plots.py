"""Images and clips with their captions, and the attention of each token."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lstmkit.plots.style import SMALL, WIDTH, new_figure
from lstmkit.plots.text import attention_figure
from lstmkit.plots.video import draw_frame

_CAPTION_COLUMNS = 3  # images per row, with their captions
_ATTENTION_COLUMNS = 5  # images per row, with their tokens
_MAX_TOKENS = 30  # that are drawn
_FADED, _MIN_OPACITY = 215, 0.25  # the gray behind, and how much of a pixel is left without attention


def captions_figure(inputs: Sequence[Any], captions: Sequence[str]) -> Figure:
    """Images, or the middle frames of clips, each above its caption."""
    images = [_representative_frame(item) for item in inputs]
    rows = -(-len(images) // _CAPTION_COLUMNS)
    side = WIDTH / _CAPTION_COLUMNS
    figure = new_figure(rows * (side * images[0].shape[0] / images[0].shape[1] + 0.55))
    axes = figure.subplots(rows, _CAPTION_COLUMNS, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, caption in zip(axes.flat, images, captions, strict=False):
        ax.set_axis_on()
        draw_frame(ax, image)
        ax.set_xlabel(textwrap.fill(caption, 30, max_lines=3, placeholder=" …"), fontsize=SMALL, parse_math=False)
    return figure


def caption_attention_figure(item: Any, tokens: Sequence[str], attention: np.ndarray, caption: str) -> Figure:
    """The attention of each token, drawn over the image or a frame of the clip; for features, as a heat map.

    Args:
        one: An image ``(H, W, C)``, a clip, or features ``(S, F)``.
        tokens: The tokens of the caption; the first 30 are drawn.
        attention: ``(tokens, h, w)`` of an image, ``(tokens, T, h, w)`` of a clip, ``(tokens, S)`` of features.
        caption: The title of a clip's figure.
    """
    tokens = list(tokens)[:_MAX_TOKENS]
    attention = attention[: len(tokens)]
    if attention.ndim == 2:
        return attention_figure([str(i) for i in range(1, attention.shape[1] + 1)], tokens, attention)
    if isinstance(item, np.ndarray):
        highlighted = [_highlighted(item, weights) for weights in attention]
        return _image_rows([[item, *highlighted]], [["", *tokens]])
    return _clip_attention_figure(item, tokens, attention, caption)


def _highlighted(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """An image that fades to light gray where the attention is low, interpolated between cells.

    The largest weight of the map has the original colors. What is faded stays visible, however narrow the attention is.
    """
    height, width = pixels.shape[:2]
    places = zip(weights.shape, (height, width), strict=True)
    rows, columns = (np.linspace(-0.5, cells - 0.5, side) for cells, side in places)
    wide = np.stack([np.interp(columns, np.arange(weights.shape[1]), row) for row in weights])
    full = np.stack([np.interp(rows, np.arange(weights.shape[0]), column) for column in wide.T], axis=1)
    opacity = _MIN_OPACITY + (1 - _MIN_OPACITY) * full / max(float(full.max()), 1e-9)
    return (_FADED + (pixels - float(_FADED)) * opacity[..., None]).astype(np.uint8)


def _clip_attention_figure(clip: Any, tokens: Sequence[str], attention: np.ndarray, caption: str) -> Figure:
    """Frames of the clip; below, for each token the frame with the most attention, faded where it is not."""
    last, count = len(clip.frames) - 1, min(_ATTENTION_COLUMNS, len(clip.frames))
    frames = np.unique(np.linspace(0, last, count).round().astype(int))
    attended = attention.sum(axis=(2, 3)).argmax(axis=1)
    highlighted = [_highlighted(clip.frames[t], weights[t]) for t, weights in zip(attended, attention, strict=True)]
    figure = _image_rows(
        [list(clip.frames[frames]), highlighted],
        [
            [f"{clip.times[t]:.1f} s" for t in frames],
            [f"{token}  {clip.times[t]:.1f} s" for token, t in zip(tokens, attended, strict=True)],
        ],
    )
    title = textwrap.shorten(caption, 70, placeholder=" …")
    figure.suptitle(title, x=0.01, ha="left", fontsize=SMALL + 1, parse_math=False)
    return figure


def _image_rows(groups: Sequence[Sequence[np.ndarray]], titles: Sequence[Sequence[str]]) -> Figure:
    """Images side by side, each with its title; each group starts a new row."""
    pairs: list[tuple[np.ndarray | None, str]] = []
    for images, names in zip(groups, titles, strict=True):
        pairs += zip(images, names, strict=True)
        pairs += [(None, "")] * (-len(pairs) % _ATTENTION_COLUMNS)
    first = groups[0][0]
    rows = len(pairs) // _ATTENTION_COLUMNS
    figure = new_figure(rows * (WIDTH / _ATTENTION_COLUMNS * first.shape[0] / first.shape[1] + 0.28))
    axes = figure.subplots(rows, _ATTENTION_COLUMNS, squeeze=False)
    for ax, (image, title) in zip(axes.flat, pairs, strict=True):
        if image is None:
            ax.set_axis_off()
        else:
            draw_frame(ax, image)
            ax.set_title(title, fontsize=SMALL, parse_math=False, pad=3)
    return figure


def _representative_frame(item: Any) -> np.ndarray:
    """An image itself; the middle frame of a clip."""
    return item if isinstance(item, np.ndarray) else item.frames[len(item.frames) // 2]
