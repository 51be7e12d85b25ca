"""Files of models, checkpoints and runs: whole or not there, and a damaged one is an error that says what and where."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

import lstmkit
from lstmkit import Forecaster
from lstmkit.errors import ModelFileError, SettingError, UserError
from lstmkit.progress import Progress, Task
from lstmkit.training import checkpoint
from lstmkit.training.run_folder import RunFolder, is_unfinished

torch.set_num_threads(1)

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]
WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(3)}


def files_in(folder: Path) -> dict[str, bytes]:
    """What a folder holds, hidden files too, down to the last folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def says(error: Any) -> str:
    """The message of a caught mistake, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``crash_at(function of os, call number, error)``: that call raises and does nothing, others go on."""

    def arm(name: str, number: int, error: BaseException) -> None:
        real, calls = getattr(os, name), itertools.count(1)

        def crashing(*args: Any, **options: Any) -> Any:
            if next(calls) == number:
                raise error
            return real(*args, **options)

        monkeypatch.setattr(os, name, crashing)

    return arm


# ---- one file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_every_dtype_and_shape_come_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    """0-d, empty, transposed, parts of a larger one, needing a gradient, with a name that is none of a module's."""
    base = (torch.randn(4, 6) * 50).to(dtype)
    tensors = {
        "a.b.c": base,
        "0-d": base[1, 1],
        "empty": base[:0],
        "empty inside": base[:, :0, None],
        "transposed": base.T,
        "a column of it": base[:, 2],
        "größe": base[1:3, ::2],
    }
    if dtype.is_floating_point:
        tensors["parameter"] = torch.nn.Parameter(base.clone())
        tensors["no numbers"] = torch.tensor([math.nan, math.inf, -math.inf, -0.0]).to(dtype)
    checkpoint.write_tensors(tmp_path / "t", tensors)
    back, note = checkpoint.read_tensors(tmp_path / "t")
    assert note == {}
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (back[name].dtype, back[name].shape) == (dtype, tensor.shape)
        assert bits(back[name]) == bits(tensor.detach()), name


def bits(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().flatten().view(torch.uint8).tolist()) if tensor.numel() else b""


def test_tensors_that_share_memory_are_kept_each_for_itself(tmp_path: Path) -> None:
    """As where an output layer is tied to an embedding; the model ties them again when it is built."""
    weight = torch.randn(3, 2)
    checkpoint.write_tensors(tmp_path / "t", {"embedding": weight, "output": weight, "row": weight[0]})
    back, _ = checkpoint.read_tensors(tmp_path / "t")
    assert torch.equal(back["embedding"], weight)
    assert torch.equal(back["output"], weight)
    assert torch.equal(back["row"], weight[0])


def test_the_note_comes_back_with_every_bit_of_its_numbers(tmp_path: Path) -> None:
    note = {"rows": [{"loss": 0.1 + 0.2, "none": None}], "ä": "ü\n", "inf": math.inf, "n": 2**60}
    checkpoint.write_tensors(tmp_path / "t", WEIGHTS, note)
    assert checkpoint.read_tensors(tmp_path / "t")[1] == note


def test_other_programs_can_read_the_weights(tmp_path: Path) -> None:
    """It is a plain safetensors file."""
    checkpoint.write_tensors(tmp_path / "t", WEIGHTS)
    back = safetensors.torch.load_file(tmp_path / "t")
    assert all(torch.equal(back[name], t) for name, t in WEIGHTS.items())


def test_the_sum_that_is_returned_is_the_files(tmp_path: Path) -> None:
    sha256 = checkpoint.write_tensors(tmp_path / "t", WEIGHTS)
    checkpoint.read_tensors(tmp_path / "t", sha256)
    with pytest.raises(ModelFileError, match=r"is not the file that model\.json describes"):
        checkpoint.read_tensors(tmp_path / "t", "0" * 64)


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), SystemExit()], ids=repr
)
def test_a_crash_while_writing_leaves_the_file_as_it_was_and_no_other(
    where: str, error: BaseException, tmp_path: Path, crash_at: Callable[..., None]
) -> None:
    path = tmp_path / "file.json"
    checkpoint.write_json(path, {"n": 1})
    crash_at(where, 1, error)
    with pytest.raises(type(error)):
        checkpoint.write_json(path, {"n": 2})
    assert list(files_in(tmp_path)) == ["file.json"]
    assert checkpoint.read_json(path) == {"n": 1}
    checkpoint.write_json(path, {"n": 3})
    assert checkpoint.read_json(path) == {"n": 3}


