"""A trained network as one C header, for microcontrollers and audio plug-ins.

The header has the weights, a struct with the state, and two functions. Every array has a fixed size; nothing is
allocated. Each cell has one method of :class:`_Step` that writes its equations, with the symbols of
:mod:`lstmkit.cells`: ``gx`` is the input projection of the gates, ``gh`` the recurrent one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np
from torch import nn

from lstmkit.errors import UserError
from lstmkit.export.stack import Activation, Dense, Part, Recurrent, parts_of
from lstmkit.training.checkpoint import write_bytes
from lstmkit.version import __version__

_NUMBERS_PER_LINE = 8
_PRODUCTS = ("weight_ih", "weight_hh", "weight_hr")  # weights of matrix products, stored column by column


def export_c(module: nn.Module, path: str | Path, name: str = "network") -> Path:
    """Write a network as a self-contained C99 header that computes one step per call.

    The header defines ``NAME_state``, ``NAME_reset(NAME_state *)`` and
    ``NAME_step(NAME_state *, const float input[F], float output[P])``. It needs ``expf``, ``tanhf`` and ``sqrtf`` of
    ``math.h`` and no other function; it compiles as C++ too. ``input`` and ``output`` may be the same array. All
    options of the layers count as in ``eval`` mode: dropout does nothing, zoneout mixes old and new states.

    Args:
        module: An LSTM, GRU or RNN of lstmkit with one direction, or an ``nn.Sequential`` of such layers,
            ``nn.Linear``, ``nn.Tanh``, ``nn.ReLU``, ``nn.Sigmoid``, ``nn.Identity`` and ``nn.Dropout``.
        path: The file, for example ``network.h``. An existing file is replaced.
        name: Prefix of every name in the header, a C identifier. Two networks in one program need two names.

    Returns:
        ``path``. Weights are float32; those of another dtype are rounded to it.

    Raises:
        UserError: ``name`` is not a C identifier, or the module cannot be exported.
        OSError: The file cannot be written.

    >>> from lstmkit import LSTM
    >>> path = export_c(nn.Sequential(LSTM(1, 8), nn.Linear(8, 1)), "amp.h", name="amp")
    >>> [line for line in path.read_text().splitlines() if line.startswith("static inline void amp_step")]
    ['static inline void amp_step(amp_state *state, const float input[1], float output[1]) {']
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise UserError(f"name {name!r} is not a C identifier: use letters, digits and _, and start with a letter")
    text = _header(name, parts_of(module))
    write_bytes(Path(path), text.encode())
    return Path(path)


# ---- the step --------------------------------------------------------------------------------------------------------


