"""The speech synthesizer: attention, network, stop token, Griffin-Lim, corpora, scores, files, recipes."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lstmkit
from lstmkit.data.audio.audio_io import AudioClip, encode_audio, read_audio
from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.data.audio.mel_inversion import mel_to_audio, mel_to_power
from lstmkit.data.audio.tts_corpus import SpeechCorpus, read_speech_corpus, trim_silence
from lstmkit.data.batch import Batch
from lstmkit.decoding.generation import roll_out
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.jobs.speech_synthesizer import metrics
from lstmkit.jobs.speech_synthesizer.baselines import RecordedWords
from lstmkit.jobs.speech_synthesizer.job import SpeechSynthesizer
from lstmkit.jobs.speech_synthesizer.synthesis import (
    SpectrogramScaler,
    max_decoder_steps,
    pad_to_decoder_steps,
    synthesize,
)
from lstmkit.layers.rnn import LSTM
from lstmkit.models.base import Ensemble
from lstmkit.models.tacotron import LossWeights, StreamingDecoder, Tacotron, TacotronDecoder, guided_attention_penalty
from lstmkit.modules.attention import LocationAttention
from lstmkit.modules.encoders import PreNet, TokenEncoder
from lstmkit.progress import Progress
from lstmkit.recipes import speech_synthesizer as protocols

TINY: dict[str, Any] = {
    "sample_rate": 4000, "n_mels": 8, "hidden_size": 4, "prenet_size": 4, "attention_size": 3,
    "attention_kernel_size": 3, "griffin_lim_iterations": 1, "epochs": 1, "batch_size": 8, "max_seconds": 0.5,
}  # fmt: skip


def tone(seconds: float = 0.2, rate: int = 4000, pitch: float = 300.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def wav(samples: np.ndarray, rate: int = 4000, **options: str) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", **options})
    return file.getvalue()


def voice(n: int = 10) -> tuple[list[tuple[np.ndarray, int]], list[str]]:
    return [(tone(0.1 + 0.01 * i, pitch=300 + 100 * (i % 2)), 4000) for i in range(n)], ["ah", "oh no"] * (n // 2)


def network(dtype: torch.dtype = torch.float64, reduction_factor: int = 2, **weights: float) -> Tacotron:
    """A model of 3 mel bands and 5 tokens."""
    torch.manual_seed(0)
    decoder = TacotronDecoder(
        PreNet(3, 4, 0.0), LSTM(4, 4, batch_first=True), LocationAttention(4, 6, 5, 3), LSTM(10, 4, batch_first=True),
        6, 3, reduction_factor,
    )  # fmt: skip
    trunk = LSTM(3, 3, batch_first=True, bidirectional=True)
    return Tacotron(TokenEncoder(5, 3), trunk, decoder, weights=LossWeights(**weights)).to(dtype)


def batch(dtype: torch.dtype = torch.float64) -> Batch:
    """Texts of 4 and 2 tokens, audio clips of 6 and 4 frames, padded."""
    frames = torch.randn(2, 6, 3, dtype=dtype, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[1, 2, 3, 4], [4, 1, 0, 0]])
    return Batch(ids, torch.tensor([4, 2]), frames, torch.tensor([6, 4]), np.arange(2))


# ---- attention -------------------------------------------------------------------------------------------------------


def test_location_attention_equals_a_plain_loop():
    """The weights equal the equation of query, key and the cumulative weights around the key, in a plain loop."""
    torch.manual_seed(0)
    attention = LocationAttention(3, 4, 5, 3).double()
    queries, keys = torch.randn(2, 6, 3).double(), torch.randn(2, 7, 4).double()
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    before = torch.rand(2, 7).double() * mask
    weights, covered = attention.walk(queries, attention.prepare(keys), mask, before)
    q, k, f, v = (w.weight for w in (attention.query, attention.key, attention.around, attention.value))
    for b, count in enumerate((7, 4)):
        sums = before[b].clone()
        for t in range(6):
            scores = torch.zeros(count).double()
            for s in range(count):
                around = torch.tensor(
                    [float(sums[s + i].detach()) if 0 <= s + i < 7 else 0.0 for i in (-1, 0, 1)]
                ).double()
                inside = q @ queries[b, t] + attention.query.bias + k @ keys[b, s] + f @ around
                scores[s] = (v @ torch.tanh(inside))[0]
            expected = scores.exp() / scores.exp().sum()
            torch.testing.assert_close(weights[b, t, :count], expected)
            assert (weights[b, t, count:] == 0).all()
            sums[:count] += expected
        torch.testing.assert_close(covered[b], sums)


def test_location_attention_called_with_coverage_is_a_step_of_walk():
    """A call with the coverage so far gives the weights and contexts of ``walk``."""
    torch.manual_seed(0)
    attention = LocationAttention(3, 4, 5, 5)
    query, keys, covered = torch.randn(2, 1, 3), torch.randn(2, 7, 4), torch.rand(2, 7)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    contexts, weights = attention(query, keys, mask, covered=covered.unsqueeze(1))
    walked, _ = attention.walk(query, attention.prepare(keys), mask, covered)
    torch.testing.assert_close(weights, walked)
    torch.testing.assert_close(contexts, walked @ keys)


def test_location_attention_needs_an_odd_width():
    with pytest.raises(ValueError, match="width must be odd, got 4"):
        LocationAttention(3, 4, 5, 4)


def test_gradients_of_location_attention():
    torch.manual_seed(0)
    attention = LocationAttention(2, 3, 2, 3).double()
    mask = torch.arange(4) < torch.tensor([[4], [2]])
    queries, keys = (torch.randn(2, n, f).double().requires_grad_() for n, f in ((3, 2), (4, 3)))

    def walk(queries: torch.Tensor, keys: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return attention.walk(queries, attention.prepare(keys), mask, torch.zeros(2, 4).double())[0]

    assert torch.autograd.gradcheck(walk, (queries, keys, *attention.parameters()))


# ---- the network -----------------------------------------------------------------------------------------------------


def test_gradients_of_the_loss():
    model, example = network(), batch()
    names = [name for name, _ in model.named_parameters()]

    def loss(*weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(
            _Loss(model), {f"model.{n}": w for n, w in zip(names, weights, strict=True)}, (example,)
        )

    assert torch.autograd.gradcheck(loss, tuple(model.parameters()), atol=1e-4, fast_mode=True)


class _Loss(torch.nn.Module):
    def __init__(self, model: Tacotron) -> None:
        super().__init__()
        self.model = model

    def forward(self, example: Batch) -> torch.Tensor:
        return self.model.loss(example)[0]


def test_the_loss_by_hand():
    """The loss has absolute and squared error, stop cross-entropy and guided attention, each without padding."""
    model, example = network(stop=0.7, stopping=3.0, guided=0.5, guide=0.3), batch()
    with torch.no_grad():
        outputs = model.teacher_forced(example)
    frames, stop, guide = [], [], []
    for b, (length, read) in enumerate(((6, 4), (4, 2))):
        steps = length // 2
        error = (outputs.frames[b].reshape(6, 3)[:length] - example.targets[b, :length]).flatten().tolist()
        frames += [(abs(e) + e * e) / 2 for e in error]
        for t in range(steps):
            p = 1 / (1 + math.exp(-float(outputs.stop[b, t])))
            stop.append(-3 * math.log(p) if t == steps - 1 else -math.log(1 - p))
            weights = outputs.weights[b, t].tolist()
            guide.append(
                sum(weights[s] * (1 - math.exp(-((s / read - t / steps) ** 2) / (2 * 0.3**2))) for s in range(read))
            )
    expected = np.mean(frames) + 0.7 * np.mean(stop) + 0.5 * np.mean(guide)
    assert float(model.loss(example)[0].detach()) == pytest.approx(expected)


def test_padding_does_not_change_the_loss():
    model, example = network(), batch()
    other = batch()
    assert other.targets is not None
    other.targets[1, 4:] = 1e6
    other.inputs[1, 2:] = 3
    torch.testing.assert_close(model.loss(example)[0], model.loss(other)[0])


def test_step_by_step_equals_teacher_forcing():
    """With true frames as inputs, ``step`` gives the outputs of the loss."""
    model, example = network(), batch()
    forced = model.teacher_forced(example)
    assert example.targets is not None
    previous_frames = torch.nn.functional.pad(example.targets[:, 1:-1:2], (0, 0, 1, 0))
    _, state = model(example.inputs, None, example.lengths)
    for t in range(3):
        outputs, state = model.step(previous_frames[:, t], state)
        torch.testing.assert_close(outputs[:, :-1].unflatten(1, (2, 3)), forced.frames[:, t])
        torch.testing.assert_close(outputs[:, -1], forced.stop[:, t])
        torch.testing.assert_close(state.weights, forced.weights[:, t])


def test_streaming_decoder_equals_step():
    """The layers' streams give the same outputs and weights."""
    model, example = network(torch.float32).eval(), batch(torch.float32)
    assert example.targets is not None
    with torch.inference_mode():
        _, state = model(example.inputs, None, example.lengths)
        stream = StreamingDecoder(model.decoder, state)
        for t in range(4):
            outputs, weights = stream(example.targets[:, t])
            expected, state = model.step(example.targets[:, t], state)
            torch.testing.assert_close(outputs, expected)
            torch.testing.assert_close(weights, state.weights)


