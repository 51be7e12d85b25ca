"""Object detection in video: what is where in each frame, and where it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure

from lstmkit.data.batch import Batches
from lstmkit.data.vision.box_drawing import annotated_frames
from lstmkit.data.vision.box_files import FORMATS, coco_json, csv_text, mot_text, read_boxed_clips, write_yolo
from lstmkit.data.vision.boxed_clips import BoxedClip, BoxedClips, check_known_classes
from lstmkit.data.vision.clip_segments import ClipAugmentation, EncodedClips, SegmentLoader
from lstmkit.data.vision.video_io import write_video
from lstmkit.errors import SettingError
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.splitting import inspection_rows, random_split
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.object_detector import metrics, report
from lstmkit.jobs.object_detector.detections import ClipDetections
from lstmkit.jobs.object_detector.example_sequences import example_sequence
from lstmkit.jobs.object_detector.export import exported_object_detector
from lstmkit.jobs.object_detector.plots import strip_figure
from lstmkit.jobs.object_detector.predictor import ObjectDetectorPredictor, clip_reader
from lstmkit.jobs.object_detector.settings import ObjectDetectorSettings
from lstmkit.jobs.object_detector.streaming import LiveDetector
from lstmkit.look import ExampleSequence
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section


class ObjectDetector(ObjectDetectorSettings, Job[ObjectDetectorPredictor]):
    """Find objects in video with a convolutional LSTM, and follow them from frame to frame.

    A residual network encodes each frame as a grid, a convolutional LSTM carries a memory from frame to frame, and a
    center-point head gives boxes (Zhou et al. 2019). A Kalman filter joins the boxes to tracks with identities.

    Data: clips and a table of boxes, as ``"clips,boxes.csv"``; COCO JSON, MOT sequences or a YOLO folder; or a list of
    ``(frames, boxes)``. See :func:`lstmkit.data.vision.box_files.read_boxed_clips`.

    >>> import numpy as np
    >>> frames = np.zeros((8, 16, 16))
    >>> frames[:, 4:8, 4:8] = 1
    >>> clips = [(frames, [[("square", 4, 4, 4, 4)]] * 8)] * 4
    >>> detector = ObjectDetector(height=16, width=16, hidden_size=4, conv_channels=4, epochs=1, valid_fraction=0)
    >>> detector = detector.fit(clips)
    >>> len(detector.predict([frames]))
    1
    """

    predictor_class: ClassVar = ObjectDetectorPredictor
    data_formats = FORMATS
    answer_suffixes = (".csv", ".txt", ".png", ".mp4")

    _train_split: BoxedClips | None = None  # for the baselines; not saved

    # ---- data ----------------------------------------------------------------------------------------------------

    def read(self, data: Any) -> BoxedClips:
        if self.kernel_size % 2 == 0:
            raise SettingError(f"kernel_size must be odd, got {self.kernel_size}")
        return read_boxed_clips(data, clip_reader(self), self.progress)

    def split(self, examples: BoxedClips, validation: BoxedClips | None) -> DataSplit:
        """Split the annotated clips at random."""
        held_out = None if validation is None else validation.annotated()
        fractions = (self.valid_fraction, self.test_fraction)
        return random_split(examples.annotated(), held_out, "clip", *fractions, self.seed)

    def prepare(self, train: BoxedClips) -> ObjectDetectorPredictor:
        self._train_split = train
        return ObjectDetectorPredictor.fitted(self.snapshot(), train)

    def source(self, examples: BoxedClips) -> EncodedClips:
        check_known_classes(examples, self.predictor.classes)
        return self.predictor.encode(examples)

    def batches(self, source: EncodedClips, seed: int | None) -> Batches:
        augmentation = ClipAugmentation(
            self.max_translation, self.horizontal_flip, self.brightness, self.blank_probability, self.max_noise
        )
        sizes = (self.batch_size, self.bptt_steps, self.segment_batches)
        return SegmentLoader(source, *sizes, augmentation, seed, self.steps_per_epoch)

    def notes_on(self, examples: BoxedClips) -> tuple[str, ...]:
        return examples.notes

    def calibrate(self, valid: BoxedClips | None) -> None:
        """Choose the threshold with the best F1 of detections on the validation split."""
        if valid is not None:
            self.predictor.threshold = metrics.chosen_threshold(self.predictor, valid)

    # ---- boxes ---------------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, threshold: float = -1.0, progress: Progress | None = None) -> list[ClipDetections]:
        """Find and follow the objects of clips.

        Args:
            data: A video, a folder, or a list of arrays; see :func:`lstmkit.data.vision.box_files.read_boxed_clips`.
            threshold: Score of a detection that may start a track, from 0 to 1; -1 = chosen on the validation split.
                Detections at half of it may continue a track.
            progress: Where to report progress.

        Raises:
            SettingError: ``threshold`` is out of range.
            DataError: A clip cannot be read.
        """
        predictor, value = self.predictor, self._checked_threshold(threshold)
        found, clips = [], self.read(data).clips
        with (progress or Progress()).task("finding objects", len(clips)) as task:
            for number, each in enumerate(clips, 1):
                boxes = predictor.tracked(each, predictor.detect(each), value)
                found.append(ClipDetections(BoxedClip(each.clip, each.source_size), boxes))
                task.update(number)
        return found

    def live(self, *, threshold: float = -1.0) -> LiveDetector:
        """A detector of one video, frame by frame, with bounded memory.

        Args:
            threshold: As of :meth:`predict`.
        """
        return LiveDetector(self.predictor, self._checked_threshold(threshold))

    def _checked_threshold(self, threshold: float) -> float:
        if threshold == -1:
            return self.predictor.threshold
        if not 0 < threshold <= 1:
            raise SettingError(f"threshold must be above 0 and at most 1, or -1, got {threshold:g}")
        return threshold

    def to_text(self, predictions: list[ClipDetections]) -> str:
        """A table ``clip,frame,class,x,y,w,h,id,score``."""
        return csv_text(found.named_boxes for found in predictions)

    def to_records(self, predictions: list[ClipDetections]) -> list[dict[str, Any]]:
        return [found.record() for found in predictions]

    def to_coco(self, predictions: list[ClipDetections]) -> dict[str, Any]:
        """What :meth:`predict` returned as COCO JSON: ``images``, ``annotations`` with scores, and ``categories``."""
        return coco_json((found.named_boxes for found in predictions), self.predictor.classes)

    def write_yolo(self, predictions: list[ClipDetections], folder: str | Path) -> None:
        """Write what :meth:`predict` returned as the label files of a YOLO folder."""
        write_yolo((found.named_boxes for found in predictions), self.predictor.classes, Path(folder))

    def write(self, predictions: list[ClipDetections], path: Path) -> None:
        """Write a table (``.csv``), MOT text (``.txt``), a strip of frames (``.png``), or a video (``.mp4``).

        MOT text, pictures and videos have a file for each clip: ``boxes.mp4``, or ``boxes-1.mp4``, ``boxes-2.mp4``, …
        """
        writers = {".txt": self._write_mot, ".png": _write_strip, ".mp4": _write_video}
        write_one = writers.get(path.suffix.lower())
        if write_one is None:
            super().write(predictions, path)
            return
        for number, found in enumerate(predictions, 1):
            own = path if len(predictions) == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
            write_one(found, own)

    def _write_mot(self, found: ClipDetections, path: Path) -> None:
        path.write_text(mot_text(found.named_boxes, self.predictor.classes) or "\n", encoding="utf-8")

    def plot(self, data: Any, predictions: list[ClipDetections]) -> Figure:
        """Frames of the first clip with boxes."""
        return note_selection(strip_figure(predictions[0]), len(predictions), "clips")

    def exported(self) -> JobExport:
        return exported_object_detector(self.predictor)

    # ---- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, disturbed: bool = False, progress: Progress | None = None) -> Evaluation:
        """AP, and MOTA and IDF1 if identities are given, beside background subtraction and the boxes of the last frame.

        Background subtraction answers the most frequent class of the training data: load the model with ``train``.

        Args:
            data: Clips with boxes.
            disturbed: Also score on frames of which 1 in 5 is black, and on frames with noise.
            progress: Where to report progress.

        Raises:
            DataError: The data cannot be read, have no boxes, or have classes that training had not.
        """
        predictor, test = self.predictor, self.read(data).annotated()
        check_known_classes(test, predictor.classes)
        return metrics.evaluate(predictor, test, self._train_split, progress or default_progress(), disturbed)

    def can_score(self, examples: BoxedClips) -> bool:
        """Whether the clips have boxes."""
        return any(each.boxes is not None for each in examples.clips)

    def evaluate_examples(self, test: BoxedClips, progress: Progress) -> Evaluation:
        check_known_classes(test, self.predictor.classes)
        return metrics.evaluate(self.predictor, test, self._train_split, progress)

    def report_sections(self, examples: BoxedClips) -> list[Section]:
        return report.sections(self.predictor, self.full_evaluation, examples)

    def example_sequences(self, data: Any, example: int = 1) -> list[ExampleSequence]:
        """Clips, starting with number ``example`` (from 1)."""
        predictor, examples = self.predictor, self.read(data)
        rows = inspection_rows(example, examples, "clip")
        return [example_sequence(predictor, examples.clips[row]) for row in rows]


def _write_strip(found: ClipDetections, path: Path) -> None:
    strip_figure(found).savefig(path, dpi=150)


def _write_video(found: ClipDetections, path: Path) -> None:
    frames: Any = list(annotated_frames(found.clip, found.boxes))
    write_video(np.stack(frames), path, max(1.0, found.clip.clip.frame_rate))
