"""The predictor that translation and summarization share: tokenizers, encoder-decoder, beam search."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from typing_extensions import Self

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.text.copy_vocabulary import encode_source, encode_target
from lstmkit.data.text.generated_text import DecodedText, GeneratedText, InputSegment
from lstmkit.data.text.text_pairs import TextPairDataset, TextPairs
from lstmkit.data.text.tokenizer import BEGIN, END, PAD, UNKNOWN, Tokenizer
from lstmkit.decoding.beam_search_options import BEAM_SIZE, BeamSearchOptions
from lstmkit.jobs.common.seq2seq_search import beam_search_batch
from lstmkit.jobs.common.seq2seq_settings import Seq2SeqSettings
from lstmkit.jobs.predictor import Predictor
from lstmkit.models.base import Model
from lstmkit.models.encoder_decoder import Decoder, EncoderDecoder
from lstmkit.modules.attention import build_attention
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

S = TypeVar("S", bound=Seq2SeqSettings)

_SPECIAL_TOKENS = (PAD, BEGIN, END, UNKNOWN)


class Seq2SeqPredictor(Predictor[S]):
    """Tokenizers and encoder-decoder of a job that reads one text and generates another one.

    Attributes:
        result_class: What :meth:`generate` returns for each line.
        task_title: Name of :meth:`generate` in the progress display.
        source_tokenizer: Splits the source into tokens.
        target_tokenizer: Splits the target into tokens; the same one with a shared vocabulary.
    """

    result_class: ClassVar[type[GeneratedText]]
    task_title: ClassVar[str]

    def __init__(self, settings: S, source_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> None:
        super().__init__(settings)
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer

    @classmethod
    def fitted(cls, settings: S, train: TextPairs, progress: Progress) -> Self:
        """A predictor with the vocabularies of the training split."""
        return cls(settings, *fit_tokenizers(settings, train, progress))

    @abstractmethod
    def segments(self, lines: Sequence[str]) -> list[InputSegment]:
        """What the encoder reads of each line; nothing of a blank one."""

    @property
    @abstractmethod
    def max_output_tokens(self) -> tuple[int, int]:
        """Maximum number of generated tokens, the end included: so many per source token, and so many more."""

    def build(self) -> Model:
        settings = self.settings
        width = settings.embedding_size or settings.hidden_size
        source_tokenizer, target_tokenizer = self.source_tokenizer, self.target_tokenizer
        unknown = None
        if settings.copy_mechanism and UNKNOWN in source_tokenizer:
            unknown = source_tokenizer[UNKNOWN]
        embedding_dropout = (settings.word_dropout, settings.input_dropout)
        encoder = TokenEncoder(len(source_tokenizer), width, *embedding_dropout, unknown=unknown)
        embedding = encoder
        if not settings.has_shared_vocab:
            embedding = TokenEncoder(len(target_tokenizer), width, *embedding_dropout)
        dropout = {
            "dropout": settings.dropout,
            "variational": True,
            "recurrent_dropout": settings.recurrent_dropout,
        }
        trunk = build_trunk(
            settings.cell,
            width,
            settings.hidden_size,
            num_layers=settings.num_layers,
            bidirectional=True,
            # Dot products need queries and keys of one size: the two directions are added.
            merge="sum" if settings.attention == "dot" else "concat",
            **dropout,
        )
        key_size = trunk.output_size
        input_size = width + (width if settings.input_feeding else 0)
        lower = build_trunk(settings.cell, input_size, settings.hidden_size, num_layers=settings.num_layers, **dropout)
        upper = None
        if settings.post_attention_layers:
            upper_input_size, count = lower.output_size + key_size, settings.post_attention_layers
            upper = build_trunk(settings.cell, upper_input_size, settings.hidden_size, num_layers=count, **dropout)
        attention = build_attention(
            settings.attention, lower.output_size, key_size, coverage=settings.coverage_weight > 0
        )
        decoder = Decoder(
            embedding, lower, attention, upper, key_size, width, settings.input_feeding, settings.copy_mechanism
        )
        tied = embedding.embedding if settings.tie_weights else None
        head = TokenHead(width, len(target_tokenizer), tied, smoothing=settings.label_smoothing)
        return EncoderDecoder(
            encoder,
            trunk,
            decoder,
            head,
            target_tokenizer[BEGIN],
            settings.dropout,
            settings.coverage_weight,
            settings.scheduled_sampling,
            settings.scheduled_sampling_steps,
        )

    def encode_pairs(
        self, sources: Sequence[str], targets: Sequence[str], max_source_tokens: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Token ids ``(S,)`` and ``(T,)`` of each pair, the target's with its end.

        With the copy mechanism a copied word has the id that the source gives it.

        Args:
            sources: Source texts.
            targets: Target texts.
            max_source_tokens: Cut sources off after so many tokens.
        """
        source_tokenizer, target_tokenizer = self.source_tokenizer, self.target_tokenizer
        pairs = zip(
            source_tokenizer.encode_with_tokens(sources), target_tokenizer.encode_with_tokens(targets), strict=True
        )
        for (source_ids, source_words), (target_ids, target_words) in pairs:
            ids, words = source_ids[:max_source_tokens], source_words[:max_source_tokens]
            if self.settings.copy_mechanism:
                ids, extended = encode_source(source_tokenizer, ids, words)
                target_ids = encode_target(target_tokenizer, target_ids, target_words, extended)
            yield np.array(ids or [source_tokenizer[PAD]]), np.array([*target_ids, target_tokenizer[END]])

    def generate(
        self,
        lines: Sequence[str],
        beam_size: int = BEAM_SIZE,
        n_best: int = 1,
        progress: Progress | None = None,
    ) -> list[GeneratedText]:
        """Generate a text for each line; an empty one for a blank line.

        Args:
            lines: Source texts; line breaks in them are read as spaces.
            beam_size: Number of beam hypotheses; 1 = greedy decoding.
            n_best: Number of texts per line.
            progress: Where to report progress.

        Raises:
            SettingError: ``n_best`` is above ``beam_size`` or below 1.
        """
        settings = self.settings
        options = BeamSearchOptions(
            beam_size, n_best, settings.length_penalty, settings.no_repeat_ngram_size, self.max_output_tokens
        )
        lines = [" ".join(line.split()) for line in lines]
        segments = self.segments(lines)

        def decode(model: Model, batch: Batch) -> list[list[DecodedText]]:
            return beam_search_batch(model, batch, segments, self.target_tokenizer, options)

        loader = Loader(TextPairDataset([segment.ids for segment in segments]), settings.batch_size)
        texts = predict(self.model, loader, decode, device=self.device, progress=progress, title=self.task_title)
        return self.result_class.from_segments(lines, segments, texts)

    def state(self) -> dict[str, Any]:
        target = None if self.settings.has_shared_vocab else self.target_tokenizer.to_json()
        return {"source": self.source_tokenizer.to_json(), "target": target}

    @classmethod
    def from_state(cls, settings: S, state: Mapping[str, Any]) -> Self:
        return cls(settings, *load_tokenizers(settings, state))


