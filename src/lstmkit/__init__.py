"""lstmkit: long short-term memory networks whose gates can be read, from the layer to the whole job."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lstmkit.errors import UserError
from lstmkit.layers import GRU, LSTM, RNN, BackendReport, explain_backend
from lstmkit.ops.dispatch import BackendUnavailable
from lstmkit.recurrent import Trace
from lstmkit.stream import Stream

if TYPE_CHECKING:
    from lstmkit.jobs import load
    from lstmkit.jobs.anomaly_detector import AnomalyDetector
    from lstmkit.jobs.answerer import Answerer
    from lstmkit.jobs.captioner import Captioner
    from lstmkit.jobs.classifier import Classifier
    from lstmkit.jobs.composer import Composer
    from lstmkit.jobs.forecast import Forecaster
    from lstmkit.jobs.language_model import LanguageModel
    from lstmkit.jobs.painter import Painter
    from lstmkit.jobs.recommender import Recommender
    from lstmkit.jobs.speaker import Speaker
    from lstmkit.jobs.structure_predictor import StructurePredictor
    from lstmkit.jobs.summarizer import Summarizer
    from lstmkit.jobs.tagger import Tagger
    from lstmkit.jobs.transcriber import Transcriber
    from lstmkit.jobs.translator import Translator
    from lstmkit.jobs.writer import Writer

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AnomalyDetector",
    "Answerer",
    "BackendReport",
    "BackendUnavailable",
    "Captioner",
    "Classifier",
    "Composer",
    "Forecaster",
    "LanguageModel",
    "Painter",
    "Recommender",
    "Speaker",
    "Stream",
    "StructurePredictor",
    "Summarizer",
    "Tagger",
    "Trace",
    "Transcriber",
    "Translator",
    "UserError",
    "Writer",
    "__version__",
    "explain_backend",
    "load",
]

#: Jobs need their field's libraries, the layers do not: these names are imported when they are first used.
_LATER = {
    "AnomalyDetector": "lstmkit.jobs.anomaly_detector",
    "Answerer": "lstmkit.jobs.answerer",
    "Captioner": "lstmkit.jobs.captioner",
    "Classifier": "lstmkit.jobs.classifier",
    "Composer": "lstmkit.jobs.composer",
    "Forecaster": "lstmkit.jobs.forecast",
    "LanguageModel": "lstmkit.jobs.language_model",
    "Painter": "lstmkit.jobs.painter",
    "Speaker": "lstmkit.jobs.speaker",
    "StructurePredictor": "lstmkit.jobs.structure_predictor",
    "Recommender": "lstmkit.jobs.recommender",
    "Summarizer": "lstmkit.jobs.summarizer",
    "Tagger": "lstmkit.jobs.tagger",
    "Transcriber": "lstmkit.jobs.transcriber",
    "Translator": "lstmkit.jobs.translator",
    "Writer": "lstmkit.jobs.writer",
    "load": "lstmkit.jobs",
}
#: Which of pip's extras has a job's libraries; of the others it is ``text``.
_EXTRA = {
    "Captioner": "video",
    "Composer": "music",
    "Forecaster": "series",
    "Painter": "pictures",
    "Recommender": "series",
    "Speaker": "sound",
    "load": "series",
    "StructurePredictor": "proteins",
    "Writer": "writing",
    "Transcriber": "sound",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'lstmkit' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_LATER[name]), name)
    except ModuleNotFoundError as err:
        extra = _EXTRA.get(name, "text")
        raise ModuleNotFoundError(f"lstmkit.{name} needs {err.name}: pip install 'lstmkit[{extra}]'") from err
