"""The transcriber: reading, front ends, the network, transcriptions, streaming, long recordings, messages."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmkit import LanguageModel, Transcriber, load
from lstmkit.data.audio.audio_io import AudioClip, encode_audio
from lstmkit.data.audio.pauses import split_at_pauses
from lstmkit.data.batch import Batch
from lstmkit.data.ink.resampling import resample_ink, validate_strokes
from lstmkit.data.transcripts import Columns, normalize_text, read_transcripts
from lstmkit.data.vision.image_io import normalize_text_line, read_grayscale_image
from lstmkit.decoding.ctc import AlignedCharacter
from lstmkit.decoding.transcription import join_transcriptions, to_transcription
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.jobs.transcriber.metrics import confusions, edit_distance, scores
from lstmkit.layers.rnn import LSTM
from lstmkit.models.sequence import CTCModel
from lstmkit.modules.augmentation import SpecAugment, SpeedPerturbation, TextLineAugmentation
from lstmkit.modules.ctc import CTCHead
from lstmkit.modules.sequence_convolutions import CausalConvEncoder, TextLineEncoder

image = pytest.importorskip("PIL.Image")
pytest.importorskip("soundfile")

RATE = 4000
TINY: dict[str, Any] = {
    "hidden_size": 6, "feature_size": 6, "num_layers": 1,
    "epochs": 2, "steps_per_epoch": 2, "batch_size": 4, "lr": 0.01,
}  # fmt: skip
AUDIO = {**TINY, "sample_rate": RATE, "n_mels": 8}
IMAGES = {**TINY, "height": 16, "conv_channels": 2}
PITCHES = {"a": 300.0, "b": 700.0, "c": 1500.0}


def tone(text: str, seed: int = 0) -> AudioClip:
    """A tone whose pitch is that of each letter, and silence for a space."""
    t = np.arange(int(0.15 * RATE)) / RATE
    parts = [np.sin(2 * np.pi * PITCHES[c] * t) if c != " " else 0 * t for c in text]
    noise = np.random.default_rng(seed).standard_normal(len(t) * len(text))
    return AudioClip(text, (0.3 * np.concatenate(parts) + 0.001 * noise).astype(np.float32), RATE)


TEXTS = ["abc", "cab", "ab ca", "bac", "acb", "ba c", "bca", "abac"] * 3


@pytest.fixture(scope="module")
def sounds() -> tuple[list[AudioClip], list[str]]:
    return [tone(text, i) for i, text in enumerate(TEXTS)], TEXTS


@pytest.fixture(scope="module")
def unidirectional(sounds: tuple[list[AudioClip], list[str]]) -> Transcriber:
    """A unidirectional model, which can stream."""
    return Transcriber(**{**AUDIO, "epochs": 12, "steps_per_epoch": 0, "bidirectional": False, "lr": 0.03}).fit(sounds)


# ---- reading ---------------------------------------------------------------------------------------------------------


def line(text: str, height: int = 20, paper: int = 230) -> np.ndarray:
    """An image with a bar for each letter: later letters have higher bars."""
    pixels = np.full((height, 10 * len(text) + 4), paper, dtype=np.uint8)
    for i, letter in enumerate(text):
        if letter != " ":
            pixels[4 : 8 + 4 * "abc".index(letter), 10 * i + 3 : 10 * i + 9] = 20
    return pixels


def png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def test_a_folder_a_zip_and_a_table_are_read_alike(tmp_path: Path):
    """``X.nrm.png`` with ``X.gt.txt``; a missing text is ``None``; other files are ignored."""
    (tmp_path / "book").mkdir()
    for name, text in (("b", " Cafe\u0301  x"), ("a", "ab")):
        (tmp_path / "book" / f"{name}.nrm.png").write_bytes(png(line("ab")))
        (tmp_path / "book" / f"{name}.gt.txt").write_text(text + "\n", encoding="utf-8")
    (tmp_path / "book" / "c.png").write_bytes(png(line("c")))
    (tmp_path / "book" / "notes.md").write_text("no")
    transcripts = read_transcripts(tmp_path / "book", Columns())
    assert (transcripts.kind, transcripts.ids) == ("images", ["a.nrm.png", "b.nrm.png", "c.png"])
    assert transcripts.texts == ["ab", "Café x", None]
    with zipfile.ZipFile(tmp_path / "book.zip", "w") as archive:
        for path in (tmp_path / "book").iterdir():
            archive.write(path, path.name)
    assert read_transcripts(tmp_path / "book.zip", Columns()).digest() == transcripts.digest()
    rows = {"path": [f"book/{name}" for name in transcripts.ids], "says": ["ab", "Café x", None]}
    pd.DataFrame(rows).to_csv(tmp_path / "lines.csv", index=False)
    from_table = read_transcripts(tmp_path / "lines.csv", Columns("path", "says"))
    assert from_table.digest() == transcripts.digest()
    with pytest.raises(DataError, match=r"c\.png has no transcript: give it one"):
        transcripts.require_texts()


def test_one_audio_file_with_its_transcript_beside_it(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(encode_audio(tone("ab")))
    assert read_transcripts(tmp_path / "a.wav", Columns()).texts == [None]
    (tmp_path / "a.txt").write_text("ab\n")
    assert read_transcripts(str(tmp_path / "a.wav"), Columns()).texts == ["ab"]


def test_features_in_an_npz_with_their_texts(tmp_path: Path):
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.savez(tmp_path / "some.npz", feats=values, offsets=np.array([0, 2, 6]))
    transcripts = read_transcripts(tmp_path / "some.npz", Columns())
    assert (transcripts.kind, transcripts.texts) == ("features", [None, None])
    (tmp_path / "some.tsv").write_text("u1\t2\tGO\nu2\t4\tSTOP  NOW\n")
    transcripts = read_transcripts(tmp_path / "some.npz", Columns())
    assert (transcripts.texts, transcripts.ids) == (["GO", "STOP NOW"], ["u1", "u2"])
    np.testing.assert_array_equal(transcripts.inputs[1], values[2:])
    (tmp_path / "some.tsv").write_text("u1\t2\tGO\n")
    with pytest.raises(DataError, match=r"some\.tsv has 1 lines, but some\.npz has 2 examples"):
        read_transcripts(tmp_path / "some.npz", Columns())
    for offsets in ([0, 7], [1, 6], [0, 3, 3, 6], [0]):
        np.savez(tmp_path / "some.npz", feats=values, offsets=np.array(offsets))
        with pytest.raises(DataError, match="offsets must increase from 0 to the number of steps, 6"):
            read_transcripts(tmp_path / "some.npz", Columns())
    np.savez(tmp_path / "odd.npz", other=values)
    with pytest.raises(DataError, match="give feats"):
        read_transcripts(tmp_path / "odd.npz", Columns())


def test_the_kind_of_arrays_is_inferred():
    def kind(array: Any, input_type: str = "auto") -> str:
        return read_transcripts([array], Columns(input_type=input_type)).kind

    assert kind(np.zeros((3, 2))) == "features"
    assert kind(line("a")) == "images"
    assert kind(image.fromarray(line("a"))) == "images"
    assert kind((np.zeros(400, np.int16), 8000)) == "audio"
    assert kind([[0, 0, 0], [1, 2, 1]], "strokes") == "strokes"
    assert kind(line("a"), "features") == "features"


def test_unreadable_files_are_named(tmp_path: Path):
    """Every message is one line."""
    (tmp_path / "a.wav").write_bytes(b"this is a text")
    (tmp_path / "b.png").write_bytes(b"this too")
    (tmp_path / "c.zip").write_bytes(b"PK\x03\x04 cut short")
    (tmp_path / "d.npz").write_bytes(b"none")
    (tmp_path / "e.pdf").write_bytes(b"none")
    (tmp_path / "empty").mkdir()
    (tmp_path / "f.csv").write_text("file,text\nnowhere.png,a\n")
    (tmp_path / "g.csv").write_text("path,text\nb.png,a\n")
    cases = {
        "a.wav": "not a readable audio file",
        "b.png": "not a readable image",
        "c.zip": "is not a readable zip archive",
        "d.npz": "not a readable .npz",
        "e.pdf": "unsupported file format",
        "empty": "has no audio file and no image",
        "f.csv": "no such file",
        "g.csv": "no column 'file'",
        "nothing": "no such file",
    }
    for name, phrase in cases.items():
        with pytest.raises(UserError, match=phrase) as caught:
            read_transcripts(tmp_path / name, Columns())
        assert "\n" not in str(caught.value)
    for data, phrase in (
        ([], "no examples"),
        ([np.zeros((2, 2)), line("a")], "features and images: give inputs of one kind"),
        ([np.zeros(3)], "give features as numbers"),
        ([np.array([[np.nan]])], "step 1: a value is NaN"),
        (([np.zeros((2, 2))], ["a", "b"]), "1 inputs and 2 texts"),
        (3, "give a path"),
    ):
        with pytest.raises(DataError, match=phrase):
            read_transcripts(data, Columns())


def test_a_text_that_is_not_utf8(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png(line("a")))
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.txt, line 1: byte 0xE9 is not UTF-8"):
        read_transcripts(tmp_path, Columns())


@given(st.text(max_size=30))
def test_text_normalization_is_idempotent(text: str):
    assert normalize_text(normalize_text(text)) == normalize_text(text)


# ---- images and strokes ----------------------------------------------------------------------------------------------


def test_ink_is_the_rarer_shade():
    """Inverted, pale or larger images, or on other paper, give nearly the same columns."""
    plain = normalize_text_line(line("abca"), 20, "it")
    assert plain.shape == (44, 20)
    assert plain.min() == 0
    assert plain.max() == 1
    for other in (255 - line("abca"), line("abca") // 4 + 150):
        np.testing.assert_allclose(normalize_text_line(other, 20, "it"), plain, atol=0.02)
    larger = normalize_text_line(line("abca").repeat(3, 0).repeat(3, 1), 20, "it")
    np.testing.assert_allclose(larger, plain, atol=0.3)  # edges are smoothed
    upside_down = normalize_text_line(line("abca")[::-1, ::-1], 20, "it")  # is not turned
    np.testing.assert_allclose(upside_down, plain[::-1, ::-1], atol=1e-6)


def test_an_image_without_a_line():
    for shade in (0, 128, 255):
        with pytest.raises(DataError, match=r"it shows no text line \(no contrast\)"):
            normalize_text_line(np.full((20, 50), shade, dtype=np.uint8), 16, "it")
    with pytest.raises(DataError, match="split it into lines"):
        normalize_text_line(np.tile(line("abc"), (1, 1000)), 48, "it")
    thin = np.full((30, 4000), 255, dtype=np.uint8)
    thin[10:20, 7] = 0  # one stroke in a thousand columns
    assert normalize_text_line(thin, 30, "it").max() == 1


def test_examples_without_a_line_or_with_other_features_are_named():
    blank = np.full((20, 60), 255, dtype=np.uint8)
    with pytest.raises(DataError, match=r"example (3|6|9|12) shows no text line"):
        Transcriber(**IMAGES).fit(([line("ab"), line("ba"), blank] * 4, ["ab", "ba", "b"] * 4))
    job = Transcriber(**TINY).fit(([np.ones((8, 2)) * i for i in range(8)], ["a", "b"] * 4))
    with pytest.raises(DataError, match="example 1 has 3 features per step, the model expects 2"):
        job.predict([np.ones((8, 3))])


def test_a_constant_offset_changes_no_frame(unidirectional: Transcriber):
    """A constant added to all samples has no effect."""
    clip = tone("abc", 5)
    shifted = AudioClip("moved", clip.samples + np.float32(0.4), RATE)
    plain, offset = unidirectional.predictor.front_end.encode([clip, shifted], ["one", "moved"])
    np.testing.assert_allclose(plain, offset, atol=0.01)


def test_images_of_any_mode_become_grayscale():
    values = line("ab")
    with_alpha = np.dstack([np.zeros_like(values)] * 3 + [255 - values])  # black ink, the paper transparent
    file = io.BytesIO()
    image.fromarray(with_alpha).save(file, "PNG")
    np.testing.assert_allclose(read_grayscale_image(file.getvalue()), values, atol=1)
    deep = io.BytesIO()
    image.fromarray(values.astype(np.uint16) * 257).save(deep, "PNG")
    np.testing.assert_array_equal(read_grayscale_image(deep.getvalue()), values)


def test_resampled_strokes_have_evenly_spaced_points():
    """Strokes at twice the size, or with more points, give the same result."""
    points = np.array([[0, 0, 0], [0, 10, 1], [5, -10, 0], [0, 5, 0], [0, 5, 1]], dtype=np.float32)
    ink = resample_ink(points)
    distance = np.linalg.norm(ink.steps[:, :2], axis=1)
    inside = np.ones(len(distance), dtype=bool)
    inside[[0, 1 + np.flatnonzero(ink.steps[:, 3])[0]]] = False  # where a stroke begins
    np.testing.assert_allclose(distance[inside], distance[inside][0], rtol=1e-4)
    assert ink.steps[:, 3].sum() == 2
    np.testing.assert_allclose(resample_ink(points * [2, 2, 1]).steps, ink.steps, atol=1e-5)
    denser = np.array([[0, 0, 0], [0, 5, 0], [0, 5, 1], [5, -10, 0], [0, 10, 1]], dtype=np.float32)
    np.testing.assert_allclose(resample_ink(denser).steps, ink.steps, atol=1e-5)
    assert (np.diff(ink.points) >= 0).all()
    assert ink.points[-1] == 4


@pytest.mark.parametrize(
    ("points", "phrase"),
    [
        ([[0, 0, 1]], "has 1 point: give at least 2"),
        (np.zeros((0, 3)), "has 0 points"),
        ([[0, 0, 0], [0, 0, 1]], "all points are at the same position"),
        ([[0, 0], [1, 1]], "has shape"),
        ([[0, 0, 0], [1, np.inf, 1]], "an offset is NaN or above"),
        ([[0, 0, 0], [1, 1, 7]], "the pen must be 0"),
    ],
)
def test_invalid_strokes(points: Any, phrase: str):
    with pytest.raises(DataError, match=phrase):
        validate_strokes(np.array(points), "it")


# ---- the network -----------------------------------------------------------------------------------------------------


def model(encoder: Any, bidirectional: bool) -> CTCModel:
    torch.manual_seed(0)
    trunk = LSTM(encoder.output_size, 5, batch_first=True, bidirectional=bidirectional)
    return CTCModel(encoder, trunk, CTCHead(trunk.output_size, 3)).eval()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.sampled_from([(1,), (2,), (2, 2), (3, 1)]), st.booleans())
def test_padding_does_not_change_the_outputs(length: int, n_padding: int, strides: tuple[int, ...], text_line: bool):
    """Neither the length of the padding nor its values have an effect."""
    encoder = TextLineEncoder(8, 2, 4) if text_line else CausalConvEncoder(8, 4, strides)
    net = model(encoder, bidirectional=True)
    x = torch.randn(1, length, 8)
    alone, _ = net(x)
    padded = torch.cat([x, torch.zeros(1, n_padding, 8)], 1)
    batched, _ = net(
        torch.cat([padded, torch.randn(1, length + n_padding, 8)]), None, torch.tensor([length, length + n_padding])
    )
    assert alone.shape[1] == -(-length // encoder.stride)
    torch.testing.assert_close(batched[:1, : alone.shape[1]], alone)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.sampled_from([(1,), (2,), (2, 2), (3, 2)]))
def test_a_sequence_in_chunks_gives_the_same_outputs(cuts: list[int], strides: tuple[int, ...]):
    """A unidirectional model streams; the last chunk may be shorter than a stride."""
    encoder = CausalConvEncoder(3, 4, strides)
    net = model(encoder, bidirectional=False)
    lengths = [cut * encoder.stride for cut in cuts]
    x = torch.randn(2, sum(lengths) + 1, 3)
    whole, _ = net(x)
    lengths[-1] += 1
    outputs, state = [], None
    for chunk in x.split(lengths, dim=1):
        output, state = net(chunk, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, 1), whole)
    first, _ = net.step(x[:, : encoder.stride])
    torch.testing.assert_close(first, whole[:, 0])


def test_augmentation_is_seeded_and_only_in_training():
    x = torch.rand(3, 40, 16)
    for augment in (SpecAugment(2, 10, 1, 4), TextLineAugmentation(1.0)):
        torch.manual_seed(3)
        first = augment.train()(x)
        torch.manual_seed(3)
        assert torch.equal(augment(x), first)
        assert not torch.equal(first, x)
        assert torch.equal(augment.eval()(x), x)
    masked = SpecAugment(1, 10, 0, 0).train()(torch.ones(50, 40, 2), torch.full((50,), 40))
    hidden = (masked == 0).all(2).sum(1)
    assert hidden.max() <= 8  # a fifth
    assert (hidden > 0).any()


@pytest.mark.parametrize("speed", [0.1, 0.4])
def test_speed_perturbation_changes_lengths_but_not_values(speed: float):
    """A ramp stays a ramp from first to last value; padding is never read; lengths stay within the maximum change."""
    lengths = torch.tensor([40, 25, 1])
    x = torch.arange(40.0).view(1, 40, 1).repeat(3, 1, 1)
    for row, length in enumerate(lengths.tolist()):
        x[row, length:] = torch.nan
    tempo = SpeedPerturbation(speed)
    assert tempo.eval()(x, lengths)[1] is lengths
    torch.manual_seed(0)
    perturbed, new_lengths = tempo.train()(x, lengths)
    assert new_lengths is not None
    assert perturbed.shape[1] == new_lengths.max()
    assert (new_lengths != lengths).any()
    assert ((new_lengths >= (lengths / (1 + speed)).floor()) & (new_lengths <= (lengths / (1 - speed)).ceil())).all()
    for row in range(3):
        ramp = perturbed[row, : new_lengths[row], 0]
        torch.testing.assert_close(ramp, torch.linspace(0, float(lengths[row] - 1), int(new_lengths[row])))
    whole, new_lengths = tempo(x[:1])
    assert new_lengths is not None
    assert len(whole[0]) == new_lengths[0]


def test_the_loss_uses_the_lengths_after_speed_perturbation(monkeypatch: pytest.MonkeyPatch):
    """The loss is over the changed number of steps, not the batch's."""
    lengths: list[torch.Tensor] = []
    net = model(CausalConvEncoder(3, 6, (2,), tempo=SpeedPerturbation(0.4)), True).train()
    monkeypatch.setattr(net.head, "loss", lambda log_p, batch: lengths.append(batch.lengths) or log_p.sum())
    batch = Batch(torch.rand(4, 30, 3), torch.full((4,), 30), torch.ones(4, 2).long(), torch.full((4,), 2))
    torch.manual_seed(0)
    net.loss(batch)
    assert (lengths[0] != 15).any()


