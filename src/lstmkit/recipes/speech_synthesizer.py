"""Protocols of speech synthesis: words and strings of digits joined from recordings, memorization of sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data import catalog
from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.audio.tts_corpus import SpeechCorpus, read_zipped_audio, trim_silence
from lstmkit.errors import DataError, UserError
from lstmkit.jobs import load
from lstmkit.jobs.speech_synthesizer.job import SpeechSynthesizer
from lstmkit.progress import Progress
from lstmkit.recipes import Fit

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_MIN_PAUSE, _MAX_PAUSE = 0.05, 0.15  # seconds between two digits


def fsdd_voice(
    job: SpeechSynthesizer, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """One speaker's digits as words and as strings of 2 to 4. Recordings 0 to 4 are the test set (official split).

    Strings are joined from recordings of their own split, with short pauses. If ``listener`` names the run folder
    of a digit transcriber, the table also has its character error rate.
    """
    listener = _listener(options["listener"]["run"])
    takes = digit_takes(
        catalog.locate(folder.name, options["file"]), options["voice"]["speaker"], job.sample_rate, job.trim_db
    )
    parts = {"test": range(5), "valid": range(45, 50), "train": range(5, 45)}
    train, valid, test = (
        digit_strings(takes, parts[part], options[f"{part}_strings"], seed, part)
        for seed, part in enumerate(("train", "valid", "test"))
    )
    fit(train, valid)
    table = job.evaluate(test, progress=progress).table
    return _with_round_trip_cer(job, test, table, listener, progress)


def memorize(
    job: SpeechSynthesizer, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """Train on all recordings and score the same ones, without validation.

    The scores show whether training works for sentences; they do not show how the model speaks other sentences.
    """
    catalog.locate(folder.name, options["table"])
    examples = job.read(folder)
    fit(examples)
    return job.evaluate(examples, progress=progress).table


def digit_takes(path: Path, speaker: str, rate: int, trim: float) -> dict[tuple[int, int], AudioClip]:
    """The recordings of one speaker in ``recordings.zip``, named ``DIGIT_SPEAKER_TAKE.wav``, by digit and take."""
    takes = {}
    for name, sound in read_zipped_audio(path, rate, lambda name: f"_{speaker}_" in name):
        digit, _, take = Path(name).stem.split("_")
        trimmed = trim_silence(sound, trim)
        if trimmed is not None:
            takes[int(digit), int(take)] = trimmed
    if not takes:
        raise DataError(f"{path.name} has no recordings of {speaker}")
    return takes


def digit_strings(
    takes: dict[tuple[int, int], AudioClip], part: Iterable[int], strings: int, seed: int, name: str
) -> SpeechCorpus:
    """Every take of a part by itself, and ``strings`` random strings of 2 to 4 of them."""
    rng = np.random.default_rng(seed)
    of_part = {key: takes[key] for key in sorted(takes) if key[1] in {*part}}
    known = list(of_part)
    picked = [[key] for key in known]
    picked += [[known[i] for i in rng.integers(len(known), size=rng.integers(2, 5))] for _ in range(strings)]
    sounds = [joined([of_part[key] for key in keys], rng) for keys in picked]
    texts = [" ".join(DIGITS[digit] for digit, _ in keys) for keys in picked]
    return SpeechCorpus(tuple(sounds), tuple(texts), name)


def joined(sounds: list[AudioClip], rng: np.random.Generator) -> AudioClip:
    """Clips one after the other, with 50 to 150 ms of silence between them."""
    rate = sounds[0].sample_rate
    pieces = [sounds[0].samples]
    for sound in sounds[1:]:
        pieces += [np.zeros(round(rng.uniform(_MIN_PAUSE, _MAX_PAUSE) * rate), np.float32), sound.samples]
    return AudioClip(" ".join(sound.name for sound in sounds), np.concatenate(pieces), rate)


class DigitsAsWords:
    """A digit transcriber whose texts are words: ``"42"`` becomes ``"four two"``."""

    def __init__(self, transcriber: Any) -> None:
        self.transcriber = transcriber

    def predict(self, sounds: Any) -> list[Any]:
        """Transcriptions in words, without positions."""
        transcriptions = self.transcriber.predict(sounds)
        spelled = (" ".join(DIGITS[int(c)] if c.isdecimal() else c for c in one.text) for one in transcriptions)
        return [
            replace(one, text=text, words=(), characters=()) for one, text in zip(transcriptions, spelled, strict=True)
        ]


def _listener(run: str) -> DigitsAsWords | None:
    """The model in that run folder, loaded before training so that a missing one is noticed at once."""
    if not run:
        return None
    if not Path(run).is_dir():
        raise UserError(f"there is no transcriber in {run}: lstmkit reproduce fsdd_strings --run {run} makes it")
    return DigitsAsWords(load(run))


def _with_round_trip_cer(
    job: SpeechSynthesizer, test: SpeechCorpus, table: pd.DataFrame, transcriber: Any, progress: Progress
) -> pd.DataFrame:
    """The table with a transcriber's character error rate on synthesized speech and recordings, if one is given."""
    if transcriber is None:
        return table
    errors = job.round_trip_cer(test, transcriber, progress=progress).table["CER"]
    recorded = pd.DataFrame([{"model": "original recordings"}])
    return pd.concat([table, recorded], ignore_index=True).assign(
        CER=[errors[0], *[None] * (len(table) - 1), errors[1]]
    )


PROTOCOLS = {"fsdd_voice": fsdd_voice, "by_heart": memorize}
