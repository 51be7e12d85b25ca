"""Test cases for every cell, option, back end and layer in the registries of the package.

A new cell in ``CELLS``, field of ``CellSpec``, back end in ``BACKENDS`` or keyword of a layer is tested automatically.
The tensors are float64 and come from a seed.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.cells import CELLS, CellSpec
from lstmkit.layers.recurrent import MERGES, RecurrentLayer
from lstmkit.ops import dispatch
from lstmkit.ops.call import Call, Pass, PassResult, Result, Zoneout

# The tensors are tiny: a second thread only waits for the first one, ten times as long if the cores are busy.
torch.set_num_threads(1)

#: Names of the back ends; a layer also takes ``"auto"``.
BACKENDS = tuple(dispatch.BACKENDS)

#: Directions of a call; ``True`` is reversed.
DIRECTIONS = {"forward": (False,), "reversed": (True,), "both": (False, True)}

#: ``(T, B, lengths)`` that every back end must handle, with every cell.
SHAPES: dict[str, tuple[int, int, list[int] | None]] = {
    "full": (4, 3, None),
    "ragged": (5, 4, [3, 0, 4, 1]),
    "one step": (1, 3, None),
    "one sequence": (3, 1, [3]),
    "all empty": (2, 2, [0, 0]),
}


#: Tolerances for sums of a few dozen float64 products in another order: only the last digits may differ.
LAST_DIGITS = {"rtol": 1e-10, "atol": 1e-12}


# ---- cells -----------------------------------------------------------------------------------------------------------


def cell_specs(input_size: int = 3, hidden_size: int = 5) -> list[CellSpec]:
    """Every cell with every combination of its options; those with weights in 8 bits are in ``test_int8.py``."""
    fields = [f for f in dataclasses.fields(CellSpec) if f.default is not dataclasses.MISSING and f.name != "int8"]
    cell_options = frozenset().union(*(cell.options for cell in CELLS.values()))
    specs = []
    for kind, cell in CELLS.items():
        applicable = [f for f in fields if f.name in cell.options or f.name not in cell_options]
        for values in itertools.product(*((f.default, _switched(f.default)) for f in applicable)):
            options = dict(zip((f.name for f in applicable), values, strict=True))
            specs.append(CellSpec(kind, input_size, hidden_size, **options))
    return specs


def spec_id(spec: CellSpec) -> str:
    """Test id such as ``lstm-peephole``: the kind and the options that differ from their defaults."""
    fields = [f for f in dataclasses.fields(CellSpec) if f.default is not dataclasses.MISSING]
    changed = [
        f.name if getattr(spec, f.name) else f"no_{f.name}" for f in fields if getattr(spec, f.name) != f.default
    ]
    return "-".join([spec.kind, *changed])


def _switched(default: Any) -> Any:
    """A value other than the default: the opposite flag, a size of 2, a probability of 0.3."""
    return {bool: lambda: not default, int: lambda: 2, float: lambda: 0.3}[type(default)]()


# ---- calls of the recurrence -----------------------------------------------------------------------------------------


def numbers(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal random numbers that require a gradient."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def make_call(
    spec: CellSpec,
    n_steps: int = 5,
    batch: int = 3,
    lengths: Sequence[int] | None = None,
    directions: Sequence[bool] = (False,),
    trace: bool = False,
) -> Call:
    """A call whose input, weights and initial states are random leaves."""
    seeds = itertools.count()
    passes = tuple(
        Pass(
            {name: numbers(*shape, seed=next(seeds)) for name, shape in spec.parameter_shapes().items()},
            tuple(numbers(batch, size, seed=next(seeds)) for size in spec.state_sizes),
            reverse,
        )
        for reverse in directions
    )
    x = numbers(n_steps, batch, spec.input_size, seed=next(seeds))
    return Call(spec, x, passes, None if lengths is None else torch.tensor(lengths), trace)


def cast(call: Call, dtype: torch.dtype, device: str = "cpu") -> Call:
    """The call with its tensors cast, as new leaves."""

    def leaf(t: Tensor) -> Tensor:
        return t.detach().to(device, dtype).requires_grad_()

    passes = tuple(
        p._replace(params={name: leaf(w) for name, w in p.params.items()}, state=tuple(map(leaf, p.state)))
        for p in call.passes
    )
    return call._replace(x=leaf(call.x), passes=passes)


def map_passes(call: Call, change: Callable[[Pass], Pass]) -> Call:
    """The call with ``change`` applied to each pass."""
    return call._replace(passes=tuple(change(p) for p in call.passes))


def noisy(call: Call) -> Call:
    """The call with a random recurrent mask and random zoneout masks."""
    random = torch.Generator().manual_seed(7)

    def mask(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random, dtype=call.x.dtype).round().to(call.x.device)

    def noise(p: Pass) -> Pass:
        zoneout = tuple(mask(call.x.shape[0], *s.shape) for s in p.state)
        return p._replace(recurrent_mask=2 * mask(*p.state[0].shape), zoneout=zoneout)

    return map_passes(call, noise)


def leaves(call: Call) -> dict[str, Tensor]:
    """Tensors of a call that require a gradient, by name."""
    named = {"x": call.x}
    for i, p in enumerate(call.passes):
        named |= {f"{i}.{name}": weight for name, weight in p.params.items()}
        states = zip(call.spec.cell.states, p.state, strict=bool(p.state))  # there may be none
        named |= {f"{i}.initial {name}": s for name, s in states}
    return named


def values(call: Call, result: Result) -> dict[str, Tensor]:
    """Outputs, final states and traces, by name."""
    named: dict[str, Tensor] = {}
    for i, pass_result in enumerate(result.passes()):
        named[f"{i}.output"] = pass_result.output
        named |= {f"{i}.final {name}": s for name, s in zip(call.spec.cell.states, pass_result.state, strict=True)}
        named |= {f"{i}.trace {name}": gate for name, gate in (pass_result.trace or {}).items()}
    return named


def with_gradients(call: Call, result: Result) -> dict[str, Tensor]:
    """:func:`values`, and the gradient of an uneven sum of them with respect to each of :func:`leaves`."""
    out, inputs = values(call, result), leaves(call)
    gradients = torch.autograd.grad(uneven_sum(out.values()), list(inputs.values()), materialize_grads=True)
    out |= {f"gradient of {name}": g for name, g in zip(inputs, gradients, strict=True)}
    return {name: value.detach() for name, value in out.items()}


def uneven_sum(tensors: Any) -> Tensor:
    """A scalar to differentiate: a weighted sum in which every element has another weight."""
    return torch.stack(
        [(t * torch.cos(torch.arange(t.numel()) + 1.0).reshape(t.shape).to(t)).sum() for t in tensors]
    ).sum()


def run_unbatched(call: Call) -> Result:
    """Compute a call with the reference back end, without lengths and without a reversed direction.

    Each sequence is cut to its length and runs alone, forward. For a reversed pass the cut sequence is flipped before
    the run and the results are flipped back.
    """
    n_steps, batch = call.x.shape[:2]
    lengths = [n_steps] * batch if call.lengths is None else call.lengths.tolist()
    results = []
    for p in call.passes:
        rows = [_one_row(call, p, b, n) for b, n in enumerate(lengths)]
        state = tuple(torch.cat(parts) for parts in zip(*(row.state for row in rows), strict=True))
        traces = [row.trace or {} for row in rows]
        trace = {name: torch.cat([t[name] for t in traces], dim=1) for name in traces[0]}
        results.append(PassResult(torch.cat([row.output for row in rows], dim=1), state, trace if call.trace else None))
    return Result.of(results)


def _one_row(call: Call, p: Pass, b: int, length: int) -> PassResult:
    def cut(steps: Tensor) -> Tensor:
        steps = steps[:length, b : b + 1]
        return steps.flip(0) if p.reverse else steps

    def pad(steps: Tensor) -> Tensor:
        steps = steps.flip(0) if p.reverse else steps
        return torch.cat([steps, steps.new_zeros(call.x.shape[0] - length, *steps.shape[1:])])

    mask = None if p.recurrent_mask is None else p.recurrent_mask[b : b + 1]
    zoneout: Zoneout | None = None
    if p.zoneout is not None:
        zoneout = tuple(cut(z) if isinstance(z, Tensor) else z for z in p.zoneout)
    single_pass = Pass(p.params, tuple(s[b : b + 1] for s in p.state), False, mask, zoneout)
    (result,) = dispatch.run(Call(call.spec, cut(call.x), (single_pass,), None, call.trace), "reference").passes()
    trace = {name: pad(gate) for name, gate in result.trace.items()} if result.trace is not None else None
    return PassResult(pad(result.output), result.state, trace)


def available_backends() -> tuple[str, ...]:
    """Back ends that run a plain LSTM on this machine; those that need other hardware are left out."""
    call = make_call(CellSpec("lstm", 3, 5), lengths=[3, 0, 5], directions=(False, True))
    return tuple(name for name, backend in dispatch.BACKENDS.items() if backend.unsupported_reason(call) is None)


# ---- layers ----------------------------------------------------------------------------------------------------------

LAYERS: dict[str, type[RecurrentLayer]] = {cls.__name__: cls for cls in RecurrentLayer.__subclasses__()}

#: Values of options for which :func:`_switched` does not apply, and other options that an option needs.
_VALUES = {"merge": list(MERGES), "forget_bias": [1.0], "nonlinearity": ["relu"]}
_REQUIRED_OPTIONS = {"merge": {"bidirectional": True}, "dropout": {"num_layers": 2}, "residual": {"num_layers": 2}}
_FIXED = {"input_size", "hidden_size", "backend", "device", "dtype"}


def layer_options(cls: type[RecurrentLayer]) -> Iterator[dict[str, Any]]:
    """No option, each option alone, and all options together."""
    yield {}
    all_options: dict[str, Any] = {}
    for p in inspect.signature(cls).parameters.values():
        if p.name in _FIXED:
            continue
        for value in _VALUES.get(p.name) or [_switched(p.default)]:
            yield _REQUIRED_OPTIONS.get(p.name, {}) | {p.name: value}
            all_options[p.name] = value
    yield all_options | {"bias": True}


def layer_cases() -> list[tuple[str, dict[str, Any]]]:
    """``(name of a layer, options)`` for every layer and option."""
    return [(name, options) for name, cls in LAYERS.items() for options in layer_options(cls)]


def case_id(case: Any) -> str:
    """Test id such as ``LSTM-peephole=True``."""
    name, options = case
    return "-".join([name, *(f"{k}={v}" for k, v in options.items())] if len(options) < 3 else [name, "everything"])


def make_layer(name: str, options: dict[str, Any], seed: int = 0, **overrides: Any) -> RecurrentLayer:
    """A float64 layer of 3 features and 5 units, with weights from a seed."""
    torch.manual_seed(seed)
    return LAYERS[name](3, 5, **({"dtype": torch.float64} | options | overrides))  # type: ignore[call-arg]


def training_step(layer: nn.Module, step: Any, x: Tensor, lengths: Tensor | None) -> dict[str, Tensor]:
    """Outputs and gradients of a training step through ``step``, which is ``layer`` or a function that calls it."""
    x = x.clone().requires_grad_()
    output, final = step(x, None, lengths)
    total = uneven_sum([output, *(final if isinstance(final, tuple) else (final,))])
    gradients = torch.autograd.grad(total, [x, *layer.parameters()])
    return {"output": output.detach(), **{str(i): g for i, g in enumerate(gradients)}}
