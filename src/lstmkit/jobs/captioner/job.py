"""Captions: a sentence that says what is on a picture, or what happens in a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.captioned_media import CaptionColumns, CaptionedMedia, opened, read_captioned_media
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.data.text.tokenizer import BEGIN, END, KINDS, PAD, UNKNOWN, Tokenizer
from lstmkit.data.vision.video_io import ClipFormat, VideoClip
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.captioner import metrics as scoring
from lstmkit.jobs.captioner import report as reporting
from lstmkit.jobs.captioner.plots import caption_attention_figure
from lstmkit.jobs.captioner.results import Caption, VisualInput, stretches, subtitles
from lstmkit.jobs.common.seq2seq_search import BeamSearchOptions, Piece, beam_search_batch
from lstmkit.jobs.common.splitting import looked_at, random_split
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.models.encoder_decoder import Decoder, EncoderDecoder
from lstmkit.modules.attention import ATTENTIONS, build_attention
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class
from lstmkit.training.predict import predict

BEAM_SIZE = 3  #: Beginnings held at a time, if nothing else is said.
_INITIAL_EMBEDDING_STD = (
    0.5  # of the vectors of tokens at first: from 0.1 on the network takes three times as long to begin to see
)
_SUBTITLES = (".srt", ".vtt")


@settings_class
class Captioner(Job):
    """Learn to say in a sentence what is on pictures, or what happens in videos: "Show, attend and tell".

    A residual network reads a picture as a grid of cells; of a clip each cell is followed through the frames by an
    LSTM. The decoder looks at all cells anew for each word (Xu et al. 2015; at frames Yao et al. 2015). Features that
    another network made can stand in their place.

    Data: a table with a path and a sentence in each row; ``"images.zip,captions.tsv"``; or ``(inputs, sentences)``.
    See ``read_captioned_media``.

    >>> pictures = np.zeros((40, 16, 16, 3))
    >>> pictures[::2] = 1
    >>> captioner = Captioner(height=16, width=16, hidden_size=8, epochs=2, channels=4, stages=2)
    >>> captioner = captioner.fit((pictures, ["all is white", "all is black"] * 20))
    >>> len(captioner.predict(pictures[:2]))
    2
    """

    name: ClassVar[str] = "captioner"
    summary: ClassVar[str] = "Say in a sentence what is on a picture or happens in a video, beside the nearest one's."

    path_col: str = setting("column of the paths of pictures or videos, from the table's folder on", default="image")
    text_col: str = setting("column of the sentences", default="caption")
    height: int = setting("dots that a picture or frame is high when it is read", default=96, low=16, high=512)
    width: int = setting("and wide", default=96, low=16, high=512)
    colour: bool = setting("read colours", default=True)
    frame_rate: float = setting("frames a second that are read of a video, at most; 0 for all", default=10.0, low=0)
    channels: int = setting("of the first convolutions; each stage has twice as many", default=16, low=1)
    stages: int = setting("of convolutions; each halves the sides", default=4, low=1, high=6)
    feature_size: int = setting("features of a cell of a picture or frame", default=128, low=1)
    shift: float = setting(
        "share of a side by which training moves what it sees, at most", default=0.1, low=0, high=0.5
    )
    flip: bool = setting("show every second picture left for right in training", default=False)
    tokens: str = setting(
        "what a token is: words and punctuation, what stands between spaces, characters, or pieces of words",
        default="words",
        choices=KINDS,
    )
    vocabulary: int = setting("most tokens that are kept; 0 for all (bpe: 8,000)", default=0, low=0)
    at_least: int = setting("how often a token must occur in the training sentences to be kept", default=1, low=1)
    lower: bool = setting("read and write everything in lower case", default=True)
    longest: int = setting("tokens that are learnt of a sentence, and written, at most", default=30, low=1, high=1000)
    embed_size: int = setting("width of a token's vector; 0 for hidden_size", default=0, low=0)
    hidden_size: int = setting("units in a layer and direction", default=128, low=1)
    attention: str = setting(
        "how the decoder compares", default="additive", choices=tuple(a for a in ATTENTIONS if a != "dot")
    )
    smoothing: float = setting("label smoothing", default=0.0, low=0, high=0.9)
    length_penalty: float = setting(
        "how far a sentence's length makes up for its probability", default=1.0, low=0, high=5
    )
    dropout: float = setting("share of features hidden before attention and head", default=0.3, low=0, high=0.95)
    input_dropout: float = setting("share of a token's vector hidden", default=0.3, low=0, high=0.95)
    lr: float = setting("peak learning rate", default=2e-3, low=0)
    valid_share: float = setting("share of the pictures or clips to validate on", default=0.1, low=0, high=0.5)
    test_share: float = setting("share of these held out for the test", default=0.1, low=0, high=0.5)

    tested: CaptionedMedia | None = field(default=None, init=False, repr=False)  # what was last evaluated
    _tokens: Tokenizer | None = field(default=None, init=False, repr=False)
    _visual_input: VisualInput | None = field(default=None, init=False, repr=False)
    _trained_on: CaptionedMedia | None = field(default=None, init=False, repr=False)  # not saved

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> CaptionedMedia:
        found = read_captioned_media(data, self._layout)
        if self._visual_input is not None and found.kind != self._visual_input.kind:
            raise DataError(
                f"{found.name} has {found.kind}, but this model reads {self._visual_input.kind}: give these"
            )
        return found

    @property
    def _layout(self) -> CaptionColumns:
        return CaptionColumns(
            self.path_col, self.text_col, ClipFormat(self.height, self.width, self.colour, self.frame_rate)
        )

    def split(self, examples: CaptionedMedia, validation: CaptionedMedia | None) -> DataSplit:
        given = None if validation is None else validation.said()
        if given is not None and given.kind != examples.kind:
            raise DataError(f"{examples.name} has {examples.kind}, {given.name} {given.kind}: give the same kind")
        unit = examples.kind.removesuffix("s")
        return random_split(examples.said(), given, unit, self.valid_share, self.test_share, self.seed)

    def prepare(self, train: CaptionedMedia) -> None:
        """The vocabulary, and what the training part's pictures are like."""
        sentences = [text for texts in train.texts for text in texts]
        special = [PAD, BEGIN, END, *([UNKNOWN] if self.tokens != "bpe" else [])]
        self._tokens = Tokenizer.fit(
            sentences,
            self.tokens,
            size=self.vocabulary,
            at_least=self.at_least,
            lower=self.lower,
            special=special,
            progress=self._progress,
            count=len(sentences),
        )
        self._visual_input = VisualInput.of(train, self._layout.shape, self.stages)
        self._trained_on = train

    def source(self, examples: CaptionedMedia) -> TextPairDataset:
        """A picture or clip with each of its sentences."""
        seen = self.views.encode(examples.seen)
        inputs, targets = [], []
        for one, texts in zip(seen, examples.texts, strict=True):
            for ids in self.writes.encode(texts):
                inputs.append(one)
                targets.append(np.array([*ids[: self.longest], self.writes[END]]))
        return TextPairDataset(inputs, targets)

    @property
    def writes(self) -> Tokenizer:
        """What cuts sentences into tokens, and joins them again."""
        assert self._tokens is not None
        return self._tokens

    @property
    def views(self) -> VisualInput:
        """What is read of pictures, clips, or features."""
        assert self._visual_input is not None
        return self._visual_input

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        stack: dict[str, Any] = {"num_layers": self.num_layers, "dropout": self.dropout, "variational": True}

        def temporal_layer(size: int) -> RecurrentLayer:
            return build_trunk(self.cell, size, self.hidden_size, bidirectional=True, **stack)

        encoder = self.views.build(self.channels, self.feature_size, temporal_layer, self.shift, self.flip)
        keys = encoder.output_size
        width = self.embed_size or self.hidden_size
        embedding = TokenEncoder(len(self.writes), width, dropout=self.input_dropout, spread=_INITIAL_EMBEDDING_STD)
        lower = build_trunk(self.cell, width, self.hidden_size, **stack)
        attention = build_attention(self.attention, lower.output_size, keys)
        decoder = Decoder(embedding, lower, attention, None, keys, width)
        head = TokenHead(width, len(self.writes), embedding.embedding, smoothing=self.smoothing)
        return EncoderDecoder(encoder, None, decoder, head, self.writes[BEGIN], self.dropout)

    def calibrate(self, valid: CaptionedMedia | None) -> None:
        """Nothing: scores are not said to be probabilities of a sentence being right."""

    # ---- writing -------------------------------------------------------------------------------------------------

    def predict(
        self,
        data: Any,
        *,
        beam: int = BEAM_SIZE,
        n_best: int = 1,
        every: float = 0.0,
        progress: Progress | None = None,
    ) -> list[Caption]:
        """A sentence for each picture or video.

        Args:
            data: Pictures, videos, or features.
            beam: Beginnings held at a time; 1 always takes the most probable token.
            n_best: Sentences written for each.
            every: Above 0, of videos of any length a sentence for each stretch of so many seconds; they are read a
                stretch at a time, so that memory does not grow.
            progress: Whom to tell.

        Raises:
            SettingError: ``n_best`` above ``beam``, or one of them below 1; ``every`` for what is no video.
            DataError: What cannot be read.
        """
        self.model  # noqa: B018  (says so if there is none)
        if every:
            return list(self.caption_segments(data, every, beam=beam, n_best=n_best))
        examples = self.read(data)
        spans = [(0.0, one.seconds) if isinstance(one, VideoClip) else (0.0, 0.0) for one in examples.seen]
        return self._written(examples.seen, examples.ids, spans, self._beam_search_options(beam, n_best), progress)

    def caption_segments(self, data: Any, every: float, *, beam: int = BEAM_SIZE, n_best: int = 1) -> Iterator[Caption]:
        """Sentences for stretches of videos, as they are read.

        Args:
            data: Video files.
            every: Seconds of a stretch; the last of a video may be shorter.
            beam, n_best: As of :meth:`predict`.

        Raises:
            SettingError: The model does not read clips, or ``every`` is not above 0.
            DataError: These are no video files, or one cannot be read.
        """
        if self.views.kind != "clips":
            raise SettingError(f"every: this model reads {self.views.kind}, which do not last")
        if every <= 0:
            raise SettingError(f"every must be above 0 seconds, not {every:g}")
        takes = opened(data, self._layout)
        if takes is None:
            raise DataError("there are no video files in the data: give these")
        search = self._beam_search_options(beam, n_best)
        parts = stretches(takes, self._layout.shape, every)
        while some := list(islice(parts, self.batch_size)):
            spans = [(part.start, part.end) for part in some]
            yield from self._written([part.clip for part in some], [part.name for part in some], spans, search, None)

    def _written(
        self,
        seen: Sequence[Any],
        ids: Sequence[str],
        spans: Sequence[tuple[float, float]],
        search: BeamSearchOptions,
        progress: Progress | None,
    ) -> list[Caption]:
        encoded = self.views.encode(seen)
        pieces = [Piece(i, 0, np.arange(np.prod(self.views.grid(one))), ()) for i, one in enumerate(encoded)]

        def decode(model: Model, batch: Batch) -> list[Any]:
            return beam_search_batch(model, batch, pieces, self.writes, search)

        loader = Loader(TextPairDataset(encoded), self.batch_size)
        found = predict(self.model, loader, decode, device=self._device(), progress=progress, title="writing captions")
        return [
            Caption(
                name,
                best.text,
                best.score,
                best.tokens,
                best.attention.reshape(-1, *self.views.grid(one)),
                tuple((each.text, each.score) for each in (best, *others)),
                *span,
            )
            for name, one, span, (best, *others) in zip(ids, encoded, spans, found, strict=True)
        ]

    def _max_tokens_per_input(self, lengths: Tensor) -> Tensor:
        return torch.full_like(lengths, self.longest)

    def _beam_search_options(self, beam: int, n_best: int) -> BeamSearchOptions:
        if not 1 <= n_best <= beam:
            raise SettingError(f"n_best must be 1 to beam, which holds so many; got n_best {n_best}, beam {beam}")
        return BeamSearchOptions(beam, n_best, self.length_penalty, 0, self._max_tokens_per_input, known=True)

    def text(self, answer: list[Caption]) -> str:
        """A line for each: of one picture the sentence alone, of several with their names, of stretches with times."""
        return reporting.lines(answer)

    def write(self, answer: list[Caption], path: Path) -> None:
        """Subtitles with times (``.srt``, ``.vtt``) of one video, or text."""
        if path.suffix.lower() in _SUBTITLES:
            path.write_text(subtitles(answer, path.suffix.lower()), encoding="utf-8")
        else:
            super().write(answer, path)

    def records(self, answer: list[Caption]) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "caption": one.text,
                "score": one.score,
                **({"start": round(one.start, 3), "end": round(one.end, 3)} if one.end else {}),
                "n_best": [{"caption": text, "score": score} for text, score in one.n_best],
                "tokens": list(one.tokens),
                "attention": np.round(one.attention.astype(float), 4).tolist(),
            }
            for one in answer
        ]

    def picture(self, data: Any, answer: list[Caption]) -> Figure:
        """Where each word of the first sentence looked."""
        takes = opened(data, self._layout)
        if takes is None:
            seen = self.read(data).seen[0]
        elif self.views.kind == "clips":  # no more of a film than is told of
            seen = next(stretches(takes, self._layout.shape, answer[0].end - answer[0].start)).clip
        else:
            seen = next(takes.each()).read()
        return caption_attention_figure(seen, answer[0].tokens, answer[0].attention, answer[0].text)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """BLEU of sentences for what fit was not given, beside the most frequent sentence and the nearest picture's.

        These need the object that was fitted: a loaded model has nothing beside it.
        """
        self.model  # noqa: B018
        return self.score(self.read(data), progress or default_progress())

    def score(self, test: CaptionedMedia, progress: Progress) -> Evaluation:
        self.tested = test.said()
        return scoring.evaluated(self, self.tested, self._trained_on, progress)

    def sections(self, examples: CaptionedMedia) -> list[Section]:
        return reporting.sections(self, examples)

    def example_sequences(self, data: Any, example: int = 1) -> list[ExampleSequence]:
        """Pictures or clips and the sentences for them, word by word, that of number ``example`` (from 1) first."""
        examples = self.read(data)
        rows = looked_at(example, examples, examples.kind.removesuffix("s"))
        told = self.predict(examples.part(rows))
        return [reporting.example_sequence(self, examples.seen[row], one) for row, one in zip(rows, told, strict=True)]

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"tokens": self.writes.to_json(), **self.views.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._tokens = Tokenizer(self.tokens, state["tokens"])
        if any(token not in self._tokens for token in (PAD, BEGIN, END)):
            raise ValueError("its vocabulary has no beginning or end of a sentence")
        self._visual_input = VisualInput.loaded(state, self._layout.shape, self.stages)