def test_guided_attention_penalty_is_zero_on_the_diagonal():
    diagonal, n_tokens, n_steps = torch.eye(5).unsqueeze(0), torch.tensor([5]), torch.tensor([5])
    on_diagonal, off_diagonal = (
        float(guided_attention_penalty(w, n_tokens, n_steps, 0.2).mean()) for w in (diagonal, diagonal.flip(1))
    )
    assert on_diagonal == 0.0
    assert off_diagonal > 0.5


# ---- the stop token --------------------------------------------------------------------------------------------------


def test_a_roll_out_stops_when_finished():
    values = roll_out(lambda v, t, s: (v + 1, s), torch.zeros(2), None, 9, lambda v, t: bool((v > 2).all()))
    assert values.tolist() == [[1.0, 2.0, 3.0]] * 2


@pytest.mark.parametrize(("bias", "steps", "ended"), [(20.0, [1, 1], True), (-20.0, [3, 5], False)])
def test_synthesis_ends_by_stop_token_or_is_cut_off(bias: float, steps: list[int], ended: bool):
    """If the stop token never comes, each text has its own limit."""
    model = network(torch.float32)
    with torch.no_grad():
        model.decoder.linear.bias[-1] = bias
    speeches = synthesize(model, [np.array([1, 2]), np.array([3])], np.array([3, 5]), 8, torch.device("cpu"))
    assert [speech.ended for speech in speeches] == [ended] * 2
    assert [speech.frames.shape for speech in speeches] == [(2 * n, 3) for n in steps]
    assert [speech.attention.shape for speech in speeches] == [(steps[0], 2), (steps[1], 1)]


