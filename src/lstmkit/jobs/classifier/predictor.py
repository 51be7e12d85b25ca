"""What a fitted classifier is: front end, network, classes and calibration."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from typing_extensions import Self

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.labeled_examples import LabeledExamples, Labels
from lstmkit.data.sequence_dataset import Sequences
from lstmkit.data.vision.video_io import ClipFormat
from lstmkit.errors import DataError, listing
from lstmkit.evaluation import calibration
from lstmkit.frontends.augmented_log_mel import AugmentedLogMelFrontEnd
from lstmkit.frontends.base import FrontEnd
from lstmkit.frontends.standardized import StandardizedFrontEnd
from lstmkit.frontends.text import TextFrontEnd
from lstmkit.frontends.video import VideoFrontEnd
from lstmkit.jobs.classifier.regression_mixture import RegressionMixture, convolution_regression, ngram_regression
from lstmkit.jobs.classifier.settings import ClassifierSettings
from lstmkit.jobs.predictor import Predictor
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceClassifier
from lstmkit.modules.classification_head import ClassificationHead
from lstmkit.modules.mixed_regression import MixedRegression
from lstmkit.modules.pooling import build_pool
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

#: Kinds of examples: what messages call them, and the group of settings that counts only for them.
KINDS = {
    "text": ("texts", "text"),
    "numbers": ("time series", ""),
    "audio": ("audio clips", "audio"),
    "video": ("video clips", "video"),
}
_LABEL_TYPES = (str, int, float, bool)


class Probabilities(NamedTuple):
    """Class probabilities ``(N, C)`` of examples, with and without the fitted temperature."""

    calibrated: np.ndarray
    uncalibrated: np.ndarray


class ClassifierPredictor(Predictor[ClassifierSettings]):
    """A fitted classifier.

    Attributes:
        front_end: Encodes examples for the network.
        classes: Labels as text, in the order of probabilities.
        class_values: The same labels ``(C,)`` in the type that ``fit(X, y)`` got; text otherwise.
        class_counts: ``(C,)`` training examples per class.
        num_examples: Training examples.
        scaling: Calibrates the probabilities.
        regression: Logistic regression that is mixed into the probabilities; ``None`` for none.
    """

    def __init__(
        self,
        settings: ClassifierSettings,
        front_end: FrontEnd,
        classes: Sequence[str],
        class_counts: np.ndarray,
        num_examples: int,
        class_values: np.ndarray,
        scaling: calibration.TemperatureScaling | None = None,
        regression: RegressionMixture | None = None,
    ) -> None:
        super().__init__(settings)
        self.front_end = front_end
        self.classes, self.class_values = tuple(classes), class_values
        self.class_counts, self.num_examples = class_counts, num_examples
        self.scaling = scaling or calibration.TemperatureScaling()
        self.regression = regression

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        settings = self.settings
        encoder, width = self.front_end.build()
        trunk = build_trunk(
            settings.cell,
            width,
            settings.hidden_size,
            num_layers=settings.num_layers,
            dropout=settings.hidden_dropout,
            variational=True,
            bidirectional=settings.bidirectional,
        )
        pool = build_pool(settings.pooling, trunk.output_size, 1 + settings.bidirectional)
        weights = self.balanced_class_weights() if settings.class_weight == "balanced" else None
        head = ClassificationHead(trunk.output_size, len(self.classes), self.multi_label, weights, settings.dropout)
        return SequenceClassifier(
            encoder, trunk, pool, head, self.regression and self.regression.build(len(self.classes))
        )

    def balanced_class_weights(self) -> list[float]:
        """``C`` weights, inversely proportional to class frequency; of a label its negatives per positive."""
        counts, total = self.class_counts, self.num_examples
        if self.multi_label:
            return ((total - counts) / np.maximum(1, counts)).clip(0.1, 100).tolist()
        return (total / (len(counts) * np.maximum(1, counts))).tolist()

    # ---- encode --------------------------------------------------------------------------------------------------

    @property
    def multi_label(self) -> bool:
        """Whether an example may have several labels."""
        return bool(self.settings.label_sep)

    @property
    def audio_front_end(self) -> AugmentedLogMelFrontEnd:
        """The front end of a model of audio clips."""
        assert isinstance(self.front_end, AugmentedLogMelFrontEnd)
        return self.front_end

    @property
    def data_kinds(self) -> Collection[str]:
        return (KINDS[self.front_end.kind][1],)

    def check_kind(self, examples: LabeledExamples) -> None:
        """Raise DataError if the examples are of another kind than the training data."""
        if examples.kind != self.front_end.kind:
            expected, actual = KINDS[self.front_end.kind][0], KINDS[examples.kind][0]
            raise DataError(
                f"{examples.name} contains {actual}, but this model was trained on {expected}: give {expected}"
            )

    def targets(self, examples: LabeledExamples) -> np.ndarray:
        """Class indices ``(N,)`` int64; with several labels per example 0 or 1 for each, ``(N, C)`` float32."""
        index = {label: i for i, label in enumerate(self.classes)}
        labels = examples.require_labels()
        if not self.multi_label:
            return np.array([index[one] for (one,) in labels], dtype=np.int64)
        targets = np.zeros((len(labels), len(index)), dtype=np.float32)
        for row, own in zip(targets, labels, strict=True):
            row[[index[label] for label in own]] = 1
        return targets

    # ---- probabilities and labels --------------------------------------------------------------------------------

    def logits(self, encoded: Sequence[np.ndarray], progress: Progress | None = None) -> np.ndarray:
        """``(N, C)`` of encoded examples, in their order."""

        def decode(model: Model, batch: Batch) -> np.ndarray:
            return model(batch.inputs, None, batch.lengths)[0].float().cpu().numpy()

        loader = Loader(Sequences(encoded), 4 * self.settings.batch_size)
        return np.stack(predict(self.model, loader, decode, device=self.device, progress=progress))

    def probabilities(self, encoded: Sequence[np.ndarray], progress: Progress | None = None) -> Probabilities:
        """Of encoded examples, with and without calibration."""
        logits = self.logits(encoded, progress)
        return Probabilities(
            calibration.probabilities(logits, self.multi_label, self.scaling.temperature),
            calibration.probabilities(logits, self.multi_label),
        )

    def predict_probabilities(self, encoded: Sequence[np.ndarray]) -> np.ndarray:
        """``(N, C)``: calibrated probabilities of encoded examples."""
        return self.probabilities(encoded).calibrated

    def calibrate(self, valid: LabeledExamples | None, progress: Progress) -> None:
        """Fit the weight of the regression and the temperature (Guo et al. 2017) to validation examples, if any."""
        weight = self.regression_weight
        if valid is None:
            if self.regression is not None:
                self.regression.attach(self.model, max(0.0, weight))
            return
        encoded, targets = self.front_end.encode(valid.inputs), self.targets(valid)
        if self.regression is not None:
            self.regression.detach(self.model)
            network = calibration.probabilities(self.logits(encoded, progress), multi_label=False)
            share = self.regression.choose(network, encoded, targets)
            self.regression.attach(self.model, share if weight < 0 else weight)
        self.scaling = calibration.fit_temperature(self.logits(encoded, progress), targets)

    @property
    def regression_weight(self) -> float:
        """The weight of the regression that the settings give; below 0 if it is chosen, 0 for none."""
        weights = {"text": self.settings.ngram_weight, "numbers": self.settings.convolution_weight}
        return 0.0 if self.multi_label else weights.get(self.front_end.kind, 0.0)

    def unfitted_regression(self, encoded: Sequence[np.ndarray]) -> MixedRegression | None:
        """The regression for encoded training examples; ``None`` if it has no weight."""
        if not self.regression_weight:
            return None
        if isinstance(self.front_end, TextFrontEnd):
            return ngram_regression(encoded, len(self.front_end.tokenizer), len(self.classes))
        return convolution_regression(encoded, len(self.classes))

    def to_labels(self, probabilities: np.ndarray) -> Labels:
        """The predicted labels of one example, from its probabilities ``(C,)``."""
        if not self.multi_label:
            return (self.classes[int(probabilities.argmax())],)
        above = probabilities >= self.settings.threshold
        return tuple(sorted(label for label, holds in zip(self.classes, above, strict=True) if holds))

    def top_label(self, encoded: np.ndarray) -> tuple[str, float]:
        """The most probable label of one encoded example, and its probability."""
        (probabilities,) = self.predict_probabilities([encoded])
        best = int(probabilities.argmax())
        return self.classes[best], float(probabilities[best])

    def frame(self, examples: LabeledExamples, probabilities: np.ndarray) -> pd.DataFrame:
        """Predictions as a table: ``id, text, label, probability`` and a column ``p_LABEL`` per class.

        Only texts have the column ``text``; with several labels per example there is no ``probability``.
        """
        columns: dict[str, Any] = {"id": list(examples.ids)}
        if examples.kind == "text":
            columns["text"] = list(examples.inputs)
        columns["label"] = [self.settings.label_sep.join(self.to_labels(row)) for row in probabilities]
        if not self.multi_label:
            columns["probability"] = probabilities.max(axis=1)
        by_class = {f"p_{label}": column for label, column in zip(self.classes, probabilities.T, strict=True)}
        return pd.DataFrame({**columns, **by_class})  # at once: to add columns takes longer than a short text

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "classes": self.class_values.tolist(),
            "counts": [*self.class_counts.tolist(), self.num_examples],
            **self.scaling.state(),
            **(
                {"regression": self.regression.state()} if self.regression is not None and self.regression.share else {}
            ),
            "reads": self.front_end.kind,
            "front": self.front_end.state(),
        }

    @classmethod
    def from_state(cls, settings: ClassifierSettings, state: Mapping[str, Any]) -> Self:
        values = state["classes"]
        types = {type(value) for value in values}
        classes = [label_text(value) for value in values]
        if len(types) != 1 or not types <= {*_LABEL_TYPES} or len(set(classes)) < len(classes):
            raise ValueError("its classes are not distinct labels of one type")
        counts = np.array(state["counts"], dtype=np.int64)
        if counts.shape != (len(classes) + 1,) or (counts < 0).any():
            raise ValueError("its counts do not match its classes")
        kind = "audio" if state["reads"] == "sound" else state["reads"]  # "sound" in models saved by 0.1
        if kind not in KINDS:
            raise ValueError(f"it reads {kind!r}, which is not a kind of example")
        front_end = build_front_end(settings, kind)
        front_end.load_state(state["front"])
        scaling = calibration.TemperatureScaling.from_state(state)
        regression = RegressionMixture.from_state(state["regression"]) if "regression" in state else None
        return cls(settings, front_end, classes, counts[:-1], int(counts[-1]), np.array(values), scaling, regression)


def label_text(value: Any) -> str:
    """A label as the examples have it: text without surrounding spaces, whole numbers without a decimal point.

    >>> [label_text(value) for value in (1, 1.0, " a ", True)]
    ['1', '1', 'a', 'True']
    """
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def build_front_end(settings: ClassifierSettings, kind: str) -> FrontEnd:
    """An unfitted front end for one of :data:`KINDS`."""
    if kind == "numbers":
        return StandardizedFrontEnd()
    if kind == "audio":
        return AugmentedLogMelFrontEnd(
            sample_rate=settings.sample_rate,
            n_mels=settings.n_mels,
            conv_channels=settings.conv_channels,
            max_time_shift=settings.max_time_shift,
            min_snr_db=settings.min_snr_db,
            speed_perturbation=settings.speed_perturbation,
            spec_augment_masks=settings.spec_augment_masks,
            dropout=settings.input_dropout,
        )
    if kind == "video":
        return VideoFrontEnd(
            clip_format(settings), settings.feature_size, settings.input_dropout, settings.max_translation
        )
    return TextFrontEnd(
        tokenization=settings.tokenization,
        vocab_size=settings.vocab_size,
        min_count=settings.min_count,
        lowercase=settings.lowercase,
        max_tokens=settings.max_tokens,
        embedding_size=settings.embedding_size or settings.hidden_size,
        word_dropout=settings.word_dropout,
        dropout=settings.input_dropout,
    )


def clip_format(settings: ClassifierSettings) -> ClipFormat:
    """Size, color and frame rate that video clips are converted to."""
    return ClipFormat(settings.height, settings.width, settings.color, settings.frame_rate)


def check_known_labels(examples: LabeledExamples, classes: Collection[str]) -> None:
    """Raise DataError if an example has no label, or a label that is not one of ``classes``."""
    for i, labels in enumerate(examples.require_labels()):
        for label in labels:
            if label not in classes:
                raise DataError(
                    f"{examples.name}: example {examples.ids[i]} has the label {label!r}, which is not in the training "
                    f"data (its labels: {listing(sorted(classes))}): correct it, or fit again with examples of it"
                )
