"""The catalog finds, checks and downloads data sets; every error says what to do."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote

import pooch
import pytest

from lstmkit.data import catalog
from lstmkit.errors import DataError


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


ONE, TWO = b"a,b\n1,2\n", b"c\n3\n"
TWO_GZ = gzip.compress(TWO, mtime=0)


@pytest.fixture
def toy(tmp_path, monkeypatch) -> catalog.CatalogEntry:
    """A catalog of one data set with two files, an empty data folder and an empty cache; network access fails."""
    files = (
        catalog.DataFile("one.csv", "https://example.org/c0/one.csv", sha256(ONE)),
        catalog.DataFile("two.csv", "https://example.org/c0/two.csv", sha256(TWO), sha256(TWO_GZ)),
    )
    entry = catalog.CatalogEntry("toy", "A toy", "CC0", "Nobody", files)
    monkeypatch.setattr(catalog, "_catalog", lambda: {"toy": entry})
    monkeypatch.setenv("LSTMKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LSTMKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: pytest.fail("the network was used"))
    return entry


def put(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        (folder / name.replace("__", ".")).write_bytes(raw)
    return folder


def message(*args, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        catalog.locate(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_entry_is_complete():
    assert catalog.names()[:4] == ["m4_hourly", "ett", "exchange_rate", "classic_series"]
    for name in catalog.names():
        entry = catalog.entry(name)
        assert entry.name == name
        assert entry.title
        assert entry.license
        assert entry.citation
        for file in entry.files:
            if not file.sha256:  # distributed by its authors on request: no URL and no checksum
                assert not file.url
                assert re.search(r"[\w-]+\.(org|edu)/\S+", file.made_from)  # where to request it
                continue
            assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in file.hashes().values())
            if not file.url:
                assert re.search(r"[\w.-]+/[\w.-]+, commit [0-9a-f]{40}", file.made_from)
                continue
            # The URL names a commit, which never changes, and ends with the name of the file after that of its folder.
            assert re.fullmatch(r"https://raw\.githubusercontent\.com/[\w.-]+/[\w.-]+/[0-9a-f]{40}/\S+", file.url)
            assert unquote(file.url).endswith("/" + file.name.replace("__", "/"))
    assert len(catalog.entry("classic_series").files) == 8


def test_data_folder_may_hold_plain_or_gzipped_files(toy, tmp_path):
    folder = put(tmp_path / "data" / "toy", one__csv=ONE, two__csv__gz=TWO_GZ)
    assert catalog.locate("toy") == folder
    assert catalog.locate("toy", "two.csv") == catalog.locate("toy", "two.csv.gz") == folder / "two.csv.gz"
    assert catalog.locate("toy", "one.csv") == folder / "one.csv"


def test_one_file_of_a_data_set_can_be_located(toy, tmp_path):
    folder = put(tmp_path / "data" / "toy", one__csv=ONE)
    assert catalog.locate("toy", "one.csv") == folder / "one.csv"
    assert "two.csv is not on this machine" in message("toy", "two.csv")


def test_data_folder_has_priority_over_the_cache(toy, tmp_path):
    cache = put(tmp_path / "cache" / "toy", one__csv=ONE, two__csv=TWO)
    assert catalog.locate("toy") == cache
    data = put(tmp_path / "data" / "toy", one__csv=ONE, two__csv=TWO)
    assert catalog.locate("toy") == data


def test_default_cache_is_the_users_cache_folder(toy, monkeypatch):
    monkeypatch.delenv("LSTMKIT_DATA")
    monkeypatch.delenv("LSTMKIT_CACHE")
    monkeypatch.setattr(pooch, "os_cache", lambda project: Path("/nowhere") / project)
    assert "at /nowhere/lstmkit/toy/one.csv" in message("toy", "one.csv")


def test_missing_files_are_not_downloaded_without_a_request(toy, tmp_path):
    text = message("toy")
    assert "one.csv is not on this machine" in text
    assert "lstmkit data toy" in text
    assert "https://example.org/c0/one.csv" in text
    assert str(tmp_path / "data" / "toy" / "one.csv") in text
    assert str(tmp_path / "cache" / "toy" / "one.csv") in text


def test_download_puts_missing_files_into_the_cache(toy, tmp_path, monkeypatch):
    put(tmp_path / "cache" / "toy", one__csv=ONE)
    downloads = []

    def retrieve(url, known_hash, fname, path):
        downloads.append((url, known_hash))
        return str(put(Path(path), two__csv=TWO) / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert catalog.locate("toy", download=True) == tmp_path / "cache" / "toy"
    assert downloads == [("https://example.org/c0/two.csv", f"sha256:{sha256(TWO)}")]
    assert catalog.locate("toy", download=True) == tmp_path / "cache" / "toy"
    assert len(downloads) == 1  # the second call finds it in the cache


def test_checksum_of_a_download_is_verified(toy, tmp_path, monkeypatch):
    """Pooch with a local URL keeps a file with the right checksum and deletes one with a wrong checksum."""
    monkeypatch.undo()
    source = put(tmp_path / "source", one__csv=ONE, two__csv=b"something else")
    files = tuple(
        catalog.DataFile(name, f"local://{source / name}", digest)
        for name, digest in (("one.csv", sha256(ONE)), ("two.csv", sha256(TWO)))
    )
    monkeypatch.setattr(catalog, "_catalog", lambda: {"toy": catalog.CatalogEntry("toy", "", "", "", files)})
    monkeypatch.setenv("LSTMKIT_DATA", "")
    monkeypatch.setenv("LSTMKIT_CACHE", str(tmp_path / "cache"))

    def copy(url, output_file, _):
        Path(output_file).write_bytes(Path(url.removeprefix("local://")).read_bytes())

    monkeypatch.setattr("pooch.core.choose_downloader", lambda *_, **__: copy)
    assert catalog.locate("toy", "one.csv", download=True).read_bytes() == ONE
    text = message("toy", "two.csv", download=True)
    assert f"could not be downloaded (its sha256 is not {sha256(TWO)[:12]}…)" in text
    assert not (tmp_path / "cache" / "toy" / "two.csv").exists()


def test_message_without_a_network_says_where_to_put_the_file(toy, tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise ConnectionError("Max retries exceeded\nwith url")

    monkeypatch.setattr(pooch, "retrieve", no_network)
    text = message("toy", "one.csv", download=True)
    assert "one.csv could not be downloaded (ConnectionError)" in text
    assert "put https://example.org/c0/one.csv at" in text
    assert str(tmp_path / "cache" / "toy" / "one.csv") in text


@pytest.mark.parametrize("download", [False, True])
def test_file_without_a_url_is_not_downloaded(toy, tmp_path, monkeypatch, download):
    """The message says what to put where, and what the file is made from; the network is not used."""
    file = catalog.DataFile("one.csv", "", sha256(ONE), made_from="the mails of some/where, one a line")
    monkeypatch.setattr(catalog, "_catalog", lambda: {"toy": catalog.CatalogEntry("toy", "", "", "", (file,))})
    text = message("toy", download=download)
    assert "one.csv is not on this machine and has no URL" in text
    assert "a file made from the mails of some/where, one a line at" in text
    assert str(tmp_path / "data" / "toy" / "one.csv") in text
    put(tmp_path / "cache" / "toy", one__csv=TWO)
    assert "a file made from the mails" in message("toy")
    folder = put(tmp_path / "cache" / "toy", one__csv=ONE)
    assert catalog.locate("toy", download=download) == folder


@pytest.mark.parametrize("where", ["data", "cache"])
@pytest.mark.parametrize("name", ["one__csv", "two__csv", "two__csv__gz"])
def test_file_with_a_wrong_checksum_is_refused(toy, tmp_path, where, name):
    folder = put(tmp_path / where / "toy", **{name: b"a,b\n9,9\n"})
    file = name.replace("__", ".")
    text = message("toy", file)
    assert f"{folder / file} is not the file of the catalog" in text
    assert sha256(b"a,b\n9,9\n")[:12] in text
    assert f"https://example.org/c0/{file.removesuffix('.gz')}" in text


def test_unknown_name_suggests_the_nearest(toy):
    assert "unknown data set 'tow': did you mean 'toy'?" in message("tow")
    assert "unknown data set 'elephants' (known: toy)" in message("elephants")
    assert "data set 'toy' has no file 'ones.csv': did you mean 'one.csv'?" in message("toy", "ones.csv")
    with pytest.raises(DataError, match="unknown data set"):
        catalog.entry("")


@pytest.mark.parametrize("name", catalog.names())
def test_local_data_sets_match_the_catalog(name):
    root = os.environ.get("LSTMKIT_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"needs the data set {name} in $LSTMKIT_DATA")
    folder = catalog.locate(name)
    assert folder == Path(root) / name
    for file in catalog.entry(name).files:
        path = catalog.locate(name, file.name)
        if path.name != file.name:  # the gzip file contains the original file
            assert sha256(gzip.decompress(path.read_bytes())) == file.sha256
