"""Sound for exported jobs."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkit.errors import DataError
from lstmkit.libraries import import_library


def samples_of(clip: Any, number: int, from_rate: int, to_rate: int) -> np.ndarray:
    """The samples ``(N,)`` float32 of a clip at the rate of a model.

    Args:
        clip: Samples of one channel, in -1…1.
        number: The clip's number in messages, from 1.
        from_rate: Its sample rate in Hz; 0 for that of the model.
        to_rate: The model's sample rate in Hz.

    Raises:
        DataError: The clip is empty, has several channels, or a sample that is no finite number.
        MissingLibraryError: The rates differ and ``soxr`` is not installed.
    """
    try:
        samples = np.ascontiguousarray(clip, dtype=np.float32)
    except (TypeError, ValueError) as err:
        raise DataError(f"clip {number} is no array of numbers: give the samples of one channel") from err
    if samples.ndim != 1 or not len(samples):
        raise DataError(f"clip {number} has shape {samples.shape}: give the samples of one channel")
    if not np.isfinite(samples).all():
        raise DataError(f"clip {number} has a sample that is NaN or infinite: correct it")
    if from_rate in (0, to_rate):
        return samples
    resampled = import_library("soxr", "sound", "another sample rate").resample(samples, from_rate, to_rate)
    return np.ascontiguousarray(resampled, dtype=np.float32)
