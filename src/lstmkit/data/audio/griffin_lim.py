"""From mel frames back to sound: the spectrum that has them, and phases that go with it (librosa's Griffin-Lim)."""

from __future__ import annotations

import numpy as np
import torch

from lstmkit.data.audio.log_mel import LogMelSpectrogram

_ROUNDS = 40  # of the multiplicative updates: more hardly lower the error


def mel_to_audio(mel: LogMelSpectrogram, frames: np.ndarray, rounds: int = 60) -> np.ndarray:
    """Samples whose frames are these, as nearly as they can be.

    The powers of the frequencies are the non-negative ones whose bands come nearest to the frames. Phases begin at
    random, always the same, and are made to agree from frame to frame (Griffin and Lim 1984, the fast way of Perraudin,
    Balazs, Søndergaard 2013).

    Args:
        mel: How the frames were made.
        frames: ``(T, F)``, natural logarithms of power.
        rounds: Of Griffin-Lim.

    Returns:
        ``((T - 1) * step + length,)`` float32 at the rate of ``mel``: as many samples as give ``T`` frames.

    >>> mel = LogMelSpectrogram(rate=8000, bands=40, window=0.032, hop=0.008)
    >>> mel_to_audio(mel, np.zeros((10, 40), np.float32), rounds=2).shape
    (832,)
    """
    from librosa import griffinlim

    # At least as long as a transform, silent at the end: shorter ones librosa does not take.
    least = mel.size // mel.step + 2
    longer = np.pad(frames, ((0, max(0, least - len(frames))), (0, 0)), constant_values=frames.min())
    magnitudes = np.sqrt(powers(mel, longer)).T
    count = (len(frames) - 1) * mel.step + mel.length
    samples = griffinlim(
        magnitudes, n_iter=rounds, hop_length=mel.step, win_length=mel.length, n_fft=mel.size, random_state=0
    )
    # librosa's frames are about their middles, and the first one's middle is sample 0; here it begins there.
    before = mel.length // 2
    return np.pad(samples, (before, max(0, count - before - len(samples))))[:count].astype(np.float32)


def powers(mel: LogMelSpectrogram, frames: np.ndarray) -> np.ndarray:
    """``(T, F) -> (T, size / 2 + 1)``: the non-negative powers of the frequencies whose bands come nearest.

    Lee and Seung 2001, "Algorithms for Non-negative Matrix Factorization": multiplicative updates, from what the
    pseudo-inverse says.
    """
    filters = mel.filters
    bands = torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32)).exp()
    found = (bands @ torch.linalg.pinv(filters)).clamp(min=1e-8)
    wanted = bands @ filters.T
    for _ in range(_ROUNDS):
        found = found * wanted / ((found @ filters) @ filters.T).clamp(min=1e-12)
    return found.numpy()
