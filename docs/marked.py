"""The part of a page between two marks, which a script writes."""

from __future__ import annotations

import sys
from pathlib import Path


def fill(page: Path, mark: str, text: str, source: str) -> None:
    """Put ``text`` between ``<!-- mark -->`` and ``<!-- /mark -->``; with --check only say if it is there already.

    Args:
        page: The page.
        mark: What the marks are called.
        text: What belongs between them.
        source: What it was made from.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    old = page.read_text(encoding="utf-8")
    before, rest = old.split(begin)
    _, after = rest.split(end)
    new = f"{before}{begin}\n{text}\n{end}{after}"
    if "--check" not in sys.argv:
        page.write_text(new, encoding="utf-8")
    elif new != old:
        sys.exit(f"{page.name} is behind {source}: run make readme")
