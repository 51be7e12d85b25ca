"""The language model job: the probability of text, and generated text."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from matplotlib.figure import Figure

from lstmkit.data.batch import Batches
from lstmkit.data.splits import holdout_sizes
from lstmkit.data.text.lines import TEXT_FILE, Text, read_text
from lstmkit.data.text.token_stream import TokenStreamLoader, token_counts
from lstmkit.data.text.tokenizer import END, Tokenizer
from lstmkit.decoding.sampling_options import SamplingOptions
from lstmkit.errors import DataError, SettingError
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.token_labels import visible_token
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.language_model import example_sequences, metrics, report
from lstmkit.jobs.language_model.export import exported_language_model
from lstmkit.jobs.language_model.generation import Continuation, full_text, generate_continuations
from lstmkit.jobs.language_model.predictor import LanguageModelPredictor, TokenStream
from lstmkit.jobs.language_model.settings import LanguageModelSettings
from lstmkit.look import ExampleSequence
from lstmkit.plots.style import note_selection
from lstmkit.plots.text import surprisal_figure
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section

_SAMPLED_LINES = 1000  # validation lines that are scored while the model trains


class LanguageModel(LanguageModelSettings, Job[LanguageModelPredictor]):
    """A language model of words, characters or subword units: scores and generates text.

    Data: a text file (UTF-8, gzipped or not), or a list of lines. A line end is a token too.
    The state is carried through the whole text in training (truncated backpropagation through time) and evaluation.

    Attributes:
        predictor: Tokenizer, network and neural cache.

    >>> lines = ["the cat sat on the mat"] * 40
    >>> model = LanguageModel(epochs=2, hidden_size=8, batch_size=2, bptt_steps=5).fit(lines)
    >>> len(model.generate("the cat", max_tokens=3).tokens)
    3
    """

    predictor_class = LanguageModelPredictor
    data_formats = (TEXT_FILE,)
    live_inputs = ("lines",)

    _train_split: Text | None = None  # neither this nor its stream is saved
    _train_stream: TokenStream | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """Splits text into tokens. Raises UserError before ``fit``."""
        return self.predictor.tokenizer

    # ---- fit -----------------------------------------------------------------------------------------------------

    def read(self, data: Any) -> Text:
        if self.tie_weights and self.cutoffs:
            raise SettingError("cutoffs do not work with tied weights: give tie_weights=False")
        if self.hidden_size < 4 ** len(self.cutoffs):
            raise SettingError(
                f"{len(self.cutoffs)} cutoffs need a hidden_size of at least {4 ** len(self.cutoffs)}, "
                f"got {self.hidden_size}"
            )
        if self.cache_size and self.ensemble_size > 1:
            raise SettingError("the neural cache works with a single model: give ensemble_size=1 or cache_size=0")
        return read_text(data)

    def split(self, examples: Text, validation: Text | None) -> DataSplit:
        """Training, validation and test splits, in the order of the text."""
        count = len(examples)
        valid_fraction = self.valid_fraction if validation is None else 0.0
        valid, test = holdout_sizes(count, "line", examples.name, valid_fraction, self.test_fraction)
        valid_part = examples.slice(count - test - valid, count - test) if valid else validation
        test_part = examples.slice(count - test, count) if test else None
        return DataSplit(examples.slice(0, count - test - valid), valid_part, test_part)

    def prepare(self, train: Text) -> LanguageModelPredictor:
        """A predictor with the vocabulary and the unigram counts of the training split."""
        tokenizer = Tokenizer.fit(
            train,
            self.tokenization,
            vocab_size=self.vocab_size,
            min_count=self.min_count,
            lowercase=self.lowercase,
            special_tokens=() if self.tokenization in ("chars", "bpe") else (END,),
            progress=self.progress,
            num_lines=len(train),
        )
        cutoffs = list(self.cutoffs)
        if cutoffs and (sorted(set(cutoffs)) != cutoffs or cutoffs[-1] >= len(tokenizer)):
            raise SettingError(
                f"cutoffs must rise and stay below the vocabulary size of {len(tokenizer)}, got {self.cutoffs}"
            )
        self._train_split, self._train_stream = train, TokenStream.read(train, tokenizer, self.progress)
        counts = token_counts(self._train_stream.ids, len(tokenizer))
        return LanguageModelPredictor(self.snapshot(), tokenizer, counts)

    def source(self, examples: Text) -> TokenStream:
        if self._train_stream is not None and examples is self._train_split:
            return self._train_stream
        return self.predictor.read_stream(examples, self.progress)

    def batches(self, source: TokenStream, seed: int | None) -> Batches:
        steps = 0 if seed is None else self.steps_per_epoch
        return TokenStreamLoader(source.ids, self.batch_size, self.bptt_steps, seed, steps)

    def sample(self, examples: Text) -> Text:
        """The first lines: a model reads them in order."""
        return examples.slice(0, _SAMPLED_LINES)

    def calibrate(self, valid: Text | None) -> None:
        """Choose weight and theta of the neural cache on the validation split."""
        if self.cache_size and valid is not None:
            predictor = self.predictor
            ids = predictor.with_line_start(self.source(valid).ids)
            predictor.cache = metrics.choose_cache(
                predictor.network, ids, self.cache_size, predictor.device, self.progress
            )

    # ---- generated text ------------------------------------------------------------------------------------------

    def generate(
        self,
        prompt: str = "",
        max_tokens: int = 100,
        *,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str = "",
    ) -> Continuation:
        """Generate text after a prompt.

        Args:
            prompt: May be empty: then the text starts a line.
            max_tokens: Maximum number of generated tokens.
            temperature: Temperature of the softmax: below 1 more predictable, above 1 more varied; 0 = always the most
                probable token.
            top_k: Sample from the ``top_k`` most probable tokens only; 0 = all.
            top_p: Sample from the fewest tokens whose probabilities sum to ``top_p`` (nucleus sampling).
            seed: Random seed of the sampling.
            stop: Text that ends the generation.

        Raises:
            SettingError: An option is out of range.
        """
        options = SamplingOptions(max_tokens, temperature, top_k, top_p, seed, stop)
        return self._generate([prompt], options)[0]

    def predict(
        self,
        data: Any,
        *,
        max_tokens: int = 100,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str = "",
    ) -> list[Continuation]:
        """Generate text after each line of a file or list of prompts.

        Args:
            data: A file with a prompt per line, or a list of prompts.
            max_tokens: Maximum number of generated tokens.
            temperature: Temperature of the softmax; 0 = always the most probable token.
            top_k: Sample from the ``top_k`` most probable tokens only; 0 = all.
            top_p: Sample from the fewest tokens whose probabilities sum to ``top_p``.
            seed: Random seed of the sampling.
            stop: Text that ends the generation.

        Raises:
            SettingError: An option is out of range.
            DataError: The prompts cannot be read.
        """
        options = SamplingOptions(max_tokens, temperature, top_k, top_p, seed, stop)
        return self._generate(data if isinstance(data, (list, tuple)) else read_text(data), options)

    def _generate(self, prompts: Any, options: SamplingOptions) -> list[Continuation]:
        predictor = self.predictor
        options.check()
        prompts = list(prompts)
        for number, prompt in enumerate(prompts, 1):
            if not isinstance(prompt, str):
                raise DataError(f"prompt {number} is {type(prompt).__name__} {prompt!r}: give prompts as text")
        return generate_continuations(predictor, prompts, options)

    def exported(self) -> JobExport:
        return exported_language_model(self.predictor)

    def to_text(self, predictions: list[Continuation]) -> str:
        return "\n\n".join(full_text(continuation, self.tokenizer) for continuation in predictions)

    def to_records(self, predictions: list[Continuation]) -> list[dict[str, Any]]:
        return [asdict(continuation) for continuation in predictions]

    def plot(self, data: Any, predictions: list[Continuation]) -> Figure:
        """The first generated text, each token shaded by its surprisal."""
        first = predictions[0]
        figure = surprisal_figure([visible_token(token) for token in first.tokens], first.surprisal)
        return note_selection(figure, len(predictions), "texts")

    # ---- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(
        self,
        data: Any,
        *,
        cache_size: int = -1,
        dynamic_eval_lr: float = -1.0,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Perplexity and bits per character of a text that the model was not fitted to, next to n-gram baselines.

        The n-grams are counted in the training split. They are not saved: load the model with ``train``.

        Args:
            data: A text.
            cache_size: Size of the neural cache in tokens, with the weight and theta that fit chose; 0 for none, -1 for
                the setting.
            dynamic_eval_lr: Learning rate of dynamic evaluation; 0 for none, -1 for the setting.
            progress: Where to report progress.

        Raises:
            SettingError: The model was fitted without a cache.
        """
        predictor = self.predictor
        cache, lr = predictor.cache, dynamic_eval_lr if dynamic_eval_lr >= 0 else predictor.settings.dynamic_eval_lr
        if cache_size >= 0:
            if cache_size and cache is None:
                raise SettingError(
                    "cache_size needs a cache that was tuned on the validation split: fit with cache_size above 0"
                )
            cache = cache._replace(size=cache_size) if cache is not None and cache_size else None
        text, progress = self.read(data), progress or default_progress()
        return metrics.evaluate_text(predictor, text, self._train_stream, progress, cache, lr)

    def evaluate_examples(self, test: Text, progress: Progress) -> Evaluation:
        predictor = self.predictor
        lr = predictor.settings.dynamic_eval_lr
        return metrics.evaluate_text(predictor, test, self._train_stream, progress, predictor.cache, lr)

    def report_sections(self, examples: Text) -> list[Section]:
        return report.report_sections(self.predictor, self.full_evaluation, self._train_stream)

    def example_sequences(self, data: Any, line: int = 1) -> list[ExampleSequence]:
        """Sequences of 200 tokens of a text, from ``line`` (from 1) on."""
        predictor = self.predictor
        return example_sequences.example_sequences(predictor, self.read(data), line)
