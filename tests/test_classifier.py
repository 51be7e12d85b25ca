"""Classification: reading, splitting, pooling, class weights, calibration, training, attribution, reports."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from lstmkit.data.batch import Batch
from lstmkit.data.labeled_examples import Columns, read_labeled_examples
from lstmkit.data.sequence_dataset import Sequences, stratified_split
from lstmkit.errors import DataError, SettingError
from lstmkit.evaluation.calibration import (
    TemperatureScaling,
    confidences_and_outcomes,
    fit_temperature,
    log_loss,
    probabilities,
    reliability,
)
from lstmkit.frontends.standardized import StandardizedFrontEnd
from lstmkit.frontends.text import TextFrontEnd
from lstmkit.jobs import load
from lstmkit.jobs.classifier import metrics as scoring
from lstmkit.jobs.classifier.job import Classifier
from lstmkit.jobs.common.classification_report import calibration_section
from lstmkit.jobs.common.classifier_baselines import class_frequencies, nearest_neighbor, tfidf_logistic_regression
from lstmkit.models.sequence import SequenceClassifier
from lstmkit.modules.classification_head import ClassificationHead
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.ngram_regression import NgramRegression
from lstmkit.modules.pooling import POOLS, AttentionPool, build_pool
from lstmkit.modules.trunk import build_trunk
from lstmkit.plots.classification import (
    AttributedText,
    confusion_figure,
    reliability_figure,
    series_attribution_figure,
    text_attribution_figure,
)
from lstmkit.progress import Progress
from lstmkit.recipes import classifier as protocols
from scored import run_protocol

SILENT = Progress()
TINY: dict[str, Any] = {"hidden_size": 6, "epochs": 2, "batch_size": 8}


# ---- pooling ---------------------------------------------------------------------------------------------------------


def _by_hand(kind: str, steps: torch.Tensor, pool: Any) -> torch.Tensor:
    """Pool one sequence without padding, ``(T, 6)``, in a plain loop."""
    if kind == "last":
        return torch.cat([steps[-1, :3], steps[0, 3:]])
    if kind == "mean":
        return torch.stack([sum(steps[t, i] for t in range(len(steps))) / len(steps) for i in range(6)])
    if kind == "max":
        return torch.stack([max(steps[t, i] for t in range(len(steps))) for i in range(6)])
    scores = [torch.exp(pool.query(torch.tanh(pool.keys(step)))) for step in steps]
    return sum(score * step for score, step in zip(scores, steps, strict=True)) / sum(scores)


@pytest.mark.parametrize("kind", POOLS)
def test_pooling_matches_a_plain_loop(kind: str):
    """Each sequence is pooled over its own steps; NaN in the padding changes nothing."""
    torch.manual_seed(0)
    pool = build_pool(kind, 6, directions=2)
    steps, lengths = torch.randn(4, 5, 6), torch.tensor([5, 1, 3, 2])
    padded = steps.clone()
    for row, length in enumerate(lengths.tolist()):
        padded[row, length:] = torch.nan
    with torch.no_grad():
        pooled = pool(padded, lengths)
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(pooled[row], _by_hand(kind, steps[row, :length], pool))
        torch.testing.assert_close(pool(steps), pool(steps, torch.full((4,), 5)))


def test_last_pooling_of_a_unidirectional_layer():
    steps = torch.randn(2, 3, 4)
    assert torch.equal(build_pool("last", 4, 1)(steps, torch.tensor([3, 2])), torch.stack([steps[0, 2], steps[1, 1]]))


def test_attention_weights_sum_to_one():
    weights = (
        AttentionPool(4)(torch.randn(2, 3, 4)),
        AttentionPool(4).weights(torch.randn(2, 3, 4), torch.tensor([3, 1])),
    )
    assert weights[0].shape == (2, 4)
    torch.testing.assert_close(weights[1].sum(1), torch.ones(2))
    assert weights[1][1].tolist() == [1, 0, 0]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("kind", POOLS)
def test_padding_does_not_change_outputs_or_gradients(kind: str, cell: str):
    """A padded batch gives the outputs and gradients of single sequences, whatever the padding contains."""
    torch.manual_seed(0)
    trunk = build_trunk(cell, 3, 4, num_layers=2, bidirectional=True)
    model = (
        SequenceClassifier(TokenEncoder(9, 3), trunk, build_pool(kind, 8, 2), ClassificationHead(8, 3)).double().eval()
    )
    ids, lengths = torch.randint(0, 9, (3, 6)), torch.tensor([6, 1, 4])
    targets = torch.tensor([0, 2, 1])
    for fill in (0, 8):
        for row, length in enumerate(lengths.tolist()):
            ids[row, length:] = fill
        outputs, _ = model(ids, None, lengths)
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(outputs[row], model(ids[row : row + 1, :length])[0][0])
    together = torch.autograd.grad(model.loss(Batch(ids, lengths, targets))[0], list(model.parameters()))
    alone = [
        model.loss(Batch(ids[row : row + 1, :length], None, targets[row : row + 1]))[0]
        for row, length in enumerate(lengths.tolist())
    ]
    for a, b in zip(together, torch.autograd.grad(sum(alone) / 3, list(model.parameters())), strict=True):
        torch.testing.assert_close(a, b)
    output, state = model.step(ids[:, 0])
    assert output.shape == (3, 3)
    assert state is not None


# ---- loss and weights ------------------------------------------------------------------------------------------------


def test_class_weights_scale_the_loss_of_the_true_class():
    outputs, targets = torch.randn(4, 3), torch.tensor([0, 1, 1, 2])
    head = ClassificationHead(5, 3, class_weights=[1.0, 2.0, 0.5])
    each = F.cross_entropy(outputs, targets, reduction="none")
    expected = (each[0] + 2 * each[1] + 2 * each[2] + 0.5 * each[3]) / 4
    torch.testing.assert_close(head.loss(outputs, Batch(outputs, targets=targets)), expected)
    assert "weights" not in head.state_dict()


def test_class_weights_scale_positive_labels():
    outputs, labels = torch.randn(2, 2), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    head = ClassificationHead(5, 2, multi_label=True, class_weights=[3.0, 1.0])
    p = outputs.sigmoid()
    each = -torch.log(torch.stack([p[0, 0] ** 3, 1 - p[0, 1], p[1, 0] ** 3, p[1, 1]]))
    torch.testing.assert_close(head.loss(outputs, Batch(outputs, targets=labels)), each.sum() / 2)


def test_balanced_class_weights():
    data = (["a b", "a c", "a d", "b c"] * 10, ["x", "x", "x", "y"] * 10)
    job = Classifier(class_weight="balanced", **TINY)
    assert job.prepare(job.read(data)).balanced_class_weights() == pytest.approx([40 / 60, 40 / 20])
    job = Classifier(class_weight="balanced", label_sep="|", **TINY)
    assert job.prepare(job.read(data)).balanced_class_weights() == pytest.approx([1 / 3, 3.0])


def test_class_weights_help_the_rare_class():
    """If words do not predict the class, class weights make the model predict the rare class more often."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abc"), 4)) for _ in range(200)]
    data = (texts, ["rare" if i % 5 == 0 else "usual" for i in range(200)])
    rare_predictions = {}
    for weights in ("none", "balanced"):
        job = Classifier(class_weight=weights, pooling="mean", lr=0.02, min_count=1, **TINY).fit(data)
        rare_predictions[weights] = (job.predict(data)["label"] == "rare").sum()
    assert rare_predictions["balanced"] > rare_predictions["none"]


