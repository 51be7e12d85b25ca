"""Spoken commands: sounds read, heard, disturbed, told apart, and found in long recordings."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lstmkit import cli
from lstmkit.data.audio.audio_io import AudioClip, audio_from_array, encode_audio
from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.data.batch import Batch
from lstmkit.data.labeled_examples import Columns, LabeledExamples, read_labeled_examples
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.frontends.augmented_log_mel import AugmentedLogMelFrontEnd
from lstmkit.jobs import load
from lstmkit.jobs.classifier.job import Classifier
from lstmkit.jobs.classifier.keyword_spotting import KeywordDetection, concatenate_with_pauses, match_detections
from lstmkit.jobs.classifier.plots import audio_attribution_figure, keyword_detections_figure
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.models.sequence import SequenceClassifier
from lstmkit.modules.audio_encoder import AudioAugmentation, AudioEncoder
from lstmkit.modules.classification_head import ClassificationHead
from lstmkit.modules.pooling import build_pool
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress
from lstmkit.recipes import classifier as protocols
from scored import run_protocol

soundfile = pytest.importorskip("soundfile")

RATE = 8000
TINY: dict[str, Any] = {"hidden_size": 6, "epochs": 2, "batch_size": 8, "n_mels": 12, "conv_channels": 4}


def hum(pitch: float, seconds: float = 0.2, loud: float = 0.3, seed: int = 0) -> AudioClip:
    """A tone that comes and goes, with a little noise."""
    n = round(seconds * RATE)
    noise = 0.001 * np.random.default_rng(seed).standard_normal(n)
    wave = loud * np.hanning(n) * np.sin(2 * np.pi * pitch * np.arange(n) / RATE)
    return AudioClip(f"{pitch:.0f} Hz", (wave + noise).astype(np.float32), RATE)


def hums(n: int, seed: int) -> tuple[list[AudioClip], list[str]]:
    """Low and high ones of any length and loudness."""
    rng = np.random.default_rng(seed)
    made = [
        hum((350, 1500)[i % 2] * rng.uniform(0.95, 1.05), rng.uniform(0.15, 0.3), rng.uniform(0.05, 0.8), i)
        for i in range(n)
    ]
    return made, [("low", "high")[i % 2] for i in range(n)]


@pytest.fixture(scope="module")
def learnt() -> Classifier:
    return Classifier(
        hidden_size=8, conv_channels=4, n_mels=12, epochs=10, lr=0.02, batch_size=8, dropout=0.1, input_dropout=0.0
    ).fit(hums(80, 0))


# ---- reading ---------------------------------------------------------------------------------------------------------

SOUNDS = {"yes": hum(400), "no": hum(900, 0.25)}


def _folder(path: Path) -> Path:
    for label, sound in SOUNDS.items():
        (path / label).mkdir(parents=True)
        (path / label / f"{label}_1.wav").write_bytes(encode_audio(sound))
    (path / "yes" / ".hidden.wav").write_bytes(b"no sound")
    return path


def _zip(path: Path, files: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _wavs(prefix: str = "") -> dict[str, bytes | str]:
    return {f"{prefix}{label}_1.wav": encode_audio(sound) for label, sound in SOUNDS.items()}


def test_every_way_to_give_sounds_says_the_same(tmp_path: Path):
    """Folders, zips by folder, name and table, tables, frames, and lists of arrays, sounds and paths."""
    folder = _folder(tmp_path / "sounds")
    rows = [f"{label}/{label}_1.wav" for label in SOUNDS]
    (folder / "list.csv").write_text("path,label\n" + "".join(f"{p},{p.split('/')[0]}\n" for p in rows))
    table = "path,label\nyes_1.wav,yes\nno_1.wav,no\n"
    named = Columns(label_pattern=r"^([a-z]+)_\d")
    paths = [folder / row for row in rows]
    ways: list[tuple[Any, Columns]] = [
        (folder, Columns()),
        (folder / "list.csv", Columns()),
        (pd.DataFrame({"file": map(str, paths), "label": list(SOUNDS)}), Columns(path="file")),
        (_zip(tmp_path / "a.zip", {**{f"{k.split('_')[0]}/{k}": v for k, v in _wavs().items()}}), Columns()),
        (_zip(tmp_path / "b.zip", _wavs("all/")), named),
        (_zip(tmp_path / "c.zip", {**_wavs("d/"), "d/list.csv": table}), Columns()),
        ((paths, list(SOUNDS)), Columns()),
    ]
    for data, columns in ways:
        found = read_labeled_examples(data, columns)
        assert found.kind == "audio"
        by_label = {label: sound for (label,), sound in zip(found.require_labels(), found.inputs, strict=True)}
        assert set(by_label) == set(SOUNDS)
        for label, sound in SOUNDS.items():
            np.testing.assert_allclose(by_label[label].samples, sound.samples, atol=1e-4)
    for data in (
        (list(SOUNDS.values()), list(SOUNDS)),
        ([sound.samples for sound in SOUNDS.values()], list(SOUNDS), RATE),
    ):
        found = read_labeled_examples(data, Columns())
        assert [len(one.samples) for one in found.inputs] == [len(one.samples) for one in SOUNDS.values()]
        assert found.labels == [("yes",), ("no",)]
    assert read_labeled_examples(folder, Columns()).notes == (
        "2 files of sounds are not audio files and were skipped, such as list.csv",
    )


def test_what_is_read_as_what_is_a_rule(tmp_path: Path):
    """Strings are texts, arrays without a rate numbers, a text column comes before paths."""
    assert read_labeled_examples(["a.wav"], Columns()).kind == "text"
    assert read_labeled_examples([np.zeros(9)], Columns()).kind == "numbers"
    assert read_labeled_examples(([np.zeros(9)], None, RATE), Columns()).kind == "audio"
    assert read_labeled_examples(SOUNDS["yes"], Columns()).labels == [None]
    frame = pd.DataFrame({"path": ["a.wav"], "text": ["a"], "x": [1.0], "id": ["u"]})
    assert read_labeled_examples(frame, Columns()).kind == "text"
    assert read_labeled_examples(frame, Columns(values=("x",))).kind == "numbers"
    (tmp_path / "a.wav").write_bytes(encode_audio(SOUNDS["no"]))
    found = read_labeled_examples(str(tmp_path / "a.wav"), Columns())
    assert (found.kind, found.ids) == ("audio", ["a.wav"])


def test_the_print_of_sounds_hangs_on_samples_and_rate():
    def digest(sound: AudioClip) -> str:
        return LabeledExamples([sound], [("a",)], ["1"], "x").digest()

    plain = hum(400)
    assert digest(plain) == digest(AudioClip("other name", plain.samples.copy(), RATE))
    assert len({digest(one) for one in (plain, hum(401), AudioClip("", plain.samples, 7999))}) == 3


def test_files_that_do_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each is named, with what to do."""
    (tmp_path / "none").mkdir()
    (tmp_path / "bad.wav").write_text("this is no sound")
    (tmp_path / "bad.zip").write_text("this is no zip")
    (tmp_path / "gone.csv").write_text("path,label\nnowhere.wav,a\n")
    (tmp_path / "hole.csv").write_text("path,label\n,a\nx.wav,b\n")
    (tmp_path / "other.csv").write_text("file,label\nx.wav,b\n")
    wavs = _wavs()
    cut = (_zip(tmp_path / "cut.zip", wavs)).read_bytes()
    (tmp_path / "cut.zip").write_bytes(cut[:500] + b"\0" * 900 + cut[1400:])
    cases: list[tuple[Any, str]] = [
        (tmp_path / "none", "none has no audio file"),
        (tmp_path / "bad.wav", "bad.wav is not a readable audio file"),
        (tmp_path / "bad.zip", "is not a readable zip archive"),
        (tmp_path / "missing.zip", "no such file"),
        (tmp_path / "missing.wav", "no such file"),
        (tmp_path / "gone.csv", "no such file"),
        (tmp_path / "hole.csv", "column 'path', row 1 below the header: '' is not a path"),
        (tmp_path / "other.csv", "give --text-col NAME, or --path-col NAME for audio or video files"),
        (tmp_path / "cut.zip", "in cut.zip cannot be read"),
        (_zip(tmp_path / "empty.zip", {"a.txt": "a"}), "has no audio file"),
        (_zip(tmp_path / "two.zip", {**wavs, "a.csv": "path\n", "b.csv": "path\n"}), "two.zip has 2 tables"),
        (_zip(tmp_path / "lost.zip", {"a.csv": "path,label\nx.wav,y\n"}), "lost.zip has no file 'x.wav'"),
        (([SOUNDS["no"]], ["a", "b"]), "1 inputs and 2 labels"),
        (([SOUNDS["no"], np.zeros(4)], ["a", "b"]), "input 2 is not media"),
        (([np.zeros(4)], ["a"], 12), "sample rate 12 Hz"),
        (([np.zeros((2, 2, 2))], ["a"], RATE), "input 1 has shape"),
    ]
    for data, says in cases:
        with pytest.raises(UserError) as caught:
            read_labeled_examples(data, Columns())
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    for pattern, says in (("(", "not a regular expression"), ("a", "has 0 groups"), ("(a)(b)", "has 2 groups")):
        with pytest.raises(SettingError, match=says):
            read_labeled_examples(tmp_path, Columns(label_pattern=pattern))
    monkeypatch.setattr("lstmkit.data.media_files.MAX_SECONDS", 0.1)
    with pytest.raises(
        DataError, match=r"input 1 has 1 s, the maximum of an example is 0 s: .* --keyword-threshold 0.5"
    ):
        read_labeled_examples(([np.zeros(RATE)], ["a"], RATE), Columns())


