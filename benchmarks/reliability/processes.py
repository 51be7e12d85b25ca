"""Child processes that do one thing and can be killed at any moment. They are forked, so they start at once."""

from __future__ import annotations

import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lstmkit.errors import UserError

KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    """How a child process ended.

    Attributes:
        code: 0 = its function returned, 2 = one line for the user, 1 = any other exception, negative = a signal.
        message: The line, or the traceback.
    """

    code: int
    message: str = ""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Child:
    """A function that runs in a process of its own.

    Args:
        function: What the process does. It ends with code 2 after a UserError, or an OSError that names its file, if
            the message is one line; any other exception is a fault.
        log: File for the message of an exception.
    """

    def __init__(self, function: Callable[[], object], log: Path) -> None:
        self.log, self.ended = log, False
        log.unlink(missing_ok=True)
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_run(function, log))

    def wait(self, seconds: float) -> Ended | None:
        """Wait until the process ends; ``None`` if it still runs after so many seconds."""
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.ended = True
                message = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
                return Ended(os.waitstatus_to_exitcode(status), message)
            if time.monotonic() >= end:
                return None
            time.sleep(0.0005)

    def kill(self) -> Ended:
        """Kill the process as ``kill -9`` does."""
        os.kill(self.pid, signal.SIGKILL)
        ended = self.wait(60)
        if ended is None:
            raise RuntimeError(f"process {self.pid} outlived SIGKILL by a minute")
        return ended

    def finish(self, seconds: float) -> Ended:
        """Wait until the process ends, and kill it after so many seconds."""
        return self.wait(seconds) or self.kill()


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mb() -> float:
    """The largest resident memory that this process has had; a forked one begins with that of its parent."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _run(function: Callable[[], object], log: Path) -> int:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # C libraries comment on damaged files
        os.dup2(nowhere, stream)
    try:
        function()
    except UserError as err:
        return _say(str(err), log)
    except OSError as err:
        return _say(f"{err.filename}: {err.strerror}", log) if err.filename else _trace(log)
    except BaseException:
        return _trace(log)
    return 0


def _say(message: str, log: Path) -> int:
    log.write_text(message, encoding="utf-8")
    return 2 if "\n" not in message else 1


def _trace(log: Path) -> int:
    log.write_text(traceback.format_exc(), encoding="utf-8")
    return 1
