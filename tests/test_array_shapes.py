"""Arrays of sound and pixels whose shape or range is not plausible: recognized if unambiguous, else refused."""

import io
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from lstmkit.data.audio.audio_io import audio_from_array, read_audio
from lstmkit.data.captioned_media import CaptionColumns, read_captioned_media
from lstmkit.data.labeled_examples import Columns, read_labeled_examples
from lstmkit.data.series.sensor_series import Columns as SensorColumns
from lstmkit.data.series.sensor_series import read_sensor_series
from lstmkit.data.vision.image_set import Size, read_images
from lstmkit.data.vision.video_io import ClipFormat, video_from_array
from lstmkit.errors import DataError

TONE = (0.5 * np.sin(np.arange(4000) / 5)).astype(np.float32)
FORMAT = ClipFormat(8, 8)


@pytest.mark.parametrize(
    "samples",
    [
        TONE,
        TONE[:, None],
        TONE[None],  # as torchaudio has it
        np.stack([TONE, TONE]),
        np.stack([TONE, TONE], 1),
        TONE.astype(np.float64).tolist(),
        *((TONE * 2**15).astype(dtype) for dtype in (np.int16, np.int32, np.int64)),
        (TONE * 2**31).astype(np.int32),
        (TONE * 2**31).astype(np.int64),
        (TONE * 2**7).astype(np.int8),
        (TONE * 2**23).astype(np.int32) << 8,  # 24 bits in the upper ones
        (TONE * 2**7 + 2**7).astype(np.uint8),
        (TONE * 2**15 + 2**15).astype(np.uint16),
        (TONE * 2**15).astype(int).tolist(),
    ],
    ids=lambda samples: f"{getattr(samples, 'dtype', 'list')}{np.shape(samples)}",
)
def test_samples_are_recognized(samples: Any):
    clip = audio_from_array(samples, 8000)
    assert clip.samples.shape == TONE.shape
    np.testing.assert_allclose(clip.samples, TONE, atol=0.01)


def test_quiet_24_bit_samples_in_32_bits_stay_quiet():
    dither = np.resize(np.array([256, -256, 512], np.int32), 800)
    assert np.abs(audio_from_array(dither, 8000).samples).max() < 1e-6


@pytest.mark.parametrize(
    ("samples", "phrase"),
    [
        (np.zeros((800, 9)), "with at most 8 channels"),
        (np.zeros((80, 500)), "with at most 8 channels"),  # a spectrogram
        (np.zeros((2, 3, 4)), r"has shape \(2, 3, 4\)"),
        (TONE > 0, "dtype bool"),
        (TONE * 32767, "times full scale .*divide 16-bit samples by 32768"),
        ((TONE * 2**20).astype(np.int32), "its full scale is unknown"),  # quiet, or 24 bits in the lower ones
        ((TONE * 100).astype(np.int64), "its full scale is unknown"),
        ((TONE.astype(float) * 2**40).astype(np.int64), "its full scale is unknown"),
        ((TONE * 100 + 128).astype(np.uint16), "values up to"),
        ([[1.0, 2.0], [1.0]], "is not an array"),
        (np.array([0.0, np.nan]), "NaN or infinite"),
    ],
)
def test_samples_that_are_not_plausible_are_refused(samples: Any, phrase: str):
    with pytest.raises(DataError, match=phrase):
        audio_from_array(samples, 8000)


def test_a_file_of_floats_beyond_full_scale_is_refused():
    file = io.BytesIO()
    soundfile.write(file, TONE * 32767, 8000, format="WAV", subtype="FLOAT")
    with pytest.raises(DataError, match="times full scale"):
        read_audio(file.getvalue())


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, bool])
def test_pixels_of_any_type(dtype: Any):
    white = np.ones((3, 8, 8), dtype) if dtype in (np.float32, bool) else np.full((3, 8, 8), 255, dtype)
    assert (video_from_array(white, FORMAT, "x").frames == 255).all()
    assert (read_images(white, Size(8, 8)).pixels == 1).all()


@pytest.mark.parametrize(
    ("array", "phrase"),
    [
        (np.ones((5, 8, 8), np.int64), "0 and 1 only, where 255 is white"),
        (np.eye(8, dtype=np.uint8)[None], "0 and 1 only, where 255 is white"),
        (np.full((5, 8, 8), 200.0), "out of range"),
        (np.full((5, 8, 8), 300), "out of range"),
        (np.zeros((9, 10, 3)), r"has shape \(9, 10, 3\)"),
    ],
)
def test_pixels_that_are_not_plausible_are_refused(array: np.ndarray, phrase: str):
    """By the readers of clips and of sets of images alike."""
    for read in (lambda a: video_from_array(a, FORMAT, "x"), lambda a: read_images(a, Size(8, 8))):
        with pytest.raises(DataError, match=phrase):
            read(array)


def test_channels_first_are_refused():
    layout = CaptionColumns(clip_format=FORMAT)
    with pytest.raises(DataError, match=r"its channels first: .*transpose\(0, 2, 3, 1\)"):
        read_captioned_media([np.zeros((5, 3, 16, 16))], layout)
    with pytest.raises(DataError, match="an image with its channels first or a clip of 3 frames"):
        read_captioned_media([np.zeros((3, 16, 16))], layout)
    with pytest.raises(DataError, match="its channels first"):
        read_labeled_examples([np.zeros((5, 1, 16, 16))], Columns(clip_format=FORMAT))
    assert read_captioned_media([np.zeros((16, 16, 3))], layout).kind == "images"
    assert read_captioned_media([np.zeros((5, 16, 16))], layout).kind == "clips"


def test_tensors_of_torch_are_arrays():
    """bfloat16, which numpy does not have, and tensors that need gradients."""
    values = torch.tensor([0.0, 0.5, -1.0])
    for tensor in (values.bfloat16(), values.clone().requires_grad_(), values.double()):
        np.testing.assert_array_equal(audio_from_array(tensor, 8000).samples, values)
        np.testing.assert_array_equal(read_sensor_series(tensor, SensorColumns()).items[0].values[:, 0], values)
    with pytest.raises(DataError, match="is not an array"):
        audio_from_array([values.bfloat16()], 8000)
