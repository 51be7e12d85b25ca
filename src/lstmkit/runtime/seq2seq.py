"""Text by an encoder-decoder with beam search: what translation, summarization and captioning share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.data.padding import pad_sequences
from lstmkit.decoding.beam_search_options import BEAM_SIZE, BeamSearchOptions
from lstmkit.errors import DataError
from lstmkit.libraries import imports_of
from lstmkit.runtime.base import ExportedJob, batches_by_length, texts_of
from lstmkit.runtime.beam_search import States, beam_search, block_repeated_ngrams
from lstmkit.runtime.graph import Graph

with imports_of("text", "text"):
    from lstmkit.data.text.generated_text import (
        DecodedText,
        GeneratedText,
        InputSegment,
        decode_text,
        split_into_segments,
    )
    from lstmkit.data.text.tokenizer import BEGIN, END, PAD, UNKNOWN, Tokenizer


class TextGenerator(ExportedJob):
    """Reads a text and generates another one."""

    def predict(self, data: Any, *, beam_size: int = BEAM_SIZE, n_best: int = 1) -> list[dict[str, Any]]:
        """Generate a text for each text; an empty one for a blank text.

        Args:
            data: A text, or a list of texts; line breaks in them are read as spaces. Files are not read.
            beam_size: Number of beam hypotheses; 1 = greedy decoding.
            n_best: Number of texts per text.

        Returns:
            For each text a record with the keys that ``to_records`` of the job gives: the text itself, the generated
            text and its score (log probability in nats, normalized by length), the n-best texts, the ``S`` source
            tokens, the ``T`` generated tokens, and attention weights ``(T, S)``.

        Raises:
            SettingError: ``n_best`` is above ``beam_size`` or below 1.
            DataError: There is no text, or one is something else.
        """
        settings = self.settings
        options = BeamSearchOptions(
            beam_size,
            n_best,
            settings["length_penalty"],
            settings["no_repeat_ngram_size"],
            tuple(settings["max_output_tokens"]),
        )
        lines = [" ".join(text.split()) for text in texts_of(data)]
        if not lines:
            raise DataError("there is no text: give at least one")
        source = self.tokenizer(settings["tokenization"])
        target = source
        if not settings["shared_vocab"]:
            target = self.tokenizer(settings["tokenization"], "target_tokenizer.json")
        segments = split_into_segments(lines, source, settings["max_tokens"], settings["copy_mechanism"])
        if settings["first_segment_only"]:
            segments = [segment for segment in segments if segment.start == 0]
        inputs = [segment.ids for segment in segments]
        texts = decoded(self.graphs, inputs, segments, target, options, settings["batch_size"])
        generated = GeneratedText.from_segments(lines, segments, texts)
        return [text.record(settings["target"], settings["copy_mechanism"]) for text in generated]


def decoded(
    graphs: dict[str, Graph],
    inputs: Sequence[np.ndarray],
    segments: Sequence[InputSegment],
    tokenizer: Tokenizer,
    options: BeamSearchOptions,
    batch_size: int,
) -> list[list[DecodedText]]:
    """Decode inputs by beam search.

    Args:
        graphs: The graphs ``encoder`` and ``step``.
        inputs: What the encoder reads, one array ``(S, …)`` for each segment.
        segments: The segments that are decoded.
        tokenizer: Tokenizer of the target.
        options: Options of the beam search.
        batch_size: Segments that are decoded together.

    Returns:
        For each segment the decoded texts, best first.
    """
    texts: list[list[DecodedText]] = [[] for _ in segments]
    for rows, lengths in batches_by_length(inputs, batch_size):
        padded = pad_sequences([inputs[row] for row in rows], 0)
        states = graphs["encoder"](inputs=padded, lengths=lengths)
        batch = _decoded_batch(
            graphs["step"], states, [segments[row] for row in rows], tokenizer, options, options.limit(lengths)
        )
        for row, row_texts in zip(rows, batch, strict=True):
            texts[row] = row_texts
    return texts


def _decoded_batch(
    graph: Graph,
    states: States,
    segments: Sequence[InputSegment],
    tokenizer: Tokenizer,
    options: BeamSearchOptions,
    limits: np.ndarray,
) -> list[list[DecodedText]]:
    """Decode the segments of a batch, from the decoder's initial states; ``limits (B,)`` are maximum tokens."""
    attention: list[np.ndarray] = []
    p_gen: list[np.ndarray] = []
    unknown = [tokenizer[UNKNOWN]] if options.known and UNKNOWN in tokenizer else []
    forbidden = [tokenizer[PAD], tokenizer[BEGIN], *unknown]

    def step(ids: np.ndarray, states: States) -> tuple[np.ndarray, States]:
        (logits, weights, *probabilities), states = graph.step(states, ids=ids)
        # The first token is not the end: a source with a token gets a text with a token.
        logits[:, forbidden if attention else [*forbidden, tokenizer[END]]] = -np.inf
        attention.append(weights)
        p_gen.extend(probabilities)
        return logits, states

    search_step = step
    if options.no_repeat_ngram_size:
        search_step = block_repeated_ngrams(step, options.no_repeat_ngram_size)
        states = [np.zeros((len(segments), 0), dtype=np.int64), *states]
    hypotheses = beam_search(
        search_step,
        np.full(len(segments), tokenizer[BEGIN]),
        states,
        options.beam_size,
        limits,
        end=tokenizer[END],
        length_penalty=options.length_penalty,
        n_best=options.n_best,
    )
    return [
        [
            decode_text(
                hypothesis.ids,
                hypothesis.score,
                np.stack([attention[t][row, : len(segment.ids)] for t, row in enumerate(hypothesis.rows)]),
                segment,
                tokenizer,
                tuple(float(p[row]) for p, row in zip(p_gen, hypothesis.rows, strict=False)),
            )
            for hypothesis in row_hypotheses
        ]
        for segment, row_hypotheses in zip(segments, hypotheses, strict=True)
    ]
