"""New images, and reconstructions of given ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.decoding.new_images import labels_of_new_images
from lstmkit.errors import DataError, listing
from lstmkit.runtime.base import ExportedJob


class ImageGenerator(ExportedJob):
    """Draws images glimpse by glimpse."""

    def predict(
        self,
        data: Any,
        *,
        label: str = "",
        labels: Sequence[str] = (),
        seed: int = 0,
        noise: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        """Generate new images, or reconstruct given ones.

        New images have the distribution of the job's, but not the same random numbers, unless ``noise`` is given.

        Args:
            data: The number of images to generate; or images ``(N, height, width)`` of the model's size to reconstruct,
                0 for paper to 1 for ink.
            label: The class of new images, for a class-conditional model; without one, all classes in turn.
            labels: The classes of images to reconstruct, for a class-conditional model.
            seed: Random seed of new images.
            noise: Standard normal latent variables ``(N, glimpses, Z)`` in place of the seed.

        Returns:
            ``name, label, ink`` of each image: the probability of ink in percent, row by row.

        Raises:
            DataError: Images or noise have another shape, or a label is unknown.
            SettingError: The number of images or the label is out of range.
        """
        if isinstance(data, (int, np.integer)) and not isinstance(data, bool):
            return self._generate(int(data), label, seed, noise)
        return self._reconstruct(np.asarray(data, dtype=np.float32), list(labels))

    def _generate(self, count: int, label: str, seed: int, noise: np.ndarray | None) -> list[dict[str, Any]]:
        settings, known = self.settings, self.settings["labels"]
        labels = labels_of_new_images(count, label, known)
        shape = (count, settings["glimpses"], settings["latent_size"])
        if noise is None:
            noise = np.random.default_rng(seed).standard_normal(shape)
        if noise.shape != shape:
            raise DataError(f"the noise has shape {noise.shape}: give {shape}")
        networks = [graph for name, graph in self.graphs.items() if name.startswith("generate_")]
        drawn, size = [], settings["batch_size"]
        for turn, start in enumerate(range(0, count, size)):  # the networks of an ensemble take turns
            rows = slice(start, start + size)
            graph = networks[turn % len(networks)]
            drawn.append(graph(noise=noise[rows], **self._classes(labels[rows]))[0])
        names = [own or f"image {i}" for i, own in enumerate(labels, 1)]
        return _records(names, labels, np.concatenate(drawn))

    def _reconstruct(self, images: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
        settings = self.settings
        if images.ndim != 3 or images.shape[1:] != tuple(settings["shape"]):
            raise DataError(f"the images have shape {images.shape}: give (N, {', '.join(map(str, settings['shape']))})")
        if settings["labels"] and len(labels) != len(images):
            raise DataError(f"there are {len(images)} images and {len(labels)} labels: give a label for each image")
        if settings["binarization"] == "stochastic":
            random = np.random.default_rng(settings["seed"]).random(images.shape, dtype=np.float32)
            images = (random < images).astype(np.float32)
        elif settings["binarization"] == "threshold":
            images = (images >= 0.5).astype(np.float32)
        own = list(labels) if settings["labels"] else [""] * len(images)
        graph, classes = self.graphs["read"], self._classes(own)
        states = graph.zero_states(images=len(images))
        states[0][:], states[1][:] = settings["first_canvas"], settings["first_hidden"]
        drawn = np.zeros_like(images)
        for _ in range(settings["glimpses"]):
            (drawn,), states = graph.step(states, images=images, **classes)
        return _records([str(n) for n in range(1, 1 + len(images))], own, drawn)

    def _classes(self, labels: Sequence[str]) -> dict[str, np.ndarray]:
        known = self.settings["labels"]
        for label in labels:
            if known and label not in known:
                raise DataError(f"unknown class {label!r}: give one of {listing(known)}")
        return {"classes": np.array([known.index(label) for label in labels])} if known else {}


def _records(names: Sequence[str], labels: Sequence[str], drawn: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"name": name, "label": label, "ink": (100 * ink).round().astype(int).tolist()}
        for name, label, ink in zip(names, labels, drawn, strict=True)
    ]
