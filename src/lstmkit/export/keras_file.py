"""Files of Keras models as JSON and arrays: ``.keras`` and ``.h5``. Nothing of a file runs, and its arrays are bounded.

``.keras`` is a zip archive with ``metadata.json``, ``config.json`` and ``model.weights.h5``. Its datasets are numbered:
``layers/lstm_1/cell/vars/0`` is the first weight of the second layer of class LSTM. ``.h5`` is one HDF5 file with the
description in its attribute ``model_config``, whose datasets are named by the attribute ``weight_names`` of a group for
each layer. Both forms were read from ``saving/saving_lib.py`` and ``legacy/saving/legacy_h5_format.py`` of Keras 3.15.
"""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmkit.data.files import check_decoded_size, read_bytes, reading
from lstmkit.data.zip_archive import open_zip
from lstmkit.errors import ModelFileError, one_line
from lstmkit.libraries import import_library

_ADVICE = "save the model again with Keras"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"  #: Files in a ``.keras`` archive.
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
#: Reads names and attributes of a file; its arrays are checked before they are read.
_READ_ALL = """
import io, sys, h5py
with h5py.File(io.BytesIO(sys.stdin.buffer.read()), "r") as file:
    dict(file.attrs)
    file.visititems(lambda name, item: dict(item.attrs) and None)
"""
_SECONDS = 20  # a whole file takes a fraction of one
_FILTERS = {1, 2, 3}  # of HDF5: deflate, shuffle, checksum; others may need a plug-in

Shape = tuple[int | None, ...]


class LayerWeights(ABC):
    """The weights of one layer of a file.

    Attributes:
        layer: How messages call the layer.
    """

    def __init__(self, layer: str) -> None:
        self.layer = layer

    def take(self, part: str, shapes: dict[str, Shape]) -> list[np.ndarray]:
        """The next weights of the layer, in float32.

        Args:
            part: Where they lie in a ``.keras`` file: ``""``, ``"cell"``, ``"forward_layer/cell"``.
            shapes: Names for messages -> expected shapes; ``None`` for a dimension of any size of at least 1.

        Raises:
            ModelFileError: They are missing, there are others, or one has another shape or no float values.
            DataError: They take too much memory.
        """
        datasets = self._datasets(part, len(shapes))
        return [self._read(dataset, *item) for dataset, item in zip(datasets, shapes.items(), strict=True)]

    @abstractmethod
    def _datasets(self, part: str, count: int) -> list[Any]:
        """The datasets of the next ``count`` weights."""

    @abstractmethod
    def check_all_taken(self) -> None:
        """Raise ModelFileError if the layer has more weights than were taken."""

    def _expect(self, count: int, expected: int) -> None:
        if count != expected:
            raise ModelFileError(f"{self.layer} has {count} weights, expected {expected}: {_ADVICE}")

    def _read(self, dataset: Any, name: str, shape: Shape) -> np.ndarray:
        fits = len(dataset.shape or ()) == len(shape) and all(
            size >= 1 and size == (expected or size) for size, expected in zip(dataset.shape, shape, strict=True)
        )
        if not fits:
            expected = ", ".join("any" if size is None else str(size) for size in shape)
            raise ModelFileError(
                f"{self.layer}: {name} has the shape {dataset.shape}, expected ({expected}): {_ADVICE}"
            )
        if dataset.dtype.kind != "f":
            raise ModelFileError(f"{self.layer}: {name} has values of type {dataset.dtype}, expected float: {_ADVICE}")
        _check_storage(dataset, f"{self.layer}: {name}")
        return np.asarray(dataset[()], dtype=np.float32)


class _NumberedWeights(LayerWeights):
    """Weights of a ``.keras`` file: ``vars/0``, ``vars/1`` in a group for each part of a layer."""

    def __init__(self, layer: str, root: Any, path: str) -> None:
        super().__init__(layer)
        self._root, self._path = root, path

    def _datasets(self, part: str, count: int) -> list[Any]:
        path = "/".join(filter(None, [self._path, part, "vars"]))
        group = _member(self._root, path, self.layer)
        names = set(group.keys()) if _is_group(group) else set()
        self._expect(len(names), count)
        return [_dataset(self._root, f"{path}/{k}", self.layer) for k in range(count)]

    def check_all_taken(self) -> None:
        """Nothing to check: every part was read whole."""


