"""Run the blocks of a Triton kernel concurrently in Triton's interpreter, so that they can wait for each other.

The interpreter itself runs one block to its end before the next one begins. Here each block is a thread. One thread
runs at a time, until it waits; then a random one runs. A block that reads memory without waiting for it finds missing
or old values.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import triton.language as tl  # the interpreter looks it up in the module of a kernel
from triton.runtime import interpreter

from lstmkit.ops.triton import kernels, primitives


class Scheduler:
    """Selects the block that runs."""

    def __init__(self, blocks: list[tuple[int, ...]], seed: int) -> None:
        self.condition = threading.Condition()
        self.blocks = blocks
        self.running: tuple[int, ...] | None = None
        self.waits = 0  # of all blocks, since the last progress
        self.failure: Exception | None = None
        self.random = random.Random(seed)

    def switch(self) -> None:
        self.running = self.random.choice(self.blocks) if self.blocks else None
        self.condition.notify_all()

    def wait(self, block: tuple[int, ...]) -> None:
        self.condition.wait_for(lambda: self.running == block or self.failure is not None)
        if self.failure is not None:
            raise RuntimeError("another block failed")
        interpreter.interpreter_builder.set_grid_idx(*block)


class ConcurrentBlocks:
    """Runs all blocks of a kernel concurrently."""

    def __init__(self) -> None:
        self.scheduler: Scheduler | None = None
        self.local = threading.local()
        self.seeds = itertools.count()

    def run(self, kernel: Callable[..., None], arguments: dict[str, Any]) -> None:
        """Run all blocks of a launch."""
        grid = interpreter.interpreter_builder.grid_dim
        scheduler = self.scheduler = Scheduler(list(itertools.product(*map(range, grid))), next(self.seeds))
        threads = [threading.Thread(target=self._run, args=(kernel, arguments, block)) for block in scheduler.blocks]
        for thread in threads:
            thread.start()
        with scheduler.condition:
            scheduler.switch()
        for thread in threads:
            thread.join()
        if scheduler.failure is not None:
            raise scheduler.failure

    def _run(self, kernel: Callable[..., None], arguments: dict[str, Any], block: tuple[int, ...]) -> None:
        scheduler, self.local.block = self.scheduler, block
        assert scheduler is not None
        with scheduler.condition:
            try:
                scheduler.wait(block)
                kernel(**arguments)
            except Exception as error:  # raised again in run
                scheduler.failure = scheduler.failure or error
            scheduler.blocks.remove(block)
            scheduler.waits = 0
            scheduler.switch()

    def grid_barrier(self, counter: Any, goal: Any) -> None:
        """Replace ``primitives.grid_barrier``: count in the same way, and let other blocks run while waiting."""
        scheduler, block = self.scheduler, self.local.block
        assert scheduler is not None
        tl.atomic_add(counter, 1)
        scheduler.waits = 0
        while int(tl.load(counter).handle.data[0]) < int(getattr(goal, "handle", goal).data[0]):
            scheduler.waits += 1
            assert scheduler.waits < 1000 * len(scheduler.blocks), "all blocks wait for each other"
            scheduler.switch()
            scheduler.wait(block)


def patch_interpreter_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed up the interpreter: patch Triton's modules once, not at each call inside a kernel."""
    patched: set[str] = set()

    def call(function: Any, *args: Any, **options: Any) -> Any:
        if function.fn.__module__ not in patched:
            interpreter._patch_lang(function.fn)
            patched.add(function.fn.__module__)
        return function.rewrite()(*args, **options)

    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", call)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the blocks of the kernels concurrently until the end of the test."""
    concurrent = ConcurrentBlocks()
    for module in (primitives, kernels):
        monkeypatch.setattr(module, "grid_barrier", concurrent.grid_barrier)
    for kernel in (kernels.forward, kernels.backward):
        monkeypatch.setattr(kernel, "rewrite", functools.partial(_run_all_on_first_block, concurrent, kernel.rewrite()))


def _run_all_on_first_block(concurrent: ConcurrentBlocks, kernel: Callable[..., None]) -> Callable[..., None]:
    """A kernel that runs all blocks when the interpreter calls it for the first one, and does nothing for others."""

    def run(**arguments: Any) -> None:
        if interpreter.interpreter_builder.grid_idx == (0, 0, 0):
            concurrent.run(kernel, arguments)

    run.__signature__ = inspect.signature(kernel)  # type: ignore[attr-defined]
    run.__annotations__ = kernel.__annotations__
    return run
