"""How a job is served: what a request holds, what may be asked, and what streams.

A job says it in its own ``serving.py``, a function ``serving(predictor) -> Serving``. A server reads nothing else of a
job than this, the signature of ``predict``, and what every job has: methods, formats of data, and endings of answers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from typing_extensions import TypedDict

from lstmkit.data.audio.audio_io import AudioClip, audio_from_array
from lstmkit.data.tables.table import frame_of_rows
from lstmkit.errors import DataError, one_line

if TYPE_CHECKING:
    from lstmkit.jobs.base import Job

Row = dict[str, str | int | float | bool | None]  #: A row of a table in JSON, by column.


class Clip(TypedDict):
    """An audio clip in JSON.

    Attributes:
        samples: From -1 to 1.
        sample_rate: In Hz.
    """

    samples: list[float]
    sample_rate: int


def unchanged(data: Any) -> Any:
    """The data as they are in JSON."""
    return data


@dataclass(frozen=True)
class JsonForm:
    """How data look in JSON.

    Attributes:
        type: Their type in plain Python: ``list[str]``. It has no strings where ``predict`` would take a path.
        example: Data of that type; the model can answer them.
        convert: Makes of them what the job takes. It raises DataError.
    """

    type: Any
    example: Any
    convert: Callable[[Any], Any] = unchanged


def rows_form(example: list[Row]) -> JsonForm:
    """The rows of a table: a list of objects."""
    return JsonForm(list[Row], example, lambda rows: frame_of_rows(rows, "the data"))


def texts_form(*example: str) -> JsonForm:
    """A list of texts."""
    return JsonForm(list[str], list(example))


def clips_form() -> JsonForm:
    """Audio clips; the example is a second of silence."""
    return JsonForm(list[Clip], [Clip(samples=[0.0] * 8000, sample_rate=8000)], _clips)


def _clips(clips: list[Clip]) -> list[AudioClip]:
    numbered = enumerate(clips, 1)
    return [audio_from_array(clip["samples"], clip["sample_rate"], f"clip {number}") for number, clip in numbered]


def arrays_form(type: Any, example: Any, dtype: Any = np.float32) -> JsonForm:
    """A list of arrays as nested lists.

    Args:
        type: The type of the list.
        example: A list of that type.
        dtype: The type of the numbers.
    """
    return JsonForm(type, example, lambda arrays: [array_of(array, dtype) for array in arrays])


def array_of(values: Any, dtype: Any = np.float32) -> np.ndarray:
    """Nested lists of numbers as an array.

    Raises:
        DataError: Lists of one level differ in length, or a number is out of range.
    """
    try:
        with np.errstate(over="raise"):
            return np.array(values, dtype=dtype)
    except (ValueError, ArithmeticError) as err:
        raise DataError(f"the data are not an array of {np.dtype(dtype)}: {one_line(err)}") from err


def join_lists(data: Sequence[list[Any]]) -> list[Any]:
    """The lists of several requests as one."""
    return [*chain.from_iterable(data)]


class LiveSession(Protocol):
    """What one connection of a live stream does; it keeps the state."""

    def step(self, message: Any) -> Any:
        """Take the next step or steps, and return an answer ready for JSON. Raises DataError."""
        ...

    def finish(self) -> Any:
        """End the stream and return the last answer; ``None`` if there is none."""
        ...


@dataclass(frozen=True)
class Live:
    """How a job answers step by step.

    Attributes:
        start: Starts a session. Its keywords are options of the connection.
        message: What :meth:`LiveSession.step` takes.
        takes_audio: Whether the message is audio samples, which a client may also send as 16-bit integers.
    """

    start: Callable[..., LiveSession]
    message: JsonForm
    takes_audio: bool = False


def samples_live(start: Callable[..., LiveSession]) -> Live:
    """A live stream of audio samples from -1 to 1."""
    return Live(start, JsonForm(list[float], [0.0] * 8), takes_audio=True)


@dataclass(frozen=True)
class Serving:
    """How a fitted job is served.

    Attributes:
        data: The data of a request.
        data_options: By name the keywords of ``predict`` that take data as well. Other keywords of the type ``Any``
            take folders of the server or objects, and no request has them.
        max_values: The largest value of each option that is a whole number, so that no request takes all memory.
        max_items: The most examples of one request; 0 for no limit but that of the request's size.
        upload_endings: Endings of files that ``predict`` takes, beside those of ``data_formats``.
        join: Joins the data of requests with the same options into one; ``None`` if answers depend on the other data.
            Each example gets one record, and its record is the same alone, up to rounding.
        predict_each: ``predict_each(data, **options)`` makes the predictions of ``predict``, up to rounding, for the
            data of several requests at once. For jobs whose data cannot be joined before they are read.
        live: How it answers step by step; ``None`` if it does not.
        generate: ``generate(data, **options)`` yields the parts of an answer while it grows, each with the name of its
            event, and last ``"answers"``. It has the options of ``predict``. ``None`` if answers do not grow.
    """

    data: JsonForm = field(default_factory=lambda: rows_form([]))
    data_options: Mapping[str, JsonForm] = field(default_factory=dict)
    max_values: Mapping[str, int] = field(default_factory=dict)
    max_items: int = 0
    upload_endings: tuple[str, ...] = ()
    join: Callable[[Sequence[Any]], Any] | None = None
    predict_each: Callable[..., Sequence[Any]] | None = None
    live: Live | None = None
    generate: Callable[..., Iterator[tuple[str, Any]]] | None = None


def serving_of(job: Job[Any]) -> Serving:
    """How a fitted job is served: what its ``serving.py`` says, else as a table.

    Raises:
        UserError: The job is not fitted.
    """
    name = f"{__package__}.{job.name}.serving"
    job.check_fitted()
    return importlib.import_module(name).serving(job.predictor) if find_spec(name) else Serving()
