"""What every job promises, shown for every job there is. A new job brings its tiny data in ``job_cases.py``."""

from __future__ import annotations

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

from job_cases import CASES, case_name, make, predict_records, without_sum
from lstmkit import look, settings
from lstmkit.errors import DataError, ModelFileError, SettingError, UserError
from lstmkit.jobs import job_class, job_names, load
from lstmkit.jobs.base import Evaluation, Job
from lstmkit.models.base import Ensemble
from lstmkit.progress import Progress, Task
from lstmkit.training import checkpoint
from lstmkit.training.run_folder import is_unfinished

CELLS = ("lstm", "gru", "rnn")

every_job = pytest.mark.parametrize("name", job_names())
every_case = pytest.mark.parametrize("name", list(CASES))


def weights(job: Job) -> dict[str, torch.Tensor]:
    return dict(job.model.state_dict())


def same(a: Job, b: Job) -> bool:
    return weights(a).keys() == weights(b).keys() and all(torch.equal(t, weights(b)[n]) for n, t in weights(a).items())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class StopAt(Progress):
    """Raises as soon as ``done`` steps of a task with ``title`` are done: Ctrl-C, or anything else."""

    def __init__(self, title: str, done: int, error: BaseException | None = None) -> None:
        self.title, self.done, self.error = title, done, error or KeyboardInterrupt()

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        yield _Stopping(self) if title == self.title else _Going()


class _Going:
    def update(self, done: int, note: str = "") -> None:
        pass


class _Stopping:
    def __init__(self, stop: StopAt) -> None:
        self.stop = stop

    def update(self, done: int, note: str = "") -> None:
        if done >= self.stop.done:
            raise self.stop.error


class Killed(BaseException):
    """What nothing catches, as nothing is caught where a process is killed."""


@pytest.fixture(scope="module", params=list(CASES))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """A job fitted into a run folder. Copy the folder to change it."""
    folder = tmp_path_factory.mktemp(request.param.replace(":", "_")) / "run"
    return make(request.param).fit(CASES[request.param].data(), run=folder), folder


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without its page, which takes longer than all the rest."""
    monkeypatch.setattr(Job, "write_report", lambda self, path, examples: path.write_text("report"))


@pytest.fixture
def copied(finished: tuple[Job, Path], tmp_path: Path) -> tuple[Job, Path]:
    shutil.copytree(finished[1], tmp_path / "run")
    return finished[0], tmp_path / "run"


# ---- settings --------------------------------------------------------------------------------------------------------


def test_every_job_has_its_tiny_data():
    """Being in ``jobs/`` means being tested."""
    assert {name.partition(":")[0] for name in CASES} == set(job_names())


@every_job
def test_a_job_says_what_it_is(name: str):
    """Its name is its module's, its summary one line, and its class takes settings by name only."""
    cls = job_class(name)
    assert cls.name == name
    assert cls.summary.endswith(".")
    assert "\n" not in cls.summary
    with pytest.raises(SettingError, match="takes settings by name"):
        cls(3)  # type: ignore[call-arg]


@every_job
def test_every_setting_is_explained_and_its_default_is_allowed(name: str):
    """Each has a meaning, a default in its own range, and reads back from the text that the command line shows."""
    cls = job_class(name)
    for setting, declared in settings.declared(cls).items():
        assert declared.metadata["help"]
        default = declared.default
        assert settings.checked(cls, setting, default) == default
        text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
        assert settings.parse(cls, setting, text) == default


@every_job
def test_an_unknown_setting_is_refused_with_the_nearest_name(name: str):
    """A typing error never passes in silence."""
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
    """With its name and what it must be."""
    with pytest.raises(SettingError, match=phrase):
        make(name, **{setting: value})


@every_job
@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_refused(name: str, device: str, tmp_path: Path):
    """Before anything is written."""
    with pytest.raises(SettingError, match=f"device '{device}' is not available"):
        make(name, device=device).fit(CASES[name].data(), run=tmp_path / "run")
    assert not list(tmp_path.iterdir())


# ---- fitted, saved, loaded -------------------------------------------------------------------------------------------


@every_case
def test_before_fit_it_says_so(name: str, tmp_path: Path):
    """Whatever needs a model asks for fit or load."""
    job, data = make(name), CASES[name].data()
    for ask in (job.predict, job.evaluate, job.example_sequences, lambda _: job.save(tmp_path / "model")):
        with pytest.raises(UserError, match=r"is not fitted: call fit first, or lstmkit\.load"):
            ask(data)
    assert not list(tmp_path.iterdir())


