"""Inspection of models: traces equal the layers' computations, for any module, in bounded memory."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstmkit import GRU, LSTM, RNN
from lstmkit.errors import SettingError, UserError
from lstmkit.lab.cell_variants import KINDS
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.look import (
    ExampleSequence,
    InspectionOptions,
    LayerKey,
    cell_step,
    gradient_flow,
    input_attributions,
    sections,
    trace_layers,
    write_inspection_page,
)
from lstmkit.look import traces as inside_module
from lstmkit.look.gates import half_life
from lstmkit.look.unit_activations import correlations, most_variable_units, peak_activations

LAYERS: dict[str, Any] = {
    "lstm": lambda **o: LSTM(3, 6, **o),
    "peephole": lambda **o: LSTM(3, 6, peephole=True, **o),
    "coupled": lambda **o: LSTM(3, 6, coupled=True, **o),
    "layer norm": lambda **o: LSTM(3, 6, layer_norm=True, **o),
    "projection": lambda **o: LSTM(3, 6, proj_size=4, **o),
    "zoneout": lambda **o: LSTM(3, 6, zoneout=0.2, **o),
    "everything": lambda **o: LSTM(3, 6, peephole=True, layer_norm=True, proj_size=4, zoneout=0.2, **o),
    "gru": lambda **o: GRU(3, 6, **o),
    "gru, layer norm": lambda **o: GRU(3, 6, layer_norm=True, **o),
    "rnn": lambda **o: RNN(3, 6, **o),
    "relu": lambda **o: RNN(3, 6, nonlinearity="relu", **o),
}


def layer_of(name: str, **options: Any) -> RecurrentLayer:
    torch.manual_seed(0)
    layer = LAYERS[name](batch_first=True, **options).eval()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return layer


def sequence(steps: int = 30, features: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(1, steps, features, generator=torch.Generator().manual_seed(seed))


class Tagger(nn.Module):
    """A user's model with two recurrent layers, one of torch.nn."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.GRU(3, 4, batch_first=True, bidirectional=True)
        self.above = LSTM(8, 5, num_layers=2, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.above(self.below(x)[0])[0])


# ---- traces equal the computation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("bidirectional", "num_layers"), [(False, 1), (True, 2)])
def test_traces_equal_the_layers_own_trace(name: str, bidirectional: bool, num_layers: int):
    if name == "layer norm" and bidirectional:
        pytest.skip("one stack is enough")
    layer, x = layer_of(name, bidirectional=bidirectional, num_layers=num_layers), sequence()
    expected, traces = layer.trace(x), trace_layers(layer, x)
    assert [(key.layer, key.direction) for key in traces] == list(expected.gates)
    for (k, d), gates in expected.gates.items():
        trace = traces[LayerKey("RNN" if name in ("rnn", "relu") else type(layer).__name__, k, d)]
        assert trace.gates.keys() == gates.keys()
        assert trace.steps_per_column == 1
        for gate, values in gates.items():
            assert trace.gates[gate] == pytest.approx(values[0].detach().numpy(), abs=1e-5)
        state = gates.get("cell", gates["hidden"])[0].detach().numpy()
        assert trace.state == pytest.approx(state, abs=1e-5)
        for gate, saturation in trace.openness.items():
            values = gates[gate][0].detach().numpy()
            assert saturation.mean == pytest.approx(values.mean(0), abs=1e-5)
            assert saturation.closed == pytest.approx((values < 0.1).mean(0))
            assert saturation.open == pytest.approx((values > 0.9).mean(0))
        memory_gate = gates.get("forget", gates.get("update"))
        if memory_gate is None:
            assert trace.half_lives is None
        else:
            assert trace.half_lives == pytest.approx(half_life(memory_gate[0].detach()), rel=1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_windows_and_columns_do_not_change_the_trace(monkeypatch: pytest.MonkeyPatch, reverse: bool):
    """A long sequence is traced window by window and averaged in columns."""
    monkeypatch.setattr(inside_module, "_WINDOW", 7)
    monkeypatch.setattr(inside_module, "_MAX_COLUMNS", 12)
    layer, x = layer_of("lstm", bidirectional=reverse), sequence(50)
    key = LayerKey("LSTM", 0, int(reverse))
    trace = trace_layers(layer, x)[key]
    gates = {name: gate[0].detach().numpy() for name, gate in layer.trace(x).gates[0, int(reverse)].items()}
    assert trace.steps_per_column == 5
    for name, gate in gates.items():
        assert trace.gates[name] == pytest.approx(gate.reshape(10, 5, 6).mean(1), abs=1e-5)
    assert trace.state == pytest.approx(gates["cell"], abs=1e-5)
    assert trace.half_lives == pytest.approx(half_life(gates["forget"]), rel=1e-4)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}, {"dtype": torch.float64}]
)
def test_torch_layers(kind: Any, options: dict[str, Any]):
    torch.manual_seed(3)
    torch_layer, x = kind(3, 5, batch_first=True, **options), sequence().to(options.get("dtype", torch.float32))
    traces = trace_layers(torch_layer, x)
    output = torch_layer(x)[0][0].detach().numpy()
    last = max(key.layer for key in traces)
    both = [trace.gates["hidden"] for key, trace in traces.items() if key.layer == last]
    assert np.concatenate(both, axis=1) == pytest.approx(output, abs=1e-5)


