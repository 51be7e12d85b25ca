"""Classification: what a text, a sequence of numbers, a sound, or a clip is an example of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.batch import Batch, Loader
from lstmkit.data.labeled_examples import Columns, LabeledExamples, Labels, opened, read_labeled_examples
from lstmkit.data.media_files import Takes
from lstmkit.data.sequence_dataset import Sequences, stratified_split
from lstmkit.data.text.tokenizer import KINDS
from lstmkit.data.vision.video_io import ClipFormat, VideoClip
from lstmkit.errors import DataError, listing
from lstmkit.evaluation.calibration import fit_temperature, probabilities
from lstmkit.frontends.augmented_log_mel import AugmentedLogMelFrontEnd
from lstmkit.frontends.base import FrontEnd
from lstmkit.frontends.standardized import StandardizedFrontEnd
from lstmkit.frontends.text import TextFrontEnd
from lstmkit.frontends.video import VideoFrontEnd
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.classifier import attribution as looking
from lstmkit.jobs.classifier import keyword_spotting as hearing
from lstmkit.jobs.classifier import metrics as scoring
from lstmkit.jobs.classifier import report as class_report
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceClassifier
from lstmkit.modules.classification_head import ClassificationHead
from lstmkit.modules.pooling import POOLS, build_pool
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class
from lstmkit.training.predict import predict

_MOST_LOOKS = 8  # examples that are looked at


class Told(NamedTuple):
    """What a model says of examples: probabilities ``(N, C)``, calibrated and as they were before."""

    stated: np.ndarray
    raw: np.ndarray


@settings_class
class Classifier(Job):
    """Learn from labelled examples what is what: texts, sequences of numbers, sounds, or video clips.

    Data: a file or frame with a text column and a label column; or, in long form, with an id, columns of numbers
    (``value_cols``) and a label; or with paths of sound or video files; a folder of these; or ``(inputs, labels)``. See
    ``read_labeled_examples``.

    >>> texts = ["what a good film", "a good story", "what a bad film", "a bad story"] * 10
    >>> labels = ["praise", "praise", "blame", "blame"] * 10
    >>> classifier = Classifier(hidden_size=8, epochs=30, lr=0.02, batch_size=8).fit((texts, labels))
    >>> classifier.predict(["a good book"])["label"].tolist()
    ['praise']
    """

    name: ClassVar[str] = "classifier"
    summary: ClassVar[str] = "Tell what texts, numbers over time, sounds or clips are, beside plain ways to tell."

    text_col: str = setting("column of the texts", default="text")
    label_col: str = setting("column of the labels", default="label")
    id_col: str = setting("column of the examples' names", default="id")
    value_cols: tuple[str, ...] = setting(
        "columns of numbers, where examples are sequences: rows of one id are one, in order", default=()
    )
    label_sep: str = setting("what stands between labels where several may hold; empty for one each", default="")
    tokens: str = setting(
        "what a token is: words and punctuation, what stands between spaces, characters, or pieces of words",
        default="words",
        choices=KINDS,
    )
    vocabulary: int = setting("most tokens that are kept; 0 for all (bpe: 8,000)", default=0, low=0)
    at_least: int = setting("how often a token must occur in the training texts to be kept", default=2, low=1)
    lower: bool = setting("read everything as lower case", default=True)
    longest: int = setting("tokens read of a text, its first; 0 for all", default=0, low=0)
    embed_size: int = setting("width of a token's vector; 0 for hidden_size", default=0, low=0)
    hidden_size: int = setting("units in a layer and direction", default=128, low=1)
    bidirectional: bool = setting("read from both ends", default=True)
    pool: str = setting(
        "what is read of the steps: the last of each direction, their mean or largest, or a learnt choice",
        default="max",
        choices=POOLS,
    )
    dropout: float = setting("share of features hidden before the answer", default=0.5, low=0, high=0.95)
    layer_dropout: float = setting("share of features hidden between layers", default=0.3, low=0, high=0.95)
    input_dropout: float = setting(
        "share of a token's vector, or of what is heard of a sound or seen of a frame, hidden",
        default=0.3,
        low=0,
        high=0.95,
    )
    word_dropout: float = setting("share of the vocabulary hidden in a batch", default=0.1, low=0, high=0.95)
    sound_col: str = setting("column of the paths of sound or video files, from the table's folder on", default="path")
    name_label: str = setting(
        "regular expression whose one group is the label in a sound or video file's name; empty for its folder's",
        default="",
    )
    rate: int = setting(
        "samples a second that sounds are brought to; 0 for those of the slowest to learn from, at most 16,000",
        default=0,
        low=0,
        high=48_000,
    )
    bands: int = setting("bands of the mel scale that a sound is heard in", default=40, low=4, high=256)
    channels: int = setting("of each convolution over a sound", default=32, low=1)
    shift: float = setting(
        "seconds of silence that training puts before and after a sound, at most", default=0.1, low=0
    )
    noise: float = setting("decibels that training's noise is below a sound, at least; 0 for none", default=25.0, low=0)
    speed: float = setting(
        "by which share training makes a sound faster or slower, higher or lower", default=0.1, low=0, high=0.5
    )
    masks: int = setting("stretches of time, and of bands, of a sound that training hides", default=1, low=0)
    height: int = setting("dots that a frame of a clip is high when it is read", default=64, low=16, high=512)
    width: int = setting("and wide", default=64, low=16, high=512)
    colour: bool = setting("read frames in colour", default=True)
    frame_rate: float = setting("frames a second that are read of a clip, at most; 0 for all", default=10.0, low=0)
    frame_size: int = setting("features of a frame", default=128, low=1)
    frame_shift: float = setting("share of a side by which training moves clips, at most", default=0.1, low=0, high=0.5)
    class_weights: str = setting(
        "what a mistake costs: the same, or the more the rarer the class", default="none", choices=("none", "balanced")
    )
    threshold: float = setting(
        "probability from which a label is said to hold, where several may", default=0.5, low=0, high=1
    )
    batch_size: int = setting("examples in a step", default=32, low=1)
    valid_share: float = setting("share of the examples to validate and calibrate on", default=0.1, low=0, high=0.5)
    test_share: float = setting("share of the examples held out for the test", default=0.1, low=0, high=0.5)

    tested: tuple[LabeledExamples, Told] | None = field(default=None, init=False, repr=False)  # what was last evaluated
    _front_end: FrontEnd | None = field(default=None, init=False, repr=False)
    _classes: tuple[str, ...] = field(default=(), init=False, repr=False)
    _counts: np.ndarray | None = field(default=None, init=False, repr=False)  # examples of each class, and of all
    _temperature: float = field(default=1.0, init=False, repr=False)
    _train_part: LabeledExamples | None = field(default=None, init=False, repr=False)  # not saved, nor the next
    _valid_part: LabeledExamples | None = field(default=None, init=False, repr=False)

    # ---- from file to sequences ----------------------------------------------------------------------------------

    def read(self, data: Any) -> LabeledExamples:
        found = read_labeled_examples(data, self._columns)
        if self._front_end is not None and found.kind != self._front_end.kind:
            raise DataError(f"{found.name} has {found.kind}, but this model reads {self._front_end.kind}: give that")
        return found

    @property
    def _columns(self) -> Columns:
        return Columns(
            self.text_col,
            self.label_col,
            self.id_col,
            self.value_cols,
            self.label_sep,
            self.sound_col,
            self.name_label,
            self._frame_shape,
        )

    @property
    def _frame_shape(self) -> ClipFormat:
        """Of a clip's frames."""
        return ClipFormat(self.height, self.width, self.colour, self.frame_rate)

    def split(self, examples: LabeledExamples, validation: LabeledExamples | None) -> DataSplit:
        """Training, validation and test at random, every class in proportion."""
        for given in (examples, validation):
            if given is not None:
                given.check_not_empty()
        labels = examples.require_labels()
        classes = {label for of_one in labels for label in of_one}
        if len(classes) < (1 if self.several else 2):
            only = f"all examples have the label {classes.pop()!r}" if classes else "no example has a label"
            raise DataError(f"{examples.name}: {only}: there is nothing to tell apart")
        shares = (self.test_share, 0.0 if validation is not None else self.valid_share)
        train, (test, valid) = stratified_split(labels, shares, self.seed)
        for share, rows in zip(shares, (test, valid), strict=True):
            if share and not len(rows):
                raise DataError(
                    f"{examples.name} has {len(examples)} examples of {len(classes)} classes, too few to hold some "
                    "back for validation and test: give more, or --valid-share 0 --test-share 0"
                )
        if validation is not None:
            self._check_known_labels(validation, classes)
        held_out = examples.part(valid) if len(valid) else validation
        return DataSplit(examples.part(train), held_out, examples.part(test) if len(test) else None)

    def _check_known_labels(self, examples: LabeledExamples, classes: Sequence[str] | set[str]) -> None:
        for i, labels in enumerate(examples.require_labels()):
            for label in labels:
                if label not in classes:
                    raise DataError(
                        f"{examples.name}: example {examples.ids[i]} has the label {label!r}, which training has not "
                        f"seen (it knows {listing(sorted(classes))}): correct it, or fit anew with examples of it"
                    )

    def prepare(self, train: LabeledExamples) -> None:
        """Classes, and what the front end learns, from the training part."""
        labels = train.require_labels()
        counts = Counter(label for of_one in labels for label in of_one)
        self._classes = tuple(sorted(counts, key=_label_sort_key(counts)))
        self._counts = np.array([*(counts[name] for name in self._classes), len(labels)])
        self._front_end = self._build_frontend(train.kind)
        self._front_end.fit(train.inputs, self._progress)
        self._train_part = train

    def _build_frontend(self, kind: str) -> FrontEnd:
        if kind == "numbers":
            return StandardizedFrontEnd()
        if kind == "sound":
            return AugmentedLogMelFrontEnd(
                rate=self.rate,
                bands=self.bands,
                channels=self.channels,
                shift=self.shift,
                noise=self.noise,
                speed=self.speed,
                masks=self.masks,
                dropout=self.input_dropout,
            )
        if kind == "video":
            return VideoFrontEnd(self._frame_shape, self.frame_size, self.input_dropout, self.frame_shift)
        return TextFrontEnd(
            tokens=self.tokens,
            vocabulary=self.vocabulary,
            at_least=self.at_least,
            lower=self.lower,
            longest=self.longest,
            width=self.embed_size or self.hidden_size,
            word_dropout=self.word_dropout,
            dropout=self.input_dropout,
        )

    def source(self, examples: LabeledExamples) -> Sequences:
        return Sequences(self.front_end.encode(examples.inputs), self.targets(examples))

    def targets(self, examples: LabeledExamples) -> np.ndarray:
        """Classes ``(N,)`` int64, or which labels hold ``(N, C)`` float32."""
        number = {name: i for i, name in enumerate(self._classes)}
        labels = examples.require_labels()
        if not self.several:
            return np.array([number[of_one[0]] for of_one in labels], dtype=np.int64)
        holds = np.zeros((len(labels), len(number)), dtype=np.float32)
        for row, of_one in zip(holds, labels, strict=True):
            row[[number[label] for label in of_one]] = 1
        return holds

    @property
    def several(self) -> bool:
        """Whether several labels may hold of one example."""
        return bool(self.label_sep)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of probabilities."""
        return self._classes

    @property
    def front_end(self) -> FrontEnd:
        """What turns examples into what the network reads."""
        assert self._front_end is not None
        return self._front_end

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        encoder, width = self.front_end.build()
        trunk = build_trunk(
            self.cell,
            width,
            self.hidden_size,
            num_layers=self.num_layers,
            dropout=self.layer_dropout,
            variational=True,
            bidirectional=self.bidirectional,
        )
        pool = build_pool(self.pool, trunk.output_size, 1 + self.bidirectional)
        weights = self._weights() if self.class_weights == "balanced" else None
        head = ClassificationHead(trunk.output_size, len(self._classes), self.several, weights, self.dropout)
        return SequenceClassifier(encoder, trunk, pool, head)

    def _weights(self) -> list[float]:
        """What a mistake in each class costs: all classes together the same."""
        assert self._counts is not None
        counts, total = self._counts[:-1], self._counts[-1]
        if self.several:
            return ((total - counts) / np.maximum(1, counts)).clip(0.1, 100).tolist()
        return (total / (len(counts) * np.maximum(1, counts))).tolist()

    def calibrate(self, valid: LabeledExamples | None) -> None:
        """The temperature, on the validation part."""
        self._valid_part, self._temperature = valid, 1.0
        if valid is not None:
            logits = self._logits(self.front_end.encode(valid.inputs), self._progress)
            self._temperature = fit_temperature(logits, self.targets(valid))

    def _logits(self, encoded: Sequence[np.ndarray], progress: Progress | None = None) -> np.ndarray:
        """``(N, C)``, in the order of the examples."""

        def decode(model: Model, batch: Batch) -> np.ndarray:
            return model(batch.inputs, None, batch.lengths)[0].float().cpu().numpy()

        loader = Loader(Sequences(encoded), 4 * self.batch_size)
        return np.stack(predict(self.model, loader, decode, device=self._device(), progress=progress))

    def _told(self, encoded: Sequence[np.ndarray], progress: Progress | None = None) -> Told:
        logits = self._logits(encoded, progress)
        return Told(probabilities(logits, self.several, self._temperature), probabilities(logits, self.several))

    def stated(self, encoded: Sequence[np.ndarray]) -> np.ndarray:
        """``(N, C)``: calibrated probabilities of encoded examples."""
        return self._told(encoded).stated

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any, listen: float = 0.0) -> pd.DataFrame:
        """What each example is: ``id, text, label, probability`` and a column ``p_…`` a class; labels are not needed.

        Where several labels may hold, ``label`` has all of them and there is no ``probability``.

        Args:
            data: Examples.
            listen: Above 0, ``data`` are long recordings, and what is told is :meth:`listen` with that probability.

        Raises:
            DataError: A sound is much longer than those that it learnt from.
        """
        self.model  # noqa: B018  (says so if there is none)
        if listen:
            return self.listen(data, listen)
        examples = self.read(data)
        if isinstance(self.front_end, AugmentedLogMelFrontEnd):
            self.front_end.check_duration(examples.inputs)
        stated = self.stated(self.front_end.encode(examples.inputs))
        frame = pd.DataFrame({"id": list(examples.ids)})
        if examples.kind == "text":
            frame["text"] = list(examples.inputs)
        frame["label"] = [self.label_sep.join(self.said(row)) for row in stated]
        if not self.several:
            frame["probability"] = stated.max(axis=1)
        each = pd.DataFrame({f"p_{name}": stated[:, i] for i, name in enumerate(self._classes)})
        return pd.concat([frame, each], axis=1)

    def listen(self, data: Any, sure: float = 0.5, pause: float = 0.2) -> pd.DataFrame:
        """The commands in recordings of any length, and when they were said: ``id, start, end, label, probability``.

        Args:
            data: Sound files, folders or sounds, as :meth:`read` takes them; they are read block by block.
            sure: The least probability of a command that is told.
            pause: Seconds of quiet that end a command.

        Raises:
            UserError: This model does not tell single commands, or these are no recordings.
        """
        self.model  # noqa: B018
        hearing.check(self, sure, pause)
        takes = opened(data, self._columns)
        if not isinstance(takes, Takes):
            raise DataError("there are no recordings in the data: give sound files, or (arrays, None, rate)")
        rows = [(take.id, *one) for take in takes.each() for one in hearing.heard(self, take, sure, pause)]
        return pd.DataFrame(rows, columns=pd.Index(["id", *hearing.KeywordDetection._fields]))

    def live(self, rate: int = 0, sure: float = 0.5, pause: float = 0.2) -> hearing.KeywordSpotter:
        """For a recording as it comes in: the same commands as :meth:`listen` tells of the whole.

        Args:
            rate: Samples a second that will come; 0 for those that the model reads.
            sure, pause: As of :meth:`listen`.
        """
        self.model  # noqa: B018
        hearing.check(self, sure, pause)
        return hearing.KeywordSpotter(self, rate or self.audio_frontend.mel.rate, sure, pause)

    @property
    def audio_frontend(self) -> AugmentedLogMelFrontEnd:
        """The front end of sounds."""
        assert isinstance(self.front_end, AugmentedLogMelFrontEnd)
        return self.front_end

    def named(self, encoded: np.ndarray) -> tuple[str, float]:
        """The likeliest label of one encoded example, and its probability."""
        (stated,) = self.stated([encoded])
        which = int(stated.argmax())
        return self._classes[which], float(stated[which])

    def said(self, stated: np.ndarray) -> Labels:
        """The labels that probabilities ``(C,)`` amount to."""
        if not self.several:
            return (self._classes[int(stated.argmax())],)
        return tuple(sorted(name for name, p in zip(self._classes, stated, strict=True) if p >= self.threshold))

    def text(self, answer: pd.DataFrame) -> str:
        return answer.to_csv(index=False).rstrip("\n")

    def records(self, answer: pd.DataFrame) -> list[dict[str, Any]]:
        return answer.to_dict("records")

    def picture(self, data: Any, answer: pd.DataFrame) -> Figure:
        """What decided the first example; of what was listened to, what was heard in the first recording."""
        if "start" in answer:
            takes = opened(data, self._columns)
            assert isinstance(takes, Takes)
            first = next(takes.each())
            rows = answer.loc[answer["id"] == first.id, list(hearing.KeywordDetection._fields)]
            return class_report.keyword_detections_figure(
                self, first, [hearing.KeywordDetection(*row) for row in rows.itertuples(index=False)]
            )
        examples = self.read(data)
        stated = answer[[f"p_{name}" for name in self._classes]].to_numpy()[0]
        return class_report.attribution_figure(self, examples.inputs[0], stated)

    def decided(self, example: str | np.ndarray | AudioClip | VideoClip, label: str) -> tuple[list[str], np.ndarray]:
        """What decided an answer: by how much the probability of a label falls as each step is erased.

        Of a long example several steps are erased together, and share the change.

        Args:
            example: One text, one sequence ``(T, F)``, one sound, or one clip.
            label: One of :attr:`classes`.

        Returns:
            What stands at each step, and ``(T,)`` changes.

        Raises:
            DataError: There is no such label.
        """
        self.model  # noqa: B018
        if label not in self._classes:
            raise DataError(f"there is no label {label!r}: the model knows {listing(self._classes)}")
        example = self.read([example]).inputs[0]
        (encoded,) = self.front_end.encode([example])
        return self.front_end.steps(example), looking.decided(self, encoded, self._classes.index(label))

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Scores on examples that fit was not given, beside the majority class, and what counts words or neighbours.

        Those learn from the examples that this object was fitted to; a loaded model has the majority class only.
        """
        self.model  # noqa: B018
        examples = self.read(data)
        self._check_known_labels(examples, self._classes)
        return self.score(examples, progress or default_progress())

    def score(self, test: LabeledExamples, progress: Progress) -> Evaluation:
        assert self._counts is not None
        targets = self.targets(test)
        encoded = self.front_end.encode(test.inputs)
        told = self._told(encoded, progress)
        self.tested = (test, told)
        beside = scoring.baselines(
            test.kind,
            self._labeled_data(self._train_part),
            self._labeled_data(self._valid_part),
            self._baseline_inputs(test),
            self._counts[:-1],
            int(self._counts[-1]),
            balanced=self.class_weights == "balanced",
            seed=self.seed,
            progress=progress,
        )
        rows = [
            {"model": name, **scoring.scores(stated, targets, self.threshold)}
            for name, stated in {self.cell.upper(): told.stated, **beside}.items()
        ]
        details = pd.DataFrame(
            {"id": list(test.ids), "label": [self.label_sep.join(of) for of in test.require_labels()]}
        )
        details[[f"p_{name}" for name in self._classes]] = told.stated
        calibrated = scoring.calibration(told.raw, told.stated, targets, self._temperature)
        notes = [f"{len(test)} examples. {calibrated}", *self.front_end.notes(encoded)]
        if self._train_part is None:
            notes.append("A loaded model has not the examples it learnt from: only the majority class stands beside.")
        best = scoring.MULTI_LABEL_METRICS if self.several else scoring.ONE
        return Evaluation(pd.DataFrame(rows), dict(best), details, tuple(notes))

    def _labeled_data(self, part: LabeledExamples | None) -> scoring.LabeledData | None:
        return None if part is None else scoring.LabeledData(self._baseline_inputs(part), self.targets(part))

    def _baseline_inputs(self, examples: LabeledExamples) -> Sequence[Any]:
        """As baselines read them: texts as they are, numbers on the training part's scale, clips as small pictures."""
        if isinstance(self.front_end, VideoFrontEnd):
            return self.front_end.thumbnails(examples.inputs)
        return examples.inputs if examples.kind == "text" else self.front_end.encode(examples.inputs)

    def sections(self, examples: LabeledExamples) -> list[Section]:
        return class_report.sections(self, examples)

    def example_sequences(self, data: Any, example: int = 1) -> list[ExampleSequence]:
        """Examples of ``data``, from number ``example`` (from 1) on."""
        self.model  # noqa: B018
        examples = self.read(data)
        if not 1 <= example <= len(examples):
            raise DataError(f"there is no example {example}: {examples.name} has 1 to {len(examples)}")
        rows = range(example - 1, min(len(examples), example - 1 + _MOST_LOOKS))
        return [looking.example_sequence(self, examples.inputs[row], f"example {examples.ids[row]}") for row in rows]

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        assert self._counts is not None
        return {
            "classes": list(self._classes),
            "counts": self._counts.tolist(),
            "temperature": self._temperature,
            "reads": self.front_end.kind,
            "front": self.front_end.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        names, self._temperature = state["classes"], float(state["temperature"])
        self._counts = np.array(state["counts"], dtype=np.int64)
        if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
            raise ValueError("its classes are none")
        self._classes = tuple(names)
        if self._counts.shape != (len(names) + 1,) or (self._counts < 0).any():
            raise ValueError("its counts are not of its classes")
        if not np.isfinite(self._temperature) or self._temperature <= 0:
            raise ValueError("its temperature is none")
        if state["reads"] not in ("text", "numbers", "sound", "video"):
            raise ValueError(f"it reads {state['reads']!r}, which no front end does")
        self._front_end = self._build_frontend(state["reads"])
        self._front_end.load_state(state["front"])


def _label_sort_key(names: Any) -> Any:
    """How to sort labels: as numbers where all are."""

    def as_number(name: str) -> bool:
        return name.lstrip("+-").isdecimal()

    return int if all(map(as_number, names)) else str