# ---- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_fitted_temperature_recovers_the_factor(factor: float, multi_label: bool):
    """The temperature of logits sharpened by a factor is that factor; log loss and calibration error fall."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1.5, (8000, 3))
    if multi_label:
        targets = (rng.random(true.shape) < probabilities(true, multi_label=True)).astype(np.float32)
    else:
        targets = np.array([rng.choice(3, p=p) for p in softmax(true, axis=1)])
    scaling = fit_temperature(factor * true, targets)
    temperature = scaling.temperature
    assert scaling.num_examples == 8000
    assert temperature == pytest.approx(factor, rel=0.1)
    assert log_loss(factor * true / temperature, targets) <= log_loss(factor * true, targets)
    before, after = (
        reliability(*confidences_and_outcomes(probabilities(factor * true, multi_label, t), targets)).error
        for t in (1.0, temperature)
    )
    assert after < 0.02
    assert factor == 1.0 or after < before


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("n", [10, 20, 50])
def test_few_examples_of_a_calibrated_predictor_keep_the_temperature(n: int, multi_label: bool):
    """A likelihood-ratio test at 5 % leaves 1 in about 95 of 100 splits; the prior keeps the others near 1."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (200, n, 5))
    labels = (rng.random(logits.shape) < probabilities(logits, multi_label=True)).astype(np.float32)
    targets = labels if multi_label else (logits + rng.gumbel(size=logits.shape)).argmax(axis=2)
    fitted = [fit_temperature(*split).temperature for split in zip(logits, targets, strict=True)]
    log_temperatures = np.abs(np.log(fitted))
    assert np.mean(log_temperatures == 0) > 0.9
    assert log_temperatures.max() < np.log(3)
    assert log_temperatures.mean() < 0.05


def test_the_temperature_is_not_at_a_bound_if_all_predictions_are_right():
    """Right answers without an error say little: very confident ones leave it at 1, doubtful ones lower it a little."""
    right = np.zeros(100, dtype=int)
    assert fit_temperature(np.tile([8.0, 0.0], (100, 1)), right).temperature == 1
    assert 0.2 < fit_temperature(np.tile([1.0, 0.0], (100, 1)), right).temperature < 1


def test_a_calibration_is_described_and_saved():
    """The sentence says how many examples there were; models of version 0.1 do not know it."""
    assert TemperatureScaling().describe() == "Probabilities are not calibrated"
    assert "on 12 validation examples, which do not show" in TemperatureScaling(1.0, 12).describe()
    assert TemperatureScaling.from_state({"temperature": 2}).describe().endswith("calibrated, with temperature 2.00")
    assert TemperatureScaling.from_state(TemperatureScaling(1.5, 9).state()) == TemperatureScaling(1.5, 9)
    for damaged in ({"temperature": 0}, {"temperature": "nan"}, {"temperature": 1, "calibrated_on": -1}):
        with pytest.raises(ValueError, match="not a"):
            TemperatureScaling.from_state(damaged)


def test_an_unchanged_temperature_has_one_calibration_curve():
    """Two equal curves would hide each other."""
    predicted, targets = np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 1])
    for other, names in ((predicted, {"model"}), (predicted[::-1], {"calibrated", "uncalibrated"})):
        table = calibration_section(predicted, other, targets).table
        assert table is not None
        assert {*table["probabilities"]} == names


def test_calibration_error_by_hand():
    result = reliability(np.array([0.95, 0.95, 0.65, 0.6, 1.0]), np.array([1, 0, 1, 1, 1]), bins=10)
    assert result.count.tolist() == [2, 3]
    assert result.error == pytest.approx((2 * abs(0.625 - 1) + 3 * abs((0.95 * 2 + 1) / 3 - 2 / 3)) / 5)


