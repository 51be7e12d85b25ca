"""Linear cross-entropy on the C++ kernels: every instruction set, any size, any number of threads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lstmkit.modules.cross_entropy import linear_cross_entropy
from lstmkit.ops.cpu.linear_cross_entropy import is_supported, logits

kernels = pytest.importorskip("lstmkit._native", reason="lstmkit was installed without its extension")

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
#: (rows, width, vocab_size): size 1; sizes that end inside vectors and tiles; several panels, slices and row blocks.
SIZES = [(1, 1, 1), (7, 3, 5), (33, 17, 77), (150, 300, 1000), (1100, 20, 600), (40, 8, 20_000)]


def numbers(rows: int, width: int, vocab_size: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """Inputs, weight, bias and targets; some targets are -1, which is not scored."""
    generator = torch.Generator().manual_seed(seed)
    x, weight, bias = (
        torch.randn(s, generator=generator, dtype=dtype) for s in ((rows, width), (vocab_size, width), (vocab_size,))
    )
    targets = torch.randint(-1, vocab_size, (rows,), generator=generator)
    targets[0] = vocab_size - 1
    return [x, weight / width**0.5, bias, targets]


def by_kernels(inputs: list[Tensor], smoothing: float, threads: int) -> tuple[float, list[Tensor]]:
    x, weight, bias, targets = inputs
    gradients = [torch.full_like(t, torch.nan) for t in (x, weight, bias)]  # NaN shows what is not written
    return kernels.cross_entropy(x, weight, bias, targets, smoothing, threads, *gradients), gradients


def by_torch(inputs: list[Tensor], smoothing: float) -> tuple[float, list[Tensor]]:
    """Loss and gradients of torch in float64."""
    *leaves, targets = inputs
    leaves = [t.double().requires_grad_() for t in leaves]
    x, weight, bias = leaves
    scored = targets >= 0
    loss = F.cross_entropy(F.linear(x[scored], weight, bias), targets[scored], label_smoothing=smoothing)
    return float(loss.detach()), list(torch.autograd.grad(loss, leaves))


def assert_near(actual: tuple[float, list[Tensor]], expected: tuple[float, list[Tensor]], tolerance: float) -> None:
    assert actual[0] == pytest.approx(expected[0], rel=tolerance, abs=tolerance)
    for a, b in zip(actual[1], expected[1], strict=True):
        assert_close(a.double(), b, rtol=tolerance, atol=tolerance * max(0.1, float(b.abs().max())))


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_loss_gradients_and_logits_equal_torch(isa: str, size: tuple[int, int, int], dtype: torch.dtype):
    inputs = numbers(*size, dtype=dtype)
    x, weight, bias, targets = inputs
    for smoothing, threads in ((0.0, 1), (0.1, 2)):
        actual = by_kernels(inputs, smoothing, threads)
        assert_near(actual, by_torch(inputs, smoothing), TOLERANCE[dtype])
        loss_only = kernels.cross_entropy(x, weight, bias, targets, smoothing, threads, None, None, None)
        assert loss_only == pytest.approx(actual[0], rel=TOLERANCE[dtype])
        logits = torch.empty(len(x), len(weight), dtype=dtype)
        kernels.logits(x, weight, bias, threads, logits)
        assert_close(logits.double(), F.linear(x.double(), weight.double(), bias.double()), rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 120),
    width=st.integers(1, 70),
    vocab_size=st.integers(1, 400),
    threads=st.integers(1, 5),
    smoothing=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 9),
)
def test_any_size_and_number_of_threads(
    rows: int, width: int, vocab_size: int, threads: int, smoothing: float, seed: int
):
    inputs = numbers(rows, width, vocab_size, seed=seed)
    assert_near(by_kernels(inputs, smoothing, threads), by_torch(inputs, smoothing), TOLERANCE[torch.float64])


def test_logits_far_apart():
    """The largest logit may be first, last or in the middle; logits 1,000 below it have probability 0."""
    for shift in ([0.0, -1000.0, -2000.0], [-2000.0, 0.0, -1000.0], [-2000.0, -1000.0, 0.0]):
        inputs = numbers(5, 4, 900)
        inputs[2] = inputs[2] + torch.tensor(shift, dtype=torch.float64).repeat_interleave(300)
        assert_near(by_kernels(inputs, 0.0, 2), by_torch(inputs, 0.0), 1e-12)


def test_nan_inputs_propagate():
    x, weight, bias, targets = numbers(6, 4, 300)
    x[2, 1] = torch.nan
    targets[:] = 7
    loss, (dx, _, _) = by_kernels([x, weight, bias, targets], 0.0, 1)
    assert loss != loss
    assert dx[2].isnan().all()
    assert not dx[[0, 1, 3, 4, 5]].isnan().any()


def test_gradients_may_be_computed_twice_and_for_one_input():
    x, weight, bias, targets = numbers(9, 4, 300)
    weight.requires_grad_()
    loss = linear_cross_entropy(x[:, :4].t().contiguous().t(), weight, bias, targets)
    (first,) = torch.autograd.grad(loss, weight, retain_graph=True)
    (second,) = torch.autograd.grad(2 * loss, weight)
    assert_close(second, 2 * first)
    assert_close(first, by_torch([x, weight.detach(), bias, targets], 0.0)[1][1])


def test_unsupported_inputs_fall_back_to_torch():
    """Other dtypes, function transforms and gradients of logits use torch and give the same result."""
    x, weight, bias, targets = numbers(6, 300, 400, torch.float32)
    assert logits(x, weight, bias) is not None
    assert logits(x, weight.requires_grad_(), bias) is None
    assert not is_supported(x.bfloat16(), weight.bfloat16(), bias.bfloat16())
    gradient = torch.func.grad(lambda w: linear_cross_entropy(x, w, bias, targets))(weight.detach())
    assert_close(gradient.double(), by_torch([x, weight.detach(), bias, targets], 0.0)[1][1], rtol=1e-4, atol=1e-5)


def test_mismatched_inputs_are_refused():
    x, weight, bias, targets = numbers(6, 4, 30)
    for inputs, message in (
        ((x, weight, bias, targets + 30), r"targets must be in 0\.\.29, or -1"),
        ((x, weight[:, :3], bias, targets), r"expected the weight \(30, 4\)"),
        ((x, weight, bias[:9], targets), r"expected the bias \(30,\)"),
        ((x, weight, bias, targets[:2]), r"expected targets \(6,\)"),
        ((x.float(), weight, bias, targets), "float32"),
        ((x, weight[:0], bias[:0], targets), "at least one each"),
    ):
        with pytest.raises(ValueError, match=message):
            kernels.cross_entropy(*inputs, 0.0, 1, None, None, None)