def test_a_text_does_not_depend_on_its_batch():
    model, ids = network(torch.float32), [np.array([1, 2, 3, 4]), np.array([3, 1])]
    batched, single = (synthesize(model, ids, np.array([4, 4]), size, torch.device("cpu")) for size in (2, 1))
    for first, second in zip(batched, single, strict=True):
        np.testing.assert_allclose(first.frames, second.frames, atol=1e-5)


def test_an_ensemble_is_the_mean_of_its_members():
    first, second = network(torch.float32), network(torch.float32)
    with torch.no_grad():
        second.decoder.linear.bias += 1.0
    ids, limit, cpu = [np.array([1, 2])], np.array([1]), torch.device("cpu")
    members = [synthesize(model, ids, limit, 1, cpu)[0] for model in (first, second)]
    (ensemble,) = synthesize(Ensemble([first, second]), ids, limit, 1, cpu)
    np.testing.assert_allclose(ensemble.frames, (members[0].frames + members[1].frames) / 2, atol=1e-6)
    np.testing.assert_allclose(ensemble.attention, members[0].attention, atol=1e-6)


def test_maximum_decoder_steps():
    """The maximum is twice the slowest recording or ``max_frames``, and at least one step."""
    ids = [np.zeros(4), np.zeros(40), np.zeros(1)]
    assert max_decoder_steps(ids, frames_per_token=5.0, max_frames=60.0, reduction_factor=3).tolist() == [14, 20, 4]
    assert max_decoder_steps(ids, frames_per_token=1e-9, max_frames=60.0, reduction_factor=3).tolist() == [1, 1, 1]


