"""Captions by beam search: of images, clips and features, and of video segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.captioned_media import CaptionedMedia
from lstmkit.data.media_files import MediaItems
from lstmkit.data.text.captions import Caption
from lstmkit.data.text.generated_text import InputSegment
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.data.vision.video_io import VideoClip
from lstmkit.decoding.beam_search_options import CAPTION_BEAM_SIZE, BeamSearchOptions
from lstmkit.jobs.captioner.predictor import CaptionerPredictor
from lstmkit.jobs.captioner.settings import CaptionerSettings
from lstmkit.jobs.captioner.video_segments import video_segments
from lstmkit.jobs.common.seq2seq_search import beam_search_batch
from lstmkit.models.base import Model
from lstmkit.progress import Progress
from lstmkit.training.predict import predict


def beam_search_options(
    settings: CaptionerSettings, beam_size: int = CAPTION_BEAM_SIZE, n_best: int = 1
) -> BeamSearchOptions:
    """Options of the search.

    Args:
        settings: The job's.
        beam_size: Number of beam hypotheses; 1 is greedy search.
        n_best: Captions per input.

    Raises:
        SettingError: ``n_best`` exceeds ``beam_size``, or one of them is below 1.
    """
    return BeamSearchOptions(beam_size, n_best, settings.length_penalty, 0, (0, settings.max_tokens), known=True)


def caption_media(
    predictor: CaptionerPredictor, media: CaptionedMedia, options: BeamSearchOptions, progress: Progress | None = None
) -> list[Caption]:
    """Captions of whole images, clips or features.

    Raises:
        DataError: An input has another size than the model reads.
    """
    times = [(0.0, item.seconds) if isinstance(item, VideoClip) else (0.0, 0.0) for item in media.inputs]
    return _generate(predictor, media.inputs, media.ids, times, options, progress)


def caption_segments(
    predictor: CaptionerPredictor, media: MediaItems, segment_seconds: float, options: BeamSearchOptions
) -> Iterator[Caption]:
    """Captions of video segments, while the videos are read.

    Raises:
        DataError: A file is not a video, or cannot be read.
    """
    segments = video_segments(media, predictor.visual_input.format, segment_seconds)
    while some := list(islice(segments, predictor.settings.batch_size)):
        times = [(segment.start, segment.end) for segment in some]
        clips, names = [segment.clip for segment in some], [segment.name for segment in some]
        yield from _generate(predictor, clips, names, times, options, None)


def _generate(
    predictor: CaptionerPredictor,
    inputs: Sequence[Any],
    names: Sequence[str],
    times: Sequence[tuple[float, float]],
    options: BeamSearchOptions,
    progress: Progress | None,
) -> list[Caption]:
    encoded = predictor.visual_input.encode(inputs)
    grids = [predictor.visual_input.grid_shape(item) for item in encoded]
    segments = [InputSegment(i, 0, np.arange(np.prod(grid)), ()) for i, grid in enumerate(grids)]

    def decode(model: Model, batch: Batch) -> list[Any]:
        return beam_search_batch(model, batch, segments, predictor.tokenizer, options)

    loader = Loader(TextPairDataset(encoded), predictor.settings.batch_size)
    hypotheses = predict(
        predictor.model, loader, decode, device=predictor.device, progress=progress, title="writing captions"
    )
    return [
        Caption(
            name,
            best.text,
            best.score,
            best.tokens,
            best.attention.reshape(-1, *grid),
            tuple((each.text, each.score) for each in (best, *others)),
            start,
            end,
        )
        for name, grid, (start, end), (best, *others) in zip(names, grids, times, hypotheses, strict=True)
    ]
