"""What the transcriber's ``fit`` leaves: front end, alphabet, network."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Self

from lstmkit.data.audio.audio_io import AudioClip, read_audio_blocks
from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.data.audio.pauses import split_at_pauses
from lstmkit.data.text.bidi import DIRECTIONS, RIGHT_TO_LEFT, to_display
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.data.transcripts import KINDS, Transcripts
from lstmkit.data.vision.line_normalization import VERSION
from lstmkit.decoding.ctc import min_steps
from lstmkit.decoding.transcription import CTCDecoder, Transcription, join_transcriptions, to_transcription
from lstmkit.errors import DataError, SettingError, listing
from lstmkit.frontends.base import AlignedFrontEnd
from lstmkit.frontends.features import FeatureFrontEnd
from lstmkit.frontends.ink import StrokeFrontEnd
from lstmkit.frontends.log_mel import LogMelFrontEnd
from lstmkit.frontends.text_line_image import TextLineImageFrontEnd
from lstmkit.jobs.predictor import Predictor
from lstmkit.jobs.transcriber.fine_tuning import PretrainedWeights
from lstmkit.jobs.transcriber.results import transcribe_batches
from lstmkit.jobs.transcriber.settings import TranscriberSettings
from lstmkit.jobs.transcriber.streaming import StreamingTranscript
from lstmkit.models.base import Model
from lstmkit.models.sequence import CTCModel
from lstmkit.modules.ctc import CTCHead
from lstmkit.modules.sequence_convolutions import TextLineEncoder
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress

#: The group of settings that counts for each kind of examples.
SETTING_GROUPS = {"audio": "audio", "features": "audio", "strokes": "audio", "images": "image"}
_LOW_CONFIDENCE = 0.75  # of the usual confidence
#: What to check of an example with low confidence.
_CHECKS = {
    "images": "check that each image shows one whole text line, upright, sharp, and like those of the training data",
    "audio": "check that each recording is as loud and clear as those of the training data",
    "features": "check that the features were computed as those of the training data",
    "strokes": "check that the strokes are in the order of writing, and y points downward",
}


class TranscriberPredictor(Predictor[TranscriberSettings]):
    """Transcribes audio, images of text lines, pen strokes or feature sequences.

    Attributes:
        front_end: Converts examples to features.
        alphabet: The characters that it can write, in the order of their classes.
        reading_order: Direction of the text lines, one of :data:`lstmkit.data.text.bidi.DIRECTIONS`; empty if the
            network writes in logical order, as of audio, features and strokes, and in models of earlier versions.
        most_frequent_text: Of the training split, for a baseline.
        usual_confidence: 5 % of the validation examples have a lower mean confidence; 0 if it is unknown.
        pretrained: Weights that training starts from; not saved.
    """

    def __init__(
        self,
        settings: TranscriberSettings,
        front_end: AlignedFrontEnd,
        alphabet: str,
        most_frequent_text: str,
        reading_order: str = "",
        pretrained: PretrainedWeights | None = None,
    ) -> None:
        super().__init__(settings)
        self.reading_order = reading_order
        self.front_end, self.alphabet, self.most_frequent_text = front_end, alphabet, most_frequent_text
        self.usual_confidence = 0.0
        self.pretrained = pretrained

    @property
    def data_kinds(self) -> Collection[str]:
        return (SETTING_GROUPS[self.front_end.kind],)

    @property
    def stride(self) -> int:
        """Input steps per encoder step."""
        return TextLineEncoder.stride if self.front_end.kind == "images" else int(np.prod(self.settings.strides))

    def build(self) -> Model:
        settings = self.settings
        encoder = self.front_end.build()
        trunk = build_trunk(
            settings.cell,
            encoder.output_size,
            settings.hidden_size,
            num_layers=settings.num_layers,
            dropout=settings.dropout,
            variational=True,
            bidirectional=settings.bidirectional,
        )
        model = CTCModel(encoder, trunk, CTCHead(trunk.output_size, len(self.alphabet), settings.dropout))
        if self.pretrained is not None:
            self.pretrained.load_into(model)
        return model

    def dataset(self, examples: Transcripts) -> TextPairDataset:
        """Features and class ids; characters outside the alphabet are left out.

        Raises:
            DataError: An example has too few steps for its text.
        """
        encoded = self.front_end.encode(examples.inputs, examples.ids)
        number = {character: i for i, character in enumerate(self.alphabet, 1)}
        texts = [displayed(text, self.reading_order) for text in examples.require_texts()]
        targets = [np.array([number[c] for c in text if c in number], dtype=np.int64) for text in texts]
        for name, features, ids in zip(examples.ids, encoded, targets, strict=True):
            steps, needed = -(-len(features) // self.stride), min_steps(ids.tolist())
            if needed > steps:
                raise DataError(
                    f"{examples.name}: {name} has {steps} steps after the convolutions, its text of {len(ids)} "
                    f"characters needs {needed}: give smaller strides, or leave the example out"
                )
        return TextPairDataset(encoded, targets)

    # ---- transcribe ----------------------------------------------------------------------------------------------

    def transcribe(
        self, examples: Transcripts, decoder: CTCDecoder, progress: Progress | None = None
    ) -> list[Transcription]:
        """The transcription of each example; audio longer than ``max_seconds`` is cut at pauses."""
        inputs, longest = examples.inputs, self.settings.max_seconds
        long = [isinstance(example, AudioClip) and example.seconds > longest for example in inputs]
        short = [i for i, is_long in enumerate(long) if not is_long]
        results = dict(zip(short, self._transcribe_batch(examples.subset(short), decoder, progress), strict=True))
        for i, clip in enumerate(inputs):
            if long[i]:
                results[i] = self._transcribe_long([clip.samples], clip.sample_rate, examples.ids[i], decoder)
        return [results[i] for i in range(len(examples))]

    def transcribe_file(self, path: Path, decoder: CTCDecoder) -> Transcription:
        """The transcription of an audio file of any length, read block by block."""
        rate = self.settings.sample_rate
        blocks = read_audio_blocks(path, rate, self.settings.max_seconds)
        return self._transcribe_long(blocks, rate, path.name, decoder)

    def _transcribe_batch(
        self, examples: Transcripts, decoder: CTCDecoder, progress: Progress | None = None
    ) -> list[Transcription]:
        front_end = self.front_end
        written = transcribe_batches(
            self.model,
            front_end.encode(examples.inputs, examples.ids),
            self.stride,
            decoder,
            batch_size=4 * self.settings.batch_size,
            device=self.device,
            progress=progress,
        )
        return [
            to_transcription(
                characters,
                self.alphabet,
                name,
                front_end.unit,
                lambda steps, example=example: front_end.positions(example, steps * self.stride),
                self.reading_order,
            )
            for characters, name, example in zip(written, examples.ids, examples.inputs, strict=True)
        ]

    def _transcribe_long(
        self, blocks: Iterable[np.ndarray], sample_rate: int, name: str, decoder: CTCDecoder
    ) -> Transcription:
        """Audio of any length; one segment is in memory at a time."""
        if not self.settings.bidirectional and decoder.beam_size == 1:
            stream = self.stream(sample_rate, name)
            for block in blocks:
                stream.push(block)
            return stream.finish()
        segments = []
        for start, segment in split_at_pauses(blocks, sample_rate, self.settings.max_seconds):
            clip = AudioClip("a segment", segment, sample_rate)
            examples = Transcripts([clip], [None], [name], "audio", name)
            (transcription,) = self._transcribe_batch(examples, decoder)
            segments.append(transcription.shifted(start))
        return join_transcriptions(segments, name, self.front_end.unit)

    def low_confidence(self, transcriptions: Sequence[Transcription]) -> str:
        """A warning that names examples with much less confidence than usual, and images without text; else empty.

        There is none if the usual confidence is unknown.
        """
        low = {
            t.name: "no text" if t.confidence is None else f"{t.confidence:.2f}"
            for t in transcriptions
            if (t.confidence is None and self.front_end.kind == "images")
            or (t.confidence is not None and t.confidence < _LOW_CONFIDENCE * self.usual_confidence)
        }
        if not low or not self.usual_confidence:
            return ""
        names = listing(f"{name} ({value})" for name, value in low.items())
        return (
            f"low confidence in {names}; usual is at least {self.usual_confidence:.2f}: {_CHECKS[self.front_end.kind]}"
        )

    def stream(self, sample_rate: int, name: str) -> StreamingTranscript:
        """A transcript that grows with the audio.

        Raises:
            SettingError: The model reads in both directions, or does not read audio.
        """
        if self.settings.bidirectional:
            raise SettingError("this model reads in both directions and cannot stream: fit with bidirectional=False")
        if not isinstance(self.front_end, LogMelFrontEnd):
            raise SettingError(f"only audio can be streamed; this model reads {self.front_end.kind}")
        model = self.model.to(self.device)
        return StreamingTranscript(model, self.front_end, self.alphabet, self.stride, sample_rate, name)

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "reads": self.front_end.kind,
            "alphabet": self.alphabet,
            "usual": self.most_frequent_text,
            "reading_order": self.reading_order,
            "usual_confidence": self.usual_confidence,
            "front": self.front_end.state(),
        }

    @classmethod
    def from_state(cls, settings: TranscriberSettings, state: Mapping[str, Any]) -> Self:
        kind = settings.old_choices["input_type"].get(state["reads"], state["reads"])
        if kind not in KINDS:
            raise ValueError(f"unknown input type {kind!r}")
        alphabet, most_frequent_text = state["alphabet"], state["usual"]
        if not isinstance(alphabet, str) or len({*alphabet}) != len(alphabet) or not alphabet:
            raise ValueError("the alphabet is empty or has repeated characters")
        if not isinstance(most_frequent_text, str):
            raise ValueError("the most frequent text is not a text")
        reading_order = state.get("reading_order", "")
        if reading_order not in ("", *DIRECTIONS):
            raise ValueError(f"unknown reading order {reading_order!r}")
        front_end = build_front_end(settings, kind, reading_order)
        front_end.load_state(state["front"])
        usual_confidence = float(state.get("usual_confidence", 0.0))
        if not 0 <= usual_confidence <= 1:
            raise ValueError(f"the usual confidence must be from 0 to 1, got {usual_confidence}")
        predictor = cls(settings, front_end, alphabet, most_frequent_text, reading_order)
        predictor.usual_confidence = usual_confidence
        return predictor


def displayed(text: str, reading_order: str) -> str:
    """The characters in the order in which the network meets them; see :attr:`TranscriberPredictor.reading_order`."""
    return to_display(text, reading_order).text if reading_order else text


def build_front_end(settings: TranscriberSettings, kind: str, reading_order: str) -> AlignedFrontEnd:
    """The front end for one kind of examples, not fitted yet."""
    if kind == "images":
        return TextLineImageFrontEnd(
            settings.height,
            settings.conv_channels,
            settings.feature_size,
            settings.dropout,
            settings.image_augmentation,
            reading_order == RIGHT_TO_LEFT,
            VERSION if settings.line_normalization else 0,
        )
    steps = FeatureFrontEnd(
        settings.feature_size,
        settings.strides,
        settings.dropout,
        settings.spec_augment_masks,
        settings.speed_perturbation,
        settings.mean_normalization and kind != "strokes",
    )
    if kind == "audio":
        return LogMelFrontEnd(LogMelSpectrogram(settings.sample_rate, settings.n_mels, remove_dc_offset=True), steps)
    return StrokeFrontEnd(steps) if kind == "strokes" else steps
