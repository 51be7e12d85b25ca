"""The back end ``"torch"``: the fused layers of torch (oneDNN, MKL, cuDNN) for the cells that they have."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstmkit.cells import State
from lstmkit.ops.call import Call, Result
from lstmkit.ops.recording import is_jit_traced, is_recorded

NAME: str = "torch"

_LAYERS = {"lstm": torch.lstm, "gru": torch.gru, "rnn_tanh": torch.rnn_tanh, "rnn_relu": torch.rnn_relu}
_TORCH_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def unsupported_reason(call: Call) -> str | None:
    spec = call.spec
    for option in ("peephole", "coupled", "layer_norm", "int8"):
        if getattr(spec, option):
            return f"torch has no {option} option"
    if spec.kind not in _LAYERS:
        return f"torch has no {spec.kind} layer"
    if call.trace:
        return "torch does not return gates"
    if any(p.zoneout is not None for p in call.passes):
        return "torch has no zoneout"
    if any(p.recurrent_mask is not None for p in call.passes):
        return "torch has no recurrent dropout"
    if [p.reverse for p in call.passes] not in ([False], [False, True]):
        return "torch has no layer with only the reversed direction"
    if 0 in call.x.shape[:2]:
        return "torch does not take an empty batch or sequence"
    if torch.compiler.is_compiling():
        return "torch.compile cannot trace torch's recurrent layers"
    if torch._C._are_functorch_transforms_active():
        return "torch's recurrent layers do not support torch.func (vmap, jvp, ...)"
    if torch.autograd.forward_ad._current_level >= 0:
        return "torch's recurrent layers have no forward-mode derivatives"
    return None


def run(call: Call) -> Result:
    x, layer = call.x, _LAYERS[call.spec.kind]
    weights = [p.params[name] for p in call.passes for name in _TORCH_WEIGHTS if name in p.params]
    state = tuple(torch.stack(parts) for parts in zip(*(call.state_of(p) for p in call.passes), strict=True))
    # One layer, no dropout. The training flag only saves what backward needs; cuDNN has no gradients without it.
    training = torch.is_grad_enabled() or is_jit_traced()
    settings = (weights, call.spec.bias, 1, 0.0, training, len(call.passes) == 2)
    if call.lengths is None:
        output, *final = layer(x, _as_torch(state), *settings, False)
        return Result(output, tuple(final))

    # Packing needs lengths of at least one, on the CPU. An empty sequence runs one step over zeros (NaN in
    # its padding would reach every gradient), and its results are replaced at the end.
    lengths = call.lengths.cpu()
    empty_rows = is_recorded() or int(lengths.min()) == 0  # a record must hold for other lengths, too
    not_empty = (lengths > 0).to(x.device).unsqueeze(-1)
    if empty_rows:
        x = torch.where(not_empty, x, x.new_zeros(()))
    packed = pack_padded_sequence(x, lengths.clamp(min=1), enforce_sorted=False)
    assert packed.sorted_indices is not None
    assert packed.unsorted_indices is not None
    state_sorted = tuple(s.index_select(1, packed.sorted_indices) for s in state)
    data, *final = layer(packed.data, packed.batch_sizes, _as_torch(state_sorted), *settings)
    output, _ = pad_packed_sequence(packed._replace(data=data), total_length=x.shape[0])
    final = tuple(s.index_select(1, packed.unsorted_indices) for s in final)
    if empty_rows:
        output = torch.where(not_empty, output, output.new_zeros(()))
        final = tuple(torch.where(not_empty, f, s) for f, s in zip(final, state, strict=True))
    return Result(output, final)


def _as_torch(state: State) -> Tensor | State:
    return state[0] if len(state) == 1 else state
