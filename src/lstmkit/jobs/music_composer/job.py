"""Music: model piano rolls, score pieces, continue a prompt, harmonize a melody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lstmkit.data.batch import Batches, Loader
from lstmkit.data.music.keys import in_several_keys
from lstmkit.data.music.midi import FILE_SUFFIXES, N_KEYS, note_name
from lstmkit.data.music.piano_rolls import (
    FORMATS,
    PianoRollDataset,
    PianoRolls,
    Piece,
    read_piano_rolls,
)
from lstmkit.data.music.rolls import shift_right, skyline
from lstmkit.decoding.composition_options import CompositionOptions
from lstmkit.errors import DataError
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.splitting import random_split
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.music_composer import baselines, report
from lstmkit.jobs.music_composer.export import exported_music_composer
from lstmkit.jobs.music_composer.generation import head_of
from lstmkit.jobs.music_composer.plots import piano_roll_figure
from lstmkit.jobs.music_composer.predictor import ComposerPredictor
from lstmkit.jobs.music_composer.results import Composition
from lstmkit.jobs.music_composer.settings import ComposerSettings
from lstmkit.look.traces import ExampleSequence
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section

_MAX_INSPECTED, _MAX_INSPECTED_STEPS = 8, 200
_DEFAULT_TRANSPOSITION = 5  # semitones, if training pieces are in several keys
_METRICS = ("NLL per step", "NLL without first step")


class MusicComposer(ComposerSettings, Job[ComposerPredictor]):
    """Model piano music: score pieces, continue one, harmonize a melody.

    Data: MIDI files (one, a folder or a list), a ``.npz`` or ``.json`` of piano rolls in splits, or lists of chords. A
    piece is a sequence of equal time steps, each with the keys that sound, of 88.

    >>> pieces = [[[60, 64, 67], [59, 62, 67]] * 8] * 20
    >>> composer = MusicComposer(epochs=40, hidden_size=16, lr=0.03, batch_size=8, max_transposition=0, dropout=0)
    >>> composer.fit(pieces).compose([[60, 64, 67]], length=3, temperature=0).chords
    [[60, 64, 67], [59, 62, 67], [60, 64, 67], [59, 62, 67]]
    """

    predictor_class = ComposerPredictor
    data_formats = FORMATS
    answer_suffixes = (".mid", ".wav", ".txt")

    # ---- from file to predictor ----------------------------------------------------------------------------------

    def read(self, data: Any) -> PianoRolls:
        return read_piano_rolls(data, self.quarters_per_step)

    def split(self, examples: PianoRolls, validation: PianoRolls | None) -> DataSplit:
        """By the splits of the data, else at random by the seed."""
        if examples.splits is not None:
            train = examples.predefined_split("train")
            if train is None:
                raise DataError(f"{examples.name} has no training pieces: none in the split 'train'")
            valid = examples.predefined_split("valid") if validation is None else validation
            return DataSplit(train, valid, examples.predefined_split("test"))
        return random_split(examples, validation, "piece", self.valid_fraction, self.test_fraction, self.seed)

    def prepare(self, train: PianoRolls) -> ComposerPredictor:
        rolls = [piece.roll for piece in train.pieces]
        max_transposition = self.max_transposition
        if max_transposition < 0:
            max_transposition = _DEFAULT_TRANSPOSITION if in_several_keys(rolls) else 0
        if max_transposition:
            self.progress.say(
                f"training pieces are moved by up to {max_transposition} semitones up and down at random; an epoch has "
                "as many steps as without, so more epochs may pay"
            )
        return ComposerPredictor(self.snapshot(), baselines.key_transition_counts(rolls), max_transposition)

    def source(self, examples: PianoRolls) -> PianoRolls:
        return examples

    def batches(self, source: PianoRolls, seed: int | None) -> Batches:
        """Excerpts; those for training are transposed at random, an epoch is as long as without transposition."""
        excerpts = PianoRollDataset(source, self.max_steps)
        if seed is None:
            return Loader(excerpts, 4 * self.batch_size)
        transposed = PianoRollDataset(source, self.max_steps, self.predictor.max_transposition)
        steps = len(Loader(excerpts, self.batch_size, seed, self.steps_per_epoch))
        return Loader(transposed, self.batch_size, seed, steps)

    def calibrate(self, valid: PianoRolls | None) -> None:
        """Nothing to calibrate: probabilities are the network's own."""

    # ---- answers -------------------------------------------------------------------------------------------------

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
        """Continue a piece, start a new one, or harmonize a melody.

        Args:
            prompt: The start of a piece: a MIDI file or a list of chords; ``None`` for a new piece.
            length: Number of steps to compose.
            melody: Instead of a prompt: a piece whose highest key at each step is kept; the keys below are sampled
                given the whole melody, with a particle filter.
            temperature: Below 1 is more conservative, 0 takes the more probable choice, 1 samples from the model. The
                choices of a step, from the highest key down: whether another key sounds, and which one.
            seed: Random seed.
            tempo: Quarter notes per minute; 0 for the piece's own.

        Raises:
            DataError: No such file, or it is not a piece.
            SettingError: A value is out of range.
        """
        options = {"length": length, "temperature": temperature, "seed": seed, "tempo": tempo}
        if melody is not None:
            return self.predict(_as_pieces(melody), condition="melody", **options)[0]
        if prompt is not None:
            return self.predict(_as_pieces(prompt), **options)[0]
        silence = PianoRolls((Piece(np.zeros((0, N_KEYS), dtype=np.uint8), "a new piece"),), "no piece")
        return self.predict(silence, **options)[0]

    def predict(
        self,
        data: Any,
        *,
        length: int = 64,
        condition: str = "start",
        prompt_steps: int = -1,
        temperature: float = 1.0,
        seed: int = 0,
        tempo: float = 0.0,
    ) -> list[Composition]:
        """Compose with each piece of ``data``; see :meth:`compose`.

        Args:
            data: What :meth:`read` takes.
            length: Number of steps to compose after a prompt.
            condition: What is kept of each piece: its ``"start"`` or its ``"melody"``.
            prompt_steps: Number of steps of the start; -1 for all.
            temperature: Softmax temperature: below 1 is more conservative; 0 takes the more probable, key by key.
            seed: Random seed.
            tempo: Quarter notes per minute; 0 for the piece's own.
        """
        self.check_fitted()
        options = CompositionOptions(length, condition, prompt_steps, temperature, seed, tempo)
        options.check()
        return self.predictor.compose(self.read(data).pieces, options)

    def exported(self) -> JobExport:
        return exported_music_composer(self.predictor)

    def to_text(self, predictions: list[Composition]) -> str:
        """One line per step, an empty line between pieces."""
        return "\n\n".join(composition.text() for composition in predictions)

    def write(self, predictions: list[Composition], path: Path) -> None:
        """Write JSON, text, MIDI (``.mid``) or sound (``.wav``): of several pieces ``NAME-1.mid``, ``NAME-2.mid``, …"""
        if path.suffix.lower() not in (*FILE_SUFFIXES, ".wav"):
            super().write(predictions, path)
            return
        for i, composition in enumerate(predictions, 1):
            composition.write(path if len(predictions) == 1 else path.with_stem(f"{path.stem}-{i}"))

    def to_records(self, predictions: list[Composition]) -> list[dict[str, Any]]:
        return [
            {
                "name": composition.name,
                "quarters_per_step": composition.quarters_per_step,
                "tempo": composition.tempo,
                "chords": composition.chords,
                "composed": len(composition.nll_per_step),
                "nll_per_step": list(composition.nll_per_step),
            }
            for composition in predictions
        ]

    def plot(self, data: Any, predictions: list[Composition]) -> Figure:
        """The piano roll of the first composition."""
        first = predictions[0]
        figure = piano_roll_figure(first.roll, first.is_given, first.name)
        return note_selection(figure, len(predictions), "pieces")

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Negative log-likelihood per step, compared with baselines; if the data have splits, of the test split."""
        self.check_fitted()
        rolls = self.read(data)
        return self.evaluate_examples(rolls.predefined_split("test") or rolls, progress or default_progress())

    def evaluate_examples(self, test: PianoRolls, progress: Progress) -> Evaluation:
        predictor = self.predictor
        distribution = "NADE" if self.distribution == "nade" else "independent keys"
        pieces = [piece.roll for piece in test.pieces]
        nll = {
            f"{self.cell.upper()}, {distribution}": predictor.negative_log_likelihoods(test, progress),
            "Markov chain per key": [baselines.markov_nll(predictor.key_counts, roll) for roll in pieces],
            "independent key frequencies": [baselines.frequency_nll(predictor.key_counts, roll) for roll in pieces],
        }
        lengths = [len(roll) for roll in pieces]
        details = pd.DataFrame(
            {
                "piece": np.repeat([piece.name for piece in test.pieces], lengths),
                "step": np.concatenate([np.arange(n) for n in lengths]),
                **{name: np.concatenate(of_model) for name, of_model in nll.items()},
            }
        )
        later = details[details["step"] > 0]
        rows = [{"model": n, _METRICS[0]: details[n].mean(), _METRICS[1]: later[n].mean()} for n in nll]
        notes = (
            f"{len(details):,} steps of {len(test):,} pieces. Nats: the sum over the 88 keys, the mean over all steps. "
            "The first step of a piece is predicted from silence; the last column leaves it out.",
        )
        own = [float(of_piece.sum()) for of_piece in next(iter(nll.values()))]
        examples = ScoredExamples.ratio("pieces", np.array(own), np.array(lengths))
        return Evaluation(pd.DataFrame(rows), dict.fromkeys(_METRICS, "low"), details, notes, examples=examples)

    def report_sections(self, examples: PianoRolls) -> list[Section]:
        return report.sections(self.predictor, self.full_evaluation, examples)

    def example_sequences(self, data: Any, piece: int = 1) -> list[ExampleSequence]:
        """Pieces, number ``piece`` (from 1) first; the first 200 steps of each."""
        self.check_fitted()
        rolls = self.read(data)
        if not 1 <= piece <= len(rolls):
            raise DataError(f"there is no piece {piece}: {rolls.name} has 1 to {len(rolls)}")
        rows = [piece - 1, *(i for i in range(len(rolls)) if i != piece - 1)][:_MAX_INSPECTED]
        return [_example_sequence(self.predictor, rolls.pieces[row]) for row in rows]


def _as_pieces(piece: Any) -> Any:
    """One piece as what ``read`` takes."""
    return piece if isinstance(piece, (str, Path, PianoRolls)) else [piece]


def _example_sequence(predictor: ComposerPredictor, piece: Piece) -> ExampleSequence:
    network = predictor.network
    before = shift_right(piece.roll[:_MAX_INSPECTED_STEPS])
    device = next(network.parameters()).device
    inputs = torch.from_numpy(before).float().unsqueeze(0).to(device)
    head, silence = head_of(network), torch.zeros(1, 1, N_KEYS, device=device)
    with torch.no_grad():
        outputs, _ = network.eval()(inputs)
        likely = int(head.logits(outputs[:, -1:], silence)[0, 0].argmax())
    top_notes = [note_name(int(row.argmax())) if row.any() else "" for row in skyline(before)]
    onsets = np.maximum(0, np.diff(before.astype(float), axis=0, prepend=0))
    return ExampleSequence(
        inputs,
        name=piece.name,
        labels=[note or "-" for note in top_notes],
        annotations={
            "sounding keys": before.sum(axis=1).astype(float),
            "onsets": onsets.sum(axis=1),
            "top note": [note.rstrip("0123456789") for note in top_notes],
        },
        answers={
            f"logit of {note_name(likely)} at the last step": lambda output: head.logits(output[:, -1:], silence)[
                0, 0, likely
            ]
        },
    )
