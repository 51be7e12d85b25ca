"""Speech synthesis with a Tacotron: a bidirectional encoder, attention, and a decoder of mel frames."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from lstmkit.data.audio.tts_corpus import CORPUS_SUFFIXES, FORMATS, SpeechCorpus, read_speech_corpus
from lstmkit.data.text.lines import read_prompts
from lstmkit.data.text.text_pairs import MessageWording, TextPairDataset, read_sources
from lstmkit.errors import DataError, SettingError
from lstmkit.export.graphs import JobExport
from lstmkit.jobs import load
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.splitting import random_split
from lstmkit.jobs.common.token_labels import annotations, visible_token
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.speech_synthesizer import metrics, report
from lstmkit.jobs.speech_synthesizer.baselines import RecordedWords
from lstmkit.jobs.speech_synthesizer.export import exported_speech_synthesizer
from lstmkit.jobs.speech_synthesizer.predictor import SpeechPredictor
from lstmkit.jobs.speech_synthesizer.results import Speech, write_speech
from lstmkit.jobs.speech_synthesizer.settings import SpeechSettings
from lstmkit.look.traces import ExampleSequence
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section

_MAX_INSPECTED = 8  # texts
_WORDING = MessageWording("speak", "speaking", "recording", "texts and their recordings")


class SpeechSynthesizer(SpeechSettings, Job[SpeechPredictor]):
    """Learn a voice from recordings and their texts, and synthesize other texts as WAV.

    Data to fit or evaluate: a folder or .zip of audio clips (any format and sample rate) with ``metadata.csv`` as in
    LJSpeech (``id|text|normalized text``), a table with the columns ``path`` and ``text``, or ``a.txt`` next to
    ``a.wav``; in Python ``(clips, texts)``. To predict: a text file, one text per line, or a list of texts.

    >>> import numpy as np
    >>> hum = [0.5 * np.sin(np.arange(1600) / k) for k in (3, 5)] * 10
    >>> job = SpeechSynthesizer(epochs=1, sample_rate=8000, n_mels=20, hidden_size=8, griffin_lim_iterations=2)
    >>> first, second = job.fit((hum, ["ah", "oh"] * 10)).predict(["oh", "ah!"])
    >>> first.sample_rate, second.unknown
    (8000, ('!',))
    """

    predictor_class = SpeechPredictor
    data_formats = FORMATS
    live_inputs = ("lines",)
    answer_suffixes = (".wav", ".zip", ".txt")

    num_too_long: int = 0  # training recordings that were left out
    _words: RecordedWords | None = None  # training recordings by text; not saved
    _train_split: SpeechCorpus | None = None

    # ---- from file to predictor ----------------------------------------------------------------------------------

    def read(self, data: Any) -> SpeechCorpus:
        if self.hop_seconds > self.window_seconds / 2:
            raise SettingError(
                f"hop_seconds must be at most half of window_seconds; got {self.hop_seconds:g} of "
                f"{self.window_seconds:g}"
            )
        return read_speech_corpus(data, self.sample_rate, self.trim_db)

    def split(self, examples: SpeechCorpus, validation: SpeechCorpus | None) -> DataSplit:
        """At random, by the seed."""
        return random_split(examples, validation, "recording", self.valid_fraction, self.test_fraction, self.seed)

    def prepare(self, train: SpeechCorpus) -> SpeechPredictor:
        predictor = SpeechPredictor.fitted(self.snapshot(), train)
        frames = [predictor.scaler.clip(predictor.mel.frames(clip)) for clip in train.clips]
        self._train_split, self._words = train, RecordedWords(train.texts, frames)
        return predictor

    def source(self, examples: SpeechCorpus) -> TextPairDataset:
        """Texts and frames; recordings of the training split longer than ``max_seconds`` are left out."""
        if examples is self._train_split:
            rows = [i for i, clip in enumerate(examples.clips) if clip.seconds <= self.max_seconds]
            self.num_too_long = len(examples) - len(rows)
            if not rows:
                raise DataError(
                    f"{examples.name}: every recording is longer than {self.max_seconds:g} s: raise max_seconds"
                )
            if self.num_too_long:
                self.progress.say(f"{self.num_too_long:,} recordings of more than {self.max_seconds:g} s are left out")
            examples = examples.subset(rows)
        return self.predictor.dataset(examples)

    def calibrate(self, valid: SpeechCorpus | None) -> None:
        """Nothing to calibrate: there are no probabilities."""

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, transcriber: Any = "", progress: Progress | None = None) -> list[Speech]:
        """Synthesize each line of ``data``, or the texts of recordings. The same text always gives the same speech.

        Characters that are not in the training data are left out and listed. Speech without a stop token is cut off:
        after twice the duration of the slowest training recording, per character, and after ``max_seconds``.

        Args:
            data: A text file, a list of texts, or what :meth:`read` takes.
            transcriber: Transcribes the speech: a run folder, or an object with ``predict(clips)``.
            progress: Where to report progress.

        Raises:
            DataError: The file does not exist, or a text has no known character.
        """
        self.check_fitted()
        speech = self.predictor.synthesize(self._texts(data), progress)
        if not transcriber:
            return speech
        transcripts, _ = metrics.transcription_error(
            [utterance.clip for utterance in speech], [utterance.text for utterance in speech], _loaded(transcriber)
        )
        return [replace(utterance, transcript=text) for utterance, text in zip(speech, transcripts, strict=True)]

    def _texts(self, data: Any) -> list[str]:
        """The texts to synthesize."""
        if self.has_recordings(data):
            return list(self.read(data).texts)
        lines = [" ".join(line.split()) for line in read_sources(data, wording=_WORDING)]
        return read_prompts(lines, Path(data).name if isinstance(data, (str, os.PathLike)) else "")

    @staticmethod
    def has_recordings(data: Any) -> bool:
        """Whether the data are recordings with their texts, and not texts alone."""
        if isinstance(data, (str, os.PathLike)):
            return Path(data).is_dir() or Path(data).suffix.lower() in CORPUS_SUFFIXES
        return isinstance(data, SpeechCorpus) or (
            isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], (list, tuple))
        )

    def to_text(self, predictions: list[Speech]) -> str:
        """One line per text: duration, text and notes."""
        return "\n".join(speech.line() for speech in predictions)

    def write(self, predictions: list[Speech], path: Path) -> None:
        """Write a WAV file, or a zip of WAV files for several texts; with any other ending, the text."""
        if not write_speech(predictions, path):
            super().write(predictions, path)

    def to_records(self, predictions: list[Speech]) -> list[dict[str, Any]]:
        return [
            {
                "text": speech.text,
                "seconds": speech.seconds,
                "sample_rate": speech.sample_rate,
                "ended": speech.ended,
                "unknown": list(speech.unknown),
                **({} if speech.transcript is None else {"transcript": speech.transcript}),
                "tokens": list(speech.tokens),
                "attention": [[round(float(w), 4) for w in row] for row in speech.attention],
                "samples": [round(float(x), 5) for x in speech.samples],
            }
            for speech in predictions
        ]

    def plot(self, data: Any, predictions: list[Speech]) -> Figure:
        """Spectrogram and attention of the first text."""
        figure = self.predictor.plot(predictions[0])
        return note_selection(figure, len(predictions), "texts")

    def exported(self) -> JobExport:
        return exported_speech_synthesizer(self.predictor)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Distance of synthesized speech from held-out recordings, of model and baselines.

        Concatenated word recordings need the training recordings: load the model with ``train``.
        """
        self.check_fitted()
        return self.evaluate_examples(self.read(data), progress or default_progress())

    def evaluate_examples(self, test: SpeechCorpus, progress: Progress) -> Evaluation:
        return metrics.evaluate(self.predictor, test, self._words, progress)

    def round_trip_cer(self, data: Any, transcriber: Any, *, progress: Progress | None = None) -> Evaluation:
        """Character error rate of a transcriber on the synthesized speech, and on the recordings if there are any.

        Args:
            data: See :meth:`predict`.
            transcriber: A run folder, or an object whose ``predict(clips)`` gives for each :class:`AudioClip`
                something with a ``text``.
            progress: Where to report progress.
        """
        corpus = self.read(data) if self.has_recordings(data) else None
        speech = self.predict(data if corpus is None else corpus, progress=progress)
        return metrics.round_trip_cer(speech, None if corpus is None else corpus.clips, _loaded(transcriber))

    def report_sections(self, examples: SpeechCorpus) -> list[Section]:
        return report.sections(self.predictor, self.full_evaluation, examples, self.num_too_long)

    def example_sequences(self, data: Any, line: int = 1) -> list[ExampleSequence]:
        """Texts as the encoder reads them, number ``line`` (from 1) first."""
        self.check_fitted()
        texts = self._texts(data)
        if not 1 <= line <= len(texts):
            raise DataError(f"there is no line {line}: the data have 1 to {len(texts)}")
        return [_example_sequence(self.predictor, text) for text in texts[line - 1 :][:_MAX_INSPECTED]]


def _example_sequence(predictor: SpeechPredictor, text: str) -> ExampleSequence:
    (ids,) = predictor.encode([text])
    tokens = predictor.tokenizer.tokens(ids.tolist())
    device = next(predictor.network.parameters()).device
    return ExampleSequence(
        torch.from_numpy(ids).unsqueeze(0).to(device),
        name=text,
        labels=[visible_token(token) for token in tokens],
        annotations=annotations(tokens),
    )


def _loaded(transcriber: Any) -> Any:
    """The object itself, or the model in that run folder."""
    return load(transcriber) if isinstance(transcriber, (str, Path)) else transcriber
