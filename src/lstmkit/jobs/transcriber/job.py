"""Transcription: what a sound, a picture of a line or the strokes of a pen say."""

from __future__ import annotations

from collections import Counter
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lstmkit.data.audio.audio_io import AudioClip, read_audio_blocks
from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.data.transcripts import KINDS, Columns, Transcripts, is_audio_path, read_transcripts
from lstmkit.decoding.ctc import min_steps
from lstmkit.errors import DataError, SettingError, listing
from lstmkit.frontends.base import AlignedFrontEnd
from lstmkit.frontends.features import FeatureFrontEnd
from lstmkit.frontends.ink import StrokeFrontEnd
from lstmkit.frontends.log_mel import LogMelFrontEnd
from lstmkit.frontends.text_line_image import TextLineImageFrontEnd
from lstmkit.jobs import load
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.common.splitting import looked_at, random_split
from lstmkit.jobs.common.token_labels import shown as shown_token
from lstmkit.jobs.language_model.job import LanguageModel
from lstmkit.jobs.transcriber import metrics as scoring
from lstmkit.jobs.transcriber import report
from lstmkit.jobs.transcriber.fine_tuning import PretrainedWeights
from lstmkit.jobs.transcriber.language_model_fusion import character_lm_scorer
from lstmkit.jobs.transcriber.results import CTCDecoder, Transcription, joined, record, transcribe_batches, transcribed
from lstmkit.jobs.transcriber.streaming import StreamingTranscript, pieces
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.models.sequence import CTCModel
from lstmkit.modules.ctc import CTCHead
from lstmkit.modules.sequence_convolutions import TextLineEncoder
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class
from lstmkit.training.train import seeded


