"""Files of data in every job: byte order marks, encodings, hidden files, ids, missing columns, deep JSON."""

from __future__ import annotations

import codecs
import gzip
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lstmkit.data.captioned_media import CaptionColumns, read_captioned_media
from lstmkit.data.ink.strokes import read_strokes
from lstmkit.data.labeled_examples import Columns, read_labeled_examples
from lstmkit.data.music.piano_rolls import read_piano_rolls
from lstmkit.data.proteins.chains import read_protein_chains
from lstmkit.data.tables.parsing import group_rows, read_ids
from lstmkit.data.tables.table import read_file
from lstmkit.data.text.conll import read_tagged_sentences
from lstmkit.data.text.lines import read_text
from lstmkit.data.text.question_answering import read_questions
from lstmkit.data.text.text_pairs import read_sources, read_text_pairs
from lstmkit.data.transcripts import Columns as TranscriptColumns
from lstmkit.data.transcripts import read_transcripts
from lstmkit.data.vision.image_set import Size, read_images
from lstmkit.errors import DataError, ModelFileError
from lstmkit.jobs.forecaster.job import Forecaster
from lstmkit.jobs.handwriting_synthesizer.results import Handwriting, to_csv
from lstmkit.jobs.recommender.job import Recommender
from lstmkit.training.checkpoint import read_json

# ---- encodings -------------------------------------------------------------------------------------------------------

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]


def _questions(path: Path) -> list[tuple[str, str, str]]:
    return [(item.story, item.question, item.answer) for item in read_questions(path).items]


TEXT_FILES = {
    "text": ("a.txt", "né\nor not\n", lambda path: list(read_text(path))),
    "CoNLL": ("a.conll", "né\tDET\n\ncat\tNOUN\n", lambda path: read_tagged_sentences(path).tokens),
    "FASTA": ("a.fasta", ">a né\nMKV\n", lambda path: read_protein_chains(path).sequences),
    "bAbI": ("qa1.txt", "1 né left.\n2 Who?\tné\t1\n", lambda path: _questions(path)),
    "SQuAD": (
        "a.json",
        '{"data": [{"paragraphs": [{"context": "né", "qas": [{"question": "Who?", "answers": []}]}]}]}',
        lambda path: _questions(path),
    ),
    "pairs": ("a.tsv", "source\ttarget\nné\tb\n", lambda path: read_text_pairs(path).sources),
    "sources": ("a.txt", "né\n\nb\n", read_sources),
    "table": ("a.csv", "text,label\nné,1\n", lambda path: read_file(path).frame.to_numpy().tolist()),
    "JSON lines": ("a.jsonl", '{"text": "né"}\n', lambda path: read_file(path).frame.to_numpy().tolist()),
    "piano rolls": ("a.json", '{"train": [[[60], [62]]]}', lambda path: read_piano_rolls(path).digest()),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", TEXT_FILES)
def test_every_text_file_may_begin_with_a_byte_order_mark(kind: str, encoding: str, zipped: bool, tmp_path: Path):
    name, content, read = TEXT_FILES[kind]
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / name).write_text(content, encoding="utf-8")
    path = tmp_path / (f"{name}.gz" if zipped else name)
    path.write_bytes(gzip.compress(content.encode(encoding)) if zipped else content.encode(encoding))
    assert read(path) == read(tmp_path / "plain" / name)


def test_transcripts_beside_their_files_may_have_a_byte_order_mark(tmp_path: Path):
    from PIL import Image

    for name, mark in (("a", b""), ("b", codecs.BOM_UTF8)):
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.gt.txt").write_bytes(mark + b"text")
    assert read_transcripts(tmp_path, TranscriptColumns()).texts == ["text", "text"]


# ---- hidden files ----------------------------------------------------------------------------------------------------


def _svg(path: Path) -> None:
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0L5 5L9 1"/></svg>')


