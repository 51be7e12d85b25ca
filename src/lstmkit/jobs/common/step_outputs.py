"""Outputs of a network at every step of sequences of any length, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lstmkit.data.sequence_chunks import SequenceChunks
from lstmkit.models.base import Model
from lstmkit.progress import Progress

CHUNK_STEPS = 4096  #: Steps that run at once; the state is carried to the next ones.
SEQUENCES_AT_ONCE = 64


def step_outputs(
    model: Model,
    sequences: Sequence[np.ndarray],
    device: torch.device,
    progress: Progress | None,
    title: str,
    *,
    whole: bool = False,
) -> np.ndarray:
    """Outputs of all steps ``(R, K)`` float32, sequence after sequence.

    Args:
        model: A model with outputs at every step; it is moved to ``device`` and put into evaluation mode.
        sequences: Features ``(T, F)`` float32 of each sequence.
        device: Device for the computation.
        progress: Receives the progress.
        title: Title of the progress bar.
        whole: Whether sequences run as wholes, as a bidirectional network needs. Else they run in chunks of 4,096 steps
            with the state carried on, so memory does not grow with their length.
    """
    model.to(device).eval()
    lengths = np.array([len(sequence) for sequence in sequences])
    chunk_steps = int(lengths.max()) if whole else CHUNK_STEPS
    chunks = SequenceChunks(sequences, batch_size=SEQUENCES_AT_ONCE, chunk_steps=chunk_steps)
    next_row = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    outputs, state = np.empty((0, 0), dtype=np.float32), None
    with torch.inference_mode(), (progress or Progress()).task(title, len(chunks)) as task:
        for i, batch in enumerate(chunks.epoch()):
            assert batch.rows is not None
            assert batch.lengths is not None
            moved = batch.to(device)
            found, state = model(moved.inputs, state if batch.continues else None, moved.lengths)
            values = found.float().cpu().numpy()
            if not outputs.size:
                outputs = np.empty((int(lengths.sum()), values.shape[2]), dtype=np.float32)
            for row, of_row, count in zip(batch.rows.tolist(), values, batch.lengths.tolist(), strict=True):
                outputs[next_row[row] : next_row[row] + count] = of_row[:count]
                next_row[row] += count
            task.update(i + 1)
    return outputs
