"""Video clips: files read frame by frame, images, classification, and digits that move."""

from __future__ import annotations

import importlib
import io
import math
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

from lstmkit import cli
from lstmkit.data.audio.audio_io import AudioClip, encode_audio
from lstmkit.data.labeled_examples import Columns, LabeledExamples, read_labeled_examples
from lstmkit.data.vision.image_io import read_grayscale_image, read_image, resize_with_pad
from lstmkit.data.vision.video_io import ClipFormat, VideoClip, iter_frames, read_video, video_from_array, write_video
from lstmkit.errors import DataError, UserError
from lstmkit.frontends.video import VideoFrontEnd
from lstmkit.jobs import load
from lstmkit.jobs.classifier.job import Classifier
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.layers.rnn import LSTM
from lstmkit.modules import video_encoder as parts
from lstmkit.modules.image_encoder import ImageEncoder, ImageGridEncoder, PixelNormalizer, random_translation
from lstmkit.modules.video_encoder import VideoEncoder, VideoGridEncoder
from lstmkit.plots.video import video_attribution_figure
from lstmkit.progress import Progress
from lstmkit.recipes import _moving_mnist as digits
from lstmkit.recipes import classifier as protocols
from scored import run_protocol

av: Any = importlib.import_module("av")
pillow: Any = importlib.import_module("PIL.Image")

SMALL = ClipFormat(16, 16, color=False, frame_rate=0)
TINY: dict[str, Any] = {
    "height": 16, "width": 16, "color": False, "feature_size": 8, "hidden_size": 6, "epochs": 2, "batch_size": 8,
}  # fmt: skip


def square(direction: str, start: int = 4, steps: int = 8, side: int = 16) -> np.ndarray:
    """``(T, side, side)``: a bright square, 4 pixels of 16, that moves left or right."""
    frames, unit = np.full((steps, side, side), 20, dtype=np.uint8), side // 16
    for t, frame in enumerate(frames):
        left = unit * (t if direction == "right" else 12 - t)
        frame[unit * start : unit * (start + 4), left : left + 4 * unit] = 220
    return frames


def squares(n: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Clips of squares at random heights and of random lengths, which move left and right in turn."""
    rng = np.random.default_rng(seed)
    labels = [("left", "right")[i % 2] for i in range(n)]
    return [square(direction, int(rng.integers(0, 12)), int(rng.integers(6, 9))) for direction in labels], labels


def encoded(path: Path, codec: str, frames: np.ndarray, pixels: str = "yuv420p") -> Path:
    """Write ``(T, H, W)`` as a video file of ten frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], pixels
        for gray in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, "gray")))
        container.mux(stream.encode())
    return path


def noise(n: int) -> np.ndarray:
    """Frames that no codec can compress: half of the file is half of the frames."""
    return np.random.default_rng(0).integers(0, 255, (n, 64, 64)).astype(np.uint8)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_written_frames_are_read_back(tmp_path: Path):
    """All frames are read back, in gray and in color, with their times."""
    frames = square("right", side=64)
    write_video(frames, tmp_path / "a.mp4")
    clip = read_video(tmp_path / "a.mp4", ClipFormat(64, 64, color=False, frame_rate=0))
    assert (clip.name, clip.frames.shape, clip.frame_rate, clip.seconds) == (
        "a.mp4",
        (8, 64, 64, 1),
        10.0,
        pytest.approx(0.8),
    )
    assert np.abs(clip.frames[..., 0].astype(int) - frames).mean() < 3
    np.testing.assert_allclose(clip.times, np.arange(8) / 10)
    from_bytes = read_video((tmp_path / "a.mp4").read_bytes(), ClipFormat(64, 64, color=False, frame_rate=0))
    assert from_bytes.name == "the video"
    np.testing.assert_array_equal(from_bytes.frames, clip.frames)
    red_and_blue = np.zeros((3, 32, 32, 3), dtype=np.uint8)
    red_and_blue[:, :, :16, 0], red_and_blue[:, :, 16:, 2] = 250, 250
    write_video(red_and_blue, tmp_path / "b.mp4")
    clip = read_video(tmp_path / "b.mp4", ClipFormat(32, 32))
    np.testing.assert_allclose(clip.frames[:, 5, [2, 29]], red_and_blue[:, 5, [2, 29]], atol=6)
    assert read_video(tmp_path / "b.mp4", SMALL).frames.shape == (3, 16, 16, 1)
    write_video(frames[:1], tmp_path / "one.mp4")
    single = read_video(tmp_path / "one.mp4", ClipFormat())
    assert (len(single), single.frame_rate, single.seconds) == (1, 10, 0.1)