@pytest.mark.sampled(2)
@every_case
@pytest.mark.parametrize(
    "options", [{"cell": cell} for cell in CELLS] + [{"ensemble_size": 2}, {"num_layers": 2}], ids=str
)
def test_saved_and_loaded_it_predicts_the_same(name: str, options: dict[str, Any], tmp_path: Path):
    """To the last bit, with every cell, in a stack and as an ensemble; also when saved once more."""
    case = CASES[name]
    job = make(name, **options).fit(case.data())
    again = load(job.save(tmp_path / "model"))
    assert type(again) is type(job)
    assert settings.values(again) == settings.values(job)
    assert isinstance(again.model, Ensemble) == (job.ensemble_size == 2)
    for data in (case.data(), case.other()):
        assert predict_records(again, data) == predict_records(job, data)
    again.save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "options"), [(name, o) for name, case in CASES.items() for o in case.options], ids=str
)
def test_a_jobs_own_settings_are_saved_too(name: str, options: dict[str, Any], tmp_path: Path):
    """Also what it prepared for them."""
    data = CASES[name].data()
    data = data.assign(x=np.arange(len(data)) % 5) if "past_covariates" in options else data
    job = make(name, **options).fit(data)
    assert predict_records(load(job.save(tmp_path)), data) == predict_records(job, data)


@every_case
def test_answers_have_a_text_records_and_a_picture(name: str):
    """Text for a file, records that are JSON, a figure; data that were predicted on are not changed."""
    job, data = make(name).fit(CASES[name].data()), CASES[name].data()
    found = job.predict(data)
    assert job.to_text(found).strip()
    assert json.loads(json.dumps(job.to_records(found), allow_nan=False))
    assert job.plot(data, found).axes
    assert look.sections(job.network, job.example_sequences(data))[-1].title == "One step of the cell"
    assert repr(data) == repr(CASES[name].data())


@every_case
def test_the_same_seed_gives_the_same_weights(name: str):
    """And another seed, or other data, other ones; the caller's random numbers neither matter nor change."""
    case = CASES[name]
    torch.manual_seed(5)
    one = make(name).fit(case.data())
    after = torch.rand(2)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(2), after)
    assert same(make(name).fit(case.data()), one)
    assert not same(make(name, seed=1).fit(case.data()), one)
    assert not same(make(name).fit(case.other()), one)


@every_case
def test_evaluate_sets_the_model_beside_baselines(name: str):
    """This model is the first row, baselines follow, every score has a rule for the best, and all of it is JSON."""
    found = make(name).fit(CASES[name].data()).evaluate(CASES[name].data())
    assert len(found.table) >= 2
    assert {*found.directions} == {*found.table.columns} - {"model"}
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["table"][0]["model"] == found.table["model"][0]
    assert all(model in str(found) for model in found.table["model"])


# ---- the run folder --------------------------------------------------------------------------------------------------


def test_a_run_leaves_everything(finished: tuple[Job, Path]):
    """Model, history, metrics, report and checkpoints, each readable, and nothing half-written beside them."""
    job, run = finished
    names = {"weights.safetensors", "model.json", "run.json", "history.csv", "metrics.json", "report.html"}
    assert {p.name for p in run.iterdir()} == names | {"checkpoints"}
    about = json.loads((run / "run.json").read_text())
    assert (about["job"], about["settings"]) == (job.name, settings.values(job))
    rows = pd.read_csv(run / "history.csv")
    assert rows[["seed", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2], [0, 3]]
    assert np.isfinite(rows[["train_loss", "valid_loss", "lr"]]).all(axis=None)
    metrics = json.loads((run / "metrics.json").read_text())
    assert job.evaluation is not None
    assert metrics == {"test": job.evaluation.to_json(), "training": ["all epochs done"]}
    assert predict_records(load(run)) == predict_records(job)


class _Page(html.parser.HTMLParser):
    """What a page has in it, and what it refers to."""

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


def test_the_report_needs_nothing_else(finished: tuple[Job, Path]):
    """A whole page with tables and pictures, every reference inside it, no script; with the scores and settings."""
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
    for phrase in (*job.evaluation.table["model"], "hidden_size"):
        assert phrase in page.text


