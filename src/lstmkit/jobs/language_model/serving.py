"""How a language model is served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from lstmkit.decoding.sampling_options import SamplingOptions
from lstmkit.errors import DataError
from lstmkit.jobs.language_model.generation import stream_continuation
from lstmkit.jobs.language_model.predictor import LanguageModelPredictor
from lstmkit.jobs.serving import Serving, texts_form

_MAX_TOKENS = 10_000
_INCOMPLETE = "\ufffd"  # how a character is decoded whose last bytes are in the next token


def serving(predictor: LanguageModelPredictor) -> Serving:
    """Prompts; the text of one prompt can be streamed. Prompts have different seeds, so requests stay apart."""
    return Serving(
        texts_form("the cat"),
        max_values={"max_tokens": _MAX_TOKENS, "top_k": 2**31 - 1},
        generate=partial(_generate, predictor),
    )


def _generate(
    predictor: LanguageModelPredictor,
    prompts: list[str],
    max_tokens: int = 100,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: str = "",
) -> Iterator[tuple[str, Any]]:
    if len(prompts) != 1:
        raise DataError(f"a stream continues one prompt: give a list of one, not of {len(prompts)}")
    options = SamplingOptions(max_tokens, temperature, top_k, top_p, seed, stop)
    options.check()
    shown, continuation = "", None
    for continuation in stream_continuation(predictor, prompts[0], options):
        text = continuation.text
        if text.startswith(shown) and not text.endswith(_INCOMPLETE):
            yield "text", {"text": text[len(shown) :]}
            shown = text
    if continuation is not None:
        yield "answers", {"answers": [asdict(continuation)]}
