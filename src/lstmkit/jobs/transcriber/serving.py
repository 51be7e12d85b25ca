"""How a transcriber is served."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lstmkit.decoding.transcription import to_record
from lstmkit.frontends.log_mel import LogMelFrontEnd
from lstmkit.jobs.serving import Serving, arrays_form, clips_form, samples_live
from lstmkit.jobs.transcriber.predictor import TranscriberPredictor

_MAX_BEAM_SIZE = 256


def serving(predictor: TranscriberPredictor) -> Serving:
    """Audio clips, features, images of text lines or strokes; a unidirectional model of audio also listens live."""
    kind = predictor.front_end.kind
    can_stream = isinstance(predictor.front_end, LogMelFrontEnd) and not predictor.settings.bidirectional
    forms = {
        "audio": clips_form(),
        "images": arrays_form(list[list[list[int]]], [[[255] * 64] * 32], np.uint8),
        "strokes": arrays_form(list[list[list[float]]], [[[0, 0, 0], [1, 2, 0], [1, -2, 1]]]),
        "features": arrays_form(list[list[list[float]]], [[[0.0] * _num_features(predictor)] * 16]),
    }
    return Serving(
        forms[kind],
        max_values={"beam_size": _MAX_BEAM_SIZE},
        live=samples_live(partial(_LiveTranscript, predictor)) if can_stream else None,
    )


def _num_features(predictor: TranscriberPredictor) -> int:
    return len(predictor.front_end.state().get("mean", [0.0]))


class _LiveTranscript:
    """Transcribes the samples of one connection."""

    def __init__(self, predictor: TranscriberPredictor, sample_rate: int = 0) -> None:
        self._transcript = predictor.stream(sample_rate, "live")

    def step(self, message: Any) -> dict[str, Any]:
        return {"text": self._transcript.push(np.asarray(message, dtype=np.float32))}

    def finish(self) -> dict[str, Any]:
        return to_record(self._transcript.finish())
