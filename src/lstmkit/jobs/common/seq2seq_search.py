"""Decoding of a batch of segments by beam search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lstmkit.data.batch import Batch
from lstmkit.data.text.generated_text import DecodedText, InputSegment, decode_text
from lstmkit.data.text.tokenizer import BEGIN, END, PAD, UNKNOWN, Tokenizer
from lstmkit.decoding.beam_search_options import BeamSearchOptions
from lstmkit.decoding.generation import beam_search, block_repeated_ngrams
from lstmkit.models.base import Model
from lstmkit.models.encoder_decoder import attention_weights, generation_probabilities


def beam_search_batch(
    model: Model, batch: Batch, segments: Sequence[InputSegment], tokenizer: Tokenizer, options: BeamSearchOptions
) -> list[list[DecodedText]]:
    """Decode a batch of segments.

    Args:
        model: An encoder-decoder.
        batch: The encoder's inputs; ``batch.rows`` are indices of ``segments``.
        segments: All segments.
        tokenizer: Tokenizer of the target.
        options: Options of the beam search.

    Returns:
        For each segment of the batch the decoded texts, best first.
    """
    assert batch.lengths is not None
    assert batch.rows is not None
    attention: list[Tensor] = []
    p_gen: list[Tensor | None] = []
    unknown = [tokenizer[UNKNOWN]] if options.known and UNKNOWN in tokenizer else []
    forbidden = torch.tensor([tokenizer[PAD], tokenizer[BEGIN], *unknown], device=batch.inputs.device)
    # The first token is not the end: a source with a token gets a text with a token.
    forbidden_first = torch.cat([forbidden, forbidden.new_tensor([tokenizer[END]])])

    def step(ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = model.step(ids, state)
        attention.append(attention_weights(state))
        p_gen.append(generation_probabilities(state))
        return logits.index_fill(-1, forbidden if len(attention) > 1 else forbidden_first, -torch.inf), state

    _, state = model(batch.inputs, None, batch.lengths)
    search_step = step
    if options.no_repeat_ngram_size:
        search_step = block_repeated_ngrams(step, options.no_repeat_ngram_size)
        state = (state, forbidden.new_zeros(len(batch), 0))
    hypotheses = beam_search(
        search_step,
        forbidden.new_full((len(batch),), tokenizer[BEGIN]),
        state,
        options.beam_size,
        options.limit(batch.lengths),
        end=tokenizer[END],
        length_penalty=options.length_penalty,
        n_best=options.n_best,
    )
    texts = []
    for row, row_hypotheses in zip(batch.rows, hypotheses, strict=True):
        segment = segments[row]
        row_texts = []
        for hypothesis in row_hypotheses:
            weights = [attention[t][beam, : len(segment.ids)] for t, beam in enumerate(hypothesis.rows)]
            probabilities = [float(p[beam]) for p, beam in zip(p_gen, hypothesis.rows, strict=False) if p is not None]
            alignment = torch.stack(weights).float().cpu().numpy()
            row_texts.append(
                decode_text(hypothesis.ids, hypothesis.score, alignment, segment, tokenizer, tuple(probabilities))
            )
        texts.append(row_texts)
    return texts
