"""How near what is said is to a recording of it, and how the attention went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.audio.tts_corpus import SpeechCorpus
from lstmkit.errors import DataError, UserError
from lstmkit.jobs.base import Evaluation
from lstmkit.jobs.speech_synthesizer.baselines import Takes
from lstmkit.jobs.speech_synthesizer.synthesis import NATS_TO_DB, pad_to_decoder_steps
from lstmkit.progress import Progress

if TYPE_CHECKING:
    from lstmkit.jobs.speech_synthesizer.job import SpeechSynthesizer

_NUM_CEPSTRA = 13
BEST = {"MCD": "low", "length error": "low", "mel error": "low", "diagonality": "high", "focus": "high"}
NOTES = (
    "MCD: what is said freely against a recording, in dB: mel cepstra 1 to 13, frames paired by dynamic time warping. "
    "Length error: by how much it is shorter or longer, as a share of the recording.",
    "Mel error: in dB, the mean over frames and bands, where the true frames before each step are heard.",
    "Diagonality: the correlation of time with the place that is attended to. Focus: the mean of each step's largest "
    "weight.",
)


def mel_cepstral_distortion(said: np.ndarray, recorded: np.ndarray) -> float:
    """Mel cepstral distortion (Kubichek 1993) in dB, the mean over the pairs of frames that dynamic time warping finds.

    It is the root mean square difference in dB of the two log spectra, smoothed to 13 cosines over the mel scale, and
    without loudness: ``10 √2 / ln 10 · √Σ (c - c')²`` with ``ln|H(ω)| = Σ c_d cos(d ω)``.

    Args:
        said, recorded: ``(T, F)``, natural logarithms of power.
    """
    from librosa.sequence import dtw

    ours, theirs = mel_cepstra(said), mel_cepstra(recorded)
    _, path = dtw(X=ours.T, Y=theirs.T)
    apart = np.linalg.norm(ours[path[:, 0]] - theirs[path[:, 1]], axis=1)
    return float(np.sqrt(2) * NATS_TO_DB * apart.mean())


def mel_cepstra(frames: np.ndarray) -> np.ndarray:
    """``(T, F) -> (T, 13)``: cosines of the log amplitudes over the bands, without their mean; of few bands fewer."""
    from scipy.fft import dct

    bands = frames.shape[1]
    found = dct(frames.astype(np.float64) / 2, norm="ortho", axis=1) * np.sqrt(2 / bands)
    return np.asarray(found)[:, 1 : 1 + _NUM_CEPSTRA]


def mel_error(said: np.ndarray, recorded: np.ndarray) -> float:
    """Mean absolute difference in dB of frames ``(T, F)`` that stand beside each other."""
    return float(NATS_TO_DB * np.abs(said.astype(np.float64) - recorded).mean())


def diagonality(attention: np.ndarray) -> float:
    """The correlation of time with the mean place attended to, ``(T, S)``: 1 where it goes evenly from left to right.

    0 where it stays in one place, or there is but one step.

    >>> diagonality(np.eye(4)), diagonality(np.eye(4)[::-1])
    (1.0, -1.0)
    """
    places = attention @ np.arange(attention.shape[1])
    if len(places) < 2 or places.std() < 1e-9:
        return 0.0
    return round(float(np.corrcoef(np.arange(len(places)), places)[0, 1]), 12)


def focus(attention: np.ndarray) -> float:
    """The mean of each step's largest weight (the focus rate of Ren et al. 2019, FastSpeech)."""
    return float(attention.max(1).mean())


def evaluated(job: SpeechSynthesizer, test: SpeechCorpus, takes: Takes | None, progress: Progress) -> Evaluation:
    """The model and its baselines on held-out recordings.

    Args:
        job: The model.
        test: The recordings.
        takes: Those that were trained on, by what is said in them; ``None`` where they are not known any more.
        progress: Whom to tell.
    """
    ours, joined, mean, before = job.cell.upper(), "recordings of its words", "the mean frame", "the frame before"
    known = [i for i, text in enumerate(test.texts) if job.has_known_character(text)]
    if not known:
        raise DataError(f"{test.name}: no text has a character that was heard in training")
    left_out, test = len(test) - len(known), test.part(known)
    source = job.source(test)
    assert source.targets is not None
    said, heard = job.predict(test, progress=progress), job.teacher_forced(source, progress)
    rows: list[dict[str, Any]] = []
    for one, scaled, told in zip(said, source.targets, heard, strict=True):
        true = job.scale.unscale(scaled)
        length = max(1, round(job.pace[0] * len(one.tokens)))
        average = job.scale.unscale(np.zeros((max(length, len(true)), job.bands)))
        free = {ours: one.frames, mean: average[:length]}
        take = None if takes is None else takes(one.text)
        if take is not None:
            free[joined] = pad_to_decoder_steps(take, job.together, job.scale.floor)
        guessed = {ours: told, mean: scaled * 0, before: _held(scaled, job.together)}
        row = {"text": one.text, "stopped": one.stopped}
        for name, frames in free.items():
            row[f"{name}: MCD"] = mel_cepstral_distortion(frames, true)
            row[f"{name}: length error"] = abs(len(frames) - len(true)) / len(true)
        for name, frames in guessed.items():
            row[f"{name}: mel error"] = mel_error(job.scale.unscale(frames), true)
        row[f"{ours}: diagonality"], row[f"{ours}: focus"] = diagonality(one.attention), focus(one.attention)
        rows.append(row)
    details = pd.DataFrame(rows)
    table = pd.DataFrame(_means(details, name) for name in (ours, joined, mean, before))
    cut = len(said) - sum(one.stopped for one in said)
    notes = [f"{len(test):,} recordings, {test.seconds:,.0f} s; {cut:,} of the texts did not end by themselves."]
    if left_out:
        notes.append(f"{left_out:,} are left out: their texts have no character that was heard in training.")
    spoken = details[f"{joined}: MCD"].notna().sum() if f"{joined}: MCD" in details else 0
    if spoken < len(details):
        notes.append(f"Words recorded by themselves make up {spoken:,} of the texts; the others do not count there.")
    return Evaluation(table, BEST, details, (*notes, *NOTES))


def _held(scaled: np.ndarray, together: int) -> np.ndarray:
    """``(T, F)``: the last frame before each step, all through the step; before the first the mean frame, 0."""
    last = scaled[together - 1 : -1 : together]
    return np.concatenate([0 * scaled[:1], last]).repeat(together, axis=0)


def _means(details: pd.DataFrame, name: str) -> dict[str, Any]:
    """A model's row: the means of its columns, ``name: score``."""
    return {"model": name} | {
        score: details[f"{name}: {score}"].mean() if f"{name}: {score}" in details else np.nan for score in BEST
    }


def round_trip(job: SpeechSynthesizer, data: Any, transcriber: Any, progress: Progress | None) -> Evaluation:
    """See :meth:`lstmkit.SpeechSynthesizer.round_trip`."""
    read = job.read(data) if job.has_recordings(data) else None
    said = job.predict(data if read is None else read, progress=progress)
    texts = [one.text for one in said]
    sounds = {"said": [one.sound for one in said]}
    if read is not None:
        sounds["recorded"] = list(read.sounds)
    heard = {name: understood(ones, texts, transcriber) for name, ones in sounds.items()}
    table = pd.DataFrame([{"model": name, "CER": 100 * error} for name, (_, error) in heard.items()])
    details = pd.DataFrame({"text": texts, **{name: lines for name, (lines, _) in heard.items()}})
    note = f"{len(texts):,} texts; CER: character errors of the transcriber, in per cent of the texts' characters."
    return Evaluation(table, {"CER": "low"}, details, (note,))


def understood(sounds: Sequence[AudioClip], texts: Sequence[str], transcriber: Any) -> tuple[list[str], float]:
    """What a transcriber makes of sounds, and its character error rate (jiwer).

    Args:
        sounds: They.
        texts: What is said in them.
        transcriber: With ``predict(sounds)``, which gives for each something with a ``text``.
    """
    import jiwer

    heard = [str(one.text) for one in transcriber.predict(list(sounds))]
    if len(heard) != len(sounds):
        raise UserError(f"the transcriber answered {len(heard)} times to {len(sounds)} sounds: it must once to each")
    plain = [[" ".join(text.lower().split()) for text in side] for side in (texts, heard)]
    return heard, float(jiwer.cer(plain[0], plain[1]))
