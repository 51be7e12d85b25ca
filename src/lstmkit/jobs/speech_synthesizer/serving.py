"""How a speech synthesizer is served."""

from __future__ import annotations

from lstmkit.jobs.serving import Serving, texts_form
from lstmkit.jobs.speech_synthesizer.predictor import SpeechPredictor

_MAX_TEXTS = 16


def serving(predictor: SpeechPredictor) -> Serving:
    """Texts to speak."""
    letter = next((token for token in sorted(predictor.tokenizer.vocabulary()) if token.isalnum()), "a")
    return Serving(texts_form(letter * 3), max_items=_MAX_TEXTS, upload_endings=(".txt",))
