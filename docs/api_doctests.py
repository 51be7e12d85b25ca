"""An extension of the API reference: examples in docstrings (``>>>``) are shown as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"(?:^|(?<=\n))(?P<indent> *)>>> .*(?:\n(?! *\n).+)*")


def fenced(text: str) -> str:
    """The text with each example, up to the next blank line, in a fence."""

    def fence(match: re.Match[str]) -> str:
        indent = match["indent"]
        return f"\n{indent}```pycon\n{match[0]}\n{indent}```"

    return _EXAMPLE.sub(fence, text)


class FencedDoctests(griffe.Extension):
    """Puts the examples of every docstring of the package into fences."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        self._visit(pkg)

    def _visit(self, obj: griffe.Object) -> None:
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)
        for member in obj.members.values():
            if isinstance(member, griffe.Object):
                self._visit(member)
