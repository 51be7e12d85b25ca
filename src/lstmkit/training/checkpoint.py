"""Models and training states on disk, as safetensors and JSON. Files are written atomically; nothing is pickled.

Every file that is loaded again holds a SHA-256 of its own content: a changed bit is an error and never another answer.
Files of version 0.1 have none and are loaded without the check.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors_bytes
from safetensors.torch import save as save_tensors_bytes
from torch import Tensor

from lstmkit.errors import ModelFileError, listing, one_line

#: Version of the saved files' format; newer versions are refused. Format 1, of version 0.1, has no SHA-256 inside.
FORMAT = 2

WEIGHTS, DESCRIPTION, TRAINING_STATE = "weights.safetensors", "model.json", "last.safetensors"

_SUM = "sha256"
_NO_SUM = "0" * 64  # in place of the SHA-256 while it is computed
_SUM_IN_HEADER = re.compile(rb'\\"sha256\\": \\"([0-9a-f]{64})\\"}')  # the end of the text that _header makes
_METADATA, _OLD_METADATA = "lstmkit", "note"  # keys in the header of a safetensors file, today and in version 0.1


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: after a crash it has either the new or the old content.

    Raises:
        OSError: The disk is full, or the folder is missing or must not be written. ``filename`` is ``path``.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as err:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(err, OSError) and err.errno is not None:
            raise OSError(err.errno, err.strerror, str(path)) from err
        raise


def is_temporary(path: Path, names: Iterable[str]) -> bool:
    """Whether :func:`write_bytes` made the file for one of the named ones: ``.model.json.0123abcd``."""
    return re.fullmatch(rf"\.({'|'.join(map(re.escape, names))})\.[0-9a-f]{{8}}", path.name) is not None


def remove_temporary_files(folder: Path, names: Sequence[str]) -> None:
    """Delete what a process left that was killed while it wrote one of the named files."""
    for path in [path for path in folder.iterdir() if is_temporary(path, names)]:
        path.unlink(missing_ok=True)


def _read_bytes(path: Path, missing: str) -> bytes:
    """The content of a file of a model or run. Every file that is loaded is opened here.

    Args:
        path: The file.
        missing: Ends the message if there is no such file: what that means, or what to do.

    Raises:
        ModelFileError: It is missing, a pipe, a device or a folder, does not fit into memory, or cannot be read.
    """
    try:
        if not path.exists():
            raise ModelFileError(f"{path} is missing: {missing}")
        if not path.is_file():  # opening a pipe would wait for ever, and a device may have no end
            raise _damaged(path, "it is a pipe, a device or a folder")
        return path.read_bytes()
    except MemoryError as err:
        raise _damaged(path, "it does not fit into memory") from err
    except OSError as err:
        raise _damaged(path, err) from err


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ModelFileError: The file is missing or damaged.
    """
    content = _read_bytes(path, f"the folder {path.parent} holds no complete model or run")
    try:
        return json.loads(content.decode())
    except RecursionError as err:
        raise _damaged(path, "its JSON is nested too deeply") from err
    except ValueError as err:  # also a whole number of too many digits
        raise _damaged(path, err) from err


def write_summed_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with the format's version and the SHA-256 of its content."""
    content = {"format": FORMAT, **content}
    write_json(path, {**content, _SUM: _json_sum(content)})


