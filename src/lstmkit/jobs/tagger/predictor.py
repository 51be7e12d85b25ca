"""What the tagger's ``fit`` leaves: vocabularies, tags and network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import Self

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.text.conll import TaggedDataset, TaggedSentences
from lstmkit.data.text.tokenizer import UNKNOWN, Tokenizer
from lstmkit.jobs.predictor import Predictor
from lstmkit.jobs.tagger.settings import TaggerSettings
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import WordEncoder
from lstmkit.modules.heads import TagHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

MAX_CHARACTERS = 20  #: Characters of a word that are read.


@dataclass(frozen=True)
class TaggedSentence:
    """A sentence with its predicted tags.

    Attributes:
        tokens: The tokens of the sentence.
        tags: One tag per token.
        probabilities: The probability of each tag.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: tuple[float, ...]


class TaggerPredictor(Predictor[TaggerSettings]):
    """Encodes sentences and predicts a tag per token.

    Attributes:
        word_vocab: Words with an embedding.
        char_vocab: Characters of the training split.
        tags: All tags, in the order of the network's outputs.
        most_frequent_tags: ``(V,)`` index of the most frequent tag of each word, for the baseline.
    """

    def __init__(
        self,
        settings: TaggerSettings,
        word_vocab: Tokenizer,
        char_vocab: Tokenizer,
        tags: Sequence[str],
        most_frequent_tags: np.ndarray,
    ) -> None:
        super().__init__(settings)
        self.word_vocab, self.char_vocab = word_vocab, char_vocab
        self.tags = tuple(tags)
        self.most_frequent_tags = most_frequent_tags

    @classmethod
    def fitted(cls, settings: TaggerSettings, train: TaggedSentences) -> Self:
        """Collect words, characters, tags and each word's most frequent tag from the training split."""
        sentences = [" ".join(tokens) for tokens in train.tokens]
        words = Tokenizer.fit(sentences, "whitespace", min_count=settings.min_count, lowercase=settings.lowercase)
        characters = Tokenizer.fit((token for tokens in train.tokens for token in tokens), "chars")
        tags = sorted({tag for own in train.require_tags() for tag in own})
        predictor = cls(settings, words, characters, tags, np.zeros(len(words), dtype=np.int64))
        counts = np.zeros((len(words), len(tags)))
        source = predictor.source(train)
        for ids, own in zip(source.words, source.tags, strict=True):
            np.add.at(counts, (ids, own), 1)
        overall = counts.sum(axis=0).argmax()
        predictor.most_frequent_tags = np.where(counts.any(axis=1), counts.argmax(axis=1), overall)
        return predictor

    def build(self) -> Model:
        settings = self.settings
        encoder = WordEncoder(
            len(self.word_vocab),
            1 + len(self.char_vocab),
            settings.embedding_size,
            settings.char_feature_size,
            settings.dropout,
        )
        trunk = build_trunk(
            settings.cell,
            encoder.output_size,
            settings.hidden_size,
            num_layers=settings.num_layers,
            dropout=settings.dropout,
            variational=True,
            bidirectional=settings.bidirectional,
        )
        return SequenceModel(encoder, trunk, TagHead(trunk.output_size, len(self.tags), settings.crf, settings.dropout))

    def source(self, sentences: TaggedSentences) -> TaggedDataset:
        """Encoded sentences; a tag is -1 if it is missing or unknown."""
        index = {tag: i for i, tag in enumerate(self.tags)}
        words = [np.array(ids) for ids in self.word_vocab.encode(" ".join(tokens) for tokens in sentences.tokens)]
        characters = [self._encode_characters(tokens) for tokens in sentences.tokens]
        if sentences.tags is None:
            return TaggedDataset(words, characters, [np.full(len(ids), -1) for ids in words])
        tags = [np.array([index.get(tag, -1) for tag in own]) for own in sentences.tags]
        return TaggedDataset(words, characters, tags)

    def _encode_characters(self, tokens: tuple[str, ...]) -> np.ndarray:
        """``(T, C)``: character ids from 1, 0 past the end of a word."""
        rows = [np.array(ids) for ids in self.char_vocab.encode(token[:MAX_CHARACTERS] for token in tokens)]
        characters = np.zeros((len(tokens), max(map(len, rows))), np.int64)
        for row, ids in zip(characters, rows, strict=True):
            row[: len(ids)] = ids + 1
        return characters

    def tag(self, sentences: TaggedSentences, progress: Progress | None = None) -> list[TaggedSentence]:
        """Predict the tags of sentences; with a CRF the best sequence of tags, and its marginal probabilities.

        A sentence without tokens gets an answer without tags.
        """
        rows = [row for row, tokens in enumerate(sentences.tokens) if tokens]
        answers = [TaggedSentence((), (), ())] * len(sentences)
        for row, answer in zip(rows, self._tag(sentences.subset(rows), progress), strict=True):
            answers[row] = answer
        return answers

    def _tag(self, sentences: TaggedSentences, progress: Progress | None) -> list[TaggedSentence]:
        """Tags of sentences with tokens."""

        def decode(model: Model, batch: Batch) -> list[TaggedSentence]:
            assert batch.lengths is not None
            assert batch.rows is not None
            outputs, _ = model(batch.inputs, None, batch.lengths)
            best, probabilities = tag_head(model).decode(outputs, batch.lengths)
            return [
                TaggedSentence(
                    sentences.tokens[row],
                    tuple(self.tags[i] for i in tags.tolist()),
                    tuple(own[: len(tags)].gather(1, tags.unsqueeze(1))[:, 0].clamp(0, 1).tolist()),
                )
                for row, tags, own in zip(batch.rows, best, probabilities, strict=True)
            ]

        loader = Loader(self.source(sentences), 4 * self.settings.batch_size)
        return predict(self.model, loader, decode, device=self.device, progress=progress, title="tagging")

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "words": self.word_vocab.to_json(),
            "letters": self.char_vocab.to_json(),
            "tags": list(self.tags),
            "usual": self.most_frequent_tags.tolist(),
        }

    @classmethod
    def from_state(cls, settings: TaggerSettings, state: Mapping[str, Any]) -> Self:
        words, characters = Tokenizer("whitespace", state["words"]), Tokenizer("chars", state["letters"])
        tags, most_frequent = tuple(state["tags"]), np.array(state["usual"], dtype=np.int64)
        if not tags or len(set(tags)) < len(tags) or not all(isinstance(tag, str) for tag in tags):
            raise ValueError("its tags are not distinct texts")
        if most_frequent.shape != (len(words),) or most_frequent.min() < 0 or most_frequent.max() >= len(tags):
            raise ValueError("its most frequent tags do not match its words")
        if UNKNOWN not in words or UNKNOWN not in characters:
            raise ValueError("its vocabulary has no entry for unknown words")
        return cls(settings, words, characters, tags, most_frequent)


def tag_head(model: Model) -> TagHead:
    """The head of a network, or of the first one of an ensemble."""
    head = (model.members[0] if isinstance(model, Ensemble) else model).head
    assert isinstance(head, TagHead)
    return head
