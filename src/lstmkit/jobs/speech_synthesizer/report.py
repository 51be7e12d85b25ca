"""The report of the speech synthesizer: results, the worst texts, an example, the data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lstmkit.data.audio.tts_corpus import SpeechCorpus
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.speech_synthesizer.predictor import SpeechPredictor
from lstmkit.report import Section, quantities

_MAX_TEXTS = 12


def sections(
    predictor: SpeechPredictor, evaluation: Evaluation | None, examples: SpeechCorpus, num_too_long: int
) -> list[Section]:
    """The job's part of the report.

    Args:
        predictor: Fitted.
        evaluation: Scores, if there are any; its ``outputs`` are the scored recordings.
        examples: Everything that was read.
        num_too_long: Training recordings that were left out as too long.
    """
    results = [] if evaluation is None else [_results_section(evaluation), _worst_texts_section(evaluation)]
    example = _example_section(predictor, evaluation, examples)
    return [*results, example, _data_section(predictor, examples, num_too_long)]


def _results_section(evaluation: Evaluation) -> Section:
    return Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions)


def _worst_texts_section(evaluation: Evaluation) -> Section:
    details = evaluation.details
    model_name = str(evaluation.table["model"].iloc[0])
    scores = {name: details[f"{model_name}: {name}"].round(3) for name in evaluation.directions}
    table = pd.DataFrame({"text": details["text"], **scores, "ended": np.where(details["ended"], "yes", "no")})
    worst = table.sort_values("MCD", ascending=False, kind="stable").head(_MAX_TEXTS).reset_index(drop=True)
    return Section("Texts with the highest MCD", f"Of {evaluation.part}.", worst)


def _example_section(predictor: SpeechPredictor, evaluation: Evaluation | None, examples: SpeechCorpus) -> Section:
    row = 0
    if evaluation is not None:  # the text of median distortion
        details = evaluation.details
        model_name = str(evaluation.table["model"].iloc[0])
        median = int(details[f"{model_name}: MCD"].argsort(kind="stable").iloc[len(details) // 2])
        row, examples = median, evaluation.outputs
    (speech,) = predictor.synthesize([examples.texts[row]])
    recorded = predictor.scaler.clip(predictor.mel.frames(examples.clips[row]))
    return Section(
        "Example",
        f"“{speech.text}”: above the recording, below the synthesized speech. The attention should move from the first "
        "character to the last without a jump.",
        figure=predictor.plot(speech, recorded),
        caption="Spectrograms of a recording and of synthesized speech, and the attention",
    )


def _data_section(predictor: SpeechPredictor, examples: SpeechCorpus, num_too_long: int) -> Section:
    settings = predictor.settings
    seconds = np.array([clip.seconds for clip in examples.clips])
    rows = {
        "recordings": len(examples),
        "minutes": round(float(seconds.sum()) / 60, 2),
        "seconds of the longest": round(float(seconds.max()), 2),
        "too long for training": num_too_long,
        "different characters": len(predictor.tokenizer) - 3,
        "sample rate, Hz": settings.sample_rate,
        "frames per second": round(settings.sample_rate / predictor.mel.hop_length, 1),
        "frames per decoder step": settings.reduction_factor,
    }
    remarks = "; ".join(examples.notes)
    text = (
        f"Recordings are mixed to one channel, resampled to {settings.sample_rate:,} Hz and centered; audio "
        f"{settings.trim_db:g} dB below the peak is trimmed at both ends."
        + (f" Remarks: {remarks}." if remarks else "")
    )
    return Section("The data", text, quantities("all data", rows))
