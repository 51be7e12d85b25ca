"""Forms that are made from settings and from the keywords of a method, and the values that come back."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lstmkit import settings
from lstmkit.command_options import documented, keywords, typed
from lstmkit.errors import SettingError
from lstmkit.jobs.settings import JobSettings
from lstmkit.studio.columns import TableColumns

Submitted = Mapping[str, Sequence[Any]]  #: What a form sent: texts and files of each name.


def first_text(values: Submitted, name: str, default: str = "") -> str:
    """The first text that a form sent under a name."""
    return next((value for value in values.get(name, ()) if isinstance(value, str)), default)


@dataclass(frozen=True)
class Field:
    """An input of a form.

    Attributes:
        name: Its name.
        label: What it means, in short.
        more: The rest of what it means; empty if that is all.
        kind: ``"number"``, ``"text"``, ``"choice"``, ``"choices"``, ``"switch"`` or ``"file"``.
        value: What it holds at first; of ``"choices"`` a tuple.
        default: What it holds if nothing is changed.
        choices: Pairs of value and label to choose from.
        low: Smallest number.
        high: Greatest number.
        step: ``"1"`` for whole numbers, ``"any"`` for others.
        hint: The option of the command line.
    """

    name: str
    label: str
    kind: str
    value: Any
    default: Any
    more: str = ""
    choices: Sequence[tuple[str, str]] = ()
    low: float | None = None
    high: float | None = None
    step: str = "any"
    hint: str = ""

    def with_value(self, value: Any) -> Field:
        """The field with another value; a list in an input of text is separated by commas."""
        return replace(self, value=self._as_text(value))

    @property
    def is_changed(self) -> bool:
        """Whether it holds another value than its default."""
        return self.value != self._as_text(self.default)

    def _as_text(self, value: Any) -> Any:
        return ", ".join(value) if self.kind == "text" and isinstance(value, tuple) else value


@dataclass(frozen=True)
class Group:
    """Inputs under one heading."""

    heading: str
    fields: Sequence[Field]


# ---- settings --------------------------------------------------------------------------------------------------------


def settings_form(
    cls: type[JobSettings],
    columns: TableColumns | None,
    runs: Sequence[tuple[str, str]],
    values: Mapping[str, Any],
) -> tuple[Group, list[Group]]:
    """The form for the settings of a job: the main ones, and all others by group.

    Args:
        cls: The settings class.
        columns: Columns of the table; ``None`` if the data are not a table.
        runs: Pairs of folder and name of the runs that a setting may name.
        values: Values that are not the defaults.
    """
    fields = {
        name: _setting_field(cls, name, columns, runs).with_value(_shown(values.get(name, field.default)))
        for name, field in settings.declared(cls).items()
    }
    main = list(dict.fromkeys([*(_needed_columns(cls) if columns else ()), *cls.main_settings]))
    others = [
        Group(group.capitalize(), [fields[name] for name in members if name not in main])
        for group, members in settings.grouped(cls).items()
    ]
    return Group("Settings", [fields[name] for name in main]), [group for group in others if group.fields]


def read_settings(cls: type[JobSettings], submitted: Submitted) -> dict[str, Any]:
    """The submitted settings that are not the defaults, checked.

    Raises:
        SettingError: A value is not of the setting's type or out of its range.
    """
    values = {}
    for name, field in settings.declared(cls).items():
        value = _read_setting(cls, name, submitted)
        if _shown(value) != _shown(field.default):
            values[name] = value
    cls(**values)
    return values


def typed_again(cls: type[JobSettings], submitted: Submitted) -> dict[str, Any]:
    """What was submitted, for :func:`settings_form` to show it again: also values that are wrong."""
    values: dict[str, Any] = {}
    for name in settings.declared(cls):
        kind, texts = settings.without_none(settings.type_of(cls, name)), submitted.get(name, ())
        if kind is bool:
            values[name] = bool(texts)
        elif typing.get_origin(kind) is tuple:
            values[name] = tuple(part.strip() for text in texts for part in text.split(",") if part.strip())
        elif texts:
            values[name] = texts[0]
    return values


def _read_setting(cls: type[JobSettings], name: str, submitted: Submitted) -> Any:
    kind = settings.type_of(cls, name)
    texts = submitted.get(name, ())
    if settings.without_none(kind) is bool:
        return settings.parse(cls, name, "true" if texts else "false")
    if typing.get_origin(settings.without_none(kind)) is tuple:
        return settings.parse(cls, name, ",".join(text for text in texts if text.strip()))
    return settings.parse(cls, name, texts[0].strip()) if texts else settings.declared(cls)[name].default


def _needed_columns(cls: type[JobSettings]) -> list[str]:
    """The settings that name a column of dates, numbers, texts or labels, without which the table cannot be read."""
    return [
        name
        for name, field in settings.declared(cls).items()
        if field.metadata["names"].endswith(" column") and settings.type_of(cls, name) is str
    ]


def _setting_field(
    cls: type[JobSettings], name: str, columns: TableColumns | None, runs: Sequence[tuple[str, str]]
) -> Field:
    field = settings.declared(cls)[name]
    rules, kind = field.metadata, settings.without_none(settings.type_of(cls, name))
    common = {**_wording(name, rules["help"]), "value": None, "default": _shown(field.default)}
    if kind is bool:
        return Field(**common, kind="switch")
    if kind in (int, float):
        step = "1" if kind is int else "any"
        return Field(**common, kind="number", low=rules["low"], high=rules["high"], step=step)
    if rules["choices"]:
        return Field(**common, kind="choice", choices=[(choice, choice) for choice in rules["choices"]])
    if rules["names"] == "run":
        return Field(**common, kind="choice", choices=[("", "none"), *runs])
    if "column" in rules["names"] and columns is not None:
        named = [(column, column) for column in columns.names]
        if kind is not str:
            return Field(**common, kind="choices", choices=named)
        # A default that is no column of the table: the job reads a table without one if the role is optional.
        absent = [] if field.default in columns.names else [(str(field.default), "none")]
        return Field(**common, kind="choice", choices=[*named, *(absent or [("", "none")])])
    return Field(**common, kind="text")


def _shown(value: Any) -> Any:
    """A value as an input holds it: names to choose from as a tuple, other lists and numbers as text."""
    if isinstance(value, (tuple, list)):
        return tuple(map(str, value))
    return value if isinstance(value, bool) else "" if value is None else str(value)


def _wording(name: str, help: str) -> dict[str, str]:
    """Name, label, further explanation and option of an input.

    >>> _wording("freq", "pandas frequency; inferred if not given")["more"]
    'Inferred if not given.'
    """
    label, more = [*re.split(r"; |: |\. ", help.removesuffix("."), maxsplit=1), ""][:2]
    sentence = {"label": _capital(label), "more": _capital(more) + "." if more else ""}
    return {"name": name, "hint": typed(name), **sentence}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---- keywords --------------------------------------------------------------------------------------------------------


def keyword_fields(method: Callable[..., Any]) -> list[Field]:
    """An input for each keyword of a method that is a number, a text or a switch, or a file.

    A keyword of any type whose default is ``None`` is a file. One whose default is a text names a model, and has no
    input: a page must not open what a reader types as a path.
    """
    helps, fields = documented(method), []
    for name in keywords(method):
        parameter = inspect.signature(method, eval_str=False).parameters[name]
        default, is_any = parameter.default, str(parameter.annotation) in ("Any", "Any | None")
        common = {**_wording(name, helps.get(name, name).replace("\\[", "[")), "value": _shown(default)}
        common["default"] = common["value"]
        if is_any and default is not None:
            continue
        if is_any:
            fields.append(Field(**common, kind="file"))
        elif isinstance(default, bool):
            fields.append(Field(**common, kind="switch"))
        elif isinstance(default, (int, float)):
            fields.append(Field(**common, kind="number", step="1" if isinstance(default, int) else "any"))
        elif default is None or isinstance(default, str):
            fields.append(Field(**common, kind="text"))
    return fields


def read_keywords(method: Callable[..., Any], submitted: Submitted) -> dict[str, Any]:
    """The submitted keywords, except files.

    Raises:
        SettingError: A value is not a number where one is needed.
    """
    values: dict[str, Any] = {}
    for field in keyword_fields(method):
        default = inspect.signature(method).parameters[field.name].default
        text = first_text(submitted, field.name).strip()
        if field.kind == "switch":
            values[field.name] = bool(text)
        elif field.kind == "number":
            values[field.name] = _number(field, text, type(default))
        elif field.kind == "text" and (text or default is not None):
            values[field.name] = text
    return values


def _number(field: Field, text: str, kind: type) -> Any:
    try:
        return kind(text or field.default)
    except ValueError as err:
        noun = "a whole number" if kind is int else "a number"
        raise SettingError(f"{field.hint} must be {noun}, got {text!r}") from err
