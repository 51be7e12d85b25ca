"""Models and training states on disk: safetensors and JSON, each file whole or not there. Nothing is ever pickled."""

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

FORMAT = 1  #: Version of the saved model's layout; a reader refuses a newer one.

WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or, after a crash, as it was before."""
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
    """JSON a person can read, written whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """What :func:`write_json` wrote.

    Raises:
        ModelFileError: Not there, or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(f"{path} is missing: the folder {path.parent} holds no complete model or run") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as err:
        raise ModelFileError(f"{path} is damaged ({err}): restore it from a copy, or fit anew") from err


def write_tensors(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any] | None = None) -> str:
    """Tensors and, in the same file, a small JSON note. Returns the file's sha256."""
    # Copies, since safetensors refuses tensors that share memory, as tied weights do.
    plain = {
        name: t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, t in tensors.items()
    }
    content = save_tensors_bytes(plain, metadata={"note": json.dumps(note or {})})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the note that :func:`write_tensors` wrote.

    Raises:
        ModelFileError: Not there, damaged, or not the file that ``sha256`` was taken of.
    """
    try:
        content = path.read_bytes()
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
        tensors = load_tensors_bytes(content)
    except FileNotFoundError:
        raise ModelFileError(f"{path} is missing: restore it from a copy, or fit anew") from None
    except (SafetensorError, OSError, json.JSONDecodeError) as err:
        raise ModelFileError(f"{path} is damaged ({err}): restore it from a copy, or fit anew") from err
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ModelFileError(f"{path} is not the file that {DESCRIPTION} describes: restore both from one copy")
    return tensors, note


def save_model(folder: Path, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Weights, then the description that makes them a model: what a crash leaves in between does not load."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    sha256 = write_tensors(folder / WEIGHTS, weights)
    write_json(folder / DESCRIPTION, {"format": FORMAT, **description, "weights_sha256": sha256})


def load_model(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights and the description that :func:`save_model` wrote.

    Raises:
        ModelFileError: No model there, damaged, or written by a newer version.
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
