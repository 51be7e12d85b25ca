"""How jobs from text to text are served."""

from __future__ import annotations

from lstmkit.jobs.serving import Serving, join_lists, texts_form

MAX_BEAM_SIZE = 64


def text_serving(example: str) -> Serving:
    """A text per answer; the beam search of one does not depend on the others."""
    return Serving(
        texts_form(example), max_values={"beam_size": MAX_BEAM_SIZE, "n_best": MAX_BEAM_SIZE}, join=join_lists
    )
