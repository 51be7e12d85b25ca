"""How a file is shown, by what it holds: a table, a text, sound, images, video, pen strokes or music."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data import zip_archive
from lstmkit.data.audio import audio_io
from lstmkit.data.audio.audio_io import AudioClip, encode_audio, read_audio
from lstmkit.data.files import load_npz, reading
from lstmkit.data.folders import visible_files
from lstmkit.data.ink.svg import read_svg
from lstmkit.data.music.midi import FILE_SUFFIXES as MIDI_SUFFIXES
from lstmkit.data.music.midi import note_name, read_midi
from lstmkit.data.tables.parsing import parse_numbers
from lstmkit.data.tables.table import TABLES, Table, read_file
from lstmkit.data.tables.timestamps import read_timestamps
from lstmkit.data.text_files import open_text, text_suffix
from lstmkit.data.vision import image_io, video_io
from lstmkit.data.vision.idx import read_idx_file
from lstmkit.errors import DataError, UserError
from lstmkit.studio import charts
from lstmkit.studio.charts import Chart
from lstmkit.studio.columns import TableColumns

_MAX_ROWS, _MAX_COLUMNS, _MAX_CELL = 8, 12, 200  # of a table
_MAX_SERIES = 6  # panels of a chart
_MAX_LINES, _MAX_LINE = 20, 300  # of a text
_MAX_BARS = 20
_MAX_SECONDS = 30.0  # of a clip that can be played
_WAVEFORM_POINTS = 2000
_IMAGE_SIDE = 240  # pixels of an image
_MAX_LISTED = 12  # files of a folder or an archive


@dataclass(frozen=True)
class Drawing:
    """What a page shows of a file; parts that it does not have are empty.

    Attributes:
        summary: One line, such as the number of rows.
        chart: A chart.
        caption: What the chart shows, also for screen readers.
        image: A PNG image as base64.
        audio: A WAV file as base64.
        columns: Names of the columns of a table.
        rows: Its first rows.
        text: The first lines of a text.
        names: Names of the files in a folder or an archive.
    """

    summary: str = ""
    chart: Chart | None = None
    caption: str = ""
    image: str = ""
    audio: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    text: str = ""
    names: Sequence[str] = ()


def draw(path: Path) -> Drawing:
    """Show a file or a folder.

    Raises:
        DataError: The file cannot be read.
        MissingLibraryError: The library for its format is not installed.
    """
    if path.is_dir():
        return _folder(path)
    suffix = text_suffix(path)
    for suffixes, function in _BY_SUFFIX:
        if suffix in suffixes:
            return function(path)
    if "ubyte" in path.name:
        return _idx(path)
    return _text(path)


def read_columns(path: Path) -> TableColumns | None:
    """The columns of a file; ``None`` if it is no table.

    Raises:
        DataError: The file has the ending of a table and cannot be read.
    """
    is_table = path.is_file() and any(each.matches(path) for each in TABLES) and text_suffix(path) != ".txt"
    return TableColumns.of(read_file(path)) if is_table else None


# ---- tables and texts ------------------------------------------------------------------------------------------------


def _table(path: Path) -> Drawing:
    table = read_file(path)
    frame = table.frame
    columns = TableColumns.of(table)
    head = frame.iloc[:_MAX_ROWS, :_MAX_COLUMNS]
    shown = Drawing(
        f"{len(frame):,} rows, {frame.shape[1]} columns",
        columns=[str(name) for name in head.columns],
        rows=[["" if pd.isna(cell) else _shortened(str(cell), _MAX_CELL) for cell in row] for row in head.to_numpy()],
    )
    if {"x", "y", "pen"} <= set(columns.names):
        return replace(shown, **_pen_table(table))
    if columns.numbers:
        return replace(shown, **_series(table, columns))
    labels = next((n for n in columns.labels if frame[n].nunique() <= _MAX_BARS), "")
    if labels:
        counts = frame[labels].astype(str).value_counts().to_dict()
        return replace(shown, chart=charts.bars(counts, f"rows by {labels}"), caption=f"Rows by {labels}")
    return shown


def _series(table: Table, columns: TableColumns) -> dict[str, Any]:
    """The first columns of numbers over time; if times repeat, the first such column of each series."""
    names = columns.numbers[:_MAX_SERIES]
    x, x_name = _times(table, columns)
    values = {name: parse_numbers(table, name)[0] for name in names}
    group = next((n for n in columns.labels if n not in columns.numbers), "")
    if group and pd.Index(x).has_duplicates:
        ids = table.frame[group].astype(str).to_numpy()
        first = list(dict.fromkeys(ids))[:_MAX_SERIES]
        order = {id: np.flatnonzero(ids == id) for id in first}
        traces = [charts.line(x[rows], values[names[0]][rows], id, k) for k, (id, rows) in enumerate(order.items())]
        return {
            "chart": charts.lines(traces, x_name, names[0]),
            "caption": f"{names[0]} of the first {len(first)} series over {x_name}",
        }
    return {"chart": charts.panels(x, values), "caption": f"{', '.join(names)} over {x_name}"}


def _times(table: Table, columns: TableColumns) -> tuple[np.ndarray, str]:
    for name in columns.dates:
        try:
            times: Any = read_timestamps(replace(table, notes=[]), name)
        except DataError:  # a later row is no date: the job says so when it reads the table
            continue
        return np.array([time.isoformat() for time in times]), name
    return np.arange(len(table.frame)), "row"


def _pen_table(table: Table) -> dict[str, Any]:
    """The first drawing of a table of pen points."""
    frame = table.frame
    rows = frame["id"].astype(str) == str(frame["id"].iloc[0]) if "id" in frame else np.ones(len(frame), dtype=bool)
    points = np.column_stack([parse_numbers(table, name)[0] for name in ("x", "y", "pen")])[np.asarray(rows)]
    return {"chart": charts.drawing(_strokes(points[:, :2], points[:, 2])), "caption": "The first drawing"}


def _text(path: Path) -> Drawing:
    with reading(path.name), open_text(path) as file:
        first = list(itertools.islice(file, _MAX_LINES))
        count = len(first) + sum(1 for _ in file)
    if any("\0" in line for line in first):
        raise DataError(f"{path.name} is not a text file: give a text file")
    return Drawing(f"{count:,} lines", text="\n".join(_shortened(line.rstrip("\r\n"), _MAX_LINE) for line in first))


def _table_or_text(path: Path) -> Drawing:
    """A ``.txt`` file: a table if it has several columns."""
    try:
        drawing = _table(path)
    except DataError:
        return _text(path)
    return drawing if len(drawing.columns) > 1 and len(drawing.rows) > 1 else _text(path)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


# ---- sound, images, video ------------------------------------------------------------------------------------------


def _audio(path: Path) -> Drawing:
    return _clip(read_audio(path))


def _clip(clip: AudioClip) -> Drawing:
    """The waveform, and the clip to be played."""
    samples = clip.samples
    size = max(1, len(samples) // (_WAVEFORM_POINTS // 2))
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    envelope = np.stack([blocks.min(axis=1), blocks.max(axis=1)], axis=1).ravel()
    seconds = np.repeat(np.arange(len(blocks)), 2) * size / clip.sample_rate
    played = replace(clip, samples=samples[: int(_MAX_SECONDS * clip.sample_rate)])
    return Drawing(
        f"{clip.seconds:.2f} seconds at {clip.sample_rate:,} Hz",
        charts.lines([charts.line(seconds, envelope, "")], "seconds", "amplitude", 200),
        "Waveform",
        audio=_base64(encode_audio(played)),
    )


def _image(path: Path) -> Drawing:
    if image_io.is_animated(path):
        return _video(path)
    pixels = image_io.read_image(path, _IMAGE_SIDE, _IMAGE_SIDE)
    return Drawing(image=_png_of(pixels), caption="The image")


def _video(path: Path) -> Drawing:
    clip = video_io.read_video(path, video_io.ClipFormat(120, 160, True, 2.0))
    chosen = np.linspace(0, len(clip) - 1, min(6, len(clip))).astype(int)
    sheet = np.concatenate([np.concatenate(clip.frames[chosen[k : k + 3]], axis=1) for k in _full_rows(len(chosen))])
    return Drawing(f"{clip.seconds:.1f} seconds", image=_png_of(sheet), caption="Frames from first to last")


def _full_rows(count: int) -> list[int]:
    return [0, 3] if count == 6 else [0]


def _idx(path: Path) -> Drawing:
    images = read_idx_file(path)
    if images.ndim != 3:
        return Drawing(f"{len(images):,} labels")
    return Drawing(
        f"{len(images):,} images", image=_png_of(np.concatenate(images[:10], axis=1)), caption="First images"
    )


def file_as_png(path: Path) -> str:
    """A PNG file as base64."""
    return _base64(path.read_bytes())


def _png_of(pixels: np.ndarray) -> str:
    content = io.BytesIO()
    image_io.import_pillow("PIL.Image").fromarray(pixels).save(content, "PNG")
    return _base64(content.getvalue())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


# ---- strokes and music ---------------------------------------------------------------------------------------------


def _svg(path: Path) -> Drawing:
    strokes = read_svg(path)
    return Drawing(f"{len(strokes)} strokes", charts.drawing(strokes), "The drawing")


def _npz(path: Path) -> Drawing:
    arrays = load_npz(path, "arrays")
    summary = ", ".join(f"{name} {' × '.join(map(str, array.shape))}" for name, array in arrays.items())
    found = next((name for name in arrays if name.endswith("strokes")), "")
    offsets = arrays.get(found.replace("strokes", "offsets"), np.zeros(0, dtype=int))
    if not found or len(offsets) < 2:
        return Drawing(_shortened(summary, 300))
    points = arrays[found][int(offsets[0]) : int(offsets[1])].astype(float)
    strokes = _strokes(np.cumsum(points[:, :2], axis=0), points[:, 2])
    return Drawing(f"{len(offsets) - 1:,} drawings", charts.drawing(strokes), "The first drawing")


def _strokes(positions: np.ndarray, lifted: np.ndarray) -> list[np.ndarray]:
    """The strokes of a pen at ``(N, 2)`` positions, which ends a stroke where ``lifted`` is 1."""
    ends = np.flatnonzero(lifted[:-1] > 0) + 1
    return [stroke for stroke in np.split(positions, ends) if len(stroke) > 1]


def _midi(path: Path) -> Drawing:
    music = read_midi(path, 0.25)
    keys = np.flatnonzero(music.roll.any(axis=0))
    rows = slice(int(keys[0]), int(keys[-1]) + 1)
    names = [note_name(key) for key in range(rows.start, rows.stop)]
    chart = charts.heat_map(music.roll[:, rows].T, x_title="sixteenth notes", rows=names)
    return Drawing(f"{len(music.roll) / 4:.0f} quarter notes at {music.tempo:.0f} per minute", chart, "Piano roll")


# ---- several files -------------------------------------------------------------------------------------------------


def _folder(path: Path) -> Drawing:
    files = visible_files(path)
    first = _first_drawn(files)
    names = [file.relative_to(path).as_posix() for file in files]
    return replace(first, summary=f"{len(files):,} files", names=names[:_MAX_LISTED])


def _first_drawn(files: Sequence[Path]) -> Drawing:
    for file in files[:_MAX_LISTED]:
        try:
            drawing = draw(file)
        except UserError:  # shown by name only; the job says what is wrong with it
            continue
        return replace(drawing, caption=f"{file.name}: {drawing.caption or drawing.summary}")
    return Drawing()


def _zip(path: Path) -> Drawing:
    with zip_archive.open_zip(path) as archive:
        names = zip_archive.file_names(archive)
        shown = Drawing(f"{len(names):,} files", names=names[:_MAX_LISTED])
        for name in names:
            suffix = PurePosixPath(name).suffix.lower()
            if suffix in audio_io.FILE_SUFFIXES:
                clip = read_audio(zip_archive.read_member(archive, name, path.name), name=name)
                return replace(_clip(clip), summary=shown.summary, names=shown.names, caption=f"{name}: waveform")
            if suffix in image_io.FILE_SUFFIXES:
                content = zip_archive.read_member(archive, name, path.name)
                image = image_io.read_image(content, _IMAGE_SIDE, _IMAGE_SIDE, name=name)
                return replace(shown, image=_png_of(image), caption=name)
    return shown


_BY_SUFFIX: tuple[tuple[Sequence[str], Callable[[Path], Drawing]], ...] = (
    ((".csv", ".tsv", ".inter", ".jsonl", ".parquet"), _table),
    ((".txt",), _table_or_text),
    (audio_io.FILE_SUFFIXES, _audio),
    (image_io.FILE_SUFFIXES, _image),
    (video_io.FILE_SUFFIXES, _video),
    (MIDI_SUFFIXES, _midi),
    ((".svg",), _svg),
    ((".npz",), _npz),
    ((".zip",), _zip),
)
