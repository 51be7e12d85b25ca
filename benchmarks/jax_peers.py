"""Optional peers, --peer jax and --peer keras: one layer, one direction, with the same weights.

Both run on JAX (Keras with its JAX back end), jitted, on all cores; --threads has no effect on them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from torch import nn

from implementation import Data, Implementation, Unavailable
from layer_cases import Case
from numerical_check import Tensors, as_tensor

NAMES = {"jax": "JAX", "keras": "Keras"}
_PACKAGES = {"JAX": "jax", "Keras": "keras jax"}
_SUPPORTED = "only for a plain LSTM, one layer, one direction, float32"


def peer(name: str, case: Case, layer: nn.Module, data: Data) -> Implementation:
    other_cell = case.kind != "lstm" or case.options or case.layers > 1 or case.bidirectional
    if other_cell or case.ragged or case.mode == "stream" or case.dtype != "float32":
        raise Unavailable(_SUPPORTED)
    try:
        import jax

        forward, params, names = {"JAX": _jax, "Keras": _keras}[name](case, layer)
    except ImportError as error:
        raise Unavailable(f"not installed: .venv/bin/pip install {_PACKAGES[name]}") from error
    return _implementation(jax, name, case, data, forward, params, names)


def _array(layer: nn.Module, name: str):
    return getattr(layer, f"{name}_l0").detach().numpy()


def _jax(case: Case, layer: nn.Module):
    """``lax.scan`` over the steps; the input projections of all steps are one matrix product before it."""
    import jax.numpy as jnp
    from jax import lax, nn

    def forward(params, x):
        w_ih, w_hh, b_ih, b_hh = params

        def step(state, gx):
            h, c = state
            i, f, g, o = jnp.split(gx + h @ w_hh.T, 4, axis=-1)
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            h = nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((case.batch, case.hidden))
        (h, c), output = lax.scan(step, (zero, zero), x @ w_ih.T + b_ih + b_hh)
        return output, h[None], c[None]

    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    return forward, [jnp.asarray(_array(layer, name)) for name in names], names


def _keras(case: Case, layer: nn.Module):
    """``keras.layers.LSTM``: gates in torch's order, transposed matrices, one bias, batch first."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import jax.numpy as jnp
    import keras

    if keras.backend.backend() != "jax":
        raise Unavailable("KERAS_BACKEND must be jax")
    module = keras.layers.LSTM(case.hidden, return_sequences=True, return_state=True)
    module.build((case.batch, case.steps, case.inputs))
    names = ["weight_ih", "weight_hh", "bias_ih"]
    w_ih, w_hh, b_ih = (_array(layer, name) for name in names)
    params = [jnp.asarray(w) for w in (w_ih.T, w_hh.T, b_ih + _array(layer, "bias_hh"))]
    others = [v.value for v in module.non_trainable_variables]

    def forward(params, x):
        (output, h, c), _ = module.stateless_call(params, others, jnp.swapaxes(x, 0, 1))
        return jnp.swapaxes(output, 0, 1), h[None], c[None]

    return forward, params, names


def _implementation(
    jax, name: str, case: Case, data: Data, forward: Callable, params: list, names: list[str]
) -> Implementation:
    import numpy as np

    x, weighting = (jax.numpy.asarray(t.detach().numpy()) for t in (data.x, data.weighting))
    infer = jax.jit(forward)

    def loss(params, x):
        output, h, c = forward(params, x)
        return (output * weighting).sum(), (output, h, c)

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    train = case.mode == "train"

    def work():
        return jax.block_until_ready(step(params, x) if train else infer(params, x))

    def tensors() -> Tensors:
        (_, outputs), (by_weight, by_x) = work() if train else ((None, work()), ((), None))
        results = dict(zip(("output", "h", "c"), outputs, strict=True))
        for key, gradient in zip(names, by_weight, strict=False):
            is_matrix_of_keras = name == "Keras" and key.startswith("weight")
            results[f"grad {key}_l0"] = gradient.T if is_matrix_of_keras else gradient
        if train:
            results["grad x"] = by_x
        return {key: as_tensor(np.array(value)) for key, value in results.items()}

    return Implementation(name, work, tensors)