# ---- transcripts -----------------------------------------------------------------------------------------------------


def test_words_and_characters_have_positions():
    """Leading, trailing and repeated spaces are left out."""
    steps = [(1, 0), (2, 2), (3, 3), (1, 5), (1, 6), (3, 8), (1, 9)]
    transcription = to_transcription(
        [AlignedCharacter(which, at, at + 1, 0.5 + at / 20) for which, at in steps],
        " ab",
        "it",
        "second",
        lambda s: s / 10,
    )
    assert transcription.text == "ab b"
    assert [(w.text, w.start, w.end) for w in transcription.words] == [("ab", 0.2, 0.4), ("b", 0.8, 0.9)]
    assert transcription.words[0].confidence == pytest.approx((0.6 + 0.65) / 2)
    assert [c.text for c in transcription.characters] == ["a", "b", " ", "b"]
    joined = join_transcriptions([transcription, transcription.shifted(2.0)], "both", "second")
    assert joined.text == "ab b ab b"
    assert joined.words[2].start == pytest.approx(2.2)
    assert to_transcription([], " ab", "it", "second", lambda s: s).confidence is None


def test_scores_by_hand():
    """Of 8 characters one is replaced and one inserted; of 3 words 2 are wrong."""
    actual = scores(["ab xd", "xyzz"], ["ab cd", "xyz"])
    assert actual["CER"] == pytest.approx(100 * 2 / 8)
    assert actual["WER"] == pytest.approx(100 * 2 / 3)
    assert actual["sentence error rate"] == 100
    assert edit_distance("", "abc") == 3
    assert edit_distance("abc", "") == 3
    assert confusions(["xb"], ["abc"]) == {("a", "x"): 1, ("c", "∅"): 1}


