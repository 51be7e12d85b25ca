"""The laboratory: tasks and criteria of the paper, and every lab from its file to its result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from lstmkit import GRU, LSTM, RNN, lab
from lstmkit.data.batch import Batch, Loader
from lstmkit.data.catalog import locate
from lstmkit.errors import SettingError, UserError
from lstmkit.lab import corpora, grid
from lstmkit.lab.cell_variants import KINDS, count_parameters, hidden_size_for_budget, initialize_gate_biases
from lstmkit.lab.corpora import Corpus, Sequences
from lstmkit.lab.long_lag import LongLagSettings, build, count_errors, run_all, summary
from lstmkit.lab.long_lag import figure as lag_figure
from lstmkit.lab.synthetic_tasks import (
    TASKS,
    Adding,
    CopyMemory,
    EmbeddedReber,
    GeneratedSequences,
    LongLag,
    Multiplication,
    NoisyLag,
    Task,
    TemporalOrder,
    TemporalOrder3,
)
from lstmkit.modules.heads import MultilabelHead, StepClassificationHead
from lstmkit.progress import Progress


def samples(task: Task, count: int = 200) -> list[tuple[np.ndarray, object]]:
    return [tuple(task.sample(np.random.default_rng((7, i)))[:2]) for i in range(count)]


# ---- tasks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [Adding(50), Multiplication(50)])
def test_marked_values_determine_the_target(task: Task):
    answers = []
    for steps, answer in samples(task):
        assert 50 <= len(steps) <= 55
        marks = steps[:, 1]
        assert marks[0] == marks[-1] == -1
        at = np.flatnonzero(marks == 1)
        assert len(at) in (1, 2)
        assert at[-1] < 25 - 1, "the second mark is before the middle"
        if len(at) == 2:
            assert at.min() < 10
            x1, x2 = steps[at, 0]
            expected = x1 * x2 if isinstance(task, Multiplication) else 0.5 + (x1 + x2) / 4
            assert answer == pytest.approx(expected, abs=1e-6)
        low = 0 if isinstance(task, Multiplication) else -1
        assert (steps[:, 0] >= low).all()
        assert (steps[:, 0] <= 1).all()
        answers.append(answer)
    assert 0 <= min(answers) < 0.3
    assert 0.6 < max(answers) <= 1


@pytest.mark.parametrize(("task", "windows"), [(TemporalOrder(100), 2), (TemporalOrder3(100), 3)])
def test_order_of_the_symbols_is_the_class(task: TemporalOrder, windows: int):
    classes = set()
    for steps, answer in samples(task):
        symbols = steps.argmax(1)
        assert 100 <= len(symbols) <= 110
        assert (steps.sum(1) == 1).all()
        assert symbols[0] == 0
        assert symbols[-1] == 1
        at = np.flatnonzero((symbols == 2) | (symbols == 3))
        assert len(at) == windows
        for t, (low, high) in zip(at, task.windows, strict=True):
            assert low <= t <= high
        assert answer == int("".join(str(symbols[t] - 2) for t in at), 2)
        classes.add(answer)
    assert len(classes) == task.classes


def test_noisy_lag_has_signal_then_noise():
    noise = []
    for steps, answer in samples(NoisyLag(100)):
        assert (steps[:3, 0] == (1.0 if answer else -1.0)).all()
        noise.append(steps[3:, 0])
    assert np.concatenate(noise).var() == pytest.approx(0.2, rel=0.05)
    assert np.concatenate(noise).mean() == pytest.approx(0, abs=0.01)


def test_lag_has_at_least_its_length():
    waits = []
    for steps, answer in samples(LongLag(30)):
        symbols = steps.argmax(1)
        assert symbols[0] == 100
        assert symbols[1] == 101 + answer
        assert symbols[-1] == 103
        assert (symbols[2:-1] < 100).all()
        waits.append(len(symbols) - 3)
    assert min(waits) == 30
    assert np.mean(waits) == pytest.approx(30 + 9, abs=2)


def test_strings_follow_the_reber_grammar():
    task, strings = EmbeddedReber(1), []
    for i in range(300):
        steps, target, legal = task.sample(np.random.default_rng((1, i)))
        assert legal is not None
        text = "".join("BTPSXVE"[k] for k in [*steps.argmax(1), target[-1]])
        assert text[0] == "B"
        assert text[-1] == "E"
        assert text[1] == text[-2] in "TP"
        inner = text[2:-2]
        assert inner[0] == "B"
        assert inner[-1] == "E"
        assert all(legal[t, target[t]] for t in range(len(target)))
        assert legal[-2].sum() == 1, "only the second symbol is allowed at the last position but one"
        strings.append(inner)
    assert {"BTXSE", "BPVVE", "BTSXSE"} <= set(strings), "the grammar's shortest strings"
    assert np.mean([len(s) for s in strings]) == pytest.approx(8, abs=1)


def test_copy_memory_repeats_the_symbols():
    for steps, answer in samples(CopyMemory(20), 20):
        symbols = steps.argmax(1)
        assert isinstance(answer, np.ndarray)
        assert len(symbols) == len(answer) == 40
        assert (symbols[:10] == answer[-10:]).all()
        assert (answer[:-10] == -1).all(), "only the repeated symbols are scored"
        assert symbols[29] == 9
        assert (symbols[10:29] == 8).all()
        assert (symbols[30:] == 8).all()


@pytest.mark.parametrize("name", TASKS)
def test_examples_are_determined_by_seed_and_number(name: str):
    task = TASKS[name](40)
    first, second = (GeneratedSequences(task, 50, 3).batch(np.array([4, 9])) for _ in range(2))
    other = GeneratedSequences(task, 50, 3).batch(np.array([9]))
    assert first.lengths is not None
    assert first.targets is not None
    assert second.targets is not None
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.targets, second.targets)
    length = int(first.lengths[1])
    assert torch.equal(first.inputs[1, :length], other.inputs[0, :length])
    assert not torch.equal(
        GeneratedSequences(task, 50, 4).batch(np.array([9])).inputs[0, :5], first.inputs[1, :5]
    ) or name in ("reber",)


@pytest.mark.parametrize("name", TASKS)
def test_correct_outputs_are_judged_correct(name: str):
    """Perfect outputs are correct, inverted ones are not; the head's outputs can be judged and have a gradient."""
    task = TASKS[name](40)
    batch = GeneratedSequences(task, 20, 0).batch(np.arange(20))
    head = task.head(5)
    outputs = head(torch.randn(*batch.inputs.shape[:2], 5))
    assert task.is_correct(outputs, batch).shape == (20,)
    head.loss(outputs, batch).backward()  # type: ignore[operator]
    assert task.is_correct(perfect(batch, outputs.shape[-1]), batch).all()
    assert not task.is_correct(-perfect(batch, outputs.shape[-1]) - 1, batch).any()


