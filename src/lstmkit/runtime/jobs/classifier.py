"""Classification of texts, time series, audio clips or video clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.data.padding import pad_sequences
from lstmkit.errors import DataError
from lstmkit.runtime.base import ExportedJob, batches_by_length, texts_of
from lstmkit.runtime.sound import samples_of


class Classifier(ExportedJob):
    """Predicts the label of each example."""

    def predict(self, data: Any, *, sample_rate: int = 0) -> list[dict[str, Any]]:
        """The label and the probabilities of each example.

        Args:
            data: Texts; time series ``(T, F)`` or ``(T,)``; samples ``(N,)`` of audio clips in -1…1; or frames ``(T, H,
                W, C)`` uint8 of video clips, in the model's size.
            sample_rate: Sample rate of audio clips in Hz; 0 = the model's. Another one needs ``soxr``.

        Returns:
            ``id, text, label, probability`` and ``p_LABEL`` for each class, as the job's ``predict``.

        Raises:
            DataError: An example is of another kind or form.
        """
        reads = self.settings["reads"]
        inputs = texts_of(data) if reads == "text" else list(data)
        if not inputs:
            return []
        if reads == "text":
            probabilities = self._of_texts(inputs)
        elif reads == "numbers":
            probabilities = self._of_series(inputs)
        else:
            clips = (self._clip(number, clip, sample_rate) for number, clip in enumerate(inputs, 1))
            probabilities = np.stack([self.network(inputs=clip)[0] for clip in clips])
        return [
            self._record(str(number), text, row)
            for number, (text, row) in enumerate(zip(inputs, probabilities, strict=True), 1)
        ]

    def _of_texts(self, texts: Sequence[str]) -> np.ndarray:
        settings = self.settings
        last = settings["max_tokens"] or None
        tokens = self.tokenizer(settings["tokenization"]).encode(texts)
        return self._of_sequences([np.array(ids[:last] or [settings["unknown_id"]]) for ids in tokens])

    def _of_series(self, series: Sequence[Any]) -> np.ndarray:
        return self._of_sequences([np.asarray(one, dtype=np.float64).reshape(len(one), -1) for one in series])

    def _of_sequences(self, sequences: Sequence[np.ndarray]) -> np.ndarray:
        found = np.zeros((len(sequences), len(self.settings["classes"])))
        for rows, lengths in batches_by_length(sequences):
            inputs = pad_sequences([sequences[row] for row in rows], 0)
            found[rows] = self.network(inputs=inputs, lengths=lengths)[0]
        return found

    def _clip(self, number: int, clip: Any, sample_rate: int) -> np.ndarray:
        """A checked clip of sound, at least one window long, or of video."""
        settings = self.settings
        if settings["reads"] == "video":
            return self._frames(number, np.asarray(clip))
        samples = samples_of(clip, number, sample_rate, settings["sample_rate"])
        limit = settings["max_seconds"] * settings["sample_rate"]
        if len(samples) > limit:
            raise DataError(f"clip {number} has {len(samples):,} samples: give at most {int(limit):,}")
        return np.pad(samples, (0, max(0, settings["window_length"] - len(samples))))

    def _frames(self, number: int, frames: np.ndarray) -> np.ndarray:
        expected = tuple(self.settings["frame_shape"])
        if frames.ndim == 3:  # gray
            frames = np.repeat(frames[..., None], expected[-1], axis=-1)
        if frames.dtype != np.uint8 or frames.shape[1:] != expected or not len(frames):
            raise DataError(
                f"clip {number} has frames of shape {frames.shape[1:]}, {frames.dtype}: give {expected} of uint8"
            )
        return frames

    def _record(self, name: str, text: Any, probabilities: np.ndarray) -> dict[str, Any]:
        settings, classes = self.settings, self.settings["classes"]
        record = {"id": name, **({"text": text} if settings["reads"] == "text" else {})}
        if settings["multi_label"]:
            above = sorted(c for c, p in zip(classes, probabilities, strict=True) if p >= settings["threshold"])
            record["label"] = settings["label_sep"].join(above)
        else:
            record |= {"label": classes[int(probabilities.argmax())], "probability": float(probabilities.max())}
        return record | {f"p_{c}": float(p) for c, p in zip(classes, probabilities, strict=True)}
