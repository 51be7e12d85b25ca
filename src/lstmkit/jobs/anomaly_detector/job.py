"""Anomaly detection: which steps of a recording are unlike what was learnt, how sure, and because of which channel."""

from __future__ import annotations

import math
from dataclasses import field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lstmkit.data.batch import Source
from lstmkit.data.series.sensor_series import Columns, Recording, SensorSeriesSet, filled, read_sensor_series
from lstmkit.errors import DataError
from lstmkit.evaluation.anomaly_thresholds import (
    TAIL,
    dynamic_thresholds,
    extreme_value_threshold,
    moving_average_thresholds,
    quantile_threshold,
)
from lstmkit.jobs.anomaly_detector import metrics as scoring
from lstmkit.jobs.anomaly_detector import report
from lstmkit.jobs.anomaly_detector.online import StreamingDetector
from lstmkit.jobs.anomaly_detector.plots import anomaly_figure
from lstmkit.jobs.anomaly_detector.pyod import PyODDetector
from lstmkit.jobs.anomaly_detector.results import AnomalyResult
from lstmkit.jobs.anomaly_detector.scorers import WAYS, Way
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class

_FARTHEST = 10.0  # standard deviations: what the model reads is cut there, what is compared is not
_STAMPS = ("start", "end", "peak")
_FLOOR = 0.01  # of a channel's deviation: errors below say nothing
_LOOKED_AT = 5  # recordings
_MOVING = ("recent", "dynamic")  # levels that hang on the step
_MAX_INSPECTED_STEPS = 2000  # steps
_FEWEST = 5  # steps that a level is found by
_MAX_ERROR_STD = 1e9  # standard deviations: what is farther is no stranger
_ROUNDING = 1e-4  # of a level


