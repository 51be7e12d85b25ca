"""What every job guarantees when it is served; the server itself is tested in test_serve.py."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from job_cases import CASES, make
from lstmkit import command_options
from lstmkit.jobs.base import Job
from lstmkit.jobs.serving import Serving, serving_of
from lstmkit.serve.app import create_app
from lstmkit.serve.requests import MEDIA_TYPES

JSON = MEDIA_TYPES[".json"]


@pytest.fixture(scope="module", params=list(CASES))
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Job[Any], Serving, TestClient]]:
    """A fitted job, how it is served, and a client of it under the name ``run``."""
    job = make(request.param).fit(CASES[request.param].data())
    with TestClient(create_app({"run": job}), base_url="http://localhost") as client:
        yield job, serving_of(job), client


def as_json(records: Any) -> Any:
    """Records as a client reads them: NaN is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return plain(json.loads(json.dumps(records, default=str)))


def test_json_answers_are_those_of_predict(served: tuple[Job[Any], Serving, TestClient]) -> None:
    job, serving, client = served
    response = client.post("/v1/run/predict", json={"data": serving.data.example})
    assert response.status_code == 200, response.text
    expected = job.to_records(job.predict(serving.data.convert(serving.data.example)))
    assert response.json()["answers"] == as_json(expected)


def test_predictions_for_several_requests_are_those_of_each(served: tuple[Job[Any], Serving, TestClient]) -> None:
    job, serving, _ = served
    if serving.predict_each is None:
        pytest.skip("this job joins data, or answers requests one by one")
    data = [serving.data.convert(serving.data.example[skipped:]) for skipped in (0, 1, 2)]
    together = [job.to_records(each) for each in serving.predict_each(data)]
    alone = [job.to_records(job.predict(each)) for each in data]
    assert numbers(together) == pytest.approx(numbers(alone), rel=1e-4, abs=1e-4)
    assert without_numbers(together) == without_numbers(alone)


def test_answers_do_not_depend_on_the_requests_beside(served: tuple[Job[Any], Serving, TestClient]) -> None:
    """A job that joins requests gives each its own records, up to rounding."""
    job, serving, _ = served
    if serving.join is None:
        pytest.skip("this job answers requests one by one")
    data = [serving.data.convert(serving.data.example * count) for count in (1, 2)]
    joined = job.to_records(job.predict(serving.join(data)))
    alone = [record for each in data for record in job.to_records(job.predict(each))]
    assert len(joined) == 3
    assert numbers(joined) == pytest.approx(numbers(alone), abs=1e-4)
    assert without_numbers(joined) == without_numbers(alone)


def numbers(value: Any) -> list[float]:
    """All floats in records, in order."""
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, (list, tuple)):
        return [number for each in value for number in numbers(each)]
    return [value] if isinstance(value, float) else []


def without_numbers(value: Any) -> Any:
    """Records with 0 in place of each float."""
    if isinstance(value, dict):
        return {key: without_numbers(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_numbers(each) for each in value]
    return 0.0 if isinstance(value, float) else value


def test_options_are_the_keywords_of_predict(served: tuple[Job[Any], Serving, TestClient]) -> None:
    """A request has every keyword but those that take a folder or an object; whole numbers have a maximum."""
    job, serving, client = served
    (description,) = client.get("/v1").json()["runs"]
    parameters = inspect.signature(job.predict, eval_str=True).parameters
    open_ended = {
        name for name in command_options.keywords(job.predict) if parameters[name].annotation in (Any, Any | None)
    }
    offered = set(command_options.keywords(job.predict)) - (open_ended - serving.data_options.keys())
    assert {name: option.get("maximum") for name, option in description["options"].items()}.keys() == offered
    for name, option in description["options"].items():
        assert option.get("type") != "integer" or option["maximum"] <= 2**31, name
        assert option.get("description"), name


def test_files_of_the_field_are_answers(served: tuple[Job[Any], Serving, TestClient]) -> None:
    """All endings of the contract are offered; those of some answers only may be refused, with what to do."""
    job, serving, client = served
    (description,) = client.get("/v1").json()["runs"]
    optional = [MEDIA_TYPES[suffix] for suffix in job.optional_answer_suffixes]
    assert description["answers"] == [JSON, *(MEDIA_TYPES[suffix] for suffix in job.answer_suffixes), *optional]
    schema = client.get("/openapi.json").json()["paths"]["/v1/run/predict"]["post"]["responses"]["200"]
    assert [*schema["content"]] == description["answers"]
    for media_type in description["answers"]:
        response = client.post("/v1/run/predict", json={"data": serving.data.example}, headers={"accept": media_type})
        if media_type in optional and response.status_code == 422:
            assert "subtitles need the captions of one video" in response.json()["error"]
            continue
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].partition(";")[0] in (media_type, "application/zip")
        assert response.content


