"""Identities for detections: a Kalman filter per object, and the assignment of least cost from frame to frame.

After SORT (Bewley et al. 2016, arXiv:1602.00763), with the second round for doubtful detections of ByteTrack (Zhang et
al. 2022, arXiv:2110.06864). It is causal: an identity is given at once, and nothing is corrected later.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

_POSITION_NOISE, _SPEED_NOISE = 0.05, 0.02  # of a step, relative to the size of the box
_MEASUREMENT_NOISE = 0.08  # of a detection, relative to the size of the box
_MAX_TRACKS = 1000  # that are kept; the oldest unseen ones go first


def assignment(costs: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of rows and columns with the least total cost, each row and column at most once.

    The Hungarian method by shortest augmenting paths (Kuhn 1955; Jonker and Volgenant 1987), O(n³).

    Args:
        costs: ``(N, M)``; a pair that is not allowed costs infinity.

    >>> assignment(np.array([[1.0, 2.0], [1.0, 5.0]]))
    [(0, 1), (1, 0)]
    """
    if costs.size == 0:
        return []
    finite = costs[np.isfinite(costs)]
    forbidden = 1.0 + 2 * min(costs.shape) * (float(np.abs(finite).max()) if finite.size else 0.0)
    matrix = np.where(np.isfinite(costs), costs, forbidden)
    transposed = matrix.shape[0] > matrix.shape[1]
    matrix = matrix.T if transposed else matrix
    rows, columns = matrix.shape
    row_potential, column_potential = np.zeros(rows + 1), np.zeros(columns + 1)
    row_of = np.zeros(columns + 1, dtype=np.int64)  # 0: none; column 0 is the start of a path
    for row in range(1, rows + 1):
        row_of[0], column = row, 0
        shortest, previous = np.full(columns + 1, np.inf), np.zeros(columns + 1, dtype=np.int64)
        used = np.zeros(columns + 1, dtype=bool)
        while True:
            used[column] = True
            current = row_of[column]
            reduced = matrix[current - 1] - row_potential[current] - column_potential[1:]
            better = ~used[1:] & (reduced < shortest[1:])
            shortest[1:][better], previous[1:][better] = reduced[better], column
            nearest = int(np.where(used[1:], np.inf, shortest[1:]).argmin()) + 1
            delta = shortest[nearest]
            row_potential[row_of[used]] += delta
            column_potential[used] -= delta
            shortest[~used] -= delta
            column = nearest
            if not row_of[column]:
                break
        while column:
            row_of[column] = row_of[previous[column]]
            column = int(previous[column])
    pairs = [(int(row_of[column]) - 1, column - 1) for column in range(1, columns + 1) if row_of[column]]
    pairs = [(b, a) for a, b in pairs] if transposed else pairs
    return sorted(pair for pair in pairs if np.isfinite(costs[pair]))


@dataclass
class Track:
    """One object that is followed.

    Attributes:
        id: Its identity, from 1.
        label: Its class number.
        mean: ``(8,)`` center x, center y, width, height, and the change of each per frame.
        covariance: ``(8, 8)`` of ``mean``.
        unseen: Frames since it was last detected.
    """

    id: int
    label: int
    mean: np.ndarray
    covariance: np.ndarray
    unseen: float = 0.0

    @property
    def xywh(self) -> np.ndarray:
        """Left, top, width and height, ``(4,)``."""
        size = np.maximum(self.mean[2:4], 1e-3)
        return np.concatenate([self.mean[:2] - size / 2, size])


