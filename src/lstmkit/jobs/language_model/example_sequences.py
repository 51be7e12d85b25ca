"""Token sequences for a look inside the network of a language model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lstmkit.data.text.lines import Text
from lstmkit.errors import DataError
from lstmkit.jobs.common.token_labels import annotations, visible_token
from lstmkit.jobs.language_model.predictor import LanguageModelPredictor
from lstmkit.look import ExampleSequence

_SEQUENCE_TOKENS, _MAX_SEQUENCES = 200, 8


def example_sequences(predictor: LanguageModelPredictor, text: Text, line: int) -> list[ExampleSequence]:
    """Sequences of 200 tokens of a text from ``line`` on, at most 8.

    Args:
        predictor: The model.
        text: The text.
        line: Number of the first line, from 1.

    Raises:
        DataError: There is no such line.
    """
    if not 1 <= line <= len(text):
        raise DataError(f"there is no line {line}: {text.name} has lines 1 to {len(text)}")
    ids: list[int] = []
    for line_ids in predictor.tokenizer.encode(text.slice(line - 1, len(text)), add_line_end=True):
        ids += line_ids
        if len(ids) >= _SEQUENCE_TOKENS * _MAX_SEQUENCES:
            break
    starts = range(0, len(ids), _SEQUENCE_TOKENS)
    sequences = [ids[start : start + _SEQUENCE_TOKENS] for start in starts][:_MAX_SEQUENCES]
    return [_example_sequence(predictor, sequence, f"{text.name} from line {line}") for sequence in sequences]


def _example_sequence(predictor: LanguageModelPredictor, ids: Sequence[int], name: str) -> ExampleSequence:
    tokens = predictor.tokenizer.tokens(ids)
    network = predictor.network.eval()
    inputs = torch.tensor([list(ids)], device=next(network.parameters()).device)
    with torch.no_grad():
        most_probable = int(network(inputs)[0][0, -1].argmax())
    next_token = visible_token(predictor.tokenizer.tokens([most_probable])[0])
    return ExampleSequence(
        inputs,
        name=name,
        labels=[visible_token(token) for token in tokens],
        annotations=annotations(tokens),
        answers={f"logit of the most probable next token, {next_token!r}": lambda output: output[0, -1, most_probable]},
    )
