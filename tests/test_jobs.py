"""What every job guarantees, tested for every job. A new job adds its tiny data to ``job_cases.py``."""

from __future__ import annotations

import copy
import html.parser
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard

from job_cases import CASES, case_name, fitted, make, predict_records, without_sum
from lstmkit import Transcriber, look, settings
from lstmkit.errors import DataError, ModelFileError, SettingError, UserError
from lstmkit.jobs import job_class, job_names, load
from lstmkit.jobs.base import LIVE_INPUTS, Evaluation, Job
from lstmkit.jobs.model_card import CardData, model_card
from lstmkit.models.base import Ensemble
from lstmkit.progress import Progress, Task
from lstmkit.training import checkpoint
from lstmkit.training.run_folder import RunFolder, is_unfinished

CELLS = ("lstm", "gru", "rnn")

every_job = pytest.mark.parametrize("name", job_names())
every_case = pytest.mark.parametrize("name", list(CASES))


def weights(job: Job) -> dict[str, torch.Tensor]:
    return dict(job.model.state_dict())


def same(a: Job, b: Job) -> bool:
    return weights(a).keys() == weights(b).keys() and all(torch.equal(t, weights(b)[n]) for n, t in weights(a).items())


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below the folder, by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class StopAt(Progress):
    """Raises ``error``, Ctrl-C by default, once ``done`` steps of a task with ``title`` are done."""

    def __init__(self, title: str, done: int, error: BaseException | None = None) -> None:
        self.title, self.done, self.error = title, done, error or KeyboardInterrupt()

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Task]:
        yield _StoppingTask(self) if title == self.title else _RunningTask()


class _RunningTask:
    def update(self, done: int, note: str = "") -> None:
        pass


class _StoppingTask:
    def __init__(self, stop: StopAt) -> None:
        self.stop = stop

    def update(self, done: int, note: str = "") -> None:
        if done >= self.stop.done:
            raise self.stop.error


class Killed(BaseException):
    """An exception that no code catches, as if the process were killed."""


@pytest.fixture(scope="module", params=list(CASES))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """A job fitted into a run folder. Copy the folder to change it."""
    folder = tmp_path_factory.mktemp(request.param.replace(":", "_")) / "run"
    return make(request.param).fit(CASES[request.param].data(), run=folder), folder


@pytest.fixture
def copied(finished: tuple[Job, Path], tmp_path: Path) -> tuple[Job, Path]:
    shutil.copytree(finished[1], tmp_path / "run")
    return finished[0], tmp_path / "run"


# ---- settings --------------------------------------------------------------------------------------------------------


def test_every_job_has_test_data():
    """Every job in ``jobs/`` is tested."""
    assert {name.partition(":")[0] for name in CASES} == set(job_names())


@every_job
def test_every_job_has_a_name_and_a_summary(name: str):
    """The name is that of the module, the summary is one line, and the class takes settings by name only."""
    cls = job_class(name)
    assert cls.name == name
    assert cls.summary.endswith(".")
    assert "\n" not in cls.summary
    with pytest.raises(SettingError, match="takes settings by name"):
        cls(3)  # type: ignore[call-arg]


@every_job
def test_every_setting_has_help_and_a_valid_default(name: str):
    """Each setting has help text, a default in its range, and a text form that parses back to the default."""
    cls = job_class(name)
    for setting, declared in settings.declared(cls).items():
        assert declared.metadata["help"]
        default = declared.default
        assert settings.checked(cls, setting, default) == default
        text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
        assert settings.parse(cls, setting, text) == default


@every_job
def test_an_unknown_setting_is_refused_with_the_nearest_name(name: str):
    """A misspelled setting is refused with a suggestion."""
    with pytest.raises(SettingError, match="unknown setting 'hiden_size': did you mean 'hidden_size'"):
        make(name, hiden_size=3)


