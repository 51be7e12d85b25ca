"""Handwriting synthesis: mixture density, soft window, files, baselines, metrics, generation and invalid input."""

from __future__ import annotations

import math
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.metrics import f1_score

from lstmkit import LSTM, HandwritingSynthesizer, load
from lstmkit.cli import main
from lstmkit.data import catalog
from lstmkit.data.batch import Batch, Loader
from lstmkit.data.ink.hershey_fonts import HERSHEY_FONTS, font_lines
from lstmkit.data.ink.points import MAX_JUMP_RATIO, Ink, offsets_to_strokes
from lstmkit.data.ink.strokes import InkDataset, InkSet, read_strokes
from lstmkit.data.ink.svg import read_svg, render_svg
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.jobs.handwriting_synthesizer.baselines import baselines_from_text, fit_handwriting_baselines
from lstmkit.jobs.handwriting_synthesizer.generation import score_drawings
from lstmkit.jobs.handwriting_synthesizer.metrics import pen_lift_f1
from lstmkit.jobs.handwriting_synthesizer.plots import ink_figure, nll_figure, soft_window_figure
from lstmkit.jobs.handwriting_synthesizer.predictor import HandwritingPredictor
from lstmkit.models.soft_window import SoftWindowModel, reached_end_of_text
from lstmkit.modules.mixture_density import MixtureDensityHead, PenMixture, mean_mixture
from lstmkit.modules.soft_window import SoftWindow
from lstmkit.progress import Progress
from lstmkit.recipes import handwriting_synthesizer as protocols
from lstmkit.recipes import recipe
from scored import run_protocol

CPU = torch.device("cpu")
RNG = np.random.default_rng


def tiny(**options) -> HandwritingSynthesizer:
    plain = {
        "hidden_size": 6,
        "mixture_components": 2,
        "window_components": 2,
        "epochs": 2,
        "batch_size": 8,
        "num_layers": 2,
    }
    return HandwritingSynthesizer(**{**plain, **options})


def drawings(n: int = 20, seed: int = 0) -> list[np.ndarray]:
    """Random drawings of 5 to 9 points."""
    rng = RNG(seed)
    samples = []
    for count in rng.integers(5, 10, n):
        points = np.column_stack([rng.normal(0, [3, 1], (count, 2)), rng.random(count) < 0.3])
        points[-1, 2] = 1
        samples.append(points)
    return samples


def drawings_with_texts(n: int = 20, seed: int = 0) -> list[tuple[np.ndarray, str]]:
    return [(points, "ab c"[: 1 + i % 4].strip()) for i, points in enumerate(drawings(n, seed))]


@pytest.fixture(scope="module")
def unconditional_job() -> HandwritingSynthesizer:
    return tiny().fit(drawings())


@pytest.fixture(scope="module")
def text_job() -> HandwritingSynthesizer:
    return tiny().fit(drawings_with_texts())


def mixture(
    seed: int = 0, shape: tuple[int, ...] = (4,), components: int = 3
) -> tuple[MixtureDensityHead, torch.Tensor]:
    """A mixture density head and random outputs of it, in float64."""
    torch.manual_seed(seed)
    head = MixtureDensityHead(5, components, 0.05).double()
    return head, torch.randn(*shape, head.output_size, dtype=torch.float64)


# ---- the density -----------------------------------------------------------------------------------------------------


def test_density_matches_scipy():
    """Density, pen and end probabilities match scipy point by point; the loss is the mean NLL per point."""
    head, outputs = mixture(shape=(2, 3))
    points = torch.randn(2, 3, 4, dtype=torch.float64)
    points[..., 2:] = (points[..., 2:] > 0).double()
    nll = head.mixture(outputs).nll(points)
    for b in range(2):
        for t in range(3):
            raw, (x, y, pen, last) = outputs[b, t].numpy(), points[b, t].tolist()
            weights = np.exp(raw[:3]) / np.exp(raw[:3]).sum()
            density = 0.0
            for k in range(3):
                mean, spread = raw[3 + 2 * k : 5 + 2 * k], np.exp(raw[9 + 2 * k : 11 + 2 * k]) + 0.05
                cross = 0.999 * np.tanh(raw[15 + k]) * spread.prod()
                covariance = [[spread[0] ** 2, cross], [cross, spread[1] ** 2]]
                density += weights[k] * multivariate_normal(mean, covariance).pdf([x, y])
            lifted, ended = (1 / (1 + math.exp(-raw[k])) for k in (18, 19))
            assert nll[b, t, 0].item() == pytest.approx(-math.log(density))
            assert nll[b, t, 1].item() == pytest.approx(-math.log(lifted if pen else 1 - lifted))
            assert nll[b, t, 2].item() == pytest.approx(-math.log(ended if last else 1 - ended) if pen else 0.0)
    loss = head.loss(outputs, Batch(points, torch.tensor([3, 1]), points))
    assert loss.item() == pytest.approx((nll[0].sum() + nll[1, 0].sum()).item() / 4)


def test_gradients_match_finite_differences():
    """Gradients of the NLL match finite differences in float64."""
    head, outputs = mixture(shape=(2, 2))
    points = torch.randn(2, 2, 4, dtype=torch.float64)
    points[..., 2:] = (points[..., 2:] > 0).double()
    assert torch.autograd.gradcheck(lambda o: head.mixture(o).nll(points), outputs.requires_grad_())


