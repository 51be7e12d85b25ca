"""How a handwriting synthesizer is served."""

from __future__ import annotations

from lstmkit.jobs.handwriting_synthesizer.predictor import HandwritingPredictor
from lstmkit.jobs.serving import JsonForm, Serving, texts_form

_MAX_POINTS = 5000
_MAX_DRAWINGS = 16
Drawings = list[list[list[float]]]  # each a list of points: dx, dy, and 1 where the pen is lifted


def serving(predictor: HandwritingPredictor) -> Serving:
    """Texts to write; for a model without texts a number of drawings, or drawings to continue."""
    drawings = JsonForm(Drawings, [[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]])
    letter = next((c for c in predictor.characters or "" if c.isalnum()), "a")
    return Serving(
        JsonForm(int | Drawings, 1) if predictor.characters is None else texts_form(letter),
        data_options={"prime": drawings} if predictor.characters is None else {},
        max_values={"prime_points": _MAX_POINTS, "max_new_points": _MAX_POINTS},
        max_items=_MAX_DRAWINGS,
        upload_endings=(".txt",),
    )
