"""Read and write boxes of objects in video: a table, COCO JSON, MOT text, and YOLO folders."""

from __future__ import annotations

import configparser
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from lstmkit.data.files import is_file, read_bytes, reading
from lstmkit.data.folders import visible_files
from lstmkit.data.formats import DataFormat, check_format
from lstmkit.data.tables.table import TABLES, Table, read_file
from lstmkit.data.vision.boxed_clips import (
    UNKNOWN_ID,
    BoxedClip,
    BoxedClips,
    Boxes,
    checked_boxes,
    notes_on_clip,
    table_of_boxes,
)
from lstmkit.data.vision.frame_rate import DEFAULT_FRAME_RATE
from lstmkit.data.vision.image_io import FILE_SUFFIXES as IMAGE_SUFFIXES
from lstmkit.data.vision.image_io import image_size, read_image
from lstmkit.data.vision.video_io import FILE_SUFFIXES as VIDEO_SUFFIXES
from lstmkit.data.vision.video_io import (
    VIDEO,
    ClipFormat,
    VideoClip,
    iter_frames,
    video_from_array,
    video_from_frames,
)
from lstmkit.errors import DataError, listing
from lstmkit.progress import Progress

#: Formats of clips and boxes. Clips and their table may be given together, as ``clips,boxes.csv``.
FORMATS = (
    *TABLES,
    DataFormat("COCO JSON", (".json",), notes="Its file names are relative to its folder, or to that of the images."),
    VIDEO,
    DataFormat(
        "folder of clips",
        folder=True,
        notes="Videos or folders of frames, with boxes in one table or COCO file; MOT sequences; or a YOLO folder.",
    ),
)
_COLUMNS = ("clip", "frame", "class", "x", "y", "w", "h")
_MAX_FRAMES = 20_000  # of a clip
_CLASS_NAMES = ("classes.txt", "obj.names", "data.yaml")  # of a YOLO folder
_NAMED_CLASS = re.compile(r"^\s+(\d+)\s*:\s*(.+?)\s*$")


class ClipReader(NamedTuple):
    """How clips are read.

    Attributes:
        clip_format: Height, width and channels of the frames; its frame rate is not used, for boxes count all frames.
        frame_step: Each n-th frame is read; 1 = all.
    """

    clip_format: ClipFormat
    frame_step: int = 1

    def video(self, path: Path, name: str) -> tuple[VideoClip, tuple[int, int]]:
        """A video file, and the height and width of its frames."""
        frames = []
        for frame in iter_frames(path, self.clip_format._replace(frame_rate=0.0), name):
            if len(frames) == _MAX_FRAMES:
                raise DataError(f"{name} has more than {_MAX_FRAMES:,} frames: split it into clips")
            if frames and frame.source_size != frames[0].source_size:
                raise DataError(f"{name} changes its frame size at frame {len(frames)}: split it there")
            frames.append(frame)
        return video_from_frames(name, frames, self.clip_format), frames[0].source_size

    def images(self, paths: Sequence[Path], name: str) -> tuple[VideoClip, tuple[int, int]]:
        """Image files as the frames of a clip."""
        if len(paths) > _MAX_FRAMES:
            raise DataError(f"{name} has more than {_MAX_FRAMES:,} frames: split it into clips")
        size = image_size(paths[0])
        for path in paths[1:]:
            if image_size(path) != size:
                raise DataError(f"{path.name} in {name} has another size than the first frame: give frames of one size")
        height, width, color, _ = self.clip_format
        frames = np.stack([read_image(path, height, width, color) for path in paths])
        return VideoClip(name, frames, np.arange(len(frames)) / DEFAULT_FRAME_RATE, DEFAULT_FRAME_RATE), size


@dataclass(frozen=True)
class _Unread:
    """A clip that is not read yet: a video file or the files of its frames, and its boxes."""

    name: str
    files: tuple[Path, ...]
    boxes: Boxes | None

    def read(self, reader: ClipReader) -> tuple[BoxedClip, list[str]]:
        """The clip with checked boxes, and notes."""
        is_video = len(self.files) == 1 and self.files[0].suffix.lower() in VIDEO_SUFFIXES
        clip, size = reader.video(self.files[0], self.name) if is_video else reader.images(self.files, self.name)
        return _checked(clip, size, self.boxes, reader)


