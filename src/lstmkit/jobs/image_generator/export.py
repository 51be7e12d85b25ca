"""An image generator as graphs: noise to drawings, and one step of the reconstruction of images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmkit.export.graphs import Graph, JobExport, State, step_graph
from lstmkit.jobs.image_generator.predictor import ImageGeneratorPredictor, draw_networks
from lstmkit.models.draw import DrawModel, DrawState


def exported_image_generator(predictor: ImageGeneratorPredictor) -> JobExport:
    """The graphs of the networks and the settings of their runtime: ``generate_0``, … per network, and ``read``."""
    settings, networks = predictor.settings, draw_networks(predictor.model)
    network = networks[0]
    graphs = {f"generate_{k}": _generate_graph(predictor, one) for k, one in enumerate(networks)}
    graphs["read"] = _read_graph(predictor, network)
    return JobExport(
        graphs,
        {
            "labels": list(predictor.labels),
            "shape": [settings.height, settings.width],
            "glimpses": settings.glimpses,
            "latent_size": settings.latent_size,
            "batch_size": settings.batch_size,
            "binarization": settings.binarization,
            "seed": settings.seed,
            "first_canvas": network.blank.tolist(),
            "first_hidden": network.start.tolist(),
        },
    )


def _generate_graph(predictor: ImageGeneratorPredictor, network: DrawModel) -> Graph:
    """Noise ``(B, T, Z)`` and classes ``(B,)`` to the probability of ink at the end, ``(B, height, width)``."""
    settings = predictor.settings
    inputs = {"noise": torch.zeros(2, settings.glimpses, settings.latent_size)} | _classes(predictor, 2)
    dynamic = {"noise": ("images", None, None), **({"classes": ("images",)} if predictor.labels else {})}
    return Graph(_Generate(network), inputs, dynamic, ["ink"])


class _Generate(nn.Module):
    def __init__(self, network: DrawModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        state = self.network.initial_state(noise.shape[0], classes)
        return self.network.generate(noise, state)[0][:, -1].sigmoid()


def _read_graph(predictor: ImageGeneratorPredictor, network: DrawModel) -> Graph:
    """One step of a reconstruction: images ``(B, height, width)``, classes ``(B,)``, state to the probability of ink.

    The state is canvas, hidden state of the decoder, and the states of encoder and decoder. All start at 0 but the
    first two.
    """
    settings = predictor.settings

    def step(images: Tensor, *others: Tensor | State) -> tuple[Tensor, State]:
        *classes, (logits, hidden, encoder, decoder) = others
        kind = network.initial_state(images.shape[0], *classes).kind
        after = network.read_step(images, DrawState(logits, hidden, encoder, decoder, kind, None))
        return after.logits.sigmoid(), (after.logits, after.hidden, after.encoder, after.decoder)

    def example(images: int) -> tuple[dict[str, Tensor], State]:
        inputs = {"images": torch.zeros(images, settings.height, settings.width)} | _classes(predictor, images)
        with torch.no_grad():
            after = network.read_step(inputs["images"], network.initial_state(images, inputs.get("classes")))
        return inputs, (after.logits, after.hidden, after.encoder, after.decoder)

    return step_graph(step, example, {"images": 2}, ["ink"], network)


def _classes(predictor: ImageGeneratorPredictor, count: int) -> dict[str, Tensor]:
    return {"classes": torch.zeros(count, dtype=torch.int64)} if predictor.labels else {}
