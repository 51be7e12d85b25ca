"""Sampling of new images, and reconstruction of given ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.vision.image_set import Images
from lstmkit.decoding.new_images import labels_of_new_images
from lstmkit.jobs.image_generator.predictor import ImageGeneratorPredictor, draw_networks
from lstmkit.jobs.image_generator.results import GeneratedImage
from lstmkit.models.base import Model
from lstmkit.models.draw import DrawModel
from lstmkit.progress import Progress
from lstmkit.training.predict import predict


def generate(predictor: ImageGeneratorPredictor, count: int, label: str, seed: int) -> list[GeneratedImage]:
    """Sample new images.

    Args:
        predictor: With a trained network; the networks of an ensemble take turns, batch by batch.
        count: How many images.
        label: The class of all of them; ``""`` goes through all classes in turn.
        seed: Random seed.

    Raises:
        SettingError: The label is unknown, or ``count`` is out of range.
    """
    labels, settings = predictor.labels, predictor.settings
    of_each = labels_of_new_images(count, label, labels)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, settings.glimpses, settings.latent_size, generator=generator)
    networks, generated = draw_networks(predictor.model.eval()), []
    device = next(predictor.model.parameters()).device
    for start in range(0, count, settings.batch_size):
        rows = slice(start, start + settings.batch_size)
        class_ids = torch.from_numpy(predictor.encode_labels(of_each[rows], "labels")).to(device) if labels else None
        network = networks[(start // settings.batch_size) % len(networks)]
        pairs = zip(*_sample(network, noise[rows].to(device), class_ids), strict=True)
        for i, (canvases, windows) in enumerate(pairs, start):
            generated.append(GeneratedImage(of_each[i] or f"image {i + 1}", of_each[i], canvases, windows))
    return generated


@torch.inference_mode()
def _sample(network: DrawModel, noise: Tensor, class_ids: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Canvases ``(B, T, height, width)`` and windows ``(B, T, 5)`` of latent variables ``(B, T, Z)``."""
    canvases, windows = network.generate(noise, network.initial_state(len(noise), class_ids))
    return canvases.sigmoid().float().cpu().numpy(), windows.float().cpu().numpy()


def reconstruct(
    predictor: ImageGeneratorPredictor, images: Images, progress: Progress | None = None
) -> list[GeneratedImage]:
    """Read each image and draw it again, with the mean of each latent variable.

    Raises:
        DataError: The model is class-conditional, and a label is missing or unknown.
    """
    dataset = predictor.dataset(images)

    def decode(model: Model, batch: Batch) -> list[tuple[np.ndarray, np.ndarray]]:
        network = draw_networks(model)[0]
        output, _ = network.read(batch.inputs, network.initial_state(len(batch), batch.extras.get("kind")))
        arrays = (output.canvases.sigmoid(), output.windows)
        return list(zip(*(array.float().cpu().numpy() for array in arrays), strict=True))

    loader = Loader(dataset, predictor.settings.batch_size)
    drawn = predict(predictor.model, loader, decode, device=predictor.device, progress=progress, title="reconstructing")
    labels = images.labels if predictor.labels else [""] * len(images)
    return [
        GeneratedImage(name, label or "", canvases, windows, original)
        for name, label, (canvases, windows), original in zip(images.ids, labels, drawn, dataset.images, strict=True)
    ]
