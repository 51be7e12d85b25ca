"""Read polylines and straight paths from SVG files; write drawings as SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.parsers import expat

import numpy as np

from lstmkit.data.files import read_bytes, reading
from lstmkit.errors import DataError, one_line
from lstmkit.libraries import import_library

_PATH_COMMAND = re.compile(r"([A-Za-z])([^A-Za-z]*(?:[eE][-+]?\d[^A-Za-z]*)*)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_TRANSFORM = re.compile(r"(\s*,?\s*(matrix|translate|scale|rotate|skew)[XY]?\s*\([^()%]*\))+\s*")
_MOVES_OR_HIDES = re.compile(r"[{;\s](transform|display|visibility|rotate|scale|translate|offset)\b[-\w]*\s*:")
_NOT_DRAWN = {
    "clipPath", "defs", "desc", "filter", "foreignObject", "linearGradient", "marker", "mask", "metadata", "pattern",
    "radialGradient", "script", "style", "symbol", "title",
}  # fmt: skip
_MAX_ELEMENTS = 100_000  # that a file draws, with those drawn again by "use"
_MARGIN = 0.06  # around the page, relative to its height
_INK = "#202020"


def read_svg(path: Path) -> list[np.ndarray]:
    """Read the lines of an SVG file in file order, positions ``(n, 2)`` each.

    Read are ``line``, ``polyline``, ``polygon`` and ``path`` with straight segments, wherever they are drawn: ``use``,
    ``transform`` (attribute or style) and the offset of a nested ``svg`` are applied. What only defines (``defs``,
    ``symbol``, ``marker``, ``mask``, ``clipPath``, ``pattern``) or is hidden is not read. The ``viewBox`` of the file
    is ignored.

    Raises:
        DataError: The file does not exist, is not SVG, has no lines, has curves, entities or references to other files,
            or moves lines in another way.
    """
    content = read_bytes(path)
    with reading(path.name, "is not a readable SVG file", "export it again"):
        lines = _Reader(_parse(content, path.name), path.name).lines
    if not lines:
        raise DataError(f"{path.name} has no lines: give polylines or straight paths")
    return lines


def _parse(content: bytes, where: str) -> xml.Element:
    """Parse XML without entities, which could fill the memory."""

    def refuse(*_: object) -> None:
        raise DataError(f"{where} declares XML entities, which are not read: save it without them")

    declarations = expat.ParserCreate()
    declarations.EntityDeclHandler = refuse
    declarations.Parse(content, True)
    return xml.fromstring(content)


class _Reader:
    """Collects the lines of an SVG tree.

    Attributes:
        lines: Positions ``(n, 2)`` of each line, in the coordinates of the root.
    """

    def __init__(self, root: xml.Element, where: str) -> None:
        self.lines: list[np.ndarray] = []
        self._where, self._n_elements = where, 0
        self._by_id = {element.get("id"): element for element in root.iter()}
        for sheet in root.iter():
            if _tag(sheet) == "style" and _MOVES_OR_HIDES.search(sheet.text or ""):
                raise DataError(f"{where} moves or hides lines in a style sheet: save it as plain SVG")
        self._draw(root, np.eye(3), is_root=True)

    def _draw(self, element: xml.Element, matrix: np.ndarray, visible: bool = True, is_root: bool = False) -> None:
        """Add the lines of an element and all below it, transformed by ``matrix (3, 3)``."""
        self._n_elements += 1
        if self._n_elements > _MAX_ELEMENTS:
            raise DataError(f"{self._where} draws more than {_MAX_ELEMENTS:,} elements: split it")
        tag, style = _tag(element), _style(element)
        if style.get("display") == "none" or tag in _NOT_DRAWN:
            return
        visible = {"visible": True, "hidden": False, "collapse": False}.get(style.get("visibility", ""), visible)
        matrix = matrix @ self._transform(style)
        if tag in ("use", "svg") and not is_root:
            matrix = matrix @ self._offset(element)
        if tag == "use":
            target = self._target(element)
            if _tag(target) == "symbol":
                self._refuse_viewport(target)
                for child in target:
                    self._draw(child, matrix, visible)
            else:
                self._draw(target, matrix, visible)
        elif visible:
            self.lines += [_apply(matrix, line) for line in self._lines_of(tag, element) if len(line)]
        for child in element:
            self._draw(child, matrix, visible)

    def _lines_of(self, tag: str, element: xml.Element) -> list[np.ndarray]:
        if tag == "path":
            return _path_lines(element.get("d", ""), self._where)
        if tag in ("polyline", "polygon"):
            positions = _pairs(element.get("points", ""), self._where)
            return [np.concatenate([positions, positions[:1]]) if tag == "polygon" else positions]
        if tag == "line":
            return [_pairs(" ".join(element.get(end, "0") for end in ("x1", "y1", "x2", "y2")), self._where)]
        return []

    def _transform(self, style: dict[str, str]) -> np.ndarray:
        """Matrix ``(3, 3)`` of the transform of an element."""
        text = style.get("transform", "none")
        if text in ("", "none"):
            return np.eye(3)
        moved = [name for name in ("transform-origin", "rotate", "scale", "translate", "offset-path") if name in style]
        if moved or not _TRANSFORM.fullmatch(text):
            problem = f"transform {one_line(text)[:60]!r}" + (f" with {moved[0]}" if moved else "")
            raise DataError(f"{self._where} has a {problem}, which is not read: apply it in the drawing program")
        matrix = import_library("svgelements", "writing", "transforms in SVG files").Matrix(text)
        return np.array([[matrix.a, matrix.c, matrix.e], [matrix.b, matrix.d, matrix.f], [0, 0, 1]], dtype=np.float64)

    def _offset(self, element: xml.Element) -> np.ndarray:
        """Matrix ``(3, 3)`` of the position of a ``use`` or of a nested ``svg``."""
        self._refuse_viewport(element)
        matrix = np.eye(3)
        matrix[:2, 2] = _pairs(f"{element.get('x', '0')} {element.get('y', '0')}", self._where)
        return matrix

    def _refuse_viewport(self, element: xml.Element) -> None:
        if element.get("viewBox"):
            raise DataError(
                f"{self._where} has a viewBox inside the drawing, which is not read: apply it in the drawing program"
            )

    def _target(self, element: xml.Element) -> xml.Element:
        """The element that a ``use`` draws."""
        reference = element.get("href") or element.get("{http://www.w3.org/1999/xlink}href") or ""
        target = self._by_id.get(reference.removeprefix("#")) if reference.startswith("#") else None
        if target is None:
            raise DataError(
                f"{self._where} uses {one_line(reference)[:60]!r}, which is not in the file: save it as plain SVG"
            )
        return target


def _tag(element: xml.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _style(element: xml.Element) -> dict[str, str]:
    """Attributes of an element and its style, which has priority; stripped."""
    pairs = (entry.partition(":") for entry in element.get("style", "").split(";"))
    styled = {name.strip().lower(): value.partition("!")[0].strip() for name, _, value in pairs}
    return {name: value.strip() for name, value in element.attrib.items()} | styled


def _apply(matrix: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Transform positions ``(n, 2)``."""
    if np.array_equal(matrix, np.eye(3)):
        return line
    return line @ matrix[:2, :2].T + matrix[:2, 2]


