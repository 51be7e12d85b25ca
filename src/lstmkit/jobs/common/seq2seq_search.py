"""Decoding of segments: long texts are split, segments are decoded by beam search, and the outputs are joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.batch import Batch
from lstmkit.data.text.copy_vocabulary import encode_source
from lstmkit.data.text.tokenizer import BEGIN, END, PAD, UNKNOWN, Tokenizer, detokenize
from lstmkit.decoding.generation import beam_search, block_repeated_ngrams
from lstmkit.models.base import Model
from lstmkit.models.encoder_decoder import attention_weights, generation_probabilities


class InputSegment(NamedTuple):
    """What the encoder reads at once: a line, or a part of a long line.

    Attributes:
        line: Index of the line, from 0.
        start: Position of the first token in the line.
        ids: ``(S,)`` token ids, at least one; with the copy mechanism unknown words have ids from the vocabulary size
            on.
        words: The ``S`` tokens as the line has them.
    """

    line: int
    start: int
    ids: np.ndarray
    words: tuple[str, ...]


Piece = InputSegment


class DecodedText(NamedTuple):
    """A text decoded for a segment.

    Attributes:
        text: The text.
        tokens: Its ``T`` tokens, unknown words replaced by words of the source.
        score: Log probability, normalized by length.
        attention: ``(T, S)`` attention weights. They are kept for a line's first segment only: those of a very long
            line would fill the memory.
        generation_probabilities: With the copy mechanism ``T`` probabilities that a token is generated, not copied.
    """

    text: str
    tokens: tuple[str, ...]
    score: float
    attention: np.ndarray
    generation_probabilities: tuple[float, ...]


class BeamSearchOptions(NamedTuple):
    """Options of the beam search.

    Attributes:
        beam_size: Number of beam hypotheses.
        n_best: Number of texts per segment.
        length_penalty: See :func:`lstmkit.decoding.generation.beam_search`.
        no_repeat_ngram_size: Length of n-grams that are generated at most once; 0 = no limit.
        max_tokens: From source lengths ``(B,)`` to the maximum number of generated tokens ``(B,)``, the end included.
        known: Whether ``<unk>`` is never generated; for sources without words to replace it.
    """

    beam_size: int
    n_best: int
    length_penalty: float
    no_repeat_ngram_size: int
    max_tokens: Callable[[Tensor], Tensor]
    known: bool = False


def split_into_segments(
    lines: Sequence[str], tokenizer: Tokenizer, max_tokens: int, copy_mechanism: bool = False
) -> list[InputSegment]:
    """Split lines into segments of at most ``max_tokens`` tokens; a blank line has none."""
    segments = []
    for line, (line_ids, line_words) in enumerate(tokenizer.encode_with_tokens(lines)):
        for start in range(0, len(line_ids), max_tokens):
            ids, words = line_ids[start : start + max_tokens], line_words[start : start + max_tokens]
            if copy_mechanism:
                ids, _ = encode_source(tokenizer, ids, words)
            segments.append(InputSegment(line, start, np.array(ids), tuple(words)))
    return segments


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
        options.max_tokens(batch.lengths),
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


def decode_text(
    ids: tuple[int, ...],
    score: float,
    attention: np.ndarray,
    segment: InputSegment,
    tokenizer: Tokenizer,
    generation_probabilities: tuple[float, ...] = (),
) -> DecodedText:
    """The text of generated ids, with words of the source for unknown words.

    A copied word is taken from its position. ``<unk>`` is replaced by the most attended word (Luong et al. 2015b, Jean
    et al. 2015).
    """
    unknown = tokenizer.token_to_id(UNKNOWN)
    tokens = tokenizer.tokens(ids)
    for position, token_id in enumerate(ids):
        if token_id == unknown:
            tokens[position] = segment.words[int(attention[position].argmax())]
        elif token_id >= len(tokenizer):
            tokens[position] = segment.words[int((segment.ids == token_id).argmax())]
    if tokenizer.kind == "words":
        text = detokenize(tokens)
    elif tokenizer.kind == "bpe":
        text = tokenizer.decode(ids)
    else:
        text = ("" if tokenizer.kind == "chars" else " ").join(tokens)
    kept = np.zeros((0, 0), np.float32) if segment.start else attention
    return DecodedText(" ".join(text.split()), tuple(tokens), score, kept, generation_probabilities)


def join_segments(segments: Sequence[Sequence[DecodedText]]) -> list[tuple[str, float]]:
    """The n-best texts of a line and their scores: the k-th text of each segment, or its last, joined."""
    count = max((len(texts) for texts in segments), default=1)
    by_rank = [[texts[min(rank, len(texts) - 1)] for texts in segments] for rank in range(count)]
    return [(" ".join(t.text for t in texts), sum(t.score for t in texts)) for texts in by_rank]