def test_bad_requests_are_refused_in_one_line(served: tuple[Job[Any], Serving, TestClient]) -> None:
    """Wrong types, paths, and numbers out of range get a 4xx; nothing is opened."""
    _, serving, client = served
    values: list[Any] = [None, "/etc/hostname", ["/etc/hostname"], [["/etc/hostname"]], [], {}, -1, 0, 10**9, 1e300]
    values += [[{}], [{"ds": "x"}], [[]], [[[]]], [[[[]]]], [[[1e308]]], [[[[10**30]]]], [""], [" "], True]
    for value in values:
        response = client.post("/v1/run/predict", json={"data": value})
        assert response.status_code in (200, 422), f"{value!r}: {response.text}"
        assert response.status_code == 200 or "\n" not in response.json()["error"]
        if response.status_code == 200:
            assert isinstance(value, (list, int))
    response = client.post("/v1/run/predict", json={"data": serving.data.example, "options": {"no_such": 1}})
    assert response.status_code == 422
    assert "no_such" in response.json()["error"]


def test_live_sessions_answer_each_step(served: tuple[Job[Any], Serving, TestClient]) -> None:
    """Each connection has its own state: two that send the same get the same."""
    _, serving, client = served
    if serving.live is None:
        pytest.skip("this job does not stream")
    with (
        client.websocket_connect("ws://localhost/v1/run/live") as first,
        client.websocket_connect("ws://localhost/v1/run/live") as second,
    ):
        for _ in range(3):
            answers = []
            for socket in (first, second):
                socket.send_json({"step": serving.live.message.example})
                answers.append(socket.receive_json())
            assert "answer" in answers[0], answers[0]
            assert answers[0] == answers[1]
        first.send_json({"step": {"no": "step"}})
        assert "error" in first.receive_json()
        first.send_json({"step": serving.live.message.example})
        assert "answer" in first.receive_json()
    session = serving.live.start()
    expected = [session.step(serving.live.message.example) for _ in range(3)]
    assert answers[1]["answer"] == as_json(expected[-1])


def test_generation_ends_with_the_answer_of_predict(served: tuple[Job[Any], Serving, TestClient]) -> None:
    _, serving, client = served
    if serving.generate is None:
        assert client.post("/v1/run/stream", json={"data": serving.data.example}).status_code == 404
        return
    request = {"data": serving.data.example, "options": {"max_tokens": 4, "seed": 3}}
    text = client.post("/v1/run/stream", json=request).text
    events = [part.split("\ndata: ") for part in text.strip().removeprefix("event: ").split("\n\nevent: ")]
    (answer,) = json.loads(events[-1][1])["answers"]
    assert events[-1][0] == "answers"
    assert "".join(json.loads(data)["text"] for name, data in events if name == "text") == answer["text"]
    assert client.post("/v1/run/predict", json=request).json()["answers"] == [answer]


def test_uploads_of_no_format_are_refused(served: tuple[Job[Any], Serving, TestClient], tmp_path: Path) -> None:
    """Garbage under every ending gets one line without a folder of the server."""
    _, _, client = served
    (description,) = client.get("/v1").json()["runs"]
    for ending in description["files"]:
        for content in (b"", b"\x00\x01 garbage", b"path,file,text\n/etc/hostname,/etc/hostname,x\n"):
            response = client.post("/v1/run/predict/file", files={"file": (f"../x{ending}", content)})
            assert response.status_code in (200, 422), f"{ending}: {response.text}"
            if response.status_code == 422:
                assert "lstmkit-serve" not in response.json()["error"]
                assert "\n" not in response.json()["error"]
    assert client.post("/v1/run/predict/file", files={"file": ("x.exe", b"MZ")}).status_code == 415
