"""What jobs that read one text and write another share: translation, summaries."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.splits import holdout_sizes
from lstmkit.data.text.copy_vocabulary import encode_with_extended_vocabulary, numbered
from lstmkit.data.text.text_pairs import MessageWording, Pairs, TextPairDataset, read_sources, read_text_pairs
from lstmkit.data.text.tokenizer import BEGIN, END, KINDS, PAD, UNKNOWN, Tokenizer
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.common.seq2seq_search import BeamSearchOptions, Piece, Written, beam_search_batch, join_segments
from lstmkit.jobs.common.token_labels import annotations, shown
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.models.encoder_decoder import Decoder, EncoderDecoder
from lstmkit.modules.attention import ATTENTIONS, build_attention
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.plots.text import attention_figure
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class
from lstmkit.training.predict import predict

_SPECIAL = (PAD, BEGIN, END, UNKNOWN)
_MOST_LOOKS = 8  # texts that are looked at
BEAM_SIZE = 5  #: Beginnings held at a time, if nothing else is said.


@dataclass(frozen=True, eq=False)
class Answer:
    """A text and what was written for it.

    Attributes:
        source: The text.
        text: The best that was found.
        score: Its logarithmic probability in nats, normalised by its length.
        source_tokens: What the network read.
        tokens: What it wrote, unknown words replaced.
        attention: ``(tokens, source_tokens)``: what each token written attended to.
        n_best: Texts and their scores, the best first.
        generated: With copying, how probable it was that each token written is no copy.
    """

    source: str
    text: str
    score: float
    source_tokens: tuple[str, ...]
    tokens: tuple[str, ...]
    attention: np.ndarray
    n_best: tuple[tuple[str, float], ...]
    generated: tuple[float, ...] = ()


@settings_class
class TextToText(Job):
    """Read a text, write another one. Use one of the jobs that are built upon it.

    They say what their columns are called (``columns``), how a text is cut into pieces (``pieces``), how much is
    written for it (``max_output_tokens``), which pairs are trained on (``source``), and what stands as evidence.
    """

    wording: ClassVar[MessageWording]  #: How messages and records speak of it.
    answer: ClassVar[type[Answer]]  #: What :meth:`predict` gives.

    tokens: str = setting(
        "what a token is: words and punctuation, what stands between spaces, characters, or pieces of words",
        default="bpe",
        choices=KINDS,
    )
    vocabulary: int = setting("most tokens that are kept of each vocabulary; 0 for all (bpe: 8,000)", default=0, low=0)
    at_least: int = setting("how often a token must occur in the training part to be kept", default=1, low=1)
    lower: bool = setting("read and write everything in lower case", default=False)
    joint: bool = setting("one vocabulary, and one table of vectors, for both sides", default=False)
    copying: bool = setting(
        "words may also be copied from the source, unknown ones too; then there is one vocabulary for both sides",
        default=False,
    )
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
    no_repeat_ngram_size: int = setting(
        "so many tokens in a row are not written twice; 0 for no such rule", default=0, low=0
    )
    length_penalty: float = setting("how far a text's length makes up for its probability", default=1.0, low=0, high=5)
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

    _source_tokenizer: Tokenizer | None = field(default=None, init=False, repr=False)
    _target_tokenizer: Tokenizer | None = field(default=None, init=False, repr=False)
    _trained_on: Pairs | None = field(default=None, init=False, repr=False)  # not saved

    # ---- what such a job says of itself --------------------------------------------------------------------------

    @property
    @abstractmethod
    def columns(self) -> tuple[str, str]:
        """Columns of a table: what is read, what is written."""

    @abstractmethod
    def pieces(self, lines: Sequence[str]) -> list[Piece]:
        """What is read of each line at once; of a blank one nothing."""

    @abstractmethod
    def max_output_tokens(self, lengths: Tensor) -> Tensor:
        """``(B,)``: most tokens written for sources of so many, ``(B,)``, the end included."""

    @abstractmethod
    def evaluation_sections(self, evaluation: Evaluation) -> list[Section]:
        """The report's part on how good it is."""

    @abstractmethod
    def attended(self, one: Answer) -> Section:
        """The report's part on what it attended to."""

    @abstractmethod
    def counted(self, examples: Pairs) -> Section:
        """The report's part on the data."""

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> Pairs:
        return read_text_pairs(data, *self.columns, wording=self.wording)

    def split(self, examples: Pairs, validation: Pairs | None) -> DataSplit:
        """Training, validation and test, in the order of the pairs."""
        count = len(examples)
        valid_share = self.valid_share if validation is None else 0.0
        valid, test = holdout_sizes(count, "pair", examples.name, valid_share, self.test_share)
        held_out = examples.part(count - test - valid, count - test) if valid else validation
        tested = examples.part(count - test, count) if test else None
        return DataSplit(examples.part(0, count - test - valid), held_out, tested)

    def prepare(self, train: Pairs) -> None:
        """The vocabularies, from the training part."""
        if self.uses_shared_vocab:
            self._source_tokenizer = self._target_tokenizer = self._vocabulary([*train.sources, *train.targets])
        else:
            self._source_tokenizer, self._target_tokenizer = (
                self._vocabulary(s) for s in (train.sources, train.targets)
            )
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

    def encoded(
        self, sources: Sequence[str], targets: Sequence[str], longest: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Both sides as numbers, of a source its first ``longest`` tokens; what is copied has the source's number."""
        both = zip(self.reads.spelled(sources), self.writes.spelled(targets), strict=True)
        for (ids, words), (told, said) in both:
            ids, words = ids[:longest], words[:longest]
            if self.copying:
                ids, beyond = numbered(self.reads, ids, words)
                told = encode_with_extended_vocabulary(self.writes, told, said, beyond)
            yield np.array(ids or [self.reads[PAD]]), np.array([*told, self.writes[END]])

    @property
    def uses_shared_vocab(self) -> bool:
        """Whether both sides share theirs: to copy a token is to write its number."""
        return self.joint or self.copying

    @property
    def reads(self) -> Tokenizer:
        """What cuts the sources into tokens."""
        assert self._source_tokenizer is not None
        return self._source_tokenizer

    @property
    def writes(self) -> Tokenizer:
        """What cuts what is written into tokens, and joins them again."""
        assert self._target_tokenizer is not None
        return self._target_tokenizer

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        width = self.embed_size or self.hidden_size
        unknown = self.reads[UNKNOWN] if self.copying and UNKNOWN in self.reads else None
        encoder = TokenEncoder(len(self.reads), width, self.word_dropout, self.input_dropout, unknown=unknown)
        embedding = encoder
        if not self.uses_shared_vocab:
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
        decoder = Decoder(embedding, lower, attention, upper, keys, width, self.input_feeding, self.copying)
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
        """Nothing: scores are not said to be probabilities of a text being right."""

    # ---- writing -------------------------------------------------------------------------------------------------

    def predict(
        self, data: Any, *, beam: int = BEAM_SIZE, n_best: int = 1, progress: Progress | None = None
    ) -> list[Answer]:
        """Write for each line of ``data``, a file or a list; of pairs for their sources.

        For a blank line an empty one is written. Of a text that is read in pieces the attention is that of the first.

        Args:
            data: What to read.
            beam: Beginnings held at a time; 1 always takes the most probable token.
            n_best: Texts written for each line.
            progress: Whom to tell.

        Raises:
            SettingError: ``n_best`` above ``beam``, or one of them below 1.
            DataError: There is no such file, or nothing in it.
        """
        self.model  # noqa: B018  (says so if there is none)
        if not 1 <= n_best <= beam:
            raise SettingError(f"n_best must be 1 to beam, which holds so many; got n_best {n_best}, beam {beam}")
        lines = [" ".join(line.split()) for line in read_sources(data, self.columns[0], self.wording)]
        pieces = self.pieces(lines)
        search = BeamSearchOptions(beam, n_best, self.length_penalty, self.no_repeat_ngram_size, self.max_output_tokens)

        def decode(model: Model, batch: Batch) -> list[list[Written]]:
            return beam_search_batch(model, batch, pieces, self.writes, search)

        loader = Loader(TextPairDataset([piece.ids for piece in pieces]), self.batch_size)
        found = predict(self.model, loader, decode, device=self._device(), progress=progress, title=self.wording.doing)
        by_line: dict[int, list[int]] = {}
        for i, piece in enumerate(pieces):
            by_line.setdefault(piece.line, []).append(i)
        return [
            self._to_result(line, [pieces[i] for i in here], [found[i] for i in here])
            for line, here in ((line, by_line.get(k, [])) for k, line in enumerate(lines))
        ]

    def _to_result(self, line: str, pieces: list[Piece], found: list[list[Written]]) -> Answer:
        if not pieces:
            return self.answer(line, "", 0.0, (), (), np.zeros((0, 0), np.float32), (("", 0.0),))
        n_best, first = join_segments(found), found[0][0]
        best = pieces[0].words, first.tokens, first.attention, tuple(n_best), first.generated
        return self.answer(line, *n_best[0], *best)

    def text(self, answer: list[Answer]) -> str:
        """A line for each; of several texts ``number ||| text ||| score``, as Moses writes them."""
        if all(len(one.n_best) == 1 for one in answer):
            return "\n".join(one.text for one in answer)
        rows = ((i, *each) for i, one in enumerate(answer) for each in one.n_best)
        return "\n".join(f"{i} ||| {text} ||| {score:.4f}" for i, text, score in rows)

    def records(self, answer: list[Answer]) -> list[dict[str, Any]]:
        written = self.wording.target
        return [
            {
                "source": one.source,
                written: one.text,
                "score": one.score,
                "n_best": [{written: text, "score": score} for text, score in one.n_best],
                "source_tokens": list(one.source_tokens),
                "tokens": list(one.tokens),
                "attention": [[round(float(w), 4) for w in row] for row in one.attention],
                **({"generated": [round(p, 4) for p in one.generated]} if self.copying else {}),
            }
            for one in answer
        ]

    def picture(self, data: Any, answer: list[Answer]) -> Figure:
        """What the first text written attended to."""
        return self.plot_attention(next((one for one in answer if one.tokens), answer[0]))

    def plot_attention(self, one: Answer) -> Figure:
        """What each token written attended to."""
        return attention_figure([shown(t) for t in one.source_tokens], [shown(t) for t in one.tokens], one.attention)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """How good what it writes is, for pairs that fit was not given, beside the field's plain baselines.

        A baseline that remembers the training part needs an object that was fitted: a loaded model has none.
        """
        self.model  # noqa: B018
        return self.score(self.read(data), progress or default_progress())

    def sections(self, examples: Pairs) -> list[Section]:
        evaluation_sections = [] if self.evaluation is None else self.evaluation_sections(self.evaluation)
        first = examples.sources[0] if self.evaluation is None else str(self.evaluation.details["source"].iloc[0])
        (one,) = self.predict([first])
        return [*evaluation_sections, self.attended(one), self.counted(examples)]

    def example_sequences(self, data: Any, line: int = 1) -> list[ExampleSequence]:
        """Texts as the encoder reads them, the one at ``line`` (from 1) first."""
        self.model  # noqa: B018
        lines = read_sources(data, self.columns[0], self.wording)
        if not 1 <= line <= len(lines):
            raise DataError(f"there is no line {line}: the data have 1 to {len(lines)}")
        pieces = self.pieces(lines[line - 1 :])[:_MOST_LOOKS]
        if not pieces:
            raise DataError(f"from line {line} on all lines are blank: there is nothing to look at")
        device = next(self.network.parameters()).device
        return [
            ExampleSequence(
                torch.from_numpy(piece.ids).unsqueeze(0).to(device),
                name=f"line {line + piece.line}",
                labels=[shown(word) for word in piece.words],
                annotations=annotations(piece.words),
            )
            for piece in pieces
        ]

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"source": self.reads.to_json(), "target": None if self.uses_shared_vocab else self.writes.to_json()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._source_tokenizer = Tokenizer(self.tokens, state["source"])
        target = state["target"]
        self._target_tokenizer = self._source_tokenizer if self.uses_shared_vocab else Tokenizer(self.tokens, target)
        for vocabulary in (self.reads, self.writes):
            if any(token not in vocabulary for token in (PAD, BEGIN, END)):
                raise ValueError("its vocabulary has no beginning or end of a line")
