"""Jobs inside scikit-learn: arrays in and out, clone, pipelines, searches, and scikit-learn's checks."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

from lstmkit.errors import DataError, UserError
from lstmkit.jobs import job_class, job_names, load
from lstmkit.jobs.anomaly_detector.job import AnomalyDetector
from lstmkit.jobs.classifier.job import Classifier

TINY: dict[str, Any] = {"hidden_size": 6, "epochs": 4, "batch_size": 8, "lr": 0.02, "dropout": 0.1}


def bumps(n: int, seed: int, steps: int = 6, features: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Time series ``(n, steps, features)`` with a bump, up for the class 1 and down for the class 0."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    series = rng.normal(0, 0.1, (n, steps, features))
    series[:, steps // 2] += np.where(y, 2.0, -2.0)[:, None]
    return series, y


def sentences(n: int) -> tuple[list[str], list[str]]:
    return ["good film" if i % 2 else "bad film" for i in range(n)], ["+" if i % 2 else "-" for i in range(n)]


# ---- arrays in, labels out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["array", "series", "tensor", "list of arrays", "ragged", "texts", "text array", "text series"]
)
def test_every_form_of_inputs(kind: str):
    """Arrays, lists and pandas series; only arrays and pandas series give an array of labels."""
    series, y = bumps(40, 0)
    texts, labels = sentences(40)
    ragged = np.empty(40, dtype=object)
    ragged[:] = [row[: 4 + i % 3] for i, row in enumerate(series)]
    inputs, targets = {
        "array": (series, y),
        "series": (series[..., 0], y),
        "tensor": (torch.from_numpy(series), torch.from_numpy(y)),
        "list of arrays": (list(series), y),
        "ragged": (ragged, y),
        "texts": (texts, labels),
        "text array": (np.array(texts), np.array(labels)),
        "text series": (pd.Series(texts), pd.Series(labels)),
    }[kind]
    job = Classifier(**{**TINY, "epochs": 15}).fit(inputs, targets)
    assert job.score(inputs, targets) > 0.9
    probabilities = job.predict_proba(inputs)
    assert probabilities.shape == (40, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    predicted = job.predict(inputs)
    if isinstance(inputs, list):
        assert predicted["label"].tolist() == [str(job.classes_[i]) for i in probabilities.argmax(axis=1)]
    else:
        assert predicted.tolist() == job.classes_[probabilities.argmax(axis=1)].tolist()
        assert job.score(inputs, targets) == np.mean(predicted == np.asarray(targets))


@pytest.mark.parametrize("values", [(0, 1), (-1, 5), (10, 9), (False, True), ("a", "b"), (1.0, 2.0)], ids=str)
def test_labels_keep_their_type(values: tuple[Any, Any], tmp_path: Path):
    """Labels keep their type, in a saved model too."""
    series, y = bumps(30, 0)
    labels = np.array(values)[y]
    job = Classifier(**TINY).fit(series, labels)
    for fitted in (job, load(job.save(tmp_path))):
        assert isinstance(fitted, Classifier)
        assert fitted.classes_.tolist() == sorted(values)
        assert fitted.classes_.dtype.kind == labels.dtype.kind
        assert fitted.predict(series).dtype.kind == labels.dtype.kind
        assert fitted.score(series, labels) == np.mean(fitted.predict(series) == labels)


def test_a_frame_with_separate_labels():
    texts, labels = sentences(40)
    frame = pd.DataFrame({"text": texts})
    job = Classifier(**{**TINY, "epochs": 15}).fit(frame, labels)
    assert frame.columns.tolist() == ["text"]
    assert job.score(frame, labels) == 1
    assert "p_+" in job.predict(frame)
    together = Classifier(**{**TINY, "epochs": 15}).fit(frame.assign(label=labels))
    pd.testing.assert_frame_equal(together.predict(frame), job.predict(frame))


def test_several_labels_are_an_indicator_matrix():
    texts = ["red big", "red", "big", "none"] * 12
    labels = [("R", "B"), ("R",), ("B",), ()] * 12
    job = Classifier(label_sep="|", **{**TINY, "epochs": 30}).fit(texts, labels)
    predicted = job.predict(np.array(texts[:4]))
    assert job.classes_.tolist() == ["B", "R"]
    assert predicted.tolist() == [[1, 1], [0, 1], [1, 0], [0, 0]]
    assert job.score(texts, labels) == 1
    assert job.score(texts[:2], [("R", "B"), ("B",)]) == 0.5


def test_predictions_of_an_array_have_text_records_and_a_figure():
    series, y = bumps(30, 0)
    job = Classifier(**TINY).fit(series, y)
    predicted = job.predict(series[:2])
    assert job.to_text(predicted).splitlines() == ["label", *map(str, predicted.tolist())]
    assert job.to_records(predicted) == [{"label": label} for label in predicted.tolist()]
    assert job.plot(series[:2], predicted).axes


def test_a_label_unknown_to_the_model_counts_as_wrong():
    series, y = bumps(30, 0)
    job = Classifier(**TINY).fit(series, y)
    assert job.score(series[:4], [7] * 4) == 0


@pytest.mark.parametrize(
    ("data", "y", "message"),
    [
        (bumps(20, 0)[0], np.linspace(0, 1, 20), "y cannot be used as labels: Unknown label type: continuous"),
        (bumps(20, 0)[0], [0.0, np.nan] * 10, "label 2 of y is NaN"),
        (bumps(20, 0)[0], np.zeros((20, 3)), "y cannot be used as labels: y should be a 1d array"),
        (bumps(20, 0)[0], [0, 1], "20 inputs and 2 labels"),
        (np.zeros(20), np.arange(20) % 2, r"X has the shape \(20,\), but one row per example is needed"),
        (np.zeros((20, 3), dtype=complex), np.arange(20) % 2, "Complex data not supported"),
        (np.zeros((0, 3)), [], r"X has 0 sample\(s\)"),
        (pd.DataFrame({"text": ["a"] * 3}), [0, 1], "the frame has 3 rows and y 2 labels"),
        ("file.csv", [0, 1], "X must be an array, a list or a frame if labels are apart, not str"),
    ],
)
def test_inputs_and_labels_that_are_refused(data: Any, y: Any, message: str):
    with pytest.raises(DataError, match=message) as caught:
        Classifier(**TINY).fit(data, y)
    assert "\n" not in str(caught.value)


# ---- scikit-learn's tools --------------------------------------------------------------------------------------------


def test_a_clone_has_the_settings_and_nothing_else():
    series, y = bumps(30, 0)
    job = Classifier(value_cols=("a", "b"), **TINY).fit(series, y)
    cloned = clone(job)
    assert cloned.get_params() == job.get_params()
    assert not cloned.is_fitted
    with pytest.raises(UserError, match="is not fitted"):
        cloned.predict(series)
    assert is_classifier(job)


def test_cross_validation():
    series, y = bumps(45, 0)
    job = Classifier(**{**TINY, "epochs": 15}, test_fraction=0)
    assert cross_val_score(job, series, y, cv=3).min() > 0.9
    assert cross_val_score(job, series, y, cv=3, scoring="roc_auc").min() > 0.9
    assert np.mean(cross_val_predict(job, series, y, cv=3) == y) > 0.9
    probabilities = cross_val_predict(job, series, y, cv=3, method="predict_proba")
    assert np.mean(probabilities.argmax(axis=1) == y) > 0.9
    texts, labels = sentences(45)
    assert cross_val_score(job, texts, labels, cv=3).min() > 0.9
    assert not job.is_fitted


def test_a_grid_search_finds_the_better_setting():
    """With too few steps nothing is learned."""
    series, y = bumps(45, 0)
    job = Classifier(**TINY, test_fraction=0, seed=1)
    search = GridSearchCV(job, {"epochs": [15, 1], "lr": [0.02, 1e-9]}, cv=3).fit(series, y)
    assert search.best_params_ == {"epochs": 15, "lr": 0.02}
    assert search.score(series, y) > 0.9
    assert search.classes_.tolist() == [0, 1]
    assert search.best_estimator_.epochs == 15


def test_a_pipeline():
    """A classifier as the last step of a pipeline is cross-validated and predicts."""
    series, y = bumps(45, 0)
    scale = FunctionTransformer(lambda x: x / 100)
    pipeline = Pipeline([("scale", scale), ("classifier", Classifier(**TINY, test_fraction=0))])
    assert cross_val_score(pipeline.set_params(classifier__epochs=15), series, y, cv=3).min() > 0.9
    fitted = pipeline.fit(series, y)
    assert fitted.predict(series).tolist() == fitted.classes_[fitted.predict_proba(series).argmax(axis=1)].tolist()
    assert is_classifier(fitted)


# ---- scikit-learn's checks -------------------------------------------------------------------------------------------

_NUM_FEATURES = "a row is a time series of any length, so the number of columns is not fixed by fit"

#: Checks that do not apply, and why.
NOT_APPLICABLE = {
    "check_dont_overwrite_parameters": "every job reports its training through the public attribute progress",
    "check_estimators_unfitted": "every job raises UserError, a ValueError, which needs no scikit-learn",
    "check_do_not_raise_errors_in_init_or_set_params": "settings are checked where they are set, not in fit",
    "check_n_features_in": _NUM_FEATURES,
    "check_n_features_in_after_fitting": _NUM_FEATURES,
    "check_classifiers_train": _NUM_FEATURES,
    "check_classifier_data_not_an_array": "a data frame is a table with named columns, not an array",
    "check_class_weight_classifiers": "class_weight is none or balanced; weights by class cannot be given as options",
    "check_requires_y_none": "labels may be inside the data, so a missing y is found when the data are read",
}
SMALL: dict[str, Any] = {"hidden_size": 8, "epochs": 20, "batch_size": 16, "lr": 0.02, "bidirectional": False}


def _checks() -> list[Any]:
    """Every check with a name that says which of several it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not inherit from BaseEstimator
        pairs = list(estimator_checks_generator(Classifier(**SMALL, dropout=0, test_fraction=0)))
    return [
        pytest.param(estimator, check, id=f"{i}-{check.func.__name__}") for i, (estimator, check) in enumerate(pairs)
    ]


