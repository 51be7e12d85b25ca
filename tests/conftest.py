"""For all tests."""

from collections.abc import Iterator

import pytest
import torch

from lstmkit.ops.native_kernels import extension

# Models of a few numbers: a second thread only waits for the first. And checkpoints promise the same bits for the same
# number of threads.
torch.set_num_threads(1)


@pytest.fixture(params=extension.names() if extension else [])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kernels of one instruction set after the other."""
    assert extension is not None
    before = extension.name()
    extension.use(request.param)
    yield request.param
    extension.use(before)
