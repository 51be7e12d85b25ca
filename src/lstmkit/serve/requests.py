"""The form of a run's requests: what JSON and files may hold, made from what the job says of itself."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from lstmkit import command_options
from lstmkit.jobs.base import Job
from lstmkit.jobs.serving import LiveSession, Serving
from lstmkit.serve.limits import RefusedError

#: Media types of answers, by the ending of the file.
MEDIA_TYPES = {
    ".json": "application/json",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".wav": "audio/wav",
    ".mid": "audio/midi",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
    ".npz": "application/x-npz",
    ".zip": "application/zip",
    ".srt": "application/x-subrip",
    ".vtt": "text/vtt",
}
_INT16_SCALE = 32768
_MAX_SEED = 2**31 - 1
_MAX_TEXT = 10_000  # characters of an option
_STRICT = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True)
class Request:
    """What a client asks of a run.

    Attributes:
        data: What ``predict`` takes, before :attr:`JsonForm.convert`; or the path of an upload.
        options: Keywords of ``predict`` that the client gave.
        is_file: Whether the data are an upload.
    """

    data: Any
    options: dict[str, Any]
    is_file: bool = False


class RequestForm:
    """The form of the requests of one run, made from what its job says.

    Args:
        job: The fitted job.
        serving: How it is served.
    """

    def __init__(self, job: Job[Any], serving: Serving) -> None:
        self.job, self.serving = job, serving
        self.data_type: Any = _bounded(serving.data.type, serving.max_items)
        self.options_model = _options_model("Options", job.predict, serving)
        self.model: type[BaseModel] = create_model(
            "Request",
            __config__=_STRICT,
            data=(self.data_type, Field(examples=[serving.data.example])),
            options=(self.options_model, Field(default_factory=self.options_model)),
        )
        self.upload_endings = _upload_endings(job, serving)
        endings = (".json", *job.answer_suffixes, *job.optional_answer_suffixes)
        #: Endings of answers by media type; the first is what a client gets that does not ask.
        self.answer_types = {MEDIA_TYPES[ending]: ending for ending in endings}

    def from_json(self, body: bytes) -> Request:
        """The request in a body of JSON. The parser limits how deep it nests.

        Raises:
            RefusedError: It is not JSON, or not a request of this run.
        """
        request = validated(self.model.model_validate_json, body)
        return Request(request.data, self._options(request.options))

    def from_file(self, path: Path, options: str, others: Mapping[str, Path]) -> Request:
        """The request of an upload.

        Args:
            path: The uploaded file.
            options: Its options as JSON; empty for none.
            others: Further uploads, by the keyword of ``predict`` that takes them.
        """
        parsed = validated(self.options_model.model_validate_json, options or "{}")
        return Request(path, {**self._options(parsed), **others}, is_file=True)

    def _options(self, options: BaseModel) -> dict[str, Any]:
        return {name: getattr(options, name) for name in options.model_fields_set}

    def converted(self, request: Request) -> tuple[Any, dict[str, Any]]:
        """Data and options as ``predict`` takes them. Raises DataError."""
        forms = self.serving.data_options
        options = {
            name: forms[name].convert(value) if name in forms and not isinstance(value, Path) else value
            for name, value in request.options.items()
        }
        return request.data if request.is_file else self.serving.data.convert(request.data), options

    def answer_type(self, accept: str) -> str:
        """The media type of the answer, by an ``Accept`` header.

        Raises:
            RefusedError: The run has no answers of these types.
        """
        for part in accept.split(",") if accept else ["*/*"]:
            wanted = part.partition(";")[0].strip().lower()
            if wanted in ("*/*", "application/*"):
                return MEDIA_TYPES[".json"]
            if wanted in self.answer_types:
                return wanted
        raise RefusedError(406, f"this run answers as {', '.join(self.answer_types)}: accept one of these")

    def ending(self, filename: str) -> str:
        """The ending of an uploaded file; nothing else of its name is used.

        Raises:
            RefusedError: The run does not take such files.
        """
        endings = sorted(self.upload_endings, key=len, reverse=True)
        name = filename.lower()
        ending = next((ending for ending in endings if name.endswith(ending)), None)
        if ending is None:
            raise RefusedError(415, f"this run takes files with the endings {', '.join(self.upload_endings)}: give one")
        return ending


def _bounded(kind: Any, max_items: int) -> Any:
    """A type whose lists have one to ``max_items`` entries, 0 for any number; a number of examples has these bounds."""
    if typing.get_origin(kind) is list:
        return Annotated[kind, Field(min_length=1, max_length=max_items or None)]
    if kind is int:
        return Annotated[int, Field(ge=1, le=max_items)]
    members = typing.get_args(kind)
    return typing.Union[tuple(_bounded(member, max_items) for member in members)]  # noqa: UP007


def _options_model(
    name: str, function: Callable[..., Any], serving: Serving, *, strict: bool = True
) -> type[BaseModel]:
    """A model of the keywords of a function that a client may give."""
    parameters, helps = inspect.signature(function, eval_str=True).parameters, command_options.documented(function)
    fields: dict[str, Any] = {}
    for keyword in command_options.keywords(function):
        kind = parameters[keyword].annotation
        rules: dict[str, Any] = {"default": parameters[keyword].default, "description": helps.get(keyword)}
        if keyword in serving.data_options:
            form = serving.data_options[keyword]
            fields[keyword] = (form.type, Field(**rules))
        elif kind is int:
            low, high = (0, _MAX_SEED) if keyword == "seed" else (None, serving.max_values.get(keyword))
            fields[keyword] = (int, Field(ge=low, le=high, **rules))
        elif kind is float:
            fields[keyword] = (float, Field(allow_inf_nan=False, **rules))
        elif kind is str:
            fields[keyword] = (str, Field(max_length=_MAX_TEXT, **rules))
        elif kind is bool:
            fields[keyword] = (bool, Field(**rules))
    return create_model(name, __config__=_STRICT if strict else ConfigDict(extra="forbid"), **fields)


class LiveForm:
    """The form of a live connection: its options, which come as text, and its messages.

    Args:
        serving: How the job is served; it streams.
    """

    def __init__(self, serving: Serving) -> None:
        assert serving.live is not None
        self.start, self.takes_audio = serving.live.start, serving.live.takes_audio
        self.options_model = _options_model("LiveOptions", self.start, serving, strict=False)
        step: Any = Annotated[serving.live.message.type, Field(examples=[serving.live.message.example])]
        #: ``{"step": …}``, or at the end ``{"finish": true}``.
        self.message_model = create_model("Message", __config__=_STRICT, step=(step, None), finish=(bool, False))

    def session(self, options: Mapping[str, str]) -> LiveSession:
        """A new session.

        Raises:
            RefusedError: An option is unknown or of another type.
            UserError: The job refuses the options.
        """
        parsed = validated(self.options_model.model_validate, dict(options))
        return self.start(**{name: getattr(parsed, name) for name in parsed.model_fields_set})

    def step(self, message: Mapping[str, Any]) -> Any:
        """What a message asks: the step, or ``None`` if it ends the session. Raises RefusedError."""
        samples = message.get("bytes")
        if samples is not None:
            if not self.takes_audio or len(samples) % 2:
                raise RefusedError(422, "this run takes no binary messages, or the last sample lacks a byte")
            return np.frombuffer(samples, dtype="<i2").astype(np.float32) / _INT16_SCALE
        content = validated(self.message_model.model_validate_json, message["text"])
        if content.finish == ("step" in content.model_fields_set):
            raise RefusedError(422, 'send either {"step": …} or {"finish": true}')
        return None if content.finish else content.step


def validated(validate: Callable[..., Any], content: Any) -> Any:
    """What a model makes of the content.

    Raises:
        RefusedError: It is not JSON, or not what the model describes; the reason is the first fault.
    """
    try:
        return validate(content)
    except ValidationError as err:
        first = err.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(part for part in map(str, first["loc"]) if "[" not in part)  # without the types of a union
        status = 400 if first["type"] == "json_invalid" else 422
        raise RefusedError(status, f"{where}: {first['msg']}" if where else first["msg"]) from None


def _upload_endings(job: Job[Any], serving: Serving) -> tuple[str, ...]:
    """Endings of the files that a client may upload; a format of any ending takes ``.txt``."""
    files = [each for each in job.data_formats if not each.folder]
    endings = [ending for each in files for ending in (each.endings or (".txt",)) if ending.startswith(".")]
    return tuple(dict.fromkeys([*endings, *serving.upload_endings]))