@given(st.lists(st.tuples(st.text("ab c", max_size=6), st.text("ab c", max_size=6)), min_size=1, max_size=4))
def test_the_error_is_zero_only_without_mistakes(pairs: list[tuple[str, str]]):
    expected, predicted = ([normalize_text(pair[i]) for pair in pairs] for i in (0, 1))
    assert scores(expected, expected) == {"CER": 0, "WER": 0, "sentence error rate": 0} or not any(expected)
    if any(expected):
        assert (scores(predicted, expected)["CER"] == 0) == (predicted == expected)


def test_characters_are_positioned_within_the_audio(unidirectional: Transcriber):
    """Positions are within the clip, and confidences are between 0 and 1."""
    (transcription,) = unidirectional.predict([tone("abc", 99)])
    assert transcription.unit == "second"
    assert set(transcription.text) <= set("abc ")
    for character in transcription.characters:
        assert 0 <= character.start < character.end <= 0.45 + 1e-9
        assert 0 < character.confidence <= 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=12), st.integers(0, 5))
def test_a_stream_ends_with_the_transcription_of_the_whole_clip(
    unidirectional: Transcriber, cuts: list[int], seed: int
):
    """Chunks of any size give the same characters at the same positions."""
    whole = np.tile(tone("abcab", seed).samples, 2)[: sum(cuts)]
    stream, text_so_far = unidirectional.stream(name="example 1"), ""
    for chunk in np.split(whole, np.cumsum(cuts)[:-1]):
        text_so_far = stream.push(chunk)
    final = stream.finish()
    (expected,) = unidirectional.predict([AudioClip("it", whole, RATE)])
    assert final.text == expected.text
    assert final.text.startswith(text_so_far)
    for a, b in zip(final.characters, expected.characters, strict=True):
        assert (a.text, a.start, a.end) == (b.text, b.start, b.end)
        assert a.confidence == pytest.approx(b.confidence, abs=1e-4)
    assert stream.finish() == final
    with pytest.raises(DataError, match="this recording is finished"):
        stream.push(whole[:1])