def _checked(
    clip: VideoClip, size: tuple[int, int], boxes: Boxes | None, reader: ClipReader
) -> tuple[BoxedClip, list[str]]:
    cut = 0
    if boxes is not None:
        boxes, cut = checked_boxes(boxes, clip, size)
    return BoxedClip(clip, size, boxes).every_nth(reader.frame_step), notes_on_clip(clip, cut)


def read_boxed_clips(data: object, reader: ClipReader, progress: Progress | None = None) -> BoxedClips:
    """Read clips, with or without boxes.

    Args:
        data: A table, a COCO file, a video, a folder, or ``"clips,boxes.csv"``; see :data:`FORMATS`. In Python a list
            of clips: arrays ``(T, H, W)`` or ``(T, H, W, 3)``, video clips, paths, or pairs of one of these and its
            boxes. Those are a list with one list per frame of ``(class, x, y, w, h)``, optionally followed by the
            identity of the object; or :class:`Boxes`.
        reader: How clips are read.
        progress: Where to report progress.

    Raises:
        DataError: A file cannot be read, or a box is not valid.

    >>> reader = ClipReader(ClipFormat(8, 8, color=False))
    >>> boxed = read_boxed_clips([(np.zeros((2, 8, 8)), [[("bird", 1, 1, 4, 4)], []])], reader)
    >>> boxed.classes, boxed.num_frames
    (('bird',), 2)
    """
    if isinstance(data, BoxedClips):
        return data
    if isinstance(data, (str, os.PathLike)):
        name, unread = _find(os.fspath(data))
        found = []
        with (progress or Progress()).task("reading clips", len(unread)) as task:
            for number, each in enumerate(unread, 1):
                found.append(each.read(reader))
                task.update(number)
    else:
        name, found = "the data", [_from_object(entry, k, reader) for k, entry in enumerate(_entries(data), 1)]
    if not found:
        raise DataError(f"{name} has no clips: give at least one")
    return BoxedClips([clip for clip, _ in found], name, tuple(note for _, notes in found for note in notes))


# ---- Python objects --------------------------------------------------------------------------------------------------


def _entries(data: object) -> Sequence[Any]:
    if isinstance(data, np.ndarray) and data.ndim >= 4:
        return list(data) if data.ndim == 5 else [data]
    if isinstance(data, VideoClip):
        return [data]
    if not isinstance(data, Sequence):
        raise DataError(f"give a path, or a list of clips and their boxes, not {type(data).__name__}")
    return data


def _from_object(entry: Any, number: int, reader: ClipReader) -> tuple[BoxedClip, list[str]]:
    frames, boxes = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, None)
    name, clip_format = f"clip {number}", reader.clip_format
    if isinstance(frames, (str, os.PathLike)):
        clip, size = reader.video(Path(frames), Path(frames).name)
    elif isinstance(frames, VideoClip):
        size = frames.frames.shape[1], frames.frames.shape[2]
        pixels = video_from_array(frames.frames, clip_format, frames.name).frames
        clip = VideoClip(frames.name, pixels, frames.times, frames.frame_rate)
    else:
        clip = video_from_array(frames, clip_format, name)
        shape: Any = np.shape(frames)
        size = shape[1], shape[2]
    if boxes is not None and not isinstance(boxes, Boxes):
        boxes = _boxes_of_lists(boxes, len(clip), clip.name)
    return _checked(clip, size, boxes, reader)


def _boxes_of_lists(boxes: Any, steps: int, name: str) -> Boxes:
    if not isinstance(boxes, Sequence) or len(boxes) != steps:
        raise DataError(f"{name} has {steps} frames: give a list with one list of boxes for each of them")
    try:
        return Boxes.of_rows([(frame, *box) for frame, of_frame in enumerate(boxes) for box in of_frame])
    except (TypeError, ValueError, IndexError) as err:
        raise DataError(f"{name}: a box is not (class, x, y, w, h) or (class, x, y, w, h, id): correct it") from err


