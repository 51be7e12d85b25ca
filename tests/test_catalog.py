"""The catalogue: a set is found, checked, fetched when asked for, and every failure says what to do."""

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
    """A catalogue of one set of two files, an empty data folder and an empty cache; the network must not be used."""
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
            if not file.sha256:  # handed out by its makers: nothing to fetch, nothing to check it by
                assert not file.url
                assert re.search(r"[\w-]+\.(org|edu)/\S+", file.made_from)  # where to ask for it
                continue
            assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in file.hashes().values())
            if not file.url:
                assert re.search(r"[\w.-]+/[\w.-]+, commit [0-9a-f]{40}", file.made_from)
                continue
            # The address is at a commit, which never changes, and ends in the file's own name, after its folder's.
            assert re.fullmatch(r"https://raw\.githubusercontent\.com/[\w.-]+/[\w.-]+/[0-9a-f]{40}/\S+", file.url)
            assert unquote(file.url).endswith("/" + file.name.replace("__", "/"))
    assert len(catalog.entry("classic_series").files) == 8


def test_a_set_is_found_in_the_data_folder_under_either_name(toy, tmp_path):
    folder = put(tmp_path / "data" / "toy", one__csv=ONE, two__csv__gz=TWO_GZ)
    assert catalog.locate("toy") == folder
    assert catalog.locate("toy", "two.csv") == catalog.locate("toy", "two.csv.gz") == folder / "two.csv.gz"
    assert catalog.locate("toy", "one.csv") == folder / "one.csv"


def test_a_file_alone_is_enough_where_only_it_is_asked_for(toy, tmp_path):
    folder = put(tmp_path / "data" / "toy", one__csv=ONE)
    assert catalog.locate("toy", "one.csv") == folder / "one.csv"
    assert "two.csv is not on this machine" in message("toy", "two.csv")


def test_the_cache_comes_after_the_data_folder(toy, tmp_path):
    cache = put(tmp_path / "cache" / "toy", one__csv=ONE, two__csv=TWO)
    assert catalog.locate("toy") == cache
    data = put(tmp_path / "data" / "toy", one__csv=ONE, two__csv=TWO)
    assert catalog.locate("toy") == data


def test_without_settings_the_cache_is_the_users_own(toy, monkeypatch):
    monkeypatch.delenv("LSTMKIT_DATA")
    monkeypatch.delenv("LSTMKIT_CACHE")
    monkeypatch.setattr(pooch, "os_cache", lambda project: Path("/nowhere") / project)
    assert "at /nowhere/lstmkit/toy/one.csv" in message("toy", "one.csv")


def test_what_is_not_here_is_not_fetched_unasked(toy, tmp_path):
    text = message("toy")
    assert "one.csv is not on this machine" in text
    assert "lstmkit data toy" in text
    assert "https://example.org/c0/one.csv" in text
    assert str(tmp_path / "data" / "toy" / "one.csv") in text
    assert str(tmp_path / "cache" / "toy" / "one.csv") in text


def test_fetching_puts_what_is_missing_into_the_cache(toy, tmp_path, monkeypatch):
    put(tmp_path / "cache" / "toy", one__csv=ONE)
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash))
        return str(put(Path(path), two__csv=TWO) / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert catalog.locate("toy", download=True) == tmp_path / "cache" / "toy"
    assert asked == [("https://example.org/c0/two.csv", f"sha256:{sha256(TWO)}")]
    assert catalog.locate("toy", download=True) == tmp_path / "cache" / "toy"
    assert len(asked) == 1  # the second time it is there


def test_a_real_download_is_checked(toy, tmp_path, monkeypatch):
    """Pooch itself, over a local address: the right content is kept, the wrong one is not."""
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


def test_without_a_network_it_says_which_file_to_put_where(toy, tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise ConnectionError("Max retries exceeded\nwith url")

    monkeypatch.setattr(pooch, "retrieve", no_network)
    text = message("toy", "one.csv", download=True)
    assert "one.csv could not be downloaded (ConnectionError)" in text
    assert "put https://example.org/c0/one.csv at" in text
    assert str(tmp_path / "cache" / "toy" / "one.csv") in text


@pytest.mark.parametrize("download", [False, True])
def test_a_file_without_an_address_is_not_fetched(toy, tmp_path, monkeypatch, download):
    """The message says what to put where, and what it is made from; the network is not asked."""
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
def test_a_file_with_another_content_is_refused(toy, tmp_path, where, name):
    folder = put(tmp_path / where / "toy", **{name: b"a,b\n9,9\n"})
    file = name.replace("__", ".")
    text = message("toy", file)
    assert f"{folder / file} is not the file of the catalog" in text
    assert sha256(b"a,b\n9,9\n")[:12] in text
    assert f"https://example.org/c0/{file.removesuffix('.gz')}" in text


def test_unknown_names_get_the_nearest(toy):
    assert "unknown data set 'tow': did you mean 'toy'?" in message("tow")
    assert "unknown data set 'elephants' (known: toy)" in message("elephants")
    assert "data set 'toy' has no file 'ones.csv': did you mean 'one.csv'?" in message("toy", "ones.csv")
    with pytest.raises(DataError, match="unknown data set"):
        catalog.entry("")


@pytest.mark.parametrize("name", catalog.names())
def test_the_sets_on_this_machine_are_those_of_the_catalogue(name):
    root = os.environ.get("LSTMKIT_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"needs the data set {name} in $LSTMKIT_DATA")
    folder = catalog.locate(name)
    assert folder == Path(root) / name
    for file in catalog.entry(name).files:
        path = catalog.locate(name, file.name)
        if path.name != file.name:  # the gzip holds the very file of the source
            assert sha256(gzip.decompress(path.read_bytes())) == file.sha256