@every_job
@pytest.mark.parametrize(
    ("setting", "value", "phrase"),
    [
        ("hidden_size", 0, "hidden_size must be at least 1"),
        ("dropout", 1.0, "dropout must be at most 0.95"),
        ("epochs", 2.5, "epochs must be a whole number"),
        ("epochs", True, "epochs must be a whole number"),
        ("lr", "fast", "lr must be a number"),
        ("lr", float("nan"), "lr must be"),
        ("cell", "lsmt", "cell must be one of lstm, gru, rnn"),
        ("seed", 2**70, "seed must be at most"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(name: str, setting: str, value: Any, phrase: str):
    """The message names the setting and its allowed values."""
    with pytest.raises(SettingError, match=phrase):
        make(name, **{setting: value})


@every_job
@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_an_unavailable_device_is_refused(name: str, device: str, tmp_path: Path):
    """An unavailable device is refused before anything is written."""
    with pytest.raises(SettingError, match=f"device '{device}' is not available"):
        make(name, device=device).fit(CASES[name].data(), run=tmp_path / "run")
    assert not list(tmp_path.iterdir())


# ---- fit, save and load ----------------------------------------------------------------------------------------------


@every_case
def test_an_unfitted_job_asks_for_fit_or_load(name: str, tmp_path: Path):
    """Every method that needs a model asks for fit or load."""
    job, data = make(name), CASES[name].data()
    for method in (job.predict, job.evaluate, job.example_sequences, lambda _: job.save(tmp_path / "model")):
        with pytest.raises(UserError, match=r"is not fitted: call fit first, or lstmkit\.load"):
            method(data)
    assert not list(tmp_path.iterdir())


@pytest.mark.sampled(4, each=("name", "options"))
@every_case
@pytest.mark.parametrize(
    "options", [{"cell": cell} for cell in CELLS] + [{"ensemble_size": 2}, {"num_layers": 2}], ids=str
)
def test_a_loaded_job_predicts_the_same(name: str, options: dict[str, Any], tmp_path: Path):
    """Predictions are equal bit for bit, with every cell, in a stack and as an ensemble, also when saved again."""
    case = CASES[name]
    job = make(name, **options).fit(case.data())
    loaded = load(job.save(tmp_path / "model"))
    assert type(loaded) is type(job)
    assert settings.values(loaded) == settings.values(job)
    assert isinstance(loaded.model, Ensemble) == (job.ensemble_size == 2)
    for data in (case.data(), case.other()):
        assert predict_records(loaded, data) == predict_records(job, data)
    loaded.save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "options"), [(name, o) for name, case in CASES.items() for o in case.options], ids=str
)
def test_settings_of_one_job_are_saved(name: str, options: dict[str, Any], tmp_path: Path):
    """A loaded job with job-specific settings predicts the same."""
    data = CASES[name].data()
    data = data.assign(x=np.arange(len(data)) % 5) if "past_covariates" in options else data
    job = make(name, **options).fit(data)
    assert predict_records(load(job.save(tmp_path)), data) == predict_records(job, data)


@every_case
def test_predictions_have_text_records_files_and_a_figure(name: str, tmp_path: Path):
    """Predictions give text, JSON records, files and a figure; predicting does not change the data."""
    job, data = fitted(name), CASES[name].data()
    predictions = job.predict(data)
    assert job.to_text(predictions).strip()
    assert json.loads(json.dumps(job.to_records(predictions), allow_nan=False))
    assert job.plot(data, predictions).axes
    for suffix in job.answer_suffixes:
        folder = tmp_path / suffix[1:]
        folder.mkdir()
        job.write(predictions, folder / f"answers{suffix}")
        assert {file.suffix for file in folder.iterdir()} == {suffix}
        assert all(file.stat().st_size for file in folder.iterdir())
    assert set(job.live_inputs) <= LIVE_INPUTS.keys()
    assert look.sections(job.network, job.example_sequences(data))[-1].title == "One step of the cell"
    assert repr(data) == repr(CASES[name].data())


@every_case
def test_the_same_seed_gives_the_same_weights(name: str):
    """Another seed or other data give other weights; the global random state neither matters nor changes."""
    case = CASES[name]
    torch.manual_seed(5)
    first = make(name).fit(case.data())
    after = torch.rand(2)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(2), after)
    assert same(make(name).fit(case.data()), first)
    assert not same(make(name, seed=1).fit(case.data()), first)
    assert not same(make(name).fit(case.other()), first)


@every_case
def test_evaluate_compares_the_model_with_baselines(name: str):
    """The model is the first row, baselines follow, every metric has a direction, and the result is JSON."""
    evaluation = fitted(name).evaluate(CASES[name].data())
    assert len(evaluation.table) >= 2
    assert {*evaluation.directions} == {*evaluation.table.columns} - {"model"}
    assert (
        json.loads(json.dumps(evaluation.to_json(), allow_nan=False))["table"][0]["model"]
        == evaluation.table["model"][0]
    )
    assert all(model in str(evaluation) for model in evaluation.table["model"])