# ---- Griffin-Lim -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mel", [LogMelSpectrogram(8000, 80, 0.05, 0.0125), LogMelSpectrogram(8000, 60, 0.032, 0.008)])
def test_griffin_lim_reconstructs_tones(mel: LogMelSpectrogram):
    """Two tones are the loudest frequencies of the reconstructed audio, and its frames are the same."""
    samples = tone(1.0, 8000, 440.0) + 0.6 * tone(1.0, 8000, 1250.0)
    frames = mel.from_samples(samples)
    reconstructed = mel_to_audio(mel, frames)
    assert reconstructed.shape == ((len(frames) - 1) * mel.hop_length + mel.window_length,)
    spectrum = np.abs(np.fft.rfft(reconstructed[1000:7000]))
    pitches = np.fft.rfftfreq(6000, 1 / 8000)
    for low, high, pitch in ((300, 700, 440), (1000, 1500, 1250)):
        inside = (pitches > low) & (pitches < high)
        assert abs(pitches[inside][spectrum[inside].argmax()] - pitch) < 15
    loud = frames > frames.max() - 4
    assert np.abs(mel.from_samples(reconstructed)[: len(frames)] - frames)[loud].mean() < 0.5
    assert np.array_equal(reconstructed, mel_to_audio(mel, frames))


def test_powers_are_nonnegative_and_have_the_given_mel_bands():
    mel = LogMelSpectrogram(8000, 40, 0.032, 0.008)
    frames = mel.from_samples(np.random.default_rng(0).standard_normal(4000).astype(np.float32))
    power = mel_to_power(mel, frames)
    assert (power >= 0).all()
    difference = np.abs(np.log(power @ mel.filters.numpy()) - frames)
    assert difference.mean() < 0.01
    assert difference.max() < 0.5


@pytest.mark.parametrize("count", [1, 2, 30])
def test_few_or_silent_frames_become_audio(count: int):
    mel = LogMelSpectrogram(8000, 20, 0.05, 0.0125)
    quiet = mel_to_audio(mel, np.full((count, 20), -20, np.float32), iterations=2)
    assert len(mel.from_samples(quiet)) == count
    assert np.abs(quiet).max() < 1e-3


# ---- corpora ---------------------------------------------------------------------------------------------------------


