"""Language models: how probable a text is, and what comes next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lstmkit.data.batch import Batches
from lstmkit.data.splits import holdout_sizes
from lstmkit.data.text.lines import Text, read_text
from lstmkit.data.text.token_stream import TokenStreamLoader, token_counts, token_stream
from lstmkit.data.text.tokenizer import END, KINDS, UNKNOWN, Tokenizer
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.common.token_labels import annotations, shown
from lstmkit.jobs.language_model import metrics as scoring
from lstmkit.jobs.language_model import report
from lstmkit.jobs.language_model.baselines import KneserNey
from lstmkit.jobs.language_model.generation import Continuation, SamplingOptions, generate_continuations
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.models.sequence import NextTokenModel
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.plots.text import surprisal_figure
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class

_LOOKED_AT, _MOST_LOOKS = 200, 8  # tokens of a sequence that is looked at, and sequences
_MAX_NGRAM_TOKENS = 5_000_000  # tokens whose n-grams are counted: they are held in memory


class Stream(NamedTuple):
    """A text as the model reads it.

    Attributes:
        ids: Its tokens, the end of a line before the first.
        characters: How many it has, the ends of lines included.
    """

    ids: np.ndarray
    characters: int


@settings_class
class LanguageModel(Job):
    """Learn a text by words, characters or pieces; tell how probable a text is, and write on.

    Data: a text file (UTF-8, gzipped or not), or lines. The end of a line is a token too.
    The state is carried through the whole text, in training (truncated back-propagation) as in scoring.

    >>> lines = ["the cat sat on the mat"] * 40
    >>> model = LanguageModel(epochs=2, hidden_size=8, batch_size=2, window=5).fit(lines)
    >>> len(model.generate("the cat", length=3).tokens)
    3
    """

    name: ClassVar[str] = "language_model"
    summary: ClassVar[str] = "Learn a text by words or characters; score texts and write on, beside counted n-grams."

    tokens: str = setting(
        "what a token is: words and punctuation, what stands between spaces, characters, or pieces of words",
        default="words",
        choices=KINDS,
    )
    vocabulary: int = setting("most tokens that are kept; 0 for all (bpe: 8,000)", default=0, low=0)
    at_least: int = setting("how often a token must occur in the training text to be kept", default=1, low=1)
    lower: bool = setting("read everything as lower case", default=False)
    hidden_size: int = setting("units in a layer", default=200, low=1)
    num_layers: int = setting("recurrent layers", default=2, low=1)
    embed_size: int = setting("width of a token's vector; 0 for hidden_size", default=0, low=0)
    tied: bool = setting("the vectors of tokens are also the weights that tell the next one", default=True)
    cutoffs: tuple[int, ...] = setting(
        "for large vocabularies (adaptive softmax): token numbers, by frequency, where rarer parts begin", default=(),
        low=1,
    )  # fmt: skip
    dropout: float = setting("share of features hidden before the head", default=0.3, low=0, high=0.95)
    layer_dropout: float = setting("share of features hidden between layers", default=0.2, low=0, high=0.95)
    input_dropout: float = setting("share of a token's vector hidden", default=0.2, low=0, high=0.95)
    word_dropout: float = setting("share of the vocabulary hidden in a batch", default=0.05, low=0, high=0.95)
    weight_drop: float = setting("share of recurrent weights set to 0 in a batch", default=0.0, low=0, high=0.95)
    recurrent_dropout: float = setting("share of the state hidden from the gates", default=0.0, low=0, high=0.95)
    activation: float = setting("penalty on the size of the features (AR)", default=0.0, low=0)
    slowness: float = setting("penalty on the change of the features from step to step (TAR)", default=0.0, low=0)
    window: int = setting("steps through which gradients flow back", default=35, low=1)
    batch_size: int = setting("streams side by side", default=20, low=1)
    lr: float = setting("peak learning rate", default=5e-3, low=0)
    clip: float = setting("largest norm of the gradient; 0 for no clipping", default=0.5, low=0)
    average: float = setting(
        "decay of the moving average of weights that is kept; 0 for none", default=0.999, low=0, high=1
    )
    valid_share: float = setting("share of the lines, near the end, to validate on", default=0.05, low=0, high=0.5)
    test_share: float = setting("share of the lines, at the end, held out for the test", default=0.05, low=0, high=0.5)
    ngram: int = setting("longest n-grams of the baseline; 0 for 5, of characters 7", default=0, low=0, high=20)
    cache: int = setting("steps of the past in the neural cache, scored beside the model; 0 for none", default=0, low=0)
    dynamic: float = setting(
        "learning rate of dynamic evaluation, scored beside the model; 0 for none", default=0.0, low=0
    )

    _tokenizer: Tokenizer | None = field(default=None, init=False, repr=False)
    _counts: np.ndarray | None = field(default=None, init=False, repr=False)
    _cache_settings: scoring.CacheSettings | None = field(default=None, init=False, repr=False)
    _trained_on: Text | None = field(default=None, init=False, repr=False)  # not saved, nor what it is as a stream
    learnt: Stream | None = field(default=None, init=False, repr=False)

    # ---- from file to stream -------------------------------------------------------------------------------------

    def read(self, data: Any) -> Text:
        if self.tied and self.cutoffs:
            raise SettingError("cutoffs needs weights of its own for each part: give --no-tied")
        if self.hidden_size < 4 ** len(self.cutoffs):
            raise SettingError(f"{len(self.cutoffs)} cutoffs need a hidden_size of at least {4 ** len(self.cutoffs)}")
        if self.cache and self.seeds > 1:
            raise SettingError("the cache compares the features of one model: give --seeds 1 or --cache 0")
        return read_text(data)

    def split(self, examples: Text, validation: Text | None) -> DataSplit:
        """Training, validation and test, in the order of the text."""
        count = len(examples)
        valid_share = self.valid_share if validation is None else 0.0
        valid, test = holdout_sizes(count, "line", examples.name, valid_share, self.test_share)
        held_out = examples.part(count - test - valid, count - test) if valid else validation
        tested = examples.part(count - test, count) if test else None
        return DataSplit(examples.part(0, count - test - valid), held_out, tested)

    def prepare(self, train: Text) -> None:
        """The vocabulary, from the training part."""
        special = () if self.tokens in ("chars", "bpe") else (END,)
        self._tokenizer = Tokenizer.fit(
            train,
            self.tokens,
            size=self.vocabulary,
            at_least=self.at_least,
            lower=self.lower,
            special=special,
            progress=self._progress,
            count=len(train),
        )
        self._trained_on, self.learnt = train, self._stream(train)
        self._counts = token_counts(self.learnt.ids, self._vocab_size)
        if self.cutoffs and not (
            sorted(set(self.cutoffs)) == list(self.cutoffs) and self.cutoffs[-1] < self._vocab_size
        ):
            raise SettingError(f"cutoffs must rise and stay below the vocabulary's {self._vocab_size} tokens")

    def source(self, examples: Text) -> Stream:
        if self.learnt is not None and examples is self._trained_on:
            return self.learnt
        return self._stream(examples)

    def _stream(self, text: Text) -> Stream:
        ids = token_stream(text, self.tokenizer, self._progress)
        if len(ids) < 2:
            raise DataError(f"{text.name} has {len(ids)} tokens: too few to learn which follows which")
        return Stream(ids, sum(len(line) + 1 for line in text))

    def batches(self, source: Stream, seed: int | None) -> Batches:
        steps = 0 if seed is None else self.steps_per_epoch
        return TokenStreamLoader(source.ids, self.batch_size, self.window, seed, steps)

    @property
    def tokenizer(self) -> Tokenizer:
        """What cuts a text into tokens."""
        assert self._tokenizer is not None
        return self._tokenizer

    @property
    def _vocab_size(self) -> int:
        return len(self.tokenizer)

    @property
    def _end_id(self) -> int:
        """The token of a line's end."""
        if not self.tokenizer.keeps_line_ends:
            return self.tokenizer[END]
        return next(self.tokenizer.encode([""], ended=True))[0]

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        width = self.embed_size or self.hidden_size
        encoder = TokenEncoder(self._vocab_size, width, self.word_dropout, self.input_dropout)
        trunk = build_trunk(
            self.cell,
            width,
            self.hidden_size,
            num_layers=self.num_layers,
            dropout=self.layer_dropout,
            variational=True,
            recurrent_dropout=self.recurrent_dropout,
            weight_drop=self.weight_drop,
        )
        tied = encoder.embedding if self.tied else None
        head = TokenHead(trunk.output_size, self._vocab_size, tied, self.cutoffs)
        return NextTokenModel(encoder, trunk, head, self.dropout, self.activation, self.slowness)

    def calibrate(self, valid: Text | None) -> None:
        """With a cache its share and sharpness, on the validation part."""
        self._cache_settings = None
        if self.cache and valid is not None:
            ids = self._with_line_start(self.source(valid).ids)
            self._cache_settings = scoring.choose_cache(self._network, ids, self.cache, self._device(), self._progress)

    @property
    def _network(self) -> NextTokenModel:
        assert isinstance(self.network, NextTokenModel)
        return self.network

    def _with_line_start(self, ids: np.ndarray) -> np.ndarray:
        return np.concatenate([[self._end_id], ids])

    # ---- writing on ----------------------------------------------------------------------------------------------

    def generate(
        self,
        prompt: str = "",
        length: int = 100,
        *,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str = "",
    ) -> Continuation:
        """Write on after a prompt.

        Args:
            prompt: May be empty: then after the end of a line.
            length: Tokens to write at most.
            temperature: Of the softmax: below 1 more usual, above 1 more surprising; 0 for the most probable.
            top_k: Only of the so many most probable tokens; 0 for all.
            top_p: Only of the fewest tokens that have this probability together.
            seed: Of the drawing.
            stop: Text that ends it once it is written.

        Raises:
            SettingError: A number out of its range.
        """
        (found,) = self.predict(
            [prompt], length=length, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=stop
        )
        return found

    def predict(
        self,
        data: Any,
        *,
        length: int = 100,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str = "",
    ) -> list[Continuation]:
        """Write on after each line of ``data``, a file or a list of prompts; see :meth:`generate`."""
        self.model  # noqa: B018  (says so if there is none)
        drawing = SamplingOptions(length, temperature, top_k, top_p, seed, stop)
        drawing.check()
        prompts = list(data) if isinstance(data, (list, tuple)) else list(read_text(data))
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise DataError("prompts are lines of text")
        return generate_continuations(self.model, self.tokenizer, self._end_id, prompts, drawing, self._device())

    def text(self, answer: list[Continuation]) -> str:
        gap = "" if self.tokenizer.keeps_line_ends else " "
        written = []
        for one in answer:
            text = (one.prompt + gap + one.text).strip() if gap else one.prompt + one.text
            written.append(text.replace(f" {END} ", "\n").replace(END, "\n"))
        return "\n\n".join(written)

    def records(self, answer: list[Continuation]) -> list[dict[str, Any]]:
        return [asdict(one) for one in answer]

    def picture(self, data: Any, answer: list[Continuation]) -> Figure:
        first = answer[0]
        return surprisal_figure([shown(t) for t in first.tokens], first.surprise)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Perplexity and bits per character of a text that fit was not given, beside counted n-grams.

        The n-grams are counted in the text that this object was fitted to; a loaded model has single tokens only.
        """
        self.model  # noqa: B018
        return self.score(self.read(data), progress or default_progress())

    def score(self, test: Text, progress: Progress) -> Evaluation:
        self._progress = progress
        stream = self.source(test)
        ids, device = self._with_line_start(stream.ids), self._device()
        label = self.cell.upper()
        told = {label: scoring.surprise(self.model, ids, device, progress)}
        if self._cache_settings is not None:
            name = f"{label}, cache of {self._cache_settings.size}"
            told[name] = scoring.cache_surprisal(self._network, ids, self._cache_settings, device, progress)
        if self.dynamic:
            name = f"{label}, learning as it reads"
            told[name] = scoring.dynamic_eval_surprisal(self._network, ids, self.dynamic, self.window, device, progress)
        told |= self._baselines(ids)
        rows = [
            {
                "model": name,
                "perplexity": float(np.exp(nats.mean())),
                "bits per character": float(nats.sum() / math.log(2) / stream.characters),
            }
            for name, nats in told.items()
        ]
        details = pd.DataFrame({"token": self.tokenizer.tokens(ids[1:]), **told})
        unknown = float((stream.ids == self.tokenizer[UNKNOWN]).mean()) if UNKNOWN in self.tokenizer else 0.0
        notes = [
            f"{len(stream.ids):,} tokens, {stream.characters:,} characters; the state is carried through the text. "
            f"Tokens that are unknown: {unknown:.2%}; they are scored as <unk>."
        ]
        if self._cache_settings is not None or self.dynamic:
            notes.append("With a cache, or learning as it reads, the model has seen the test text up to each token.")
        return Evaluation(pd.DataFrame(rows), {"perplexity": "low", "bits per character": "low"}, details, tuple(notes))

    def _baselines(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        assert self._counts is not None
        single = (self._counts + 1) / (self._counts.sum() + self._vocab_size)
        told = {"single tokens": -np.log(single[ids[1:]])}
        if self.learnt is not None:
            order = self.ngram or (7 if self.tokens == "chars" else 5)
            counted = KneserNey(self._with_line_start(self.learnt.ids[-_MAX_NGRAM_TOKENS:]), order, self._vocab_size)
            of_some = f" of the last {_MAX_NGRAM_TOKENS:,} tokens" if len(self.learnt.ids) > _MAX_NGRAM_TOKENS else ""
            told = {f"Kneser-Ney, {order}-grams{of_some}": -np.log(counted.probabilities(ids)[1:]), **told}
        return told

    def sections(self, examples: Text) -> list[Section]:
        return report.sections(self)

    def example_sequences(self, data: Any, line: int = 1) -> list[ExampleSequence]:
        """Stretches of a text of 200 tokens each, the one that begins at ``line`` (from 1) first."""
        self.model  # noqa: B018
        text = self.read(data)
        if not 1 <= line <= len(text):
            raise DataError(f"there is no line {line}: {text.name} has 1 to {len(text)}")
        ids: list[int] = []
        for found in self.tokenizer.encode(text.part(line - 1, len(text)), ended=True):
            ids += found
            if len(ids) >= _LOOKED_AT * _MOST_LOOKS:
                break
        pieces = [ids[start : start + _LOOKED_AT] for start in range(0, len(ids), _LOOKED_AT)]
        return [self._specimen(piece, f"{text.name} from line {line}") for piece in pieces[:_MOST_LOOKS] if piece]

    def _specimen(self, ids: Sequence[int], name: str) -> ExampleSequence:
        tokens = self.tokenizer.tokens(ids)
        device = next(self.network.parameters()).device
        inputs = torch.tensor([list(ids)], device=device)
        with torch.no_grad():
            likely = int(self.network.eval()(inputs)[0][0, -1].argmax())
        said = shown(self.tokenizer.tokens([likely])[0])
        return ExampleSequence(
            inputs,
            name=name,
            labels=[shown(t) for t in tokens],
            annotations=annotations(tokens),
            answers={f"logit of {said!r}, the most probable next": lambda output: output[0, -1, likely]},
        )

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        assert self._counts is not None
        return {
            "tokenizer": self.tokenizer.to_json(),
            "counts": self._counts.tolist(),
            "cache": None if self._cache_settings is None else list(self._cache_settings),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._tokenizer = Tokenizer(self.tokens, state["tokenizer"])
        self._counts = np.array(state["counts"], dtype=np.int64)
        if self._counts.shape != (self._vocab_size,) or (self._counts < 0).any():
            raise ValueError("its counts are not of its vocabulary")
        if not self.tokenizer.keeps_line_ends and END not in self.tokenizer:
            raise ValueError("its vocabulary has no end of a line")
        self._cache_settings = None if state["cache"] is None else scoring.CacheSettings(*state["cache"])
