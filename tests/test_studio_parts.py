"""The studio without a browser: columns, forms, drawings, command lines, what a request may do."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from format_samples import ENDINGS, sample
from job_cases import CASES, make
from lstmkit import settings
from lstmkit.data.formats import DataFormat
from lstmkit.data.tables.table import read_file
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.jobs import job_class, job_names
from lstmkit.jobs.base import LIVE_INPUTS
from lstmkit.jobs.settings import settings_of

pytest.importorskip("starlette")

from starlette.responses import PlainTextResponse

from lstmkit.studio.columns import TableColumns
from lstmkit.studio.drawing import draw
from lstmkit.studio.forms import Field, keyword_fields, read_keywords, read_settings, settings_form, typed_again
from lstmkit.studio.live_inputs import data_of, inputs_of, row_columns
from lstmkit.studio.security import Guard
from lstmkit.studio.training import Trainings, fit_arguments
from lstmkit.studio.workspace import NotFoundError, Workspace

every_job = pytest.mark.parametrize("name", job_names())


def sent(fields: list[Field]) -> dict[str, list[str]]:
    """What a browser sends of unchanged inputs: no switch that is off, no empty list."""
    values: dict[str, list[str]] = {}
    for field in fields:
        if field.kind == "switch":
            values |= {field.name: ["true"]} if field.value else {}
        elif field.kind == "choices":
            values |= {field.name: list(field.value)} if field.value else {}
        else:
            values[field.name] = [str(field.value)]
    return values


def all_fields(name: str, columns: TableColumns | None, values: dict[str, Any]) -> list[Field]:
    main, others = settings_form(settings_of(name), columns, [("/runs/a", "a")], values)
    fields = [*main.fields, *(field for group in others for field in group.fields)]
    assert sorted(field.name for field in fields) == sorted(settings.declared(settings_of(name)))
    return fields


TABLE = TableColumns(["day", "shop", "sales"], ["day"], ["sales"], ["shop"], ["shop"])


@every_job
@pytest.mark.parametrize("columns", [None, TABLE], ids=["file", "table"])
def test_an_unchanged_form_is_the_defaults(name: str, columns: TableColumns | None):
    assert read_settings(settings_of(name), sent(all_fields(name, columns, {}))) == {}


@every_job
def test_a_choice_holds_its_value(name: str):
    """Else the browser would choose another one."""
    for field in all_fields(name, TABLE, {}):
        if field.kind == "choice":
            assert field.value in [value for value, _ in field.choices], field.name


def test_changed_settings_come_back_as_values_and_as_options(tmp_path: Path):
    changed = {
        "horizon": 7,
        "time_col": "day",
        "target_col": "sales",
        "past_covariates": ("shop",),
        "calendar_features": False,
        "freq": "D",
        "lr": 0.01,
        "levels": (80, 95),
        "cell": "gru",
    }
    fields = all_fields("forecaster", TABLE, changed)
    assert {field.name for field in fields if field.is_changed} == changed.keys()
    assert read_settings(settings_of("forecaster"), sent(fields)) == changed
    workspace = Workspace(tmp_path)
    run = workspace.new_run("forecaster", "sales-1", changed)
    assert run == workspace.run(run.id) or dict(workspace.run(run.id).settings) == json.loads(json.dumps(changed))
    words = fit_arguments(workspace.run(run.id), Path("sales.csv"))
    assert words[:5] == ["fit", "forecaster", "sales.csv", "-o", str(run.model_folder)]
    assert set(words[5:]) == {
        "--horizon=7", "--time-col=day", "--target-col=sales", "--past-covariates=shop", "--no-calendar-features",
        "--freq=D", "--lr=0.01", "--levels=80,95", "--cell=gru",
    }  # fmt: skip
    assert fit_arguments(run, Path("sales.csv"), resume=True)[5:] == ["--resume"]


def test_what_was_typed_is_shown_again():
    """Wrong numbers, a switch that was turned off, a list that was emptied."""
    cls = settings_of("forecaster")
    typed = {**sent(all_fields("forecaster", TABLE, {"past_covariates": ("shop",)})), "horizon": ["seven"]}
    typed = {name: values for name, values in typed.items() if name not in ("calendar_features", "past_covariates")}
    fields = {field.name: field for field in all_fields("forecaster", TABLE, typed_again(cls, typed))}
    assert {name for name, field in fields.items() if field.is_changed} == {"horizon", "calendar_features"}
    assert fields["horizon"].value == "seven"
    assert sent(list(fields.values())) == typed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("horizon", "seven", "horizon must be a whole number, got 'seven'"), ("horizon", "0", "at least 1")],
)
def test_a_wrong_value_is_named(name: str, value: str, message: str):
    with pytest.raises(SettingError, match=message):
        read_settings(settings_of("forecaster"), {**sent(all_fields("forecaster", None, {})), name: [value]})


@pytest.mark.parametrize(
    ("job", "content", "guesses"),
    [
        ("forecaster", "at,x,z\n2024-01-01,1.5,3\n2024-01-02,2.5,4\n", {"time_col": "at", "target_col": "x"}),
        ("forecaster", "price\n1\n2\n", {"time_col": "", "target_col": "price"}),
        ("forecaster", "ds,y,z\n2024-01-01,1,2\n2024-01-02,1,2\n", {}),
        (
            "classifier",
            "review,mood\nI liked it,up\nI did not,down\nnot at all,down\nvery much,up\n",
            {"text_col": "review", "label_col": "mood"},
        ),
        ("translator", "en,de\na dog runs,ein Hund\na cat,eine Katze\n", {"source_col": "de", "target_col": "en"}),
        ("recommender", "user,item\na,x\na,y\nb,x\nb,y\n", {"item_col": "user"}),
    ],
)  # fmt: skip
def test_columns_are_guessed(job: str, content: str, guesses: dict[str, str], tmp_path: Path):
    """Of languages and items only a reader knows which is which: the form shows the guess."""
    path = tmp_path / "table.csv"
    path.write_text(content, encoding="utf-8")
    assert TableColumns.of(read_file(path)).guesses(settings_of(job)) == guesses


@every_job
def test_keywords_have_inputs_but_no_paths(name: str):
    """What is sent back unchanged gives the defaults; no text names a model or a file."""
    cls = job_class(name)
    for method in (cls.predict, cls.example_sequences):
        fields = keyword_fields(method)
        values = read_keywords(method, sent([field for field in fields if field.kind != "file"]))
        assert not {"lm", "transcriber", "prime", "future_data", "progress"} & values.keys()
        assert all(isinstance(value, (bool, int, float, str)) for value in values.values())


# ---- drawings --------------------------------------------------------------------------------------------------------

FORMATS = list({(each.name, ending): (job, each, ending) for job, each, ending in ENDINGS}.values())


@pytest.mark.parametrize(
    ("job", "data_format", "ending"), FORMATS, ids=[f"{each.name}{ending}" for _, each, ending in FORMATS]
)
def test_every_format_is_drawn(job: str, data_format: DataFormat, ending: str, tmp_path: Path):
    path = sample(job, data_format, ending, tmp_path)
    if "," in path:
        pytest.skip("two files: the command line takes them")
    drawing = draw(Path(path))
    shown = (drawing.chart, drawing.image, drawing.audio, drawing.text, drawing.columns, drawing.names, drawing.summary)
    assert any(shown)
    json.dumps(drawing.chart, allow_nan=False)


def test_series_of_a_long_table_are_drawn_by_id(tmp_path: Path):
    days = pd.date_range("2024-01-01", periods=9).strftime("%Y-%m-%d")
    frames = [pd.DataFrame({"shop": shop, "day": days, "sales": np.arange(9.0)}) for shop in ("<b>a</b>", "b")]
    pd.concat(frames).to_csv(tmp_path / "long.csv", index=False)
    drawing = draw(tmp_path / "long.csv")
    assert drawing.chart is not None
    assert [trace["name"] for trace in drawing.chart["data"]] == ["&lt;b&gt;a&lt;/b&gt;", "b"]
    assert drawing.summary == "18 rows, 3 columns"


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", b"\x00\x01"), ("a.csv", b""), ("a.png", b"x"), ("a.wav", b"RIFF"), ("a", b"\x00a\n")],
)
def test_a_file_that_is_not_what_it_says_is_refused(name: str, content: bytes, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError):
        draw(tmp_path / name)


# ---- the workspace ---------------------------------------------------------------------------------------------------


def test_names_are_chosen_by_the_server(tmp_path: Path):
    workspace = Workspace(tmp_path / "studio")
    upload = workspace.add([("../../Sales 2024.csv", io.BytesIO(b"a"))])
    assert upload.path == tmp_path / "studio" / "data" / "sales_2024-1" / "files" / "Sales_2024.csv"
    chosen = workspace.add([("clips/yes/1.wav", io.BytesIO(b"a")), ("clips/../no/1.wav", io.BytesIO(b"b"))])
    assert chosen.path == tmp_path / "studio" / "data" / "clips-1" / "files"
    assert sorted(path.parent.name for path in chosen.path.rglob("*.wav")) == ["no", "yes"]
    assert chosen.size == 2
    assert workspace.add([("sales 2024.csv", io.BytesIO(b"b"))]).id == "sales_2024-2"
    several = workspace.add([("x.png", io.BytesIO(b"a")), ("x.png", io.BytesIO(b"b"))])
    assert sorted(path.name for path in several.path.iterdir()) == ["x-2.png", "x.png"]
    assert workspace.uploads()[0].id == several.id
    for id in ("..", "../data", "", "sales_2024-3", "/etc", "sales_2024-1/files"):
        with pytest.raises(NotFoundError):
            workspace.upload(id)
        with pytest.raises(NotFoundError):
            workspace.run(id)
    workspace.remove_upload(upload.id)
    assert upload.id not in [each.id for each in workspace.uploads()]


def test_a_run_without_a_process_can_be_resumed_or_says_why_not(tmp_path: Path):
    """What a studio finds that was started again."""
    run = Workspace(tmp_path).new_run("forecaster", "sales-1", {})
    assert Trainings().state(run).status == "failed"
    run.log.write_text('{"say": "reading"}\nerror: a.csv has no rows\n', encoding="utf-8")
    state = Trainings().state(run)
    assert (state.status, state.error, state.messages) == ("failed", "a.csv has no rows", ["reading"])
    run.log.write_text('{"task": "training", "done": 1, "total": 2}\n{"ta', encoding="utf-8")
    run.model_folder.mkdir()
    (run.model_folder / "run.json").write_text("{}", encoding="utf-8")
    state = Trainings().state(run)
    assert (state.status, state.can_resume, state.has_model) == ("unfinished", True, False)


def test_a_process_that_scores_the_model_is_not_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C after training would leave no report."""
    run, trainings, interrupted = Workspace(tmp_path).new_run("forecaster", "sales-1", {}), Trainings(), []
    monkeypatch.setattr(trainings, "is_running", lambda run: True)
    monkeypatch.setattr(trainings, "_interrupt", interrupted.append)
    lines = ['{"task": "training 1/2"}', '{"ended": "training 1/2"}', '{"task": "training 2/2"}']
    for count, expected in ((0, 1), (1, 2), (2, 2), (3, 3)):
        run.log.write_text("\n".join(lines[:count]), encoding="utf-8")
        trainings.stop(run)
        assert len(interrupted) == expected, lines[:count]
    run.log.write_text("\n".join([*lines, '{"ended": "training 2/2"}', '{"task": "baselines"}']), encoding="utf-8")
    trainings.stop(run)
    assert len(interrupted) == 3


