"""How far long work is, and how long it will still take: on stderr, so that results on stdout stay clean."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """A piece of work under way."""

    def update(self, done: int, note: str = "") -> None:
        """``done`` units are finished; ``note`` says what there is to say of them."""
        ...


class _NullTask:
    def update(self, done: int, note: str = "") -> None:
        pass


class Progress:
    """Tells nothing. The base of what tells something."""

    def say(self, text: str) -> None:
        """One line."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Work of ``total`` units; the bar goes when the block ends."""
        yield _NullTask()


class TerminalProgress(Progress):
    """A bar with the time left on stderr; plain lines where stderr is not a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        from rich import progress as rich

        columns = (
            rich.TextColumn("{task.description}"),
            rich.BarColumn(bar_width=24),
            rich.TaskProgressColumn(),
            rich.TimeElapsedColumn(),
            rich.TextColumn("left"),
            rich.TimeRemainingColumn(),
            rich.TextColumn("{task.fields[note]}", style="dim"),
        )
        # A terminal's bar is drawn over itself; elsewhere it would fill the log, so only its start is said.
        if not self._console.is_terminal:
            self.say(f"{title} …")
        with rich.Progress(*columns, console=self._console, disable=not self._console.is_terminal) as bars:
            yield _RichTask(bars, bars.add_task(title, total=total, note=""))


class _RichTask:
    def __init__(self, bars: object, task_id: object) -> None:
        self._bars, self._id = bars, task_id

    def update(self, done: int, note: str = "") -> None:
        self._bars.update(self._id, completed=done, note=note)  # type: ignore[attr-defined]


def default_progress() -> Progress:
    """Bars for a person at a terminal, silence otherwise."""
    return TerminalProgress() if sys.stderr.isatty() else Progress()
