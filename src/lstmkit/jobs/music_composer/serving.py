"""How a music composer is served."""

from __future__ import annotations

from typing import Any

from lstmkit.jobs.serving import JsonForm, Serving

_MAX_LENGTH = 4096  # steps
_MAX_PIECES = 16


def serving(_predictor: Any) -> Serving:
    """Pieces as lists of chords, each a list of MIDI numbers."""
    return Serving(
        JsonForm(list[list[list[int]]], [[[60, 64, 67], [60, 65, 69]]]),
        max_values={"length": _MAX_LENGTH, "prompt_steps": _MAX_LENGTH},
        max_items=_MAX_PIECES,
    )
