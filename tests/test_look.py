"""Figures: what is drawn, the data behind it, and unusual inputs."""

from __future__ import annotations

import io
import math
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstmkit import GRU, LSTM, RNN, look, plots
from lstmkit.jobs.forecaster import plots as forecast_plots
from lstmkit.look import gates
from lstmkit.plots.style import line_style
from lstmkit.plots.training import training_curve


def render(figure: Figure) -> bytes:
    """Render the figure as PNG; warnings while drawing are errors here."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=40)
    return out.getvalue()


def heat_maps(figure: Figure) -> dict[str, Axes]:
    return {ax.get_title(loc="left").split(":")[0]: ax for ax in figure.axes if ax.images}


def image(ax: Axes) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


def frames(horizon: int, known: int = 40, timestamps: pd.Index | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    ds = pd.RangeIndex(known + horizon) if timestamps is None else timestamps
    y = np.sin(np.arange(known + horizon) / 5) + 5
    table = pd.DataFrame({"unique_id": "a", "ds": ds, "y": y})
    ahead = table.iloc[known:].assign(forecast=y[known:] + 0.5)
    for level, half in ((80, 0.4), (95, 0.6)):
        ahead[f"forecast-lo-{level}"] = ahead["forecast"] - half
        ahead[f"forecast-hi-{level}"] = ahead["forecast"] + half
    return table.iloc[:known], ahead


# ---- half-life and summary -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forget", "steps"), [(0.5, 1.0), (0.25, 0.5), (2 ** (-1 / 8), 8.0), (0.0, 0.0), (1.0, math.inf)]
)
def test_half_life_of_a_constant_gate(forget: float, steps: float):
    assert gates.half_life(np.full((7, 3), forget)) == pytest.approx([steps] * 3)


def test_half_life_takes_the_geometric_mean():
    f = np.array([[0.9, 0.2], [0.4, 0.8]])
    memory = f.prod(axis=0) ** (gates.half_life(f) / 2)  # the remainder after that many steps
    assert memory == pytest.approx([0.5, 0.5])


def test_half_life_edges():
    assert gates.half_life(np.array([[0.5, np.nan], [0.5, 0.5]])) == pytest.approx([1, np.nan], nan_ok=True)
    assert np.isnan(gates.half_life(np.zeros((0, 2)))).all()
    assert gates.half_life(np.zeros((4, 0))).shape == (0,)
    assert gates.half_life(torch.full((3, 1), 0.5, dtype=torch.bfloat16)) == pytest.approx([1.0])
    with pytest.raises(ValueError, match=r"\(T, H\)"):
        gates.half_life(np.zeros(3))


@pytest.mark.parametrize(
    ("half_lives", "message"),
    [
        ([3.0], "3 steps"),
        ([1e-3, 5, 1e6], "5 steps"),
        ([2, 4, np.inf, 0, np.nan], "infinite: 1, zero: 1"),
    ],
)
def test_half_life_figure(half_lives: list[float], message: str):
    figure = gates.half_life_figure(np.array(half_lives))
    ax = figure.axes[0]
    assert message in ax.get_title(loc="left") + ax.get_title(loc="right")
    finite = [h for h in half_lives if 0 < h < np.inf]
    assert sum(bar.get_height() for bar in ax.patches) == len(finite)  # type: ignore[attr-defined]
    render(figure)


@pytest.mark.parametrize("half_lives", [[], [np.inf, np.inf], [0.0], [np.nan]])
def test_half_life_figure_without_finite_values_has_a_message(half_lives: list[float]):
    figure = gates.half_life_figure(np.array(half_lives))
    assert figure.axes[0].texts[0].get_text()
    render(figure)


def test_saturation_figure_has_one_point_per_unit():
    fractions = (np.full(3, 0.5), np.array([0.1, 0.0, 0.9]), np.array([0.2, 1.0, 0.1]))
    figure = gates.saturation_figure({"forget": fractions, "output": fractions})
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["forget gate", "output gate"]
    x, y = (np.asarray(data, dtype=float) for data in figure.axes[0].lines[1].get_data())
    assert x.tolist() == [0.1, 0.0, 0.9]
    assert y.tolist() == [0.2, 1.0, 0.1]
    render(figure)
    render(gates.saturation_figure({}))


# ---- gate heat maps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "titles"),
    [
        (LSTM(2, 5, batch_first=True), "forget gate,input gate,output gate,candidate,hidden state,cell state"),
        (
            LSTM(2, 5, proj_size=3, batch_first=True),
            "forget gate,input gate,output gate,candidate,hidden state,cell state",
        ),
        (GRU(2, 5, batch_first=True), "reset gate,update gate,candidate,hidden state"),
        (RNN(2, 5, batch_first=True), "hidden state"),
    ],
)
def test_gate_figure_of_each_cell(layer: LSTM | GRU | RNN, titles: str):
    trace = layer.trace(torch.randn(3, 6, 2)).gates[0, 0]
    sequence_gates = {name: gate[1] for name, gate in trace.items()}
    figure = gates.gate_figure(
        sequence_gates, title="a $title_", labels=list("ab $c_"), values=np.arange(12.0), forecast_start=4
    )
    maps = heat_maps(figure)
    assert list(maps) == titles.split(",")
    for name, ax in maps.items():
        gate = sequence_gates[name.split()[0]]
        assert image(ax).shape == gate.T.shape
        assert np.sort(image(ax), axis=0) == pytest.approx(np.sort(gate.detach().double().numpy().T, axis=0))
        assert ax.get_xlim() == (-0.5, 5.5) == figure.axes[0].get_xlim()
        assert ax.lines[0].get_xdata()[0] == 3.5  # type: ignore[index]
    x = np.asarray(figure.axes[0].lines[0].get_xdata())
    assert x == pytest.approx(np.arange(12) / 2 - 0.25)  # twelve values over six steps
    render(figure)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_gates_of_any_float_type(dtype: torch.dtype):
    half = torch.full((2, 3), 0.5, dtype=dtype)
    assert (image(heat_maps(gates.gate_figure({"forget": half}))["forget gate"]) == 0.5).all()


def test_units_have_the_same_order_in_all_maps_longest_memory_on_top():
    forget = np.array([[0.1, 0.9, 0.5]]).repeat(4, axis=0)
    maps = heat_maps(gates.gate_figure({"hidden": forget * 10, "forget": forget, "extra": forget}))
    assert image(maps["forget gate"])[:, 0].tolist() == [0.9, 0.5, 0.1]
    assert image(maps["hidden state"])[:, 0].tolist() == [9.0, 5.0, 1.0]
    assert image(maps["extra"])[:, 0].tolist() == [0.9, 0.5, 0.1]


def test_a_gru_is_sorted_by_its_update_gate_and_an_rnn_by_activity():
    update = np.array([[0.2, 0.7]])
    maps = heat_maps(gates.gate_figure({"update": update, "reset": update}))
    assert image(maps["reset gate"])[:, 0].tolist() == [0.7, 0.2]
    maps = heat_maps(gates.gate_figure({"hidden": np.array([[0.1, -0.9, 0.5]])}))
    assert image(maps["hidden state"])[:, 0].tolist() == [-0.9, 0.5, 0.1]


def test_sorting_by_another_gate():
    trace = {"forget": np.array([[0.1, 0.9]]), "input": np.array([[0.8, 0.3]])}
    figure = gates.gate_figure(trace, sort_by="input")
    assert image(heat_maps(figure)["forget gate"])[:, 0].tolist() == [0.1, 0.9]
    assert figure.axes[0].get_title(loc="right") == "most open input gate on top"


def test_many_units_are_thinned_evenly():
    forget = np.linspace(0, 1, 101)[None, :]
    ax = heat_maps(gates.gate_figure({"forget": forget}, units=11))["forget gate"]
    assert image(ax)[:, 0] == pytest.approx(np.linspace(1, 0, 11))
    assert ax.get_ylabel() == "11 of 101 units"


def test_scales_of_gates_and_states():
    figure = gates.gate_figure({"forget": np.full((2, 2), 0.5), "cell": np.array([[-3.0, 1], [2, 3]])})
    maps = heat_maps(figure)
    assert maps["forget gate"].images[0].get_clim() == (0, 1)
    low, high = maps["cell state"].images[0].get_clim()
    assert low == -high == pytest.approx(-3, abs=0.1)


def test_labels_are_thinned():
    labels = [f"2024-01-{day:02} 00:00" for day in range(1, 31)]
    figure = gates.gate_figure({"hidden": np.zeros((30, 2))}, labels=labels)
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert 2 < len(ticks) < 6
    assert set(ticks) <= set(labels)


def time_axis(labels: list[str]) -> tuple[list[str], str]:
    """The labels on the time axis of a sequence, and the text below them."""
    ax = gates.gate_figure({"hidden": np.zeros((len(labels), 2))}, labels=labels).axes[0]
    return [tick.get_text() for tick in ax.get_xticklabels()], ax.get_xlabel()


@pytest.mark.parametrize("labels", [["the", "old", "man", "and"], ["ancient", "sea"] * 20, [*"abcdefghijkl"] * 5])
def test_every_word_of_a_short_text_is_on_the_time_axis(labels: list[str]):
    assert time_axis(labels) == (labels, "")


def test_the_time_axis_of_a_long_text_says_that_words_are_left_out():
    shown, below = time_axis(["word", "another"] * 100)
    assert 40 <= len(shown) <= 60
    assert below == f"{len(shown)} of 200 steps have their label"


@pytest.mark.parametrize("gate", [np.zeros((1, 1)), np.full((3, 2), np.nan), np.full((3, 2), np.inf)])
def test_gate_figure_of_odd_values(gate: np.ndarray):
    render(gates.gate_figure({"forget": gate, "cell": gate, "hidden": gate}, values=gate[:, 0]))


@pytest.mark.parametrize(
    ("trace", "labels", "message"),
    [
        ({}, None, "one sequence"),
        ({"hidden": np.zeros((1, 2, 3))}, None, "one sequence"),
        ({"hidden": np.zeros((2, 3)), "cell": np.zeros((4, 3))}, None, "one sequence"),
        ({"hidden": np.zeros((0, 3))}, None, "nothing to draw"),
        ({"hidden": np.zeros((2, 3))}, ["a"], "expected 2, got 1"),
    ],
)
def test_gate_figure_refuses(trace: dict[str, np.ndarray], labels: list[str] | None, message: str):
    with pytest.raises(ValueError, match=message):
        gates.gate_figure(trace, labels=labels)


# ---- figures of a run ----------------------------------------------------------------------------------------------


def labels_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    "timestamps",
    [
        None,
        pd.date_range("2024-02-27", periods=46, freq="h", tz="Europe/Berlin"),
        pd.date_range("2020-01-31", periods=46, freq="ME"),
    ],
)
def test_forecast_draws_history_actuals_and_intervals(timestamps: pd.Index | None):
    history, ahead = frames(6, timestamps=timestamps)
    ahead["_naive $x^{"] = 5.0
    figure = forecast_plots.forecast_figure(history, ahead, [80, 95], title="$ 1_", baselines=["_naive $x^{"])
    ax = figure.axes[0]
    assert labels_of(figure) == ["observed", "forecast", "80 % interval", "95 % interval", "_naive $x^{"]
    assert [len(np.asarray(line.get_xdata())) for line in ax.lines] == [24 + 6, 2, 7, 7]  # observed, origin, 2 models
    wide, narrow = (path.get_extents() for c in ax.collections for path in c.get_paths())
    assert wide.height > narrow.height
    render(figure)


def test_forecast_draws_the_latest_windows_that_do_not_overlap():
    history, ahead = frames(20)
    rolling = [ahead.iloc[i : i + 6].assign(cutoff=39 + i) for i in range(15)]
    ax = forecast_plots.forecast_figure(history, pd.concat(rolling), [80]).axes[0]
    assert len(ax.collections) == 3
    points = [np.asarray(line.get_xdata()) for line in ax.lines if line.get_linewidth() == 1.8]
    assert [x[0] for x in points] == [41, 47, 53]  # each fans out from its origin
    assert points[-1][-1] == 59


@pytest.mark.parametrize("change", ["no y", "all y missing", "no history", "missing origin", "no levels", "nothing"])
@pytest.mark.parametrize("horizon", [1, 3])
def test_forecast_of_odd_frames(change: str, horizon: int):
    history, ahead = frames(horizon)
    history = {"all y missing": history.assign(y=np.nan), "no history": history.iloc[:0]}.get(change, history)
    if change == "missing origin":
        history = history.assign(y=history["y"].where(history["ds"] < 39))
    ahead = {"no y": ahead.drop(columns="y"), "all y missing": ahead.assign(y=np.nan), "nothing": ahead[:0]}.get(
        change, ahead
    )
    render(forecast_plots.forecast_figure(history, ahead, [] if change == "no levels" else [80]))


def test_forecast_draws_the_first_series_with_literal_names():
    history, ahead = frames(2)
    ids = ["<script>", "$\\frac{", "_c", "d"]
    both = [pd.concat([frame.assign(unique_id=uid) for uid in ids]) for frame in (history, ahead)]
    both = [frame.astype({"unique_id": "category"}) for frame in both]
    figure = forecast_plots.forecast_figure(*both, levels=[80], n_series=3)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ids[:3]
    render(figure)


def test_error_by_step():
    _, ahead = frames(3)
    second = ahead.assign(cutoff=2, y=ahead["y"] - 1, naive=ahead["y"])
    both = pd.concat([ahead.assign(cutoff=1, naive=ahead["y"]), second]).sample(frac=1, random_state=0)
    errors = forecast_plots.step_errors(both, ["forecast", "naive"])
    assert errors["step"].tolist() == [1, 2, 3]
    assert errors["forecast"].tolist() == pytest.approx([1.0] * 3)
    assert errors["naive"].tolist() == pytest.approx([0.5] * 3)
    figure = forecast_plots.error_by_step_figure(both, ["forecast", "naive"])
    assert labels_of(figure) == ["forecast", "naive"]
    render(figure)
    render(forecast_plots.error_by_step_figure(ahead[:1], ["forecast"]))
    render(forecast_plots.error_by_step_figure(ahead.assign(y=np.nan), ["forecast"]))


def test_steps_count_from_the_origin_if_actuals_are_missing():
    _, ahead = frames(3)
    ahead["y"] = [np.nan, 1.0, 2.0]
    assert forecast_plots.step_errors(ahead, ["forecast"])["step"].tolist() == [2, 3]


def test_calibration():
    frame = pd.DataFrame(
        {"y": [0.0, 1, 2, 3, np.nan], "m-lo-80": -1.0, "m-hi-80": 2.0, "m-lo-95": -9.0, "m-hi-95": 9.0}
    )
    assert forecast_plots.observed_coverage(frame, "m", [95, 80]) == {80: 75.0, 95: 100.0}
    figure = forecast_plots.interval_coverage_figure(frame, "m", [80, 95])
    assert "80 %: observed 75.0 %" in figure.axes[0].texts[-1].get_text()
    render(figure)
    render(forecast_plots.interval_coverage_figure(frame.assign(y=np.nan), "m", [80]))


def rows(epochs: int, **more: float) -> list[dict[str, float]]:
    return [{"epoch": e, "train_loss": 1 / e, "lr": 0.1 / e, **more} for e in range(1, epochs + 1)]


def test_training_curve():
    figure = training_curve({"seed 1": (rows(9, valid_loss=0.4), 3)})
    assert labels_of(figure) == ["training", "validation", "best epoch (3)"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "learning\nrate"]
    assert figure.axes[0].lines[-1].get_xydata().tolist() == [[3, 0.4]]  # type: ignore[union-attr]
    render(figure)


def test_training_curve_of_several_runs():
    figure = training_curve({"_1": (rows(3), -1), "$2^{": (rows(2), -1)})
    assert labels_of(figure) == ["_1", "$2^{", "training"]
    render(figure)


@pytest.mark.parametrize(
    "history", [[], rows(1), [{"epoch": e, "train_loss": v} for e, v in ((1, np.nan), (2, np.inf))]]
)
def test_training_curve_of_few_epochs(history: list[dict[str, float]]):
    render(training_curve({"": (history, 1)}))


# ---- style ---------------------------------------------------------------------------------------------------------


def test_neighboring_lines_differ_in_color_and_line_style():
    styles = [line_style(i) for i in range(20)]
    assert all(a["color"] != b["color"] and a["linestyle"] != b["linestyle"] for a, b in pairwise(styles))
    assert len({str(style) for style in styles}) == 20


def test_figures_are_the_same_from_threads():
    history, ahead = frames(3)
    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(lambda _: render(forecast_plots.forecast_figure(history, ahead, [80])), range(4)))
    assert len(set(pages)) == 1


def test_no_figure_uses_pyplot_or_changes_matplotlib():
    modules = [path for package in (look, plots) for path in Path(package.__path__[0]).glob("*.py")]
    assert len(modules) > 10
    for path in (*modules, Path(forecast_plots.__file__)):
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"import.*pyplot|rcParams|rc_context|matplotlib\.use", source), path.name


def test_selected_units_are_drawn_with_their_numbers():
    forget = np.linspace(0, 1, 40).reshape(4, 10)
    figure = gates.gate_figure({"forget": forget, "hidden": forget[:, :3]}, units=[7, 2])
    maps = heat_maps(figure)
    assert [label.get_text() for label in maps["forget gate"].get_yticklabels()] == ["7", "2"]
    assert [label.get_text() for label in maps["hidden state"].get_yticklabels()] == ["2"]
    render(figure)
    assert "hidden state" not in heat_maps(gates.gate_figure({"forget": forget, "hidden": forget[:, :3]}, units=[7]))
    for units, message in (
        ([10], "unit 10 does not exist: choose 0 to 9"),
        ([-1], "unit -1 does not exist"),
        ([], "no units to draw"),
    ):
        with pytest.raises(ValueError, match=message):
            gates.gate_figure({"forget": forget}, units=units)


def test_columns_may_represent_several_steps():
    figure = gates.gate_figure({"forget": np.full((4, 2), 0.5)}, steps=37, labels=[str(t) for t in range(37)])
    assert heat_maps(figure)["forget gate"].images[0].get_extent() == [-0.5, 36.5, 1.5, -0.5]
    render(figure)