def perfect(batch: Batch, width: int) -> Tensor:
    """Outputs that are correct for the batch."""
    targets = batch.targets
    assert targets is not None
    outputs = torch.full((*batch.inputs.shape[:2], width), -10.0)
    if "allowed" in batch.extras:
        return torch.where(batch.extras["allowed"], 10.0, -10.0)
    if targets.is_floating_point():
        return targets[:, None, None].expand_as(outputs).clone() + 0.03
    at = targets[:, None].expand(outputs.shape[:2]) if targets.dim() == 1 else targets
    return outputs.scatter(2, at[..., None].clamp(min=0), 10.0)


@pytest.mark.parametrize("name", TASKS)
def test_lengths_below_the_minimum_are_refused(name: str):
    with pytest.raises(ValueError, match="length must be at least"):
        TASKS[name](TASKS[name].min_length - 1)


# ---- the comparison ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("units", [8, 16, 50])
def test_parameter_budget_is_matched(name: str, units: int):
    budget = count_parameters(LSTM(8, units))
    width = hidden_size_for_budget(KINDS[name], 8, budget)
    counts = {w: count_parameters(KINDS[name].build(8, w)) for w in (width - 1, width, width + 1) if w}
    assert min(counts, key=lambda w: abs(counts[w] - budget)) == width


def test_gate_bias_initialization():
    x = torch.zeros(1, 3, 4)
    for layer, gate in (
        (LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True), "forget"),
        (GRU(4, 5, batch_first=True), "update"),
    ):
        with torch.no_grad():
            for name, weight in layer.named_parameters():
                if name.startswith("weight"):
                    weight.zero_()
        initialize_gate_biases(layer, 2.0)
        for gates in layer.trace(x).gates.values():
            assert torch.allclose(gates[gate], torch.sigmoid(torch.tensor(2.0)))
            if "input" in gates:
                assert torch.allclose(gates["input"], torch.sigmoid(torch.tensor(-2.0)))
    plain = RNN(4, 5)
    before = plain.bias_ih_l0.clone()
    initialize_gate_biases(plain, 2.0)
    assert torch.equal(plain.bias_ih_l0, before)


TINY = LongLagSettings("temporal_order", (20,), sequences=120, check_every=60, checked=20, tested=30, units=4, seeds=2)


