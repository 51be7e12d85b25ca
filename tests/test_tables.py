"""Tables of every job: separators, quotation marks, decimal commas, ids, numbers that read back equal."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lstmkit.data.audio.tts_corpus import read_speech_corpus
from lstmkit.data.captioned_media import CaptionColumns, read_captioned_media
from lstmkit.data.ink.strokes import read_strokes
from lstmkit.data.labeled_examples import Columns as LabeledColumns
from lstmkit.data.labeled_examples import read_labeled_examples
from lstmkit.data.proteins.chains import Columns as ChainColumns
from lstmkit.data.proteins.chains import read_protein_chains
from lstmkit.data.series.sensor_series import Columns as SensorColumns
from lstmkit.data.series.sensor_series import read_sensor_series
from lstmkit.data.series.series_set import read_series
from lstmkit.data.sessions import Columns as SessionColumns
from lstmkit.data.sessions import read_sessions
from lstmkit.data.tables.delimited import parse_delimited
from lstmkit.data.tables.parsing import parse_numbers, read_numbers
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.text.question_answering import Columns as QuestionColumns
from lstmkit.data.text.question_answering import read_questions
from lstmkit.data.text.text_pairs import read_text_pairs
from lstmkit.data.transcripts import Columns as TranscriptColumns
from lstmkit.data.transcripts import read_transcripts
from lstmkit.errors import DataError


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


# ---- quotation marks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", ["\t", "|"])
def test_stray_quotation_marks_are_text_where_every_line_is_a_row(separator: str):
    rows = [["a", '"hello, he said'], ["b", '5" screen'], ["c", 'bye"'], ["d", '"Yes."'], ["e", '"'], ["f", "x"]]
    text = "".join(separator.join(row) + "\n" for row in [["id", "text"], *rows])
    assert parse_delimited(text, "t").frame.to_numpy().tolist() == rows


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [0, 1, 2])  # csv: minimal, all, what is not a number
def test_what_pandas_writes_comes_back(separator: str, quoting: int):
    frame = pd.DataFrame(
        {"id": ["a", "b", "c"], "text": ['He said "hi"', "plain, text; or", '"'], "n": ["1", "2", "3"]}
    )
    text = frame.assign(n=[1, 2, 3]).to_csv(sep=separator, quoting=quoting, index=False)
    pd.testing.assert_frame_equal(parse_delimited(text, "t").frame, frame)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_quoted_field_may_have_line_breaks(separator: str):
    text = f'id{separator}text\na{separator}"one\ntwo"\nb{separator}5" screen\n'
    assert parse_delimited(text, "t").frame["text"].tolist() == ["one\ntwo", '5" screen']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a,b\n1,x\n2,"y\n3,z" w\n', 't: line 3: a quotation mark (") begins a field and is never closed'),
        ('a,b\n1,"x\ny"\n2,"z\n', 't: line 4: a quotation mark (") begins a field'),
        ('\n\na;b\n1;"x" y\n', 't: line 4: a quotation mark (") begins a field'),
        ('a,b\n1,"x\ny"\n\n2,hello, world\n', "t: line 5 has 3 fields, expected 2: '2,hello, world'"),
        ("a\tb\n1\tx\n2\ty\tz\n", "t: line 3 has 3 fields, expected 2"),
        ('a\tb\n1\t"x\ny" z\n', "t: line 3 has 1 fields, expected 2"),
        ('a\tb\n1\t"x\n2\ty"\n3\n', "t: line 4 has 1 fields, expected 2"),
        ("a|b\n1|x\u2028y\n2|y|z\n", "t: line 3 has 3 fields, expected 2"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_its_line(text: str, message: str):
    with pytest.raises(DataError) as error:
        parse_delimited(text, "t")
    assert message in str(error.value)


def test_a_tsv_has_tabs_even_if_another_separator_fits_better(tmp_path: Path):
    path = write(tmp_path / "pairs.tsv", "source\ttarget, or\na\tb, c\nd\te\tf, g\n")
    with pytest.raises(DataError, match="line 3 has 3 fields, expected 2"):
        read_file(path)


def test_a_row_may_be_longer_than_a_megabyte():
    texts = ["word " * 500_000, "short"]
    assert parse_delimited(f'text,label\n"{texts[0]}",1\n{texts[1]},2\n', "t").frame["text"].tolist() == texts


# Every job reads its tables with the one reader: two stray marks in a TSV do not merge rows, and a row with too many
# fields is refused with its line.
_STRAY = ['"open', "plain", 'close"']


def _sounds(folder: Path) -> list[str]:
    import soundfile

    names = [f"{i}.wav" for i in range(3)]
    for name in names:
        soundfile.write(folder / name, 0.5 * np.sin(np.arange(4000) / 5), 8000)
    return names


def _images(folder: Path) -> list[str]:
    from PIL import Image

    names = [f"{i}.png" for i in range(3)]
    for name in names:
        Image.new("L", (8, 8)).save(folder / name)
    return names


READERS = {
    "classifier": (["id", "text"], None, lambda path: read_labeled_examples(path, LabeledColumns()).inputs),
    "translator": (
        ["source", "target"],
        None,
        lambda path: [*read_text_pairs(path).targets],
    ),
    "question_answerer": (
        ["story", "question"],
        None,
        lambda path: [item.question for item in read_questions(path, QuestionColumns()).items],
    ),
    "recommender": (
        ["session_id", "item_id"],
        None,
        lambda path: [item for items in read_sessions(path, SessionColumns()).items for item in items],
    ),
    "transcriber": (["file", "text"], _images, lambda path: [*read_transcripts(path, TranscriptColumns()).texts]),
    "captioner": (
        ["image", "caption"],
        _images,
        lambda path: [text for texts in read_captioned_media(path, CaptionColumns()).texts for text in texts],
    ),
    "speech_synthesizer": (["path", "text"], _sounds, lambda path: [*read_speech_corpus(path, 8000).texts]),
}


@pytest.mark.parametrize("job", READERS)
def test_every_job_reads_stray_marks_and_refuses_rows_with_too_many_fields(job: str, tmp_path: Path):
    header, make_files, texts_of = READERS[job]
    names = make_files(tmp_path) if make_files else ["a", "b", "c"]
    rows = [header, *([name, text] for name, text in zip(names, _STRAY, strict=True))]
    table = write(tmp_path / "t.tsv", "".join("\t".join(row) + "\n" for row in rows))
    assert list(texts_of(table)) == _STRAY
    bad = write(tmp_path / "t.csv", "".join(",".join(row) + "\n" for row in [header, [names[0], "hello, world"]]))
    with pytest.raises(DataError, match="line 2 has 3 fields, expected 2"):
        texts_of(bad)


@pytest.mark.parametrize("job", READERS)
def test_every_job_names_a_column_that_is_there_twice(job: str, tmp_path: Path):
    header, make_files, texts_of = READERS[job]
    name = make_files(tmp_path)[0] if make_files else "a"
    table = write(tmp_path / "t.tsv", f"{header[0]}\t{header[1]}\t{header[1]}\n{name}\tx\ty\n")
    with pytest.raises(DataError, match=f"2 columns have the name '{header[1]}'"):
        texts_of(table)


# ---- decimal commas --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_decimal_points_are_numbers_whatever_separates_fields(separator: str, tmp_path: Path):
    rows = [["id", "x", "y", "pen"], ["a", "0.5", "1", "0"], ["a", "2.125", "7", "1"]]
    path = write(tmp_path / "t.csv", "".join(separator.join(row) + "\n" for row in rows))
    assert parse_numbers(read_file(path), "x")[0].tolist() == [0.5, 2.125]
    sensors = read_sensor_series(path, SensorColumns(id="id"))
    assert sensors.channels == ("x", "y", "pen")
    assert sensors.items[0].values[:, 0].tolist() == [0.5, 2.125]
    assert read_strokes(path).inks[0].points[1].tolist() == [1.625, 6, 1]
    steps = read_labeled_examples(path, LabeledColumns(values=("x",))).inputs[0]
    assert steps[:, 0].tolist() == [0.5, 2.125]
    timed = write(
        tmp_path / "s.csv", "".join(separator.join(row) + "\n" for row in [["ds", "y"], ["1", "0.5"], ["2", "1"]])
    )
    assert read_series(timed).y[0].tolist() == [0.5, 1]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_decimal_commas_are_numbers_in_every_job(separator: str, tmp_path: Path):
    rows = [["id", "x", "y", "pen", "sequence"], ["a", "0,5", "1.000.000", "0", "M"], ["a", "2,125", "x", "1", "K"]]
    path = write(tmp_path / "t.csv", "".join(separator.join(row) + "\n" for row in rows))
    table = read_file(path)
    assert read_numbers(table, "x").tolist() == [0.5, 2.125]
    assert table.notes == ["t.csv: numbers read with a decimal comma"]
    assert read_sensor_series(path, SensorColumns(id="id", channels=("x",))).items[0].values[:, 0].tolist() == [
        0.5,
        2.125,
    ]
    points = [["id", "x", "y", "pen"], ["a", "0,5", "1,5", "0"], ["a", "2,125", "2", "1"]]
    ink = write(tmp_path / "ink.csv", "".join(separator.join(row) + "\n" for row in points))
    assert read_strokes(ink).inks[0].points[1].tolist() == [1.625, 0.5, 1]
    residues = write(
        tmp_path / "r.csv", "".join(separator.join(row) + "\n" for row in [["id", "residue", "p"], ["a", "M", "0,5"]])
    )
    chains = read_protein_chains(residues, ChainColumns(profile=("p",)))
    assert chains.profile is not None
    assert chains.profile[0].tolist() == [[0.5]]


@pytest.mark.parametrize("order", list(itertools.permutations(["commas", "thousands", "whole"])))
def test_the_decimal_comma_is_one_rule_for_a_file_whatever_is_read_first(order: tuple[str, ...], tmp_path: Path):
    path = write(tmp_path / "t.csv", "commas;thousands;whole\n3,5;1,234;7\n4,25;2,345;8\n")
    table = read_file(path)
    numbers = {column: read_numbers(table, column).tolist() for column in order}
    assert numbers == {"commas": [3.5, 4.25], "thousands": [1.234, 2.345], "whole": [7, 8]}


def test_lists_of_numbers_do_not_turn_decimal_points_into_text(tmp_path: Path):
    table = read_file(write(tmp_path / "t.tsv", "labels\tx\n1,2\t0.5\n2,3\t12.25\n"))
    assert read_numbers(table, "x").tolist() == [0.5, 12.25]
    assert table.notes == []


@pytest.mark.parametrize("cell", ["1e4002147483647", "-1E+4002147483647", " 1e-4002147483647 "])
def test_exponents_of_more_than_32_bits_are_no_numbers(cell: str):
    """pandas itself ends the process on them."""
    _, bad = parse_numbers(Table(pd.DataFrame({"v": ["1", cell]}), "the frame"), "v")
    assert bad.tolist() == [False, True]


def test_numbers_that_may_be_thousands_are_refused_where_they_are_read(tmp_path: Path):
    table = read_file(write(tmp_path / "t.csv", "a;b;c\n1,234;0.5;4,500 units\n2,345;1.5;x\n"))
    assert read_numbers(table, "b").tolist() == [0.5, 1.5]
    assert parse_numbers(table, "c")[1].all()
    with pytest.raises(DataError, match="column 'a', row 1 below the header: '1,234' may have a decimal comma"):
        read_numbers(table, "a")
