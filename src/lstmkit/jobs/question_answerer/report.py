"""The question answerer's part of the report: results, examples, attention, the data."""

from __future__ import annotations

import numpy as np

from lstmkit.data.text.question_answering import Questions
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.question_answerer.metrics import scores_by_question_type
from lstmkit.jobs.question_answerer.plots import attention_figure
from lstmkit.jobs.question_answerer.predictor import QuestionAnswererPredictor
from lstmkit.report import Section, quantities

_NUM_EXAMPLES = 12
_NUM_FIGURES = 3


def sections(
    predictor: QuestionAnswererPredictor, evaluation: Evaluation | None, questions: Questions, num_left_out: int
) -> list[Section]:
    """Results, attention on a few questions, and the data.

    Args:
        predictor: With a trained network.
        evaluation: Scores, if there are any.
        questions: Everything that was read.
        num_left_out: Training questions whose answer could not be learned.
    """
    results = [] if evaluation is None else _evaluation_sections(evaluation)
    return [*results, *_attention_sections(predictor, evaluation, questions), _data(predictor, questions, num_left_out)]


def _evaluation_sections(evaluation: Evaluation) -> list[Section]:
    details, models = evaluation.details, evaluation.table["model"].tolist()
    sections = [Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions)]
    if details["question type"].nunique() > 1:
        by_type = scores_by_question_type(details, models)
        best = dict.fromkeys(models, "high")
        text = "Accuracy of each model."
        sections.append(Section("Results by question type", text, by_type, best=best, best_in_rows=True))
    examples = details.loc[: _NUM_EXAMPLES - 1, ["question", "correct answer", models[0]]]
    return [*sections, Section("Examples", f"The first questions of {evaluation.part}.", examples)]


def _attention_sections(
    predictor: QuestionAnswererPredictor, evaluation: Evaluation | None, questions: Questions
) -> list[Section]:
    inspected, part = (questions, "the data") if evaluation is None else (evaluation.outputs, evaluation.part)
    sections = []
    for i in np.linspace(0, len(inspected) - 1, min(_NUM_FIGURES, len(inspected))).astype(int):
        question = inspected.items[i]
        title = f"Attention: {question.question}"
        text = f"A question of {part}. Correct answer: {question.answer}"
        sections.append(Section(title, text, figure=attention_figure(predictor, question), caption=title))
    return sections


def _data(predictor: QuestionAnswererPredictor, questions: Questions, num_left_out: int) -> Section:
    counts = {
        "questions": len(questions),
        "training questions left out: the answer is not in the text that is read": num_left_out,
        "question types": len({question.kind for question in questions}),
    }
    table = quantities("data", counts)
    return Section("The data", f"Answer type: {predictor.answer_type}.", table)
