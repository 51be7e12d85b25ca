"""Classification of texts, time series, audio clips and video clips."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.data.labeled_examples import FORMATS, Columns, LabeledExamples, open_media, read_labeled_examples
from lstmkit.data.sequence_dataset import Sequences, stratified_split
from lstmkit.data.tables.native_frames import as_pandas, records_of, to_native
from lstmkit.errors import DataError, listing
from lstmkit.export.graphs import JobExport
from lstmkit.frontends.augmented_log_mel import AugmentedLogMelFrontEnd
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.classifier import arrays
from lstmkit.jobs.classifier import report as classifier_report
from lstmkit.jobs.classifier.attribution import Example, example_sequence, occlusion_attribution
from lstmkit.jobs.classifier.export import exported_classifier
from lstmkit.jobs.classifier.keyword_spotting import (
    KeywordDetection,
    KeywordSpotter,
    check_keyword_spotting,
    spot_keywords_in,
)
from lstmkit.jobs.classifier.metrics import evaluate_classifier
from lstmkit.jobs.classifier.predictor import (
    KINDS,
    ClassifierPredictor,
    build_front_end,
    check_known_labels,
    clip_format,
)
from lstmkit.jobs.classifier.regression_mixture import RegressionMixture
from lstmkit.jobs.classifier.settings import ClassifierSettings
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.look import ExampleSequence
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section

if TYPE_CHECKING:
    from sklearn.utils import Tags

_MAX_INSPECTED = 8


class Classifier(ClassifierSettings, Job[ClassifierPredictor]):
    """Classify texts, time series, audio clips or video clips.

    Data: a file or frame with a text column and a label column; a table in long form with an id, numeric columns
    (``value_cols``) and a label; a table, folder or zip of audio or video files; or ``(inputs, labels)``. See
    :func:`lstmkit.data.labeled_examples.read_labeled_examples`.

    It is also a scikit-learn classifier: ``fit(X, y)``, ``predict(X)``, ``predict_proba(X)``, ``score(X, y)``. There
    ``X`` is an array of time series ``(N, T)`` or ``(N, T, F)``, a list of arrays or a list of texts.

    >>> texts = ["what a good film", "a good story", "what a bad film", "a bad story"] * 10
    >>> labels = ["positive", "positive", "negative", "negative"] * 10
    >>> classifier = Classifier(hidden_size=8, epochs=30, lr=0.02, batch_size=8).fit((texts, labels))
    >>> classifier.predict(["a good book"])["label"].tolist()
    ['positive']
    """

    predictor_class: ClassVar = ClassifierPredictor
    data_formats = FORMATS
    live_inputs = ("row", "microphone")
    answer_suffixes = (".csv",)
    _estimator_type: ClassVar[str] = "classifier"

    _label_values: dict[str, Any] = {}  # noqa: RUF012  (never changed in place)
    _train_split: LabeledExamples | None = None  # not saved, nor the next
    _valid_split: LabeledExamples | None = None

    # ---- from file to sequences ----------------------------------------------------------------------------------

    def read(self, data: Any) -> LabeledExamples:
        if isinstance(data, tuple) and data:
            data = (arrays.checked_inputs(data[0]), *data[1:])
        examples = read_labeled_examples(arrays.checked_inputs(data), self._columns)
        if self.is_fitted:
            self.predictor.check_kind(examples)
        return examples

    @property
    def _columns(self) -> Columns:
        return Columns(
            self.text_col,
            self.label_col,
            self.id_col,
            self.value_cols,
            self.label_sep,
            self.path_col,
            self.label_pattern,
            clip_format(self),
        )

    def with_labels(self, data: Any, y: Any) -> Any:
        """``data`` with labels that scikit-learn passes apart.

        Args:
            data: ``X``: an array, a list of arrays, texts or clips, or a frame without its labels.
            y: ``(N,)`` labels: text, integers or booleans; with ``label_sep`` a sequence of labels per example.

        Raises:
            DataError: ``y`` does not hold one discrete label per example.
        """
        labels = arrays.checked_labels(y, bool(self.label_sep))
        self._label_values = arrays.label_values(labels)
        return self._labeled(data, labels)

    def _labeled(self, data: Any, labels: list[Any]) -> Any:
        if isinstance(data, pd.DataFrame):
            return arrays.with_label_column(data, self.label_col, labels)
        data = arrays.checked_inputs(data)
        if isinstance(data, (str, bytes)) or not hasattr(data, "__len__"):
            raise DataError(f"X must be an array, a list or a frame if labels are apart, not {type(data).__name__}")
        return data, labels

    def split(self, examples: LabeledExamples, validation: LabeledExamples | None) -> DataSplit:
        """Random training, validation and test parts, stratified by class."""
        for part in (examples, validation):
            if part is not None:
                part.check_not_empty()
        kind, group = KINDS[examples.kind]
        self.check_group({group}, kind)
        labels = examples.require_labels()
        classes = {label for own in labels for label in own}
        if len(classes) < (1 if self.label_sep else 2):
            found = f"all examples have one class, {classes.pop()!r}" if classes else "no example has a label"
            raise DataError(f"{examples.name}: {found}: give examples of at least two classes")
        fractions = (self.test_fraction, 0.0 if validation is not None else self.valid_fraction)
        train, (test, valid) = stratified_split(labels, fractions, self.seed)
        for fraction, rows in zip(fractions, (test, valid), strict=True):
            if fraction and not len(rows):
                raise DataError(
                    f"{examples.name} has {len(examples)} examples of {len(classes)} classes, too few for a validation "
                    "and a test part: give more examples, or valid_fraction=0 and test_fraction=0"
                )
        if validation is not None:
            check_known_labels(validation, classes)
        held_out = examples.subset(valid) if len(valid) else validation
        return DataSplit(examples.subset(train), held_out, examples.subset(test) if len(test) else None)

    def prepare(self, train: LabeledExamples) -> ClassifierPredictor:
        """Classes, and a front end fitted to the training part."""
        labels = train.require_labels()
        counts = Counter(label for own in labels for label in own)
        classes = sorted(counts, key=int if all(map(_is_integer, counts)) else str)
        front_end = build_front_end(self, train.kind)
        front_end.fit(train.inputs, self.progress)
        self._train_split = train
        class_counts = np.array([counts[label] for label in classes])
        values = np.array([self._label_values.get(label, label) for label in classes])
        predictor = ClassifierPredictor(self.snapshot(), front_end, classes, class_counts, len(labels), values)
        encoded = front_end.encode(train.inputs) if predictor.regression_weight else []
        regression = predictor.unfitted_regression(encoded)
        if regression is not None:
            predictor.regression = RegressionMixture.fitted(
                regression,
                encoded,
                predictor.targets(train),
                balanced=self.class_weight == "balanced",
                progress=self.progress,
            )
        return predictor

    def source(self, examples: LabeledExamples) -> Sequences:
        return Sequences(self.predictor.front_end.encode(examples.inputs), self.predictor.targets(examples))

    def calibrate(self, valid: LabeledExamples | None) -> None:
        """Fit the weight of the regression and the temperature to the validation part."""
        self._valid_split = valid
        self.predictor.calibrate(valid, self.progress)

    # ---- predictions ---------------------------------------------------------------------------------------------

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels as text, in the order of probabilities."""
        return self.predictor.classes

    def predict(self, data: Any, keyword_threshold: float = 0.0) -> Any:
        """Predict the label of each example.

        Args:
            data: Examples; labels are not needed.
            keyword_threshold: Above 0, ``data`` are long recordings, and the result is that of :meth:`spot_keywords`
                with this minimum probability.

        Returns:
            A frame of the same kind as ``data`` (pandas, Polars, Arrow; pandas for files and lists) with
            ``id, text, label, probability`` and a column ``p_LABEL`` per class. With several labels per
            example, ``label`` holds all of them and there is no ``probability``. For a numpy array or a pandas series
            it is an array of labels ``(N,)`` in the type of ``y``; with several labels 0 or 1 for each, ``(N, C)``.

        Raises:
            DataError: An audio clip is much longer than the training clips.
        """
        predictor = self.predictor
        if keyword_threshold:
            return self.spot_keywords(data, keyword_threshold)
        examples, probabilities = self._read_and_predict(data)
        if arrays.is_array(data):
            if predictor.multi_label:
                return (probabilities >= self.threshold).astype(np.int64)
            return predictor.class_values[probabilities.argmax(axis=1)]
        return to_native(predictor.frame(examples, probabilities), data)

    def _read_and_predict(self, data: Any) -> tuple[LabeledExamples, np.ndarray]:
        predictor = self.predictor
        examples = self.read(data)
        if isinstance(predictor.front_end, AugmentedLogMelFrontEnd):
            predictor.front_end.check_duration(examples.inputs)
        return examples, predictor.predict_probabilities(predictor.front_end.encode(examples.inputs))

    def spot_keywords(self, data: Any, min_probability: float = 0.5, min_silence_seconds: float = 0.2) -> pd.DataFrame:
        """Find the spoken keywords in recordings of any length: ``id, start, end, label, probability``.

        Args:
            data: Audio files, folders or clips as :meth:`read` takes them; they are read block by block.
            min_probability: Detections below it are dropped.
            min_silence_seconds: Silence that ends a keyword.

        Raises:
            UserError: The model was not trained on audio clips with one label each, or ``data`` are not recordings.
        """
        check_keyword_spotting(self.predictor, min_probability, min_silence_seconds)
        detections = spot_keywords_in(
            self.predictor, open_media(data, self._columns), min_probability, min_silence_seconds
        )
        return pd.DataFrame(detections, columns=pd.Index(["id", *KeywordDetection._fields]))

    def stream(
        self, sample_rate: int = 0, min_probability: float = 0.5, min_silence_seconds: float = 0.2
    ) -> KeywordSpotter:
        """Spot keywords in one recording as it comes in: the same detections as :meth:`spot_keywords`.

        Args:
            sample_rate: Sample rate of the recording in Hz; 0 = the model's.
            min_probability, min_silence_seconds: As in :meth:`spot_keywords`.
        """
        check_keyword_spotting(self.predictor, min_probability, min_silence_seconds)
        rate = sample_rate or self.predictor.audio_front_end.mel.sample_rate
        return KeywordSpotter(self.predictor, rate, min_probability, min_silence_seconds)

    def occlusion_attribution(self, example: Example, label: str) -> tuple[list[str], np.ndarray]:
        """Occlude each step of an example and measure the decrease of a label's probability.

        Examples of more than 200 steps are occluded several steps at a time.

        Args:
            example: One text, time series ``(T, F)``, audio clip or video clip.
            label: One of :attr:`classes`.

        Returns:
            The name of each step, and the changes ``(T,)``; positive if the step supports the label.

        Raises:
            DataError: There is no such label.
        """
        predictor = self.predictor
        if label not in predictor.classes:
            raise DataError(f"there is no label {label!r}: the labels of the model are {listing(predictor.classes)}")
        example = self.read([example]).inputs[0]
        (encoded,) = predictor.front_end.encode([example])
        changes = occlusion_attribution(predictor, encoded, predictor.classes.index(label))
        return predictor.front_end.steps(example), changes

    def to_text(self, predictions: Any) -> str:
        """CSV with a header."""
        return _as_frame(predictions).to_csv(index=False).rstrip("\n")

    def to_records(self, predictions: Any) -> list[dict[str, Any]]:
        return records_of(_as_frame(predictions))

    def plot(self, data: Any, predictions: Any) -> Figure:
        """The attribution of the first texts, of another first example, or the keywords in the first recording."""
        if "start" in _as_frame(predictions):
            return classifier_report.keyword_figure(self.predictor, open_media(data, self._columns), predictions)
        examples = self.read(data)
        if examples.kind == "text":
            return classifier_report.text_attributions_figure(self.predictor, examples.inputs)
        example = examples.inputs[0]
        (probabilities,) = self.predictor.predict_probabilities(self.predictor.front_end.encode([example]))
        figure = classifier_report.attribution_figure(self.predictor, example, probabilities)
        return note_selection(figure, len(examples), "examples")

    def exported(self) -> JobExport:
        return exported_classifier(self.predictor)

    # ---- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Score the model and its baselines on labeled examples that it was not fitted to.

        The baselines are the majority class, and TF-IDF with logistic regression (texts) or the nearest neighbor. They
        are fitted to the training examples of this object; load a model with ``train`` to have them.
        """
        predictor = self.predictor
        examples = self.read(data)
        check_known_labels(examples, predictor.classes)
        return self.evaluate_examples(examples, progress or default_progress())

    def evaluate_examples(self, test: LabeledExamples, progress: Progress) -> Evaluation:
        return evaluate_classifier(self.predictor, test, self._train_split, self._valid_split, progress)

    def report_sections(self, examples: LabeledExamples) -> list[Section]:
        return classifier_report.classifier_sections(self.predictor, examples, self.full_evaluation)

    def example_sequences(self, data: Any, example: int = 1) -> list[ExampleSequence]:
        """At most 8 examples of ``data``, from number ``example`` (1 = the first) on."""
        predictor = self.predictor
        examples = self.read(data)
        if not 1 <= example <= len(examples):
            raise DataError(f"there is no example {example}: {examples.name} has examples 1 to {len(examples)}")
        rows = range(example - 1, min(len(examples), example - 1 + _MAX_INSPECTED))
        return [example_sequence(predictor, examples.inputs[i], f"example {examples.ids[i]}") for i in rows]

    # ---- scikit-learn --------------------------------------------------------------------------------------------

    @property
    def classes_(self) -> np.ndarray:
        """``(C,)`` labels in the type of ``y``, in the order of :meth:`predict_proba`."""
        return self.predictor.class_values

    def predict_proba(self, X: Any) -> np.ndarray:
        """``(N, C)``: calibrated probabilities, in the order of :attr:`classes_`."""
        return self._read_and_predict(X)[1]

    def score(self, X: Any, y: Any) -> float:
        """Accuracy on ``X`` with the labels ``y``; with several labels per example all of them must be right."""
        predictor = self.predictor
        labels = arrays.checked_labels(y, predictor.multi_label)
        examples = self.read(self._labeled(X, labels))
        probabilities = predictor.predict_probabilities(predictor.front_end.encode(examples.inputs))
        pairs = zip(probabilities, examples.require_labels(), strict=True)
        return float(np.mean([predictor.to_labels(row) == own for row, own in pairs]))

    def __sklearn_is_fitted__(self) -> bool:
        return self.is_fitted

    def __sklearn_tags__(self) -> Tags:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(multi_label=bool(self.label_sep)),
            input_tags=InputTags(three_d_array=True, string=True),
        )


def _is_integer(label: str) -> bool:
    return label.lstrip("+-").isdecimal()


def _as_frame(predictions: Any) -> pd.DataFrame:
    """Predictions as a frame; an array of labels as its one column."""
    predictions = as_pandas(predictions)
    return predictions if isinstance(predictions, pd.DataFrame) else pd.DataFrame({"label": predictions.tolist()})
