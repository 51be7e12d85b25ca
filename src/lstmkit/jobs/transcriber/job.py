"""Transcription of audio, images of text lines and pen strokes with CTC."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lstmkit.data.text.bidi import LEFT_TO_RIGHT, main_direction
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.data.transcripts import FORMATS, Columns, Transcripts, is_audio_path, read_transcripts
from lstmkit.decoding.transcription import CTCDecoder, Transcription, to_record
from lstmkit.errors import DataError, SettingError, listing
from lstmkit.export.graphs import JobExport
from lstmkit.frontends.log_mel import LogMelFrontEnd
from lstmkit.jobs import load
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.splitting import looked_at, random_split
from lstmkit.jobs.common.token_labels import visible_token as shown_token
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.transcriber import metrics, report
from lstmkit.jobs.transcriber.export import exported_transcriber
from lstmkit.jobs.transcriber.fine_tuning import PretrainedWeights
from lstmkit.jobs.transcriber.language_model_fusion import character_lm_scorer, opened_language_model
from lstmkit.jobs.transcriber.predictor import SETTING_GROUPS, TranscriberPredictor, build_front_end, displayed
from lstmkit.jobs.transcriber.settings import TranscriberSettings
from lstmkit.jobs.transcriber.streaming import StreamingTranscript
from lstmkit.layers.quantization import has_int8_weights
from lstmkit.look.traces import ExampleSequence
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.training.random_state import seeded


class Transcriber(TranscriberSettings, Job[TranscriberPredictor]):
    """Transcribe audio, images of text lines, feature sequences or pen strokes.

    Data: a folder or ``.zip`` of audio files or images, each with a text file of the same name, a table of paths and
    texts, an ``.npz`` of features or strokes, or ``(inputs, texts)``; see ``read_transcripts``.

    >>> rng = np.random.default_rng(0)
    >>> texts = ["".join(rng.choice(list("ab "), 4)).strip() + "a" for _ in range(60)]
    >>> features = [np.concatenate([np.tile(np.eye(4)["ab ".index(c)], (4, 1)) for c in text]) for text in texts]
    >>> job = Transcriber(hidden_size=16, feature_size=16, strides=(2,), epochs=20, lr=0.02, spec_augment_masks=0,
    ...                   batch_size=8)
    >>> job.fit((features, texts)).predict([np.tile(np.eye(4)[:1], (4, 1))])[0].text
    'a'
    """

    predictor_class = TranscriberPredictor
    data_formats = FORMATS
    live_inputs = ("microphone", "canvas")

    # ---- from file to predictor ----------------------------------------------------------------------------------

    def read(self, data: Any) -> Transcripts:
        if self.height % 4:
            raise SettingError(f"height must be a multiple of 4, got {self.height}")
        if self.mean_normalization and not self.bidirectional:
            raise SettingError(
                "mean_normalization needs the whole example, which a unidirectional model does not have: leave one out"
            )
        examples = read_transcripts(data, Columns(self.path_col, self.text_col, self.input_type))
        if self.is_fitted and examples.kind != self.predictor.front_end.kind:
            raise DataError(
                f"{examples.name} has {examples.kind}, but this model reads {self.predictor.front_end.kind}: give that"
            )
        return examples

    def split(self, examples: Transcripts, validation: Transcripts | None) -> DataSplit:
        """At random, by the seed."""
        self.check_group((SETTING_GROUPS[examples.kind],), examples.kind)
        for part in (examples, validation):
            if part is not None and not any(part.require_texts()):
                raise DataError(f"{part.name}: every text is empty: there is nothing to learn")
        if validation is not None and validation.kind != examples.kind:
            raise DataError(f"{validation.name} has {validation.kind}, {examples.name} {examples.kind}: give one kind")
        return random_split(examples, validation, "example", self.valid_fraction, self.test_fraction, self.seed)

    def prepare(self, train: Transcripts) -> TranscriberPredictor:
        """Alphabet and front end of the training split, or those of the run in ``init_from``."""
        texts = train.require_texts()
        most_frequent_text = Counter(texts).most_common(1)[0][0]
        if self.init_from:
            with seeded(self.seed):  # models are built; the caller's random state stays as it was
                before = load(self.init_from).predictor
                return self._initialized_from(before, train.kind, texts, most_frequent_text)
        reading_order = self._reading_order(train.kind, texts, LEFT_TO_RIGHT)
        front_end = build_front_end(self, train.kind, reading_order)
        front_end.fit(train.inputs, self.progress)
        alphabet = "".join(sorted(_displayed_characters(texts, reading_order)))
        return TranscriberPredictor(self.snapshot(), front_end, alphabet, most_frequent_text, reading_order)

    def _reading_order(self, kind: str, texts: Sequence[str], default: str) -> str:
        """Direction of the text lines; audio, features and strokes are in logical order."""
        if kind != "images":
            return ""
        return main_direction(texts, default) if self.reading_order == "auto" else self.reading_order

    def _initialized_from(
        self, pretrained_predictor: Any, kind: str, texts: Sequence[str], most_frequent_text: str
    ) -> TranscriberPredictor:
        """A predictor with the front end, weights and alphabet of an earlier run; new characters come last."""
        if not isinstance(pretrained_predictor, TranscriberPredictor) or pretrained_predictor.front_end.kind != kind:
            raise SettingError(f"{self.init_from} is not a transcriber of {kind}: give one")
        if has_int8_weights(pretrained_predictor.network):
            raise SettingError(f"{self.init_from} has weights in 8 bits, which do not learn: give the original run")
        for name in ("sample_rate", "n_mels", "mean_normalization"):
            value = getattr(pretrained_predictor.settings, name)
            if value != getattr(self, name):
                raise SettingError(f"{self.init_from} was fitted with {name}={value}: give the same")
        reading_order = self._reading_order(kind, texts, pretrained_predictor.reading_order or LEFT_TO_RIGHT)
        front_end = build_front_end(self, kind, reading_order)
        front_end.load_state(pretrained_predictor.front_end.state())
        new_characters = _displayed_characters(texts, reading_order) - {*pretrained_predictor.alphabet}
        alphabet = pretrained_predictor.alphabet + "".join(sorted(new_characters))
        predictor = TranscriberPredictor(self.snapshot(), front_end, alphabet, most_frequent_text, reading_order)
        pretrained = PretrainedWeights(self.init_from, dict(pretrained_predictor.network.state_dict()))
        pretrained.check(predictor.build())
        predictor.pretrained = pretrained
        return predictor

    def source(self, examples: Transcripts) -> TextPairDataset:
        return self.predictor.dataset(examples)

    def calibrate(self, valid: Transcripts | None) -> None:
        """The usual confidence on the validation split, for the warning of :meth:`predict`; confidences stay."""
        if valid is None:
            return
        transcriptions = self.predictor.transcribe(valid, CTCDecoder())
        confidences = [t.confidence for t in transcriptions if t.confidence is not None]
        self.predictor.usual_confidence = float(np.quantile(confidences, 0.05)) if confidences else 0.0

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, beam_size: int = 0, lm: Any = "", lm_weight: float = -1.0) -> list[Transcription]:
        """Transcribe examples; their texts are not needed.

        Audio of more than ``max_seconds`` is cut at pauses, or streamed by a unidirectional model. A single file may
        have any length. A warning names examples whose confidence is much lower than usual on the validation split.

        Args:
            data: What :meth:`read` takes.
            beam_size: Hypotheses that the search keeps; 0 for the setting.
            lm: Run folder of a character language model, or the model itself; empty for the setting.
            lm_weight: Weight of the language model; -1 for the setting.

        Raises:
            DataError: The data are not of the kind that the model reads.
            SettingError: The language model is not a character language model.
        """
        predictor = self.predictor
        decoder = self._ctc_decoder(beam_size, lm, lm_weight)
        if is_audio_path(data) and isinstance(predictor.front_end, LogMelFrontEnd):
            transcriptions = [predictor.transcribe_file(Path(data), decoder)]
        else:
            transcriptions = predictor.transcribe(self.read(data), decoder)
        warning = predictor.low_confidence(transcriptions)
        if warning:
            warnings.warn(warning, stacklevel=2)
        return transcriptions

    def _ctc_decoder(self, beam_size: int = 0, lm: Any = "", lm_weight: float = -1.0) -> CTCDecoder:
        settings = self.predictor.settings
        source = lm or settings.lm
        score = None
        if source:
            score = character_lm_scorer(opened_language_model(source), self.predictor.alphabet)
        weight = settings.lm_weight if lm_weight < 0 else lm_weight
        decoder = CTCDecoder(beam_size or settings.beam_size, score, weight, settings.insertion_bonus)
        decoder.check()
        return decoder

    def stream(self, sample_rate: int = 0, name: str = "stream") -> StreamingTranscript:
        """A transcript that grows with the audio: ``push(samples)``, then ``finish()``.

        Args:
            sample_rate: Hz of the samples to come; 0 for the setting.
            name: Name of the transcription.

        Raises:
            SettingError: The model reads in both directions, or does not read audio.
        """
        return self.predictor.stream(sample_rate, name)

    def to_text(self, predictions: list[Transcription]) -> str:
        """One line per example; with several, the name comes first."""
        if len(predictions) == 1:
            return predictions[0].text
        return "\n".join(f"{transcription.name}\t{transcription.text}" for transcription in predictions)

    def to_records(self, predictions: list[Transcription]) -> list[dict[str, Any]]:
        return [to_record(transcription) for transcription in predictions]

    def plot(self, data: Any, predictions: list[Transcription]) -> Figure:
        """The first example and the position of each character."""
        figure = report.alignment_figure(self.predictor, self.read(data), predictions[0], 0)
        return note_selection(figure, len(predictions), "examples")

    def exported(self) -> JobExport:
        return exported_transcriber(self.predictor)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        data: Any,
        *,
        beam_size: int = 0,
        lm: Any = "",
        lm_weight: float = -1.0,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Character and word error rates, compared with the most frequent training text and the empty text.

        Args:
            data: Examples with their texts.
            beam_size: Hypotheses that the search keeps; 0 for the setting.
            lm: Run folder of a character language model, or the model itself; empty for the setting.
            lm_weight: Weight of the language model; -1 for the setting.
            progress: Where to report progress.

        Raises:
            DataError: A text is missing, or all are empty.
            SettingError: The language model is not a character language model.
        """
        self.check_fitted()
        decoder = self._ctc_decoder(beam_size, lm, lm_weight)
        return self._score(self.read(data), decoder, progress or default_progress())

    def evaluate_examples(self, test: Transcripts, progress: Progress) -> Evaluation:
        return self._score(test, self._ctc_decoder(), progress)

    def _score(self, test: Transcripts, decoder: CTCDecoder, progress: Progress) -> Evaluation:
        references = test.require_texts()
        if not any(references):
            raise DataError(f"{test.name}: every text is empty: there is nothing to score")
        predictor, name = self.predictor, self.cell.upper()
        transcriptions = predictor.transcribe(test, decoder, progress)
        texts = {decoder.row_name(name): [transcription.text for transcription in transcriptions]}
        if decoder.beam_size > 1:
            greedy = predictor.transcribe(test, CTCDecoder(), progress)
            texts[f"{name}, greedy"] = [transcription.text for transcription in greedy]
        texts |= {"most frequent text": [predictor.most_frequent_text] * len(test), "empty text": [""] * len(test)}
        rows = [{"model": model, **metrics.scores(of_model, references)} for model, of_model in texts.items()]
        displays = [displayed(text, predictor.reading_order) for text in references]
        unknown = Counter(c for text in displays for c in text if c not in predictor.alphabet)
        notes = [f"{len(test):,} examples, {sum(map(len, references)):,} characters. {metrics.signature()}"]
        if unknown:
            notes.append(
                f"Characters that are not in the training data count as errors: {unknown.total()} "
                f"({listing(shown_token(c) for c in unknown)})."
            )
        return Evaluation(
            pd.DataFrame(rows),
            dict(metrics.METRIC_DIRECTIONS),
            pd.DataFrame({"example": list(test.ids), "text": references} | texts),
            tuple(notes),
            outputs=(test, transcriptions),
            examples=metrics.scored_examples(next(iter(texts.values())), references),
        )

    def report_sections(self, examples: Transcripts) -> list[Section]:
        return report.sections(self.predictor, self.full_evaluation, examples)

    def example_sequences(self, data: Any, example: int = 1) -> list[ExampleSequence]:
        """Examples, number ``example`` (from 1) first."""
        self.check_fitted()
        examples = self.read(data)
        rows = looked_at(example, examples, "example")
        return [_example_sequence(self.predictor, examples, row) for row in rows]


def _displayed_characters(texts: Sequence[str], reading_order: str) -> set[str]:
    return {character for text in texts for character in displayed(text, reading_order)}


def _example_sequence(predictor: TranscriberPredictor, examples: Transcripts, row: int) -> ExampleSequence:
    network, alphabet = predictor.network, predictor.alphabet
    (encoded,) = predictor.front_end.encode([examples.inputs[row]], [examples.ids[row]])
    inputs = torch.from_numpy(encoded).unsqueeze(0).to(next(network.parameters()).device)
    with torch.no_grad():
        log_p = network.eval()(inputs)[0][0]
    best = log_p.argmax(1).tolist()
    step = int(log_p[:, 1:].amax(1).argmax())
    which = 1 + int(log_p[step, 1:].argmax())
    characters = ["·" if i == 0 else shown_token(alphabet[i - 1]) for i in best]

    def most_certain(output: Tensor) -> Tensor:
        return output[0, step, which]

    return ExampleSequence(
        inputs,
        name=examples.ids[row],
        labels=characters,
        values=encoded.mean(axis=1),
        annotations={"character": np.array(characters)},
        answers={f"log p of {shown_token(alphabet[which - 1])!r} at step {step + 1}": most_certain},
    )
