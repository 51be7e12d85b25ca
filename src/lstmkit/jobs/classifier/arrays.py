"""Inputs and labels as scikit-learn passes them: ``fit(X, y)``, ``predict(X)``, ``score(X, y)``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.arrays import as_array
from lstmkit.errors import DataError, one_line
from lstmkit.jobs.classifier.predictor import label_text


def is_array(data: Any) -> bool:
    """Whether predictions for ``data`` are an array of labels: data are an array, a tensor or a pandas series."""
    return hasattr(data, "__array__") and not hasattr(data, "columns")  # a frame has columns


def checked_inputs(data: Any) -> Any:
    """``X``: arrays and tensors as numpy arrays, everything else as it is.

    Raises:
        DataError: It is a sparse matrix, or an array of complex numbers, of one dimension or without values.
    """
    if hasattr(data, "tocsr"):
        raise DataError("sparse matrices are not supported: give X.toarray()")
    if not is_array(data) or isinstance(data, pd.Series):
        return data
    array = as_array(data)
    if array.dtype.kind in "OUS":
        return array
    if array.dtype.kind == "c":
        raise DataError("Complex data not supported: give real numbers")  # scikit-learn's own words
    if array.ndim < 2:
        raise DataError(
            f"X has the shape {array.shape}, but one row per example is needed, as (N, T) or (N, T, F). Reshape your "
            "data: X.reshape(1, -1) if it is one series"
        )
    if not array.size:
        missing = "sample(s)" if not len(array) else "feature(s)"
        raise DataError(f"X has 0 {missing} (shape={array.shape}) while a minimum of 1 is required.")
    return array


def checked_labels(y: Any, multi_label: bool) -> list[Any]:
    """Labels as a list: a value per example, or with several labels per example a tuple.

    Raises:
        DataError: ``y`` is not a column of discrete labels.
    """
    if multi_label:
        return [tuple(labels) if isinstance(labels, (list, tuple, set, np.ndarray)) else labels for labels in y]
    from sklearn.utils import column_or_1d
    from sklearn.utils.multiclass import check_classification_targets

    try:
        column = column_or_1d(y, warn=True)
        if column.dtype.kind == "f" and np.isnan(column).any():
            raise DataError(f"label {int(np.isnan(column).argmax()) + 1} of y is NaN: give it a label, or leave it out")
        check_classification_targets(column)
    except (ValueError, TypeError) as err:
        raise err if isinstance(err, DataError) else DataError(f"y cannot be used as labels: {one_line(err)}") from err
    return column.tolist()


def with_label_column(frame: pd.DataFrame, column: str, labels: list[Any]) -> pd.DataFrame:
    """A copy of a frame with the labels in ``column``."""
    if len(labels) != len(frame):
        raise DataError(f"the frame has {len(frame)} rows and y {len(labels)} labels: give one label per row")
    return frame.assign(**{column: labels})


def label_values(labels: list[Any]) -> dict[str, Any]:
    """Each label as given, by its text; empty if labels are of several types or not text, numbers or booleans."""
    types = {type(label) for label in labels}
    if len(types) != 1 or not types <= {str, int, float, bool}:
        return {}
    return {label_text(label): label for label in labels}
