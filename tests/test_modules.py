"""Modules, models, decoding, calibration, forecast metrics, baselines, batches and settings."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lstmkit.data.batch import Batch, Loader
from lstmkit.decoding.generation import roll_out
from lstmkit.errors import SettingError
from lstmkit.evaluation.calibration import MIN_VALUES_PER_STEP, conformal_widths
from lstmkit.evaluation.forecast_metrics import forecast_scores, quantile_columns
from lstmkit.jobs.forecaster import baselines
from lstmkit.jobs.forecaster.baselines import forecast_baselines
from lstmkit.models.base import Ensemble, Model, map_state
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import PatchEncoder
from lstmkit.modules.heads import DistributionHead, QuantileHead
from lstmkit.modules.linear_experts import LinearExperts
from lstmkit.modules.trunk import TRUNKS, build_trunk
from lstmkit.settings import checked, declared, parse, setting, settings_class, unknown, values

torch.set_num_threads(1)

FAMILIES = ("normal", "student_t", "negative_binomial")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# ---- encoders and shortcuts ------------------------------------------------------------------------------------------


def test_patch_has_its_steps_in_order() -> None:
    """Patch s has steps 3s, 3s + 1, 3s + 2, each with its features side by side."""
    encoder = PatchEncoder(2, 3, 6)
    nn.init.eye_(encoder.linear.weight)
    nn.init.zeros_(encoder.linear.bias)
    x = torch.arange(2 * 6 * 2.0).reshape(2, 6, 2)
    folded = encoder(x)
    assert folded.shape == (2, 2, 6)
    for b, s in itertools.product(range(2), range(2)):
        assert torch.equal(folded[b, s], torch.cat([x[b, 3 * s], x[b, 3 * s + 1], x[b, 3 * s + 2]]))


def test_encoder_dropout_in_training_only() -> None:
    encoder, x = PatchEncoder(2, 1, 50, dropout=0.5), torch.randn(4, 5, 2)
    assert 300 < int((encoder(x) == 0).sum()) < 700
    encoder.eval()
    torch.testing.assert_close(
        encoder(x), encoder.linear(x)
    )  # not bit for bit: the layout of the folded input may differ


def test_linear_experts_are_mixed_by_the_last_features() -> None:
    """Other features, future steps and earlier states have no effect."""
    experts = LinearExperts(4, 3, 5, 2)
    inputs, features = torch.randn(2, 6, 3), torch.randn(2, 7, 5)
    assert torch.equal(experts(inputs, features), torch.zeros(2, 3, 1))  # the initial output is 0
    nn.init.normal_(experts.maps.weight)
    nn.init.normal_(experts.maps.bias)
    output = experts(inputs, features)
    weight, bias = experts.maps.weight.reshape(3, 2, 4), experts.maps.bias.reshape(3, 2)
    for b in range(2):
        share = torch.softmax(experts.choice(features[b, -1]), 0)
        for h in range(3):
            forecasts = [weight[h, k] @ inputs[b, :4, 0] + bias[h, k] for k in range(2)]
            torch.testing.assert_close(output[b, h, 0], share[0] * forecasts[0] + share[1] * forecasts[1])
    inputs[:, :, 1:] = inputs[:, 4:] = features[:, :-1] = math.nan
    torch.testing.assert_close(experts(inputs, features), output)


@pytest.mark.parametrize("cell", TRUNKS)
def test_trunk_of_every_cell_is_batch_first(cell: str) -> None:
    """Without torch's warning about dropout in a single layer."""
    for layers, bidirectional in itertools.product((1, 2), (False, True)):
        trunk = build_trunk(cell, 3, 4, num_layers=layers, dropout=0.1, residual=True, bidirectional=bidirectional)
        output, _ = trunk(torch.randn(2, 5, 3))
        assert output.shape == (2, 5, trunk.output_size)


def test_lstm_forget_bias_starts_at_one() -> None:
    trunk = build_trunk("lstm", 3, 4, num_layers=2)
    for layer in range(2):
        both = trunk.get_parameter(f"bias_ih_l{layer}") + trunk.get_parameter(f"bias_hh_l{layer}")
        assert torch.equal(both[4:8], torch.ones(4))


# ---- heads -----------------------------------------------------------------------------------------------------------


