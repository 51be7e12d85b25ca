"""A run that is served: its job, the form of its requests, and the thread that answers them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic_core import to_json

from lstmkit.data.files import confined_to
from lstmkit.errors import UserError
from lstmkit.jobs.base import Job
from lstmkit.jobs.serving import serving_of
from lstmkit.progress import silent
from lstmkit.serve.batching import Worker
from lstmkit.serve.limits import RefusedError
from lstmkit.serve.monitoring import Metrics, log
from lstmkit.serve.options import ServeOptions
from lstmkit.serve.requests import MEDIA_TYPES, LiveForm, Request, RequestForm
from lstmkit.serve.uploads import request_folder

_JSON = MEDIA_TYPES[".json"]


class ServedRun:
    """One run and its thread.

    Args:
        name: Its name in the addresses.
        job: The fitted job.
        options: How it is served.
        metrics: What counts its batches.
    """

    def __init__(self, name: str, job: Job[Any], options: ServeOptions, metrics: Metrics) -> None:
        self.name, self.job = name, job
        self.root = Path()
        self.serving = serving_of(job)
        self.form = RequestForm(job, self.serving)
        self.live = self.serving.live and LiveForm(self.serving)
        self.time_limit = options.time_limit
        batch_size, seconds = metrics.batch_size.labels(name), metrics.model_seconds.labels(name)

        def observe(size: int, duration: float) -> None:
            batch_size.observe(size)
            seconds.observe(duration)

        self.worker = Worker(
            name,
            max_batch=options.max_batch if self.serving.join or self.serving.predict_each else 1,
            max_wait=options.max_wait_ms / 1000,
            max_queue=options.max_queue,
            torch_threads=options.torch_threads,
            observe=observe,
            network=job.model,
        )
        metrics.waiting.labels(name).set_function(lambda: len(self.worker))

    async def predict(self, request: Request, media_type: str = _JSON) -> tuple[bytes, str]:
        """The answer to a request and its media type.

        Raises:
            RefusedError: The job refuses the data, too many requests wait, or the time is over.
        """
        if media_type == _JSON and not request.is_file:
            key = repr(request.options)
            answer = await self._checked(self.worker.batched(self._records, request, key, self.time_limit))
            return answer, _JSON
        return await self._checked(
            self.worker.batched(lambda _: [self._file(request, media_type)], request, None, self.time_limit)
        )

    @property
    def description(self) -> dict[str, Any]:
        """What it takes and answers, for a list of runs."""
        options = self.form.options_model.model_json_schema()
        return {
            "name": self.name,
            "job": self.job.name,
            "summary": self.job.summary,
            "example": {"data": self.serving.data.example},
            "options": options.get("properties", {}),
            "files": self.form.upload_endings,
            "answers": [*self.form.answer_types],
            "streams": self.serving.generate is not None,
            "live": None if self.serving.live is None else {"step": self.serving.live.message.example},
        }

    async def start(self, root: Path) -> None:
        """Start the thread, and answer the example once: the first client need not wait for what is made at first use.

        Args:
            root: Folder for the files of requests.
        """
        self.root = root
        self.worker.start()
        try:
            await self.predict(Request(self.serving.data.example, {}))
        except RefusedError as err:
            log.warning("the example is refused", extra={"fields": {"run": self.name, "reason": err.reason}})

    def generation(self, request: Request) -> Iterator[tuple[str, Any]]:
        """The parts of an answer that grows; made in the thread. Raises DataError."""
        assert self.serving.generate is not None
        data, options = self.form.converted(request)
        yield from self.serving.generate(data, **options)

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        """The result of a short function that the run's thread calls before all that waits. Raises RefusedError."""
        return await self._checked(self.worker.urgent(function, self.time_limit))

    async def _checked(self, answer: Any) -> Any:
        try:
            return await answer
        except UserError as err:
            raise RefusedError(422, self._public(str(err))) from None

    def _public(self, message: str) -> str:
        """A message without the folders of the server."""
        for folder in sorted(self.root.glob("*/")):
            message = message.replace(f"{folder}/", "")
        return message.replace(f"{self.root}/", "")

    # ---- in the thread ---------------------------------------------------------------------------------------------

    def _records(self, requests: Sequence[Request]) -> list[bytes]:
        """The answers to requests with the same options, as JSON."""
        converted = [self.form.converted(request) for request in requests]
        data, options = [each for each, _ in converted], converted[0][1]
        with confined_to(self.root / "nothing"):
            if self.serving.predict_each is not None:
                with silent():
                    records = [*map(self.job.to_records, self.serving.predict_each(data, **options))]
            elif len(data) == 1 or self.serving.join is None:
                records = [self.job.to_records(self._predict(each, options)) for each in data]
            else:
                joined = self.job.to_records(self._predict(self.serving.join(data), options))
                ends = [0, *accumulate(map(len, data))]
                if ends[-1] != len(joined):
                    raise RuntimeError(f"{self.job.name}: {len(joined)} records for {ends[-1]} examples")
                records = [joined[start:end] for start, end in pairwise(ends)]
        return [json_of({"answers": each}) for each in records]

    def _file(self, request: Request, media_type: str) -> tuple[bytes, str]:
        """The answer to one request in another format, or to an upload."""
        data, options = self.form.converted(request)
        with confined_to(data.parent if request.is_file else self.root / "nothing"):
            predictions = self._predict(data, options)
        if media_type == _JSON:
            return json_of({"answers": self.job.to_records(predictions)}), media_type
        ending = self.form.answer_types[media_type]
        if ending in (".csv", ".txt"):
            return (self.job.to_text(predictions) + "\n").encode(), media_type
        with request_folder(self.root) as folder:
            self.job.write(predictions, folder / f"answer{ending}")
            files = sorted(folder.iterdir())
            return (files[0].read_bytes(), media_type) if len(files) == 1 else (_zipped(files), MEDIA_TYPES[".zip"])

    def _predict(self, data: Any, options: dict[str, Any]) -> Any:
        with silent():
            return self.job.predict(data, **options)


def json_of(content: Any) -> bytes:
    """JSON of an answer; NaN is null, since JSON has no other way to say it."""
    return to_json(content, inf_nan_mode="null", fallback=_plain)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.generic, np.ndarray, torch.Tensor)) else str(value)


def _zipped(files: Sequence[Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    return buffer.getvalue()
