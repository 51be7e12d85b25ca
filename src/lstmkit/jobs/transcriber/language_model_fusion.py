"""Shallow fusion: a character language model scores the hypotheses of the beam search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstmkit.data.text.tokenizer import UNKNOWN
from lstmkit.decoding.ctc import BLANK, LanguageModelScore
from lstmkit.errors import SettingError
from lstmkit.jobs import load
from lstmkit.jobs.language_model.predictor import LanguageModelPredictor
from lstmkit.models.base import State, map_state


def opened_language_model(source: Any) -> LanguageModelPredictor:
    """What predicts in a language model, or in that of a run folder.

    Raises:
        SettingError: It is not a language model.
    """
    model = (load(source) if isinstance(source, (str, Path)) else source).predictor
    if not isinstance(model, LanguageModelPredictor):
        raise SettingError(f"{source} is not a language model: fit a language_model with tokenization=chars")
    return model


def character_lm_scorer(model: LanguageModelPredictor, alphabet: str) -> LanguageModelScore:
    """Log-probabilities of the next character; all hypotheses of a call go through the model in one batch.

    An unknown character is read as ``<unk>``. A text is a line: it starts after a line end and ends with one.

    Args:
        model: A character language model.
        alphabet: The characters of the transcriber, in the order of their classes, from 1.

    Raises:
        SettingError: The model is not a character language model.
    """
    columns, network = character_columns(model, alphabet), model.network.eval()
    device = next(network.parameters()).device

    @torch.inference_mode()
    def score(states: Sequence[Any], ids: Sequence[int]) -> tuple[np.ndarray, Sequence[Any]]:
        begins = list(ids) == [BLANK]
        logits, state = network.step(columns[list(ids)].to(device), None if begins else _stack_states(states))
        log_p = logits.float().log_softmax(-1).cpu()[:, columns]
        return log_p.numpy(), [map_state(state, lambda part, i=i: part[:, i : i + 1]) for i in range(len(ids))]

    return score


def character_columns(model: LanguageModelPredictor, alphabet: str) -> torch.Tensor:
    """The model's ids ``(1 + V,)`` of the line end, in the place of the blank, and of the characters.

    Raises:
        SettingError: The model is not a character language model.
    """
    tokenization = model.settings.tokenization
    if tokenization != "chars":
        raise SettingError(f"the language model has {tokenization} tokens: fit one with tokenization=chars")
    tokens = model.tokenizer
    unknown = tokens[UNKNOWN]
    end = next(tokens.encode([""], add_line_end=True))[0]
    known = [tokens.token_to_id(tokens.normalize(character)) for character in alphabet]
    return torch.tensor([end, *(unknown if number < 0 else number for number in known)])


def _stack_states(states: Sequence[State]) -> State:
    """States of single texts ``(L, 1, H)`` as one batch."""
    if isinstance(states[0], torch.Tensor):
        return torch.cat(list(states), 1)
    return tuple(_stack_states(parts) for parts in zip(*states, strict=True))
