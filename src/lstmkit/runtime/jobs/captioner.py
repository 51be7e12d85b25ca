"""Captions of images, video clips, or features of another network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.data.text.captions import Caption
from lstmkit.data.vision.frame_rate import DEFAULT_FRAME_RATE
from lstmkit.decoding.beam_search_options import CAPTION_BEAM_SIZE, BeamSearchOptions
from lstmkit.errors import DataError, SettingError
from lstmkit.libraries import imports_of
from lstmkit.runtime.base import ExportedJob
from lstmkit.runtime.seq2seq import decoded

with imports_of("text", "text"):
    from lstmkit.data.text.generated_text import InputSegment


class Captioner(ExportedJob):
    """Writes a sentence for each image or clip."""

    def predict(
        self, data: Any, *, beam_size: int = CAPTION_BEAM_SIZE, n_best: int = 1, frame_rate: float = DEFAULT_FRAME_RATE
    ) -> list[dict[str, Any]]:
        """Caption images, clips or features.

        Files are not read, images are not resized, and videos are not split into segments: give arrays in the model's
        size, with its number of channels and its frame rate.

        Args:
            data: Images ``(H, W, C)`` uint8, clips ``(T, H, W, C)`` uint8, or features ``(S, F)`` of another network;
                a list of arrays, or an array of all.
            beam_size: Number of beam hypotheses; 1 is greedy search.
            n_best: Captions per input.
            frame_rate: Frames per second of clips, for the end in their records.

        Returns:
            For each input a record with the keys that ``to_records`` of the job gives: ``name`` (its number),
            ``caption``, ``score`` (log probability in nats, normalized by length), for clips ``start`` and ``end`` in
            seconds, ``n_best``, ``tokens``, and ``attention`` of each token: ``(tokens, h, w)`` cells of an image,
            ``(tokens, T, h, w)`` cells of all frames, or ``(tokens, S)`` feature vectors.

        Raises:
            SettingError: ``n_best`` is above ``beam_size`` or below 1, or ``frame_rate`` is not above 0.
            DataError: There is no input, or one has another kind or shape.
        """
        settings = self.settings
        options = BeamSearchOptions(
            beam_size, n_best, settings["length_penalty"], 0, tuple(settings["max_output_tokens"]), known=True
        )
        if not 0 < frame_rate < math.inf:
            raise SettingError(f"frame_rate must be above 0, got {frame_rate:g}")
        if isinstance(data, str) or not isinstance(data, (Sequence, np.ndarray)) or not len(data):
            raise DataError(f"give at least one array of {settings['reads']}, not {type(data).__name__} {data!r:.40}")
        inputs = [self._checked(item, number) for number, item in enumerate(data, 1)]
        tokenizer = self.tokenizer(settings["tokenization"])
        grids = [self._grid_shape(array) for array in inputs]
        segments = [InputSegment(i, 0, np.arange(math.prod(grid)), ()) for i, grid in enumerate(grids)]
        found = decoded(self.graphs, inputs, segments, tokenizer, options, settings["batch_size"])
        ends = [len(array) / frame_rate if settings["reads"] == "clips" else 0.0 for array in inputs]
        captions = [
            Caption(
                str(number),
                best.text,
                best.score,
                best.tokens,
                best.attention.reshape(-1, *grid),
                tuple((each.text, each.score) for each in (best, *others)),
                end=end,
            )
            for number, (grid, end, (best, *others)) in enumerate(zip(grids, ends, found, strict=True), 1)
        ]
        return [caption.record() for caption in captions]

    def _checked(self, item: Any, number: int) -> np.ndarray:
        """An input as the encoder reads it."""
        kind, shape = self.settings["reads"], tuple(self.settings["shape"])
        axes = {"images": (), "clips": ("T",), "features": ("S",)}[kind]
        try:
            array = np.asarray(item)
        except ValueError:
            raise DataError(f"input {number} is not an array: its parts have different sizes") from None
        if kind == "clips" and array.ndim == 3 and shape[-1] == 1:
            array = array[..., None]
        typed = array.dtype.kind in "fiu" if kind == "features" else array.dtype == np.uint8
        fits = array.ndim == len(axes) + len(shape) and array.shape[len(axes) :] == shape and array.size
        if not typed or not fits:
            expected = f"({', '.join(map(str, (*axes, *shape)))}) of {'numbers' if kind == 'features' else 'uint8'}"
            raise DataError(f"input {number} has shape {array.shape}, {array.dtype}: give {expected}")
        if kind == "features":
            with np.errstate(over="ignore"):
                array = array.astype(np.float32)
            if not np.isfinite(array).all():
                raise DataError(f"input {number} has NaN or infinite features: give finite ones")
        return array

    def _grid_shape(self, array: np.ndarray) -> Sequence[int]:
        """The shape of what is attended to: cells of an image, cells of all frames, or feature vectors."""
        frames = [] if self.settings["reads"] == "images" else [len(array)]
        return [*frames, *self.settings["grid"]]
