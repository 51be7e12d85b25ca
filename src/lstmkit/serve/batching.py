"""One thread per run, which answers waiting requests together.

Requests wait in a queue of the event loop's side; the thread takes the oldest, with those that can be answered with it.
Steps of live streams go first. PyTorch runs in this thread alone, so the event loop goes on answering others.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lstmkit.errors import UserError
from lstmkit.serve.limits import RefusedError

#: Answers several requests; one answer for each.
Answer = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(eq=False)
class _Task:
    """A request that waits.

    Attributes:
        answer: What answers it.
        data: What it asks.
        key: Requests with the same key are answered together; ``None`` for alone.
        deadline: When it must be done, on the monotonic clock.
        future: Receives the answer, in the event loop.
        arrived: When it came.
    """

    answer: Answer
    data: Any
    key: Hashable | None
    deadline: float
    future: asyncio.Future[Any]
    arrived: float = field(default_factory=time.monotonic)


class Worker:
    """The thread of one run.

    Args:
        name: Name of the thread.
        max_batch: Requests that are answered together at most.
        max_wait: Seconds that the first request of a batch waits for others.
        max_queue: Requests that wait at most.
        torch_threads: Threads of PyTorch.
        observe: Called with the number of requests of each batch and the seconds that it took.
        network: Stops at its next layer when the time of its request is over: also within a long generation.
    """

    def __init__(
        self,
        name: str,
        *,
        max_batch: int = 32,
        max_wait: float = 0.0,
        max_queue: int = 1000,
        torch_threads: int = 1,
        observe: Callable[[int, float], None] = lambda _size, _seconds: None,
        network: nn.Module | None = None,
    ) -> None:
        self._max_batch, self._max_wait, self._max_queue = max_batch, max_wait, max_queue
        self._torch_threads, self._observe, self._network = torch_threads, observe, network
        self._hooks: list[RemovableHandle] = []
        self._waiting: deque[_Task] = deque()
        self._urgent: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        layers = [] if self._network is None else [m for m in self._network.modules() if not any(m.children())]
        self._hooks = [layer.register_forward_pre_hook(self._check_time) for layer in layers]
        self._thread.start()

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._waiting) + len(self._urgent)

    def stop(self, timeout: float) -> None:
        """Answer what waits, then end the thread; wait for it at most ``timeout`` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)
        for hook in self._hooks:
            hook.remove()

    async def batched(self, answer: Answer, data: Any, key: Hashable | None, seconds: float) -> Any:
        """The answer to one request, which may be answered together with others.

        Args:
            answer: Answers several requests with the same key.
            data: What the request asks.
            key: Requests with the same key are answered together; ``None`` for alone.
            seconds: Time limit.

        Raises:
            RefusedError: Too many requests wait, or the time is over.
        """
        return await self._submit(self._waiting, answer, data, key, seconds)

    async def urgent(self, function: Callable[[], Any], seconds: float) -> Any:
        """The result of a function that is called in the thread, before all that waits."""
        return await self._submit(self._urgent, lambda _: [function()], None, None, seconds)

    async def _submit(
        self, queue: deque[_Task], answer: Answer, data: Any, key: Hashable | None, seconds: float
    ) -> Any:
        if len(self) >= self._max_queue:
            raise RefusedError(503, f"{self._max_queue:,} requests wait already: try again later", retry_after=1)
        if self._stopping:
            raise RefusedError(503, "the server stops: try again later", retry_after=5)
        future = asyncio.get_running_loop().create_future()
        with self._changed:
            queue.append(_Task(answer, data, key, time.monotonic() + seconds, future))
            self._changed.notify()
        return await future

    # ---- in the thread ---------------------------------------------------------------------------------------------

    def _check_time(self, _module: nn.Module, _inputs: Any) -> None:
        if time.monotonic() > self._deadline and threading.current_thread() is self._thread:
            raise RefusedError(504, "the answer takes longer than the time limit: ask for less")

    def _run(self) -> None:
        torch.set_num_threads(self._torch_threads)
        while tasks := self._next():
            started = time.monotonic()
            outcomes = self._outcomes(tasks)
            self._observe(len(tasks), time.monotonic() - started)
            _deliver(tasks, outcomes)

    def _next(self) -> list[_Task]:
        """The tasks to answer next, at least one; none at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: len(self) or self._stopping)
                if not len(self):
                    return []
                if self._urgent:
                    tasks = [self._urgent.popleft()]
                else:
                    self._wait_for_more(self._waiting[0])
                    tasks = [] if self._urgent else self._take_like(self._waiting[0])
                tasks = [task for task in tasks if not task.future.done()]  # else its client has gone
                if tasks:
                    return tasks

    def _wait_for_more(self, first: _Task) -> None:
        if first.key is None or self._max_batch == 1:
            return
        rest = first.arrived + self._max_wait - time.monotonic()
        if rest > 0:
            is_full = lambda: len(self._waiting) >= self._max_batch or self._urgent or self._stopping  # noqa: E731
            self._changed.wait_for(is_full, rest)

    def _take_like(self, first: _Task) -> list[_Task]:
        """Remove the first task from the queue, and those that can be answered with it."""
        alike = [task for task in self._waiting if first.key is not None and task.key == first.key][: self._max_batch]
        tasks = alike or [first]
        for task in tasks:
            self._waiting.remove(task)
        return tasks

    def _outcomes(self, tasks: Sequence[_Task]) -> Sequence[Any]:
        """The answer to each task, or its exception. If a batch cannot be answered, each task is answered alone."""
        self._deadline = max(task.deadline for task in tasks)
        try:
            return tasks[0].answer([task.data for task in tasks])
        except (UserError, RefusedError) as err:
            if len(tasks) == 1:
                return [err]
        except Exception as err:  # a fault of ours must not end the thread
            return [err] * len(tasks)
        finally:
            self._deadline = float("inf")
        return [outcome for task in tasks for outcome in self._outcomes([task])]


def _deliver(tasks: Sequence[_Task], outcomes: Sequence[Any]) -> None:
    """Hand the outcomes over to the event loop."""

    def deliver() -> None:
        for task, outcome in zip(tasks, outcomes, strict=True):
            if task.future.done():
                continue
            if isinstance(outcome, Exception):
                task.future.set_exception(outcome)
            else:
                task.future.set_result(outcome)

    loop = tasks[0].future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(deliver)
