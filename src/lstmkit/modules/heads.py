"""Heads: the trunk's features ``(B, S, P)`` to outputs, and the loss against a batch's targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import NegativeBinomial, Normal, StudentT

from lstmkit.data.batch import Batch
from lstmkit.modules.crf import CRF
from lstmkit.modules.cross_entropy import linear_cross_entropy
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.renamed_weights import RenamedWeights
from lstmkit.ops.cpu import linear_cross_entropy as cpu_kernel

_MAX_ROWS = 4096  # steps whose labels are evaluated together, to bound memory


class QuantileHead(nn.Module):
    """Quantile regression of the whole horizon at once.

    Args:
        input_size: Width of the trunk's features, ``P``.
        levels: Quantile levels in (0, 1), ascending, ``Q`` of them.
        horizon: Forecast steps.
        patch: Steps per feature vector; the last ``ceil(horizon / patch)`` vectors are read.
        dropout: Dropout probability on the features.

    >>> QuantileHead(4, levels=[0.1, 0.5, 0.9], horizon=24)(torch.zeros(2, 30, 4)).shape
    torch.Size([2, 24, 3])
    """

    levels: Tensor

    def __init__(
        self, input_size: int, levels: Sequence[float], horizon: int, patch: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.horizon, self.output_size = horizon, len(levels)
        self.patch, self.steps = patch, math.ceil(horizon / patch)
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(input_size, patch * len(levels))

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to quantiles ``(B, horizon, Q)``."""
        steps = self.linear(self.dropout(features[:, -self.steps :]))
        return steps.unflatten(2, (self.patch, self.output_size)).flatten(1, 2)[:, : self.horizon]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Twice the mean pinball loss over the known targets ``(B, horizon)``, which approximates the CRPS."""
        assert batch.targets is not None
        known = ~torch.isnan(batch.targets)
        error = torch.where(known, batch.targets, 0.0).unsqueeze(-1) - outputs
        pinball = torch.maximum(self.levels * error, (self.levels - 1) * error).mean(-1)
        return 2 * (pinball * known).sum() / known.sum().clamp(min=1)


class DistributionHead(nn.Module):
    """A probability distribution of the next value at every step.

    Args:
        input_size: Width of the trunk's features, ``P``.
        family: ``"normal"``, ``"student_t"``, or ``"negative_binomial"`` for counts. Counts are not scaled, so the mean
            of the last is in units of the window's scale, ``batch.extras["scale"] (B, 1)``.

    >>> DistributionHead(4, "student_t")(torch.zeros(2, 30, 4)).shape
    torch.Size([2, 30, 3])
    """

    def __init__(self, input_size: int, family: str) -> None:
        super().__init__()
        self.family = family
        self.output_size = {"normal": 2, "student_t": 3, "negative_binomial": 2}[family]
        self.linear = nn.Linear(input_size, self.output_size)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to unconstrained parameters ``(B, S, output_size)``."""
        return self.linear(features)

    def parameters_of(self, outputs: Tensor) -> Tensor:
        """Parameters ``(..., output_size)`` of the distribution from unconstrained ``outputs (..., output_size)``.

        They are location and standard deviation (normal); location, scale and degrees of freedom (Student's t); or
        mean, in units of the window's scale, and total count (negative binomial).
        """
        first, second = outputs[..., 0], F.softplus(outputs[..., 1]) + 1e-4
        if self.family == "normal":
            return torch.stack([first, second], dim=-1)
        if self.family == "student_t":
            return torch.stack([first, second, 2 + F.softplus(outputs[..., 2])], dim=-1)
        # Salinas et al. 2020 (DeepAR), eq. 6: mean m and variance m + a m², here as total count 1/a and odds a m.
        return torch.stack([F.softplus(first) + 1e-6, 1 / second], dim=-1)

    def distribution(self, outputs: Tensor, scale: Tensor) -> Normal | StudentT | NegativeBinomial:
        """The distribution with parameters ``outputs (..., output_size)``; ``scale`` broadcasts to ``(...)``."""
        first, second, *rest = self.parameters_of(outputs).unbind(-1)
        if self.family == "normal":
            return Normal(first, second, validate_args=False)
        if self.family == "student_t":
            return StudentT(rest[0], first, second, validate_args=False)
        mean, count = first * scale, second
        return NegativeBinomial(count, logits=torch.log(mean / count), validate_args=False)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean negative log-likelihood of the known ``batch.targets (B, S)``: scaled values, or counts."""
        assert batch.targets is not None
        known = ~torch.isnan(batch.targets)
        dist = self.distribution(outputs.float(), batch.extras["scale"])
        log_prob = dist.log_prob(torch.where(known, batch.targets, 0.0))
        return -(log_prob * known).sum() / known.sum().clamp(min=1)


class LastStepRegressionHead(nn.Module):
    """Regression of one value per sequence, at its last step.

    Args:
        input_size: Width of the trunk's features, ``P``.
    """

    output_size = 1

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to values ``(B, S, 1)``."""
        return self.linear(features)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean squared error of the last steps against ``batch.targets (B,)``."""
        assert batch.targets is not None
        return F.mse_loss(last_step(outputs, batch.lengths)[:, 0], batch.targets)


class StepRegressionHead(nn.Module):
    """Regression of several values at every step.

    Args:
        input_size: Width of the trunk's features, ``P``.
        count: Number of values, ``K``.
    """

    def __init__(self, input_size: int, count: int) -> None:
        super().__init__()
        self.output_size = count
        self.linear = nn.Linear(input_size, count)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to values ``(B, S, K)``."""
        return self.linear(features)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean squared error over the known values of ``batch.targets (B, S, K)``."""
        assert batch.targets is not None
        known = ~torch.isnan(batch.targets)
        errors = torch.where(known, outputs - torch.nan_to_num(batch.targets), 0.0)
        return errors.square().sum() / known.sum().clamp(min=1)


class StepClassificationHead(nn.Module):
    """Classification at each sequence's last step or at every step.

    Args:
        input_size: Width of the trunk's features, ``P``.
        classes: Number of classes.
    """

    def __init__(self, input_size: int, classes: int) -> None:
        super().__init__()
        self.output_size = classes
        self.linear = nn.Linear(input_size, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to logits ``(B, S, classes)``."""
        return self.linear(features)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy against ``batch.targets``, ``(B,)`` for the last steps or ``(B, S)`` with -1 to ignore."""
        assert batch.targets is not None
        if batch.targets.dim() == 1:
            return F.cross_entropy(last_step(outputs, batch.lengths), batch.targets)
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), ignore_index=-1)


class MultilabelHead(nn.Module):
    """Independent binary labels at every step, for example the notes of a chord.

    Args:
        input_size: Width of the trunk's features, ``P``.
        labels: Number of labels, ``K``.
        dropout: Dropout probability on the features, with one mask for all steps.
    """

    def __init__(self, input_size: int, labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.output_size, self.dropout = labels, dropout
        self.linear = nn.Linear(input_size, labels)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to logits ``(B, S, K)``."""
        return self.linear(variational_dropout(features, self.dropout, self.training))

    def logits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Logits ``(..., K)`` of each label; ``labels (..., K)`` are ignored."""
        return outputs

    def below(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The same as :meth:`logits`."""
        return outputs

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean negative log-likelihood of the labels ``batch.targets (B, S, K)``, in nats per step."""
        return _multilabel_loss(self, outputs, batch)


class NADEHead(RenamedWeights):
    """Dependent binary labels at every step: a neural autoregressive distribution estimator (NADE).

    NADE (Larochelle and Murray 2011, eqs. 6 and 7) with biases from the trunk at each step, as in RNN-NADE
    (Boulanger-Lewandowski, Bengio and Vincent 2012, section 5). Each label depends on the higher-numbered ones, as the
    notes of a chord from the top down::

        p(v_k = 1 | v_above) = σ(b_k + V_k h_k)        h_k = σ(a + Σ_{j above k} W_j v_j)

    ``h_k`` changes only below an active label. With ``n`` active labels, ``n + 1`` hidden states give the exact
    likelihood of all ``K`` labels in one pass.

    Args:
        input_size: Width of the trunk's features, ``P``.
        labels: Number of labels, ``K``.
        hidden_size: Width of ``h``, ``H``.
        dropout: Dropout probability on the features, with one mask for all steps.
    """

    old_names: ClassVar = {"given": "label_embedding", "told": "output_layer"}  # in version 0.1

    def __init__(self, input_size: int, labels: int, hidden_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.labels, self.dropout = labels, dropout
        self.output_size = labels + hidden_size
        self.linear = nn.Linear(input_size, self.output_size)
        self.label_embedding = nn.Embedding(labels + 1, hidden_size, padding_idx=0)  # W; index 0 is padding
        self.output_layer = nn.Linear(hidden_size, labels, bias=False)  # V
        nn.init.normal_(self.label_embedding.weight, std=0.1)
        nn.init.zeros_(self.label_embedding.weight[0])

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to the biases ``b`` and ``a`` of each step, ``(B, S, K + H)``."""
        return self.linear(variational_dropout(features, self.dropout, self.training))

    def logits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Logits ``(..., K)`` of each label given the higher-numbered ones of ``labels (..., K)``, 0 or 1."""
        if torch.compiler.is_exporting():
            return self._logits_of_all_keys(outputs, labels)
        chunks = zip(outputs.flatten(0, -2).split(_MAX_ROWS), labels.flatten(0, -2).split(_MAX_ROWS), strict=True)
        return torch.cat([self._logits(*chunk) for chunk in chunks]).unflatten(0, labels.shape[:-1])

    def below(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """:meth:`logits` of the labels below all active ones, ``(..., K)``; cheaper, for sampling label by label."""
        bias, first = outputs.split([self.labels, self.output_size - self.labels], dim=-1)
        return bias + self.output_layer((first + labels @ self.label_embedding.weight[1:]).sigmoid())

    def _logits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``(N, K + H)`` and ``(N, K)`` to ``(N, K)``."""
        bias, first = outputs.split([self.labels, self.output_size - self.labels], dim=-1)
        max_active = int(labels.sum(-1).max())
        numbers = torch.arange(1, self.labels + 1, device=labels.device)
        active = (labels.long() * numbers).topk(max_active).values  # (N, max_active), highest first, 0 for none
        states = torch.cat([first.unsqueeze(1), self.label_embedding(active)], 1).cumsum(1).sigmoid()
        logits = self.output_layer(states)  # (N, max_active + 1, K)
        n_above = labels.flip(-1).cumsum(-1).flip(-1) - labels
        return bias + logits.gather(1, n_above.long().unsqueeze(1))[:, 0]

    def _logits_of_all_keys(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The same with a hidden state ``(..., K, H)`` for each label: more memory, but no shape depends on values."""
        bias, first = outputs.split([self.labels, self.output_size - self.labels], dim=-1)
        active = labels.unsqueeze(-1) * self.label_embedding.weight[1:]
        above = active.flip(-2).cumsum(-2).flip(-2) - active
        return bias + ((first.unsqueeze(-2) + above).sigmoid() * self.output_layer.weight).sum(-1)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """See :meth:`MultilabelHead.loss`."""
        return _multilabel_loss(self, outputs, batch)


def _multilabel_loss(head: MultilabelHead | NADEHead, outputs: Tensor, batch: Batch) -> Tensor:
    assert batch.targets is not None
    logits = head.logits(outputs, batch.targets)
    losses = F.binary_cross_entropy_with_logits(logits, batch.targets, reduction="none").sum(-1)
    if batch.lengths is None:
        return losses.mean()
    mask = torch.arange(losses.shape[1], device=losses.device) < batch.lengths.to(losses.device)[:, None]
    return (losses * mask).sum() / mask.sum().clamp(min=1)


class TagHead(nn.Module):
    """Sequence tagging: a tag at every step, independent or with a CRF.

    Args:
        input_size: Width of the trunk's features, ``P``.
        tags: Number of tags, ``K``.
        crf: Whether to model the dependence of neighboring tags with a CRF.
        dropout: Dropout probability on the features, with one mask for all steps.

    >>> TagHead(4, tags=3, crf=True)(torch.zeros(2, 7, 4)).shape
    torch.Size([2, 7, 3])
    """

    def __init__(self, input_size: int, tags: int, crf: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.output_size, self.dropout = tags, dropout
        self.linear = nn.Linear(input_size, tags)
        self.crf = CRF(tags) if crf else None

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to logits ``(B, S, K)``, or the emissions of the CRF."""
        return self.linear(variational_dropout(features, self.dropout, self.training))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean loss per step against ``batch.targets (B, S)``; -1 is ignored, except by a CRF, which uses lengths."""
        assert batch.targets is not None
        if self.crf is None:
            return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), ignore_index=-1)
        assert batch.lengths is not None
        return self.crf.loss(outputs, batch.targets, batch.lengths)

    def decode(self, outputs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """The best tags of each sequence, ``(T_b,)``, and the probability of every tag at every step, ``(B, S, K)``."""
        if self.crf is not None:
            return self.crf.decode(outputs, lengths), self.crf.marginals(outputs, lengths)
        best = outputs.argmax(-1)
        return [row[:n] for row, n in zip(best, lengths.tolist(), strict=True)], outputs.softmax(-1)


class MultiTaskTagHead(RenamedWeights):
    """Multi-task tagging: several tag sets at every step, for example coarse and fine. The losses are added.

    Args:
        input_size: Width of the trunk's features, ``P``.
        tags: Number of tags of each tag set.
        dropout: Dropout probability on the features, with a separate mask for each tag set.
    """

    old_names: ClassVar = {"kinds": "heads"}  # in version 0.1

    def __init__(self, input_size: int, tags: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.tags, self.output_size = tuple(tags), sum(tags)
        self.heads = nn.ModuleList(TagHead(input_size, count, dropout=dropout) for count in tags)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to the concatenated logits of all tag sets ``(B, S, sum(tags))``."""
        return torch.cat([head(features) for head in self.heads], -1)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The sum of the losses against ``batch.targets (B, S, tag sets)``; -1 is ignored."""
        assert batch.targets is not None
        tasks = zip(self.heads, outputs.split(self.tags, -1), batch.targets.unbind(-1), strict=True)
        losses = [head.loss(logits, replace(batch, targets=targets)) for head, logits, targets in tasks]  # type: ignore[operator]
        return torch.stack(losses).sum()


class TokenHead(nn.Module):
    """Next-token prediction at every step.

    Args:
        input_size: Width of the features, ``P``.
        vocab_size: Number of tokens, ``V``.
        tied_embedding: Embedding that shares its weights with the output layer (Press and Wolf 2017, Inan et al. 2017).
            A linear layer adapts features of another width.
        cutoffs: For a large vocabulary in order of frequency: first ids of the rarer clusters, which get narrower
            weights (adaptive softmax, Grave et al. 2017); not together with ``tied_embedding``.
        smoothing: Label smoothing.

    >>> TokenHead(4, vocab_size=100)(torch.zeros(2, 7, 4)).shape
    torch.Size([2, 7, 100])
    """

    def __init__(
        self,
        input_size: int,
        vocab_size: int,
        tied_embedding: nn.Embedding | None = None,
        cutoffs: Sequence[int] = (),
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.output_size, self.smoothing = vocab_size, smoothing
        width = input_size if tied_embedding is None else tied_embedding.embedding_dim
        self.narrow = nn.Identity() if width == input_size else nn.Linear(input_size, width)
        self.adaptive = nn.AdaptiveLogSoftmaxWithLoss(width, vocab_size, list(cutoffs)) if cutoffs else None
        if self.adaptive is None:
            self.weight = (
                nn.Parameter(torch.empty(vocab_size, width)) if tied_embedding is None else tied_embedding.weight
            )
            self.bias = nn.Parameter(torch.zeros(vocab_size))
            if tied_embedding is None:
                nn.init.uniform_(self.weight, -0.1, 0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to logits ``(B, S, V)``."""
        features = self.narrow(features)
        if self.adaptive is not None:
            return self.adaptive.log_prob(features.flatten(0, -2)).unflatten(0, features.shape[:-1])
        rows = cpu_kernel.logits(features.flatten(0, -2), self.weight, self.bias)
        if rows is None:
            return F.linear(features, self.weight, self.bias)
        return rows.unflatten(0, features.shape[:-1])

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of the features ``outputs (B, S, P)`` against ``batch.targets (B, S)``; -1 is ignored.

        It takes features in place of logits, which are never in memory for all steps.
        """
        assert batch.targets is not None
        features, targets = self.narrow(outputs).flatten(0, -2), batch.targets.flatten()
        if self.adaptive is None:
            return linear_cross_entropy(features, self.weight, self.bias, targets, self.smoothing)
        scored = targets >= 0
        return self.adaptive(features[scored], targets[scored]).loss


def last_step(outputs: Tensor, lengths: Tensor | None) -> Tensor:
    """The outputs at each sequence's last step: ``(B, S, O) -> (B, O)``."""
    if lengths is None:
        return outputs[:, -1]
    return outputs[torch.arange(outputs.shape[0], device=outputs.device), lengths.to(outputs.device) - 1]
