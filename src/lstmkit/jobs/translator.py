"""Translation: a sentence is read in both directions, then written in the other language, word by word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lstmkit.baselines.nearest import NearestTranslation
from lstmkit.data.batch import Batch, Loader
from lstmkit.data.held_out import held_back
from lstmkit.data.pairs import Pairs, PairSource, encoded, read_pairs, read_sources
from lstmkit.data.tokens import BEGIN, END, KINDS, PADDING, UNKNOWN, Tokenizer
from lstmkit.encoder_decoder import Decoder, EncoderDecoder
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs import _translation_score as scoring
from lstmkit.jobs._text_look import annotations, shown
from lstmkit.jobs._translating import Piece, Search, Written, pieces_of, put_together, translated
from lstmkit.jobs.base import Evaluation, Job, Parts
from lstmkit.look import Specimen
from lstmkit.look.text import attention_figure
from lstmkit.model import Model
from lstmkit.parts.attention import ATTENTIONS, build_attention
from lstmkit.parts.encoders import TokenEncoder
from lstmkit.parts.heads import TokenHead
from lstmkit.parts.trunk import build_trunk
from lstmkit.predict import predict
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class

_SPECIAL = (PADDING, BEGIN, END, UNKNOWN)
_MOST_LOOKS = 8  # sentences that are looked at
_EXAMPLES = 8  # in the report
_BEAM = 5


@dataclass(frozen=True, eq=False)
class Translation:
    """A line and what it was translated to.

    Attributes:
        source: The line.
        text: The best translation.
        score: Its logarithmic probability in nats, normalised by its length.
        source_tokens: What the network read.
        tokens: What it wrote, unknown words replaced.
        attention: ``(tokens, source_tokens)``: what each token written attended to.
        n_best: Translations and their scores, the best first.
    """

    source: str
    text: str
    score: float
    source_tokens: tuple[str, ...]
    tokens: tuple[str, ...]
    attention: np.ndarray
    n_best: tuple[tuple[str, float], ...]


@settings_class
class Translator(Job):
    """Learn to translate from sentences and their translations.

    Data to fit or evaluate: two files line by line beside each other, ``"train.en,train.de"``; a table (.tsv, .csv,
    .jsonl, DataFrame) with a column for each language; or a list of pairs. To predict: a text file or lines.

    >>> pairs = [("a red dog", "ein roter Hund"), ("a red cat", "eine rote Katze")] * 20
    >>> translator = Translator(epochs=1, hidden_size=8, tokens="words").fit(pairs)
    >>> len(translator.predict(["a dog", ""]))
    2
    """

    name: ClassVar[str] = "translator"
    summary: ClassVar[str] = "Translate sentences, with attention and beam search, beside a translation memory."

    tokens: str = setting(
        "what a token is: words and punctuation, what stands between spaces, characters, or pieces of words",
        default="bpe",
        choices=KINDS,
    )
    vocabulary: int = setting("most tokens that are kept of each vocabulary; 0 for all (bpe: 8,000)", default=0, low=0)
    at_least: int = setting("how often a token must occur in the training part to be kept", default=1, low=1)
    lower: bool = setting("read and write everything in lower case", default=False)
    joint: bool = setting("one vocabulary, and one table of vectors, for both languages", default=False)
    longest: int = setting("tokens of a line: longer pairs are not trained on, longer lines are read in pieces",
                           default=100, low=1)  # fmt: skip
    source_col: str = setting("column of the sources, in a table", default="source")
    target_col: str = setting("column of the translations, in a table", default="target")
    hidden_size: int = setting("units in a layer; of the encoder in each direction", default=256, low=1)
    num_layers: int = setting("recurrent layers of the encoder, and of the decoder below the attention", default=1,
                              low=1)  # fmt: skip
    upper_layers: int = setting("recurrent layers of the decoder above the attention", default=1, low=0, high=8)
    embed_size: int = setting("width of a token's vector; 0 for hidden_size", default=0, low=0)
    attention: str = setting("how the decoder compares", default="additive", choices=ATTENTIONS)
    input_feeding: bool = setting("what a step attended to is an input of the next", default=False)
    coverage: float = setting(
        "weight of the penalty on attending twice, with coverage in the attention; 0 for neither", default=0.0, low=0
    )
    sampling: float = setting(
        "scheduled sampling: share of the tokens before that are the model's own in training", default=0.0, low=0,
        high=1,
    )  # fmt: skip
    sampling_rise: int = setting("training steps over which that share rises from 0", default=1000, low=0)
    tied: bool = setting("the vectors of tokens are also the weights that tell the next one", default=True)
    smoothing: float = setting("label smoothing", default=0.1, low=0, high=0.9)
    length_penalty: float = setting(
        "how far a translation's length makes up for its probability", default=1.0, low=0, high=5
    )
    dropout: float = setting("share of features hidden before attention and head", default=0.3, low=0, high=0.95)
    input_dropout: float = setting("share of a token's vector hidden", default=0.3, low=0, high=0.95)
    word_dropout: float = setting("share of the vocabulary hidden in a batch", default=0.0, low=0, high=0.95)
    recurrent_dropout: float = setting("share of the state hidden from the gates", default=0.0, low=0, high=0.95)
    epochs: int = setting("passes at most", default=20, low=1)
    lr: float = setting("peak learning rate", default=2e-3, low=0)
    average: float = setting(
        "decay of the moving average of weights that is kept; 0 for none", default=0.999, low=0, high=1
    )
    valid_share: float = setting("share of the pairs, near the end, to validate on", default=0.05, low=0, high=0.5)
    test_share: float = setting("share of the pairs, at the end, held out for the test", default=0.05, low=0, high=0.5)

    _source_tokens: Tokenizer | None = field(default=None, init=False, repr=False)
    _target_tokens: Tokenizer | None = field(default=None, init=False, repr=False)
    _trained_on: Pairs | None = field(default=None, init=False, repr=False)  # not saved
    _too_long: int = field(default=0, init=False, repr=False)

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> Pairs:
        return read_pairs(data, self.source_col, self.target_col)

    def split(self, examples: Pairs, validation: Pairs | None) -> Parts:
        """Training, validation and test, in the order of the pairs."""
        count = len(examples)
        valid_share = self.valid_share if validation is None else 0.0
        valid, test = held_back(count, "pair", examples.name, valid_share, self.test_share)
        held_out = examples.part(count - test - valid, count - test) if valid else validation
        tested = examples.part(count - test, count) if test else None
        return Parts(examples.part(0, count - test - valid), held_out, tested)

    def prepare(self, train: Pairs) -> None:
        """The vocabularies, from the training part."""
        if self.joint:
            self._source_tokens = self._target_tokens = self._vocabulary([*train.sources, *train.targets])
        else:
            self._source_tokens, self._target_tokens = (self._vocabulary(s) for s in (train.sources, train.targets))
        self._trained_on = train

    def _vocabulary(self, lines: Sequence[str]) -> Tokenizer:
        return Tokenizer.fit(
            lines,
            self.tokens,
            size=self.vocabulary,
            at_least=self.at_least,
            lower=self.lower,
            special=[token for token in _SPECIAL if token != UNKNOWN or self.tokens != "bpe"],
            progress=self._progress,
            count=len(lines),
        )

    def source(self, examples: Pairs) -> PairSource:
        found, too_long = encoded(examples, self._read_tokens, self._write_tokens, self.longest)
        if examples is self._trained_on:
            self._too_long = too_long
        if not len(found):
            raise DataError(f"{examples.name}: every pair has a side of more than {self.longest} tokens: raise longest")
        if too_long:
            self._progress.say(f"{examples.name}: {too_long:,} pairs of more than {self.longest} tokens are left out")
        return found

    def _read_tokens(self, lines: Sequence[str]) -> list[np.ndarray]:
        return [np.array(ids or [self.reads[PADDING]]) for ids in self.reads.encode(lines)]

    def _write_tokens(self, lines: Sequence[str]) -> list[np.ndarray]:
        return [np.array([*ids, self.writes[END]]) for ids in self.writes.encode(lines)]

    @property
    def reads(self) -> Tokenizer:
        """What cuts the sources into tokens."""
        assert self._source_tokens is not None
        return self._source_tokens

    @property
    def writes(self) -> Tokenizer:
        """What cuts the translations into tokens, and joins them again."""
        assert self._target_tokens is not None
        return self._target_tokens

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        width = self.embed_size or self.hidden_size
        encoder = TokenEncoder(len(self.reads), width, self.word_dropout, self.input_dropout)
        embedding = encoder
        if not self.joint:
            embedding = TokenEncoder(len(self.writes), width, self.word_dropout, self.input_dropout)
        stack = {"dropout": self.dropout, "variational": True, "recurrent_dropout": self.recurrent_dropout}
        # Dot products want queries and keys of one width: the two directions are added.
        merge = "sum" if self.attention == "dot" else "concat"
        trunk = build_trunk(
            self.cell, width, self.hidden_size, num_layers=self.num_layers, bidirectional=True, merge=merge, **stack
        )
        reads = width + (width if self.input_feeding else 0)
        lower = build_trunk(self.cell, reads, self.hidden_size, num_layers=self.num_layers, **stack)
        keys = trunk.output_size
        upper = None
        if self.upper_layers:
            both = lower.output_size + keys
            upper = build_trunk(self.cell, both, self.hidden_size, num_layers=self.upper_layers, **stack)
        attention = build_attention(self.attention, lower.output_size, keys, coverage=self.coverage > 0)
        decoder = Decoder(embedding, lower, attention, upper, keys, width, self.input_feeding)
        tied = embedding.embedding if self.tied else None
        head = TokenHead(width, len(self.writes), tied, smoothing=self.smoothing)
        return EncoderDecoder(
            encoder,
            trunk,
            decoder,
            head,
            self.writes[BEGIN],
            self.dropout,
            self.coverage,
            self.sampling,
            self.sampling_rise,
        )

    def calibrate(self, valid: Pairs | None) -> None:
        """Nothing: scores are not said to be probabilities of a translation being right."""

    # ---- translating ---------------------------------------------------------------------------------------------

    def predict(
        self, data: Any, *, beam: int = _BEAM, n_best: int = 1, progress: Progress | None = None
    ) -> list[Translation]:
        """Translate each line of ``data``, a file or a list; of parallel text its sources.

        A blank line is translated to an empty one. A line of more tokens than ``longest`` is read in pieces of that
        many, and their translations are joined; attention is that of the first piece.

        Args:
            data: What to translate.
            beam: Beginnings held at a time; 1 always takes the most probable token.
            n_best: Translations of each line.
            progress: Whom to tell.

        Raises:
            SettingError: ``n_best`` above ``beam``, or one of them below 1.
            DataError: There is no such file, or nothing in it.
        """
        self.model  # noqa: B018  (says so if there is none)
        if not 1 <= n_best <= beam:
            raise SettingError(f"n_best must be 1 to beam, which holds so many; got n_best {n_best}, beam {beam}")
        lines = [" ".join(line.split()) for line in read_sources(data, self.source_col)]
        pieces = pieces_of(lines, self.reads, self.longest)
        search = Search(beam, n_best, self.length_penalty)

        def decode(model: Model, batch: Batch) -> list[list[Written]]:
            return translated(model, batch, pieces, self.writes, search)

        loader = Loader(PairSource([piece.ids for piece in pieces]), self.batch_size)
        found = predict(self.model, loader, decode, device=self._device(), progress=progress, title="translating")
        by_line: dict[int, list[int]] = {}
        for i, piece in enumerate(pieces):
            by_line.setdefault(piece.line, []).append(i)
        return [
            self._translation(line, [pieces[i] for i in here], [found[i] for i in here])
            for line, here in ((line, by_line.get(k, [])) for k, line in enumerate(lines))
        ]

    def _translation(self, line: str, pieces: list[Piece], found: list[list[Written]]) -> Translation:
        if not pieces:
            return Translation(line, "", 0.0, (), (), np.zeros((0, 0), np.float32), (("", 0.0),))
        n_best, first = put_together(found), found[0][0]
        return Translation(line, *n_best[0], pieces[0].words, first.tokens, first.attention, tuple(n_best))

    def text(self, answer: list[Translation]) -> str:
        """A line for each; of several translations ``number ||| text ||| score``, as Moses writes them."""
        if all(len(one.n_best) == 1 for one in answer):
            return "\n".join(one.text for one in answer)
        rows = ((i, *each) for i, one in enumerate(answer) for each in one.n_best)
        return "\n".join(f"{i} ||| {text} ||| {score:.4f}" for i, text, score in rows)

    def records(self, answer: list[Translation]) -> list[dict[str, Any]]:
        return [
            {
                "source": one.source,
                "translation": one.text,
                "score": one.score,
                "n_best": [{"translation": text, "score": score} for text, score in one.n_best],
                "source_tokens": list(one.source_tokens),
                "tokens": list(one.tokens),
                "attention": [[round(float(w), 4) for w in row] for row in one.attention],
            }
            for one in answer
        ]

    def picture(self, data: Any, answer: list[Translation]) -> Figure:
        """What the first translation attended to."""
        return self._attention(next((one for one in answer if one.tokens), answer[0]))

    def _attention(self, one: Translation) -> Figure:
        return attention_figure([shown(t) for t in one.source_tokens], [shown(t) for t in one.tokens], one.attention)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """BLEU and chrF of parallel text that fit was not given, beside a translation memory and the untouched source.

        The memory is what this object was fitted to; a loaded model has none.
        """
        self.model  # noqa: B018
        return self.score(self.read(data), progress or default_progress())

    def score(self, test: Pairs, progress: Progress) -> Evaluation:
        told: dict[str, Sequence[str]] = {
            self.cell.upper(): [one.text for one in self.predict(test, progress=progress)],
        }
        if self._trained_on is not None:
            memory = NearestTranslation(self._trained_on.sources, self._trained_on.targets)
            told["most similar source of the training part"] = memory(test.sources)
        told["the source as it stands"] = test.sources
        rows = [{"model": name, **scoring.scores(lines, test.targets)} for name, lines in told.items()]
        details = pd.DataFrame({"source": test.sources, "reference": test.targets, **told})
        notes = [
            f"{len(test):,} sentences, one reference each; beam of {_BEAM}, length penalty {self.length_penalty:g}.",
            *scoring.signatures(),
        ]
        return Evaluation(pd.DataFrame(rows), scoring.BEST, details, tuple(notes))

    def sections(self, examples: Pairs) -> list[Section]:
        found = []
        if self.evaluation is not None:
            found += self._evidence(self.evaluation)
        shown_one = examples.sources[0] if self.evaluation is None else str(self.evaluation.details["source"].iloc[0])
        (one,) = self.predict([shown_one])
        found.append(
            Section(
                "What it attends to",
                f"Left, from top to bottom, what it wrote for: {one.source}\n\nDark is what each token attended to.",
                figure=self._attention(one),
                caption="Attention of each token written over the tokens read",
            )
        )
        counted = pd.DataFrame(
            {
                "parallel text": ["pairs", "left out: a blank side", "not trained on: too long",
                                  "tokens known of the source", "tokens known of the translation"],
                "count": [len(examples), examples.left_out, self._too_long, len(self.reads), len(self.writes)],
            }
        )  # fmt: skip
        return [*found, Section("The data", f"Tokens are {self.tokens}, at most {self.longest} of a line.", counted)]

    def _evidence(self, evaluation: Evaluation) -> list[Section]:
        details = evaluation.details
        told = {name: details[name].tolist() for name in evaluation.table["model"]}
        sources, references = details["source"].tolist(), details["reference"].tolist()
        lengths = scoring.by_length(sources, references, told)
        columns = ["source", "reference", next(iter(told))]
        return [
            Section(
                "How well it translates",
                "Of the pairs at the end of the data, which fit had held out. " + " ".join(evaluation.notes),
                evaluation.table,
                best=evaluation.best,
            ),
            Section("Examples", "The first of the held-out test.", details.loc[: _EXAMPLES - 1, columns]),
            Section("BLEU by length", "Sentences of like length together.", lengths, best=dict.fromkeys(told, "high")),
        ]

    def specimens(self, data: Any, line: int = 1) -> list[Specimen]:
        """Sentences as the encoder reads them, the one at ``line`` (from 1) first."""
        self.model  # noqa: B018
        lines = read_sources(data, self.source_col)
        if not 1 <= line <= len(lines):
            raise DataError(f"there is no line {line}: the data have 1 to {len(lines)}")
        pieces = pieces_of(lines[line - 1 :], self.reads, self.longest)[:_MOST_LOOKS]
        if not pieces:
            raise DataError(f"from line {line} on all lines are blank: there is nothing to look at")
        device = next(self.network.parameters()).device
        return [
            Specimen(
                torch.from_numpy(piece.ids).unsqueeze(0).to(device),
                name=f"line {line + piece.line}",
                labels=[shown(word) for word in piece.words],
                annotations=annotations(piece.words),
            )
            for piece in pieces
        ]

    # ---- saved ---------------------------------------------------------------------------------------------------

    def fingerprint(self, examples: Pairs) -> str:
        return examples.digest()

    def state(self) -> dict[str, Any]:
        return {"source": self.reads.to_json(), "target": None if self.joint else self.writes.to_json()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._source_tokens = Tokenizer(self.tokens, state["source"])
        target = state["target"]
        self._target_tokens = self._source_tokens if self.joint else Tokenizer(self.tokens, target)
        for vocabulary in (self.reads, self.writes):
            if any(token not in vocabulary for token in (PADDING, BEGIN, END)):
                raise ValueError("its vocabulary has no beginning or end of a line")
