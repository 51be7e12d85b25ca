"""The command line: results on stdout, one line and exit code 2 for a mistake, and never a file half-written."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

import lstmkit
import lstmkit.cli
from lstmkit import recipes, runtime, settings
from lstmkit.data import catalog
from lstmkit.jobs import job_class, job_names, load
from lstmkit.jobs.base import Job
from lstmkit.progress import Progress, Task

TINY = ["--horizon", "3", "--season-length", "4", "--epochs", "2", "--steps-per-epoch", "2", "--hidden-size", "4"]
TINY += ["--batch-size", "8", "--test-windows", "1"]
COLUMNS = ["--id-col", "shop", "--time-col", "day", "--target-col", "sold"]


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """``cli("fit", "forecaster", …)`` in an empty folder: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["lstmkit", *map(str, args)])
        capsys.readouterr()
        code: int | str | None = 0
        try:
            lstmkit.cli.main()
        except SystemExit as stop:
            code = stop.code
        assert isinstance(code, int)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write no report page; it takes longer than everything else."""
    monkeypatch.setattr(Job, "write_report", lambda self, path, examples: path.write_text("report"))


@pytest.fixture
def mistake(cli: Cli, tmp_path: Path) -> Callable[..., str]:
    """Run a command that fails: exit code 2, one line on stderr, nothing on stdout, no file new or changed."""

    def run(*args: str | Path) -> str:
        before = contents(tmp_path)
        result = cli(*args)
        assert result.code == 2, result
        assert result.out == ""
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1
        assert len(result.err) < 2000
        assert contents(tmp_path) == before
        return result.err

    return run


def contents(folder: Path) -> dict[str, bytes | None]:
    """All files and folders below ``folder``, with the bytes of files."""
    paths = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in paths}


def sales(n: int = 40, ahead: int = 3) -> pd.DataFrame:
    """Daily sales of two shops, with a price that is known for ``ahead`` further days."""
    frames = []
    for k, shop in enumerate(("north", "south")):
        sold = 10 + 3 * np.sin(np.arange(n) * np.pi / 2) + 0.3 * np.random.default_rng(k).standard_normal(n)
        days = pd.date_range("2020-01-01", periods=n + ahead)
        price = 1 + np.arange(n + ahead) % 3
        frames.append(pd.DataFrame({"shop": shop, "day": days, "sold": [*sold, *[None] * ahead], "price": price}))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and the file that it was fitted to; tests copy it."""
    folder = tmp_path_factory.mktemp("fitted")
    sales().to_csv(folder / "sales.csv", index=False)
    options = dict(zip([o[2:].replace("-", "_") for o in TINY[::2]], map(int, TINY[1::2]), strict=True))
    names = dict(zip([o[2:].replace("-", "_") for o in COLUMNS[::2]], COLUMNS[1::2], strict=True))
    job_class("forecaster")(**options, **names, future_covariates="price").fit(folder / "sales.csv", run=folder / "run")
    return folder


@pytest.fixture
def here(cli: Cli, fitted: Path, tmp_path: Path) -> Path:
    """The working folder, with ``sales.csv`` and the ``run`` fitted to it."""
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def data(cli: Cli, tmp_path: Path) -> Path:
    """The working folder, with ``sales.csv`` alone."""
    sales().to_csv(tmp_path / "sales.csv", index=False)
    return tmp_path


# ---- what to do ------------------------------------------------------------------------------------------------------

VERBS = ("jobs", "fit", "predict", "evaluate", "look", "data", "reproduce", "lab", "demo", "push", "pull")


def test_help_lists_the_verbs_and_each_has_its_own(cli: Cli):
    """``--help`` is a result: stdout, exit code 0."""
    result = cli("--help")
    assert (result.code, result.err) == (0, "")
    assert all(verb in result.out for verb in VERBS)
    for verb in VERBS:
        result = cli(verb, "--help")
        assert (result.code, result.err) == (0, "")
        assert f"lstmkit {verb}" in result.out


def test_options_may_come_before_the_job(cli: Cli, data: Path):
    """``lstmkit fit --epochs 1 forecaster …`` means the same as with the options last."""
    result = cli("fit", *TINY, "-o", "run", "forecaster", "sales.csv", *COLUMNS)
    assert result.code == 0, result
    assert (data / "run" / "model.json").is_file()
    result = cli("fit", "--help", "forecaster")
    assert result.code == 0
    assert "lstmkit fit forecaster" in result.out


def test_without_a_verb_it_helps(cli: Cli):
    """The help goes to stdout, the missing argument to stderr."""
    result = cli()
    assert result.code == 2
    assert "Usage" in result.out
    assert result.err == "error: give a command (see lstmkit --help)\n"


