"""The report of the music composer: results, likelihood by step, compositions, key usage, the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from lstmkit.data.music.midi import N_KEYS, note_name
from lstmkit.data.music.piano_rolls import PianoRolls, Piece
from lstmkit.decoding.composition_options import CompositionOptions
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.music_composer.plots import key_frequency_figure, likelihood_figure, piano_roll_figure
from lstmkit.jobs.music_composer.predictor import ComposerPredictor
from lstmkit.jobs.music_composer.results import Composition
from lstmkit.report import Section, quantities

_MAX_PLOTTED_STEPS = 200
_PROMPT_STEPS, _GENERATED_STEPS = 16, 64
_NUM_DRAWS = 9  # of a composition, of which the median is shown; odd
_NUM_PIECES = 8  # pieces that are composed to count their keys


def sections(predictor: ComposerPredictor, evaluation: Evaluation | None, examples: PianoRolls) -> list[Section]:
    """The job's part of the report.

    Args:
        predictor: Fitted.
        evaluation: Scores, if there are any.
        examples: Everything that was read.
    """
    results = [] if evaluation is None else [_results_section(evaluation), _likelihood_section(evaluation)]
    generated = _generated_sections(predictor, examples)
    return [*results, *generated, _key_section(predictor), _data_section(predictor, examples)]


def _results_section(evaluation: Evaluation) -> Section:
    text = f"Negative log-likelihood (NLL) of pieces. {evaluation.introduction}"
    return Section("Results", text, evaluation.table, best=evaluation.directions)


def _likelihood_section(evaluation: Evaluation) -> Section:
    details = evaluation.details
    name = str(details["piece"].iloc[0])
    end = [*np.flatnonzero(details["step"] == 0), len(details)][1]
    first = details.head(min(int(end), _MAX_PLOTTED_STEPS))
    model, markov = details.columns[2:4]
    return Section(
        "Negative log-likelihood by step",
        "The first test piece. 0 nats mean that the model was certain of the keys.",
        first.drop(columns="piece").reset_index(drop=True),
        likelihood_figure({n: np.asarray(first[n]) for n in (model, markov)}, name),
        caption="Nats per step",
    )


def _generated_sections(predictor: ComposerPredictor, examples: PianoRolls) -> list[Section]:
    (piece,) = (examples.predefined_split("test") or examples).pieces[:1]
    name = piece.name
    start = replace(piece, roll=piece.roll[:_PROMPT_STEPS])
    melody = replace(piece, roll=piece.roll[:_MAX_PLOTTED_STEPS])
    return [
        _composition_section(
            _typical_composition(predictor, start, "start"),
            "Continuation",
            f"The first {_PROMPT_STEPS} steps of {name} are the prompt.",
        ),
        _composition_section(
            _typical_composition(predictor, melody, "melody"),
            "Harmonization",
            f"The highest key of each step of {name} is the melody.",
        ),
    ]


def _typical_composition(predictor: ComposerPredictor, piece: Piece, condition: str) -> Composition:
    """Of several compositions from consecutive seeds, the one with the median negative log-likelihood."""
    seed = predictor.settings.seed
    composed = [
        predictor.compose((piece,), CompositionOptions(_GENERATED_STEPS, condition, -1, 1.0, seed + i, 0.0))[0]
        for i in range(_NUM_DRAWS)
    ]
    return sorted(composed, key=lambda composition: float(np.mean(composition.nll_per_step)))[_NUM_DRAWS // 2]


def _composition_section(composition: Composition, title: str, text: str) -> Section:
    typical = (
        f" Of {_NUM_DRAWS} samples at temperature 1, this is the one with the median likelihood: "
        f"{np.mean(composition.nll_per_step):.2f} nats per step."
    )
    figure = piano_roll_figure(composition.roll, composition.is_given, composition.name)
    return Section(title, text + typical, figure=figure, caption=title)


def _key_section(predictor: ComposerPredictor) -> Section:
    seed = predictor.settings.seed
    composed = [predictor.compose_from_silence(_GENERATED_STEPS, seed + i).roll for i in range(_NUM_PIECES)]
    sounding = predictor.key_counts[:, 1].sum(axis=0) / predictor.key_counts.sum(axis=(0, 1))
    semitones = predictor.max_transposition
    of_composed = np.concatenate(composed).mean(axis=0)
    frequencies = {"training pieces": _transposed(sounding, semitones), "composed": of_composed}
    heard = f", transposed by up to {semitones} semitones as in training" if semitones else ""
    return Section(
        "Key usage",
        f"How often each key sounds in the training pieces{heard}, and in {_NUM_PIECES} pieces of {_GENERATED_STEPS} "
        "steps composed from silence.",
        pd.DataFrame({"key": [note_name(k) for k in range(N_KEYS)], **frequencies}),
        key_frequency_figure(frequencies),
        caption="Fraction of the steps at which each key sounds",
    )


def _transposed(frequencies: np.ndarray, semitones: int) -> np.ndarray:
    """The mean of the frequencies ``(88,)`` over all transpositions of up to ``semitones`` up and down."""
    padded = np.pad(frequencies, semitones)
    return np.mean([padded[shift : shift + len(frequencies)] for shift in range(2 * semitones + 1)], axis=0)


def _data_section(predictor: ComposerPredictor, examples: PianoRolls) -> Section:
    sounding = np.concatenate([piece.roll.sum(axis=1) for piece in examples.pieces])
    rows = {
        "pieces": len(examples),
        "steps": examples.steps,
        "steps of the longest piece": max(len(piece.roll) for piece in examples.pieces),
        "sounding keys per step, mean": round(float(sounding.mean()), 2),
        "sounding keys per step, maximum": int(sounding.max()),
        "silent steps, %": round(100 * float((sounding == 0).mean()), 2),
    }
    text = (
        f"MIDI files have steps of {predictor.settings.quarters_per_step:g} quarter notes, all tracks together, no "
        "drums; piano rolls keep their steps. A key that sounds in consecutive steps is held: repeated strokes are "
        "not recorded. " + _transposition_note(predictor) + " ".join(examples.notes)
    )
    return Section("The data", text, quantities("all data", rows))


def _transposition_note(predictor: ComposerPredictor) -> str:
    if not predictor.max_transposition:
        return "Training pieces are not transposed. "
    return f"Training pieces are transposed by up to {predictor.max_transposition} semitones at random. "
