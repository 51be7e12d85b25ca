"""SVG files: what is drawn is read, with transformations applied; what only defines or is hidden is not."""

from pathlib import Path

import pytest

from lstmkit.data.ink.svg import read_svg
from lstmkit.errors import DataError

INK = '<path d="M1 2L3 5"/>'
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def lines(path: Path, body: str, head: str = "") -> list[list[list[float]]]:
    file = path / "a.svg"
    file.write_text(f'{head}<svg {NAMESPACES} viewBox="0 0 10 10" width="99cm">{body}</svg>')
    return [line.round(9).tolist() for line in read_svg(file)]


@pytest.mark.parametrize(
    "other",
    [
        *(
            f"<{tag}><g>{INK}</g></{tag}>"
            for tag in ("defs", "symbol", "marker", "mask", "clipPath", "pattern", "metadata", "title")
        ),
        f'<g display="none">{INK}</g>',
        f'<g style="fill:red; display : none !important">{INK}</g>',
        f'<g visibility="hidden">{INK}</g>',
        f'<g style="visibility:hidden">{INK}</g>',
        "<rect width='9' height='9'/><text>hi</text>",
        '<marker><path d="M0 0C1 1 2 2 3 3"/></marker>',  # curves in a definition do not matter
    ],
)
def test_definitions_and_hidden_lines_are_no_ink(other: str, tmp_path: Path):
    assert lines(tmp_path, f'{other}<path d="M7 7L8 8"/>') == [[[7, 7], [8, 8]]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (INK, [[1, 2], [3, 5]]),
        (f'<g transform="">{INK}</g>', [[1, 2], [3, 5]]),
        (f'<g transform="translate(10, 20) scale(2)">{INK}</g>', [[12, 24], [16, 30]]),
        (f'<g transform="scale(2)"><g transform="translate(1 1)">{INK}</g></g>', [[4, 6], [8, 12]]),
        (f'<g style="transform: translate(50px, 5px)">{INK}</g>', [[51, 7], [53, 10]]),
        (f'<g transform="rotate(90)">{INK}</g>', [[-2, 1], [-5, 3]]),
        (f'<g transform="matrix(1 2 3 4 5 6)">{INK}</g>', [[12, 16], [23, 32]]),
        (f'<svg x="10" y="20">{INK}</svg>', [[11, 22], [13, 25]]),
        (f'<defs><g id="a" transform="scale(2)">{INK}</g></defs><use href="#a" x="1" y="1"/>', [[3, 5], [7, 11]]),
        (f'<symbol id="a">{INK}</symbol><use xlink:href="#a" x="1" transform="scale(2)"/>', [[4, 4], [8, 10]]),
        ('<g visibility="hidden"><path visibility="visible" d="M1 1L2 2"/></g>', [[1, 1], [2, 2]]),
    ],
)
def test_lines_are_where_they_are_drawn(body: str, expected: list[list[float]], tmp_path: Path):
    assert lines(tmp_path, body) == [expected]


ENTITY_BOMB = '<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
USE_BOMB = '<g id="a0">' + INK + "</g>"
USE_BOMB += "".join(f'<g id="a{i}">' + 10 * f'<use href="#a{i - 1}"/>' + "</g>" for i in range(1, 9))


@pytest.mark.parametrize(
    ("body", "head", "phrase"),
    [
        ('<path d="MZ"/>', "", "a path must begin with M and a position"),
        ('<path d="ML1 1"/>', "", "a path must begin with M and a position"),
        ('<path d="M1e400 0L1 1"/>', "", "is not a list of x,y positions"),
        (f'<g transform="turn(9)">{INK}</g>', "", r"a transform 'turn\(9\)', which is not read"),
        (f'<g transform="rotate(a)">{INK}</g>', "", "is not a readable SVG file"),
        (f'<g transform="scale(2)" transform-origin="5 5">{INK}</g>', "", "with transform-origin"),
        (f"<style>g {{ display: none }}</style><g>{INK}</g>", "", "in a style sheet"),
        (f'<svg viewBox="0 0 5 5">{INK}</svg>', "", "a viewBox inside the drawing"),
        ('<use href="http://example.com/a.svg#b"/>', "", "which is not in the file"),
        ('<use href="#missing"/>', "", "which is not in the file"),
        ('<g id="a"><use href="#a"/></g>', "", "is not a readable SVG file"),
        ("<g>" * 3000 + "</g>" * 3000, "", "is not a readable SVG file"),
        (USE_BOMB, "", "draws more than 100,000 elements"),
        (INK, ENTITY_BOMB, "declares XML entities"),
        (f"<title>&a;</title>{INK}", OUTSIDE, "declares XML entities"),
    ],
)
def test_what_cannot_be_read_is_refused(body: str, head: str, phrase: str, tmp_path: Path):
    with pytest.raises(DataError, match=phrase) as caught:
        lines(tmp_path, body, head)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("a.svg")
