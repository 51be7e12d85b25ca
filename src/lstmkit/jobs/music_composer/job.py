"""Music: piano rolls, how likely a piece is, how it goes on, and what goes with a melody."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lstmkit.data.batch import Batches, Loader
from lstmkit.data.music.midi import N_KEYS, note_name
from lstmkit.data.music.piano_rolls import PianoRollDataset, PianoRolls, Piece, highest, read_piano_rolls, shift_right
from lstmkit.errors import DataError
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.common.splitting import random_split
from lstmkit.jobs.music_composer import baselines as plain
from lstmkit.jobs.music_composer import report
from lstmkit.jobs.music_composer.generation import Composition, Wish, compose, head_of, negative_log_likelihoods
from lstmkit.jobs.music_composer.plots import piano_roll_figure
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import PatchEncoder
from lstmkit.modules.heads import MultilabelHead, NADEHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class

_LOOKED_AT, _MOST_LOOKS = 200, 8  # steps of a piece that is looked at, and pieces
_SCORES = ("NLL per step", "NLL after the first step")


@settings_class
class MusicComposer(Job):
    """Learn pieces for the piano; tell how likely a piece is, go on with one, put voices under a melody.

    Data: MIDI files, one, a folder or a list; a ``.npz`` or ``.json`` of piano rolls in parts; or lists of chords.
    A piece is steps on a grid, each with the keys that sound, of 88.

    >>> pieces = [[[60, 64, 67], [59, 62, 67]] * 8] * 20
    >>> composer = MusicComposer(epochs=40, hidden_size=16, lr=0.03, batch_size=8, transpose=0, dropout=0).fit(pieces)
    >>> composer.compose([[60, 64, 67]], length=3, temperature=0).chords
    [[60, 64, 67], [59, 62, 67], [60, 64, 67], [59, 62, 67]]
    """

    name: ClassVar[str] = "music_composer"
    summary: ClassVar[str] = "Learn pieces for the piano (MIDI); score them, go on with one, harmonise a melody."

    step: float = setting("of the grid that MIDI files are put on, in quarter notes", default=0.5, low=0.03125, high=16)
    output: str = setting(
        "keys of a step: each given those above it (nade), or each for itself",
        default="nade",
        choices=("nade", "independent"),
    )
    embed_size: int = setting("width of what a step's keys are mapped to", default=100, low=1)
    nade_size: int = setting("width of what is known of the keys above", default=100, low=1)
    hidden_size: int = setting("units in a layer", default=200, low=1)
    dropout: float = setting("share of features hidden between parts in training", default=0.3, low=0, high=0.95)
    window: int = setting("steps through which gradients flow back; 0 for whole pieces", default=200, low=0)
    transpose: int = setting(
        "semitones up and down by which training pieces are moved as well", default=5, low=0, high=N_KEYS
    )
    batch_size: int = setting("windows in a step", default=16, low=1)
    lr: float = setting("peak learning rate", default=1e-2, low=0)
    valid_share: float = setting("share of the pieces to validate on", default=0.1, low=0, high=0.5)
    test_share: float = setting("share held out for the test", default=0.1, low=0, high=0.5)

    _counts: np.ndarray | None = field(default=None, init=False, repr=False)  # of the training part, for the baselines

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> PianoRolls:
        return read_piano_rolls(data, self.step)

    def split(self, examples: PianoRolls, validation: PianoRolls | None) -> DataSplit:
        """As the data have it, else at random by the seed."""
        if examples.parts is not None:
            train = examples.given("train")
            if train is None:
                raise DataError(f"{examples.name} has no piece to train on: none stands under train")
            held_out = examples.given("valid") if validation is None else validation
            return DataSplit(train, held_out, examples.given("test"))
        return random_split(examples, validation, "piece", self.valid_share, self.test_share, self.seed)

    def prepare(self, train: PianoRolls) -> None:
        """How often each key of the training part sounds, after itself and after its silence: for the baselines."""
        self._counts = plain.key_transition_counts([piece.roll for piece in train.pieces])

    def source(self, examples: PianoRolls) -> PianoRolls:
        return examples

    def batches(self, source: PianoRolls, seed: int | None) -> Batches:
        """Windows; those to train on in other keys too."""
        if seed is None:
            return Loader(PianoRollDataset(source, self.window), 4 * self.batch_size)
        moved = PianoRollDataset(source, self.window, self.transpose)
        return Loader(moved, self.batch_size, seed, self.steps_per_epoch)

    @property
    def counts(self) -> np.ndarray:
        """``(2, 2, 88)``, see :func:`lstmkit.jobs.music_composer.baselines.key_transition_counts`."""
        assert self._counts is not None
        return self._counts

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        encoder = PatchEncoder(N_KEYS, 1, self.embed_size, self.dropout)
        trunk = build_trunk(
            self.cell, self.embed_size, self.hidden_size, num_layers=self.num_layers, dropout=self.dropout,
            variational=True,
        )  # fmt: skip
        if self.output == "nade":
            head = NADEHead(trunk.output_size, N_KEYS, self.nade_size, self.dropout)
        else:
            head = MultilabelHead(trunk.output_size, N_KEYS, self.dropout)
        shares = torch.from_numpy(plain.chances(self.counts.sum(axis=0)))
        with torch.no_grad():
            head.linear.bias[:N_KEYS] = (
                shares.logit()
            )  # begin with what the training part has, not with half of the keys
        return SequenceModel(encoder, trunk, head)

    def calibrate(self, valid: PianoRolls | None) -> None:
        """Nothing: probabilities are the network's own."""

    # ---- composing -----------------------------------------------------------------------------------------------

    def compose(
        self,
        prompt: Any = None,
        length: int = 64,
        *,
        melody: Any = None,
        temperature: float = 1.0,
        seed: int = 0,
        tempo: float = 0.0,
    ) -> Composition:
        """Go on with a piece, begin one, or put voices under a melody.

        Args:
            prompt: The start of a piece: a MIDI file or a list of chords; ``None`` for none.
            length: Steps to compose.
            melody: In place of both: a piece of which the highest key at each step is kept, and below it is composed.
            temperature: Of the probabilities: below 1 more usual, 0 whatever is the more probable, key by key.
            seed: Of the drawing.
            tempo: Quarter notes a minute; 0 for the piece's own.

        Raises:
            DataError: No such file, or not a piece.
            SettingError: A number out of its range.
        """
        given = "start" if melody is None else "melody"
        told = prompt if melody is None else melody
        data = told if isinstance(told, (str, Path, PianoRolls)) else [told]
        if told is None:
            data = PianoRolls((Piece(np.zeros((0, N_KEYS), dtype=np.uint8), "a new piece"),), "no piece")
        (found,) = self.predict(data, length=length, given=given, temperature=temperature, seed=seed, tempo=tempo)[:1]
        return found

    def predict(
        self,
        data: Any,
        *,
        length: int = 64,
        given: str = "start",
        first: int = -1,
        temperature: float = 1.0,
        seed: int = 0,
        tempo: float = 0.0,
    ) -> list[Composition]:
        """Compose with each piece of ``data``; see :meth:`compose`.

        Args:
            data: What :meth:`read` takes.
            length: Steps to compose after a start.
            given: What of each piece: its ``"start"``, or its ``"melody"``.
            first: How many steps of the start; -1 for all.
            temperature, seed, tempo: As of :meth:`compose`.
        """
        self.model  # noqa: B018  (says so if there is none)
        wish = Wish(length, given, first, temperature, seed, tempo)
        wish.check()
        return compose(self.model, self.read(data).pieces, wish, self.step, self._device())

    def text(self, answer: list[Composition]) -> str:
        """A line a step, a blank line between pieces."""
        return "\n\n".join(one.text() for one in answer)

    def write(self, answer: list[Composition], path: Path) -> None:
        """MIDI (``.mid``), sound (``.wav``) or text; several pieces as files of their own, ``NAME-1.mid`` and so on."""
        for i, one in enumerate(answer, 1):
            one.write(path if len(answer) == 1 else path.with_stem(f"{path.stem}-{i}"))

    def records(self, answer: list[Composition]) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "step": one.step,
                "tempo": one.tempo,
                "chords": one.chords,
                "composed": len(one.nats),
                "nats": list(one.nats),
            }
            for one in answer
        ]

    def picture(self, data: Any, answer: list[Composition]) -> Figure:
        first = answer[0]
        return piano_roll_figure(first.roll, first.given, first.name)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Negative log-likelihood per time step, beside chains of single keys; of data in parts the test part."""
        self.model  # noqa: B018
        read = self.read(data)
        return self.score(read.given("test") or read, progress or default_progress())

    def score(self, test: PianoRolls, progress: Progress) -> Evaluation:
        keys = "keys given those above" if self.output == "nade" else "independent keys"
        pieces = [piece.roll for piece in test.pieces]
        told = {
            f"{self.cell.upper()}, {keys}": negative_log_likelihoods(self.model, test, self._device(), progress),
            "each key by its step before": [plain.markov_nll(self.counts, roll) for roll in pieces],
            "each key by its share": [plain.by_share(self.counts, roll) for roll in pieces],
        }
        lengths = [len(roll) for roll in pieces]
        details = pd.DataFrame(
            {
                "piece": np.repeat([piece.name for piece in test.pieces], lengths),
                "step": np.concatenate([np.arange(n) for n in lengths]),
                **{name: np.concatenate(nats) for name, nats in told.items()},
            }
        )
        later = details[details["step"] > 0]
        rows = [{"model": n, _SCORES[0]: details[n].mean(), _SCORES[1]: later[n].mean()} for n in told]
        notes = (
            f"{len(details):,} steps of {len(test):,} pieces. Nats: the sum over the 88 keys, the mean over all steps. "
            "A piece's first step is told from silence; the last column leaves it out.",
        )
        return Evaluation(pd.DataFrame(rows), dict.fromkeys(_SCORES, "low"), details, notes)

    def sections(self, examples: PianoRolls) -> list[Section]:
        return report.sections(self, examples)

    def example_sequences(self, data: Any, piece: int = 1) -> list[ExampleSequence]:
        """Pieces, that of number ``piece`` (from 1) first; of each the first 200 steps."""
        self.model  # noqa: B018
        read = self.read(data)
        if not 1 <= piece <= len(read):
            raise DataError(f"there is no piece {piece}: {read.name} has 1 to {len(read)}")
        rows = [piece - 1, *(i for i in range(len(read)) if i != piece - 1)][:_MOST_LOOKS]
        return [self._specimen(read.pieces[row]) for row in rows]

    def _specimen(self, piece: Piece) -> ExampleSequence:
        roll = piece.roll[:_LOOKED_AT]
        before = shift_right(roll)
        device = next(self.network.parameters()).device
        inputs = torch.from_numpy(before).float().unsqueeze(0).to(device)
        head, silence = head_of(self.network), torch.zeros(1, 1, N_KEYS, device=device)
        with torch.no_grad():
            outputs, _ = self.network.eval()(inputs)
            likely = int(head.logits(outputs[:, -1:], silence)[0, 0].argmax())
        tops = [note_name(int(row.argmax())) if row.any() else "" for row in highest(before)]
        return ExampleSequence(
            inputs,
            name=piece.name,
            labels=[top or "-" for top in tops],
            annotations={
                "keys that sound": before.sum(axis=1).astype(float),
                "keys that set in": np.maximum(0, np.diff(before.astype(float), axis=0, prepend=0)).sum(axis=1),
                "top note": [top.rstrip("0123456789") for top in tops],
            },
            answers={
                f"logit of {note_name(likely)} at the last step": lambda output: head.logits(output[:, -1:], silence)[
                    0, 0, likely
                ]
            },
        )

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"counts": " ".join(map(str, self.counts.ravel().tolist()))}

    def load_state(self, state: dict[str, Any]) -> None:
        counts = np.array([int(count) for count in state["counts"].split()], dtype=np.int64)
        if counts.size != 4 * N_KEYS or (counts < 0).any():
            raise ValueError("its counts are not of 88 keys")
        self._counts = counts.reshape(2, 2, N_KEYS)
