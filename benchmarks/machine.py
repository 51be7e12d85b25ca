"""Description of the machine and of the software."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")
_LEVELS = (
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ("x86-64-v3", {"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}),
)


def _field(*names: str) -> str:
    """The first value in /proc/cpuinfo with one of these names."""
    if not _CPUINFO.exists():
        return ""
    for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def flags() -> frozenset[str]:
    """The flags of the CPU, with the names of Linux."""
    return frozenset(_field("flags", "Features").split())


def level() -> str:
    """The x86-64 level; the architecture on other machines."""
    available = flags()
    return next((name for name, needed in _LEVELS if needed <= available), platform.machine())


def has_bf16() -> bool:
    """Whether the CPU has bf16 instructions."""
    return bool(flags() & {"avx512_bf16", "amx_bf16"})


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe(threads: int, seed: int) -> dict[str, object]:
    """Date, machine and versions, for the record of a benchmark."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "cpu": _field("model name") or platform.processor() or platform.machine(),
        "level": level(),
        "bf16": has_bf16(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 2),
        "seed": seed,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": version("onnxruntime"),
        "lstmkit": version("lstmkit"),
    }