def test_a_crash_while_a_new_file_is_written_leaves_none(tmp_path: Path, crash_at: Callable[..., None]) -> None:
    crash_at("replace", 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write_tensors(tmp_path / "t", WEIGHTS)
    assert files_in(tmp_path) == {}


def test_nobody_ever_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the very last operation the name holds the old content, and the new one is already whole beside it."""
    path, real, seen = tmp_path / "t", os.replace, []

    def looking(source: Any, target: Any) -> None:
        seen.append((path.read_bytes(), Path(source).read_bytes()))
        real(source, target)

    checkpoint.write_bytes(path, b"old")
    monkeypatch.setattr(os, "replace", looking)
    checkpoint.write_bytes(path, b"new" * 100_000)
    assert seen == [(b"old", b"new" * 100_000)]


@pytest.mark.skipif(os.name != "posix", reason="no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_are_readable_by_whom_the_user_lets(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        checkpoint.write_bytes(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_a_number_that_json_has_not_is_never_written(tmp_path: Path) -> None:
    checkpoint.write_json(tmp_path / "file.json", {"n": 1})
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.write_json(tmp_path / "file.json", {"n": math.nan})
    assert list(files_in(tmp_path)) == ["file.json"]
    assert checkpoint.read_json(tmp_path / "file.json") == {"n": 1}


def test_a_tensor_file_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    checkpoint.write_tensors(tmp_path / "whole", WEIGHTS, {"a": 1})
    content = (tmp_path / "whole").read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(ModelFileError, match=r"cut is damaged \("):
            checkpoint.read_tensors(tmp_path / "cut")


def test_a_tensor_file_with_any_byte_changed_is_refused(tmp_path: Path) -> None:
    """Header or numbers, it does not go unnoticed."""
    sha256 = checkpoint.write_tensors(tmp_path / "t", WEIGHTS, {"a": 1})
    content = (tmp_path / "t").read_bytes()
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 0xFF
        (tmp_path / "t").write_bytes(changed)
        with pytest.raises(ModelFileError, match="t is "):
            checkpoint.read_tensors(tmp_path / "t", sha256)


def test_what_is_no_tensor_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="t is missing"):
        checkpoint.read_tensors(tmp_path / "t")
    (tmp_path / "t").mkdir()
    with pytest.raises(ModelFileError, match="t is damaged"):
        checkpoint.read_tensors(tmp_path / "t")
    foreign = safetensors.torch.save(WEIGHTS, metadata={"note": "{no json"})
    (tmp_path / "u").write_bytes(foreign)
    with pytest.raises(ModelFileError, match="u is damaged"):
        checkpoint.read_tensors(tmp_path / "u")
    (tmp_path / "v").write_bytes(safetensors.torch.save(WEIGHTS))  # another program's, without a note
    assert checkpoint.read_tensors(tmp_path / "v")[1] == {}


@pytest.mark.parametrize("content", [b"", b"{", b"not json", b"\xff\xfe\x00", b'{"a": 1} {'])
def test_what_is_no_json_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"file\.json is damaged") as err:
        checkpoint.read_json(tmp_path / "file.json")
    says(err)


# ---- the saved model -------------------------------------------------------------------------------------------------


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    """Also into a folder that is not there yet, and over another model."""
    folder = tmp_path / "new" / "folder"
    for settings in ({"a": 1}, {"ä": [1.5, None]}):
        checkpoint.save_model(folder, WEIGHTS, {"job": "x", "settings": settings})
        weights, description = checkpoint.load_model(folder)
        assert (description["job"], description["settings"]) == ("x", settings)
        assert description["format"] == checkpoint.FORMAT
        assert all(torch.equal(weights[name], t) for name, t in WEIGHTS.items())
    assert sorted(files_in(folder)) == ["model.json", "weights.safetensors"]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("before", [True, False])
def test_a_save_cut_off_between_its_files_does_not_load(
    number: int, before: bool, tmp_path: Path, crash_at: Callable[..., None]
) -> None:
    """Neither half a model nor new weights under an old description."""
    if before:
        checkpoint.save_model(tmp_path, {"weight": torch.zeros(2)}, {"job": "x"})
    crash_at("replace", number, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_model(tmp_path, WEIGHTS, {"job": "x"})
    with pytest.raises(ModelFileError, match="holds no complete model"):
        checkpoint.load_model(tmp_path)
    checkpoint.save_model(tmp_path, WEIGHTS, {"job": "x"})
    checkpoint.load_model(tmp_path)


@pytest.mark.parametrize(
    ("content", "says_what"),
    [
        ("[1, 2]", "no format version"),
        ('"text"', "no format version"),
        ("{}", "no format version"),
        ('{"format": "1"}', "no format version"),
        ('{"format": 2, "weights_sha256": "x"}', "has format 2, this lstmkit reads up to 1: upgrade lstmkit"),
        ('{"format": 1}', "no weights_sha256"),
        ('{"format": 1, "weights_sha256": 5}', "no weights_sha256"),
        ('{"format": 1, "weights_sha256": "x"}', r"is not the file that model\.json describes"),
        ("{", "is damaged"),
    ],
)
def test_a_description_that_does_not_do_is_named(content: str, says_what: str, tmp_path: Path) -> None:
    checkpoint.save_model(tmp_path, WEIGHTS, {"job": "x"})
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(ModelFileError, match=says_what) as err:
        checkpoint.load_model(tmp_path)
    assert str(tmp_path) in says(err)


def test_a_model_without_its_weights_is_named(tmp_path: Path) -> None:
    checkpoint.save_model(tmp_path, WEIGHTS, {"job": "x"})
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"weights\.safetensors is missing"):
        checkpoint.load_model(tmp_path)


def test_what_is_no_model_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "not there"):
        with pytest.raises(ModelFileError, match="is not a folder"):
            lstmkit.load(path)
    with pytest.raises(ModelFileError, match="holds no complete model"):
        lstmkit.load(tmp_path)


# ---- a job's model ---------------------------------------------------------------------------------------------------

SERIES = 10 + np.sin(np.arange(60) * np.pi / 3) + 0.1 * np.cos(np.arange(60) ** 2)
SMALL: dict[str, Any] = {
    "horizon": 3,
    "season_length": 6,
    "window": 12,
    "hidden_size": 3,
    "num_layers": 2,
    "linear_experts": 1,
    "levels": (80,),
    "epochs": 3,
    "steps_per_epoch": 2,
    "batch_size": 8,
    "test_windows": 0,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    return Forecaster(**SMALL, ensemble_size=2).fit(SERIES).save(folder / "model")


def paths_into(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value, nested as they are; of a long list the first is enough."""
    if path:
        yield path
    inner = (
        content.items() if isinstance(content, dict) else enumerate(content[:1]) if isinstance(content, list) else ()
    )
    for key, value in inner:
        yield from paths_into(value, (*path, key))


def test_a_model_whose_description_was_tampered_with_loads_or_says_why_not(saved: Path, tmp_path: Path) -> None:
    """Every value of model.json in turn left out, or made another: an error of one line that names the folder."""
    description = json.loads((saved / "model.json").read_text())
    (tmp_path / "weights.safetensors").write_bytes((saved / "weights.safetensors").read_bytes())
    refused, escaped = [], []
    for path, other in itertools.product(paths_into(description), ("left out", None, "x", -3, [], {"a": [None]})):
        changed = json.loads(json.dumps(description))
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        if other == "left out":
            del inner[path[-1]]
        else:
            inner[path[-1]] = other
        (tmp_path / "model.json").write_text(json.dumps(changed))
        try:
            lstmkit.load(tmp_path)
        except ModelFileError as err:
            refused.append(str(err))
        except Exception as err:
            escaped.append((path, other, err))
    assert escaped == []
    assert len(refused) > 100
    assert [message for message in refused if "\n" in message or str(tmp_path) not in message] == []


def test_weights_of_another_model_are_refused(saved: Path, tmp_path: Path) -> None:
    """Exchanged in place by their sum, and where the sum was made to fit by what they are."""
    description = json.loads((saved / "model.json").read_text())
    sha256 = checkpoint.write_tensors(tmp_path / "weights.safetensors", WEIGHTS)
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelFileError, match="is not the file"):
        lstmkit.load(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**description, "weights_sha256": sha256}))
    with pytest.raises(ModelFileError, match="is not a valid forecaster model") as err:
        lstmkit.load(tmp_path)
    says(err)


