"""Settings of a job: declared once as dataclass fields, checked, parsed from text, and explained from there."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import numbers
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from typing_extensions import dataclass_transform

from lstmkit.errors import SettingError

C = TypeVar("C", bound=type)

#: What else is taken for a setting of that type: numpy's, and whole numbers where a real one is meant.
_COMPATIBLE_TYPES: dict[Any, Any] = {int: numbers.Integral, float: numbers.Real, bool: np.bool_}


def setting(
    help: str, *, default: Any, choices: Iterable[str] = (), low: float | None = None, high: float | None = None
) -> Any:
    """A dataclass field with its meaning and its range (``low`` and ``high`` are allowed values)."""
    return dataclasses.field(
        default=default, metadata={"help": help, "choices": tuple(choices), "low": low, "high": high}
    )


@dataclass_transform(kw_only_default=True, field_specifiers=(setting,))
def settings_class(cls: C) -> C:
    """Make ``cls`` a keyword-only dataclass whose constructor refuses unknown names and values out of range.

    >>> @settings_class
    ... class Recipe:
    ...     epochs: int = setting("passes over the data", default=10, low=1)
    >>> Recipe(epoch=3)
    Traceback (most recent call last):
        ...
    lstmkit.errors.SettingError: unknown setting 'epoch': did you mean 'epochs'?
    """
    made = dataclasses.dataclass(kw_only=True, eq=False)(cls)
    plain_init = made.__init__

    @functools.wraps(plain_init)
    def checked_init(self: Any, *args: Any, **given: Any) -> None:
        if args:
            raise SettingError(f"{cls.__name__} takes settings by name, as in {cls.__name__}({_an_example(made)})")
        for name in given:
            if name not in declared(made):
                raise SettingError(unknown(name, declared(made)))
        plain_init(self, **given)
        for field in declared(made).values():
            object.__setattr__(self, field.name, checked(made, field.name, getattr(self, field.name)))

    made.__init__ = checked_init
    return made


def declared(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """The settings of ``cls``, by name, in order."""
    return {f.name: f for f in dataclasses.fields(cls) if "help" in f.metadata}


def values(instance: Any) -> dict[str, Any]:
    """What each setting of ``instance`` is, ready for JSON."""
    found = {name: getattr(instance, name) for name in declared(type(instance))}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items()}


def unknown(name: str, known: Iterable[str], what: str = "setting") -> str:
    """What to say of a name that is not known."""
    known = list(known)
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1, cutoff=0.5)
    if near:
        return f"unknown {what} {name!r}: did you mean {near[0]!r}?"
    return f"unknown {what} {name!r}: " + (f"known are {', '.join(known)}" if known else "there are none")


def checked(cls: type, name: str, value: Any) -> Any:
    """``value`` as the setting's type.

    Raises:
        SettingError: It is of another type or out of range.
    """
    value = _as_type(name, _type_of(cls, name), value)
    rules = declared(cls)[name].metadata
    if value is None:
        return value
    if rules["choices"] and value not in rules["choices"]:
        raise SettingError(f"{name} must be one of {', '.join(rules['choices'])}, got {value!r}")
    for one in value if isinstance(value, tuple) else (value,):
        if rules["low"] is not None and not one >= rules["low"]:
            raise SettingError(f"{name} must be at least {rules['low']}, got {one}")
        if rules["high"] is not None and not one <= rules["high"]:
            raise SettingError(f"{name} must be at most {rules['high']}, got {one}")
    return value


def parse(cls: type, name: str, text: str) -> Any:
    """The value of a setting given as text on the command line (``--levels 50,80``)."""
    kind = _type_of(cls, name)
    if text.lower() in ("none", "") and _is_optional(kind):
        return None
    kind = _without_none(kind)
    if typing.get_origin(kind) is tuple:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return checked(cls, name, tuple(_from_text(name, typing.get_args(kind)[0], part) for part in parts))
    return checked(cls, name, _from_text(name, kind, text))


def _from_text(name: str, kind: type, text: str) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise SettingError(f"{name} must be true or false, got {text!r}")
        return text.lower() in ("true", "yes", "1")
    try:
        return kind(text)
    except ValueError as err:
        raise SettingError(f"{name} must be {_kind_name(kind)}, got {text!r}") from err


def _as_type(name: str, kind: Any, value: Any) -> Any:
    if value is None and _is_optional(kind):
        return None
    kind = _without_none(kind)
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, Iterable):
            value = (value,)
        return tuple(_as_type(name, typing.get_args(kind)[0], v) for v in value)
    if kind in _COMPATIBLE_TYPES and isinstance(value, _COMPATIBLE_TYPES[kind]) and not isinstance(value, bool):
        value = kind(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise SettingError(f"{name} must be {_kind_name(kind)}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingError(f"{name} must be a finite number, got {value}")
    return value


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _type_of(cls: type, name: str) -> Any:
    return _hints(cls)[name]


def _is_optional(kind: Any) -> bool:
    return isinstance(kind, types.UnionType) and type(None) in typing.get_args(kind)


def _without_none(kind: Any) -> Any:
    return next(k for k in typing.get_args(kind) if k is not type(None)) if _is_optional(kind) else kind


def _kind_name(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(kind, kind.__name__)


def _an_example(cls: type) -> str:
    return ", ".join(f"{name}={field.default!r}" for name, field in list(declared(cls).items())[:1])