def test_scores_by_hand():
    predicted = np.array([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1], [0.3, 0.7]])
    row = scoring.scores(predicted, np.array([0, 0, 0, 1]), 0.5)
    assert row["accuracy"] == 0.75
    assert row["macro F1"] == pytest.approx((2 * 2 / 5 + 2 / 3) / 2)
    assert row["log loss"] == pytest.approx(-np.log([0.8, 0.4, 0.9, 0.7]).mean())
    labels = np.array([[1, 0], [1, 1], [1, 0], [0, 0]], dtype=np.float32)
    row = scoring.scores(predicted, labels, 0.5)
    assert row["Hamming loss"] == pytest.approx(2 / 8)
    assert row["micro F1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    hard = scoring.scores(np.eye(2)[[0, 0, 1, 1]], np.array([0, 0, 0, 1]), 0.5)
    assert hard["accuracy"] == 0.75
    assert np.isnan([hard["log loss"], hard["ECE"]]).all()


# ---- splitting -------------------------------------------------------------------------------------------------------

label_sets = st.lists(st.lists(st.sampled_from("abcde"), max_size=3, unique=True).map(tuple), min_size=3, max_size=60)


@hypothesis_settings(deadline=None)
@given(label_sets, st.floats(0, 0.5), st.floats(0, 0.5), st.integers(0, 9))
def test_split_is_a_partition_with_every_label_in_training(
    labels: Any, test_fraction: float, valid_fraction: float, seed: int
):
    train, (test, valid) = stratified_split(labels, (test_fraction, valid_fraction), seed)
    assert sorted([*train, *test, *valid]) == list(range(len(labels)))
    assert {label for i in train for label in labels[i]} == {label for label_set in labels for label in label_set}
    again, _ = stratified_split(labels, (test_fraction, valid_fraction), seed)
    assert (again == train).all()


def test_split_is_stratified():
    labels = [("a",)] * 600 + [("b",)] * 300 + [("c",)] * 100
    train, parts = stratified_split(labels, (0.1, 0.2), 0)
    assert [len(train), *map(len, parts)] == [700, 100, 200]
    for rows, fraction in ((parts[0], 0.1), (parts[1], 0.2)):
        for name, count in (("a", 600), ("b", 300), ("c", 100)):
            assert abs(sum(labels[i] == (name,) for i in rows) - fraction * count) <= 2
    assert (stratified_split(labels, (0.1, 0.2), 1)[0] != train).any()


# ---- reading ---------------------------------------------------------------------------------------------------------

TEXTS, LABELS = ["good, very", "bad\nindeed", "naïve"], ["1", "0", "1"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_all_file_formats_give_the_same_examples(name: str, tmp_path: Path):
    frame, path = pd.DataFrame({"text": TEXTS, "label": [1, 0, 1]}), tmp_path / name
    if "csv" in name or "tsv" in name:
        frame.to_csv(path, index=False, sep="\t" if "tsv" in name else ",")
    elif "jsonl" in name:
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    for data in (path, str(path), frame, (TEXTS, [1, 0, 1])):
        examples = read_labeled_examples(data, Columns())
        assert (examples.inputs, examples.labels, examples.kind) == (TEXTS, [(x,) for x in LABELS], "text")
        assert examples.ids == ["1", "2", "3"]
        assert examples.digest() == read_labeled_examples((TEXTS, LABELS), Columns()).digest()


def test_label_types():
    """Labels become text without surrounding spaces; missing labels are None."""
    examples = read_labeled_examples((["t"] * 6, [1.0, np.int64(2), True, " a ", None, float("nan")]), Columns())
    assert examples.labels == [("1",), ("2",), ("True",), ("a",), None, None]
    with pytest.raises(DataError, match="the data: example 5 has no label: give it one"):
        examples.require_labels()
    columns = Columns(separator="|")
    examples = read_labeled_examples((["t"] * 4, ["b|a", "", "a | |b", ["b", "c"]]), columns)
    assert examples.labels == [("a", "b"), (), ("a", "b"), ("b", "c")]
    assert read_labeled_examples(["t", "u"], Columns()).labels == [None, None]


def test_latin_1_file_is_read_with_a_note(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes("text,label\nna\xefve,a\n".encode("latin-1"))
    examples = read_labeled_examples(tmp_path / "a.csv", Columns())
    assert examples.inputs == ["naïve"]
    assert examples.notes == ("a.csv: not UTF-8, read as Latin-1",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "text,label\n", "no rows below the header"),
        ("a.csv", "body,label\nx,1\n", r"no column 'text' in a.csv \(columns: body, label\): give text_col=NAME"),
        ("a.csv", 'text,label\n"x,1\n', "quotation mark"),
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", '{"text": "x"}\n{"text"', "line 2 is not JSON: "),
        ("a.jsonl", '{"text": "x"}\n[3]', "line 2 is not a JSON object"),
        ("a.jsonl.gz", "no gzip", "cannot be read"),
        ("a.docx", "x", "unsupported file format"),
    ],
)
def test_bad_files_are_errors(name: str, content: str, message: str, tmp_path: Path):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_labeled_examples(tmp_path / name, Columns())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "give a path, a frame, or"),
        ((["a"], 3), "give a path, a frame, or .* not int"),
        (([], []), "has no examples"),
        ((["a"], ["x", "y"]), "1 inputs and 2 labels"),
        ((["a", [1.0]], None), "the inputs are of several types"),
        (([["a"]], None), "input 1 is neither text nor an array"),
        (([np.zeros((2, 3, 4, 2))], None), r"input 1 has shape \(2, 3, 4, 2\)"),
        (([np.zeros((0, 3))], None), r"input 1 has shape \(0, 3\)"),
        (([[1.0, float("nan")]], None), "input 1, step 2: a value is NaN or infinite"),
        ((["a"], [["x", "y"]]), r"an example has several labels \(x, y\): give label_sep='\|'"),
    ],
)
def test_bad_lists_are_errors(data: Any, message: str):
    with pytest.raises(DataError, match=message):
        read_labeled_examples(data, Columns())


