"""Animated GIF, PNG and WebP files are clips in every job, by their content; still ones are images."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lstmkit.data.captioned_media import CaptionColumns, read_captioned_media
from lstmkit.data.labeled_examples import Columns as LabelColumns
from lstmkit.data.labeled_examples import read_labeled_examples
from lstmkit.data.transcripts import Columns, read_transcripts
from lstmkit.data.vision.image_set import Size, read_images
from lstmkit.data.vision.video_io import ClipFormat, VideoClip, read_video
from lstmkit.errors import DataError

FORMAT = ClipFormat(20, 20, False, 0)
KINDS = {"a.gif": "GIF", "a.png": "PNG", "a.apng": "PNG", "a.webp": "WEBP"}
STARTS = [0, 0.1, 0.3, 0.6]


def image(kind: str, count: int = 4) -> bytes:
    """White bars at 0, 5, 10 and 15 pixels, which last 100, 200, 300 and 400 ms."""
    frames = [Image.new("RGB", (20, 20)) for _ in range(count)]
    for i, frame in enumerate(frames):
        frame.paste((255, 255, 255), (5 * i, 0, 5 * i + 5, 20))
    file, options = io.BytesIO(), {"lossless": True} if kind == "WEBP" else {}
    if count > 1:
        options |= {"save_all": True, "append_images": frames[1:], "duration": [100, 200, 300, 400][:count]}
    frames[0].save(file, kind, **options)
    return file.getvalue()


def check(clip: object) -> None:
    assert isinstance(clip, VideoClip)
    np.testing.assert_allclose(clip.times, STARTS, atol=1e-9)
    assert [int((frame[5, :, 0] > 100).argmax()) for frame in clip.frames] == [0, 5, 10, 15]


@pytest.mark.parametrize("name", KINDS)
def test_an_animated_image_is_a_clip(name: str, tmp_path: Path):
    content, captions = image(KINDS[name]), CaptionColumns("path", clip_format=FORMAT)
    path = tmp_path / name
    path.write_bytes(content)
    check(read_video(content, FORMAT))
    (tmp_path / "captions.csv").write_text(f"path,caption\n{name},bars\n")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, content)
    for data in (path, tmp_path / "captions.csv", tmp_path / "x", tmp_path / "a.zip", [path]):
        media = read_captioned_media(data, captions)
        assert media.kind == "clips"
        check(media.inputs[0])
    frame = pd.DataFrame({"path": [str(path)], "label": ["b"]})
    for data in (path, tmp_path / "x", tmp_path / "a.zip", [path], frame):
        examples = read_labeled_examples(data, LabelColumns(clip_format=FORMAT))
        check(examples.inputs[0])


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_a_still_image_is_an_image(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(image(KINDS[name], 1))
    for data in (tmp_path / name, tmp_path, [tmp_path / name]):
        assert read_captioned_media(data, CaptionColumns(clip_format=FORMAT)).kind == "images"


def test_the_kind_of_most_files_is_read(tmp_path: Path):
    for i in range(3):
        (tmp_path / f"moving{i}.gif").write_bytes(image("GIF"))
    (tmp_path / "still.gif").write_bytes(image("GIF", 1))
    media = read_captioned_media(tmp_path, CaptionColumns(clip_format=FORMAT))
    assert (media.kind, len(media)) == ("clips", 3)
    assert "still.gif" in media.notes[0]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_jobs_of_still_images_refuse_animations(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(image(KINDS[name]))
    for read in (lambda path: read_images(path, Size(8, 8)), lambda path: read_transcripts(path, Columns())):
        with pytest.raises(DataError, match=r"a\.\w+ is animated, but a still image is needed"):
            read(tmp_path / name)


def test_a_frame_without_a_duration_lasts_a_tenth_of_a_second():
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 99, 200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=0)
    np.testing.assert_allclose(read_video(file.getvalue(), FORMAT).times, [0, 0.1, 0.2])