# ---- the run folder --------------------------------------------------------------------------------------------------


def test_a_run_folder_is_complete(finished: tuple[Job, Path]):
    """Model, history, metrics, report and checkpoints are readable, and no partly written file remains."""
    job, run = finished
    names = {"weights.safetensors", "model.json", "run.json", "history.csv", "metrics.json", "report.html", "README.md"}
    assert {p.name for p in run.iterdir()} == names | {"checkpoints"}
    about = json.loads((run / "run.json").read_text())
    assert (about["job"], about["settings"]) == (job.name, settings.values(job))
    rows = pd.read_csv(run / "history.csv")
    assert rows[["seed", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2], [0, 3]]
    assert np.isfinite(rows[["train_loss", "valid_loss", "lr"]]).all(axis=None)
    metrics = without_sum(run / "metrics.json")
    assert job.evaluation is not None
    scores = {"test": job.evaluation.to_json(), "validation": None, "training": ["all epochs done"]}
    assert metrics == {"format": 1, **scores}
    assert predict_records(load(run)) == predict_records(job)


def test_the_model_card_is_what_the_hub_reads(finished: tuple[Job, Path]):
    job, run = finished
    text = (run / "README.md").read_text(encoding="utf-8")
    card = ModelCard(text)
    assert (card.data.library_name, card.data.license) == ("lstmkit", None)
    assert card.data.pipeline_tag in {None, *job.pipeline_tags.values()}
    assert job.evaluation is not None
    scores = job.evaluation.table.iloc[0][list(job.evaluation.directions)]
    assert card.data.eval_results is not None
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found == {name: value for name, value in scores.items() if np.isfinite(value)}
    assert all(str(row) in text for row in job.evaluation.table["model"])
    assert job.summary in text
    assert str(run.parent) not in text
    assert all(
        f"| {name} |" in text.replace("\\_", "_") for name, v in job.get_params().items() if changed(job, name, v)
    )


def test_the_model_card_leaves_out_the_run_folders_that_settings_name():
    folder = "/home/someone/private-run"
    job = Transcriber(init_from=folder, lm=folder)
    card = model_card(job, CardData(settings.DATA_KINDS, "0" * 64, 1), None, [])
    assert "private-run" not in card
    assert card.count("(a run on the author's machine)") == 2


def changed(job: Job, name: str, value: Any) -> bool:
    fields = settings.declared(type(job))
    return name in settings.in_effect(job, job.predictor.data_kinds) and value != fields[name].default


