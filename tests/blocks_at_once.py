"""Triton's interpreter runs one block to its end before the next begins; here blocks wait for each other, in turns.

Each block is a thread, of which one runs at a time, until it waits: a hand goes round among them. The order in which
it goes is random: a block that read what it had not waited for would find it missing, or old.
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
import triton.language as tl  # the interpreter looks for it among the names of a kernel's module
from triton.runtime import interpreter

from lstmkit.ops.triton import kernels, primitives


class Hand:
    """Who holds it runs."""

    def __init__(self, blocks: list[tuple[int, ...]], seed: int) -> None:
        self.turn = threading.Condition()
        self.blocks = blocks
        self.holder: tuple[int, ...] | None = None
        self.waits = 0  # of all blocks, since one of them came on
        self.failure: Exception | None = None
        self.random = random.Random(seed)

    def pass_on(self) -> None:
        self.holder = self.random.choice(self.blocks) if self.blocks else None
        self.turn.notify_all()

    def wait(self, block: tuple[int, ...]) -> None:
        self.turn.wait_for(lambda: self.holder == block or self.failure is not None)
        if self.failure is not None:
            raise RuntimeError("another block failed")
        interpreter.interpreter_builder.set_grid_idx(*block)


class AtOnce:
    """Kernels whose blocks run in turns."""

    def __init__(self) -> None:
        self.hand: Hand | None = None
        self.here = threading.local()
        self.seeds = itertools.count()

    def run(self, kernel: Callable[..., None], arguments: dict[str, Any]) -> None:
        """All blocks of a launch."""
        grid = interpreter.interpreter_builder.grid_dim
        hand = self.hand = Hand(list(itertools.product(*map(range, grid))), next(self.seeds))
        threads = [threading.Thread(target=self._run, args=(kernel, arguments, block)) for block in hand.blocks]
        for thread in threads:
            thread.start()
        with hand.turn:
            hand.pass_on()
        for thread in threads:
            thread.join()
        if hand.failure is not None:
            raise hand.failure

    def _run(self, kernel: Callable[..., None], arguments: dict[str, Any], block: tuple[int, ...]) -> None:
        hand, self.here.block = self.hand, block
        assert hand is not None
        with hand.turn:
            try:
                hand.wait(block)
                kernel(**arguments)
            except Exception as error:  # raised again where all blocks were started
                hand.failure = hand.failure or error
            hand.blocks.remove(block)
            hand.waits = 0
            hand.pass_on()

    def grid_barrier(self, counter: Any, goal: Any) -> None:
        """In the place of ``primitives.grid_barrier``: as it counts, and with the hand passed on while it waits."""
        hand, block = self.hand, self.here.block
        assert hand is not None
        tl.atomic_add(counter, 1)
        hand.waits = 0
        while int(tl.load(counter).handle.data[0]) < int(getattr(goal, "handle", goal).data[0]):
            hand.waits += 1
            assert hand.waits < 1000 * len(hand.blocks), "all blocks wait for each other"
            hand.pass_on()
            hand.wait(block)


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter puts its own functions into Triton's modules at each call inside a kernel: once is enough."""
    patched: set[str] = set()

    def call(function: Any, *args: Any, **named: Any) -> Any:
        if function.fn.__module__ not in patched:
            interpreter._patch_lang(function.fn)
            patched.add(function.fn.__module__)
        return function.rewrite()(*args, **named)

    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", call)


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test's end."""
    at_once = AtOnce()
    for module in (primitives, kernels):
        monkeypatch.setattr(module, "grid_barrier", at_once.grid_barrier)
    for kernel in (kernels.forward, kernels.backward):
        monkeypatch.setattr(kernel, "rewrite", functools.partial(_first_of_all, at_once, kernel.rewrite()))


def _first_of_all(at_once: AtOnce, kernel: Callable[..., None]) -> Callable[..., None]:
    """What the interpreter calls for each block in turn: with the first one all of them run."""

    def run(**arguments: Any) -> None:
        if interpreter.interpreter_builder.grid_idx == (0, 0, 0):
            at_once.run(kernel, arguments)

    run.__signature__ = inspect.signature(kernel)  # type: ignore[attr-defined]
    run.__annotations__ = kernel.__annotations__
    return run
