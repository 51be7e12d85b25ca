"""Files of models, checkpoints and runs are written atomically; a damaged file is an error that names it."""

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
from job_cases import without_sum
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
    """Contents of all files below a folder, hidden files included."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def one_line_message(error: Any) -> str:
    """The message of an error, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``crash_at(function of os, call number, error)``: that call raises the error and does nothing else."""

    def arm(name: str, number: int, error: BaseException) -> None:
        original, calls = getattr(os, name), itertools.count(1)

        def crashing(*args: Any, **options: Any) -> Any:
            if next(calls) == number:
                raise error
            return original(*args, **options)

        monkeypatch.setattr(os, name, crashing)

    return arm


# ---- one file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_are_restored_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    """Tensors that are 0-d, empty, transposed, views or parameters are restored exactly, with any name."""
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


def test_tensors_that_share_memory_are_saved_separately(tmp_path: Path) -> None:
    """Tensors that share memory, such as tied weights, are saved separately; the model ties them when it is built."""
    weight = torch.randn(3, 2)
    checkpoint.write_tensors(tmp_path / "t", {"embedding": weight, "output": weight, "row": weight[0]})
    back, _ = checkpoint.read_tensors(tmp_path / "t")
    assert torch.equal(back["embedding"], weight)
    assert torch.equal(back["output"], weight)
    assert torch.equal(back["row"], weight[0])


def test_metadata_are_restored_exactly(tmp_path: Path) -> None:
    note = {"rows": [{"loss": 0.1 + 0.2, "none": None}], "ä": "ü\n", "inf": math.inf, "n": 2**60}
    checkpoint.write_tensors(tmp_path / "t", WEIGHTS, note)
    assert checkpoint.read_tensors(tmp_path / "t")[1] == note


def test_weights_are_a_safetensors_file(tmp_path: Path) -> None:
    """The weights are a plain safetensors file."""
    checkpoint.write_tensors(tmp_path / "t", WEIGHTS)
    back = safetensors.torch.load_file(tmp_path / "t")
    assert all(torch.equal(back[name], t) for name, t in WEIGHTS.items())


def test_checksum_of_written_tensors(tmp_path: Path) -> None:
    sha256 = checkpoint.write_tensors(tmp_path / "t", WEIGHTS)
    checkpoint.read_tensors(tmp_path / "t", sha256)
    with pytest.raises(ModelFileError, match=r"is not the file that model\.json describes"):
        checkpoint.read_tensors(tmp_path / "t", "0" * 64)


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), SystemExit()], ids=repr
)
def test_crash_while_writing_keeps_the_old_file(
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


def test_crash_while_writing_leaves_no_new_file(tmp_path: Path, crash_at: Callable[..., None]) -> None:
    crash_at("replace", 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write_tensors(tmp_path / "t", WEIGHTS)
    assert files_in(tmp_path) == {}


def test_files_are_replaced_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the final rename the file has its old content, and the temporary file is complete."""
    path, original_replace, contents = tmp_path / "t", os.replace, []

    def recording_replace(source: Any, target: Any) -> None:
        contents.append((path.read_bytes(), Path(source).read_bytes()))
        original_replace(source, target)

    checkpoint.write_bytes(path, b"old")
    monkeypatch.setattr(os, "replace", recording_replace)
    checkpoint.write_bytes(path, b"new" * 100_000)
    assert contents == [(b"old", b"new" * 100_000)]


