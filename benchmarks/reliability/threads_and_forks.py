"""Eight threads that use one model, while the process forks children that use it too: equal answers everywhere."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from processes import KILLED, Child

import job_cases
import lstmkit
from lstmkit.progress import Progress

COUNT = 200  # forks
THREADS = 8
SECONDS = 60  # a child that takes longer hangs


def measure(count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """Threads run forward and backward passes and a job's predictions until ``count`` children have done the same."""
    torch.manual_seed(0)
    layer, inputs = lstmkit.LSTM(16, 32, num_layers=2, batch_first=True), torch.randn(THREADS, 4, 50, 16)
    job = job_cases.make("tagger").fit(job_cases.CASES["tagger"].data())
    sentences = [words for words, _ in job_cases.CASES["tagger"].data()][:4]
    tags = job.to_records(job.predict(sentences))
    expected = [_pass(layer, x) for x in inputs]
    stop, calls, faults = threading.Event(), [0] * THREADS, []

    def work(k: int, once: bool = False) -> None:
        while True:
            if not all(map(torch.equal, _pass(layer, inputs[k]), expected[k])):
                raise RuntimeError("a pass differs")
            if job.to_records(job.predict(sentences)) != tags:
                raise RuntimeError("a prediction differs")
            calls[k] += 1
            if once or stop.is_set():
                return

    def guarded(k: int) -> None:
        try:
            work(k)
        except Exception as err:
            faults.append(f"thread {k}: {err!r}")

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(THREADS)]
    for thread in threads:
        thread.start()
    hung = 0
    with progress.task("threads and forks", count) as task:
        for fork in range(count):
            ended = Child(lambda k=fork % THREADS: work(k, once=True), folder / "log.txt").finish(SECONDS)
            hung += ended.code == KILLED
            faults += [f"child: {ended}"] if ended.code else []
            task.update(fork + 1)
    stop.set()
    for thread in threads:
        thread.join()
    return {"threads": THREADS, "calls": sum(calls), "forks": count, "hung": hung, "faults": faults}


def _pass(layer: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Outputs, last states and the gradient of the input."""
    x = x.clone().requires_grad_()
    output, states = layer(x)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    return [output.detach(), *(state.detach() for state in states), gradient]