def test_run_all_has_one_row_per_run():
    rows = run_all(TINY, Progress())
    assert len(rows) == 3 * 2
    assert not rows["solved"].any()
    assert (rows["sequences"] == 120).all()
    table = summary(rows, [{"name": "others", "source": "somewhere", "length": 20, "sequences": 5}])
    assert table["cell"].tolist() == ["RNN", "GRU", "LSTM", "others"]
    assert table["solved"].iloc[0] == "0 of 2"


def test_training_ends_when_the_criterion_is_met():
    easy = LongLagSettings(
        "noisy_lag", (10,), ("LSTM",), sequences=50_000, check_every=500, checked=200, lr=0.02, seeds=1
    )
    (row,) = run_all(easy, Progress()).to_dict("records")
    assert row["solved"]
    assert row["sequences"] < 50_000
    assert row["wrong"] <= 5, "the error rate on new sequences is similar to that of the check"


def test_errors_are_counted():
    task = TemporalOrder(20)

    class Constant(nn.Module):
        def forward(self, x: Tensor, state: None, lengths: Tensor) -> tuple[Tensor, None]:
            return torch.tensor([9.0, 0, 0, 0]).expand(*x.shape[:2], 4), None

        def loss(self, batch: Batch) -> tuple[Tensor, None]:
            return torch.tensor(2.0), None

    errors, loss = count_errors(Constant(), task, 500, 0)  # type: ignore[arg-type]
    answers = torch.cat(
        [b.targets for b in Loader(GeneratedSequences(task, 500, 0), 100).epoch() if b.targets is not None]
    )
    assert errors == int((answers != 0).sum())
    assert loss == 2


def test_networks_are_reproducible():
    from lstmkit.training.random_state import seeded

    with seeded(1):
        first = build(TINY, TemporalOrder(20), "GRU")
    with seeded(1):
        second = build(TINY, TemporalOrder(20), "GRU")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# ---- the labs ------------------------------------------------------------------------------------------------------


def corpus() -> Corpus:
    rng = np.random.default_rng(0)

    def part(count: int) -> Sequences:
        letters = [rng.integers(5, size=int(n)) for n in rng.integers(3, 9, count)]
        return Sequences([np.eye(5, dtype=np.float32)[x[:-1]] for x in letters], [x[1:] for x in letters])

    return Corpus(part(12), part(4), part(4), 5, lambda width: StepClassificationHead(width, 5), "nats")


