"""Figures of speech: spectrograms and attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lstmkit.plots.style import SMALL, new_figure, truncated

_MAX_LABELED_TOKENS = 45


def speech_figure(
    spectra: Mapping[str, np.ndarray], hop: float, tokens: Sequence[str], attention: np.ndarray, title: str
) -> Figure:
    """Spectrograms, and below them the attention of the last one.

    Args:
        spectra: By name log-mel frames ``(T, F)``, natural logarithm of power.
        hop: Seconds between frames.
        tokens: ``S`` labels.
        attention: ``(steps, S)``, of the last spectrogram.
        title: Title of the figure.
    """
    named = len(tokens) <= _MAX_LABELED_TOKENS
    low = 2.0 if not named else max(1.4, 0.17 * len(tokens))
    figure = new_figure(0.6 + 1.5 * len(spectra) + low)
    figure.suptitle(truncated(title, 90), x=0.01, ha="left", fontsize=1.1 * SMALL, parse_math=False)
    axes = figure.subplots(len(spectra) + 1, 1, sharex=True, height_ratios=[1.5] * len(spectra) + [low], squeeze=False)
    most = max(float(spectrum.max()) for spectrum in spectra.values())
    image = None
    for ax, (name, spectrum) in zip(axes[:, 0], spectra.items(), strict=False):
        place = (0, len(spectrum) * hop, 0, spectrum.shape[1])
        image = ax.imshow(
            10 / np.log(10) * (spectrum.T - most),
            cmap="magma",
            origin="lower",
            aspect="auto",
            extent=place,
            vmin=-60,
            vmax=0,
        )
        ax.set_ylabel(f"{name}\nmel band", fontsize=SMALL)
        ax.tick_params(labelsize=SMALL)
    assert image is not None
    figure.colorbar(image, ax=axes[:-1, 0], fraction=0.04, aspect=20).set_label("dB relative to peak", fontsize=SMALL)
    last = list(spectra.values())[-1]
    ax = axes[-1, 0]
    place = (0, len(last) * hop, len(tokens), 0)
    weights = ax.imshow(attention.T, cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=place, interpolation="none")
    if named:
        ax.set_yticks(np.arange(len(tokens)) + 0.5, tokens, fontsize=0.85 * SMALL, parse_math=False)
        ax.tick_params(axis="y", length=0)
    else:
        ax.set_ylabel("character", fontsize=SMALL)
    ax.set_xlim(0, max(len(spectrum) for spectrum in spectra.values()) * hop)
    ax.tick_params(axis="x", labelsize=SMALL)
    ax.set_xlabel("seconds", fontsize=SMALL)
    figure.colorbar(weights, ax=ax, fraction=0.04, aspect=20).set_label("attention", fontsize=SMALL)
    return figure