class _Step:
    """The step function of a network while it is written.

    Attributes:
        name: Prefix of every name.
        arrays: Weights by name.
        states: Fields of the state struct, and their sizes.
        locals: Arrays on the stack, and their sizes; the layers share them.
        body: Lines of the function.
    """

    def __init__(self, name: str, parts: Sequence[Part]) -> None:
        self.name = name
        self.arrays: dict[str, np.ndarray] = {}
        self.states: dict[str, int] = {}
        self.locals: dict[str, int] = {}
        self.body: list[str] = []
        x = "input"
        for k, part in enumerate(parts):
            self.comment("", f"Part {k}: {_title(part)}")
            if isinstance(part, Recurrent):
                x = self.recurrent(k, part, x)
            elif isinstance(part, Dense):
                x = self.dense(k, part, x)
            else:
                x = self.activation(k, part, x)
        self.comment("")
        self.loop(parts[-1].output_size, f"output[i] = {x}[i];")

    def comment(self, *lines: str) -> None:
        self.body += [f"    /* {line} */" if line else "" for line in lines]

    def call(self, helper: str, *arguments: object) -> None:
        self.body.append(f"    {self.name}_{helper}({', '.join(map(str, arguments))});")

    def loop(self, size: int, *statements: str) -> None:
        self.body += [f"    for (int i = 0; i < {size}; i++) {{", *(f"        {s}" for s in statements), "    }"]

    def local(self, name: str, size: int) -> str:
        self.locals[name] = max(size, self.locals.get(name, 0))
        return name

    def array(self, name: str, values: np.ndarray) -> str:
        self.arrays[f"{self.name}_{name}"] = values
        return f"{self.name}_{name}"

    def sigmoid(self, value: str) -> str:
        return f"{self.name}_sigmoid({value})"

    def dense(self, k: int, part: Dense, x: str) -> str:
        y = self.local(f"y{k}", part.output_size)
        self.comment("y = W x + b")
        self.product(y, self.array(f"weight_{k}", part.weight.T), x, part.output_size, part.input_size)
        if part.bias is not None:
            self.call("add", y, self.array(f"bias_{k}", part.bias), part.output_size)
        return y

    def activation(self, k: int, part: Activation, x: str) -> str:
        y = self.local(f"y{k}", part.output_size)
        functions = {"tanh": f"tanhf({x}[i])", "relu": _relu(f"{x}[i]"), "sigmoid": self.sigmoid(f"{x}[i]")}
        self.loop(part.output_size, f"{y}[i] = {functions[part.function]};")
        return y

    def recurrent(self, k: int, layer: Recurrent, x: str) -> str:
        """A recurrent layer: the projections of the gates, the cell, then the new states in place of the old ones."""
        spec = layer.spec
        symbols = [state[0] for state in spec.cell.states]  # h and c
        self.states |= {f"{s}{k}": size for s, size in zip(symbols, spec.state_sizes, strict=True)}
        old = {s: f"state->{s}{k}" for s in symbols}
        new = {s: self.local(f"new_{s}", size) for s, size in zip(symbols, spec.state_sizes, strict=True)}
        weights = {
            key: self.array(f"{key}_{k}", values.T if key in _PRODUCTS else values)
            for key, values in layer.weights.items()
        }
        self.comment("gx = W_ih x + b_ih, gh = W_hh h + b_hh" + (", both normalized" if spec.layer_norm else ""))
        self.projection("ih", layer, weights, x)
        self.projection("hh", layer, weights, old["h"])
        if spec.kind == "lstm":
            self.lstm(layer, weights, old["c"], new["h"], new["c"])
        elif spec.kind == "gru":
            self.gru(layer, old["h"], new["h"])
        else:
            self.rnn(layer, new["h"])
        if layer.zoneout:
            self.comment("zoneout: a mixture of old and new states")
        for s, size in zip(symbols, spec.state_sizes, strict=True):
            keep = f" + {_number(np.float32(layer.zoneout))} * ({old[s]}[i] - {new[s]}[i])" if layer.zoneout else ""
            self.loop(size, f"{old[s]}[i] = {new[s]}[i]{keep};")
        if not layer.residual:
            return old["h"]
        y = self.local(f"y{k}", layer.output_size)
        self.comment("residual")
        self.loop(layer.output_size, f"{y}[i] = {old['h']}[i] + {x}[i];")
        return y

    def projection(self, which: str, layer: Recurrent, weights: dict[str, str], x: str) -> None:
        """``gx`` or ``gh``: the gates' projection of the array ``x``, of all gates together."""
        rows, columns = layer.weights[f"weight_{which}"].shape
        target = self.local({"ih": "gx", "hh": "gh"}[which], rows)
        self.product(target, weights[f"weight_{which}"], x, rows, columns)
        if layer.spec.layer_norm:
            self.call("normalize", target, weights[f"weight_ln_{which}"], rows)
        if layer.spec.bias:
            self.call("add", target, weights[f"bias_{which}"], rows)

    def product(self, target: str, weight: str, x: str, rows: int, columns: int) -> None:
        self.call("clear", target, rows)
        self.call("add_product", target, weight, x, rows, columns)

    def lstm(self, layer: Recurrent, weights: dict[str, str], c: str, new_h: str, new_c: str) -> None:
        spec, n = layer.spec, layer.spec.hidden_size
        self.comment(
            "f, i, o = sigmoid(gx + gh), g = tanh(gx + gh); c = f * c + i * g; h = o * tanh(c)",
            *(["peepholes: f and i also read the old c, o the new one"] if spec.peephole else []),
            *(["coupled gates: i = 1 - f"] if spec.coupled else []),
        )
        peepholes = [gate for gate in spec.gates if gate != "candidate"]

        def gate(name: str, cell: str) -> str:
            peep = ""
            if spec.peephole:
                peep = f" + {weights['weight_peep']}[{_row(peepholes.index(name) * n)}] * {cell}"
            return self.sigmoid(_sum_of_projections(layer, name) + peep)

        o = self.local("o", n)
        self.loop(
            n,
            f"const float f = {gate('forget', f'{c}[i]')};",
            f"const float in = {'1.0f - f' if spec.coupled else gate('input', f'{c}[i]')};",
            f"const float g = tanhf({_sum_of_projections(layer, 'candidate')});",
            f"{new_c}[i] = f * {c}[i] + in * g;",
            f"{o}[i] = {gate('output', f'{new_c}[i]')};",
        )
        squashed = new_c
        if spec.layer_norm:
            squashed = self.local("normal_c", n)
            self.comment("h = o * tanh(normalized c)")
            self.loop(n, f"{squashed}[i] = {new_c}[i];")
            self.call("normalize", squashed, weights["weight_ln_c"], n)
            self.call("add", squashed, weights["bias_ln_c"], n)
        unprojected = self.local("unprojected_h", n) if spec.proj_size else new_h
        self.loop(n, f"{unprojected}[i] = {o}[i] * tanhf({squashed}[i]);")
        if spec.proj_size:
            self.comment("h = W_hr h")
            self.product(new_h, weights["weight_hr"], unprojected, spec.proj_size, n)

    def gru(self, layer: Recurrent, h: str, new_h: str) -> None:
        n = layer.spec.hidden_size
        candidate = layer.spec.gates.index("candidate") * n
        self.comment("r, z = sigmoid(gx + gh), n = tanh(gx + r * gh); h = (1 - z) * n + z * h")
        self.loop(
            n,
            f"const float r = {self.sigmoid(_sum_of_projections(layer, 'reset'))};",
            f"const float z = {self.sigmoid(_sum_of_projections(layer, 'update'))};",
            f"const float n = tanhf(gx[{candidate} + i] + r * gh[{candidate} + i]);",
            f"{new_h}[i] = n + z * ({h}[i] - n);",
        )

    def rnn(self, layer: Recurrent, new_h: str) -> None:
        function = layer.spec.kind.removeprefix("rnn_")
        self.comment(f"h = {function}(gx + gh)")
        a = f"const float a = {_sum_of_projections(layer, 'hidden')};"
        self.loop(layer.spec.hidden_size, a, f"{new_h}[i] = {_relu('a') if function == 'relu' else 'tanhf(a)'};")