def test_the_frame_rate_is_reduced_evenly(tmp_path: Path):
    """Frames are chosen evenly over the clip; a clip with a lower rate is read whole."""
    write_video(np.zeros((20, 16, 16), np.uint8), tmp_path / "a.mp4")
    for rate in (1, 3, 4, 7, 10, 30):
        clip = read_video(tmp_path / "a.mp4", SMALL._replace(frame_rate=rate))
        expected = np.arange(min(20, math.floor(1.9 * rate) + 1)) / min(rate, 10)
        assert len(clip) == len(expected)
        assert ((clip.times - expected > -1e-6) & (clip.times - expected < 0.1)).all()


KINDS = [
    ("a.avi", "mpeg4"),
    ("a.webm", "libvpx"),
    ("a.mov", "libx264"),
    ("a.mkv", "mpeg4"),
    ("a.flv", "flv1"),
    ("a.gif", "gif"),
    ("b.avi", "libx264"),  # it has decoding times, not presentation times
]


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_every_container_and_codec(name: str, codec: str, tmp_path: Path):
    """The square has the right position at every time."""
    path = encoded(tmp_path / name, codec, square("right", side=64), "rgb8" if codec == "gif" else "yuv420p")
    for rate in (0, 10):
        clip = read_video(path, ClipFormat(64, 64, color=False, frame_rate=rate))
        np.testing.assert_allclose(clip.times, np.arange(8) / 10, atol=1e-3)
        np.testing.assert_allclose(_left_edges(clip), range(0, 32, 4), atol=2)


def _left_edges(clip: VideoClip) -> list[int]:
    """The left edge of the square in each frame."""
    return [int((frame[24, :, 0] > 120).argmax()) for frame in clip.frames]


def test_pauses_are_kept(tmp_path: Path):
    """Frames 0.01 s apart, then a pause: at ten frames per second, sampling restarts after the pause."""
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=100)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for tick in (*range(12), *range(100, 112)):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16), np.uint8), "gray")
            frame.pts, frame.time_base = tick, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    times = read_video(tmp_path / "a.mp4", SMALL._replace(frame_rate=10)).times
    np.testing.assert_allclose(times, (0, 0.1, 1.0, 1.1), atol=1e-6)


def test_frames_are_padded_with_black(tmp_path: Path):
    write_video(np.full((2, 32, 64), 200, np.uint8), tmp_path / "a.mp4")
    for shape, rows, columns in (
        (ClipFormat(48, 48, False), (12, 36), (0, 48)),
        (ClipFormat(16, 96), (0, 16), (32, 64)),
    ):
        lit = read_video(tmp_path / "a.mp4", shape).frames[0].max(axis=2) > 100
        expected = np.zeros_like(lit)
        expected[slice(*rows), slice(*columns)] = True
        np.testing.assert_array_equal(lit, expected)


def test_a_large_rotated_video(tmp_path: Path):
    """A rotated 4K video is read upright, and no frame is in memory at its full size."""
    frames = np.zeros((3, 2160, 3840), dtype=np.uint8)
    frames[:, :400, :400] = 255  # at the top left, which is at the top right after the rotation
    write_video(frames, tmp_path / "a.mp4")
    content = (tmp_path / "a.mp4").read_bytes()
    identity = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    rotation = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    at = content.index(identity, content.index(b"tkhd"))
    tracemalloc.start()
    clip = read_video(content[:at] + rotation + content[at + len(rotation) :], ClipFormat(64, 64, color=False))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # one gray frame has 8 MB
    assert clip.frames.shape == (3, 64, 64, 1)
    lit = np.argwhere(clip.frames[0, ..., 0] > 128)
    assert (lit.min(axis=0).tolist(), lit.max(axis=0).tolist()) == ([0, 43], [6, 49])  # in 36 columns, from 14 on