# ---- data that are typed, recorded or drawn --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CASES if job_class(name.partition(":")[0]).live_inputs])
def test_live_inputs_are_read_by_predict(name: str, tmp_path: Path):
    """What a page sends of text, strokes or a number becomes data that the job answers."""
    job = make(name).fit(CASES[name].data())
    texts = {"lines": ["ab\n\nab"], "count": ["2"], "strokes": [json.dumps([[0, 0, 0], [5, 9, 0], [9, 3, 1]])]}
    texts |= {f"row-{k}": ["AVAV"] for k in range(len(row_columns(job)))}
    tried = [kind for kind in inputs_of(job) if kind in ("lines", "row", "count", "canvas")]
    for kind in tried:
        folder = tmp_path / kind
        folder.mkdir()
        if (name, kind) in REFUSED:
            with pytest.raises(UserError):
                job.predict(data_of(job, kind, texts, folder))
            continue
        assert len(job.to_records(job.predict(data_of(job, kind, texts, folder), **CASES[name].predict_options)))
    for kind in LIVE_INPUTS.keys() - set(inputs_of(job)):
        with pytest.raises(DataError):
            data_of(job, kind, texts, tmp_path)


#: A model that writes texts by hand takes no number.
REFUSED = {("handwriting_synthesizer", "count"), ("handwriting_synthesizer", "canvas")}


