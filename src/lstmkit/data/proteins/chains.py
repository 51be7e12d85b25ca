"""Chains of amino acids, and what is known of their structure: FASTA, tables with a chain or a residue a row, lists."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data.tables.parsing import has_decimal_commas, read_numbers, group_rows
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.text.lines import read_text
from lstmkit.errors import DataError, listing, one_line

#: What may be said of each residue: helix, strand, coil; and DSSP's eight states, ``C`` where it has a blank.
STATES = {"ss3": "HEC", "ss8": "HGIEBTSC"}
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"  #: The twenty amino acids.
UNKNOWN = "BJOUXZ"  #: D or N, I or L, pyrrolysine, selenocysteine, anything, E or Q: rare, and read as unknown.

_FASTA = (".fasta", ".fa", ".faa", ".fas", ".fsa")
_COIL = str.maketrans("-_LP", "CCCC")  # how else a coil is written; P is DSSP 4's, a coil before
_ALLOWED_LETTERS = {
    "sequence": AMINO_ACIDS + UNKNOWN,
    **{name: f"{letters}-_LP" for name, letters in STATES.items()},
    "mask": "01",
}
_INVALID_LETTER = {
    what: re.compile(f"[^{re.escape(letters)}]", re.IGNORECASE | re.ASCII) for what, letters in _ALLOWED_LETTERS.items()
}
_INVALID_MESSAGE = {what: f"is none of {what}'s letters, {letters}" for what, letters in _ALLOWED_LETTERS.items()}
_INVALID_MESSAGE["sequence"] = f"is no residue: residues are {AMINO_ACIDS}, and {UNKNOWN}, which count as unknown"


class Columns(NamedTuple):
    """Which column is what.

    Attributes:
        id: What a chain is called; in a table with a residue a row which rows are one chain.
        sequence: The chains, a row each.
        residue: The residues, a row each, where there are no whole chains.
        ss3, ss8: The states, a letter a residue; need not be there.
        mask: 1 for each residue that is scored, else 0; need not be there.
        profile: Columns of numbers of each residue, in a table with a residue a row.
    """

    id: str = "id"
    sequence: str = "sequence"
    residue: str = "residue"
    ss3: str = "ss3"
    ss8: str = "ss8"
    mask: str = "eval_mask"
    profile: tuple[str, ...] = ()

    def states(self, table: Table) -> list[tuple[str, str]]:
        """The kinds of states that a table has, each with its column."""
        return [(kind, name) for kind, name in zip(STATES, (self.ss3, self.ss8), strict=True) if name in table.frame]


@dataclass(frozen=True, eq=False)
class ProteinChains:
    """Chains, each with at least one residue.

    Attributes:
        ids: What each is called; else its number, from 1.
        sequences: A letter a residue: :data:`AMINO_ACIDS` and :data:`UNKNOWN`.
        name: What messages call them all.
        states: By name (:data:`STATES`) of each chain a letter a residue.
        scored: Of each chain ``(T,)`` bool, which residues are scored; ``None`` for all.
        profile: Of each chain ``(T, F)`` float32; ``None`` where there is none.
        notes: What was done to read them.
    """

    ids: tuple[str, ...]
    sequences: tuple[str, ...]
    name: str
    states: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scored: tuple[np.ndarray, ...] | None = None
    profile: tuple[np.ndarray, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def residues(self) -> int:
        """In all."""
        return sum(map(len, self.sequences))

    def part(self, rows: Sequence[int] | np.ndarray) -> ProteinChains:
        """These chains."""

        def of(each: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(each[i] for i in rows)

        return replace(
            self,
            ids=of(self.ids),
            sequences=of(self.sequences),
            states={name: of(states) for name, states in self.states.items()},
            scored=None if self.scored is None else of(self.scored),
            profile=None if self.profile is None else of(self.profile),
        )

    def told(self) -> Mapping[str, tuple[str, ...]]:
        """The states, of which some must be there.

        Raises:
            DataError: There are none.
        """
        if not self.states:
            raise DataError(
                f"{self.name} says of no residue which state it has: give a table with columns {' or '.join(STATES)}"
            )
        return self.states

    def digest(self) -> str:
        """A fingerprint of all of it."""
        found = hashlib.sha256(repr((self.sequences, sorted(self.states.items()))).encode())
        for array in (*(self.scored or ()), *(self.profile or ())):
            found.update(array.tobytes())
        return found.hexdigest()


def read_protein_chains(data: object, columns: Columns | None = None) -> ProteinChains:
    """A FASTA file, a table, or sequences.

    Lower case is read as upper case. A letter of :data:`UNKNOWN` is read as an unknown residue; any other letter, a gap
    or a stop is refused. A coil may be written ``C``, ``-``, ``_``, ``L`` or ``P``.

    Args:
        data: The path of a FASTA file (``.fasta``, ``.fa``, ``.faa``, ``.fas``, ``.fsa``), whose chains are called by
            the first word of their headers; the path of a table, or a frame, with a chain a row or a residue a row;
            or a list of sequences. Files may be gzipped.
        columns: Of the table.

    Raises:
        DataError: What cannot be read, with chain, position and letter.

    >>> read_protein_chains(["mkvu"]).sequences
    ('MKVU',)
    """
    columns = columns or Columns()
    if isinstance(data, ProteinChains):
        return data
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        if path.with_suffix("" if path.suffix == ".gz" else path.suffix).suffix.lower() in _FASTA:
            return _from_fasta(path)
        return _from_table(read_file(path), columns)
    if isinstance(data, pd.DataFrame):
        return _from_table(Table(data.set_axis(data.columns.map(str), axis=1), "the frame"), columns)
    if not isinstance(data, Sequence) or not all(isinstance(one, str) for one in data):
        raise DataError(f"give the path of a file, a frame, or a list of strings, got {one_line(repr(data))}")
    return _checked([str(i) for i in range(1, len(data) + 1)], [*data], "the list")


def without_shared_kmers(chains: ProteinChains, others: ProteinChains, shared: int) -> list[int]:
    """The rows of chains that have no ``shared`` residues in a row in common with any of the others.

    Unknown residues are like none. Ten in a row are not shared by chance: close relatives have them, distant ones
    need not.

    >>> without_shared_kmers(read_protein_chains(["MKVAY", "MKVGG"]), read_protein_chains(["GGMKVA"]), 4)
    [1]
    """
    known = set().union(*(_stretches(sequence, shared) for sequence in others.sequences))
    return [i for i, sequence in enumerate(chains.sequences) if not known & _stretches(sequence, shared)]


def _stretches(sequence: str, length: int) -> set[str]:
    every = {sequence[i : i + length] for i in range(len(sequence) - length + 1)}
    return {one for one in every if not set(one) & set(UNKNOWN)}


def _from_fasta(path: Path) -> ProteinChains:
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    lines = list(read_text(path, whole=True))
    first = next(line for line in lines if line.strip())
    if not first.startswith(">"):
        raise DataError(f"{path.name} is no FASTA file: a chain begins with a line '>name', this with {first[:40]!r}")
    records = list(SimpleFastaParser(io.StringIO("\n".join(lines))))
    ids = [title.split()[0] if title.split() else str(i) for i, (title, _) in enumerate(records, 1)]
    return _checked(ids, [sequence for _, sequence in records], path.name)


# ---- tables --------------------------------------------------------------------------------------------------------


def _from_table(table: Table, columns: Columns) -> ProteinChains:
    if columns.sequence in table.frame:
        return _from_chain_rows(table, columns)
    if columns.residue in table.frame:
        return _from_residue_rows(table, columns)
    raise DataError(
        f"{table.name} has neither a column {columns.sequence!r} (a chain a row) nor {columns.residue!r} (a residue a "
        f"row; columns: {listing(table.frame.columns)}): give --sequence-col NAME or --residue-col NAME"
    )


def _from_chain_rows(table: Table, columns: Columns) -> ProteinChains:
    if columns.profile:
        raise DataError(
            f"{table.name} has a chain a row: numbers of each residue ({listing(columns.profile)}) are read from a "
            f"table with a residue a row"
        )
    n = len(table.frame)
    named = columns.id in table.frame
    ids = [str(cell) for cell in table.column(columns.id)] if named else [str(i) for i in range(1, n + 1)]
    states = {name: _texts(table, column) for name, column in columns.states(table)}
    mask = _texts(table, columns.mask) if columns.mask in table.frame else None
    return _checked(ids, _texts(table, columns.sequence), table.name, states, mask, notes=table.notes)


def _from_residue_rows(table: Table, columns: Columns) -> ProteinChains:
    """Rows of one id are one chain, in their order."""
    if columns.id not in table.frame:
        known = listing(table.frame.columns)
        raise DataError(f"no column {columns.id!r} in {table.name} (columns: {known}): give --id-col NAME")
    ids, rows = group_rows(table, columns.id)

    def joined(column: str) -> list[str]:
        cells = np.array(_texts(table, column), dtype=object)
        table.raise_if_any(column, np.array([len(cell) != 1 for cell in cells]), "is not one letter")
        return ["".join(cells[of_one]) for of_one in rows]

    states = {name: joined(column) for name, column in columns.states(table)}
    mask = joined(columns.mask) if columns.mask in table.frame else None
    profile = None
    if columns.profile:
        table.decimal_comma = table.decimal_comma and has_decimal_commas(table, columns.profile)
        numbers = [read_numbers(table, name) for name in columns.profile]
        for name, values in zip(columns.profile, numbers, strict=True):
            table.raise_if_any(name, np.isnan(values), "is a missing value: fill it in, or leave the chain out")
        every = np.stack(numbers, 1).astype(np.float32)
        profile = tuple(every[of_one] for of_one in rows)
    return _checked(ids, joined(columns.residue), table.name, states, mask, profile, table.notes)


def _texts(table: Table, column: str) -> list[str]:
    """A column of letters; a whole number is a mask of one residue."""
    cells = table.column(column)
    found = ["" if pd.isna(cell) else str(cell).strip() for cell in cells]
    odd = np.array([not isinstance(cell, (str, int, np.integer)) and not pd.isna(cell) for cell in cells], dtype=bool)
    table.raise_if_any(column, odd, "is not text: read the column as text")
    return found


# ---- checked -------------------------------------------------------------------------------------------------------


def _checked(
    ids: Sequence[str],
    sequences: Sequence[str],
    name: str,
    states: Mapping[str, Sequence[str]] | None = None,
    mask: Sequence[str] | None = None,
    profile: tuple[np.ndarray, ...] | None = None,
    notes: Sequence[str] = (),
) -> ProteinChains:
    """Chains in capitals, once every letter is one that may stand there, and every residue has all that is told."""
    if not sequences:
        raise DataError(f"{name} has no chains")
    where = [f"{name}: chain {of_one!r}" for of_one in ids]
    for place, sequence in zip(where, sequences, strict=True):
        if not sequence:
            raise DataError(f"{place} has no residues: leave it out")

    def beside(what: str, of_each: Sequence[str]) -> tuple[str, ...]:
        for place, sequence, one in zip(where, sequences, of_each, strict=True):
            if len(one) != len(sequence):
                raise DataError(
                    f"{place} has {len(sequence):,} residues and {len(one):,} letters of {what}: there must be one "
                    "for each"
                )
        return _to_upper_case(what, of_each, where)

    return ProteinChains(
        tuple(ids),
        _to_upper_case("sequence", sequences, where),
        name,
        {what: tuple(s.translate(_COIL) for s in beside(what, of_each)) for what, of_each in (states or {}).items()},
        None if mask is None else tuple(np.array([*one]) == "1" for one in beside("mask", mask)),
        profile,
        tuple(notes),
    )


def _to_upper_case(what: str, of_each: Sequence[str], where: Sequence[str]) -> tuple[str, ...]:
    for place, one in zip(where, of_each, strict=True):
        if wrong := _INVALID_LETTER[what].search(one):
            letter, position = wrong.group(), wrong.start() + 1
            hint = " (take gaps and stops out)" if what == "sequence" and letter in "-.*" else ""
            raise DataError(f"{place}, position {position}: {letter!r} {_INVALID_MESSAGE[what]}{hint}")
    return tuple(one.upper() for one in of_each)