def test_sequences_from_a_long_table(tmp_path: Path):
    """Rows with the same id form one sequence, even if they are not adjacent."""
    frame = pd.DataFrame({"id": ["b", "a", "b", "a", "a"], "x": [1, 2, 3, 4, 5], "y": 0.5, "label": list("vuvuu")})
    frame.to_csv(tmp_path / "a.csv", index=False)
    columns = Columns(values=("x", "y"))
    for data in (frame, tmp_path / "a.csv"):
        examples = read_labeled_examples(data, columns)
        assert [sequence.tolist() for sequence in examples.inputs] == [
            [[1, 0.5], [3, 0.5]],
            [[2, 0.5], [4, 0.5], [5, 0.5]],
        ]
        assert (examples.ids, examples.labels, examples.kind) == (["b", "a"], [("v",), ("u",)], "numbers")
    for change, message in (
        ({"label": list("vuvuw")}, "column 'label', row 5: 'w' differs from earlier rows with the same id"),
        ({"x": [1, 2, None, 4, 5]}, "column 'x', row 3: nan is a missing value"),
        ({"x": [1, 2, "three", 4, 5]}, "column 'x', row 3: 'three' is not a number"),
        ({"x": [1, 2, float("inf"), 4, 5]}, "is infinite"),
        ({"id": ["b", "a", None, "a", "a"]}, "column 'id', row 3: None is not a valid id"),
    ):
        with pytest.raises(DataError, match=message):
            read_labeled_examples(frame.assign(**change), columns)
    with pytest.raises(DataError, match=r"no column 'z' in the frame .*: give value_cols=\['A', 'B'\]"):
        read_labeled_examples(frame, Columns(values=("z",)))


@pytest.mark.parametrize(
    ("id_col", "ids", "advice"),
    [
        ("id", [1, 1, 2, 2], "value_cols=['x', 'y'] for numeric sequences (rows with the same id are one), text_col="),
        ("unit", [1, 1, 2, 2], "text_col=NAME, value_cols=['A', 'B'] and id_col=NAME for numeric sequences, or path"),
        ("id", [1, 2, 3, 4], "text_col=NAME, or path_col=NAME for audio or video files"),
    ],
)
def test_a_table_of_numbers_without_texts_is_told_of_value_cols(id_col: str, ids: list[int], advice: str):
    frame = pd.DataFrame({id_col: ids, "x": [1.0, 2.0, 3.0, 4.0], "y": 0.5, "label": [1, 1, 0, 0]})
    with pytest.raises(DataError, match=r"no column 'text' in the frame \(.*\): give " + re.escape(advice)):
        read_labeled_examples(frame, Columns())


# ---- front ends ------------------------------------------------------------------------------------------------------


def _text_front_end(**options: Any) -> TextFrontEnd:
    plain = {
        "tokenization": "words",
        "vocab_size": 0,
        "min_count": 1,
        "lowercase": True,
        "max_tokens": 0,
        "embedding_size": 3,
    }
    front_end = TextFrontEnd(**{**plain, "word_dropout": 0.0, "dropout": 0.0, **options})
    front_end.fit(["the Cat sat", "the dog"], SILENT)
    return front_end


@pytest.mark.parametrize("tokens", ["words", "whitespace", "chars", "bpe"])
def test_every_text_has_at_least_one_token(tokens: str):
    """An empty text is one unknown token; occlusion of the only token leaves one token."""
    front_end = _text_front_end(tokenization=tokens)
    encoded = front_end.encode(["", "the cat", "\n"])
    assert [len(ids) > 0 for ids in encoded] == [True] * 3
    for text, ids in zip(
        ("", "the cat", "a Cat and a café!"), front_end.encode(["", "the cat", "a Cat and a café!"]), strict=True
    ):
        assert len(front_end.steps(text)) == len(ids)
    assert "Cat" in "".join(front_end.steps("a Cat"))
    assert len(front_end.occlude(encoded[0], 0, 1)) == 1
    assert front_end.occlude(encoded[1], 0, 1).tolist() == encoded[1][1:].tolist()


def test_long_texts_are_truncated_with_a_note():
    front_end = _text_front_end(max_tokens=2)
    encoded = front_end.encode(["the cat sat", "the", "a dog"])
    assert [len(ids) for ids in encoded] == [2, 1, 2]
    unknown, cut = front_end.notes(encoded)
    assert unknown == "Unknown tokens: 20.0%."
    assert cut.startswith("Texts were truncated to 2 tokens")