def _sum_of_projections(layer: Recurrent, gate: str) -> str:
    """The sum of both projections of a gate, for unit ``i``."""
    row = _row(layer.spec.gates.index(gate) * layer.spec.hidden_size)
    return f"gx[{row}] + gh[{row}]"


def _row(start: int) -> str:
    """The index of unit ``i`` in a block that starts at ``start``."""
    return f"{start} + i" if start else "i"


def _relu(value: str) -> str:
    return f"{value} < 0.0f ? 0.0f : {value}"


# ---- the file --------------------------------------------------------------------------------------------------------

_HEADER = Template("""\
/* $name: one step of a trained network, written by lstmkit $version.
 *
$parts
 *
 * input: $inputs float, output: $outputs float. Weights $weights bytes, state $state bytes, stack about $stack bytes.
 *
 *     #include "$name.h"
 *     static ${name}_state state;             one for each stream or channel
 *     ${name}_reset(&state);                  before the first step
 *     float x[$inputs], y[$outputs];
 *     ${name}_step(&state, x, y);             once per step
 *
 * C99 or C++, with expf, tanhf and sqrtf of math.h. No allocation, no recursion, no global variables that change.
 */
#ifndef LSTMKIT_${name}_H
#define LSTMKIT_${name}_H

#include <math.h>

enum { ${name}_input_size = $inputs, ${name}_output_size = $outputs };

typedef struct {
$fields
} ${name}_state;

/* Weights. The matrices of products are stored column by column: the inner loop then has independent sums. */
$arrays

$helpers
/* Set the state to zeros. */
static inline void ${name}_reset(${name}_state *state) {
$resets
}

/* Compute the output of one step and update the state. */
static inline void ${name}_step(${name}_state *state, const float input[$inputs], float output[$outputs]) {
$locals
$body
}

#endif
""")

