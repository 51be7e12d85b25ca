"""Logistic regression on tokens and token pairs, mixed with the network of a text classifier.

Few texts teach a recurrent network less than they teach a linear model of words and word pairs (Wang and Manning 2012),
and the two err on different texts. The mixture is chosen on the validation split.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from typing_extensions import Self

from lstmkit.evaluation import calibration
from lstmkit.jobs.common.classifier_baselines import REGULARIZATION, logistic_regression
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.sequence import SequenceClassifier
from lstmkit.modules.ngram_regression import NgramRegression, ngram_matrix
from lstmkit.progress import Progress

_MAX_TEXTS = 50_000
_MAX_BUCKETS = 1 << 16
_MAX_SHARE = 0.95  # so that the network has a part in every answer, and gradients reach its input


class NgramMixture:
    """The part of a text classifier that looks at n-grams. The networks have it only if its weight is not 0.

    Attributes:
        tokens: Size of the vocabulary, ``V``.
        buckets: Number of features for token pairs, ``K``.
        share: Weight in the probabilities.
    """

    def __init__(self, tokens: int, buckets: int, share: float = 0.0) -> None:
        self.tokens, self.buckets, self.share = tokens, buckets, share
        self._candidates: list[NgramRegression] = []
        self._chosen = len(REGULARIZATION) // 2

    @classmethod
    def fitted(
        cls,
        encoded: Sequence[np.ndarray],
        targets: np.ndarray,
        *,
        tokens: int,
        classes: int,
        balanced: bool,
        progress: Progress,
    ) -> Self:
        """Regressions with several strengths of regularization, of which :meth:`choose` takes one.

        Of more than 50,000 texts, so many at equal distances are taken, and the first of each class.

        Args:
            encoded: Token ids ``(T,)`` of each training text.
            targets: ``(N,)`` class indices.
            tokens: Size of the vocabulary.
            classes: Number of classes.
            balanced: Whether classes are weighted inversely to their frequency.
            progress: Where to report progress.
        """
        first_of_class = np.unique(targets, return_index=True)[1]
        rows = np.union1d(first_of_class, np.arange(0, len(targets), -(-len(targets) // _MAX_TEXTS)))
        encoded, targets = [encoded[row] for row in rows], targets[rows]
        pairs = sum(max(len(ids) - 1, 0) for ids in encoded)
        mixture = cls(tokens, min(_MAX_BUCKETS, 1 << max(pairs, 1).bit_length()))
        features, idf = ngram_matrix(encoded, tokens, mixture.buckets)
        with progress.task("logistic regression on n-grams", len(REGULARIZATION)) as task:
            for done, c in enumerate(REGULARIZATION, 1):
                module = NgramRegression(tokens, mixture.buckets, classes)
                module.load_regression(*_weights(logistic_regression(features, targets, c, balanced)), idf)
                mixture._candidates.append(module)
                task.update(done)
        return mixture

    def build(self, classes: int) -> NgramRegression | None:
        """A module of this size and weight whose parameters are to be loaded; ``None`` if its weight is 0."""
        return NgramRegression(self.tokens, self.buckets, classes, self.share) if self.share else None

    def choose(self, network: np.ndarray, encoded: Sequence[np.ndarray], targets: np.ndarray) -> float:
        """Choose the regularization by the log loss of validation texts; returns the best weight.

        Args:
            network: Probabilities ``(N, C)`` of the network alone.
            encoded: Token ids of the validation texts.
            targets: Their classes ``(N,)``.
        """
        rows = np.arange(len(targets))
        found = [
            np.concatenate([module(torch.from_numpy(ids)[None]).exp().double().numpy() for ids in encoded])
            for module in self._candidates
        ]
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
            network.ngrams = module.to(next(network.parameters()).device)

    def detach(self, model: Model) -> None:
        """Take the regression out of all networks of a model."""
        self.share = 0.0
        for network in _networks(model):
            network.ngrams = None

    def state(self) -> dict[str, Any]:
        """Sizes and weight as JSON values; the regression is among the weights of the networks."""
        return {"tokens": self.tokens, "buckets": self.buckets, "share": self.share}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Restore it from :meth:`state`.

        Raises:
            ValueError: The weight is not between 0 and 1, or a size is not positive.
        """
        tokens, buckets, share = int(state["tokens"]), int(state["buckets"]), float(state["share"])
        if not (0 < share < 1 and tokens > 0 and buckets > 0):
            raise ValueError("its n-grams have an impossible size or weight")
        return cls(tokens, buckets, share)


def _networks(model: Model) -> list[SequenceClassifier]:
    members = model.members if isinstance(model, Ensemble) else [model]
    return [member for member in members if isinstance(member, SequenceClassifier)]


def _weights(regression: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``(V + K, C)`` and bias ``(C,)`` of scikit-learn's logistic regression."""
    coefficients, intercept = np.asarray(regression.coef_), np.asarray(regression.intercept_)
    if len(coefficients) == 1:  # two classes: one row for the second
        coefficients, intercept = np.concatenate([0 * coefficients, coefficients]), np.append(0.0, intercept)
    return coefficients.T.astype(np.float32), intercept.astype(np.float32)
