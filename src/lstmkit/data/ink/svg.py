"""Lines in SVG files: polylines and straight paths read, drawings written."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lstmkit.errors import DataError, one_line

_PATH_COMMAND = re.compile(r"([A-Za-z])([^A-Za-z]*(?:[eE][-+]?\d[^A-Za-z]*)*)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_MARGIN = 0.06  # around a page, of its height
_INK = "#202020"


def read_svg(path: Path) -> list[np.ndarray]:
    """The lines of a file in its order, ``(n, 2)`` positions each: ``line``, ``polyline``, ``polygon``, straight paths.

    Raises:
        DataError: No such file, no SVG, no line in it, curves, or a transformation.
    """
    try:
        root = xml.fromstring(path.read_bytes())
    except FileNotFoundError as err:
        raise DataError(f"{path}: there is no such file") from err
    except (OSError, xml.ParseError, ValueError, LookupError) as err:
        raise DataError(f"{path.name} is no SVG that can be read ({one_line(err)})") from err
    lines: list[np.ndarray] = []
    for element in root.iter():
        if element.get("transform"):
            raise DataError(f"{path.name} moves or turns what it draws (transform): save it with that applied")
        kind = str(element.tag).rpartition("}")[2]
        if kind == "path":
            lines += _path_lines(element.get("d", ""), path.name)
        elif kind in ("polyline", "polygon"):
            places = _pairs(element.get("points", ""), path.name)
            lines.append(np.concatenate([places, places[:1]]) if kind == "polygon" else places)
        elif kind == "line":
            lines.append(_pairs(" ".join(element.get(end, "0") for end in ("x1", "y1", "x2", "y2")), path.name))
    lines = [line for line in lines if len(line)]
    if not lines:
        raise DataError(f"{path.name} has no line: polylines and straight paths are read")
    return lines


def _pairs(text: str, where: str) -> np.ndarray:
    numbers = [float(number) for number in _NUMBER.findall(text)]
    if len(numbers) % 2 or _NUMBER.sub("", text).strip(" ,\t\r\n"):
        raise DataError(f"{where}: {one_line(text)[:60]!r} is not a list of positions")
    return np.array(numbers).reshape(-1, 2)


def _path_lines(told: str, where: str) -> list[np.ndarray]:
    """The straight lines of a path's ``d``; a new one begins at each M."""
    lines: list[list[np.ndarray]] = []
    at = np.zeros(2)
    if told.strip() and told.strip()[0] not in "Mm":
        raise DataError(f"{where}: a path begins with M, not with {told.strip()[:20]!r}")
    for command, numbers in _PATH_COMMAND.findall(told):
        kind, relative = command.upper(), command.islower()
        if kind not in "MLHVZ":
            raise DataError(f"{where} has curves ({command}): flatten them to straight lines first")
        if kind == "Z":
            at = lines[-1][0]
            lines[-1].append(at)
            continue
        for i, place in enumerate(_places(kind, numbers, where)):
            place = np.where(np.isnan(place), 0.0 if relative else at, place)
            at = at + place if relative else place
            if kind == "M" and i == 0:
                lines.append([])
            elif not lines[-1]:
                raise DataError(f"{where}: a path begins with M")
            lines[-1].append(at)
    return [np.stack(line) for line in lines]


def _places(kind: str, numbers: str, where: str) -> Iterator[np.ndarray]:
    """Positions of a command, NaN where it leaves a coordinate as it is."""
    if kind in "HV":
        found = _pairs(f"{numbers} {numbers}", where)
        for value in found.ravel()[: found.size // 2]:
            yield np.array([value, np.nan] if kind == "H" else [np.nan, value])
    else:
        yield from _pairs(numbers, where)


def render_svg(drawings: Sequence[Sequence[tuple[np.ndarray, str]]], names: Sequence[str]) -> str:
    """A page of drawings, one below the other.

    Args:
        drawings: Of each its lines ``(n, 2)`` and their colours; ``""`` for the colour of ink.
        names: Of each, for those who cannot see it.
    """
    boxes = [np.concatenate([line for line, _ in one]) if one else np.zeros((1, 2)) for one in drawings]
    heights = [max(float(np.ptp(box[:, 1])), 1e-3 * float(np.ptp(box[:, 0])), 1e-6) for box in boxes]
    width = max(float(np.ptp(box[:, 0])) for box in boxes)
    tallest = max(heights)
    margin = _MARGIN * max(tallest, width / 4)
    body, top = [], margin
    for one, box, height, name in zip(drawings, boxes, heights, names, strict=True):
        shift = np.array([margin, top]) - box.min(axis=0)
        paths = "".join(f'<path d="{_d(line + shift)}"{_stroke(colour)}/>' for line, colour in one)
        body.append(f"<g><title>{_escaped(name)}</title>{paths}</g>")
        top += height + 2 * margin
    size = f"{width + 2 * margin:.6g} {top:.6g}"
    wide, high = size.split()
    pen = max(tallest, width / 20) / 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{_pixels(wide, high)}">\n'
        f'<rect width="{wide}" height="{high}" fill="white"/>\n'
        f'<g fill="none" stroke="{_INK}" stroke-width="{pen:.4g}" stroke-linecap="round" stroke-linejoin="round">\n'
        + "\n".join(body)
        + "\n</g>\n</svg>"
    )


def _pixels(wide: str, high: str) -> int:
    """A width at which a page is neither tiny nor higher than a screen."""
    return round(min(900.0, max(120.0, 700.0 * float(wide) / float(high))))


def _d(line: np.ndarray) -> str:
    """A path's ``d``; a dot is a line to itself, which round ends make visible."""
    line = line if len(line) > 1 else np.repeat(line, 2, axis=0)
    first, *rest = (f"{x:.6g} {y:.6g}" for x, y in line)
    return f"M{first}L{' '.join(rest)}"


def _stroke(colour: str) -> str:
    return f' stroke="{colour}"' if colour else ""


def _escaped(text: str) -> str:
    """Text as XML has it, without the signs that XML cannot hold."""
    held = "".join(c for c in text if c.isprintable())
    return held.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