def test_all_layouts_of_a_corpus_are_read_alike(tmp_path: Path):
    """Folders with text files, LJSpeech's table or a .csv, zip files of them, and lists give the same corpus."""
    sounds = {"x-1": tone(0.2), "x-2": tone(0.1)}
    texts = {"x-1": "Ah.", "x-2": "oh, né"}
    folders = {name: tmp_path / name for name in ("beside", "lj", "csv", "zipped")}
    for name, folder in folders.items():
        (folder / "wavs").mkdir(parents=True)
        for stem, samples in sounds.items():
            (folder / "wavs" / f"{stem}.wav").write_bytes(wav(samples))
            if name == "beside":
                (folder / "wavs" / f"{stem}.txt").write_text(texts[stem] + "\n", encoding="utf-8")
    (folders["lj"] / "metadata.csv").write_text("x-1|AH!|Ah.\r\nx-2|oh, né|\n\n", encoding="utf-8")
    table = 'text,path\nAh.,wavs/x-1.wav\n"oh, né",x-2.wav\n'
    (folders["csv"] / "all.csv").write_text(table, encoding="utf-8-sig")
    (folders["zipped"] / "metadata.csv").write_text("x-1|Ah.\nx-2|oh, né\n", encoding="utf-8")
    with zipfile.ZipFile(folders["zipped"] / "wavs.zip", "w") as archive:
        for path in sorted((folders["zipped"] / "wavs").iterdir()):
            archive.write(path, path.name)
            path.unlink()
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted(folders["lj"].rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path).as_posix())
    sources = [*folders.values(), folders["csv"] / "all.csv", tmp_path / "all.zip"]
    corpora = [read_speech_corpus(source, 4000) for source in sources]
    assert {corpus.texts for corpus in corpora} == {("Ah.", "oh, né")}
    assert len({corpus.digest() for corpus in corpora}) == 1
    from_lists = read_speech_corpus(
        ([folders["csv"] / "wavs/x-1.wav", AudioClip("b", tone(0.1), 4000)], list(texts.values())), 4000
    )
    assert from_lists.texts == ("Ah.", "oh, né")
    assert from_lists.seconds == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("files", "phrase"),
    [
        ({}, "has no audio files"),
        ({"a.wav": b""}, "has no transcripts: give a metadata.csv"),
        ({"a.wav": b"", "a.txt": "ah"}, "a.wav is empty"),
        ({"a.wav": b"no sound at all", "a.txt": "ah"}, "not a readable audio file"),
        ({"a.wav": wav(np.zeros(0)), "a.txt": "ah"}, "has no samples"),
        ({"a.wav": wav(np.zeros(500)), "a.txt": "ah"}, "no clip with sound and a transcript"),
        ({"a.wav": wav(tone()), "a.txt": " "}, "no clip with sound and a transcript"),
        ({"a.wav": wav(tone()), "a.txt": b"ah\xff"}, "a.txt, line 1: byte 0xFF is not UTF-8"),
        ({"a.wav": wav(tone()), "metadata.csv": ""}, "metadata.csv is empty"),
        ({"a.wav": wav(tone()), "metadata.csv": "b|oh\n"}, "row 1: 'b' names no audio file"),
        ({"a.wav": wav(tone()), "metadata.csv": "a|ah\nb\n"}, "line 2 has 1 fields, expected 2: 'b'"),
        ({"a.wav": wav(tone()), "x.csv": "path,words\na.wav,ah\n"}, "columns path, words: give path and text"),
        ({"a.wav": wav(tone()), "x.csv": "path,text\n"}, "x.csv has no rows"),
        ({"a.wav": wav(tone()), "x.csv": "", "y.csv": ""}, "several tables"),
        ({"1/a.wav": wav(tone()), "2/a.wav": wav(tone()), "x.csv": "path,text\na,ah\n"}, "several audio files"),
        ({"a.wav": wav(tone()), "b.zip": b"PK no zip"}, "not a readable zip archive"),
        ({"a.wav": wav(1e9 * tone(), subtype="FLOAT"), "a.txt": "ah"}, "times full scale"),
    ],
)
def test_corpora_that_cannot_be_read(files: dict[str, Any], phrase: str, tmp_path: Path):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=phrase) as caught:
        read_speech_corpus(tmp_path, 4000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        (3, "give a folder"),
        (([tone()], ["a", "b"]), "1 clips and 2 texts: give one text per clip"),
        (([tone()], [3]), "text 1 is int 3"),
        (([(tone(), "fast")], ["a"]), "an integer sample rate in Hz"),
        (([(tone(), 2)], ["a"]), "sample rate 2 Hz: give 1,000"),
        ((["nowhere.wav"], ["a"]), "no such file"),
        (([np.array([[["deep"]]])], ["a"]), "clip 1: give a file"),
        (([[[1.0], [2.0, 3.0]]], ["a"]), "clip 1: give a file"),
        ("nowhere", "no such file or folder"),
    ],
)
def test_invalid_lists_are_refused(data: Any, phrase: str):
    with pytest.raises(UserError, match=phrase):
        read_speech_corpus(data, 4000)


def test_a_damaged_zip_names_the_file(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.wav", wav(tone()))
        archive.writestr("a.txt", "ah")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content[:200] + b"\0\0\0" + content[203:])
    with pytest.raises(DataError, match=r"a\.wav in a\.zip cannot be read"):
        read_speech_corpus(tmp_path / "a.zip", 4000)


def test_offset_silence_and_clipping():
    """A constant offset is removed, silence trimmed, clipped audio kept and counted, silent audio left out."""
    quiet = np.zeros(2000, np.float32)
    trimmed = trim_silence(AudioClip("a", np.concatenate([quiet, tone(0.5), quiet]) + 0.3, 4000), 40.0)
    assert trimmed is not None
    assert trimmed.seconds == pytest.approx(0.5, abs=0.03)
    assert abs(trimmed.samples.mean()) < 1e-3
    assert trim_silence(AudioClip("a", quiet + 0.3, 4000), 40.0) is None
    untrimmed = trim_silence(AudioClip("a", np.concatenate([quiet, tone(0.5)]), 4000), 0.0)
    assert untrimmed is not None
    assert len(untrimmed.samples) == 4000
    corpus = read_speech_corpus(([np.clip(9 * tone(), -1, 1), quiet, tone()], ["loud", "none", " "]), 4000)
    assert corpus.texts == ("loud",)
    assert corpus.notes == ("1 without a transcript", "1 silent", "1 clipped (kept)")


