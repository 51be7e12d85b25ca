"""Looking inside models: what is seen is what the layers computed, in bounded memory, of any module."""

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
    effects,
    gradient_flow,
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
    """A stand-in for a user's own model: two recurrent parts, one of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.GRU(3, 4, batch_first=True, bidirectional=True)
        self.above = LSTM(8, 5, num_layers=2, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.above(self.below(x)[0])[0])


# ---- what is seen is what was computed -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("bidirectional", "num_layers"), [(False, 1), (True, 2)])
def test_what_is_seen_is_the_trace(name: str, bidirectional: bool, num_layers: int):
    if name == "layer norm" and bidirectional:
        pytest.skip("one stack is enough")
    layer, x = layer_of(name, bidirectional=bidirectional, num_layers=num_layers), sequence()
    trace, seen = layer.trace(x), trace_layers(layer, x)
    assert [(place.layer, place.direction) for place in seen] == list(trace.gates)
    for (k, d), gates in trace.gates.items():
        one = seen[LayerKey("RNN" if name in ("rnn", "relu") else type(layer).__name__, k, d)]
        assert one.gates.keys() == gates.keys()
        assert one.every == 1
        for gate, values in gates.items():
            assert one.gates[gate] == pytest.approx(values[0].detach().numpy(), abs=1e-5)
        held = gates.get("cell", gates["hidden"])[0].detach().numpy()
        assert one.state == pytest.approx(held, abs=1e-5)
        for gate, open_ in one.openness.items():
            values = gates[gate][0].detach().numpy()
            assert open_.mean == pytest.approx(values.mean(0), abs=1e-5)
            assert open_.shut == pytest.approx((values < 0.1).mean(0))
            assert open_.open == pytest.approx((values > 0.9).mean(0))
        keeper = gates.get("forget", gates.get("update"))
        if keeper is None:
            assert one.half_lives is None
        else:
            assert one.half_lives == pytest.approx(half_life(keeper[0].detach()), rel=1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_windows_and_columns_change_nothing(monkeypatch: pytest.MonkeyPatch, reverse: bool):
    """A long sequence is traced window by window and drawn in columns: the same, averaged."""
    monkeypatch.setattr(inside_module, "_WINDOW", 7)
    monkeypatch.setattr(inside_module, "_COLUMNS", 12)
    layer, x = layer_of("lstm", bidirectional=reverse), sequence(50)
    place = LayerKey("LSTM", 0, int(reverse))
    seen = trace_layers(layer, x)[place]
    gates = {name: gate[0].detach().numpy() for name, gate in layer.trace(x).gates[0, int(reverse)].items()}
    assert seen.every == 5
    for name, gate in gates.items():
        assert seen.gates[name] == pytest.approx(gate.reshape(10, 5, 6).mean(1), abs=1e-5)
    assert seen.state == pytest.approx(gates["cell"], abs=1e-5)
    assert seen.half_lives == pytest.approx(half_life(gates["forget"]), rel=1e-4)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}, {"dtype": torch.float64}]
)
def test_torchs_own_layers(kind: Any, options: dict[str, Any]):
    torch.manual_seed(3)
    theirs, x = kind(3, 5, batch_first=True, **options), sequence().to(options.get("dtype", torch.float32))
    seen = trace_layers(theirs, x)
    output = theirs(x)[0][0].detach().numpy()
    last = max(place.layer for place in seen)
    both = [one.gates["hidden"] for place, one in seen.items() if place.layer == last]
    assert np.concatenate(both, axis=1) == pytest.approx(output, abs=1e-5)


def test_relu_of_torchs_rnn():
    theirs, x = nn.RNN(3, 5, batch_first=True, nonlinearity="relu"), sequence()
    assert trace_layers(theirs, x)[LayerKey("RNN", 0, 0)].state == pytest.approx(
        theirs(x)[0][0].detach().numpy(), abs=1e-5
    )


def test_every_recurrent_part_of_a_model_by_name():
    model = Tagger()
    seen = trace_layers(model, sequence())
    assert list(map(str, seen)) == [
        "below, layer 1", "below, layer 1, reversed", "above, layer 1", "above, layer 2",
    ]  # fmt: skip
    inner = model.above(model.below(sequence())[0])[0][0].detach().numpy()
    assert seen[LayerKey("above", 1, 0)].gates["hidden"] == pytest.approx(inner, abs=1e-5)


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


def test_lengths_and_packed_input_are_cut():
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ours, self.theirs = layer_of("lstm"), nn.LSTM(6, 4, batch_first=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            output, _ = self.ours(x, lengths=lengths)
            packed, _ = self.theirs(pack_padded_sequence(output, lengths, batch_first=True))
            return pad_packed_sequence(packed, batch_first=True)[0]

    model, x = Ragged(), sequence(20)
    seen = trace_layers(model, ExampleSequence((x, torch.tensor([13]))))
    assert [one.steps for one in seen.values()] == [13, 13]
    short = trace_layers(model, ExampleSequence((x[:, :13], torch.tensor([13]))))
    for place, one in seen.items():
        assert one.state == pytest.approx(short[place].state, abs=1e-6)
    assert effects(model, ExampleSequence((x, torch.tensor([13]))))["size of the last output"].gradient.shape == (13,)


def test_a_state_that_is_given_and_one_sequence_without_a_batch():
    layer, x = layer_of("lstm"), sequence(8)
    state = (torch.randn(1, 1, 6), torch.randn(1, 1, 6))
    with_state = trace_layers(layer, ExampleSequence((x, state)))[LayerKey("LSTM", 0, 0)].state
    assert with_state == pytest.approx(layer.trace(x, state).gates[0, 0]["cell"][0].detach().numpy(), abs=1e-5)
    alone = trace_layers(layer, ExampleSequence((x[0], tuple(s[:, 0] for s in state))))[LayerKey("LSTM", 0, 0)].state
    assert alone == pytest.approx(with_state, abs=1e-6)


def test_the_model_is_left_as_it_was():
    model = Tagger().train()
    model.head.eval()
    before = {name: module.training for name, module in model.named_modules()}
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    sections(model, [ExampleSequence(sequence())])
    assert {name: module.training for name, module in model.named_modules()} == before
    assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_noise_of_training_has_no_part_in_it():
    layer = layer_of("zoneout", recurrent_dropout=0.5, num_layers=2, dropout=0.5).train()
    with pytest.raises(ValueError, match="training mode"):
        list(layer.trace_windows(sequence()))
    first, second = (trace_layers(layer, sequence()) for _ in range(2))
    assert all(np.array_equal(first[place].state, second[place].state) for place in first)


def test_a_forecasts_horizon_is_drawn_and_not_counted():
    layer, x = layer_of("lstm"), sequence(20)
    seen = trace_layers(layer, ExampleSequence(x, begins=12))[LayerKey("LSTM", 0, 0)]
    forget = layer.trace(x).gates[0, 0]["forget"][0].detach().numpy()
    assert seen.gates["forget"] == pytest.approx(forget, abs=1e-5)
    assert seen.openness["forget"].mean == pytest.approx(forget[:12].mean(0), abs=1e-5)
    assert seen.half_lives == pytest.approx(half_life(forget[:12]), rel=1e-4)


def test_a_hundred_thousand_steps_stay_within_the_stated_memory():
    """A float for each step and each of the layer's inputs, outputs and units, a window, and what is drawn."""
    steps, features, units = 100_000, 4, 16
    script = f"""
import resource, torch
from lstmkit import LSTM
from lstmkit.look import look_inside
layer, x = LSTM({features}, {units}, batch_first=True), torch.randn(1, {steps}, {features})
look_inside(layer, x[:, :3000])  # what is loaded and kept once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(seen,) = look_inside(layer, x).values()
assert seen.state.shape == ({steps}, {units}) and len(seen.gates["forget"]) == 1000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    floats = steps * (2 * features + 2 * units + units)
    assert int(ran.stdout) * 1024 < 4 * floats + 40e6, "kilobytes: " + ran.stdout


# ---- bad input: one clear line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "inputs", "says"),
    [
        (nn.Linear(3, 2), sequence(), "Linear has no recurrent layer"),
        (Tagger(), sequence().expand(2, -1, -1), "one sequence is looked at at a time, the model was given 2"),
        (LSTM(3, 4, batch_first=True), sequence(0), "the sequence has no steps"),
    ],
)
def test_what_cannot_be_looked_into(model: nn.Module, inputs: Tensor, says: str):
    with pytest.raises(UserError, match=re.escape(says)):
        trace_layers(model, inputs)


def test_a_layer_that_does_not_run():
    class Idle(Tagger):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(UserError, match=r"none of the model's recurrent layers \(below, above\) ran"):
        trace_layers(Idle(), sequence())


def test_longer_than_can_be_drawn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inside_module, "LONGEST", 29)
    with pytest.raises(UserError, match="30 steps, more than the 29 that can be drawn: give a part"):
        trace_layers(Tagger(), sequence(30))


@pytest.mark.parametrize(
    ("view", "says"),
    [
        (InspectionOptions(units=(5,)), "there is no unit 5 in above, layer 2: it has 0 to 4"),
        (InspectionOptions(units=(-1,)), "there is no unit -1"),
        (InspectionOptions(layer=3), "there is no layer 3: the model has 1 to 2"),
        (InspectionOptions(step=30), "there is no step 30: the sequence has 0 to 29"),
        (InspectionOptions(step=-1), "there is no step -1"),
        (InspectionOptions(unroll=True, units=(9,)), "there is no unit 9"),
        (InspectionOptions(sort_by="memory"), "there is nothing called 'memory' to sort by"),
    ],
)
def test_what_there_is_not_to_see(view: InspectionOptions, says: str):
    with pytest.raises((UserError, SettingError), match=re.escape(says)):
        sections(Tagger(), [ExampleSequence(sequence())], view)


# ---- one step of the cell ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "reverse", "step"), list(product(LAYERS, (False, True), (0, 4, 11))))
def test_the_equations_hold(name: str, reverse: bool, step: int):
    """Each equation's numbers give its value, and the last one is what the layer has at that step."""
    layer, x = layer_of(name, bidirectional=reverse), sequence(12)
    direction = int(reverse)
    found = cell_step(layer, ExampleSequence(x), LayerKey(type(layer).__name__, 0, direction), step, unit=2)
    assert f"unit 2, step {step}" in found.where
    for line in found.equations:
        if "of all" not in line.numbers:
            assert evaluated(line.numbers) == pytest.approx(line.value, abs=0.06), line
    gates = layer.trace(x).gates[0, direction]
    assert found.equations[-1].value == pytest.approx(float(gates["hidden"][0, step, 2].detach()), abs=1e-5)