def test_the_report_lists_the_settings_that_count(finished: tuple[Job, Path]):
    """Run details have every setting of the job except those of other kinds of data."""
    job, run = finished
    details = (run / "report.html").read_text(encoding="utf-8").split("<footer>")[1]
    names = set(re.findall("<dt>(.*?)</dt>", details)) - {"job", "lstmkit", "torch"}
    declared = settings.declared(type(job))
    others = {group for group in settings.DATA_KINDS if group not in job.predictor.data_kinds}
    assert names == {name for name, field in declared.items() if field.metadata["group"] not in others}


def test_resuming_a_finished_run_changes_nothing(copied: tuple[Job, Path]):
    """Not a byte of any file, nor the answers."""
    job, run = copied
    before = contents(run)
    again = make(case_name(job)).fit(CASES[case_name(job)].data(), run=run, resume=True)
    assert same(again, job)
    assert predict_records(again) == predict_records(job)
    assert contents(run) == before


@pytest.mark.usefixtures("no_report")
@every_case
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Killed()], ids=["Ctrl-C", "kill"])
def test_a_run_stopped_between_epochs_resumes_to_the_same_weights(name: str, error: BaseException, tmp_path: Path):
    """Stopped in the second seed: Ctrl-C leaves a model to use, a kill none; resumed, the bits are the same."""
    data, run = CASES[name].data(), tmp_path / "run"
    whole = make(name, ensemble_size=2).fit(data)
    stop = StopAt("training 2/2", 3, error)
    if isinstance(error, KeyboardInterrupt):
        make(name, ensemble_size=2).fit(data, run=run, progress=stop)
        assert not same(load(run), whole)
        assert json.loads((run / "metrics.json").read_text())["training"] == ["all epochs done", "interrupted"]
    else:
        with pytest.raises(Killed):
            make(name, ensemble_size=2).fit(data, run=run, progress=stop)
        with pytest.raises(ModelFileError, match="stopped before its model was saved: go on with --resume"):
            load(run)
    resumed = make(name, ensemble_size=2).fit(data, run=run, resume=True)
    assert same(resumed, whole)
    assert same(load(run), whole)
    assert len(pd.read_csv(run / "history.csv")) == 6
    assert json.loads((run / "metrics.json").read_text())["training"] == ["all epochs done", "all epochs done"]


@pytest.mark.usefixtures("no_report")
@every_case
def test_a_run_stopped_in_its_first_epoch_has_no_model(name: str, tmp_path: Path):
    """A model that has learnt nothing is not kept as if it had: Ctrl-C goes on up, and the run can be resumed."""
    data, run = CASES[name].data(), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        make(name).fit(data, run=run, progress=StopAt("training", 1))
    assert is_unfinished(run)
    with pytest.raises(ModelFileError, match="go on with --resume"):
        load(run)
    assert same(make(name).fit(data, run=run, resume=True), make(name).fit(data))


@pytest.mark.usefixtures("no_report")
@every_case
def test_a_seed_stopped_in_its_first_epoch_is_left_out(name: str, tmp_path: Path):
    """Of two seeds the first is done and the second has learnt nothing: the first alone is the model."""
    data = CASES[name].data()
    stopped = make(name, ensemble_size=2).fit(data, run=tmp_path / "run", progress=StopAt("training 2/2", 1))
    assert same(stopped, make(name).fit(data))
    assert predict_records(load(tmp_path / "run")) == predict_records(stopped)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["training"] == ["all epochs done", "interrupted"]


