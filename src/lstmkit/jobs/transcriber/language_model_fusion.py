"""A language model of characters, as a beam search asks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lstmkit.data.text.tokenizer import UNKNOWN
from lstmkit.decoding.ctc import BLANK, LanguageModelScore
from lstmkit.errors import SettingError
from lstmkit.jobs.language_model.job import LanguageModel
from lstmkit.models.base import State, map_state


def character_lm_scorer(model: LanguageModel, alphabet: str) -> LanguageModelScore:
    """What a language model says comes next; all texts of a call go through it together.

    A character that it does not know is read as ``<unk>``. A text is a line: it begins after one, and ends with it.

    Args:
        model: Of characters.
        alphabet: The characters that are written, in the order of their classes from 1 on.

    Raises:
        SettingError: It is not one of characters.
    """
    if model.tokens != "chars":
        raise SettingError(f"the language model is of {model.tokens}: fit one with --tokens chars")
    tokens, network = model.tokenizer, model.network.eval()
    unknown = tokens[UNKNOWN]
    end = next(tokens.encode([""], ended=True))[0]
    known = [tokens.number(tokens.normal(character)) for character in alphabet]
    columns = torch.tensor([end, *(unknown if number < 0 else number for number in known)])
    device = next(network.parameters()).device

    @torch.inference_mode()
    def score(states: Sequence[Any], ids: Sequence[int]) -> tuple[np.ndarray, Sequence[Any]]:
        begins = list(ids) == [BLANK]
        logits, state = network.step(columns[list(ids)].to(device), None if begins else _beside(states))
        log_p = logits.float().log_softmax(-1).cpu()[:, columns]
        return log_p.numpy(), [map_state(state, lambda part, i=i: part[:, i : i + 1]) for i in range(len(ids))]

    return score


def _beside(states: Sequence[State]) -> State:
    """States of single texts, ``(L, 1, H)`` each, as one of all."""
    if isinstance(states[0], torch.Tensor):
        return torch.cat(list(states), 1)
    return tuple(_beside(parts) for parts in zip(*states, strict=True))
