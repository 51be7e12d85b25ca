"""The options of one layer of a Keras model, each checked when it is read; unknown ones are refused."""

from __future__ import annotations

import math
import re
from typing import Any

from lstmkit.errors import ModelFileError, UserError, one_line

_MAX_SIZE = 2**31 - 1

#: Options that do not change what a trained layer computes.
_NO_EFFECT = re.compile(
    r"name|trainable|dtype|seed|unroll|implementation|unit_forget_bias|use_cudnn|input_dtype|sparse|optional|ragged"
    r"|(batch_)?(input_)?shape|noise_shape|input_length|input_dim|synchronized|renorm_(clipping|momentum)"
    r"|\w+_(initializer|regularizer|constraint)"
)


class LayerOptions:
    """The options of one layer.

    Args:
        label: How messages call the layer.
        values: Its ``config``, parsed JSON of any form.

    Raises:
        ModelFileError: The values are not a JSON object.

    >>> options = LayerOptions("layer 'dense' (Dense)", {"units": 8, "activation": "relu"})
    >>> options.size("units")
    8
    >>> options.check_all_read()
    Traceback (most recent call last):
        ...
    lstmkit.errors.UserError: layer 'dense' (Dense) has activation='relu', which lstmkit does not have
    """

    def __init__(self, label: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise ModelFileError(f"{label} has no options: save the model again with Keras")
        self.label, self._values, self._read = label, values, set[str]()

    def value(self, name: str, default: Any = None) -> Any:
        """The value of an option, whatever it is."""
        self._read.add(name)
        return self._values.get(name, default)

    def size(self, name: str) -> int:
        """A whole number of at least 1."""
        value = self.value(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_SIZE:
            raise self._wrong(name, value, "a whole number of at least 1")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        value = self.value(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise self._wrong(name, value, "a number")
        return float(value)

    def probability(self, name: str, default: float = 0.0) -> float:
        """A number of at least 0 and below 1."""
        value = self.number(name, default)
        if not 0 <= value < 1:
            raise self._wrong(name, value, "at least 0 and below 1")
        return value

    def choice(self, name: str, allowed: tuple[Any, ...], default: Any) -> Any:
        """A value that lstmkit has.

        Raises:
            UserError: Another value.
        """
        value = self.value(name, default)
        if not any(type(value) is type(each) and value == each for each in allowed):
            has = " or ".join(map(repr, allowed))
            raise UserError(f"{self.label} has {name}={one_line(repr(value))}, but lstmkit has only {has}")
        return value

    def check_all_read(self) -> None:
        """Raise UserError if an option that was not read may have an effect: if it is neither None, False nor known."""
        for name, value in self._values.items():
            if name not in self._read and value is not None and value is not False and not _NO_EFFECT.fullmatch(name):
                option = f"{one_line(name)}={one_line(repr(value))}"
                raise UserError(f"{self.label} has {option}, which lstmkit does not have")

    def _wrong(self, name: str, value: object, expected: str) -> ModelFileError:
        return ModelFileError(f"{self.label} has {name}={one_line(repr(value))}, expected {expected}")
