"""Negative log-likelihood of images in nats: the model's upper bound, and the baselines."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.vision.image_set import Images
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.image_generator.baselines import bernoulli_mixture, independent_bernoulli
from lstmkit.jobs.image_generator.predictor import ImageGeneratorPredictor, draw_networks
from lstmkit.jobs.image_generator.settings import ImageGeneratorSettings
from lstmkit.models.base import Model
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

NLL = "NLL (nats per image)"
_DIRECTIONS = {NLL: "low", "reconstruction": "low", "KL divergence": "low"}
_MIXTURE_COMPONENTS = 100


def elbo_terms(predictor: ImageGeneratorPredictor, images: Images, progress: Progress | None = None) -> np.ndarray:
    """``(N, 2)`` the two terms of the negative ELBO in nats: reconstruction and KL divergence.

    The noise of each image depends on the seed and its row only, not on the batch size.
    """
    settings = predictor.settings

    def decode(model: Model, batch: Batch) -> np.ndarray:
        assert batch.rows is not None
        generators = [np.random.default_rng((settings.seed, row)) for row in batch.rows.tolist()]
        shape = settings.glimpses, settings.latent_size
        noise = torch.from_numpy(np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in generators]))
        terms = []
        for network in draw_networks(model):
            begun = network.initial_state(len(batch), batch.extras.get("kind"))
            terms.append(torch.stack(network.elbo_terms(batch.inputs, begun, noise.to(begun.logits)), 1))
        return torch.stack(terms).mean(0).float().cpu().numpy()

    loader = Loader(predictor.dataset(images), 4 * settings.batch_size)
    return np.stack(
        predict(predictor.model, loader, decode, device=predictor.device, progress=progress, title="scoring")
    )


def evaluate(predictor: ImageGeneratorPredictor, test: Images, train: Images | None, progress: Progress) -> Evaluation:
    """Score the model and the baselines on held-out images.

    Args:
        predictor: With a trained network.
        test: Held-out images.
        train: The training split, for the mixture; ``None`` for a loaded model.
        progress: Where to report progress.
    """
    settings, nan = predictor.settings, math.nan
    terms = elbo_terms(predictor, test, progress)
    reconstruction, divergence = terms.mean(axis=0).tolist()
    rows = [(f"{settings.cell.upper()} (upper bound)", reconstruction + divergence, reconstruction, divergence)]
    pixels = predictor.binarized(test.pixels).reshape(len(test), -1)
    notes = [
        f"{len(test):,} images of {settings.height} by {settings.width} pixels. {_binarization_note(settings)}",
        "NLL is the negative log-likelihood. This model has an upper bound of it, the negative ELBO, which is the sum "
        "of reconstruction and KL divergence; the baselines' NLL is exact.",
    ]
    if train is not None:
        known = predictor.binarized(train.pixels).reshape(len(train), -1)
        mixture = bernoulli_mixture(known, pixels, _MIXTURE_COMPONENTS, settings.seed, progress)
        components = min(_MIXTURE_COMPONENTS, len(known))
        rows.append((f"Bernoulli mixture ({components} components)", float(mixture.mean()), nan, nan))
    independent = independent_bernoulli(predictor.mean_image.reshape(1, -1), pixels)
    rows.append(("independent pixels", float(independent.mean()), nan, nan))
    table = pd.DataFrame(rows, columns=pd.Index(["model", *_DIRECTIONS]))
    details = pd.DataFrame({"image": list(test.ids), NLL: terms.sum(axis=1)})
    missing = ("Bernoulli mixture",) if train is None else ()
    examples = ScoredExamples.mean("images", terms.sum(axis=1))
    return Evaluation(table, dict(_DIRECTIONS), details, tuple(notes), test, missing, examples)


def _binarization_note(settings: ImageGeneratorSettings) -> str:
    return {
        "stochastic": f"Pixels were sampled once from their gray values, with seed {settings.seed}.",
        "threshold": "Pixels were binarized at 0.5.",
        "none": "Gray values were not binarized; they count as the probability of ink, so this is not a likelihood.",
    }[settings.binarization]
