"""New images: how many there may be, and their classes."""

from __future__ import annotations

from collections.abc import Sequence

from lstmkit.errors import SettingError, listing

_MAX_IMAGES = 10_000  # generated in one call


def labels_of_new_images(count: int, label: str, known: Sequence[str]) -> list[str]:
    """The class of each new image; empty if the model has none.

    Args:
        count: How many images.
        label: The class of all of them; ``""`` goes through all classes in turn.
        known: The classes of the model; empty if it has none.

    Raises:
        SettingError: The label is unknown, or ``count`` is out of range.

    >>> labels_of_new_images(3, "", ["cat", "dog"])
    ['cat', 'dog', 'cat']
    """
    if not 1 <= count <= _MAX_IMAGES:
        raise SettingError(f"the number of images must be from 1 to {_MAX_IMAGES:,}, not {count:,}")
    if label and label not in known:
        hint = f"the model knows {listing(known)}" if known else "this model has no classes"
        raise SettingError(f"unknown label {label!r}: {hint}")
    return [label or known[i % len(known)] for i in range(count)] if known else [""] * count