# ---- paths -----------------------------------------------------------------------------------------------------------


def _find(text: str) -> tuple[str, list[_Unread]]:
    """Name of the data and the clips that a path stands for."""
    path = Path(text)
    if "," in text and not path.exists():
        where, table = (Path(part.strip()) for part in text.split(",", 1))
        return table.name, _from_box_file(table, where)
    check_format(path, FORMATS)
    if path.is_dir():
        return path.name or str(path), _from_folder(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return path.name, [_Unread(path.name, (path,), None)]
    return path.name, _from_box_file(path, path.parent)


def _from_box_file(path: Path, where: Path) -> list[_Unread]:
    if path.suffix.lower() == ".json":
        return _from_coco(path, where)
    return _from_table(read_file(path), where)


def _from_folder(folder: Path) -> list[_Unread]:
    files = visible_files(folder)
    sequences = sorted({file.parent.parent for file in files if file.parts[-2:] == ("gt", "gt.txt")})
    if sequences:
        return [_mot_sequence(sequence) for sequence in sequences]
    if (folder / "labels").is_dir() and (folder / "images").is_dir():
        return _from_yolo(folder)
    beside = [file for file in files if file.parent == folder]
    tables = [file for file in beside if file.suffix.lower() in (".csv", ".tsv", ".json") or file.suffix == ".gz"]
    if len(tables) > 1:
        raise DataError(
            f"{folder.name} has {len(tables)} tables ({listing(file.name for file in tables)}): name that of the "
            f'boxes, as "{folder.name},{tables[0].name}"'
        )
    if tables:
        return _from_box_file(tables[0], folder)
    return [_Unread(name, paths, None) for name, paths in _media(folder).items()]


def _media(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The clips of a folder by name: its video files, and its folders of images.

    Raises:
        DataError: There are none.
    """
    found: dict[str, tuple[Path, ...]] = {}
    images: dict[Path, list[Path]] = defaultdict(list)
    for file in visible_files(folder):
        if file.suffix.lower() in VIDEO_SUFFIXES:
            found[file.relative_to(folder).as_posix()] = (file,)
        elif file.suffix.lower() in IMAGE_SUFFIXES:
            images[file.parent].append(file)
    for parent, paths in images.items():
        name = folder.name if parent == folder else parent.relative_to(folder).as_posix()
        found[name] = tuple(paths)
    if not found:
        raise DataError(f"{folder.name} has no video files and no folders of frames: give at least one")
    return found


def _clip_files(where: Path, name: str, source: str) -> tuple[Path, ...]:
    """The files of the clip that a table names: with or without the ending of a video, or a folder of frames.

    Raises:
        DataError: There is no such clip.
    """
    path = where / name
    if path.is_dir() and not is_file(path):
        frames = tuple(file for file in visible_files(path) if file.suffix.lower() in IMAGE_SUFFIXES)
        if frames and all(map(is_file, frames)):
            return frames
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in VIDEO_SUFFIXES)]
    match = next((file for file in candidates if file.suffix.lower() in VIDEO_SUFFIXES and is_file(file)), None)
    if match is None:
        raise DataError(f"{source} names the clip {name!r}, which is not in {where.name or 'this folder'}: add it")
    return (match,)


# ---- a table ---------------------------------------------------------------------------------------------------------


def _from_table(table: Table, where: Path) -> list[_Unread]:
    """Clips of a table ``clip,frame,class,x,y,w,h``, and optionally ``id`` and ``score``.

    A row with a clip alone says that the clip is annotated, and has no box or none but those of other rows.
    """
    missing = [column for column in _COLUMNS if column not in table.frame]
    if missing:
        known = listing(table.frame.columns)
        raise DataError(f"{table.name} has no column {listing(missing)} (columns: {known}): give {','.join(_COLUMNS)}")
    clips = [str(cell).strip() for cell in table.column("clip")]
    table.raise_if_any("clip", table.empty("clip"), "is not the name of a clip: give one, or remove the row")
    is_box = ~np.all([table.empty(column) for column in _COLUMNS[1:]], axis=0)
    table.raise_if_any("class", table.empty("class") & is_box, "is not a class: give one, or remove the row")
    numbers = {column: _numbers(table, column, is_box) for column in ("frame", "x", "y", "w", "h")}
    frames = numbers["frame"]
    table.raise_if_any("frame", is_box & (frames != np.round(frames)), "is not a whole number: count frames from 0")
    ids = _optional(table, "id", UNKNOWN_ID)
    scores = _optional(table, "score", 1.0)
    labels = [str(cell).strip() for cell in table.column("class")]
    rows: dict[str, list[Any]] = {name: [] for name in clips}
    for k in np.flatnonzero(is_box):
        box = (numbers[column][k] for column in ("x", "y", "w", "h"))
        rows[clips[k]].append((int(frames[k]), labels[k], *box, int(ids[k]), float(scores[k])))
    return [
        _Unread(name, _clip_files(where, name, table.name), Boxes.of_rows(of_clip)) for name, of_clip in rows.items()
    ]


def _numbers(table: Table, column: str, needed: np.ndarray) -> np.ndarray:
    """A column as numbers, NaN where it is not needed.

    Raises:
        DataError: A cell that is needed is not a finite number.
    """
    values = np.array([_number(cell) for cell in table.column(column)])
    table.raise_if_any(column, needed & ~np.isfinite(values), "is not a number: correct it, or remove the row")
    return values


def _optional(table: Table, column: str, default: float) -> np.ndarray:
    if column not in table.frame:
        return np.full(len(table.frame), default)
    values = np.array([_number(cell) for cell in table.column(column)])
    invalid = ~table.empty(column) & ~np.isfinite(values)
    table.raise_if_any(column, invalid, "is not a number: correct it, or leave it empty")
    return np.where(np.isfinite(values), values, default)


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return np.nan


# ---- COCO ------------------------------------------------------------------------------------------------------------


def _from_coco(path: Path, where: Path) -> list[_Unread]:
    """Clips of a COCO file: ``images``, ``annotations`` and ``categories``.

    Images of one folder are the frames of a clip, by ``frame_id`` or else by name. An image whose file is a video is
    frame ``frame_id`` of it. An annotation may have ``track_id``, the identity of the object.
    """
    with reading(path.name, "is not a readable COCO file", "export it again"):
        content = json.loads(read_bytes(path))
        names = {int(each["id"]): str(each["name"]) for each in content["categories"]}
        images = {
            int(each["id"]): (PurePosixPath(str(each["file_name"])), int(each.get("frame_id", UNKNOWN_ID)))
            for each in content["images"]
        }
        annotations = [
            (int(each["image_id"]), int(each["category_id"]), [float(v) for v in each["bbox"]], each.get("track_id"))
            for each in content.get("annotations", ())
        ]
    for image, category, box, _ in annotations:
        if image not in images or category not in names or len(box) != 4:
            raise DataError(f"{path.name}: an annotation of image {image} has no image, category or box: correct it")
    clips: dict[str, list[tuple[int, int, PurePosixPath]]] = defaultdict(list)
    for image, (file, frame) in images.items():
        is_video = file.suffix.lower() in VIDEO_SUFFIXES
        if is_video and frame < 0:
            raise DataError(f"{path.name}: image {image} of the video {file} has no frame_id: give it, from 0")
        clips[str(file if is_video else file.parent)].append((frame, image, file))
    by_image: dict[int, list[Any]] = defaultdict(list)
    for image, category, box, track in annotations:
        by_image[image].append((names[category], *box, UNKNOWN_ID if track is None else int(track)))
    unread = []
    for name, members in clips.items():
        members.sort(key=lambda member: (member[0], str(member[2])))
        is_video = members[0][2].suffix.lower() in VIDEO_SUFFIXES
        rows = [
            (frame if is_video else k, *box) for k, (frame, image, _) in enumerate(members) for box in by_image[image]
        ]
        files = [where / members[0][2]] if is_video else [where / file for _, _, file in members]
        missing = [str(file) for file in files if not is_file(file)]
        if missing:
            raise DataError(f"{path.name} names {len(missing)} files that do not exist: {listing(missing)}: add them")
        unread.append(_Unread(path.stem if name == "." else name, tuple(files), Boxes.of_rows(rows)))
    return unread


# ---- MOT -------------------------------------------------------------------------------------------------------------


def _mot_sequence(folder: Path) -> _Unread:
    """A sequence of the MOT challenge: ``img1/``, ``gt/gt.txt`` and perhaps ``seqinfo.ini``.

    Rows of ``gt.txt`` are ``frame, id, left, top, width, height, flag, class, visibility``, with frames and pixels from
    1. Rows with flag 0 are not objects. ``labels.txt`` may name the classes, one a line; else 1 is ``pedestrian``.
    """
    image_folder = "img1"
    if is_file(folder / "seqinfo.ini"):
        with reading(f"{folder.name}/seqinfo.ini"):
            parser = configparser.ConfigParser(interpolation=None)
            parser.read_string(read_bytes(folder / "seqinfo.ini").decode())
            image_folder = parser.get("Sequence", "imDir", fallback=image_folder)
    names = {1: "pedestrian"}
    for place in (folder, folder.parent):
        if is_file(place / "gt" / "labels.txt") or is_file(place / "labels.txt"):
            file = place / "labels.txt" if is_file(place / "labels.txt") else place / "gt" / "labels.txt"
            names = dict(enumerate(read_bytes(file).decode("utf-8", "replace").split("\n"), 1))
            break
    rows = []
    text = read_bytes(folder / "gt" / "gt.txt").decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(value) for value in line.split(",")]
            frame, track, x, y, w, h = values[:6]
        except ValueError:
            raise DataError(
                f"{folder.name}/gt/gt.txt, line {number} is not frame,id,left,top,width,height: correct it"
            ) from None
        label = int(values[7]) if len(values) > 7 and values[7] > 0 else 1
        if len(values) < 7 or values[6] != 0:
            rows.append((int(frame) - 1, names.get(label, f"class {label}").strip(), x - 1, y - 1, w, h, int(track)))
    frames = (
        tuple(file for file in visible_files(folder / image_folder) if file.suffix.lower() in IMAGE_SUFFIXES)
        if (folder / image_folder).is_dir()
        else ()
    )
    if not frames:
        raise DataError(f"{folder.name} has no frames in {image_folder}/: add them")
    return _Unread(folder.name, frames, Boxes.of_rows(rows))


# ---- YOLO ------------------------------------------------------------------------------------------------------------


def _from_yolo(folder: Path) -> list[_Unread]:
    """Clips of a YOLO folder: ``images/CLIP/*.jpg``, ``labels/CLIP/*.txt`` and the names of the classes.

    A line of a label file is ``class x y w h``, relative to width and height, with the center of the box; a sixth value
    is the identity. A frame without a label file has no object.
    """
    names = _yolo_names(folder)
    unread = []
    for name, files in _media(folder / "images").items():
        if files[0].suffix.lower() in VIDEO_SUFFIXES:
            raise DataError(f"{folder.name}/images/{name} is a video: a YOLO folder has a folder of frames per clip")
        rows = []
        for frame, image in enumerate(files):
            label = folder / "labels" / image.relative_to(folder / "images").with_suffix(".txt")
            if is_file(label):
                height, width = image_size(image)
                rows += [(frame, *box) for box in _yolo_boxes(label, names, height, width)]
        unread.append(_Unread(folder.name if name == "images" else name, files, Boxes.of_rows(rows)))
    return unread


def _yolo_boxes(path: Path, names: Mapping[int, str], height: int, width: int) -> list[tuple[Any, ...]]:
    boxes = []
    for number, line in enumerate(read_bytes(path).decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            label, x, y, w, h, *track = (float(value) for value in line.split())
            name = names[int(label)]
        except (ValueError, KeyError):
            raise DataError(f"{path.name}, line {number} is not `class x y w h` of a known class: correct it") from None
        box = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
        boxes.append((name, *box, int(track[0]) if track else UNKNOWN_ID))
    return boxes


def _yolo_names(folder: Path) -> dict[int, str]:
    """The names of the classes by number. Raises DataError if there are none."""
    file = next((folder / name for name in _CLASS_NAMES if is_file(folder / name)), None)
    if file is None:
        raise DataError(f"{folder.name} has no {' or '.join(_CLASS_NAMES)}: add the names of the classes, one a line")
    lines = read_bytes(file).decode("utf-8", "replace").splitlines()
    if file.suffix == ".yaml":
        inline = next((line.partition(":")[2] for line in lines if line.startswith("names:")), "")
        if inline.strip().startswith("["):
            return dict(enumerate(name.strip(" '\"") for name in inline.strip(" []").split(",")))
        matches = filter(None, map(_NAMED_CLASS.match, lines))
        return {int(match[1]): match[2].strip("'\"") for match in matches}
    return dict(enumerate(line.strip() for line in lines if line.strip()))


# ---- out -------------------------------------------------------------------------------------------------------------


class NamedBoxes(NamedTuple):
    """Boxes of a clip to write.

    Attributes:
        name: Name of the clip.
        boxes: Its boxes.
        num_frames: Frames of the clip.
        size: Height and width of a frame.
    """

    name: str
    boxes: Boxes
    num_frames: int
    size: tuple[int, int]


def csv_text(clips: Iterable[NamedBoxes]) -> str:
    """A table ``clip,frame,class,x,y,w,h,id,score``, with coordinates in hundredths of a pixel."""
    table = table_of_boxes((clip.name, clip.boxes) for clip in clips)
    rounded = table.round({"x": 2, "y": 2, "w": 2, "h": 2, "score": 4})
    return rounded.to_csv(index=False, lineterminator="\n")


def mot_text(clip: NamedBoxes, classes: Sequence[str]) -> str:
    """Rows of the MOT challenge of one clip: frames and pixels from 1, class from 1 in the order of ``classes``."""
    lines = []
    for frame, label, x, y, w, h, track, score in clip.boxes.rows():
        place = f"{x + 1:.2f},{y + 1:.2f},{w:.2f},{h:.2f}"
        lines.append(f"{frame + 1},{track},{place},{score:.4f},{classes.index(label) + 1},1\n")
    return "".join(lines)


def coco_json(clips: Iterable[NamedBoxes], classes: Sequence[str]) -> dict[str, Any]:
    """COCO's ``images``, ``annotations`` and ``categories``; a frame is named ``CLIP/000001.jpg``."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for clip in clips:
        height, width = clip.size
        first = len(images) + 1
        images += [
            {"id": first + k, "file_name": f"{clip.name}/{k:06d}.jpg", "frame_id": k, "height": height, "width": width}
            for k in range(clip.num_frames)
        ]
        for frame, label, x, y, w, h, track, score in clip.boxes.rows():
            category = classes.index(label) + 1
            annotation = {"id": len(annotations) + 1, "image_id": first + frame, "category_id": category}
            annotation |= {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "score": score}
            annotations.append(annotation if track == UNKNOWN_ID else {**annotation, "track_id": track})
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_yolo(clips: Iterable[NamedBoxes], classes: Sequence[str], folder: Path) -> None:
    """Write ``labels/CLIP/000001.txt`` for each frame with boxes, and ``classes.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    for clip in clips:
        height, width = clip.size
        lines: dict[int, list[str]] = defaultdict(list)
        for frame, label, x, y, w, h, track, _ in clip.boxes.rows():
            center = (x + w / 2) / width, (y + h / 2) / height
            values = [f"{value:.6f}" for value in (*center, w / width, h / height)]
            values += [] if track == UNKNOWN_ID else [str(track)]
            lines[frame].append(" ".join([str(classes.index(label)), *values]) + "\n")
        labels = folder / "labels" / clip.name
        labels.mkdir(parents=True, exist_ok=True)
        for frame, of_frame in lines.items():
            (labels / f"{frame:06d}.txt").write_text("".join(of_frame), encoding="utf-8")