@pytest.mark.usefixtures("no_report")
@every_case
def test_a_crash_while_the_model_is_saved_leaves_no_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Weights without their description do not load; resumed, the model is there."""
    data, run = CASES[name].data(), tmp_path / "run"

    def full(path: Path, content: Any, write: Callable[..., None] = checkpoint.write_summed_json) -> None:
        if path.name == "model.json":
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_summed_json", full)
        with pytest.raises(OSError, match="No space left"):
            make(name).fit(data, run=run)
    with pytest.raises(ModelFileError, match="go on with --resume"):
        load(run)
    make(name).fit(data, run=run, resume=True)
    assert same(load(run), make(name).fit(data))


@pytest.mark.usefixtures("no_report")
def test_a_run_is_resumed_with_its_own_settings_and_data(copied: tuple[Job, Path]):
    """Another setting is named, other data are refused, as data or to validate on; the run stays as it was."""
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
def test_a_run_that_is_there_is_not_lost(copied: tuple[Job, Path]):
    """Without being asked to, nothing is overwritten; and nothing is when settings or data are bad."""
    job, run = copied
    case, before = CASES[case_name(job)], contents(run)
    with pytest.raises(UserError, match="holds a run already: --resume it, --overwrite it"):
        make(case_name(job)).fit(case.other(), run=run)
    with pytest.raises(DataError):
        make(case_name(job)).fit(case.bad(), run=run, overwrite=True)
    assert contents(run) == before
    fresh = make(case_name(job)).fit(case.other(), run=run, overwrite=True)
    assert predict_records(load(run)) == predict_records(fresh)
    assert predict_records(fresh) != predict_records(job)


@every_case
def test_a_mistake_leaves_no_folder_behind(name: str, tmp_path: Path):
    """Bad data, to train or to validate on, and a run to resume that is not there: nothing is written."""
    case, run = CASES[name], tmp_path / "new" / "run"
    with pytest.raises(DataError):
        make(name).fit(case.bad(), run=run)
    with pytest.raises(DataError):
        make(name).fit(case.data(), validation=case.bad(), run=run)
    with pytest.raises(UserError, match="holds no run to resume"):
        make(name).fit(case.data(), run=run, resume=True)
    assert not list(tmp_path.iterdir())


@every_case
def test_a_folder_with_other_files_is_not_touched(name: str, tmp_path: Path):
    """Nor is a file; not even with ``overwrite``."""
    (tmp_path / "thesis.txt").write_text("my only copy")
    for path, phrase in ((tmp_path, "holds other files"), (tmp_path / "thesis.txt", "is a file")):
        for overwrite in (False, True):
            with pytest.raises(UserError, match=phrase):
                make(name).fit(CASES[name].data(), run=path, overwrite=overwrite)
    assert contents(tmp_path) == {"thesis.txt": b"my only copy"}


# ---- damaged ---------------------------------------------------------------------------------------------------------


def refused(run: Path) -> str:
    """What ``load`` says of a damaged model: one line."""
    with pytest.raises(ModelFileError) as caught:
        load(run)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_model_without_one_of_its_files(name: str, copied: tuple[Job, Path]):
    """The file that is missing is named; without ``run.json``, where it is a model alone."""
    (copied[1] / "run.json").unlink()
    (copied[1] / name).unlink()
    assert f"{name} is missing" in refused(copied[1])


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 9, 0.5, -1])
def test_a_file_cut_short(name: str, keep: float, copied: tuple[Job, Path]):
    """Wherever it ends, it is found out and named."""
    path = copied[1] / name
    content = path.read_bytes()
    cut = int(keep * len(content)) if isinstance(keep, float) else keep
    path.write_bytes(content[:cut].rstrip() if name == "model.json" else content[:cut])
    if name == "model.json" and keep == -1:
        path.write_bytes(content.rstrip()[:-1])
    assert name in refused(copied[1])


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_file_of_noise(name: str, copied: tuple[Job, Path]):
    """Bytes that mean nothing are named as damage."""
    (copied[1] / name).write_bytes(np.random.default_rng(0).bytes(500))
    assert f"{name} is damaged" in refused(copied[1])


def test_one_bit_of_the_weights(copied: tuple[Job, Path]):
    """The weights must be those that the description tells of."""
    path = copied[1] / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert "is not the file that model.json describes" in refused(copied[1])


def test_files_of_two_models(copied: tuple[Job, Path], tmp_path: Path):
    """The weights of another fit, of the same shapes or not, are not taken for this one's."""
    job, run = copied
    for options in ({"seed": 7}, {"hidden_size": 5}, {"ensemble_size": 2}):
        other = make(case_name(job), **options).fit(CASES[case_name(job)].data()).save(tmp_path / "other")
        shutil.copy(other / "weights.safetensors", run)
        assert "is not the file that model.json describes" in refused(run)


@pytest.mark.parametrize("content", ["{}", "[]", "null", "3", '"model"', '{"format": "1"}', '{"format": 1}', "{"])
def test_a_description_of_nothing(content: str, copied: tuple[Job, Path]):
    """JSON that is not a model's."""
    (copied[1] / "model.json").write_text(content)
    assert "model.json" in refused(copied[1])