# ---- heard -----------------------------------------------------------------------------------------------------------


def front_end(**options: Any) -> AugmentedLogMelFrontEnd:
    plain = {
        "sample_rate": 0,
        "n_mels": 12,
        "conv_channels": 4,
        "max_time_shift": 0.0,
        "min_snr_db": 0.0,
        "speed_perturbation": 0.0,
        "spec_augment_masks": 0,
    }
    made = AugmentedLogMelFrontEnd(**{**plain, "dropout": 0.0, **options})
    made.fit(hums(12, 0)[0], Progress())
    return made


def test_loudness_offset_and_format_hardly_matter():
    """Quieter, with an offset, from 8-bit stereo at 96 kHz: much the same frames; clipped they are still near."""
    heard, plain = front_end(), hum(700, 0.4, 0.5)
    (whole,) = heard.encode([plain])
    quiet, off, clipped, both = (
        AudioClip("", made.astype(np.float32), RATE)
        for made in (plain.samples * 0.05, plain.samples + 0.3, np.clip(plain.samples * 3, -1, 1), plain.samples)
    )
    np.testing.assert_allclose(heard.encode([quiet])[0], whole, atol=1e-3)
    np.testing.assert_allclose(heard.encode([off])[0], whole, atol=1e-3)
    assert np.abs(heard.encode([clipped])[0] - whole).mean() < 0.5 * np.abs(whole).mean()
    upsampled = np.repeat(both.samples, 12)
    eight = audio_from_array(np.stack([np.round(128 + 127 * upsampled)] * 2, 1).astype(np.uint8), 96_000)
    assert np.corrcoef(heard.encode([eight])[0][: len(whole)].ravel(), whole.ravel())[0, 1] > 0.7


