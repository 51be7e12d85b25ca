"""Text generation: tokens sampled one by one from a language model, after a prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.padding import pad_sequences
from lstmkit.data.text.tokenizer import END, UNKNOWN, Tokenizer
from lstmkit.decoding.generation import sample, sample_steps
from lstmkit.decoding.sampling_options import SamplingOptions
from lstmkit.jobs.language_model.predictor import LanguageModelPredictor
from lstmkit.models.base import Model
from lstmkit.training.predict import predict


@dataclass(frozen=True)
class Continuation:
    """A prompt and the text that a language model generated after it.

    Attributes:
        prompt: The prompt.
        text: The generated text, without the prompt.
        tokens: The generated tokens.
        surprisal: Surprisal of each generated token in bits.
        unknown: Out-of-vocabulary tokens of the prompt; the model read them as ``<unk>``.
    """

    prompt: str
    text: str
    tokens: tuple[str, ...]
    surprisal: tuple[float, ...]
    unknown: tuple[str, ...] = ()


def generate_continuations(
    predictor: LanguageModelPredictor, prompts: Sequence[str], options: SamplingOptions
) -> list[Continuation]:
    """One continuation per prompt. A line end stands before each prompt; ``<unk>`` is never generated."""
    tokenizer, stop = predictor.tokenizer, options.stop
    source = _Prompts(predictor, prompts)

    def is_finished(ids: torch.Tensor) -> bool:
        return all(stop in tokenizer.decode(row.tolist()) for row in ids)

    def decode(model: Model, batch: Batch) -> list[Continuation]:
        assert batch.rows is not None
        ids, nats = sample(  # (B, n) each
            **source.sampling(model, batch, options), n_steps=options.max_tokens, stop=is_finished if stop else None
        )
        rows = zip(batch.rows.tolist(), ids.tolist(), nats.tolist(), strict=True)
        return [source.continuation(*row, stop) for row in rows]

    # One prompt per batch, so that a continuation does not depend on other prompts.
    return predict(predictor.model, Loader(source, 1), decode, device=predictor.device)


def stream_continuation(
    predictor: LanguageModelPredictor, prompt: str, options: SamplingOptions
) -> Iterator[Continuation]:
    """The continuation of one prompt as it grows, after each token; the last is that of generate_continuations."""
    source = _Prompts(predictor, [prompt])
    model = predictor.model.to(predictor.device).eval()
    ids: list[int] = []
    nats: list[float] = []
    with torch.inference_mode():
        batch = source.batch(np.array([0])).to(predictor.device)
        steps = sample_steps(**source.sampling(model, batch, options))
    for _ in range(options.max_tokens):
        with torch.inference_mode():  # not around the yield: the mode belongs to the thread
            token = next(steps)
        ids.append(int(token.ids[0]))
        nats.append(float(token.surprise[0]))
        continuation = source.continuation(0, ids, nats, options.stop)
        yield continuation
        if options.stop and options.stop in continuation.text:
            return


def full_text(continuation: Continuation, tokenizer: Tokenizer) -> str:
    """Prompt and generated text, with line ends as line breaks."""
    if tokenizer.keeps_line_ends:
        text = continuation.prompt + continuation.text
    else:
        text = f"{continuation.prompt} {continuation.text}".strip()
    return text.replace(f" {END} ", "\n").replace(END, "\n")


class _Prompts:
    """Token ids of prompts, as a source of batches; a line end stands before each."""

    def __init__(self, predictor: LanguageModelPredictor, prompts: Sequence[str]) -> None:
        self.prompts, self.tokenizer = prompts, predictor.tokenizer
        self.ids = [[predictor.end_id, *ids] for ids in self.tokenizer.encode(prompts)]
        self.lengths = np.array([len(row) for row in self.ids])
        self.forbidden = [self.tokenizer[UNKNOWN]] if UNKNOWN in self.tokenizer else []

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: np.ndarray) -> Batch:
        ids = pad_sequences([np.array(self.ids[row]) for row in rows], 0)
        return Batch(torch.from_numpy(ids), torch.from_numpy(self.lengths[rows]), rows=rows)

    def sampling(self, model: Model, batch: Batch, options: SamplingOptions) -> dict[str, Any]:
        """Arguments of :func:`sample` and :func:`sample_steps`, after the network has read the prompts."""
        assert batch.lengths is not None
        assert batch.rows is not None
        logits, state = model(batch.inputs, None, batch.lengths)
        last = logits[torch.arange(len(batch)), batch.lengths - 1]
        return {
            "step": lambda previous, carried: _forbid(model.step(previous, carried), self.forbidden),
            "logits": _forbid((last, None), self.forbidden)[0],
            "state": state,
            "temperature": options.temperature,
            "top_k": options.top_k,
            "top_p": options.top_p,
            "seed": options.seed + int(batch.rows[0]),
        }

    def continuation(self, row: int, ids: Sequence[int], nats: Sequence[float], stop: str) -> Continuation:
        """The continuation of prompt ``row``; its text ends after ``stop``, if that is not empty."""
        text = self.tokenizer.decode(ids)
        if stop and stop in text:
            text = text[: text.index(stop) + len(stop)]
        has_unknown = bool(self.forbidden) and self.forbidden[0] in self.ids[row]
        unknown = self.tokenizer.out_of_vocabulary(self.prompts[row]) if has_unknown else []
        bits = tuple(n / math.log(2) for n in nats)
        return Continuation(self.prompts[row], text, tuple(self.tokenizer.tokens(ids)), bits, tuple(unknown))


def _forbid(output: tuple[torch.Tensor, Any], forbidden: list[int]) -> tuple[torch.Tensor, Any]:
    """Logits and state, with the logits of forbidden tokens at minus infinity."""
    logits, state = output
    if forbidden:
        logits = logits.index_fill(-1, torch.tensor(forbidden, device=logits.device), -torch.inf)
    return logits, state
