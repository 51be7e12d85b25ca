"""Protein chains with secondary structure: FASTA, tables with one chain or one residue per row, lists."""

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

from lstmkit.data.files import reading
from lstmkit.data.formats import UTF, DataFormat, check_format
from lstmkit.data.proteins.residues import AMINO_ACIDS, STATES, UNKNOWN
from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.data.tables.parsing import group_rows, read_numbers
from lstmkit.data.tables.table import TABLES, Table, read_file
from lstmkit.data.text.lines import read_text
from lstmkit.errors import DataError, listing, one_line
from lstmkit.libraries import imports_of

_FASTA = DataFormat(
    "FASTA",
    (".fasta", ".fa", ".faa", ".fas", ".fsa"),
    gzip=True,
    encoding=UTF,
    notes="A line >ID begins a chain. The states come from a table only.",
)
FORMATS = (_FASTA, *TABLES)  #: Formats of protein chains.
_COIL = str.maketrans("-_LP", "CCCC")  # other codes of coil; P is new in DSSP 4
_ALLOWED_LETTERS = {
    "sequence": AMINO_ACIDS + UNKNOWN,
    **{name: f"{letters}-_LP" for name, letters in STATES.items()},
    "mask": "01",
}
_INVALID_LETTER = {
    what: re.compile(f"[^{re.escape(letters)}]", re.IGNORECASE | re.ASCII) for what, letters in _ALLOWED_LETTERS.items()
}
_INVALID_MESSAGE = {what: f"is not a letter of {what}: give {letters}" for what, letters in _ALLOWED_LETTERS.items()}
_INVALID_MESSAGE["sequence"] = f"is not a residue: give {AMINO_ACIDS}, or {UNKNOWN} (read as unknown)"


class Columns(NamedTuple):
    """Columns of a table of protein chains.

    Attributes:
        id: Chain id. In a table with one residue per row, rows with the same id are one chain.
        sequence: Sequences, one chain per row.
        residue: Residues, one per row, if there is no column of sequences.
        ss3, ss8: States, one letter per residue; optional.
        mask: 1 for residues that are scored, else 0; optional.
        profile: Numeric columns, one value per residue, in a table with one residue per row.
    """

    id: str = "id"
    sequence: str = "sequence"
    residue: str = "residue"
    ss3: str = "ss3"
    ss8: str = "ss8"
    mask: str = "eval_mask"
    profile: tuple[str, ...] = ()

    def states(self, table: Table) -> list[tuple[str, str]]:
        """Names of the state alphabets in a table, with their columns."""
        return [(kind, name) for kind, name in zip(STATES, (self.ss3, self.ss8), strict=True) if name in table.frame]