def test_silence_is_not_made_loud():
    heard = front_end()
    for samples in (np.zeros(4000), np.full(4000, 0.5), 1e-6 * np.random.default_rng(0).standard_normal(4000)):
        frames = heard.normalize_loudness(heard.mel.frames(AudioClip("", samples.astype(np.float32), RATE)))
        assert (frames < -4).all()  # nats: nothing is near a sound's level
    assert heard.encode([AudioClip("click", np.ones(1, np.float32), RATE)])[0].shape == (1, 12)


def test_loudness_is_in_decibels_of_full_scale():
    noise = np.random.default_rng(0).standard_normal(40_000).astype(np.float32)
    heard = front_end(n_mels=20)
    for gain, expected in ((1.0, 0.0), (0.1, -20.0)):
        assert heard.loudness(heard.mel.from_samples(gain * noise)).mean() == pytest.approx(expected, abs=0.7)


def test_the_rate_is_that_of_the_slowest():
    fast, slow = AudioClip("", np.ones(4000, np.float32), 44_100), AudioClip("", np.ones(4000, np.float32), 11_025)
    for sounds, rate in (([fast], 16_000), ([fast, slow], 11_025), ([AudioClip("", slow.samples, 1000)], 4000)):
        made = AugmentedLogMelFrontEnd(0, 12, 4, 0.0, 0.0, 0.0, 0, 0.0)
        made.fit(sounds, Progress())
        assert made.mel.sample_rate == rate
        again = AugmentedLogMelFrontEnd(0, 12, 4, 0.0, 0.0, 0.0, 0, 0.0)
        again.load_state(json.loads(json.dumps(made.state())))
        assert all((a == b).all() for a, b in zip(made.encode(sounds), again.encode(sounds), strict=True))
    with pytest.raises(SettingError, match="n_mels=256 is too many for a sample rate of 4,000 Hz"):
        Classifier(sample_rate=4000, **{**TINY, "n_mels": 256}).fit(hums(20, 0))