def evaluated(numbers: str) -> float:
    """What an equation's right-hand side comes to."""
    text = numbers.replace("−", "-").replace("·", "*").replace("σ", "sigmoid")
    names = {"sigmoid": lambda x: 1 / (1 + math.exp(-x)), "tanh": math.tanh, "relu": lambda x: max(0.0, x)}
    return float(eval(text, {"__builtins__": {}}, names))


# ---- effects -------------------------------------------------------------------------------------------------------


def test_effects_of_a_network_that_can_be_solved_by_hand():
    """h_t = w x_t + u h_{t-1} while all is positive: the answer rises with x_s by w uᵀ⁻¹⁻ˢ, which erasing takes."""
    w, u, steps = 0.7, 0.8, 6
    layer = RNN(1, 1, nonlinearity="relu", bias=False, batch_first=True)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(w)
        layer.weight_hh_l0.fill_(u)
    x = torch.tensor([1.0, 2.0, 4.0, 3.0, 2.5, 0.5]).view(1, steps, 1)
    found = effects(layer, ExampleSequence(x, answers={"last": lambda output: output[0, -1, 0]}))["last"]
    slope = w * u ** np.arange(steps)[::-1]
    assert found.gradient == pytest.approx(slope, rel=1e-5)
    assert found.erased == pytest.approx(slope * (x.flatten().numpy() - float(x.mean())), abs=1e-5)
    assert found.value == pytest.approx(float((slope * x.flatten().numpy()).sum()), rel=1e-5)