@settings_class
class Transcriber(Job):
    """Write down what a sound, a picture of a line of text, features or the strokes of a pen say.

    Data: a folder or ``.zip`` of sounds or pictures with their texts beside them, a table of paths and texts, an
    ``.npz`` of features or strokes, or ``(inputs, texts)``; see ``read_transcripts``.

    >>> rng = np.random.default_rng(0)
    >>> texts = ["".join(rng.choice(list("ab "), 4)).strip() + "a" for _ in range(60)]
    >>> drawn = [np.concatenate([np.tile(np.eye(4)["ab ".index(c)], (4, 1)) for c in text]) for text in texts]
    >>> transcriber = Transcriber(hidden_size=16, width=16, strides=(2,), epochs=20, lr=0.02, masks=0, batch_size=8)
    >>> told = transcriber.fit((drawn, texts)).predict([np.tile(np.eye(4)[:1], (4, 1))])
    >>> told[0].text
    'a'
    """

    name: ClassVar[str] = "transcriber"
    summary: ClassVar[str] = "Write down sounds, pictures of lines or pen strokes (CTC); characters with their places."

    file_col: str = setting("column of a table with the paths of sounds or pictures", default="file")
    text_col: str = setting("column with their texts", default="text")
    reads: str = setting("what arrays of numbers are, if neither pictures nor features", default="auto",
                         choices=("auto", *KINDS))  # fmt: skip
    rate: int = setting("samples a second to which sounds are brought", default=16_000, low=1000, high=768_000)
    bands: int = setting("of the mel scale, of a sound's frames, one every 10 ms", default=40, low=4, high=256)
    height: int = setting("dots to which pictures are brought, a multiple of 4", default=48, low=8, high=512)
    channels: int = setting("of the first convolution of pictures; the second has twice as many", default=24, low=1)
    width: int = setting("of what convolutions tell the recurrent layers", default=128, low=1)
    strides: tuple[int, ...] = setting(
        "steps that become one, convolution by convolution; pictures always 2,2", default=(2, 2), low=1, high=8
    )
    hidden_size: int = setting("units in a layer and direction", default=128, low=1)
    num_layers: int = setting("recurrent layers", default=2, low=1)
    bidirectional: bool = setting("read from both ends; without it a sound can be transcribed live", default=True)
    dropout: float = setting("share of features hidden between parts in training", default=0.3, low=0, high=0.95)
    masks: int = setting(
        "stretches of time, and bands, hidden from training (not of pictures)", default=2, low=0, high=20
    )
    speed: float = setting(
        "by which share training is faster or slower at most (not of pictures)", default=0.1, low=0, high=0.5
    )
    centred: bool = setting(
        "take each example's own mean away, which is that of a voice and a room (of sounds and features)", default=False
    )
    noise: float = setting("how much pictures are bent in training; 0 for not at all", default=1.0, low=0, high=3)
    beam: int = setting("beginnings held in the search; 1 for the best character of each step", default=1, low=1,
                        high=1000)  # fmt: skip
    lm: str = setting("run of a language model of characters that the search asks; none if empty", default="")
    lm_weight: float = setting("of its logarithmic probabilities", default=0.5, low=0)
    lm_bonus: float = setting("for each character, against the language model's liking for few", default=0.0)
    longest: float = setting("seconds of sound transcribed at once; longer is cut at pauses", default=30.0, low=1)
    start: str = setting("run whose weights training begins with; none if empty", default="")
    batch_size: int = setting("examples in a step", default=16, low=1)
    lr: float = setting("peak learning rate", default=3e-3, low=0)
    patience: int = setting("epochs without a better validation loss before stopping; 0 for never", default=10, low=0)
    valid_share: float = setting("share of the examples to validate on", default=0.1, low=0, high=0.5)
    test_share: float = setting("share of the examples held out for the test", default=0.1, low=0, high=0.5)

    tested: tuple[Transcripts, list[Transcription]] | None = field(default=None, init=False, repr=False)
    _front_end: AlignedFrontEnd | None = field(default=None, init=False, repr=False)
    _alphabet: str = field(default="", init=False, repr=False)
    _usual: str = field(default="", init=False, repr=False)  # the most frequent text of the training part
    _start: PretrainedWeights | None = field(default=None, init=False, repr=False)  # not saved

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> Transcripts:
        if self.height % 4:
            raise SettingError(f"height must be a multiple of 4, got {self.height}")
        if self.centred and not self.bidirectional:
            raise SettingError("centred needs the whole example, of which a model that reads one way has seen a part")
        found = read_transcripts(data, Columns(self.file_col, self.text_col, self.reads))
        if self._front_end is not None and found.kind != self._front_end.kind:
            raise DataError(f"{found.name} has {found.kind}, but this model reads {self._front_end.kind}: give that")
        return found

    def split(self, examples: Transcripts, validation: Transcripts | None) -> DataSplit:
        """At random by the seed."""
        for given in (examples, validation):
            if given is not None and not any(given.told()):
                raise DataError(f"{given.name}: every text is empty: there is nothing to learn")
        if validation is not None and validation.kind != examples.kind:
            raise DataError(f"{validation.name} has {validation.kind}, {examples.name} {examples.kind}: give one kind")
        return random_split(examples, validation, "example", self.valid_share, self.test_share, self.seed)

    def prepare(self, train: Transcripts) -> None:
        """Characters, and what the front end learns, from the training part; or taken over from an earlier run."""
        self._front_end = self._build_frontend(train.kind)
        characters = {character for text in train.told() for character in text}
        self._usual = Counter(train.told()).most_common(1)[0][0]
        if self.start:
            with seeded(self.seed):  # models are built; the caller's random numbers go on as they were
                self._initialize_from(load(self.start), characters)
            return
        self._alphabet = "".join(sorted(characters))
        self._front_end.fit(train.inputs, self._progress)

    def _initialize_from(self, before: Job, characters: set[str]) -> None:
        """Take over an earlier run's front end, weights and alphabet, which new characters make longer."""
        if not isinstance(before, Transcriber) or before.front_end.kind != self.front_end.kind:
            raise SettingError(f"{self.start} is no transcriber of {self.front_end.kind}: start from one")
        for name in ("rate", "bands", "centred"):
            if getattr(before, name) != getattr(self, name):
                raise SettingError(f"{self.start} was fitted with {name}={getattr(before, name)}: give the same")
        self._alphabet = before.alphabet + "".join(sorted(characters - {*before.alphabet}))
        self.front_end.load_state(before.front_end.state())
        start = PretrainedWeights(self.start, dict(before.network.state_dict()))
        start.check(self.build())
        self._start = start

    def _build_frontend(self, kind: str) -> AlignedFrontEnd:
        if kind == "lines":
            return TextLineImageFrontEnd(self.height, self.channels, self.width, self.dropout, self.noise)
        centred = self.centred and kind != "strokes"
        steps = FeatureFrontEnd(self.width, self.strides, self.dropout, self.masks, self.speed, centred)
        if kind == "sounds":
            return LogMelFrontEnd(LogMelSpectrogram(self.rate, self.bands, centred=True), steps)
        return StrokeFrontEnd(steps) if kind == "strokes" else steps

    def source(self, examples: Transcripts) -> TextPairDataset:
        """Each as features, and its text by characters; those that training has not seen are left out."""
        encoded = self.front_end.encode(examples.inputs, examples.ids)
        number = {character: i for i, character in enumerate(self._alphabet, 1)}
        targets = [np.array([number[c] for c in text if c in number], dtype=np.int64) for text in examples.told()]
        for name, one, ids in zip(examples.ids, encoded, targets, strict=True):
            steps, needed = -(-len(one) // self.stride), min_steps(ids.tolist())
            if needed > steps:
                raise DataError(
                    f"{examples.name}: {name} has {steps} steps after its convolutions, too few for its text of "
                    f"{len(ids)} characters, which needs {needed}: give smaller strides, or leave it out"
                )
        return TextPairDataset(encoded, targets)

    @property
    def front_end(self) -> AlignedFrontEnd:
        """What turns examples into what the network reads."""
        assert self._front_end is not None
        return self._front_end

    @property
    def alphabet(self) -> str:
        """The characters that can be written, in the order of their classes."""
        return self._alphabet

    @property
    def stride(self) -> int:
        """Steps that become one."""
        return TextLineEncoder.stride if self.front_end.kind == "lines" else int(np.prod(self.strides))

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        encoder = self.front_end.build()
        trunk = build_trunk(
            self.cell, encoder.output_size, self.hidden_size, num_layers=self.num_layers, dropout=self.dropout,
            variational=True, bidirectional=self.bidirectional,
        )  # fmt: skip
        model = CTCModel(encoder, trunk, CTCHead(trunk.output_size, len(self._alphabet), self.dropout))
        if self._start is not None:
            self._start.load_into(model)
        return model

    def calibrate(self, valid: Transcripts | None) -> None:
        """Nothing: confidences are the network's own."""

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, beam: int = 0, lm: Any = "", lm_weight: float = -1.0) -> list[Transcription]:
        """What examples say; texts are not needed.

        A sound of more than ``longest`` seconds is cut at pauses, or, by a model that reads one way, read as it comes
        in, block by block: a single file may be of any length.

        Args:
            data: What :meth:`read` takes.
            beam: Beginnings held in the search; 0 for the setting.
            lm: Run of a language model of characters, or the model itself; empty for the setting.
            lm_weight: Of it; -1 for the setting.

        Raises:
            DataError: The data are not what the model reads.
            SettingError: The language model is none of characters.
        """
        self.model  # noqa: B018  (says so if there is none)
        decoding = self._ctc_decoder(beam, lm, lm_weight)
        if is_audio_path(data) and isinstance(self.front_end, LogMelFrontEnd):
            path = Path(data)
            return [self._long(read_audio_blocks(path, self.rate, self.longest), self.rate, path.name, decoding)]
        return self._found(self.read(data), decoding)

    def _ctc_decoder(self, beam: int = 0, lm: Any = "", lm_weight: float = -1.0) -> CTCDecoder:
        told = lm or self.lm
        score = None
        if told:
            model = load(told) if isinstance(told, (str, Path)) else told
            if not isinstance(model, LanguageModel):
                raise SettingError(
                    f"{told} is no language model: 'lstmkit fit language_model --tokens chars' makes one"
                )
            score = character_lm_scorer(model, self._alphabet)
        found = CTCDecoder(beam or self.beam, score, self.lm_weight if lm_weight < 0 else lm_weight, self.lm_bonus)
        found.check()
        return found

    def _found(
        self, examples: Transcripts, decoding: CTCDecoder, progress: Progress | None = None
    ) -> list[Transcription]:
        """Of each its transcription; long sounds by themselves."""
        long = [isinstance(one, AudioClip) and one.seconds > self.longest for one in examples.inputs]
        short = [i for i, is_long in enumerate(long) if not is_long]
        told = dict(zip(short, self._whole(examples.part(short), decoding, progress), strict=True))
        for i, one in enumerate(examples.inputs):
            if long[i]:
                told[i] = self._long([one.samples], one.rate, examples.ids[i], decoding)
        return [told[i] for i in range(len(examples))]

    def _whole(
        self, examples: Transcripts, decoding: CTCDecoder, progress: Progress | None = None
    ) -> list[Transcription]:
        written = transcribe_batches(
            self.model, self.front_end.encode(examples.inputs, examples.ids), self.stride, decoding,
            at_once=4 * self.batch_size, device=self._device(), progress=progress,
        )  # fmt: skip
        return [
            transcribed(
                found, self._alphabet, name, self.front_end.unit,
                lambda steps, one=one: self.front_end.places(one, steps * self.stride),
            )
            for found, name, one in zip(written, examples.ids, examples.inputs, strict=True)
        ]  # fmt: skip

    def _long(self, blocks: Any, rate: int, name: str, decoding: CTCDecoder) -> Transcription:
        """A sound of any length, of which a piece is held at a time."""
        if not self.bidirectional and decoding.beam == 1:
            live = self.live(rate, name)
            for block in blocks:
                live.push(block)
            return live.finish()
        told = []
        for begins, piece in pieces(blocks, rate, self.longest):
            (found,) = self._whole(Transcripts([piece], [None], [name], "sounds", name), decoding)
            told.append(found.moved(begins))
        return joined(told, name, self.front_end.unit)

    def live(self, rate: int = 0, name: str = "live") -> StreamingTranscript:
        """A transcript that grows with the sound: ``push(samples)``, then ``finish()``.

        Args:
            rate: Samples a second of what will come; 0 for the setting.
            name: Of the transcription.

        Raises:
            SettingError: The model reads from both ends, or no sounds.
        """
        self.model  # noqa: B018
        if self.bidirectional:
            raise SettingError("this model reads from both ends and so cannot read live: fit with --no-bidirectional")
        if not isinstance(self.front_end, LogMelFrontEnd):
            raise SettingError(f"only sounds come in live; this model reads {self.front_end.kind}")
        self.model.to(self._device())
        return StreamingTranscript(self, self.front_end, rate, name)

    def text(self, answer: list[Transcription]) -> str:
        """A line an example; of several its name before."""
        if len(answer) == 1:
            return answer[0].text
        return "\n".join(f"{one.name}\t{one.text}" for one in answer)

    def records(self, answer: list[Transcription]) -> list[dict[str, Any]]:
        return [record(one) for one in answer]

    def picture(self, data: Any, answer: list[Transcription]) -> Figure:
        """The first example, and where each character was read."""
        return report.drawn(self, self.read(data), answer[0], 0)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Character and word error rates, beside the most frequent text of training, and writing nothing.

        Raises:
            DataError: A text is missing, or all are empty.
        """
        self.model  # noqa: B018
        return self.score(self.read(data), progress or default_progress())

    def score(self, test: Transcripts, progress: Progress) -> Evaluation:
        wanted = test.told()
        if not any(wanted):
            raise DataError(f"{test.name}: every text is empty: there is nothing to score")
        decoding = self._ctc_decoder()
        told = self._found(test, decoding, progress)
        self.tested = test, told
        name = self.cell.upper()
        answers = {decoding.named(name): [one.text for one in told]}
        if decoding.beam > 1:
            answers[f"{name}, greedy"] = [one.text for one in self._found(test, CTCDecoder(), progress)]
        answers |= {"most frequent text": [self._usual] * len(test), "nothing": [""] * len(test)}
        rows = [{"model": model, **scoring.scores(texts, wanted)} for model, texts in answers.items()]
        details = pd.DataFrame({"example": list(test.ids), "text": wanted} | answers)
        unseen = Counter(c for text in wanted for c in text if c not in self._alphabet)
        notes = [f"{len(test):,} examples, {sum(map(len, wanted)):,} characters. {scoring.signature()}"]
        if unseen:
            notes.append(
                f"Characters that training has not seen, and that count as mistakes: {unseen.total()} "
                f"({listing(shown_token(c) for c in unseen)})."
            )
        return Evaluation(pd.DataFrame(rows), dict(scoring.BEST), details, tuple(notes))

    def sections(self, examples: Transcripts) -> list[Section]:
        return report.sections(self, examples)

    def example_sequences(self, data: Any, example: int = 1) -> list[ExampleSequence]:
        """Examples, that of number ``example`` (from 1) first."""
        self.model  # noqa: B018
        examples = self.read(data)
        return [self._specimen(examples, row) for row in looked_at(example, examples, "example")]

    def _specimen(self, examples: Transcripts, row: int) -> ExampleSequence:
        (encoded,) = self.front_end.encode([examples.inputs[row]], [examples.ids[row]])
        inputs = torch.from_numpy(encoded).unsqueeze(0).to(next(self.network.parameters()).device)
        with torch.no_grad():
            log_p = self.network.eval()(inputs)[0][0]
        best = log_p.argmax(1).tolist()
        step = int(log_p[:, 1:].amax(1).argmax())
        which = 1 + int(log_p[step, 1:].argmax())
        signs = ["·" if i == 0 else shown_token(self._alphabet[i - 1]) for i in best]

        def surest(output: Tensor) -> Tensor:
            return output[0, step, which]

        return ExampleSequence(
            inputs,
            name=examples.ids[row],
            labels=signs,
            values=encoded.mean(axis=1),
            annotations={"character": np.array(signs)},
            answers={f"log p of {shown_token(self._alphabet[which - 1])!r} at step {step + 1}": surest},
        )

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "reads": self.front_end.kind,
            "alphabet": self._alphabet,
            "usual": self._usual,
            "front": self.front_end.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        if state["reads"] not in KINDS:
            raise ValueError(f"it reads {state['reads']!r}, which no front end does")
        self._alphabet, self._usual = state["alphabet"], state["usual"]
        if not isinstance(self._alphabet, str) or len({*self._alphabet}) != len(self._alphabet) or not self._alphabet:
            raise ValueError("its alphabet is none")
        if not isinstance(self._usual, str):
            raise ValueError("its most frequent text is none")
        self._front_end = self._build_frontend(state["reads"])
        self._front_end.load_state(state["front"])
