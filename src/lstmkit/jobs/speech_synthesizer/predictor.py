"""What the speech synthesizer's ``fit`` leaves: tokenizer, spectrogram scale, speaking rate, network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from typing_extensions import Self

from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.data.audio.mel_inversion import mel_to_audio
from lstmkit.data.audio.tts_corpus import SpeechCorpus
from lstmkit.data.text.spoken_text import check_known_characters
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.data.text.tokenizer import END, PAD, UNKNOWN, Tokenizer
from lstmkit.errors import SettingError
from lstmkit.jobs.common.token_labels import visible_token
from lstmkit.jobs.predictor import Predictor
from lstmkit.jobs.speech_synthesizer.plots import speech_figure
from lstmkit.jobs.speech_synthesizer.results import Speech
from lstmkit.jobs.speech_synthesizer.settings import SpeechSettings
from lstmkit.jobs.speech_synthesizer.synthesis import (
    SpectrogramScaler,
    max_decoder_steps,
    pad_to_decoder_steps,
    synthesize,
    teacher_forced,
)
from lstmkit.models.base import Model
from lstmkit.models.tacotron import LossWeights, Tacotron, TacotronDecoder
from lstmkit.modules.attention import LocationAttention
from lstmkit.modules.encoders import PreNet, TokenEncoder
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress

_MAX_LOG_POWER = 100.0  # of power, or its deviation: far beyond any audio


class SpeechPredictor(Predictor[SpeechSettings]):
    """Synthesizes speech.

    Attributes:
        tokenizer: Splits texts into characters.
        scaler: Standardizes log-mel frames.
        frames_per_token: Frames per character in the training split: the mean over its recordings, and the maximum.
    """

    def __init__(
        self,
        settings: SpeechSettings,
        tokenizer: Tokenizer,
        scaler: SpectrogramScaler,
        frames_per_token: tuple[float, float],
    ) -> None:
        super().__init__(settings)
        self.tokenizer, self.scaler, self.frames_per_token = tokenizer, scaler, frames_per_token

    @classmethod
    def fitted(cls, settings: SpeechSettings, train: SpeechCorpus) -> Self:
        """Fit tokenizer, scale and speaking rate to the training split."""
        tokenizer = Tokenizer.fit(train.texts, "chars", lowercase=settings.lowercase, special_tokens=(PAD, END))
        mel = mel_of(settings)
        frames = [mel.frames(clip) for clip in train.clips]
        predictor = cls(settings, tokenizer, SpectrogramScaler.fit(frames), (0.0, 0.0))
        rates = [len(of) / len(ids) for of, ids in zip(frames, predictor.encode(train.texts), strict=True)]
        predictor.frames_per_token = float(np.mean(rates)), float(max(rates))
        return predictor

    @property
    def mel(self) -> LogMelSpectrogram:
        """Converts clips to log-mel frames."""
        return mel_of(self.settings)

    def build(self) -> Model:
        settings = self.settings
        if settings.attention_kernel_size % 2 == 0:
            raise SettingError(f"attention_kernel_size must be odd, got {settings.attention_kernel_size}")
        width, size = settings.embedding_size or settings.hidden_size, settings.hidden_size
        options = {"dropout": settings.dropout, "variational": True}
        layers = settings.num_layers
        encoder = TokenEncoder(len(self.tokenizer), width)
        trunk = build_trunk(settings.cell, width, size, num_layers=layers, bidirectional=True, **options)
        keys = trunk.output_size
        lower = build_trunk(settings.cell, settings.prenet_size, size, num_layers=layers, **options)
        decoder = TacotronDecoder(
            PreNet(settings.n_mels, settings.prenet_size, settings.prenet_dropout),
            lower,
            LocationAttention(size, keys, settings.attention_size, settings.attention_kernel_size),
            build_trunk(settings.cell, size + keys, size, num_layers=1),
            keys,
            settings.n_mels,
            settings.reduction_factor,
        )
        weights = LossWeights(guided=settings.guided_attention_weight, guide=settings.guided_attention_sigma)
        return Tacotron(encoder, trunk, decoder, settings.dropout, weights)

    # ---- encode --------------------------------------------------------------------------------------------------

    def encode(self, texts: Any) -> list[np.ndarray]:
        """Ids ``(S,)`` of the known characters of each text, and of its end."""
        unknown, end = self.tokenizer[UNKNOWN], self.tokenizer[END]
        return [np.array([*(i for i in ids if i != unknown), end]) for ids in self.tokenizer.encode(texts)]

    def dataset(self, corpus: SpeechCorpus) -> TextPairDataset:
        """Texts and standardized frames, padded with silence to whole decoder steps."""
        settings, mel = self.settings, self.mel
        frames = [
            pad_to_decoder_steps(mel.frames(clip), settings.reduction_factor, self.scaler.floor)
            for clip in corpus.clips
        ]
        return TextPairDataset(self.encode(corpus.texts), [self.scaler.scale(clip_frames) for clip_frames in frames])

    def has_known_character(self, text: str) -> bool:
        """Whether a character of the text is in the training data."""
        return any(ids.size > 1 for ids in self.encode([text]))

    # ---- synthesize ----------------------------------------------------------------------------------------------

    def synthesize(self, texts: Sequence[str], progress: Progress | None = None) -> list[Speech]:
        """Speech of each text.

        Raises:
            DataError: A text has no known character.
        """
        for i, text in enumerate(texts, 1):
            check_known_characters(self.has_known_character(text), i, self.tokenizer)
        settings, mel = self.settings, self.mel
        ids = self.encode(texts)
        max_frames = settings.max_seconds * settings.sample_rate / mel.hop_length
        limits = max_decoder_steps(ids, self.frames_per_token[1], max_frames, settings.reduction_factor)
        outputs = synthesize(self.model, ids, limits, settings.batch_size, self.device, progress)
        return [
            self._speech(text, of_text, output.frames, output.attention, output.ended)
            for text, of_text, output in zip(texts, ids, outputs, strict=True)
        ]

    def _speech(self, text: str, ids: np.ndarray, scaled: np.ndarray, attention: np.ndarray, ended: bool) -> Speech:
        settings, frames = self.settings, self.scaler.unscale(scaled)
        tokens = tuple("∎" if token == END else token for token in self.tokenizer.tokens(ids.tolist()))
        samples = mel_to_audio(self.mel, frames, settings.griffin_lim_iterations)
        unknown = tuple(self.tokenizer.out_of_vocabulary(text))
        return Speech(text, samples, settings.sample_rate, frames, tokens, attention, ended, unknown)

    def teacher_forced(self, source: TextPairDataset, progress: Progress) -> list[np.ndarray]:
        """Standardized frames ``(T, F)`` of each recording, predicted from the true frames before every step."""
        return teacher_forced(self.model, source, self.settings.batch_size, self.device, progress)

    def plot(self, speech: Speech, recorded: np.ndarray | None = None) -> Figure:
        """Spectrogram and attention of speech; above it a recording of the same text, ``(T, F)``, if given."""
        spectra = {} if recorded is None else {"recorded": recorded}
        seconds = self.mel.hop_length / self.settings.sample_rate
        labels = [visible_token(token) for token in speech.tokens]
        return speech_figure({**spectra, "synthesized": speech.frames}, seconds, labels, speech.attention, speech.text)

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        numbers = {"means": self.scaler.means, "widths": self.scaler.stds}
        scale = {name: " ".join(map(repr, values.tolist())) for name, values in numbers.items()}
        rates = list(self.frames_per_token)
        return {"tokens": self.tokenizer.to_json(), **scale, "floor": self.scaler.floor, "pace": rates}

    @classmethod
    def from_state(cls, settings: SpeechSettings, state: Mapping[str, Any]) -> Self:
        tokenizer = Tokenizer("chars", state["tokens"])
        means, stds = (np.array([float(x) for x in state[name].split()]) for name in ("means", "widths"))
        floor, (mean, most) = float(state["floor"]), map(float, state["pace"])
        if any(token not in tokenizer for token in (UNKNOWN, PAD, END)):
            raise ValueError("the vocabulary has no end token")
        numbers = np.array([*means, *stds, floor, mean, most])
        if len(means) != settings.n_mels or len(stds) != settings.n_mels or not np.isfinite(numbers).all():
            raise ValueError("the spectrogram scale does not fit n_mels")
        if not ((stds > 0).all() and 0 < mean <= most and np.abs(numbers[:-2]).max() < _MAX_LOG_POWER):
            raise ValueError("the spectrogram scale or the speaking rate is out of range")
        return cls(settings, tokenizer, SpectrogramScaler(means, stds, floor), (mean, most))


def mel_of(settings: SpeechSettings) -> LogMelSpectrogram:
    """The log-mel spectrogram with the settings."""
    return LogMelSpectrogram(settings.sample_rate, settings.n_mels, settings.window_seconds, settings.hop_seconds)
