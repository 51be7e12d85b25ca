"""Draw boxes into frames, for annotated videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lstmkit.data.vision.boxed_clips import BoxedClip, Boxes
from lstmkit.data.vision.image_io import import_pillow

#: Colors of identities or classes (Okabe and Ito 2008), in RGB.
COLORS = ((0, 158, 115), (230, 159, 0), (86, 180, 233), (213, 94, 0), (204, 121, 167), (0, 114, 178), (240, 228, 66))
_MIN_SIDE = 480  # pixels of the longer side of a drawn frame: small frames are enlarged


def annotated_frames(each: BoxedClip, boxes: Boxes) -> Iterator[np.ndarray]:
    """The frames of a clip with boxes, class, identity and score: ``(H, W, 3)`` uint8 with even sides.

    Args:
        each: The clip.
        boxes: Boxes in pixels of the file.
    """
    height, width = each.clip.frames.shape[1:3]
    factor = max(1, -(-_MIN_SIDE // max(height, width)))
    for frame, pixels in enumerate(each.clip.frames):
        large = np.repeat(np.repeat(pixels, factor, 0), factor, 1)
        own = boxes.of_frame(frame)
        placed = factor * each.placement.to_model(own.xywh)
        texts = [box_text(label, track, score) for _, label, *_, track, score in own.rows()]
        colors = [color_of(int(track)) for track in own.ids]
        drawn = draw_boxes(large if large.shape[2] == 3 else np.repeat(large, 3, 2), placed, texts, colors)
        yield drawn[: drawn.shape[0] // 2 * 2, : drawn.shape[1] // 2 * 2]


def draw_boxes(
    pixels: np.ndarray, xywh: np.ndarray, texts: Sequence[str], colors: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """A copy of an image ``(H, W, 3)`` uint8 with boxes ``(N, 4)`` and a text above each."""
    pillow: Any = import_pillow("PIL.Image")
    drawing: Any = import_pillow("PIL.ImageDraw")
    image = pillow.fromarray(np.ascontiguousarray(pixels))
    draw = drawing.Draw(image)
    for (x, y, w, h), text, color in zip(xywh.tolist(), texts, colors, strict=True):
        draw.rectangle((x, y, x + w, y + h), outline=color, width=2)
        above = y - 12 if y >= 12 else y + h + 1
        draw.text((x, above), text, fill=color)
    return np.asarray(image)


def box_text(label: str, track: int, score: float) -> str:
    """What stands above a box: class, identity if there is one, and score in percent."""
    # Pillow's own font has Latin-1 only.
    name = str(label).encode("latin-1", "replace").decode("latin-1")
    return f"{name} {track}  {100 * score:.0f}%" if track > 0 else f"{name}  {100 * score:.0f}%"


def color_of(number: int) -> tuple[int, int, int]:
    """The color of an identity."""
    return COLORS[number % len(COLORS)]
