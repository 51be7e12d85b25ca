"""Progress with the time left: bars, or JSON for a program. It goes to stderr, so that stdout holds only results."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

#: Seconds between the lines of a task on a stderr that is not a terminal.
LINE_INTERVAL = 60.0
#: Seconds between the lines of a task that a program reads.
JSON_INTERVAL = 0.5
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
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Task]:
        """Context manager of a task with ``total`` units, such as ``"s"``; the bar disappears when the block ends."""
        yield _NullTask()


class TerminalProgress(Progress):
    """Progress bar with the time left on stderr; if that is no terminal, a line when a task starts and one a minute.

    Args:
        reword: What is done to a line before it is printed.
    """

    def __init__(self, reword: Callable[[str], str] = str) -> None:
        from rich.console import Console

        self._console, self._reword = Console(stderr=True), reword

    def say(self, text: str) -> None:
        self._console.print(printable(self._reword(text)), highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Task]:
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
        # A bar redraws itself in a terminal but would fill a log file.
        if not self._console.is_terminal:
            self.say(f"{title} …")
            yield _LoggedTask(self.say, title, total, unit)
            return
        with rich.Progress(*columns, console=self._console) as bars:
            yield _RichTask(bars, bars.add_task(printable(title), total=total, note=""))


class _RichTask:
    def __init__(self, bars: object, task_id: object) -> None:
        self._bars, self._id = bars, task_id

    def update(self, done: int, note: str = "") -> None:
        self._bars.update(self._id, completed=done, note=printable(note))  # type: ignore[attr-defined]


class JsonProgress(Progress):
    """Progress for a program: a JSON object per line on stderr.

    ``{"say": text}`` is a line for the reader. ``{"task": title, "done": 3, "total": 10, "unit": "", "note": text,
    "seconds_left": 2.5}`` is the state of a task, when it starts, twice a second and when it is done; ``seconds_left``
    is ``null`` as long as it is unknown. ``{"ended": title}`` is the end of a task.

    Args:
        reword: What is done to a line before it is printed.
    """

    def __init__(self, reword: Callable[[str], str] = str) -> None:
        self._reword = reword

    def say(self, text: str) -> None:
        _print_json({"say": self._reword(text)})

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Task]:
        yield _JsonTask(title, total, unit)
        _print_json({"ended": title})


class _JsonTask:
    def __init__(self, title: str, total: int, unit: str) -> None:
        self._state = {"task": title, "done": 0, "total": total, "unit": unit, "note": "", "seconds_left": None}
        self._total, self._time_left = total, _TimeLeft(total)
        self._last_line = time.monotonic()
        _print_json(self._state)

    def update(self, done: int, note: str = "") -> None:
        self._state |= {"done": done, "note": note, "seconds_left": self._time_left.after(done)}
        if time.monotonic() - self._last_line >= JSON_INTERVAL or done >= self._total:
            self._last_line = time.monotonic()
            _print_json(self._state)


def _print_json(value: object) -> None:
    print(json.dumps(value), file=sys.stderr, flush=True)


class _LoggedTask:
    """A line a minute: units done, note and time left."""

    def __init__(self, say: Callable[[str], None], title: str, total: int, unit: str) -> None:
        self._say, self._title, self._total, self._unit = say, title, total, f" {unit}" if unit else ""
        self._last_line, self._time_left = time.monotonic(), _TimeLeft(total)

    def update(self, done: int, note: str = "") -> None:
        seconds_left = self._time_left.after(done)
        now = time.monotonic()
        if now - self._last_line < LINE_INTERVAL:
            return
        self._last_line = now
        parts = [f"{self._title}: {done} of {self._total}{self._unit}", *([note] if note else [])]
        if seconds_left is not None:
            parts.append(f"{duration(seconds_left)} left")
        self._say(", ".join(parts))


class _TimeLeft:
    """Estimates the seconds that a task still takes, by its mean speed since its first update."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._first: tuple[int, float] | None = None  # units done and time of the first update: a resumed task has some

    def after(self, done: int) -> float | None:
        """Seconds left when ``done`` units are done; ``None`` before the second update."""
        now = time.monotonic()
        first_done, first_time = self._first = self._first or (done, now)
        return (self._total - done) * (now - first_time) / (done - first_done) if done > first_done else None


def duration(seconds: float) -> str:
    """A time in hours and minutes, or in seconds if it is below a minute; rounded up.

    >>> duration(0.6), duration(61), duration(3600)
    ('1 s', '2 min', '1 h 0 min')
    """
    if seconds <= 59:
        return f"{math.ceil(seconds)} s"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def seconds_in(text: str) -> float:
    """The seconds in a text such as ``90s``, ``10min`` or ``1.5h``; 0 for an empty text.

    Raises:
        ValueError: It is none, or no time at all.

    >>> seconds_in("90s"), seconds_in("10min"), seconds_in("")
    (90.0, 600.0, 0.0)
    """
    found = re.fullmatch(r"(\d+\.?\d*)\s*(s|min|h)", text.strip())
    seconds = float(found[1]) * {"s": 1, "min": 60, "h": 3600}[found[2]] if found else 0.0
    if text and not 0 < seconds < math.inf:
        raise ValueError("a time such as 90s, 10min or 2h")
    return seconds


_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def silent() -> Iterator[None]:
    """Show no progress in this block, unless it is asked for."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def default_progress() -> Progress:
    """Progress bars if stderr is a terminal, else silence; see :func:`silent`."""
    return TerminalProgress() if sys.stderr.isatty() and not _silent.get() else Progress()