def test_a_model_of_a_job_that_is_not_there_is_named(saved: Path, tmp_path: Path) -> None:
    description = json.loads((saved / "model.json").read_text())
    (tmp_path / "weights.safetensors").write_bytes((saved / "weights.safetensors").read_bytes())
    for job in ("base", "../forecaster", "os", None, ["forecaster"]):
        (tmp_path / "model.json").write_text(json.dumps({**description, "job": job}))
        with pytest.raises(ModelFileError, match="which this lstmkit does not have"):
            lstmkit.load(tmp_path)


def test_nothing_is_pickled_and_no_code_is_run_from_a_file() -> None:
    """By the words in the package's own source: whoever needs one of them finds this test first."""
    forbidden = re.compile(
        r"\b(c?pickle|dill|joblib|marshal|shelve|allow_pickle|torch\.(load|save|jit\.load)|read_pickle|to_pickle)\b"
        r"|(?<![\w.])(eval|exec)\("
    )
    package = Path(lstmkit.__file__).parent
    sources = sorted(package.rglob("*.py"))
    assert len(sources) > 20
    found = [
        f"{source.relative_to(package)}:{n}: {line.strip()}"
        for source in sources
        for n, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1)
        if forbidden.search(line)
    ]
    assert found == []


# ---- the run folder --------------------------------------------------------------------------------------------------

