"""How a classifier is served."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from lstmkit.data.labeled_examples import Columns, LabeledExamples, read_labeled_examples
from lstmkit.frontends.augmented_log_mel import AugmentedLogMelFrontEnd
from lstmkit.jobs.classifier.keyword_spotting import KeywordSpotter, check_keyword_spotting
from lstmkit.jobs.classifier.predictor import ClassifierPredictor
from lstmkit.jobs.serving import JsonForm, Serving, arrays_form, clips_form, samples_live, texts_form

Frames = list[list[list[list[int]]]]  # (T, H, W, 3)


def serving(predictor: ClassifierPredictor) -> Serving:
    """Texts, arrays of numbers, audio or video clips; requests with texts or numbers are classified together."""
    kind = predictor.front_end.kind
    can_stream = kind == "audio" and not predictor.multi_label
    return Serving(
        _data(predictor, kind),
        join=_join if kind in ("text", "numbers") else None,
        live=samples_live(partial(_LiveSpotter, predictor)) if can_stream else None,
    )


def _data(predictor: ClassifierPredictor, kind: str) -> JsonForm:
    if kind == "text":
        return texts_form("how far is it to the moon ?")
    if kind == "audio":
        return clips_form()
    if kind == "video":
        size = predictor.settings.height, predictor.settings.width
        clip = np.zeros((2, *size, 3), dtype=int).tolist()
        return arrays_form(list[Frames], [clip], np.uint8)
    features = [0.0] * len(predictor.front_end.state()["mean"])
    return arrays_form(list[list[list[float]]], [[features] * 4], np.float64)


def _join(data: Sequence[Any]) -> LabeledExamples:
    """Examples of all requests; their numbers begin anew in each."""
    inputs, sizes = [*chain.from_iterable(data)], map(len, data)
    joined = read_labeled_examples(inputs, Columns())
    return LabeledExamples(joined.inputs, joined.labels, [str(i + 1) for n in sizes for i in range(n)], joined.name)


class _LiveSpotter:
    """Spots keywords in the samples of one connection."""

    def __init__(
        self,
        predictor: ClassifierPredictor,
        sample_rate: int = 0,
        min_probability: float = 0.5,
        min_silence_seconds: float = 0.2,
    ) -> None:
        check_keyword_spotting(predictor, min_probability, min_silence_seconds)
        assert isinstance(predictor.front_end, AugmentedLogMelFrontEnd)
        rate = sample_rate or predictor.front_end.mel.sample_rate
        self._spotter = KeywordSpotter(predictor, rate, min_probability, min_silence_seconds)

    def step(self, message: Any) -> dict[str, Any]:
        detections = self._spotter.push(np.asarray(message, dtype=np.float32))
        return {"keywords": [detection._asdict() for detection in detections]}

    def finish(self) -> dict[str, Any]:
        return {"keywords": [detection._asdict() for detection in self._spotter.finish()]}
