"""Line normalization: find the page, deskew, and crop a photographed text line to its ink.

Deskewing searches the angle whose projection profile is sharpest (Postl 1986). The vertical window follows the center
normalization of OCRopus: the mean deviation of the ink from its center line, so lines with and without ascenders keep
one size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from lstmkit.data.vision.image_io import import_pillow
from lstmkit.data.vision.shades import line_shades

VERSION = 1  #: Of what the functions here do; saved models state it.
MAX_ANGLE = 12.0  #: Largest skew in degrees that is searched.
_MAX_PIXELS = 500_000  # of the reduced image in which a line is searched
_MIN_SURROUNDING = 0.3  # dark part of the picture's border, if there is a dark surrounding
_MIN_PAGE = 0.02  # of the picture
_MIN_PAGE_SHARE = 0.8  # of everything that is not surrounding
_MIN_CONVEXITY = 0.85  # a page's area relative to its convex hull
_MAX_INK = 0.35  # ink on a page; a letter on a dark ground has a larger hole
_MIN_EDGE = 0.6  # of the step between surrounding and page, within a few pixels
_MIN_SHADE_STEP = 0.15  # between surrounding and page, from black to white
_MIN_ANGLE = 0.5  # degrees; less is left as it is
_MIN_GAIN = 0.3  # relative gain of the profile's sharpness, to rotate a long line
_MIN_GAIN_OF_SQUARE = 3.0  # the same for ink as wide as high; divided by the aspect ratio
_MIN_ASPECT = 1.5  # of the ink, to estimate its skew
_MAX_POINTS = 20_000  # ink pixels whose profile is taken
_MIN_SHADING = 0.1  # variation of the background relative to the contrast, to remove it
_MIN_INK = 3  # pixels that are connected; fewer are a speck
_WINDOW = 4.0  # half height of the window in mean deviations of the ink from its center line
_MARGIN = 0.25  # left and right of the ink, in window heights
_MIN_WINDOW = 0.15  # window height relative to that of the page


class TextLine(NamedTuple):
    """Where the text line is in a picture, in pixels of the picture.

    Attributes:
        page: Top, left, bottom and right of the page.
        outside: ``(H, W)`` of the page's box, true outside the page; ``None`` if the page is the whole picture.
        angle: Skew in degrees; positive if the line rises to the right.
        window: Top, left, bottom and right of the line on the page, after rotation by ``-angle`` around its center.
    """

    page: tuple[int, int, int, int]
    outside: np.ndarray | None
    angle: float
    window: tuple[int, int, int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the cut line."""
        top, left, bottom, right = self.window
        return bottom - top, right - left

    def original_x(self, x: np.ndarray) -> np.ndarray:
        """Pixels from the left of the picture, of positions in the cut line at half its height."""
        top, left, bottom, right = self.page
        center_x, center_y = (right - left) / 2, (bottom - top) / 2
        across, down = x + self.window[1] - center_x, (self.window[0] + self.window[2]) / 2 - center_y
        angle = np.deg2rad(self.angle)
        return left + center_x + across * np.cos(angle) + down * np.sin(angle)


def find_line(image: np.ndarray, name: str) -> TextLine:
    """Find the page in a dark surrounding, the skew of its text, and the window around its ink.

    Args:
        image: Grayscale ``(H, W)`` uint8.
        name: Name in messages.

    Raises:
        DataError: The image has no contrast.
    """
    page, outside = _find_page(image)
    shades = _page_shades(image, page, outside, name)
    ink = _ink_points(shades, name)
    angle = _skew(ink)
    center = np.array(shades.shape) / 2
    return TextLine(page, outside, angle, _window(_rotated(ink - center, angle) + center, shades.shape[0]))


def cut_line(image: np.ndarray, line: TextLine, name: str) -> np.ndarray:
    """The text line, level and cropped, as grayscale uint8; what is not on the page has the shade of paper."""
    pillow: Any = import_pillow("PIL.Image")
    shades = _page_shades(image, line.page, line.outside, name)
    paper = int(np.median(shades))
    picture = pillow.fromarray(shades)
    if line.angle:
        picture = picture.rotate(-line.angle, pillow.Resampling.BILINEAR, fillcolor=paper)
    top, left, bottom, right = line.window
    canvas = pillow.new("L", (right - left, bottom - top), paper)
    canvas.paste(picture, (-left, -top))
    return np.asarray(canvas)