class KalmanFilter:
    """A Kalman filter with constant velocity for a box (Kalman 1960); noise is proportional to the size of the box."""

    def start(self, xywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean ``(8,)`` and covariance ``(8, 8)`` after the first detection."""
        scale = self._scale(xywh[2:])
        deviations = np.concatenate([2 * _MEASUREMENT_NOISE * scale, 10 * _SPEED_NOISE * scale])
        return np.concatenate([_center(xywh), np.zeros(4)]), np.diag(deviations**2)

    def predict(self, mean: np.ndarray, covariance: np.ndarray, steps: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance ``steps`` frames later."""
        transition = np.eye(8)
        transition[:4, 4:] = steps * np.eye(4)
        scale = self._scale(mean[2:4])
        noise = np.concatenate([_POSITION_NOISE * scale, _SPEED_NOISE * scale]) ** 2 * steps
        return transition @ mean, transition @ covariance @ transition.T + np.diag(noise)

    def update(self, mean: np.ndarray, covariance: np.ndarray, xywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance after a detection."""
        noise = np.diag((_MEASUREMENT_NOISE * self._scale(mean[2:4])) ** 2)
        gain = covariance[:, :4] @ np.linalg.inv(covariance[:4, :4] + noise)
        return mean + gain @ (_center(xywh) - mean[:4]), covariance - gain @ covariance[:4]

    def _scale(self, size: np.ndarray) -> np.ndarray:
        """The size of a box by coordinate, ``(4,)``, at least a pixel."""
        width, height = np.maximum(size, 1.0)
        return np.array([width, height, width, height])


@dataclass
class Tracker:
    """Joins the detections of successive frames; memory is bounded by :attr:`max_unseen` and by the objects in sight.

    The cost of a pair is the distance of the centers relative to the diagonal of the larger box, plus the difference of
    the logarithms of the areas, for tiny boxes that move far have no overlap.

    Attributes:
        threshold: Score at which a detection may start a track.
        low_threshold: Score at which a detection may continue one.
        max_unseen: Frames after which a track that is not detected is forgotten.
        max_distance: Distance of the centers at which a detection no longer belongs to a track, in diagonals; it grows
            while the track is unseen.

    >>> tracker = Tracker(threshold=0.5)
    >>> for x in (0.0, 1.0, 2.0):
    ...     ids = tracker.step(np.array([[x, 0, 4, 4]]), np.array([0]), np.array([0.9]))
    >>> ids.tolist()
    [1]
    """

    threshold: float = 0.3
    low_threshold: float = 0.1
    max_unseen: int = 15
    max_distance: float = 0.8
    tracks: list[Track] = field(default_factory=list)
    next_id: int = 1

    def step(self, xywh: np.ndarray, classes: np.ndarray, scores: np.ndarray, steps: float = 1.0) -> np.ndarray:
        """Identities of the detections of the next frame.

        Args:
            xywh: ``(N, 4)`` left, top, width and height.
            classes: ``(N,)`` class numbers: a track keeps its class.
            scores: ``(N,)``.
            steps: Frames since the last call, which may be a fraction.

        Returns:
            ``(N,)`` identities; -1 for detections that belong to no track.
        """
        kalman = KalmanFilter()
        for track in self.tracks:
            track.mean, track.covariance = kalman.predict(track.mean, track.covariance, steps)
            track.unseen += steps
        ids = np.full(len(xywh), -1, dtype=np.int64)
        free = list(range(len(self.tracks)))
        for rows in (
            np.flatnonzero(scores >= self.threshold),
            np.flatnonzero((scores < self.threshold) & (scores >= self.low_threshold)),
        ):
            costs = self._costs([self.tracks[t] for t in free], xywh[rows], classes[rows])
            matched = assignment(costs)
            for t, row in matched:
                track, detection = self.tracks[free[t]], rows[row]
                track.mean, track.covariance = kalman.update(track.mean, track.covariance, xywh[detection])
                track.unseen, ids[detection] = 0.0, track.id
            taken = {t for t, _ in matched}
            free = [index for t, index in enumerate(free) if t not in taken]
        for row in np.flatnonzero((ids < 0) & (scores >= self.threshold)):
            self.tracks.append(Track(self.next_id, int(classes[row]), *kalman.start(xywh[row])))
            ids[row], self.next_id = self.next_id, self.next_id + 1
        alive = [track for track in self.tracks if track.unseen <= self.max_unseen]
        self.tracks = sorted(alive, key=lambda track: track.unseen)[:_MAX_TRACKS]
        return ids

    def _costs(self, tracks: list[Track], xywh: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """``(tracks, detections)``, infinite for pairs that are too far apart or of different classes."""
        if not tracks or not len(xywh):
            return np.zeros((len(tracks), len(xywh)))
        boxes = np.stack([track.xywh for track in tracks])
        centers = boxes[:, None, :2] + boxes[:, None, 2:] / 2 - (xywh[None, :, :2] + xywh[None, :, 2:] / 2)
        diagonals = np.maximum(np.hypot(*boxes[:, None, 2:].T).T, np.hypot(*xywh[None, :, 2:].T).T)
        distances = np.hypot(centers[..., 0], centers[..., 1]) / diagonals
        areas = np.abs(np.log(boxes[:, 2:].prod(1))[:, None] - np.log(np.maximum(xywh[:, 2:].prod(1), 1e-6))[None])
        reach = self.max_distance * np.sqrt([max(track.unseen, 1.0) for track in tracks])[:, None]
        same = np.array([track.label for track in tracks])[:, None] == classes[None]
        return np.where(same & (distances <= reach), distances + 0.25 * areas, np.inf)


def _center(xywh: np.ndarray) -> np.ndarray:
    """Center x, center y, width and height of a box."""
    return np.concatenate([xywh[:2] + xywh[2:] / 2, xywh[2:]])