def read_summed_json(path: Path) -> dict[str, Any]:
    """Read the JSON object of :func:`write_summed_json`, or one of version 0.1, which has no SHA-256.

    Raises:
        ModelFileError: The file is missing, damaged, changed, or was written by a newer version.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise _damaged(path, "it is not a JSON object")
    version, expected = content.get("format", 1), content.pop(_SUM, None)
    if not isinstance(version, int) or version < 1:
        raise _damaged(path, "no format version")
    if version > FORMAT:
        raise ModelFileError(f"{path} has format {version}, this lstmkit reads up to {FORMAT}: upgrade lstmkit")
    if (version > 1 or expected is not None) and expected != _json_sum(content):
        raise _damaged(path, "its content does not match its SHA-256")
    return content


def _json_sum(content: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object as hex; line breaks and the order of the keys do not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, reason: object) -> ModelFileError:
    return ModelFileError(
        f"{path} is damaged ({one_line(reason)}): restore it from a copy, or fit again with overwrite=True"
    )


def write_tensors(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any] | None = None) -> str:
    """Write tensors, a small JSON note and their SHA-256 to one safetensors file.

    Returns:
        The SHA-256 of the whole file as hex.
    """
    # Copies, since safetensors refuses tensors that share memory, as tied weights do.
    copies = {
        name: t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, t in tensors.items()
    }
    content = save_tensors_bytes(copies, metadata={_METADATA: json.dumps({"note": note or {}, _SUM: _NO_SUM})})
    start, end = _place_of_sum(content)
    content = content[:start] + hashlib.sha256(content).hexdigest().encode() + content[end:]
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the note of :func:`write_tensors`, or those of version 0.1, whose files have no SHA-256.

    Args:
        path: The file.
        sha256: Expected SHA-256 of the whole file as hex; ``None`` to check the one inside.

    Raises:
        ModelFileError: The file is missing or damaged, or its SHA-256 differs.
    """
    content = _read_bytes(path, "restore it from a copy, or fit again with overwrite=True")
    try:
        tensors = load_tensors_bytes(content)
        note = _checked_note(content, check=sha256 is None)
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as err:
        raise _damaged(path, err) from err
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ModelFileError(
            f"{path} is not the file that {DESCRIPTION} describes: restore both from one copy, "
            f"or fit again with overwrite=True"
        )
    return tensors, note


def _checked_note(content: bytes, check: bool) -> dict[str, Any]:
    """The note in the header of a safetensors file.

    Raises:
        ValueError, LookupError, TypeError: The header is damaged, or the file does not match its SHA-256.
    """
    metadata = json.loads(_header(content)).get("__metadata__", {})
    if _METADATA not in metadata:
        if metadata.keys() - {_OLD_METADATA}:
            raise ValueError(f"unknown metadata {listing(metadata)}")
        return json.loads(metadata.get(_OLD_METADATA, "{}"))
    summed = json.loads(metadata[_METADATA])
    if check:
        start, end = _place_of_sum(content)
        digest = hashlib.sha256(content[:start] + _NO_SUM.encode())
        digest.update(memoryview(content)[end:])
        if digest.hexdigest() != content[start:end].decode():
            raise ValueError("its content does not match its SHA-256")
    return summed["note"]


def _header(content: bytes) -> bytes:
    """The JSON header of a safetensors file; its length comes first, in 8 bytes."""
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


def _place_of_sum(content: bytes) -> tuple[int, int]:
    """Where the SHA-256 lies in a safetensors file: first byte and the one after the last.

    Raises:
        ValueError: There is none.
    """
    places = [match.span(1) for match in _SUM_IN_HEADER.finditer(_header(content))]
    if not places:
        raise ValueError("it has no SHA-256")
    start, end = places[-1]
    return 8 + start, 8 + end


def save_model(folder: Path, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Save a model: first the weights, then the description. An incomplete save cannot be loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    sha256 = write_tensors(folder / WEIGHTS, weights)
    write_summed_json(folder / DESCRIPTION, {**description, "weights_sha256": sha256})


def load_model(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the weights and the description of :func:`save_model`.

    Raises:
        ModelFileError: The folder holds no model, or one that is damaged or was written by a newer version.
    """
    if not folder.is_dir():
        raise ModelFileError(f"{folder} is not a folder: give the folder that 'fit' made")
    description = read_summed_json(folder / DESCRIPTION)
    if "format" not in description:  # only a run.json of version 0.1 does without
        raise _damaged(folder / DESCRIPTION, "no format version")
    sha256 = description.get("weights_sha256")
    if not isinstance(sha256, str):
        raise _damaged(folder / DESCRIPTION, "no weights_sha256")
    weights, _ = read_tensors(folder / WEIGHTS, sha256)
    return weights, description
