"""What a composer's run shows: its table, where in a piece it is surprised, what it composes, which keys it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lstmkit.data.music.midi import N_KEYS, note_name
from lstmkit.data.music.piano_rolls import PianoRolls
from lstmkit.jobs.music_composer.generation import Composition
from lstmkit.jobs.music_composer.plots import key_frequency_figure, likelihood_figure, piano_roll_figure
from lstmkit.report import Section

if TYPE_CHECKING:
    from lstmkit.jobs.base import Evaluation
    from lstmkit.jobs.music_composer.job import MusicComposer

_SHOWN = 200  # steps of a piece whose likelihood is drawn
_PROMPT_STEPS, _GENERATED_STEPS = 16, 64  # steps that are given and composed
_NUM_PIECES = 8  # pieces that are composed to count their keys


def sections(job: MusicComposer, examples: PianoRolls) -> list[Section]:
    """The whole of the report that is about music."""
    found = [] if job.evaluation is None else [_evidence(job.evaluation), _by_step(job.evaluation)]
    return [*found, *_generated_sections(job, examples), _keys(job), _data(job, examples)]


def _evidence(evaluation: Evaluation) -> Section:
    text = "Negative log-likelihood (NLL) of pieces that fit had held out. " + " ".join(evaluation.notes)
    return Section("How well it knows what comes", text, evaluation.table, best=evaluation.best)


def _by_step(evaluation: Evaluation) -> Section:
    details = evaluation.details
    name = str(details["piece"].iloc[0])
    ends = [*np.flatnonzero(details["step"] == 0), len(details)][1]
    first = details.head(min(int(ends), _SHOWN))
    ours, before = details.columns[2:4]
    return Section(
        "Where it is surprised",
        "The first piece of the test, step by step: nats are 0 where the keys were certain.",
        first.drop(columns="piece").reset_index(drop=True),
        likelihood_figure({n: np.asarray(first[n]) for n in (ours, before)}, name),
        caption="Nats of each step",
    )


def _generated_sections(job: MusicComposer, examples: PianoRolls) -> list[Section]:
    (piece,) = (examples.given("test") or examples).pieces[:1]
    one = PianoRolls((piece,), piece.name)
    (gone_on,) = job.predict(one, first=_PROMPT_STEPS, length=_GENERATED_STEPS, seed=job.seed)
    (under,) = job.predict(one, given="melody", seed=job.seed)
    return [
        _drawn(gone_on, "A piece it went on with", f"The first {_PROMPT_STEPS} steps of {piece.name} were given."),
        _drawn(under, "A melody it harmonised", f"The highest key at each step of {piece.name} was given."),
    ]


def _drawn(found: Composition, title: str, text: str) -> Section:
    figure = piano_roll_figure(found.roll, found.given, found.name)
    return Section(title, text, figure=figure, caption=title)


def _keys(job: MusicComposer) -> Section:
    composed = [job.compose(length=_GENERATED_STEPS, seed=job.seed + i).roll for i in range(_NUM_PIECES)]
    sounding = job.counts[:, 1].sum(axis=0) / job.counts.sum(axis=(0, 1))
    shares = {"training pieces": sounding, "composed": np.concatenate(composed).mean(axis=0)}
    return Section(
        "Which keys it uses",
        f"How often each key sounds in the pieces it learnt from, and in {_NUM_PIECES} of {_GENERATED_STEPS} steps that it composed "
        "from silence.",
        pd.DataFrame({"key": [note_name(k) for k in range(N_KEYS)], **shares}),
        key_frequency_figure(shares),
        caption="Share of the steps at which each key sounds",
    )


def _data(job: MusicComposer, examples: PianoRolls) -> Section:
    sounding = np.concatenate([piece.roll.sum(axis=1) for piece in examples.pieces])
    rows = {
        "pieces": len(examples),
        "steps": examples.steps,
        "steps of the longest piece": max(len(piece.roll) for piece in examples.pieces),
        "keys that sound at a step, mean": round(float(sounding.mean()), 2),
        "keys that sound at a step, most": int(sounding.max()),
        "silent steps, %": round(100 * float((sounding == 0).mean()), 2),
    }
    text = (
        f"MIDI files are put on a grid of {job.step:g} quarter notes, all tracks together, without the drums. A key "
        "that sounds in steps on end is held: rolls do not say where it is struck again. " + " ".join(examples.remarks)
    )
    return Section("The data", text, pd.DataFrame({"all data": list(rows), "count": list(rows.values())}))
