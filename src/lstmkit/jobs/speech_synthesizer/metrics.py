"""Scores of synthesized speech against recordings, and of its attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.audio.tts_corpus import SpeechCorpus
from lstmkit.errors import DataError, UserError
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.speech_synthesizer.baselines import RecordedWords
from lstmkit.jobs.speech_synthesizer.predictor import SpeechPredictor
from lstmkit.jobs.speech_synthesizer.results import Speech
from lstmkit.jobs.speech_synthesizer.synthesis import NATS_TO_DB, pad_to_decoder_steps
from lstmkit.libraries import imports_of
from lstmkit.progress import Progress

_NUM_CEPSTRA = 13
METRIC_DIRECTIONS = {
    "MCD": "low",
    "duration error": "low",
    "mel error": "low",
    "diagonality": "high",
    "focus rate": "high",
}
_WORDS, _MEAN, _PREVIOUS = "recorded-word concatenation", "mean-frame baseline", "previous-frame baseline"
_NOT_ALTERNATIVES = {
    _WORDS: "it can only say words that were recorded",
    _MEAN: "it is one sound without words",
    _PREVIOUS: "it needs the recording that it repeats",
}
_NOTES = (
    "MCD: mel cepstral distortion in dB of synthesized speech against the recording: mel cepstra 1 to 13, frames "
    "paired by dynamic time warping. Duration error: relative to the recording.",
    "Mel error: mean absolute error in dB over frames and bands, predicted from the true frames before each step.",
    "Diagonality: correlation of time with the attended position. Focus rate: mean of the largest attention weight of "
    "each step.",
)


def mel_cepstral_distortion(synthesized: np.ndarray, recorded: np.ndarray) -> float:
    """Mel cepstral distortion (Kubichek 1993) in dB, the mean over the pairs of frames that dynamic time warping finds.

    It is the root mean square difference in dB of the two log spectra, smoothed to 13 cosines over the mel scale, and
    without loudness: ``10 √2 / ln 10 · √Σ (c - c')²`` with ``ln|H(ω)| = Σ c_d cos(d ω)``.

    Args:
        synthesized, recorded: ``(T, F)``, natural logarithm of power.
    """
    with imports_of("sound", "speech synthesis"):
        from librosa.sequence import dtw

    synthesized_cepstra, recorded_cepstra = mel_cepstra(synthesized), mel_cepstra(recorded)
    _, path = dtw(X=synthesized_cepstra.T, Y=recorded_cepstra.T)
    distances = np.linalg.norm(synthesized_cepstra[path[:, 0]] - recorded_cepstra[path[:, 1]], axis=1)
    return float(np.sqrt(2) * NATS_TO_DB * distances.mean())


def mel_cepstra(frames: np.ndarray) -> np.ndarray:
    """``(T, F) -> (T, 13)``: cosine transform of the log amplitudes over the bands, without coefficient 0."""
    from scipy.fft import dct

    bands = frames.shape[1]
    cepstra = dct(frames.astype(np.float64) / 2, norm="ortho", axis=1) * np.sqrt(2 / bands)
    return np.asarray(cepstra)[:, 1 : 1 + _NUM_CEPSTRA]


def mel_error(predicted: np.ndarray, recorded: np.ndarray) -> float:
    """Mean absolute difference in dB of aligned frames ``(T, F)``."""
    return float(NATS_TO_DB * np.abs(predicted.astype(np.float64) - recorded).mean())


def diagonality(attention: np.ndarray) -> float:
    """Correlation of time with the mean attended position, ``(T, S)``: 1 if it moves evenly from left to right.

    0 if it stays in one place, or if there is only one step.

    >>> diagonality(np.eye(4)), diagonality(np.eye(4)[::-1])
    (1.0, -1.0)
    """
    positions = attention @ np.arange(attention.shape[1])
    if len(positions) < 2 or positions.std() < 1e-9:
        return 0.0
    return round(float(np.corrcoef(np.arange(len(positions)), positions)[0, 1]), 12)


def focus_rate(attention: np.ndarray) -> float:
    """Mean of the largest weight of each step (focus rate of Ren et al. 2019, FastSpeech)."""
    return float(attention.max(1).mean())


def evaluate(
    predictor: SpeechPredictor, test: SpeechCorpus, words: RecordedWords | None, progress: Progress
) -> Evaluation:
    """The model and its baselines on held-out recordings.

    Args:
        predictor: Fitted.
        test: The recordings.
        words: Training recordings by their text; ``None`` if they are not known any more.
        progress: Where to report progress.

    Raises:
        DataError: No text has a known character.
    """
    model_name = predictor.settings.cell.upper()
    known = [i for i, text in enumerate(test.texts) if predictor.has_known_character(text)]
    if not known:
        raise DataError(f"{test.name}: no text has a character of the training data")
    left_out, test = len(test) - len(known), test.subset(known)
    source = predictor.dataset(test)
    targets = source.targets or []
    speech, forced = predictor.synthesize(test.texts, progress), predictor.teacher_forced(source, progress)
    details = pd.DataFrame(
        _row(predictor, words, model_name, utterance, scaled, predicted)
        for utterance, scaled, predicted in zip(speech, targets, forced, strict=True)
    )
    table = pd.DataFrame(_means(details, name) for name in (model_name, _WORDS, _MEAN, _PREVIOUS))
    cut_off = sum(not utterance.ended for utterance in speech)
    notes = [f"{len(test):,} recordings, {test.seconds:,.0f} s; {cut_off:,} of the texts were cut off."]
    if left_out:
        notes.append(f"{left_out:,} recordings are left out: their texts have no known character.")
    joined = details[f"{_WORDS}: MCD"].notna().sum() if f"{_WORDS}: MCD" in details else 0
    if joined < len(details):
        notes.append(f"The {_WORDS} covers {joined:,} of the texts, those whose words were recorded separately.")
    missing = (_WORDS,) if words is None else ()
    return Evaluation(
        table,
        METRIC_DIRECTIONS,
        details,
        (*notes, *_NOTES),
        test,
        missing,
        examples=ScoredExamples.mean("recordings", details[f"{model_name}: MCD"].to_numpy()),
        not_alternatives=_NOT_ALTERNATIVES,
    )


def _row(
    predictor: SpeechPredictor,
    words: RecordedWords | None,
    model_name: str,
    speech: Speech,
    scaled: np.ndarray,
    predicted: np.ndarray,
) -> dict[str, Any]:
    """The scores of one recording, ``model: score``."""
    scaler, factor = predictor.scaler, predictor.settings.reduction_factor
    true = scaler.unscale(scaled)
    length = max(1, round(predictor.frames_per_token[0] * len(speech.tokens)))
    mean_frames = scaler.unscale(np.zeros((max(length, len(true)), predictor.settings.n_mels)))
    free = {model_name: speech.frames, _MEAN: mean_frames[:length]}
    recording = None if words is None else words(speech.text)
    if recording is not None:
        free[_WORDS] = pad_to_decoder_steps(recording, factor, scaler.floor)
    forced = {model_name: predicted, _MEAN: scaled * 0, _PREVIOUS: _repeat_last_frame(scaled, factor)}
    row: dict[str, Any] = {"text": speech.text, "ended": speech.ended}
    for name, frames in free.items():
        row[f"{name}: MCD"] = mel_cepstral_distortion(frames, true)
        row[f"{name}: duration error"] = abs(len(frames) - len(true)) / len(true)
    for name, frames in forced.items():
        row[f"{name}: mel error"] = mel_error(scaler.unscale(frames), true)
    row[f"{model_name}: diagonality"] = diagonality(speech.attention)
    row[f"{model_name}: focus rate"] = focus_rate(speech.attention)
    return row


def _repeat_last_frame(scaled: np.ndarray, reduction_factor: int) -> np.ndarray:
    """``(T, F)``: the last frame before each step, repeated through the step; before the first the mean frame, 0."""
    last = scaled[reduction_factor - 1 : -1 : reduction_factor]
    return np.concatenate([0 * scaled[:1], last]).repeat(reduction_factor, axis=0)


def _means(details: pd.DataFrame, name: str) -> dict[str, Any]:
    """A model's row of the table: the means of its columns."""
    columns = {score: f"{name}: {score}" for score in METRIC_DIRECTIONS}
    return {"model": name} | {
        score: details[column].mean() if column in details else np.nan for score, column in columns.items()
    }


def round_trip_cer(speech: Sequence[Speech], recorded: Sequence[AudioClip] | None, transcriber: Any) -> Evaluation:
    """The transcriber's character error rate on synthesized speech and, if given, on recordings of the same texts."""
    texts = [utterance.text for utterance in speech]
    clips_by_name = {"synthesized": [utterance.clip for utterance in speech]}
    if recorded is not None:
        clips_by_name["recorded"] = list(recorded)
    results = {name: transcription_error(clips, texts, transcriber) for name, clips in clips_by_name.items()}
    table = pd.DataFrame([{"model": name, "CER": 100 * error} for name, (_, error) in results.items()])
    details = pd.DataFrame({"text": texts, **{name: lines for name, (lines, _) in results.items()}})
    note = f"{len(texts):,} texts; CER: character error rate of the transcriber, in percent."
    reference = {"recorded": "it is the recordings, which cannot say new texts"}
    examples = ScoredExamples(len(texts), "texts")
    return Evaluation(table, {"CER": "low"}, details, (note,), examples=examples, not_alternatives=reference)


def transcription_error(clips: Sequence[AudioClip], texts: Sequence[str], transcriber: Any) -> tuple[list[str], float]:
    """Transcripts, and their character error rate (jiwer).

    Args:
        clips: Audio clips.
        texts: Their texts.
        transcriber: An object whose ``predict(clips)`` gives for each clip something with a ``text``.
    """
    with imports_of("sound", "a character error rate"):
        import jiwer

    transcripts = [str(transcription.text) for transcription in transcriber.predict(list(clips))]
    if len(transcripts) != len(clips):
        raise UserError(f"the transcriber gave {len(transcripts)} texts for {len(clips)} clips: it must give one each")
    plain = [[" ".join(text.lower().split()) for text in side] for side in (texts, transcripts)]
    return transcripts, float(jiwer.cer(plain[0], plain[1]))
