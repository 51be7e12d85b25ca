"""The tonic of a piece of music, and whether pieces are in several keys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lstmkit.data.music.midi import LOWEST_PITCH, N_KEYS

# Mean ratings of how well each pitch class fits a key, from the tonic upwards: C. L. Krumhansl, E. J. Kessler 1982,
# "Tracing the dynamic changes in perceived tonal organization in a spatial representation of musical keys".
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
_PITCH_CLASSES = (LOWEST_PITCH + np.arange(N_KEYS)) % 12
_MAX_FRACTION_OF_SEVERAL = 0.5  # of the pieces that share a tonic


def tonics(rolls: Sequence[np.ndarray]) -> np.ndarray:
    """The pitch class ``(N,)`` of the tonic of each piece, 0 for C, by the Krumhansl-Schmuckler algorithm.

    Durations of the pitch classes are correlated with the profile of each major and minor key (Krumhansl 1990,
    "Cognitive foundations of musical pitch", chapter 4). The tonic of some pieces is mistaken, mostly for the fifth.

    Args:
        rolls: ``(T, 88)`` of 0 and 1 each.

    >>> from lstmkit.data.music.piano_rolls import read_piano_rolls
    >>> cadence = [[60, 64, 67], [60, 65, 69], [59, 62, 67], [60, 64, 67]]
    >>> tonics([read_piano_rolls([cadence]).pieces[0].roll]).tolist()
    [0]
    """
    durations = [np.bincount(_PITCH_CLASSES, weights=roll.sum(axis=0), minlength=12) for roll in rolls]
    profiles = [np.roll(profile, tonic) for profile in (_MAJOR, _MINOR) for tonic in range(12)]
    return (_standardized(durations) @ _standardized(profiles).T).argmax(axis=1) % 12


def in_several_keys(rolls: Sequence[np.ndarray]) -> bool:
    """Whether less than half of the pieces share a tonic."""
    counts = np.bincount(tonics(rolls), minlength=12)
    return bool(counts.max() < _MAX_FRACTION_OF_SEVERAL * len(rolls))


def _standardized(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows with mean 0 and norm 1; a constant row becomes 0."""
    centered = np.stack(rows) - np.mean(rows, axis=1, keepdims=True)
    norms = np.linalg.norm(centered, axis=1, keepdims=True)
    return centered / np.where(norms > 0, norms, 1)