@pytest.mark.parametrize("job", job_names())
def test_help_of_a_job_shows_its_settings_by_group(job: str, cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """Each setting with its meaning, default, choices and range, in the panel of its group."""
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 250)
    monkeypatch.setattr("typer.rich_utils.FORCE_TERMINAL", False)
    result = cli("fit", job, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"lstmkit fit {job} [OPTIONS] " in result.out
    assert job_class(job).summary in " ".join(result.out.split())
    panels = dict(re.findall(r"╭─ ([\w ]+?) ─+╮\n(.*?)╰", result.out, re.DOTALL))
    assert {"Arguments", "Options"} < panels.keys()
    assert all(option in panels["Options"] for option in ("--run", "-o", "--validation", "--resume", "--json"))
    titles = [title for title in panels if title not in ("Arguments", "Options")]
    groups = settings.grouped(job_class(job))
    assert [title.removesuffix(" settings").lower() for title in titles] == list(groups)
    for title, fields in zip(titles, groups.values(), strict=True):
        text = " ".join(panels[title].replace("│", " ").split())
        for name, field in fields.items():
            assert f"--{name.replace('_', '-')} " in text
            assert field.metadata["help"] in text
            assert ", ".join(field.metadata["choices"]) in text
        numbers = [f for f in fields.values() if f.metadata["low"] is not None and not isinstance(f.default, tuple)]
        assert text.count("<=x") + text.count("x>=") >= len(numbers)
        flags = [name.replace("_", "-") for name, field in fields.items() if isinstance(field.default, bool)]
        assert all(f"--{flag} --no-{flag} " in text for flag in flags)


def test_version(cli: Cli):
    """It goes to stdout."""
    assert cli("--version") == (0, f"{lstmkit.__version__}\n", "")


def test_completion(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """It can be installed, and completes verbs, jobs, settings and choices."""
    assert "--install-completion" in cli("--help").out
    monkeypatch.setenv("_LSTMKIT_COMPLETE", "complete_bash")
    for words, expected in {
        "lstmkit pre": "predict",
        "lstmkit fit forec": "forecaster",
        "lstmkit fit forecaster --hor": "--horizon",
        "lstmkit fit forecaster --cell g": "gru",
    }.items():
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        assert cli().out.split() == [expected]


def test_jobs_and_their_settings(cli: Cli):
    """All jobs with a summary; all settings of a job with their defaults, as the command line takes them."""
    result = cli("jobs")
    assert (result.code, result.err) == (0, "")
    assert {line.split()[0] for line in result.out.splitlines()} == set(job_names())
    for job in job_names():
        rows = json.loads(cli("jobs", job, "--json").out)
        declared = settings.declared(job_class(job))
        grouped = [name for fields in settings.grouped(job_class(job)).values() for name in fields]
        assert sorted(grouped) == sorted(declared)
        assert [row["setting"] for row in rows] == [f"--{name.replace('_', '-')}" for name in grouped]
        assert [row["group"] for row in rows] == [declared[name].metadata["group"] for name in grouped]
        shown = cli("jobs", job).out
        assert all(row["setting"] in shown and row["what"] in shown for row in rows)
        for row, name in zip(rows, grouped, strict=True):
            assert settings.parse(job_class(job), name, row["default"]) == declared[name].default


def test_data_sets_are_listed_and_located(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The catalog with licenses; the folder of a data set given by name, on stdout."""
    rows = json.loads(cli("data", "--json").out)
    assert [row["name"] for row in rows] == catalog.names()
    assert all(row["license"] for row in rows)
    assert all(row["name"] in cli("data").out for row in rows)
    monkeypatch.setattr(catalog, "locate", lambda name, download: tmp_path / name)
    assert cli("data", "ett").out == f"{tmp_path / 'ett'}\n"


def test_recipes_are_listed(cli: Cli):
    """Each has a title."""
    rows = json.loads(cli("reproduce", "--json").out)
    assert [row["recipe"] for row in rows] == [r.name for r in recipes.all_recipes()]
    assert all(r.title in cli("reproduce").out for r in recipes.all_recipes())


# ---- fit -------------------------------------------------------------------------------------------------------------


def test_fit_shows_the_test_and_where_things_are(cli: Cli, data: Path):
    """The table of scores with its notes, the model's folder and the report on stdout; progress on stderr."""
    result = cli("fit", "forecaster", "sales.csv", *COLUMNS, *TINY, "-o", "run")
    assert result.code == 0, result
    assert [line.split()[0] for line in result.out.splitlines()[1:4]] == ["LSTM", "SeasonalNaive", "AutoETS"]
    assert result.out.splitlines()[-2:] == ["model   run", "report  run/report.html"]
    assert "training …" in result.err
    assert "…" not in result.out
    assert load(data / "run").horizon == 3  # type: ignore[attr-defined]


@pytest.mark.usefixtures("no_report")
def test_quiet_and_verbose(cli: Cli, data: Path):
    """``--quiet`` silences progress, not the result; ``--verbose`` shows where a mistake was noticed."""
    fit = ["fit", "forecaster", "sales.csv", *COLUMNS, *TINY, "-o"]
    loud, quiet = cli(*fit, "loud"), cli("--quiet", *fit, "quiet")
    assert "training …" in loud.err
    assert quiet == (0, loud.out.replace("loud", "quiet"), "")
    assert cli("-q", *fit, "quiet").err == (
        "error: quiet holds a run already: give --resume, --overwrite, or another folder\n"
    )
    result = cli("--verbose", *fit, "quiet")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Traceback")
    assert result.err.splitlines()[-1].startswith("error: quiet holds a run already")


def test_a_setting_of_another_kind_of_data(mistake: Callable[..., str], tmp_path: Path):
    """The message names the setting, its kind of data and the kind at hand."""
    rows = "".join(f"the {animal} sat,{animal}\n" for animal in ["cat", "dog"] * 20)
    (tmp_path / "texts.csv").write_text(f"text,label\n{rows}")
    result = mistake("fit", "classifier", "texts.csv", "-o", "new", "--n-mels", "20")
    assert result == "error: --n-mels is a setting for audio, but the data are texts: leave it out\n"


@pytest.mark.usefixtures("no_report")
def test_fit_prints_json(cli: Cli, data: Path):
    """``--json`` prints the run's folder and the content of ``metrics.json``, without its format and SHA-256."""
    result = cli(
        "fit",
        "forecaster",
        "sales.csv",
        *COLUMNS,
        *TINY,
        "-o",
        "run",
        "--json",
        "--cell",
        "gru",
        "--ensemble-size",
        "2",
    )
    metrics = json.loads(result.out)
    saved = json.loads((data / "run/metrics.json").read_text())
    assert {**metrics, "format": 2, "sha256": saved["sha256"]} == {"run": "run", **saved}
    assert metrics["test"]["table"][0]["model"] == "GRU (direct)"
    assert metrics["training"] == ["all epochs done"] * 2


@pytest.mark.parametrize(
    "args",
    [
        ["forecaster", *COLUMNS, *TINY, "sales.csv", "-o", "run"],
        ["forecaster", "-o", "run", "sales.csv", *COLUMNS, *TINY],
        ["forecaster", "--horizon=3", "--no-calendar-features", "sales.csv", "--run=run", *COLUMNS, *TINY],
        ["forecaster", "--no-calendar-features", *COLUMNS, *TINY, "-o", "run", "--log-transform", "sales.csv"],
        ["forecaster", "sales.csv", "--no-log-transform", *COLUMNS, *TINY, "-o", "run", "--log-transform"],
    ],
    ids=range(5),
)
@pytest.mark.usefixtures("no_report")
def test_options_in_any_position(args: list[str], cli: Cli, data: Path):
    """Before or after the data, as ``--name value``, ``--name=value``, ``--flag``, ``--no-flag``; the last counts."""
    result = cli("fit", *args, "--test-windows", "0")
    assert result.code == 0, result
    about = json.loads((data / "run/run.json").read_text())["settings"]
    assert about["horizon"] == 3
    assert about["calendar_features"] == ("--no-calendar-features" not in args)
    assert about["log_transform"] == ("--log-transform" in args)


@pytest.mark.usefixtures("no_report")
def test_fit_validates_on_another_file(cli: Cli, data: Path):
    """``--validation FILE``."""
    sales(30).replace({"north": "east", "south": "west"}).to_csv("other.csv", index=False)
    result = cli("fit", "forecaster", "sales.csv", *COLUMNS, *TINY, "-o", "run", "--validation", "other.csv")
    assert result.code == 0, result
    assert "east" in json.loads((data / "run/model.json").read_text())["state"]["trained_until"]


class StopAt(Progress):
    """Raise KeyboardInterrupt after that many training steps."""

    done = 0

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Task]:
        self.trains = title == "training"
        yield self

    def update(self, done: int, note: str = "") -> None:
        if self.trains and done >= self.done:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("no_report")
def test_notes_name_what_is_typed(cli: Cli, here: Path):
    """As errors do: options of the command line, not keywords of Python."""
    fit = ["fit", "forecaster", "sales.csv", *COLUMNS, *TINY, "-o", "longer"]
    assert cli(*fit, "--epochs", "1").code == 0
    assert "resuming with --epochs 2 instead of 1" in cli(*fit, "--epochs", "2", "--resume").err


@pytest.mark.usefixtures("no_report")
def test_ctrl_c_keeps_the_model_and_prints_how_to_resume(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch):
    """The printed command resumes with all settings; the weights equal those of an uninterrupted run."""
    sales(30).to_csv("my other.csv", index=False)
    monkeypatch.setattr(StopAt, "done", 2)
    fit = ["fit", "forecaster", "sales.csv", *COLUMNS, *TINY, "--test-windows", "0", "--validation", "my other.csv"]
    with monkeypatch.context() as patch:
        patch.setattr(lstmkit.cli, "TerminalProgress", lambda _: StopAt())
        result = cli(*fit, "-o", "run")
    assert result.code == 0
    assert "Training was interrupted; the model is usable." in result.out
    command = shlex.split(result.out.split("Resume with: ")[1])
    assert command[:2] == ["lstmkit", "fit"]
    resumed = cli(*command[1:])
    assert resumed.code == 0, resumed
    assert "interrupted" not in resumed.out
    assert cli(*fit, "-o", "whole").code == 0
    run, whole = (load(data / name).model.state_dict() for name in ("run", "whole"))
    assert all(torch.equal(run[name], whole[name]) for name in whole)


def test_ctrl_c_in_the_first_epoch_stops(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch):
    """No model is saved yet: exit code 130 and one word on stderr; the run can be resumed."""
    monkeypatch.setattr(lstmkit.cli, "TerminalProgress", lambda _: StopAt())
    result = cli("fit", "forecaster", "sales.csv", *COLUMNS, *TINY, "-o", "run")
    assert (result.code, result.out, result.err) == (130, "", "stopped\n")
    result = cli("predict", "run", "sales.csv")
    assert (result.code, result.err) == (
        2,
        "error: run holds a run that was stopped before its model was saved: fit again with --resume\n",
    )


# ---- predict, evaluate, look -----------------------------------------------------------------------------------------


def test_predict_prints_a_table(cli: Cli, here: Path):
    """CSV on stdout; nothing on stderr, no file."""
    result = cli("predict", "run", "sales.csv")
    assert (result.code, result.err) == (0, "")
    table = pd.read_csv(io.StringIO(result.out))
    assert table["shop"].tolist() == ["north"] * 3 + ["south"] * 3
    assert table["day"].tolist()[:3] == ["2020-02-10", "2020-02-11", "2020-02-12"]
    assert table.notna().all(axis=None)


def test_predict_prints_json(cli: Cli, here: Path):
    """The same numbers as records."""
    table = pd.read_csv(io.StringIO(cli("predict", "run", "sales.csv").out))
    records = json.loads(cli("predict", "run", "sales.csv", "--json").out)
    assert list(records[0]) == list(table)
    assert [r["forecast"] for r in records] == pytest.approx(table["forecast"].tolist(), rel=1e-5)


def test_predict_writes_files(cli: Cli, here: Path):
    """``-o`` writes the text of stdout; ``--picture`` a figure in the format of its suffix."""
    result = cli("predict", "run", "sales.csv")
    quiet = cli("predict", "run", "sales.csv", "-o", "out.csv", "--picture", "out.png")
    assert quiet == (0, "", "written out.png\nwritten out.csv\n")
    assert (here / "out.csv").read_text() == result.out
    assert (here / "out.png").read_bytes().startswith(b"\x89PNG")
    assert cli("-q", "predict", "run", "sales.csv", "--json", "-o", "out.json", "--picture", "out.svg") == (0, "", "")
    assert len(json.loads((here / "out.json").read_text())) == 6
    assert b"<svg" in (here / "out.svg").read_bytes()


def test_export_writes_a_folder_that_the_runtime_answers_from(cli: Cli, here: Path):
    """The files and their sizes on stdout; the forecasts are those of predict."""
    pytest.importorskip("onnx", reason="ONNX export needs the extra export")
    result = cli("export", "run", "-o", "exported")
    assert (result.code, result.err) == (0, "recording the networks, some seconds for each\n")
    sizes = {name: (here / "exported" / name).stat().st_size for name in ("network.onnx", "export.json")}
    lines = [line.split() for line in result.out.splitlines()]
    assert lines == [[f"exported/{name}", f"{size:,}", "bytes"] for name, size in sizes.items()]
    expected = json.loads(cli("predict", "run", "sales.csv", "--json").out)
    answers = runtime.load(here / "exported").predict(sales().astype({"day": str}).to_dict("list"))
    assert [a["forecast"] for a in answers] == pytest.approx([r["forecast"] for r in expected], rel=1e-4)


@pytest.mark.parametrize(
    ("args", "phrase"),
    [
        ("run -o out --format h5", "format must be one of onnx, torch, safetensors, got 'h5'"),
        ("run -o out --quantize int4", "quantize must be one of none, int8, got 'int4'"),
        ("run -o out --opset 3", "opset must be 17 to 23, got 3"),
        ("run -o run", "run has other files: give a new folder for the export"),
        ("run -o sales.csv", "sales.csv is a file: give a folder for the export"),
        ("nowhere -o out", "nowhere"),
    ],
)
def test_export_refuses(args: str, phrase: str, cli: Cli, here: Path):
    result = cli("export", *args.split())
    assert (result.code, result.out) == (2, "")
    assert phrase in result.err
    assert not (here / "out").exists()


def test_the_ending_of_a_file_is_its_format(cli: Cli, here: Path):
    """JSON where the name says so; a name of another format is refused, and nothing is written."""
    records = json.loads(cli("predict", "run", "sales.csv", "--json").out)
    assert cli("predict", "run", "sales.csv", "-o", "a.json").code == 0
    assert json.loads((here / "a.json").read_text()) == records
    assert cli("predict", "run", "sales.csv", "-o", "a.jsonl").code == 0
    assert [json.loads(line) for line in (here / "a.jsonl").read_text().splitlines()] == records
    for name in ("a.parquet", "a.XLSX", "a.csv.gz", "a.tsv", "a.png"):
        result = cli("predict", "run", "sales.csv", "-o", name)
        assert (result.code, result.out) == (2, "")
        ending = Path(name).suffix.lower()
        assert f"{name}: the answers are not written as {ending}: give .csv or .txt for text, or .json" in result.err
        assert not (here / name).exists()


def test_predict_with_future_data(cli: Cli, here: Path):
    """``--future-data FILE``, before or after the data."""
    table = sales()
    table[table["sold"].notna()].to_csv("known.csv", index=False)
    table.loc[table["sold"].isna(), ["shop", "day", "price"]].to_csv("ahead.csv", index=False)
    result = cli("predict", "run", "sales.csv")
    assert cli("predict", "run", "known.csv", "--future-data", "ahead.csv") == result
    assert cli("predict", "run", "--future-data", "ahead.csv", "known.csv") == result
    assert cli("predict", "--future-data", "ahead.csv", "run", "known.csv") == result
    assert cli("predict", "--future-data=ahead.csv", "run", "known.csv") == result
    records = cli("predict", "run", "known.csv", "--future-data", "ahead.csv", "--json")
    assert cli("predict", "--json", "run", "known.csv", "--future-data", "ahead.csv") == records
    shutil.copytree("run", "ahead")  # a value may be the folder of another run
    result = cli("predict", "--future-data", "ahead", "run", "known.csv")
    assert result.err == "error: ahead is a folder: give a file\n"


def test_evaluate_prints_the_table(cli: Cli, here: Path):
    """Model and baselines on stdout, as text and as JSON."""
    page = cli("evaluate", "run", "sales.csv", "-o", "page.html", "--baselines", "SeasonalNaive")
    assert page.code == 0
    assert "AutoETS" not in page.out
    text = Path("page.html").read_text(encoding="utf-8")
    assert "Scores on the given data." in text
    assert "data:image/png;base64" in text
    result = cli("evaluate", "run", "sales.csv")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[1].startswith("LSTM (direct)")
    evaluation = json.loads(cli("evaluate", "run", "sales.csv", "--json").out)
    metrics = json.loads((here / "run/metrics.json").read_text())["test"]
    assert [row["model"] for row in evaluation["table"]] == [row["model"] for row in metrics["table"]]
    assert evaluation["table"][0] == pytest.approx(metrics["table"][0])


def test_look_draws_a_page(cli: Cli, here: Path):
    """It writes into the run's folder or to --output, and prints gate statistics."""
    result = cli("look", "run", "sales.csv", "--series", "south")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "page    run/look.html"
    assert "Saturation\n" in result.out
    assert "forget" in result.out
    assert "south" not in (here / "run/report.html").read_text()[:100]
    assert "img" in (here / "run/look.html").read_text()
    assert cli("look", "run", "sales.csv", "-o", "page.html").out.splitlines()[-1] == "page    page.html"
    assert (here / "page.html").exists()


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        ("predict run --help", ["lstmkit predict run [OPTIONS] ", "DATA", "--future-data", "--output", "--json"]),
        ("predict run sales.csv --help", ["lstmkit predict run [OPTIONS] ", "--future-data", "future covariates"]),
        ("look run --help", ["lstmkit look run [OPTIONS] ", "DATA", "--series", "--units", "(default: RUN/look.html)"]),
        ("lab adding --help", ["lstmkit lab adding [OPTIONS]", "--lengths", "--units", "--output"]),
    ],
)
def test_help_of_a_run_or_lab_shows_its_options(args: str, shown: list[str], cli: Cli, here: Path):
    """Options of the verb, the job and the lab are listed, with the help of the method's docstring."""
    result = cli(*args.split())
    assert (result.code, result.err) == (0, "")
    assert all(text in " ".join(result.out.replace("│", " ").split()) for text in map(str.strip, shown))


