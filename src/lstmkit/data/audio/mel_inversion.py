"""From a log-mel spectrogram to a waveform."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.audio.griffin_lim import min_frames, waveform
from lstmkit.data.audio.log_mel import LogMelSpectrogram

_NNLS_ITERATIONS = 40  # multiplicative updates; more hardly lower the error


def mel_to_audio(mel: LogMelSpectrogram, frames: np.ndarray, iterations: int = 60) -> np.ndarray:
    """Reconstruct a waveform whose log-mel spectrogram approximates ``frames``.

    The power spectrum is the non-negative least-squares solution for the mel bands. Phases start at random with a fixed
    seed; :func:`~lstmkit.data.audio.griffin_lim.griffin_lim` makes them consistent.

    Args:
        mel: Parameters of the spectrogram.
        frames: ``(T, F)``, natural logarithm of power.
        iterations: Griffin-Lim iterations.

    Returns:
        Samples ``((T - 1) * hop_length + window_length,)`` float32 at the sample rate of ``mel``.

    >>> mel = LogMelSpectrogram(sample_rate=8000, n_mels=40, window_seconds=0.032, hop_seconds=0.008)
    >>> mel_to_audio(mel, np.zeros((10, 40), np.float32), iterations=2).shape
    (832,)
    """
    missing = min_frames(mel.n_fft, mel.hop_length) - len(frames)
    padded = np.pad(frames, ((0, max(0, missing)), (0, 0)), constant_values=frames.min())  # with silence
    magnitudes = np.sqrt(mel_to_power(mel, padded))
    return waveform(magnitudes, len(frames), iterations, mel.n_fft, mel.hop_length, mel.window_length)


def mel_to_power(mel: LogMelSpectrogram, frames: np.ndarray) -> np.ndarray:
    """Non-negative power spectrum ``(T, n_fft / 2 + 1)`` whose mel bands approximate ``frames (T, F)``."""
    bands = torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32)).exp()
    return power_of_bands(bands, mel.filters, torch.linalg.pinv(mel.filters)).numpy()


def power_of_bands(bands: Tensor, filters: Tensor, inverse: Tensor) -> Tensor:
    """Non-negative power spectrum ``(T, bins)`` whose mel bands approximate ``bands (T, F)``.

    Multiplicative updates (Lee and Seung 2001, "Algorithms for Non-negative Matrix Factorization"), initialized by the
    pseudo-inverse.

    Args:
        bands: Power in each mel band.
        filters: ``(bins, F)`` mel filter bank.
        inverse: ``(F, bins)`` its pseudo-inverse.
    """
    power = (bands @ inverse).clamp(min=1e-8)
    target = bands @ filters.T
    for _ in range(_NNLS_ITERATIONS):
        power = power * target / ((power @ filters) @ filters.T).clamp(min=1e-12)
    return power
