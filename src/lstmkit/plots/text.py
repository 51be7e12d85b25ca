"""Pictures of text: tokens in their places, shaded by a number; what each token attended to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lstmkit.plots.style import SMALL, WIDTH, draw_message, new_figure
from lstmkit.plots.style import shown as cut

COLUMNS = 84  #: Characters of a line.
_MOST_LINES = 40
LINE = 0.25  #: Inches.
_MOST_SENTENCES = 30
_MOST_TOKENS = 60  # of a side of an attention's picture


def surprisal_figure(tokens: Sequence[str], bits: Sequence[float], label: str = "surprise, bits") -> Figure:
    """The tokens as text, each on a ground that is the darker the more bits it took; see :func:`shaded_text`."""
    return shaded_text(tokens, bits, label, max([1.0, *bits[: len(lay_out_tokens(tokens)[0])]]))


def shaded_text(tokens: Sequence[str], values: Sequence[float], label: str, most: float, title: str = "") -> Figure:
    """The tokens as text, each on a ground that is the darker the greater its number.

    Args:
        tokens: As they are to be shown; more than fill 40 lines are left out.
        values: A number for each, from 0 up.
        label: Of the shades.
        most: What is darkest.
        title: Of the picture.
    """
    places, lines = lay_out_tokens(tokens)
    figure = new_figure(0.75 + LINE * lines)
    ax = figure.subplots()
    shades = colormaps["Blues"].resampled(256)
    for token, value, (line, column) in zip(tokens, values, places, strict=False):
        ground = shades(0.85 * min(1.0, value / most))
        ax.add_patch(Rectangle((column, line), len(token), 0.86, facecolor=ground, linewidth=0))
        dark = 0.3 * ground[0] + 0.59 * ground[1] + 0.11 * ground[2] < 0.5
        ax.text(
            column + len(token) / 2, line + 0.46, token, ha="center", va="center", fontfamily="monospace",
            fontsize=7.2, color="white" if dark else "black", parse_math=False,
        )  # fmt: skip
    ax.set(xlim=(0, COLUMNS), ylim=(lines, 0))
    ax.set_axis_off()
    shown = ScalarMappable(Normalize(0, most), shades)
    bar = figure.colorbar(shown, ax=ax, location="top", fraction=0.05, aspect=50, shrink=0.5, anchor=(0, 0))
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    if title:
        _entitle(figure, title)
    return figure


def attention_figure(read: Sequence[str], written: Sequence[str], weights: np.ndarray) -> Figure:
    """What each token that was written attended to of those that were read.

    Args:
        read: ``S`` tokens, as they are to be shown; the first 60.
        written: ``T`` tokens; the first 60.
        weights: ``(T, S)``, each row adds up to 1.
    """
    columns, rows = ([cut(token, 14) for token in side[:_MOST_TOKENS]] for side in (read, written))
    figure = new_figure(1.4 + max(1.2, min(WIDTH / max(1, len(columns)), 0.32) * len(rows)))
    ax = figure.subplots()
    if not weights.size:
        draw_message(ax, "nothing was written")
        return figure
    image = ax.imshow(weights[: len(rows), : len(columns)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    small = SMALL if max(len(columns), len(rows)) <= 25 else 0.65 * SMALL
    ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize=small, parse_math=False)
    ax.set_yticks(range(len(rows)), rows, fontsize=small, parse_math=False)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_color("#cccccc")
    figure.colorbar(image, ax=ax, fraction=0.03, aspect=30).set_label("share of the attention", fontsize=SMALL)
    return figure


def story_figure(sentences: Sequence[str], weights: np.ndarray, title: str) -> Figure:
    """A story, sentence by sentence, and how much each hop of a question attended to each.

    Args:
        sentences: ``N``; of more than 30 those that were attended to most, in their order.
        weights: ``(hops, N)``, each row adds up to 1.
        title: The question and its answer.
    """
    hops = len(weights)
    kept = np.sort(np.argsort(-weights.sum(0), kind="stable")[:_MOST_SENTENCES])
    figure = new_figure(1.0 + LINE * max(4, len(kept)))
    ax = figure.subplots()
    _entitle(figure, title)
    if not len(kept):
        draw_message(ax, "there is no story")
        return figure
    image = ax.imshow(weights[:, kept].T, cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=(0, hops, len(kept), 0))
    ax.set_xticks(np.arange(hops) + 0.5, [f"hop {k + 1}" for k in range(hops)], fontsize=SMALL)
    ax.set_yticks(np.arange(len(kept)) + 0.5, [cut(sentences[i], 60) for i in kept], fontsize=SMALL, parse_math=False)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_color("#cccccc")
    figure.colorbar(image, ax=ax, fraction=0.04, aspect=30).set_label("attention", fontsize=SMALL)
    return figure


def _entitle(figure: Figure, title: str) -> None:
    figure.suptitle(cut(title, 90), x=0.01, ha="left", fontsize=1.1 * SMALL, parse_math=False)


def lay_out_tokens(tokens: Sequence[str]) -> tuple[list[tuple[int, int]], int]:
    """Line and column of each token, as far as they fit; and how many lines there are."""
    places: list[tuple[int, int]] = []
    gap = sum(map(len, tokens)) > 1.5 * len(tokens)  # characters stand close
    line = column = 0
    for token in tokens:
        wide = len(token)
        if column and column + wide > COLUMNS:
            line, column = line + 1, 0
        if line == _MOST_LINES:
            break
        places.append((line, column))
        column += wide + gap
        if token in ("<eos>", "⏎"):
            line, column = line + 1, 0
    return places, (places[-1][0] + 1 if places else 1)