def test_a_run_that_was_moved_still_works(cli: Cli, here: Path):
    """No file in the folder stores its path."""
    result = cli("predict", "run", "sales.csv")
    (here / "deep").mkdir()
    shutil.move("run", "deep/a run")
    assert cli("predict", "deep/a run", "sales.csv") == result


def test_a_terminal_that_cannot_encode_a_character(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """A "…" that stdout cannot encode is replaced."""
    raw = io.BytesIO()
    plain = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", plain)
    assert cli("jobs", "forecaster").code == 0
    plain.flush()
    assert b"--horizon" in raw.getvalue()


def test_in_a_separate_process(here: Path):
    """Warnings are errors: stderr stays empty; a mistake exits with 2 and without traceback."""
    twice = "from lstmkit.cli import main\ntry: main()\nfinally: sys.argv[3] = 'nowhere.csv'; main()"
    command = [sys.executable, "-W", "error", "-c", f"import sys; {twice}", "predict", "run", "sales.csv"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, timeout=120)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 7
    assert done.stderr == "error: no such file: nowhere.csv\n"


# ---- mistakes --------------------------------------------------------------------------------------------------------

DAYS = [f"2020-01-{d:02d}" for d in range(1, 31)]


def table(values: list[str], days: list[str] | None = None) -> str:
    days = DAYS if days is None else days
    return "day,sold\n" + "".join(f"{day},{value}\n" for day, value in zip(days, values, strict=False))


STEADY = [str(5 + k % 4) for k in range(30)]
BAD_DATA: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "a header alone": ("day,sold\n", "has no rows below the header"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not a text file"),
    "no table": ("Dear diary,\ntoday I sold a lot.\nAnd then, you know, some more, and more.\n", ""),
    "no such column": (table(STEADY).replace("sold", "bought"), "no column 'sold' in bad.csv (columns: day, bought)"),
    "no dates": (table(STEADY, [f"day {k}" for k in range(30)]), "'day 0' is not a date"),
    "a stamp twice": (table(STEADY, [*DAYS[:9], DAYS[8], *DAYS[9:]]), "2 rows with the timestamp 2020-01-09"),
    "irregular steps": (
        table(STEADY, [d + (" 11:30" if "-07" in d else " 00:00") for d in DAYS]),
        "irregular timestamps",
    ),
    "too short": (table(STEADY[:10]), "series 'series' has 10 steps, but horizon 3 needs 11"),
    "one row": (table(STEADY[:1]), "has one row, so the frequency cannot be inferred"),
    "nothing but missing": (table([""] * 30), "'sold' is missing in all its rows"),
    "an infinite value": (table([*STEADY[:9], "inf", *STEADY[10:]]), "row 10 below the header: 'inf' is infinite"),
    "text among numbers": (table([*STEADY[:9], "many", *STEADY[10:]]), "row 10 below the header: 'many' is not a num"),
    "a row too long": (table([*STEADY[:9], "1,5", *STEADY[10:]]), "line 11 has 3 fields, expected 2"),
}


#: Data too short for training are enough for some verbs; others refuse them with another message.
ENOUGH = [("predict", "too short"), ("look", "too short"), ("validate", "too short")]
ENOUGH += [("predict", "one row"), ("look", "one row")]
NOTHING_NEW = "no series has 3 steps after the training and validation data"
OTHERWISE = {("evaluate", what): NOTHING_NEW for what in ("too short", "one row")}


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        (verb, what)
        for verb in ("fit", "validate", "predict", "evaluate", "look")
        for what in BAD_DATA
        if (verb, what) not in ENOUGH
    ],
)
def test_bad_data(verb: str, what: str, mistake: Callable[..., str], tmp_path: Path, plain: Path):
    """Every verb that reads data names the fault in one line; no run is started."""
    content, phrase = BAD_DATA[what]
    (tmp_path / "bad.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "good.csv").write_text(table(STEADY))
    shutil.copytree(plain, tmp_path / "run")
    columns = ["--time-col", "day", "--target-col", "sold"]
    phrase = OTHERWISE.get((verb, what), phrase)
    commands = {
        "fit": ["fit", "forecaster", "bad.csv", "-o", "new", *columns, *TINY],
        "validate": ["fit", "forecaster", "good.csv", "--validation", "bad.csv", "-o", "new", *columns, *TINY],
    }
    assert phrase in mistake(*commands.get(verb, [verb, "run", "bad.csv"]))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run fitted to one daily series."""
    frame = pd.read_csv(io.StringIO(table(STEADY)))
    options = {"time_col": "day", "target_col": "sold", "horizon": 3, "epochs": 1, "steps_per_epoch": 1}
    return job_class("forecaster")(**options, hidden_size=2).fit(frame).save(tmp_path_factory.mktemp("plain") / "model")


@pytest.mark.parametrize(
    ("args", "phrase"),
    [
        ("fit forecaster nowhere.csv -o new", "no such file: nowhere.csv"),
        ("fit forecaster run -o new", "run is a folder: give a file"),
        ("fit forecaster run/report.html -o new", "unsupported file format"),
        ("fit forecaster sales.csv -o new", "no column 'ds' in sales.csv (columns: shop, day, sold, price): give"),
        ("fit forecaster sales.csv -o new --time-col day --target-col sold", "name the column with the series ids"),
        (
            "fit forecaster sales.csv -o run COLUMNS",
            "run holds a run already: give --resume, --overwrite, or another",
        ),
        ("fit forecaster sales.csv -o . COLUMNS", ". holds other files: give a new folder"),
        ("fit forecaster sales.csv -o sales.csv COLUMNS", "sales.csv is a file: give another folder"),
        ("fit forecaster sales.csv -o sales.csv/new COLUMNS", "sales.csv"),
        ("fit forecaster sales.csv COLUMNS", "Missing option '-o'"),
        ("fit forecaster -o new", "Missing argument 'DATA'"),
        ("fit forecaster --log-transform -o new", "Missing argument 'DATA'"),
        ("fit forecaster sales.csv more.csv -o new", "Got unexpected extra argument(s) (more.csv)"),
        ("fit forcast sales.csv -o new", "No such command 'forcast'. Did you mean 'forecaster'?"),
        ("fit forecaster sales.csv -o new --horizn 3", "No such option: --horizn (Possible options: --horizon"),
        ("fit forecaster sales.csv -o new --overwrit", "No such option: --overwrit (Possible options: --overwrite"),
        ("fit forecaster sales.csv -o new --horizon", "Option '--horizon' requires an argument"),
        ("fit forecaster sales.csv -o new --horizon --season-length 4", "'--horizon'"),
        (
            "fit forecaster sales.csv -o new --horizon soon",
            "Invalid value for '--horizon': must be a valid integer, got 'soon' (see lstmkit fit forecaster --help)",
        ),
        (
            "fit forecaster sales.csv -o new --horizon 0",
            "Invalid value for '--horizon': must be greater than or equal to 1, got '0'",
        ),
        ("fit forecaster sales.csv -o new --levels 50,120", "levels must be at most 99"),
        ("fit forecaster sales.csv -o new --levels 50,50 COLUMNS", "levels must be different"),
        ("fit forecaster sales.csv -o new --log-transform=yes", "Option '--log-transform' does not take a value"),
        (
            "fit forecaster sales.csv -o new --cell lsmt",
            "Invalid value for '--cell': 'lsmt' is not one of 'lstm', 'gru', 'rnn'",
        ),
        ("fit forecaster sales.csv -o new --device abacus COLUMNS", "device 'abacus' is not available"),
        ("fit forecaster sales.csv -o new --freq often COLUMNS", "--freq often is not a frequency"),
        ("fit forecaster sales.csv -o new --future-covariates cost COLUMNS", "no column 'cost'"),
        ("fit forecaster sales.csv -o new --past-covariates price --future-covariates price COLUMNS", "has two roles"),
        ("fit forecaster sales.csv -o new COLUMNS --horizon 99", "steps, but horizon 99 needs"),
        ("fit forecaster sales.csv -o new --validation nowhere.csv COLUMNS", "no such file: nowhere.csv"),
        ("fit forecaster sales.csv -o run --resume --overwrite", "give one of them"),
        ("fit forecaster sales.csv -o new --resume", "new holds no run to resume"),
        ("fit forecaster sales.csv -o run --resume --horizon 4", "was started with --horizon 3, not 4"),
        ("fit forecaster other.csv -o run --resume", "run was started on other data"),
        ("predict", "Missing argument 'RUN'. (see lstmkit predict --help)"),
        ("predict --json", "Missing argument 'RUN'"),
        ("predict run", "Missing argument 'DATA'. (see lstmkit predict run --help)"),
        ("predict --json run", "Missing argument 'DATA'"),
        ("predict run sales.csv more.csv", "Got unexpected extra argument(s) (more.csv)"),
        ("predict --json nowhere sales.csv", "nowhere is not a folder"),
        ("predict nowhere sales.csv", "nowhere is not a folder"),
        ("predict sales.csv run", "sales.csv is not a folder"),
        ("predict run nowhere.csv", "no such file: nowhere.csv"),
        ("predict run sales.csv --horizon 4", "No such option: --horizon"),
        ("predict run sales.csv --future-data", "Option '--future-data' requires an argument"),
        ("predict run sales.csv --future-data nowhere.csv", "no such file: nowhere.csv"),
        ("predict run known.csv", "'price' of series 'north' is missing from 2020-02-10 to 2020-02-12 (3 of 3 steps"),
        ("predict run sales.csv -o sales.csv/out.csv", "sales.csv is a file, not a folder"),
        ("predict run sales.csv -o run", "run: Is a directory"),
        ("predict run sales.csv --picture out.doc", "out.doc: images are written as"),
        ("predict run sales.csv --picture out", "out: images are written as"),
        ("evaluate run sales.csv --levels 50", "No such option: --levels"),
        ("evaluate run seen.csv", NOTHING_NEW),
        ("look", "Missing argument 'RUN'. (see lstmkit look --help)"),
        ("look run", "Missing argument 'DATA'"),
        ("look run sales.csv --layer first", "Invalid value for '--layer': must be a valid integer, got 'first'"),
        ("look run sales.csv --series east", "no series 'east' in the data (series: north, south)"),
        ("look run sales.csv --serie north", "No such option: --serie (Possible options: --series"),
        ("look run sales.csv -o nowhere/page.html", "nowhere/"),
        ("look run sales.csv --units 3,x", "--units takes whole numbers separated by commas, not '3,x'"),
        ("look run sales.csv --units 99", "unit 99 does not exist in trunk, layer 1: choose 0 to 3"),
        ("look run sales.csv --layer 2", "layer 2 does not exist: choose 1 to 1"),
        ("look run sales.csv --unroll --step 99999", "step 99999 does not exist: the sequence has steps 0 to"),
        ("look run sales.csv --sort-by memory", "cannot sort by 'memory': choose one of"),
        ("lab addin", "unknown lab 'addin': did you mean 'adding'?"),
        ("lab --units 3", "Missing argument 'NAME'. (see lstmkit lab --help)"),
        ("lab adding --unit 3", "No such option: --unit (Possible options: --units"),
        ("lab adding --units many", "units takes values like 16, not 'many'"),
        ("lab adding --lengths 5", "adding needs lengths of at least 20, got 5"),
        ("jobs forcast", "unknown job 'forcast': did you mean 'forecaster'?"),
        ("data etth", "unknown data set 'etth'"),
        ("reproduce airlin", "unknown recipe 'airlin': did you mean 'airline'?"),
        ("reproduce airline --resume", "--resume needs the folder of the run: --run DIR"),
        ("reproduce airline --overwrite", "--overwrite needs the folder of the run: --run DIR"),
        ("forecast sales.csv", "No such command 'forecast'"),
        ("--loud", "No such option: --loud (see lstmkit --help)"),
    ],
)
def test_mistakes(args: str, phrase: str, mistake: Callable[..., str], here: Path):
    """One line names the mistake; nothing is written or overwritten."""
    table = sales()
    table[table["sold"].notna()].to_csv("known.csv", index=False)
    table[table["day"] <= "2020-02-06"].to_csv("seen.csv", index=False)
    table.assign(sold=table["sold"] + 1).to_csv("other.csv", index=False)
    words = [word for part in args.split() for word in (COLUMNS + TINY if part == "COLUMNS" else [part])]
    assert phrase in mistake(*words)


def test_a_demo_does_not_overwrite_other_files(cli: Cli, data: Path):
    """The error says that the folder is not empty."""
    before = contents(data)
    result = cli("demo", "-o", ".")
    assert (result.code, result.err) == (2, "error: . holds other files: give a new folder\n")
    assert contents(data) == before


@pytest.mark.parametrize("verb", ["predict", "evaluate", "look"])
@pytest.mark.parametrize(
    ("damage", "phrase"),
    [
        (lambda run: (run / "model.json").write_text('{"format": 1, "jo'), "model.json is damaged"),
        (lambda run: (run / "model.json").write_text("[]"), "model.json is damaged"),
        (lambda run: (run / "weights.safetensors").write_bytes(b"abc"), "weights.safetensors is damaged"),
        (lambda run: (run / "weights.safetensors").unlink(), "weights.safetensors is missing"),
        (lambda run: (run / "model.json").unlink(), "fit again with --resume"),
        (lambda run: [p.unlink() for p in run.glob("*.json")], "holds no complete model"),
    ],
    ids=["cut", "list", "noise", "weights gone", "description gone", "both gone"],
)
def test_a_damaged_model(
    verb: str, damage: Callable[[Path], object], phrase: str, mistake: Callable[..., str], here: Path
):
    """Every verb that loads a model says what is wrong with it."""
    damage(here / "run")
    assert phrase in mistake(verb, "run", "sales.csv")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"settings": {"horizn": 3}, "job": "forecaster", "data": ""}'])
def test_a_damaged_run_to_resume(content: str, mistake: Callable[..., str], here: Path):
    """``fit --resume`` says what is wrong with the run."""
    (here / "run/run.json").write_text(content)
    mistake("fit", "forecaster", "sales.csv", "-o", "run", "--resume")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(mistake: Callable[..., str], data: Path):
    """The operating system's message, with the path."""
    (data / "locked").mkdir()
    (data / "locked").chmod(0o500)
    assert "Permission denied" in mistake("fit", "forecaster", "sales.csv", "-o", "locked/run", *COLUMNS, *TINY)


@pytest.mark.usefixtures("no_report")
def test_a_constant_series_works(cli: Cli, tmp_path: Path):
    """Fit, predict, evaluate and look succeed; the forecast is the constant."""
    (tmp_path / "flat.csv").write_text(table(["7"] * 30))
    result = cli(
        "fit", "forecaster", "flat.csv", "-o", "run", "--time-col", "day", "--target-col", "sold", *TINY, "--json"
    )
    assert result.code == 0, result
    json.loads(result.out)
    forecasts = pd.read_csv(io.StringIO(cli("predict", "run", "flat.csv").out))
    assert forecasts["forecast"].to_numpy() == pytest.approx(7, abs=0.01)
    assert json.loads(cli("evaluate", "run", "flat.csv", "--json").out)["table"][0]["MAE"] < 0.1
    assert cli("look", "run", "flat.csv").code == 0


@pytest.mark.usefixtures("no_report")
def test_overwrite_replaces_a_run(cli: Cli, here: Path):
    """``--overwrite`` replaces the old run."""
    before = (here / "run/model.json").read_bytes()
    result = cli("fit", "forecaster", "sales.csv", *COLUMNS, *TINY, "-o", "run", "--overwrite", "--test-windows", "0")
    assert result.code == 0, result
    assert (here / "run/model.json").read_bytes() != before
    assert "test" in json.loads((here / "run/metrics.json").read_text())