def test_an_offset_is_taken_out_frame_by_frame():
    samples = hum(500).samples
    mel = LogMelSpectrogram(RATE, 12, remove_dc_offset=True)
    np.testing.assert_allclose(mel.from_samples(samples + 5), mel.from_samples(samples), atol=0.05)
    assert np.abs(LogMelSpectrogram(RATE, 12).from_samples(samples + 5) - mel.from_samples(samples)).max() > 3


# ---- disturbed -------------------------------------------------------------------------------------------------------


def disturbance(bands: int = 6, **options: Any) -> AudioAugmentation:
    mean, std = torch.full((bands,), -3.0), torch.full((bands,), 2.0)
    return AudioAugmentation(mean, std, torch.arange(1.0, bands + 1) * 100, -14.0, **options)


def test_only_training_disturbs():
    x, lengths = torch.randn(3, 20, 6), torch.tensor([20, 1, 7])
    made = disturbance(max_time_shift=3, min_snr_db=20, speed_perturbation=0.2, spec_augment_masks=2)
    assert made.eval()(x, lengths)[0] is x
    torch.manual_seed(0)
    once, own = made.train()(x, lengths)
    assert once.shape[1] == own.max()
    assert (own >= 1).all()
    torch.manual_seed(0)
    assert torch.equal(made(x, lengths)[0], once)
    torch.testing.assert_close(disturbance().train()(x, lengths)[0], x)


def test_a_shift_is_silence_around_the_same_frames():
    x, lengths = torch.randn(8, 10, 6), torch.full((8,), 10)
    found, own = disturbance(max_time_shift=4).train()(x, lengths)
    silence = (-14.0 + 3.0) / 2.0
    for row, given_row, length in zip(found, x, own.tolist(), strict=True):
        spoken = [t for t in range(length) if not torch.allclose(row[t], torch.full((6,), silence))]
        assert spoken == list(range(spoken[0], spoken[0] + 10))
        torch.testing.assert_close(row[spoken], given_row)
        assert 0 <= spoken[0] <= 4
        assert 0 <= length - 10 - spoken[0] <= 4
    assert len(set(own.tolist())) > 1


def test_tempo_and_pitch_change_by_at_most_their_share():
    """A ramp over time stays one from end to end; a peak over the bands moves by no more than the factor."""
    torch.manual_seed(1)
    ramp = torch.linspace(0, 1, 40)[None, :, None].repeat(16, 1, 6)
    found, own = disturbance(speed_perturbation=0.2).train()(ramp, torch.full((16,), 40))
    assert own.min() >= round(40 / 1.2)
    assert own.max() <= 40 / 0.8
    for row, length in zip(found[:, :, 0], own.tolist(), strict=True):
        np.testing.assert_allclose(row[:length], np.linspace(0, 1, length), atol=1e-5)
    peak = torch.zeros(64, 5, 30)
    peak[:, :, 14] = 5.0
    made = disturbance(30, speed_perturbation=0.2).train()
    where = made._shift_pitch(peak)[:, 0].argmax(1)
    assert where.min() >= 11
    assert where.max() <= 18
    assert len(where.unique()) > 3