@pytest.mark.skipif(os.name != "posix", reason="no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_file_mode_follows_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        checkpoint.write_bytes(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_nan_is_not_written_to_json(tmp_path: Path) -> None:
    checkpoint.write_json(tmp_path / "file.json", {"n": 1})
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.write_json(tmp_path / "file.json", {"n": math.nan})
    assert list(files_in(tmp_path)) == ["file.json"]
    assert checkpoint.read_json(tmp_path / "file.json") == {"n": 1}


def test_truncated_tensor_file_is_damaged(tmp_path: Path) -> None:
    checkpoint.write_tensors(tmp_path / "whole", WEIGHTS, {"a": 1})
    content = (tmp_path / "whole").read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(ModelFileError, match=r"cut is damaged \("):
            checkpoint.read_tensors(tmp_path / "cut")


def test_changed_byte_in_a_tensor_file_is_detected(tmp_path: Path) -> None:
    """A changed byte in the header or the data is detected."""
    sha256 = checkpoint.write_tensors(tmp_path / "t", WEIGHTS, {"a": 1})
    content = (tmp_path / "t").read_bytes()
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 0xFF
        (tmp_path / "t").write_bytes(changed)
        with pytest.raises(ModelFileError, match="t is "):
            checkpoint.read_tensors(tmp_path / "t", sha256)


def test_invalid_tensor_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="t is missing"):
        checkpoint.read_tensors(tmp_path / "t")
    (tmp_path / "t").mkdir()
    with pytest.raises(ModelFileError, match="t is damaged"):
        checkpoint.read_tensors(tmp_path / "t")
    foreign = safetensors.torch.save(WEIGHTS, metadata={"note": "{no json"})
    (tmp_path / "u").write_bytes(foreign)
    with pytest.raises(ModelFileError, match="u is damaged"):
        checkpoint.read_tensors(tmp_path / "u")
    (tmp_path / "v").write_bytes(safetensors.torch.save(WEIGHTS))  # from another program, without metadata
    assert checkpoint.read_tensors(tmp_path / "v")[1] == {}


@pytest.mark.parametrize("content", [b"", b"{", b"not json", b"\xff\xfe\x00", b'{"a": 1} {'])
def test_invalid_json_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"file\.json is damaged") as err:
        checkpoint.read_json(tmp_path / "file.json")
    one_line_message(err)


# ---- the saved model -------------------------------------------------------------------------------------------------


def test_saved_model_is_restored(tmp_path: Path) -> None:
    """A model can be saved into a new folder and over another model."""
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
def test_interrupted_save_does_not_load(
    number: int, before: bool, tmp_path: Path, crash_at: Callable[..., None]
) -> None:
    """An interrupted save leaves no partial model and no new weights with an old description."""
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
    ("content", "message"),
    [
        ("[1, 2]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("{}", "no format version"),
        ('{"format": "1"}', "no format version"),
        ('{"format": 3, "weights_sha256": "x"}', "has format 3, this lstmkit reads up to 2: upgrade lstmkit"),
        ('{"format": 2, "weights_sha256": "x"}', "does not match its SHA-256"),
        ('{"format": 1}', "no weights_sha256"),
        ('{"format": 1, "weights_sha256": 5}', "no weights_sha256"),
        ('{"format": 1, "weights_sha256": "x"}', r"is not the file that model\.json describes"),
        ("{", "is damaged"),
    ],
)
def test_invalid_model_json_is_named(content: str, message: str, tmp_path: Path) -> None:
    checkpoint.save_model(tmp_path, WEIGHTS, {"job": "x"})
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(ModelFileError, match=message) as err:
        checkpoint.load_model(tmp_path)
    assert str(tmp_path) in one_line_message(err)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    checkpoint.save_model(tmp_path, WEIGHTS, {"job": "x"})
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"weights\.safetensors is missing"):
        checkpoint.load_model(tmp_path)


def test_invalid_model_folder_is_named(tmp_path: Path) -> None:
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
    """The path to every value of nested data; of a list, only to the first item."""
    if path:
        yield path
    inner = (
        content.items() if isinstance(content, dict) else enumerate(content[:1]) if isinstance(content, list) else ()
    )
    for key, value in inner:
        yield from paths_into(value, (*path, key))


def test_tampered_model_json_loads_or_is_an_error(saved: Path, tmp_path: Path) -> None:
    """If any value of model.json is deleted or changed, the model loads or a one-line error names the folder."""
    description = without_sum(saved / "model.json")
    (tmp_path / "weights.safetensors").write_bytes((saved / "weights.safetensors").read_bytes())
    refused, unexpected = [], []
    for path, new_value in itertools.product(paths_into(description), ("left out", None, "x", -3, [], {"a": [None]})):
        changed = json.loads(json.dumps(description))
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        if new_value == "left out":
            del inner[path[-1]]
        else:
            inner[path[-1]] = new_value
        (tmp_path / "model.json").write_text(json.dumps(changed))
        try:
            lstmkit.load(tmp_path)
        except ModelFileError as err:
            refused.append(str(err))
        except Exception as err:
            unexpected.append((path, new_value, err))
    assert unexpected == []
    assert len(refused) > 100
    assert [message for message in refused if "\n" in message or str(tmp_path) not in message] == []