def test_density_sums_to_one():
    """The density sums to 1 over a fine grid of the plane."""
    head, outputs = mixture(seed=3, shape=())
    axis = torch.linspace(-20, 20, 401, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    points = torch.cat([grid, torch.zeros_like(grid)], -1)
    mixtures = head.mixture(outputs.expand(401, 401, -1))
    density = (-mixtures.nll(points)[..., 0]).exp().sum() * 0.1**2
    assert density.item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("size", [0.0, 1e3, 1e6])
def test_extreme_outputs_have_finite_nats_and_gradients(size: float):
    """NLL and gradients are finite for outputs of any magnitude and sign in float32."""
    head = MixtureDensityHead(5, 4, 1e-3)
    torch.manual_seed(0)
    outputs = (size * torch.randn(50, head.output_size)).requires_grad_()
    points = torch.cat([10 * torch.randn(50, 2), torch.ones(50, 2)], 1)
    nats = head.mixture(outputs).nll(points)
    nats.sum().backward()
    assert torch.isfinite(nats).all()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


def test_deviations_have_a_floor():
    """The standard deviation has a floor, so the density of an exact prediction is bounded."""
    head = MixtureDensityHead(5, 1, 0.5, ending=False).double()
    outputs = torch.full((7,), -50.0, dtype=torch.float64)
    outputs[1:3], outputs[5] = 0.0, 0.0
    distribution = head.mixture(outputs)
    assert distribution.log_deviations.exp().tolist() == [[pytest.approx(0.5)] * 2]
    assert distribution.nll(torch.zeros(4, dtype=torch.float64))[0].item() == pytest.approx(
        math.log(2 * math.pi * 0.25)
    )


def test_ensemble_predicts_the_mean_density():
    """An ensemble averages the probabilities of offsets, pen and end."""
    mixtures = [head.mixture(outputs) for head, outputs in (mixture(1), mixture(2))]
    for pen in (0.0, 1.0):
        points = torch.tensor([0.3, -0.2, pen, pen], dtype=torch.float64).expand(4, 4)
        mean = torch.stack([(-component.nll(points)).exp() for component in mixtures]).mean(0)
        torch.testing.assert_close((-mean_mixture(mixtures).nll(points)).exp(), mean)


def test_sampled_points_follow_the_mixture():
    """40,000 samples have the moments of the mixture; a high bias gives the mean of the likeliest component."""
    head, outputs = mixture(4, shape=(), components=2)
    outputs[:2] = torch.tensor([1.0, 0.0])
    distribution = head.mixture(outputs)
    wide = PenMixture(*(t.expand(40_000, *t.shape) for t in distribution if t is not None))
    noise = torch.rand(40_000, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    samples = wide.sample(noise)
    weights = distribution.logits.softmax(-1)
    mean = (weights[:, None] * distribution.means).sum(0)
    assert samples[:, :2].mean(0).tolist() == pytest.approx(mean.tolist(), abs=0.05)
    spread = distribution.log_deviations.exp()
    inside = torch.diag_embed(spread.square())
    inside[:, 0, 1] = inside[:, 1, 0] = distribution.correlations * spread.prod(-1)
    offsets = distribution.means - mean
    covariance = (weights[:, None, None] * (inside + offsets[:, :, None] * offsets[:, None])).sum(0)
    torch.testing.assert_close(samples[:, :2].T.cov(), covariance, rtol=0.05, atol=0.05)
    assert samples[:, 2].mean().item() == pytest.approx(distribution.pen.sigmoid().item(), abs=0.01)
    lifted = samples[samples[:, 2] > 0]
    assert distribution.last is not None
    assert lifted[:, 3].mean().item() == pytest.approx(distribution.last.sigmoid().item(), abs=0.02)
    assert not samples[samples[:, 2] == 0, 3].any()
    biased = wide.sample(noise, bias=20.0)[:, :2]
    torch.testing.assert_close(
        biased, distribution.means[distribution.logits.argmax()].expand_as(biased), rtol=0, atol=1e-5
    )


# ---- the window ------------------------------------------------------------------------------------------------------


def test_window_follows_the_equations():
    """The window follows equations 46 to 51 of Graves 2013; its centers only move forward."""
    torch.manual_seed(0)
    soft_window, hidden, before = SoftWindow(4, 3).double(), torch.randn(1, 4).double(), torch.rand(1, 3).double()
    text = torch.randn(1, 5, 2).double()
    window, centers, weights = soft_window(hidden, before, text)
    height, narrow, step = np.exp(soft_window.linear(hidden).detach().numpy()[0]).reshape(3, 3)
    kappa = before.numpy()[0] + step
    for u in range(1, 6):
        phi = sum(height[k] * math.exp(-narrow[k] * (kappa[k] - u) ** 2) for k in range(3))
        assert weights[0, u - 1].item() == pytest.approx(phi)
    torch.testing.assert_close(window[0], (weights[0, :, None] * text[0]).sum(0))
    assert (centers > before).all()
    assert torch.autograd.gradcheck(
        soft_window, (hidden.requires_grad_(), before.requires_grad_(), text.requires_grad_())
    )


def window_model(layers: int = 2) -> SoftWindowModel:
    torch.manual_seed(0)
    upper = LSTM(3 + 5 + 4, 5, layers - 1, batch_first=True, residual=True) if layers > 1 else None
    head = MixtureDensityHead(5 if upper is None else 10, 2, 0.1, ending=False)
    return SoftWindowModel(4, LSTM(7, 5, batch_first=True), SoftWindow(5, 3), upper, head).eval()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_steps_and_chunks_match_the_whole_sequence(layers: int):
    """Single steps and chunks give the outputs and the state of the whole sequence."""
    model, x, text = window_model(layers), torch.randn(2, 9, 3), torch.tensor([[1, 2, 0, 4], [3, 3, 1, 0]])
    whole, end = model(x, model.initial_state(text))
    state: Any = model.initial_state(text)
    steps = []
    for t in range(9):
        output, state = model.step(x[:, t], state)
        steps.append(output)
    torch.testing.assert_close(torch.stack(steps, 1), whole)
    torch.testing.assert_close(state.window, end.window)
    first, state = model(x[:, :4], model.initial_state(text))
    second, _ = model(x[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)


@pytest.mark.parametrize("layers", [1, 2])
def test_fused_pass_matches_the_stepwise_pass(layers: int):
    """The fused pass of training gives outputs, states and gradients of the stepwise pass, from any state."""
    model, text = window_model(layers).double(), torch.tensor([[1, 2, 0, 4], [3, 3, 1, 0]])
    x, more = torch.randn(2, 2, 7, 3).double()
    results = []
    for training in (True, False):
        model.train(training).zero_grad()
        _, state = model(x, model.initial_state(text))
        outputs, state = model(more, state)
        tensors = [outputs, state.window, state.middles, state.weights, *state.lower]
        (outputs.sin().sum() + sum(t.square().sum() for t in (state.window, state.middles, *state.lower))).backward()
        results.append(tensors + [p.grad for p in model.parameters()])
    for fused, stepped in zip(*results, strict=True):
        torch.testing.assert_close(fused, stepped)


def test_batching_does_not_change_scores():
    """The NLL of a drawing does not depend on the other drawings and texts of the batch."""
    inks = read_strokes(drawings_with_texts(6))
    writer = tiny().fit(inks)
    source = InkDataset(inks, 1.0, 0, writer.predictor.characters)
    together = score_drawings(writer.model, source, 1.0, CPU)
    for i in range(6):
        (alone,) = score_drawings(
            writer.model, InkDataset(inks.subset([i]), 1.0, 0, writer.predictor.characters), 1.0, CPU
        )
        np.testing.assert_allclose(alone[0], together[i][0], rtol=1e-4, atol=1e-5)


def test_end_of_the_text_is_detected():
    """The text ends if the last window weight exceeds all others."""
    state = window_model().initial_state(torch.tensor([[1, 2]]))
    for last, ended in (([0.2, 0.5, 0.4], False), ([0.1, 0.2, 0.3], True)):
        assert reached_end_of_text(state._replace(weights=torch.tensor([[[9.0, 0, 0], last]]))) is ended


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_arrays_with_predefined_splits(tmp_path: Path):
    """Files of arrays may have predefined splits and texts, or neither."""
    points = np.array([[1, 0, 0], [0, 1, 0], [2, 2, 0], [3, 3, 1]], dtype=np.int16)
    both = {"train_strokes": points, "train_offsets": [0, 2, 4], "test_strokes": points, "test_offsets": [0, 4]}
    np.savez(tmp_path / "a.npz", **both, train_texts=["a", "b"], test_texts=["ü c"])
    read = read_strokes(tmp_path / "a.npz")
    assert read.splits == ("train", "train", "test")
    assert [ink.text for ink in read.inks] == ["a", "b", "ü c"]
    assert read.predefined_split("valid") is None
    assert read.inks[0].points.tolist() == [[1, 0, 0], [0, 1, 1]]  # the pen is lifted after the last point
    np.savez(tmp_path / "b.npz", strokes=points, offsets=np.array([0, 4]))
    plain = read_strokes(str(tmp_path / "b.npz"))
    assert (plain.splits, plain.has_texts, plain.points) == (None, False, 4)


def test_table_of_points(tmp_path: Path):
    """Tables hold positions relative to the first point of a drawing; rows of drawings may be interleaved."""
    frame = pd.DataFrame(
        {"id": ["a", "b", "a", "b"], "x": [5, 0, 8, 1], "y": [5, 0, 9, 1], "pen": [0, 0, 1, 1], "text": list("uvuv")}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    for data in (frame, tmp_path / "t.csv"):
        read = read_strokes(data)
        assert [ink.points.tolist() for ink in read.inks] == [[[0, 0, 0], [3, 4, 1]], [[0, 0, 0], [1, 1, 1]]]
        assert [(ink.name, ink.text) for ink in read.inks] == [("a", "u"), ("b", "v")]


def test_svg_shapes(tmp_path: Path):
    """SVG files may have absolute and relative paths, polylines, lines and polygons; a folder is read too."""
    body = (
        '<path d="M1,2 3 4l1-1e0H9v2zm1 1L0 0"/><g><polyline points="0,0 1,1 2,0"/></g>'
        '<line x1="1" y1="1" x2="4" y2="5"/><polygon points="0 0 1 0 1 1"/>'
    )
    (tmp_path / "one.svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg">{body}</svg>')
    assert [line.tolist() for line in read_svg(tmp_path / "one.svg")] == [
        [[1, 2], [3, 4], [4, 3], [9, 3], [9, 5], [1, 2]],
        [[2, 3], [0, 0]],
        [[0, 0], [1, 1], [2, 0]],
        [[1, 1], [4, 5]],
        [[0, 0], [1, 0], [1, 1], [0, 0]],
    ]
    (ink,) = read_strokes(tmp_path).inks
    assert ink.points[:, 2].sum() == 5
    assert [line.tolist() for line in ink.strokes][-1] == [[-1, -2], [0, -2], [0, -1], [-1, -2]]


def svg(body: str) -> dict[str, str]:
    return {"a.svg": f"<svg>{body}</svg>"}


@pytest.mark.parametrize(
    ("files", "phrase"),
    [
        ({"a.svg": "<svg"}, "a.svg is not a readable SVG file"),
        (svg(""), "a.svg has no line"),
        (svg('<path d="M0 0C1 1 2 2 3 3"/>'), r"a.svg has curves \(C\): flatten them"),
        (svg('<path d="M0 0a1 1 0 0 1 3 3"/>'), "has curves"),
        (svg('<path d="L0 0 1 1"/>'), "a path must begin with M"),
        (svg('<path d="M0 0 1"/>'), "is not a list of x,y positions"),
        (svg('<polyline points="a b"/>'), "is not a list of x,y positions"),
        (svg('<g transform="turn(2)"><path d="M0 0L1 1"/></g>'), "transform"),
        (svg('<path d="M1 1"/>'), "has 1 point: give at least 2"),
        ({"a.csv": "id,x,y\n1,2,3\n"}, "no column 'pen'"),
        ({"a.csv": "id,x,y,pen\n1,2,?,0\n1,2,3,1\n"}, r"column 'y', row 1 below the header: '\?' is not a number"),
        ({"a.csv": "id,x,y,pen\n1,2,,0\n1,2,3,1\n"}, "is a missing value"),
        ({"a.csv": "id,x,y,pen\n1,2,3,0\n1,2,3,2\n"}, r"1: the pen must be 0 .* or 1"),
        ({"a.csv": "id,x,y,pen,text\n1,2,3,0,a\n1,2,3,1,b\n"}, "the rows of 1 have different texts"),
        ({"a.csv": "id,x,y,pen\nq,2,3,1\n"}, "q has 1 point: give at least 2"),
        ({"a.npz": "no"}, "a.npz is not a readable .npz of strokes"),
        ({"a.bin": "no"}, "unsupported file format"),
        ({"a.txt": ""}, "a.txt"),
    ],
    ids=str,
)
def test_bad_files_are_refused(files: dict[str, str], phrase: str, tmp_path: Path):
    """The error is one line that says what is wrong and where."""
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=phrase) as caught:
        read_strokes(tmp_path / next(iter(files)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "phrase"),
    [
        ({"x": np.zeros(3)}, "has no strokes"),
        ({"strokes": np.zeros((3, 3))}, "offsets must increase"),
        ({"strokes": np.zeros((3, 3)), "offsets": np.array([0, 2])}, "offsets must increase"),
        ({"strokes": np.zeros((3, 3)), "offsets": np.array([0, 2, 1, 3])}, "offsets must increase"),
        ({"strokes": np.zeros((3, 3)), "offsets": np.array([0.0, 3.0])}, "offsets must increase"),
        ({"strokes": np.zeros((3, 2)), "offsets": np.array([0, 3])}, "has shape"),
        (
            {"strokes": np.zeros((3, 3)), "offsets": np.array([0, 3]), "texts": np.array(["a", "b"])},
            "one text for each",
        ),
        ({"strokes": np.zeros((0, 3)), "offsets": np.array([0])}, "has no drawing"),
        ({"strokes": np.zeros((3, 3)), "offsets": np.array([0, 3, 3])}, "drawing 2 has 0 points"),
        ({"strokes": np.full((3, 3), np.nan), "offsets": np.array([0, 3])}, "an offset is NaN or above"),
        ({"strokes": np.array([[None] * 3] * 3), "offsets": np.array([0, 3])}, "not a readable .npz of strokes"),
    ],
    ids=str,
)
def test_bad_arrays_are_refused(arrays: dict[str, np.ndarray], phrase: str, tmp_path: Path):
    """Invalid arrays are errors, pickled ones too: no code in them runs."""
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=phrase):
        read_strokes(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        (5, "give a path"),
        ([], "the list is empty"),
        ([[[1, 2, 3, 4]] * 2], "has shape"),
        ([[["a", 1, 0]] * 2], "has shape"),
        ([[[1, 2, 0], [1, 2]]], "has shape"),
        ([[[1, 1, 1]]], "drawing 1 has 1 point: give at least 2"),
        ([[[1, 1, 0.5]] * 2], "the pen must be"),
        ([[[math.inf, 1, 0]] * 2], "an offset is NaN or above"),
        ([np.zeros((200_000, 3))], "200,000 points, the maximum is"),
        ([([[1, 1, 0]] * 2, "a" * 20_000)], "20,000 characters"),
        (["/nowhere/a.svg"], "no such file"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_lists_are_refused(data: Any, phrase: str):
    with pytest.raises(DataError, match=phrase):
        read_strokes(data)


def test_drawing_with_a_huge_jump_is_dropped():
    """A note counts the dropped drawings; it is an error if all drawings have a jump."""
    usual, far = [[1, 0, 0], [0, 1, 1]], [[1, 0, 0], [2 * MAX_JUMP_RATIO, 0, 1]]
    read = read_strokes([usual] * 9 + [far])
    assert len(read) == 9
    assert (
        "1 drawings with a jump of over 1,000 times the usual offset (1) were dropped, the first is drawing 10"
        in read.notes[0]
    )
    with pytest.raises(DataError, match="every drawing has a jump"):
        read_strokes([[[1, 0, 0], [1, 0, 0], [9 * MAX_JUMP_RATIO, 0, 1]]])


def test_all_drawings_or_none_have_texts():
    with pytest.raises(DataError, match="drawing 10 has no text, but others have"):
        tiny().fit([*drawings_with_texts(9), drawings(1)[0]])
    with pytest.raises(DataError, match="has no texts, but the model was trained on drawings with texts"):
        tiny().fit(drawings_with_texts(), validation=drawings())
    with pytest.raises(DataError, match="nothing is drawn"):
        tiny().fit([[[0, 0, 0], [0, 0, 1]]] * 9)


points_of_drawings = st.lists(
    st.tuples(st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 1)), min_size=2, max_size=20
)


@settings(deadline=None, max_examples=30)
@given(st.lists(points_of_drawings, min_size=1, max_size=4))
def test_batches_contain_every_point_once(all_points: list[list[tuple[int, int, int]]]):
    """Windows of 4 contain each point once, with the previous point as input and a mark at the last point."""
    inks = InkSet(tuple(Ink(np.array(points, dtype=np.float32), "i") for points in all_points), "i")
    source = InkDataset(inks, 2.0, 4)
    rows_by_drawing: dict[int, list[list[float]]] = {}
    for batch in Loader(source, 3).epoch():
        assert batch.rows is not None
        assert batch.lengths is not None
        assert batch.targets is not None
        for i, row in enumerate(batch.rows):
            number, start, _ = source.windows[row]
            n = int(batch.lengths[i])
            before = [0.0, 0.0, 0.0] if start == 0 else source.points[number][start - 1].tolist()
            assert batch.inputs[i, 0].tolist() == before
            assert batch.inputs[i, 1:n].tolist() == batch.targets[i, : n - 1, :3].tolist()
            rows_by_drawing.setdefault(number, []).extend((start + t, *batch.targets[i, t].tolist()) for t in range(n))
    for number, points in enumerate(all_points):
        expected = [
            [float(k), x / 2, y / 2, float(p), float(k == len(points) - 1)] for k, (x, y, p) in enumerate(points)
        ]
        assert sorted(map(list, rows_by_drawing[number])) == expected


# ---- baselines -------------------------------------------------------------------------------------------------------


def test_baselines_by_hand():
    """Gaussian and AR(2) baselines match independent fits; the mixture matches its parameters."""
    data = drawings(40)
    points, floor = np.concatenate(data), 0.1
    baselines = fit_handwriting_baselines(data, floor, 0)
    extra = floor**2 * np.eye(2)
    gaussian = multivariate_normal(points[:, :2].mean(0), np.cov(points[:, :2].T, bias=True) + extra)
    drawing = data[0]
    nats, chance = baselines.single_gaussian(drawing)
    np.testing.assert_allclose(nats[:, 0], -gaussian.logpdf(drawing[:, :2]))
    np.testing.assert_allclose(chance, (points[:, 2].sum() + 0.5) / (len(points) + 1))
    np.testing.assert_allclose(nats[:, 1], -np.log(np.where(drawing[:, 2] == 1, chance, 1 - chance)))

    features = [
        np.concatenate([d[t - 1] if t else np.zeros(3), d[t - 2] if t > 1 else np.zeros(3), [1]])
        for d in data
        for t in range(len(d))
    ]
    linear = np.linalg.pinv(np.array(features)) @ points[:, :2]
    residuals = points[:, :2] - np.array(features) @ linear
    noise = multivariate_normal([0, 0], residuals.T @ residuals / len(residuals) + extra)
    nats, chance = baselines.autoregression(drawing)
    np.testing.assert_allclose(nats[:, 0], -noise.logpdf(residuals[: len(drawing)]))
    pens = [(s[2], s[5], p[2]) for s, p in zip(features, points, strict=True)]
    same_pens = [p for a, b, p in pens if (a, b) == (0, 0)]
    base_rate = (points[:, 2].sum() + 0.5) / (len(points) + 1)
    assert chance[0] == pytest.approx((sum(same_pens) + base_rate) / (len(same_pens) + 1))

    nats, _ = baselines.mixture(drawing)
    parts = zip(baselines.weights, baselines.means, baselines.covariances, strict=True)
    density = sum(w * multivariate_normal(m, c).pdf(drawing[:, :2]) for w, m, c in parts)
    np.testing.assert_allclose(nats[:, 0], -np.log(density))
    loaded = baselines_from_text(baselines.to_text())
    for name in ("single_gaussian", "mixture", "autoregression"):
        np.testing.assert_array_equal(getattr(loaded, name)(drawing)[0], getattr(baselines, name)(drawing)[0])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_pen_lift_f1_matches_scikit_learn(pairs: list[tuple[bool, bool]]):
    predicted, lifted = np.array(pairs).T
    assert pen_lift_f1(predicted, lifted) == pytest.approx(f1_score(lifted, predicted, zero_division=0.0))


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_nll_is_in_the_unit_of_the_data(unconditional_job: HandwritingSynthesizer):
    """Drawings scaled by 1000 have an NLL that is higher by 2 ln 1000 nats per point."""
    small = tiny().fit(drawings())
    large = tiny().fit([points * [1000, 1000, 1] for points in drawings()])
    tables = [writer.evaluate(data).table for writer, data in (
        (small, drawings(5, 1)), (large, [points * [1000, 1000, 1] for points in drawings(5, 1)]))]  # fmt: skip
    gap = tables[1]["NLL per point"] - tables[0]["NLL per point"]
    assert gap.tolist() == pytest.approx([2 * math.log(1000)] * 4, abs=2e-3)
    assert tables[0]["pen NLL"].tolist() == pytest.approx(tables[1]["pen NLL"].tolist(), abs=1e-4)


def test_deviation_floor_depends_on_the_data():
    """The floor is the rounding error of whole numbers, or 0.001 of the offsets' standard deviation."""
    writer = tiny().fit([np.round(points) for points in drawings()])
    assert writer.predictor.min_std == pytest.approx(1 / math.sqrt(12))
    other = tiny().fit(drawings())
    assert other.predictor.min_std == pytest.approx(1e-3 * other.predictor.offset_scale)


def test_evaluate_scores_the_test_split(tmp_path: Path):
    """``evaluate`` scores the predefined test split, lists three baselines, and counts unknown characters."""
    arrays: dict[str, Any] = {}
    for i, (part, letter) in enumerate((("train", "a"), ("valid", "a"), ("test", "z"))):
        split = drawings(6, i)
        arrays |= {
            f"{part}_strokes": np.concatenate(split),
            f"{part}_offsets": np.cumsum([0, *map(len, split)]),
            f"{part}_texts": np.array([letter] * 6),
        }
    np.savez(tmp_path / "p.npz", **arrays)
    evaluation = tiny().fit(tmp_path / "p.npz").evaluate(tmp_path / "p.npz")
    assert len(evaluation.details) == sum(map(len, drawings(6, 2)))
    assert evaluation.table["model"].tolist() == [
        "LSTM, 2 Gaussians", "AR(2)", "Gaussian mixture without memory", "single Gaussian",
    ]  # fmt: skip
    assert any("6 characters are not in the training split" in note for note in evaluation.notes)


# ---- generation ------------------------------------------------------------------------------------------------------


def same_lines(a: list[np.ndarray], b: list[np.ndarray], tolerance: float) -> bool:
    """Whether two drawings are equal up to a translation."""
    shifted = [[line - lines[0][0] for line in lines] for lines in (a, b)]
    return len(a) == len(b) and all(
        x.shape == y.shape and np.allclose(x, y, atol=tolerance) for x, y in zip(*shifted, strict=True)
    )


def test_generated_files_can_be_read(unconditional_job: HandwritingSynthesizer, tmp_path: Path):
    """Files in SVG, CSV and NPZ format are read back as the same strokes."""
    written = unconditional_job.generate(3, seed=2)
    for suffix, tolerance in ((".csv", 1e-3), (".npz", 0.0), (".svg", 0.05)):
        unconditional_job.write(written[:1] if suffix == ".svg" else written, tmp_path / f"w{suffix}")
        loaded = read_strokes(tmp_path / f"w{suffix}")
        assert len(loaded) == (1 if suffix == ".svg" else 3)
        for drawing, ink in zip(written, loaded.inks, strict=False):
            assert same_lines(offsets_to_strokes(drawing.strokes), ink.strokes, tolerance), suffix


def test_seed_determines_the_drawing(unconditional_job: HandwritingSynthesizer):
    """A seed repeats a drawing; the second drawing is the first of the next seed; the last point lifts the pen."""
    first, second = unconditional_job.generate(2, seed=5)
    (again,), (next_seed,) = unconditional_job.generate(1, seed=5), unconditional_job.generate(1, seed=6)
    np.testing.assert_array_equal(first.strokes, again.strokes)
    np.testing.assert_array_equal(second.strokes, next_seed.strokes)
    assert first.strokes.shape != second.strokes.shape or (first.strokes != second.strokes).any()
    assert first.strokes[-1, 2] == 1
    assert first.window is None


def test_drawing_is_continued(unconditional_job: HandwritingSynthesizer):
    """The prime is kept bit for bit; ``prime_points`` shortens it; ``max_new_points`` limits the new points."""
    data = drawings(2, 9)
    for drawing, points in zip(unconditional_job.predict(data, max_new_points=3), data, strict=True):
        np.testing.assert_array_equal(drawing.strokes[: len(points)], points.astype(np.float32))
        assert drawing.num_prime_points == len(points)
        assert 1 <= len(drawing.strokes) - drawing.num_prime_points <= 3
        assert len(drawing.nll_per_point) == len(drawing.strokes) - drawing.num_prime_points
    (short,) = unconditional_job.generate(1, prime=data[:1], prime_points=2, max_new_points=1)
    assert (short.num_prime_points, len(short.strokes)) == (2, 3)


def test_nll_of_generated_points_matches_scoring(text_job: HandwritingSynthesizer):
    """The NLL of generated points equals their score as a drawing, except at the last pen lift."""
    (drawing,) = text_job.generate(["ab"], seed=1, max_new_points=6)
    source = InkDataset(read_strokes(drawing.ink), text_job.predictor.offset_scale, 0, text_job.predictor.characters)
    ((nats, _),) = score_drawings(text_job.model, source, text_job.predictor.offset_scale, CPU)
    np.testing.assert_allclose(np.array(drawing.nll_per_point)[:-1], nats[:-1, :2].sum(1), rtol=1e-3, atol=1e-3)


def test_text_is_written(text_job: HandwritingSynthesizer):
    """A text is written with the soft window, also after a prime with a text."""
    (drawing,) = text_job.generate(["ab  c"], bias=1.0, max_new_points=7)
    assert drawing.text == "ab c"
    assert drawing.window is not None
    assert drawing.window.shape == (len(drawing.strokes), 4)
    assert len(drawing.strokes) <= 7
    prime = Ink(drawings(1)[0].astype(np.float32), "p", "ab")
    (continued,) = text_job.generate("c", prime=prime, max_new_points=4)
    assert (continued.text, continued.num_prime_points) == ("ab c", len(prime.points))
    assert continued.window is not None
    assert len(continued.window) == len(continued.strokes)
    np.testing.assert_array_equal(continued.strokes[: continued.num_prime_points], prime.points)


def test_generation_stops_at_the_end_of_the_text(text_job: HandwritingSynthesizer, monkeypatch: pytest.MonkeyPatch):
    """Generation stops by the rule of Graves, from the second point on, without the prediction of that step."""
    answers = iter([False, True])
    monkeypatch.setattr(
        "lstmkit.jobs.handwriting_synthesizer.generation.reached_end_of_text", lambda state: next(answers)
    )
    (drawing,) = text_job.generate(["a"])
    assert (len(drawing.strokes), drawing.ended, drawing.strokes[-1, 2]) == (3, True, 1)
    assert drawing.window is not None
    assert len(drawing.window) == 3


@pytest.mark.parametrize(
    ("ask", "phrase"),
    [
        (lambda w: w.generate(["né"]), "characters that the training split lacks, 'n', 'é': remove them"),
        (lambda w: w.generate([" "]), "a text to write must have 1 to 10,000 characters, got 0"),
        (lambda w: w.generate(3), "this model writes texts: give texts, not a number"),
        (lambda w: w.generate(["a"], prime=drawings(1)), "the prime drawing 1 has no text"),
        (lambda w: w.generate(["a"], prime_points=2), "prime_points is for models without texts"),
        (lambda w: w.generate(["a"], bias=-1), "bias must be within"),
        (lambda w: w.generate(["a"], bias=math.nan), "bias must be within"),
        (lambda w: w.generate(["a"], seed=-1), "seed within"),
        (lambda w: w.generate(["a"], max_new_points=-3), "max_new_points must be"),
        (lambda w: w.generate([]), "1 to 1,000 drawings can be generated at once, got 0"),
        (lambda w: w.predict(drawings(1)), "has no texts, but the model was trained on drawings with texts"),
    ],
)
def test_bad_options_with_texts_are_refused(ask: Any, phrase: str, text_job: HandwritingSynthesizer):
    with pytest.raises(UserError, match=phrase):
        ask(text_job)


@pytest.mark.parametrize(
    ("ask", "phrase"),
    [
        (lambda w: w.generate(["a"]), "without texts: give a number of drawings"),
        (lambda w: w.predict(["a"]), "give a number of drawings, or drawings"),
        (lambda w: w.generate(0), "1 to 1,000"),
        (lambda w: w.predict("1001"), "1 to 1,000"),
        (lambda w: w.predict(drawings(1), prime=drawings(1)), "prime goes with a number of drawings"),
    ],
)
def test_bad_options_without_texts_are_refused(ask: Any, phrase: str, unconditional_job: HandwritingSynthesizer):
    with pytest.raises(UserError, match=phrase):
        ask(unconditional_job)


def test_it_learns_a_square():
    """The model learns a noisy square: it beats the baselines, generates it accurately, and ends it."""
    square = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 1]], dtype=np.float64)
    rng = RNG(0)
    data = [square + np.column_stack([rng.normal(0, 0.02, (4, 2)), np.zeros(4)]) for _ in range(60)]
    writer = HandwritingSynthesizer(
        hidden_size=24, num_layers=1, mixture_components=3, epochs=40, lr=0.02, batch_size=16, dropout=0
    ).fit(data)
    table = writer.evaluate(data).table
    assert table["NLL per point"][0] < table["NLL per point"][1:].min()
    assert table["pen-lift F1"][0] == 1.0
    (drawing,) = writer.generate(1, bias=3)
    assert drawing.ended
    np.testing.assert_allclose(drawing.strokes[:4, :2], square[:, :2], atol=0.2)


def test_command_line(text_job: HandwritingSynthesizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command line writes a file of texts as an SVG page with titles, and a picture."""
    text_job.save(tmp_path / "run")
    (tmp_path / "texts.txt").write_text("ab\nc\n")
    arguments = [
        "lstmkit",
        "predict",
        "run",
        "texts.txt",
        "-o",
        "page.svg",
        "--bias",
        "1",
        "--max-new-points",
        "5",
        "--picture",
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [*arguments, "p.png"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    root = xml.fromstring((tmp_path / "page.svg").read_text())
    assert [e.text for e in root.iter() if e.tag.endswith("title")] == ["ab", "c"]
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert isinstance(load(tmp_path / "run"), HandwritingSynthesizer)


def test_svg_page_escapes_texts():
    """An SVG page escapes XML characters and drops invalid ones; drawings may be single points or empty."""
    dot = np.array([[3.0, 3.0]])
    root = xml.fromstring(render_svg([[(dot, "")], [(dot, "#999999")]], ['<&>"\x00', "\u202e"]))
    assert next(e.text for e in root.iter() if e.tag.endswith("title")) == '<&>"'


def test_figures_of_edge_cases():
    """Figures of points, flat lines and many drawings work; texts are shown literally."""
    flat, dot = np.array([[1.0, 0, 0], [5, 0, 1]]), np.array([[0.0, 0, 0], [0, 0, 1]])
    for drawn in ([flat], [dot], [dot] * 40, [flat, dot]):
        assert ink_figure(drawn, ["$x_1"] * len(drawn), [1] * len(drawn)).axes
    figure = soft_window_figure(flat, np.eye(2), "$ ", "$")
    figure.savefig("/dev/null", format="png")
    nll_figure(flat, np.zeros(2), "a")


# ---- the font and its recipe -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("font", HERSHEY_FONTS)
def test_every_font_writes_all_ascii_characters(font: str):
    """A seed determines the strokes; without jitter a letter is the same at each position."""
    text = "".join(map(chr, range(33, 127)))
    ink, again, other = (font_lines([text], seed, font).inks[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(ink.points, again.points)
    assert ink.points.shape != other.points.shape or (ink.points != other.points).any()
    assert np.hypot(*ink.points[ink.points[:, 2] == 0, :2].T).max() < 60
    (plain,) = font_lines(["oo"], font=font, jitter=0).inks
    first, second = np.array_split(plain.points, 2)
    np.testing.assert_allclose(first[1:], second[1:], atol=1e-5)


@pytest.mark.parametrize(
    ("texts", "font", "phrase"),
    [
        (["é"], "scripts", "line 1: the font has no 'é'"),
        (["a", " "], "scripts", "line 2: the text is blank"),
        (["a"], "comic", "unknown font 'comic'"),
    ],
)
def test_characters_missing_from_the_font_are_refused(texts: list[str], font: str, phrase: str):
    with pytest.raises(DataError, match=phrase):
        font_lines(texts, font=font)


def test_splits_of_font_lines_share_no_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The splits share no words; the protocol scores the test split."""
    words = [chr(97 + i) + chr(97 + j) for i in range(10) for j in range(10)]
    (tmp_path / "text.txt").write_text(" ".join(words))
    options = {"file": "text.txt", "seed": 1, "train": 30, "valid": 5, "test": 6, "longest": 6}
    inks = protocols.make_font_lines(tmp_path / "text.txt", options)
    parts = {part: inks.predefined_split(part) for part in ("train", "valid", "test")}
    assert {part: len(split) for part, split in parts.items() if split} == {"train": 30, "valid": 5, "test": 6}
    vocabularies = {
        part: {word for ink in split.inks for word in ink.text.split()} for part, split in parts.items() if split
    }
    assert not vocabularies["train"] & (vocabularies["test"] | vocabularies["valid"])
    assert not vocabularies["valid"] & vocabularies["test"]
    assert max(len(ink.text) for ink in inks.inks) <= 6
    monkeypatch.setattr(catalog, "locate", lambda name, file: tmp_path / file)
    job = tiny(epochs=1, steps_per_epoch=1)
    table = run_protocol(protocols.font_line_splits, job, tmp_path, options)
    test = parts["test"]
    assert test is not None
    pd.testing.assert_frame_equal(table, job.evaluate_examples(test, Progress()).table)


def test_recipe_data():
    """The data of the recipe have the documented number of drawings and points."""
    try:
        path = catalog.locate("online_strokes", recipe("kanji_strokes").options["file"])
    except DataError as err:
        pytest.skip(str(err))
    read = read_strokes(path)
    train = read.predefined_split("train")
    assert train is not None
    assert (len(train), train.points) == (10_000, 406_111)
    assert not read.notes


def test_damaged_state_is_refused(unconditional_job: HandwritingSynthesizer):
    """Invalid values in a saved state are errors."""
    for change in ({"scale": 0.0}, {"floor": 99.0}, {"pace": -1}, {"longest": 10**9}, {"characters": "aa"}):
        with pytest.raises(ValueError):
            HandwritingPredictor.from_state(tiny(), {**unconditional_job.predictor.state(), **change})
    with pytest.raises(SettingError):
        tiny(mixture_components=0)