def test_invalid_samples_in_a_stream(unidirectional: Transcriber):
    stream = unidirectional.stream()
    for samples in (np.zeros((2, 2)), np.array([np.nan]), np.zeros(3, np.int16), "sound"):
        with pytest.raises(DataError):
            stream.push(samples)
    assert stream.finish().text == ""


def test_a_stream_keeps_no_audio(unidirectional: Transcriber):
    """After minutes of silence it holds less than two frames."""
    stream = unidirectional.stream()
    for _ in range(20):
        stream.push(np.zeros(RATE, dtype=np.float32))
    assert len(stream._frames) < unidirectional.predictor.stride
    assert len(stream._mel._rest) < 2 * unidirectional.predictor.front_end.mel.window_length  # type: ignore[attr-defined]


def test_mean_normalization_removes_a_constant():
    """A constant added to all steps of an example changes nothing; a unidirectional model cannot know the mean."""
    rng = np.random.default_rng(0)
    steps = [rng.normal(size=(12, 3)) for _ in range(8)]
    job = Transcriber(**{**TINY, "mean_normalization": True}).fit((steps, ["a", "ab"] * 4))
    offsets = rng.normal(size=(8, 1, 3))
    encoded, shifted = (
        job.predictor.front_end.encode(sequences, "abcdefgh") for sequences in (steps, list(np.array(steps) + offsets))
    )
    np.testing.assert_allclose(shifted, encoded, atol=1e-5)
    unnormalized = Transcriber(**TINY).fit((steps, ["a", "ab"] * 4)).predictor.front_end
    assert not np.allclose(
        unnormalized.encode([steps[0] + offsets[0]], "a"), unnormalized.encode(steps[:1], "a"), atol=0.1
    )
    with pytest.raises(SettingError, match="mean_normalization needs the whole example"):
        Transcriber(**{**TINY, "mean_normalization": True, "bidirectional": False}).fit((steps, ["a", "ab"] * 4))