_HELPERS = {
    "sigmoid": """\
static inline float ${name}_sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}
""",
    "clear": """\
static inline void ${name}_clear(float *y, int n) {
    for (int i = 0; i < n; i++) {
        y[i] = 0.0f;
    }
}
""",
    "add": """\
static inline void ${name}_add(float *y, const float *x, int n) {
    for (int i = 0; i < n; i++) {
        y[i] += x[i];
    }
}
""",
    "add_product": """\
/* y = y + W x */
static inline void ${name}_add_product(float *y, const float *weight, const float *x, int rows, int columns) {
    for (int j = 0; j < columns; j++) {
        for (int i = 0; i < rows; i++) {
            y[i] += weight[j * rows + i] * x[j];
        }
    }
}
""",
    "normalize": """\
/* Layer normalization without bias: y = gain * (y - mean) / sqrt(variance + 1e-5) */
static inline void ${name}_normalize(float *y, const float *gain, int n) {
    float mean = 0.0f, variance = 0.0f;
    for (int i = 0; i < n; i++) {
        mean += y[i] / (float)n;
    }
    for (int i = 0; i < n; i++) {
        variance += (y[i] - mean) * (y[i] - mean) / (float)n;
    }
    for (int i = 0; i < n; i++) {
        y[i] = gain[i] * (y[i] - mean) / sqrtf(variance + 1e-5f);
    }
}
""",
}


def _header(name: str, parts: Sequence[Part]) -> str:
    """The text of the header."""
    step = _Step(name, parts)
    body = "\n".join(step.body)
    helpers = [text for helper, text in _HELPERS.items() if f"{name}_{helper}(" in body]
    values: dict[str, object] = {
        "name": name,
        "version": __version__,
        "parts": "\n".join(f" *   {k}  {_title(part)}" for k, part in enumerate(parts)),
        "inputs": next(part.input_size for part in parts if not isinstance(part, Activation)),
        "outputs": parts[-1].output_size,
        "weights": 4 * sum(values.size for values in step.arrays.values()),
        "state": 4 * sum(step.states.values()),
        "stack": 4 * sum(step.locals.values()),
        "fields": "\n".join(f"    float {state}[{size}];" for state, size in step.states.items()),
        "arrays": "\n".join(_array(array, values) for array, values in step.arrays.items()),
        "helpers": "\n".join(Template(text).substitute(name=name) for text in helpers),
        "resets": "\n".join(f"    {name}_clear(state->{state}, {size});" for state, size in step.states.items()),
        "locals": "\n".join(f"    float {local}[{size}];" for local, size in step.locals.items()),
        "body": body,
    }
    return _HEADER.substitute(values)


def _title(part: Part) -> str:
    """What a part is, without any text of the user, which could end the comment."""
    if isinstance(part, Activation):
        return f"{part.function}, {part.output_size}"
    sizes = f"{part.input_size} -> {part.output_size}"
    if isinstance(part, Dense):
        return f"linear, {sizes}"
    spec = part.spec
    options = [option for option in ("peephole", "coupled", "layer_norm", "proj_size") if getattr(spec, option)]
    options += [option for option in ("zoneout", "residual") if getattr(part, option)]
    names = {"proj_size": f"projection from {spec.hidden_size}", "layer_norm": "layer normalization"}
    return ", ".join([spec.kind, sizes, *(names.get(option, option) for option in options)])


def _array(name: str, values: np.ndarray) -> str:
    """The definition of an array of weights."""
    numbers = [_number(value) for value in values.ravel()]
    lines = [", ".join(numbers[i : i + _NUMBERS_PER_LINE]) for i in range(0, len(numbers), _NUMBERS_PER_LINE)]
    shape = " x ".join(map(str, values.shape))
    return f"static const float {name}[{len(numbers)}] = {{ /* {shape} */\n    " + ",\n    ".join(lines) + "};"


def _number(value: np.float32) -> str:
    """The shortest decimal number that reads back as the same float32."""
    return f"{value!s}f"