ABOUT: dict[str, Any] = {
    "job": "forecaster",
    "settings": {"epochs": 3, "levels": [50, 80], "freq": None},
    "data": ["abc"],
}


def start(path: Path, about: dict[str, Any] = ABOUT, *, resume: bool = False, overwrite: bool = False) -> RunFolder:
    return RunFolder.start(path, about, resume=resume, overwrite=overwrite)


def test_a_run_folder_is_made_where_nothing_is(tmp_path: Path) -> None:
    """Not there at all, or an empty folder."""
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "deep" / "new", tmp_path / "empty"):
        start(path)
        assert RunFolder.read_run_metadata(path) == ABOUT
        assert is_unfinished(path)


def test_a_run_folder_is_not_made_over_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    before = files_in(tmp_path)
    for overwrite in (True, False):
        with pytest.raises(UserError, match="holds other files: give a new folder"):
            start(tmp_path, overwrite=overwrite)
        with pytest.raises(UserError, match="is a file"):
            start(tmp_path / "thesis.tex", overwrite=overwrite)
    assert files_in(tmp_path) == before


def test_a_run_is_not_replaced_unasked(tmp_path: Path) -> None:
    start(tmp_path).write_metrics({"n": 1})
    before = files_in(tmp_path)
    with pytest.raises(UserError, match="holds a run already: --resume it, --overwrite it, or give another folder"):
        start(tmp_path)
    assert files_in(tmp_path) == before


def test_overwriting_deletes_the_run_and_nothing_else(tmp_path: Path) -> None:
    """All that a fit leaves behind goes, what the user put beside it stays."""
    run = start(tmp_path)
    checkpoint.save_model(tmp_path, WEIGHTS, {"job": "x"})
    checkpoint.write_tensors(run.checkpoints(0) / "last.safetensors", WEIGHTS)
    run.write_history([[{"epoch": 1, "train_loss": 2.0, "lr": 0.1}]])
    run.write_metrics({"n": 1})
    run.report.write_text("<html>")
    run.tensorboard(0).mkdir(parents=True)
    (run.tensorboard(0) / "events").touch()
    (tmp_path / "sales.csv").write_text("years of work")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "model.json").write_text("mine")
    start(tmp_path, {**ABOUT, "data": ["new"]}, overwrite=True)
    assert sorted(files_in(tmp_path)) == ["notes/model.json", "run.json", "sales.csv"]
    assert RunFolder.read_run_metadata(tmp_path)["data"] == ["new"]


def test_overwriting_nothing_is_starting(tmp_path: Path) -> None:
    start(tmp_path / "new", overwrite=True)
    assert is_unfinished(tmp_path / "new")


def test_only_a_run_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "not there", tmp_path / "file"):
        with pytest.raises(UserError, match="holds no run to resume: start one without --resume"):
            start(path, resume=True)
    assert list(files_in(tmp_path)) == ["file"]


def test_a_run_is_resumed_with_the_same_settings_and_data(tmp_path: Path) -> None:
    start(tmp_path)
    start(tmp_path, resume=True)
    newer = {**ABOUT, "settings": {**ABOUT["settings"], "made_later": 1}}
    start(tmp_path, newer, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {**ABOUT["settings"], "epochs": 5}}, "was started with epochs=3, not 5"),
        ({"settings": {**ABOUT["settings"], "levels": [50]}}, r"was started with levels=\[50, 80\], not \[50\]"),
        ({"settings": {**ABOUT["settings"], "freq": "h"}}, "was started with freq=None, not h"),
        ({"data": ["other"]}, "was started on other data: resume it with the same, or start a new run"),
        ({"data": ["abc", "validation"]}, "was started on other data"),
        ({"job": "translate"}, "is a run of the job 'forecaster', not 'translate'"),
    ],
)
def test_a_run_is_not_resumed_with_anything_else(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    start(tmp_path)
    before = files_in(tmp_path)
    with pytest.raises(UserError, match=message) as err:
        start(tmp_path, {**ABOUT, **change}, resume=True)
    says(err)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": 1, "data": [], "job": "x"}', '{"settings": {}}'])
def test_a_damaged_run_is_named(content: str, tmp_path: Path) -> None:
    start(tmp_path)
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"run\.json is damaged") as err:
        start(tmp_path, resume=True)
    says(err)


