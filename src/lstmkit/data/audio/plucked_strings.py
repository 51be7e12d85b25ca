"""A guitar without a guitar: notes and chords of plucked strings, synthesized."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

_STRINGS = (40, 45, 50, 55, 59, 64)  # MIDI notes of the open strings: E2 A2 D3 G3 B3 E4
_FRETS = 13


def plucked_string(
    hertz: float, seconds: float, sample_rate: int, damping: float, rng: np.random.Generator
) -> np.ndarray:
    """One note by the algorithm of Karplus and Strong 1983 (Computer Music Journal 7(2)), with the peak 1.

    A burst of noise runs around a delay line of one period; each round it is averaged with its neighbor and damped.

    Args:
        hertz: Pitch; rounded to a whole period.
        seconds: Length.
        sample_rate: In Hz.
        damping: Factor of each round, below 1.
        rng: Of the noise.
    """
    period = max(2, round(sample_rate / hertz))
    burst = np.zeros(round(seconds * sample_rate))
    burst[:period] = rng.uniform(-1, 1, min(period, len(burst)))
    loop = np.zeros(period + 2)
    loop[0], loop[period], loop[period + 1] = 1.0, -damping / 2, -damping / 2
    note = lfilter([1.0], loop, burst)
    return note / np.abs(note).max()


def guitar_phrases(seconds: float, sample_rate: int = 44_100, seed: int = 0) -> np.ndarray:
    """Dry guitar-like audio ``(T,)``: single notes and chords of two to four strings, loud and soft, from -1 to 1.

    >>> audio = guitar_phrases(0.5, sample_rate=8000)
    >>> audio.shape, bool(np.abs(audio).max() <= 1)
    ((4000,), True)
    """
    rng = np.random.default_rng(seed)
    audio = np.zeros(round(seconds * sample_rate))
    start = 0
    while start < len(audio):
        length = rng.uniform(0.15, 0.8)
        strings = rng.choice(_STRINGS, rng.integers(1, 5), replace=False)
        damping = rng.choice([0.97, 0.992, 0.998])  # palm muted, or ringing
        level = rng.uniform(0.1, 1.0) / np.sqrt(len(strings))
        for string in strings:
            hertz = 440 * 2 ** ((string + rng.integers(_FRETS) - 69) / 12)
            note = level * plucked_string(hertz, min(2.0, 2 * length), sample_rate, damping, rng)
            stop = min(len(audio), start + len(note))
            audio[start:stop] += note[: stop - start]
        start += round(length * sample_rate)
    return audio / max(1.0, float(np.abs(audio).max()))