def test_models_that_cannot_stream(sounds: tuple[list[AudioClip], list[str]]):
    with pytest.raises(SettingError, match="reads in both directions and cannot stream"):
        Transcriber(**AUDIO).fit(sounds).stream()
    steps = [np.ones((8, 2)) * i for i in range(8)]
    with pytest.raises(SettingError, match="only audio can be streamed"):
        Transcriber(**{**TINY, "bidirectional": False}).fit((steps, ["a", "b"] * 4)).stream()


def test_a_long_file_is_transcribed_in_segments(sounds: tuple[list[AudioClip], list[str]], tmp_path: Path):
    """A bidirectional model cuts at pauses, a unidirectional one streams; positions run through."""
    gap = np.zeros(RATE // 2, dtype=np.float32)
    samples = np.concatenate([part for _ in range(6) for part in (tone("abc").samples, gap)])
    (tmp_path / "long.wav").write_bytes(encode_audio(AudioClip("long", samples, RATE)))
    for bidirectional in (True, False):
        job = Transcriber(**{**AUDIO, "bidirectional": bidirectional, "max_seconds": 1.0, "epochs": 8, "lr": 0.03}).fit(
            sounds
        )
        (transcription,) = job.predict(tmp_path / "long.wav")
        assert transcription.name == "long.wav"
        starts = [character.start for character in transcription.characters if character.text != " "]
        assert starts == sorted(starts)
        (from_clip,) = job.predict([AudioClip("long", samples, RATE)])
        assert from_clip.text == transcription.text


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 700), max_size=8), st.floats(0.05, 2.0), st.integers(0, 99))
def test_segments_cover_the_recording(sizes: list[int], max_seconds: float, seed: int):
    """No sample is lost or repeated, no segment is too long, and each has its true start."""
    blocks = [np.random.default_rng(seed).standard_normal(size).astype(np.float32) for size in sizes]
    segments = list(split_at_pauses(iter(blocks), 500, max_seconds))
    whole = np.concatenate([np.zeros(0, np.float32), *blocks])
    np.testing.assert_array_equal(np.concatenate([np.zeros(0, np.float32), *(p for _, p in segments)]), whole)
    starts = np.cumsum([0, *(len(segment) for _, segment in segments)])[:-1]
    assert [begin * 500 for begin, _ in segments] == pytest.approx(starts.tolist())
    assert all(0 < len(segment) <= max(1, round(max_seconds * 500)) for _, segment in segments)