def test_the_history_is_a_table_with_a_row_for_each_seed_and_epoch(tmp_path: Path) -> None:
    """A run without validation has an empty column; numbers keep all their digits."""
    rows = [
        {"epoch": 1, "train_loss": 0.1 + 0.2, "lr": 1e-3, "valid_loss": 2.0},
        {"epoch": 2, "train_loss": 1.0, "lr": 0.0},
    ]
    start(tmp_path).write_history([rows, rows[:1]])
    with (tmp_path / "history.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["seed"], row["epoch"]) for row in table] == [("0", "1"), ("0", "2"), ("1", "1")]
    assert list(table[0]) == ["seed", "epoch", "train_loss", "valid_loss", "lr", "seconds"]
    assert float(table[0]["train_loss"]) == 0.1 + 0.2
    assert table[1]["valid_loss"] == ""


# ---- a whole fit in its folder ---------------------------------------------------------------------------------------


class Stopping(Progress):
    """Raises ``error`` at the end of the second epoch of the training of that title."""

    def __init__(self, title: str, error: type[BaseException]) -> None:
        self.title, self.error, self.now = title, error, ""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        self.now = title
        yield self

    def update(self, done: int, note: str = "") -> None:
        if self.now == self.title and done == 2 * SMALL["steps_per_epoch"]:
            raise self.error


@pytest.fixture(scope="module")
def no_clock() -> Iterator[None]:
    """Every epoch takes no time: the same files can then be asked of two runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmkit.training.train.time", SimpleNamespace(perf_counter=lambda: 0.0))
        yield


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, no_clock: None) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    Forecaster(**SMALL, ensemble_size=2).fit(SERIES, run=folder)
    return files_in(folder)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_run_stopped_in_any_seed_resumes_to_the_same_files(
    seed: int, error: type[BaseException], tmp_path: Path, whole_run: dict[str, bytes]
) -> None:
    """After Ctrl-C there is a model already, of what was learnt so far; after a crash there is none: load says so."""
    run, progress = tmp_path / "run", Stopping(f"training {seed}/2", error)
    if error is KeyboardInterrupt:
        Forecaster(**SMALL, ensemble_size=2).fit(SERIES, run=run, progress=progress)
        assert len(lstmkit.load(run).predict(SERIES)) == SMALL["horizon"]
        assert json.loads((run / "metrics.json").read_text())["training"][-1] == "interrupted"
    else:
        with pytest.raises(MemoryError):
            Forecaster(**SMALL, ensemble_size=2).fit(SERIES, run=run, progress=progress)
        with pytest.raises(ModelFileError, match="stopped before its model was saved: go on with --resume"):
            lstmkit.load(run)
    Forecaster(**SMALL, ensemble_size=2).fit(SERIES, run=run, resume=True)
    files = files_in(run)
    assert files.keys() == whole_run.keys()
    for name in files.keys() - {"report.html"}:
        assert files[name] == whole_run[name], name


def test_a_run_is_resumed_with_the_same_validation_data(tmp_path: Path) -> None:
    """They decide which weights are kept, so others would make it another run."""
    job, run = Forecaster(**{**SMALL, "epochs": 1}), tmp_path / "run"
    job.fit(SERIES, validation=SERIES[:30], run=run)
    for validation in (None, SERIES[:40]):
        with pytest.raises(UserError, match="was started on other data"):
            job.fit(SERIES, validation=validation, run=run, resume=True)
    job.fit(SERIES, validation=SERIES[:30], run=run, resume=True)


def test_a_mistake_in_data_settings_or_device_leaves_no_folder_behind(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UserError):
        Forecaster(**SMALL).fit(tmp_path / "not there.csv", run=run)
    with pytest.raises(UserError):
        Forecaster(**SMALL).fit(SERIES[:3], run=run)
    with pytest.raises(SettingError, match="device 'cuda:99' is not available"):
        Forecaster(**SMALL, device="cuda:99").fit(SERIES, run=run)
    assert not run.exists()


def test_a_job_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not fitted: call fit first"):
        Forecaster().save(tmp_path)
    assert files_in(tmp_path) == {}