def test_relu_of_torchs_rnn():
    torch_layer, x = nn.RNN(3, 5, batch_first=True, nonlinearity="relu"), sequence()
    assert trace_layers(torch_layer, x)[LayerKey("RNN", 0, 0)].state == pytest.approx(
        torch_layer(x)[0][0].detach().numpy(), abs=1e-5
    )


def test_every_recurrent_layer_of_a_model_is_named():
    model = Tagger()
    traces = trace_layers(model, sequence())
    assert list(map(str, traces)) == [
        "below, layer 1", "below, layer 1, reversed", "above, layer 1", "above, layer 2",
    ]  # fmt: skip
    inner = model.above(model.below(sequence())[0])[0][0].detach().numpy()
    assert traces[LayerKey("above", 1, 0)].gates["hidden"] == pytest.approx(inner, abs=1e-5)


def test_a_model_that_feeds_its_layer_step_by_step():
    class Stepwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = layer_of("lstm")

        def forward(self, x: Tensor) -> Tensor:
            state, outputs = None, []
            for t in range(x.shape[1]):
                output, state = self.cell(x[:, t : t + 1], state)
                outputs.append(output)
            return torch.cat(outputs, 1)

    model, x = Stepwise(), sequence(9)
    assert trace_layers(model, x)[LayerKey("cell", 0, 0)].state == pytest.approx(
        trace_layers(model.cell, x)[LayerKey("LSTM", 0, 0)].state, abs=1e-6
    )