def test_weights_of_another_model_are_refused(saved: Path, tmp_path: Path) -> None:
    """Weights of another model fail the checksum; with a matching checksum they do not fit the model."""
    description = without_sum(saved / "model.json")
    sha256 = checkpoint.write_tensors(tmp_path / "weights.safetensors", WEIGHTS)
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelFileError, match="is not the file"):
        lstmkit.load(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**description, "weights_sha256": sha256}))
    with pytest.raises(ModelFileError, match="is not a valid forecaster model") as err:
        lstmkit.load(tmp_path)
    one_line_message(err)


def test_unknown_job_is_named(saved: Path, tmp_path: Path) -> None:
    description = without_sum(saved / "model.json")
    (tmp_path / "weights.safetensors").write_bytes((saved / "weights.safetensors").read_bytes())
    for job in ("base", "../forecaster", "os", None, ["forecaster"]):
        (tmp_path / "model.json").write_text(json.dumps({**description, "job": job}))
        with pytest.raises(ModelFileError, match="which this lstmkit does not have"):
            lstmkit.load(tmp_path)


def test_no_pickle_and_no_code_from_files() -> None:
    """The source of the package contains no function that could run code from a file."""
    forbidden = re.compile(
        r"\b(c?pickle|dill|joblib|marshal|shelve|allow_pickle(?!=False)|torch\.(load|save|jit\.load)|read_pickle)\b"
        r"|\bto_pickle\b"
        r"|(?<![\w.])(eval|exec)\("
    )
    package = Path(lstmkit.__file__).parent
    sources = sorted(package.rglob("*.py"))
    assert len(sources) > 20
    matches = [
        f"{source.relative_to(package)}:{n}: {line.strip()}"
        for source in sources
        for n, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1)
        if forbidden.search(line)
    ]
    assert matches == []


# ---- the run folder --------------------------------------------------------------------------------------------------

METADATA: dict[str, Any] = {
    "job": "forecaster",
    "settings": {"epochs": 3, "levels": [50, 80], "freq": None},
    "data": ["abc"],
}


def start(
    path: Path, metadata: dict[str, Any] = METADATA, *, resume: bool = False, overwrite: bool = False
) -> RunFolder:
    with RunFolder.start(path, metadata, resume=resume, overwrite=overwrite) as run:
        return run


def test_run_starts_in_a_new_or_empty_folder(tmp_path: Path) -> None:
    """A run may start in a new or an empty folder."""
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "deep" / "new", tmp_path / "empty"):
        start(path)
        assert RunFolder.read_run_metadata(path) == METADATA
        assert is_unfinished(path)


def test_run_does_not_start_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    before = files_in(tmp_path)
    for overwrite in (True, False):
        with pytest.raises(UserError, match="holds other files: give a new folder"):
            start(tmp_path, overwrite=overwrite)
        with pytest.raises(UserError, match="is a file"):
            start(tmp_path / "thesis.tex", overwrite=overwrite)
    assert files_in(tmp_path) == before


def test_existing_run_is_not_overwritten_by_default(tmp_path: Path) -> None:
    start(tmp_path).write_metrics({"n": 1})
    before = files_in(tmp_path)
    with pytest.raises(UserError, match="holds a run already: give resume=True, overwrite=True, or another folder"):
        start(tmp_path)
    assert files_in(tmp_path) == before


def test_overwrite_deletes_only_the_run(tmp_path: Path) -> None:
    """All files of the previous run are deleted; files of the user stay."""
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
    (tmp_path / "notes" / "model.json").write_text("a note")
    start(tmp_path, {**METADATA, "data": ["new"]}, overwrite=True)
    assert sorted(files_in(tmp_path)) == ["notes/model.json", "run.json", "sales.csv"]
    assert RunFolder.read_run_metadata(tmp_path)["data"] == ["new"]


def test_overwrite_of_a_new_folder_starts_a_run(tmp_path: Path) -> None:
    start(tmp_path / "new", overwrite=True)
    assert is_unfinished(tmp_path / "new")


def test_only_a_run_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "not there", tmp_path / "file"):
        with pytest.raises(UserError, match="holds no run to resume: start one without resume=True"):
            start(path, resume=True)
    assert list(files_in(tmp_path)) == ["file"]


