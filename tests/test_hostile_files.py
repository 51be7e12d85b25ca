"""Damaged and hostile files: every reader answers or raises one line, in bounded time and memory.

``make fuzz`` runs more mutations of the sample files: ``make fuzz FUZZ=100000``.
"""

import gzip
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from lstmkit.data import files
from lstmkit.data.audio.audio_io import read_audio, read_audio_blocks
from lstmkit.data.audio.tts_corpus import read_speech_corpus
from lstmkit.data.captioned_media import CaptionColumns, read_captioned_media
from lstmkit.data.ink.strokes import read_strokes
from lstmkit.data.labeled_examples import Columns as LabelColumns
from lstmkit.data.labeled_examples import read_labeled_examples
from lstmkit.data.music.piano_rolls import read_piano_rolls
from lstmkit.data.proteins.chains import read_protein_chains
from lstmkit.data.tables.table import read_file
from lstmkit.data.text.conll import read_tagged_sentences
from lstmkit.data.text.lines import read_text
from lstmkit.data.text.question_answering import read_questions
from lstmkit.data.transcripts import Columns, read_transcripts
from lstmkit.data.vision.image_set import Size, read_images
from lstmkit.data.vision.video_io import ClipFormat, write_video
from lstmkit.errors import DataError

SMALL = ClipFormat(8, 8, True, 0)
MUTATIONS = int(os.environ.get("FUZZ", "1500"))  # over all samples


# ---- a small valid sample of every format ----------------------------------------------------------------------------


