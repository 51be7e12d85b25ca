"""Images of text lines in the transcriber: reading order, and finding the line in a photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmkit import Transcriber, load
from lstmkit.data.text.bidi import RIGHT_TO_LEFT, to_display
from lstmkit.data.vision.image_io import normalize_text_line
from lstmkit.data.vision.line_normalization import cut_line, find_line
from lstmkit.decoding.transcription import AlignedText, Transcription
from lstmkit.errors import DataError, SettingError
from lstmkit.training.checkpoint import read_summed_json, write_summed_json

image = pytest.importorskip("PIL.Image")
pytest.importorskip("soundfile")

TINY: dict[str, Any] = {
    "height": 16, "conv_channels": 4, "feature_size": 32, "hidden_size": 32, "ema_decay": 0.9, "num_layers": 1,
    "batch_size": 4, "dropout": 0.0, "patience": 0, "lr": 0.015, "image_augmentation": 0.0,
}  # fmt: skip
HEBREW = str.maketrans("abc", "אבג")
GLYPHS = {"a": (4, 8), "b": (4, 12), "c": (12, 20), "1": (4, 20), "2": (10, 14)}  # first and last row of a bar
GLYPHS |= {letter.translate(HEBREW): rows for letter, rows in GLYPHS.items()}


def bars(visual: str, height: int = 24) -> np.ndarray:
    """A line with a bar for each character, from left to right; no font is needed."""
    pixels = np.full((height, 12 * len(visual) + 4), 230, dtype=np.uint8)
    for i, character in enumerate(visual):
        if character != " ":
            top, bottom = GLYPHS[character]
            pixels[top:bottom, 12 * i + 4 : 12 * i + 12] = 20
    return pixels


def photographed(line: np.ndarray, angle: float = 0.0, border: int = 60, desk: int = 0) -> np.ndarray:
    """The line on a larger page, turned counterclockwise, and with ``desk`` dark pixels around."""
    page = image.fromarray(np.pad(line, border, constant_values=230))
    page = page.rotate(angle, image.Resampling.BICUBIC, expand=True, fillcolor=60 if desk else 230)
    if not desk:
        return np.asarray(page)
    shades = np.pad(np.asarray(page), desk, constant_values=60).astype(float)
    noise = np.random.default_rng(0).normal(0, 5, shades.shape)
    return (shades + noise).clip(0, 255).astype(np.uint8)


# ---- reading order ---------------------------------------------------------------------------------------------------


def random_texts(count: int) -> list[str]:
    """A Hebrew word, a number, and in every second text another word; no character repeats within a word."""
    rng = np.random.default_rng(0)
    parts = [["".join(rng.permutation(list(letters))) for letters in ("אבג", "12", "אבג")] for _ in range(count)]
    return [" ".join(words[: 2 + i % 2]) for i, words in enumerate(parts)]


def test_a_mirrored_line_in_hebrew_letters_is_read_as_its_latin_twin():
    """Image, text and so the error are mirror images; positions too. Only the reading order is other."""
    latin = ["ab", "ba", "cab", "abc", "c a", "ac"] * 3
    options = {**TINY, "epochs": 3, "line_normalization": False}
    left = Transcriber(**options).fit(([bars(text) for text in latin], latin))
    hebrew = [text.translate(HEBREW) for text in latin]
    flipped = [bars(text)[:, ::-1] for text in latin]
    right = Transcriber(**options).fit((flipped, hebrew))
    assert (left.predictor.reading_order, right.predictor.reading_order) == ("left-to-right", RIGHT_TO_LEFT)
    pairs = zip(left.predict([pixels[:, ::-1] for pixels in flipped]), right.predict(flipped), flipped, strict=True)
    for latin_line, hebrew_line, pixels in pairs:
        assert hebrew_line.text == latin_line.text.translate(HEBREW)
        for a, b in zip(latin_line.characters, hebrew_line.characters, strict=True):
            assert (b.start, b.end) == pytest.approx((pixels.shape[1] - a.end, pixels.shape[1] - a.start))


def test_hebrew_with_numbers_is_read(tmp_path: Path):
    """The image shows letters from right to left and numbers from left to right; the text is in logical order."""
    texts = random_texts(60)
    images = [bars(to_display(text, RIGHT_TO_LEFT).text[::-1]) for text in texts]
    assert (images[0] == bars(f"{texts[0][4:]} {texts[0][2::-1]}")).all()  # the number is not reversed
    job = Transcriber(**TINY, epochs=40).fit((images, texts), run=tmp_path / "run")
    assert job.evaluation is not None
    assert job.evaluation.table["CER"][0] < 5  # 31 on such lines if the network writes logical order
    assert "Lines are read right to left." in (tmp_path / "run" / "report.html").read_text()
    loaded = load(tmp_path / "run")
    (line,) = loaded.predict(images[:1])
    assert line == job.predict(images[:1])[0]
    assert line.text == texts[0]
    word, number = line.words
    assert number.start < number.end < word.start < word.end  # in pixels from the left


def test_the_reading_order_is_a_setting_for_images_only():
    texts = ["ab", "ba"] * 6
    images = [bars(text) for text in texts]
    job = Transcriber(**TINY, epochs=1, reading_order="right-to-left").fit((images, texts))
    assert job.predictor.reading_order == RIGHT_TO_LEFT
    steps = [np.eye(3)[[0, 1, 2] * 4]] * 12
    with pytest.raises(SettingError, match="reading_order is a setting for image"):
        Transcriber(epochs=1, reading_order="right-to-left").fit((steps, texts))
    with pytest.raises(SettingError, match="reading_order"):
        Transcriber(reading_order="up")


def test_strokes_are_in_the_order_of_writing():
    """Ink comes in the order of time, which is the logical order: the first letter is at the right."""
    texts = ["אב 12", "בא 21"] * 6
    pens = [np.array([[-3, 4 * (i % 2), i % 4 == 3] for i in range(40)], dtype=np.float32)] * 12
    options = {"feature_size": 8, "hidden_size": 8, "num_layers": 1, "epochs": 1, "input_type": "strokes"}
    predictor = Transcriber(**options).fit((pens, texts)).predictor
    assert predictor.reading_order == ""
    (first, *_) = predictor.dataset(Transcriber(**options).read((pens, texts))).targets
    assert [predictor.alphabet[i - 1] for i in first] == list("אב 12")


def test_an_earlier_model_predicts_as_before(tmp_path: Path):
    """Without a reading order and a version of normalization, images are taken as they are, in logical order."""
    texts = ["אב", "בא"] * 6
    images = [bars(text) for text in texts]
    options = {**TINY, "epochs": 1, "reading_order": "left-to-right", "line_normalization": False}
    job = Transcriber(**options).fit((images, texts))
    path = job.save(tmp_path / "model") / "model.json"
    description = read_summed_json(path)
    for name in ("reading_order", "line_normalization"):
        del description["settings"][name]
    for name in ("reading_order", "usual_confidence"):
        del description["state"][name]
    description["state"]["front"] = {}
    write_summed_json(path, description)
    predictor = load(tmp_path / "model").predictor
    assert (predictor.reading_order, predictor.usual_confidence) == ("", 0.0)
    wide = photographed(images[0])
    np.testing.assert_array_equal(predictor.front_end.encode([wide], ["it"])[0], normalize_text_line(wide, 16, "it"))
    with pytest.raises(ValueError, match="unknown version of line normalization"):
        predictor.front_end.load_state({"line_normalization": 99})


# ---- finding the line ------------------------------------------------------------------------------------------------

LINE = bars("abc1 2cab1 ba2c a1bc 2b")


def columns(pixels: np.ndarray) -> np.ndarray:
    return normalize_text_line(cut_line(pixels, find_line(pixels, "it"), "it"), 16, "it")


@pytest.mark.parametrize(
    "options", [{}, {"desk": 30}, {"border": 12, "desk": 50}], ids=["wide border", "dark desk", "narrow page on a desk"]
)
@pytest.mark.parametrize("angle", [0.0, 2.0, -5.0, 9.0])
def test_a_photographed_line_looks_like_the_plain_one(angle: float, options: dict[str, Any]):
    photograph = photographed(LINE, angle, **options)
    line, plain = find_line(photograph, "it"), columns(LINE)
    assert line.angle == pytest.approx(angle, abs=0.4)
    assert (line.outside is not None) == ("desk" in options)
    normalized = columns(photograph)
    assert len(normalized) == pytest.approx(len(plain), rel=0.1)
    positions = np.linspace(0, 1, 200)
    profiles = [
        np.interp(positions, np.linspace(0, 1, len(values)), values.sum(axis=1)) for values in (plain, normalized)
    ]
    assert np.corrcoef(profiles)[0, 1] > 0.9
    assert normalized.sum() == pytest.approx(plain.sum(), rel=0.2)


@pytest.mark.parametrize("angle", [0.0, 4.0])
def test_positions_are_those_in_the_photograph(angle: float):
    """A bar is at its place in the picture, whatever was cropped and turned."""
    pixels = photographed(bars("a        1        a"), angle, border=40)
    line = find_line(pixels, "it")
    cut = cut_line(pixels, line, "it")
    middle = np.flatnonzero((cut < 100).any(axis=0))
    middle = middle[np.abs(middle - middle.mean()) < 20].mean()
    assert line.original_x(np.array([middle]))[0] == pytest.approx(pixels.shape[1] / 2, abs=2.5)


def test_a_clean_line_is_only_cropped():
    """Once found, a line stays as it is: the second time changes nothing but a pixel of the border."""
    line = find_line(LINE, "it")
    assert (line.angle, line.outside, line.page) == (0.0, None, (0, 0, *LINE.shape))
    once = cut_line(LINE, line, "it")
    twice = cut_line(once, find_line(once, "it"), "it")
    assert np.abs(np.subtract(once.shape, twice.shape)).max() <= 1
    left, top = (np.flatnonzero((once < 100).any(axis=axis))[0] for axis in (0, 1))
    ink = LINE[4:20, 4 : LINE.shape[1] - 4]
    np.testing.assert_array_equal(once[top : top + ink.shape[0], left : left + ink.shape[1]], ink)


def test_light_letters_on_a_dark_ground_are_not_a_page():
    for visual in ("a", "1", "abc1 2cab"):
        dark = 255 - np.pad(bars(visual), 6, constant_values=230)
        assert find_line(dark, "it").outside is None
        assert columns(dark).max() == pytest.approx(1)
    with pytest.raises(DataError, match=r"it shows no text line \(no contrast\)"):
        find_line(np.full((20, 50), 128, dtype=np.uint8), "it")


def test_uneven_light_is_removed():
    page = np.pad(LINE, 20, constant_values=230)
    shaded = (page * np.linspace(1, 0.4, page.shape[1])).astype(np.uint8)
    assert find_line(shaded, "it").outside is None  # the dark half is no desk
    assert columns(shaded).sum() == pytest.approx(columns(LINE).sum(), rel=0.1)


# ---- confidence ------------------------------------------------------------------------------------------------------


def test_low_confidence_names_the_file(tmp_path: Path):
    """Examples far below the usual confidence, and images without text, if there was a validation part."""
    texts = ["ab", "ba", "cab", "abc", "c a", "ac"] * 5
    images = [bars(text) for text in texts]
    job = Transcriber(**TINY, epochs=20).fit((images, texts))
    predictor = job.predictor
    assert predictor.usual_confidence > 0.5
    assert load(job.save(tmp_path / "model")).predictor.usual_confidence == predictor.usual_confidence
    image.fromarray(images[0]).save(tmp_path / "a.png")
    predictor.usual_confidence = 1.0
    doubtful, plain = AlignedText("a", 0, 4, 0.6), AlignedText("a", 0, 4, 0.9)
    parts = [(plain,), (doubtful,), ()]
    transcriptions = [Transcription(f"{i}.png", "a", "pixel", (), part) for i, part in enumerate(parts)]
    warning = predictor.low_confidence(transcriptions)
    assert warning.startswith("low confidence in 1.png (0.60), 2.png (no text); usual is at least 1.00: check")
    predictor.usual_confidence = 2.0
    with pytest.warns(UserWarning, match=r"low confidence in a\.png \(.*\); usual is at least"):
        job.predict(tmp_path / "a.png")
    predictor.usual_confidence = 0.0
    assert predictor.low_confidence(transcriptions) == ""
    without = Transcriber(**TINY, epochs=1, valid_fraction=0.0).fit((images, texts))
    assert without.predictor.usual_confidence == 0.0
