"""Spoken commands: audio files, front end, augmentation, classification and keyword spotting."""

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


def hum(pitch: float, seconds: float = 0.2, amplitude: float = 0.3, seed: int = 0) -> AudioClip:
    """A tone that fades in and out, with a little noise."""
    n = round(seconds * RATE)
    noise = 0.001 * np.random.default_rng(seed).standard_normal(n)
    wave = amplitude * np.hanning(n) * np.sin(2 * np.pi * pitch * np.arange(n) / RATE)
    return AudioClip(f"{pitch:.0f} Hz", (wave + noise).astype(np.float32), RATE)


def hums(n: int, seed: int) -> tuple[list[AudioClip], list[str]]:
    """Low and high tones of random length and loudness."""
    rng = np.random.default_rng(seed)
    clips = [
        hum((350, 1500)[i % 2] * rng.uniform(0.95, 1.05), rng.uniform(0.15, 0.3), rng.uniform(0.05, 0.8), i)
        for i in range(n)
    ]
    return clips, [("low", "high")[i % 2] for i in range(n)]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
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


def test_all_forms_of_audio_data_are_read_alike(tmp_path: Path):
    """Folders, zip files, tables, data frames, and lists of arrays, clips and paths give the same examples."""
    folder = _folder(tmp_path / "sounds")
    rows = [f"{label}/{label}_1.wav" for label in SOUNDS]
    (folder / "list.csv").write_text("path,label\n" + "".join(f"{p},{p.split('/')[0]}\n" for p in rows))
    table = "path,label\nyes_1.wav,yes\nno_1.wav,no\n"
    named = Columns(label_pattern=r"^([a-z]+)_\d")
    paths = [folder / row for row in rows]
    sources: list[tuple[Any, Columns]] = [
        (folder, Columns()),
        (folder / "list.csv", Columns()),
        (pd.DataFrame({"file": map(str, paths), "label": list(SOUNDS)}), Columns(path="file")),
        (_zip(tmp_path / "a.zip", {**{f"{k.split('_')[0]}/{k}": v for k, v in _wavs().items()}}), Columns()),
        (_zip(tmp_path / "b.zip", _wavs("all/")), named),
        (_zip(tmp_path / "c.zip", {**_wavs("d/"), "d/list.csv": table}), Columns()),
        ((paths, list(SOUNDS)), Columns()),
    ]
    for data, columns in sources:
        examples = read_labeled_examples(data, columns)
        assert examples.kind == "audio"
        by_label = {label: sound for (label,), sound in zip(examples.require_labels(), examples.inputs, strict=True)}
        assert set(by_label) == set(SOUNDS)
        for label, sound in SOUNDS.items():
            np.testing.assert_allclose(by_label[label].samples, sound.samples, atol=1e-4)
    for data in (
        (list(SOUNDS.values()), list(SOUNDS)),
        ([sound.samples for sound in SOUNDS.values()], list(SOUNDS), RATE),
    ):
        examples = read_labeled_examples(data, Columns())
        assert [len(clip.samples) for clip in examples.inputs] == [len(clip.samples) for clip in SOUNDS.values()]
        assert examples.labels == [("yes",), ("no",)]
    assert read_labeled_examples(folder, Columns()).notes == (
        "1 files of sounds are not audio files and were skipped, such as list.csv",
    )


def test_the_type_of_data_is_inferred(tmp_path: Path):
    """Strings are texts, arrays without a rate are numbers, and a text column comes before paths."""
    assert read_labeled_examples(["a.wav"], Columns()).kind == "text"
    assert read_labeled_examples([np.zeros(9)], Columns()).kind == "numbers"
    assert read_labeled_examples(([np.zeros(9)], None, RATE), Columns()).kind == "audio"
    assert read_labeled_examples(SOUNDS["yes"], Columns()).labels == [None]
    frame = pd.DataFrame({"path": ["a.wav"], "text": ["a"], "x": [1.0], "id": ["u"]})
    assert read_labeled_examples(frame, Columns()).kind == "text"
    assert read_labeled_examples(frame, Columns(values=("x",))).kind == "numbers"
    (tmp_path / "a.wav").write_bytes(encode_audio(SOUNDS["no"]))
    examples = read_labeled_examples(str(tmp_path / "a.wav"), Columns())
    assert (examples.kind, examples.ids) == ("audio", ["a.wav"])