# ---- the page --------------------------------------------------------------------------------------------------------


def _find_page(image: np.ndarray) -> tuple[tuple[int, int, int, int], np.ndarray | None]:
    """Box of the page, and what is outside the page in this box.

    A page is one convex light region with ink in it, in a dark surrounding that touches the picture's border.
    """
    whole = (0, 0, *image.shape), None
    reduced, step = _reduced(image)
    dark = _is_dark(reduced)
    border = np.concatenate([dark[0], dark[-1], dark[1:-1, 0], dark[1:-1, -1]])
    if border.mean() < _MIN_SURROUNDING or dark.all():
        return whole
    regions = _connected(dark)
    at_border = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    rest = ~np.isin(regions, at_border[at_border > 0])
    parts = _connected(rest)
    sizes = np.bincount(parts.ravel())[1:]
    if not len(sizes) or sizes.max() < max(_MIN_PAGE_SHARE * rest.sum(), _MIN_PAGE * rest.size):
        return whole
    page = parts == 1 + int(sizes.argmax())
    ink = (page & dark).sum() / page.sum()
    if not 0 < ink <= _MAX_INK or _convexity(page) < _MIN_CONVEXITY or not _has_edge(reduced, page):
        return whole
    inner = ndimage.binary_erosion(page, iterations=2)  # the edge is blurred
    rows, columns = np.flatnonzero(inner.any(axis=1)), np.flatnonzero(inner.any(axis=0))
    if not len(rows):
        return whole
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    outside = ~inner[top:bottom, left:right].repeat(step, axis=0).repeat(step, axis=1)
    top, left = int(top) * step, int(left) * step
    outside = outside[: image.shape[0] - top, : image.shape[1] - left]
    return (top, left, top + outside.shape[0], left + outside.shape[1]), outside


def _is_dark(image: np.ndarray) -> np.ndarray:
    """Pixels darker than Otsu's threshold; none if the two classes differ little."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1.0)
    counts = np.bincount(smooth.astype(np.uint8).ravel(), minlength=256).astype(np.float64)
    weight, total = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    rest = weight[-1] - weight
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.nan_to_num((total[-1] - total) / rest - total / weight, posinf=0.0)
    threshold = int(np.argmax(weight * rest * step**2))
    if step[threshold] < 255 * _MIN_SHADE_STEP:
        return np.zeros(image.shape, dtype=bool)
    return smooth < threshold + 1


def _connected(mask: np.ndarray) -> np.ndarray:
    """Number of the connected part of each pixel ``(H, W)``, from 1; 0 where the mask is false."""
    labels: Any = ndimage.label(mask, np.ones((3, 3)))
    return labels[0]


def _convexity(region: np.ndarray) -> float:
    """Area of a region, with holes filled, relative to its convex hull."""
    filled: Any = ndimage.binary_fill_holes(region)
    corners = np.argwhere(filled ^ ndimage.binary_erosion(filled))
    corners = np.concatenate([corners + offset for offset in ((0, 0), (0, 1), (1, 0), (1, 1))])
    try:
        return float(filled.sum() / ConvexHull(corners).volume)
    except QhullError:  # a region without area
        return 0.0


def _has_edge(image: np.ndarray, page: np.ndarray) -> bool:
    """Whether a page ends abruptly, as on a desk. In a shadow that grows slowly it does not."""
    inside = page & ndimage.binary_dilation(~page, iterations=3)
    outside = ndimage.binary_dilation(page, iterations=4) & ~ndimage.binary_dilation(page, iterations=1)
    step = float(np.median(image[page])) - float(np.median(image[~page]))
    return outside.any() and float(np.median(image[inside]) - np.median(image[outside])) > _MIN_EDGE * step


def _page_shades(
    image: np.ndarray, page: tuple[int, int, int, int], outside: np.ndarray | None, name: str
) -> np.ndarray:
    """The page's box ``(H, W)`` uint8, evenly lit; what is outside the page has the shade of paper."""
    top, left, bottom, right = page
    shades = image[top:bottom, left:right]
    paper = np.median(shades if outside is None else shades[~outside])
    if outside is not None:
        shades = np.where(outside, paper, shades).astype(np.uint8)
    _, ink = line_shades(shades / np.float32(255), name)
    shading = _shading(shades)
    if 255 * ink > paper or np.ptp(shading) < _MIN_SHADING * (paper - 255 * ink):
        return shades
    even = (shades * (paper / shading)).round().clip(0, 255).astype(np.uint8)
    return even if outside is None else np.where(outside, paper, even).astype(np.uint8)