@pytest.mark.parametrize("lab_", lab.all_labs(), ids=lambda lab_: lab_.name)
def test_every_lab_runs(lab_: lab.Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From its file to its result, with small settings and random data."""
    monkeypatch.setattr(corpora, "CORPORA", dict.fromkeys(corpora.CORPORA, corpus))
    monkeypatch.setattr(grid, "CORPORA", dict.fromkeys(corpora.CORPORA, corpus))
    small = {
        "epochs": 1,
        "steps_per_epoch": 2,
        "batch_size": 8,
        "sequences": 50,
        "check_every": 50,
        "checked": 10,
        "tested": 10,
        "units": 3,
        "seeds": 1,
        "lengths": [20],
    }
    chosen = lab.find_lab(lab_.name, {k: v for k, v in small.items() if k in lab_.settings})
    if chosen.experiment in ("long_lag", "flow"):
        more = {name: small[name] for name in ("sequences", "check_every", "checked", "tested")}
        chosen = lab.Lab(**{**vars(chosen), "settings": {**chosen.settings, **more}})
    lab_result = lab.run(chosen, Progress())
    json_path, figure_path = lab_result.write(tmp_path / "lab")
    assert figure_path.stat().st_size > 5000
    result = json.loads(json_path.read_text())
    assert result["lab"] == lab_.name
    assert result["rows"]
    assert result["versions"]["torch"]
    assert result["settings"] == chosen.settings
    assert lab_.title in str(lab_result)
    assert all({"name", "source"} <= p.keys() for p in lab_.published)


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("addin", {}, UserError, "did you mean 'adding'"),
        ("adding", {"unit": 3}, SettingError, "did you mean 'units'"),
        ("adding", {"lengths": [5]}, SettingError, "adding needs lengths of at least 20, got 5"),
        ("depth", {"data": "bible"}, SettingError, "unknown data 'bible'"),
        ("gates_text", {"kinds": ["no gates"]}, SettingError, "unknown cell 'no gates'"),
        ("adding", {"task": "summing"}, SettingError, "unknown task 'summing'"),
    ],
)
def test_unknown_labs_and_settings(name: str, changes: dict[str, object], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        lab.run(lab.find_lab(name, changes), Progress())


def test_recorded_results_match_the_lab_files():
    """A lab whose settings have changed must be run again."""
    folder = Path(__file__).parent.parent / "results/lab"
    recorded = sorted(folder.glob("*.json")) if folder.is_dir() else []
    for path in recorded:
        result = json.loads(path.read_text())
        assert result["settings"] == lab.find_lab(result["lab"]).settings, path.name
        assert path.with_suffix(".png").exists()


# ---- real sequences ------------------------------------------------------------------------------------------------


def test_multilabel_loss_is_per_step():
    """In nats per step, summed over the labels; steps past a sequence's end do not count."""
    head = MultilabelHead(3, 4)
    targets = torch.zeros(2, 5, 4)
    batch = Batch(torch.zeros(2, 5, 3), torch.tensor([5, 2]), targets)
    outputs = torch.zeros(2, 5, 4)
    assert float(head.loss(outputs, batch)) == pytest.approx(4 * np.log(2))
    outputs[1, 2:] = 100
    assert float(head.loss(outputs, batch)) == pytest.approx(4 * np.log(2))


def test_confidence_intervals_are_students_t():
    """For 1, 2, 3: the mean 2, plus or minus 4.303 / sqrt(3)."""
    rows = pd.DataFrame(
        {"kind": "LSTM", "layers": 1, "directions": 1, "share": 1.0, "test": [1.0, 2.0, 3.0], "valid": 1.0, "units": 4}
    )
    (row,) = grid.summary(rows.assign(parameters=9)).to_dict("records")
    assert [row["test"], row["from"], row["to"]] == pytest.approx([2, 2 - 2.4841, 2 + 2.4841], abs=1e-3)


def _is_installed(name: str) -> bool:
    try:
        return bool(locate(name))
    except UserError:
        return False


@pytest.mark.skipif(not _is_installed("jsb_chorales"), reason="jsb_chorales is not installed: set LSTMKIT_DATA")
def test_chorales_have_the_published_sizes():
    data = corpora.chorales()
    assert [len(part) for part in (data.train, data.valid, data.test)] == [229, 76, 77]
    assert [sum(part.lengths) for part in (data.train, data.valid, data.test)] == [13807, 4602, 4725]
    piece, target = data.test.inputs[3], data.test.targets[3]
    assert (piece[0] == 0).all()
    assert (piece[1:] == target[:-1]).all()


@pytest.mark.skipif(not _is_installed("tinyshakespeare"), reason="tinyshakespeare is not installed: set LSTMKIT_DATA")
def test_shakespeare_is_split_in_three():
    data = corpora.shakespeare()
    assert data.input_size == 65
    counts = [len(part) for part in (data.train, data.valid, data.test)]
    assert sum(counts) == 11153
    assert counts[0] == round(0.9 * 11153)
    assert (data.train.inputs[5][1:].argmax(1) == data.train.targets[5][:-1]).all()


@pytest.mark.skipif(not _is_installed("mnist"), reason="mnist is not installed: set LSTMKIT_DATA")
def test_digits_are_read_pixel_by_pixel():
    """Compared with the counts of MNIST's authors; the first image is a five."""
    data = corpora.digits()
    assert (len(data.train), len(data.valid), len(data.test)) == (55_000, 5_000, 10_000)
    batch = data.train.batch(np.array([0, 1, 2]))
    assert batch.inputs.shape == (3, 784, 1)
    assert batch.targets is not None
    assert batch.targets.tolist() == [5, 0, 4]
    assert float(batch.inputs.max()) == 1.0
    assert np.bincount(np.array(data.test.targets)).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    outputs = torch.zeros(3, 784, 10)
    outputs[:, -1, 5] = 1
    assert data.is_correct is not None
    assert data.is_correct(outputs, batch).tolist() == [True, False, False]


def test_published_figures_of_several_lengths_have_rows_of_their_own():
    settings = LongLagSettings(task="adding", kinds=("LSTM",), lengths=(100,))
    rows = pd.DataFrame([{"kind": "LSTM", "length": 100, "wrong": 3, "solved": True, "sequences": 5000}])
    published = [{"name": "LSTM, 1997", "length": length, "sequences": 70_000} for length in (100, 500)]
    (left, _) = lag_figure(rows, settings, published).axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["LSTM", "LSTM, 1997, T = 100", "LSTM, 1997, T = 500"]


def test_cells_of_several_depths_and_directions_have_a_line_each():
    rows = [
        {"cell": cell, "layers": layers, "directions": directions, "fraction of data": 1.0, "test": 1.0, "seeds": 3}
        for cell in ("GRU", "LSTM")
        for layers in (1, 2, 3)
        for directions in (1, 2)
    ]
    figure = grid.figure(pd.DataFrame(rows).assign(**{"from": 0.9, "to": 1.1}), "nats")
    lines = [text.get_text() for text in figure.legends[0].get_texts()]
    assert lines == ["GRU, directions 1", "GRU, directions 2", "LSTM, directions 1", "LSTM, directions 2"]
