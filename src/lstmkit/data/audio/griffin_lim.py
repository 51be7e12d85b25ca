"""Griffin-Lim: reconstruct a waveform from a log-mel spectrogram."""

from __future__ import annotations

import numpy as np
import torch

from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.libraries import imports_of

_NNLS_ITERATIONS = 40  # multiplicative updates; more hardly lower the error


def mel_to_audio(mel: LogMelSpectrogram, frames: np.ndarray, iterations: int = 60) -> np.ndarray:
    """Reconstruct a waveform whose log-mel spectrogram approximates ``frames``.

    The power spectrum is the non-negative least-squares solution for the mel bands. Phases start at random with a fixed
    seed; the fast Griffin-Lim algorithm makes them consistent (Griffin and Lim 1984; Perraudin, Balazs, Søndergaard
    2013).

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
    with imports_of("sound", "audio"):
        from librosa import griffinlim

    # librosa needs at least one FFT window; pad with silence.
    min_frames = mel.n_fft // mel.hop_length + 2
    padded = np.pad(frames, ((0, max(0, min_frames - len(frames))), (0, 0)), constant_values=frames.min())
    magnitudes = np.sqrt(mel_to_power(mel, padded)).T
    count = (len(frames) - 1) * mel.hop_length + mel.window_length
    samples = griffinlim(
        magnitudes,
        n_iter=iterations,
        hop_length=mel.hop_length,
        win_length=mel.window_length,
        n_fft=mel.n_fft,
        random_state=0,
    )
    # librosa centers the first frame at sample 0; here the first frame begins at sample 0.
    offset = mel.window_length // 2
    return np.pad(samples, (offset, max(0, count - offset - len(samples))))[:count].astype(np.float32)


def mel_to_power(mel: LogMelSpectrogram, frames: np.ndarray) -> np.ndarray:
    """Non-negative power spectrum ``(T, n_fft / 2 + 1)`` whose mel bands approximate ``frames (T, F)``.

    Multiplicative updates (Lee and Seung 2001, "Algorithms for Non-negative Matrix Factorization"), initialized by the
    pseudo-inverse.
    """
    filters = mel.filters
    bands = torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32)).exp()
    power = (bands @ torch.linalg.pinv(filters)).clamp(min=1e-8)
    target = bands @ filters.T
    for _ in range(_NNLS_ITERATIONS):
        power = power * target / ((power @ filters) @ filters.T).clamp(min=1e-12)
    return power.numpy()
