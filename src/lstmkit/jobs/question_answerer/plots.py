"""The attention behind an answer, drawn over the story."""

from __future__ import annotations

from matplotlib.figure import Figure

from lstmkit.data.text.questions import AnswerPrediction, Question
from lstmkit.jobs.common.token_labels import visible_token
from lstmkit.jobs.question_answerer.methods import AnswerClassifier, SpanExtractor
from lstmkit.jobs.question_answerer.predictor import QuestionAnswererPredictor
from lstmkit.plots.text import shaded_text, story_figure


def attention_figure(predictor: QuestionAnswererPredictor, question: Question) -> Figure:
    """Attention of each hop to the sentences of the story; for spans, the passage shaded by answer probability."""
    (logits,) = predictor.logits([question])
    title = _question_and_answer(question, predictor.to_prediction(question, logits))
    model = predictor.answer_model
    if isinstance(model, AnswerClassifier):
        sentences = model.codec.step_labels(question)[1:]
        return story_figure(sentences, model.hop_weights(predictor.network, question), title)
    assert isinstance(model, SpanExtractor)
    codec = model.codec
    tokens = [visible_token(token) for token in codec.step_labels(question)[codec.question_length(question) :]]
    probabilities = codec.token_probabilities(question, logits, predictor.scaling.temperature).tolist()
    return shaded_text(tokens, probabilities, "probability of being in the answer", max(probabilities), title)


def _question_and_answer(question: Question, answer: AnswerPrediction) -> str:
    """The title of a figure."""
    return f"{question.question} {answer.text or '(empty)'} ({answer.probability:.2f})"
