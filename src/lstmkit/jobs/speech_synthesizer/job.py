"""Speech synthesis: a text is read in both directions, attended to from left to right, and spoken frame by frame."""

from __future__ import annotations

import os
from dataclasses import field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure

from lstmkit.data.audio.griffin_lim import mel_to_audio
from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.data.audio.tts_corpus import CORPUS_SUFFIXES, SpeechCorpus, read_speech_corpus
from lstmkit.data.text.text_pairs import MessageWording, TextPairDataset, read_sources
from lstmkit.data.text.tokenizer import END, PAD, UNKNOWN, Tokenizer
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.common.splitting import random_split
from lstmkit.jobs.common.token_labels import annotations, shown
from lstmkit.jobs.speech_synthesizer import metrics as scoring
from lstmkit.jobs.speech_synthesizer import report
from lstmkit.jobs.speech_synthesizer.baselines import Takes
from lstmkit.jobs.speech_synthesizer.plots import speech_figure
from lstmkit.jobs.speech_synthesizer.synthesis import (
    SpectrogramScaler,
    Speech,
    loaded,
    max_decoder_steps,
    pad_to_decoder_steps,
    say,
    teacher_forced,
    write_speech,
)
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.models.tacotron import Tacotron, TacotronDecoder, Weights
from lstmkit.modules.attention import LocationAttention
from lstmkit.modules.encoders import PreNet, TokenEncoder
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class

_MOST_LOOKS = 8  # texts that are looked at
_MAX_LOG_POWER = 100.0  # of power, or its deviation: far beyond any sound
_WORDING = MessageWording("speak", "speaking", "recording", "texts and their recordings")