def _png(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(path)


def _midi(path: Path) -> None:
    import mido

    track = mido.MidiTrack([mido.Message("note_on", note=60, velocity=64), mido.Message("note_off", note=60, time=480)])
    mido.MidiFile(tracks=[track]).save(path)


def _wav(path: Path) -> None:
    import soundfile

    soundfile.write(path, 0.5 * np.sin(np.arange(4000) / 5), 8000)


FOLDERS = {
    "strokes": ("a.svg", _svg, read_strokes),
    "images": ("a.png", _png, lambda path: read_images(path, Size(8, 8))),
    "captions": ("a.png", _png, lambda path: read_captioned_media(path, CaptionColumns())),
    "transcripts": ("a.png", _png, lambda path: read_transcripts(path, TranscriptColumns())),
    "piano rolls": ("a.mid", _midi, read_piano_rolls),
    "labeled audio": ("a.wav", _wav, lambda path: read_labeled_examples(path, Columns())),
}


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("zipped", [False, True])
def test_hidden_files_are_skipped_in_every_folder_and_zip(kind: str, zipped: bool, tmp_path: Path):
    name, write, read = FOLDERS[kind]
    if zipped and kind in ("strokes", "piano rolls"):
        pytest.skip("these are not read from zips")
    folder = tmp_path / ".cache" / "data"  # what is hidden is judged inside the folder only
    (folder / "x").mkdir(parents=True)
    (folder / "__MACOSX").mkdir()
    write(folder / "x" / name)
    for hidden in (f"x/._{name}", f"__MACOSX/{name}", ".DS_Store", "x/._t.csv"):
        (folder / hidden).write_bytes(b"\x00\x05\x16\x07")
    if zipped:
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for path in sorted(folder.rglob("*.*")):
                archive.write(path, path.relative_to(folder).as_posix())
    data = read(tmp_path / "data.zip" if zipped else folder)
    assert len(data) == 1
    assert not getattr(data, "notes", ())


# ---- ids and labels --------------------------------------------------------------------------------------------------


def test_na_is_an_id_and_a_label(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("id,x,label\nNA,1,null\nNA,2,null\nnull,3,NA\n")
    examples = read_labeled_examples(path, Columns(values=("x",)))
    assert examples.ids == ["NA", "null"]
    assert examples.labels == [("null",), ("NA",)]
    assert group_rows(read_file(path), "id")[0] == read_ids(read_file(path), "id")[1] == ["NA", "null"]
    path.write_text("id,x\na,1\n,2\n")
    with pytest.raises(DataError, match="column 'id', row 2 below the header: '' is not a valid id"):
        group_rows(read_file(path), "id")


def test_whole_numbers_with_a_point_are_the_items_of_the_model(tmp_path: Path):
    rng = np.random.default_rng(0)
    sessions = [[str(item) for item in rng.integers(1, 6, 4)] for _ in range(30)]
    model = Recommender(epochs=1, hidden_size=4, embedding_size=4, batch_size=8, test_fraction=0).fit(sessions)
    path = tmp_path / "s.csv"
    path.write_text("session_id,item_id,timestamp\n1.0,2.0,1\n1.0,3.0,2\n")
    (answer,) = model.predict(path, k=3)
    (expected,) = model.predict([["2", "3"]], k=3)
    assert answer.items == expected.items
    assert len(answer.items) == 3
    assert answer.unknown == ()
    assert model.start_session(k=3).add_item("2.0").items == model.start_session(k=3).add_item(2).items
    assert model.predict([["2", "2.5"]], k=3)[0].unknown == ("2.5",)


# ---- columns that are missing ----------------------------------------------------------------------------------------


def test_a_missing_column_of_targets_is_named(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("text,class\nx,1\n")
    with pytest.raises(DataError, match=r"no column 'label' in a\.csv \(columns: text, class\): .* label_col=NAME"):
        read_labeled_examples(path, Columns()).require_labels()
    path.write_text("id,x\na,1\n")
    with pytest.raises(DataError, match="no column 'label' in"):
        read_labeled_examples(path, Columns(values=("x",))).require_labels()
    _wav(tmp_path / "a.wav")
    path.write_text("path,class\na.wav,1\n")
    with pytest.raises(DataError, match="no column 'label' in"):
        read_labeled_examples(path, Columns()).require_labels()
    path.write_text("story,question,reply\nx,y,z\n")
    with pytest.raises(DataError, match=r"no column 'answer' in .* answer_col=NAME"):
        read_questions(path).require_answers()
    _png(tmp_path / "a.png")
    path.write_text("file,words\na.png,x\n")
    with pytest.raises(DataError, match=r"no column 'text' in .* text_col=NAME"):
        read_transcripts(path, TranscriptColumns()).require_texts()
    path.write_text("image,words\na.png,x\n")
    with pytest.raises(DataError, match=r"no column 'caption' in .* text_col=NAME"):
        read_captioned_media(path, CaptionColumns()).with_captions()


# ---- deep JSON -------------------------------------------------------------------------------------------------------


def test_json_that_is_nested_too_deeply_is_refused(tmp_path: Path):
    deep = "[" * 100_000
    for name, read in (("a.jsonl", read_file), ("a.json", read_questions), ("b.json", read_piano_rolls)):
        path = tmp_path / name
        path.write_text(deep if name == "a.jsonl" else '{"data":' + deep)
        with pytest.raises(DataError, match="JSON"):
            read(path)
    for content in (deep, '{"format": ' + "1" * 5000 + "}"):
        (tmp_path / "model.json").write_text(content)
        with pytest.raises(ModelFileError, match="is damaged"):
            read_json(tmp_path / "model.json")


# ---- numbers that are written ----------------------------------------------------------------------------------------


def test_numbers_are_written_so_that_they_read_back_equal(tmp_path: Path):
    frame = pd.DataFrame({"unique_id": "a", "ds": [1, 2], "y": [1_000_000_123.0, 0.1 + 0.2]})
    (tmp_path / "f.csv").write_text(Forecaster().to_text(frame))
    written = pd.read_csv(tmp_path / "f.csv", float_precision="round_trip")
    assert written["y"].tolist() == frame["y"].tolist()
    strokes = np.array([[0, 0, 0], [123456.789, 1 / 3, 0], [1e-3, 2 / 3, 1]], dtype=np.float32)
    (tmp_path / "h.csv").write_text(to_csv([Handwriting("", strokes, 0, None, (), True, "a")]))
    points = read_strokes(tmp_path / "h.csv").inks[0].points
    assert np.array_equal(points, strokes)