@settings_class
class AnomalyDetector(Job):
    """Learn what recordings are like, and tell steps that are not like it. Labels are never looked at by ``fit``.

    Data: a file or frame with a row a step and columns of numbers, perhaps with stamps (``time``), several recordings
    (``id``) and labels (``label``, 0 or 1), which only :meth:`evaluate` reads; or an array ``(T,)`` or ``(T, C)``.

    >>> import numpy as np
    >>> wave = np.sin(np.arange(600) / 5) + 0.05 * np.random.default_rng(0).standard_normal(600)
    >>> detector = AnomalyDetector(hidden_size=16, epochs=15, window=50, lr=0.01).fit(wave[:500])
    >>> wave[560:565] += 1.0
    >>> found = detector.predict(wave)
    >>> bool(found[0].alarms[560:565].any())
    True
    """

    name: ClassVar[str] = "anomaly_detector"
    summary: ClassVar[str] = "Tell when a recording is unlike what was learnt, beside a moving z-score and Sub-PCA."

    time_col: str = setting("column of the stamps; where there is none, rows are steps", default="time")
    id_col: str = setting("column that says which recording a row belongs to; need not be there", default="id")
    label_col: str = setting("column with 1 where a step is an anomaly; only evaluate reads it", default="label")
    channels: tuple[str, ...] = setting("columns to watch; none for all numbers", default=())
    context: tuple[str, ...] = setting("columns that are read and not watched, as commands", default=())
    method: str = setting(
        "what is surprising: what was not foreseen, or what cannot be told again through a few numbers",
        default="predict",
        choices=tuple(WAYS),
    )
    ahead: int = setting("steps foretold at each (predict)", default=3, low=1, high=500)
    code_size: int = setting("numbers that a window must go through (reconstruct)", default=8, low=1)
    window: int = setting("steps learnt from together; with reconstruct also those told again", default=100, low=2)
    combine: str = setting("score of a step from those of its channels", default="mean", choices=("mean", "max"))
    smooth: float = setting("steps after which a score has half its weight in the next; 0 for none", default=2.0, low=0)
    warm_up: int = setting("steps at a recording's beginning that are no alarm", default=20, low=0)
    threshold: str = setting(
        "level of an alarm: a quantile of the validation part's scores, an extreme-value distribution fitted to them, "
        "deviations from the mean of the last scores (recent), or what sets apart their extremes (dynamic)",
        default="quantile",
        choices=("quantile", "extreme", *_MOVING),
    )
    rate: float = setting("false alarms a step (all but dynamic)", default=0.005, low=1e-9, high=0.09)
    history: int = setting("steps that a recent or dynamic threshold looks back", default=2000, low=50)
    pruning: float = setting("share by which an extreme must stand out (dynamic)", default=0.13, low=0, high=1)
    gap: int = setting("steps without alarm that one stretch of alarms may have", default=5, low=0)
    margin: int = setting("widest margin around a labelled stretch in VUS-PR, steps", default=100, low=0)
    batch_size: int = setting("windows in a step", default=32, low=1)
    steps_per_epoch: int = setting("training steps in an epoch; 0 for a pass over all windows", default=50, low=0)
    lr: float = setting("peak learning rate", default=3e-3, low=0)
    valid_share: float = setting("share of each recording to validate and calibrate on", default=0.2, low=0, high=0.5)
    test_share: float = setting(
        "share of each recording, its end, held out for the test where there are labels", default=0.3, low=0, high=0.8
    )

    tested: list[AnomalyResult] = field(default_factory=list, init=False, repr=False)  # what was last evaluated
    names: tuple[str, ...] = field(default=(), init=False, repr=False)
    _mean: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    _std: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    _scale: np.ndarray = field(default_factory=lambda: np.ones(0), init=False, repr=False)  # usual error of a channel
    past: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False, repr=False)  # of the validation, scores
    constant_threshold: float = field(default=math.nan, init=False, repr=False)  # where it is the same for all steps
    _num_above: tuple[int, int] = field(
        default=(0, 0), init=False, repr=False
    )  # of the steps that set it, and of them all
    _learnt: tuple[SensorSeriesSet, SensorSeriesSet] | None = field(default=None, init=False, repr=False)  # not saved

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> SensorSeriesSet:
        named = tuple(name for name in self.names if name not in self.context) or self.channels
        columns = Columns(self.time_col, self.id_col, self.label_col, named, self.context)
        found = read_sensor_series(data, columns)
        found.check_values()
        if self.names and found.channels != self.names:
            raise DataError(
                f"{found.name} has {len(found.channels)} channels, the model was fitted to {len(self.names)}"
            )
        return found

    def split(self, examples: SensorSeriesSet, validation: SensorSeriesSet | None) -> DataSplit:
        """By time, each recording for itself; what is learnt and validated on has no labels."""
        if self.label_col not in ("", Columns().label) and not examples.labelled:
            raise DataError(f"{examples.name} has no column {self.label_col!r}: mend --label-col")
        if validation is not None:
            _check_not_labels(validation)
            validation = validation.like(examples)
        test_share = self.test_share if examples.labelled else 0.0
        valid_share = self.valid_share if validation is None else 0.0
        starts = [[0, *_split_points(len(one), valid_share, test_share), len(one)] for one in examples.items]
        train, valid, test = (examples.cut([(cut[k], cut[k + 1]) for cut in starts], labels=k == 2) for k in range(3))
        longest = max((len(one) for one in train.items), default=0)
        if longest < 2 * self.warm_up + 10:
            raise DataError(
                f"{examples.name}: the longest stretch to learn from has {longest} steps, too few: give at least "
                f"{2 * self.warm_up + 10}, or a smaller --warm-up, --valid-share and --test-share"
            )
        held_out = valid if validation is None else validation.cut([(0, len(one)) for one in validation.items], False)
        if len(held_out):
            self._check_burn_in(held_out)
        return DataSplit(train, held_out if len(held_out) else None, test if len(test) else None)

    def _check_burn_in(self, valid: SensorSeriesSet) -> None:
        """Levels are found by steps after the warm-up: some there must be, of every channel."""
        settled = np.concatenate([one.values[self.warm_up :] for one in valid.items])
        if len(settled) < _FEWEST:
            raise DataError(
                f"{valid.name}: the part to validate by has {len(settled)} steps after the warm-up, too few to find a "
                f"level by ({_FEWEST}): give longer recordings, more --valid-share, or a smaller --warm-up"
            )
        missing = np.isnan(settled).all(axis=0)
        if missing.any():
            name = valid.channels[int(missing.argmax())]
            raise DataError(f"{valid.name}: channel {name!r} has no value in the part to validate by: leave it out")

    def prepare(self, train: SensorSeriesSet) -> None:
        """Each channel's mean and deviation over the training part; one that never changes is left in its own unit."""
        self.names, self._learnt = train.channels, (train, train)
        whole = np.concatenate([one.values for one in train.items])
        missing = np.isnan(whole).all(axis=0)
        if missing.any():
            name = train.channels[int(missing.argmax())]
            raise DataError(f"{train.name}: channel {name!r} has no value in the part to learn from: leave it out")
        self._mean, deviation = np.nanmean(whole, axis=0), np.nanstd(whole, axis=0)
        still = deviation <= 1e-9 * np.maximum(1.0, np.abs(self._mean))
        self._std = np.where(still, 1.0, deviation)

    @property
    def watched(self) -> tuple[str, ...]:
        """Channels that scores are of."""
        return tuple(self.names[i] for i in self._kept)

    @property
    def _kept(self) -> list[int]:
        return [i for i, name in enumerate(self.names) if name not in self.context]

    @property
    def way(self) -> Way:
        """How it is surprised."""
        return WAYS[self.method]

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(T, C)`` in its own unit: as the model reads it ``(T, F)``, a missing value as the one before; and what is
        watched of it."""
        values = np.clip((values - self._mean) / self._std, -_MAX_ERROR_STD, _MAX_ERROR_STD).astype(np.float32)
        return np.clip(filled(values), -_FARTHEST, _FARTHEST), values[:, self._kept]

    def _encoded(self, recordings: SensorSeriesSet) -> tuple[list[np.ndarray], list[np.ndarray]]:
        both = [self.encode(one.values) for one in recordings.items]
        return [read for read, _ in both], [watched for _, watched in both]

    def build(self) -> Model:
        return self.way.build(self, len(self.names), len(self.watched))

    def source(self, examples: SensorSeriesSet) -> Source:
        return self.way.source(self, *self._encoded(examples))

    # ---- scores and levels ---------------------------------------------------------------------------------------

    def _errors(self, recordings: SensorSeriesSet, progress: Progress) -> list[np.ndarray]:
        return self.way.errors(self, *self._encoded(recordings), self._device(), progress)

    def by_channel(self, errors: np.ndarray) -> np.ndarray:
        """In units of the usual error; 0 where nothing is known."""
        return np.nan_to_num(errors / self._scale)

    def aggregate(self, by_channel: np.ndarray, before: float | None) -> float:
        now = float(by_channel.mean() if self.combine == "mean" else by_channel.max())
        kept = 0.5 ** (1 / self.smooth) if self.smooth else 0.0
        return now if before is None else kept * before + (1 - kept) * now

    def _scores(self, by_channel: np.ndarray) -> np.ndarray:
        """``(T,)``, 0 while the state settles."""
        found, last = np.zeros(len(by_channel)), None
        for t in range(self.warm_up, len(by_channel)):
            found[t] = last = self.aggregate(by_channel[t], last)
        return found

    def calibrate(self, valid: SensorSeriesSet | None) -> None:
        """The usual error of each channel, and the scores that levels are found by."""
        assert self._learnt is not None
        self._learnt = (self._learnt[0], self._learnt[0] if valid is None else valid)
        seen = self._learnt[1]
        self._scale = np.ones(len(self.watched))
        errors = self._errors(seen, self._progress)
        settled = np.concatenate([one[self.warm_up :] for one in errors])
        counts = np.isfinite(settled).sum(axis=0)
        usual = np.nansum(settled, axis=0) / np.maximum(1, counts)
        self._scale = np.maximum(usual, _FLOOR)
        scores = [self._scores(self.by_channel(one))[self.warm_up :] for one in errors]
        normal = np.concatenate(scores)
        self.past, self.constant_threshold = normal[-self.history :], self.level(normal)
        self._num_above = (int((normal > self.constant_threshold).sum()), len(normal))

    def level(self, normal: np.ndarray) -> float:
        """Above which a step is an alarm, by scores ``(N,)`` that are not; NaN where it hangs on the step.

        A hair above them, so that the score it came from is no alarm when it is rounded otherwise; and at least 1, the
        usual error.
        """
        if self.threshold in _MOVING:
            return math.nan
        found = (quantile_threshold if self.threshold == "quantile" else extreme_value_threshold)(normal, self.rate)
        return max(1.0, found * (1 + _ROUNDING))

    def levels(self, scores: np.ndarray, level: float | None = None, past: np.ndarray | None = None) -> np.ndarray:
        """``(T,)``: above which each of ``scores`` is an alarm; a baseline's with a level and past of their own."""
        past = self.past if past is None else past
        if self.threshold == "dynamic":
            return dynamic_thresholds(scores, self.history, self.pruning, past)
        if self.threshold == "recent":
            return moving_average_thresholds(scores, self.history, self.rate, past)
        return np.full(len(scores), self.constant_threshold if level is None else level)

    def detect(self, recordings: SensorSeriesSet, progress: Progress) -> list[AnomalyResult]:
        found = []
        for one, errors in zip(recordings.items, self._errors(recordings, progress), strict=True):
            by_channel = self.by_channel(errors)
            scores = self._scores(by_channel)
            values = one.values[:, self._kept]
            found.append(AnomalyResult(one, values, scores, by_channel, self.levels(scores), self.watched))
        return found

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any) -> list[AnomalyResult]:
        """Scores, levels and alarms of every recording in ``data``.

        Raises:
            DataError: A channel of a recording has no value at all.
        """
        self.model  # noqa: B018
        return self.detect(self.read(data), default_progress())

    def decision_function(self, data: Any) -> np.ndarray:
        """``(N,)`` scores of all steps, higher for more unusual, as PyOD's detectors give them."""
        return np.concatenate([one.scores for one in self.predict(data)])

    def live(self) -> StreamingDetector:
        """For steps as they come in: the same numbers as of a whole recording, but for rounding."""
        self.model  # noqa: B018
        return StreamingDetector(self)

    def pyod(self) -> PyODDetector:
        """The same with PyOD's verbs: ``predict`` gives 0 and 1."""
        return PyODDetector(self)

    def text(self, answer: list[AnomalyResult]) -> str:
        """A table of the alarms, as CSV."""
        none = pd.DataFrame(columns=pd.Index(["id", "start", "end", "steps", "peak", "score", "level", "cause"]))
        found = [row for one in answer for row in one.rows(self.gap)]
        return (pd.DataFrame(found) if found else none).to_csv(index=False, lineterminator="\n")

    def records(self, answer: list[AnomalyResult]) -> list[dict[str, Any]]:
        """For each recording its alarms, and the score and level of every step."""
        return [
            {
                "id": one.recording.name,
                "alarms": [{k: str(v) if k in _STAMPS else v for k, v in row.items()} for row in one.rows(self.gap)],
                "scores": one.scores.tolist(),
                "levels": one.levels.tolist(),
            }
            for one in answer
        ]

    def picture(self, data: Any, answer: list[AnomalyResult]) -> Figure:
        """The recording with the most alarms."""
        most = max(answer, key=lambda one: int(one.alarms.sum()))
        return anomaly_figure(most)

    def evaluate(self, data: Any) -> Evaluation:
        self.model  # noqa: B018
        recordings = self.read(data)
        if not recordings.labelled:
            raise DataError(f"{recordings.name} has no labels to evaluate by: name their column with --label-col")
        return self.score(recordings, default_progress())

    def score(self, test: SensorSeriesSet, progress: Progress) -> Evaluation:
        found = self.judged(test, progress)
        labels = [one.labels for one in test.items if one.labels is not None]
        rows = [{"model": name, **scoring.scores(labels, of, self)} for name, of in found.items()]
        share = float(np.concatenate(labels).mean())
        notes = [f"{sum(map(len, labels)):,} steps in {len(labels)} recordings, {share:.1%} of them anomalies."]
        if share in (0, 1):
            alike = "an anomaly" if share else "normal"
            notes.append(f"Every step is labelled {alike}: these scores tell no model from another.")
        if self.threshold not in _MOVING:
            above, count = self._num_above
            notes.append(
                f"The level is set for {self.rate:g} false alarms a step; of the {count:,} steps it was set by, "
                f"{above:,} are above."
            )
            fewest = TAIL if self.threshold == "extreme" else 1 / self.rate - 1
            if count < fewest and self.rate * (count + 1) < 1:
                notes.append(f"By so few steps no rate under {1 / (count + 1):.2g} can be promised, whatever is set.")
        if self._learnt is None:
            notes.append("A loaded model has not what it learnt from: only what needs none stands beside.")
        steps = pd.concat([one.frame() for one in self.tested], ignore_index=True)
        steps.insert(2, "label", np.concatenate(labels).astype(int))
        return Evaluation(pd.DataFrame(rows), scoring.BEST, steps, tuple(notes))

    def judged(self, test: SensorSeriesSet, progress: Progress) -> dict[str, scoring.Judged]:
        """Scores and levels of every recording, by this model and by what stands beside it."""
        self.tested = self.detect(test, progress)
        ours = {self.cell.upper(): [(one.scores, one.levels) for one in self.tested]}
        return ours | scoring.baselines(self, self._learnt, test)

    def sections(self, examples: SensorSeriesSet) -> list[Section]:
        return report.sections(self, examples)

    def example_sequences(self, data: Any, recording: int = 1) -> list[ExampleSequence]:
        """Recordings, that of number ``recording`` (from 1) first; of long ones the beginning."""
        self.model  # noqa: B018
        read = self.read(data)
        if not 1 <= recording <= len(read):
            raise DataError(f"there is no recording {recording}: {read.name} has 1 to {len(read)}")
        rows = [recording - 1, *(i for i in range(len(read)) if i != recording - 1)][:_LOOKED_AT]
        inputs, _ = self._encoded(read)
        return [self._specimen(read.items[row], inputs[row][:_MAX_INSPECTED_STEPS]) for row in rows]

    def _specimen(self, recording: Recording, inputs: np.ndarray) -> ExampleSequence:
        labels = recording.labels
        known = {} if labels is None else {"labelled as an anomaly": labels[: len(inputs)]}
        of_channels = {name: inputs[:, i] for i, name in enumerate(self.names)}
        return ExampleSequence(
            torch.from_numpy(inputs)[None].to(next(self.network.parameters()).device),
            name=recording.name,
            labels=[str(time) for time in recording.times[: len(inputs)]],
            values=inputs[:, 0],
            annotations=known | of_channels,
        )

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        past = self.past if self.threshold in _MOVING else self.past[:0]
        numbers = {"mean": self._mean, "std": self._std, "scale": self._scale, "past": past}
        level = None if math.isnan(self.constant_threshold) else self.constant_threshold
        known = {"channels": list(self.names), "level": level, "above": list(self._num_above), "scores": len(past)}
        return known | {name: of.tolist() for name, of in numbers.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.names = tuple(state["channels"])
        self._mean, self._std, self._scale, self.past = (
            np.array(state[name], dtype=np.float64) for name in ("mean", "std", "scale", "past")
        )
        self.constant_threshold = math.nan if state["level"] is None else float(state["level"])
        above, count = state["above"]
        self._num_above = (int(above), int(count))
        wide = len(self.names)
        if not all(isinstance(name, str) for name in self.names) or len(set(self.names)) < wide:
            raise ValueError("its channels have no names")
        if not wide or self._mean.shape != (wide,) or self._std.shape != (wide,) or not (self._std > 0).all():
            raise ValueError("its channels are none")
        if (
            self._scale.shape != (len(self.watched),)
            or not (self._scale > 0).all()
            or self.past.shape != (state["scores"],)
        ):
            raise ValueError("its usual errors are none")


def _check_not_labels(validation: SensorSeriesSet) -> None:
    """Raise DataError where what was given to validate by is one array of 0 and 1: the labels, as PyOD's fit takes."""
    alone = len(validation) == 1 and validation.channels == ("1",) and validation.name == "the array"
    if alone and np.isin(validation.items[0].values, (0, 1)).all():
        raise DataError(
            "what is given to validate by is 0 and 1 alone, as labels are: fit looks at none; evaluate takes a frame "
            "with a column of them"
        )


def _split_points(length: int, valid_share: float, test_share: float) -> tuple[int, int]:
    """Where validation and test begin."""
    test = length - math.floor(test_share * length)
    return test - math.floor(valid_share * test), test