def test_eight_bits_two_channels_96_khz(tmp_path: Path):
    stereo = np.stack([tone(0.5, 96_000), np.zeros(48_000)], axis=1)
    (tmp_path / "a.wav").write_bytes(wav(stereo, 96_000, subtype="PCM_U8"))
    (tmp_path / "a.txt").write_text("ah")
    (clip,) = read_speech_corpus(tmp_path, 4000).clips
    assert clip.sample_rate == 4000
    assert clip.seconds == pytest.approx(0.5, abs=0.03)


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_mel_cepstral_distortion_of_a_cosine():
    """A cosine of amplitude a in ln|H| adds 10 √2 / ln 10 · a dB; loudness and tempo have no effect."""
    bands = (np.arange(20) + 0.5) * np.pi / 20
    plain = np.zeros((5, 20))
    raised = plain + 2 * 0.3 * np.cos(2 * bands) + 1.0  # frames are of power: twice the logarithm of the amplitude
    assert metrics.mel_cepstral_distortion(plain + 1.0, raised) == pytest.approx(10 * math.sqrt(2) / math.log(10) * 0.3)
    assert metrics.mel_cepstral_distortion(np.repeat(raised, 3, axis=0), raised) == pytest.approx(0.0, abs=1e-9)


def test_mel_error_is_in_decibels():
    assert metrics.mel_error(np.full((2, 3), math.log(10)), np.zeros((2, 3))) == pytest.approx(10.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 99))
def test_attention_scores_are_within_bounds(steps: int, tokens: int, seed: int):
    weights = np.random.default_rng(seed).dirichlet(np.ones(tokens), steps)
    assert -1 <= metrics.diagonality(weights) <= 1
    assert 1 / tokens - 1e-9 <= metrics.focus_rate(weights) <= 1 + 1e-9


def test_the_last_decoder_step_is_padded_with_silence():
    frames = pad_to_decoder_steps(np.ones((4, 2)), 3, -9.0)
    assert frames.tolist() == [[1, 1]] * 4 + [[-9, -9]] * 2
    scale = SpectrogramScaler.fit([np.array([[0.0, 0.0], [0.0, -99.0]])])
    assert scale.floor == pytest.approx(-80 * math.log(10) / 10)
    back = scale.unscale(scale.scale(np.array([[50.0, -99.0]], np.float32)))
    assert back[0].tolist() == pytest.approx([0.0, scale.floor], abs=1e-4)


def test_recorded_words():
    recorded_words = RecordedWords(["one", "one", "one", "Two  three"], [np.full((n, 1), n) for n in (3, 1, 2, 4)])
    assert recorded_words("one ONE").ravel().tolist() == [2.0] * 4  # type: ignore[union-attr]
    assert recorded_words("two three") is not None
    assert recorded_words("two") is None
    assert recorded_words("") is None


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthesizer() -> SpeechSynthesizer:
    return SpeechSynthesizer(**TINY).fit(voice())


@pytest.mark.parametrize(
    ("options", "phrase"),
    [({"attention_kernel_size": 4}, "attention_kernel_size must be odd"),
     ({"hop_seconds": 0.05}, "hop_seconds must be at most half of window_seconds"),
     ({"max_seconds": 0.05}, "every recording is longer than 0.05 s")],
)  # fmt: skip
def test_incompatible_settings(options: dict[str, Any], phrase: str):
    with pytest.raises(UserError, match=phrase):
        SpeechSynthesizer(**{**TINY, **options}).fit(voice())


def test_long_recordings_are_left_out_of_training():
    job = SpeechSynthesizer(**{**TINY, "max_seconds": 0.15, "valid_fraction": 0.0, "test_fraction": 0.0}).fit(voice())
    assert job.num_too_long == 4
    assert job.predict(["ah " * 50])[0].seconds < 0.25
    assert not job.predict(["ah " * 50])[0].ended or job.predict(["ah " * 50])[0].seconds < 0.25


def test_unknown_characters(synthesizer: SpeechSynthesizer):
    """They are left out and listed; a text without a known character is refused; case does not matter.

    The frames agree up to float32 rounding: torch's products may add up in another order in each row of a batch.
    """
    plain, strange, capital = synthesizer.predict(["oh", "oh!ß😀", "OH"])
    assert strange.unknown == ("!", "ß", "😀")
    assert plain.unknown == capital.unknown == ()
    assert plain.tokens == strange.tokens == capital.tokens
    for speech in (strange, capital):
        np.testing.assert_allclose(speech.frames, plain.frames, rtol=1e-4, atol=1e-4)
    assert "left out: ! ß 😀" in synthesizer.to_text([strange])
    with pytest.raises(DataError, match="text 2 has no known character: use some of ahno"):
        synthesizer.predict(["oh", "123"])
    with pytest.raises(DataError, match="the text is empty"):
        synthesizer.predict(["", " "])


