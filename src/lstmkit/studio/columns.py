"""Which columns of a table the settings of a job may mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lstmkit import settings
from lstmkit.data.tables.parsing import dated_and_numeric_columns
from lstmkit.data.tables.table import Table
from lstmkit.jobs.settings import JobSettings

_SAMPLE = 1000  # rows from which columns are guessed


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table by what they hold.

    Attributes:
        names: All columns.
        dates: Columns of dates.
        numbers: Columns of numbers, dates not among them.
        texts: All others, the longest texts first.
        labels: Columns that repeat their values, the fewest different values first.
    """

    names: Sequence[str]
    dates: Sequence[str]
    numbers: Sequence[str]
    texts: Sequence[str]
    labels: Sequence[str]

    @classmethod
    def of(cls, table: Table) -> TableColumns:
        """What the first rows of a table show."""
        names = list(dict.fromkeys(map(str, table.frame.columns)))
        dates, numbers = dated_and_numeric_columns(table)
        frame = table.frame.loc[:, ~table.frame.columns.duplicated()].head(_SAMPLE)
        as_text = {name: frame[name].astype(str) for name in names}
        texts = [name for name in names if name not in (*dates, *numbers)]
        repeated = [name for name in names if name not in dates and 1 < as_text[name].nunique() <= len(frame) / 2]
        return cls(
            names,
            dates,
            [name for name in numbers if name not in dates],
            sorted(texts, key=lambda name: -as_text[name].str.len().mean()),
            sorted(repeated, key=lambda name: as_text[name].nunique()),
        )

    def guesses(self, cls: type[JobSettings]) -> dict[str, str]:
        """The likely column of each setting whose default is no column of the table.

        No column is guessed twice, and none that is the default of another setting.

        >>> from lstmkit.jobs.settings import settings_of
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"day": ["2024-01-01", "2024-01-02"], "price": ["1", "2.5"]})
        >>> TableColumns.of(Table(frame, "the frame")).guesses(settings_of("forecaster"))
        {'time_col': 'day', 'target_col': 'price'}
        """
        fields = {
            name: field
            for name, field in settings.declared(cls).items()
            if "column" in field.metadata["names"] and settings.type_of(cls, name) is str
        }
        taken = {field.default for field in fields.values() if field.default in self.names}
        guesses = {}
        for name, field in fields.items():
            kind = field.metadata["names"]
            free = [column for column in self._candidates[kind] if column not in taken]
            if field.default in self.names or kind == "column":
                continue
            if free:
                guesses[name] = free[0]
                taken.add(free[0])
            elif kind == "date column":
                guesses[name] = ""  # the rows are the time steps
        return guesses

    @property
    def _candidates(self) -> Mapping[str, Sequence[str]]:
        return {
            "column": (),
            "date column": self.dates,
            "number column": self.numbers,
            "text column": self.texts,
            "label column": [*self.labels, *self.texts],
        }
