"""Damaged files of models and runs: one flipped bit, or sizes that the weights do not have, is an error of one line."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import lstmkit
import lstmkit.cli
from job_cases import CASES, make, without_sum
from lstmkit.errors import ModelFileError, UserError
from lstmkit.jobs.anomaly_detector.job import AnomalyDetector
from lstmkit.training import checkpoint
from lstmkit.training.run_folder import RunFolder

WAVE = np.stack([np.sin(np.arange(200) / 3), np.cos(np.arange(200) / 4)], axis=1)
SETTINGS: dict[str, Any] = {"hidden_size": 2, "epochs": 2, "window": 10, "steps_per_epoch": 2, "batch_size": 4}
WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(3, dtype=torch.float64)}
NOTE = {"epoch": 2, "rows": [{"epoch": 1, "train_loss": 0.1}, {"epoch": 2, "train_loss": 0.01}]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests change a copy."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    AnomalyDetector(**SETTINGS).fit(WAVE, run=folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module")
def finished_with_scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scores") / "run"
    make("tagger").fit(CASES["tagger"].data(), run=folder)
    return folder


@pytest.fixture
def scored(finished_with_scores: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_with_scores, tmp_path / "scored"))


def flips(content: bytes, n: int) -> Iterator[bytes]:
    """The content with one bit flipped: each byte of a small file, a seeded sample of ``n`` of a larger one."""
    rng = np.random.default_rng(0)
    places = range(len(content)) if len(content) <= n else rng.choice(len(content), n, replace=False)
    for at in places:
        changed = bytearray(content)
        changed[at] ^= 1 << int(rng.integers(8))
        yield bytes(changed)


def assert_never_another_answer(path: Path, read: Callable[[], Any], n: int = 300) -> None:
    """Whichever bit of the file is flipped, reading gives what it gave before, or one line that names the file."""
    content, before = path.read_bytes(), read()
    messages = []
    for changed in flips(content, n):
        path.write_bytes(changed)
        try:
            assert read() == before
        except ModelFileError as err:
            messages.append(str(err))
    path.write_bytes(content)
    assert read() == before
    assert len(messages) > 0.8 * min(n, len(content))  # a flip in white space or in an escape may change nothing
    assert [message for message in messages if str(path) not in message or "\n" in message] == []


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_folder(path: Path) -> None:
    path.mkdir()


# ---- one bit ---------------------------------------------------------------------------------------------------------


def listed(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: (str(t.dtype), t.tolist()) for name, t in tensors.items()}


def test_each_byte_of_a_checkpoint(tmp_path: Path):
    """Header, note, tensors and the sum itself."""
    path = tmp_path / "last.safetensors"
    checkpoint.write_tensors(path, WEIGHTS, NOTE)

    def read() -> Any:
        tensors, note = checkpoint.read_tensors(path)
        return listed(tensors), note

    assert_never_another_answer(path, read, n=len(path.read_bytes()))


def test_each_byte_of_a_summed_json_file(tmp_path: Path):
    path = tmp_path / "model.json"
    checkpoint.write_summed_json(path, {"job": "x", "numbers": [1.5, 2], "name": "größe"})
    assert_never_another_answer(path, lambda: checkpoint.read_summed_json(path), n=len(path.read_bytes()))


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_bits_of_a_saved_model(name: str, run: Path):
    def read() -> Any:
        model = lstmkit.load(run)
        return listed(dict(model.model.state_dict())), json.dumps(model.predictor.state()), repr(model)

    assert_never_another_answer(run / name, read)


def test_bits_of_the_run_metadata(run: Path):
    assert_never_another_answer(run / "run.json", lambda: RunFolder.read_run_metadata(run))


def test_a_run_with_a_changed_checkpoint_is_not_resumed(run: Path):
    """One bit of the best weights."""
    path = run / "checkpoints" / "seed-0" / "last.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 64
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"last\.safetensors is damaged .*SHA-256.*: restore it .* overwrite=True"):
        AnomalyDetector(**SETTINGS).fit(WAVE, run=run, resume=True)


def test_a_changed_number_in_a_description_is_refused(run: Path):
    """Also if an editor wrote the JSON anew; another layout of the same content is taken."""
    path = run / "model.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps(description, sort_keys=True))
    before = lstmkit.load(run).predictor.state()
    description["state"]["mean"][0] += 1
    path.write_text(json.dumps(description))
    with pytest.raises(ModelFileError, match=r"model\.json is damaged \(its content does not match its SHA-256\)"):
        lstmkit.load(run)
    path.write_text(json.dumps({k: v for k, v in description.items() if k != "sha256"}))
    with pytest.raises(ModelFileError, match="does not match its SHA-256"):
        lstmkit.load(run)
    assert before["mean"][0] != description["state"]["mean"][0]


def test_a_changed_score_is_never_shown(scored: Path):
    """Whichever byte changes, the model still loads; its evaluation is that of before, or None with a warning."""
    path = scored / "metrics.json"
    content, shown = path.read_bytes(), lambda: None if (e := lstmkit.load(scored).evaluation) is None else str(e)
    before, refused = shown(), 0
    assert before is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number, changed in enumerate(flips(content, 100), 1):
            path.write_bytes(changed)
            now = shown()
            assert now in (before, None)
            refused += now is None
            assert len(caught) == refused, number
    assert refused > 80
    messages = [str(warning.message) for warning in caught]
    assert [message for message in messages if str(path) not in message or "\n" in message] == []
    assert all(message.endswith("; the model is loaded without its evaluation") for message in messages)


@pytest.mark.parametrize("put", [put_pipe, put_device, put_folder])
def test_no_pipe_is_read_for_scores(put: Callable[[Path], None], scored: Path):
    (scored / "metrics.json").unlink()
    put(scored / "metrics.json")
    with pytest.warns(UserWarning, match=r"metrics\.json is damaged \(it is a pipe, a device or a folder\)"):
        assert lstmkit.load(scored).evaluation is None


def test_scores_without_their_columns_are_not_shown(scored: Path):
    (scored / "metrics.json").write_text('{"test": {"table": [{"a": 1}], "notes": []}}')
    with pytest.warns(UserWarning, match=r"metrics\.json is damaged .*restore it from a copy, or delete it"):
        assert lstmkit.load(scored).evaluation is None


def test_scores_of_version_0_1_have_no_sum(scored: Path):
    before = lstmkit.load(scored).evaluation
    content = without_sum(scored / "metrics.json")
    del content["format"]
    (scored / "metrics.json").write_text(json.dumps(content))
    assert str(lstmkit.load(scored).evaluation) == str(before)


def test_files_of_version_0_1_have_no_sum(tmp_path: Path):
    save_file(WEIGHTS, tmp_path / "t", metadata={"note": json.dumps(NOTE)})
    tensors, note = checkpoint.read_tensors(tmp_path / "t")
    assert (listed(tensors), note) == (listed(WEIGHTS), NOTE)
    (tmp_path / "run.json").write_text(json.dumps({"job": "x", "settings": {}, "data": []}))
    assert RunFolder.read_run_metadata(tmp_path) == {"job": "x", "settings": {}, "data": []}


def test_the_same_weights_make_the_same_file(tmp_path: Path):
    sums = {checkpoint.write_tensors(tmp_path / "t", WEIGHTS, NOTE) for _ in range(5)}
    assert len(sums) == 1


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("members",), 10**9),
        (("members",), 2),
        (("settings", "num_layers"), 10**6),
        (("settings", "hidden_size"), 10**9),
        (("settings", "hidden_size"), 10**30),
    ],
    ids=str,
)
def test_a_description_larger_than_its_weights_is_refused_at_once(place: tuple[str, ...], value: int, run: Path):
    """Before members, layers or units are built that the file of the weights does not have."""
    description = without_sum(run / "model.json")
    inner = description if len(place) == 1 else description[place[0]]
    inner[place[-1]] = value
    (run / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelFileError, match="is not a valid anomaly_detector model") as err:
        lstmkit.load(run)
    assert "\n" not in str(err.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("[" * 100_000, "nested too deeply"), ('{"format": ' + "1" * 5000 + "}", "is damaged")],
    ids=["deep", "many digits"],
)
@pytest.mark.parametrize("name", ["model.json", "run.json"])
def test_json_that_is_too_deep_or_too_large(content: str, reason: str, name: str, run: Path):
    (run / name).write_text(content)
    with pytest.raises(ModelFileError, match=reason) as err:
        lstmkit.load(run) if name == "model.json" else RunFolder.read_run_metadata(run)
    assert name in str(err.value)
    assert "\n" not in str(err.value)


# ---- pipes and devices -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("put", [put_pipe, put_device, put_folder])
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("model.json", lstmkit.load),
        ("weights.safetensors", lstmkit.load),
        ("run.json", lambda run: AnomalyDetector(**SETTINGS).fit(WAVE, run=run, resume=True)),
        ("run.json", lambda run: lstmkit.load(run, train=WAVE)),
        (
            "checkpoints/seed-0/last.safetensors",
            lambda run: AnomalyDetector(**SETTINGS).fit(WAVE, run=run, resume=True),
        ),
        (".lock", lambda run: AnomalyDetector(**SETTINGS).fit(WAVE, run=run, resume=True)),
        (".lock", lambda run: AnomalyDetector(**SETTINGS).fit(WAVE, run=run, overwrite=True)),
    ],
)
def test_pipes_devices_and_folders_are_not_opened(
    name: str, use: Callable[[Path], Any], put: Callable[[Path], None], run: Path
):
    """Opening a pipe would wait for ever; reading /dev/zero would fill the memory."""
    (run / name).unlink(missing_ok=True)
    put(run / name)
    with pytest.raises(UserError, match=f"{name} is (damaged .*it is )?a pipe, a device or a folder") as err:
        use(run)
    assert "\n" not in str(err.value)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_pipe_in_a_model_ends_a_command_with_one_line(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    np.savetxt(run.parent / "wave.csv", WAVE, delimiter=",", header="a,b", comments="")
    (run / name).unlink()
    put_pipe(run / name)
    monkeypatch.setattr(sys, "argv", ["lstmkit", "predict", str(run), str(run.parent / "wave.csv")])
    with pytest.raises(SystemExit) as stop:
        lstmkit.cli.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {run / name} is damaged (it is a pipe, a device or a folder): ")