class _NamedWeights(LayerWeights):
    """Weights of an ``.h5`` file: a list of names for each layer."""

    def __init__(self, layer: str, group: Any, names: Sequence[str]) -> None:
        super().__init__(layer)
        self._group, self._names, self._taken = group, names, 0

    def _datasets(self, part: str, count: int) -> list[Any]:
        names = self._names[self._taken : self._taken + count]
        self._taken += count
        if len(names) < count:
            self._expect(len(self._names), self._taken)
        return [_dataset(self._group, name, self.layer) for name in names]

    def check_all_taken(self) -> None:
        self._expect(len(self._names), self._taken)


class KerasFile(NamedTuple):
    """An open file.

    Attributes:
        name: Name of the file in messages.
        version: Version of Keras that saved it: ``"3.15.1"``.
        model: Its description, parsed JSON of any form.
        root: The HDF5 group with the weights.
        is_numbered: Whether it is a ``.keras`` file, whose weights are numbered.
    """

    name: str
    version: str
    model: Any
    root: Any
    is_numbered: bool

    @property
    def is_keras_3(self) -> bool:
        return self.version.partition(".")[0] == "3"

    def weights(self, class_name: str, layer_name: str, place: int) -> LayerWeights:
        """The weights of a layer.

        Args:
            class_name: Its class: ``"LSTM"``.
            layer_name: Its name: ``"lstm_3"``.
            place: How many layers of its class come before it.
        """
        label = f"{self.name}, layer {one_line(layer_name)!r} ({class_name})"
        if self.is_numbered:
            # tf.keras 2.12 to 2.15 had another name for the list of layers.
            lists = [name for name in ("layers", "_layer_checkpoint_dependencies") if name in self.root]
            snake = f"{snake_case(class_name)}{f'_{place}' if place else ''}"
            return _NumberedWeights(label, self.root, f"{lists[0] if lists else 'layers'}/{snake}")
        group = _member(self.root, layer_name, label)
        if not _is_group(group):
            raise ModelFileError(f"{label} has no group of weights: {_ADVICE}")
        return _NamedWeights(label, group, _texts(group, "weight_names", label))


@contextmanager
def open_keras_file(path: Path) -> Iterator[KerasFile]:
    """Open a ``.keras`` or ``.h5`` file; its content tells which it is.

    Raises:
        MissingLibraryError: h5py is not installed.
        DataError: The file does not exist, is damaged or too large. Also for what happens inside the context.
        ModelFileError: It is another file.
    """
    h5py = import_library("h5py", "keras", "reading Keras models")
    content = read_bytes(path)
    with reading(path.name, "is not a readable Keras model", _ADVICE):
        if content.startswith(_HDF5_MAGIC):
            check_ends(content, path.name)
            with h5py.File(io.BytesIO(content), "r") as file:
                yield _opened_h5(path.name, file)
        elif content.startswith(b"PK"):
            with open_zip(path) as archive:
                model = _json(_content(archive, CONFIG, path.name))
                version = _json(_content(archive, METADATA, path.name)).get("keras_version", "unknown")
                weights = _content(archive, WEIGHTS, path.name)
            check_ends(weights, path.name)
            with h5py.File(io.BytesIO(weights), "r") as file:
                yield KerasFile(path.name, one_line(version), model, file, is_numbered=True)
        else:
            raise ModelFileError(f"{path.name} is not a Keras model: give a .keras or .h5 file of model.save")