def _pairs(text: str, where: str) -> np.ndarray:
    numbers = [float(number) for number in _NUMBER.findall(text)]
    if len(numbers) % 2 or _NUMBER.sub("", text).strip(" ,\t\r\n") or not np.isfinite(numbers).all():
        raise DataError(f"{where}: {one_line(text)[:60]!r} is not a list of x,y positions: export the file again")
    return np.array(numbers).reshape(-1, 2)


def _path_lines(d: str, where: str) -> list[np.ndarray]:
    """The lines of a path attribute ``d``; each M starts a new one."""
    lines: list[list[np.ndarray]] = []
    position = np.zeros(2)
    if d.strip() and d.strip()[0] not in "Mm":
        raise DataError(f"{where}: a path must begin with M, not with {d.strip()[:20]!r}")
    for command, numbers in _PATH_COMMAND.findall(d):
        kind, relative = command.upper(), command.islower()
        if kind not in "MLHVZ":
            raise DataError(f"{where} has curves ({command}): flatten them to straight lines")
        if kind != "M" and not lines:
            raise DataError(f"{where}: a path must begin with M and a position, not with {d.strip()[:20]!r}")
        if kind == "Z":
            position = lines[-1][0]
            lines[-1].append(position)
            continue
        for i, point in enumerate(_positions(kind, numbers, where)):
            point = np.where(np.isnan(point), 0.0 if relative else position, point)
            position = position + point if relative else point
            if kind == "M" and i == 0:
                lines.append([])
            lines[-1].append(position)
    return [np.stack(line) for line in lines]