def test_a_recording_is_cut_at_a_pause():
    samples = np.ones(1000, dtype=np.float32)
    samples[800:860] = 0
    first, *_ = split_at_pauses([samples], 100, 9.0)
    assert 800 < len(first[1]) < 860


# ---- unusual audio ---------------------------------------------------------------------------------------------------


def test_unusual_audio_has_a_transcript(unidirectional: Transcriber):
    """8-bit stereo at 96 kHz, minutes of silence, clipped audio, and less than a frame are transcribed."""
    noise = np.random.default_rng(0).integers(0, 256, (9600, 2)).astype(np.uint8)
    inputs = [
        (noise, 96_000),
        AudioClip("silence", np.zeros(40 * RATE, np.float32), RATE),
        AudioClip("clipped", np.clip(30 * tone("abc").samples, -1, 1), RATE),
        AudioClip("short", np.ones(3, np.float32), RATE),
    ]
    for transcription in unidirectional.predict(inputs):
        assert transcription.text == normalize_text(transcription.text)
        assert all(
            np.isfinite([character.start, character.end, character.confidence]).all()
            for character in transcription.characters
        )


# ---- the job ---------------------------------------------------------------------------------------------------------


def test_images_and_strokes_are_fitted_saved_and_plotted(tmp_path: Path):
    texts = ["ab", "ba", "cab", "abc", "c a", "ac"] * 3
    images = [line(text) for text in texts]
    pens = [np.array([[3, 2 * ("abc ".index(c) + 1) * (-1) ** i, i % 2] for i in range(8) for c in t]) for t in texts]
    stroke_options = {**TINY, "input_type": "strokes"}
    for inputs, options, unit in ((images, IMAGES, "pixel"), (pens, stroke_options, "point")):
        job = Transcriber(**options).fit((inputs, texts), run=tmp_path / unit)
        assert (tmp_path / unit / "report.html").exists()
        loaded = load(tmp_path / unit)
        assert loaded.predict(inputs[:4]) == job.predict(inputs[:4])
        assert job.predict(inputs[:1])[0].unit == unit
        assert job.plot(inputs, job.predict(inputs)).axes
        with pytest.raises(DataError, match=f"but this model reads {'images' if unit == 'pixel' else 'strokes'}"):
            loaded.predict([(np.zeros(500), 8000)])