def _arrays(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def _compressed_arrays(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def _audio(kind: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.sin(np.arange(800) / 5), 8000, format=kind, subtype=subtype)
    return file.getvalue()


def _frames(count: int = 3) -> list[Image.Image]:
    ramp = np.arange(12 * 12 * 3).reshape(12, 12, 3) % 251
    return [Image.fromarray(((ramp + 40 * i) % 256).astype(np.uint8)) for i in range(count)]


def _image(kind: str, count: int = 1, **options: Any) -> bytes:
    file, frames = io.BytesIO(), _frames(count)
    more = {"save_all": True, "append_images": frames[1:], "duration": 100} if count > 1 else {}
    frames[0].save(file, kind, **more, **options)
    return file.getvalue()


def _midi() -> bytes:
    track = mido.MidiTrack(
        [
            mido.MetaMessage("set_tempo", tempo=400_000),
            mido.MetaMessage("key_signature", key="C"),
            mido.Message("note_on", note=60, velocity=9, time=0),
            mido.Message("note_off", note=60, time=480),
        ]
    )
    file = io.BytesIO()
    mido.MidiFile(tracks=[track]).save(file=file)
    return file.getvalue()


def _video(suffix: str, folder: Path) -> bytes:
    path = folder / f"sample{suffix}"
    write_video(np.stack([np.asarray(frame) for frame in _frames(4)]), path)
    return path.read_bytes()


def _zip(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return file.getvalue()


def _parquet() -> bytes:
    return pd.DataFrame({"id": ["a", "b"], "value": [1.5, 2.5], "time": pd.to_datetime(["2020", "2021"])}).to_parquet()


def _idx() -> bytes:
    return bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 3, *range(18)])


Reader = Callable[[Path], object]


def _transcripts(path: Path) -> object:
    return read_transcripts(path, Columns())


def _captioned(path: Path) -> object:
    return read_captioned_media(path, CaptionColumns(clip_format=SMALL))


def _labeled(path: Path) -> object:
    return read_labeled_examples(path, LabelColumns(clip_format=SMALL))


def _corpus(path: Path) -> object:
    return read_speech_corpus(path, 8000)


def _images(path: Path) -> object:
    return read_images(path, Size(8, 8))


TABLE = b"id,x,y,pen\na,1,2,0\na,2.5,3,1\n"
OFFSETS = np.array([0, 3])
STROKES = np.array([[1, 0, 0], [2, 1, 0], [0, 3, 1]], dtype=np.float32)
SVG = b'<svg><g transform="scale(2)"><path id="a" d="M0 0L1 1h3z"/></g><use href="#a" x="4"/></svg>'
ROLLS = {"train_rolls": np.full((4, 11), 17, np.uint8), "train_offsets": np.array([0, 2, 4])}
SQUAD = {"context": "Ann is here.", "qas": [{"question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}]}

#: File name, reader, and content (or a function of a folder that makes it).
SAMPLES: list[tuple[str, Reader, bytes | Callable[[Path], bytes]]] = [
    ("a.csv", read_strokes, TABLE),
    ("a.csv.gz", read_file, gzip.compress(TABLE, mtime=0)),
    ("a.jsonl", read_file, b'{"id": "a", "value": 1}\n{"id": "b", "value": [2]}\n'),
    ("a.parquet", read_file, _parquet()),
    ("a.txt", read_text, "zwölf\nlines\n".encode()),
    ("a.txt.gz", lambda path: read_text(path, whole=True), gzip.compress("zwölf\nlines\n".encode(), mtime=0)),
    ("a.conll", read_tagged_sentences, b"the D\ncat N\n\na D\n"),
    ("a.json", read_questions, json.dumps({"data": [{"title": "t", "paragraphs": [SQUAD]}]}).encode()),
    ("babi.txt", read_questions, b"1 Ann left.\n2 Who left?\tAnn\t1\n"),
    ("a.fasta", read_protein_chains, b">x\nMKV\n>y\nAC\n"),
    ("a.fa.gz", read_protein_chains, gzip.compress(b">x\nMKV\n", mtime=0)),
    ("a.svg", read_strokes, SVG),
    ("strokes.npz", read_strokes, _arrays(strokes=STROKES, offsets=OFFSETS, texts=np.array(["ab"]))),
    ("packed.npz", read_strokes, _compressed_arrays(strokes=STROKES, offsets=OFFSETS)),
    ("feats.npz", _transcripts, _arrays(feats=np.ones((3, 4), np.float32), offsets=OFFSETS)),
    ("rolls.npz", read_piano_rolls, _arrays(**ROLLS)),
    ("rolls.json", read_piano_rolls, b'{"train": [[[60, 64], []]], "test": [[[61]]]}'),
    ("rolls.json.gz", read_piano_rolls, gzip.compress(b'{"train": [[[60, 64], []]]}', mtime=0)),
    ("a.mid", read_piano_rolls, _midi()),
    *((f"a.{kind.lower()}", _transcripts, _audio(kind)) for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF")),
    ("float.wav", read_audio, _audio("WAV", "FLOAT")),
    ("blocks.wav", lambda path: list(read_audio_blocks(path, 4000)), _audio("WAV")),
    *((f"a.{kind.lower()}", _images, _image(kind)) for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM")),
    ("still.gif", _captioned, _image("GIF")),
    ("animated.gif", _captioned, _image("GIF", 3)),
    ("animated.png", _labeled, _image("PNG", 3)),
    ("animated.webp", _labeled, _image("WEBP", 3)),
    ("a-idx3-ubyte", _images, _idx()),
    ("a-idx3-ubyte.gz", _images, gzip.compress(_idx(), mtime=0)),
    *((f"a{suffix}", _labeled, lambda folder, suffix=suffix: _video(suffix, folder)) for suffix in (".mp4", ".mkv")),
    ("clips.zip", _labeled, _zip(up__a_wav=_audio("WAV"), down__b_wav=_audio("FLAC"))),
    ("lines.zip", _transcripts, _zip(a_png=_image("PNG"), a_txt=b"a line")),
    ("corpus.zip", _corpus, _zip(a_wav=_audio("WAV"), metadata_csv=b"a|hello\n")),
    ("images.zip", _images, _zip(up__a_png=_image("PNG"), b_jpg=_image("JPEG"))),
]


def sample_content(content: bytes | Callable[[Path], bytes], folder: Path) -> bytes:
    return content if isinstance(content, bytes) else content(folder)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content truncated, or with one to eight bits flipped, bytes swapped, inserted, overwritten or removed."""
    changed = bytearray(content)
    if rng.random() < 0.2:
        return bytes(changed[: rng.randrange(len(changed))])
    for _ in range(rng.randint(1, 8)):
        i, j = (rng.randrange(len(changed)) for _ in range(2))
        kind = rng.randrange(5)
        if kind == 0:
            changed[i] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[i], changed[j] = changed[j], changed[i]
        elif kind == 2:
            changed[i:i] = rng.randbytes(rng.randint(1, 8))
        elif kind == 3:
            changed[i : i + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"])
        elif len(changed) > 40:
            del changed[i : i + rng.randint(1, 8)]
    return bytes(changed)


def test_a_zip_with_a_file_without_a_name(tmp_path: Path):
    """zipfile raises an IndexError then."""
    whole = bytearray(_zip(abc=_audio("WAV")))
    at = whole.rindex(b"abc")
    whole[at] = 0  # a name ends at its first null
    (tmp_path / "a.zip").write_bytes(whole)
    for read in (_labeled, _transcripts, _corpus, _images):
        with pytest.raises(DataError, match="a file has no name"):
            read(tmp_path / "a.zip")


@pytest.mark.filterwarnings("default")  # a parser may warn of a damaged file
@pytest.mark.parametrize("number", range(len(SAMPLES)), ids=[name for name, _, _ in SAMPLES])
def test_damaged_files_are_read_or_refused_in_one_line(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(files.DECODED_MB_VARIABLE, "50")  # in bounded memory, so in bounded time
    name, read, content = SAMPLES[number]
    path, whole = tmp_path / name, sample_content(content, tmp_path)
    path.write_bytes(whole)
    read(path)  # the sample is valid
    rng = random.Random(number)
    for mutation in range(max(1, MUTATIONS // len(SAMPLES))):
        changed = mutated(whole, rng)
        path.write_bytes(changed)
        try:
            read(path)
        except DataError as err:
            lines = str(err).splitlines()
        except Exception as err:
            kept = Path(os.environ.get("FUZZ_FOLDER", tmp_path)) / f"{number}-{mutation}-{name}"
            kept.write_bytes(changed)
            raise AssertionError(f"{kept}: {type(err).__name__}: {err}") from err
        else:
            lines = ["an answer"]
        assert len(lines) == 1, lines
