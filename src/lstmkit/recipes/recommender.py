"""How the field splits and scores its sessions."""

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
from lstmkit.recipes._protocols import held_out


def last_days(job: Recommender, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """The sessions of the last ``days`` are the test, those of as many days before the validation part.

    As B. Hidasi and Á. Czapp 2023, "The Effect of Third Party Implementations on Reproducibility", RecSys, prepare
    Diginetica: an item seen twice in a row counts once; items that occur fewer than ``at_least`` times in all, and
    sessions of one item, are left out until none is left. Test items that training has not seen are left out. They
    cut at the time of day of the last event, here it is at midnight.
    """
    whole = core(drop_repeats(job.read(catalog.locate(folder.name, options["file"]))), options["at_least"])
    learnt, test = latest(whole, options["days"])
    train, valid = latest(learnt, options["days"])
    fit(train, drop_unseen_items(train, valid))
    return job.score(drop_unseen_items(train, test), progress).table


def drop_repeats(sessions: Sessions) -> Sessions:
    """Without items that follow themselves."""
    items = (tuple(b for a, b in zip((None, *one), one, strict=False) if a != b) for one in sessions.items)
    return replace(sessions, items=tuple(items))


def core(sessions: Sessions, at_least: int) -> Sessions:
    """Without rare items and without sessions of one item, as often as it takes.

    Raises:
        DataError: Nothing is left.
    """
    while len(sessions := sessions.followed()):
        counts = Counter(item for items in sessions.items for item in items)
        if min(counts.values()) >= at_least:
            return sessions
        kept = {item for item, n in counts.items() if n >= at_least}
        sessions = _only(sessions, kept)
    raise DataError(f"{sessions.name}: no item occurs {at_least} times in sessions of two items and more")


def latest(sessions: Sessions, days: int) -> tuple[Sessions, Sessions]:
    """The sessions before the last ``days``, and those that began in them.

    Raises:
        DataError: Sessions have no dates, or all are of those days.
    """
    if sessions.begins is None or not np.issubdtype(sessions.begins.dtype, np.datetime64):
        raise DataError(f"{sessions.name}: sessions must have dates, to be split by days: name their column first")
    day = sessions.begins.astype("datetime64[D]")
    late = day > day.max() - np.timedelta64(days, "D")
    if late.all():
        raise DataError(f"{sessions.name} has sessions of {days} days and no more: nothing is left to learn from")
    return sessions.part(np.flatnonzero(~late)), sessions.part(np.flatnonzero(late))


def drop_unseen_items(train: Sessions, sessions: Sessions) -> Sessions:
    """Without items that training has not seen."""
    return _only(sessions, {item for items in train.items for item in items}).followed()


def _only(sessions: Sessions, kept: set[str]) -> Sessions:
    items = tuple(tuple(item for item in one if item in kept) for one in sessions.items)
    return replace(sessions, items=items)


PROTOCOLS = {"held_out": held_out, "last_days": last_days}
