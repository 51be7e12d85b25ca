"""From texts to what is written for them: cut into pieces, searched side by side, put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.batch import Batch
from lstmkit.data.text.copy_vocabulary import numbered
from lstmkit.data.text.tokenizer import BEGIN, END, PAD, UNKNOWN, Tokenizer, joined
from lstmkit.decoding.generation import beam_search, block_repeated_ngrams
from lstmkit.models.base import Model
from lstmkit.models.encoder_decoder import attended, generated


class Piece(NamedTuple):
    """What is read at once: a line, or a part of a long one.

    Attributes:
        line: The line's number, from 0.
        start: Its first token's place in the line.
        ids: ``(S,)``, at least one; with copying unknown words are numbered from the vocabulary's size on.
        words: What stands in the line at each.
    """

    line: int
    start: int
    ids: np.ndarray
    words: tuple[str, ...]


class Written(NamedTuple):
    """What was written for a piece.

    Attributes:
        text: Of it.
        tokens: Of it, unknown words replaced.
        score: Logarithmic probability, normalised by length.
        attention: ``(tokens, S)``; kept of a line's first piece alone, since of a very long line it would fill memory.
        generated: With copying, how probable it was that each token is not a copy.
    """

    text: str
    tokens: tuple[str, ...]
    score: float
    attention: np.ndarray
    generated: tuple[float, ...]


class BeamSearchOptions(NamedTuple):
    """How to look for what to write.

    Attributes:
        beam: Beginnings held at a time.
        n_best: How many are wanted of each piece.
        length_penalty: See :func:`lstmkit.decoding.generation.beam_search`.
        no_repeat: So many tokens in a row are not written twice; 0 for no such rule.
        longest: Most tokens that are written, their end included: of sources of so many tokens ``(B,)``.
        known: Whether an unknown word is never written: where there is no source to take it from.
    """

    beam: int
    n_best: int
    length_penalty: float
    no_repeat_ngram_size: int
    longest: Callable[[Tensor], Tensor]
    known: bool = False


def split_into_segments(lines: Sequence[str], reads: Tokenizer, longest: int, copying: bool = False) -> list[Piece]:
    """The lines in pieces of at most ``longest`` tokens; of blank lines none."""
    found = []
    for number, (all_ids, all_words) in enumerate(reads.spelled(lines)):
        for start in range(0, len(all_ids), longest):
            ids, words = all_ids[start : start + longest], all_words[start : start + longest]
            if copying:
                ids, _ = numbered(reads, ids, words)
            found.append(Piece(number, start, np.array(ids), tuple(words)))
    return found


def beam_search_batch(
    model: Model, batch: Batch, pieces: Sequence[Piece], writes: Tokenizer, search: BeamSearchOptions
) -> list[list[Written]]:
    """What to write for each piece of a batch, the best first."""
    assert batch.lengths is not None
    assert batch.rows is not None
    weights: list[Tensor] = []
    switches: list[Tensor | None] = []
    barred = [writes[PAD], writes[BEGIN], *([writes[UNKNOWN]] if search.known and UNKNOWN in writes else [])]
    never = torch.tensor(barred, device=batch.inputs.device)
    not_yet = torch.cat([never, never.new_tensor([writes[END]])])  # for what has a token something is written

    def step(ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = model.step(ids, state)
        weights.append(attended(state))
        switches.append(generated(state))
        return logits.index_fill(-1, never if len(weights) > 1 else not_yet, -torch.inf), state

    _, state = model(batch.inputs, None, batch.lengths)
    careful = step
    if search.no_repeat_ngram_size:
        careful, state = (
            block_repeated_ngrams(step, search.no_repeat_ngram_size),
            (state, never.new_zeros(len(batch), 0)),
        )
    found = beam_search(
        careful,
        never.new_full((len(batch),), writes[BEGIN]),
        state,
        search.beam,
        search.longest(batch.lengths),
        end=writes[END],
        length_penalty=search.length_penalty,
        n_best=search.n_best,
    )
    answers = []
    for row, hypotheses in zip(batch.rows, found, strict=True):
        piece = pieces[row]
        told = []
        for one in hypotheses:
            steps = [weights[t][at, : len(piece.ids)] for t, at in enumerate(one.rows)]
            made = [float(p[at]) for p, at in zip(switches, one.rows, strict=False) if p is not None]
            attention = torch.stack(steps).float().cpu().numpy()
            told.append(_written(one.ids, one.score, attention, piece, writes, tuple(made)))
        answers.append(told)
    return answers


def _written(
    ids: tuple[int, ...],
    score: float,
    attention: np.ndarray,
    piece: Piece,
    writes: Tokenizer,
    made: tuple[float, ...] = (),
) -> Written:
    """What is unknown is as the source has it: a word that was copied, or, where ``<unk>`` was written, the word that
    was attended to most (Luong et al. 2015b, Jean et al. 2015).
    """
    unknown = writes.number(UNKNOWN)
    tokens = writes.tokens(ids)
    for k, i in enumerate(ids):
        if i == unknown:
            tokens[k] = piece.words[int(attention[k].argmax())]
        elif i >= len(writes):
            tokens[k] = piece.words[int((piece.ids == i).argmax())]
    if writes.kind == "words":
        text = joined(tokens)
    elif writes.kind == "bpe":
        text = writes.decode(ids)
    else:
        text = ("" if writes.kind == "chars" else " ").join(tokens)
    kept = np.zeros((0, 0), np.float32) if piece.start else attention
    return Written(" ".join(text.split()), tuple(tokens), score, kept, made)


def join_segments(found: Sequence[Sequence[Written]]) -> list[tuple[str, float]]:
    """Texts and scores written for a line, from those of its pieces: the k-th of each, or its last."""
    count = max((len(each) for each in found), default=1)
    kth = [[each[min(k, len(each) - 1)] for each in found] for k in range(count)]
    return [(" ".join(w.text for w in each), sum(w.score for w in each)) for each in kth]
