"""Settings (hyperparameters): declared once as dataclass fields, checked, parsed from text, grouped and explained."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from typing_extensions import Self, dataclass_transform

from lstmkit.errors import SettingError

C = TypeVar("C", bound=type)

#: Groups of settings in the order of ``--help``. Those of :data:`DATA_KINDS` count only for data of that kind.
GROUPS = ("data", "text", "audio", "image", "video", "ink", "model", "training", "decoding", "evaluation")
DATA_KINDS = ("text", "audio", "image", "video", "ink")

#: What the text of a setting may name: a column of the table that the job reads, by what it holds, or a run folder. A
#: text column is read by the model; a label column is what it learns to answer.
NAMES = ("", "column", "date column", "number column", "text column", "label column", "run")

#: Types that are accepted for a setting of another type: numpy scalars, and integers for a float.
_COMPATIBLE_TYPES: dict[Any, Any] = {int: numbers.Integral, float: numbers.Real, bool: np.bool_}


def setting(
    help: str,
    *,
    default: Any,
    group: str = "model",
    choices: Iterable[str] = (),
    low: float | None = None,
    high: float | None = None,
    only_with: Mapping[str, Collection[str]] | None = None,
    check: Callable[[Any], object] | None = None,
    names: str = "",
) -> Any:
    """Declare a setting: a dataclass field with its meaning and its range.

    Args:
        help: One line for ``--help``, with the unit.
        default: The default value.
        group: One of :data:`GROUPS`.
        choices: Allowed values of a text.
        low: Smallest allowed value.
        high: Largest allowed value.
        only_with: By name of another setting, the values of that with which this one has an effect; by default all.
        check: Called with a value; raises ValueError with the expected form, as a noun, if it is not of that form.
        names: What its text names, one of :data:`NAMES`; forms offer these to choose from.
    """
    assert group in GROUPS, group
    assert names in NAMES, names
    rules = {"help": help, "group": group, "choices": tuple(choices), "low": low, "high": high, "check": check}
    rules["names"] = names
    rules["only_with"] = dict(only_with or {})
    return dataclasses.field(default=default, metadata=rules)


def inherited(base: type, name: str, *, default: Any, help: str = "") -> Any:
    """Declare a setting of ``base`` again with another default; its group, choices and range stay.

    Args:
        base: The settings class that has it.
        name: Its name.
        default: The new default.
        help: Another line for ``--help``, if its meaning is narrower.
    """
    rules = declared(base)[name].metadata
    return dataclasses.field(default=default, metadata={**rules, "help": help or rules["help"]})


@dataclass_transform(kw_only_default=True, field_specifiers=(setting, inherited))
def settings_class(cls: C) -> C:
    """Make ``cls`` a keyword-only dataclass whose constructor refuses unknown names and values out of range.

    >>> @settings_class
    ... class Recipe(Settings):
    ...     epochs: int = setting("passes over the data", default=10, low=1)
    >>> Recipe(epoch=3)
    Traceback (most recent call last):
        ...
    lstmkit.errors.SettingError: unknown setting 'epoch': did you mean 'epochs'?
    """
    made = dataclasses.dataclass(kw_only=True, eq=False, repr=False)(cls)
    plain_init = made.__init__

    @functools.wraps(plain_init)
    def checked_init(self: Any, *args: Any, **given: Any) -> None:
        if args:
            name = type(self).__name__
            raise SettingError(f"{name} takes settings by name, as in {name}({_an_example(made)})")
        for name in given:
            if name not in declared(made):
                raise SettingError(unknown(name, declared(made)))
        plain_init(self, **given)
        for field in declared(made).values():
            object.__setattr__(self, field.name, checked(made, field.name, getattr(self, field.name)))

    made.__init__ = checked_init
    made.__settings_class__ = made  # type: ignore[attr-defined]
    return made


class Settings:
    """Base of every class of settings. Subclasses are decorated with :func:`settings_class`.

    ``get_params``, ``set_params`` and the constructor follow scikit-learn, so ``sklearn.base.clone`` works.
    """

    __settings_class__: typing.ClassVar[type]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every setting by name, like scikit-learn's estimators.

        Args:
            deep: Has no effect; no setting is an estimator.
        """
        return {name: getattr(self, name) for name in declared(type(self))}

    def set_params(self, **params: Any) -> Self:
        """Change settings; they take effect at the next ``fit``. A fitted predictor keeps its own.

        Raises:
            SettingError: A name is unknown or a value is out of range. Nothing is changed then.
        """
        cls = type(self)
        for name in params:
            if name not in declared(cls):
                raise SettingError(unknown(name, declared(cls)))
        values = {name: checked(cls, name, value) for name, value in params.items()}
        for name, value in values.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        params = self.get_params()
        changed = [f"{n}={params[n]!r}" for n, f in declared(type(self)).items() if params[n] != f.default]
        return f"{type(self).__name__}({', '.join(changed)})"

    def snapshot(self) -> Self:
        """A copy of the settings alone: of a job, without what it has learned."""
        return type(self).__settings_class__(**self.get_params())

    def check_group(self, used: Collection[str], data: str) -> None:
        """Refuse settings of a kind of data that is not the one at hand.

        Args:
            used: The kinds of :data:`DATA_KINDS` that count.
            data: What the data are, for the message: ``"text"``.

        Raises:
            SettingError: A setting of another kind was changed from its default.
        """
        known = declared(type(self))
        for name in sorted(known.keys() - counted(type(self), used).keys()):
            group = known[name].metadata["group"]
            if getattr(self, name) != known[name].default:
                raise SettingError(f"{name} is a setting for {group}, but the data are {data}: leave it out")


