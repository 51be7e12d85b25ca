"""Keras models: read, written and compared with Keras 3 on its torch back end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lstmkit import GRU, LSTM, RNN, export_keras, export_onnx, import_keras
from lstmkit.export.keras_layers import (
    KerasBatchNorm,
    KerasEmbedding,
    KerasMasking,
    KerasRecurrent,
    KerasSequential,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
TOLERANCE = 1e-5
BATCH, STEPS, FEATURES = 3, 6, 4
#: Masks on the right, on the left, in the middle, and of everything.
IDS = np.array([[3, 1, 4, 1, 0, 0], [0, 0, 5, 9, 2, 6], [5, 0, 0, 3, 0, 5], [0, 0, 0, 0, 0, 0], [8, 9, 7, 9, 3, 2]])


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory):
    """Keras on torch, with its own folder for settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        import keras

        assert keras.backend.backend() == "torch"
        yield keras


def with_random_weights(model: Any) -> Any:
    """The model with weights that are all different and not small."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        values = generator.uniform(0.2, 1.0, weight.shape) if "moving_variance" in weight.path else None
        weight.assign(generator.uniform(-0.9, 0.9, weight.shape) if values is None else values)
    return model


def inputs_of(model: Any) -> np.ndarray:
    if model.inputs[0].dtype.startswith("int"):
        return IDS
    x = np.random.default_rng(1).normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
    x[0, 4:] = x[1, :2] = x[2, 2] = 0  # steps that a Masking layer masks
    return x


@torch.no_grad()
def outputs(module: nn.Module, x: np.ndarray) -> np.ndarray:
    return module(torch.from_numpy(x)).numpy()


def sequential(*layers: Callable[[Any], Any], ids: bool = False, batch_size: int | None = None):
    """A function from ``keras.layers`` to a model."""

    def build(keras: Any) -> Any:
        shape, dtype = ((None,), "int32") if ids else ((None, FEATURES), "float32")
        first = keras.layers.Input(shape, batch_size=batch_size, dtype=dtype)
        return keras.Sequential([first, *(layer(keras.layers) for layer in layers)])

    return build


def masked_functional(keras: Any) -> Any:
    L = keras.layers
    x = first = keras.Input((None,), dtype="int32")
    for layer in (L.Embedding(10, 3, mask_zero=True), L.GRU(4, return_sequences=True), L.LSTM(3), L.Dense(2)):
        x = layer(x)
    return keras.Model(first, x)


def masking_functional(keras: Any) -> Any:
    L = keras.layers
    x = first = keras.Input((None, FEATURES))
    for layer in (L.Masking(), L.Bidirectional(L.LSTM(3, return_sequences=True)), L.BatchNormalization(), L.LSTM(3)):
        x = layer(x)
    return keras.Model(first, x)


MODELS = {
    "LSTM": sequential(lambda L: L.LSTM(5)),
    "LSTM, all steps": sequential(lambda L: L.LSTM(5, return_sequences=True)),
    "LSTM without bias": sequential(lambda L: L.LSTM(5, use_bias=False)),
    "GRU": sequential(lambda L: L.GRU(5)),
    "GRU without bias, all steps": sequential(lambda L: L.GRU(5, return_sequences=True, use_bias=False)),
    "SimpleRNN": sequential(lambda L: L.SimpleRNN(5)),
    "SimpleRNN with ReLU": sequential(lambda L: L.SimpleRNN(5, activation="relu", return_sequences=True)),
    "backwards": sequential(lambda L: L.LSTM(5, go_backwards=True)),
    "backwards, all steps": sequential(lambda L: L.GRU(5, go_backwards=True, return_sequences=True)),
    "dropout inside": sequential(lambda L: L.LSTM(5, dropout=0.5, recurrent_dropout=0.3)),
    "Bidirectional LSTM": sequential(lambda L: L.Bidirectional(L.LSTM(3))),
    "Bidirectional GRU, all steps": sequential(lambda L: L.Bidirectional(L.GRU(3, return_sequences=True))),
    **{
        f"Bidirectional, {mode}": sequential(
            lambda L, mode=mode: L.Bidirectional(L.SimpleRNN(3, return_sequences=True), merge_mode=mode)
        )
        for mode in ("sum", "ave", "mul")
    },
    "stack": sequential(
        lambda L: L.LSTM(5, return_sequences=True),
        lambda L: L.Dropout(0.2),
        lambda L: L.Bidirectional(L.LSTM(4, return_sequences=True)),
        lambda L: L.GRU(3),
        lambda L: L.Dense(2, activation="softmax"),
    ),
    "steps": sequential(
        lambda L: L.LSTM(5, return_sequences=True),
        lambda L: L.TimeDistributed(L.Dense(4, activation="gelu", use_bias=False)),
        lambda L: L.TimeDistributed(L.BatchNormalization()),
        lambda L: L.BatchNormalization(center=False),
        lambda L: L.BatchNormalization(scale=False, epsilon=0.1),
        lambda L: L.TimeDistributed(L.Activation("elu")),
        lambda L: L.Dense(2),
        lambda L: L.Softmax(),
    ),
    "activations": sequential(
        lambda L: L.SimpleRNN(5),
        lambda L: L.LeakyReLU(),
        lambda L: L.Dense(5, activation="hard_sigmoid"),
        lambda L: L.ELU(0.5),
        lambda L: L.ReLU(),
        lambda L: L.Dense(5, activation="softplus"),
        lambda L: L.ReLU(max_value=6),
        lambda L: L.Activation("silu"),
    ),
    "Embedding": sequential(lambda L: L.Embedding(10, 4), lambda L: L.LSTM(3), ids=True),
    **{
        f"mask, {name}": sequential(lambda L: L.Embedding(10, 4, mask_zero=True), *layers, ids=True)
        for name, layers in {
            "LSTM": [lambda L: L.LSTM(3)],
            "LSTM, all steps": [lambda L: L.LSTM(3, return_sequences=True)],
            "GRU, zeros": [lambda L: L.GRU(3, return_sequences=True, zero_output_for_mask=True)],
            "last step, zeros": [lambda L: L.GRU(3, zero_output_for_mask=True)],
            "backwards": [lambda L: L.LSTM(3, go_backwards=True, return_sequences=True), lambda L: L.GRU(2)],
            "Bidirectional": [lambda L: L.Bidirectional(L.LSTM(3)), lambda L: L.Dense(2)],
            "Bidirectional, all steps": [
                lambda L: L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode="ave"),
                lambda L: L.Dropout(0.1),
                lambda L: L.TimeDistributed(L.Dense(4, activation="tanh")),
                lambda L: L.BatchNormalization(),
                lambda L: L.SimpleRNN(3),
            ],
        }.items()
    },
    "Masking": sequential(lambda L: L.Masking(), lambda L: L.LSTM(3, return_sequences=True), lambda L: L.GRU(3)),
    "functional": masked_functional,
    "functional, Masking": masking_functional,
}


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("case", MODELS)
def test_a_model_of_keras_gives_the_same_outputs(case: str, suffix: str, keras, tmp_path: Path):
    model = with_random_weights(MODELS[case](keras))
    model.save(tmp_path / f"model.{suffix}")
    x = inputs_of(model)
    expected = model.predict(x, verbose=0)
    module = import_keras(tmp_path / f"model.{suffix}")
    assert not module.training
    np.testing.assert_allclose(outputs(module, x), expected, rtol=0, atol=TOLERANCE)
    assert np.ptp(expected, axis=0).max() > 1e-2
    if suffix == "keras":  # and back
        again = keras.saving.load_model(export_keras(module, tmp_path / "again.keras"))
        np.testing.assert_allclose(again.predict(x, verbose=0), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_stateful_model_goes_on_from_the_last_call(bidirectional: bool, keras, tmp_path: Path):
    def layer(L: Any) -> Any:
        lstm = L.LSTM(3, stateful=True, return_sequences=True)
        return L.Bidirectional(lstm) if bidirectional else lstm

    model = with_random_weights(sequential(layer, lambda L: L.GRU(2, stateful=True), batch_size=BATCH)(keras))
    model.save(tmp_path / "model.keras")
    module = import_keras(tmp_path / "model.keras")
    x = inputs_of(model)
    first = model.predict(x, verbose=0, batch_size=BATCH)
    second = model.predict(x, verbose=0, batch_size=BATCH)
    np.testing.assert_allclose(outputs(module, x), first, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(outputs(module, x), second, rtol=0, atol=TOLERANCE)
    assert np.abs(first - second).max() > 1e-3
    with pytest.raises(ValueError, match="the state of 3 sequences, the input has 2"):
        outputs(module, x[:2])
    module.reset_states()
    np.testing.assert_allclose(outputs(module, x), first, rtol=0, atol=TOLERANCE)


@torch.no_grad()
def run_network(network: nn.Module, x: np.ndarray) -> np.ndarray:
    """The network over ``x (B, T, F)``; its layers are batch first."""
    steps = torch.from_numpy(x)
    for part in network if isinstance(network, nn.Sequential) else [network]:
        steps = part(steps)
        steps = steps[0] if isinstance(steps, tuple) else steps
    return steps.numpy()


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    b = {"batch_first": True}
    batch_norm = KerasBatchNorm(5)
    for weight in (*batch_norm.parameters(), batch_norm.running_var, batch_norm.running_mean):
        nn.init.uniform_(weight, 0.2, 1.0)
    return {
        "LSTM": LSTM(FEATURES, 5, **b),
        "stacked LSTM": LSTM(FEATURES, 5, 3, dropout=0.2, **b),
        "stacked bidirectional LSTM": LSTM(FEATURES, 5, 2, bidirectional=True, merge="mean", **b),
        "GRU": GRU(FEATURES, 5, 2, bidirectional=True, **b),
        "GRU without bias": GRU(FEATURES, 5, bias=False, **b),
        "RNN": RNN(FEATURES, 5, 2, nonlinearity="relu", **b),
        "dense": nn.Sequential(
            nn.Linear(FEATURES, 3), nn.ReLU(inplace=True), LSTM(3, 5, **b), nn.Dropout(0.3), nn.Linear(5, 2, bias=False)
        ),
        "activations": nn.Sequential(
            *(GRU(FEATURES, 5, **b), nn.GELU(), nn.Sequential(nn.Linear(5, 5), nn.SiLU()), nn.LeakyReLU(0.2)),
            *(nn.Linear(5, 4), nn.ELU(0.7), nn.Linear(4, 3), nn.Softmax(-1)),
        ),
        "last step": KerasSequential(
            KerasMasking(),
            KerasRecurrent(LSTM(FEATURES, 5, bidirectional=True, merge="sum", **b), return_sequences=True),
            batch_norm,
            KerasRecurrent(GRU(5, 4, **b), return_sequences=False, go_backwards=True),
            nn.Linear(4, 1),
            nn.Sigmoid(),
        ),
    }


NETWORKS = networks()


@pytest.mark.parametrize("case", NETWORKS)
def test_keras_loads_what_is_written(case: str, keras, tmp_path: Path):
    network = NETWORKS[case].eval()
    model = keras.saving.load_model(export_keras(network, tmp_path / "model.keras"))
    x = np.random.default_rng(1).normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
    expected = outputs(network, x) if isinstance(network, KerasSequential) else run_network(network, x)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(outputs(import_keras(tmp_path / "model.keras"), x), expected, rtol=0, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 1e-3


def test_keras_loads_an_embedding(keras, tmp_path: Path):
    torch.manual_seed(0)
    network = KerasSequential(
        KerasEmbedding(10, 4, mask_zero=True), KerasRecurrent(LSTM(4, 3, batch_first=True), return_sequences=False)
    )
    model = keras.saving.load_model(export_keras(network, tmp_path / "model.keras"))
    np.testing.assert_allclose(model.predict(IDS, verbose=0), outputs(network, IDS), rtol=0, atol=TOLERANCE)
    plain = nn.Sequential(nn.Embedding(10, 4), LSTM(4, 3, batch_first=True))
    model = keras.saving.load_model(export_keras(plain, tmp_path / "plain.keras"))
    np.testing.assert_allclose(model.predict(IDS, verbose=0), run_network(plain, IDS), rtol=0, atol=TOLERANCE)


REFUSED = {
    "Lambda": (lambda L: L.Lambda(lambda x: x), "(Lambda) cannot be read: it holds code of its own"),
    "Conv1D": (lambda L: L.Conv1D(2, 3), "(Conv1D) cannot be read; known layers: Embedding, Masking"),
    "activation": (lambda L: L.LSTM(3, activation="relu"), "has activation='relu', but lstmkit has only 'tanh'"),
    "recurrent_activation": (
        lambda L: L.LSTM(3, recurrent_activation="hard_sigmoid"),
        "has recurrent_activation='hard_sigmoid', but lstmkit has only 'sigmoid'",
    ),
    "reset_after": (lambda L: L.GRU(3, reset_after=False), "has reset_after=False, but lstmkit has only True"),
    "wrapped": (lambda L: L.TimeDistributed(L.Reshape((2, 2))), "layer (Reshape) cannot be read inside"),
    "two layers": (
        lambda L: L.Bidirectional(L.LSTM(3), backward_layer=L.LSTM(3, use_bias=False, go_backwards=True)),
        "has a backward layer with other options than its forward layer",
    ),
    "axis": (lambda L: L.BatchNormalization(axis=1), "axis=1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_differs_is_refused_by_name(case: str, keras, tmp_path: Path):
    layer, message = REFUSED[case]
    model = keras.Sequential([keras.layers.Input((STEPS, FEATURES)), layer(keras.layers)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError) as error:
        outputs(import_keras(tmp_path / "model.keras"), inputs_of(model))
    assert message in str(error.value)


def test_functional_models_that_branch_are_refused(keras, tmp_path: Path):
    L = keras.layers
    x = keras.Input((STEPS, FEATURES))
    models = {
        "reads": keras.Model(x, L.Add()([L.LSTM(3)(x), L.GRU(3)(x)])),
        "output_layers": keras.Model(x, [L.LSTM(3)(x)] * 2),
        "a mask of its own": keras.Model(x, L.LSTM(3)(x, mask=keras.ops.any(keras.ops.not_equal(x, 1), axis=-1))),
    }
    for message, model in models.items():
        model.save(tmp_path / "model.keras")
        with pytest.raises(ValueError, match=message):
            import_keras(tmp_path / "model.keras")


@pytest.mark.complete  # the exporter takes ten seconds
def test_a_read_model_can_be_written_as_onnx(keras, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = with_random_weights(MODELS["mask, Bidirectional"](keras))
    model.save(tmp_path / "model.keras")
    module = import_keras(tmp_path / "model.keras")
    example = {"x": torch.from_numpy(IDS[:2])}
    export_onnx(module, tmp_path / "model.onnx", example, dynamic={"x": ("batch", "time")}, outputs=["y"])
    (y,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"x": IDS})
    np.testing.assert_allclose(y, model.predict(IDS, verbose=0), rtol=0, atol=TOLERANCE)