def test_noise_is_at_least_so_far_below():
    """Silence takes up the noise; what is at the sound's level hardly changes."""
    torch.manual_seed(0)
    power = torch.full((200, 10, 6), -14.0)
    power[:, :5] = 0.0
    found = disturbance(min_snr_db=20.0)._add_noise(power)
    decibels = found * 10 / math.log(10)
    assert decibels[:, 5:].mean(dim=(1, 2)).max() < -14
    assert decibels[:, 5:].mean(dim=(1, 2)).std() > 5
    assert decibels[:, :5].abs().max() < 2
    assert (found >= -14).all()


def test_masks_hide_a_stretch_of_time_and_of_bands():
    torch.manual_seed(0)
    x = torch.ones(50, 40, 30)
    found, _ = disturbance(30, spec_augment_masks=1).train()(x, torch.full((50,), 40))
    hidden = found == 0
    times, bands = hidden.all(2).sum(1), hidden.all(1).sum(1)
    assert times.max() <= 9
    assert bands.max() <= 7
    assert times.float().mean() > 1
    assert bands.float().mean() > 1
    assert ((found == 0) | (found == 1)).all()


@pytest.mark.parametrize("kind", ["max", "last", "attention"])
def test_padding_changes_no_answer(kind: str):
    """Alone or beside longer ones, whatever the padding is: the same answer, and the same gradients."""
    torch.manual_seed(0)
    encoder = AudioEncoder(7, 3)
    trunk = build_trunk("lstm", encoder.output_size, 4, num_layers=1, bidirectional=True)
    model = SequenceClassifier(encoder, trunk, build_pool(kind, 8, 2), ClassificationHead(8, 3)).double()
    frames, lengths = torch.randn(4, 13, 7).double(), torch.tensor([13, 1, 4, 6])
    targets = torch.tensor([0, 2, 1, 1])
    for row, length in enumerate(lengths.tolist()):
        frames[row, length:] = 9.0
    rows = [frames[row : row + 1, :length] for row, length in enumerate(lengths.tolist())]
    found, _ = model(frames, None, lengths)
    for row, alone in enumerate(rows):
        torch.testing.assert_close(found[row], model(alone)[0][0])
    together = torch.autograd.grad(model.loss(Batch(frames, lengths, targets))[0], list(model.parameters()))
    losses = [model.loss(Batch(one, None, targets[k : k + 1]))[0] for k, one in enumerate(rows)]
    for a, b in zip(together, torch.autograd.grad(sum(losses) / 4, list(model.parameters())), strict=True):
        torch.testing.assert_close(a, b)
    steps, own = encoder.double()(frames, lengths)
    assert steps.shape == (4, 4, 3 * 2)
    assert own.tolist() == [4, 1, 1, 2]


# ---- told apart, and found -------------------------------------------------------------------------------------------


def test_it_learns_and_says_what_stands_beside(learnt: Classifier, tmp_path: Path):
    test = hums(40, 1)
    learnt.evaluation = learnt.evaluate(test)
    table = learnt.evaluation.table.set_index("model")
    assert table["accuracy"]["LSTM"] > 0.9
    assert table.index.tolist() == ["LSTM", "1-nearest neighbor", "majority class"]
    again = load(learnt.save(tmp_path))
    pd.testing.assert_frame_equal(again.predict(test[0]), learnt.predict(test[0]))
    times, changes = learnt.occlusion_attribution(test[0][0], "low")
    assert len(times) == len(changes)
    assert times[:2] == ["0.01 s", "0.02 s"]
    sections = {section.title: section for section in learnt.report_sections(learnt.read(test))}
    assert "of 40 keywords detected" in sections["Keyword spotting"].text
    for figure in (learnt.plot(test, learnt.predict(test)), sections["Keyword spotting"].figure):
        assert figure is not None
        figure.draw_without_rendering()


