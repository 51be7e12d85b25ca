"""Answers of a job as a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lstmkit.errors import UserError

#: Endings of formats that are not text, or text of another kind: a file with such a name would not be what it says.
_OTHER_FORMATS = frozenset(
    (
        *(".parquet", ".feather", ".arrow", ".avro", ".orc", ".xlsx", ".xls", ".ods", ".db", ".sqlite"),
        *(".npy", ".npz", ".pkl", ".pt", ".h5", ".hdf5", ".mat", ".safetensors", ".onnx"),
        *(".gz", ".zip", ".bz2", ".xz", ".zst", ".tar", ".7z"),
        *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".svg", ".pdf", ".ps", ".eps"),
        *(".wav", ".mp3", ".flac", ".ogg", ".m4a", ".aac", ".mid", ".midi"),
        *(".mp4", ".avi", ".mkv", ".mov", ".webm", ".doc", ".docx", ".odt", ".rtf", ".html", ".htm", ".xml", ".yaml"),
    )
)


def write_answers(path: Path, text: Callable[[], str], records: Callable[[], list[dict[str, Any]]]) -> None:
    """Write JSON (``.json``), a JSON object per line (``.jsonl``), or with other endings the text.

    Raises:
        UserError: The ending is that of a format which neither is.
    """
    ending = path.suffix.lower()
    if ending == ".json":
        answer = json.dumps(records(), indent=2, default=str)
    elif ending in (".jsonl", ".ndjson"):
        answer = "\n".join(json.dumps(record, default=str) for record in records())
    else:
        answer = text()
        if ending in _OTHER_FORMATS or (ending in (".tsv", ".tab") and "\t" not in answer):
            raise UserError(f"{path}: the answers are not written as {ending}: give .csv or .txt for text, or .json")
    path.write_text(answer + "\n", encoding="utf-8")