def _positions(kind: str, numbers: str, where: str) -> Iterator[np.ndarray]:
    """Positions of a path command; NaN where a coordinate does not change (H, V)."""
    if kind in "HV":
        values = _pairs(f"{numbers} {numbers}", where)
        for value in values.ravel()[: values.size // 2]:
            yield np.array([value, np.nan] if kind == "H" else [np.nan, value])
    else:
        yield from _pairs(numbers, where)


def render_svg(drawings: Sequence[Sequence[tuple[np.ndarray, str]]], names: Sequence[str]) -> str:
    """Render drawings as an SVG page, one below the other.

    Args:
        drawings: For each drawing its lines ``(n, 2)`` with their colors; ``""`` is the default ink color.
        names: Title of each drawing, for screen readers.
    """
    boxes = [np.concatenate([line for line, _ in drawing]) if drawing else np.zeros((1, 2)) for drawing in drawings]
    heights = [max(float(np.ptp(box[:, 1])), 1e-3 * float(np.ptp(box[:, 0])), 1e-6) for box in boxes]
    width = max(float(np.ptp(box[:, 0])) for box in boxes)
    tallest = max(heights)
    margin = _MARGIN * max(tallest, width / 4)
    body, top = [], margin
    for drawing, box, height, name in zip(drawings, boxes, heights, names, strict=True):
        shift = np.array([margin, top]) - box.min(axis=0)
        paths = "".join(f'<path d="{_path_data(line + shift)}"{_stroke_attribute(color)}/>' for line, color in drawing)
        body.append(f"<g><title>{_escape(name)}</title>{paths}</g>")
        top += height + 2 * margin
    size = f"{width + 2 * margin:.6g} {top:.6g}"
    width_text, height_text = size.split()
    pen = max(tallest, width / 20) / 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{_pixels(width_text, height_text)}">\n'
        f'<rect width="{width_text}" height="{height_text}" fill="white"/>\n'
        f'<g fill="none" stroke="{_INK}" stroke-width="{pen:.4g}" stroke-linecap="round" stroke-linejoin="round">\n'
        + "\n".join(body)
        + "\n</g>\n</svg>"
    )


def _pixels(width: str, height: str) -> int:
    """Display width of the page in pixels, from 120 to 900."""
    return round(min(900.0, max(120.0, 700.0 * float(width) / float(height))))


def _path_data(line: np.ndarray) -> str:
    """Path attribute ``d`` of a line. A dot becomes a line to itself, which round caps make visible."""
    line = line if len(line) > 1 else np.repeat(line, 2, axis=0)
    first, *rest = (f"{x:.6g} {y:.6g}" for x, y in line)
    return f"M{first}L{' '.join(rest)}"


def _stroke_attribute(color: str) -> str:
    return f' stroke="{color}"' if color else ""


def _escape(text: str) -> str:
    """Escape text for XML; unprintable characters are dropped."""
    printable = "".join(c for c in text if c.isprintable())
    return printable.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
