"""Options of the command line, made from the settings of a job and from the keywords of a method."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, Literal

import typer

from lstmkit import settings
from lstmkit.errors import SettingError

_PANELS = {
    "data": "Data",
    "text": "Text settings",
    "audio": "Audio settings",
    "image": "Image settings",
    "video": "Video settings",
    "ink": "Ink settings",
    "model": "Model",
    "training": "Training",
    "decoding": "Decoding",
    "evaluation": "Evaluation",
}

_METAVARS = {int: "INT", float: "FLOAT", str: "TEXT"}


def with_parameters(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> Callable[..., Any]:
    """``function(**values)`` with a signature that typer reads."""

    def command(**given: Any) -> Any:
        return function(**given)

    command.__signature__ = inspect.Signature(list(parameters))  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = function.__doc__
    return command


def parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """A keyword parameter of a command."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def settings_parameters(cls: type) -> list[inspect.Parameter]:
    """An option for every setting of ``cls``, in one help panel per group."""
    return [
        _setting_parameter(cls, name, field, _PANELS[group])
        for group, fields in settings.grouped(cls).items()
        for name, field in fields.items()
    ]


def setting_values(cls: type, given: dict[str, Any], changed: Callable[[str], bool]) -> dict[str, Any]:
    """The settings that were given on the command line, as the constructor of the job takes them.

    Args:
        cls: The settings class.
        given: Values of all options.
        changed: Whether an option was given.
    """
    return {
        name: settings.parse(cls, name, given[name]) if _is_tuple(cls, name) else given[name]
        for name in settings.declared(cls)
        if changed(name)
    }


def keyword_parameters(method: Callable[..., Any]) -> list[inspect.Parameter]:
    """An option for every keyword of a method, explained by its docstring.

    The option's type is that of the default; it is text if the default is ``None``, and a list of names separated by
    commas if the default is a tuple.
    """
    parameters, helps = [], documented(method)
    for name in keywords(method):
        default: Any = inspect.signature(method).parameters[name].default
        extra: dict[str, Any] = {}
        kind: Any = str | None if default is None else type(default)
        if isinstance(default, tuple):
            kind, default, extra = str, ",".join(default), {"parser": _names, "metavar": "TEXT,…"}
        parameters.append(parameter(name, Annotated[kind, typer.Option(help=helps.get(name), **extra)], default))
    return parameters


def keywords(method: Callable[..., Any]) -> list[str]:
    """The keywords of a method that are options of the command line."""
    return [name for name in inspect.signature(method).parameters if name not in ("self", "data", "progress")]


def typed(name: str) -> str:
    """A keyword as it is typed on the command line.

    >>> typed("time_col")
    '--time-col'
    """
    return f"--{name.replace('_', '-')}"


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


#: A keyword in a message, perhaps with its value: a Python literal, "...", or a word.
_KEYWORD = re.compile(
    r"""(?<![\w'"/.=-])([a-z]\w*)(?:=('[^']*'|"[^"]*"|[\[(][^\])]*[\])]|\.{3}|[^\s,;:()'"]*[^\s,;:()'".]))?(?![\w'"=])"""
)


def as_typed(message: str, names: Collection[str]) -> str:
    """A message that names keywords of Python, with the options of the command line instead.

    A name with an underscore, a name with a value, and a name that the message begins with count as keywords.

    Args:
        message: The message of an error.
        names: The keywords that are options.

    >>> as_typed("no column 'ds': give time_col='sold on' or freq=...", ["time_col", "freq"])
    "no column 'ds': give --time-col 'sold on' or --freq ..."
    >>> as_typed("levels must be different: drop log_transform=True", ["levels", "log_transform"])
    '--levels must be different: drop --log-transform'
    """

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        is_subject = match.start() == 0 and message[match.end() :].startswith((" must ", " is a setting "))
        if name not in names or (value is None and "_" not in name and not is_subject):
            return match[0]
        if value in ("True", "False"):
            return typed(name if value == "True" else f"no_{name}")
        return typed(name) if value is None else f"{typed(name)} {_typed_value(value)}"

    return _KEYWORD.sub(option, message)


def _typed_value(text: str) -> str:
    """A value in a message as it is typed: without Python's quotes and brackets, quoted for the shell if needed."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a word, or "..."
    parts = value if isinstance(value, (list, tuple)) else (value,)
    return text if value is ... else shlex.quote(",".join(map(str, parts)))


def documented(method: Callable[..., Any]) -> dict[str, str]:
    """What the section ``Args:`` of a docstring says of each argument, as plain text."""
    section = re.search(r"^Args:\n((?:    .*(?:\n|$))+)", inspect.getdoc(method) or "", re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section[1], re.MULTILINE) if section else []
    plain = {name: re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("``", "") for name, text in entries}
    return {name: " ".join(text.replace("[", r"\[").split()) for name, text in plain.items()}


def integers(option: str, text: str | None) -> tuple[int, ...]:
    """``"3,17"`` as numbers.

    Raises:
        SettingError: A part is not a whole number.
    """
    try:
        return tuple(int(part) for part in (text or "").split(",") if part.strip())
    except ValueError as err:
        raise SettingError(f"{option} takes whole numbers separated by commas, not {text!r}") from err


def _is_tuple(cls: type, name: str) -> bool:
    return typing.get_origin(settings.without_none(settings.type_of(cls, name))) is tuple


def _setting_parameter(cls: type, name: str, field: Any, panel: str) -> inspect.Parameter:
    rules, kind, default = field.metadata, settings.type_of(cls, name), field.default
    options: dict[str, Any] = {"help": rules["help"], "rich_help_panel": panel}
    if _is_tuple(cls, name):
        of = typing.get_args(settings.without_none(kind))[0]
        options["metavar"] = f"{_METAVARS[of]},…"
        return parameter(name, Annotated[str, typer.Option(**options)], ",".join(map(str, default)))
    if rules["choices"]:
        literal: Any = Literal[rules["choices"]]
        options |= {"metavar": "CHOICE", "help": f"{rules['help']} ({', '.join(rules['choices'])})"}
        return parameter(
            name, Annotated[literal | None if default is None else literal, typer.Option(**options)], default
        )
    if settings.without_none(kind) is not bool:
        options["metavar"] = _METAVARS[settings.without_none(kind)]
    if settings.without_none(kind) in (int, float):
        options |= {"min": rules["low"], "max": rules["high"]}
    return parameter(name, Annotated[kind, typer.Option(**options)], default)
