"""How a question answerer is served."""

from __future__ import annotations

from lstmkit.jobs.question_answerer.predictor import QuestionAnswererPredictor
from lstmkit.jobs.serving import Row, Serving, rows_form


def serving(predictor: QuestionAnswererPredictor) -> Serving:
    """Rows with a story and a question."""
    settings = predictor.settings
    example: Row = {settings.story_col: "Mary went to the kitchen.", settings.question_col: "Where is Mary?"}
    return Serving(rows_form([example]))
