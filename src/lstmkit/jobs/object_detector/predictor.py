"""What the object detector's ``fit`` leaves: classes, normalization of the frames, network and threshold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from typing_extensions import Self

from lstmkit.data.vision.box_files import ClipReader
from lstmkit.data.vision.boxed_clips import BoxedClip, BoxedClips, Boxes
from lstmkit.data.vision.clip_segments import EncodedClip, EncodedClips
from lstmkit.data.vision.image_io import channel_mean_std
from lstmkit.data.vision.video_io import ClipFormat
from lstmkit.decoding.center_boxes import FrameBoxes, cut_at_border, decode_centers
from lstmkit.decoding.tracking import Tracker
from lstmkit.errors import DataError
from lstmkit.jobs.object_detector.settings import ObjectDetectorSettings
from lstmkit.jobs.predictor import Predictor
from lstmkit.layers.conv_recurrent import BottleneckLSTM2d, ConvGRU2d, ConvLSTM2d, ConvRecurrentLayer2d, ConvRNN2d
from lstmkit.models.base import Model, State
from lstmkit.models.video_detector import VideoDetector
from lstmkit.modules.center_head import CenterHead
from lstmkit.modules.image_encoder import ImageEncoder, PixelNormalizer

DEFAULT_THRESHOLD = 0.3  #: Score of a detection that is shown, if there is no validation split.
_CHUNK = 16  # frames that run at once
_CELLS: dict[str, type[ConvRecurrentLayer2d]] = {"lstm": ConvLSTM2d, "gru": ConvGRU2d, "rnn": ConvRNN2d}


class ObjectDetectorPredictor(Predictor[ObjectDetectorSettings]):
    """Encodes clips, and decodes outputs of the network to boxes.

    Args:
        settings: The settings that it is fitted with.
        classes: Names of the classes, in the order of the network's outputs.
        mean, std: Of each channel in the training split.
        threshold: Score of a detection that is shown and may start a track.
    """

    def __init__(
        self,
        settings: ObjectDetectorSettings,
        classes: tuple[str, ...],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        threshold: float = DEFAULT_THRESHOLD,
    ) -> None:
        super().__init__(settings)
        self.classes, self.mean, self.std, self.threshold = classes, mean, std, threshold

    @property
    def data_kinds(self) -> Collection[str]:
        return ("image", "video")

    @property
    def stride(self) -> int:
        """Pixels per cell of the network's outputs."""
        return 2**self.settings.conv_stages

    @classmethod
    def fitted(cls, settings: ObjectDetectorSettings, train: BoxedClips) -> Self:
        """Take the classes and the mean and deviation of pixels from the training split.

        Raises:
            DataError: No clip has a box.
        """
        if not train.classes:
            raise DataError(f"{train.name}: no training clip has a box: give clips with objects")
        mean, std = channel_mean_std([each.clip.frames for each in train.clips])
        return cls(settings, train.classes, tuple(mean.tolist()), tuple(std.tolist()))

    def build(self) -> Model:
        settings = self.settings
        widths = [settings.conv_channels * 2**stage for stage in range(settings.conv_stages)]
        encoder = ImageEncoder(len(self.mean), widths)
        is_lstm = settings.cell == "lstm"
        layer = BottleneckLSTM2d if settings.bottleneck and is_lstm else _CELLS[settings.cell]
        trunk = layer(
            encoder.output_size,
            settings.hidden_size,
            settings.num_layers,
            kernel_size=settings.kernel_size,
            dropout=settings.dropout if settings.num_layers > 1 else 0.0,
            forget_bias=1.0 if is_lstm else None,
        )
        head = CenterHead(
            encoder.output_size + trunk.output_size,
            max(settings.hidden_size, encoder.output_size),
            len(self.classes),
            self.stride,
            settings.size_weight,
            settings.offset_weight,
        )
        return VideoDetector(PixelNormalizer(self.mean, self.std), encoder, trunk, head, settings.recurrent)

    # ---- clips -----------------------------------------------------------------------------------------------------

    def encode(self, examples: BoxedClips) -> EncodedClips:
        """Clips and their boxes as the network reads them."""
        return EncodedClips([self._encoded(each) for each in examples.clips])

    def _encoded(self, each: BoxedClip) -> EncodedClip:
        boxes = each.boxes if each.boxes is not None else Boxes.of_rows([])
        counts = np.bincount(boxes.frames, minlength=len(each))
        targets = np.full((len(each), max(1, int(counts.max())), 5), np.nan, dtype=np.float32)
        xywh = each.placement.to_model(boxes.xywh)
        number = {label: k for k, label in enumerate(self.classes)}
        columns = np.arange(len(boxes)) - np.searchsorted(boxes.frames, boxes.frames)  # frames are sorted
        targets[boxes.frames, columns, 0] = [number.get(str(label), np.nan) for label in boxes.labels]
        targets[boxes.frames, columns, 1:3] = xywh[:, :2] + xywh[:, 2:] / 2
        targets[boxes.frames, columns, 3:] = xywh[:, 2:]
        return EncodedClip(each.clip.frames, targets)

    def outputs(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """The outputs ``(K + 4, h, w)`` of the frames of one clip ``(T, H, W, C)``, in order."""
        state: State = None
        for start in range(0, len(frames), _CHUNK):
            outputs, state = self.run(frames[start : start + _CHUNK], state)
            yield from outputs

    @torch.inference_mode()
    def run(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Outputs ``(T, K + 4, h, w)`` of further frames of one clip, and the new state."""
        model = self.model.to(self.device).eval()
        inputs = torch.from_numpy(np.ascontiguousarray(frames)).unsqueeze(0).to(self.device)
        outputs, state = model(inputs, state)
        return outputs[0].float().cpu().numpy(), state

    def detect(self, each: BoxedClip, threshold: float = 0.0) -> list[FrameBoxes]:
        """The detections of each frame of a clip, in pixels of the file."""
        return [self.decode(outputs, each, threshold) for outputs in self.outputs(each.clip.frames)]

    def decode(self, outputs: np.ndarray, each: BoxedClip, threshold: float = 0.0) -> FrameBoxes:
        """The detections of one frame of a clip, in pixels of the file, cut at its border."""
        found = decode_centers(outputs, self.stride).above(threshold)
        xywh, kept = cut_at_border(each.placement.to_file(found.xywh), *each.source_size)
        return FrameBoxes(xywh, found.classes[kept], found.scores[kept])

    def tracker(self, threshold: float) -> Tracker:
        """A tracker of the detections of one clip."""
        settings = self.settings
        return Tracker(threshold, threshold / 2, settings.max_unseen, settings.max_distance)

    def tracked(self, each: BoxedClip, detections: list[FrameBoxes], threshold: float) -> Boxes:
        """The boxes of a clip with identities: those at the threshold, and weaker ones that continue a track."""
        tracker, times, rate = self.tracker(threshold), each.clip.times, each.clip.frame_rate
        rows: list[tuple[Any, ...]] = []
        for frame, found in enumerate(detections):
            steps = float(times[frame] - times[frame - 1]) * rate if frame else 1.0
            rows += self.tracked_rows(frame, found, tracker, steps)
        return Boxes.of_rows(rows)

    def tracked_rows(
        self, frame: int, found: FrameBoxes, tracker: Tracker, steps: float = 1.0
    ) -> list[tuple[Any, ...]]:
        """Rows of :meth:`Boxes.of_rows` for the detections of one frame, with the identities of a tracker."""
        ids = tracker.step(*found, steps=max(steps, 1e-3))
        return [
            (frame, self.classes[label], *box, track, score)
            for box, label, score, track in zip(
                found.xywh.tolist(), found.classes.tolist(), found.scores.tolist(), ids.tolist(), strict=True
            )
            if track > 0
        ]

    # ---- saved -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "classes": list(self.classes),
            "mean": list(self.mean),
            "std": list(self.std),
            "threshold": self.threshold,
        }

    @classmethod
    def from_state(cls, settings: ObjectDetectorSettings, state: Mapping[str, Any]) -> Self:
        classes = tuple(state["classes"])
        mean, std = tuple(map(float, state["mean"])), tuple(map(float, state["std"]))
        threshold = float(state["threshold"])
        if not classes or len(set(classes)) != len(classes) or not all(isinstance(name, str) for name in classes):
            raise ValueError("the classes are not distinct names")
        if len(mean) != (3 if settings.color else 1) or len(std) != len(mean) or not all(s > 0 for s in std):
            raise ValueError("mean and std do not fit the color channels")
        if not 0 <= threshold <= 1:
            raise ValueError("the threshold is not between 0 and 1")
        return cls(settings, classes, mean, std, threshold)


def clip_reader(settings: ObjectDetectorSettings) -> ClipReader:
    """How clips are read."""
    return ClipReader(ClipFormat(settings.height, settings.width, settings.color, 0.0), settings.frame_step)
