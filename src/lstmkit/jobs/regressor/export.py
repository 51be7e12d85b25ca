"""A regressor as a graph: further rows and the state before them to outputs at each row, and the new state."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lstmkit.errors import UserError
from lstmkit.export.graphs import JobExport, State, step_graph
from lstmkit.jobs.regressor.predictor import RegressorPredictor
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Ensemble
from lstmkit.modules.entity_aware_lstm import EntityAwareLSTM


def exported_regressor(predictor: RegressorPredictor) -> JobExport:
    """The graph and the settings of a fitted regressor."""
    model, width = predictor.model, len(predictor.encoding.columns)

    def example(rows: int, time: int) -> tuple[dict[str, Tensor], State]:
        inputs = torch.zeros(rows, time, width)
        with torch.no_grad():
            return {"inputs": inputs}, model(inputs)[1]

    graph = step_graph(model, example, {"rows": 2, "time": 3}, ["outputs"], model)
    settings = {
        **{name: getattr(predictor.settings, name) for name in ("id_col", "time_col", "predict_at")},
        "encoding": predictor.encoding.state(),
        "targets": predictor.decoding.state(),
    }
    return JobExport({"network": graph}, settings)


def plain_layers(predictor: RegressorPredictor) -> nn.Sequential:
    """Recurrent layers and a linear layer that read the columns and give the predictions, both in their own units.

    The scales of columns and targets are part of the weights. This is what :func:`lstmkit.export_c`,
    :func:`lstmkit.export_rtneural` and :func:`lstmkit.export_nam` write.

    Raises:
        UserError: The model does more than such layers can: the message says what.
    """
    problem = _beyond_layers(predictor)
    if problem:
        raise UserError(f"plain layers cannot {problem}")
    encoding, decoding, network = predictor.encoding, predictor.decoding, predictor.network
    trunk, linear = copy.deepcopy(network.get_submodule("trunk")), copy.deepcopy(network.get_submodule("head.linear"))
    assert isinstance(trunk, RecurrentLayer)
    assert isinstance(linear, nn.Linear)
    mean, std = (torch.from_numpy(values) for values in (encoding.mean, encoding.std))
    target_mean, target_std = (torch.from_numpy(values) for values in (decoding.mean, decoding.std))
    with torch.no_grad():
        weights = trunk.weights(0, 0)
        scaled = weights["weight_ih"].double() / std
        weights["bias_ih"].sub_((scaled @ mean).float())
        weights["weight_ih"].copy_(scaled)
        linear.bias.copy_(linear.bias.double() * target_std + target_mean)
        linear.weight.copy_(linear.weight.double() * target_std[:, None])
    return nn.Sequential(trunk, linear).eval()


def _beyond_layers(predictor: RegressorPredictor) -> str:
    """What a model does that layers cannot, with what to do; empty if there is nothing."""
    encoding = predictor.encoding
    if encoding.category_names or len(encoding.columns) > len(encoding.number_names):
        return "read categories, times or gaps: fit to numbers without gaps, with time_features=False"
    if encoding.is_compressed.any():
        return "compress values beyond 8 standard deviations: fit with compress_tails=False"
    if predictor.decoding.has_quantiles or isinstance(predictor.model, Ensemble):
        return "give quantiles or the mean of an ensemble: fit one model with another loss than pinball"
    if isinstance(predictor.network.get_submodule("trunk"), EntityAwareLSTM):
        return "be entity-aware: fit with entity_aware=False"
    return ""