def test_texts_of_a_file_or_of_recordings(synthesizer: SpeechSynthesizer, tmp_path: Path):
    (tmp_path / "texts.txt").write_text("oh\n\nah  no\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"texts\.txt, line 2 is blank: write a text there, or remove the line"):
        synthesizer.predict(tmp_path / "texts.txt")
    (tmp_path / "texts.txt").write_text("oh\nah  no\n\n", encoding="utf-8")
    assert [speech.text for speech in synthesizer.predict(tmp_path / "texts.txt")] == ["oh", "ah no"]
    assert [speech.text for speech in synthesizer.predict(voice(2))] == ["ah", "oh no"]


def test_the_ending_of_the_file_selects_the_format(synthesizer: SpeechSynthesizer, tmp_path: Path):
    first, second = synthesizer.predict(["oh", "ah no"])
    synthesizer.write([first], tmp_path / "a.wav")
    clip = read_audio(tmp_path / "a.wav")
    assert clip.sample_rate == 4000
    np.testing.assert_allclose(clip.samples, np.clip(first.samples, -1, 1), atol=1e-4)
    synthesizer.write([first, second], tmp_path / "b.WAV")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "b-1.WAV", "b-2.WAV"]
    assert (tmp_path / "b-1.WAV").read_bytes() == (tmp_path / "a.wav").read_bytes()
    with pytest.raises(UserError, match=r"give a file name that ends in .wav, .flac, .ogg"):
        synthesizer.write([first], tmp_path / "c.mp3")
    assert not (tmp_path / "c.mp3").exists()
    for ending, tolerance in ((".flac", 1e-4), (".ogg", 0.1)):
        synthesizer.write([first], tmp_path / f"c{ending}")
        decoded = read_audio(tmp_path / f"c{ending}")
        assert (decoded.sample_rate, len(decoded.samples)) == (first.clip.sample_rate, len(first.clip.samples))
        np.testing.assert_allclose(decoded.samples, first.clip.samples.clip(-1, 1), atol=tolerance)
    synthesizer.write([first, second], tmp_path / "c.zip")
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        assert archive.namelist() == ["1.wav", "2.wav"]
        assert archive.read("2.wav") == encode_audio(second.clip)
    synthesizer.write([first, second], tmp_path / "d.txt")
    assert (tmp_path / "d.txt").read_text().count("\n") == 2


@dataclass
class Transcript:
    text: str