def _shading(shades: np.ndarray) -> np.ndarray:
    """Shade of light paper ``(H, W)``: a high percentile of each tile half the page high, interpolated."""
    side = max(16, shades.shape[0] // 2)
    rows, columns = (max(1, length // side) for length in shades.shape)
    tiles = [
        [max(1.0, np.percentile(tile, 80)) for tile in np.array_split(strip, columns, axis=1)]
        for strip in np.array_split(shades, rows)
    ]
    pillow: Any = import_pillow("PIL.Image")
    grid = pillow.fromarray(ndimage.gaussian_filter(np.array(tiles, dtype=np.float32), 0.7, mode="nearest"))
    return np.asarray(grid.resize(shades.shape[::-1], pillow.Resampling.BILINEAR))


# ---- the ink ---------------------------------------------------------------------------------------------------------


def _reduced(image: np.ndarray) -> tuple[np.ndarray, int]:
    """The image reduced by a whole number, and this number."""
    step = int(np.ceil(np.sqrt(max(1.0, image.size / _MAX_PIXELS))))
    pillow: Any = import_pillow("PIL.Image")
    return (image, 1) if step == 1 else (np.asarray(pillow.fromarray(image).reduce(step)), step)


def _ink_points(shades: np.ndarray, name: str) -> np.ndarray:
    """Positions ``(N, 2)`` of ink, down and right, in pixels; specks are left out."""
    reduced, step = _reduced(shades)
    smooth = ndimage.gaussian_filter(reduced.astype(np.float32) / 255, 0.5)
    paper, ink = line_shades(smooth, name)
    is_ink = (paper - smooth) / (paper - ink) > 0.5
    parts = _connected(is_ink)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    points = np.argwhere(is_ink & (sizes[parts] >= min(_MIN_INK, sizes.max())))
    if len(points) > _MAX_POINTS:
        points = points[np.linspace(0, len(points) - 1, _MAX_POINTS).astype(int)]
    return (points + 0.5) * step


def _rotated(points: np.ndarray, angle: float) -> np.ndarray:
    """Positions ``(N, 2)`` turned clockwise by ``angle`` degrees around the origin, so a line that rises is level."""
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    down, right = points.T
    return np.stack([down * cosine + right * sine, right * cosine - down * sine], axis=1)


def _skew(points: np.ndarray) -> float:
    """Skew of a line in degrees, by the sharpest projection profile; 0 if no angle is clearly better."""
    height, width = np.ptp(points, axis=0) + 1
    if width < _MIN_ASPECT * height:
        return 0.0
    unit = max(1.0, height / 200)  # a row of the profile, in pixels

    def sharpness(angle: float) -> float:
        down = _rotated(points, angle)[:, 0] / unit
        down -= down.min()
        row = down.astype(int)
        part = down - row
        profile = np.bincount(row, 1 - part, row.max() + 2) + np.bincount(row + 1, part, row.max() + 2)
        return float(np.square(np.diff(profile)).sum())

    angles = np.arange(-MAX_ANGLE, MAX_ANGLE + 0.25, 0.5)
    best = float(angles[int(np.argmax([sharpness(angle) for angle in angles.tolist()]))])
    angles = best + np.arange(-0.5, 0.55, 0.1)
    best = float(angles[int(np.argmax([sharpness(angle) for angle in angles.tolist()]))])
    needed = 1 + max(_MIN_GAIN, _MIN_GAIN_OF_SQUARE * height / width)
    return best if abs(best) >= _MIN_ANGLE and sharpness(best) > needed * sharpness(0.0) else 0.0


def _window(points: np.ndarray, page_height: int) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the window around ink; it may exceed the page."""
    down, right = points.T
    center = down.mean()
    half = max(_WINDOW * np.abs(down - center).mean(), _MIN_WINDOW * page_height / 2)
    low, high = np.quantile(down, (0.002, 0.998))
    top, bottom = min(center - half, low - 1), max(center + half, high + 1)
    margin = _MARGIN * (bottom - top)
    return int(top), int(right.min() - margin), int(np.ceil(bottom)), int(np.ceil(right.max() + margin))
