"""Bidirectional text: display order by UAX #9, and back to logical order."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmkit.data.text.bidi import DIRECTIONS, LEFT_TO_RIGHT, RIGHT_TO_LEFT, from_display, main_direction, to_display

# Expected orders are those of python-bidi 0.6.12 (base_dir R and L), read from the side where the line begins.
# Hebrew letters are written א ב ג, Arabic ones ا ب ج.
EXPECTED = [
    (RIGHT_TO_LEFT, "אבג", "אבג"),
    (RIGHT_TO_LEFT, "אב 123 ג", "אב 321 ג"),  # numbers run from left to right
    (RIGHT_TO_LEFT, "אב 12.5% ג", "אב %5.21 ג"),
    (RIGHT_TO_LEFT, "אב abc def ג", "אב fed cba ג"),  # a Latin phrase is one run
    (RIGHT_TO_LEFT, "אב abc 12, ג", "אב 21 cba, ג"),  # with its number, without the comma
    (RIGHT_TO_LEFT, "אב 12 34 ג", "אב 21 43 ג"),  # two numbers are two runs
    (RIGHT_TO_LEFT, "אב (ג)", "אב (ג)"),
    (RIGHT_TO_LEFT, "א ab (cd)e ב", "א e(dc) ba ב"),
    (RIGHT_TO_LEFT, "اب ٤٥ ج", "اب ٥٤ ج"),  # Arabic digits too
    (RIGHT_TO_LEFT, "اب 1-2", "اب 1-2"),  # after Arabic letters a hyphen separates numbers
    (RIGHT_TO_LEFT, "אב 1-2", "אב 2-1"),  # after Hebrew letters it does not
    (LEFT_TO_RIGHT, "ab 12", "ab 12"),
    (LEFT_TO_RIGHT, "ab אבג c", "ab גבא c"),
    (LEFT_TO_RIGHT, "ab אב גד c", "ab דג בא c"),
    (LEFT_TO_RIGHT, "ab (אב)", "ab (בא)"),
]


@pytest.mark.parametrize(("direction", "logical", "display"), EXPECTED)
def test_mixed_lines_by_hand(direction: str, logical: str, display: str):
    reordered = to_display(logical, direction)
    assert reordered.text == display
    assert sorted(reordered.sources) == list(range(len(logical)))
    assert from_display(display, direction).text == logical


def test_a_combining_mark_stays_behind_its_base():
    assert to_display("א\u05b8ב", LEFT_TO_RIGHT).text == "בא\u05b8"
    assert to_display("א e\u0301f", RIGHT_TO_LEFT).text == "א fe\u0301"
    assert from_display("\u05b8 12א", RIGHT_TO_LEFT).sources  # a network may begin with a mark


def test_one_display_of_two_texts_has_one_answer():
    """The image of the two lines is the same."""
    both = {to_display(text, RIGHT_TO_LEFT).text for text in ("א ab 12", "א 12 ab")}
    assert len(both) == 1
    assert from_display(both.pop(), RIGHT_TO_LEFT).text == "א ab 12"


LINES = st.lists(
    st.sampled_from(["אב", "גד", "اب", "ab", "Cd", "12", "3.5", "7%", "٤٥", "(אב)", "(ab)", "א\u05b8ב", "ab,", "אב."]),
    max_size=7,
).map(" ".join)


@given(LINES, st.sampled_from(DIRECTIONS))
def test_logical_order_of_a_display_has_this_display(text: str, direction: str):
    display = to_display(text, direction).text
    assert to_display(from_display(display, direction).text, direction).text == display


@given(st.text("אבגاب .,12(", max_size=12), st.text("abc .,12(", max_size=12))
def test_text_of_one_direction_comes_back(right: str, left: str):
    """Lines of one script, with numbers and punctuation. Left-to-right text is not touched at all."""
    assert to_display(left, LEFT_TO_RIGHT) == (left, list(range(len(left))))
    script = right.translate(str.maketrans("اب", "אב"))
    assert from_display(to_display(script, RIGHT_TO_LEFT).text, RIGHT_TO_LEFT).text == script


@given(st.text(max_size=12), st.sampled_from(DIRECTIONS))
def test_any_text_is_only_permuted(text: str, direction: str):
    """Whatever a network writes has a logical order; only brackets change, to their mirror images."""
    for reordered in (to_display(text, direction), from_display(text, direction)):
        assert sorted(reordered.sources) == list(range(len(text)))
        for character, source in zip(reordered.text, reordered.sources, strict=True):
            assert character == text[source] or unicodedata.mirrored(character)


def test_the_main_direction_is_that_of_most_letters():
    assert main_direction(["שלום abc", "12"]) == RIGHT_TO_LEFT
    assert main_direction(["سلام 2024"]) == RIGHT_TO_LEFT
    assert main_direction(["hello שלום"]) == LEFT_TO_RIGHT
    assert main_direction(["12", "ab אב"], RIGHT_TO_LEFT) == RIGHT_TO_LEFT
    assert main_direction([]) == LEFT_TO_RIGHT
