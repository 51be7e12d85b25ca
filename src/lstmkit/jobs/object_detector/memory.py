"""Where the memory of a detector holds objects: its gates over the frame."""

from __future__ import annotations

import numpy as np
import torch

from lstmkit.data.vision.boxed_clips import BoxedClip
from lstmkit.jobs.object_detector.predictor import ObjectDetectorPredictor
from lstmkit.models.video_detector import VideoDetector


@torch.inference_mode()
def memory_maps(predictor: ObjectDetectorPredictor, each: BoxedClip, max_frames: int = 200) -> dict[str, np.ndarray]:
    """Means over the channels of the last layer, by name ``(T, h, w)``.

    ``forget`` is the forget gate (of a GRU the update gate), and ``memory`` the mean absolute state. A network without
    such a gate, as an RNN, has ``memory`` only.

    Args:
        predictor: With a trained network.
        each: The clip.
        max_frames: Frames from its start that are read.
    """
    network = predictor.network
    assert isinstance(network, VideoDetector)
    frames = torch.from_numpy(np.ascontiguousarray(each.clip.frames[:max_frames])).to(next(network.parameters()).device)
    features = network.eval().encoder(network.normalizer(frames))
    gates = network.trunk.trace(features.unsqueeze(0)).gates[network.trunk.num_layers - 1, 0]
    state = gates.get("cell", gates["hidden"])[0].abs().mean(1)
    gate = gates.get("forget", gates.get("update"))
    maps = {} if gate is None else {"forget gate": gate[0].mean(1)}
    return {name: values.float().cpu().numpy() for name, values in (maps | {"memory": state}).items()}
