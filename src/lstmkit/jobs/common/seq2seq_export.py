"""An encoder-decoder as graphs: an encoder from inputs to the decoder's initial state, and a step of the decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.export.graphs import Graph, JobExport, State, flatten, step_graph
from lstmkit.jobs.common.seq2seq_predictor import Seq2SeqPredictor
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.encoder_decoder import (
    DecoderState,
    EncoderDecoder,
    attention_weights,
    decoder_states,
    generation_probabilities,
)


def exported_seq2seq(predictor: Seq2SeqPredictor[Any], target: str, first_segment_only: bool = False) -> JobExport:
    """The graphs and settings of a job that reads one text and generates another one.

    Args:
        predictor: The fitted predictor.
        target: Name of the generated text in records.
        first_segment_only: Whether only the first ``max_tokens`` tokens of a text are read.
    """
    settings = predictor.settings
    texts = {"tokenizer.json": predictor.source_tokenizer.to_json()}
    if not settings.has_shared_vocab:
        texts["target_tokenizer.json"] = predictor.target_tokenizer.to_json()
    exported: dict[str, Any] = {
        "target": target,
        "tokenization": settings.tokenization,
        "shared_vocab": settings.has_shared_vocab,
        "max_tokens": settings.max_tokens,
        "first_segment_only": first_segment_only,
        "copy_mechanism": settings.copy_mechanism,
        "length_penalty": settings.length_penalty,
        "no_repeat_ngram_size": settings.no_repeat_ngram_size,
        "max_output_tokens": list(predictor.max_output_tokens),
        "batch_size": settings.batch_size,
    }
    ids = torch.zeros(2, 3, dtype=torch.int64)
    return JobExport(encoder_decoder_graphs(predictor.model, ids, ("rows", "source")), exported, texts)


def encoder_decoder_graphs(model: Model, example: Tensor, dynamic: tuple[str | None, ...]) -> dict[str, Graph]:
    """The graphs ``encoder`` and ``step`` of an encoder-decoder, or of an ensemble of them.

    ``encoder`` maps ``inputs (rows, …)`` and their ``lengths (rows,)`` to the tensors of the decoder's initial state.
    ``step`` maps ``ids (rows,)`` and the state to ``logits (rows, V)``, with copying ``(rows, V + S)``; ``attention
    (rows, S)``; with copying ``generation_probabilities (rows,)``; and the new state. Every state has the rows first.

    Args:
        model: The network.
        example: Inputs of two rows.
        dynamic: Names of their dimensions of any size.
    """
    lengths = torch.tensor([example.shape[1], example.shape[1] - 1])
    with torch.no_grad():
        _, state = model(example, None, lengths)
    outputs = [f"state_{k}" for k in range(len(flatten(_carried(state))))]
    inputs = {"inputs": example, "lengths": lengths}
    encoder = Graph(_Encoder(model), inputs, {"inputs": dynamic, "lengths": ("rows",)}, outputs)

    def step(ids: Tensor, state: State) -> tuple[tuple[Tensor, ...], State]:
        logits, state = model.step(ids, state)
        p_gen = generation_probabilities(state)
        return (logits, attention_weights(state), *(() if p_gen is None else (p_gen,))), _carried(state)

    widths = [member.memory.keys.shape[-1] for member in decoder_states(state)]

    def example_state(**sizes: int) -> tuple[dict[str, Tensor], State]:
        rows, source = sizes["rows"], sizes["source"]
        members, states = model.members if isinstance(model, Ensemble) else [model], []
        mask, ids = torch.ones(rows, source, dtype=torch.bool), torch.zeros(rows, source, dtype=torch.int64)
        with torch.no_grad():
            for member, width in zip(members, widths, strict=True):
                assert isinstance(member, EncoderDecoder)
                states.append(member.decoder.initial_state(torch.zeros(rows, source, width), mask, ids))
        return {"ids": ids[:, 0].clone()}, _carried(tuple(states) if isinstance(model, Ensemble) else states[0])

    copies = any(member.generated is not None for member in decoder_states(state))
    names = ["logits", "attention", *(["generation_probabilities"] if copies else [])]
    return {"encoder": encoder, "step": step_graph(step, example_state, {"rows": 2, "source": 5}, names, model)}


def _carried(state: State) -> State:
    """What of the states of one or several decoders the next step reads: all but weights and probabilities."""
    states = [DecoderState(*member[:-2], None, None) for member in decoder_states(state)]  # type: ignore[arg-type]
    return states[0] if isinstance(state, DecoderState) else tuple(states)


class _Encoder(nn.Module):
    """The tensors of the decoder's initial state."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.exported = model

    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        return tuple(flatten(_carried(self.exported(inputs, None, lengths)[1])))