class FakeTranscriber:
    """A transcriber with fixed answers."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def predict(self, clips: list[AudioClip]) -> list[Transcript]:
        assert all(isinstance(clip, AudioClip) for clip in clips)
        return [Transcript(text) if isinstance(text, str) else text for text in self.texts]


def test_a_round_trip_counts_character_errors(synthesizer: SpeechSynthesizer):
    """Of 7 characters one is substituted and three are missing; case does not matter."""
    evaluation = synthesizer.round_trip_cer(["oh", "ah no"], FakeTranscriber(["Oh", "eh "]))
    assert evaluation.table["model"].tolist() == ["synthesized"]
    assert evaluation.table["CER"][0] == pytest.approx(400 / 7)
    perfect = synthesizer.round_trip_cer(voice(2), FakeTranscriber(["ah", "oh no"]))
    assert perfect.table["CER"].tolist() == [0.0, 0.0]
    assert synthesizer.predict(["oh"], transcriber=FakeTranscriber(["ah"]))[0].transcript == "ah"
    with pytest.raises(UserError, match="gave 1 texts for 2 clips"):
        synthesizer.round_trip_cer(["oh", "ah"], FakeTranscriber(["oh"]))
    with pytest.raises(UserError, match="nowhere"):
        synthesizer.predict(["oh"], transcriber="nowhere")


def test_texts_without_known_characters_are_not_scored(synthesizer: SpeechSynthesizer):
    clips, texts = voice(4)
    evaluation = synthesizer.evaluate((clips, ["123", *texts[1:]]))
    assert "1 recordings are left out" in str(evaluation)
    assert len(evaluation.details) == 3
    with pytest.raises(DataError, match="no text has a character"):
        synthesizer.evaluate((clips[:1], ["123"]))


def test_the_previous_frame_baseline_repeats_the_last_frame():
    scaled = np.arange(1.0, 7.0)[:, None]
    assert metrics._repeat_last_frame(scaled, 2).ravel().tolist() == [0, 0, 2, 2, 4, 4]


def test_the_model_learns_two_words():
    """Two tones differ in length and pitch: each text gets its own, and ends with a stop token."""
    clips = [(tone(0.2, pitch=300), 4000), (tone(0.4, pitch=900), 4000)]
    options = {**TINY, "hidden_size": 24, "prenet_size": 16, "attention_size": 16, "epochs": 60, "lr": 0.01,
               "valid_fraction": 0.0, "test_fraction": 0.0, "griffin_lim_iterations": 20, "dropout": 0.0,
               "ema_decay": 0.9}  # fmt: skip
    job = SpeechSynthesizer(**options).fit((clips * 8, ["ah", "oh"] * 8))
    short, long = job.predict(["ah", "oh"])
    assert short.ended
    assert long.ended
    assert abs(short.seconds - 0.2) < 0.06
    assert abs(long.seconds - 0.4) < 0.06
    for speech, pitch in ((short, 300), (long, 900)):
        spectrum = np.abs(np.fft.rfft(speech.samples, 4000))
        assert abs(int(spectrum.argmax()) - pitch) < 100


# ---- recipes ---------------------------------------------------------------------------------------------------------


def test_digit_strings_use_clips_of_their_split_only(tmp_path: Path):
    """Each string has only clips of its split, and its text has the digits in order."""
    with zipfile.ZipFile(tmp_path / "recordings.zip", "w") as archive:
        for digit in range(3):
            for take in range(50):
                archive.writestr(f"{digit}_eve_{take}.wav", wav(tone(0.1 + 0.1 * digit, 8000), 8000))
        archive.writestr("0_adam_0.wav", b"not read")
    clips = protocols.digit_takes(tmp_path / "recordings.zip", "eve", 8000, 40.0)
    assert len(clips) == 150
    test = protocols.digit_strings(clips, range(5), 20, 0, "test")
    assert len(test) == 35
    assert {*"".join(clip.name for clip in test.clips).replace(".wav", " ").split()} <= {
        f"{digit}_eve_{take}" for digit in range(3) for take in range(5)
    }
    for clip, text in zip(test.clips[15:], test.texts[15:], strict=True):
        names = clip.name.replace(".wav", "").split()
        assert text == " ".join(protocols.DIGITS[int(name[0])] for name in names)
        assert 2 <= len(names) <= 4
    with pytest.raises(DataError, match="no recordings of lilith"):
        protocols.digit_takes(tmp_path / "recordings.zip", "lilith", 8000, 40.0)


def test_a_recipe_with_a_transcriber():
    """The table has its error on synthesized speech and on recordings."""
    job = SpeechSynthesizer(**TINY).fit(voice())
    test = job.read(voice(2))
    table = protocols._with_round_trip_cer(
        job, test, job.evaluate(test, progress=Progress()).table, FakeTranscriber(["ah", "oh"]), Progress()
    )  # type: ignore[arg-type]
    assert table["model"].tolist()[-1] == "original recordings"
    assert table["CER"].iloc[[0, -1]].tolist() == pytest.approx([300 / 7, 300 / 7])
    assert table["CER"].notna().sum() == 2


def test_transcripts_of_digits_are_spelled_out(tmp_path: Path):
    """The recipe's transcriber writes digits, the texts have words; a missing run is refused at once."""

    @dataclass(frozen=True)
    class Digits:
        text: str
        words: tuple[str, ...] = ("42",)
        characters: tuple[str, ...] = ("4", "2")

    transcripts = protocols.DigitsAsWords(FakeTranscriber([Digits("42"), Digits("7"), Digits("")])).predict([])  # type: ignore[list-item]
    assert [transcript.text for transcript in transcripts] == ["four two", "seven", ""]
    assert transcripts[0].words == ()
    assert protocols._listener("") is None
    with pytest.raises(UserError, match="lstmkit reproduce fsdd_strings --run"):
        protocols._listener(str(tmp_path / "none"))


def test_the_public_name():
    assert lstmkit.SpeechSynthesizer is SpeechSynthesizer
    assert isinstance(read_speech_corpus(voice(), 4000), SpeechCorpus)
    with pytest.raises(SettingError, match="did you mean 'reduction_factor'"):
        SpeechSynthesizer(reduction_facto=3)  # type: ignore[call-arg]
