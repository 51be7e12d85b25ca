"""Logistic regression on random convolutions, and its mixture with the network of a classifier of time series."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.utils.rnn import pad_sequence

from lstmkit import Classifier, load
from lstmkit.jobs.classifier.regression_mixture import RegressionMixture, convolution_regression
from lstmkit.modules.convolution_regression import ConvolutionRegression, dilations_for, minirocket_kernels

TINY = {"hidden_size": 4, "epochs": 1, "steps_per_epoch": 2}


def bumps(n: int, seed: int = 0, channels: int = 1) -> tuple[list[np.ndarray], list[str]]:
    """Noise of 30 to 60 steps with a smooth or a jagged bump anywhere."""
    rng = np.random.default_rng(seed)
    shapes = {"smooth": np.hanning(15), "jagged": np.hanning(15) * np.where(np.arange(15) % 2, 1, -1)}
    series, labels = [], [str(rng.choice(list(shapes))) for _ in range(n)]
    for label in labels:
        values = 0.1 * rng.standard_normal((int(rng.integers(30, 60)), channels))
        start = int(rng.integers(len(values) - 15))
        values[start : start + 15, -1] += 2 * shapes[label]
        series.append(values.astype(np.float32))
    return series, labels


def fitted(series: list[np.ndarray], thresholds: int = 2) -> tuple[ConvolutionRegression, np.ndarray]:
    module = ConvolutionRegression(series[0].shape[1], [1, 3], thresholds, classes=2)
    return module, module.fit_features(series)


def naive_fractions(module: ConvolutionRegression, series: np.ndarray) -> np.ndarray:
    """The features of one series, each kernel by its definition."""
    kernels = [np.where(np.isin(np.arange(9), places), 2.0, -1.0) for places in combinations(range(9), 3)]
    found = []
    for d, dilation in enumerate(module.dilations):
        masks, by_kernel = module.channel_masks[d].numpy(), []
        padded = np.pad(series.astype(float), ((4 * dilation, 4 * dilation), (0, 0)))
        for kernel, mask in zip(kernels, masks, strict=True):
            taps = [padded[k * dilation : k * dilation + len(series)] @ mask * kernel[k] for k in range(9)]
            by_kernel.append(np.sum(taps, axis=0))
        for levels in module.levels[d].numpy():
            found += [(values > level).mean() for values, level in zip(by_kernel, levels, strict=True)]
    return np.array(found)


# ---- the features ----------------------------------------------------------------------------------------------------


def test_kernels_are_those_of_minirocket():
    kernels = minirocket_kernels()
    assert kernels.shape == (84, 9)
    assert len(np.unique(kernels, axis=0)) == 84
    assert set(np.unique(kernels)) == {-1.0, 2.0}
    assert (kernels.sum(axis=1) == 0).all()


@pytest.mark.parametrize("steps", [1, 9, 17, 150, 5000])
def test_the_longest_kernel_is_as_long_as_the_series(steps: int):
    dilations = dilations_for(steps)
    assert dilations[0] == 1
    assert len(dilations) <= 8
    assert 8 * dilations[-1] < max(steps, 9)
    assert steps < 17 or 8 * (dilations[-1] + 1) >= steps - 8


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_fractions_of_steps_above_thresholds(channels: int):
    series, _ = bumps(8, channels=channels)
    module, features = fitted(series)
    lengths = torch.tensor([len(one) for one in series])
    padded = pad_sequence([torch.from_numpy(one) for one in series], batch_first=True, padding_value=7.0)
    actual = module.fractions(padded, lengths).numpy()
    expected = np.stack([naive_fractions(module, one) for one in series])
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert 0.3 < actual.mean() < 0.7
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1).mean(), 1, atol=0.1)
    assert module.channel_masks.sum(-1).min() == 1


def test_probabilities_are_those_of_scikit_learn():
    series, labels = bumps(60)
    module, features = fitted(series)
    model = LogisticRegression(C=100.0, max_iter=1000).fit(features, labels)
    weight = np.concatenate([0 * model.coef_, model.coef_]).T.astype(np.float32)
    module.load_regression(weight, np.append(0, model.intercept_).astype(np.float32))
    alone = torch.cat([module(torch.from_numpy(one)[None]) for one in series]).exp()
    np.testing.assert_allclose(alone.numpy(), model.predict_proba(features), atol=1e-5)


def test_constant_and_short_series_have_finite_probabilities():
    constant = [np.ones((20, 2), dtype=np.float32)] * 4
    module, features = fitted(constant)
    assert np.isfinite(features).all()
    assert torch.isfinite(module(torch.zeros(2, 3, 2), torch.tensor([1, 3]))).all()


# ---- in the classifier -----------------------------------------------------------------------------------------------


def test_an_untrained_network_leaves_the_answer_to_the_regression(tmp_path: Path):
    job = Classifier(**TINY, lr=0.0).fit(bumps(120))
    mixture = job.predictor.regression
    assert mixture is not None
    assert mixture.share > 0.5
    assert job.score(*bumps(60, seed=1)) > 0.9
    evaluation = job.evaluate(bumps(60, seed=1))
    assert "random convolutions" in evaluation.notes[1]
    table = evaluation.table.set_index("model")["accuracy"]
    assert table["MiniRocket, logistic regression"] == table["LSTM"] > 0.9
    assert table["LSTM, network alone"] < 0.75
    assert list(load(job.save(tmp_path / "model")).evaluate(bumps(60, seed=1)).table["accuracy"][:3]) == list(table[:3])
    series, _ = bumps(10, seed=3)
    loaded = load(job.save(tmp_path / "model"))
    assert loaded.predict_proba(series).tolist() == job.predict_proba(series).tolist()
    np.testing.assert_allclose(job.predict_proba(series[:1])[0], job.predict_proba(series)[0], atol=1e-5)


def test_a_given_weight_and_no_weight():
    half = Classifier(**TINY, convolution_weight=0.5, valid_fraction=0.0, ensemble_size=2).fit(bumps(40, channels=3))
    assert [network.regression.share for network in half.model.members] == [0.5, 0.5]
    without = [
        Classifier(**TINY, convolution_weight=0.0).fit(bumps(40)),
        Classifier(**TINY, valid_fraction=0.0).fit(bumps(40)),  # nothing to choose the weight on
    ]
    for job in without:
        assert not [name for name in job.model.state_dict() if "regression" in name]
    short = Classifier(**TINY).fit(([one[:8] for one in bumps(40)[0]], bumps(40)[1]))
    assert short.predictor.regression is None
    several = Classifier(**TINY, label_sep="|").fit((bumps(40)[0], ["a", "a|b"] * 20))
    assert several.predictor.regression is None


def test_long_files_have_fewer_features():
    few, many = [np.zeros((100, 1), dtype=np.float32)] * 10, [np.zeros((100, 1), dtype=np.float32)] * 20_000
    sizes = [convolution_regression(encoded, classes=2) for encoded in (few, many)]
    assert [len(module.weight) for module in sizes if module is not None] == [9576, 504]


@pytest.mark.parametrize("change", [{"kind": "trees"}, {"share": 1.0}, {"share": 0.0}, {"sizes": {"channels": 0}}])
def test_a_damaged_file_is_refused(change: dict):
    state = RegressionMixture("convolutions", {"channels": 1, "dilations": [1], "thresholds": 2}, 0.5).state()
    assert RegressionMixture.from_state(state).state() == state
    with pytest.raises(ValueError, match="regression"):
        RegressionMixture.from_state({**state, **change})
