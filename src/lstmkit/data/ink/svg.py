"""Read polylines and straight paths from SVG files; write drawings as SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lstmkit.errors import DataError, one_line

_PATH_COMMAND = re.compile(r"([A-Za-z])([^A-Za-z]*(?:[eE][-+]?\d[^A-Za-z]*)*)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_MARGIN = 0.06  # around the page, relative to its height
_INK = "#202020"


def read_svg(path: Path) -> list[np.ndarray]:
    """Read the lines of an SVG file in file order, positions ``(n, 2)`` each.

    Supported elements are ``line``, ``polyline``, ``polygon`` and ``path`` with straight segments.

    Raises:
        DataError: The file does not exist, is not SVG, or has no lines, curves, or a transformation.
    """
    try:
        root = xml.fromstring(path.read_bytes())
    except FileNotFoundError as err:
        raise DataError(f"no such file: {path}") from err
    except (OSError, xml.ParseError, ValueError, LookupError) as err:
        raise DataError(f"{path.name} is not a readable SVG file ({one_line(err)}): export it again") from err
    lines: list[np.ndarray] = []
    for element in root.iter():
        if element.get("transform"):
            raise DataError(
                f"{path.name} has a transform attribute: apply it in the drawing program, and save the file again"
            )
        kind = str(element.tag).rpartition("}")[2]
        if kind == "path":
            lines += _path_lines(element.get("d", ""), path.name)
        elif kind in ("polyline", "polygon"):
            positions = _pairs(element.get("points", ""), path.name)
            lines.append(np.concatenate([positions, positions[:1]]) if kind == "polygon" else positions)
        elif kind == "line":
            lines.append(_pairs(" ".join(element.get(end, "0") for end in ("x1", "y1", "x2", "y2")), path.name))
    lines = [line for line in lines if len(line)]
    if not lines:
        raise DataError(f"{path.name} has no lines: give polylines or straight paths")
    return lines


def _pairs(text: str, where: str) -> np.ndarray:
    numbers = [float(number) for number in _NUMBER.findall(text)]
    if len(numbers) % 2 or _NUMBER.sub("", text).strip(" ,\t\r\n"):
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
        if kind == "Z":
            position = lines[-1][0]
            lines[-1].append(position)
            continue
        for i, point in enumerate(_positions(kind, numbers, where)):
            point = np.where(np.isnan(point), 0.0 if relative else position, point)
            position = position + point if relative else point
            if kind == "M" and i == 0:
                lines.append([])
            elif not lines[-1]:
                raise DataError(f"{where}: a path must begin with M")
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
