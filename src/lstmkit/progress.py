"""Progress bars with the time left. They go to stderr, so that stdout holds only results."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

#: Characters that control a terminal, except tab and line feed, and what is shown instead (the same as in JSON).
_CONTROLS = {code: f"\\u{code:04x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


def printable(text: str) -> str:
    r"""Text with visible escapes in place of characters that control a terminal.

    >>> printable("\x1b[31mred\x07")
    '\\u001b[31mred\\u0007'
    """
    return text.translate(_CONTROLS)


class Task(Protocol):
    """One task of a progress display."""

    def update(self, done: int, note: str = "") -> None:
        """Set the number of finished units and a short note shown next to the bar."""
        ...


class _NullTask:
    def update(self, done: int, note: str = "") -> None:
        pass


class Progress:
    """Silent progress; base class of visible ones."""

    def say(self, text: str) -> None:
        """Print one line."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Context manager of a task with ``total`` units; the bar disappears when the block ends."""
        yield _NullTask()


class TerminalProgress(Progress):
    """Progress bar with the time left on stderr; plain lines if stderr is not a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def say(self, text: str) -> None:
        self._console.print(printable(text), highlight=False, markup=False)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        from rich import progress as rich

        columns = (
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(bar_width=24),
            rich.TaskProgressColumn(),
            rich.TimeElapsedColumn(),
            rich.TextColumn("left"),
            rich.TimeRemainingColumn(),
            rich.TextColumn("{task.fields[note]}", style="dim", markup=False),
        )
        # A bar redraws itself in a terminal but would fill a log file, so a log gets one line per task.
        if not self._console.is_terminal:
            self.say(f"{title} …")
        with rich.Progress(*columns, console=self._console, disable=not self._console.is_terminal) as bars:
            yield _RichTask(bars, bars.add_task(printable(title), total=total, note=""))


class _RichTask:
    def __init__(self, bars: object, task_id: object) -> None:
        self._bars, self._id = bars, task_id

    def update(self, done: int, note: str = "") -> None:
        self._bars.update(self._id, completed=done, note=printable(note))  # type: ignore[attr-defined]


def default_progress() -> Progress:
    """Progress bars if stderr is a terminal, else silence."""
    return TerminalProgress() if sys.stderr.isatty() else Progress()
