"""What a speaker's run shows: its table, a text that it says beside its recording, what it learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lstmkit.data.audio.tts_corpus import SpeechCorpus
from lstmkit.report import Section

if TYPE_CHECKING:
    from lstmkit.jobs.base import Evaluation
    from lstmkit.jobs.speech_synthesizer.job import SpeechSynthesizer

_EXAMPLES = 12  # in the report


def sections(job: SpeechSynthesizer, examples: SpeechCorpus) -> list[Section]:
    """The whole of the report that is about speech."""
    found = [] if job.evaluation is None else [_evidence(job.evaluation), _each(job.evaluation)]
    return [*found, _said(job, examples), _data(job, examples)]


def _evidence(evaluation: Evaluation) -> Section:
    text = "Of recordings that fit had held out. " + " ".join(evaluation.notes)
    return Section("How well it speaks", text, evaluation.table, best=evaluation.best)


def _each(evaluation: Evaluation) -> Section:
    details = evaluation.details
    ours = str(evaluation.table["model"].iloc[0])
    scores = {name: details[f"{ours}: {name}"].round(3) for name in evaluation.best}
    table = pd.DataFrame({"text": details["text"], **scores, "stopped": np.where(details["stopped"], "yes", "no")})
    worst = table.sort_values("MCD", ascending=False, kind="stable").head(_EXAMPLES).reset_index(drop=True)
    return Section("Its worst texts", "Those of the held-out test with the greatest distortion.", worst)


def _said(job: SpeechSynthesizer, examples: SpeechCorpus) -> Section:
    row = 0
    if job.evaluation is not None:
        details = job.evaluation.details
        ours = str(job.evaluation.table["model"].iloc[0])
        middling = int(details[f"{ours}: MCD"].argsort(kind="stable").iloc[len(details) // 2])
        row = examples.texts.index(str(details["text"].iloc[middling]))
    (one,) = job.predict([examples.texts[row]])
    recorded = job.scale.clipped(job.mel.frames(examples.sounds[row]))
    return Section(
        "A text that it says",
        f"“{one.text}”: above a recording, below what it says. The characters that each step attended to should go "
        "from left to right, top to bottom, without a leap.",
        figure=job.plot_speech(one, recorded),
        caption="Spectra of a recording and of what is said, and the attention",
    )


def _data(job: SpeechSynthesizer, examples: SpeechCorpus) -> Section:
    seconds = np.array([sound.seconds for sound in examples.sounds])
    rows = {
        "recordings": len(examples),
        "minutes": round(float(seconds.sum()) / 60, 2),
        "seconds of the longest": round(float(seconds.max()), 2),
        "not trained on: too long": job.too_long,
        "different characters": len(job.tokens) - 3,
        "samples a second": job.rate,
        "frames a second": round(job.rate / job.mel.step, 1),
        "frames a step": job.together,
    }
    remarks = "; ".join(examples.remarks)
    text = (
        f"Recordings are brought to one channel and {job.rate:,} samples a second; their mean is taken off, and what "
        f"is {job.trim:g} dB below the loudest moment at their ends." + (f" Of them: {remarks}." if remarks else "")
    )
    return Section("The data", text, pd.DataFrame({"all data": list(rows), "count": list(rows.values())}))
