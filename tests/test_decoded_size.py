"""Limits on what a file takes when decoded, and what is not a regular file: refused before it is decoded or opened."""

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from lstmkit.data import files
from lstmkit.data.audio.audio_io import read_audio
from lstmkit.data.captioned_media import CaptionColumns, read_captioned_media
from lstmkit.data.ink.strokes import read_strokes
from lstmkit.data.labeled_examples import Columns as LabelColumns
from lstmkit.data.labeled_examples import read_labeled_examples
from lstmkit.data.music.piano_rolls import read_piano_rolls
from lstmkit.data.tables import delimited
from lstmkit.data.tables.table import read_file
from lstmkit.data.text.lines import read_text
from lstmkit.data.transcripts import Columns, read_transcripts
from lstmkit.data.vision.image_io import read_grayscale_image
from lstmkit.data.vision.image_set import Size, read_images
from lstmkit.data.vision.video_io import ClipFormat, read_video, write_video
from lstmkit.errors import DataError, SettingError

Reader = Callable[[Path], object]


def _npz(**arrays: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def _claim(shape: tuple[int, ...], values: int) -> bytes:
    """An array that claims a shape, and has fewer values."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue() + bytes(4 * values)


def _image(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("1", size).save(file, "PNG")
    return file.getvalue()


def _flac(samples: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(samples, np.int16), 8000, format="FLAC")
    return file.getvalue()


def _zip(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def _parquet(rows: int) -> bytes:
    return pd.DataFrame({"value": np.zeros(rows)}).to_parquet()


def _repeated(columns: dict[str, Any], encoding: str = "") -> bytes:
    """A Parquet file of few bytes that repeats a text."""
    file = io.BytesIO()
    plain: Any = {"use_dictionary": False, "column_encoding": encoding} if encoding else {}
    pq.write_table(pa.table(columns), file, compression="zstd", **plain)
    return file.getvalue()


MB = 1_000_000
ROWS = b"id,value\n" + MB * b"a,1\n"
BOMBS: list[tuple[str, Reader, bytes]] = [
    ("a.csv.gz", read_file, gzip.compress(ROWS)),
    ("a.jsonl.gz", read_file, gzip.compress(b'{"a": 1}\n' * MB)),
    ("a.parquet", read_file, _parquet(MB)),
    ("repeated.parquet", read_file, _repeated({"text": [1000 * "a"] * 9000})),
    ("list.parquet", read_file, _repeated({"texts": [[1000 * "a", "b"]] * 9000})),
    ("struct.parquet", read_file, _repeated({"record": [{"text": 1000 * "a"}] * 9000})),
    ("prefixes.parquet", read_file, _repeated({"text": [1000 * "a"] * 9000}, "DELTA_BYTE_ARRAY")),
    ("fixed.parquet", read_file, _repeated({"text": pa.array([1000 * b"a"] * 9000, pa.binary(1000))})),
    ("sparse.jsonl", read_file, json.dumps({f"{k}": 1 for k in range(1000)}).encode() + b"\n{}" * 1000),
    ("a.txt.gz", read_text, gzip.compress(bytes([97]) * 6 * MB)),
    ("b.txt.gz", lambda path: read_text(path, whole=True), gzip.compress(bytes([97]) * 6 * MB)),
    ("a.json.gz", read_piano_rolls, gzip.compress(b'{"train": [' + b"[]," * MB + b"[]]}")),
    ("a-idx3-ubyte.gz", lambda path: read_images(path, Size(8, 8)), gzip.compress(bytes(6 * MB))),
    ("a.npz", read_strokes, _npz(strokes=_claim((MB, 3), 3 * MB))),
    ("a.png", read_grayscale_image, _image((3000, 3000))),
    ("b.png", lambda path: read_captioned_media(path, CaptionColumns()), _image((30_000, 30_000))),
    ("a.flac", read_audio, _flac(2 * MB)),
    ("a.zip", lambda path: read_labeled_examples(path, LabelColumns()), _zip("x/a.wav", bytes(6 * MB))),
]


@pytest.mark.parametrize(("name", "read", "content"), BOMBS, ids=[name for name, _, _ in BOMBS])
def test_a_file_that_grows_too_large_is_refused(
    name: str, read: Reader, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(files.DECODED_MB_VARIABLE, "5")
    assert len(content) < MB
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"takes more than 5 MB when decoded|exceeds limit of"):
        read(path)


def test_texts_that_repeat_within_the_limit_are_read(tmp_path: Path):
    """Text, lists, records, categories, bytes, missing values and the index are as pandas reads them."""
    table = pd.DataFrame(
        {
            "text": ["same", None, "same", "other"] * 6000,
            "texts": [["x", "yy"], None, [], ["x", None]] * 6000,
            "record": [{"text": "x", "count": 1}] * 24_000,
            "kind": pd.Categorical(["u", "v", "u", "u"] * 6000),
            "bytes": [b"1", b"22", b"1", None] * 6000,
            "number": np.arange(24_000),
        },
        index=pd.Index(np.arange(24_000) + 7, name="key"),
    )
    table.to_parquet(tmp_path / "a.parquet")
    read = read_file(tmp_path / "a.parquet").frame
    expected = pq.read_table(tmp_path / "a.parquet").to_pandas()
    assert len(read) == 24_000
    pd.testing.assert_frame_equal(read, expected)


@pytest.mark.parametrize("rows", [0, 3])
def test_texts_with_shared_prefixes_are_read(rows: int, tmp_path: Path):
    texts = [f"prefix {k}" for k in range(rows)]
    (tmp_path / "a.parquet").write_bytes(_repeated({"text": pa.array(texts, pa.string())}, "DELTA_BYTE_ARRAY"))
    assert read_file(tmp_path / "a.parquet").frame["text"].tolist() == texts


def _wide(name: str, count: int, path: Path) -> Path:
    names = [f"c{k}" for k in range(count)]
    file = path / name
    if file.suffix == ".parquet":
        pq.write_table(pa.table({name: [1] for name in names}), file)
    elif file.suffix == ".jsonl":
        file.write_text(json.dumps(dict.fromkeys(names, 1)) + "\n")
    else:
        content = f"{','.join(names)}\n{','.join('1' * count)}\n".encode()
        file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.parquet"])
def test_a_table_of_too_many_columns_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each column takes memory, however few rows there are: 0.7 MB took 3.7 GB."""
    monkeypatch.setattr(delimited, "MAX_COLUMNS", 100)
    assert read_file(_wide(name, 100, tmp_path)).frame.shape == (1, 100)
    with pytest.raises(DataError, match=rf"{name} has 101 columns, and a table may have 100: leave out columns"):
        read_file(_wide(name, 101, tmp_path))


def test_each_frame_of_an_animation_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A frame of a GIF may be larger than the first one; its size is checked before it is decoded."""
    file = io.BytesIO()
    frames = [Image.fromarray(np.full((12, 12, 3), shade, dtype=np.uint8)) for shade in (0, 200)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    content = bytearray(file.getvalue())
    second = content.rindex(b"\x2c\0\0\0\0\x0c\0\x0c\0")  # an image descriptor: left, top, width, height
    content[second + 5 : second + 9] = (4000).to_bytes(2, "little") * 2
    (tmp_path / "a.gif").write_bytes(content)
    monkeypatch.setenv(files.DECODED_MB_VARIABLE, "50")
    with pytest.raises(DataError, match=r"a\.gif takes more than 50 MB when decoded"):
        read_video(tmp_path / "a.gif", ClipFormat(8, 8, True, 0))


def test_the_limit_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(ROWS))
    assert len(read_file(path).frame) == MB
    for text in ("", "much", "0", "-1", "1.5", "²"):
        monkeypatch.setenv(files.DECODED_MB_VARIABLE, text)
        with pytest.raises(SettingError, match="is not a whole number of megabytes above 0"):
            read_file(path)


@pytest.mark.parametrize("shape", [(10**12, 3), (10**7, 3), (34, 3)])
def test_arrays_that_claim_more_than_they_have(shape: tuple[int, ...], tmp_path: Path):
    content = _claim(shape, 99)
    (tmp_path / "a.npz").write_bytes(_npz(strokes=content, feats=content, offsets=content, train_rolls=content))
    for read in (read_strokes, lambda path: read_transcripts(path, Columns()), read_piano_rolls):
        with pytest.raises(DataError, match=r"a\.npz, array \w+ claims the shape .*, but its file is smaller"):
            read(tmp_path / "a.npz")


READERS: list[tuple[str, Reader]] = [
    *((f"a{suffix}", read_file) for suffix in (".csv", ".csv.gz", ".jsonl", ".parquet")),
    *((f"a{suffix}", read_text) for suffix in (".txt", ".txt.gz")),
    *((f"a{suffix}", read_strokes) for suffix in (".npz", ".svg", ".csv")),
    *((f"a{suffix}", read_piano_rolls) for suffix in (".npz", ".json", ".mid")),
    *((f"a{suffix}", lambda path: read_transcripts(path, Columns())) for suffix in (".npz", ".zip", ".wav", ".png")),
    *((f"a{suffix}", lambda path: read_labeled_examples(path, LabelColumns())) for suffix in (".zip", ".wav", ".mp4")),
    *((f"a{suffix}", lambda path: read_captioned_media(path, CaptionColumns())) for suffix in (".zip", ".png", ".gif")),
    *((name, lambda path: read_images(path, Size(8, 8))) for name in ("a.zip", "a.png", "a-idx3-ubyte")),
]


@pytest.mark.parametrize(("name", "read"), READERS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(READERS)])
def test_pipes_devices_and_folders_are_not_opened(name: str, read: Reader, tmp_path: Path):
    """Opening a pipe would wait for ever; reading /dev/zero would fill the memory."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="is a pipe or a device"):
        read(tmp_path / name)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / name).symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is a pipe or a device"):
        read(tmp_path / "links" / name)


def test_names_with_a_colon_are_files_and_videos_open_no_other_file(tmp_path: Path):
    write_video(np.full((6, 16, 16), 90, np.uint8), tmp_path / "a:b.mp4")
    write_video(np.full((6, 16, 16), 90, np.uint8), tmp_path / "a.mp4")
    assert len(read_video(tmp_path / "a:b.mp4", ClipFormat(8, 8))) == 6
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{tmp_path}/a.mp4\n#EXT-X-ENDLIST\n"
    for name, text in (
        ("list.m3u8", playlist),
        ("list.mp4", playlist),
        ("concat.mp4", "ffconcat version 1.0\nfile a.mp4\n"),
        ("concat.mkv", f"ffconcat version 1.0\nfile {tmp_path}/a.mp4\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=r"refers to another file|is not a readable video"):
            read_video(tmp_path / name, ClipFormat(8, 8))
