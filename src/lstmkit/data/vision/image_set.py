"""Pictures of one size, with or without labels: a folder, a zip, MNIST's files, or arrays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch

from lstmkit.data import zip_archive as zips
from lstmkit.data.batch import Batch
from lstmkit.data.vision.idx import read_idx_file
from lstmkit.data.vision.image_io import FILE_SUFFIXES, library, read_grayscale_image
from lstmkit.errors import DataError, listing

MAX_IMAGE_SIZE = 256  #: Dots of a side, as painted.


class Size(NamedTuple):
    """To what pictures are brought.

    Attributes:
        height, width: In dots.
        inverted: Whether what is dark is the ink; else what is bright.
    """

    height: int
    width: int
    inverted: bool = False


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures.

    Attributes:
        pictures: ``(N, height, width)`` float32, ink 1 and paper 0.
        labels: Of which kind each is; ``None`` where that is not known.
        ids: What each is called.
        name: What messages call them all.
        notes: What was done to read them.
    """

    pictures: np.ndarray
    labels: tuple[str | None, ...]
    ids: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    def part(self, rows: np.ndarray) -> Images:
        """The pictures ``rows``."""
        picked = (tuple(of[row] for row in rows) for of in (self.labels, self.ids))
        return replace(self, pictures=self.pictures[rows], **dict(zip(("labels", "ids"), picked, strict=True)))

    def require_labels(self) -> list[str]:
        """The labels of all.

        Raises:
            DataError: One of them has none.
        """
        for label, name in zip(self.labels, self.ids, strict=True):
            if label is None:
                raise DataError(f"{self.name}: picture {name} has no label: put it into a folder named by its kind")
        return [label for label in self.labels if label is not None]

    def digest(self) -> str:
        """A fingerprint."""
        found = hashlib.sha256(f"{self.pictures.shape}{self.labels!r}".encode("utf-8", "replace"))
        found.update(self.pictures.tobytes())
        return found.hexdigest()


def read_images(data: object, size: Size) -> Images:
    """A picture, a folder or zip of pictures, IDX files, or arrays.

    A label is the name of the folder that a picture lies in, a single one too; of IDX files the second one's byte,
    as in ``"train-images-idx3-ubyte,train-labels-idx1-ubyte"``, gzipped or not; in Python ``(arrays, labels)``. Arrays
    are ``(N, H, W)``: whole numbers from 0 to 255, others from 0 to 1. All are brought to ``size``.

    Raises:
        DataError: What cannot be read, with place and remedy.

    >>> images = read_images((np.eye(4)[None], ["a line"]), Size(4, 4))
    >>> images.labels, float(images.pictures.sum())
    (('a line',), 4.0)
    """
    if isinstance(data, Images):
        return data
    found = _from_path(data, size) if isinstance(data, (str, os.PathLike)) else _from_arrays(data, size)
    if not len(found):
        raise DataError(f"{found.name} has no pictures")
    return found


def _from_path(data: str | os.PathLike[str], size: Size) -> Images:
    text = os.fspath(data)
    path = Path(text)
    if "," in text and not path.exists():
        pictures, labels = (Path(part) for part in text.split(",", 1))
        return _idx(pictures, labels, size)
    if "idx3" in path.name:
        return _idx(path, None, size)
    if path.is_dir():
        files = {PurePosixPath(file.relative_to(path).as_posix()): file for file in path.rglob("*") if file.is_file()}
        names = [name for name in sorted(files) if _is_picture(name)]
        return _read_all(path.name, names, len(files), lambda: (files[name] for name in names), size)
    if path.suffix.lower() == ".zip":
        with zips.open_zip(path) as archive:
            inside = [PurePosixPath(name) for name in zips.file_names(archive)]
            names = [name for name in inside if _is_picture(name)]

            def contents() -> Iterator[bytes]:
                for name in names:
                    yield zips.read_member(archive, str(name), path.name)

            return _read_all(path.name, names, len(inside), contents, size)
    name = PurePosixPath(path.absolute().parent.name, path.name)
    return _read_all(path.name, [name], 1, lambda: iter([path]), size)


def _is_picture(name: PurePosixPath) -> bool:
    return name.suffix.lower() in FILE_SUFFIXES and not zips.is_hidden_file(str(name))


