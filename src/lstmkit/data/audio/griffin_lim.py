"""Fast Griffin-Lim: phases for a magnitude spectrogram. With numpy alone, for exported models too."""

from __future__ import annotations

import numpy as np

_MOMENTUM = 0.99  # as in librosa


def waveform(
    magnitudes: np.ndarray, frames: int, iterations: int, n_fft: int, hop_length: int, window_length: int
) -> np.ndarray:
    """The samples ``((frames - 1) * hop_length + window_length,)`` float32 of the first frames of a spectrogram.

    Args:
        magnitudes: ``(T, n_fft / 2 + 1)``, with at least :func:`min_frames` frames.
        frames: Number of frames, at most ``T``; frame 0 begins at sample 0.
        iterations: Of the algorithm.
        n_fft: FFT size.
        hop_length, window_length: In samples.
    """
    count = (frames - 1) * hop_length + window_length
    samples = griffin_lim(magnitudes, iterations, n_fft, hop_length, window_length)
    offset = window_length // 2  # griffin_lim centers frame 0 at sample 0
    return np.pad(samples, (offset, max(0, count - offset - len(samples))))[:count].astype(np.float32)


def min_frames(n_fft: int, hop_length: int) -> int:
    """The frames that :func:`griffin_lim` needs: its signal then has a whole FFT window."""
    return n_fft // hop_length + 2


def griffin_lim(magnitudes: np.ndarray, iterations: int, n_fft: int, hop_length: int, window_length: int) -> np.ndarray:
    """A signal whose short-time Fourier transform has about these magnitudes.

    Phases start at random with a fixed seed, and each iteration makes them more consistent (Griffin and Lim 1984;
    Perraudin, Balazs, Søndergaard 2013). It gives the samples of ``librosa.griffinlim`` with ``random_state=0``.

    Args:
        magnitudes: ``(T, n_fft / 2 + 1)`` float32, with at least :func:`min_frames` frames.
        iterations: At least 1.
        n_fft: FFT size.
        hop_length, window_length: In samples; the window is Hann's.

    Returns:
        ``((T - 1) * hop_length,)`` float32; frame 0 is centered at sample 0.

    >>> griffin_lim(np.ones((10, 9), np.float32), iterations=2, n_fft=16, hop_length=4, window_length=12).shape
    (36,)
    """
    window = _window(n_fft, window_length)
    phases = 2 * np.pi * np.random.RandomState(0).random(magnitudes.T.shape).T
    spectrum = (np.cos(phases) + 1j * np.sin(phases)).astype(np.complex64) * magnitudes
    before: np.ndarray | None = None
    for _ in range(iterations):
        rebuilt = _spectrum(_signal(spectrum, window, hop_length), window, hop_length)
        spectrum = rebuilt if before is None else rebuilt - np.float32(_MOMENTUM / (1 + _MOMENTUM)) * before
        spectrum = spectrum / (np.abs(spectrum) + np.finfo(np.float32).tiny) * magnitudes
        before = rebuilt
    return _signal(spectrum, window, hop_length)


def _window(n_fft: int, length: int) -> np.ndarray:
    """A periodic Hann window in the middle of ``(n_fft,)``."""
    window = np.zeros(n_fft)
    start = (n_fft - length) // 2
    window[start : start + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    return window


def _spectrum(signal: np.ndarray, window: np.ndarray, hop: int) -> np.ndarray:
    """The transform ``(T, bins)`` of frames centered at the multiples of the hop; beyond the ends are zeros."""
    padded = np.pad(signal, len(window) // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(window))[::hop]
    return np.fft.rfft(frames * window).astype(np.complex64)


def _signal(spectrum: np.ndarray, window: np.ndarray, hop: int) -> np.ndarray:
    """The signal ``((T - 1) * hop,)`` whose transform is nearest to ``spectrum``: weighted overlapping frames."""
    frames = np.fft.irfft(spectrum, n=len(window)) * window
    total, weight = (np.zeros(hop * (len(frames) - 1) + len(window)) for _ in range(2))
    squared = window**2
    for t, frame in enumerate(frames):
        total[t * hop : t * hop + len(window)] += frame
        weight[t * hop : t * hop + len(window)] += squared
    start = len(window) // 2
    total, weight = (values[start : start + hop * (len(frames) - 1)] for values in (total, weight))
    return (total / np.where(weight > np.finfo(np.float32).tiny, weight, 1.0)).astype(np.float32)
