"""Writing on after a prompt, token by token, each drawn from what a language model tells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from lstmkit.data.batch import Batch, Loader, beside
from lstmkit.data.text.tokenizer import UNKNOWN, Tokenizer
from lstmkit.decoding.generation import sample
from lstmkit.errors import SettingError
from lstmkit.models.base import Model
from lstmkit.training.predict import predict


@dataclass(frozen=True)
class Continuation:
    """What a model wrote.

    Attributes:
        prompt: What it was given.
        text: What it added.
        tokens: That, token by token.
        surprise: Of each, in bits.
        unknown: Tokens of the prompt that the model does not know; it read them as ``<unk>``.
    """

    prompt: str
    text: str
    tokens: tuple[str, ...]
    surprise: tuple[float, ...]
    unknown: tuple[str, ...] = ()


class SamplingOptions(NamedTuple):
    """How tokens are drawn, see :meth:`lstmkit.LanguageModel.generate`."""

    length: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    stop: str

    def check(self) -> None:
        """Raise a SettingError for a number out of its range."""
        if self.length < 1 or self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise SettingError(
                "length must be at least 1, temperature and top_k at least 0, top_p in 0…1 and above 0; got "
                f"{self.length}, {self.temperature:g}, {self.top_k}, {self.top_p:g}"
            )


def generate_continuations(
    model: Model, tokenizer: Tokenizer, end: int, prompts: Sequence[str], drawing: SamplingOptions, device: torch.device
) -> list[Continuation]:
    """One for each prompt, which stands after ``end``, the token of a line's end. ``<unk>`` is never written."""
    never = [tokenizer[UNKNOWN]] if UNKNOWN in tokenizer else []
    read = [[end, *found] for found in tokenizer.encode(prompts)]
    stop = drawing.stop

    def is_over(ids: torch.Tensor) -> bool:
        return all(stop in tokenizer.decode(row.tolist()) for row in ids)

    def decode(model: Model, batch: Batch) -> list[Continuation]:
        assert batch.lengths is not None
        assert batch.rows is not None
        logits, state = model(batch.inputs, None, batch.lengths)
        last = logits[torch.arange(len(batch)), batch.lengths - 1]
        written = sample(
            lambda chosen, carried: _known(model.step(chosen, carried), never),
            _known((last, None), never)[0],
            state,
            drawing.length,
            temperature=drawing.temperature,
            top_k=drawing.top_k,
            top_p=drawing.top_p,
            seed=drawing.seed + int(batch.rows[0]),
            stop=is_over if stop else None,
        )
        rows = zip(batch.rows, written.ids.tolist(), written.surprise.tolist(), strict=True)
        return [continuation(row, ids, nats) for row, ids, nats in rows]

    def continuation(row: int, ids: list[int], nats: list[float]) -> Continuation:
        text = tokenizer.decode(ids)
        if stop and stop in text:
            text = text[: text.index(stop) + len(stop)]
        unknown = tokenizer.unknown(prompts[row]) if never and never[0] in read[row] else []
        bits = tuple(n / math.log(2) for n in nats)
        return Continuation(prompts[row], text, tuple(tokenizer.tokens(ids)), bits, tuple(unknown))

    # One prompt at a time, so that what is written hangs on no other prompt.
    return predict(model, Loader(_Prompts(read), 1), decode, device=device)


class _Prompts:
    """Prompts' tokens, as a source of batches."""

    def __init__(self, ids: list[list[int]]) -> None:
        self.ids = ids
        self.lengths = np.array([len(one) for one in ids])

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: np.ndarray) -> Batch:
        ids = beside([np.array(self.ids[row]) for row in rows], 0)
        return Batch(torch.from_numpy(ids), torch.from_numpy(self.lengths[rows]), rows=rows)


def _known(told: tuple[torch.Tensor, Any], never: list[int]) -> tuple[torch.Tensor, Any]:
    """Logits and state, what is never to be written made impossible."""
    logits, state = told
    return (logits.index_fill(-1, torch.tensor(never, device=logits.device), -torch.inf) if never else logits), state