def test_series_are_standardized_by_the_training_data():
    rng = np.random.default_rng(0)
    inputs = [rng.normal((5, -3), (2, 0.1), (t, 2)).astype(np.float32) for t in (30, 50)]
    inputs = [np.column_stack([sequence, np.full(len(sequence), 7.0)]).astype(np.float32) for sequence in inputs]
    front_end = StandardizedFrontEnd()
    front_end.fit(inputs, SILENT)
    whole = np.concatenate(front_end.encode(inputs))
    np.testing.assert_allclose(whole.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(whole.std(axis=0), [1, 1, 0], atol=1e-4)
    loaded = StandardizedFrontEnd()
    loaded.load_state(json.loads(json.dumps(front_end.state())))
    assert all((a == b).all() for a, b in zip(front_end.encode(inputs), loaded.encode(inputs), strict=True))
    (sequence,) = front_end.encode(inputs[:1])
    occluded = front_end.occlude(sequence, 3, 5)
    assert (occluded[3:5] == 0).all()
    assert (np.delete(occluded, [3, 4], 0) == np.delete(sequence, [3, 4], 0)).all()
    with pytest.raises(DataError, match="sequence 1 has 2 columns, expected 3"):
        front_end.encode([np.zeros((4, 2), dtype=np.float32)])


# ---- training --------------------------------------------------------------------------------------------------------


def _ordered_texts(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts labeled by which of two words comes first, with other words between: n-gram counts cannot separate them."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for i in range(n):
        words = rng.choice(["and", "then", "so", "it", "was"], rng.integers(5, 9)).tolist()
        words[1], words[-2] = ("sun", "moon") if i % 2 else ("moon", "sun")
        texts.append(" ".join(words))
        labels.append(words[1])
    return texts, labels


@pytest.fixture(scope="module")
def ordered() -> Classifier:
    settings = {"hidden_size": 16, "epochs": 25, "batch_size": 16, "lr": 0.02, "pooling": "last", "patience": 0}
    return Classifier(dropout=0.1, input_dropout=0.0, word_dropout=0.0, **settings).fit(_ordered_texts(300, 0))


def test_it_learns_word_order(ordered: Classifier):
    evaluation = ordered.evaluate(_ordered_texts(100, 1))
    accuracy = evaluation.table.set_index("model")["accuracy"]
    assert accuracy["LSTM"] > 0.95
    assert accuracy["TF-IDF, logistic regression"] < 0.75
    assert accuracy["majority class"] == 0.5
    assert evaluation.headline.startswith("Accuracy of LSTM")


def test_attribution_finds_the_deciding_words(ordered: Classifier):
    """The attribution of a word is the change of the probability without it; the two deciding words rank highest."""
    text = "it sun and then was moon so"
    (predicted,) = ordered.predict([text])[["p_moon", "p_sun"]].to_numpy()
    assert predicted[1] > 0.9
    tokens, changes = ordered.occlusion_attribution(text, "sun")
    assert tokens == text.split()
    assert {tokens[i] for i in np.argsort(-np.abs(changes))[:2]} <= {"sun", "moon"}
    for i, word in enumerate(text.split()):
        without = " ".join(w for k, w in enumerate(text.split()) if k != i)
        assert changes[i] == pytest.approx(predicted[1] - ordered.predict([without])["p_sun"][0], abs=1e-5), word
    assert ordered.plot([text], ordered.predict([text])).axes


def test_long_example_is_occluded_in_chunks(ordered: Classifier):
    words, changes = ordered.occlusion_attribution("sun " * 450, "sun")
    assert len(words) == len(changes) == 450
    assert len(np.unique(changes)) <= 150


def test_baselines_of_a_loaded_model(ordered: Classifier, tmp_path: Path):
    """A loaded model has no training examples: its only baseline is the majority class, as a note says."""
    loaded = load(ordered.save(tmp_path))
    evaluation = loaded.evaluate(_ordered_texts(20, 1))
    assert evaluation.table["model"].tolist() == ["LSTM", "majority class"]
    assert len(evaluation.missing_baselines) == 1


def test_every_row_gets_a_prediction(ordered: Classifier, tmp_path: Path):
    """Each row gets a prediction, empty texts too; the data need no labels, and ids are kept."""
    frame = pd.DataFrame({"id": ["x", "y", "z"], "text": ["sun then moon", None, "moon so sun " * 30]})
    frame.to_csv(tmp_path / "new.csv", index=False)
    for data in (frame, tmp_path / "new.csv"):
        predictions = ordered.predict(data)
        assert predictions.columns.tolist() == ["id", "text", "label", "probability", "p_moon", "p_sun"]
        assert predictions["id"].tolist() == ["x", "y", "z"]
        assert predictions["probability"].tolist() == pytest.approx(
            predictions[["p_moon", "p_sun"]].max(axis=1).tolist()
        )
        np.testing.assert_allclose(predictions[["p_moon", "p_sun"]].sum(axis=1), 1)
    alone = [ordered.predict([text])["p_sun"][0] for text in ("sun then moon", "", "moon so sun " * 30)]
    assert predictions["p_sun"].tolist() == pytest.approx(alone, abs=1e-5)


def test_unknown_or_missing_label_is_an_error(ordered: Classifier):
    with pytest.raises(
        DataError,
        match=r"example 2 has the label 'stars', which is not in the training data \(its labels: moon, sun\)",
    ):
        ordered.evaluate((["sun", "moon"], ["sun", "stars"]))
    with pytest.raises(DataError, match="example 1 has no label"):
        ordered.evaluate(["sun"])
    with pytest.raises(DataError, match="example 1 has the label 'stars'"):
        Classifier(**TINY).fit(_ordered_texts(40, 0), validation=(["sun"], ["stars"]))


def test_wrong_kind_of_data_is_an_error(ordered: Classifier):
    with pytest.raises(
        DataError, match="the data contains time series, but this model was trained on texts: give texts"
    ):
        ordered.predict([[1.0, 2.0]])
    with pytest.raises(DataError, match="there is no label 'stars': the labels of the model are moon, sun"):
        ordered.occlusion_attribution("sun", "stars")
    with pytest.raises(DataError, match="there is no example 9: the data has examples 1 to 2"):
        ordered.example_sequences(["sun", "moon"], example=9)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((["", " "] * 9, ["x", "y"] * 9), "every text is empty: name the column"),
        ((["a b"] * 9, ["x"] * 9), "all examples have one class, 'x': give examples of at least two classes"),
        (
            (["a", "b"], ["x", "y"]),
            "has 2 examples of 2 classes, too few for a validation and a test part",
        ),
        ((["a", "b"], ["x", None]), "example 2 has no label"),
    ],
)
def test_unusable_training_data_are_errors(data: Any, message: str):
    with pytest.raises(DataError, match=message):
        Classifier(**TINY).fit(data)


