"""Distance of windows of a series from the principal subspace of training windows, as a module beside a network.

Legend: T steps, C channels, W steps per window, D = C * W values per window, K principal components, N windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn
from typing_extensions import Self

from lstmkit.data.series.sensor_values import VALUES_AT_ONCE

_EXPLAINED_VARIANCE = 0.999
_MIN_STD = 1e-3
_MIN_OUTSIDE = 1e-12
_MIN_RELATIVE_SCALE = 0.01  # of the mean score of training windows, K + 1
_MAX_WINDOWS = 20_000  # that components are fitted to


class PrincipalSubspace(nn.Module):
    """Scores windows of a series by their distance from the principal subspace of training windows.

    After the Sub-PCA of TSB-AD (Liu and Paparrizos 2024): the score is the squared Mahalanobis distance within the
    principal components that hold 99.9 % of the variance, plus the squared distance from their subspace over its mean
    on training windows; both over ``scale``. It is a module so that a detector is one network when it is saved. Its
    buffers are not trained: :meth:`fitted` and :meth:`set_scale` set them.

    Args:
        channels: Values per step, ``C``.
        window: Steps per window, ``W``.
        components: Number of principal components, ``K``.

    >>> waves = np.sin(np.arange(90) / 5)[:, None]
    >>> subspace = PrincipalSubspace.fitted([waves], window=20)
    >>> subspace.distances(waves).shape
    (71,)
    """

    mean: Tensor
    components: Tensor
    deviations: Tensor
    mean_outside: Tensor
    scale: Tensor

    def __init__(self, channels: int, window: int, components: int) -> None:
        super().__init__()
        self.channels, self.window = channels, window
        self.register_buffer("mean", torch.zeros(channels * window))
        self.register_buffer("components", torch.zeros(components, channels * window))
        self.register_buffer("deviations", torch.ones(components))
        self.register_buffer("mean_outside", torch.ones(()))
        self.register_buffer("scale", torch.ones(()))

    @property
    def sizes(self) -> dict[str, int]:
        """The arguments of the constructor."""
        return {"channels": self.channels, "window": self.window, "components": len(self.components)}

    @classmethod
    def fitted(cls, series: Sequence[np.ndarray], window: int) -> Self:
        """The subspace of at most 20,000 evenly spread windows of training series; its scale is 1.

        Args:
            series: Values ``(T, C)`` without missing ones. At least one series has ``window`` steps.
            window: Steps per window.
        """
        channels = series[0].shape[1]
        count = sum(len(part) for part in _training_windows(series, window))
        mean = np.sum([part.sum(axis=0) for part in _training_windows(series, window)], axis=0) / count
        covariance = np.zeros((len(mean), len(mean)))
        for part in _training_windows(series, window):
            covariance += (part - mean).T @ (part - mean)
        variances, vectors = np.linalg.eigh(covariance / max(1, count - 1))
        variances, vectors = variances[::-1].clip(min=0.0), vectors[:, ::-1]  # the largest first
        explained = np.cumsum(variances) / max(variances.sum(), np.finfo(float).tiny)
        components = min(int((explained <= _EXPLAINED_VARIANCE).sum()) + 1, len(mean)) if explained[-1] > 0 else 1
        subspace = cls(channels, window, components)
        subspace.mean.copy_(torch.from_numpy(mean))
        subspace.components.copy_(torch.from_numpy(vectors[:, :components].T.copy()))
        subspace.deviations.copy_(torch.from_numpy(np.sqrt(variances[:components]).clip(min=_MIN_STD)))
        outside = sum(subspace._parts(torch.from_numpy(p))[1].sum().item() for p in _training_windows(series, window))
        subspace.mean_outside.fill_(max(_MIN_OUTSIDE, outside / count))
        return subspace

    def set_scale(self, normal: np.ndarray) -> None:
        """Set the scale to the mean of ``normal (N,)``, distances of normal data with a scale of 1.

        It is at least a hundredth of the mean on training windows.
        """
        self.scale.fill_(max(float(normal.mean()), _MIN_RELATIVE_SCALE * (len(self.components) + 1)))

    def forward(self, windows: Tensor) -> Tensor:
        """Windows ``(N, C, W)`` to scores ``(N,)``, in the precision of the windows."""
        inside, outside = self._parts(windows.flatten(1))
        return (inside + outside / self.mean_outside.to(windows)) / self.scale.to(windows)

    def _parts(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, D)`` to the squared Mahalanobis distance within the subspace and the squared distance from it."""
        centered, components = windows - self.mean.to(windows), self.components.to(windows)
        projected = centered @ components.T
        inside = (projected / self.deviations.to(windows)).square().sum(1)
        return inside, (centered - projected @ components).square().sum(1)

    def distances(self, values: np.ndarray) -> np.ndarray:
        """Scores ``(T - W + 1,)`` of the windows of a series ``(T, C)``, without missing values, in order of time.

        The score of a window belongs to its last step. It is computed in float64, and few windows are in memory at a
        time. A series of fewer than ``W`` steps has no score.
        """
        if len(values) < self.window:
            return np.zeros(0)
        windows = torch.from_numpy(values.astype(np.float64)).unfold(0, self.window, 1)
        chunk = max(1, VALUES_AT_ONCE // len(self.mean))
        with torch.inference_mode():
            return torch.cat([self(part) for part in windows.split(chunk)]).numpy()

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={size}" for name, size in self.sizes.items())


def _training_windows(series: Sequence[np.ndarray], window: int) -> Iterator[np.ndarray]:
    """Evenly spread windows of series, ``(N, D)`` in float64, a few at a time."""
    counts = [max(0, len(values) - window + 1) for values in series]
    stride = -(-sum(counts) // _MAX_WINDOWS)
    chunk = max(1, VALUES_AT_ONCE // (window * series[0].shape[1]))
    first = 0  # of the series, so that every stride-th window of all series counts
    for values, count in zip(series, counts, strict=True):
        if count:
            windows = sliding_window_view(values, window, axis=0)[-first % stride :: stride]
            for start in range(0, len(windows), chunk):
                part = windows[start : start + chunk]
                yield part.reshape(len(part), -1).astype(np.float64)
        first += count