def test_quantile_head_reads_the_last_patches() -> None:
    """Horizon 3 in patches of 2: the last two of four vectors, truncated to three steps."""
    head = QuantileHead(5, [0.1, 0.9], horizon=3, patch=2)
    features = torch.randn(2, 4, 5)
    output, each = head(features), head.linear(features)
    assert output.shape == (2, 3, 2)
    for h, q in itertools.product(range(3), range(2)):
        torch.testing.assert_close(output[:, h, q], each[:, 2 + h // 2, 2 * (h % 2) + q])


def test_pinball_loss_equals_the_formula() -> None:
    head = QuantileHead(1, [0.1, 0.5, 0.8], horizon=2)
    outputs, targets = torch.randn(3, 2, 3), torch.randn(3, 2)
    targets[1, 0] = math.nan
    losses = []
    for b, h in itertools.product(range(3), range(2)):
        for q, level in enumerate((0.1, 0.5, 0.8)):
            error = float(targets[b, h] - outputs[b, h, q])
            losses.append(2 * (level * error if error >= 0 else (level - 1) * error))
    assert float(head.loss(outputs, Batch(targets, targets=targets))) == pytest.approx(np.nanmean(losses))


def test_pinball_loss_is_minimal_at_the_quantiles() -> None:
    levels = [0.1, 0.5, 0.75]
    head, sample = QuantileHead(1, levels, horizon=1), torch.randn(201, 1)
    at = torch.tensor(np.quantile(sample.numpy(), levels), dtype=torch.float32)

    def loss(quantiles: Tensor) -> float:
        return float(head.loss(quantiles.expand(201, 1, 3), Batch(sample, targets=sample)))

    for q, step in itertools.product(range(3), (-0.2, 0.2)):
        assert loss(at + step * torch.eye(3)[q]) > loss(at)


def head_of(kind: str) -> tuple[nn.Module, int]:
    """A head for horizon 2 and its outputs per step."""
    return (
        (QuantileHead(3, [0.1, 0.9], 2), 2)
        if kind == "quantile"
        else (head := DistributionHead(3, kind), head.output_size)
    )


@pytest.mark.parametrize("kind", ["quantile", *FAMILIES])
def test_unknown_targets_are_ignored(kind: str) -> None:
    """The loss is that of the known targets, the gradient of the others is 0; without known targets the loss is 0."""
    head, width = head_of(kind)
    outputs = torch.randn(3, 2, width, requires_grad=True)
    targets = torch.tensor([[1.0, math.nan], [3.0, 0.0], [math.nan, math.nan]])
    extras = {"scale": torch.tensor([[1.0], [2.0], [0.5]])}
    loss = head.loss(outputs, Batch(targets, targets=targets, extras=extras))
    loss.backward()
    gradient = outputs.grad
    assert gradient is not None
    assert (gradient[~torch.isnan(targets)] != 0).any(-1).all()
    assert (gradient[torch.isnan(targets)] == 0).all()

    def single_loss(b: int, h: int) -> float:
        single = Batch(
            targets[b : b + 1, h : h + 1], targets=targets[b : b + 1, h : h + 1], extras={"scale": extras["scale"][b]}
        )
        return float(head.loss(outputs[b : b + 1, h : h + 1].detach(), single))

    assert loss.item() == pytest.approx((single_loss(0, 0) + single_loss(1, 0) + single_loss(1, 1)) / 3, rel=1e-5)
    outputs.grad = None
    nothing = torch.full((3, 2), math.nan)
    loss = head.loss(outputs, Batch(nothing, targets=nothing, extras=extras))
    loss.backward()
    assert loss.item() == 0
    assert (outputs.grad == 0).all()


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def scipy_distribution(family: str, outputs: np.ndarray, scale: np.ndarray) -> Any:
    """The scipy distribution of a head's unconstrained parameters ``(..., 2 or 3)``."""
    first, spread = outputs[..., 0], softplus(outputs[..., 1]) + 1e-4
    if family == "normal":
        return scipy.stats.norm(first, spread)
    if family == "student_t":
        return scipy.stats.t(2 + softplus(outputs[..., 2]), first, spread)
    mean = (softplus(first) + 1e-6) * scale
    return scipy.stats.nbinom(1 / spread, 1 / (1 + spread * mean))


@pytest.mark.parametrize("family", FAMILIES)
def test_likelihoods_equal_scipy(family: str) -> None:
    """The log-likelihood equals SciPy's over a wide range of parameters, in float64 and in float32."""
    head = DistributionHead(4, family)
    outputs = torch.randn(60, 7, head.output_size, dtype=torch.float64) * 3
    scale = torch.rand(60, 1, dtype=torch.float64) * 20 + 0.1
    targets = torch.randn(60, 7, dtype=torch.float64) * 5
    if family == "negative_binomial":
        targets = targets.abs().round()
    expected_distribution = scipy_distribution(family, outputs.numpy(), scale.numpy())
    score = expected_distribution.logpmf if family == "negative_binomial" else expected_distribution.logpdf
    expected = score(targets.numpy())
    actual = head.distribution(outputs, scale).log_prob(targets).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-7)
    in_float32 = head.distribution(outputs.float(), scale.float()).log_prob(targets.float()).numpy()
    np.testing.assert_allclose(in_float32, expected, rtol=2e-3, atol=2e-2)
    mean = head.loss(outputs.float(), Batch(targets, targets=targets.float(), extras={"scale": scale})).item()
    assert mean == pytest.approx(-expected.mean(), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_have_the_expected_mean_and_variance(family: str) -> None:
    """The counts' mean is in units of the scale: m = softplus · scale, variance m + a m² (Salinas et al. 2020)."""
    head = DistributionHead(4, family)
    outputs = torch.tensor([0.7, -0.5, 3.0])[: head.output_size]
    samples = head.distribution(outputs.expand(200_000, -1), torch.full((200_000,), 6.0)).sample()
    spread = math.log1p(math.exp(-0.5)) + 1e-4
    mean, variance = 0.7, spread**2
    if family == "student_t":
        degrees = 2 + math.log1p(math.exp(3.0))
        variance *= degrees / (degrees - 2)
    if family == "negative_binomial":
        mean = 6.0 * (math.log1p(math.exp(0.7)) + 1e-6)
        variance = mean + spread * mean**2
        assert torch.equal(samples, samples.round())
        assert (samples >= 0).all()
    assert samples.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(variance / 200_000))
    assert samples.var().item() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_likelihoods_stay_finite_for_extreme_parameters(family: str) -> None:
    """Unconstrained parameters of ±60, in bfloat16 as under autocast; the gradient too."""
    head = DistributionHead(4, family)
    far = list(itertools.product((-60.0, 0.0, 60.0), repeat=head.output_size))
    outputs = torch.tensor(far, dtype=torch.bfloat16).unsqueeze(0).requires_grad_()
    targets = torch.tensor([0.0, 3.0, 50.0])[torch.arange(len(far)) % 3].unsqueeze(0)
    loss = head.loss(outputs, Batch(targets, targets=targets, extras={"scale": torch.ones(1, 1)}))
    loss.backward()
    in_float32 = head.loss(
        outputs.detach().float(), Batch(targets, targets=targets, extras={"scale": torch.ones(1, 1)})
    )
    assert torch.equal(loss.detach(), in_float32)
    assert torch.isfinite(loss)
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


# ---- models ----------------------------------------------------------------------------------------------------------


class EveryStep(nn.Module):
    """Outputs at every step, with squared error."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, 2)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs[..., 0] - batch.targets).square().mean()


def sequence_model(cell: str = "lstm", *, shortcut: nn.Module | None = None) -> SequenceModel:
    trunk = build_trunk(cell, 4, 5, num_layers=2, residual=False)
    return SequenceModel(PatchEncoder(3, 1, 4), trunk, EveryStep(5), shortcut).double().eval()


def models() -> dict[str, Model]:
    by_name: dict[str, Model] = {cell: sequence_model(cell) for cell in TRUNKS}
    by_name["ensemble"] = Ensemble([sequence_model(), sequence_model()])
    by_name["ensemble of ensembles"] = Ensemble([Ensemble([sequence_model("gru")]), sequence_model()])
    return by_name


@pytest.mark.parametrize("kind", models())
def test_single_steps_equal_forward(kind: str) -> None:
    """Outputs and final state are equal, from the start and from a later state."""
    model, x = models()[kind], torch.randn(2, 6, 3, dtype=torch.float64)
    whole, end = model(x)
    for first in (0, 3):
        state = model(x[:, :first])[1] if first else None
        for t in range(first, 6):
            output, state = model.step(x[:, t], state)
            torch.testing.assert_close(output, whole[:, t])
        torch.testing.assert_close(state, end)


@pytest.mark.parametrize("kind", models())
def test_padding_does_not_change_the_outputs(kind: str) -> None:
    model, x, lengths = models()[kind], torch.randn(3, 5, 3, dtype=torch.float64), torch.tensor([5, 2, 3])
    output, state = model(x, None, lengths)
    for b, n in enumerate(lengths.tolist()):
        alone, end = model(x[b : b + 1, :n])
        torch.testing.assert_close(output[b : b + 1, :n], alone)
        torch.testing.assert_close(map_state(state, lambda s, b=b: s[:, b : b + 1]), end)


def test_model_loss_uses_lengths_and_state_of_the_batch() -> None:
    model, x = sequence_model(), torch.randn(3, 5, 3, dtype=torch.float64)
    batch = Batch(x, lengths=torch.tensor([5, 0, 3]), targets=torch.randn(3, 5, dtype=torch.float64))
    before = model(x)[1]
    outputs, after = model(x, before, batch.lengths)
    loss, state = model.loss(batch, before)
    torch.testing.assert_close(loss, (outputs[..., 0] - batch.targets).square().mean())
    torch.testing.assert_close(state, after)
    assert not torch.equal(loss, model.loss(batch)[0])


def test_a_shortcut_is_added_to_the_outputs() -> None:
    class NonDifferentiableInputs(nn.Module):
        def forward(self, inputs: Tensor, features: Tensor) -> Tensor:
            return 100 * inputs[..., :1] + features.shape[-1]

    model, x = sequence_model(shortcut=NonDifferentiableInputs()), torch.randn(2, 4, 3, dtype=torch.float64)
    with_shortcut, state = model(x)
    model.shortcut = None
    without_shortcut, same = model(x)
    torch.testing.assert_close(with_shortcut, without_shortcut + 100 * x[..., :1] + 5)
    torch.testing.assert_close(state, same)


def test_ensemble_is_the_mean_of_its_members() -> None:
    members = [sequence_model() for _ in range(3)]
    ensemble, x = Ensemble(members), torch.randn(2, 4, 3, dtype=torch.float64)
    batch = Batch(x, targets=torch.randn(2, 4, dtype=torch.float64))
    state: Any = None
    member_states: list[Any] = [None] * 3
    for _ in range(2):  # the second time with the states of the first
        answers = [m(x, s) for m, s in zip(members, member_states, strict=True)]
        losses = [m.loss(batch, s)[0] for m, s in zip(members, member_states, strict=True)]
        steps = [m.step(x[:, 0], s)[0] for m, s in zip(members, member_states, strict=True)]
        torch.testing.assert_close(ensemble.loss(batch, state)[0], (losses[0] + losses[1] + losses[2]) / 3)
        torch.testing.assert_close(ensemble.step(x[:, 0], state)[0], (steps[0] + steps[1] + steps[2]) / 3)
        outputs, state = ensemble(x, state)
        torch.testing.assert_close(outputs, (answers[0][0] + answers[1][0] + answers[2][0]) / 3)
        member_states = [end for _, end in answers]
        torch.testing.assert_close(state, tuple(member_states))
    with pytest.raises(ValueError, match="zip"):
        ensemble(x, state[:2])


def test_map_state_keeps_the_nesting() -> None:
    first, second, third = torch.ones(1), torch.ones(2), torch.ones(3)
    mapped = map_state((first, (second, None), ((third,),)), lambda t: t * 2)
    assert mapped[1][1] is None
    assert [t.tolist() for t in (mapped[0], mapped[1][0], mapped[2][0][0])] == [[2], [2, 2], [2, 2, 2]]
    assert map_state(None, torch.neg) is None
    assert torch.equal(map_state(first, torch.neg), -first)


def test_roll_out_feeds_back_value_and_state() -> None:
    calls = []

    def step(value: Tensor, t: int, state: int) -> tuple[Tensor, int]:
        calls.append((value.tolist(), t, state))
        return value + 10 ** (t + 1), state + 1

    values = roll_out(step, torch.tensor([[1], [2]]), 7, 3)
    assert values.tolist() == [[[11], [111], [1111]], [[12], [112], [1112]]]
    assert calls == [([[1], [2]], 0, 7), ([[11], [12]], 1, 8), ([[111], [112]], 2, 9)]


# ---- calibration -----------------------------------------------------------------------------------------------------


def test_conformal_widths_are_scores_of_the_right_rank() -> None:
    """For 99 windows with scores 1 … 99, the width is the ⌈100 · level⌉-th score, separately at two steps."""
    scores = np.stack([np.random.default_rng(0).permutation(99) + 1.0, 1000 + np.arange(99)], axis=1)
    levels = np.array([0.5, 0.55, 0.57, 0.905, 0.95])
    zero = np.zeros((99, 2, 5))
    widths = conformal_widths(scores, zero, zero, levels)
    assert widths[0].tolist() == [50, 55, 57, 91, 95]
    assert widths[1].tolist() == [1049, 1054, 1056, 1090, 1094]


def test_conformal_score_is_the_distance_outside_the_interval() -> None:
    """The score is negative inside the interval, so that too wide intervals are narrowed."""
    y = np.array([[5.0], [-5.0], [1.0]] * MIN_VALUES_PER_STEP)
    low, high = np.full((len(y), 1, 1), -2.0), np.full((len(y), 1, 1), 3.0)
    assert conformal_widths(y, low, high, np.array([0.99])).tolist() == [[3.0]]  # -5 is 3 below -2
    assert conformal_widths(np.full((60, 1), 1.0), low[:60], high[:60], np.array([0.8])).tolist() == [[-2.0]]


def test_few_windows_share_one_width() -> None:
    """One step with fewer than MIN_VALUES_PER_STEP values is enough: the scores of all steps are pooled."""
    y = np.arange(2.0 * MIN_VALUES_PER_STEP).reshape(MIN_VALUES_PER_STEP, 2)
    zero = np.zeros((MIN_VALUES_PER_STEP, 2, 1))
    apart = conformal_widths(y, zero, zero, np.array([0.5]))
    assert apart[:, 0].tolist() == [2 * 25, 2 * 25 + 1]
    y[0, 0] = math.nan
    pooled = conformal_widths(y, zero, zero, np.array([0.5]))
    assert pooled[:, 0].tolist() == [50, 50]  # the 50th of 1 … 99


def test_unknown_values_have_no_conformal_score() -> None:
    y = np.full((60, 1), math.nan)
    zero = np.zeros((60, 1, 2))
    assert conformal_widths(y, zero, zero, np.array([0.5, 0.9])).tolist() == [[0, 0]]
    y[:3, 0] = [1, 2, 3]
    assert conformal_widths(y, zero, zero, np.array([0.5, 0.9])).tolist() == [[2, 3]]  # 0.9 would need a fourth
    assert conformal_widths(y[:0], zero[:0], zero[:0], np.array([0.5, 0.9])).tolist() == [[0, 0]]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_calibrated_intervals_have_nominal_coverage(level: float) -> None:
    """In exchangeable windows the coverage is at least the level, and at most 1/(n+1) more (by simulation).

    The intervals are wrong on purpose: at one step too narrow, at the other too wide.
    """
    rng, n, covered = np.random.default_rng(1), 60, []
    for _ in range(400):
        y = rng.normal(size=(n + 50, 2)) * [3.0, 0.2]
        low, high = np.full((n, 2, 1), -1.0), np.full((n, 2, 1), 1.0)
        widths = conformal_widths(y[:n], low, high, np.array([level]))[:, 0]
        covered.append((np.abs(y[n:]) <= 1 + widths).mean(axis=0))
    mean, error = np.mean(covered, axis=0), np.std(covered, axis=0) / math.sqrt(400)
    assert (mean > level - 4 * error).all()
    assert (mean < level + 1 / (n + 1) + 4 * error).all()


# ---- scores ----------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(1, 99), max_size=8))
@hypothesis_settings(max_examples=30, deadline=None)
def test_quantile_levels_are_sorted_and_symmetric(levels: set[int]) -> None:
    columns = quantile_columns(sorted(levels))
    quantiles = list(columns)
    assert quantiles == sorted(set(quantiles))
    assert quantiles == [round(1 - q, 6) for q in reversed(quantiles)]
    assert columns[0.5] == ""
    for level in levels:
        low, high = (next(q for q, name in columns.items() if name == f"-{side}-{level}") for side in ("lo", "hi"))
        assert high - low == pytest.approx(level / 100)


def forecast_case() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forecasts of two models in two series, two windows of three steps, a value unknown; and the histories."""
    rng = np.random.default_rng(0)
    histories, frames = [], []
    for uid, n in (("a", 20), ("b", 15)):
        ds = pd.date_range("2024-01-01", periods=n + 6, freq="D")
        y = rng.normal(size=n + 6) + 10
        y[[4, 9, n + 1]] = np.nan
        histories.append(pd.DataFrame({"unique_id": uid, "ds": ds[:n], "y": y[:n]}))
        for k in (0, 3):
            window = {"unique_id": uid, "cutoff": ds[n + k - 1], "ds": ds[n + k : n + k + 3], "y": y[n + k : n + k + 3]}
            for model in ("m", "other"):
                window[model] = rng.normal(size=3) + 10
                for level in (50, 90):
                    window[f"{model}-lo-{level}"] = window[model] - level / 60
                    window[f"{model}-hi-{level}"] = window[model] + level / 80
            frames.append(pd.DataFrame(window))
    return pd.concat(frames, ignore_index=True), pd.concat(histories, ignore_index=True)


def scores_by_hand(forecasts: pd.DataFrame, history: pd.DataFrame, model: str, season: int) -> dict[str, float]:
    """The formulas: per window, then the mean over windows, then over series."""
    series: dict[str, list[dict[str, float]]] = {}
    for (uid, _), window in forecasts.groupby(["unique_id", "cutoff"]):
        window = window[window["y"].notna()]
        y, f = window["y"].to_numpy(), window[model].to_numpy()
        past = history.loc[history["unique_id"] == uid, "y"].to_numpy()
        naive = np.nanmean(np.abs(past[season:] - past[:-season]))
        pinball = []
        for q, column in ((0.05, "-lo-90"), (0.25, "-lo-50"), (0.5, ""), (0.75, "-hi-50"), (0.95, "-hi-90")):
            error = y - window[model + column].to_numpy()
            pinball.append(np.where(error > 0, q * error, (q - 1) * error).mean())
        scores = {
            "MASE": np.abs(y - f).mean() / naive,
            "sMAPE": 200 * (np.abs(y - f) / (np.abs(y) + np.abs(f))).mean(),
            "MAE": np.abs(y - f).mean(),
            "RMSE": math.sqrt(((y - f) ** 2).mean()),
            "CRPS": 2 * float(np.mean(pinball)),
        }
        for level in (50, 90):
            inside = (window[f"{model}-lo-{level}"] <= window["y"]) & (window["y"] <= window[f"{model}-hi-{level}"])
            scores[f"coverage-{level}"] = 100 * inside.mean()
        series.setdefault(str(uid), []).append(scores)
    by_series = [pd.DataFrame(windows).mean() for windows in series.values()]
    return pd.DataFrame(by_series).mean().to_dict()


def test_forecast_scores_equal_the_formulas() -> None:
    """The order of rows does not matter; unknown values are not scored and do not shift the seasons of MASE."""
    forecasts, history = forecast_case()
    shuffled = forecasts.sample(frac=1, random_state=1), history.sample(frac=1, random_state=1)
    for case_forecasts, case_history in ((forecasts, history), shuffled):
        table = forecast_scores(case_forecasts, case_history, ["other", "m"], season=3, levels=[90, 50])
        assert table["model"].tolist() == ["other", "m"]
        for _, row in table.iterrows():
            expected = scores_by_hand(forecasts, history, row["model"], season=3)
            assert {name: row[name] for name in table.columns[1:]} == pytest.approx(expected)


def test_perfect_and_zero_forecasts() -> None:
    forecasts, history = forecast_case()
    forecasts["y"] = forecasts["m"] = 0.0
    row = forecast_scores(forecasts, history, ["m"], season=3, levels=[]).iloc[0]
    assert [row[name] for name in ("MASE", "sMAPE", "MAE", "RMSE", "CRPS")] == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("wave", [lambda t: t % 3, lambda t: 0 * t, lambda t: 10 + np.sin(t * 2 * np.pi / 3)])
def test_periodic_history_has_no_mase(wave: Any) -> None:
    """A sine is periodic only up to rounding; dividing by that rounding error would dominate MASE."""
    forecasts, history = forecast_case()
    expected = scores_by_hand(forecasts, history, "m", 3)
    repeats = history["unique_id"] == "b"
    history.loc[repeats, "y"] = wave(np.arange(repeats.sum()))
    row = forecast_scores(forecasts, history, ["m"], season=3, levels=[50, 90]).iloc[0]
    expected["MASE"] = scores_by_hand(forecasts[forecasts["unique_id"] == "a"], history, "m", 3)["MASE"]
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_infinite_forecast_counts_in_the_mean() -> None:
    """It must not be dropped as if it were missing."""
    forecasts, history = forecast_case()
    forecasts.loc[forecasts["unique_id"] == "a", "m"] = math.inf
    row = forecast_scores(forecasts, history, ["m"], season=3, levels=[50, 90]).iloc[0]
    assert [row[name] for name in ("MASE", "MAE", "RMSE", "CRPS")] == [math.inf] * 4


# ---- baselines -------------------------------------------------------------------------------------------------------


def history_of(uid: str, y: Sequence[float], start: str = "2024-01-01") -> pd.DataFrame:
    return pd.DataFrame(
        {"unique_id": uid, "ds": pd.date_range(start, periods=len(y), freq="D"), "y": np.array(y, float)}
    )


def naive_of(histories: Sequence[pd.DataFrame], horizon: int = 5, season: int = 3, **more: Any) -> pd.DataFrame:
    options = {"freq": "D", "season": season, "levels": [80], "names": ["SeasonalNaive"], **more}
    return forecast_baselines(histories, horizon, **options)[0]


def test_the_seasonal_naive_baseline_repeats_each_series_last_season() -> None:
    """Each origin uses its own history; the timestamps follow its own cutoff."""
    origins = [
        pd.concat([history_of("a", [9, 9, 9, 1, 2, 3]), history_of("b", [8, 8, 8, 4, 5, 6, 7], "2024-03-01")]),
        history_of("a", [9, 9, 9, 1, 2, 3, 4]),
    ]
    frame = naive_of(origins)
    by_origin = {key: rows.sort_values("ds") for key, rows in frame.groupby(["unique_id", "cutoff"])}
    expected = {
        ("a", "2024-01-06"): [1, 2, 3, 1, 2],
        ("b", "2024-03-07"): [5, 6, 7, 5, 6],
        ("a", "2024-01-07"): [2, 3, 4, 2, 3],
    }
    assert {(uid, str(cutoff.date())) for uid, cutoff in by_origin} == expected.keys()
    for (uid, cutoff), season in expected.items():
        rows = by_origin[uid, pd.Timestamp(cutoff)]
        assert rows["SeasonalNaive"].tolist() == season
        assert rows["ds"].tolist() == list(pd.date_range(cutoff, periods=6, freq="D")[1:])
        assert (rows["SeasonalNaive-lo-80"] <= rows["SeasonalNaive"]).all()
        assert (rows["SeasonalNaive"] <= rows["SeasonalNaive-hi-80"]).all()


def test_missing_values_are_interpolated_within_a_series() -> None:
    """Missing values are linear inside, the nearest value at an edge, and never taken from another series."""
    nan = math.nan
    series = {"a": [1, 2, 3, 4, nan, 8], "b": [nan, 5, 5, 7, nan, nan], "c": [nan, 5, 6]}
    frame = naive_of([pd.concat([history_of(uid, y) for uid, y in series.items()])])
    by_series = {uid: rows["SeasonalNaive"].tolist() for uid, rows in frame.groupby("unique_id")}
    assert by_series == {"a": [4, 6, 8, 4, 6], "b": [7, 7, 7, 7, 7], "c": [5, 5, 6, 5, 5]}


@pytest.mark.parametrize(("y", "is_noted"), [([1, 2, math.nan, 4, 5, 6], True), ([1, 2, 3, 4, 5, 6], False)])
def test_interpolation_is_noted_only_if_values_are_missing(y: list[float], is_noted: bool) -> None:
    options = {"freq": "D", "season": 3, "levels": [80], "names": ["SeasonalNaive"]}
    notes = forecast_baselines([history_of("a", [1, 2, 3, 4]), history_of("a", y)], 3, **options)[1]
    assert any("interpolated" in note for note in notes) == is_noted


def test_history_shorter_than_a_season_uses_the_last_value() -> None:
    """A note names it; other series with a full season still repeat their season."""
    both = pd.concat([history_of("short", [5, 6]), history_of("long", [1, 2, 3, 4])])
    with warnings.catch_warnings(record=True) as caught:  # not as errors: statsforecast would catch those
        warnings.simplefilter("always")
        frame, notes = forecast_baselines([both], 4, freq="D", season=3, levels=[80])
    assert [str(w.message) for w in caught if issubclass(w.category, UserWarning)] == []
    by_series = {uid: rows.sort_values("ds") for uid, rows in frame.groupby("unique_id")}
    assert by_series["short"]["SeasonalNaive"].tolist() == [6, 6, 6, 6]
    assert by_series["long"]["SeasonalNaive"].tolist() == [2, 3, 4, 2]
    assert set(frame["cutoff"]) == {pd.Timestamp("2024-01-02"), pd.Timestamp("2024-01-04")}
    assert frame.drop(columns=["AutoETS-lo-80", "AutoETS-hi-80"]).notna().all(axis=None)
    assert "shorter than a season (3 steps)" in " ".join(notes)
    assert "less history" not in " ".join(forecast_baselines([both.iloc[2:]], 4, freq="D", season=3, levels=[80])[1])


def test_long_histories_are_truncated_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MAX_HISTORY", 4)
    y = [1, 2, 3, 4, 5, 6]
    frame, notes = forecast_baselines([history_of("a", y)], 3, freq="D", season=5, levels=[80], names=["SeasonalNaive"])
    assert frame["SeasonalNaive"].tolist() == [6, 6, 6]  # four steps are less than a season of five
    assert "last 4 steps" in " ".join(notes)


def test_exponential_smoothing_follows_a_trend_with_intervals() -> None:
    y = 10 + 2.0 * np.arange(40) + np.random.default_rng(0).normal(size=40)
    frame = naive_of([history_of("a", list(y))], names=["AutoETS"], levels=[95, 50], season=1)
    assert frame["AutoETS"].to_numpy() == pytest.approx(10 + 2.0 * np.arange(40, 45), abs=3)
    ordered = frame[["AutoETS-lo-95", "AutoETS-lo-50", "AutoETS", "AutoETS-hi-50", "AutoETS-hi-95"]].to_numpy()
    assert (np.diff(ordered, axis=1) > 0).all()


def test_integer_timestamps() -> None:
    history = history_of("a", [1, 2, 3, 4, 5, 6]).assign(ds=np.arange(6))
    frame = naive_of([history], freq=1)
    assert (frame["ds"].tolist(), frame["cutoff"].tolist()) == ([6, 7, 8, 9, 10], [5] * 5)


# ---- batches ---------------------------------------------------------------------------------------------------------


class Rows:
    """Examples that consist of their number."""

    def __init__(self, n: int, lengths: np.ndarray | None = None) -> None:
        self.n, self.lengths = n, lengths

    def __len__(self) -> int:
        return self.n

    def batch(self, rows: np.ndarray) -> Batch:
        return Batch(torch.as_tensor(rows), rows=rows)


def order(loader: Loader, epoch: int = 0) -> list[list[int]]:
    return [batch.inputs.tolist() for batch in loader.epoch(epoch)]


@st.composite
def loaders(draw: st.DrawFn) -> tuple[int, int, int | None, np.ndarray | None]:
    """Examples, batch size, seed, lengths."""
    n = draw(st.integers(0, 150))
    lengths = draw(st.none() | st.just(np.random.default_rng(n).integers(0, 20, n)))
    return n, draw(st.integers(1, 12)), draw(st.none() | st.integers(0, 5)), lengths


@given(loaders(), st.integers(0, 3))
@hypothesis_settings(max_examples=60, deadline=None)
def test_every_example_occurs_once_per_epoch(case: tuple[int, int, int | None, np.ndarray | None], epoch: int) -> None:
    """In batches of the requested size except one; reproducible for the same seed and epoch."""
    n, size, seed, lengths = case
    loader = Loader(Rows(n, lengths), size, seed)
    batches = order(loader, epoch)
    assert sorted(itertools.chain(*batches)) == list(range(n))
    assert len(batches) == len(loader) == math.ceil(n / size)
    assert sum(len(batch) < size for batch in batches) <= 1
    assert order(Loader(Rows(n, lengths), size, seed), epoch) == batches


def test_order_depends_on_epoch_and_seed() -> None:
    loader = Loader(Rows(40), 8, seed=3)
    orders = [order(loader, epoch) for epoch in range(3)] + [order(Loader(Rows(40), 8, seed=4))]
    assert all(a != b for a, b in itertools.combinations(orders, 2))


def test_without_a_seed_order_is_the_sources_or_by_length() -> None:
    assert order(Loader(Rows(5), 2)) == [[0, 1], [2, 3], [4]]
    assert order(Loader(Rows(5, np.array([3, 1, 3, 0, 1])), 2)) == [[3, 1], [4, 0], [2]]
    assert order(Loader(Rows(5), 2), 7) == order(Loader(Rows(5), 2))


def test_examples_of_similar_length_share_a_batch() -> None:
    """Padding stays below 10 %, and short batches do not all come first."""
    lengths = np.random.default_rng(0).integers(1, 101, 1000)
    batches = order(Loader(Rows(1000, lengths), 10, seed=0))
    longest = np.array([lengths[batch].max() for batch in batches])
    steps = sum(len(batch) * length for batch, length in zip(batches, longest, strict=True))
    assert lengths.sum() / steps > 0.9
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.3


def test_few_examples_are_passed_several_times_per_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many whole passes as make 32 steps; the seed is needed, and 0 is one pass."""
    monkeypatch.setattr("lstmkit.data.batch.MIN_STEPS_PER_EPOCH", 32)
    assert [len(Loader(Rows(n), 2, 0, -1)) for n in (1, 28, 64, 66)] == [32, 42, 32, 33]
    assert Counter(itertools.chain(*order(Loader(Rows(28), 2, 0, -1)))) == dict.fromkeys(range(28), 3)
    assert len(Loader(Rows(28), 2, None, -1)) == len(Loader(Rows(28), 2, 0, 0)) == 14


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 30), st.integers(0, 3))
@hypothesis_settings(max_examples=60, deadline=None)
def test_epoch_of_n_batches_repeats_the_source(n: int, size: int, n_batches: int, epoch: int) -> None:
    """No example repeats before all others have occurred as often, except in the last, incomplete pass."""
    loader = Loader(Rows(n), size, 0, n_batches)
    batches = order(loader, epoch)
    assert len(batches) == len(loader) == n_batches
    counts = Counter(itertools.chain(*batches))
    times = [counts[row] for row in range(n)]
    assert max(times) - min(times) <= 1
    assert order(loader, epoch) == batches


def test_every_pass_has_a_different_order() -> None:
    loader = Loader(Rows(40), 8, 0, 10)  # two passes per epoch
    passes = [order(loader, epoch)[start : start + 5] for epoch in range(3) for start in (0, 5)]
    assert all(a != b for a, b in itertools.combinations(passes, 2))


def test_short_epochs_use_different_examples() -> None:
    loader = Loader(Rows(100), 5, 0, 2)
    assert len({row for epoch in range(30) for batch in order(loader, epoch) for row in batch}) > 80


def test_without_a_seed_an_epoch_is_one_pass() -> None:
    assert len(Loader(Rows(5), 2, None, 100)) == len(order(Loader(Rows(5), 2, None, 100))) == 3
    assert len(Loader(Rows(0), 2, 0, 100)) == len(order(Loader(Rows(0), 2, 0, 100))) == 0


def test_batch_moves_all_its_tensors() -> None:
    """To the meta device, so that a tensor left behind is detected."""
    batch = Batch(
        torch.zeros(2, 3, 1),
        lengths=torch.tensor([3, 1]),
        targets=torch.zeros(2, 1),
        target_lengths=torch.ones(2),
        rows=np.array([4, 5]),
        continues=True,
        extras={"scale": torch.ones(2, 1)},
    )
    moved = batch.to(torch.device("meta"))
    tensors = {f.name: t for f in dataclasses.fields(moved) if isinstance(t := getattr(moved, f.name), Tensor)}
    assert tensors.keys() == {"inputs", "lengths", "targets", "target_lengths"}
    assert {t.device.type for t in (*tensors.values(), moved.extras["scale"])} == {"meta"}
    assert (len(moved), moved.continues, moved.rows.tolist()) == (2, True, [4, 5])
    assert batch.inputs.device.type == batch.extras["scale"].device.type == "cpu"
    bare = Batch(torch.zeros(1, 2)).to(torch.device("meta"))
    assert (bare.targets, bare.lengths, bare.rows) == (None, None, None)


# ---- settings --------------------------------------------------------------------------------------------------------


@settings_class
class Base:
    """Settings that another class inherits."""

    epochs: int = setting("passes", default=10, low=1)
    rate: float = setting("learning rate", default=0.1, low=0, high=1)

    learned: list[int] = dataclasses.field(default_factory=list, init=False, repr=False)


@settings_class
class Recipe(Base):
    """One setting of every type."""

    name: str = setting("text", default="a", choices=("a", "b"))
    flag: bool = setting("yes or no", default=False)
    levels: tuple[int, ...] = setting("some", default=(50, 80), low=1, high=99)
    words: tuple[str, ...] = setting("columns", default=())
    shares: tuple[float, ...] = setting("shares", default=(0.5,), low=0, high=1)
    freq: str | None = setting("perhaps text", default=None)
    limit: int | None = setting("perhaps a number", default=None, low=0)


def test_settings_have_defaults_and_accept_values() -> None:
    recipe = Recipe(epochs=3, words=["x", "y"], freq="h", flag=True)
    texts = {"name": "a", "words": ["x", "y"], "freq": "h"}
    numbers = {"epochs": 3, "rate": 0.1, "flag": True, "levels": [50, 80], "shares": [0.5], "limit": None}
    assert values(recipe) == texts | numbers
    assert values(Recipe(**values(recipe))) == values(recipe)
    assert list(declared(Recipe)) == list(values(recipe))
    assert recipe.learned == []
    assert recipe != Recipe(epochs=3)


@pytest.mark.parametrize(
    ("invalid_settings", "message"),
    [
        ({"epoch": 3}, "unknown setting 'epoch': did you mean 'epochs'?"),
        ({"learning_rate": 3}, "unknown setting 'learning_rate'"),
        ({"zzz": 3}, "unknown setting 'zzz': known are epochs, rate, name, flag, levels"),
        ({"learned": [1]}, "unknown setting 'learned'"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": 2.0}, "epochs must be a whole number, got 2.0"),
        ({"epochs": "3"}, "epochs must be a whole number, got '3'"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"epochs": None}, "epochs must be a whole number, got None"),
        ({"rate": 1.5}, "rate must be at most 1, got 1.5"),
        ({"rate": -1}, "rate must be at least 0, got -1.0"),
        ({"rate": math.nan}, "rate must be a finite number, got nan"),
        ({"rate": math.inf}, "rate must be a finite number, got inf"),
        ({"rate": True}, "rate must be a number, got True"),
        ({"rate": "x"}, "rate must be a number, got 'x'"),
        ({"name": "c"}, "name must be one of a, b, got 'c'"),
        ({"name": 1}, "name must be text, got 1"),
        ({"name": None}, "name must be text, got None"),
        ({"flag": 1}, "flag must be true or false, got 1"),
        ({"flag": "yes"}, "flag must be true or false, got 'yes'"),
        ({"levels": (50, 100)}, "levels must be at most 99, got 100"),
        ({"levels": "50"}, "levels must be a whole number, got '50'"),
        ({"levels": None}, "levels must be a whole number, got None"),
        ({"levels": [50, [80]]}, r"levels must be a whole number, got \[80\]"),
        ({"shares": [0.5, math.nan]}, "shares must be a finite number"),
        ({"words": [1]}, "words must be text, got 1"),
        ({"freq": 5}, "freq must be text, got 5"),
        ({"limit": -1}, "limit must be at least 0, got -1"),
    ],
)
def test_invalid_settings_are_refused_by_name(invalid_settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message) as err:
        Recipe(**invalid_settings)
    assert "\n" not in str(err.value)


def test_settings_are_keyword_only() -> None:
    with pytest.raises(SettingError, match=r"Recipe takes settings by name, as in Recipe\(epochs=10\)"):
        Recipe(3)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", np.int64(3), 3),
        ("epochs", np.uint8(3), 3),
        ("rate", np.float32(0.5), 0.5),
        ("rate", np.float64(0.5), 0.5),
        ("rate", 1, 1.0),
        ("rate", np.int32(1), 1.0),
        ("rate", Fraction(1, 4), 0.25),
        ("flag", np.bool_(True), True),
        ("name", np.str_("b"), "b"),
        ("levels", 80, (80,)),
        ("levels", np.array([10, 20]), (10, 20)),
        ("levels", range(1, 3), (1, 2)),
        ("levels", (), ()),
        ("shares", [1, np.float32(0.5)], (1.0, 0.5)),
        ("words", "one", ("one",)),
        ("words", pd.Index(["x", "y"]), ("x", "y")),
        ("limit", None, None),
        ("limit", np.int64(5), 5),
    ],
)
def test_numpy_scalars_become_python_values(name: str, value: Any, expected: Any) -> None:
    """The values can be written as JSON."""
    stored = getattr(Recipe(**{name: value}), name)
    assert stored == expected == checked(Recipe, name, value)
    parts, expected_parts = (stored, expected) if isinstance(expected, tuple) else ((stored,), (expected,))
    if name not in ("name", "words"):  # numpy's text is a str
        assert [type(part) for part in parts] == [type(part) for part in expected_parts]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("epochs", "3", 3),
        ("rate", "1e-2", 0.01),
        ("rate", "1", 1.0),
        ("name", "b", "b"),
        *(("flag", text, True) for text in ("true", "True", "yes", "1")),
        *(("flag", text, False) for text in ("false", "FALSE", "no", "0")),
        ("levels", "50,80", (50, 80)),
        ("levels", " 50 , 80 ", (50, 80)),
        ("levels", "90", (90,)),
        ("levels", "90,", (90,)),
        ("words", "", ()),
        ("words", "x,größe", ("x", "größe")),
        ("shares", "0.5,1", (0.5, 1.0)),
        ("freq", "none", None),
        ("freq", "None", None),
        ("freq", "h", "h"),
        ("limit", "", None),
        ("limit", "7", 7),
    ],
)
def test_settings_are_read_from_text(name: str, text: str, expected: Any) -> None:
    parsed = parse(Recipe, name, text)
    assert parsed == expected
    assert type(parsed) is type(expected)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("epochs", "three", "epochs must be a whole number, got 'three'"),
        ("epochs", "2.5", "epochs must be a whole number, got '2.5'"),
        ("epochs", "none", "epochs must be a whole number, got 'none'"),
        ("epochs", "0", "epochs must be at least 1"),
        ("rate", "fast", "rate must be a number, got 'fast'"),
        ("rate", "nan", "rate must be a finite number"),
        ("flag", "maybe", "flag must be true or false, got 'maybe'"),
        ("flag", "", "flag must be true or false, got ''"),
        ("name", "c", "name must be one of a, b"),
        ("levels", "50;80", "levels must be a whole number, got '50;80'"),
        ("levels", "50,100", "levels must be at most 99, got 100"),
        ("limit", "x", "limit must be a whole number, got 'x'"),
    ],
)
def test_invalid_text_is_refused_by_name(name: str, text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parse(Recipe, name, text)


def test_unknown_name_suggests_the_nearest() -> None:
    assert (
        unknown("hidden-size", ["hidden_size", "seed"]) == "unknown setting 'hidden-size': did you mean 'hidden_size'?"
    )
    assert unknown("x", ["one", "two"], what="job") == "unknown job 'x': known are one, two"