@settings_class
class SpeechSynthesizer(Job):
    """Learn to speak from recordings of one voice and their texts; say other texts, as WAV.

    Data to fit or evaluate: a folder or .zip of sounds (any format and rate) with ``metadata.csv`` as LJSpeech has it
    (``id|text|normalised text``), a table with the columns ``path`` and ``text``, or ``a.txt`` beside ``a.wav``; from
    Python ``(sounds, texts)``. To predict: a text file, of which each line is said, or lines.

    >>> hum = [0.5 * np.sin(np.arange(1600) / k) for k in (3, 5)] * 10
    >>> speaker = SpeechSynthesizer(epochs=1, rate=8000, bands=20, hidden_size=8, rounds=2)
    >>> speaker = speaker.fit((hum, ["ah", "oh"] * 10))
    >>> one, other = speaker.predict(["oh", "ah!"])
    >>> one.rate, other.unknown
    (8000, ('!',))
    """

    name: ClassVar[str] = "speech_synthesizer"
    summary: ClassVar[str] = "Speak texts (WAV) in a voice learnt from recordings, beside recordings of their words."

    rate: int = setting("samples a second; recordings of another are brought to it", default=22_050, low=4_000,
                        high=96_000)  # fmt: skip
    bands: int = setting("of the mel scale, up to half the rate", default=80, low=4, high=256)
    window: float = setting("length of a frame, in seconds", default=0.05, low=0.005, high=0.5)
    hop: float = setting("from one frame to the next, in seconds", default=0.0125, low=0.001, high=0.1)
    trim: float = setting("what is so many dB quieter than a recording's loudest moment is cut off at its ends; 0 for "
                          "nothing", default=40.0, low=0, high=120)  # fmt: skip
    longest: float = setting("seconds of a recording: longer ones are not trained on, and no more is said",
                             default=12.0, low=0.01, high=120)  # fmt: skip
    lower: bool = setting("read everything in lower case", default=True)
    together: int = setting("frames that are told in a step (Tacotron's reduction factor)", default=3, low=1, high=20)
    embed_size: int = setting("width of a character's vector; 0 for hidden_size", default=0, low=0)
    hidden_size: int = setting("units in a layer; of the reader in each direction", default=128, low=1)
    prenet_size: int = setting("width of the two layers that hear the frame before", default=64, low=1)
    prenet_dropout: float = setting("share of their units hidden in training", default=0.5, low=0, high=0.95)
    attention_size: int = setting("width inside the attention", default=64, low=1)
    attention_width: int = setting("characters around each of which the attention sees whether it was there already, "
                                   "an odd number", default=15, low=1, high=301)  # fmt: skip
    guided: float = setting("weight of the penalty on attention far from the diagonal; 0 for none", default=1.0, low=0)
    guide: float = setting("how wide the diagonal is, as a share of the text", default=0.2, low=0.01, high=10)
    rounds: int = setting("of Griffin-Lim, which finds the phases", default=60, low=1, high=10_000)
    epochs: int = setting("passes at most", default=200, low=1)
    batch_size: int = setting("recordings in a step", default=32, low=1)
    lr: float = setting("peak learning rate", default=2e-3, low=0)
    average: float = setting("decay of the moving average of weights that is kept; 0 for none", default=0.999, low=0,
                             high=1)  # fmt: skip
    patience: int = setting("epochs without a better validation loss before stopping; 0 for never", default=20, low=0)
    valid_share: float = setting("share of the recordings to validate on", default=0.1, low=0, high=0.5)
    test_share: float = setting("share held out for the test", default=0.1, low=0, high=0.5)

    _tokens: Tokenizer | None = field(default=None, init=False, repr=False)
    _scale: SpectrogramScaler | None = field(default=None, init=False, repr=False)
    _pace: tuple[float, float] = field(default=(0.0, 0.0), init=False, repr=False)  # frames a token: mean, most
    _takes: Takes | None = field(default=None, init=False, repr=False)  # not saved
    _too_long: int = field(default=0, init=False, repr=False)
    _trained_on: SpeechCorpus | None = field(default=None, init=False, repr=False)  # not saved

    @property
    def mel(self) -> LogMelSpectrogram:
        """How sounds become frames."""
        return LogMelSpectrogram(self.rate, self.bands, self.window, self.hop)

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> SpeechCorpus:
        if self.hop > self.window / 2:
            raise SettingError(
                f"hop must be at most half of window, so that no sound is lost between frames; got {self.hop:g} of "
                f"{self.window:g}"
            )
        return read_speech_corpus(data, self.rate, self.trim)

    def split(self, examples: SpeechCorpus, validation: SpeechCorpus | None) -> DataSplit:
        """At random, by the seed."""
        return random_split(examples, validation, "recording", self.valid_share, self.test_share, self.seed)

    def prepare(self, train: SpeechCorpus) -> None:
        """Of the training part: its characters, how loud the bands are, how fast it is spoken."""
        self._trained_on = train
        self._tokens = Tokenizer.fit(train.texts, "chars", lower=self.lower, special=(PAD, END))
        frames = self._frames(train)
        self._scale = SpectrogramScaler.fit(frames)
        self._takes = Takes(train.texts, [self._scale.clipped(one) for one in frames])
        pace = [len(one) / len(ids) for one, ids in zip(frames, self._encoded(train.texts), strict=True)]
        self._pace = float(np.mean(pace)), float(max(pace))

    def _frames(self, examples: SpeechCorpus) -> list[np.ndarray]:
        return [self.mel.frames(sound) for sound in examples.sounds]

    def _encoded(self, texts: Any) -> list[np.ndarray]:
        """Of each text the numbers of the characters that are known, and of its end."""
        unknown, end = self.tokens[UNKNOWN], self.tokens[END]
        return [np.array([*(i for i in ids if i != unknown), end]) for ids in self.tokens.encode(texts)]

    def source(self, examples: SpeechCorpus) -> TextPairDataset:
        """Texts and frames, filled up with silence to whole steps; of the training part none beyond ``longest``."""
        rows = range(len(examples))
        if examples is self._trained_on:
            rows = [i for i in rows if examples.sounds[i].seconds <= self.longest]
            self._too_long = len(examples) - len(rows)
            if not rows:
                raise DataError(f"{examples.name}: every recording is longer than {self.longest:g} s: raise longest")
            if self._too_long:
                self._progress.say(f"{self._too_long:,} recordings of more than {self.longest:g} s are left out")
        kept = examples.part(rows)
        frames = [pad_to_decoder_steps(one, self.together, self.scale.floor) for one in self._frames(kept)]
        return TextPairDataset(self._encoded(kept.texts), [self.scale.scaled(one) for one in frames])

    @property
    def too_long(self) -> int:
        """Recordings of the training part that were not trained on."""
        return self._too_long

    @property
    def tokens(self) -> Tokenizer:
        """What cuts texts into characters."""
        assert self._tokens is not None
        return self._tokens

    @property
    def pace(self) -> tuple[float, float]:
        """Frames for a character in the training part: the mean over its recordings, and of the slowest."""
        return self._pace

    @property
    def scale(self) -> SpectrogramScaler:
        """How loud each band is."""
        assert self._scale is not None
        return self._scale

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        if self.attention_width % 2 == 0:
            raise SettingError(f"attention_width must be odd, as many before as behind; got {self.attention_width}")
        width, size = self.embed_size or self.hidden_size, self.hidden_size
        stack = {"dropout": self.dropout, "variational": True}
        encoder = TokenEncoder(len(self.tokens), width)
        trunk = build_trunk(self.cell, width, size, num_layers=self.num_layers, bidirectional=True, **stack)
        keys = trunk.output_size
        lower = build_trunk(self.cell, self.prenet_size, size, num_layers=self.num_layers, **stack)
        decoder = TacotronDecoder(
            PreNet(self.bands, self.prenet_size, self.prenet_dropout),
            lower,
            LocationAttention(size, keys, self.attention_size, self.attention_width),
            build_trunk(self.cell, size + keys, size, num_layers=1),
            keys,
            self.bands,
            self.together,
        )
        return Tacotron(encoder, trunk, decoder, self.dropout, Weights(guided=self.guided, guide=self.guide))

    def calibrate(self, valid: SpeechCorpus | None) -> None:
        """Nothing: no probability is told."""

    # ---- speaking ------------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, transcriber: Any = "", progress: Progress | None = None) -> list[Speech]:
        """Say each line of ``data``; of recordings with their texts the texts. The same text always sounds the same.

        Characters that were never heard in training are left out and named; a text of which nothing is left is not
        said. What does not end by itself is cut off: after twice as long as the slowest recording that was learnt,
        character by character, and after ``longest`` seconds.

        Args:
            data: A text file, lines, or what :meth:`read` takes.
            transcriber: Whom to ask what is heard: a run folder, or an object with ``predict(sounds)``.
            progress: Whom to tell.

        Raises:
            DataError: There is no such file, or a text has no known character.
        """
        self.model  # noqa: B018  (says so if there is none)
        texts = self._texts(data)
        for i, text in enumerate(texts, 1):
            if not self.has_known_character(text):
                known = "".join(sorted(token for token in self.tokens.known() if len(token) == 1 and token.strip()))
                raise DataError(f"text {i} has no character that was heard in training: give some of {known}")
        every = self._encoded(texts)
        frames = self.longest * self.rate / self.mel.step
        limits = max_decoder_steps(every, self._pace[1], frames, self.together)
        said = say(self.model, every, limits, self.batch_size, self._device(), progress)
        found = []
        for text, ids, one in zip(texts, every, said, strict=True):
            told = self.scale.unscale(one.frames)
            names = tuple("∎" if token == END else token for token in self.tokens.tokens(ids.tolist()))
            unknown = tuple(self.tokens.unknown(text))
            samples = mel_to_audio(self.mel, told, self.rounds)
            found.append(Speech(text, samples, self.rate, told, names, one.attention, one.stopped, unknown))
        return self._heard(found, transcriber) if transcriber else found

    def has_known_character(self, text: str) -> bool:
        """Whether it has a character that was heard in training."""
        return any(ids.size > 1 for ids in self._encoded([text]))

    def _texts(self, data: Any) -> list[str]:
        """What is to be said."""
        if self.has_recordings(data):
            return list(self.read(data).texts)
        lines = [" ".join(line.split()) for line in read_sources(data, wording=_WORDING)]
        texts = [line for line in lines if line]
        if not texts:
            raise DataError("there is nothing to speak: every line is blank")
        return texts

    @staticmethod
    def has_recordings(data: Any) -> bool:
        """Whether that is recordings with their texts, and not texts alone."""
        if isinstance(data, (str, os.PathLike)):
            return Path(data).is_dir() or Path(data).suffix.lower() in CORPUS_SUFFIXES
        return isinstance(data, SpeechCorpus) or (
            isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], (list, tuple))
        )

    def _heard(self, said: list[Speech], transcriber: Any) -> list[Speech]:
        heard, _ = scoring.understood([one.sound for one in said], [one.text for one in said], loaded(transcriber))
        return [replace(one, heard=text) for one, text in zip(said, heard, strict=True)]

    def text(self, answer: list[Speech]) -> str:
        """A line for each: how long, the text, and what must be known of it."""
        return "\n".join(one.line() for one in answer)

    def write(self, answer: list[Speech], path: Path) -> None:
        """A WAV file, or a zip of WAV files for several texts; with any other ending, the text."""
        if not write_speech(answer, path):
            super().write(answer, path)

    def records(self, answer: list[Speech]) -> list[dict[str, Any]]:
        return [
            {
                "text": one.text,
                "seconds": one.seconds,
                "rate": one.rate,
                "stopped": one.stopped,
                "unknown": list(one.unknown),
                **({} if one.heard is None else {"heard": one.heard}),
                "tokens": list(one.tokens),
                "attention": [[round(float(w), 4) for w in row] for row in one.attention],
                "samples": [round(float(x), 5) for x in one.samples],
            }
            for one in answer
        ]

    def picture(self, data: Any, answer: list[Speech]) -> Figure:
        """The first text: its spectrum over time, and what was attended to."""
        return self.plot_speech(answer[0])

    def plot_speech(self, one: Speech, recorded: np.ndarray | None = None) -> Figure:
        """What was said over time; above it a recording of the same, ``(T, F)``, if there is one."""
        spectra = {} if recorded is None else {"recorded": recorded}
        seconds = self.mel.step / self.rate
        labels = [shown(token) for token in one.tokens]
        return speech_figure({**spectra, "said": one.frames}, seconds, labels, one.attention, one.text)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """How near what it says is to recordings that fit was not given, beside recordings of their words.

        The recordings of words need an object that was fitted: a loaded model has none.
        """
        self.model  # noqa: B018
        return self.score(self.read(data), progress or default_progress())

    def score(self, test: SpeechCorpus, progress: Progress) -> Evaluation:
        return scoring.evaluated(self, test, self._takes, progress)

    def round_trip(self, data: Any, transcriber: Any, *, progress: Progress | None = None) -> Evaluation:
        """What a transcriber understands of what is said, and where recordings are given of these.

        Args:
            data: As of :meth:`predict`.
            transcriber: A run folder, or an object with ``predict(sounds)`` that gives for each :class:`AudioClip`
                something with a ``text``.
            progress: Whom to tell.
        """
        return scoring.round_trip(self, data, loaded(transcriber), progress)

    def teacher_forced(self, source: TextPairDataset, progress: Progress) -> list[np.ndarray]:
        """``(T, F)``, scaled: what is told of each where the true frames before every step are heard."""
        return teacher_forced(self.model, source, self.batch_size, self._device(), progress)

    def sections(self, examples: SpeechCorpus) -> list[Section]:
        return report.sections(self, examples)

    def example_sequences(self, data: Any, line: int = 1) -> list[ExampleSequence]:
        """Texts as they are read, the one at ``line`` (from 1) first."""
        self.model  # noqa: B018
        texts = self._texts(data)
        if not 1 <= line <= len(texts):
            raise DataError(f"there is no line {line}: the data have 1 to {len(texts)}")
        return [self._specimen(text) for text in texts[line - 1 :][:_MOST_LOOKS]]

    def _specimen(self, text: str) -> ExampleSequence:
        (ids,) = self._encoded([text])
        tokens = self.tokens.tokens(ids.tolist())
        device = next(self.network.parameters()).device
        return ExampleSequence(
            torch.from_numpy(ids).unsqueeze(0).to(device),
            name=text,
            labels=[shown(token) for token in tokens],
            annotations=annotations(tokens),
        )

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        both = {"means": self.scale.means, "widths": self.scale.widths}
        scale = {name: " ".join(map(repr, values.tolist())) for name, values in both.items()}
        return {"tokens": self.tokens.to_json(), **scale, "floor": self.scale.floor, "pace": list(self._pace)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._tokens = Tokenizer("chars", state["tokens"])
        means, widths = (np.array([float(x) for x in state[name].split()]) for name in ("means", "widths"))
        floor, (mean, most) = float(state["floor"]), map(float, state["pace"])
        if any(token not in self._tokens for token in (UNKNOWN, PAD, END)):
            raise ValueError("its vocabulary has no end of a text")
        numbers = np.array([*means, *widths, floor, mean, most])
        if len(means) != self.bands or len(widths) != self.bands or not np.isfinite(numbers).all():
            raise ValueError("its frames are not those of its bands")
        if not ((widths > 0).all() and 0 < mean <= most and np.abs(numbers[:-2]).max() < _MAX_LOG_POWER):
            raise ValueError("it has no pace, or bands that no sound has")
        self._scale, self._pace = SpectrogramScaler(means, widths, floor), (mean, most)
