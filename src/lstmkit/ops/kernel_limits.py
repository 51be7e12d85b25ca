"""Calls that none of the kernels of this package can run, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from lstmkit.ops.call import Call
from lstmkit.ops.recording import is_jit_traced


def kernel_limit_reason(call: Call, name: str, *, int8: bool = False) -> str | None:
    """Why the ``name`` kernels cannot run a call whose input and cell they support, or ``None``.

    ``int8`` says whether they can multiply by matrices in 8 bits.
    """
    x = call.x
    if call.spec.int8 and not int8:
        return f"the {name} kernels have no 8-bit weights"
    if is_jit_traced():
        return f"torch.jit.trace cannot record the {name} kernels; torch.export can"
    if x.shape[0] == 0 or x.shape[1] == 0:
        return "there is nothing to compute: the input has no steps or no sequences"
    if torch._C._are_functorch_transforms_active():
        return f"the {name} kernels do not support torch.func (vmap, jvp, ...)"
    if torch.autograd.forward_ad._current_level >= 0:
        return f"the {name} kernels have no forward-mode derivatives"
    dtype, on_cpu = x.dtype, x.is_cpu
    for p in call.passes:
        for t in (*p.params.values(), *p.state):
            fits = t.dtype is dtype or t.dtype is torch.int8
            if not fits or t.is_cpu is not on_cpu or not (on_cpu or t.device == x.device):
                return "input, weights and states differ in dtype or device"
        if p.recurrent_mask is not None or p.zoneout:
            noise = (p.recurrent_mask, *(p.zoneout or ()))
            if any(isinstance(t, Tensor) and t.requires_grad for t in noise):
                return f"the {name} kernels have no gradients with respect to noise masks"
    return None