def test_commands_are_found_in_a_long_recording(learnt: Classifier, tmp_path: Path):
    """In their places, from a file, an array and bit by bit; drawn; told by predict too."""
    whole = concatenate_with_pauses(*hums(30, 2), RATE, seed=0)
    frame = learnt.spot_keywords(whole.audio)
    found = [KeywordDetection(*row) for row in frame.drop(columns="id").itertuples(index=False)]
    how = match_detections(found, whole.keywords)
    assert how.hits >= 27
    assert how.false_alarms <= 3
    assert how.boundary_error_seconds < 0.06
    (tmp_path / "long.wav").write_bytes(encode_audio(whole.audio))
    of_file = learnt.predict(tmp_path / "long.wav", keyword_threshold=0.5)
    assert of_file["label"].tolist() == frame["label"].tolist()
    np.testing.assert_allclose(of_file[["start", "end"]], frame[["start", "end"]], atol=0.021)
    assert set(of_file["id"]) == {"long.wav"}
    assert json.loads(json.dumps(learnt.to_records(of_file)))[0]["label"] in ("low", "high")
    learnt.plot(tmp_path / "long.wav", of_file).draw_without_rendering()
    with pytest.raises(DataError, match=r"long.wav has .* find the commands in it with --keyword-threshold 0.5"):
        learnt.predict(tmp_path / "long.wav")


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 9000), max_size=6))
def test_bit_by_bit_it_hears_the_same(learnt: Classifier, cuts: list[int]):
    whole = concatenate_with_pauses(*hums(6, 3), RATE, seed=1)
    spotter = learnt.stream()
    pieces = np.split(whole.audio.samples, np.minimum(np.cumsum(cuts), len(whole.audio.samples)))
    found = [one for piece in pieces for one in spotter.push(piece)] + spotter.finish()
    rows = list(learnt.spot_keywords(whole.audio).drop(columns="id").itertuples(index=False, name=None))
    assert [tuple(one) for one in found] == rows
    assert rows


def test_it_hears_soon_and_keeps_little(learnt: Classifier):
    """A command is told a second and a half after its end; memory does not grow; any rate will do."""
    spotter = learnt.stream()
    loud = hum(350, 0.25, 0.5)
    assert spotter.push(np.concatenate([np.zeros(RATE, np.float32), loud.samples])) == []
    (told,) = spotter.push(np.zeros(round(1.6 * RATE), np.float32))
    assert told.start == pytest.approx(1.0, abs=0.1)
    assert told.end == pytest.approx(1.25, abs=0.1)
    kept = []
    rng = np.random.default_rng(0)
    for _ in range(40):
        spotter.push((0.2 * rng.standard_normal(RATE)).astype(np.float32))
        kept.append(len(spotter._frames))
    assert max(kept[20:]) <= max(kept[:20]) <= 1000
    fast = learnt.stream(sample_rate=16_000)
    samples = np.repeat(np.concatenate([np.zeros(RATE, np.float32), loud.samples, np.zeros(RATE, np.float32)]), 2)
    (heard,) = fast.push(samples) + fast.finish()
    assert heard.label == told.label
    assert heard.start == pytest.approx(told.start, abs=0.03)
    with pytest.raises(DataError, match="finite numbers"):
        spotter.push(np.array([np.nan]))
    with pytest.raises(DataError, match=r"got the shape \(2, 2\)"):
        spotter.push(np.zeros((2, 2)))


def test_nothing_is_heard_where_nothing_is_said(learnt: Classifier):
    """Silence, an offset, steady noise, less than a frame."""
    rng = np.random.default_rng(0)
    steady = (0.05 * rng.standard_normal(10 * RATE)).astype(np.float32)
    for samples in (np.zeros(20 * RATE), np.full(9 * RATE, 0.7), steady, np.ones(30)):
        assert learnt.spot_keywords(([samples], None, RATE)).empty
    found = learnt.spot_keywords(([np.zeros(RATE)], None, RATE))
    assert found.columns.tolist() == ["id", "start", "end", "label", "probability"]
    learnt.plot(([np.zeros(RATE)], None, RATE), found).draw_without_rendering()