def test_a_text_too_long_for_its_input_is_named_before_training(tmp_path: Path):
    short = (np.zeros((8, 2)), "aaa")
    good = [(np.random.default_rng(i).standard_normal((40, 2)), "ab") for i in range(9)]
    inputs, texts = zip(*[*good, short], strict=True)
    with pytest.raises(DataError, match="has 2 steps after the convolutions, its text of 3 characters needs 5"):
        Transcriber(**TINY, valid_fraction=0.0, test_fraction=0.0).fit((inputs, texts), run=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_unknown_characters_count_as_errors(unidirectional: Transcriber):
    evaluation = unidirectional.evaluate(([tone("ab"), tone("b")], ["aß€", "b"]))
    assert any("that are not in the training data" in note and "2 (ß, €)" in note for note in evaluation.notes)
    assert evaluation.table["model"].tolist() == ["LSTM", "most frequent text", "empty text"]
    assert evaluation.table["CER"].tolist()[-1] == 100
    with pytest.raises(DataError, match="every text is empty"):
        unidirectional.evaluate(([tone("ab")], [" "]))


@pytest.mark.filterwarnings("ignore:low confidence in example 1")
def test_a_language_model_decides_ambiguous_characters(tmp_path: Path):
    """In the texts b follows a, never c; the features favor c slightly. The model comes from a run or an object."""
    lines = ["ab", "abab"] * 40
    language = LanguageModel(
        tokenization="chars", hidden_size=8, num_layers=1, epochs=12, batch_size=2, bptt_steps=5, lr=0.03, dropout=0,
        input_dropout=0, word_dropout=0,
    ).fit(lines, run=tmp_path / "lm")  # fmt: skip
    rng = np.random.default_rng(0)
    texts = ["ab", "ac", "ab ", "ac"] * 8
    features = [np.repeat(np.eye(4)[["abc ".index(c) for c in text]], 6, 0) for text in texts]
    inputs = [feature + 0.3 * rng.standard_normal(feature.shape) for feature in features]
    options = {"strides": (2,), "epochs": 25, "steps_per_epoch": 0, "spec_augment_masks": 0, "lr": 0.03}
    job = Transcriber(**{**TINY, **options}).fit((inputs, texts))
    ambiguous = np.concatenate([np.eye(4)[[0] * 6], np.tile([0.0, 0.45, 0.55, 0.0], (6, 1))])
    strong = {"beam_size": 8, "lm": language, "lm_weight": 3.0}
    assert job.predict([ambiguous], **strong)[0].text.startswith("ab")
    from_run = {**strong, "lm": str(tmp_path / "lm")}
    assert job.predict([ambiguous], **from_run)[0].text == job.predict([ambiguous], **strong)[0].text
    with pytest.raises(SettingError, match="a language model needs a beam search"):
        job.predict([ambiguous], lm=language)
    with pytest.raises(SettingError, match="is not a language model"):
        job.predict([ambiguous], beam_size=2, lm=job)
    words = LanguageModel(hidden_size=4, num_layers=1, epochs=1, batch_size=2, bptt_steps=5).fit(["a b c"] * 40)
    with pytest.raises(SettingError, match="fit one with tokenization=chars"):
        job.predict([ambiguous], beam_size=2, lm=words)


def test_fine_tuning_starts_from_the_earlier_weights(sounds: tuple[list[AudioClip], list[str]], tmp_path: Path):
    """Only weights of new characters are new; other shapes or kinds are refused; no earlier run is needed later."""
    first = Transcriber(**AUDIO).fit(sounds, run=tmp_path / "first")
    start = {**AUDIO, "init_from": str(tmp_path / "first")}
    more = (sounds[0], [text.replace("c", "ç") for text in sounds[1]])
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    second = Transcriber(**{**start, "lr": 0.0}).fit(more)
    assert torch.equal(torch.rand(1), expected)
    assert second.predictor.alphabet == first.predictor.alphabet + "ç"
    before = dict(first.model.state_dict())
    for name, weight in second.model.state_dict().items():
        torch.testing.assert_close(weight[: len(before[name])], before[name])
    saved = second.save(tmp_path / "second")
    (tmp_path / "first").rename(tmp_path / "gone")
    assert load(saved).predict(sounds[0][:2]) == second.predict(sounds[0][:2])
    gone = {**start, "init_from": str(tmp_path / "gone")}
    with pytest.raises(SettingError, match="has another shape"):
        Transcriber(**{**gone, "hidden_size": 7}).fit(more)
    with pytest.raises(SettingError, match="was fitted with mean_normalization=False: give the same"):
        Transcriber(**{**gone, "mean_normalization": True}).fit(more)
    with pytest.raises(SettingError, match="is not a transcriber of images"):
        Transcriber(**{**IMAGES, "init_from": gone["init_from"]}).fit(([line("ab")] * 20, ["ab"] * 20))
    with pytest.raises(UserError):
        Transcriber(**start).fit(more)