def test_frames_are_decoded_one_by_one(tmp_path: Path):
    """Frames before a truncation are returned before the error; a long video needs little memory."""
    content = encoded(tmp_path / "a.mkv", "mpeg4", noise(40)).read_bytes()
    frames = iter_frames(content[: len(content) // 2], SMALL, "half")
    assert isinstance(frames, Iterator)
    assert next(frames).time == 0
    with pytest.raises(DataError, match=r"half is truncated: it has 1\.\d of 4\.0 s: download it again"):
        list(frames)
    write_video(np.zeros((1000, 64, 64), np.uint8), tmp_path / "long.mp4")
    tracemalloc.start()
    assert sum(1 for _ in iter_frames(tmp_path / "long.mp4", ClipFormat(64, 64, frame_rate=0))) == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # all frames have 12 MB


def test_invalid_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each message names the file and says what to do."""
    write_video(noise(20), tmp_path / "whole.mp4")
    whole = (tmp_path / "whole.mp4").read_bytes()
    half = encoded(tmp_path / "a.mkv", "mpeg4", noise(40)).read_bytes()
    cases: list[tuple[Path | bytes, str]] = [
        (b"this is no video at all" * 20, "x is not a readable video (Invalid data found when processing input)"),
        (b"", "x is not a readable video"),
        (whole[: len(whole) // 2], "x is not a readable video"),
        (half[: len(half) // 2], "x is truncated"),
        (tmp_path / "gone.mp4", f"no such file: {tmp_path / 'gone.mp4'}"),
    ]
    for source, message in cases:
        with pytest.raises(UserError) as caught:
            read_video(source, SMALL, "x")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr("lstmkit.data.vision.video_io._MAX_FRAMES", 5)
    with pytest.raises(DataError, match="the video has more than 5 frames to read: split it into clips"):
        read_video(whole, SMALL)


def test_a_file_without_video_is_refused(tmp_path: Path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"^a\.mp4 has no video stream: give a video file$"):
        read_video(tmp_path / "a.mp4", SMALL)


def test_frames_that_cannot_be_written(tmp_path: Path):
    for frames in (np.zeros((3, 5, 4), np.uint8), np.zeros((3, 4, 5), np.uint8), []):
        with pytest.raises(DataError, match=r"o.mp4: give at least one frame with even height and width"):
            write_video(frames, tmp_path / "o.mp4")


def test_arrays_as_clips():
    """Integers to 255 or fractions, of any size, in gray or in color."""
    whole = np.arange(2 * 16 * 16).reshape(2, 16, 16) % 256
    clip = video_from_array(whole, SMALL, "x")
    np.testing.assert_array_equal(clip.frames[..., 0], whole)
    np.testing.assert_array_equal(video_from_array(whole / 255, SMALL, "x").frames, clip.frames)
    assert (clip.frame_rate, clip.seconds, len(clip)) == (10, 0.2, 2)
    assert video_from_array(np.ones((3, 40, 20, 3)), ClipFormat(16, 24), "x").frames.shape == (3, 16, 24, 3)
    for array, message in (
        (np.full((2, 8, 8), np.nan), "x: a pixel is NaN or out of range"),
        (np.full((2, 8, 8), 1.5), "x: a pixel is NaN or out of range"),
        (np.full((2, 8, 8), 256), "x: a pixel is NaN or out of range"),
        (np.full((2, 8, 8), -1), "x: a pixel is NaN or out of range"),
        (np.zeros((2, 8, 8, 2)), r"x has shape \(2, 8, 8, 2\): give a clip"),
        (np.zeros((0, 8, 8)), r"x has shape \(0, 8, 8\): give a clip"),
    ):
        with pytest.raises(DataError, match=message):
            video_from_array(array, SMALL, "x")


# ---- images ----------------------------------------------------------------------------------------------------------


def _encoded_image(image: Any, image_format: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, image_format, **options)
    return content.getvalue()


def test_every_image_mode():
    """Transparent pixels are white; 16 bits, palettes and CMYK become 8-bit RGB."""
    transparent = pillow.new("RGBA", (8, 8), (255, 0, 0, 255))
    transparent.paste((0, 0, 255, 0), (4, 0, 8, 8))
    sixteen_bit = (np.arange(64).reshape(8, 8) * 1000).astype(np.uint16)
    palette = pillow.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    cmyk = pillow.new("CMYK", (16, 16), (0, 255, 255, 0))
    red, white, green = [255, 0, 0], [255, 255, 255], [10, 200, 30]
    cases: list[tuple[bytes, list[list[int]]]] = [
        (_encoded_image(transparent), [red, white]),
        (_encoded_image(palette), [green, green]),
        (_encoded_image(palette, "GIF"), [green, green]),
        (_encoded_image(palette, transparency=1), [white, white]),
        (_encoded_image(cmyk, "JPEG"), [red, red]),
        (_encoded_image(cmyk, "TIFF"), [red, red]),
        (_encoded_image(pillow.fromarray(sixteen_bit)), [[0] * 3, [27] * 3]),
        (_encoded_image(pillow.new("L", (8, 8), 77)), [[77] * 3] * 2),
        (_encoded_image(pillow.new("1", (8, 8), 1)), [white, white]),
    ]
    for content, ends in cases:
        image = read_image(content, 8, 8)
        assert image.shape == (8, 8, 3)
        np.testing.assert_allclose(image[0, [0, 7]], ends, atol=1)
        assert read_image(content, 8, 8, color=False).shape == (8, 8, 1)
    with pytest.raises(DataError, match="x is not a readable image"):
        read_image(b"none", 8, 8, name="x")


def test_the_exif_orientation_is_applied():
    """An image that is bright at the top, with the flag of an upright telephone, is bright on the right."""
    original, flag = pillow.new("RGB", (32, 16)), pillow.Exif()
    original.paste((250, 250, 250), (0, 0, 32, 8))
    flag[0x112] = 6
    for content in (_encoded_image(original, exif=flag), _encoded_image(original, "JPEG", exif=flag, quality=95)):
        image = read_image(content, 32, 16, color=False)[..., 0] > 120
        assert not image[:, :7].any()
        assert image[:, 9:].all()
        full_size = read_grayscale_image(content) > 120
        assert full_size.shape == (32, 16)
        assert not full_size[:, :7].any()
        assert full_size[:, 9:].all()


@given(
    sides=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.sampled_from((1, 3)),
    color=st.booleans(),
)
@settings(deadline=None)
def test_images_of_any_size_are_resized_with_padding(
    sides: tuple[int, int], size: tuple[int, int], channels: int, color: bool
):
    """The image fills one side, keeps its proportions, and is centered."""
    resized = resize_with_pad(np.full((*sides, channels), 255, dtype=np.uint8), *size, color)
    assert resized.shape == (*size, 3 if color else 1)
    lit = resized.max(axis=2) == 255
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    assert lit.sum() == len(rows) * len(columns) == (resized.max(axis=2) > 0).sum()
    scale = min(size[0] / sides[0], size[1] / sides[1])
    for inside, side, whole in zip((rows, columns), sides, size, strict=True):
        assert abs(len(inside) - max(1, side * scale)) <= 0.5 + 1e-9
        assert abs(int(inside[0]) - (whole - 1 - int(inside[-1]))) <= 1
    assert len(rows) == size[0] or len(columns) == size[1]


# ---- the network -----------------------------------------------------------------------------------------------------


def encoder(**options: Any) -> VideoEncoder:
    torch.manual_seed(0)
    return VideoEncoder(PixelNormalizer([100.0], [50.0]), ImageEncoder(1, (4, 8)), 5, **options)


def grid_encoder(**options: Any) -> VideoGridEncoder:
    torch.manual_seed(0)
    grid = ImageGridEncoder(PixelNormalizer([100.0], [50.0]), ImageEncoder(1, (4, 8)), 5, num_cells=16)
    return VideoGridEncoder(grid, LSTM(5, 3, bidirectional=True, batch_first=True), **options)


ENCODERS = pytest.mark.parametrize("make", [encoder, grid_encoder])


def random_clips(clips: int = 3, frames: int = 7) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (clips, frames, 16, 16, 1)).astype(np.uint8))


def test_a_grid_of_any_size():
    """The stem and each stage but the first halve a side, rounded up."""
    for widths, height, width, expected in (((4,), 8, 8, (4, 4)), ((4, 8, 12), 64, 33, (8, 5)), ((3, 5), 1, 2, (1, 1))):
        image_encoder = ImageEncoder(3, widths)
        features = image_encoder(torch.zeros(2, 3, height, width))
        assert features.shape == (2, widths[-1], *expected)
        assert image_encoder.output_size == widths[-1]


@ENCODERS
def test_padding_does_not_change_the_features(make: Callable[..., nn.Module]):
    video_encoder, clips, lengths = make(), random_clips(), torch.tensor([7, 1, 4])
    features, new_lengths = video_encoder(clips, lengths)
    for row, clip, length, end in zip(features, clips, lengths.tolist(), new_lengths.tolist(), strict=True):
        alone, no_lengths = video_encoder(clip[None, :length], None)
        assert no_lengths is None
        assert alone.shape[1] == end
        torch.testing.assert_close(row[:end], alone[0])
        assert not row[end:].any()


def test_grid_cells_are_encoded_independently():
    """Frame features do not depend on other frames; the features of a cell do not depend on other cells' frames."""
    video_encoder, clips = grid_encoder(), random_clips(2, 3)
    cells = video_encoder(clips)[0].unflatten(1, (3, 16))
    frame_features = video_encoder.grid(clips[:, 1])[0]
    torch.testing.assert_close(cells[:, 1, :, :5], frame_features)
    cell_features, _ = video_encoder.trunk(torch.stack([video_encoder.grid(clips[:, t])[0][:, 7] for t in range(3)], 1))
    torch.testing.assert_close(cells[:, :, 7, 5:], cell_features)


@ENCODERS
def test_frames_are_encoded_in_chunks(make: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch):
    """Features and gradients equal those at once, with and without padding."""
    video_encoder, clips = make().train(), random_clips()
    for lengths in (None, torch.tensor([7, 1, 4])):
        results = []
        for max_frames in (512, 5):
            monkeypatch.setattr(parts, "_MAX_FRAMES", max_frames)
            video_encoder.zero_grad()
            features, _ = video_encoder(clips, lengths)
            (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
            results.append(
                [features.detach(), *(p.grad.clone() for p in video_encoder.parameters() if p.grad is not None)]
            )
        assert len(results[0]) == 1 + len(list(video_encoder.parameters()))
        for whole, chunked in zip(*results, strict=True):
            torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-5)


def test_random_translation_moves_whole_clips():
    """Only in training, all frames of a clip move alike, by at most the fraction; pixels inside are kept."""
    clips = torch.zeros(64, 3, 16, 20, 1, dtype=torch.uint8)
    clips[:, :, 6:10, 8:12] = torch.arange(1, 4, dtype=torch.uint8).view(1, 3, 1, 1, 1)
    torch.manual_seed(0)
    offsets = set()
    for clip in random_translation(clips, 0.2):
        down, right = (int(at.min()) - start for at, start in zip(torch.where(clip[0, ..., 0]), (6, 8), strict=True))
        offsets.add((down, right))
        torch.testing.assert_close(clip, clips[0].roll((down, right), (1, 2)))
    downs, rights = map(set, zip(*offsets, strict=True))
    assert downs == set(range(-3, 4))
    assert rights == set(range(-4, 5))
    torch.testing.assert_close(random_translation(clips, 0.0), clips)
    for make in (encoder, grid_encoder):
        video_encoder = make(max_translation=0.5).eval()
        torch.testing.assert_close(video_encoder(random_clips(), None)[0], make().eval()(random_clips(), None)[0])
    assert not torch.allclose(
        video_encoder.train()(random_clips(), None)[0], video_encoder.eval()(random_clips(), None)[0]
    )


def test_pixels_are_normalized_by_the_training_data():
    """Pixels have mean 0 and deviation 1 in each color; frames of another shape are refused."""
    rng = np.random.default_rng(0)
    clips = [
        VideoClip("x", rng.integers(low, 200, (5, 16, 16, 3)).astype(np.uint8), np.arange(5), 1) for low in (0, 60)
    ]
    front_end = VideoFrontEnd(ClipFormat(16, 16), 4, 0.0, 0.0)
    front_end.fit(clips, Progress())
    restored = VideoFrontEnd(ClipFormat(16, 16), 4, 0.0, 0.0)
    restored.load_state(front_end.state())
    assert restored.state() == front_end.state()
    built, width = restored.build()
    assert isinstance(built, VideoEncoder)
    assert width == 4
    scaled = built.normalizer(torch.from_numpy(np.concatenate(restored.encode(clips))))
    torch.testing.assert_close(scaled.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)
    assert not scaled.new_tensor(front_end.occlude(clips[0].frames, 1, 3)[1:3].std(axis=(0, 1, 2))).any()
    with pytest.raises(DataError, match=r"x has frames of shape \(16, 16, 1\), the model expects \(16, 16, 3\)"):
        front_end.encode([video_from_array(square("left"), SMALL, "x")])
    with pytest.raises(ValueError, match="means or deviations are invalid"):
        restored.load_state({"mean": [0, 0, 0], "std": [1, 0, 1]})
    with pytest.raises(ValueError, match="do not match its color channels"):
        restored.load_state({"mean": [0], "std": [1]})


# ---- data ------------------------------------------------------------------------------------------------------------

CLIPS = {"left": square("left", side=32), "right": square("right", side=32)}
SHAPED = Columns(clip_format=ClipFormat(32, 32, color=False))


def _folder(path: Path) -> Path:
    for label, frames in CLIPS.items():
        (path / label).mkdir(parents=True)
        write_video(frames, path / label / f"{label}_1.mp4")
    return path


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_all_forms_of_video_data_are_read_alike(tmp_path: Path):
    """Folders, zip files, tables, data frames, and lists of arrays, clips and paths give the same examples."""
    folder = _folder(tmp_path / "clips")
    rows = [f"{label}/{label}_1.mp4" for label in CLIPS]
    (folder / "list.csv").write_text("path,label\n" + "".join(f"{row},{row.split('/')[0]}\n" for row in rows))
    paths, labels = [folder / row for row in rows], list(CLIPS)
    inside = {row: (folder / row).read_bytes() for row in rows}
    bare = {row.split("/")[1]: content for row, content in inside.items()}
    table = b"path,label\nleft_1.mp4,left\nright_1.mp4,right\n"
    clips = [video_from_array(frames, SHAPED.clip_format, label) for label, frames in CLIPS.items()]
    sources: list[tuple[Any, Columns]] = [
        (folder, SHAPED),
        (folder / "list.csv", SHAPED),
        (pd.DataFrame({"file": map(str, paths), "label": labels}), SHAPED._replace(path="file")),
        (_zip(tmp_path / "a.zip", inside), SHAPED),
        (_zip(tmp_path / "b.zip", bare), SHAPED._replace(label_pattern=r"^([a-z]+)_\d")),
        (_zip(tmp_path / "c.zip", {**bare, "list.csv": table}), SHAPED),
        ((paths, labels), SHAPED),
        ((clips, labels), SHAPED),
        ((list(CLIPS.values()), labels), SHAPED),
        ((np.stack([frames / 255 for frames in CLIPS.values()]), labels), SHAPED),
        ((np.stack([np.stack([frames] * 3, -1) for frames in CLIPS.values()]), labels), SHAPED),
    ]
    for data, columns in sources:
        examples = read_labeled_examples(data, columns)
        assert examples.kind == "video"
        assert sorted(examples.require_labels()) == [("left",), ("right",)]
        for (label,), clip in zip(examples.require_labels(), examples.inputs, strict=True):
            assert clip.frame_rate == 10
            np.testing.assert_allclose(clip.frames[..., 0].astype(int), CLIPS[label], atol=20)
    assert read_labeled_examples(folder, SHAPED).notes == (
        "1 files of clips are not video files and were skipped, such as list.csv",
    )


def test_the_type_of_data_is_inferred(tmp_path: Path):
    """A folder or zip file has the type of most of its files; an array's dimensions give its type."""
    folder, wav = _folder(tmp_path / "clips"), encode_audio(AudioClip("", np.zeros(800, np.float32), 8000))
    (folder / "left" / "left_1.wav").write_bytes(wav)
    examples = read_labeled_examples(folder, SHAPED)
    assert (examples.kind, len(examples)) == ("video", 2)
    assert examples.notes == ("1 files of clips are not video files and were skipped, such as left/left_1.wav",)
    for name in ("2.wav", "3.wav"):
        (folder / "right" / name).write_bytes(wav)
    assert read_labeled_examples(folder, SHAPED).kind == "audio"
    path = folder / "left" / "left_1.mp4"
    assert read_labeled_examples(path, SHAPED).ids == ["left_1.mp4"]
    assert read_labeled_examples(video_from_array(CLIPS["left"], SMALL, "x"), SHAPED).labels == [None]
    for array, kind in (
        (np.zeros((9, 2)), "numbers"),
        (np.zeros((9, 2, 2)), "video"),
        (np.zeros((9, 2, 2, 3)), "video"),
    ):
        assert read_labeled_examples([array], SHAPED).kind == kind
    with pytest.raises(DataError, match="of several types"):
        read_labeled_examples([np.zeros((9, 2)), np.zeros((9, 2, 2))], SHAPED)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none has no audio file \(.*\) or video file \(.*\) among its 0 files"):
        read_labeled_examples(tmp_path / "none", SHAPED)


def test_the_digest_depends_on_pixels_and_rate():
    def digest(frames: np.ndarray, rate: float = 10.0) -> str:
        return LabeledExamples(
            [VideoClip("", frames, np.arange(len(frames)) / rate, rate)], [("a",)], ["1"], "x"
        ).digest()

    left = CLIPS["left"]
    assert digest(left) == digest(left.copy())
    assert len({digest(left), digest(CLIPS["right"]), digest(left, 5.0), digest(left[..., None])}) == 4


def test_long_clips_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lstmkit.data.media_files.MAX_SECONDS", 0.5)
    with pytest.raises(
        DataError, match=r"left/left_1.mp4 has 1 s, the maximum of an example is 0 s: split it into clips"
    ):
        read_labeled_examples(_folder(tmp_path / "clips"), SHAPED)


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path]:
    """A classifier of 24 clips, and the folder of its run."""
    run = tmp_path_factory.mktemp("video") / "run"
    job = Classifier(
        **{**TINY, "epochs": 25}, lr=0.01, dropout=0.0, input_dropout=0.0, test_fraction=0.2, valid_fraction=0.2
    )
    return job.fit(squares(24, 0), run=run), run


def test_the_model_learns_the_direction_of_motion(trained: tuple[Classifier, Path]):
    """The model learns the direction, not the position; the table has the baselines."""
    job, run = trained
    table = job.evaluate(squares(40, 1)).table.set_index("model")
    assert table.index.tolist() == ["LSTM", "1-nearest neighbor", "majority class"]
    assert table.loc["LSTM", "accuracy"] >= 0.9
    clips = squares(6, 2)[0]
    loaded = load(run)
    assert isinstance(loaded, Classifier)
    pd.testing.assert_frame_equal(loaded.predict(clips), job.predict(clips))
    assert loaded.evaluate(squares(4, 3)).table["model"].tolist() == ["LSTM", "majority class"]
    larger = [np.kron(clip, np.ones((1, 3, 3), np.uint8)) for clip in clips]
    assert job.predict(larger)["label"].tolist() == job.predict(clips)["label"].tolist()


def test_attribution_and_early_classification(trained: tuple[Classifier, Path]):
    job, run = trained
    assert "Early classification" in (run / "report.html").read_text(encoding="utf-8")
    data = squares(24, 0)
    sections = {section.title: section for section in job.report_sections(job.read(data))}
    early = sections["Early classification"].table
    assert early is not None
    assert early["fraction of frames"].tolist() == [tenth / 10 for tenth in range(1, 11)]
    assert job.evaluation is not None
    test, probabilities = job.evaluation.outputs
    correct = job.predictor.targets(test) == probabilities.calibrated.argmax(axis=1)
    assert early["accuracy"].iloc[-1] == pytest.approx(correct.mean())
    clip, label = data[0][0], data[1][0]
    steps, changes = job.occlusion_attribution(clip, label)
    assert steps == [f"{t / 10:.2f} s" for t in range(len(clip))]
    assert changes.shape == (len(clip),)
    assert np.isfinite(changes).all()
    assert changes.any()
    job.plot([clip], job.predict([clip])).draw_without_rendering()
    assert [example.name for example in job.example_sequences(data, 3)][:2] == ["example 3", "example 4"]
    with pytest.raises(DataError, match="there is no label 'up'"):
        job.occlusion_attribution(clip, "up")


def test_a_class_with_a_single_clip_is_learned():
    clips, labels = squares(20, 0)
    job = Classifier(**TINY).fit(([*clips, np.zeros((1, 16, 16))], [*labels, "nothing"]))
    assert job.classes == ("left", "nothing", "right")
    assert job.predict([np.zeros((1, 16, 16))]).shape == (1, 6)
    assert "have a single frame" in " ".join(job.evaluate(([np.zeros((1, 16, 16))], ["nothing"])).notes)


def test_unsuitable_models_and_data_are_refused(trained: tuple[Classifier, Path], tmp_path: Path):
    """A model of video clips refuses audio, and a model of audio clips refuses video."""
    job, clip = trained[0], video_from_array(square("left"), SMALL, "x")
    with pytest.raises(
        UserError, match="this model was trained on video clips; keyword spotting needs a model of audio clips"
    ):
        job.spot_keywords([clip])
    hum = AudioClip("hum", np.sin(np.arange(2000)).astype(np.float32), 8000)
    with pytest.raises(DataError, match="contains audio clips, but this model was trained on video clips"):
        job.predict(hum)
    with pytest.raises(DataError, match="contains texts, but this model was trained on video clips"):
        job.predict(["a.mp4"])
    audio_model = Classifier(hidden_size=4, n_mels=8, conv_channels=2, epochs=1).fit(([hum] * 20, ["a", "b"] * 10))
    with pytest.raises(DataError, match="contains video clips, but this model was trained on audio clips"):
        audio_model.predict([clip])
    with pytest.raises(DataError, match="is not audio, but this model reads audio clips: give audio files"):
        audio_model.spot_keywords([clip])
    write_video(square("left"), tmp_path / "a.mp4")
    with pytest.raises(DataError, match=r"a\.mp4"):
        audio_model.spot_keywords(tmp_path / "a.mp4")


def test_command_line_from_folder_to_predictions(tmp_path: Path):
    for i, (frames, label) in enumerate(zip(*squares(20, 0), strict=True)):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        write_video(frames, tmp_path / "data" / label / f"{i}.mp4")
    run, runner = str(tmp_path / "run"), CliRunner()
    options = [
        word for name, value in TINY.items() if name != "color" for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    words = ["fit", "classifier", str(tmp_path / "data"), "-o", run, "--no-color", *options]
    fitted = runner.invoke(cli.app, words, catch_exceptions=False)
    assert "1-nearest neighbor" in fitted.stdout
    words = ["predict", run, str(tmp_path / "data/left/0.mp4"), "--picture", str(tmp_path / "decided.png")]
    predicted = runner.invoke(cli.app, words, catch_exceptions=False)
    assert predicted.stdout.startswith("id,label,probability,p_left,p_right\n0.mp4,")
    assert (tmp_path / "decided.png").stat().st_size > 5000


@pytest.mark.parametrize("frames", [1, 3, 40])
def test_attribution_figures(frames: int):
    """A few frames are all drawn; of many frames, one from each of eight segments; any label works."""
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        clip = rng.integers(0, 255, (frames, 12, 30, channels)).astype(np.uint8)
        figure = video_attribution_figure(clip, np.arange(frames) / 10, rng.normal(size=frames), "$a: 0.8")
        figure.draw_without_rendering()
        assert len(figure.axes) == min(8, frames) + 1


# ---- digits that move ------------------------------------------------------------------------------------------------

INK = np.zeros((28, 28), dtype=np.uint8)
INK[4:24, 4:24] = 255  # as large as MNIST's largest digits


def test_motions_are_written_as_labeled_files(tmp_path: Path):
    """Each file shows the motion of its label."""
    digits.write_motions(digits.Digits(INK[None], np.zeros(1)), 20, tmp_path, 0)
    paths = sorted(tmp_path.rglob("*.mp4"))
    assert len(paths) == 20
    for number in range(20):
        motion = digits.MOTIONS[number % 10]
        clip = read_video(tmp_path / motion / f"{number}.mp4", ClipFormat(64, 64, color=False, frame_rate=0))
        assert (len(clip), clip.frame_rate) == (digits.FRAMES, digits.RATE)
        lit = clip.frames[..., 0] > 128
        rows, columns = ((lit * at).sum(axis=(1, 2)) / lit.sum(axis=(1, 2)) for at in np.ogrid[:64, :64])
        right, down, grown = columns[-1] - columns[0], rows[-1] - rows[0], lit[-1].sum() / lit[0].sum()
        if motion in digits.DIRECTIONS:
            across, along = digits.DIRECTIONS[motion]
            assert right * across + down * along > 12
        turned = np.diff(np.unwrap(np.arctan2(rows - rows.mean(), columns - columns.mean()))).sum()
        assert {"clockwise": turned > 4, "counterclockwise": turned < -4}.get(motion, True)
        assert {"grows": grown > 1.5, "shrinks": grown < 0.7}.get(motion, True)
        assert motion != "still" or (lit == lit[0]).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), motion=st.sampled_from(digits.MOTIONS))
