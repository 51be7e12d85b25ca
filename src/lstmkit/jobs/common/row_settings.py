"""The settings of jobs that read tables of rows by entity."""

from __future__ import annotations

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import setting, settings_class


@settings_class
class RowSettings(JobSettings):
    """Which columns of a table are read, and as what: see :mod:`lstmkit.data.tables.row_sequences`."""

    id_col: str = setting(
        "column of the id of an entity, such as a card or a machine; without one the table is one sequence",
        default="id",
        group="data",
        names="column",
    )
    time_col: str = setting(
        "column of dates or numbers that orders the rows of an entity; without one they are in the order of the table",
        default="time",
        group="data",
        names="date column",
    )
    numeric_cols: tuple[str, ...] = setting(
        "columns of numbers to read; if empty, all columns without another role are read",
        default=(),
        group="data",
        names="number column",
    )
    categorical_cols: tuple[str, ...] = setting(
        "columns of categories to read, also if they are written as numbers", default=(), group="data", names="column"
    )
    ignored_cols: tuple[str, ...] = setting("columns to leave out", default=(), group="data", names="column")
    time_features: bool = setting(
        "read the time since the last row, if it varies, and with dates the time of day, of the week and of the year",
        default=True,
        group="data",
    )
    min_count: int = setting(
        "minimum occurrences of a category in the training data to be known", default=1, group="data", low=1
    )