def test_long_sequences_are_erased_in_pieces_and_very_long_ones_refused(monkeypatch: pytest.MonkeyPatch):
    from lstmkit.look import attribution as effect
    from lstmkit.look import inspection_page as page

    monkeypatch.setattr(effect, "_PIECES", 4)
    monkeypatch.setattr(effect, "LONGEST", 30)
    model = Tagger()
    found = effects(model, ExampleSequence(sequence(10)))["size of the last output"].erased
    assert [float(v) for v in found[:3]] == [found[0]] * 3
    assert found[2] != found[3]
    with pytest.raises(UserError, match="31 steps are too many"):
        effects(model, ExampleSequence(sequence(31)))
    monkeypatch.setattr(page, "LONGEST", 30)
    (said,) = [
        s for s in sections(model, [ExampleSequence(sequence(31))]) if s.title == "What inputs did to the answer"
    ]
    assert "Not computed: of 31 steps" in said.text


def test_an_answer_that_is_no_number():
    layer = layer_of("lstm")
    with pytest.raises(UserError, match="no finite number"):
        effects(layer, ExampleSequence(sequence(), answers={"nan": lambda output: output.sum() * math.nan}))


# ---- units ---------------------------------------------------------------------------------------------------------


def example(steps: int = 60, seed: int = 0, **annotations: np.ndarray) -> tuple[ExampleSequence, Any]:
    x = sequence(steps, seed=seed)
    labels = [f"w{t}" for t in range(steps)]
    example_sequence = ExampleSequence(x, name=f"text {seed}", labels=labels, annotations=annotations)
    return example_sequence, next(iter(trace_layers(layer_of("lstm"), example_sequence).values()))


