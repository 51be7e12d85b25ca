"""From the trunk's features ``(B, S, P)`` to outputs, and the loss of the outputs against a batch's targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import NegativeBinomial, Normal, StudentT

from lstmkit.data.batch import Batch
from lstmkit.modules.crf import CRF
from lstmkit.modules.cross_entropy import linear_cross_entropy
from lstmkit.modules.dropout import variational_dropout
from lstmkit.ops.cpu import linear_cross_entropy as vocabulary

_ROWS = 4096  # steps whose labels are told together: what they are makes no difference


class QuantileHead(nn.Module):
    """Quantiles of the last ``horizon`` steps, in one go.

    Args:
        input_size: Width of the trunk's features, ``P``.
        levels: Quantile levels in (0, 1), rising, ``Q`` of them.
        horizon: Steps answered.
        patch: Steps that one feature vector stands for; the last ``ceil(horizon / patch)`` vectors are read.
        dropout: In training, the share of the features dropped.
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
        """``(B, S, P) -> (B, horizon, Q)``."""
        steps = self.linear(self.dropout(features[:, -self.steps :]))
        return steps.unflatten(2, (self.patch, self.output_size)).flatten(1, 2)[:, : self.horizon]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean pinball loss over the known targets ``(B, horizon)``, times two: half of it is CRPS's share a level."""
        assert batch.targets is not None
        known = ~torch.isnan(batch.targets)
        error = torch.where(known, batch.targets, 0.0).unsqueeze(-1) - outputs
        pinball = torch.maximum(self.levels * error, (self.levels - 1) * error).mean(-1)
        return 2 * (pinball * known).sum() / known.sum().clamp(min=1)


class DistributionHead(nn.Module):
    """A distribution over the next value, at every step.

    Args:
        input_size: Width of the trunk's features, ``P``.
        family: ``"normal"``, ``"student_t"``, or ``"negative_binomial"`` for counts. The last is told the window's
            scale (``batch.extras["scale"]``, ``(B, 1)``), since counts cannot be scaled: its mean is in units of it.

    ``batch.targets`` is ``(B, S)``: scaled values, for counts the counts themselves.
    """

    def __init__(self, input_size: int, family: str) -> None:
        super().__init__()
        self.family = family
        self.output_size = {"normal": 2, "student_t": 3, "negative_binomial": 2}[family]
        self.linear = nn.Linear(input_size, self.output_size)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, P) -> (B, S, output_size)``: raw parameters."""
        return self.linear(features)

    def distribution(self, outputs: Tensor, scale: Tensor) -> Normal | StudentT | NegativeBinomial:
        """The distribution that ``outputs (..., output_size)`` stand for; ``scale`` broadcasts to ``(...)``."""
        first, second = outputs[..., 0], F.softplus(outputs[..., 1]) + 1e-4
        if self.family == "normal":
            return Normal(first, second, validate_args=False)
        if self.family == "student_t":
            return StudentT(2 + F.softplus(outputs[..., 2]), first, second, validate_args=False)
        # Salinas et al. 2020 (DeepAR), eq. 6: mean m and variance m + a m², here as total count 1/a and odds a m.
        mean, count = (F.softplus(first) + 1e-6) * scale, 1 / second
        return NegativeBinomial(count, logits=torch.log(mean / count), validate_args=False)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean negative log-likelihood of the known targets."""
        assert batch.targets is not None
        known = ~torch.isnan(batch.targets)
        dist = self.distribution(outputs.float(), batch.extras["scale"])
        log_prob = dist.log_prob(torch.where(known, batch.targets, 0.0))
        return -(log_prob * known).sum() / known.sum().clamp(min=1)


class LastStepRegressionHead(nn.Module):
    """A number told at each sequence's last step.

    Args:
        input_size: Width of the trunk's features, ``P``.
    """

    output_size = 1

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, P) -> (B, S, 1)``."""
        return self.linear(features)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean squared error of the last steps against ``batch.targets (B,)``."""
        assert batch.targets is not None
        return F.mse_loss(last_step(outputs, batch.lengths)[:, 0], batch.targets)


class StepRegressionHead(nn.Module):
    """Numbers told at every step.

    Args:
        input_size: Width of the trunk's features, ``P``.
        count: Numbers, ``K``.
    """

    def __init__(self, input_size: int, count: int) -> None:
        super().__init__()
        self.output_size = count
        self.linear = nn.Linear(input_size, count)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, P) -> (B, S, K)``."""
        return self.linear(features)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean squared error against those of ``batch.targets (B, S, K)`` that are known."""
        assert batch.targets is not None
        known = ~torch.isnan(batch.targets)
        errors = torch.where(known, outputs - torch.nan_to_num(batch.targets), 0.0)
        return errors.square().sum() / known.sum().clamp(min=1)


