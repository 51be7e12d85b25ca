"""Figures that were hard to read: labels that overlap or are cut off, near-black maps, one example of many."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lstmkit.jobs.captioner.plots import caption_attention_figure
from lstmkit.jobs.forecaster.plots import interval_coverage_figure
from lstmkit.jobs.image_generator.plots import drawing_steps_figure
from lstmkit.plots.classification import AttributedText, text_attribution_figure
from lstmkit.plots.style import new_figure, note_selection
from lstmkit.plots.text import attention_figure


def drawn_texts(figure: Figure) -> list[Text]:
    figure.draw_without_rendering()
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


@pytest.mark.parametrize(
    ("count", "drawn", "said"),
    [(1, 1, ""), (20, 1, "the first of 20 texts"), (4, 4, ""), (1200, 4, "the first 4 of 1,200 texts")],
)
def test_a_figure_says_how_many_predictions_it_leaves_out(count: int, drawn: int, said: str):
    figure = note_selection(new_figure(2), count, "texts", drawn=drawn)
    assert [text.get_text() for text in drawn_texts(figure)] == [said] * bool(said)


def test_a_figure_of_many_texts_shows_as_many_as_fit():
    texts = [AttributedText(f"label {i}", ["a", "short", "text"], [0.1, -0.2, 0.3]) for i in range(30)]
    few = [text.get_text() for text in drawn_texts(text_attribution_figure(texts[:5]))]
    assert [text for text in few if text.startswith("label")] == [f"label {i}" for i in range(5)]
    assert not any("of" in text.split() for text in few)
    many = [text.get_text() for text in drawn_texts(text_attribution_figure(texts, 400))]
    shown = [text for text in many if text.startswith("label")]
    assert 12 <= len(shown) < 30
    assert f"The first {len(shown)} of 400 texts" in many


@pytest.mark.parametrize("ink", [0, 255])
def test_attention_on_one_cell_leaves_the_image_visible(ink: int):
    """The image stays visible, be it dark or bright, and the attended cell stands out."""
    image = np.full((12, 12, 3), ink, dtype=np.uint8)
    attention = np.zeros((1, 4, 4))
    attention[0, 1, 1] = 1
    map_of_token = caption_attention_figure(image, ["a"], attention, "a").axes[1].images[0].get_array()
    assert map_of_token is not None
    pixels = np.asarray(map_of_token, dtype=float)
    assert np.abs(pixels[4, 4] - ink).max() < 20
    assert 140 < pixels[-1, -1].mean() < 240


def test_titles_of_glimpses_do_not_overlap():
    canvases, windows = np.zeros((64, 8, 8)), np.ones((64, 5))
    figure = drawing_steps_figure(["7"], [canvases], [windows], [np.zeros((8, 8))], 2)
    figure.draw_without_rendering()
    boxes = [ax.title.get_window_extent() for ax in figure.axes]
    assert len(boxes) == 10
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0


def test_text_beside_the_calibration_is_not_cut_off():
    frame = pd.DataFrame({"y": [1.0], **{f"m-{side}-{n}": [1.0] for side in ("lo", "hi") for n in (50, 80, 95)}})
    figure = interval_coverage_figure(frame, "m", [50, 80, 95])
    width = figure.get_window_extent().width
    assert all(text.get_window_extent().x1 <= width for text in drawn_texts(figure))


def test_a_long_attention_map_fits_on_a_screen():
    figure = attention_figure(["a"] * 12, ["b"] * 60, np.full((60, 12), 1 / 12))
    assert figure.get_size_inches()[1] < 11
