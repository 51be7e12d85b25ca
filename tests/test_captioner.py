"""Captioning: reading, training, beam search, video segments, metrics and the report."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sacrebleu.metrics.bleu import BLEU

from lstmkit import Captioner, load
from lstmkit.data.captioned_media import CaptionColumns, CaptionedMedia, read_captioned_media
from lstmkit.data.media_files import MediaItem, MediaItems, video_type
from lstmkit.data.text.captions import Caption, subtitles
from lstmkit.data.vision.video_io import ClipFormat, TimedFrame, read_video, write_video
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs.captioner import report
from lstmkit.jobs.captioner import video_segments as segments
from lstmkit.jobs.captioner.baselines import NearestCaption, most_frequent_caption
from lstmkit.jobs.captioner.metrics import scores
from lstmkit.jobs.captioner.plots import caption_attention_figure, captions_figure
from lstmkit.jobs.captioner.visual_input import VisualInput
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.layers.rnn import LSTM
from lstmkit.look.traces import trace_layers
from lstmkit.progress import Progress
from lstmkit.recipes import captioner as recipe
from lstmkit.recipes._moving_mnist import is_held_out_combination

CLIP_FORMAT = ClipFormat(16, 16, frame_rate=0.0)
COLUMNS = CaptionColumns(clip_format=CLIP_FORMAT)
COLORS = {"red": 0, "green": 1, "blue": 2}


def square(color: str, side: str, top: int) -> np.ndarray:
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    left = 1 if side == "left" else 10
    image[top : top + 5, left : left + 5, COLORS[color]] = 255
    return image


def squares(n: int = 90, seed: int = 0) -> tuple[list[np.ndarray], list[str]]:
    rng = np.random.default_rng(seed)
    attributes = [(str(rng.choice(list(COLORS))), str(rng.choice(["left", "right"]))) for _ in range(n)]
    images = [square(color, side, int(rng.integers(0, 11))) for color, side in attributes]
    return images, [f"a {color} square on the {side}" for color, side in attributes]


def moving(direction: str, top: int, frames: int = 8) -> np.ndarray:
    clip = np.zeros((frames, 16, 16), dtype=np.uint8)
    for t, frame in enumerate(clip):
        left = round(12 * t / (frames - 1))
        left = left if direction == "right" else 12 - left
        frame[top : top + 4, left : left + 4] = 255
    return clip


def png(image: np.ndarray, mode: str = "") -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(image)
    (picture.convert(mode) if mode else picture).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def image_captioner() -> Captioner:
    job = Captioner(
        height=16,
        width=16,
        conv_channels=8,
        conv_stages=2,
        hidden_size=32,
        feature_size=32,
        epochs=25,
        lr=0.01,
        batch_size=15,
        max_translation=0.0,
        dropout=0.0,
        input_dropout=0.0,
        min_count=2,
    )
    return job.fit(squares())


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    rows = ["image,caption"]
    for i in range(48):
        direction = ("left", "right")[i % 2]
        write_video(moving(direction, i % 12), folder / f"{i}.mp4")
        rows.append(f"{i}.mp4,a box goes {direction}")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def video_captioner(videos: Path) -> Captioner:
    job = Captioner(
        height=16,
        width=16,
        color=False,
        frame_rate=0.0,
        conv_channels=8,
        conv_stages=2,
        hidden_size=16,
        feature_size=16,
        epochs=40,
        lr=0.003,
        batch_size=6,
        max_translation=0.1,
        dropout=0.0,
        input_dropout=0.0,
    )
    return job.fit(videos)


# ---- reading -------------------------------------------------------------------------------------------------------


def _files(folder: Path, images: list[np.ndarray]) -> list[str]:
    names = [f"p{i}.png" for i in range(len(images))]
    for name, image in zip(names, images, strict=True):
        (folder / name).write_bytes(png(image))
    return names


def test_all_input_formats_give_the_same_captions(tmp_path: Path):
    images = [square("red", "left", 1), square("blue", "right", 6)]
    names = _files(tmp_path, images)
    rows = [(names[0], "a red square"), (names[0], "it is red"), (names[1], "a blue square")]
    expected = [("a red square", "it is red"), ("a blue square",)]
    csv_rows = "".join(f"{name},{text}\n" for name, text in rows)
    archive, images_only = tmp_path / "both.zip", tmp_path / "pictures.zip"
    for path, table in ((archive, "image,caption\n" + csv_rows), (images_only, "")):
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.write(tmp_path / name, name)
            if table:
                file.writestr("captions.csv", table)
    captions_folder = tmp_path / "apart"
    captions_folder.mkdir()
    numbered = "".join(f"{name}\t{i}\t{text}\n" for i, (name, text) in enumerate(rows))
    (captions_folder / "a.tsv.gz").write_bytes(gzip.compress(numbered.encode()))
    (captions_folder / "b.txt").write_text("".join(f"{name}#{i}\t{text}\n" for i, (name, text) in enumerate(rows)))
    (captions_folder / "c.csv").write_text("image,caption\n" + csv_rows)
    frame = pd.DataFrame([{"image": str(tmp_path / name), "caption": text} for name, text in rows])
    inputs: list[Any] = [
        *(f"{tmp_path},{captions_folder / name}" for name in ("a.tsv.gz", "b.txt", "c.csv")),
        f"{images_only},{captions_folder / 'a.tsv.gz'}",
        archive,
        frame,
        ([tmp_path / name for name in names], [list(captions) for captions in expected]),
        (images, [list(captions) for captions in expected]),
        ([image / 255 for image in images], expected),
    ]
    (tmp_path / "captions.csv").write_text("image,caption\n" + csv_rows)
    inputs += [tmp_path, tmp_path / "captions.csv"]
    for data in inputs:
        media = read_captioned_media(data, COLUMNS)
        assert media.texts == expected, data
        assert media.kind == "images"
        np.testing.assert_array_equal(np.stack(media.inputs), np.stack(images))


def test_images_without_captions(tmp_path: Path):
    names = _files(tmp_path, [square("red", "left", 1), square("blue", "right", 6)])
    assert read_captioned_media(tmp_path, COLUMNS).texts == [(), ()]
    assert read_captioned_media(tmp_path / names[0], COLUMNS).ids == [names[0]]
    with pytest.raises(DataError, match="has no captions"):
        Captioner().fit(tmp_path)
    media = read_captioned_media(([np.zeros((16, 16, 3))] * 3, ["a", "", ["b", " "]]), COLUMNS).with_captions()
    assert media.texts == [("a",), ("b",)]
    assert media.notes == ("1 of the data have no caption and are dropped",)


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_missing_files_are_named(tmp_path: Path, suffix: str):
    _files(tmp_path, [square("red", "left", 1)])
    (tmp_path / "t.csv").write_text("image,caption\np0.png,a\np7.png,b\np8.png,c\np7.png,d\n")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.write(tmp_path / "p0.png", "p0.png")
    where = tmp_path / "x.zip" if suffix else tmp_path
    with pytest.raises(DataError, match=r"names 2 files that are not in .*p7\.png.*p8\.png"):
        read_captioned_media(f"{where},{tmp_path / 't.csv'}", COLUMNS)


def test_bad_input(tmp_path: Path):
    (tmp_path / "no.png").write_bytes(b"no picture")
    cases: list[tuple[Any, str]] = [
        (tmp_path / "no.png", r"no\.png is not a readable image"),
        (([np.zeros((16, 16, 3))], ["a", "b"]), "1 inputs and 2 captions"),
        ([np.zeros((16, 16, 3)), np.zeros((4, 16, 16))], "several types"),
        ([np.full((3, 2), np.nan)], "or a NaN"),
        ([["a"]], "not an array of numbers"),
        (7, "give a path, a frame"),
        (pd.DataFrame({"file": ["a.png"]}), "no column 'image'"),
    ]
    for data, message in cases:
        with pytest.raises(DataError, match=message):
            read_captioned_media(data, COLUMNS)


def test_alpha_channel_and_16_bit_images(tmp_path: Path):
    transparent = np.zeros((16, 16, 4), dtype=np.uint8)
    Image.fromarray(transparent).save(tmp_path / "alpha.png")
    Image.fromarray(np.full((16, 16), 128 * 256, dtype=np.uint16)).save(tmp_path / "deep.png")
    white, gray = (read_captioned_media(tmp_path / name, COLUMNS).inputs[0] for name in ("alpha.png", "deep.png"))
    assert (white == 255).all()
    assert (gray == 128).all()


@pytest.mark.parametrize(
    ("shape", "kind", "expected"),
    [
        ((20, 12, 3), "images", (16, 16, 3)),
        ((20, 12, 1), "images", (16, 16, 3)),
        ((5, 20, 12), "clips", (5, 16, 16, 3)),
        ((5, 20, 12, 3), "clips", (5, 16, 16, 3)),
        ((5, 7), "features", (5, 7)),
    ],
)
def test_kind_of_data_follows_from_the_array_shape(shape: tuple[int, ...], kind: str, expected: tuple[int, ...]):
    media = read_captioned_media(([np.ones(shape)] * 2, ["a", "b"]), COLUMNS)
    assert media.kind == kind
    assert [getattr(item, "frames", item).shape for item in media.inputs] == [expected] * 2


def test_image_without_a_caption_is_dropped_with_a_note():
    images, sentences = squares(20)
    job = Captioner(height=16, width=16)
    parts = job.split(job.read((images, ["", *sentences[1:]])), None)
    assert sum(len(part) for part in (parts.train, parts.valid, parts.test) if part is not None) == 19
    assert parts.train.notes == ("1 of the data have no caption and are dropped",)


# ---- training and generation ---------------------------------------------------------------------------------------


def test_it_learns_to_caption_images(image_captioner: Captioner, tmp_path: Path):
    images, sentences = squares(30, seed=1)
    predictions = image_captioner.predict(images)
    correct = [prediction.text == expected for prediction, expected in zip(predictions, sentences, strict=True)]
    assert np.mean(correct) >= 0.9
    assert predictions[0].attention.shape == (6, 4, 4)
    np.testing.assert_allclose(predictions[0].attention.sum(axis=(1, 2)), 1, atol=1e-4)
    assert " ".join(predictions[0].tokens) == predictions[0].text
    loaded = load(image_captioner.save(tmp_path / "model"))
    assert [prediction.text for prediction in loaded.predict(images)] == [prediction.text for prediction in predictions]
    assert loaded.evaluate((images, sentences)).table["model"].tolist() == ["LSTM", "most frequent caption"]


def test_greedy_search_mostly_equals_beam_search(image_captioner: Captioner):
    images, _ = squares(30, seed=3)
    pairs = zip(image_captioner.predict(images, beam_size=1), image_captioner.predict(images, beam_size=3), strict=True)
    assert np.mean([greedy.text == beam.text for greedy, beam in pairs]) >= 0.9


@pytest.mark.parametrize("tokenization", ["words", "whitespace", "chars", "bpe"])
def test_unknown_tokens_are_never_generated(tokenization: str):
    """No unknown token is generated, even if nearly all training words are out of vocabulary."""
    images, _ = squares(40)
    job = Captioner(
        tokenization=tokenization,
        min_count=5,
        vocab_size=300 if tokenization == "bpe" else 0,
        height=16,
        width=16,
        hidden_size=8,
        conv_channels=4,
        conv_stages=2,
        epochs=2,
        max_tokens=9,
    )
    job.fit((images, [f"a x{i} y{i} z{i}" for i in range(40)]))
    (prediction,) = job.predict(images[:1], beam_size=4, n_best=4)
    assert not any("<" in token for token in prediction.tokens)
    assert not any("<" in text for text, _ in prediction.n_best)
    (example_sequence,) = job.example_sequences(images[:1])
    assert example_sequence.labels is not None
    assert (
        len(example_sequence.labels)
        == example_sequence.inputs[0].shape[1]
        == len(job.predict(images[:1])[0].tokens) + 1
    )


def test_n_best_captions_are_sorted_by_score(image_captioner: Captioner):
    noise = list(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8))
    for prediction in image_captioner.predict(noise, beam_size=4, n_best=4):
        assert [score for _, score in prediction.n_best] == sorted(
            (score for _, score in prediction.n_best), reverse=True
        )
        assert not any("<" in text for text, _ in prediction.n_best)
        assert prediction.n_best[0] == (prediction.text, prediction.score)
    with pytest.raises(SettingError, match="n_best must be from 1 to beam_size"):
        image_captioner.predict(noise, beam_size=1, n_best=2)


def test_evaluation_table_and_report(image_captioner: Captioner):
    evaluation = image_captioner.evaluate(squares(20, seed=2))
    names, squares_read = evaluation.table["model"].tolist(), image_captioner.read(squares())
    assert names == ["LSTM", "nearest-neighbor caption", "most frequent caption"]
    assert evaluation.table["BLEU-4 on training data"].notna().tolist() == [True, False, False]
    assert evaluation.table["exact match"].iloc[0] >= 0.9
    titles = [section.title for section in report.sections(image_captioner.predictor, None, squares_read)]
    assert titles[0] == "Example captions"
    assert sum(title.startswith("Attention: ") for title in titles) == 3
    sections = report.sections(image_captioner.predictor, evaluation, squares_read)
    assert [section.title for section in sections[:2]] == ["Results", "Example captions"]
    assert "of the given data" in sections[1].text


def test_precomputed_features():
    images, sentences = squares()
    cells = [image.reshape(4, 4, 4, 4, 3).mean(axis=(1, 3)).reshape(16, 3) / 255 for image in images]
    positions = np.eye(16)
    features = [np.concatenate([means, positions], axis=1) for means in cells]
    job = Captioner(hidden_size=32, feature_size=32, epochs=25, lr=0.01, batch_size=15, dropout=0, input_dropout=0)
    predictions = job.fit((features, sentences)).predict(features[:9])
    correct = [prediction.text == expected for prediction, expected in zip(predictions, sentences, strict=False)]
    assert np.mean(correct) >= 0.8
    assert predictions[0].attention.shape == (6, 16)
    with pytest.raises(DataError, match="these are images, but this model reads feature arrays"):
        job.predict(images[:1])
    with pytest.raises(DataError, match=r"input 1 has the shape \(4, 3\)"):
        job.predict([np.zeros((4, 3))])


def test_padding_does_not_change_captions_of_features():
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(int(rng.integers(1, 9)), 5)) for _ in range(40)]
    job = Captioner(hidden_size=8, feature_size=8, epochs=2).fit((features, ["up", "down"] * 20))
    for sequence, batched in zip(features, job.predict(features), strict=True):
        (alone,) = job.predict([sequence])
        assert batched.attention.shape[1:] == (len(sequence),)
        assert (batched.text, batched.score) == (alone.text, pytest.approx(alone.score, abs=1e-4))
        np.testing.assert_allclose(batched.attention, alone.attention, atol=1e-4)


@given(st.integers(16, 50), st.integers(16, 50), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_grid_shape_matches_the_encoder(height: int, width: int, stages: int):
    visual_input = VisualInput("images", ClipFormat(height, width), stages, 0, (0.0,) * 3, (1.0,) * 3)
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    encoder = visual_input.build(2, 3, lambda size: LSTM(size, 2, batch_first=True), 0.0, False)
    cells, lengths = encoder(torch.from_numpy(pixels[None]), None)
    assert lengths is None
    assert cells.shape == (1, np.prod(visual_input.grid_shape(pixels)), 3)


def test_teacher_forcing_matches_single_steps(image_captioner: Captioner):
    """Teacher forcing in one call gives the logits of one step after another."""
    network = image_captioner.network.eval()
    images = torch.from_numpy(np.stack(squares(3)[0]))
    ids = torch.tensor([[1, 4, 5, 6], [1, 5, 4, 4], [1, 6, 6, 6]])
    with torch.no_grad():
        keys, initial_state = network(images)
        assert keys.shape[1] == 16
        whole, _ = network(ids, initial_state)
        state = initial_state
        for t in range(4):
            logits, state = network.step(ids[:, t], state)
            torch.testing.assert_close(logits, whole[:, t])


def test_attention_covers_a_wide_image(image_captioner: Captioner):
    """The attention covers all cells of an image wider than high; the image height is not a sequence length."""
    job = Captioner(height=16, width=64, conv_channels=4, conv_stages=1, hidden_size=8, feature_size=8, epochs=1)
    job.fit((np.zeros((20, 16, 64, 3), np.uint8), ["a"] * 20))
    (prediction,) = job.predict(np.zeros((1, 16, 64, 3), np.uint8))
    assert prediction.attention.shape[1:] == (8, 32)
    assert (prediction.attention > 0).all()


# ---- clips ---------------------------------------------------------------------------------------------------------


def test_it_learns_to_caption_videos(video_captioner: Captioner, videos: Path, tmp_path: Path):
    directions = ["left", "right"] * 4
    predictions = video_captioner.predict([moving(direction, top) for top, direction in enumerate(directions)])
    assert [prediction.text for prediction in predictions] == [f"a box goes {direction}" for direction in directions]
    (prediction,) = video_captioner.predict(videos / "3.mp4")
    assert (prediction.start, prediction.end) == (0, pytest.approx(0.8))
    assert prediction.attention.shape == (4, 8, 4, 4)
    assert video_captioner.to_text([prediction]) == "a box goes right"
    video_captioner.write([prediction], tmp_path / "a.vtt")
    assert (tmp_path / "a.vtt").read_text() == "WEBVTT\n\n1\n00:00:00.000 --> 00:00:00.800\na box goes right\n"


def test_padding_does_not_change_the_caption_of_a_clip(video_captioner: Captioner):
    short, long = moving("left", 3, 5), moving("right", 4, 12)
    alone = video_captioner.predict([short])[0]
    batched = video_captioner.predict([short, long])[0]
    assert batched.text == alone.text
    assert batched.score == pytest.approx(alone.score, abs=1e-4)
    np.testing.assert_allclose(batched.attention, alone.attention, atol=1e-4)


@given(
    st.lists(st.floats(0.01, 3), min_size=1, max_size=40),
    st.floats(0.05, 5),
)
@settings(max_examples=60, deadline=None)
def test_video_segments_partition_the_frames(gaps: list[float], seconds: float):
    """Video segments contain each frame once, in order, and are not longer than requested, for any frame times."""
    times = np.cumsum([0.0, *gaps])
    frames = [TimedFrame(float(t), np.full((2, 2, 1), i, dtype=np.uint8), (2, 2)) for i, t in enumerate(times)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "iter_frames", lambda *_: iter(frames))
        item = MediaItem("a", Path("a.mp4"), None, video_type(CLIP_FORMAT))
        parts = list(segments.video_segments(MediaItems("a", lambda: iter([item])), CLIP_FORMAT, seconds))
    shown = np.concatenate([part.clip.frames[:, 0, 0, 0] for part in parts])
    assert shown.tolist() == list(range(len(times)))
    for part in parts:
        assert part.start == times[part.clip.frames[0, 0, 0, 0]]
        assert part.clip.times[-1] < seconds + 1e-5
    assert len({int((part.start + 1e-6) / seconds) for part in parts}) == len(parts)


def test_segment_times_start_at_zero_in_each_video(video_captioner: Captioner, tmp_path: Path):
    for name, directions in (("a", ["left", "right"]), ("b", ["right"])):
        write_video(np.concatenate([moving(direction, 4) for direction in directions]), tmp_path / f"{name}.mp4")
    predictions = video_captioner.predict(tmp_path, segment_seconds=0.4)
    assert [(prediction.name, round(prediction.start, 3), round(prediction.end, 3)) for prediction in predictions] == [
        *(("a.mp4", round(0.4 * i, 3), round(0.4 * i + 0.4, 3)) for i in range(4)),
        *(("b.mp4", round(0.4 * i, 3), round(0.4 * i + 0.4, 3)) for i in range(2)),
    ]
    assert video_captioner.to_text(predictions).splitlines()[5].startswith("b.mp4\t0.4–0.8 s\ta box ")
    with pytest.raises(DataError, match="these are of 2 inputs"):
        video_captioner.write(predictions, tmp_path / "a.srt")
    (tmp_path / "c.mp4").write_bytes(b"no video")
    parts = video_captioner.caption_segments(tmp_path / "c.mp4", 0.4)  # lazy: nothing is read yet
    with pytest.raises(DataError, match=r"c\.mp4 is not a readable video"):
        next(parts)


def test_settings_of_another_kind_of_data_are_refused():
    """A setting that does not apply to the kind of data is an error that names its option."""
    images, sentences = squares(12)
    features, clips = [np.ones((2, 3))] * 12, [moving("left", 1)] * 12
    cases: list[tuple[dict[str, Any], Any, str]] = [
        ({"frame_rate": 2.0}, images, "frame_rate is a setting for video, but the data are images: leave it out"),
        ({"height": 32}, features, "height is a setting for image, but the data are feature arrays: leave it out"),
        ({"horizontal_flip": True}, clips, "horizontal_flip is a setting for images, but the data are clips"),
    ]
    for options, inputs, message in cases:
        with pytest.raises(SettingError, match=message):
            Captioner(**options).fit((inputs, sentences))


def test_loaded_model_gives_the_same_captions_of_clips(video_captioner: Captioner, videos: Path, tmp_path: Path):
    loaded = load(video_captioner.save(tmp_path / "model"))
    assert [(prediction.text, prediction.score) for prediction in loaded.predict(videos)] == [
        (prediction.text, pytest.approx(prediction.score, abs=1e-5)) for prediction in video_captioner.predict(videos)
    ]


def test_records_are_json(image_captioner: Captioner, video_captioner: Captioner):
    predictions = image_captioner.predict(squares(2)[0], beam_size=3, n_best=2)
    first, second = json.loads(json.dumps(image_captioner.to_records(predictions)))
    assert set(first) == {"name", "caption", "score", "n_best", "tokens", "attention"}
    assert [hypothesis["caption"] for hypothesis in second["n_best"]] == [text for text, _ in predictions[1].n_best]
    assert np.shape(first["attention"]) == (len(first["tokens"]), 4, 4)
    assert (
        image_captioner.to_text(predictions)
        == "".join(f"{i}\t{prediction.text}\n" for i, prediction in enumerate(predictions, 1)).rstrip()
    )
    (clip,) = video_captioner.to_records(video_captioner.predict([moving("left", 1)]))
    assert (clip["start"], clip["end"]) == (0, 0.8)
    assert np.shape(clip["attention"]) == (len(clip["tokens"]), 8, 4, 4)


def test_video_is_captioned_by_segments(video_captioner: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    directions = ["left", "right", "right", "left", "right"]
    write_video(np.concatenate([moving(direction, 4) for direction in directions]), tmp_path / "film.mp4")
    predictions = video_captioner.predict(tmp_path / "film.mp4", segment_seconds=0.8)
    assert [prediction.text for prediction in predictions] == [f"a box goes {direction}" for direction in directions]
    assert [(prediction.start, prediction.end) for prediction in predictions] == [
        (pytest.approx(0.8 * i), pytest.approx(0.8 * i + 0.8)) for i in range(5)
    ]
    video_captioner.write(predictions, tmp_path / "film.srt")
    cues = re.findall(r"(\d+)\n00:00:0(\S+) --> 00:00:0(\S+)\n(.*)\n", (tmp_path / "film.srt").read_text())
    assert [(cue[0], cue[3]) for cue in cues] == [
        (str(i), prediction.text) for i, prediction in enumerate(predictions, 1)
    ]
    assert video_captioner.to_text(predictions).splitlines()[1] == "0.8–1.6 s\ta box goes right"
    decoded = 0
    iter_frames = segments.iter_frames

    def counting_frames(*args: Any) -> Any:
        nonlocal decoded
        for frame in iter_frames(*args):
            decoded += 1
            yield frame

    monkeypatch.setattr(segments, "iter_frames", counting_frames)
    monkeypatch.setattr(video_captioner.predictor.settings, "batch_size", 1)
    next(video_captioner.caption_segments(tmp_path / "film.mp4", 0.8))
    assert decoded == 9  # the segment and the next frame


def test_segments_and_subtitles_need_video_files(
    image_captioner: Captioner, video_captioner: Captioner, tmp_path: Path
):
    with pytest.raises(SettingError, match="this model reads images"):
        image_captioner.predict([square("red", "left", 0)], segment_seconds=1.0)
    with pytest.raises(SettingError, match="segment_seconds must be above 0"):
        video_captioner.predict([moving("left", 0)], segment_seconds=-1.0)
    with pytest.raises(DataError, match="segment_seconds needs video files"):
        video_captioner.predict([moving("left", 0)], segment_seconds=1.0)
    with pytest.raises(DataError, match="subtitles need the captions of one video"):
        video_captioner.write(video_captioner.predict([moving("left", 0), moving("right", 1)]), tmp_path / "a.srt")


@given(st.floats(0, 100_000, allow_nan=False))
def test_subtitle_timestamps(seconds: float):
    caption = Caption("a", "b", 0.0, (), np.zeros(0), (), seconds, seconds + 1)
    hours, minutes, rest = subtitles([caption], ".vtt").split("\n")[3].split(" --> ")[0].split(":")
    assert int(minutes) < 60
    assert 3600 * int(hours) + 60 * int(minutes) + float(rest) == pytest.approx(seconds, abs=6e-4)


# ---- metrics -------------------------------------------------------------------------------------------------------


def test_bleu_matches_sacrebleu():
    predictions = ["a dog runs on the grass", "two men stand there"]
    references = [["a dog runs on grass", "the dog runs on the green grass"], ["two men are standing there"]]
    streams = [["a dog runs on grass", "two men are standing there"], ["the dog runs on the green grass", None]]
    metrics = scores(predictions, references)
    assert set(metrics) == {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"}
    for order in (1, 2, 3, 4):
        expected = BLEU(lowercase=True, max_ngram_order=order).corpus_score(predictions, streams)  # type: ignore[arg-type]
        assert metrics[f"BLEU-{order}"] == round(expected.score, 2)
    assert scores(["A b", "c"], [["a B"], ["d"]])["exact match"] == 0.5


@given(st.lists(st.lists(st.sampled_from(["a b c d", "a b", "d c", "b a d c b"]), min_size=1, max_size=3), min_size=1))
@settings(max_examples=25, deadline=None)
def test_metrics_of_reference_captions_are_perfect(references: list[list[str]]):
    """A caption equal to one of its references has BLEU-1 of 100; exact match needs a single reference."""
    metrics = scores([captions[-1] for captions in references], references)
    assert metrics["BLEU-1"] == 100
    assert metrics.get("exact match") == (1 if all(len(captions) == 1 for captions in references) else None)


def test_most_frequent_caption_breaks_ties_by_word_frequency():
    assert most_frequent_caption(read_captioned_media(([np.ones((2, 2))] * 3, ["x y", "A dog", "a cat"]), COLUMNS)) in (
        "A dog",
        "a cat",
    )


def test_baselines():
    images = [square(color, side, top) for color in COLORS for side in ("left", "right") for top in (0, 10)]
    train = read_captioned_media((images, [["one", "two"]] * 3 + [["a b"]] * 5 + [["c"]] * 4), COLUMNS)
    assert most_frequent_caption(train) == "a b"
    nearest = NearestCaption(train)
    assert nearest(train.inputs) == [texts[0] for texts in train.texts]
    clips = CaptionedMedia(
        [read_clip(direction) for direction in ("left", "right")], [("l",), ("r",)], ["1", "2"], "clips"
    )
    assert NearestCaption(clips)(clips.inputs) == ["l", "r"]


def read_clip(direction: str) -> Any:
    return read_captioned_media([moving(direction, 3)], COLUMNS).inputs[0]


# ---- inspection and figures ----------------------------------------------------------------------------------------


def test_decoder_trace_has_a_step_for_each_token(
    image_captioner: Captioner, video_captioner: Captioner, tmp_path: Path
):
    for job, data in ((image_captioner, [square("red", "left", 2)]), (video_captioner, [moving("left", 2)])):
        (example_sequence,) = job.example_sequences(data)
        (trace,) = trace_layers(job.network, example_sequence).values()
        assert example_sequence.labels is not None
        assert len(example_sequence.labels) == trace.steps
        job.plot(data, job.predict(data)).savefig(tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 2000


@pytest.mark.parametrize("shape", [(16, 24, 3), (16, 24, 1)])
def test_figures_of_images_and_clips(tmp_path: Path, shape: tuple[int, ...]):
    """Figures show captions literally: a dollar sign does not start a formula."""
    columns = CaptionColumns(clip_format=ClipFormat(*shape[:2], color=shape[2] == 3))
    rng = np.random.default_rng(0)
    tokens, weights = ["$x_1", "^{", "$", "a"], np.full((4, 2, 3), 1 / 6)
    clips = read_captioned_media([rng.random((frames, 8, 12)) for frames in (1, 2, 30, 9)], columns).inputs
    images = read_captioned_media(list(rng.random((4, 8, 12, 3))), columns).inputs
    figures = [
        captions_figure(clips, ["$ a_ $" * 40] * 4),
        captions_figure(images, [""] * 4),
        caption_attention_figure(images[0], tokens, weights, "$"),
        *(caption_attention_figure(clip, tokens, np.full((4, len(clip), 2, 3), 0.1), "$ a $") for clip in clips),
        caption_attention_figure(np.ones((6, 9), np.float32), tokens, weights.reshape(4, 6), "$"),
        caption_attention_figure(clips[1], ["a"] * 99, np.full((99, 2, 4, 4), 0.5), "a " * 99),
    ]
    for i, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{i}.png", dpi=40)
        assert (tmp_path / f"{i}.png").stat().st_size > 1000


# ---- recipes -------------------------------------------------------------------------------------------------------


def test_moving_mnist_protocol_holds_out_combinations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Held-out pairs of digit and direction occur in the 'new' split only, once or more in each clip."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mnist"
    folder.mkdir()
    monkeypatch.setenv("LSTMKIT_DATA", str(tmp_path))
    monkeypatch.setattr("lstmkit.data.catalog.locate", lambda data, name: folder / name)
    options: dict[str, Any] = {"valid_digits": 10, "alone": 0.5}
    for part in ("train", "test"):
        for kind, array in (
            ("images", rng.integers(0, 256, (30, 28, 28), dtype=np.uint8)),
            ("labels", np.arange(30, dtype=np.uint8) % 10),
        ):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{part}-{kind}").write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())
            options[f"{part}_{kind}"] = f"{part}-{kind}"
    options |= {f"{part}_clips": 12 for part in ("train", "valid", "test", "new")}
    job = Captioner(
        height=16, width=16, color=False, frame_rate=2.0, hidden_size=4, epochs=1, conv_channels=4, conv_stages=2
    )
    texts: dict[str, list[str]] = {}

    def fit(train: Path, valid: Path) -> None:
        job.fit(train, validation=valid)
        for part in train.parent.iterdir():
            texts[part.name] = pd.read_csv(part / "captions.csv")["caption"].tolist()

    table = recipe.sentences(job, fit, folder, options, Progress())  # type: ignore[arg-type]
    assert table["exact match, new pairs"].between(0, 1).all()

    def has_held_out_pair(text: str) -> bool:
        names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
        return any(
            is_held_out_combination(names.index(n), direction)
            for n, direction in re.findall(r"an? (\w+) goes (\w+)", text)
        )

    assert {part: {has_held_out_pair(text) for text in captions} for part, captions in texts.items()} == {
        "train": {False}, "valid": {False}, "test": {False}, "new": {True},
    }  # fmt: skip
    assert {text.count("goes") for text in texts["train"]} == {1, 2}


@pytest.mark.parametrize("protocol", ["photographs", "listed"])
def test_photograph_protocols_split_by_name_or_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str):
    images, sentences = squares(12)
    names = _files(tmp_path, images)
    (tmp_path / "captions.tsv").write_text(
        "".join(f"{name}\t0\t{text}\n" for name, text in zip(names, sentences, strict=True))
    )
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
        for name in names:
            file.write(tmp_path / name, name)
    parts = {"train": names[:8], "valid": names[8:10], "test": names[10:]}
    options: dict[str, Any] = {"pictures": "images.zip", "captions": "captions.tsv"}
    for part, part_names in parts.items():
        (tmp_path / f"{part}.txt").write_text("\n".join(part_names))
        options[part] = len(part_names) if protocol == "photographs" else f"{part}.txt"
    monkeypatch.setattr("lstmkit.data.catalog.locate", lambda data, name: tmp_path / name)
    job, splits = Captioner(height=16, width=16, hidden_size=4, epochs=1, conv_channels=4, conv_stages=2), []

    def fit(train: CaptionedMedia, valid: CaptionedMedia) -> None:
        splits.extend([train, valid])
        job.fit(train, validation=valid)

    def evaluate(self: Captioner, data: CaptionedMedia, **options: Any) -> Evaluation:
        splits.append(data)
        return original_evaluate(self, data, **options)

    original_evaluate = Captioner.evaluate
    monkeypatch.setattr(Captioner, "evaluate", evaluate)
    recipe.PROTOCOLS[protocol](job, fit, tmp_path, options, Progress())
    ordered = sorted(names) if protocol == "photographs" else names
    assert [list(part.ids) for part in splits] == [ordered[:8], ordered[8:10], ordered[10:]]


def test_clip_from_a_file_equals_clip_from_an_array(tmp_path: Path):
    write_video(moving("left", 4), tmp_path / "a.mp4")
    from_file = read_video(tmp_path / "a.mp4", CLIP_FORMAT)
    (from_array,) = read_captioned_media([moving("left", 4)], COLUMNS).inputs
    assert np.abs(from_file.frames.astype(int) - from_array.frames).mean() < 4
    np.testing.assert_allclose(from_file.times, from_array.times, atol=1e-6)


# ---- regressions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
def test_folder_name_is_not_a_caption(tmp_path: Path, zipped: bool):
    path = tmp_path / "some" / "cats" / "a.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(png(square("red", "left", 1)))
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as file:
        file.write(path, "cats/a.png")
    assert read_captioned_media(tmp_path / ("some.zip" if zipped else "some"), COLUMNS).texts == [()]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("c.csv", "id,image,caption\n1,p0.png,a\n2,p0.png,b\n3,p1.png,c\n"),
        ("c.tsv", "p0.png\t0\ta\np0.png\t1\tb\np1.png\t0\tc\n"),
        ("c.txt", "image,caption\np0.png,a\np0.png,b\np1.png,c\n"),
    ],
)
def test_table_in_a_zip(tmp_path: Path, name: str, table: str):
    names = _files(tmp_path, [square("red", "left", 1), square("blue", "right", 6)])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for file_name in names:
            file.write(tmp_path / file_name, file_name)
        file.writestr(name, table)
    media = read_captioned_media(tmp_path / "x.zip", COLUMNS)
    assert (media.ids, media.texts) == (names, [("a", "b"), ("c",)])


def test_table_in_a_zip_names_all_missing_files(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("c.csv", "image,caption\np7.png,a\np8.png,b\n")
    with pytest.raises(DataError, match=r"p7\.png.*p8\.png"):
        read_captioned_media(tmp_path / "x.zip", COLUMNS)


def test_license_file_is_ignored(tmp_path: Path):
    (name,) = _files(tmp_path, [square("red", "left", 1)])
    (tmp_path / "LICENSE.txt").write_text("all rights\nreserved\n")
    (tmp_path / "captions.csv").write_text(f"image,caption\n{name},a\n")
    assert read_captioned_media(tmp_path, COLUMNS).texts == [("a",)]


def test_captions_from_pandas_and_numpy():
    missing = pd.Series(["a", None], dtype="string")
    assert read_captioned_media(([np.ones((2, 2))] * 2, missing), COLUMNS).texts == [("a",), ()]
    assert read_captioned_media(([np.ones((2, 2))], [np.array(["a", "b"])]), COLUMNS).texts == [("a", "b")]


def test_invalid_paths_are_errors(tmp_path: Path):
    _files(tmp_path, [square("red", "left", 1), square("red", "left", 1)])
    with pytest.raises(DataError, match=r"input 1.* is not an image or video"):
        read_captioned_media([tmp_path], COLUMNS)
    (tmp_path / "c.csv").write_text("image,caption\n,a\n")
    with pytest.raises(DataError, match=r"row 1 .*is not a path"):
        read_captioned_media(tmp_path / "c.csv", COLUMNS)


def test_validation_data_need_the_kind_of_the_training_data():
    clips = ([moving("left", i) for i in range(9)], ["a"] * 9)
    with pytest.raises(DataError, match="these are clips, but the training data are images: validate on images"):
        Captioner(height=16, width=16, conv_channels=4, conv_stages=2, hidden_size=4, epochs=1).fit(
            squares(9), validation=clips
        )


def test_captions_have_at_most_max_tokens(image_captioner: Captioner, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_captioner.predictor.settings, "max_tokens", 3)
    assert {len(prediction.tokens) for prediction in image_captioner.predict(squares(9)[0])} == {3}


def test_figure_of_a_video_shows_the_captioned_segment(video_captioner: Captioner, tmp_path: Path):
    write_video(np.concatenate([moving("left", 4)] * 3), tmp_path / "film.mp4")
    figure = video_captioner.plot(
        tmp_path / "film.mp4", video_captioner.predict(tmp_path / "film.mp4", segment_seconds=0.8)
    )
    assert [axes.get_title() for axes in figure.axes[:5]] == ["0.0 s", "0.2 s", "0.4 s", "0.5 s", "0.7 s"]


def test_segments_of_a_slow_video(video_captioner: Captioner, tmp_path: Path):
    write_video(moving("left", 4), tmp_path / "slow.mp4", 1)
    predictions = video_captioner.predict(tmp_path / "slow.mp4", segment_seconds=1.0)
    assert [prediction.end for prediction in predictions[:-1]] == [prediction.start for prediction in predictions[1:]]
    with pytest.raises(SettingError, match="n_best must be"):
        next(video_captioner.caption_segments(tmp_path / "slow.mp4", 1.0, beam_size=1, n_best=2))