def test_what_goes_on_is_cut(learnt: Classifier):
    """Hums without a pause between them: pieces no longer than the longest sound of training."""
    longest = learnt.predictor.audio_front_end.seconds
    samples = np.concatenate([hum(350, 0.25, 0.5, i).samples for i in range(12)])
    around = np.zeros(RATE, np.float32)
    found = learnt.spot_keywords(AudioClip("row", np.concatenate([around, samples, around]), RATE), min_probability=0.0)
    assert len(found) >= 8
    assert (found["end"] - found["start"]).max() <= longest + 0.05
    assert (found["start"].to_numpy()[1:] >= found["end"].to_numpy()[:-1] - 0.05).all()


def test_who_cannot_listen(learnt: Classifier):
    texts = Classifier(hidden_size=4, epochs=1).fit((["a", "b"] * 10, ["x", "y"] * 10))
    with pytest.raises(
        UserError, match="this model was trained on texts; keyword spotting needs a model of audio clips"
    ):
        texts.spot_keywords(hum(400))
    several = Classifier(label_sep="|", **TINY).fit(hums(30, 0))
    with pytest.raises(
        UserError, match="this model was trained with several labels per clip; keyword spotting needs exactly one"
    ):
        several.stream()
    with pytest.raises(DataError, match="the data are not recordings: give audio files"):
        learnt.spot_keywords(["a.wav"])
    with pytest.raises(SettingError, match=r"min_silence_seconds must be from 0\.02 to 5, got 9"):
        learnt.spot_keywords(hum(400), min_silence_seconds=9)
    with pytest.raises(DataError, match="contains texts, but this model was trained on audio clips"):
        learnt.predict(["a.wav"])
    with pytest.raises(UserError, match="this Classifier is not fitted: call fit first"):
        Classifier().spot_keywords(hum(400))


def test_meeting_by_hand():
    said = [KeywordDetection(1, 2, "a", 1), KeywordDetection(3, 4, "b", 1), KeywordDetection(5, 6, "a", 1)]
    found = [
        KeywordDetection(1.1, 2.2, "a", 0.9),
        KeywordDetection(1.2, 1.9, "a", 0.9),
        KeywordDetection(3, 4, "a", 0.9),
        KeywordDetection(5.8, 7, "a", 0.9),
    ]
    how = match_detections(found, said)
    assert (how.num_keywords, how.hits, how.misses, how.false_alarms) == (3, 1, 2, 3)
    assert how.boundary_error_seconds == pytest.approx(0.15)
    assert str(how).startswith("1 of 3 keywords detected (mean boundary error 0.15 s), 2 missed")
    assert math.isnan(match_detections([], said).boundary_error_seconds)
    assert "boundary" not in str(match_detections([], said))


moments = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5), st.sampled_from("ab")), max_size=8)


@given(moments, moments)
def test_every_command_counts_once(one: Any, other: Any):
    found, said = (
        [KeywordDetection(start, start + long, label, 1.0) for start, long, label in of] for of in (one, other)
    )
    how = match_detections(found, said)
    assert how.hits + how.misses == len(said)
    assert how.hits + how.false_alarms == len(found)
    apart = [KeywordDetection(10.0 * i, 10.0 * i + 1, label, 1.0) for i, (_, _, label) in enumerate(other)]
    assert match_detections(apart, apart).hits == len(apart)


def test_joined_sounds_are_where_it_says():
    sounds, labels = hums(5, 0)
    whole = concatenate_with_pauses(sounds, labels, RATE, seed=0)
    assert sorted(one.label for one in whole.keywords) == sorted(labels)
    loud = np.abs(whole.audio.samples) > 0.02
    inside = np.zeros(len(loud), dtype=bool)
    for one in whole.keywords:
        inside[round(one.start * RATE) : round(one.end * RATE)] = True
    assert not (loud & ~inside).any()
    assert loud[inside].mean() > 0.3
    gaps = [b.start - a.end for a, b in zip(whole.keywords, whole.keywords[1:], strict=False)]
    assert 0.29 < min(gaps) <= max(gaps) < 1.01


