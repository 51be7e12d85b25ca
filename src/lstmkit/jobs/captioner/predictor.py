"""What the captioner's ``fit`` leaves: vocabulary, normalization of the inputs, and network."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from typing_extensions import Self

from lstmkit.data.captioned_media import CaptionColumns, CaptionedMedia
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.data.text.tokenizer import BEGIN, END, PAD, UNKNOWN, Tokenizer
from lstmkit.data.vision.video_io import ClipFormat
from lstmkit.jobs.captioner.baselines import most_frequent_caption
from lstmkit.jobs.captioner.settings import CaptionerSettings
from lstmkit.jobs.captioner.visual_input import SETTING_GROUPS, VisualInput
from lstmkit.jobs.predictor import Predictor
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Model
from lstmkit.models.encoder_decoder import Decoder, EncoderDecoder
from lstmkit.modules.attention import build_attention
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress

_INITIAL_EMBEDDING_STD = 0.5  # with 0.1 the network takes three times as long to begin to use the image


class CaptionerPredictor(Predictor[CaptionerSettings]):
    """Encodes images, clips or features, and tokens of captions.

    Args:
        settings: The settings that it is fitted with.
        tokenizer: Splits captions into tokens and joins them again.
        visual_input: Encodes the inputs.
        most_frequent_caption: Of the training split, a baseline; empty in models of version 0.1.
    """

    def __init__(
        self,
        settings: CaptionerSettings,
        tokenizer: Tokenizer,
        visual_input: VisualInput,
        most_frequent_caption: str = "",
    ) -> None:
        super().__init__(settings)
        self.tokenizer = tokenizer
        self.visual_input = visual_input
        self.most_frequent_caption = most_frequent_caption

    @property
    def data_kinds(self) -> Collection[str]:
        return SETTING_GROUPS[self.visual_input.kind]

    @classmethod
    def fitted(cls, settings: CaptionerSettings, train: CaptionedMedia, progress: Progress) -> Self:
        """Fit the vocabulary and the normalization of the inputs to the training split."""
        captions = [text for texts in train.texts for text in texts]
        tokenizer = Tokenizer.fit(
            captions,
            settings.tokenization,
            vocab_size=settings.vocab_size,
            min_count=settings.min_count,
            lowercase=settings.lowercase,
            special_tokens=[PAD, BEGIN, END, *([UNKNOWN] if settings.tokenization != "bpe" else [])],
            progress=progress,
            num_lines=len(captions),
        )
        visual_input = VisualInput.fit(train, clip_format(settings), settings.conv_stages)
        return cls(settings, tokenizer, visual_input, most_frequent_caption(train))

    def build(self) -> Model:
        settings, visual_input = self.settings, self.visual_input
        stack: dict[str, Any] = {"num_layers": settings.num_layers, "dropout": settings.dropout, "variational": True}

        def temporal_layer(size: int) -> RecurrentLayer:
            return build_trunk(settings.cell, size, settings.hidden_size, bidirectional=True, **stack)

        encoder = visual_input.build(
            settings.conv_channels,
            settings.feature_size,
            temporal_layer,
            settings.max_translation,
            settings.horizontal_flip,
        )
        keys, num_tokens = encoder.output_size, len(self.tokenizer)
        width = settings.embedding_size or settings.hidden_size
        embedding = TokenEncoder(num_tokens, width, dropout=settings.input_dropout, init_std=_INITIAL_EMBEDDING_STD)
        lower = build_trunk(settings.cell, width, settings.hidden_size, **stack)
        attention = build_attention(settings.attention, lower.output_size, keys)
        decoder = Decoder(embedding, lower, attention, None, keys, width)
        head = TokenHead(width, num_tokens, embedding.embedding, smoothing=settings.label_smoothing)
        return EncoderDecoder(encoder, None, decoder, head, self.tokenizer[BEGIN], settings.dropout)

    def training_pairs(self, examples: CaptionedMedia) -> TextPairDataset:
        """Each input once with each of its captions."""
        inputs, targets = [], []
        for encoded, captions in zip(self.visual_input.encode(examples.inputs), examples.texts, strict=True):
            for ids in self.tokenizer.encode(captions):
                inputs.append(encoded)
                targets.append(np.array([*ids[: self.settings.max_tokens], self.tokenizer[END]]))
        return TextPairDataset(inputs, targets)

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        tokens = self.tokenizer.to_json()
        return {"tokens": tokens, "most_frequent": self.most_frequent_caption, **self.visual_input.state()}

    @classmethod
    def from_state(cls, settings: CaptionerSettings, state: Mapping[str, Any]) -> Self:
        tokenizer = Tokenizer(settings.tokenization, state["tokens"])
        if any(token not in tokenizer for token in (PAD, BEGIN, END)):
            raise ValueError("the vocabulary has no begin, end or padding token")
        visual_input = VisualInput.from_state(state, clip_format(settings), settings.conv_stages)
        return cls(settings, tokenizer, visual_input, str(state.get("most_frequent", "")))


def clip_format(settings: CaptionerSettings) -> ClipFormat:
    """Size, channels and frame rate of images and clips."""
    return ClipFormat(settings.height, settings.width, settings.color, settings.frame_rate)


def caption_columns(settings: CaptionerSettings) -> CaptionColumns:
    """How to read tables and files."""
    return CaptionColumns(settings.path_col, settings.text_col, clip_format(settings))
