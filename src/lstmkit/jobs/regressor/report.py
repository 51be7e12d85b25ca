"""The regressor's part of the report: scores, residuals, sequences with predictions, the data."""

from __future__ import annotations

from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.regressor.metrics import RegressionOutputs
from lstmkit.jobs.regressor.plots import residuals_figure, sequences_figure
from lstmkit.jobs.regressor.predictor import RegressorPredictor
from lstmkit.report import Section, quantities


def sections(
    predictor: RegressorPredictor, evaluation: Evaluation | None, rows: RowSequences, split_note: str
) -> list[Section]:
    """Scores with residuals, scores by sequence, the first sequences, and the data.

    Args:
        predictor: Fitted.
        evaluation: Of the rows that were scored; ``None`` if none were held out.
        rows: Everything that was read.
        split_note: How the data were split.
    """
    if evaluation is None:
        first = [Section("Results", "No targets were held out, so there are no scores to show.")]
        return [*first, _data_section(predictor, rows, split_note)]
    outputs: RegressionOutputs = evaluation.outputs
    found = [Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions)]
    found.append(
        Section(
            "Residuals",
            "Left: points on the line are right. Right: a residual above 0 is a prediction that is too high.",
            figure=residuals_figure(predictor, outputs.rows, outputs.truth, outputs.predictions.values),
            caption="Predictions against true values, and residuals over time",
        )
    )
    by_sequence = outputs.by_sequence()
    if len(by_sequence) > 1:
        found.append(Section("Scores by sequence", "The worst first.", by_sequence.sort_values("NSE")))
    found.append(
        Section(
            "Predictions",
            _interval_text(predictor),
            figure=sequences_figure(predictor, outputs.rows, outputs.predictions),
            caption="Held-out sequences with their predictions",
        )
    )
    return [*found, _data_section(predictor, rows, split_note)]


def _interval_text(predictor: RegressorPredictor) -> str:
    decoding = predictor.decoding
    if not decoding.levels:
        return ""
    method = "conformalized quantile regression" if decoding.has_quantiles else "split conformal prediction"
    return f"Intervals are calibrated on {decoding.num_calibrated:,} targets, by {method}."


def _data_section(predictor: RegressorPredictor, rows: RowSequences, split_note: str) -> Section:
    encoding = predictor.encoding
    counts = {
        "sequences": len(rows),
        "rows": rows.num_rows,
        "numeric columns": len(encoding.number_names),
        "columns of categories": len(encoding.category_names),
        "static columns": len(predictor.static_names),
        "targets": len(predictor.decoding.names),
    }
    notes = [f"{note[0].upper()}{note[1:].rstrip('.')}." for note in (split_note, *rows.notes)]
    return Section("The data", " ".join(notes), quantities("data", counts))