class StepClassificationHead(nn.Module):
    """A class, told at each sequence's last step or at every step.

    Args:
        input_size: Width of the trunk's features, ``P``.
        classes: How many there are.
    """

    def __init__(self, input_size: int, classes: int) -> None:
        super().__init__()
        self.output_size = classes
        self.linear = nn.Linear(input_size, classes)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, P) -> (B, S, classes)``: logits."""
        return self.linear(features)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy against ``batch.targets``: ``(B,)`` for the last steps, or ``(B, S)``, -1 not scored."""
        assert batch.targets is not None
        if batch.targets.dim() == 1:
            return F.cross_entropy(last_step(outputs, batch.lengths), batch.targets)
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), ignore_index=-1)


class MultilabelHead(nn.Module):
    """Which of several labels hold, at every step, each for itself: the notes of a chord.

    Args:
        input_size: Width of the trunk's features, ``P``.
        labels: How many there are, ``K``.
        dropout: In training, the share of the features that are hidden, the same at all steps.
    """

    autoregressive = False  #: whether a label hangs on those above it

    def __init__(self, input_size: int, labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.output_size, self.dropout = labels, dropout
        self.linear = nn.Linear(input_size, labels)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, P) -> (B, S, K)``: logits."""
        return self.linear(variational_dropout(features, self.dropout, self.training))

    def logits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``(..., K)``: of each label; what else holds, ``labels (..., K)``, plays no part."""
        return outputs

    def below(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The same."""
        return outputs

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Negative log-likelihood of all labels ``batch.targets (B, S, K)`` together: nats a step, the mean."""
        return _multilabel_loss(self, outputs, batch)


class NADEHead(nn.Module):
    """Which of several labels hold, at every step, each given those numbered higher: a chord from its top key down.

    The neural autoregressive distribution estimator (Larochelle and Murray 2011, eqs. 6 and 7), its biases told by the
    trunk at each step as in RNN-NADE (Boulanger-Lewandowski, Bengio and Vincent 2012, section 5). From the highest
    label down::

        p(v_k = 1 | v_above) = σ(b_k + V_k h_k)        h_k = σ(a + Σ_{j above k} W_j v_j)

    ``h_k`` changes only below a label that holds, so that of ``n`` which hold ``n + 1`` states tell the likelihood of
    all ``K``, exactly and at once.

    Args:
        input_size: Width of the trunk's features, ``P``.
        labels: How many there are, ``K``.
        hidden_size: Width of ``h``, ``H``.
        dropout: In training, the share of the features that are hidden, the same at all steps.
    """

    autoregressive = True

    def __init__(self, input_size: int, labels: int, hidden_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.labels, self.dropout = labels, dropout
        self.output_size = labels + hidden_size
        self.linear = nn.Linear(input_size, self.output_size)
        self.given = nn.Embedding(labels + 1, hidden_size, padding_idx=0)  # W; 0 stands for none
        self.told = nn.Linear(hidden_size, labels, bias=False)  # V
        nn.init.normal_(self.given.weight, std=0.1)
        nn.init.zeros_(self.given.weight[0])

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, P) -> (B, S, K + H)``: the biases ``b`` and ``a`` of each step."""
        return self.linear(variational_dropout(features, self.dropout, self.training))

    def logits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``(..., K)``: of each label, given which of those above it hold by ``labels (..., K)``, 0 or 1."""
        rows = zip(outputs.flatten(0, -2).split(_ROWS), labels.flatten(0, -2).split(_ROWS), strict=True)
        return torch.cat([self._logits(*some) for some in rows]).unflatten(0, labels.shape[:-1])

    def below(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``(..., K)``: as :meth:`logits`, of labels below all that hold; cheaper, for drawing one after another."""
        bias, first = outputs.split([self.labels, self.output_size - self.labels], dim=-1)
        return bias + self.told((first + labels @ self.given.weight[1:]).sigmoid())

    def _logits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``(N, K + H)`` and ``(N, K)`` to ``(N, K)``."""
        bias, first = outputs.split([self.labels, self.output_size - self.labels], dim=-1)
        most = int(labels.sum(-1).max())
        numbers = torch.arange(1, self.labels + 1, device=labels.device)
        holding = (labels.long() * numbers).topk(most).values  # (N, most), the highest first, 0 for none
        states = torch.cat([first.unsqueeze(1), self.given(holding)], 1).cumsum(1).sigmoid()
        after = self.told(states)  # (N, most + 1, K)
        above = labels.flip(-1).cumsum(-1).flip(-1) - labels
        return bias + after.gather(1, above.long().unsqueeze(1))[:, 0]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """As :meth:`MultilabelHead.loss`."""
        return _multilabel_loss(self, outputs, batch)


def _multilabel_loss(head: MultilabelHead | NADEHead, outputs: Tensor, batch: Batch) -> Tensor:
    assert batch.targets is not None
    logits = head.logits(outputs, batch.targets)
    each = F.binary_cross_entropy_with_logits(logits, batch.targets, reduction="none").sum(-1)
    if batch.lengths is None:
        return each.mean()
    steps = torch.arange(each.shape[1], device=each.device) < batch.lengths.to(each.device)[:, None]
    return (each * steps).sum() / steps.sum().clamp(min=1)


class TagHead(nn.Module):
    """A tag for every step.

    Args:
        input_size: Width of the trunk's features, ``P``.
        tags: How many there are, ``K``.
        crf: Whether tags hang on their neighbours.
        dropout: In training, the share of the features that are hidden, the same at all steps.
    """

    def __init__(self, input_size: int, tags: int, crf: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.output_size, self.dropout = tags, dropout
        self.linear = nn.Linear(input_size, tags)
        self.crf = CRF(tags) if crf else None

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, P) -> (B, S, K)``: logits; with a CRF its emissions."""
        return self.linear(variational_dropout(features, self.dropout, self.training))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean over all steps against ``batch.targets (B, S)``, -1 not scored (a CRF scores whole sequences)."""
        assert batch.targets is not None
        if self.crf is None:
            return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), ignore_index=-1)
        assert batch.lengths is not None
        return self.crf.loss(outputs, batch.targets, batch.lengths)

    def answer(self, outputs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """The tags of each sequence, ``(T_b,)``, and the probability of every tag at every step, ``(B, S, K)``."""
        if self.crf is not None:
            return self.crf.decode(outputs, lengths), self.crf.marginals(outputs, lengths)
        best = outputs.argmax(-1)
        return [row[:n] for row, n in zip(best, lengths.tolist(), strict=True)], outputs.softmax(-1)


class MultiTaskTagHead(nn.Module):
    """Several kinds of tags for every step, learnt together: a coarse one and a fine one, say. Their losses are added.

    Args:
        input_size: Width of the trunk's features, ``P``.
        tags: How many there are of each kind.
        dropout: As of :class:`TagHead`, one of which each kind has.
    """

    def __init__(self, input_size: int, tags: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.tags, self.output_size = tuple(tags), sum(tags)
        self.kinds = nn.ModuleList(TagHead(input_size, of_kind, dropout=dropout) for of_kind in tags)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, P) -> (B, S, all tags)``: logits, kind by kind."""
        return torch.cat([kind(features) for kind in self.kinds], -1)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The sum of the kinds' losses against ``batch.targets (B, S, kinds)``, -1 not scored."""
        assert batch.targets is not None
        kinds = zip(self.kinds, outputs.split(self.tags, -1), batch.targets.unbind(-1), strict=True)
        each = [head.loss(logits, replace(batch, targets=targets)) for head, logits, targets in kinds]  # type: ignore[operator]
        return torch.stack(each).sum()


class TokenHead(nn.Module):
    """Which token comes next, at every step.

    Args:
        input_size: Width of the features, ``P``.
        vocabulary: How many different tokens there are, ``V``.
        tied: The embedding whose vectors are the weights as well (Press and Wolf 2017, Inan et al. 2017); features of
            another width are brought to its width by a linear map.
        cutoffs: For large vocabularies, numbered from the most frequent token on: where its rarer parts begin, which
            get narrower weights (adaptive softmax, Grave et al. 2017); not together with ``tied``.
        smoothing: Share of the probability that is wanted of all tokens alike.
    """

    def __init__(
        self,
        input_size: int,
        vocabulary: int,
        tied: nn.Embedding | None = None,
        cutoffs: Sequence[int] = (),
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.output_size, self.smoothing = vocabulary, smoothing
        width = input_size if tied is None else tied.embedding_dim
        self.narrow = nn.Identity() if width == input_size else nn.Linear(input_size, width)
        self.adaptive = nn.AdaptiveLogSoftmaxWithLoss(width, vocabulary, list(cutoffs)) if cutoffs else None
        if self.adaptive is None:
            self.weight = nn.Parameter(torch.empty(vocabulary, width)) if tied is None else tied.weight
            self.bias = nn.Parameter(torch.zeros(vocabulary))
            if tied is None:
                nn.init.uniform_(self.weight, -0.1, 0.1)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, P) -> (B, S, V)``: logits."""
        features = self.narrow(features)
        if self.adaptive is not None:
            return self.adaptive.log_prob(features.flatten(0, -2)).unflatten(0, features.shape[:-1])
        rows = vocabulary.logits(features.flatten(0, -2), self.weight, self.bias)
        if rows is None:
            return F.linear(features, self.weight, self.bias)
        return rows.unflatten(0, features.shape[:-1])

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of ``features (B, S, P)`` against ``targets (B, S)``, -1 not scored."""
        features, targets = self.narrow(features).flatten(0, -2), targets.flatten()
        if self.adaptive is None:
            return linear_cross_entropy(features, self.weight, self.bias, targets, self.smoothing)
        kept = targets >= 0
        return self.adaptive(features[kept], targets[kept]).loss


def last_step(outputs: Tensor, lengths: Tensor | None) -> Tensor:
    """What stands at each sequence's last step: ``(B, S, O) -> (B, O)``."""
    if lengths is None:
        return outputs[:, -1]
    return outputs[torch.arange(len(outputs), device=outputs.device), lengths.to(outputs.device) - 1]
