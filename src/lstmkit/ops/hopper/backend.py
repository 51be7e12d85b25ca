"""Our own kernels for clusters of a Hopper GPU's processors, in CUDA C++: the plain LSTM and the GRU in half precision.

``launch.py`` compiles and launches them; all around the loop is as with the Triton kernels. They have not run on a
GPU yet: only who asks for them by name gets them where others can run.
"""

from __future__ import annotations

from lstmkit.ops.call import Call, Result
from lstmkit.ops.hopper import launch as gpu_cluster
from lstmkit.ops.kernel_limits import kernel_limit_reason
from lstmkit.ops.triton import backend as gpu

NAME: str = "cluster"


def unsupported_reason(call: Call) -> str | None:
    missing = gpu_cluster.missing(call.x.device) or gpu_cluster.fits(call.spec, call.x.dtype)
    if missing:
        return missing
    if call.trace:
        return "the cluster kernels do not hand out gates"
    if any(p.recurrent_mask is not None or p.zoneout for p in call.passes):
        return "the cluster kernels have no recurrent dropout and no zoneout"
    return kernel_limit_reason(call, "cluster")


def run(call: Call) -> Result:
    return gpu.run(call, clusters=True)