def test_class_with_one_example_is_in_training():
    """A class with one example is never held out, and the model can predict it."""
    data = (["a b c"] * 20 + ["d"], ["x", "y"] * 10 + ["z"])
    job = Classifier(min_count=1, **TINY)
    parts = job.split(job.read(data), None)
    assert ("z",) in parts.train.labels
    assert ("z",) not in [*parts.valid.labels, *parts.test.labels]
    assert job.fit(data).classes == ("x", "y", "z")


def test_note_about_calibration():
    """A note says whether probabilities are calibrated, and on how many examples; it needs a validation split."""
    for valid_fraction, message in ((0.0, "Probabilities are not calibrated"), (0.2, "on 16 validation examples")):
        job = Classifier(valid_fraction=valid_fraction, **TINY).fit(_ordered_texts(80, 0))
        assert message in job.evaluate(_ordered_texts(40, 1)).notes[0]


def test_numeric_classes_are_sorted_as_numbers():
    job = Classifier(**TINY)
    assert job.prepare(job.read((["a"] * 3, [10, 9, -1]))).classes == ("-1", "9", "10")


# ---- time series -----------------------------------------------------------------------------------------------------


def _pulses(n: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Series of any length with a positive and a negative pulse; the label is the sign of the first."""
    rng = np.random.default_rng(seed)
    sequences, labels = [], []
    for i in range(n):
        steps = rng.normal(0, 0.1, (int(rng.integers(8, 15)), 1))
        first, second = sorted(rng.choice(len(steps), 2, replace=False))
        up = i % 2
        steps[first] += 3 if up else -3
        steps[second] += -3 if up else 3
        sequences.append(steps)
        labels.append("up" if up else "down")
    return sequences, labels


def test_it_learns_time_series(tmp_path: Path):
    """Series of any length are learned, compared with nearest neighbors, saved, loaded and explained."""
    job = Classifier(hidden_size=12, epochs=20, batch_size=16, lr=0.02, dropout=0.1, pooling="last", ema_decay=0.9)
    job.fit(_pulses(200, 0))
    test = _pulses(60, 1)
    job.evaluation = job.evaluate(test)
    table = job.evaluation.table.set_index("model")
    assert table["accuracy"]["LSTM"] > 0.9
    assert table.index.tolist() == ["LSTM", "1-nearest neighbor", "majority class"]
    loaded = load(job.save(tmp_path))
    pd.testing.assert_frame_equal(loaded.predict(test[0]), job.predict(test[0]))
    assert "text" not in job.predict(test[0])
    assert job.plot(test, job.predict(test)).axes
    (example_sequence, *_) = job.example_sequences(test)
    assert example_sequence.labels is not None
    assert len(example_sequence.labels) == len(test[0][0])
    assert "Attribution for example 1" in [section.title for section in job.report_sections(job.read(test))]


# ---- multi-label -----------------------------------------------------------------------------------------------------


def _multi_label_texts(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    present = rng.random((n, 3)) < 0.4
    texts = [
        " ".join(["on", *(w if is_present else "no" for w, is_present in zip(("red", "big", "old"), row, strict=True))])
        for row in present
    ]
    labels = ["|".join(x for x, is_present in zip("RBO", row, strict=True) if is_present) for row in present]
    return pd.DataFrame({"text": texts, "label": labels})


def test_multi_label_classification(tmp_path: Path):
    job = Classifier(label_sep="|", hidden_size=12, epochs=20, batch_size=16, lr=0.02, input_dropout=0.0, dropout=0.1)
    job.fit(_multi_label_texts(160, 0))
    assert job.classes == ("B", "O", "R")
    predictions = job.predict(pd.DataFrame({"text": ["on red big no", "on no no no"]}))
    assert predictions.columns.tolist() == ["id", "text", "label", "p_B", "p_O", "p_R"]
    assert predictions["label"].tolist() == ["B|R", ""]
    job.evaluation = job.evaluate(_multi_label_texts(60, 1))
    table = job.evaluation.table
    assert table.columns.tolist() == ["model", "micro F1", "macro F1", "Hamming loss", "log loss", "ECE"]
    assert table["model"].tolist() == ["LSTM", "TF-IDF, logistic regression", "majority class"]
    assert table["micro F1"][0] > 0.9
    assert "Results by label" in [section.title for section in job.report_sections(job.read(_multi_label_texts(60, 1)))]
    loaded = load(job.save(tmp_path))
    pd.testing.assert_frame_equal(loaded.predict(_multi_label_texts(9, 1)), job.predict(_multi_label_texts(9, 1)))


# ---- baselines and figures -------------------------------------------------------------------------------------------


def test_baselines():
    """TF-IDF regression selects its regularization on validation data and gives an absent class 0; 1-NN works."""
    train = (["good film", "bad film"] * 5, np.array([0, 2] * 5))
    candidates: list[np.ndarray] = []

    def validation_loss(predicted: np.ndarray) -> float:
        candidates.append(predicted)
        return [3.0, 1.0, 2.0][len(candidates) - 1]

    options: dict[str, Any] = {"classes": 3, "balanced": False, "progress": SILENT}
    predictions = tfidf_logistic_regression(train, (["good"], validation_loss), ["good", "bad"], **options)
    assert predictions.argmax(axis=1).tolist() == [0, 2]
    assert (predictions[:, 1] == 0).all()
    assert len(candidates) == 3
    assert predictions[0] == pytest.approx(candidates[1][0])
    labels = np.array([[1, 0, 1], [0, 0, 1]] * 5, dtype=np.float32)  # one label is never true, one always
    multi_label = tfidf_logistic_regression((train[0], labels), None, ["good", "bad"], **options)
    assert (multi_label[:, 0] > 0.5).tolist() == [True, False]
    np.testing.assert_allclose(multi_label[:, 1:], [[0, 1], [0, 1]])
    assert class_frequencies(np.array([1, 3]), 4, 2).tolist() == [[0.25, 0.75]] * 2
    sequences = [np.zeros((3, 1)), np.ones((9, 1))]
    nearest = nearest_neighbor((sequences, np.array([4, 5])), [np.full((5, 1), 0.8)], seed=0, progress=SILENT)
    assert nearest.tolist() == [5]


def test_figures():
    """Figures show counts and tokens literally, special characters included."""
    figure = confusion_figure(np.array([[3, 1], [0, 1234]]), ["$a$", "_b" * 40])
    assert {"3", "1", "0", "1,234"} <= {text.get_text() for text in figure.axes[0].texts}
    assert not confusion_figure(np.ones((30, 30), dtype=int), [str(i) for i in range(30)]).axes[0].texts
    confidences = np.array([0.1, 0.9])
    curves = {"calibrated": (confidences, confidences), "before": (confidences, confidences / 2)}
    assert len(reliability_figure(curves).axes[0].lines) == 3
    figure = text_attribution_figure([AttributedText("praise: 0.9", ["good", "$not", "film"], [0.4, -0.5, 0.0])])
    assert [text.get_text() for text in figure.axes[0].texts] == ["praise: 0.9", "good", "$not", "film"]
    assert len(figure.axes[0].lines) == 1  # negative attribution is underlined too
    colors = [patch.get_facecolor() for patch in figure.axes[0].patches]
    assert colors[0][2] > colors[0][0]  # positive: blue
    assert colors[1][0] > colors[1][2]  # negative: orange
    for columns in (1, 20):
        series_attribution_figure(
            np.random.default_rng(0).random((9, columns)), [0.1] * 9, "up: 0.8"
        ).draw_without_rendering()
    for figure_to_draw in (figure, confusion_figure(np.eye(2, dtype=int), ["a", "b"])):
        figure_to_draw.draw_without_rendering()


def test_batch_pads_the_requested_rows():
    source = Sequences([np.array([1, 2, 3]), np.array([4])], np.array([0, 1]))
    batch = source.batch(np.array([1, 0]))
    assert batch.inputs.tolist() == [[4, 0, 0], [1, 2, 3]]
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [1, 3]


def test_settings_out_of_range():
    for bad in ({"pooling": "first"}, {"threshold": 1.5}, {"class_weight": "some"}, {"test_fraction": 0.9}):
        with pytest.raises(SettingError):
            Classifier(**bad)


# ---- recipes ---------------------------------------------------------------------------------------------------------


def test_text_protocols(tmp_path: Path):
    """Questions use the coarse class, sentences have three splits, folds go by line number; only newlines end lines."""
    questions = [f"{'LOC:city' if i % 2 else 'HUM:ind'} {'where' if i % 2 else 'who'} is\x85 it {i}" for i in range(40)]
    (tmp_path / "train.gz").write_bytes(gzip.compress("\n".join(questions).encode("latin-1")))
    (tmp_path / "test").write_bytes("\n".join(questions[:10]).encode("latin-1"))
    job = Classifier(**TINY)
    table = run_protocol(protocols.questions, job, tmp_path, {"train": "train", "test": "test"})
    assert job.classes == ("HUM", "LOC")
    assert table["model"].tolist() == ["LSTM", "LSTM, network alone", "TF-IDF, logistic regression", "majority class"]
    parts = {"train": "train", "valid": "test", "test": "test"}
    assert run_protocol(protocols.sentences, Classifier(**TINY), tmp_path, parts)["accuracy"].between(0, 1).all()
    table = run_protocol(protocols.cross_validation, Classifier(**TINY), tmp_path, {"file": "train", "folds": 3})
    assert table["accuracy"].between(0, 1).all()
    assert len(table) == 4


def _idx(array: np.ndarray) -> bytes:
    """An array in the IDX format of MNIST."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def test_review_protocol(tmp_path: Path):
    lines = [f"{i % 2}\t{1 + 9 * (i % 2)}\t{i}\ta {'good' if i % 2 else 'bad'} film\t{i}" for i in range(30)]
    (tmp_path / "x.tsv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    table = run_protocol(protocols.reviews, Classifier(**TINY), tmp_path, {"train": "x.tsv", "test": "x.tsv"})
    assert table["accuracy"].between(0, 1).all()


def test_image_and_series_protocols(tmp_path: Path):
    """Images are read as sequences of rows or pixels; a .ts file gives dimensions and classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(30, dtype=np.uint8) % 2
    pixels = (labels[:, None] * 100 + rng.integers(0, 50, (30, 784))).astype(np.uint8)
    for part in ("train", "test"):
        (tmp_path / f"{part}-images").write_bytes(_idx(pixels))
        (tmp_path / f"{part}-labels").write_bytes(_idx(labels))
    names = {f"{part}_{what}": f"{part}-{what}" for part in ("train", "test") for what in ("images", "labels")}
    job = Classifier(**TINY)
    table = run_protocol(protocols.images, job, tmp_path, {**names, "pixels": False})
    accuracy = table.set_index("model")["accuracy"]
    parts = ["LSTM, network alone", "MiniRocket, logistic regression"]
    assert accuracy.index.tolist() == ["LSTM", *parts, "1-nearest neighbor", "majority class"]
    assert accuracy["1-nearest neighbor"] == 1.0
    cases = "\n".join(f"1,2,{i}:4,5,6:{'a' if i % 2 else 'b'}" for i in range(20))
    (tmp_path / "s.ts").write_text(f"#about\n@dimensions 2\n@data\n{cases}\n")
    sequences, classes = protocols._ts(tmp_path, "s.ts")
    assert sequences[3].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert classes[:2] == ["b", "a"]
    assert len(run_protocol(protocols.series, Classifier(**TINY), tmp_path, {"train": "s.ts", "test": "s.ts"})) == 3


# ---- n-grams beside the network --------------------------------------------------------------------------------------


def _topics(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts of random words whose label is told by one pair of neighbors."""
    rng = np.random.default_rng(seed)
    pairs = {"x": "red car", "y": "car red", "z": "red red"}
    labels = [str(rng.choice(list(pairs))) for _ in range(n)]
    words = [[f"w{i}" for i in rng.integers(0, 30, 6)] for _ in labels]
    return [" ".join([*own[:3], pairs[label], *own[3:]]) for own, label in zip(words, labels, strict=True)], labels


@pytest.fixture(scope="module")
def topics() -> Classifier:
    return Classifier(**TINY, ngram_weight=0.5, seed=1).fit(_topics(300, 0))


def test_ngrams_are_scikit_learns_logistic_regression(topics: Classifier):
    """The module gives the probabilities of scikit-learn's model on the same features, with padding or without."""
    texts, labels = _topics(120, 0)
    encoded = topics.predictor.front_end.encode(texts)
    module = NgramRegression(50, 256, 3)
    features = module.fit_features(encoded)
    model = LogisticRegression(C=10.0, max_iter=1000).fit(features, labels)
    module.load_regression(*(a.astype(np.float32) for a in (model.coef_.T, model.intercept_)))
    lengths = torch.tensor([len(ids) for ids in encoded])
    padded = torch.cat([Sequences(encoded).batch(np.arange(120)).inputs, torch.full((120, 3), 7)], 1)
    actual = module(padded, lengths).exp()
    np.testing.assert_allclose(actual.numpy(), model.predict_proba(features), atol=1e-5)
    alone = torch.cat([module(torch.from_numpy(ids)[None]) for ids in encoded]).exp()
    torch.testing.assert_close(actual, alone)


def test_ngrams_are_mixed_into_the_probabilities(topics: Classifier, tmp_path: Path):
    """With weight w: (1 - w) network + w regression. Saved and loaded they answer the same."""
    texts, _ = _topics(20, 2)
    predictor = topics.predictor
    encoded = predictor.front_end.encode(texts)
    network = predictor.network
    assert isinstance(network, SequenceClassifier)
    assert network.regression is not None
    mixed = predictor.probabilities(encoded).uncalibrated
    ngrams = torch.cat([network.regression(torch.from_numpy(ids)[None]) for ids in encoded]).exp().numpy()
    loaded = load(topics.save(tmp_path / "model"))
    assert np.array_equal(loaded.predictor.probabilities(encoded).uncalibrated, mixed)
    predictor.regression.detach(network)
    try:
        alone = predictor.probabilities(encoded).uncalibrated
    finally:
        predictor.regression.attach(network, 0.5)
    np.testing.assert_allclose(mixed, (alone + ngrams) / 2, atol=1e-6)


def test_the_weight_of_ngrams_is_chosen_on_the_validation_split():
    """A network without training gets a small weight; with weight 0 the model has no n-grams; several labels: none."""
    untrained = Classifier(**{**TINY, "epochs": 1, "lr": 0.0, "steps_per_epoch": 1}).fit(_topics(300, 0))
    assert untrained.predictor.regression.share > 0.5
    assert untrained.score(*_topics(100, 3)) > 0.9
    assert "logistic regression on tokens and token pairs" in untrained.evaluate(_topics(40, 3)).notes[1]
    without = Classifier(**TINY, ngram_weight=0.0).fit(_topics(60, 0))
    assert without.predictor.regression is None
    assert not [name for name in without.model.state_dict() if "regression" in name]
    held_out = Classifier(**TINY, valid_fraction=0.0).fit(_topics(60, 0))
    assert not [name for name in held_out.model.state_dict() if "regression" in name]
    several = Classifier(**TINY, label_sep="|").fit((["a b", "b c", "c d", "d e"] * 10, ["x", "x|y", "y", "x"] * 10))
    assert several.predictor.regression is None


def test_many_texts_are_sampled_for_ngrams(monkeypatch: pytest.MonkeyPatch):
    """Every class stays in the sample, also one with a single text."""
    monkeypatch.setattr("lstmkit.jobs.classifier.regression_mixture._MAX_TEXTS", 10)
    texts, labels = _topics(60, 0)
    job = Classifier(**TINY, ngram_weight=0.5, valid_fraction=0.0, test_fraction=0.0)
    job.fit(([*texts, "blue boat"], [*labels, "rare"]))
    ngrams = job.network.regression
    assert ngrams.weight.abs().sum(0).min() > 0
    assert (ngrams.weight.abs().sum(1) > 0).sum() < 150  # features of about a dozen texts


def test_an_ensemble_and_a_given_weight_have_ngrams(tmp_path: Path):
    job = Classifier(**TINY, ngram_weight=0.25, ensemble_size=2, valid_fraction=0.0).fit(_topics(80, 0))
    assert [network.regression.share for network in job.model.members] == [0.25, 0.25]
    texts = _topics(10, 1)[0]
    assert load(job.save(tmp_path / "model")).predict_proba(texts).tolist() == job.predict_proba(texts).tolist()