def test_a_digit_never_leaves_the_frame(seed: int, motion: str):
    trajectory = digits.moving(motion, np.random.default_rng(seed))
    frames = digits.drawn([INK], [trajectory])
    assert frames.shape == (digits.FRAMES, digits.SIDE, digits.SIDE)
    assert frames.any(axis=(1, 2)).all()
    assert not any(edge.any() for edge in (frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]))


directions = st.sampled_from(list(digits.DIRECTIONS))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), first=directions, second=directions)
def test_two_digits_start_apart_and_stay_inside(seed: int, first: str, second: str):
    """The first digit is left of the second; each moves far enough in its direction."""
    trajectories = digits.two_trajectories((first, second), np.random.default_rng(seed))
    (a, *_), (b, *_) = trajectories
    assert b.x - a.x > 6
    assert max(b.x - a.x, abs(b.y - a.y)) > digits._MIN_DISTANCE
    for motion, trajectory in zip((first, second), trajectories, strict=True):
        assert len(trajectory) == digits.FRAMES
        assert all(10 <= at <= digits.SIDE - 10 for pose in trajectory for at in (pose.x, pose.y))
        right, down = digits.DIRECTIONS[motion]
        assert (trajectory[-1].x - trajectory[0].x) * right + (trajectory[-1].y - trajectory[0].y) * down >= 14 - 1e-9


