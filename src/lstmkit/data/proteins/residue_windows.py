"""Batches of windows of encoded protein chains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.padding import pad_sequences
from lstmkit.data.proteins.residues import ChainWindow, split_into_windows


class ResidueDataset:
    """Dataset of windows of protein chains.

    Args:
        residue_ids: Residue ids of each chain, ``(T,)``.
        profile: Profile of each chain, ``(T, F)`` float32; ``None`` without profiles.
        states: State ids of each chain in ``K`` alphabets, ``(T, K)``; ``None`` if unknown.
        max_residues: Maximum residues per window.
    """

    def __init__(
        self,
        residue_ids: Sequence[np.ndarray],
        profile: Sequence[np.ndarray] | None,
        states: Sequence[np.ndarray] | None,
        max_residues: int,
    ) -> None:
        self.inputs = residue_ids
        if profile is not None:
            pairs = zip(residue_ids, profile, strict=True)
            self.inputs = [np.column_stack([ids, numbers]).astype(np.float32) for ids, numbers in pairs]
        self.states = states
        self.windows = [
            (chain, w) for chain, ids in enumerate(residue_ids) for w in split_into_windows(len(ids), max_residues)
        ]
        self.lengths = np.array([w.stop - w.start for _, w in self.windows])

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, rows: np.ndarray) -> Batch:
        """Ids ``(B, T)``, with profiles ``(B, T, 1 + F)``; targets ``(B, T, K)``, -1 for context and padding."""
        picked = [self.windows[row] for row in rows]
        inputs = pad_sequences([self.inputs[chain][w.start : w.stop] for chain, w in picked], 0)
        targets = None
        if self.states is not None:
            targets = torch.from_numpy(
                pad_sequences([self._mask_margins(self.states[chain], w) for chain, w in picked], -1)
            )
        return Batch(torch.from_numpy(inputs), torch.from_numpy(self.lengths[rows]), targets, rows=rows)

    @staticmethod
    def _mask_margins(states: np.ndarray, w: ChainWindow) -> np.ndarray:
        steps = np.arange(w.start, w.stop)[:, None]
        return np.where((w.first <= steps) & (steps < w.last), states[w.start : w.stop], -1)
