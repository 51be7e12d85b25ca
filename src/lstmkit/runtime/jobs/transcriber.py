"""Transcription of sound, text lines, pen strokes or features with CTC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstmkit.data.audio.pauses import split_at_pauses
from lstmkit.data.feature_arrays import check_number_of_features, finite_features, rectangular_array
from lstmkit.data.ink.resampling import resample_ink, validate_strokes
from lstmkit.data.padding import pad_sequences
from lstmkit.data.vision.shades import check_line_width, ink_of
from lstmkit.decoding.ctc import BLANK, AlignedCharacter
from lstmkit.decoding.transcription import CTCDecoder, Transcription, join_transcriptions, to_record, to_transcription
from lstmkit.errors import DataError
from lstmkit.runtime.base import ExportedJob, batches_by_length
from lstmkit.runtime.graph import take_rows
from lstmkit.runtime.sound import samples_of

Positions = Callable[[np.ndarray], np.ndarray]  #: Steps of the input to positions in the record's unit.


class Transcriber(ExportedJob):
    """Writes down the text of each example."""

    def predict(
        self, data: Any, *, beam_size: int = 0, lm_weight: float = -1.0, sample_rate: int = 0
    ) -> list[dict[str, Any]]:
        """The text of each example, with the positions of words and characters.

        It reads no files, and does not find the line in an image of a page. The language model is that of the
        setting ``lm``. There is no warning of low confidence.

        Args:
            data: A list of examples. Audio: samples ``(N,)`` in -1…1; more than ``max_seconds`` are cut at pauses, or
                read as a whole by a unidirectional model. Features ``(T, F)``. Strokes ``(N, 3)``: offsets to the
                right and down, and whether the pen is lifted. Images of one text line, in the model's height:
                ``(height, W)`` uint8, or float from 0 (paper) to 1 (ink).
            beam_size: Hypotheses that the search keeps; 0 for the setting.
            lm_weight: Weight of the language model; -1 for the setting.
            sample_rate: Sample rate of audio in Hz; 0 = the model's. Another one needs ``soxr``.

        Returns:
            ``name, text, confidence, unit, words, characters``, as the job's ``predict``. Positions are in seconds,
            steps, points, or pixels of the given image.

        Raises:
            DataError: An example is of another kind or form.
            SettingError: An option is out of range.
        """
        decoder = self._decoder(beam_size, lm_weight)
        examples, reads = list(data), self.settings["reads"]
        if not examples:
            raise DataError("the data have no examples: give at least one")
        names = [f"example {number}" for number in range(1, len(examples) + 1)]
        if reads == "audio":
            clips = zip(names, examples, strict=True)
            found = [self._of_clip(name, i, clip, sample_rate, decoder) for i, (name, clip) in enumerate(clips, 1)]
        else:
            prepare = {"images": self._columns, "strokes": self._points, "features": self._features}[reads]
            prepared = [prepare(example, name) for example, name in zip(examples, names, strict=True)]
            decoded = self._decoded([steps for steps, _ in prepared], decoder)
            found = [
                self._transcription(characters, name, positions)
                for characters, name, (_, positions) in zip(decoded, names, prepared, strict=True)
            ]
        return [to_record(transcription) for transcription in found]

    def _decoder(self, beam_size: int, lm_weight: float) -> CTCDecoder:
        settings = self.settings
        score = self._next_characters if "language_model" in self.graphs else None
        weight = settings["lm_weight"] if lm_weight < 0 else lm_weight
        decoder = CTCDecoder(beam_size or settings["beam_size"], score, weight, settings["insertion_bonus"])
        decoder.check()
        return decoder

    def _next_characters(self, states: Sequence[Any], ids: Sequence[int]) -> tuple[np.ndarray, list[Any]]:
        """The language model's log-probabilities; see :data:`lstmkit.decoding.ctc.LanguageModelScore`."""
        graph = self.graphs["language_model"]
        if list(ids) == [BLANK]:
            stacked = graph.zero_states(rows=1)
        else:
            stacked = [np.concatenate(parts) for parts in zip(*states, strict=True)]
        (log_p,), after = graph.step(stacked, ids=ids)
        return log_p, [take_rows(after, np.array([row])) for row in range(len(ids))]

    def _transcription(self, decoded: Sequence[AlignedCharacter], name: str, positions: Positions) -> Transcription:
        settings, stride = self.settings, self.settings["stride"]
        return to_transcription(
            decoded,
            settings["alphabet"],
            name,
            settings["unit"],
            lambda steps: positions(steps * stride),
            settings["reading_order"],
        )

    # ---- sequences of steps ------------------------------------------------------------------------------------------

    def _decoded(self, sequences: Sequence[np.ndarray], decoder: CTCDecoder) -> list[list[AlignedCharacter]]:
        """The characters of each sequence ``(T, F)``, with positions in steps of the network."""
        found: list[list[AlignedCharacter]] = [[] for _ in sequences]
        for rows, lengths in batches_by_length(sequences):
            (log_p,) = self.network(inputs=pad_sequences([sequences[row] for row in rows], 0), lengths=lengths)
            counts = -(-lengths // self.settings["stride"])
            for row, steps, count in zip(rows.tolist(), log_p, counts.tolist(), strict=True):
                found[row] = decoder(steps[:count])
        return found

    def _features(self, example: Any, name: str) -> tuple[np.ndarray, Positions]:
        features = finite_features(_numbers(example, name), name)
        check_number_of_features(features, self.settings["features"], name)
        return features, lambda steps: np.minimum(steps, len(features))

    def _points(self, example: Any, name: str) -> tuple[np.ndarray, Positions]:
        ink = resample_ink(validate_strokes(_numbers(example, name), name))
        return ink.steps, lambda steps: ink.points[np.minimum(steps.astype(int), len(ink.points) - 1)]

    def _columns(self, example: Any, name: str) -> tuple[np.ndarray, Positions]:
        image, height = _numbers(example, name), self.settings["height"]
        if image.ndim != 2 or len(image) != height or not image.size:
            raise DataError(f"{name} has shape {image.shape}: give an image of one text line, ({height}, W)")
        width = image.shape[1]
        check_line_width(width, image, name)
        if image.dtype == np.uint8:
            image = ink_of(image, name)
        elif not ((image >= 0) & (image <= 1)).all():
            raise DataError(f"{name}: a pixel is NaN or out of range: give uint8, or floats from 0 (paper) to 1 (ink)")
        right_to_left = self.settings["right_to_left"]
        columns = image.T[::-1] if right_to_left else image.T

        def positions(steps: np.ndarray) -> np.ndarray:
            across = np.minimum(steps, width)
            return width - across if right_to_left else across

        return columns.astype(np.float32), positions

    # ---- sound -------------------------------------------------------------------------------------------------------

    def _of_clip(self, name: str, number: int, clip: Any, sample_rate: int, decoder: CTCDecoder) -> Transcription:
        settings = self.settings
        samples, rate = samples_of(clip, number, 0, 0), sample_rate or settings["sample_rate"]
        is_long = len(samples) / rate > settings["max_seconds"]
        if not is_long or (settings["streams"] and decoder.beam_size == 1):
            return self._of_samples(name, number, samples, rate, decoder)
        segments = split_at_pauses([samples], rate, settings["max_seconds"])
        parts = [self._of_samples(name, number, segment, rate, decoder).shifted(start) for start, segment in segments]
        return join_transcriptions(parts, name, settings["unit"])

    def _of_samples(self, name: str, number: int, samples: np.ndarray, rate: int, decoder: CTCDecoder) -> Transcription:
        """The transcription of samples ``(N,)``, at least one window long for the network."""
        settings, seconds = self.settings, len(samples) / rate
        hop, window = settings["hop_length"], settings["window_length"]
        samples = samples_of(samples, number, rate, settings["sample_rate"])
        (frames,) = self.graphs["frames"](samples=np.pad(samples, (0, max(0, window - len(samples)))))

        def positions(steps: np.ndarray) -> np.ndarray:
            return np.minimum((steps * hop + (window - hop) / 2) / settings["sample_rate"], seconds)

        return self._transcription(self._decoded([frames], decoder)[0], name, positions)


def _numbers(example: Any, name: str) -> np.ndarray:
    """An example as an array of numbers."""
    values = rectangular_array(example, name)
    if values.dtype.kind not in "biuf":
        raise DataError(f"{name} has {values.dtype}: give numbers")
    return values
