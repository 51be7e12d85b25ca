"""Logistic regression on fixed features, mixed with the network of a classifier.

Few examples teach a recurrent network less than they teach a linear model: of words and word pairs in texts (Wang and
Manning 2012), of random convolutions in time series (Dempster, Schmidt and Webb 2021). The two err on different
examples. The weight is chosen on the validation split.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import Self

from lstmkit.evaluation import calibration
from lstmkit.jobs.common.classifier_baselines import REGULARIZATION, logistic_regression
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.sequence import SequenceClassifier
from lstmkit.modules.convolution_regression import (
    MIN_STEPS,
    ConvolutionRegression,
    dilations_for,
    minirocket_kernels,
)
from lstmkit.modules.mixed_regression import MixedRegression
from lstmkit.modules.ngram_regression import NgramRegression
from lstmkit.progress import Progress

#: Kinds of regression by the name in a saved model.
REGRESSIONS: dict[str, type[MixedRegression]] = {
    regression.kind: regression for regression in (NgramRegression, ConvolutionRegression)
}

_SERIES_REGULARIZATION = (10.0, 100.0, 1000.0)  # C, as for texts: their features have about length 1, too
_MAX_TEXTS, _MAX_SERIES = 50_000, 5_000
_MAX_BUCKETS = 1 << 16
_MAX_FEATURES = 10_000  # of series, as in MiniRocket
_MAX_FEATURE_VALUES = 3_000_000  # of all training series together: few seconds for each regression
_MAX_SHARE = 0.95  # so that the network has a part in every answer, and gradients reach its input
_BATCH = 64


def ngram_regression(encoded: Sequence[np.ndarray], tokens: int, classes: int) -> NgramRegression:
    """A regression for texts of this size, not fitted.

    Args:
        encoded: Token ids ``(T,)`` of each training text.
        tokens: Size of the vocabulary.
        classes: Number of classes.
    """
    pairs = sum(max(len(ids) - 1, 0) for ids in encoded)
    return NgramRegression(tokens, min(_MAX_BUCKETS, 1 << max(pairs, 1).bit_length()), classes)


def convolution_regression(encoded: Sequence[np.ndarray], classes: int) -> ConvolutionRegression | None:
    """A regression for time series ``(T, F)`` of this size, not fitted; ``None`` if most have less than 9 steps."""
    steps = int(np.median([len(series) for series in encoded]))
    if steps < MIN_STEPS:
        return None
    dilations = dilations_for(steps)
    most = min(_MAX_FEATURES, _MAX_FEATURE_VALUES // min(len(encoded), _MAX_SERIES))
    thresholds = max(1, most // (len(minirocket_kernels()) * len(dilations)))
    return ConvolutionRegression(encoded[0].shape[1], dilations, thresholds, classes)


class RegressionMixture:
    """The part of a classifier that is a regression. The networks have it only if its weight is not 0.

    Attributes:
        kind: One of :data:`REGRESSIONS`.
        sizes: Arguments of its constructor.
        share: Weight in the probabilities.
    """

    def __init__(self, kind: str, sizes: Mapping[str, Any], share: float = 0.0) -> None:
        self.kind, self.sizes, self.share = kind, dict(sizes), share
        self._candidates: list[MixedRegression] = []
        self._chosen = 1  # the one in the middle

    @classmethod
    def fitted(
        cls,
        regression: MixedRegression,
        encoded: Sequence[np.ndarray],
        targets: np.ndarray,
        *,
        balanced: bool,
        progress: Progress,
    ) -> Self:
        """Regressions with several strengths of regularization, of which :meth:`choose` takes one.

        Of more than 50,000 texts or 5,000 series, so many at equal distances are taken, and the first of each class.

        Args:
            regression: Not fitted.
            encoded: Each training example ``(T, ...)``.
            targets: ``(N,)`` class indices.
            balanced: Whether classes are weighted inversely to their frequency.
            progress: Where to report progress.
        """
        is_text = isinstance(regression, NgramRegression)
        most, strengths = (_MAX_TEXTS, REGULARIZATION) if is_text else (_MAX_SERIES, _SERIES_REGULARIZATION)
        first_of_class = np.unique(targets, return_index=True)[1]
        rows = np.union1d(first_of_class, np.arange(0, len(targets), -(-len(targets) // most)))
        targets = targets[rows]
        features = regression.fit_features([encoded[row] for row in rows])
        mixture = cls(regression.kind, regression.sizes)
        with progress.task(f"logistic regression on {regression.kind}", len(strengths)) as task:
            for done, c in enumerate(strengths, 1):
                candidate = copy.deepcopy(regression)
                candidate.load_regression(*_weights(logistic_regression(features, targets, c, balanced)))
                mixture._candidates.append(candidate)
                task.update(done)
        return mixture

    def build(self, classes: int) -> MixedRegression | None:
        """A module of this size and weight whose parameters are to be loaded; ``None`` if its weight is 0."""
        if not self.share:
            return None
        return REGRESSIONS[self.kind](**self.sizes, classes=classes, share=self.share)

    def choose(self, network: np.ndarray, encoded: Sequence[np.ndarray], targets: np.ndarray) -> float:
        """Choose the regularization by the log loss of validation examples; returns the best weight.

        Args:
            network: Probabilities ``(N, C)`` of the network alone.
            encoded: The validation examples.
            targets: Their classes ``(N,)``.
        """
        rows = np.arange(len(targets))
        found = [regression_probabilities(candidate, encoded) for candidate in self._candidates]
        losses = [-np.log(np.maximum(p[rows, targets], 1e-12)).mean() for p in found]
        self._chosen = int(np.argmin(losses))
        return min(calibration.mixture_weight(targets, network, found[self._chosen]), _MAX_SHARE)

    def attach(self, model: Model, share: float) -> None:
        """Put the chosen regression into all networks of a model, with a weight; with 0 into none."""
        self.detach(model)
        self.share = share
        for network in _networks(model) if share else ():
            module = copy.deepcopy(self._candidates[self._chosen])
            module.share = share
            network.regression = module.to(next(network.parameters()).device)

    def detach(self, model: Model) -> None:
        """Take the regression out of all networks of a model."""
        self.share = 0.0
        for network in _networks(model):
            network.regression = None

    @contextmanager
    def left_out_of(self, model: Model) -> Iterator[MixedRegression]:
        """Within the block the networks of a model answer alone; yields the regression."""
        networks = _networks(model)
        regressions = [network.regression for network in networks]
        assert regressions[0] is not None
        for network in networks:
            network.regression = None
        try:
            yield regressions[0]
        finally:
            for network, regression in zip(networks, regressions, strict=True):
                network.regression = regression

    def state(self) -> dict[str, Any]:
        """Kind, sizes and weight as JSON values; the regression is among the weights of the networks."""
        return {"kind": self.kind, "sizes": self.sizes, "share": self.share}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Restore it from :meth:`state`.

        Raises:
            ValueError: There is no such kind, the weight is not between 0 and 1, or a size is not positive.
        """
        kind, sizes, share = str(state["kind"]), dict(state["sizes"]), float(state["share"])
        if kind not in REGRESSIONS:
            raise ValueError(f"its regression is of an unknown kind, {kind!r}")
        numbers = [n for size in sizes.values() for n in (size if isinstance(size, list) else [size])]
        if not 0 < share < 1 or not numbers or not all(isinstance(n, int) and 0 < n < 2**31 for n in numbers):
            raise ValueError("its regression has an impossible size or weight")
        return cls(kind, sizes, share)


def regression_probabilities(regression: MixedRegression, encoded: Sequence[np.ndarray]) -> np.ndarray:
    """Probabilities ``(N, C)`` of a regression for encoded examples ``(T, ...)``."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(encoded), _BATCH):
            batch = [torch.from_numpy(one) for one in encoded[start : start + _BATCH]]
            lengths = torch.tensor([len(one) for one in batch])
            padded = pad_sequence(batch, batch_first=True).to(regression.bias.device)
            found.append(regression(padded, lengths.to(padded.device)).exp().double().cpu().numpy())
    return np.concatenate(found)


def _networks(model: Model) -> list[SequenceClassifier]:
    members = model.members if isinstance(model, Ensemble) else [model]
    return [member for member in members if isinstance(member, SequenceClassifier)]


def _weights(regression: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``(D, C)`` and bias ``(C,)`` of scikit-learn's logistic regression."""
    coefficients, intercept = np.asarray(regression.coef_), np.asarray(regression.intercept_)
    if len(coefficients) == 1:  # two classes: one row for the second
        coefficients, intercept = np.concatenate([0 * coefficients, coefficients]), np.append(0.0, intercept)
    return coefficients.T.astype(np.float32), intercept.astype(np.float32)