def _read_all(
    where: str,
    names: Sequence[PurePosixPath],
    files: int,
    contents: Callable[[], Iterator[Path | bytes]],
    size: Size,
) -> Images:
    if not names:
        raise DataError(f"{where} has no picture ({', '.join(FILE_SUFFIXES)}) among its {files} files")
    read = zip(names, contents(), strict=True)
    found = np.stack(
        [brought(read_grayscale_image(one, str(name)).astype(np.float32) / 255, size) for name, one in read]
    )
    notes = (f"{files - len(names)} files of {where} are no pictures and were passed over",)
    labels = tuple(name.parent.name or None for name in names)
    return Images(found, labels, tuple(map(str, names)), where, notes if files > len(names) else ())


def _idx(pictures: Path, labels: Path | None, size: Size) -> Images:
    arrays = [read_idx_file(path) for path in (pictures, labels) if path is not None]
    given = arrays[1].tolist() if labels is not None else None
    return _from_arrays(arrays[0] if given is None else (arrays[0], given), size, pictures.name)


def _from_arrays(data: Any, size: Size, name: str = "the data") -> Images:
    pair = isinstance(data, tuple) and len(data) == 2
    arrays, labels = data if pair else (data, None)
    try:
        values = np.asarray(arrays)
        values = values.astype(np.float32) / (255 if np.issubdtype(values.dtype, np.integer) else 1)
    except (ValueError, TypeError):
        raise DataError(f"{name}: give a path, or pictures (N, H, W) of one size") from None
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or not values.size:
        raise DataError(f"{name} has the shape {values.shape}: give pictures (N, H, W), with one shade a dot")
    if not (values >= 0).all() or not (values <= 1).all():  # NaN is neither
        raise DataError(f"{name}: a shade is missing or none from 0 to 1: give whole numbers to 255, or shares")
    if labels is not None and len(labels) != len(values):
        raise DataError(f"there are {len(values)} pictures and {len(labels)} labels: give one of each")
    of_each = (None,) * len(values) if labels is None else tuple(str(label).strip() or None for label in labels)
    ids = tuple(str(number) for number in range(1, len(values) + 1))
    return Images(np.stack([brought(one, size) for one in values]), of_each, ids, name)


def brought(picture: np.ndarray, size: Size) -> np.ndarray:
    """A picture ``(H, W)`` of shades from 0 to 1 at a size, its sides kept in proportion, paper around it."""
    if size.inverted:
        picture = 1 - picture
    if picture.shape == (size.height, size.width):
        return picture.astype(np.float32)
    shape = picture.shape
    scale = min(size.height / shape[0], size.width / shape[1])
    high, wide = (max(1, round(side * scale)) for side in shape)
    pillow: Any = library("PIL.Image")
    scaled = pillow.fromarray(picture.astype(np.float32)).resize((wide, high), pillow.Resampling.BOX)
    found = np.zeros((size.height, size.width), dtype=np.float32)
    top, left = (size.height - high) // 2, (size.width - wide) // 2
    found[top : top + high, left : left + wide] = np.asarray(scaled).clip(0, 1)
    return found


class ImageDataset:
    """Pictures as a source of batches.

    Args:
        pictures: ``(N, height, width)``.
        kinds: ``(N,)`` of which kind each is; ``None`` where none is told.
    """

    lengths = None

    def __init__(self, pictures: np.ndarray, kinds: np.ndarray | None = None) -> None:
        self.pictures, self.kinds = pictures, kinds

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, rows: np.ndarray) -> Batch:
        extras = {} if self.kinds is None else {"kind": torch.from_numpy(self.kinds[rows])}
        return Batch(torch.from_numpy(self.pictures[rows]), rows=rows, extras=extras)


def binarize(pictures: np.ndarray, seed: int) -> np.ndarray:
    """Each dot ink with the probability that its shade is, drawn by a seed: of ``(N, H, W)`` float32 0 and 1.

    >>> binarize(np.array([[[0.0, 1.0]]], dtype=np.float32), 0).tolist()
    [[[0.0, 1.0]]]
    """
    noise = np.random.default_rng(seed).random(pictures.shape, dtype=np.float32)
    return (noise < pictures).astype(np.float32)


def encode_labels(labels: Sequence[str], known: Sequence[str], name: str) -> np.ndarray:
    """``(N,)`` int64.

    Raises:
        DataError: A label that is not known.
    """
    number = {label: i for i, label in enumerate(known)}
    for label in labels:
        if label not in number:
            raise DataError(f"{name}: there is no kind {label!r}: the model knows {listing(known)}")
    return np.array([number[label] for label in labels], dtype=np.int64)
