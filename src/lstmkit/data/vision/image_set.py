"""Image sets of one size, with or without labels: a folder, a zip, IDX files (MNIST), or arrays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch

from lstmkit.data import zip_archive
from lstmkit.data.batch import Batch
from lstmkit.data.folders import visible_files
from lstmkit.data.formats import DataFormat, check_format
from lstmkit.data.vision.idx import read_idx_file
from lstmkit.data.vision.image_io import (
    FILE_SUFFIXES,
    IMAGE,
    import_pillow,
    is_color_image,
    read_grayscale_image,
    scale_pixels,
)
from lstmkit.errors import DataError, listing

MAX_IMAGE_SIZE = 256  #: Maximum height and width, in pixels.


#: Formats of images.
FORMATS = (
    IMAGE,
    DataFormat(
        "IDX",
        ("-idx3-ubyte", ".idx3-ubyte"),
        gzip=True,
        notes="As in MNIST; with labels as train-images-idx3-ubyte,train-labels-idx1-ubyte.",
    ),
    DataFormat("zip archive of images", (".zip",), notes="The label of an image is the name of its folder."),
    DataFormat("folder of images", folder=True, notes="The label of an image is the name of its folder."),
)


class Size(NamedTuple):
    """Target size of images.

    Attributes:
        height, width: In pixels.
        invert: Whether dark pixels are the ink; by default bright pixels are.
    """

    height: int
    width: int
    invert: bool = False


@dataclass(frozen=True, eq=False)
class Images:
    """A set of grayscale images.

    Attributes:
        pixels: ``(N, height, width)`` float32, ink 1 and paper 0.
        labels: Class of each image; ``None`` if unknown.
        ids: Id of each image.
        name: Name of the data in messages.
        notes: What was done to read them.
    """

    pixels: np.ndarray
    labels: tuple[str | None, ...]
    ids: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    def subset(self, rows: np.ndarray) -> Images:
        """The images ``rows``."""
        picked = (tuple(values[row] for row in rows) for values in (self.labels, self.ids))
        return replace(self, pixels=self.pixels[rows], **dict(zip(("labels", "ids"), picked, strict=True)))

    def require_labels(self) -> list[str]:
        """The labels of all images.

        Raises:
            DataError: An image has no label.
        """
        for label, name in zip(self.labels, self.ids, strict=True):
            if label is None:
                raise DataError(f"{self.name}: image {name} has no label: put it into a folder named after its class")
        return [label for label in self.labels if label is not None]

    def digest(self) -> str:
        """SHA-256 of images and labels."""
        digest = hashlib.sha256(f"{self.pixels.shape}{self.labels!r}".encode("utf-8", "replace"))
        digest.update(self.pixels.tobytes())
        return digest.hexdigest()


def read_images(data: object, size: Size) -> Images:
    """Read images from a file, a folder, a zip, IDX files, or arrays, and resize them.

    The label of an image file is the name of its folder. IDX files are given as one path, or with their labels as
    ``"train-images-idx3-ubyte,train-labels-idx1-ubyte"``, gzipped or not. Arrays ``(N, H, W)`` or ``(arrays, labels)``
    hold integers from 0 to 255, or floats from 0 to 1.

    Raises:
        DataError: The data cannot be read.

    >>> images = read_images((np.eye(4)[None], ["a line"]), Size(4, 4))
    >>> images.labels, float(images.pixels.sum())
    (('a line',), 4.0)
    """
    if isinstance(data, Images):
        return data
    images = _from_path(data, size) if isinstance(data, (str, os.PathLike)) else _from_arrays(data, size)
    if not len(images):
        raise DataError(f"{images.name} has no images: give at least one")
    return images


def _from_path(data: str | os.PathLike[str], size: Size) -> Images:
    text = os.fspath(data)
    path = Path(text)
    if "," in text and not path.exists():
        image_file, label_file = (Path(part) for part in text.split(",", 1))
        return _idx(image_file, label_file, size)
    if "idx3" in path.name:
        return _idx(path, None, size)
    if path.is_dir():
        files = {PurePosixPath(file.relative_to(path).as_posix()): file for file in visible_files(path)}
        names = [name for name in sorted(files) if _is_image(name)]
        return _read_all(path.name, names, len(files), lambda: (files[name] for name in names), size)
    if path.suffix.lower() == ".zip":
        with zip_archive.open_zip(path) as archive:
            inside = [PurePosixPath(name) for name in zip_archive.file_names(archive)]
            names = [name for name in inside if _is_image(name)]

            def contents() -> Iterator[bytes]:
                for name in names:
                    yield zip_archive.read_member(archive, str(name), path.name)

            return _read_all(path.name, names, len(inside), contents, size)
    check_format(path, FORMATS)
    name = PurePosixPath(path.absolute().parent.name, path.name)
    return _read_all(path.name, [name], 1, lambda: iter([path]), size)


def _is_image(name: PurePosixPath) -> bool:
    return name.suffix.lower() in FILE_SUFFIXES and not zip_archive.is_hidden_file(str(name))


def _read_all(
    where: str,
    names: Sequence[PurePosixPath],
    files: int,
    contents: Callable[[], Iterator[Path | bytes]],
    size: Size,
) -> Images:
    if not names:
        raise DataError(f"{where} has no image ({', '.join(FILE_SUFFIXES)}) among its {files} files: give image files")
    named = zip(names, contents(), strict=True)
    images = [read_grayscale_image(source, str(name)).astype(np.float32) / 255 for name, source in named]
    notes = (f"{files - len(names)} files of {where} are not images and were skipped",)
    labels = tuple(name.parent.name or None for name in names)
    return Images(
        np.stack([fit_to_size(image, size) for image in images]),
        labels,
        tuple(map(str, names)),
        where,
        notes if files > len(names) else (),
    )


def _idx(image_file: Path, label_file: Path | None, size: Size) -> Images:
    arrays = [read_idx_file(path) for path in (image_file, label_file) if path is not None]
    classes = arrays[1].tolist() if label_file is not None else None
    return _from_arrays(arrays[0] if classes is None else (arrays[0], classes), size, image_file.name)


def _from_arrays(data: Any, size: Size, name: str = "the data") -> Images:
    pair = isinstance(data, tuple) and len(data) == 2
    arrays, labels = data if pair else (data, None)
    values = scale_pixels(arrays, name)
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or not values.size or is_color_image(values.shape):
        raise DataError(f"{name} has shape {values.shape}: give grayscale images (N, H, W) of one size")
    if labels is not None and len(labels) != len(values):
        raise DataError(f"{len(values)} images and {len(labels)} labels: give one label per image")
    image_labels = (None,) * len(values) if labels is None else tuple(str(label).strip() or None for label in labels)
    ids = tuple(str(number) for number in range(1, len(values) + 1))
    return Images(np.stack([fit_to_size(image, size) for image in values]), image_labels, ids, name)


def fit_to_size(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize an image ``(H, W)`` of values from 0 to 1 with its aspect ratio kept, centered and padded with 0."""
    if size.invert:
        image = 1 - image
    if image.shape == (size.height, size.width):
        return image.astype(np.float32)
    shape = image.shape
    scale = min(size.height / shape[0], size.width / shape[1])
    new_height, new_width = (max(1, round(side * scale)) for side in shape)
    pillow: Any = import_pillow("PIL.Image")
    scaled = pillow.fromarray(image.astype(np.float32)).resize((new_width, new_height), pillow.Resampling.BOX)
    padded = np.zeros((size.height, size.width), dtype=np.float32)
    top, left = (size.height - new_height) // 2, (size.width - new_width) // 2
    padded[top : top + new_height, left : left + new_width] = np.asarray(scaled).clip(0, 1)
    return padded


