"""Read Parquet files with bounded memory: a few bytes may stand for a long text that many rows repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from lstmkit.data.files import check_decoded_size, check_regular_file, max_decoded_bytes
from lstmkit.data.tables.delimited import check_column_count

_compute: Any = pyarrow.compute  # its functions are made at run time
_ROWS_PER_BATCH = 10_000
_DICTIONARIES = {"RLE_DICTIONARY", "PLAIN_DICTIONARY"}  # encodings that write a repeated text once
_PREFIXES = "DELTA_BYTE_ARRAY"  # the encoding that writes a prefix shared with the previous text once


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file as a frame.

    Sizes that the file states are checked first. Repeated texts are read as indices into a dictionary, batch by batch,
    and are written out only after their size has been checked.

    Raises:
        DataError: The file is not a regular file, has too many columns, or takes too much memory.
    """
    with pyarrow.parquet.ParquetFile(check_regular_file(path)) as file:
        schema, chunks = file.schema_arrow, _checked_chunks(file, path.name)
    repeated = {
        chunk.path_in_schema
        for chunk in chunks
        if chunk.physical_type == "BYTE_ARRAY" and _DICTIONARIES.intersection(chunk.encodings)
    }
    prefixed = [chunk for chunk in chunks if _PREFIXES in chunk.encodings]
    columns = sorted(repeated - {chunk.path_in_schema for chunk in prefixed})  # Arrow has no dictionary of prefixes
    longest = max((chunk.total_uncompressed_size for chunk in prefixed), default=1)  # that a text can be
    rows = max(1, min(_ROWS_PER_BATCH, max_decoded_bytes() // max(longest, 1)))
    size, parts = 0, [schema.empty_table()]
    with pyarrow.parquet.ParquetFile(path, read_dictionary=columns) as file:
        for batch in file.iter_batches(rows):
            size += sum(map(_decoded_bytes, batch.columns))
            check_decoded_size(size, path.name)
            parts.append(pa.Table.from_batches([batch]).cast(schema))
    frame: Any = pa.concat_tables(parts).to_pandas()
    return frame.set_axis(frame.columns.map(str), axis=1)


def _checked_chunks(file: Any, name: str) -> list[Any]:
    """Metadata of the column chunks of a file.

    Raises:
        DataError: The file states that it has too many columns, or that it takes too much memory.
    """
    metadata = file.metadata
    check_column_count(metadata.num_columns, name)
    chunks, size = [], 0
    for column in range(metadata.num_columns):
        bytes_per_value = max(8, file.schema.column(column).length)  # 0 for texts, whose sizes differ
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(column)
            chunks.append(chunk)
            size += max(chunk.total_uncompressed_size, bytes_per_value * chunk.num_values)
    check_decoded_size(max(size, 8 * metadata.num_rows * metadata.num_columns), name)
    return chunks


def _decoded_bytes(column: pa.Array) -> int:
    """Memory of a column, in bytes, once its dictionaries are written out."""
    kind: Any = column.type
    if pa.types.is_dictionary(kind):
        values: Any = column.dictionary
        if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)):
            return column.nbytes
        lengths = _compute.binary_length(values).cast(pa.int64())
        return _compute.sum(lengths.take(column.indices)).as_py() or 0
    if pa.types.is_map(kind):
        return column.nbytes + _decoded_bytes(column.keys) + _decoded_bytes(column.items)
    if pa.types.is_struct(kind):
        return column.nbytes + sum(map(_decoded_bytes, column.flatten()))
    if pa.types.is_nested(kind):
        return column.nbytes + _decoded_bytes(column.flatten())
    return column.nbytes
