"""The server: limits, batches, uploads, streams, metrics, logs, and a process that is stopped or killed."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

import lstmkit
import lstmkit.cli
from job_cases import CASES, make
from lstmkit.data.files import confined_to, is_file, read_bytes
from lstmkit.errors import DataError, UserError
from lstmkit.jobs import load
from lstmkit.jobs.base import Job
from lstmkit.serve.app import create_app
from lstmkit.serve.batching import Worker
from lstmkit.serve.limits import RefusedError
from lstmkit.serve.monitoring import JsonFormatter
from lstmkit.serve.options import ServeOptions
from lstmkit.serve.uploads import request_folder, upload_root

PREDICT, FILE = "/v1/run/predict", "/v1/run/predict/file"
TEXTS = {"data": ["the cat sat", "a mat"]}
TABLE = b"text\nthe cat sat\na mat\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted classifier of texts, as a run."""
    folder = tmp_path_factory.mktemp("serve") / "run"
    make("classifier", test_fraction=0.0).fit(CASES["classifier"].data()).save(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(run: Path) -> Job[Any]:
    return load(run)


@pytest.fixture(scope="module")
def detector() -> Job[Any]:
    return make("anomaly_detector").fit(CASES["anomaly_detector"].data())


@pytest.fixture(scope="module")
def client(classifier: Job[Any]) -> Iterator[TestClient]:
    with client_of(classifier) as client:
        yield client


def client_of(job: Job[Any], **options: Any) -> TestClient:
    """A client of a server with one run, ``run``."""
    return TestClient(create_app({"run": job}, ServeOptions(**options)), base_url="http://localhost")


def live_at(client: TestClient, query: str = "", **options: Any) -> WebSocketTestSession:
    """A live connection to the run; the client's own host name is another."""
    return client.websocket_connect(f"ws://localhost/v1/run/live{query}", **options)


# ---- requests --------------------------------------------------------------------------------------------------------


def test_a_file_gets_the_answers_of_predict(client: TestClient, classifier: Job[Any], tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_bytes(TABLE)
    response = client.post(FILE, files={"file": ("texts.csv", TABLE)})
    assert response.json()["answers"] == classifier.to_records(classifier.predict(tmp_path / "texts.csv"))
    table = client.post(FILE, files={"file": ("texts.csv", TABLE)}, headers={"accept": "text/csv"})
    assert table.text == classifier.to_text(classifier.predict(tmp_path / "texts.csv")) + "\n"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "Invalid JSON"),
        (b"[" * 100_000, 400, "recursion limit"),
        (b'{"data":' + b'{"a":' * 100_000, 400, "recursion limit"),
        (b"{}", 422, "data: Field required"),
        (b'{"data": "/etc/hostname"}', 422, "data: "),
        (b'{"data": ["a"], "data": ["b"], "more": 1}', 422, "more: "),
        (b'{"data": ["a"], "options": {"keyword_threshold": "1"}}', 422, "options.keyword_threshold"),
        (b'{"data": ["a"], "options": {"keyword_threshold": 1e999}}', 422, "options.keyword_threshold"),
        (b'{"data": ["a"], "options": {"keyword_threshold": 0.5}}', 422, "keyword spotting needs a model of audio"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_broken_body_is_refused_with_the_reason(client: TestClient, body: bytes, status: int, reason: str) -> None:
    response = client.post(PREDICT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == status
    assert reason in response.json()["error"]
    assert "\n" not in response.json()["error"]


def test_other_formats_are_refused(client: TestClient) -> None:
    assert client.post(PREDICT, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    assert client.post(FILE, json=TEXTS).status_code == 415
    assert client.post(PREDICT, json=TEXTS, headers={"accept": "image/png"}).status_code == 406
    assert client.post(FILE, files={"file": ("a.exe", b"MZ")}).status_code == 415
    assert client.post(FILE, data={"options": "{}"}, files={"other": ("a.csv", TABLE)}).status_code == 422
    assert client.post(FILE, files={"file": ("a.csv", TABLE)}, data={"options": "["}).status_code == 400
    assert client.get("/v1/run/nothing").json() == {"error": "Not Found"}
    assert client.get(PREDICT).status_code == 405


def test_missing_values_are_null(detector: Job[Any]) -> None:
    with client_of(detector) as client:
        rows = [{"a": 0.1, "b": None}, *[{"a": 0.1, "b": 0.2}] * 5]
        response = client.post(PREDICT, json={"data": rows})
        assert response.status_code == 200
        assert "NaN" not in response.text
        wide = client.post(PREDICT, json={"data": [{str(k): 1} for k in range(30_000)]})
        assert wide.status_code == 422
        assert "columns" in wide.json()["error"]


# ---- who may ask, and how much ---------------------------------------------------------------------------------------


def test_the_token_is_needed_for_all_that_tells_of_a_run(classifier: Job[Any]) -> None:
    with client_of(classifier, token="secret") as client:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Bearer é".encode()},
            {"authorization": "secret"},
        ):
            for path in (PREDICT, FILE, "/v1", "/metrics", "/openapi.json"):
                refused = client.request("POST" if "predict" in path else "GET", path, headers=headers)
                assert refused.status_code == 401, path
                assert refused.headers["www-authenticate"] == "Bearer"
        assert client.post(PREDICT, json=TEXTS, headers={"authorization": "bearer secret"}).status_code == 200
        assert [client.get(path).status_code for path in ("/", "/health", "/ready")] == [200] * 3


def test_a_live_connection_needs_token_and_origin(detector: Job[Any]) -> None:
    with client_of(detector, token="secret") as client:
        for options in ({}, {"subprotocols": ["bearer", "wrong"]}, {"headers": {"origin": "http://evil.example"}}):
            with pytest.raises(WebSocketDisconnect), live_at(client, **options):
                pass
        with live_at(client, subprotocols=["bearer", "secret"]) as live:
            assert live.accepted_subprotocol == "bearer"


def test_other_hosts_and_web_pages_are_refused(classifier: Job[Any]) -> None:
    page = {"origin": "https://page.example"}
    with client_of(classifier, cors_origins=("https://page.example",)) as client:
        assert client.get("/health", headers={"host": "evil.example"}).status_code == 400
        assert client.get("/health", headers={"host": "127.0.0.1:9"}).status_code == 200
        assert client.get("/health", headers={"host": "[::1]:9"}).status_code == 200
        assert client.post(PREDICT, json=TEXTS, headers={"origin": "https://evil.example"}).status_code == 403
        allowed = client.post(PREDICT, json=TEXTS, headers=page)
        assert allowed.headers["access-control-allow-origin"] == "https://page.example"
    with client_of(classifier) as client:
        own = client.post(PREDICT, json=TEXTS, headers={"origin": "http://localhost"})
        assert own.status_code == 200
        assert "access-control-allow-origin" not in own.headers
        assert client.post(PREDICT, json=TEXTS, headers=page).status_code == 403
        for origin in ("null", "http://[", "http://localhost:9", "http://localhost@evil.example"):
            assert client.post(PREDICT, json=TEXTS, headers={"origin": origin}).status_code == 403, origin
            assert client.get("/health", headers={"origin": origin}).status_code == 403, origin
        for host in ("localhost:evil", "evil.example@localhost", "localhost."):
            assert client.get("/health", headers={"host": host}).status_code == 400, host
        two_hosts = [("host", "localhost"), ("host", "evil.example")]
        assert client.get("/health", headers=two_hosts).status_code == 400


def test_a_large_request_is_refused_before_it_is_read(classifier: Job[Any]) -> None:
    with client_of(classifier, max_megabytes=0.01) as client:
        announced = client.post(PREDICT, content=b"x", headers={"content-length": str(10 * 2**30)})
        assert (announced.status_code, announced.headers["connection"]) == (413, "close")
        for path in (PREDICT, FILE):
            kind = "application/json" if path == PREDICT else "multipart/form-data; boundary=x"
            chunked = client.post(path, content=iter([b"x" * 5000] * 5), headers={"content-type": kind})
            assert (chunked.status_code, chunked.json()["error"]) == (
                413,
                "the request has more than 0.01 MB: send less",
            )
        assert client.post(PREDICT, content=b"x", headers={"content-length": "-1"}).status_code == 413


def test_an_answer_that_takes_too_long_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network stops at its next layer, so the run answers others at once."""
    model = make("language_model").fit(CASES["language_model"].data())
    with client_of(model, time_limit=0.3) as client:
        endless = {"data": ["the"], "options": {"max_tokens": 10_000}}
        late = client.post(PREDICT, json=endless)
        assert late.status_code == 504
        assert "time limit" in late.json()["error"]
        assert client.post(PREDICT, json={"data": ["the"], "options": {"max_tokens": 1}}).status_code == 200
        events = client.post("/v1/run/stream", json=endless).text
        assert events.rpartition("event: error\ndata: ")[2].startswith('{"error":')
        refused = client.post("/v1/run/stream", json={"data": ["the"], "options": {"top_p": 2.0}})
        assert (refused.status_code, refused.json()["error"]) == (422, "top_p must be above 0 and at most 1, got 2")
        assert client.post("/v1/run/stream", json={"data": ["a", "b"]}).status_code == 422


# ---- files -----------------------------------------------------------------------------------------------------------


def test_only_files_of_the_request_are_opened(tmp_path: Path) -> None:
    """Whatever a table names, existing or not, the answer is the same."""
    secret = tmp_path / "secret.png"
    shutil.copy(Path(__file__).parents[1] / "docs/img" / os.listdir(Path(__file__).parents[1] / "docs/img")[0], secret)
    for name in ("captioner", "classifier:audio", "transcriber"):
        if name not in CASES:
            continue
        with client_of(make(name).fit(CASES[name].data())) as client:
            reasons = set()
            for path in (secret, tmp_path / "nothing.png"):
                for column in ("path", "file"):
                    table = f"{column},text,caption\n{path},x,x\n".encode()
                    response = client.post(FILE, files={"file": ("a.csv", table)})
                    assert response.status_code == 422, response.text
                    reasons.add((column, response.json()["error"].replace(str(path), "PATH")))
            assert len(reasons) == 2, reasons


def test_confined_files(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "secret.txt"
    inside.mkdir()
    outside.write_text("secret")
    (inside / "own.txt").write_text("own")
    (inside / "link.txt").symlink_to(outside)
    (inside / "loop.txt").symlink_to(inside / "loop.txt")
    with confined_to(inside):
        assert read_bytes(inside / "own.txt") == b"own"
        for path in (outside, inside / ".." / "secret.txt", inside / "link.txt"):
            assert not is_file(path)
            with pytest.raises(DataError, match="is not among the given files"):
                read_bytes(path)
        with pytest.raises(DataError):
            read_bytes(inside / "loop.txt")
    assert read_bytes(outside) == b"secret"


def test_uploads_leave_nothing(client: TestClient) -> None:
    """The name of an upload is the server's, and nothing of it stays; what a killed server left is removed."""
    before = {*Path(tempfile.gettempdir()).glob("lstmkit-serve-*/*")}
    for name in ("a.csv", "../../a.csv", "/tmp/a.csv", "\x00.csv", "a" * 500 + ".csv"):
        assert client.post(FILE, files={"file": (name, TABLE)}).status_code == 200
    assert {*Path(tempfile.gettempdir()).glob("lstmkit-serve-*/*")} == before
    with upload_root() as used, request_folder(used) as folder:
        assert folder.stat().st_mode & 0o077 == 0
        abandoned = Path(tempfile.mkdtemp(prefix="lstmkit-serve-"))
        (abandoned / "lock").touch()
        with upload_root():
            assert used.exists()
            assert not abandoned.exists()
    assert not used.exists()


# ---- batches ---------------------------------------------------------------------------------------------------------


def run_worker(
    answer: Callable[[Sequence[Any]], Sequence[Any]], requests: Sequence[tuple[Any, Any]], **options: Any
) -> Any:
    """Answers to ``(data, key)`` that all wait before the thread starts; exceptions are answers too."""

    async def ask() -> list[Any]:
        worker = Worker("test", **options)
        tasks = [asyncio.create_task(worker.batched(answer, data, key, 5.0)) for data, key in requests]
        await asyncio.sleep(0)
        worker.start()
        try:
            return await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            worker.stop(5.0)

    return asyncio.run(ask())


def test_waiting_requests_are_answered_together() -> None:
    """Those with the same key, in the order in which they came; at most ``max_batch``."""
    batches: list[list[Any]] = []

    def answer(data: Sequence[Any]) -> list[Any]:
        batches.append([*data])
        return [10 * each for each in data]

    requests = [(1, "a"), (2, "b"), (3, "a"), (4, None), (5, "a"), (6, None), (7, "a")]
    assert run_worker(answer, requests, max_batch=3) == [10, 20, 30, 40, 50, 60, 70]
    assert batches == [[1, 3, 5], [2], [4], [6], [7]]


def test_a_refused_request_does_not_harm_those_beside() -> None:
    def answer(data: Sequence[Any]) -> list[Any]:
        if "bad" in data:
            raise DataError("no")
        if "broken" in data:
            raise RuntimeError("a fault")
        return [*data]

    good, bad, other = run_worker(answer, [("good", 1), ("bad", 1), ("other", 1)])
    assert (good, other) == ("good", "other")
    assert isinstance(bad, UserError)
    first, second = run_worker(answer, [("broken", 1), ("good", 2)])
    assert isinstance(first, RuntimeError)
    assert second == "good"


def test_a_full_queue_refuses_and_a_batch_waits() -> None:
    answers = run_worker(list, [(k, 0) for k in range(5)], max_queue=3)
    assert answers[:3] == [0, 1, 2]
    for refused in answers[3:]:
        assert isinstance(refused, RefusedError)
        assert (refused.status, refused.headers) == (503, {"retry-after": "1"})

    async def gather_late() -> list[int]:
        sizes: list[int] = []
        worker = Worker("test", max_batch=2, max_wait=60.0, observe=lambda size, _seconds: sizes.append(size))
        worker.start()
        first = asyncio.create_task(worker.batched(list, 1, "k", 90.0))
        await asyncio.sleep(0.05)
        assert not first.done()
        await asyncio.gather(first, worker.batched(list, 2, "k", 90.0))
        worker.stop(5.0)
        return sizes

    assert asyncio.run(gather_late()) == [2]


def test_requests_of_many_clients_are_joined(classifier: Job[Any]) -> None:
    """Requests that come in while the model is busy are answered in fewer batches, each with its own records."""
    texts = [f"the cat {k}" for k in range(24)]
    with client_of(classifier) as client:
        answers: dict[str, Any] = {}

        def ask(text: str) -> None:
            answers[text] = client.post(PREDICT, json={"data": [text]}).json()["answers"]

        threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {text: [(row["id"], row["text"]) for row in rows] for text, rows in answers.items()} == {
            text: [("1", text)] for text in texts
        }
        metrics = client.get("/metrics").text
    assert f'lstmkit_requests_total{{path="{PREDICT}",status="200"}} 24.0' in metrics
    assert float(re.findall(r'lstmkit_batch_size_sum\{run="run"\} ([\d.]+)', metrics)[0]) == 25  # and the warm-up


# ---- streams ---------------------------------------------------------------------------------------------------------


def test_live_scores_are_those_of_the_whole_series(detector: Job[Any]) -> None:
    series = CASES["anomaly_detector"].data()[["a", "b"]]
    expected = detector.predict(series)[0].scores
    with client_of(detector) as client, live_at(client) as live:
        for values, score in zip(series.to_numpy()[:40].tolist(), expected, strict=False):
            live.send_json({"step": values})
            assert live.receive_json()["answer"]["score"] == pytest.approx(float(score), rel=1e-3, abs=1e-3)
        for message in (
            "[",
            '{"step": [1], "finish": true}',
            "{}",
            '{"step": [1e999, 0]}',
            '{"step": [1, 2, 3]}',
            '{"x": 1}',
        ):
            live.send_text(message)
            assert "error" in live.receive_json()
        live.send_bytes(b"\x00\x00")
        assert "binary" in live.receive_json()["error"]
        live.send_json({"finish": True})
        with pytest.raises(WebSocketDisconnect) as closed:
            live.receive_json()
        assert closed.value.code == 1000


def test_a_live_transcript_is_that_of_the_whole_recording() -> None:
    """Samples come as numbers or as 16-bit integers; options are in the address."""
    rate, rng = 8000, np.random.default_rng(0)
    clips = [(0.3 * np.sin(np.arange(2000) * rng.uniform(0.2, 1))).astype(np.float32) for _ in range(20)]
    job = lstmkit.Transcriber(bidirectional=False, hidden_size=4, n_mels=8, epochs=1, batch_size=8, sample_rate=rate)
    job.fit(([(clip, rate) for clip in clips], ["ab", "ba"] * 10))
    clip = np.round(clips[0] * 2**15) / 2**15
    expected = job.to_records(job.predict([(clip, rate)], beam_size=1))[0]
    with client_of(job) as client, live_at(client, "?sample_rate=8000") as live:
        live.send_json({"step": clip[:700].tolist()})
        assert live.receive_json()["answer"].keys() == {"text"}
        live.send_bytes((clip[700:] * 2**15).astype("<i2").tobytes())
        live.receive_json()
        live.send_bytes(b"\x00")
        assert "lacks a byte" in live.receive_json()["error"]
        live.send_json({"finish": True})
        answer = live.receive_json()["answer"]
    assert answer["text"] == expected["text"]
    assert [c["text"] for c in answer["characters"]] == [c["text"] for c in expected["characters"]]
    with client_of(job) as client, live_at(client, "?sample_rate=7") as live:
        assert "sample rate 7 Hz" in live.receive_json()["error"]


def test_live_options_and_silence(detector: Job[Any]) -> None:
    with client_of(detector, idle_limit=0.05) as client:
        with live_at(client, "?nothing=1") as live:
            assert "nothing" in live.receive_json()["error"]
        with live_at(client) as live:
            with pytest.raises(WebSocketDisconnect) as closed:
                live.receive_json()
            assert closed.value.reason == "no message for 0.05 s"


# ---- what the server tells of itself ---------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    response = client.get("/")
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//|@import|url\(""", response.text)
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert client.get("/docs").text == response.text


def test_the_schema_has_data_and_options(client: TestClient, classifier: Job[Any]) -> None:
    schema = client.get("/openapi.json").json()
    body = schema["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["data"]["items"] == {"type": "string"}
    options = body["properties"]["options"]["properties"]
    assert options["keyword_threshold"]["default"] == 0.0
    assert "spot_keywords" in options["keyword_threshold"]["description"]
    assert "$ref" not in json.dumps(body)


def test_unknown_paths_are_one_metric(client: TestClient) -> None:
    for k in range(3):
        client.get(f"/unknown/{k}")
    assert 'lstmkit_requests_total{path="other",status="404"}' in client.get("/metrics").text
    assert "/unknown/" not in client.get("/metrics").text


def test_the_log_has_a_json_object_per_line() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.info("two\nlines", extra={"fields": {"status": 200, "path": Path("x")}})
    try:
        raise ValueError("a fault")
    except ValueError:
        logger.exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["message"], first["status"], first["path"]) == ("two\nlines", 200, "x")
    assert second["traceback"].startswith("Traceback")


def test_a_fault_of_ours_is_no_traceback_for_the_client(classifier: Job[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app({"run": classifier})
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        monkeypatch.setattr(type(classifier), "to_records", lambda self, predictions: 1 / 0)
        response = client.post(PREDICT, json=TEXTS)
        assert (response.status_code, response.json()) == (500, {"error": "the server failed; its log says where"})
        monkeypatch.undo()
        assert client.post(PREDICT, json=TEXTS).status_code == 200


def test_ready_only_while_it_runs(classifier: Job[Any]) -> None:
    app = create_app({"run": classifier})
    client = TestClient(app, base_url="http://localhost")
    assert (client.get("/ready").status_code, client.get("/health").status_code) == (503, 200)
    with client:
        assert client.get("/ready").status_code == 200
    assert client.get("/ready").status_code == 503


# ---- the command -----------------------------------------------------------------------------------------------------


def command(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["lstmkit", "serve", *arguments])
    with pytest.raises(SystemExit) as stopped:
        lstmkit.cli.main()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_command_refuses_in_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = shutil.copytree(run, tmp_path / "broken")
    (broken / "weights.safetensors").unlink()
    port = str(free_port())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        used = str(taken.getsockname()[1])
        for arguments, reason in (
            ([str(broken), "--port", port], "weights.safetensors is missing"),
            ([str(tmp_path / "nothing"), "--port", port], "is not a folder"),
            ([str(run), f"run={broken}", "--port", port], "two runs have the name"),
            ([f"a/b={run}", "--port", port], "cannot be part of an address"),
            ([str(run), "--port", used], "cannot be listened at"),
        ):
            assert command(*arguments, monkeypatch=monkeypatch) == 2
            error = capsys.readouterr().err
            assert reason in error
            assert error.count("\n") == 1


@pytest.fixture
def process(run: Path, tmp_path: Path) -> Iterator[tuple[Callable[[], subprocess.Popen[bytes]], int]]:
    """Starts ``lstmkit serve`` on a copy of the run; what is left at the end is killed."""
    port, started = free_port(), []
    copy = shutil.copytree(run, tmp_path / "run")
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            arguments = [sys.executable, "-m", "lstmkit", "serve", str(copy), "--port", str(port)]
            started.append(subprocess.Popen(arguments, stdout=log, stderr=log, env=environment))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and started[-1].poll() is None:
            with contextlib.suppress(OSError):
                if ask(port, "GET", "/ready")[0] == 200:
                    return started[-1]
            time.sleep(0.05)
        raise AssertionError((tmp_path / "log").read_text())

    yield start, port
    for each in started:
        each.kill()
        each.wait()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def test_a_process_is_killed_restarted_and_stopped(
    process: tuple[Callable[[], subprocess.Popen[bytes]], int], run: Path, tmp_path: Path
) -> None:
    """A slow client harms nobody; kill -9 leaves nothing for long; at SIGTERM the request under way is answered."""
    start, port = process
    body = json.dumps(TEXTS).encode()
    server = start()
    with connected(port) as slow, connected(port) as long:
        slow.sendall(b"POST /v1/run/predict HTTP/1.1\r\nHost: loc")
        status, answer = ask(port, "POST", PREDICT, body)
        assert status == 200
        long.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 50_000)
        assert b" 400 " in long.recv(1000).split(b"\r\n")[0]
        for file in (tmp_path / "run").iterdir():  # the run is replaced by garbage: the loaded one is served
            file.write_bytes(b"garbage")
        assert ask(port, "POST", PREDICT, body) == (200, answer)
        server.kill()
        server.wait()
    assert len([*tmp_path.glob("lstmkit-serve-*")]) == 1
    shutil.copytree(run, tmp_path / "run", dirs_exist_ok=True)
    server = start()
    assert len([*tmp_path.glob("lstmkit-serve-*")]) == 1
    with connected(port) as late:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        late.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body[:5])
        time.sleep(0.2)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        late.sendall(body[5:])
        assert late.recv(10_000).startswith(b"HTTP/1.1 200")
    assert server.wait(30) == 0
    assert not [*tmp_path.glob("lstmkit-serve-*")]
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"serving", "request"} <= {line["message"] for line in lines}
    assert "traceback" not in lines[-1]
