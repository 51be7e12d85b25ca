"""Tagging: an answer for every token of a sentence."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import accuracy_score, f1_score

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.text.conll import TaggedDataset, TaggedSentences, read_tagged_sentences
from lstmkit.data.text.tokenizer import UNKNOWN, Tokenizer
from lstmkit.errors import DataError, SettingError, listing
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.common.classification_report import by_class
from lstmkit.jobs.common.splitting import looked_at, most_likely_class, random_split
from lstmkit.jobs.tagger.spans import span_f1
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import WordEncoder
from lstmkit.modules.heads import TagHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.plots.text import surprisal_figure
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class
from lstmkit.training.predict import predict

_MAX_CHARACTERS = 20  # of a word that are read
_ZERO_DIVISION: Any = (
    0.0  # the F1 of a tag that is never given; scikit-learn's types do not know that it may be a number
)


@dataclass(frozen=True)
class Tags:
    """A sentence and what was found.

    Attributes:
        tokens: Of the sentence.
        tags: One for each.
        probabilities: Of each of these tags.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: tuple[float, ...]


@settings_class
class Tagger(Job):
    """Give every token its tag: parts of speech, names, slots, residues.

    Data: a file in columns, a token and its tag a line, a blank line between sentences; or ``(tokens, tags)`` pairs.

    >>> data = [("the cat sat".split(), ["DET", "NOUN", "VERB"]), ("a dog ran".split(), ["DET", "NOUN", "VERB"])] * 20
    >>> tagger = Tagger(epochs=10, hidden_size=8, word_size=8, batch_size=4, lr=0.02).fit(data)
    >>> tagger.predict(["a cat ran"])[0].tags
    ('DET', 'NOUN', 'VERB')
    """

    name: ClassVar[str] = "tagger"
    summary: ClassVar[str] = "Tag every token of a sentence, beside each word's usual tag."

    token_column: int = setting("column of a file with the token, from 0", default=0, low=0)
    tag_column: int = setting("column with the tag; -1 for the last", default=-1, low=-1)
    lower: bool = setting("words are told apart in lower case; their letters still say", default=True)
    at_least: int = setting("how often a word must occur to have a vector of its own", default=2, low=1)
    word_size: int = setting("width of a word's vector", default=100, low=1)
    letter_size: int = setting("width of what a word's letters spell; 0 to leave them out", default=50, low=0)
    bidirectional: bool = setting("read the sentence both ways", default=True)
    crf: bool = setting("tags hang on their neighbours (conditional random field)", default=False)
    dropout: float = setting("share of features hidden", default=0.3, low=0, high=0.95)
    hidden_size: int = setting("units in a layer and direction", default=100, low=1)
    batch_size: int = setting("sentences in a step", default=32, low=1)
    lr: float = setting("peak learning rate", default=5e-3, low=0)
    valid_share: float = setting("share of the sentences to validate on", default=0.1, low=0, high=0.5)
    test_share: float = setting("share held out for the test", default=0.1, low=0, high=0.5)

    _words: Tokenizer | None = field(default=None, init=False, repr=False)
    _letters: Tokenizer | None = field(default=None, init=False, repr=False)
    _tags: tuple[str, ...] = field(default=(), init=False, repr=False)
    _usual: np.ndarray | None = field(default=None, init=False, repr=False)  # each word's most frequent tag

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> TaggedSentences:
        if self.crf and self.seeds > 1:
            raise SettingError("a CRF decodes with one model's transitions: give --seeds 1 or --no-crf")
        if self.letter_size % 2:
            raise SettingError(f"letter_size must be even, half for each direction, got {self.letter_size}")
        return read_tagged_sentences(data, self.token_column, self.tag_column)

    def split(self, examples: TaggedSentences, validation: TaggedSentences | None) -> DataSplit:
        """At random by the seed."""
        examples.told()
        if validation is not None:
            validation.told()
        return random_split(examples, validation, "sentence", self.valid_share, self.test_share, self.seed)

    def prepare(self, train: TaggedSentences) -> None:
        """Words, letters and tags, from the training part; and each word's most frequent tag."""
        sentences = [" ".join(words) for words in train.tokens]
        self._words = Tokenizer.fit(sentences, "spaces", at_least=self.at_least, lower=self.lower)
        self._letters = Tokenizer.fit((w for words in train.tokens for w in words), "chars")
        self._tags = tuple(sorted({tag for tags in train.told() for tag in tags}))
        counts = np.zeros((len(self.words), len(self._tags)))
        source = self.source(train)
        for words, tags in zip(source.words, source.tags, strict=True):
            np.add.at(counts, (words, tags), 1)
        overall = counts.sum(axis=0).argmax()
        self._usual = np.where(counts.any(axis=1), counts.argmax(axis=1), overall)

    def source(self, examples: TaggedSentences) -> TaggedDataset:
        numbers = {tag: i for i, tag in enumerate(self._tags)}
        words = [np.array(ids) for ids in self.words.encode(" ".join(tokens) for tokens in examples.tokens)]
        letters = [self._encode_characters(tokens) for tokens in examples.tokens]
        if examples.tags is None:
            return TaggedDataset(words, letters, [np.full(len(w), -1) for w in words])
        return TaggedDataset(words, letters, [np.array([numbers.get(t, -1) for t in tags]) for tags in examples.tags])

    def _encode_characters(self, tokens: tuple[str, ...]) -> np.ndarray:
        assert self._letters is not None
        ids = [np.array(i) for i in self._letters.encode(token[:_MAX_CHARACTERS] for token in tokens)]
        found = np.zeros((len(tokens), max(map(len, ids))), np.int64)
        for row, some in zip(found, ids, strict=True):
            row[: len(some)] = some + 1
        return found

    @property
    def words(self) -> Tokenizer:
        """The vocabulary."""
        assert self._words is not None
        return self._words

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        assert self._letters is not None
        letters = 1 + len(self._letters)
        encoder = WordEncoder(len(self.words), letters, self.word_size, self.letter_size, self.dropout)
        trunk = build_trunk(
            self.cell, encoder.output_size, self.hidden_size, num_layers=self.num_layers, dropout=self.dropout,
            variational=True, bidirectional=self.bidirectional,
        )  # fmt: skip
        return SequenceModel(encoder, trunk, TagHead(trunk.output_size, len(self._tags), self.crf, self.dropout))

    def calibrate(self, valid: TaggedSentences | None) -> None:
        """Nothing: probabilities are the network's own."""

    def predict(self, data: Any) -> list[Tags]:
        """The tags of sentences: a file in columns (tags may be missing), lists of tokens, or text, cut at spaces."""
        self.model  # noqa: B018  (says so if there is none)
        return self._found(self.read(data))

    def _found(self, sentences: TaggedSentences, progress: Progress | None = None) -> list[Tags]:
        def decode(model: Model, batch: Batch) -> list[Tags]:
            assert batch.lengths is not None
            assert batch.rows is not None
            outputs, _ = model(batch.inputs, None, batch.lengths)
            best, shares = self._head(model).answer(outputs, batch.lengths)
            return [
                Tags(
                    sentences.tokens[row],
                    tuple(self._tags[i] for i in tags.tolist()),
                    tuple(share[: len(tags)].gather(1, tags.unsqueeze(1))[:, 0].clamp(0, 1).tolist()),
                )
                for row, tags, share in zip(batch.rows, best, shares, strict=True)
            ]

        loader = Loader(self.source(sentences), 4 * self.batch_size)
        return predict(self.model, loader, decode, device=self._device(), progress=progress, title="tagging")

    @staticmethod
    def _head(model: Model) -> TagHead:
        head = (model.members[0] if isinstance(model, Ensemble) else model).head
        assert isinstance(head, TagHead)
        return head

    def text(self, answer: list[Tags]) -> str:
        """In columns, as it was read."""
        return "\n\n".join("\n".join(f"{w}\t{t}" for w, t in zip(one.tokens, one.tags, strict=True)) for one in answer)

    def records(self, answer: list[Tags]) -> list[dict[str, Any]]:
        return [asdict(one) for one in answer]

    def picture(self, data: Any, answer: list[Tags]) -> Figure:
        """The first sentences, each token with its tag, the darker the less sure."""
        pairs = [
            (f"{word}/{tag}", -math.log2(max(p, 1e-6)))
            for one in answer[:12]
            for word, tag, p in [*zip(one.tokens, one.tags, one.probabilities, strict=True), ("⏎", "", 1.0)]
        ]
        tokens = [text if text != "⏎/" else "⏎" for text, _ in pairs]
        return surprisal_figure(tokens, [bits for _, bits in pairs], "doubt, bits")

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Accuracy and F1 over tokens, beside each word's usual tag and the most frequent tag of all.

        Raises:
            DataError: There are no tags, or one that training has not seen.
        """
        self.model  # noqa: B018
        return self.score(self.read(data), progress or default_progress())

    def score(self, test: TaggedSentences, progress: Progress) -> Evaluation:
        told = test.told()
        unseen = sorted({tag for tags in told for tag in tags} - set(self._tags))
        if unseen:
            raise DataError(
                f"{test.name} has tags that training has not seen: {listing(unseen)} (known: {listing(self._tags)})"
            )
        assert self._usual is not None
        source = self.source(test)
        usual = [tuple(self._tags[self._usual[i]] for i in words) for words in source.words]
        most = Counter(self._tags[i] for i in self._usual).most_common(1)[0][0]
        answers = {
            self.cell.upper() + (" and CRF" if self.crf else ""): [one.tags for one in self._found(test, progress)],
            "usual tag of each word": usual,
            "most frequent tag": [(most,) * len(tags) for tags in told],
        }
        rare = np.concatenate([words == self.words[UNKNOWN] for words in source.words])
        truth = _flatten(told)
        rows = [
            {"model": name, **_scores(truth, _flatten(found), rare, told, found)} for name, found in answers.items()
        ]
        details = pd.DataFrame(
            {"token": _flatten(test.tokens), "tag": truth} | {n: _flatten(f) for n, f in answers.items()}
        )
        notes = (f"{len(truth):,} tokens in {len(test):,} sentences; {rare.mean():.1%} are words without a vector.",)
        return Evaluation(pd.DataFrame(rows), dict.fromkeys(list(rows[0])[1:], "high"), details, notes)

    def sections(self, examples: TaggedSentences) -> list[Section]:
        if self.evaluation is None:
            return [Section("What it has learnt", "There was no test part.", self._kept())]
        table = self.evaluation.details
        ours = table.columns[2]
        wrong = Counter((is_, was) for is_, was in zip(table["tag"], table[ours], strict=True) if is_ != was)
        often = wrong.most_common()
        confused = pd.DataFrame(
            {
                "is": [is_ for (is_, _), _ in often],
                "was tagged": [was for (_, was), _ in often],
                "how often": [n for _, n in often],
            }
        )
        shown = self._found(examples.part(range(min(6, len(examples)))))
        said = " ".join(self.evaluation.notes)
        return [
            Section("How well it tags", said, self.evaluation.table, best=self.evaluation.best),
            Section("Tag by tag", "On the test part.", by_class(table["tag"], table[ours], self._tags, "tag")),
            Section("What it takes for what", "On the test part, most frequent first.", confused),
            Section(
                "How sure it is",
                "The first sentences of the data: the darker, the less sure.",
                pd.DataFrame([asdict(one) for one in shown]).explode(["tokens", "tags", "probabilities"]),
                self.picture(None, shown),
                caption="Tags and doubt",
            ),
            Section("What it has learnt", "", self._kept()),
        ]

    def _kept(self) -> pd.DataFrame:
        assert self._letters is not None
        return pd.DataFrame(
            {"kept": ["words", "letters", "tags"], "count": [len(self.words), len(self._letters), len(self._tags)]}
        )

    def example_sequences(self, data: Any, sentence: int = 1) -> list[ExampleSequence]:
        """Sentences, that of number ``sentence`` (from 1) first."""
        self.model  # noqa: B018
        read = self.read(data)
        source = self.source(read)
        return [self._specimen(read, source, row) for row in looked_at(sentence, read, "sentence")]

    def _specimen(self, read: TaggedSentences, source: TaggedDataset, row: int) -> ExampleSequence:
        inputs = source.batch(np.array([row])).inputs.to(next(self.network.parameters()).device)
        tag, logit = most_likely_class(self.network, inputs, -1, self._tags)
        annotations = {} if read.tags is None else {"tag": np.array(read.tags[row])}
        return ExampleSequence(
            inputs,
            name=f"sentence {row + 1}",
            labels=read.tokens[row],
            annotations=annotations,
            answers={f"logit of {tag} for the last token": logit},
        )

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        assert self._letters is not None
        assert self._usual is not None
        return {
            "words": self.words.to_json(),
            "letters": self._letters.to_json(),
            "tags": list(self._tags),
            "usual": self._usual.tolist(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._words, self._letters = Tokenizer("spaces", state["words"]), Tokenizer("chars", state["letters"])
        self._tags, self._usual = tuple(state["tags"]), np.array(state["usual"], dtype=np.int64)
        if not self._tags or len(set(self._tags)) < len(self._tags) or not all(isinstance(t, str) for t in self._tags):
            raise ValueError("its tags are none")
        usual = self._usual
        if usual.shape != (len(self.words),) or usual.min() < 0 or usual.max() >= len(self._tags):
            raise ValueError("its words' usual tags are none")
        if UNKNOWN not in self.words or UNKNOWN not in self._letters:
            raise ValueError("its vocabulary has nothing for unknown words")


def _flatten(sentences: Any) -> list[str]:
    return [tag for tags in sentences for tag in tags]


def _scores(truth: list[str], found: list[str], rare: np.ndarray, told: Any, answer: Any) -> dict[str, float]:
    same = np.array(truth) == np.array(found)
    scores = {
        "accuracy": float(accuracy_score(truth, found)),
        "macro F1": float(
            f1_score(truth, found, average="macro", labels=sorted(set(truth)), zero_division=_ZERO_DIVISION)
        ),
    }
    if rare.any():
        scores["accuracy, rare words"] = float(same[rare].mean())
    if any(tag.startswith("B-") for tag in truth):
        scores["span F1"] = span_f1(told, answer)
    return scores