def check_ends(content: bytes, name: str) -> None:
    """Read a whole HDF5 file in a process of its own: a damaged one can send the library into an endless loop.

    Raises:
        ModelFileError: The process did not end, or the library crashed. Other faults are found when the file is read.
    """
    try:
        done = subprocess.run([sys.executable, "-c", _READ_ALL], input=content, capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as err:
        raise ModelFileError(f"{name} is damaged (HDF5 cannot read it in {_SECONDS} s): {_ADVICE}") from err
    if done.returncode < 0:
        raise ModelFileError(f"{name} is damaged (HDF5 crashed on it): {_ADVICE}")


def _opened_h5(name: str, file: Any) -> KerasFile:
    if "model_config" not in file.attrs:
        what = "weights only" if "layer_names" in file.attrs or "layers" in file else "no model"
        raise ModelFileError(f"{name} holds {what}: give a file of model.save")
    version = _texts(file, "keras_version", name)[0] if "keras_version" in file.attrs else "1"
    if version.startswith("1"):
        raise ModelFileError(f"{name} was saved by Keras {one_line(version)}: load it in Keras 2 and save it there")
    model = _json("".join(_texts(file, "model_config", name)).encode())
    return KerasFile(name, one_line(version), model, _member(file, "model_weights", name), is_numbered=False)


def _content(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    if name not in archive.NameToInfo:
        raise ModelFileError(f"{where} has no file {name}: {_ADVICE}")
    check_decoded_size(archive.getinfo(name).file_size, f"{name} in {where}")
    return archive.read(name)


def _json(content: bytes) -> Any:
    return json.loads(content.decode())


def snake_case(name: str) -> str:
    """Keras' own rule: ``SimpleRNN`` is ``simple_rnn``."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


# ---- HDF5 --------------------------------------------------------------------------------------------------------


def _is_group(item: Any) -> bool:
    return hasattr(item, "keys")


def _member(group: Any, path: str, where: str) -> Any:
    """A member of a group by its path.

    Raises:
        ModelFileError: There is none, or it is a link: Keras writes none, and a link may lead out of the file.
    """
    h5py = import_library("h5py", "keras", "reading Keras models")
    for part in path.split("/"):
        link = group.get(part, getlink=True) if part and _is_group(group) and part in group else None
        if link is None:
            raise ModelFileError(f"{where} has no {one_line(path)!r} in its weights: {_ADVICE}")
        if not isinstance(link, h5py.HardLink):
            raise ModelFileError(f"{where}: {one_line(path)!r} is a link to another place: {_ADVICE}")
        group = group[part]
    return group


def _dataset(group: Any, path: str, where: str) -> Any:
    """A dataset of a group by its path, whose values lie in the file.

    Raises:
        ModelFileError: There is none, it is a link, or its values lie elsewhere.
    """
    dataset = _member(group, path, where)
    if _is_group(dataset) or not hasattr(dataset, "external"):
        raise ModelFileError(f"{where}: {one_line(path)!r} is not an array: {_ADVICE}")
    if dataset.external or dataset.is_virtual:
        raise ModelFileError(f"{where}: {one_line(path)!r} has its values in another file: {_ADVICE}")
    return dataset


def _check_storage(dataset: Any, name: str) -> None:
    """Raise an error before a dataset is read that takes too much memory or needs a plug-in, or has no values."""
    size = dataset.dtype.itemsize
    check_decoded_size(math.prod(dataset.shape) * max(size, 4), name)
    check_decoded_size(math.prod(dataset.chunks or ()) * size, name)
    creation = dataset.id.get_create_plist()
    if {creation.get_filter(k)[0] for k in range(creation.get_nfilters())} - _FILTERS:
        raise ModelFileError(f"{name} is compressed by another method than gzip: {_ADVICE}")
    if not dataset.id.get_storage_size():
        raise ModelFileError(f"{name} has no values in the file: {_ADVICE}")


def _texts(item: Any, name: str, where: str) -> list[str]:
    """Texts of an attribute, or of the attributes ``name0``, ``name1`` …, into which Keras splits a long one."""
    names = (
        [name] if name in item.attrs else [f"{name}{k}" for k in range(len(item.attrs)) if f"{name}{k}" in item.attrs]
    )
    if not names:
        raise ModelFileError(f"{where} has no attribute {name}: {_ADVICE}")
    texts: list[str] = []
    for each in names:
        attribute = item.attrs.get_id(each)
        check_decoded_size(math.prod(attribute.shape) * attribute.dtype.itemsize, f"{where}, attribute {each}")
        values = np.asarray(item.attrs[each], dtype=object).ravel()
        texts += [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    return texts
