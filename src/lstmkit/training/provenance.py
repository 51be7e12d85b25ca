"""Provenance of recorded results: date, versions and machine."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from lstmkit.version import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def provenance(*packages: str) -> dict[str, Any]:
    """Date, package versions and machine, for a results file.

    Args:
        packages: Import names of further packages whose versions to record.

    >>> provenance("numpy")["versions"].keys() >= {"lstmkit", "torch", "numpy", "python"}
    True
    """
    versions = {name: str(vars(__import__(name))["__version__"]) for name in packages}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "versions": {
            "lstmkit": __version__,
            "torch": torch.__version__,
            **versions,
            "python": platform.python_version(),
        },
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
    }


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
