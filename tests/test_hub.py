"""Models to and from a hub: a server on this machine that answers as the Hugging Face hub does."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from huggingface_hub import constants, file_download

import lstmkit
from lstmkit import UserError, cli
from lstmkit.hub.transfer import pull, push
from lstmkit.jobs.base import Job

SHA = "a" * 40
UPLOADED = {"model.json", "weights.safetensors", "README.md", "metrics.json", "history.csv", "report.html"}


class Hub(ThreadingHTTPServer):
    """The part of the hub's interface that an upload and a download use.

    Attributes:
        repositories: By name, the content of each file by its name.
        paths: Paths of all requests.
        sizes: Sizes that the hub states in place of the true ones.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.paths: list[str] = []
        self.sizes: dict[str, int] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refused(self) -> bool:
        self.server.paths.append(self.path)
        if self.headers.get("Authorization") == "Bearer hf_wrong":
            error = {"X-Error-Message": "Invalid credentials in Authorization header"}
            self.answer({"error": "Invalid credentials in Authorization header"}, 401, error)
            return True
        return False

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        content = self.rfile.read(size)
        if self.refused():
            return
        path = urlsplit(self.path).path
        if path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            self.server.private[name] = asked.get("private") is True or asked.get("visibility") == "private"
            self.answer({"url": f"{self.server.address}/{name}", "name": name, "id": name})
        elif path.endswith("/preupload/main"):
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(content)["files"]]
            self.answer({"files": files})
        elif path.endswith("/commit/main"):
            name = path.removeprefix("/api/models/").removesuffix("/commit/main")
            for line in map(json.loads, content.decode().splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.server.repositories[name][value["path"]] = base64.b64decode(value["content"])
            address = f"{self.server.address}/{name}/commit/{SHA}"
            self.answer({"success": True, "commitOid": SHA, "commitUrl": address, "hookOutput": ""})
        else:
            self.answer({"warnings": [], "errors": []})  # the check of the card's YAML

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.refused():
            return
        path = unquote(urlsplit(self.path).path)
        name = "/".join(path.removeprefix("/api/models/").strip("/").split("/")[:2])
        files = self.server.repositories.get(name)
        if files is None:
            self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif path.startswith("/api/models/"):
            siblings = [{"rfilename": f, "size": self.server.sizes.get(f, len(c))} for f, c in files.items()]
            self.answer({"id": name, "sha": SHA, "siblings": siblings})
        else:
            file = files[path.split(f"/resolve/{SHA}/")[1]]
            self.answer(file, headers={"ETag": f'"{hash(file)}"', "X-Repo-Commit": SHA})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)  # of older versions
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "run"
    wave = np.stack([np.sin(np.arange(200) / 3), np.cos(np.arange(200) / 4)], axis=1)
    settings: dict[str, Any] = {"hidden_size": 2, "window": 10, "epochs": 1, "steps_per_epoch": 1}
    lstmkit.AnomalyDetector(**settings).fit(wave, run=folder)
    (folder / "private notes.txt").write_text("mine")
    return folder


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["lstmkit", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def same(a: Job, b: Job) -> bool:
    weights = b.model.state_dict()
    return all(tensor.equal(weights[name]) for name, tensor in a.model.state_dict().items())


def test_a_model_goes_to_the_hub_and_back(hub: Hub, run: Path, tmp_path: Path):
    assert push(run, "me/waves", private=True) == f"{hub.address}/me/waves"
    assert hub.repositories["me/waves"].keys() == UPLOADED
    assert hub.private["me/waves"]
    assert pull("me/waves", tmp_path / "new/copy") == tmp_path / "new/copy"
    assert {path.name for path in (tmp_path / "new/copy").iterdir()} == UPLOADED - {"report.html"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy"]
    assert same(lstmkit.load(tmp_path / "new/copy"), lstmkit.load(run))


def test_the_verbs_do_so_too(hub: Hub, run: Path, tmp_path: Path, monkeypatch, capsys):
    assert command(monkeypatch, "push", run, "me/waves", "--no-report") == 0
    assert capsys.readouterr().out == f"{hub.address}/me/waves\n"
    assert hub.repositories["me/waves"].keys() == UPLOADED - {"report.html"}
    assert not hub.private["me/waves"]
    (tmp_path / "empty").mkdir()
    assert command(monkeypatch, "pull", "me/waves", "-o", tmp_path / "empty") == 0
    assert capsys.readouterr().out == f"model   {tmp_path / 'empty'}\n"
    assert same(lstmkit.load(tmp_path / "empty"), lstmkit.load(run))


def test_other_files_of_a_repository_are_not_downloaded(hub: Hub, run: Path, tmp_path: Path):
    push(run, "me/waves")
    others = {"pytorch_model.bin": b"pickle", "model.py": b"code", "../evil": b"", "sub/model.json": b"{}"}
    hub.repositories["me/waves"] |= others
    pull("me/waves", tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == UPLOADED - {"report.html"}
    assert not [path for path in hub.paths if any(name in path for name in (*others, "report.html"))]


@pytest.mark.parametrize("repo", ["me/nothing", "me/waves"])
def test_what_is_no_model_leaves_nothing(repo: str, hub: Hub, run: Path, tmp_path: Path):
    hub.repositories["me/waves"] = {"README.md": b"# waves"}
    message = "holds no model of lstmkit: model.json and weights" if repo == "me/waves" else "is not on the hub, or is"
    with pytest.raises(UserError, match=message):
        pull(repo, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_damaged_model_leaves_nothing(hub: Hub, run: Path, tmp_path: Path):
    push(run, "me/waves")
    files = hub.repositories["me/waves"]
    files["weights.safetensors"] = files["weights.safetensors"][:-1] + b"!"
    with pytest.raises(UserError, match=r"is not the file that model\.json describes"):
        pull("me/waves", tmp_path / "copy")
    assert not list(tmp_path.glob("*copy*"))


def test_a_large_model_is_refused_before_it_is_downloaded(hub: Hub, run: Path, tmp_path: Path):
    push(run, "me/waves")
    hub.sizes = {"weights.safetensors": 2_000_000_000}
    hub.paths.clear()
    with pytest.raises(UserError, match="me/waves takes more than 1,000 MB"):
        pull("me/waves", tmp_path / "copy")
    assert not [path for path in hub.paths if "resolve" in path]


def test_a_wrong_token_is_one_line(hub: Hub, run: Path, tmp_path: Path):
    message = re.escape("the hub refuses the access token for me/waves (401): log in with 'hf auth login'")
    with pytest.raises(UserError, match=message):
        push(run, "me/waves", token="hf_wrong")
    with pytest.raises(UserError, match=message):
        pull("me/waves", tmp_path / "copy", token="hf_wrong")


def test_names_and_folders_are_checked_first(hub: Hub, run: Path, tmp_path: Path):
    with pytest.raises(UserError, match=re.escape("'a b/c' is not a name of a repository: give USER/NAME")):
        pull("a b/c", tmp_path / "copy")
    with pytest.raises(UserError, match="exists already: give a new folder"):
        pull("me/waves", run)
    with pytest.raises(UserError, match="is not a folder"):
        push(tmp_path / "nothing", "me/waves")
    assert not hub.paths


def test_without_a_network_there_is_one_line(run: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # a port that nobody serves
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    for words in (("push", run, "me/waves"), ("pull", "me/waves", "-o", tmp_path / "copy")):
        assert command(monkeypatch, *words) == 2
        error = capsys.readouterr().err
        assert re.fullmatch(
            r"error: the hub cannot be reached \(.+\): check the network, a proxy and HF_ENDPOINT\n", error
        )
    assert not (tmp_path / "copy").exists()


def test_without_the_library_the_extra_is_named(run: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    for words in (("push", run, "me/waves"), ("pull", "me/waves", "-o", tmp_path / "copy")):
        assert command(monkeypatch, *words) == 2
        line = "error: the Hugging Face hub needs huggingface_hub: pip install 'lstmkit[hub]'\n"
        assert capsys.readouterr().err == line
