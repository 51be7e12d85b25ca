"""Models and training states on disk, as safetensors and JSON. Files are written atomically; nothing is pickled."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors_bytes
from safetensors.torch import save as save_tensors_bytes
from torch import Tensor

from lstmkit.errors import ModelFileError

FORMAT = 1  #: Version of the saved model's format; newer versions are refused.

WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: after a crash it has either the new or the old content."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ModelFileError: The file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(f"{path} is missing: the folder {path.parent} holds no complete model or run") from None
    except (ValueError, RecursionError, OSError) as err:
        raise ModelFileError(f"{path} is damaged ({err}): restore it from a copy, or fit anew") from err


def write_tensors(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any] | None = None) -> str:
    """Write tensors and a small JSON note to one safetensors file; returns the file's SHA-256 as hex."""
    # Copies, since safetensors refuses tensors that share memory, as tied weights do.
    copies = {
        name: t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, t in tensors.items()
    }
    content = save_tensors_bytes(copies, metadata={"note": json.dumps(note or {})})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the note of :func:`write_tensors`.

    Args:
        path: The file.
        sha256: Expected SHA-256 as hex; ``None`` to skip the check.

    Raises:
        ModelFileError: The file is missing or damaged, or its SHA-256 differs.
    """
    try:
        content = path.read_bytes()
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
        tensors = load_tensors_bytes(content)
    except FileNotFoundError:
        raise ModelFileError(f"{path} is missing: restore it from a copy, or fit anew") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as err:
        raise ModelFileError(f"{path} is damaged ({err}): restore it from a copy, or fit anew") from err
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ModelFileError(f"{path} is not the file that {DESCRIPTION} describes: restore both from one copy")
    return tensors, note


def save_model(folder: Path, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Save a model: first the weights, then the description. An incomplete save cannot be loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    sha256 = write_tensors(folder / WEIGHTS, weights)
    write_json(folder / DESCRIPTION, {"format": FORMAT, **description, "weights_sha256": sha256})


def load_model(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the weights and the description of :func:`save_model`.

    Raises:
        ModelFileError: The folder holds no model, or one that is damaged or was written by a newer version.
    """
    if not folder.is_dir():
        raise ModelFileError(f"{folder} is not a folder: give the folder that 'fit' made")
    description = read_json(folder / DESCRIPTION)
    if not isinstance(description, dict) or not isinstance(description.get("format"), int):
        raise ModelFileError(f"{folder / DESCRIPTION} is damaged (no format version): restore it, or fit anew")
    version, sha256 = description["format"], description.get("weights_sha256")
    if version > FORMAT:
        raise ModelFileError(f"{folder} has format {version}, this lstmkit reads up to {FORMAT}: upgrade lstmkit")
    if not isinstance(sha256, str):
        raise ModelFileError(f"{folder / DESCRIPTION} is damaged (no weights_sha256): restore it, or fit anew")
    weights, _ = read_tensors(folder / WEIGHTS, sha256)
    return weights, description