def test_a_unit_is_shown_where_it_holds_most_and_least():
    pair = example()
    table = peak_activations([pair], [3], most=2)
    held = pair[1].state[:, 3]
    assert table["step"].iloc[0] == held.argmax()
    assert table["held"].iloc[0] == pytest.approx(held.max())
    assert table["step"].iloc[2] == held.argmin()
    step = int(table["step"].iloc[0])
    assert table["at"].iloc[0] == f"w{step}"
    assert f"w{step}" in table["around"].iloc[0].split()


def test_a_plateau_is_named_once():
    example_sequence, seen = example(8)
    seen.state[:, 0] = [0, 1, 1, 1, 0, 0.5, 0, -1]
    table = peak_activations([(example_sequence, seen)], [0], most=3)
    assert table["step"].tolist()[:2] == [1, 5]
    assert table["held"].tolist()[:2] == [1.0, 0.5]


def test_several_sequences_are_searched():
    pairs = [example(seed=0), example(seed=1)]
    pairs[1][1].state[17, 2] = 50
    assert peak_activations(pairs, [2], most=1)[["example", "step"]].iloc[0].tolist() == ["text 1", 17]


def test_units_that_go_along_are_found_and_checked():
    rng = np.random.default_rng(0)
    inside = rng.random(400) < 0.3
    hour = np.array(["night", "day", "noon"])[rng.integers(3, size=400)]
    example_sequence, seen = example(400, inside=inside, hour=hour, noise=rng.random(400), same=np.ones(400))
    seen.state[:] = rng.standard_normal(seen.state.shape)
    seen.state[:, 4] -= 3 * inside
    seen.state[:, 1] += 2 * (hour == "noon")
    table = correlations([(example_sequence, seen)], most=1).set_index("annotation")
    assert table["unit"].to_dict() | {"noise": 0} == {"inside": 4, "hour": 1, "noise": 0}
    assert table.loc["inside", "checked"] < -0.6
    assert table.loc["hour", "checked"] > 0.5
    assert abs(table.loc["noise", "checked"]) < 0.2


def test_what_is_not_known_of_a_step_is_left_out():
    known = np.arange(60) % 2 == 0
    example_sequence, seen = example(60)
    value = np.where(known, seen.state[:, 5], np.nan)
    word = np.where(known, np.where(seen.state[:, 5] > np.median(seen.state[:, 5]), "up", "down"), "")
    table = correlations(
        [(ExampleSequence(example_sequence.inputs, annotations={"value": value, "word": word}), seen)], most=1
    )
    assert table["unit"].tolist() == [5, 5]
    assert table["checked"].iloc[0] == pytest.approx(1.0)
    same = ExampleSequence(example_sequence.inputs, annotations={"word": np.where(known, "up", "")})
    assert correlations([(same, seen)]).empty
    few = ExampleSequence(example_sequence.inputs, annotations={"few": np.where(np.arange(60) < 9, 1.0, np.nan)})
    assert correlations([(few, seen)]).empty
    with pytest.raises(UserError, match="the annotation 'short' is"):
        correlations([(ExampleSequence(example_sequence.inputs, annotations={"short": np.ones(3)}), seen)])


