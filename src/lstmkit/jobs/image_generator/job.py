"""Image generation with DRAW: learn from images, sample new ones, reconstruct given ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure

from lstmkit.data.vision.image_io import FILE_SUFFIXES
from lstmkit.data.vision.image_set import FORMATS, ImageDataset, Images, Size, read_images
from lstmkit.errors import DataError
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.splitting import looked_at, random_split
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.image_generator import metrics, report
from lstmkit.jobs.image_generator.export import exported_image_generator
from lstmkit.jobs.image_generator.generation import generate, reconstruct
from lstmkit.jobs.image_generator.predictor import ImageGeneratorPredictor, draw_networks
from lstmkit.jobs.image_generator.results import GeneratedImage, ascii_art, write_image_grid
from lstmkit.jobs.image_generator.settings import ImageGeneratorSettings
from lstmkit.look import ExampleSequence
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section


class ImageGenerator(ImageGeneratorSettings, Job[ImageGeneratorPredictor]):
    """Generate images like the training images with DRAW (Gregor et al. 2015): attention in reading and writing.

    Data: a folder or zip of images, one image, MNIST's files (``"images,labels"``), or arrays ``(N, H, W)``; see
    :func:`lstmkit.data.vision.image_set.read_images`. Images are grayscale.

    >>> import numpy as np
    >>> crosses = np.stack([np.roll(np.eye(4), shift, axis=1) for shift in (0, 1) * 20])
    >>> generator = ImageGenerator(height=4, width=4, hidden_size=8, glimpses=2, latent_size=2, epochs=1).fit(crosses)
    >>> generator.predict(3)[0].image.shape
    (4, 4)
    """

    predictor_class: ClassVar = ImageGeneratorPredictor
    data_formats = FORMATS
    live_inputs = ("count",)
    answer_suffixes = (".png", ".gif", ".txt")

    _train_split: Images | None = None  # for the mixture; not saved

    # ---- data ----------------------------------------------------------------------------------------------------

    def read(self, data: Any) -> Images:
        return read_images(data, Size(self.height, self.width, self.invert))

    def split(self, examples: Images, validation: Images | None) -> DataSplit:
        """Split at random. Raises DataError if all pixels of all images are equal."""
        for images in (examples, validation):
            if images is not None and not np.ptp(images.pixels):
                raise DataError(f"{images.name}: all pixels of all images are equal: there is nothing to learn")
        return random_split(examples, validation, "image", self.valid_fraction, self.test_fraction, self.seed)

    def prepare(self, train: Images) -> ImageGeneratorPredictor:
        self._train_split = train
        return ImageGeneratorPredictor.fitted(self.snapshot(), train)

    def source(self, examples: Images) -> ImageDataset:
        return self.predictor.dataset(examples, training=examples is self._train_split)

    def calibrate(self, valid: Images | None) -> None:
        """Nothing to calibrate: the likelihood bound scores the probabilities themselves."""

    # ---- generation ----------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, label: str = "", seed: int = 0) -> list[GeneratedImage]:
        """Generate new images, or reconstruct given ones.

        Args:
            data: The number of images to generate, also as text; or images to reconstruct, each with the mean of its
                latent variables.
            label: The class of new images, for a class-conditional model; without one, all classes in turn. Images that
                are reconstructed have their own label.
            seed: Random seed of new images.

        Raises:
            SettingError: The label is unknown, or the number is out of range.
        """
        predictor, count = self.predictor, _num_images(data)
        if count is None:
            return reconstruct(predictor, self.read(data))
        return generate(predictor, count, label, seed)

    def exported(self) -> JobExport:
        return exported_image_generator(self.predictor)

    def to_text(self, predictions: list[GeneratedImage]) -> str:
        """Each image as ASCII art, separated by blank lines."""
        return "\n\n".join(ascii_art(generated) for generated in predictions)

    def write(self, predictions: list[GeneratedImage], path: Path) -> None:
        """Write an image grid (``.png`` and other image formats), an animation (``.gif``), or text."""
        if path.suffix.lower() in FILE_SUFFIXES:
            write_image_grid(predictions, path, self.invert)
        else:
            super().write(predictions, path)

    def to_records(self, predictions: list[GeneratedImage]) -> list[dict[str, Any]]:
        """Name, label, and the probability of ink in percent, row by row."""
        return [
            {
                "name": generated.name,
                "label": generated.label,
                "ink": (100 * generated.image).round().astype(int).tolist(),
            }
            for generated in predictions
        ]

    def plot(self, data: Any, predictions: list[GeneratedImage]) -> Figure:
        """The first images, glimpse by glimpse."""
        return report.steps_figure(self.predictor, predictions)

    # ---- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Score held-out images: the model's variational bound, independent pixels and a Bernoulli mixture.

        The mixture needs the training data: load the model with ``train``.
        """
        predictor = self.predictor
        return metrics.evaluate(predictor, self.read(data), self._train_split, progress or default_progress())

    def evaluate_examples(self, test: Images, progress: Progress) -> Evaluation:
        return metrics.evaluate(self.predictor, test, self._train_split, progress)

    def report_sections(self, examples: Images) -> list[Section]:
        return report.sections(self.predictor, self.full_evaluation, examples)

    def example_sequences(self, data: Any, image: int = 1) -> list[ExampleSequence]:
        """Images as the network reads and writes them, starting with number ``image`` (from 1)."""
        predictor = self.predictor
        images = self.read(data)
        dataset = predictor.dataset(images)
        network = draw_networks(predictor.network)[0]
        device = next(network.parameters()).device
        sequences = []
        for row in looked_at(image, images, "image"):
            batch = dataset.batch(np.array([row])).to(device)
            sequences.append(
                ExampleSequence(
                    (batch.inputs, network.initial_state(1, batch.extras.get("kind"))),
                    name=f"image {images.ids[row]}",
                    answers={"total ink": lambda output: output[0, -1].sigmoid().sum()},
                )
            )
        return sequences


def _num_images(data: Any) -> int | None:
    """The number of images to generate; ``None`` if ``data`` is not a number."""
    if isinstance(data, str) and data.isascii() and data.isdecimal() and not Path(data).exists():
        return int(data)
    return int(data) if isinstance(data, (int, np.integer)) and not isinstance(data, bool) else None
