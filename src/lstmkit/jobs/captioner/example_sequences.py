"""One caption as the decoder writes it, for a look inside the network."""

from __future__ import annotations

from typing import Any

import torch

from lstmkit.data.text.captions import Caption
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.data.text.tokenizer import BEGIN, END
from lstmkit.jobs.captioner.predictor import CaptionerPredictor
from lstmkit.jobs.common.token_labels import visible_token
from lstmkit.look import ExampleSequence


def example_sequence(predictor: CaptionerPredictor, item: Any, caption: Caption) -> ExampleSequence:
    """An image, clip or feature array with its caption, token by token."""
    network, tokenizer = predictor.network, predictor.tokenizer
    device = next(network.parameters()).device
    batch = TextPairDataset(predictor.visual_input.encode([item])).batch([0]).to(device)  # type: ignore[arg-type]
    with torch.no_grad():
        _, begun = network.eval()(batch.inputs, None, batch.lengths)
    ids = [tokenizer[BEGIN], *(tokenizer.token_to_id(token) for token in caption.tokens)]
    return ExampleSequence(
        (torch.tensor([ids], device=device), begun),
        name=caption.name,
        labels=[visible_token(token) for token in (*caption.tokens, END)],
    )
