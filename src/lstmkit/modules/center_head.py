"""The head of a center-point detector: heat maps of centers, sizes and offsets, and their loss."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch

_PRIOR = 0.02  # initial score of every cell: with one half, the many empty cells would dominate the first steps
_GAUSSIAN_SIDE = 0.54  # side of the Gaussian relative to that of the box (Liu et al. 2020, TTFNet, arXiv:1909.00700)


class CenterHead(nn.Module):
    """Features ``(N, P, h, w)`` to outputs ``(N, K + 4, h, w)`` (Zhou et al. 2019, "Objects as points").

    The outputs of a cell are logits of the ``K`` classes, logarithms of width and height in cells, and the offset of
    the center from the corner of the cell, in cells.

    Args:
        input_size: Channels of the features, ``P``.
        hidden_size: Channels of the hidden layer.
        num_classes: Number of classes, ``K``.
        stride: Pixels per cell.
        size_weight: Weight of the loss of sizes.
        offset_weight: Weight of the loss of offsets.

    >>> CenterHead(8, 16, num_classes=3, stride=4)(torch.zeros(2, 8, 6, 5)).shape
    torch.Size([2, 7, 6, 5])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_classes: int,
        stride: int,
        size_weight: float = 1.0,
        offset_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(input_size, hidden_size, 3, padding=1)
        self.outputs = nn.Conv2d(hidden_size, num_classes + 4, 1)
        self.num_classes, self.stride = num_classes, stride
        self.size_weight, self.offset_weight = size_weight, offset_weight
        with torch.no_grad():
            self.outputs.bias[:num_classes] = math.log(_PRIOR / (1 - _PRIOR))  # type: ignore[index]

    def forward(self, features: Tensor) -> Tensor:
        return self.outputs(F.relu(self.hidden(features)))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The loss per object of outputs ``(B, T, K + 4, h, w)``.

        Focal loss of the heat maps (Lin et al. 2017, in the form of Law and Deng 2018, eq. 1), plus the mean absolute
        error of log sizes and offsets at the centers.

        Args:
            outputs: The outputs of all frames.
            batch: Its targets are ``(B, T, N, 5)``: class, center x, center y, width and height in pixels, NaN beyond
                the boxes of a frame. Frames past the lengths add nothing.
        """
        assert batch.targets is not None
        targets = batch.targets.to(outputs.dtype)
        exists = targets[..., 0].isfinite()
        labels = targets[..., 0].nan_to_num().long()
        center, size = (targets[..., 1:3] / self.stride).nan_to_num(), (targets[..., 3:] / self.stride).nan_to_num(1.0)
        height, width = outputs.shape[-2:]
        limits = center.new_tensor([width - 1, height - 1])
        cells = torch.minimum(center.floor().clamp(min=0), limits)
        heat = self._heat_maps(cells, size, labels, exists, height, width)
        valid = torch.ones_like(heat[:, :, :1], dtype=torch.bool)
        if batch.lengths is not None:
            steps = torch.arange(outputs.shape[1], device=outputs.device)
            valid = (steps < batch.lengths.unsqueeze(1))[:, :, None, None, None]
        count = exists.sum().clamp(min=1)
        focal = _focal_loss(outputs[:, :, : self.num_classes], heat) * valid
        boxes = outputs[:, :, self.num_classes :].flatten(3)  # (B, T, 4, h * w)
        index = (cells[..., 1] * width + cells[..., 0]).long()
        found = boxes.gather(3, index.unsqueeze(2).expand(-1, -1, 4, -1)).transpose(2, 3)  # (B, T, N, 4)
        size_errors = (found[..., :2] - size.clamp(min=1e-3).log()).abs().sum(-1)
        offset_errors = (found[..., 2:] - (center - cells)).abs().sum(-1)
        errors = self.size_weight * size_errors + self.offset_weight * offset_errors
        return (focal.sum() + (errors * exists).sum()) / count

    def _heat_maps(
        self, cells: Tensor, size: Tensor, labels: Tensor, exists: Tensor, height: int, width: int
    ) -> Tensor:
        """``(B, T, K, h, w)``: a Gaussian around the center of each box, 1 at its cell; the maximum where they meet."""
        radius = _GAUSSIAN_SIDE * size / 2
        sigma = (2 * radius + 1) / 6
        columns, rows = (torch.arange(n, device=size.device, dtype=size.dtype) for n in (width, height))
        heat = size.new_zeros(*size.shape[:2], self.num_classes, height, width)
        for k in range(size.shape[2]):
            across = torch.exp(-((columns - cells[:, :, k, :1]) ** 2) / (2 * sigma[:, :, k, :1] ** 2))
            down = torch.exp(-((rows - cells[:, :, k, 1:]) ** 2) / (2 * sigma[:, :, k, 1:] ** 2))
            bump = down.unsqueeze(-1) * across.unsqueeze(-2)
            of_class = F.one_hot(labels[:, :, k], self.num_classes) * exists[:, :, k, None]
            heat = torch.maximum(heat, bump.unsqueeze(2) * of_class[..., None, None])
        return heat


def _focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """The focal loss of each cell, less for cells near a center."""
    p = torch.sigmoid(logits)
    at_center = -((1 - p) ** 2) * F.logsigmoid(logits)
    elsewhere = -((1 - heat) ** 4) * p**2 * F.logsigmoid(-logits)
    return torch.where(heat == 1, at_center, elsewhere)
