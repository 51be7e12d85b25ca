"""How a tagger is served."""

from __future__ import annotations

from typing import Any

from lstmkit.jobs.serving import JsonForm, Serving, join_lists


def serving(_predictor: Any) -> Serving:
    """Sentences, as text or as lists of tokens; requests are tagged together."""
    return Serving(JsonForm(list[str] | list[list[str]], ["the cat sat on the mat"]), join=join_lists)
