"""Hooks of the documentation site: files in ``results/`` belong to it; what no page can link to names the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:src|tests|csrc|benchmarks|README\.md|CHANGELOG\.md)[^)]*\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the recorded results and the figures of the laboratory."""
    for path in sorted((ROOT / "results").rglob("*.*")):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to results as links within the site; other links out of ``docs/`` as the name of the file."""
    up = "../" * page.file.src_uri.count("/")
    markdown = re.sub(r"\]\((?:\.\./)+results/?\)", f"]({up}results.md)", markdown)
    markdown = re.sub(r"\]\((?:\.\./)+results/", f"]({up}results/", markdown)
    return re.sub(
        r"\[([^\]]+)\]\((?:\.\./)+(?:src|tests|csrc|benchmarks|README\.md|CHANGELOG\.md)[^)]*\)", r"\1", markdown
    )
