"""Audio files as samples, and their log-mel frames."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmkit.data.audio.audio_io import (
    AudioClip,
    audio_from_array,
    encode_audio,
    read_audio,
    read_audio_blocks,
    resample,
)
from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.errors import DataError, UserError

soundfile = pytest.importorskip("soundfile")


def tone(seconds: float = 0.5, rate: int = 8000, pitch: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


def encoded(samples: np.ndarray, rate: int, **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", **options})
    return file.getvalue()


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"subtype": "PCM_16"}, 1e-4),
        ({"subtype": "PCM_U8"}, 1e-2),
        ({"subtype": "PCM_24"}, 1e-6),
        ({"subtype": "FLOAT"}, 1e-7),
        ({"format": "FLAC"}, 1e-4),
        ({"format": "AIFF", "subtype": "PCM_16"}, 1e-4),
    ],
)
def test_any_format_gives_the_same_samples(options: dict[str, str], tolerance: float):
    clip = read_audio(encoded(tone(), 8000, **options))
    assert clip.sample_rate == 8000
    assert clip.samples.dtype == np.float32
    np.testing.assert_allclose(clip.samples, tone(), atol=tolerance)


def test_channels_are_averaged_and_audio_is_resampled():
    """8-bit stereo at 96 kHz is read as mono at 8 kHz."""
    stereo = np.stack([tone(1.0, 96_000), np.zeros(96_000)], axis=1)
    clip = read_audio(encoded(stereo, 96_000, subtype="PCM_U8"), sample_rate=8000)
    assert abs(len(clip.samples) - 8000) <= 1
    middle = slice(1000, 7000)
    np.testing.assert_allclose(clip.samples[middle], tone(1.0)[middle] / 2, atol=0.02)


@pytest.mark.parametrize("rate", [8000, 16_000, 7350])
def test_blocks_equal_the_whole_file(tmp_path: Path, rate: int):
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(np.random.default_rng(0).uniform(-0.5, 0.5, 9001), 8000, subtype="FLOAT"))
    whole = read_audio(path, rate)
    blocks = np.concatenate(list(read_audio_blocks(path, rate, seconds=0.11)))
    np.testing.assert_allclose(blocks, whole.samples, atol=1e-5)


def test_invalid_audio_is_refused(tmp_path: Path):
    wav = encoded(tone(), 8000)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(DataError, match=r"empty\.wav is empty"):
        read_audio(tmp_path / "empty.wav")
    with pytest.raises(DataError, match="the audio is empty"):
        read_audio(b"")
    with pytest.raises(DataError, match="not a readable audio file"):
        read_audio(b"this is a text, not a sound, whatever it is called")
    with pytest.raises(DataError, match="has no samples"):
        read_audio(encoded(np.zeros(0), 8000), name="silence.wav")
    with pytest.raises(UserError, match="no such file"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(DataError, match="samples that are NaN or infinite"):
        read_audio(encoded(np.array([0.0, np.nan]), 8000, subtype="FLOAT"))
    (tmp_path / "short.wav").write_bytes(wav[:44])
    with pytest.raises(DataError, match="has no samples"):
        list(read_audio_blocks(tmp_path / "short.wav", 8000))
    with pytest.raises(DataError, match="sample rate"):
        resample(AudioClip("a", np.zeros(5, np.float32), 8000), 12)


def test_long_recordings_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lstmkit.data.audio.audio_io.MAX_SECONDS", 0.4)
    with pytest.raises(DataError, match="or stream it"):
        read_audio(encoded(tone(), 8000))


def test_samples_of_any_type():
    np.testing.assert_allclose(audio_from_array(np.array([0, -32768, 16384], np.int16), 8000).samples, [0, -1, 0.5])
    np.testing.assert_allclose(audio_from_array(np.array([128, 0, 192], np.uint8), 8000).samples, [0, -1, 0.5])
    np.testing.assert_allclose(audio_from_array(np.array([[1.0, 0.0], [0.5, 0.5]]), 8000).samples, [0.5, 0.5])
    for samples in (np.zeros((2, 2, 2)), np.zeros(0), np.array(["a"]), np.array([np.inf])):
        with pytest.raises(DataError):
            audio_from_array(samples, 8000)
    with pytest.raises(DataError, match="sample rate 0 Hz"):
        audio_from_array(np.zeros(3), 0)


def test_encoded_audio_reads_back_the_same():
    clip = AudioClip("a", np.array([0.25, -0.5, 2.0], np.float32), 22_050)
    decoded = read_audio(encode_audio(clip))
    assert decoded.sample_rate == 22_050
    np.testing.assert_allclose(decoded.samples, [0.25, -0.5, 1.0], atol=1e-4)


# ---- frames ----------------------------------------------------------------------------------------------------------


def test_frames_equal_librosas():
    from librosa.feature import melspectrogram

    samples = np.random.default_rng(1).standard_normal(4000).astype(np.float32)
    mel = LogMelSpectrogram(sample_rate=8000, n_mels=24, window_seconds=0.032)
    expected = melspectrogram(y=samples, sr=8000, n_fft=256, hop_length=80, n_mels=24, center=False)
    np.testing.assert_allclose(mel.frames(AudioClip("a", samples, 8000)), np.log(expected.T), rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=8))
def test_streamed_frames_equal_those_of_the_whole_clip(cuts: list[int]):
    samples = np.random.default_rng(2).standard_normal(1500).astype(np.float32)
    mel = LogMelSpectrogram(sample_rate=8000, n_mels=16)
    stream = mel.stream()
    frames = np.concatenate([stream.push(part) for part in np.split(samples, np.minimum(np.cumsum(cuts), 1500))])
    np.testing.assert_allclose(frames, mel.from_samples(samples), rtol=1e-5, atol=1e-5)


def test_short_and_silent_clips_have_frames():
    mel = LogMelSpectrogram(sample_rate=8000, n_mels=16)
    assert mel.frames(AudioClip("click", np.ones(1, np.float32), 8000)).shape == (1, 16)
    silent = mel.frames(AudioClip("none", np.zeros(8000, np.float32), 8000))
    assert np.isfinite(silent).all()
    assert silent.shape == (98, 16)
    assert mel.times(2) == pytest.approx([0.0125, 0.0225])