class ImageDataset:
    """Dataset of images, with optional classes.

    Args:
        images: ``(N, height, width)`` float32.
        classes: Class of each image ``(N,)``, passed as ``extras["kind"]``; ``None`` without classes.
    """

    lengths = None

    def __init__(self, images: np.ndarray, classes: np.ndarray | None = None) -> None:
        self.images, self.classes = images, classes

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: np.ndarray) -> Batch:
        """Inputs ``(B, height, width)``."""
        extras = {} if self.classes is None else {"kind": torch.from_numpy(self.classes[rows])}
        return Batch(torch.from_numpy(self.images[rows]), rows=rows, extras=extras)


def binarize(images: np.ndarray, seed: int) -> np.ndarray:
    """Stochastic binarization: each pixel is 1 with the probability of its shade; ``(N, H, W)`` float32.

    >>> binarize(np.array([[[0.0, 1.0]]], dtype=np.float32), 0).tolist()
    [[[0.0, 1.0]]]
    """
    noise = np.random.default_rng(seed).random(images.shape, dtype=np.float32)
    return (noise < images).astype(np.float32)


def encode_labels(labels: Sequence[str], known: Sequence[str], name: str) -> np.ndarray:
    """Encode labels as indices into ``known``, ``(N,)`` int64.

    Raises:
        DataError: A label is not in ``known``.
    """
    index = {label: i for i, label in enumerate(known)}
    for label in labels:
        if label not in index:
            raise DataError(f"{name}: unknown class {label!r}: give one of {listing(known)}")
    return np.array([index[label] for label in labels], dtype=np.int64)
