"""Captioning: a sentence for each image or video clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.figure import Figure

from lstmkit.data.captioned_media import FORMATS, CaptionedMedia, open_media, read_captioned_media
from lstmkit.data.text.captions import Caption, captions_as_text, subtitles
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.decoding.beam_search_options import CAPTION_BEAM_SIZE
from lstmkit.errors import DataError, SettingError
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.captioner import generation, metrics, report
from lstmkit.jobs.captioner.example_sequences import example_sequence
from lstmkit.jobs.captioner.export import exported_captioner
from lstmkit.jobs.captioner.generation import beam_search_options, caption_media
from lstmkit.jobs.captioner.plots import caption_attention_figure
from lstmkit.jobs.captioner.predictor import CaptionerPredictor, caption_columns
from lstmkit.jobs.captioner.settings import CaptionerSettings
from lstmkit.jobs.captioner.video_segments import video_segments
from lstmkit.jobs.captioner.visual_input import INPUT_KINDS, SETTING_GROUPS
from lstmkit.jobs.common.splitting import looked_at, random_split
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.look import ExampleSequence
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section


class Captioner(CaptionerSettings, Job[CaptionerPredictor]):
    """Caption images and video clips with soft attention (Xu et al. 2015, "Show, attend and tell").

    A residual network encodes an image as a grid of cells. For a clip, an LSTM reads each cell over the frames. The
    decoder attends to all cells for each token (for frames as in Yao et al. 2015). Features of another network can
    replace the images.

    Data: a table with a path and a caption in each row; ``"images.zip,captions.tsv"``; or ``(inputs, captions)``.
    See :func:`lstmkit.data.captioned_media.read_captioned_media`.

    >>> import numpy as np
    >>> images = np.zeros((40, 16, 16, 3))
    >>> images[::2] = 1
    >>> captioner = Captioner(height=16, width=16, hidden_size=8, epochs=2, conv_channels=4, conv_stages=2)
    >>> captioner = captioner.fit((images, ["all is white", "all is black"] * 20))
    >>> len(captioner.predict(images[:2]))
    2
    """

    predictor_class: ClassVar = CaptionerPredictor
    data_formats = FORMATS
    optional_answer_suffixes = (".srt", ".vtt")  # subtitles of one video

    _train_split: CaptionedMedia | None = None  # for the baselines; not saved

    # ---- data ----------------------------------------------------------------------------------------------------

    def read(self, data: Any) -> CaptionedMedia:
        media = read_captioned_media(data, caption_columns(self))
        if self.is_fitted and media.kind != self.predictor.visual_input.kind:
            kind, expected = INPUT_KINDS[media.kind], INPUT_KINDS[self.predictor.visual_input.kind]
            raise DataError(f"{media.name}: these are {kind}s, but this model reads {expected}s: give {expected}s")
        return media

    def split(self, examples: CaptionedMedia, validation: CaptionedMedia | None) -> DataSplit:
        """Split at random the examples that have a caption."""
        kind = examples.kind
        self.check_group(SETTING_GROUPS[kind], f"{INPUT_KINDS[kind]}s")
        if kind == "clips" and self.horizontal_flip:
            raise SettingError("horizontal_flip is a setting for images, but the data are clips: leave it out")
        captioned = None if validation is None else validation.with_captions()
        if captioned is not None and captioned.kind != kind:
            expected, actual = INPUT_KINDS[kind], INPUT_KINDS[captioned.kind]
            raise DataError(
                f"{captioned.name}: these are {actual}s, but the training data are {expected}s: validate on {expected}s"
            )
        fractions = (self.valid_fraction, self.test_fraction)
        return random_split(examples.with_captions(), captioned, INPUT_KINDS[kind], *fractions, self.seed)

    def prepare(self, train: CaptionedMedia) -> CaptionerPredictor:
        self._train_split = train
        return CaptionerPredictor.fitted(self.snapshot(), train, self.progress)

    def source(self, examples: CaptionedMedia) -> TextPairDataset:
        return self.predictor.training_pairs(examples)

    def calibrate(self, valid: CaptionedMedia | None) -> None:
        """Nothing to calibrate: scores are not probabilities of a correct caption."""

    # ---- captions ------------------------------------------------------------------------------------------------

    def predict(
        self,
        data: Any,
        *,
        beam_size: int = CAPTION_BEAM_SIZE,
        n_best: int = 1,
        segment_seconds: float = 0.0,
        progress: Progress | None = None,
    ) -> list[Caption]:
        """Caption images, clips or features.

        Args:
            data: Images, videos or features.
            beam_size: Number of beam hypotheses; 1 is greedy search.
            n_best: Captions per input.
            segment_seconds: If above 0, caption each segment of that many seconds of the videos. Videos are read
                segment by segment, so memory does not grow with their length.
            progress: Where to report progress.

        Raises:
            SettingError: ``n_best`` exceeds ``beam_size``, or one of them is below 1; ``segment_seconds`` was given for
                images or features.
            DataError: An input cannot be read.
        """
        predictor = self.predictor
        if segment_seconds:
            return list(self.caption_segments(data, segment_seconds, beam_size=beam_size, n_best=n_best))
        media = self.read(data)
        return caption_media(predictor, media, beam_search_options(predictor.settings, beam_size, n_best), progress)

    def caption_segments(
        self, data: Any, segment_seconds: float, *, beam_size: int = CAPTION_BEAM_SIZE, n_best: int = 1
    ) -> Iterator[Caption]:
        """Captions of video segments, one after the other while the videos are read.

        Args:
            data: Video files.
            segment_seconds: Length of a segment in seconds; the last one of a video may be shorter.
            beam_size, n_best: As of :meth:`predict`.

        Raises:
            SettingError: The model does not read clips, or ``segment_seconds`` is not above 0.
            DataError: The data are not video files, or one cannot be read.
        """
        predictor = self.predictor
        if predictor.visual_input.kind != "clips":
            kind = INPUT_KINDS[predictor.visual_input.kind]
            raise SettingError(f"segment_seconds is an option for videos, but this model reads {kind}s: leave it out")
        if segment_seconds <= 0:
            raise SettingError(f"segment_seconds must be above 0, got {segment_seconds:g}")
        media = open_media(data, caption_columns(self))
        if media is None:
            raise DataError("segment_seconds needs video files, but the data are arrays: give the path of a video")
        options = beam_search_options(predictor.settings, beam_size, n_best)
        return generation.caption_segments(predictor, media, segment_seconds, options)

    def to_text(self, predictions: list[Caption]) -> str:
        """One line per caption, with names if there are several inputs, and times if there are segments."""
        return captions_as_text(predictions)

    def write(self, predictions: list[Caption], path: Path) -> None:
        """Write subtitles of one video (``.srt``, ``.vtt``), or text."""
        if path.suffix.lower() in self.optional_answer_suffixes:
            path.write_text(subtitles(predictions, path.suffix.lower()), encoding="utf-8")
        else:
            super().write(predictions, path)

    def to_records(self, predictions: list[Caption]) -> list[dict[str, Any]]:
        return [caption.record() for caption in predictions]

    def exported(self) -> JobExport:
        return exported_captioner(self.predictor)

    def plot(self, data: Any, predictions: list[Caption]) -> Figure:
        """Attention of each token of the first caption."""
        media, caption = open_media(data, caption_columns(self)), predictions[0]
        if media is None:
            first = self.read(data).inputs[0]
        elif self.predictor.visual_input.kind == "clips":  # read no more of the video than was captioned
            format = self.predictor.visual_input.format
            first = next(video_segments(media, format, caption.end - caption.start)).clip
        else:
            first = next(media.iterate()).read()
        figure = caption_attention_figure(first, caption.tokens, caption.attention, caption.text)
        return note_selection(figure, len(predictions), "captions")

    # ---- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(
        self, data: Any, *, beam_size: int = CAPTION_BEAM_SIZE, progress: Progress | None = None
    ) -> Evaluation:
        """BLEU on held-out examples, compared with the nearest-neighbor caption and the most frequent caption.

        The nearest-neighbor caption needs the training data: load the model with ``train``.

        Args:
            data: Images, videos or features with captions.
            beam_size: Number of beam hypotheses; 1 is greedy search.
            progress: Where to report progress.
        """
        predictor, test = self.predictor, self.read(data).with_captions()
        return metrics.evaluate(predictor, test, self._train_split, progress or default_progress(), beam_size)

    def evaluate_examples(self, test: CaptionedMedia, progress: Progress) -> Evaluation:
        return metrics.evaluate(self.predictor, test.with_captions(), self._train_split, progress)

    def report_sections(self, examples: CaptionedMedia) -> list[Section]:
        return report.sections(self.predictor, self.full_evaluation, examples)

    def example_sequences(self, data: Any, example: int = 1) -> list[ExampleSequence]:
        """Inputs with their captions, token by token, starting with number ``example`` (from 1)."""
        predictor, examples = self.predictor, self.read(data)
        rows = looked_at(example, examples, INPUT_KINDS[examples.kind])
        captions = caption_media(predictor, examples.subset(rows), beam_search_options(predictor.settings))
        return [
            example_sequence(predictor, examples.inputs[row], caption)
            for row, caption in zip(rows, captions, strict=True)
        ]
