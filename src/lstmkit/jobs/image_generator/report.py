"""The image generator's part of the report: results, generated images, reconstructions, the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lstmkit.data.vision.image_set import Images
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.image_generator.generation import generate, reconstruct
from lstmkit.jobs.image_generator.plots import drawing_steps_figure, image_grid_figure
from lstmkit.jobs.image_generator.predictor import ImageGeneratorPredictor
from lstmkit.jobs.image_generator.results import GeneratedImage
from lstmkit.plots.style import note_selection
from lstmkit.report import Section, quantities

_NUM_STEP_FIGURES = 5  # images drawn step by step
_NUM_GENERATED, _MAX_GENERATED = 40, 100


def steps_figure(predictor: ImageGeneratorPredictor, generated: Sequence[GeneratedImage]) -> Figure:
    """The first images, glimpse by glimpse."""
    first = generated[:_NUM_STEP_FIGURES]
    figure = drawing_steps_figure(
        [generated_image.label or generated_image.name for generated_image in first],
        [generated_image.canvases for generated_image in first],
        [generated_image.windows for generated_image in first],
        [generated_image.original for generated_image in first],
        predictor.settings.write_size,
    )
    return note_selection(figure, len(generated), "images", drawn=len(first))


def sections(predictor: ImageGeneratorPredictor, evaluation: Evaluation | None, images: Images) -> list[Section]:
    """Results, generated images, reconstructions of test images, and the data.

    Args:
        predictor: With a trained network.
        evaluation: Scores, if there are any.
        images: Everything that was read.
    """
    results = []
    if evaluation is not None:
        results.append(Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions))
    return [*results, *_generated(predictor), *_reconstructed(predictor, evaluation), _data(predictor, images)]


def _generated(predictor: ImageGeneratorPredictor) -> list[Section]:
    num_labels = len(predictor.labels)
    count = num_labels * max(1, _NUM_GENERATED // num_labels) if num_labels else _NUM_GENERATED
    generated = generate(predictor, min(count, _MAX_GENERATED), "", predictor.settings.seed)
    grid = image_grid_figure(
        [generated_image.image for generated_image in generated],
        [generated_image.label for generated_image in generated],
    )
    return [
        Section("Generated images", "Random samples, not selected.", figure=grid, caption="Images sampled at random"),
        Section(
            "Generation step by step",
            "The frame is the write window; a thick line means wide filters.",
            figure=steps_figure(predictor, generated),
            caption="The canvas after some of the glimpses",
        ),
    ]


def _reconstructed(predictor: ImageGeneratorPredictor, evaluation: Evaluation | None) -> list[Section]:
    if evaluation is None:
        return []
    test: Images = evaluation.outputs
    reconstructed = reconstruct(predictor, test.subset(np.arange(min(_NUM_STEP_FIGURES, len(test)))))
    return [
        Section(
            "Reconstructions",
            f"The first images of {evaluation.part}.",
            figure=steps_figure(predictor, reconstructed),
            caption="The original, and the canvas after some of the glimpses",
        )
    ]


def _data(predictor: ImageGeneratorPredictor, images: Images) -> Section:
    counts = {"images": len(images), "labels": len(predictor.labels)}
    table = quantities("data", counts)
    return Section("The data", " ".join(f"{note}." for note in images.notes), table)