def test_run_resumes_with_the_same_settings_and_data(tmp_path: Path) -> None:
    start(tmp_path)
    start(tmp_path, resume=True)
    newer = {**METADATA, "settings": {**METADATA["settings"], "made_later": 1}}
    start(tmp_path, newer, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {**METADATA["settings"], "epochs": 2}}, "was started with epochs=3, not 2"),
        ({"settings": {**METADATA["settings"], "levels": [50]}}, r"was started with levels=\[50, 80\], not \[50\]"),
        ({"settings": {**METADATA["settings"], "freq": "h"}}, "was started with freq=None, not h"),
        ({"data": ["other"]}, "was started on other data: resume it with the same, or start a new run"),
        ({"data": ["abc", "validation"]}, "was started on other data"),
        ({"job": "translate"}, "is a run of the job 'forecaster', not 'translate'"),
    ],
)
def test_run_does_not_resume_with_other_settings_or_data(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    start(tmp_path)
    before = files_in(tmp_path)
    with pytest.raises(UserError, match=message) as err:
        start(tmp_path, {**METADATA, **change}, resume=True)
    one_line_message(err)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": 1, "data": [], "job": "x"}', '{"settings": {}}'])
def test_damaged_run_is_named(content: str, tmp_path: Path) -> None:
    start(tmp_path)
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"run\.json is damaged") as err:
        start(tmp_path, resume=True)
    one_line_message(err)


def test_history_has_a_row_for_each_seed_and_epoch(tmp_path: Path) -> None:
    """The history has a row for each seed and epoch; missing losses are empty; numbers keep all digits."""
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


# ---- interrupted and resumed runs ------------------------------------------------------------------------------------


class Stopping(Progress):
    """Raises ``error`` at the end of the second epoch of the task with this title."""

    def __init__(self, title: str, error: type[BaseException]) -> None:
        self.title, self.error, self.now = title, error, ""

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Task]:
        self.now = title
        yield self

    def update(self, done: int, note: str = "") -> None:
        if self.now == self.title and done == 2 * SMALL["steps_per_epoch"]:
            raise self.error


@pytest.fixture(scope="module")
def no_clock() -> Iterator[None]:
    """Make all durations zero, so that two runs write the same files."""
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
def test_resumed_run_writes_the_same_files(
    seed: int, error: type[BaseException], tmp_path: Path, whole_run: dict[str, bytes]
) -> None:
    """A resumed run writes the files of an uninterrupted run. Ctrl-C saves a model; after a crash there is none."""
    run, progress = tmp_path / "run", Stopping(f"training {seed}/2", error)
    if error is KeyboardInterrupt:
        Forecaster(**SMALL, ensemble_size=2).fit(SERIES, run=run, progress=progress)
        assert len(lstmkit.load(run).predict(SERIES)) == SMALL["horizon"]
        assert json.loads((run / "metrics.json").read_text())["training"][-1] == "interrupted"
    else:
        with pytest.raises(MemoryError):
            Forecaster(**SMALL, ensemble_size=2).fit(SERIES, run=run, progress=progress)
        with pytest.raises(ModelFileError, match="stopped before its model was saved: fit again with resume=True"):
            lstmkit.load(run)
    Forecaster(**SMALL, ensemble_size=2).fit(SERIES, run=run, resume=True)
    files = files_in(run)
    assert files.keys() == whole_run.keys()
    for name in files.keys() - {"report.html"}:
        assert files[name] == whole_run[name], name


def test_run_resumes_with_the_same_validation_data(tmp_path: Path) -> None:
    """A run is resumed only with the same validation data, which decide which weights are kept."""
    job, run = Forecaster(**{**SMALL, "epochs": 1}), tmp_path / "run"
    job.fit(SERIES, validation=SERIES[:30], run=run)
    for validation in (None, SERIES[:40]):
        with pytest.raises(UserError, match="was started on other data"):
            job.fit(SERIES, validation=validation, run=run, resume=True)
    job.fit(SERIES, validation=SERIES[:30], run=run, resume=True)


def test_failed_fit_leaves_no_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UserError):
        Forecaster(**SMALL).fit(tmp_path / "not there.csv", run=run)
    with pytest.raises(UserError):
        Forecaster(**SMALL).fit(SERIES[:3], run=run)
    with pytest.raises(SettingError, match="device 'cuda:99' is not available"):
        Forecaster(**SMALL, device="cuda:99").fit(SERIES, run=run)
    assert not run.exists()


def test_save_before_fit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not fitted: call fit first"):
        Forecaster().save(tmp_path)
    assert files_in(tmp_path) == {}
