"""Evaluation protocols of published benchmarks for session-based recommendation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data import catalog
from lstmkit.data.sessions import Sessions
from lstmkit.errors import DataError
from lstmkit.jobs.recommender.job import Recommender
from lstmkit.progress import Progress
from lstmkit.recipes import Fit


def last_days(job: Recommender, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """The sessions of the last ``days`` are the test part, those of as many days before are the validation part.

    The data are prepared as by B. Hidasi and Á. Czapp 2023, "The Effect of Third Party Implementations on
    Reproducibility", RecSys. Repeated items count once. Items that occur fewer than ``at_least`` times and sessions of
    one item are dropped until none is left. Test items that are not in the training part are dropped. They split at
    the time of day of the last event; this splits at midnight.
    """
    whole = k_core(drop_repeats(job.read(catalog.locate(folder.name, options["file"]))), options["at_least"])
    learned, test = split_last_days(whole, options["days"])
    train, valid = split_last_days(learned, options["days"])
    fit(train, drop_unseen_items(train, valid))
    return job.evaluate_examples(drop_unseen_items(train, test), progress).table


def drop_repeats(sessions: Sessions) -> Sessions:
    """Sessions without items that repeat the item before."""
    items = (tuple(b for a, b in zip((None, *items), items, strict=False) if a != b) for items in sessions.items)
    return replace(sessions, items=tuple(items))


def k_core(sessions: Sessions, min_count: int) -> Sessions:
    """Drop rare items and sessions of one item until none is left (the k-core filter).

    Raises:
        DataError: No session is left.
    """
    while len(sessions := sessions.with_targets()):
        counts = Counter(item for items in sessions.items for item in items)
        if min(counts.values()) >= min_count:
            return sessions
        kept = {item for item, n in counts.items() if n >= min_count}
        sessions = _only(sessions, kept)
    raise DataError(
        f"{sessions.name}: no session is left after items that occur fewer than {min_count} times are dropped"
    )


def split_last_days(sessions: Sessions, days: int) -> tuple[Sessions, Sessions]:
    """The sessions before the last ``days``, and those that start in them.

    Raises:
        DataError: Sessions have no dates, or all start in those days.
    """
    if sessions.start_times is None or not np.issubdtype(sessions.start_times.dtype, np.datetime64):
        raise DataError(
            f"{sessions.name}: a split by days needs sessions with dates: name the date column first in time_cols"
        )
    day = sessions.start_times.astype("datetime64[D]")
    late = day > day.max() - np.timedelta64(days, "D")
    if late.all():
        raise DataError(f"{sessions.name} has no session before the last {days} days: nothing is left to train on")
    return sessions.subset(np.flatnonzero(~late)), sessions.subset(np.flatnonzero(late))


def drop_unseen_items(train: Sessions, sessions: Sessions) -> Sessions:
    """Sessions without items that are not in the training part."""
    return _only(sessions, {item for items in train.items for item in items}).with_targets()


def _only(sessions: Sessions, kept: set[str]) -> Sessions:
    items = tuple(tuple(item for item in session if item in kept) for session in sessions.items)
    return replace(sessions, items=items)


PROTOCOLS = {"last_days": last_days}