def declared(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """The settings of ``cls`` by name, in the order of declaration."""
    return {f.name: f for f in dataclasses.fields(cls) if "help" in f.metadata}


def counted(cls: type, kinds: Collection[str]) -> dict[str, dataclasses.Field[Any]]:
    """The settings of ``cls`` that count for data of these kinds, some of :data:`DATA_KINDS`."""
    left_out = set(DATA_KINDS).difference(kinds)
    return {name: field for name, field in declared(cls).items() if field.metadata["group"] not in left_out}


def in_effect(instance: Any, kinds: Collection[str]) -> dict[str, Any]:
    """The value of each setting of ``instance`` that has an effect, for data of these kinds."""
    fields = counted(type(instance), kinds)
    return {
        name: value
        for name, value in values(instance).items()
        if name in fields
        and all(getattr(instance, other) in allowed for other, allowed in fields[name].metadata["only_with"].items())
    }


def grouped(cls: type) -> dict[str, dict[str, dataclasses.Field[Any]]]:
    """The settings of ``cls`` by group, in the order of :data:`GROUPS`; empty groups are left out."""
    fields = declared(cls)
    groups = {group: {n: f for n, f in fields.items() if f.metadata["group"] == group} for group in GROUPS}
    return {group: members for group, members in groups.items() if members}


def values(instance: Any) -> dict[str, Any]:
    """The value of each setting of ``instance``, ready for JSON."""
    found = {name: getattr(instance, name) for name in declared(type(instance))}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items()}


def renamed(given: Mapping[str, Any], names: Mapping[str, str], choices: Mapping[str, Mapping[str, str]]) -> dict:
    """Settings of an older version under today's names.

    Args:
        given: Values by the names they were saved under.
        names: Old name to new name.
        choices: By new name, old value to new value.
    """
    current = {names.get(name, name): value for name, value in given.items()}
    return {
        name: choices.get(name, {}).get(value, value) if isinstance(value, str) else value
        for name, value in current.items()
    }


def unknown(name: str, known: Iterable[str], what: str = "setting") -> str:
    """The message for a name that is not known, with the nearest one that is."""
    known = list(known)
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1, cutoff=0.5)
    if near:
        return f"unknown {what} {name!r}: did you mean {near[0]!r}?"
    return f"unknown {what} {name!r}: " + (f"known are {', '.join(known)}" if known else "there are none")


def checked(cls: type, name: str, value: Any) -> Any:
    """``value`` as the setting's type; the same object if it already is of that type.

    Raises:
        SettingError: It is of another type or out of range.
    """
    converted = _as_type(name, type_of(cls, name), value)
    rules = declared(cls)[name].metadata
    if converted is None:
        return converted
    if rules["choices"] and converted not in rules["choices"]:
        raise SettingError(f"{name} must be one of {', '.join(rules['choices'])}, got {converted!r}")
    if rules["check"] is not None:
        try:
            rules["check"](converted)
        except ValueError as err:
            raise SettingError(f"{name} must be {err}, got {converted!r}") from err
    for element in converted if isinstance(converted, tuple) else (converted,):
        if rules["low"] is not None and not element >= rules["low"]:
            raise SettingError(f"{name} must be at least {rules['low']}, got {element}")
        if rules["high"] is not None and not element <= rules["high"]:
            raise SettingError(f"{name} must be at most {rules['high']}, got {element}")
    return value if _same(value, converted) else converted


def parse(cls: type, name: str, text: str) -> Any:
    """The value of a setting given as text on the command line (``--levels 50,80``)."""
    kind = type_of(cls, name)
    if text.lower() in ("none", "") and is_optional(kind):
        return None
    kind = without_none(kind)
    if typing.get_origin(kind) is tuple:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return checked(cls, name, tuple(_from_text(name, typing.get_args(kind)[0], part) for part in parts))
    return checked(cls, name, _from_text(name, kind, text))


def type_of(cls: type, name: str) -> Any:
    """The declared type of a setting."""
    return _hints(getattr(cls, "__settings_class__", cls))[name]


def is_optional(kind: Any) -> bool:
    """Whether a type admits ``None``."""
    return isinstance(kind, types.UnionType) and type(None) in typing.get_args(kind)


def without_none(kind: Any) -> Any:
    """A type without its ``None``."""
    return next(k for k in typing.get_args(kind) if k is not type(None)) if is_optional(kind) else kind


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
    if value is None and is_optional(kind):
        return None
    kind = without_none(kind)
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


def _same(value: Any, converted: Any) -> bool:
    """Whether conversion changed nothing; scikit-learn's ``clone`` wants the very object back."""
    if type(value) is not type(converted):
        return False
    return all(map(_same, value, converted)) if isinstance(value, tuple) else value == converted


def _kind_name(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(kind, kind.__name__)


def _an_example(cls: type) -> str:
    return ", ".join(f"{name}={field.default!r}" for name, field in list(declared(cls).items())[:1])
