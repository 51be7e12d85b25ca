"""The folder of an exported job: its description, which is written last and read first."""

from __future__ import annotations

DESCRIPTION = "export.json"  #: Name of the file.
VERSION = 1  #: Version of the folder's form; a runtime refuses newer ones.
