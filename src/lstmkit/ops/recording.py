"""Whether something records torch's calls: a kernel that is called outside torch's dispatcher is missing in the record.

Back ends with such kernels have the same kernels as ops of ``torch.library``, which are recorded.
"""

from __future__ import annotations

import torch


def is_recorded() -> bool:
    """Whether ``torch.compile``, ``torch.export``, ``torch.jit.trace`` or a dispatch mode (``make_fx``) is at work."""
    return torch.compiler.is_compiling() or is_jit_traced() or torch._C._len_torch_dispatch_stack() > 0


def is_jit_traced() -> bool:
    """Whether ``torch.jit.trace``, or ``torch.onnx.export`` with ``dynamo=False``, records."""
    return torch._C._get_tracing_state() is not None