class _Page(html.parser.HTMLParser):
    """A parsed HTML page: its tags, its links and its text."""

    VOID = ("meta", "img", "br", "hr", "link", "input", "col")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "action", "data", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_self_contained(finished: tuple[Job, Path]):
    """The page has tables, images, scores and settings, no script and no external reference."""
    job, run = finished
    text = (run / "report.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert page.open == []
    assert {"table", "img"} <= {*page.tags}
    assert "script" not in page.tags
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "url(" not in text
    assert "@import" not in text
    assert job.evaluation is not None
    assert job.evaluation.examples is not None
    for phrase in (*job.evaluation.table["model"], job.evaluation.examples.counted, "hidden_size"):
        assert phrase in page.text


def test_calibration_starts_from_the_network(finished: tuple[Job, Path]):
    """A second calibration gives what the first gave."""
    job = copy.deepcopy(finished[0])
    examples = job.read(CASES[case_name(job)].data())
    first = json.dumps(job.predictor.state(), default=str)
    job.calibrate(job.split(examples, None).valid)
    job.keep_context(examples)
    assert json.dumps(job.predictor.state(), default=str) == first


class Lines(Progress):
    """Keeps the lines that are said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_scores_during_training_change_nothing(finished: tuple[Job, Path], monkeypatch: pytest.MonkeyPatch):
    """Model and baseline are scored on validation examples in training; weights and answers are those without."""
    plain, name = finished[0], case_name(finished[0])
    monkeypatch.setattr("lstmkit.jobs.validation_scores.FIRST_AFTER", 0.0)
    monkeypatch.setattr("lstmkit.jobs.base.SAMPLE", 3)
    lines = Lines()
    scored = make(name).fit(CASES[name].data(), progress=lines)
    assert same(plain, scored)
    assert predict_records(plain) == predict_records(scored)
    said = [line for line in lines.said if line.startswith("validation after epoch ")]
    assert bool(said) is (scored.name != "anomaly_detector"), lines.said
    assert all(" nan" not in line for line in said)


def test_a_part_of_the_validation_examples_can_be_sampled(finished: tuple[Job, Path], monkeypatch: pytest.MonkeyPatch):
    """Long validation splits are scored in part while a job trains."""
    monkeypatch.setattr("lstmkit.jobs.base.SAMPLE", 1)
    job = finished[0]
    unfitted = make(case_name(job))
    unfitted.progress = Progress()
    valid = unfitted.split(unfitted.read(CASES[case_name(job)].data()), None).valid
    if valid is None or not job.can_score(valid):
        return
    part = job.sample(valid)
    assert 0 < len(job.source(part)) <= len(job.source(valid))
    assert not hasattr(part, "subset") or len(part) == 1


def test_the_report_is_small(finished: tuple[Job, Path]):
    assert (finished[1] / "report.html").stat().st_size < 500_000


def test_the_report_lists_the_settings_that_count(finished: tuple[Job, Path]):
    """Run details have the settings in effect: none of other kinds of data, none of methods not chosen."""
    job, run = finished
    details = (run / "report.html").read_text(encoding="utf-8").split("<footer>")[1]
    names = set(re.findall("<dt>(.*?)</dt>", details)) - {"job", "lstmkit", "torch"}
    assert names == settings.in_effect(job, job.predictor.data_kinds).keys()
    others = set(settings.DATA_KINDS) - set(job.predictor.data_kinds)
    assert not {settings.declared(type(job))[name].metadata["group"] for name in names} & others


@pytest.mark.usefixtures("no_report")
def test_resuming_a_finished_run_changes_nothing(copied: tuple[Job, Path]):
    """Neither a file nor a prediction changes. The next test has the report."""
    job, run = copied
    before = contents(run)
    resumed = make(case_name(job)).fit(CASES[case_name(job)].data(), run=run, resume=True)
    assert same(resumed, job)
    assert predict_records(resumed) == predict_records(job)
    assert {**contents(run), "report.html": before["report.html"]} == before


@pytest.mark.sampled(4)
def test_resuming_a_finished_run_writes_the_same_report(copied: tuple[Job, Path]):
    job, run = copied
    before = contents(run)
    (run / "report.html").unlink()
    make(case_name(job)).fit(CASES[case_name(job)].data(), run=run, resume=True)
    assert contents(run) == before


@pytest.mark.usefixtures("no_report")
@every_case
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Killed()], ids=["Ctrl-C", "kill"])
def test_a_run_stopped_between_epochs_resumes_to_the_same_weights(name: str, error: BaseException, tmp_path: Path):
    """Ctrl-C in the second seed leaves a usable model, a kill leaves none; resuming gives the same bits."""
    data, run = CASES[name].data(), tmp_path / "run"
    stop = StopAt("training 2/2", 3, error)
    if isinstance(error, KeyboardInterrupt):
        make(name, ensemble_size=2).fit(data, run=run, progress=stop)
        assert not same(load(run), fitted(name, 2))
        assert json.loads((run / "metrics.json").read_text())["training"] == ["all epochs done", "interrupted"]
    else:
        with pytest.raises(Killed):
            make(name, ensemble_size=2).fit(data, run=run, progress=stop)
        with pytest.raises(ModelFileError, match="stopped before its model was saved: fit again with resume=True"):
            load(run)
    resumed = make(name, ensemble_size=2).fit(data, run=run, resume=True)
    assert same(resumed, fitted(name, 2))
    assert same(load(run), fitted(name, 2))
    assert len(pd.read_csv(run / "history.csv")) == 6
    assert json.loads((run / "metrics.json").read_text())["training"] == ["all epochs done", "all epochs done"]


@pytest.mark.usefixtures("no_report")
@every_case
def test_a_run_stopped_in_its_first_epoch_has_no_model(name: str, tmp_path: Path):
    """An untrained model is not saved: Ctrl-C propagates, and the run can be resumed."""
    data, run = CASES[name].data(), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        make(name).fit(data, run=run, progress=StopAt("training", 1))
    assert is_unfinished(run)
    with pytest.raises(ModelFileError, match="fit again with resume=True"):
        load(run)
    assert same(make(name).fit(data, run=run, resume=True), fitted(name))


@pytest.mark.usefixtures("no_report")
@every_case
def test_a_seed_stopped_in_its_first_epoch_is_left_out(name: str, tmp_path: Path):
    """If the second of two seeds completed no epoch, the first seed alone is the model."""
    data = CASES[name].data()
    stopped = make(name, ensemble_size=2).fit(data, run=tmp_path / "run", progress=StopAt("training 2/2", 1))
    assert same(stopped, fitted(name))
    assert predict_records(load(tmp_path / "run")) == predict_records(stopped)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["training"] == ["all epochs done", "interrupted"]


@pytest.mark.usefixtures("no_report")
@every_case
def test_a_crash_while_the_model_is_saved_leaves_no_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Weights without a description do not load; resuming completes the model."""
    data, run = CASES[name].data(), tmp_path / "run"

    def disk_full(path: Path, content: Any, write: Callable[..., None] = checkpoint.write_json) -> None:
        if path.name == "model.json":
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_json", disk_full)
        with pytest.raises(OSError, match="No space left"):
            make(name).fit(data, run=run)
    with pytest.raises(ModelFileError, match="fit again with resume=True"):
        load(run)
    make(name).fit(data, run=run, resume=True)
    assert same(load(run), fitted(name))


@pytest.mark.usefixtures("no_report")
def test_a_run_is_resumed_only_with_its_settings_and_data(copied: tuple[Job, Path]):
    """A changed setting is named, other training or validation data are refused, and the run is unchanged."""
    job, run = copied
    case, before = CASES[case_name(job)], contents(run)
    with pytest.raises(SettingError, match="was started with epochs=3, not 2"):
        make(case_name(job), epochs=2).fit(case.data(), run=run, resume=True)
    with pytest.raises(UserError, match="was started on other data"):
        make(case_name(job)).fit(case.other(), run=run, resume=True)
    with pytest.raises(UserError, match="was started on other data"):
        make(case_name(job)).fit(case.data(), validation=case.other(), run=run, resume=True)
    assert contents(run) == before


@pytest.mark.usefixtures("no_report")
def test_an_existing_run_is_not_lost(copied: tuple[Job, Path]):
    """A run is overwritten only on request, and not if settings or data are invalid."""
    job, run = copied
    case, before = CASES[case_name(job)], contents(run)
    with pytest.raises(UserError, match="holds a run already: give resume=True, overwrite=True"):
        make(case_name(job)).fit(case.other(), run=run)
    with pytest.raises(DataError):
        make(case_name(job)).fit(case.bad(), run=run, overwrite=True)
    assert contents(run) == before
    fresh = make(case_name(job)).fit(case.other(), run=run, overwrite=True)
    assert predict_records(load(run)) == predict_records(fresh)
    assert predict_records(fresh) != predict_records(job)


@every_case
def test_an_error_leaves_no_folder(name: str, tmp_path: Path):
    """Invalid training or validation data, and resuming a missing run, write nothing."""
    case, run = CASES[name], tmp_path / "new" / "run"
    with pytest.raises(DataError):
        make(name).fit(case.bad(), run=run)
    with pytest.raises(DataError):
        make(name).fit(case.data(), validation=case.bad(), run=run)
    with pytest.raises(UserError, match="holds no run to resume"):
        make(name).fit(case.data(), run=run, resume=True)
    assert not list(tmp_path.iterdir())


@every_case
def test_a_run_folder_is_checked_before_data_are_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Reading and preparing may take long; a new folder is made only after them."""
    monkeypatch.setattr(type(make(name)), "read", lambda self, data: pytest.fail("data were read"))
    metadata = {"job": make(name).name, "settings": settings.values(make(name)), "data": []}
    with RunFolder.start(tmp_path / "run", metadata, resume=False, overwrite=False):
        pass
    with pytest.raises(UserError, match="holds a run already"):
        make(name).fit(None, run=tmp_path / "run")
    with pytest.raises(SettingError, match="was started with epochs=3, not 2"):
        make(name, epochs=2).fit(None, run=tmp_path / "run", resume=True)
    with pytest.raises(UserError, match="holds no run to resume"):
        make(name).fit(None, run=tmp_path / "new", resume=True)
    assert list(contents(tmp_path)) == ["run/run.json"]


@every_case
def test_a_folder_with_other_files_is_not_touched(name: str, tmp_path: Path):
    """Neither is a file, even with ``overwrite``."""
    (tmp_path / "thesis.txt").write_text("my only copy")
    for path, phrase in ((tmp_path, "holds other files"), (tmp_path / "thesis.txt", "is a file")):
        for overwrite in (False, True):
            with pytest.raises(UserError, match=phrase):
                make(name).fit(CASES[name].data(), run=path, overwrite=overwrite)
    assert contents(tmp_path) == {"thesis.txt": b"my only copy"}


# ---- damaged models --------------------------------------------------------------------------------------------------


def load_error(run: Path) -> str:
    """The one-line message of ``load`` for a damaged model."""
    with pytest.raises(ModelFileError) as caught:
        load(run)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_model_without_one_of_its_files(name: str, copied: tuple[Job, Path]):
    """If the folder has no ``run.json``, the missing file is named."""
    (copied[1] / "run.json").unlink()
    (copied[1] / name).unlink()
    assert f"{name} is missing" in load_error(copied[1])


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 9, 0.5, -1])
def test_a_truncated_file_is_named(name: str, keep: float, copied: tuple[Job, Path]):
    """A file that is truncated anywhere is detected and named."""
    path = copied[1] / name
    content = path.read_bytes()
    cut = int(keep * len(content)) if isinstance(keep, float) else keep
    path.write_bytes(content[:cut].rstrip() if name == "model.json" else content[:cut])
    if name == "model.json" and keep == -1:
        path.write_bytes(content.rstrip()[:-1])
    assert name in load_error(copied[1])


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_file_of_random_bytes_is_named(name: str, copied: tuple[Job, Path]):
    """Random bytes are reported as damage."""
    (copied[1] / name).write_bytes(np.random.default_rng(0).bytes(500))
    assert f"{name} is damaged" in load_error(copied[1])


def test_one_changed_bit_of_the_weights_is_detected(copied: tuple[Job, Path]):
    """The weights must be those that the description identifies."""
    path = copied[1] / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert "is not the file that model.json describes" in load_error(copied[1])


def test_weights_of_another_model_are_refused(copied: tuple[Job, Path], tmp_path: Path):
    """The weights of another fit are refused, of the same shapes or not."""
    job, run = copied
    for options in ({"seed": 7}, {"hidden_size": 5}, {"ensemble_size": 2}):
        other = make(case_name(job), **options).fit(CASES[case_name(job)].data()).save(tmp_path / "other")
        shutil.copy(other / "weights.safetensors", run)
        assert "is not the file that model.json describes" in load_error(run)


@pytest.mark.parametrize("content", ["{}", "[]", "null", "3", '"model"', '{"format": "1"}', '{"format": 1}', "{"])
def test_json_that_describes_no_model_is_refused(content: str, copied: tuple[Job, Path]):
    """``model.json`` must describe a model."""
    (copied[1] / "model.json").write_text(content)
    assert "model.json" in load_error(copied[1])


def test_an_unknown_format_or_job_is_refused(copied: tuple[Job, Path]):
    """An unknown format asks for an upgrade; an unknown job is named."""
    path = copied[1] / "model.json"
    description = without_sum(path)
    path.write_text(json.dumps({**description, "format": 99}))
    assert "has format 99, this lstmkit reads up to 2: upgrade lstmkit" in load_error(copied[1])
    for job in ("astrology", None, ["forecaster"], "../base", "base"):
        path.write_text(json.dumps({**description, "job": job}))
        assert "which this lstmkit does not have" in load_error(copied[1])


def _paths(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value in ``content``."""
    if path:
        yield path
    for key, value in (
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    ):
        yield from _paths(value, (*path, key))


def _changed(content: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    content = json.loads(json.dumps(content))
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return content


#: What a model can do without: the version that wrote it, settings (the default is taken), what training has seen of
#: one series (it then counts as new), and what models of version 0.1 do not have.
DISPENSABLE = (
    ("lstmkit",), ("settings", "*"), ("state", "trained_until", "*"),
    ("state", "usual_scales"),
)  # fmt: skip


def _dispensable(place: tuple[Any, ...]) -> bool:
    if place[:2] == ("state", "histories"):
        return len(place) <= 3  # all or one of them, but no part of one
    parts = [part for part in DISPENSABLE if len(part) <= len(place)]
    return any(all(a in ("*", b) for a, b in zip(part, place, strict=False)) for part in parts)


def test_a_description_with_a_missing_value_is_refused(copied: tuple[Job, Path]):
    """Every missing value that is not optional is detected on loading."""
    path = copied[1] / "model.json"
    description = json.loads(path.read_text())
    for place in _paths(description):
        if _dispensable(place):
            continue
        path.write_text(json.dumps(_changed(description, place, lambda inner, key: inner.pop(key))))
        assert load_error(copied[1]), place


@pytest.mark.filterwarnings("ignore:the list.* no item of the catalog:UserWarning")  # a changed name of an item
@pytest.mark.sampled(3, each=("garbage", "finished"))
@pytest.mark.parametrize("garbage", [None, "garbage", -1, 0, 10**30, [[]], {"a": 1}], ids=str)
def test_garbage_in_a_description_gives_a_one_line_error(garbage: Any, copied: tuple[Job, Path]):
    """Garbage at any place gives a one-line error on loading or on predicting, or has no effect."""
    job, run = copied
    path = run / "model.json"
    description = without_sum(path)
    data = CASES[case_name(job)].data()
    data = data[:3] if isinstance(data, list) else data  # it is read and predicted some hundred times

    def replace(inner: Any, key: Any) -> None:
        inner[key] = garbage

    for place in _paths(description):
        if place in (("settings", "hidden_size"), ("settings", "num_layers"), ("members",)) and garbage == 10**30:
            continue  # would be built at that size
        path.write_text(json.dumps(_changed(description, place, replace)))
        try:
            load(run).predict(data)
        except UserError as err:
            message = str(err)
        except Exception as err:
            raise AssertionError(f"{place}: {type(err).__name__}: {err}") from err
        else:
            message = ""
        assert "\n" not in message


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", '{"job": "forecaster"}', '{"settings": 3}'])
def test_a_damaged_run_is_not_resumed(content: str, copied: tuple[Job, Path]):
    """A damaged ``run.json`` is named."""
    job, run = copied
    (run / "run.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"run\.json is damaged"):
        make(case_name(job)).fit(CASES[case_name(job)].data(), run=run, resume=True)


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("damage", ["cut", "noise", "gone"])
def test_damaged_checkpoints(damage: str, copied: tuple[Job, Path]):
    """A damaged checkpoint is named; without checkpoints training starts again and gives the same weights."""
    job, run = copied
    for path in (run / "checkpoints").rglob("*.safetensors"):
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"noise" * 50)
    if damage == "gone":
        assert same(make(case_name(job)).fit(CASES[case_name(job)].data(), run=run, resume=True), job)
    else:
        with pytest.raises(ModelFileError, match=r"\.safetensors is damaged"):
            make(case_name(job)).fit(CASES[case_name(job)].data(), run=run, resume=True)


def test_paths_without_a_model_are_refused(tmp_path: Path):
    """A missing path, a file and an empty folder are refused."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    assert "is not a folder" in load_error(tmp_path / "nowhere")
    assert "is not a folder" in load_error(tmp_path / "file")
    assert "holds no complete model" in load_error(tmp_path / "empty")


def test_an_unknown_job_gets_the_nearest_name():
    """The message suggests the nearest name."""
    with pytest.raises(UserError, match="unknown job 'forcast': did you mean 'forecaster'"):
        job_class("forcast")
    with pytest.raises(UserError, match="unknown job 'base'"):
        job_class("base")


def test_the_headline_recommends_a_baseline_only_if_it_is_better():
    for direction, better, worse in (("high", 0.4, 0.6), ("low", 0.6, 0.4)):
        for baseline_score, recommended in ((better, False), (0.5, False), (worse, True)):
            table = pd.DataFrame({"model": ["LSTM", "plain"], "score": [0.5, baseline_score]})
            headline = Evaluation(table, {"score": direction}, pd.DataFrame()).headline
            assert headline.endswith("use that one.") == recommended