def test_the_motions_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """IDX files like MNIST's give the table; the test split shows test digits."""
    options: dict[str, Any] = {"train_clips": 30, "test_clips": 10}
    for part in ("train", "test"):
        for kind, array in (("images", np.stack([INK] * 3)), ("labels", np.arange(3, dtype=np.uint8))):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
            (tmp_path / f"{part}-{kind}").write_bytes(head + array.tobytes())
            options[f"{part}_{kind}"] = f"{part}-{kind}"
    monkeypatch.setattr("lstmkit.data.catalog.locate", lambda name, file: tmp_path / file)
    job = Classifier(**{**TINY, "epochs": 1}, test_fraction=0.0, valid_fraction=0.4)
    labels = []
    evaluate = Classifier.evaluate

    def recorded(self: Classifier, data: Any, **keywords: Any) -> Evaluation:
        evaluation = evaluate(self, data, **keywords)
        labels.extend(evaluation.outputs.examples.require_labels())
        return evaluation

    monkeypatch.setattr(Classifier, "evaluate", recorded)
    table = run_protocol(protocols.motions, job, tmp_path, options)
    assert table["model"].tolist() == ["LSTM", "1-nearest neighbor", "majority class"]
    assert job.classes == tuple(sorted(digits.MOTIONS))
    assert sorted(labels) == sorted((motion,) for motion in digits.MOTIONS)