def test_padding_and_packed_input_are_truncated():
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstmkit_layer, self.torch_layer = layer_of("lstm"), nn.LSTM(6, 4, batch_first=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            output, _ = self.lstmkit_layer(x, lengths=lengths)
            packed, _ = self.torch_layer(pack_padded_sequence(output, lengths, batch_first=True))
            return pad_packed_sequence(packed, batch_first=True)[0]

    model, x = Ragged(), sequence(20)
    traces = trace_layers(model, ExampleSequence((x, torch.tensor([13]))))
    assert [trace.steps for trace in traces.values()] == [13, 13]
    short = trace_layers(model, ExampleSequence((x[:, :13], torch.tensor([13]))))
    for key, trace in traces.items():
        assert trace.state == pytest.approx(short[key].state, abs=1e-6)
    assert input_attributions(model, ExampleSequence((x, torch.tensor([13]))))[
        "norm of the last output"
    ].gradient.shape == (13,)


def test_initial_state_and_unbatched_input():
    layer, x = layer_of("lstm"), sequence(8)
    state = (torch.randn(1, 1, 6), torch.randn(1, 1, 6))
    with_state = trace_layers(layer, ExampleSequence((x, state)))[LayerKey("LSTM", 0, 0)].state
    assert with_state == pytest.approx(layer.trace(x, state).gates[0, 0]["cell"][0].detach().numpy(), abs=1e-5)
    alone = trace_layers(layer, ExampleSequence((x[0], tuple(s[:, 0] for s in state))))[LayerKey("LSTM", 0, 0)].state
    assert alone == pytest.approx(with_state, abs=1e-6)


def test_inspection_does_not_change_the_model():
    model = Tagger().train()
    model.head.eval()
    before = {name: module.training for name, module in model.named_modules()}
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    sections(model, [ExampleSequence(sequence())])
    assert {name: module.training for name, module in model.named_modules()} == before
    assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_traces_are_in_evaluation_mode():
    layer = layer_of("zoneout", recurrent_dropout=0.5, num_layers=2, dropout=0.5).train()
    with pytest.raises(ValueError, match="training mode"):
        list(layer.trace_windows(sequence()))
    first, second = (trace_layers(layer, sequence()) for _ in range(2))
    assert all(np.array_equal(first[key].state, second[key].state) for key in first)


def test_forecast_horizon_is_not_averaged():
    layer, x = layer_of("lstm"), sequence(20)
    trace = trace_layers(layer, ExampleSequence(x, forecast_start=12))[LayerKey("LSTM", 0, 0)]
    forget = layer.trace(x).gates[0, 0]["forget"][0].detach().numpy()
    assert trace.gates["forget"] == pytest.approx(forget, abs=1e-5)
    assert trace.openness["forget"].mean == pytest.approx(forget[:12].mean(0), abs=1e-5)
    assert trace.half_lives == pytest.approx(half_life(forget[:12]), rel=1e-4)


def test_a_hundred_thousand_steps_stay_within_the_stated_memory():
    """Memory stays below one float per step for each input, output and unit of the layer, and a constant."""
    steps, features, units = 100_000, 4, 16
    script = f"""
import resource, torch
from lstmkit import LSTM
from lstmkit.look import trace_layers
layer, x = LSTM({features}, {units}, batch_first=True), torch.randn(1, {steps}, {features})
trace_layers(layer, x[:, :3000])  # one-time allocations
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(trace,) = trace_layers(layer, x).values()
assert trace.state.shape == ({steps}, {units}) and len(trace.gates["forget"]) == 500
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    floats = steps * (2 * features + 2 * units + units)
    assert int(process.stdout) * 1024 < 4 * floats + 40e6, "kilobytes: " + process.stdout


# ---- invalid input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (nn.Linear(3, 2), sequence(), "Linear has no recurrent layer"),
        (Tagger(), sequence().expand(2, -1, -1), "inspection takes one sequence at a time, the batch has 2"),
        (LSTM(3, 4, batch_first=True), sequence(0), "the sequence has no steps"),
    ],
)
def test_models_and_inputs_that_cannot_be_inspected(model: nn.Module, inputs: Tensor, message: str):
    with pytest.raises(UserError, match=re.escape(message)):
        trace_layers(model, inputs)


def test_a_layer_that_does_not_run():
    class Idle(Tagger):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(UserError, match=r"none of the model's recurrent layers \(below, above\) ran"):
        trace_layers(Idle(), sequence())


def test_too_long_sequences_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inside_module, "MAX_STEPS", 29)
    with pytest.raises(UserError, match="30 steps, inspection takes at most 29: pass a part of it"):
        trace_layers(Tagger(), sequence(30))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (InspectionOptions(units=(5,)), "unit 5 does not exist in above, layer 2: choose 0 to 4"),
        (InspectionOptions(units=(-1,)), "unit -1 does not exist"),
        (InspectionOptions(layer=3), "layer 3 does not exist: choose 1 to 2"),
        (InspectionOptions(step=30), "step 30 does not exist: the sequence has steps 0 to 29"),
        (InspectionOptions(step=-1), "step -1 does not exist"),
        (InspectionOptions(unroll=True, units=(9,)), "unit 9 does not exist"),
        (InspectionOptions(sort_by="memory"), "cannot sort by 'memory'"),
    ],
)
def test_invalid_options(options: InspectionOptions, message: str):
    with pytest.raises((UserError, SettingError), match=re.escape(message)):
        sections(Tagger(), [ExampleSequence(sequence())], options)


# ---- one step of the cell ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "reverse", "step"), list(product(LAYERS, (False, True), (0, 4, 11))))
def test_the_equations_hold(name: str, reverse: bool, step: int):
    """Each equation's numbers give its value, and the last one is what the layer has at that step."""
    layer, x = layer_of(name, bidirectional=reverse), sequence(12)
    direction = int(reverse)
    result = cell_step(layer, ExampleSequence(x), LayerKey(type(layer).__name__, 0, direction), step, unit=2)
    assert f"unit 2, step {step}" in result.where
    for line in result.equations:
        if "of all" not in line.numbers:
            assert evaluated(line.numbers) == pytest.approx(line.value, abs=0.06), line
    gates = layer.trace(x).gates[0, direction]
    assert result.equations[-1].value == pytest.approx(float(gates["hidden"][0, step, 2].detach()), abs=1e-5)


def evaluated(numbers: str) -> float:
    """The value of an equation's right-hand side."""
    text = numbers.replace("−", "-").replace("·", "*").replace("σ", "sigmoid")
    names = {"sigmoid": lambda x: 1 / (1 + math.exp(-x)), "tanh": math.tanh, "relu": lambda x: max(0.0, x)}
    return float(eval(text, {"__builtins__": {}}, names))


# ---- attribution ----------------------------------------------------------------------------------------------------


def test_attribution_of_a_linear_network():
    """With h_t = w x_t + u h_{t-1}, the gradient by x_s is w uᵀ⁻¹⁻ˢ, and occlusion removes that contribution."""
    w, u, steps = 0.7, 0.8, 6
    layer = RNN(1, 1, nonlinearity="relu", bias=False, batch_first=True)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(w)
        layer.weight_hh_l0.fill_(u)
    x = torch.tensor([1.0, 2.0, 4.0, 3.0, 2.5, 0.5]).view(1, steps, 1)
    attribution = input_attributions(layer, ExampleSequence(x, answers={"last": lambda output: output[0, -1, 0]}))[
        "last"
    ]
    slope = w * u ** np.arange(steps)[::-1]
    assert attribution.gradient == pytest.approx(slope, rel=1e-5)
    assert attribution.occlusion == pytest.approx(slope * (x.flatten().numpy() - float(x.mean())), abs=1e-5)
    assert attribution.value == pytest.approx(float((slope * x.flatten().numpy()).sum()), rel=1e-5)


def test_long_sequences_are_occluded_in_windows_and_too_long_ones_refused(monkeypatch: pytest.MonkeyPatch):
    from lstmkit.look import attribution as attribution_module
    from lstmkit.look import inspection_page as page

    monkeypatch.setattr(attribution_module, "_MAX_OCCLUSIONS", 4)
    monkeypatch.setattr(attribution_module, "MAX_STEPS", 30)
    model = Tagger()
    attribution = input_attributions(model, ExampleSequence(sequence(10)))["norm of the last output"].occlusion
    assert [float(v) for v in attribution[:3]] == [attribution[0]] * 3
    assert attribution[2] != attribution[3]
    with pytest.raises(UserError, match="has 31 steps, input attribution takes at most 30"):
        input_attributions(model, ExampleSequence(sequence(31)))
    monkeypatch.setattr(page, "MAX_STEPS", 30)
    (section,) = [s for s in sections(model, [ExampleSequence(sequence(31))]) if s.title == "Input attribution"]
    assert "Not computed: the sequence has 31 steps" in section.text


def test_output_that_is_not_finite():
    layer = layer_of("lstm")
    with pytest.raises(UserError, match="is not finite"):
        input_attributions(layer, ExampleSequence(sequence(), answers={"nan": lambda output: output.sum() * math.nan}))


# ---- units ---------------------------------------------------------------------------------------------------------


def example(steps: int = 60, seed: int = 0, **annotations: np.ndarray) -> tuple[ExampleSequence, Any]:
    x = sequence(steps, seed=seed)
    labels = [f"w{t}" for t in range(steps)]
    example_sequence = ExampleSequence(x, name=f"text {seed}", labels=labels, annotations=annotations)
    return example_sequence, next(iter(trace_layers(layer_of("lstm"), example_sequence).values()))


def test_peaks_are_the_highest_and_lowest_states():
    pair = example()
    table = peak_activations([pair], [3], n_peaks=2)
    state = pair[1].state[:, 3]
    assert table["step"].iloc[0] == state.argmax()
    assert table["activation"].iloc[0] == pytest.approx(state.max())
    assert table["step"].iloc[2] == state.argmin()
    step = int(table["step"].iloc[0])
    assert table["label"].iloc[0] == f"w{step}"
    assert f"w{step}" in table["context"].iloc[0].split()


def test_a_plateau_is_listed_once():
    example_sequence, trace = example(8)
    trace.state[:, 0] = [0, 1, 1, 1, 0, 0.5, 0, -1]
    table = peak_activations([(example_sequence, trace)], [0], n_peaks=3)
    assert table["step"].tolist()[:2] == [1, 5]
    assert table["activation"].tolist()[:2] == [1.0, 0.5]


def test_several_sequences_are_searched():
    pairs = [example(seed=0), example(seed=1)]
    pairs[1][1].state[17, 2] = 50
    assert peak_activations(pairs, [2], n_peaks=1)[["example", "step"]].iloc[0].tolist() == ["text 1", 17]


def test_correlated_units_are_found_and_held_out():
    rng = np.random.default_rng(0)
    inside = rng.random(400) < 0.3
    hour = np.array(["night", "day", "noon"])[rng.integers(3, size=400)]
    example_sequence, trace = example(400, inside=inside, hour=hour, noise=rng.random(400), same=np.ones(400))
    trace.state[:] = rng.standard_normal(trace.state.shape)
    trace.state[:, 4] -= 3 * inside
    trace.state[:, 1] += 2 * (hour == "noon")
    table = correlations([(example_sequence, trace)], n_units=1).set_index("annotation")
    assert table["unit"].to_dict() | {"noise": 0} == {"inside": 4, "hour": 1, "noise": 0}
    assert table.loc["inside", "held out"] < -0.6
    assert table.loc["hour", "held out"] > 0.5
    assert abs(table.loc["noise", "held out"]) < 0.2


def test_unknown_annotations_are_ignored():
    known = np.arange(60) % 2 == 0
    example_sequence, trace = example(60)
    value = np.where(known, trace.state[:, 5], np.nan)
    word = np.where(known, np.where(trace.state[:, 5] > np.median(trace.state[:, 5]), "up", "down"), "")
    table = correlations(
        [(ExampleSequence(example_sequence.inputs, annotations={"value": value, "word": word}), trace)], n_units=1
    )
    assert table["unit"].tolist() == [5, 5]
    assert table["held out"].iloc[0] == pytest.approx(1.0)
    same = ExampleSequence(example_sequence.inputs, annotations={"word": np.where(known, "up", "")})
    assert correlations([(same, trace)]).empty
    few = ExampleSequence(example_sequence.inputs, annotations={"few": np.where(np.arange(60) < 9, 1.0, np.nan)})
    assert correlations([(few, trace)]).empty
    with pytest.raises(UserError, match="the annotation 'short' has shape"):
        correlations([(ExampleSequence(example_sequence.inputs, annotations={"short": np.ones(3)}), trace)])


# ---- gradient flow -------------------------------------------------------------------------------------------------


def test_flow_along_a_cell_state_is_the_product_of_the_forget_gates():
    """Without recurrent weights, the cell's gradient is scaled by the forget gate of each step."""
    layer, x = LSTM(3, 4, batch_first=True), sequence(10)
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
    flow = gradient_flow(layer, x)["cell"]
    trace = {name: gate.detach() for name, gate in layer.trace(x).gates[0, 0].items()}
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(4, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm()
    last = direction * trace["output"][0, -1] * (1 - torch.tanh(trace["cell"][0, -1]) ** 2)
    for lag in range(1, 10):
        last = last * trace["forget"][0, 10 - lag]
        assert flow[lag] == pytest.approx(float(last.norm()), rel=1e-4)


def test_gradient_flow_needs_one_direction_and_steps():
    with pytest.raises(ValueError, match="unidirectional"):
        gradient_flow(LSTM(3, 4, bidirectional=True), torch.zeros(5, 1, 3))
    with pytest.raises(ValueError, match="no steps"):
        gradient_flow(LSTM(3, 4), torch.zeros(0, 1, 3))


# ---- the page ------------------------------------------------------------------------------------------------------


def page_example() -> ExampleSequence:
    labels, notes = [f"w{t}" for t in range(30)], {"early": np.arange(30) < 10}
    return ExampleSequence(sequence(), name="a text", labels=labels, values=np.arange(30.0), annotations=notes)


@pytest.mark.parametrize("name", LAYERS)
def test_sections_of_every_cell(name: str):
    shown = sections(layer_of(name), [page_example()])
    gated = [] if name in ("rnn", "relu") else ["Memory half-life", "Saturation"]
    ends = ["Unit activations", "Correlation with annotations", "Input attribution", "One step of the cell"]
    assert [section.title for section in shown] == ["Gates", *gated, *ends]
    assert all(section.table is not None for section in shown), "every figure has a data table"


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", LAYERS)
def test_page_of_every_cell(name: str, tmp_path: Path):
    """The sections with their figures drawn, which takes seconds."""
    shown = write_inspection_page(tmp_path / "look.html", layer_of(name), page_example())
    assert [s.title for s in shown] == [s.title for s in sections(layer_of(name), [page_example()])]
    page = (tmp_path / "look.html").read_text()
    assert page.count("<img") == len(shown) - 1
    assert not re.search("https?:", page), "the page is self-contained"


def test_options_select_units_layer_and_step():
    model, example_sequence = Tagger(), ExampleSequence(sequence())
    shown = sections(model, [example_sequence], InspectionOptions(units=(3, 1), layer=1, sort_by="output", step=7))
    assert "unit 3, step 7" in shown[-1].text
    activations = next(s.table for s in shown if s.title == "Unit activations")
    assert activations is not None
    assert set(activations["unit"]) == {1, 3}
    heat = next(s.figure for s in shown if s.title.startswith("Gates, above"))
    assert heat is not None
    assert any(ax.get_ylabel() == "2 of 5 units" for ax in heat.axes)
    (cell,) = sections(model, [example_sequence], InspectionOptions(unroll=True, step=2))
    assert cell.title == "One step of the cell"
    assert "step 2" in cell.text


def test_sequence_of_one_step():
    shown = sections(layer_of("lstm"), [ExampleSequence(sequence(1))])
    assert shown[-1].title == "One step of the cell"
    for section in shown:
        if section.figure is not None:
            section.figure.canvas.draw()


def test_most_variable_units_come_first():
    trace = example()[1]
    spread = pd.Series(trace.state.std(axis=0))
    assert most_variable_units(trace, 2) == spread.nlargest(2).index.tolist()


@pytest.mark.parametrize("name", ["no forget gate", "full gate recurrence"])
def test_a_cell_without_a_diagram(name: str):
    layer = KINDS[name].build(3, 5)
    titles = [section.title for section in sections(layer, [ExampleSequence(sequence())])]
    assert titles[0] == "Gates"
    assert titles[-1] == "Input attribution"
    with pytest.raises(UserError, match="has no diagram: supported cells are lstm, gru"):
        sections(layer, [ExampleSequence(sequence())], InspectionOptions(unroll=True))


def test_units_are_those_of_the_last_layer():
    model = nn.Sequential(LSTM(3, 4, batch_first=True), _First(), nn.GRU(4, 6, batch_first=True))
    assert "unit 5, step 29" in sections(model, [ExampleSequence(sequence())], InspectionOptions(units=(5,)))[-1].text


class _First(nn.Module):
    def forward(self, both: tuple[Tensor, Any]) -> Tensor:
        return both[0]