def fit_tokenizers(settings: Seq2SeqSettings, train: TextPairs, progress: Progress) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers of source and target; the same one twice with a shared vocabulary."""

    def fit(lines: Sequence[str]) -> Tokenizer:
        return Tokenizer.fit(
            lines,
            settings.tokenization,
            vocab_size=settings.vocab_size,
            min_count=settings.min_count,
            lowercase=settings.lowercase,
            special_tokens=[token for token in _SPECIAL_TOKENS if token != UNKNOWN or settings.tokenization != "bpe"],
            progress=progress,
            num_lines=len(lines),
        )

    if settings.has_shared_vocab:
        tokenizer = fit([*train.sources, *train.targets])
        return tokenizer, tokenizer
    return fit(train.sources), fit(train.targets)


def load_tokenizers(settings: Seq2SeqSettings, state: Mapping[str, Any]) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers that :meth:`Seq2SeqPredictor.state` describes.

    Raises:
        LookupError, TypeError, ValueError: The state is damaged.
    """
    source = Tokenizer(settings.tokenization, state["source"])
    target_state = state["target"]
    target = source if settings.has_shared_vocab else Tokenizer(settings.tokenization, target_state)
    for tokenizer in (source, target):
        missing = [token for token in (PAD, BEGIN, END) if token not in tokenizer]
        if missing:
            raise ValueError(f"the vocabulary has no {missing[0]} token")
    return source, target
