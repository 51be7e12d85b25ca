"""Every job reads the file endings that it declares, and refuses every other ending by name."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from format_samples import ENDINGS, FORMATS, sample
from job_cases import make
from lstmkit.data.files import DECODED_MB_VARIABLE
from lstmkit.data.formats import DataFormat
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.tables.timestamps import read_timestamps
from lstmkit.data.text.lines import read_prompts, read_text
from lstmkit.data.vision.image_io import read_grayscale_image
from lstmkit.errors import DataError
from lstmkit.jobs import job_class, job_names


@pytest.mark.parametrize(
    ("job", "data_format", "ending"), ENDINGS, ids=lambda value: getattr(value, "name", value or "any")
)
def test_a_job_reads_the_endings_that_it_declares(job: str, data_format: DataFormat, ending: str, tmp_path: Path):
    assert len(make(job).read(sample(job, data_format, ending, tmp_path)))


#: Jobs whose formats all have endings; the others read any text file.
CHOOSY = [job for job in job_names() if all(each.suffixes or each.folder for each in job_class(job).data_formats)]


@pytest.mark.parametrize("job", CHOOSY)
def test_an_ending_that_is_not_declared_is_refused_by_name(job: str, tmp_path: Path):
    path = tmp_path / "data.xyz"
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(DataError, match=r"data\.xyz: unsupported file format: give .*\(\."):
        make(job).read(str(path))


@pytest.mark.parametrize("job", sorted({*job_names()} - {*CHOOSY}))
def test_a_file_that_is_not_text_is_refused_by_name(job: str, tmp_path: Path):
    path = tmp_path / "data.xyz"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"data\.xyz"):
        make(job).read(str(path))


def test_every_job_declares_its_formats():
    assert {job for job, _ in FORMATS} == {*job_names()}
    for job, data_format in FORMATS:
        assert data_format.folder or data_format.suffixes or data_format.encoding, job


def test_the_page_lists_timestamps_that_are_read():
    page = (Path(__file__).parents[1] / "docs" / "data-formats.md").read_text(encoding="utf-8")
    rows = page.split("| timestamps |")[1].split("\n\n")[0].split("\n")[2:]
    examples = [re.findall("`([^`]+)`", row) for row in rows]
    assert len(examples) == 7
    for row in examples:
        for cell in [row] if row == ["1", "2", "3"] else [[text] for text in row]:
            table = Table(pd.DataFrame({"ds": cell}), "the page")
            assert len(read_timestamps(table, "ds")) == len(cell)


def test_an_image_of_several_pages_is_refused(tmp_path: Path):
    pages = [Image.fromarray(np.zeros((9, 9), dtype=np.uint8)) for _ in range(2)]
    pages[0].save(tmp_path / "scan.tiff", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"scan.tiff has 2 pages, but one image is needed: save each page"):
        read_grayscale_image(tmp_path / "scan.tiff")


def test_a_plain_file_that_is_read_whole_has_the_bound_of_a_gzipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(DECODED_MB_VARIABLE, "1")
    path = tmp_path / "sales.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 50_001)
    with pytest.raises(DataError, match=r"sales.csv takes more than 1 MB when decoded"):
        read_file(path)
    assert len(read_text(path.rename(tmp_path / "corpus.txt"))) == 50_002  # streamed


def test_a_blank_prompt_is_refused_by_its_line():
    assert read_prompts(["a", "b", "", " "]) == ["a", "b"]
    with pytest.raises(DataError, match=r"the text, line 2 is blank: write a text there, or remove the line"):
        read_prompts(["a", " ", "b"])


def test_a_table_in_a_zip_is_named_by_its_place_there(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as archive:
        archive.writestr("data/labels.csv", "path,label\na.wav,b,c\n")
    with pytest.raises(DataError, match=r"^clips\.zip/data/labels\.csv: line 2 has 3 fields"):
        make("classifier").read(str(tmp_path / "clips.zip"))