def test_a_newer_or_another_model(copied: tuple[Job, Path]):
    """A format or a job that this version does not know asks for an upgrade or says so."""
    path = copied[1] / "model.json"
    description = without_sum(path)
    path.write_text(json.dumps({**description, "format": 99}))
    assert "has format 99, this lstmkit reads up to 2: upgrade lstmkit" in refused(copied[1])
    for job in ("astrology", None, ["forecaster"], "../base", "base"):
        path.write_text(json.dumps({**description, "job": job}))
        assert "which this lstmkit does not have" in refused(copied[1])


def _places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value in it."""
    if path:
        yield path
    for key, value in (
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    ):
        yield from _places(value, (*path, key))


def _changed(content: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    content = json.loads(json.dumps(content))
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return content


#: What a model can do without: the version that wrote it, settings (the default is taken), what training has seen of
#: one series (it then counts as new).
DISPENSABLE = (("lstmkit",), ("settings", "*"), ("state", "trained_until", "*"))


def _dispensable(place: tuple[Any, ...]) -> bool:
    parts = [part for part in DISPENSABLE if len(part) <= len(place)]
    return any(all(a in ("*", b) for a, b in zip(part, place, strict=False)) for part in parts)


def test_a_description_with_something_missing(copied: tuple[Job, Path]):
    """Whatever is taken out of what was prepared, or of what makes it a model, is found out on loading."""
    path = copied[1] / "model.json"
    description = without_sum(path)
    for place in _places(description):
        if _dispensable(place):
            continue
        path.write_text(json.dumps(_changed(description, place, lambda inner, key: inner.pop(key))))
        assert refused(copied[1]), place


@pytest.mark.sampled(3)
@pytest.mark.parametrize("garbage", [None, "garbage", -1, 0, 10**30, [[]], {"a": 1}], ids=str)
def test_a_description_with_garbage_in_it(garbage: Any, copied: tuple[Job, Path]):
    """In any place: it is refused in one line on loading, or at the latest on predicting, or does not matter."""
    job, run = copied
    path = run / "model.json"
    description = without_sum(path)
    data = CASES[case_name(job)].data()
    data = data[:3] if isinstance(data, list) else data  # it is read and answered some hundred times

    def put(inner: Any, key: Any) -> None:
        inner[key] = garbage

    for place in _places(description):
        path.write_text(json.dumps(_changed(description, place, put)))
        try:
            load(run).predict(data)
        except UserError as err:
            said = str(err)
        except Exception as err:
            raise AssertionError(f"{place}: {type(err).__name__}: {err}") from err
        else:
            said = ""
        assert "\n" not in said


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", '{"job": "forecaster"}', '{"settings": 3}'])
def test_a_damaged_run_is_not_resumed(content: str, copied: tuple[Job, Path]):
    """Of a run whose ``run.json`` says nothing, one line says so."""
    job, run = copied
    (run / "run.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"run\.json is damaged"):
        make(case_name(job)).fit(CASES[case_name(job)].data(), run=run, resume=True)


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("damage", ["cut", "noise", "gone"])
def test_damaged_checkpoints(damage: str, copied: tuple[Job, Path]):
    """A damaged checkpoint is named; without any the training starts anew, to the same weights."""
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


def test_what_is_no_folder_of_a_model(tmp_path: Path):
    """A path that is not there, a file, an empty folder."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    assert "is not a folder" in refused(tmp_path / "nowhere")
    assert "is not a folder" in refused(tmp_path / "file")
    assert "holds no complete model" in refused(tmp_path / "empty")


def test_an_unknown_job_gets_the_nearest_name():
    """As everywhere else."""
    with pytest.raises(UserError, match="unknown job 'forcast': did you mean 'forecaster'"):
        job_class("forcast")
    with pytest.raises(UserError, match="unknown job 'base'"):
        job_class("base")


def test_a_headline_sends_to_the_baseline_only_where_it_is_better():
    for way, better, worse in (("high", 0.4, 0.6), ("low", 0.6, 0.4)):
        for rival, sent in ((better, False), (0.5, False), (worse, True)):
            table = pd.DataFrame({"model": ["LSTM", "plain"], "score": [0.5, rival]})
            said = Evaluation(table, {"score": way}, pd.DataFrame()).headline
            assert said.endswith("use that one.") == sent
