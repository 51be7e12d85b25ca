"""Text generation: tokens sampled one by one from a language model, after a prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.padding import pad_sequences
from lstmkit.data.text.tokenizer import END, UNKNOWN, Tokenizer
from lstmkit.decoding.generation import sample
from lstmkit.errors import SettingError
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


class SamplingOptions(NamedTuple):
    """How tokens are sampled, see :meth:`lstmkit.LanguageModel.generate`."""

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    stop: str

    def check(self) -> None:
        """Raise a SettingError for an option out of range."""
        ranges = {
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
            "temperature": (self.temperature >= 0, "at least 0"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
        }
        for name, (in_range, expected) in ranges.items():
            if not in_range:
                raise SettingError(f"{name} must be {expected}, got {getattr(self, name):g}")


def generate_continuations(
    predictor: LanguageModelPredictor, prompts: Sequence[str], options: SamplingOptions
) -> list[Continuation]:
    """One continuation per prompt. A line end stands before each prompt; ``<unk>`` is never generated."""
    tokenizer, stop = predictor.tokenizer, options.stop
    forbidden = [tokenizer[UNKNOWN]] if UNKNOWN in tokenizer else []
    prompt_ids = [[predictor.end_id, *ids] for ids in tokenizer.encode(prompts)]

    def is_finished(ids: torch.Tensor) -> bool:
        return all(stop in tokenizer.decode(row.tolist()) for row in ids)

    def decode(model: Model, batch: Batch) -> list[Continuation]:
        assert batch.lengths is not None
        assert batch.rows is not None
        logits, state = model(batch.inputs, None, batch.lengths)
        last = logits[torch.arange(len(batch)), batch.lengths - 1]
        ids, nats = sample(  # (B, n) each
            lambda previous, carried: _forbid(model.step(previous, carried), forbidden),
            _forbid((last, None), forbidden)[0],
            state,
            options.max_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed + int(batch.rows[0]),
            stop=is_finished if stop else None,
        )
        return [continuation(*row) for row in zip(batch.rows, ids.tolist(), nats.tolist(), strict=True)]

    def continuation(row: int, ids: list[int], nats: list[float]) -> Continuation:
        text = tokenizer.decode(ids)
        if stop and stop in text:
            text = text[: text.index(stop) + len(stop)]
        unknown = tokenizer.out_of_vocabulary(prompts[row]) if forbidden and forbidden[0] in prompt_ids[row] else []
        bits = tuple(n / math.log(2) for n in nats)
        return Continuation(prompts[row], text, tuple(tokenizer.tokens(ids)), bits, tuple(unknown))

    # One prompt per batch, so that a continuation does not depend on other prompts.
    return predict(predictor.model, Loader(_Prompts(prompt_ids), 1), decode, device=predictor.device)


def full_text(continuation: Continuation, tokenizer: Tokenizer) -> str:
    """Prompt and generated text, with line ends as line breaks."""
    if tokenizer.keeps_line_ends:
        text = continuation.prompt + continuation.text
    else:
        text = f"{continuation.prompt} {continuation.text}".strip()
    return text.replace(f" {END} ", "\n").replace(END, "\n")


class _Prompts:
    """Token ids of prompts, as a source of batches."""

    def __init__(self, ids: list[list[int]]) -> None:
        self.ids = ids
        self.lengths = np.array([len(row) for row in ids])

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: np.ndarray) -> Batch:
        ids = pad_sequences([np.array(self.ids[row]) for row in rows], 0)
        return Batch(torch.from_numpy(ids), torch.from_numpy(self.lengths[rows]), rows=rows)


def _forbid(output: tuple[torch.Tensor, Any], forbidden: list[int]) -> tuple[torch.Tensor, Any]:
    """Logits and state, with the logits of forbidden tokens at minus infinity."""
    logits, state = output
    if forbidden:
        logits = logits.index_fill(-1, torch.tensor(forbidden, device=logits.device), -torch.inf)
    return logits, state