@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings of scikit-learn
@pytest.mark.parametrize(("estimator", "check"), _checks())
def test_scikit_learns_checks(estimator: Any, check: Any):
    """All applicable checks pass; a check that does not apply must fail, else it is removed from the list."""
    if check.func.__name__ not in NOT_APPLICABLE:
        check(estimator)
        return
    with pytest.raises((AssertionError, UserError)):
        check(estimator)


def test_every_check_that_does_not_apply_is_one_of_scikit_learns():
    assert NOT_APPLICABLE.keys() <= {param.values[1].func.__name__ for param in _checks()}


# ---- other jobs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", job_names())
def test_clone_and_parameters_of_every_job(name: str):
    """``clone`` gives an unfitted job with the same settings; ``set_params`` changes them and refuses the unknown."""
    job = job_class(name)(epochs=3) if name != "forecaster" else job_class(name)(epochs=3, horizon=2)
    copy = clone(job)
    assert type(copy) is type(job)
    assert copy is not job
    assert copy.get_params() == job.get_params()
    assert copy.set_params(epochs=5).epochs == 5
    assert job.epochs == 3
    with pytest.raises(UserError, match="unknown setting 'epoch': did you mean 'epochs'"):
        copy.set_params(epoch=1)


def test_a_search_over_the_settings_of_an_anomaly_detector():
    """Labels reach only ``score``; the detector is the last step of a pipeline."""
    rng = np.random.default_rng(0)
    values = np.sin(np.arange(400) / 4)[:, None] + 0.05 * rng.standard_normal((400, 1))
    labels = np.zeros(400, dtype=int)
    for start in (60, 160, 260, 360):
        values[start : start + 3] += 2
        labels[start : start + 3] = 1
    detector = AnomalyDetector(window=20, burn_in=5, epochs=2, hidden_size=4, steps_per_epoch=5)
    pipeline = Pipeline([("scale", FunctionTransformer()), ("detector", detector)])
    search = GridSearchCV(pipeline, {"detector__hidden_size": [2, 6]}, cv=2).fit(values, labels)
    assert search.best_params_["detector__hidden_size"] in (2, 6)
    assert 0 < search.best_score_ <= 1
    assert not detector.is_fitted


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    import_module = importlib.import_module

    def without_mido(module: str) -> Any:
        if module.endswith(".job"):
            raise ModuleNotFoundError("No module named 'mido'", name="mido")
        return import_module(module)

    monkeypatch.setattr("lstmkit.libraries.importlib.import_module", without_mido)
    with pytest.raises(ImportError, match=r"MusicComposer needs mido: pip install 'lstmkit\[music\]'"):
        job_class("music_composer")
