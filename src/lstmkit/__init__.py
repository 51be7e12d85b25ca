"""lstmkit: long short-term memory networks, from the recurrent layer to the whole job.

Names are imported on first use: ``import lstmkit`` loads neither torch nor the libraries of a job.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lstmkit.errors import UserError
from lstmkit.version import __version__

if TYPE_CHECKING:  # for editors and type checkers; a test compares it with the folders in jobs/
    from lstmkit.export.c_header import export_c
    from lstmkit.export.keras_reader import import_keras
    from lstmkit.export.keras_writer import export_keras
    from lstmkit.export.onnx import export_onnx
    from lstmkit.export.rtneural import export_nam, export_rtneural
    from lstmkit.export.torch_program import export_torch
    from lstmkit.hub.transfer import pull, push
    from lstmkit.jobs import load
    from lstmkit.jobs.anomaly_detector.job import AnomalyDetector
    from lstmkit.jobs.captioner.job import Captioner
    from lstmkit.jobs.classifier.job import Classifier
    from lstmkit.jobs.event_classifier.job import EventClassifier
    from lstmkit.jobs.forecaster.job import Forecaster
    from lstmkit.jobs.handwriting_synthesizer.job import HandwritingSynthesizer
    from lstmkit.jobs.image_generator.job import ImageGenerator
    from lstmkit.jobs.language_model.job import LanguageModel
    from lstmkit.jobs.music_composer.job import MusicComposer
    from lstmkit.jobs.object_detector.job import ObjectDetector
    from lstmkit.jobs.question_answerer.job import QuestionAnswerer
    from lstmkit.jobs.recommender.job import Recommender
    from lstmkit.jobs.regressor.job import Regressor
    from lstmkit.jobs.secondary_structure_predictor.job import SecondaryStructurePredictor
    from lstmkit.jobs.speech_synthesizer.job import SpeechSynthesizer
    from lstmkit.jobs.summarizer.job import Summarizer
    from lstmkit.jobs.tagger.job import Tagger
    from lstmkit.jobs.transcriber.job import Transcriber
    from lstmkit.jobs.translator.job import Translator
    from lstmkit.layers import (
        GRU,
        LSTM,
        RNN,
        BackendReport,
        BackendUnavailable,
        BottleneckLSTM2d,
        ConvGRU2d,
        ConvLSTM2d,
        ConvRNN2d,
        Stream,
        Trace,
        explain_backend,
        quantize,
    )

#: Public names outside the jobs, by the module that has them.
_MODULES = {
    "lstmkit.layers": (
        *("LSTM", "GRU", "RNN", "Stream", "Trace"),
        *("ConvLSTM2d", "ConvGRU2d", "ConvRNN2d", "BottleneckLSTM2d"),
        *("BackendReport", "BackendUnavailable", "explain_backend", "quantize"),
    ),
    "lstmkit.jobs": ("load",),
    "lstmkit.export.c_header": ("export_c",),
    "lstmkit.export.keras_reader": ("import_keras",),
    "lstmkit.export.keras_writer": ("export_keras",),
    "lstmkit.export.onnx": ("export_onnx",),
    "lstmkit.export.rtneural": ("export_nam", "export_rtneural"),
    "lstmkit.export.torch_program": ("export_torch",),
    "lstmkit.hub.transfer": ("pull", "push"),
}


def _jobs() -> dict[str, str]:
    """The class of every job, by its folder in ``jobs/``: ``{"Classifier": "classifier", ...}``."""
    from lstmkit import jobs

    return {jobs.class_name(name): name for name in jobs.job_names()}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    if name == "__all__":
        return sorted([*_jobs(), *(n for names in _MODULES.values() for n in names), "UserError", "__version__"])
    if name[:1].isupper() and name in _jobs():
        from lstmkit import jobs

        return jobs.job_class(_jobs()[name])
    raise AttributeError(f"module 'lstmkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    own = [
        name
        for name, value in globals().items()
        if name[:2] == "__" or str(getattr(value, "__name__", "")) == f"lstmkit.{name}"
    ]
    return sorted({*own, *__getattr__("__all__")})