@pytest.mark.parametrize("strokes", ["", "[]", "[[1, 2]]", "[[1, 2, 0]]", "{}", "[[1, 2, 0], [1, null, 1]]", "x"])
def test_no_drawing_is_an_error(strokes: str, tmp_path: Path):
    job = make("handwriting_synthesizer").fit(CASES["handwriting_synthesizer"].data())
    with pytest.raises(DataError, match="there is no drawing"):
        data_of(job, "canvas", {"strokes": [strokes]}, tmp_path)


# ---- security --------------------------------------------------------------------------------------------------------


def test_the_guard_lets_only_pages_of_the_studio_write():
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("done")(scope, receive, send)

    def status(method: str, host: str, **headers: str) -> int:
        messages: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        named = {"host": host, "content-length": "0", **headers}
        scope = {"type": "http", "method": method, "path": "/"}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in named.items()]
        asyncio.run(Guard(answer)(scope, receive, send))
        return messages[0]["status"]

    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"):
        assert status("GET", host) == 200, host
    for host in ("evil.example", "localhost:evil", "evil.example@localhost", "localhost.", "::1:8000"):
        assert status("GET", host) == 400, host
    own = "localhost:8000"
    assert status("POST", own) == 403
    assert status("POST", own, origin="http://localhost:8000") == 200
    for origin in ("null", "http://evil.example", "http://localhost", "ftp://localhost:8000", "http://["):
        assert status("GET", own, origin=origin) == 403, origin
        assert status("POST", own, origin=origin) == 403, origin
    assert status("GET", own, origin="http://localhost:8000") == 200
