"""Splits of events: by time, with a delay until labels are known, or by entity."""

from __future__ import annotations

import numpy as np

from lstmkit.data.splits import holdout_sizes
from lstmkit.data.tables.row_encoding import DAY
from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs.base import DataSplit
from lstmkit.jobs.event_classifier.settings import EventClassifierSettings


def split_by_time(
    settings: EventClassifierSettings, events: RowSequences, validation: RowSequences | None
) -> DataSplit:
    """Hold out the latest labeled events. A held-out part also has all earlier events, without labels, as context.

    The training part ends with the last event before the held-out ones. Its labels, and those of the validation part,
    end ``label_delay_days`` before the part that follows.

    Raises:
        DataError: There are too few labeled events.
        SettingError: There is a delay, but no dates.
    """
    times = _times(events)
    known = events.has_target
    delay = _delay(settings, events)
    valid_fraction = settings.valid_fraction if validation is None else 0.0
    unit = "labeled event"
    n_valid, n_test = holdout_sizes(int(known.sum()), unit, events.name, valid_fraction, settings.test_fraction)
    ordered = np.sort(times[known])
    end = np.inf
    test = valid = None
    if n_test:
        start = ordered[-n_test]
        test = _held_out(settings, events, known & (times >= start), times)
        end = start
    if n_valid:
        before = ordered[ordered < end]
        if not len(before):
            raise DataError(f"{events.name}: all labeled events have the same time: give split_strategy=entity")
        start = before[max(0, len(before) - n_valid)]
        is_valid = known & (times >= start) & (times < end - delay)
        valid = _held_out(settings, events.select(times < end), is_valid[times < end], times[times < end])
        end = start
    train = events.with_targets_at(known & (times < end - delay)).select(times < end)
    if not len(train) or not train.has_target.any():
        raise DataError(
            f"{events.name} has no labeled event before its held-out parts: give more events, or a smaller "
            "valid_fraction, test_fraction or label_delay_days"
        )
    return DataSplit(train, _if_labeled(valid) if validation is None else validation, _if_labeled(test))


def split_by_entity(
    settings: EventClassifierSettings, events: RowSequences, validation: RowSequences | None
) -> DataSplit:
    """Hold out whole entities, chosen at random among those with a labeled event.

    Raises:
        DataError: There are too few entities.
    """
    labeled = np.unique(events.entities[events.has_target])
    rows = np.random.default_rng(settings.seed).permutation(labeled)
    valid_fraction = settings.valid_fraction if validation is None else 0.0
    n_valid, n_test = holdout_sizes(len(rows), "entity", events.name, valid_fraction, settings.test_fraction)
    held_out = np.isin(np.arange(len(events)), rows[: n_valid + n_test])
    test = events.subset(rows[:n_test]) if n_test else None
    valid = events.subset(rows[n_test : n_test + n_valid]) if n_valid else validation
    return DataSplit(events.subset(np.flatnonzero(~held_out)), valid, test)


def known_positive(events: RowSequences, is_positive: np.ndarray, day_of: np.ndarray, delay_days: float) -> np.ndarray:
    """``(R,)`` bool: events of entities that are known to be positive on the day of the event.

    An entity is known from the day on when the label of its first positive event is: ``delay_days`` after the day of
    that event, and one.

    Args:
        events: The events.
        is_positive: ``(R,)`` bool.
        day_of: ``(R,)`` day of each event, or its time if there are no days.
        delay_days: Days until a label is known.
    """
    first = np.full(len(events), np.inf)
    np.minimum.at(first, events.entities[is_positive], day_of[is_positive])
    return first[events.entities] < day_of - delay_days


def _held_out(
    settings: EventClassifierSettings, events: RowSequences, scored: np.ndarray, times: np.ndarray
) -> RowSequences:
    if settings.known_positives == "drop":
        labels = events.require_targets()[:, 0]
        positive = settings.positive_label or _rarest(labels[events.has_target])
        days = times if events.clock_seconds is None else np.floor(times / DAY)
        delay = 0.0 if events.clock_seconds is None else settings.label_delay_days
        scored = scored & ~known_positive(events, labels == positive, days, delay)
    return events.with_targets_at(scored)


def _rarest(labels: np.ndarray) -> str:
    names, counts = np.unique(labels.astype(str), return_counts=True)
    return str(names[counts.argmin()])


def _if_labeled(events: RowSequences | None) -> RowSequences | None:
    return events if events is not None and events.has_target.any() else None


def _times(events: RowSequences) -> np.ndarray:
    """Times ``(R,)`` of events; without a time column the numbers of their rows."""
    return events.rows.astype(np.float64) if events.seconds is None else events.seconds


def _delay(settings: EventClassifierSettings, events: RowSequences) -> float:
    """The delay of labels in the unit of the times."""
    if settings.label_delay_days and events.clock_seconds is None:
        raise SettingError("label_delay_days needs dates in the time column: give time_col, or label_delay_days=0")
    return settings.label_delay_days * DAY