# ---- gradient flow -------------------------------------------------------------------------------------------------


def test_flow_along_a_cell_state_is_the_product_of_the_forget_gates():
    """With no way through the hidden state, the cell's gradient falls by each step's forget gate."""
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


def test_flow_of_one_direction_only():
    with pytest.raises(ValueError, match="bidirectional"):
        gradient_flow(LSTM(3, 4, bidirectional=True), torch.zeros(5, 1, 3))
    with pytest.raises(ValueError, match="no steps"):
        gradient_flow(LSTM(3, 4), torch.zeros(0, 1, 3))


# ---- the page ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_every_cell_has_its_page(name: str, tmp_path: Path):
    labels = [f"w{t}" for t in range(30)]
    notes = {"early": np.arange(30) < 10}
    example_sequence = ExampleSequence(
        sequence(), name="a text", labels=labels, values=np.arange(30.0), annotations=notes
    )
    shown = write_inspection_page(tmp_path / "look.html", layer_of(name), example_sequence)
    titles = [section.title for section in shown]
    gated = [] if name in ("rnn", "relu") else ["Memory", "Saturation"]
    ends = ["What units fire on", "What units go along with", "What inputs did to the answer", "One step of the cell"]
    assert titles == ["The gates", *gated, *ends]
    assert all(section.table is not None for section in shown), "numbers are one click from each picture"
    page = (tmp_path / "look.html").read_text()
    assert page.count("<img") == len(shown) - 1
    assert not re.search("https?:", page), "it needs nothing else"


def test_a_view_chooses_units_layer_and_step():
    model, example_sequence = Tagger(), ExampleSequence(sequence())
    shown = sections(model, [example_sequence], InspectionOptions(units=(3, 1), layer=1, sort_by="output", step=7))
    assert "unit 3, step 7" in shown[-1].text
    fired = next(s.table for s in shown if s.title == "What units fire on")
    assert fired is not None
    assert set(fired["unit"]) == {1, 3}
    heat = next(s.figure for s in shown if s.title.startswith("The gates, above"))
    assert heat is not None
    assert any(ax.get_ylabel() == "2 of 5 units" for ax in heat.axes)
    (cell,) = sections(model, [example_sequence], InspectionOptions(unroll=True, step=2))
    assert cell.title == "One step of the cell"
    assert "step 2" in cell.text


def test_one_step_is_enough():
    shown = sections(layer_of("lstm"), [ExampleSequence(sequence(1))])
    assert shown[-1].title == "One step of the cell"
    for section in shown:
        if section.figure is not None:
            section.figure.canvas.draw()


def test_the_busiest_units_come_first():
    seen = example()[1]
    spread = pd.Series(seen.state.std(axis=0))
    assert most_variable_units(seen, 2) == spread.nlargest(2).index.tolist()


@pytest.mark.parametrize("name", ["no forget gate", "full gate recurrence"])
def test_a_cell_of_the_laboratory_is_shown_without_its_drawing(name: str):
    layer = KINDS[name].build(3, 5)
    titles = [section.title for section in sections(layer, [ExampleSequence(sequence())])]
    assert titles[0] == "The gates"
    assert titles[-1] == "What inputs did to the answer"
    with pytest.raises(UserError, match="cell is not drawn; these are: lstm, gru"):
        sections(layer, [ExampleSequence(sequence())], InspectionOptions(unroll=True))


def test_units_are_shown_of_the_part_that_ran_last():
    model = nn.Sequential(LSTM(3, 4, batch_first=True), _First(), nn.GRU(4, 6, batch_first=True))
    assert "unit 5, step 29" in sections(model, [ExampleSequence(sequence())], InspectionOptions(units=(5,)))[-1].text


class _First(nn.Module):
    def forward(self, both: tuple[Tensor, Any]) -> Tensor:
        return both[0]