def test_the_digest_depends_on_samples_and_rate():
    def digest(sound: AudioClip) -> str:
        return LabeledExamples([sound], [("a",)], ["1"], "x").digest()

    plain = hum(400)
    assert digest(plain) == digest(AudioClip("other name", plain.samples.copy(), RATE))
    assert len({digest(clip) for clip in (plain, hum(401), AudioClip("", plain.samples, 7999))}) == 3


def test_invalid_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each message names the file and says what to do."""
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
        (tmp_path / "other.csv", "give text_col=NAME, or path_col=NAME for audio or video files"),
        (tmp_path / "cut.zip", "in cut.zip cannot be read"),
        (_zip(tmp_path / "empty.zip", {"a.txt": "a"}), "has no audio file"),
        (_zip(tmp_path / "two.zip", {**wavs, "a.csv": "path\n", "b.csv": "path\n"}), "two.zip has 2 tables"),
        (_zip(tmp_path / "lost.zip", {"a.csv": "path,label\nx.wav,y\n"}), "lost.zip has no file 'x.wav'"),
        (([SOUNDS["no"]], ["a", "b"]), "1 inputs and 2 labels"),
        (([SOUNDS["no"], np.zeros(4)], ["a", "b"]), "input 2 is not media"),
        (([np.zeros(4)], ["a"], 12), "sample rate 12 Hz"),
        (([np.zeros((2, 2, 2))], ["a"], RATE), "input 1 has shape"),
    ]
    for data, message in cases:
        with pytest.raises(UserError) as caught:
            read_labeled_examples(data, Columns())
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    for pattern, message in (("(", "not a regular expression"), ("a", "has 0 groups"), ("(a)(b)", "has 2 groups")):
        with pytest.raises(SettingError, match=message):
            read_labeled_examples(tmp_path, Columns(label_pattern=pattern))
    monkeypatch.setattr("lstmkit.data.media_files.MAX_SECONDS", 0.1)
    with pytest.raises(DataError, match=r"input 1 has 1 s, the maximum of an example is 0 s: .* keyword_threshold=0.5"):
        read_labeled_examples(([np.zeros(RATE)], ["a"], RATE), Columns())


# ---- front end -------------------------------------------------------------------------------------------------------


def front_end(**options: Any) -> AugmentedLogMelFrontEnd:
    defaults = {
        "sample_rate": 0,
        "n_mels": 12,
        "conv_channels": 4,
        "max_time_shift": 0.0,
        "min_snr_db": 0.0,
        "speed_perturbation": 0.0,
        "spec_augment_masks": 0,
    }
    fitted = AugmentedLogMelFrontEnd(**{**defaults, "dropout": 0.0, **options})
    fitted.fit(hums(12, 0)[0], Progress())
    return fitted


def test_loudness_offset_and_format_hardly_change_the_frames():
    """Quiet audio, an offset and 8-bit stereo at 96 kHz give similar frames; clipped audio stays near."""
    audio_front_end, plain = front_end(), hum(700, 0.4, 0.5)
    (whole,) = audio_front_end.encode([plain])
    quiet, shifted, clipped, copied = (
        AudioClip("", samples.astype(np.float32), RATE)
        for samples in (plain.samples * 0.05, plain.samples + 0.3, np.clip(plain.samples * 3, -1, 1), plain.samples)
    )
    np.testing.assert_allclose(audio_front_end.encode([quiet])[0], whole, atol=1e-3)
    np.testing.assert_allclose(audio_front_end.encode([shifted])[0], whole, atol=1e-3)
    assert np.abs(audio_front_end.encode([clipped])[0] - whole).mean() < 0.5 * np.abs(whole).mean()
    upsampled = np.repeat(copied.samples, 12)
    eight_bit = audio_from_array(np.stack([np.round(128 + 127 * upsampled)] * 2, 1).astype(np.uint8), 96_000)
    assert np.corrcoef(audio_front_end.encode([eight_bit])[0][: len(whole)].ravel(), whole.ravel())[0, 1] > 0.7


def test_silence_is_not_amplified():
    audio_front_end = front_end()
    for samples in (np.zeros(4000), np.full(4000, 0.5), 1e-6 * np.random.default_rng(0).standard_normal(4000)):
        frames = audio_front_end.normalize_loudness(
            audio_front_end.mel.frames(AudioClip("", samples.astype(np.float32), RATE))
        )
        assert (frames < -4).all()  # nats: nothing is near a sound's level
    assert audio_front_end.encode([AudioClip("click", np.ones(1, np.float32), RATE)])[0].shape == (1, 12)


def test_loudness_is_in_decibels_of_full_scale():
    noise = np.random.default_rng(0).standard_normal(40_000).astype(np.float32)
    audio_front_end = front_end(n_mels=20)
    for gain, expected in ((1.0, 0.0), (0.1, -20.0)):
        assert audio_front_end.loudness(audio_front_end.mel.from_samples(gain * noise)).mean() == pytest.approx(
            expected, abs=0.7
        )


def test_the_sample_rate_is_the_lowest_of_the_clips():
    fast, slow = AudioClip("", np.ones(4000, np.float32), 44_100), AudioClip("", np.ones(4000, np.float32), 11_025)
    for sounds, rate in (([fast], 16_000), ([fast, slow], 11_025), ([AudioClip("", slow.samples, 1000)], 4000)):
        fitted = AugmentedLogMelFrontEnd(0, 12, 4, 0.0, 0.0, 0.0, 0, 0.0)
        fitted.fit(sounds, Progress())
        assert fitted.mel.sample_rate == rate
        restored = AugmentedLogMelFrontEnd(0, 12, 4, 0.0, 0.0, 0.0, 0, 0.0)
        restored.load_state(json.loads(json.dumps(fitted.state())))
        assert all((a == b).all() for a, b in zip(fitted.encode(sounds), restored.encode(sounds), strict=True))
    with pytest.raises(SettingError, match="n_mels=256 is too many for a sample rate of 4,000 Hz"):
        Classifier(sample_rate=4000, **{**TINY, "n_mels": 256}).fit(hums(20, 0))


def test_an_offset_is_removed_frame_by_frame():
    samples = hum(500).samples
    mel = LogMelSpectrogram(RATE, 12, remove_dc_offset=True)
    np.testing.assert_allclose(mel.from_samples(samples + 5), mel.from_samples(samples), atol=0.05)
    assert np.abs(LogMelSpectrogram(RATE, 12).from_samples(samples + 5) - mel.from_samples(samples)).max() > 3


# ---- augmentation ----------------------------------------------------------------------------------------------------


def augmentation(bands: int = 6, **options: Any) -> AudioAugmentation:
    mean, std = torch.full((bands,), -3.0), torch.full((bands,), 2.0)
    return AudioAugmentation(mean, std, torch.arange(1.0, bands + 1) * 100, -14.0, **options)


def test_augmentation_acts_only_in_training():
    x, lengths = torch.randn(3, 20, 6), torch.tensor([20, 1, 7])
    augment = augmentation(max_time_shift=3, min_snr_db=20, speed_perturbation=0.2, spec_augment_masks=2)
    assert augment.eval()(x, lengths)[0] is x
    torch.manual_seed(0)
    first, new_lengths = augment.train()(x, lengths)
    assert first.shape[1] == new_lengths.max()
    assert (new_lengths >= 1).all()
    torch.manual_seed(0)
    assert torch.equal(augment(x, lengths)[0], first)
    torch.testing.assert_close(augmentation().train()(x, lengths)[0], x)


def test_a_time_shift_pads_the_frames_with_silence():
    x, lengths = torch.randn(8, 10, 6), torch.full((8,), 10)
    shifted, new_lengths = augmentation(max_time_shift=4).train()(x, lengths)
    silence = (-14.0 + 3.0) / 2.0
    for row, original, length in zip(shifted, x, new_lengths.tolist(), strict=True):
        kept = [t for t in range(length) if not torch.allclose(row[t], torch.full((6,), silence))]
        assert kept == list(range(kept[0], kept[0] + 10))
        torch.testing.assert_close(row[kept], original)
        assert 0 <= kept[0] <= 4
        assert 0 <= length - 10 - kept[0] <= 4
    assert len(set(new_lengths.tolist())) > 1


def test_tempo_and_pitch_change_by_at_most_the_factor():
    """A ramp over time stays a ramp; a peak over the mel bands moves by no more than the factor."""
    torch.manual_seed(1)
    ramp = torch.linspace(0, 1, 40)[None, :, None].repeat(16, 1, 6)
    perturbed, new_lengths = augmentation(speed_perturbation=0.2).train()(ramp, torch.full((16,), 40))
    assert new_lengths.min() >= round(40 / 1.2)
    assert new_lengths.max() <= 40 / 0.8
    for row, length in zip(perturbed[:, :, 0], new_lengths.tolist(), strict=True):
        np.testing.assert_allclose(row[:length], np.linspace(0, 1, length), atol=1e-5)
    peak = torch.zeros(64, 5, 30)
    peak[:, :, 14] = 5.0
    augment = augmentation(30, speed_perturbation=0.2).train()
    positions = augment._shift_pitch(peak)[:, 0].argmax(1)
    assert positions.min() >= 11
    assert positions.max() <= 18
    assert len(positions.unique()) > 3


def test_noise_has_at_least_the_minimum_snr():
    """Silence is filled with noise; frames at the level of the signal hardly change."""
    torch.manual_seed(0)
    power = torch.full((200, 10, 6), -14.0)
    power[:, :5] = 0.0
    noisy = augmentation(min_snr_db=20.0)._add_noise(power)
    decibels = noisy * 10 / math.log(10)
    assert decibels[:, 5:].mean(dim=(1, 2)).max() < -14
    assert decibels[:, 5:].mean(dim=(1, 2)).std() > 5
    assert decibels[:, :5].abs().max() < 2
    assert (noisy >= -14).all()


def test_masks_hide_a_range_of_time_and_of_mel_bands():
    torch.manual_seed(0)
    x = torch.ones(50, 40, 30)
    masked, _ = augmentation(30, spec_augment_masks=1).train()(x, torch.full((50,), 40))
    hidden = masked == 0
    times, bands = hidden.all(2).sum(1), hidden.all(1).sum(1)
    assert times.max() <= 9
    assert bands.max() <= 7
    assert times.float().mean() > 1
    assert bands.float().mean() > 1
    assert ((masked == 0) | (masked == 1)).all()


@pytest.mark.parametrize("kind", ["max", "last", "attention"])
def test_padding_changes_neither_outputs_nor_gradients(kind: str):
    """Outputs and gradients are the same alone and in a batch, for any padding."""
    torch.manual_seed(0)
    encoder = AudioEncoder(7, 3)
    trunk = build_trunk("lstm", encoder.output_size, 4, num_layers=1, bidirectional=True)
    model = SequenceClassifier(encoder, trunk, build_pool(kind, 8, 2), ClassificationHead(8, 3)).double()
    frames, lengths = torch.randn(4, 13, 7).double(), torch.tensor([13, 1, 4, 6])
    targets = torch.tensor([0, 2, 1, 1])
    for row, length in enumerate(lengths.tolist()):
        frames[row, length:] = 9.0
    rows = [frames[row : row + 1, :length] for row, length in enumerate(lengths.tolist())]
    outputs, _ = model(frames, None, lengths)
    for row, alone in enumerate(rows):
        torch.testing.assert_close(outputs[row], model(alone)[0][0])
    gradients = torch.autograd.grad(model.loss(Batch(frames, lengths, targets))[0], list(model.parameters()))
    losses = [model.loss(Batch(single_clip, None, targets[k : k + 1]))[0] for k, single_clip in enumerate(rows)]
    for a, b in zip(gradients, torch.autograd.grad(sum(losses) / 4, list(model.parameters())), strict=True):
        torch.testing.assert_close(a, b)
    steps, new_lengths = encoder.double()(frames, lengths)
    assert steps.shape == (4, 4, 3 * 2)
    assert new_lengths.tolist() == [4, 1, 1, 2]


# ---- classification and keyword spotting -----------------------------------------------------------------------------


def test_the_model_learns_and_is_compared_with_baselines(classifier: Classifier, tmp_path: Path):
    test = hums(40, 1)
    classifier.evaluation = classifier.evaluate(test)
    table = classifier.evaluation.table.set_index("model")
    assert table["accuracy"]["LSTM"] > 0.9
    assert table.index.tolist() == ["LSTM", "1-nearest neighbor", "majority class"]
    loaded = load(classifier.save(tmp_path))
    pd.testing.assert_frame_equal(loaded.predict(test[0]), classifier.predict(test[0]))
    times, changes = classifier.occlusion_attribution(test[0][0], "low")
    assert len(times) == len(changes)
    assert times[:2] == ["0.01 s", "0.02 s"]
    sections = {section.title: section for section in classifier.report_sections(classifier.read(test))}
    assert "of 40 keywords detected" in sections["Keyword spotting"].text
    for figure in (classifier.plot(test, classifier.predict(test)), sections["Keyword spotting"].figure):
        assert figure is not None
        figure.draw_without_rendering()


def test_keywords_are_spotted_in_a_long_recording(classifier: Classifier, tmp_path: Path):
    """Detections have the right positions, from an array and from a file, in figures and with predict."""
    recording = concatenate_with_pauses(*hums(30, 2), RATE, seed=0)
    frame = classifier.spot_keywords(recording.audio)
    detections = [KeywordDetection(*row) for row in frame.drop(columns="id").itertuples(index=False)]
    matches = match_detections(detections, recording.keywords)
    assert matches.hits >= 27
    assert matches.false_alarms <= 3
    assert matches.boundary_error_seconds < 0.06
    (tmp_path / "long.wav").write_bytes(encode_audio(recording.audio))
    file_detections = classifier.predict(tmp_path / "long.wav", keyword_threshold=0.5)
    assert file_detections["label"].tolist() == frame["label"].tolist()
    np.testing.assert_allclose(file_detections[["start", "end"]], frame[["start", "end"]], atol=0.021)
    assert set(file_detections["id"]) == {"long.wav"}
    assert json.loads(json.dumps(classifier.to_records(file_detections)))[0]["label"] in ("low", "high")
    classifier.plot(tmp_path / "long.wav", file_detections).draw_without_rendering()
    with pytest.raises(DataError, match=r"long.wav has .* find the commands in it with keyword_threshold=0.5"):
        classifier.predict(tmp_path / "long.wav")


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 9000), max_size=6))
def test_streaming_equals_spotting_the_whole_recording(classifier: Classifier, cuts: list[int]):
    recording = concatenate_with_pauses(*hums(6, 3), RATE, seed=1)
    spotter = classifier.stream()
    chunks = np.split(recording.audio.samples, np.minimum(np.cumsum(cuts), len(recording.audio.samples)))
    detections = [detection for chunk in chunks for detection in spotter.push(chunk)] + spotter.finish()
    rows = list(classifier.spot_keywords(recording.audio).drop(columns="id").itertuples(index=False, name=None))
    assert [tuple(detection) for detection in detections] == rows
    assert rows


def test_streaming_detects_soon_and_keeps_little_audio(classifier: Classifier):
    """A keyword is reported 1.5 s after its end; memory does not grow; any sample rate works."""
    spotter = classifier.stream()
    keyword = hum(350, 0.25, 0.5)
    assert spotter.push(np.concatenate([np.zeros(RATE, np.float32), keyword.samples])) == []
    (detection,) = spotter.push(np.zeros(round(1.6 * RATE), np.float32))
    assert detection.start == pytest.approx(1.0, abs=0.1)
    assert detection.end == pytest.approx(1.25, abs=0.1)
    buffer_sizes = []
    rng = np.random.default_rng(0)
    for _ in range(40):
        spotter.push((0.2 * rng.standard_normal(RATE)).astype(np.float32))
        buffer_sizes.append(len(spotter._frames))
    assert max(buffer_sizes[20:]) <= max(buffer_sizes[:20]) <= 1000
    fast = classifier.stream(sample_rate=16_000)
    samples = np.repeat(np.concatenate([np.zeros(RATE, np.float32), keyword.samples, np.zeros(RATE, np.float32)]), 2)
    (fast_detection,) = fast.push(samples) + fast.finish()
    assert fast_detection.label == detection.label
    assert fast_detection.start == pytest.approx(detection.start, abs=0.03)
    with pytest.raises(DataError, match="finite numbers"):
        spotter.push(np.array([np.nan]))
    with pytest.raises(DataError, match=r"got the shape \(2, 2\)"):
        spotter.push(np.zeros((2, 2)))


def test_silence_and_noise_have_no_detections(classifier: Classifier):
    """Silence, an offset, steady noise and less than a frame give no detection."""
    rng = np.random.default_rng(0)
    steady = (0.05 * rng.standard_normal(10 * RATE)).astype(np.float32)
    for samples in (np.zeros(20 * RATE), np.full(9 * RATE, 0.7), steady, np.ones(30)):
        assert classifier.spot_keywords(([samples], None, RATE)).empty
    detections = classifier.spot_keywords(([np.zeros(RATE)], None, RATE))
    assert detections.columns.tolist() == ["id", "start", "end", "label", "probability"]
    classifier.plot(([np.zeros(RATE)], None, RATE), detections).draw_without_rendering()


def test_continuous_sound_is_split(classifier: Classifier):
    """Tones without pauses are split into pieces no longer than the longest training clip."""
    longest = classifier.predictor.audio_front_end.seconds
    samples = np.concatenate([hum(350, 0.25, 0.5, i).samples for i in range(12)])
    around = np.zeros(RATE, np.float32)
    detections = classifier.spot_keywords(
        AudioClip("row", np.concatenate([around, samples, around]), RATE), min_probability=0.0
    )
    assert len(detections) >= 8
    assert (detections["end"] - detections["start"]).max() <= longest + 0.05
    assert (detections["start"].to_numpy()[1:] >= detections["end"].to_numpy()[:-1] - 0.05).all()


def test_unsuitable_models_and_data_are_refused(classifier: Classifier):
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
        classifier.spot_keywords(["a.wav"])
    with pytest.raises(SettingError, match=r"min_silence_seconds must be from 0\.02 to 5, got 9"):
        classifier.spot_keywords(hum(400), min_silence_seconds=9)
    with pytest.raises(DataError, match="contains texts, but this model was trained on audio clips"):
        classifier.predict(["a.wav"])
    with pytest.raises(UserError, match="this Classifier is not fitted: call fit first"):
        Classifier().spot_keywords(hum(400))


def test_matching_detections_by_hand():
    keywords = [KeywordDetection(1, 2, "a", 1), KeywordDetection(3, 4, "b", 1), KeywordDetection(5, 6, "a", 1)]
    detections = [
        KeywordDetection(1.1, 2.2, "a", 0.9),
        KeywordDetection(1.2, 1.9, "a", 0.9),
        KeywordDetection(3, 4, "a", 0.9),
        KeywordDetection(5.8, 7, "a", 0.9),
    ]
    matches = match_detections(detections, keywords)
    assert (matches.num_keywords, matches.hits, matches.misses, matches.false_alarms) == (3, 1, 2, 3)
    assert matches.boundary_error_seconds == pytest.approx(0.15)
    assert str(matches).startswith("1 of 3 keywords detected (mean boundary error 0.15 s), 2 missed")
    assert math.isnan(match_detections([], keywords).boundary_error_seconds)
    assert "boundary" not in str(match_detections([], keywords))


intervals = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5), st.sampled_from("ab")), max_size=8)


@given(intervals, intervals)
def test_every_keyword_is_matched_once(detected: Any, true: Any):
    detections, keywords = (
        [KeywordDetection(start, start + duration, label, 1.0) for start, duration, label in drawn_intervals]
        for drawn_intervals in (detected, true)
    )
    matches = match_detections(detections, keywords)
    assert matches.hits + matches.misses == len(keywords)
    assert matches.hits + matches.false_alarms == len(detections)
    separate = [KeywordDetection(10.0 * i, 10.0 * i + 1, label, 1.0) for i, (_, _, label) in enumerate(true)]
    assert match_detections(separate, separate).hits == len(separate)


def test_concatenated_clips_have_the_stated_positions():
    clips, labels = hums(5, 0)
    recording = concatenate_with_pauses(clips, labels, RATE, seed=0)
    assert sorted(keyword.label for keyword in recording.keywords) == sorted(labels)
    loud = np.abs(recording.audio.samples) > 0.02
    inside = np.zeros(len(loud), dtype=bool)
    for keyword in recording.keywords:
        inside[round(keyword.start * RATE) : round(keyword.end * RATE)] = True
    assert not (loud & ~inside).any()
    assert loud[inside].mean() > 0.3
    gaps = [b.start - a.end for a, b in zip(recording.keywords, recording.keywords[1:], strict=False)]
    assert 0.29 < min(gaps) <= max(gaps) < 1.01


# ---- command line, recipes, figures ----------------------------------------------------------------------------------


def test_command_line_from_folder_to_predictions(tmp_path: Path):
    for i, (sound, label) in enumerate(zip(*hums(24, 0), strict=True)):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / label / f"{i}.flac.wav").write_bytes(encode_audio(sound))
    run, data = str(tmp_path / "run"), str(tmp_path / "data")
    runner = CliRunner()
    options = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    fitted = runner.invoke(cli.app, ["fit", "classifier", data, "-o", run, *options], catch_exceptions=False)
    assert "1-nearest neighbor" in fitted.stdout
    first = str(tmp_path / "data/low/0.flac.wav")
    predicted = runner.invoke(cli.app, ["predict", run, first], catch_exceptions=False)
    assert predicted.stdout.startswith("id,label,probability,p_high,p_low\n0.flac.wav,")
    long = tmp_path / "long.wav"
    long.write_bytes(encode_audio(concatenate_with_pauses(*hums(12, 1), RATE, seed=0).audio))
    words = ["predict", run, str(long), "--keyword-threshold", "0.01", "--picture", str(tmp_path / "heard.png")]
    spotted = runner.invoke(cli.app, words, catch_exceptions=False)
    assert spotted.stdout.startswith("id,start,end,label,probability\nlong.wav,")
    assert (tmp_path / "heard.png").stat().st_size > 5000
    assert "Keyword spotting" in (tmp_path / "run/report.html").read_text(encoding="utf-8")


def test_protocols_split_by_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Numbers below the limit are the test split; each speaker is tested by a model of the others."""
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
    accuracy_columns = [f"accuracy, {speaker}" for speaker in "abc"]
    assert table.columns.tolist() == ["model", "accuracy", "macro F1", "log loss", "ECE", *accuracy_columns]
    np.testing.assert_allclose(table[accuracy_columns].mean(axis=1), table["accuracy"])


def test_figures():
    """Any label and the shortest clip can be drawn."""
    pitches = LogMelSpectrogram(RATE, 12).center_frequencies
    for frames in (1, 9):
        decibels = np.random.default_rng(0).normal(-30, 10, (frames, 12))
        figure = audio_attribution_figure(np.ones(3), decibels, pitches, 0.1, [0.1] * frames, "$a: 0.8")
        figure.draw_without_rendering()
    detections = [(0.1, 0.4, "$yes$"), (13.0, 13.5, "no" * 40)]
    figure = keyword_detections_figure(
        np.full((2400, 12), -30.0), pitches, (0.0, 24.0), detections, detections[:1], "long"
    )
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.axes[0].texts] == ["$yes$", "$yes$"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["nononono" + "n…"]
    keyword_detections_figure(np.zeros((0, 12)), pitches, (0.0, 0.0), []).draw_without_rendering()