@dataclass(frozen=True, eq=False)
class ProteinChains:
    """Protein chains, each with at least one residue.

    Attributes:
        ids: Chain ids; by default numbers from 1.
        sequences: One letter per residue: :data:`AMINO_ACIDS` and :data:`UNKNOWN`.
        name: Name of the data in messages.
        states: By alphabet (:data:`STATES`): for each chain one letter per residue.
        scored: For each chain ``(T,)`` bool, the residues that are scored; ``None`` for all.
        profile: For each chain ``(T, F)``; ``None`` without profiles.
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
        """Total number of residues."""
        return sum(map(len, self.sequences))

    def subset(self, rows: Sequence[int] | np.ndarray) -> ProteinChains:
        """The chains ``rows``."""

        def select(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[i] for i in rows)

        return replace(
            self,
            ids=select(self.ids),
            sequences=select(self.sequences),
            states={name: select(states) for name, states in self.states.items()},
            scored=None if self.scored is None else select(self.scored),
            profile=None if self.profile is None else select(self.profile),
        )

    def require_states(self) -> Mapping[str, tuple[str, ...]]:
        """The states by alphabet.

        Raises:
            DataError: There are no states.
        """
        if not self.states:
            raise DataError(f"{self.name} has no secondary structure: give a table with a column {' or '.join(STATES)}")
        return self.states

    def digest(self) -> str:
        """SHA-256 of all chains."""
        digest = hashlib.sha256(repr((self.sequences, sorted(self.states.items()))).encode())
        for array in (*(self.scored or ()), *(self.profile or ())):
            digest.update(array.tobytes())
        return digest.hexdigest()


def read_protein_chains(data: object, columns: Columns | None = None) -> ProteinChains:
    """Read protein chains from a FASTA file, a table, or a list of sequences.

    Lower case is converted to upper case. Letters of :data:`UNKNOWN` are unknown residues; other letters, gaps and
    stops raise an error. Coil may be written ``C``, ``-``, ``_``, ``L`` or ``P``.

    Args:
        data: The path of a FASTA file (``.fasta``, ``.fa``, ``.faa``, ``.fas``, ``.fsa``), where a chain id is the
            first word of a header; the path of a table, or a frame, with one chain or one residue per row; or a list
            of sequences. Files may be gzipped.
        columns: Columns of a table.

    Raises:
        DataError: The data cannot be read. The message names chain, position and letter.

    >>> read_protein_chains(["mkvu"]).sequences
    ('MKVU',)
    """
    data = as_pandas(data)
    columns = columns or Columns()
    if isinstance(data, ProteinChains):
        return data
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        check_format(path, FORMATS)
        if _FASTA.matches(path):
            return _from_fasta(path)
        return _from_table(read_file(path), columns)
    if isinstance(data, pd.DataFrame):
        return _from_table(Table(data.set_axis(data.columns.map(str), axis=1), "the frame"), columns)
    if not isinstance(data, Sequence) or not all(isinstance(sequence, str) for sequence in data):
        raise DataError(f"give a path, a frame, or a list of strings, not {one_line(repr(data))}")
    return _validated([str(i) for i in range(1, len(data) + 1)], [*data], "the list")


def without_shared_kmers(chains: ProteinChains, others: ProteinChains, k: int) -> list[int]:
    """Indices of the chains that share no ``k``-mer with any of the other chains, ``k`` being ``k``.

    K-mers with unknown residues never match. A shared 10-mer is a sign of homology; distant homologs may have none.

    >>> without_shared_kmers(read_protein_chains(["MKVAY", "MKVGG"]), read_protein_chains(["GGMKVA"]), 4)
    [1]
    """
    other_kmers = set().union(*(_kmers(sequence, k) for sequence in others.sequences))
    return [i for i, sequence in enumerate(chains.sequences) if not other_kmers & _kmers(sequence, k)]


def _kmers(sequence: str, length: int) -> set[str]:
    kmers = {sequence[i : i + length] for i in range(len(sequence) - length + 1)}
    return {kmer for kmer in kmers if not set(kmer) & set(UNKNOWN)}


def _from_fasta(path: Path) -> ProteinChains:
    with imports_of("proteins", "a FASTA file"):
        from Bio.SeqIO.FastaIO import SimpleFastaParser

    lines = list(read_text(path, whole=True))
    first = next(line for line in lines if line.strip())
    if not first.startswith(">"):
        raise DataError(
            f"{path.name} is not a FASTA file: it begins with {first[:40]!r}: begin each chain with a line '>name'"
        )
    with reading(path.name, "is not a readable FASTA file", "begin each chain with a line '>name'"):
        records = list(SimpleFastaParser(io.StringIO("\n".join(lines))))
    ids = [title.split()[0] if title.split() else str(i) for i, (title, _) in enumerate(records, 1)]
    return _validated(ids, [sequence for _, sequence in records], path.name)


# ---- tables --------------------------------------------------------------------------------------------------------


def _from_table(table: Table, columns: Columns) -> ProteinChains:
    if columns.sequence in table.frame:
        return _from_chain_rows(table, columns)
    if columns.residue in table.frame:
        return _from_residue_rows(table, columns)
    raise DataError(
        f"{table.name} has neither a column {columns.sequence!r} (one chain per row) nor {columns.residue!r} (one "
        f"residue per row; columns: {listing(table.frame.columns)}): give sequence_col=NAME or residue_col=NAME"
    )


def _from_chain_rows(table: Table, columns: Columns) -> ProteinChains:
    if columns.profile:
        raise DataError(
            f"{table.name} has one chain per row: profile columns ({listing(columns.profile)}) need one residue per "
            f"row: give such a table, or no profile_cols"
        )
    n_rows = len(table.frame)
    has_ids = columns.id in table.frame
    ids = [str(cell) for cell in table.column(columns.id)] if has_ids else [str(i) for i in range(1, n_rows + 1)]
    states = {name: _texts(table, column) for name, column in columns.states(table)}
    mask = _texts(table, columns.mask) if columns.mask in table.frame else None
    return _validated(ids, _texts(table, columns.sequence), table.name, states, mask, notes=table.notes)


def _from_residue_rows(table: Table, columns: Columns) -> ProteinChains:
    """Rows with the same id are one chain, in table order."""
    if columns.id not in table.frame:
        known = listing(table.frame.columns)
        raise DataError(f"no column {columns.id!r} in {table.name} (columns: {known}): give id_col=NAME")
    ids, rows = group_rows(table, columns.id)

    def joined_letters(column: str) -> list[str]:
        cells = np.array(_texts(table, column), dtype=object)
        table.raise_if_any(
            column, np.array([len(cell) != 1 for cell in cells]), "is not one letter: give one letter per row"
        )
        return ["".join(cells[chain_rows]) for chain_rows in rows]

    states = {name: joined_letters(column) for name, column in columns.states(table)}
    mask = joined_letters(columns.mask) if columns.mask in table.frame else None
    profile = None
    if columns.profile:
        numbers = [read_numbers(table, name) for name in columns.profile]
        for name, values in zip(columns.profile, numbers, strict=True):
            table.raise_if_any(name, np.isnan(values), "is a missing value: fill it in, or remove the chain")
        values = np.stack(numbers, 1)
        profile = tuple(values[chain_rows] for chain_rows in rows)
    return _validated(ids, joined_letters(columns.residue), table.name, states, mask, profile, table.notes)


def _texts(table: Table, column: str) -> list[str]:
    """A column of letters as text. A whole number is the mask of one residue."""
    cells = table.column(column)
    texts = ["" if pd.isna(cell) else str(cell).strip() for cell in cells]
    not_text = np.array(
        [not isinstance(cell, (str, int, np.integer)) and not pd.isna(cell) for cell in cells], dtype=bool
    )
    table.raise_if_any(column, not_text, "is not text: convert the column to text")
    return texts


# ---- checks --------------------------------------------------------------------------------------------------------


def _validated(
    ids: Sequence[str],
    sequences: Sequence[str],
    name: str,
    states: Mapping[str, Sequence[str]] | None = None,
    mask: Sequence[str] | None = None,
    profile: tuple[np.ndarray, ...] | None = None,
    notes: Sequence[str] = (),
) -> ProteinChains:
    """Check all letters and lengths, and build chains in upper case."""
    if not sequences:
        raise DataError(f"{name} has no chains: give at least one")
    where = [f"{name}: chain {chain_id!r}" for chain_id in ids]
    for place, sequence in zip(where, sequences, strict=True):
        if not sequence:
            raise DataError(f"{place} has no residues: remove it")

    def aligned(what: str, annotations: Sequence[str]) -> tuple[str, ...]:
        for place, sequence, letters in zip(where, sequences, annotations, strict=True):
            if len(letters) != len(sequence):
                raise DataError(
                    f"{place} has {len(sequence):,} residues and {len(letters):,} letters of {what}: give one letter "
                    "per residue"
                )
        return _to_upper_case(what, annotations, where)

    return ProteinChains(
        tuple(ids),
        _to_upper_case("sequence", sequences, where),
        name,
        {what: tuple(s.translate(_COIL) for s in aligned(what, letters)) for what, letters in (states or {}).items()},
        None if mask is None else tuple(np.array([*letters]) == "1" for letters in aligned("mask", mask)),
        profile,
        tuple(notes),
    )


def _to_upper_case(what: str, texts: Sequence[str], where: Sequence[str]) -> tuple[str, ...]:
    """Check the letters of sequences, states or masks, and convert them to upper case."""
    for place, text in zip(where, texts, strict=True):
        if invalid := _INVALID_LETTER[what].search(text):
            letter, position = invalid.group(), invalid.start() + 1
            hint = "; remove gaps and stops" if what == "sequence" and letter in "-.*" else ""
            raise DataError(f"{place}, position {position}: {letter!r} {_INVALID_MESSAGE[what]}{hint}")
    return tuple(text.upper() for text in texts)