# ---- command line, recipes, pictures ---------------------------------------------------------------------------------


def test_from_folder_to_answer_on_the_command_line(tmp_path: Path):
    for i, (sound, label) in enumerate(zip(*hums(24, 0), strict=True)):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / label / f"{i}.flac.wav").write_bytes(encode_audio(sound))
    run, data = str(tmp_path / "run"), str(tmp_path / "data")
    runner = CliRunner()
    options = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = runner.invoke(cli.app, ["fit", "classifier", data, "-o", run, *options], catch_exceptions=False)
    assert "1-nearest neighbor" in done.stdout
    first = str(tmp_path / "data/low/0.flac.wav")
    told = runner.invoke(cli.app, ["predict", run, first], catch_exceptions=False)
    assert told.stdout.startswith("id,label,probability,p_high,p_low\n0.flac.wav,")
    long = tmp_path / "long.wav"
    long.write_bytes(encode_audio(concatenate_with_pauses(*hums(12, 1), RATE, seed=0).audio))
    words = ["predict", run, str(long), "--keyword-threshold", "0.01", "--picture", str(tmp_path / "heard.png")]
    heard = runner.invoke(cli.app, words, catch_exceptions=False)
    assert heard.stdout.startswith("id,start,end,label,probability\nlong.wav,")
    assert (tmp_path / "heard.png").stat().st_size > 5000
    assert "Keyword spotting" in (tmp_path / "run/report.html").read_text(encoding="utf-8")


def test_protocols_take_the_parts_from_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Takes below the number are the test part; each speaker is tested by a model of the others."""
    files: dict[str, bytes | str] = {}
    for i, (sound, label) in enumerate(zip(*hums(48, 0), strict=True)):
        files[f"{label}_{'abc'[i // 2 % 3]}_{i // 6}.wav"] = encode_audio(sound)
    _zip(tmp_path / "r.zip", files)
    job, sizes = Classifier(**TINY, test_fraction=0.0, valid_fraction=0.2), []
    evaluate = Classifier.evaluate

    def counted(self: Classifier, data: Any, **options: Any) -> Evaluation:
        evaluation = evaluate(self, data, **options)
        sizes.append(len(evaluation.outputs.examples))
        return evaluation

    monkeypatch.setattr(Classifier, "evaluate", counted)
    table = run_protocol(protocols.takes, job, tmp_path, {"file": "r.zip", "tested": 2})
    assert sizes == [12]
    assert table["model"].tolist() == ["LSTM", "1-nearest neighbor", "majority class"]
    table = run_protocol(protocols.speakers, job, tmp_path, {"file": "r.zip"})
    assert sizes[1:] == [16, 16, 16]
    each = [f"accuracy, {who}" for who in "abc"]
    assert table.columns.tolist() == ["model", "accuracy", "macro F1", "log loss", "ECE", *each]
    np.testing.assert_allclose(table[each].mean(axis=1), table["accuracy"])


def test_pictures():
    """Whatever the labels hold; of the shortest sound too."""
    pitches = LogMelSpectrogram(RATE, 12).center_frequencies
    for frames in (1, 9):
        decibels = np.random.default_rng(0).normal(-30, 10, (frames, 12))
        figure = audio_attribution_figure(np.ones(3), decibels, pitches, 0.1, [0.1] * frames, "$a: 0.8")
        figure.draw_without_rendering()
    found = [(0.1, 0.4, "$yes$"), (13.0, 13.5, "no" * 40)]
    figure = keyword_detections_figure(np.full((2400, 12), -30.0), pitches, (0.0, 24.0), found, found[:1], "long")
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.axes[0].texts] == ["$yes$", "$yes$"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["nononono" + "n…"]
    keyword_detections_figure(np.zeros((0, 12)), pitches, (0.0, 0.0), []).draw_without_rendering()
