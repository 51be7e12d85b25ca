"""The peer ONNX Runtime, on a hand-built ONNX model of LSTM nodes with the weights of the layer."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from implementation import Data, Implementation, Unavailable
from layer_cases import ORT, Case
from numerical_check import Tensors, as_tensor

_NOT_INSTALLED = "not installed: pip install 'lstmkit[export]'"


def onnx_runtime(case: Case, layer: nn.Module, data: Data) -> Implementation:
    """The faster of two calling conventions: ``run`` on arrays, or inputs and outputs bound in advance."""
    if case.kind != "lstm" or case.options or case.ragged or case.mode == "train":
        raise Unavailable("only for inference with a plain LSTM")
    session = _session(case, layer)
    conventions = [make(case, session, data) for make in (_by_run, _by_binding)]
    return min(conventions, key=lambda implementation: _seconds(implementation.work))


def _seconds(work: Callable[[], object]) -> float:
    """The shortest of the calls within a tenth of a second."""
    work()
    best, end = float("inf"), time.perf_counter() + 0.1
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


# ---- the model ---------------------------------------------------------------------------------------------------


def _session(case: Case, layer: nn.Module):
    try:
        import onnxruntime
    except ImportError as error:
        raise Unavailable(_NOT_INSTALLED) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads spin during a run but not after it, when they would take the cores from the next implementation.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(_model(case, layer), options, providers=["CPUExecutionProvider"])


def _model(case: Case, layer: nn.Module) -> bytes:
    """Inputs ``x (T, B, I)``, ``h0`` and ``c0 (L·D, B, H)``; outputs ``output (T, B, D·H)``, ``h`` and ``c``."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise Unavailable(_NOT_INSTALLED) from error

    # One layer or direction has no nodes to join or split states: in streaming each would cost measurable time.
    directions, rows = case.directions, case.layers * case.directions
    states = {s: [s] if case.layers == 1 else [f"{s}_{k}" for k in range(case.layers)] for s in ("h0", "c0", "h", "c")}
    constants = {"directions": torch.tensor([1]), "join": torch.tensor([0, 0, directions * case.hidden])}
    constants["split"] = torch.tensor([directions] * case.layers)
    nodes = []
    if case.layers > 1:
        nodes += [helper.make_node("Split", [s, "split"], states[s], axis=0) for s in ("h0", "c0")]
    inputs = "x"
    for k in range(case.layers):
        constants |= _weights(layer, k, directions, case.hidden)
        nodes.append(
            helper.make_node(
                "LSTM",
                [inputs, f"W{k}", f"R{k}", f"B{k}", "", states["h0"][k], states["c0"][k]],  # "": all lengths are T
                [f"Y{k}", states["h"][k], states["c"][k]],  # Y is (T, D, B, H)
                hidden_size=case.hidden,
                direction="bidirectional" if directions == 2 else "forward",
            )
        )
        inputs = "output" if k == case.layers - 1 else f"output{k}"
        if directions == 1:
            nodes.append(helper.make_node("Squeeze", [f"Y{k}", "directions"], [inputs]))
        else:
            nodes.append(helper.make_node("Transpose", [f"Y{k}"], [f"Yt{k}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"Yt{k}", "join"], [inputs]))
    if case.layers > 1:
        nodes += [helper.make_node("Concat", states[s], [s], axis=0) for s in "hc"]
    used_names = {name for node in nodes for name in node.input}

    def tensor_info(name: str, *shape: int):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    steps = 1 if case.mode == "stream" else case.steps
    state = (rows, case.batch, case.hidden)
    graph = helper.make_graph(
        nodes,
        "lstm",
        [tensor_info("x", steps, case.batch, case.inputs), tensor_info("h0", *state), tensor_info("c0", *state)],
        [
            tensor_info("output", steps, case.batch, directions * case.hidden),
            tensor_info("h", *state),
            tensor_info("c", *state),
        ],
        [numpy_helper.from_array(value.numpy(), name) for name, value in constants.items() if name in used_names],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def _weights(layer: nn.Module, k: int, directions: int, hidden: int) -> dict[str, Tensor]:
    """``W (D, 4H, I)``, ``R (D, 4H, H)`` and ``B (D, 8H)`` (input biases, then state biases); gates in order iofc."""

    def reordered(name: str, d: int) -> Tensor:
        i, f, c, o = getattr(layer, f"{name}_l{k}{'_reverse' if d else ''}").detach().split(hidden)
        return torch.cat([i, o, f, c])

    def stacked(*names: str) -> Tensor:
        return torch.stack([torch.cat([reordered(name, d) for name in names]) for d in range(directions)])

    return {f"W{k}": stacked("weight_ih"), f"R{k}": stacked("weight_hh"), f"B{k}": stacked("bias_ih", "bias_hh")}


# ---- two calling conventions -------------------------------------------------------------------------------------


def _zero_state(case: Case):
    return torch.zeros(case.layers * case.directions, case.batch, case.hidden).numpy()


def _by_run(case: Case, session, data: Data) -> Implementation:
    x, zero = data.x.numpy(), _zero_state(case)
    if case.mode == "stream":
        state = [zero, zero]

        def step(now=x[:1]):
            output, *state[:] = session.run(None, {"x": now, "h0": state[0], "c0": state[1]})
            return output

        def streamed() -> Tensors:
            state[:] = [zero, zero]
            return {"output": torch.cat([as_tensor(step(x[t : t + 1])) for t in range(len(x))])}

        return Implementation(ORT, step, streamed, {"called": "run"})

    def infer():
        return session.run(None, {"x": x, "h0": zero, "c0": zero})

    def tensors() -> Tensors:
        return {name: as_tensor(value) for name, value in zip(("output", "h", "c"), infer(), strict=True)}

    return Implementation(ORT, infer, tensors, {"called": "run"})


def _by_binding(case: Case, session, data: Data) -> Implementation:
    from onnxruntime import OrtValue

    value = OrtValue.ortvalue_from_numpy
    x, zero = data.x.numpy(), _zero_state(case)
    x_in = value(x[:1].copy() if case.mode == "stream" else x)
    out = value(torch.zeros(session.get_outputs()[0].shape).numpy())
    states = [{name: value(zero.copy()) for name in "hc"} for _ in range(2)]

    def bound(before: dict, after: dict):
        binding = session.io_binding()
        for name, value_in in (("x", x_in), ("h0", before["h"]), ("c0", before["c"])):
            binding.bind_ortvalue_input(name, value_in)
        for name, value_out in (("output", out), ("h", after["h"]), ("c", after["c"])):
            binding.bind_ortvalue_output(name, value_out)
        return binding

    if case.mode == "stream":
        # Two alternating pairs of states: each step reads what the last one wrote. The input is not copied.
        bindings = [bound(states[0], states[1]), bound(states[1], states[0])]

        def step() -> None:
            session.run_with_iobinding(bindings[0])
            bindings.reverse()

        def streamed() -> Tensors:
            outputs = []
            for name in "hc":
                states[0][name].update_inplace(zero)
                states[1][name].update_inplace(zero)
            for t in range(len(x)):
                x_in.update_inplace(x[t : t + 1].copy())
                step()
                outputs.append(as_tensor(out.numpy()))
            return {"output": torch.cat(outputs)}

        return Implementation(ORT, step, streamed, {"called": "io_binding"})

    binding = bound(states[0], states[1])

    def infer() -> None:
        session.run_with_iobinding(binding)

    def tensors() -> Tensors:
        infer()
        outputs = {"output": out, "h": states[1]["h"], "c": states[1]["c"]}
        return {name: as_tensor(v.numpy()) for name, v in outputs.items()}

    return Implementation(ORT, infer, tensors, {"called": "io_binding"})
