"""Speech synthesis: frames step by step, then a waveform by Griffin-Lim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.data.audio.griffin_lim import min_frames, waveform
from lstmkit.data.padding import pad_sequences
from lstmkit.data.text.spoken_text import check_known_characters
from lstmkit.data.text.tokenizer import Tokenizer
from lstmkit.errors import DataError
from lstmkit.runtime.base import ExportedJob, batches_by_length, texts_of


class SpeechSynthesizer(ExportedJob):
    """Speaks texts."""

    def predict(self, data: Any) -> list[dict[str, Any]]:
        """The speech of each text. It does not transcribe what it says.

        Args:
            data: A text, or a list of texts.

        Returns:
            ``text, seconds, sample_rate, ended, unknown, tokens, attention, samples`` for each text, as the job's
            ``predict``: ``attention`` has the weight of each token at each decoder step, ``samples`` the waveform, full
            scale being -1…1, at ``sample_rate`` Hz.

        Raises:
            DataError: There is no text, or one has no known character.
        """
        texts, tokenizer = _lines(data), self.tokenizer(self.settings["tokenization"])
        ids = [self._encode(number, text, tokenizer) for number, text in enumerate(texts, 1)]
        records: list[dict[str, Any]] = [{} for _ in texts]
        for rows, lengths in batches_by_length(ids):
            outputs, weights = self._decode([ids[row] for row in rows], lengths)
            for i, row in enumerate(rows.tolist()):
                spoken = self._speech(outputs[i], weights[i], len(ids[row]))
                tokens = tokenizer.tokens(ids[row].tolist())
                records[row] = {
                    "text": texts[row],
                    "seconds": len(spoken["samples"]) / self.settings["sample_rate"],
                    "sample_rate": self.settings["sample_rate"],
                    "ended": spoken["ended"],
                    "unknown": list(tokenizer.out_of_vocabulary(texts[row])),
                    "tokens": [*tokens[:-1], "∎"],
                    "attention": [[round(float(w), 4) for w in step] for step in spoken["attention"]],
                    "samples": [round(float(x), 5) for x in spoken["samples"]],
                }
        return records

    def _encode(self, number: int, text: str, tokenizer: Tokenizer) -> np.ndarray:
        """Ids ``(S,)`` of the known characters of a text, and of its end."""
        unknown = self.settings["unknown_id"]
        known = [i for i in next(tokenizer.encode([text])) if i != unknown]
        check_known_characters(bool(known), number, tokenizer)
        return np.array([*known, self.settings["end_id"]])

    def _limit(self, length: int) -> int:
        """Decoder steps after which a text of so many tokens is cut off."""
        settings = self.settings
        frames = min(settings["max_frames_per_token"] * length, settings["max_frames"])
        return max(1, int(np.ceil(frames / settings["reduction_factor"])))

    def _decode(self, ids: Sequence[np.ndarray], lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outputs ``(B, T, r·F + 1)`` and attention weights ``(B, T, S)``, until all have stopped."""
        decoder, bands = self.graphs["decoder"], len(self.settings["means"])
        states = self.graphs["encoder"](ids=pad_sequences(ids, 0), lengths=lengths)
        limits = np.array([self._limit(int(length)) for length in lengths])
        frame, running = np.zeros((len(ids), bands), dtype=np.float32), np.ones(len(ids), dtype=bool)
        outputs, attention = [], []
        for t in range(int(limits.max())):
            (output, weights), states = decoder.step(states, frame=frame)
            outputs.append(output)
            attention.append(weights)
            running &= (output[:, -1] <= 0) & (t + 1 < limits)
            if not running.any():
                break
            frame = output[:, -bands - 1 : -1]
        return np.stack(outputs, 1), np.stack(attention, 1)

    def _speech(self, outputs: np.ndarray, weights: np.ndarray, length: int) -> dict[str, Any]:
        """Samples, attention, and whether the stop token came, of one text with ``length`` tokens."""
        limit, settings = self._limit(length), self.settings
        stops = np.flatnonzero(outputs[:limit, -1] > 0)
        steps = int(stops[0]) + 1 if len(stops) else limit
        scaled = outputs[:steps, :-1].reshape(-1, len(settings["means"]))
        frames = (scaled * np.array(settings["stds"]) + np.array(settings["means"])).astype(np.float32)
        frames = frames.clip(np.float32(settings["floor"]), np.float32(settings["ceiling"]))
        missing = min_frames(settings["n_fft"], settings["hop_length"]) - len(frames)
        padded = np.pad(frames, ((0, max(0, missing)), (0, 0)), constant_values=frames.min())
        (magnitudes,) = self.graphs["magnitudes"](frames=padded)
        sizes = (settings[name] for name in ("iterations", "n_fft", "hop_length", "window_length"))
        samples = waveform(magnitudes, len(frames), *sizes)
        return {"samples": samples, "attention": weights[:steps, :length], "ended": bool(len(stops))}


def _lines(data: Any) -> list[str]:
    """Texts without superfluous spaces; blank ones at the end are dropped."""
    texts = [" ".join(text.split()) for text in texts_of(data)]
    while texts and not texts[-1]:
        texts.pop()
    if not texts:
        raise DataError("nothing to speak: give at least one text")
    for number, text in enumerate(texts, 1):
        if not text:
            raise DataError(f"text {number} is blank: write a text there, or remove it")
    return texts
