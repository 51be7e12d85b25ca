"""The generated section of a page, between two comments."""

from __future__ import annotations

import sys
from pathlib import Path


def fill(page: Path, section: str, text: str, source: str) -> None:
    """Write ``text`` between ``<!-- section -->`` and ``<!-- /section -->``; with --check, exit if it differs.

    Args:
        page: The page.
        section: Name of the section, as in the comments.
        text: The new content.
        source: The file or folder that it was generated from.
    """
    begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    old = page.read_text(encoding="utf-8")
    before, rest = old.split(begin)
    _, after = rest.split(end)
    new = f"{before}{begin}\n{text}\n{end}{after}"
    if "--check" not in sys.argv:
        page.write_text(new, encoding="utf-8")
    elif new != old:
        sys.exit(f"{page.name} does not match {source}: run make readme")
