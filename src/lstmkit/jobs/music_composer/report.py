"""The report of the music composer: results, likelihood by step, compositions, key usage, the data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lstmkit.data.music.midi import N_KEYS, note_name
from lstmkit.data.music.piano_rolls import PianoRolls
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.music_composer.generation import CompositionOptions
from lstmkit.jobs.music_composer.plots import key_frequency_figure, likelihood_figure, piano_roll_figure
from lstmkit.jobs.music_composer.predictor import ComposerPredictor
from lstmkit.jobs.music_composer.results import Composition
from lstmkit.report import Section, quantities

_MAX_PLOTTED_STEPS = 200
_PROMPT_STEPS, _GENERATED_STEPS = 16, 64
_NUM_PIECES = 8  # pieces that are composed to count their keys


def sections(predictor: ComposerPredictor, evaluation: Evaluation | None, examples: PianoRolls) -> list[Section]:
    """The job's part of the report.

    Args:
        predictor: Fitted.
        evaluation: On the test split, if one was held out.
        examples: Everything that was read.
    """
    results = [] if evaluation is None else [_results_section(evaluation), _likelihood_section(evaluation)]
    generated = _generated_sections(predictor, examples)
    return [*results, *generated, _key_section(predictor), _data_section(predictor, examples)]


def _results_section(evaluation: Evaluation) -> Section:
    text = "Negative log-likelihood (NLL) of pieces that were held out. " + " ".join(evaluation.notes)
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
    pieces = (examples.predefined_split("test") or examples).pieces[:1]
    name, seed = pieces[0].name, predictor.settings.seed
    (continued,) = predictor.compose(
        pieces, CompositionOptions(_GENERATED_STEPS, "start", _PROMPT_STEPS, 1.0, seed, 0.0)
    )
    (harmonized,) = predictor.compose(pieces, CompositionOptions(_GENERATED_STEPS, "melody", -1, 1.0, seed, 0.0))
    return [
        _composition_section(continued, "Continuation", f"The first {_PROMPT_STEPS} steps of {name} are the prompt."),
        _composition_section(harmonized, "Harmonization", f"The highest key of each step of {name} is the melody."),
    ]


def _composition_section(composition: Composition, title: str, text: str) -> Section:
    figure = piano_roll_figure(composition.roll, composition.is_given, composition.name)
    return Section(title, text, figure=figure, caption=title)


def _key_section(predictor: ComposerPredictor) -> Section:
    seed = predictor.settings.seed
    composed = [predictor.compose_from_silence(_GENERATED_STEPS, seed + i).roll for i in range(_NUM_PIECES)]
    sounding = predictor.key_counts[:, 1].sum(axis=0) / predictor.key_counts.sum(axis=(0, 1))
    semitones = predictor.settings.max_transposition
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
        f"MIDI files are sampled on a grid of {predictor.settings.quarters_per_step:g} quarter notes, all tracks "
        "together, without drums. A key that sounds in consecutive steps is held; piano rolls do not record repeated "
        "strokes. " + " ".join(examples.notes)
    )
    return Section("The data", text, quantities("all data", rows))
