"""Intervals of a test with few examples, and how an evaluation states them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sacrebleu.metrics.bleu import BLEU
from scipy import stats

from lstmkit.evaluation.confidence import MAX_EXAMPLES, ScoredExamples, bootstrap_interval, wilson_interval
from lstmkit.evaluation.forecast_metrics import forecast_scores, mase_of_windows
from lstmkit.evaluation.text_metrics import bleu_of_rows
from lstmkit.jobs.evaluation import Evaluation


@pytest.mark.parametrize(("correct", "count"), [(0, 1), (6, 7), (7, 7), (90, 150)])
def test_wilson_interval_is_that_of_scipy(correct: int, count: int):
    expected = stats.binomtest(correct, count).proportion_ci(0.95, "wilson")
    assert wilson_interval(correct / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_bootstrap_of_a_mean_is_close_to_the_normal_interval():
    values = np.random.default_rng(1).normal(5, 2, 150)
    interval = bootstrap_interval(lambda rows: float(values[rows].mean()), len(values))
    assert interval is not None
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1)


def test_a_ratio_weighs_its_examples():
    """The error rate of a long text counts more than that of a short one; the interval is around the ratio."""
    examples = ScoredExamples.ratio("texts", np.array([1, 0, 1, 0, 2, 9]), np.array([10, 10, 10, 10, 20, 10]))
    assert examples.score is not None
    assert examples.score(np.arange(6)) == pytest.approx(13 / 70)
    assert examples.interval is not None
    low, high = examples.interval
    assert low < 13 / 70 < high


@pytest.mark.parametrize("count", [0, 1, 4, MAX_EXAMPLES + 1])
def test_no_interval_of_too_few_or_of_many_examples(count: int):
    assert ScoredExamples.mean("texts", np.ones(count)).interval is None


def test_a_score_that_some_examples_do_not_have_has_no_interval():
    assert ScoredExamples.ratio("texts", np.ones(5), np.array([0, 0, 0, 0, 1])).interval is None


@pytest.mark.parametrize("value", [0.0, 1.0, 100 / 3])
def test_examples_with_the_same_score_have_no_interval(value: float):
    """A resample of them has no other score: "1 to 1" would say that the score is exact."""
    weights = np.arange(1, 36)
    for examples in (
        ScoredExamples.mean("texts", np.full(35, value)),
        ScoredExamples.ratio("texts", value * weights, weights),
    ):
        assert examples.have_same_score
        assert examples.interval is None
    other = ScoredExamples.mean("texts", np.array([value] * 34 + [value + 1]))
    assert not other.have_same_score
    assert other.interval is not None


def test_a_fraction_of_correct_examples_keeps_its_interval():
    examples = ScoredExamples.mean("texts", np.ones(35), is_fraction=True)
    assert examples.interval == pytest.approx((0.901, 1.0), abs=1e-3)


@pytest.mark.parametrize(
    ("count", "name", "said"), [(1, "texts", "1 text"), (1, "series", "1 series"), (1200, "a", "1,200 a")]
)
def test_number_of_examples(count: int, name: str, said: str):
    assert ScoredExamples(count, name).counted == said


def evaluation(correct: list[int], **options: object) -> Evaluation:
    table = pd.DataFrame({"model": ["LSTM", "always yes"], "accuracy": [float(np.mean(correct)), 1.0]})
    examples = ScoredExamples.mean("questions", np.array(correct, dtype=float), is_fraction=True)
    return Evaluation(table, {"accuracy": "high"}, pd.DataFrame(), ("A note.",), examples=examples, **options)  # type: ignore[arg-type]


def test_an_evaluation_states_the_number_of_examples_and_the_interval():
    few = evaluation([1, 1, 1, 1, 1, 1, 0])
    assert few.headline.startswith(
        "Accuracy of LSTM on the given data (7 questions): 0.8571 (95 % interval 0.487 to 0.974)."
    )
    assert few.notes == ("A note.", "With 7 questions, the 95 % interval of this model's accuracy is 0.487 to 0.974.")
    assert few.to_json()["examples"] == {"count": 7, "name": "questions"}
    assert few.to_json()["interval"] == pytest.approx([0.4869, 0.9743], abs=1e-4)
    many = evaluation([1, 0] * 200)
    assert many.headline.startswith("Accuracy of LSTM on the given data (400 questions): 0.5. ")
    assert many.notes == ("A note.",)
    assert many.to_json()["interval"] is None


def test_an_evaluation_says_that_all_examples_have_the_same_score():
    table = pd.DataFrame({"model": ["LSTM"], "accuracy": [1.0]})
    examples = ScoredExamples.ratio("sentences", np.arange(1, 36), np.arange(1, 36))
    evaluation = Evaluation(table, {"accuracy": "high"}, pd.DataFrame(), examples=examples)
    assert evaluation.headline == "Accuracy of LSTM on the given data (35 sentences): 1."
    assert evaluation.notes == (
        "All 35 sentences have the same accuracy, so it has no 95 % interval. "
        "The 95 % interval of the fraction of such sentences is 0.901 to 1.",
    )
    saved = evaluation.to_json()
    assert saved["interval"] is None
    loaded = Evaluation.from_json(saved, "test")
    assert (loaded.headline, loaded.notes[0]) == (
        "Accuracy of LSTM on the test split (35 sentences): 1.",
        evaluation.notes[0],
    )


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((0.99962, 1.0), "0.9996 to 1"),
        ((99.998, 99.999), "99.998 to 99.999"),
        ((1234.56, 2345.67), "1,230 to 2,350"),
        ((0.0, 0.25), "0 to 0.25"),
    ],
)
def test_the_bounds_of_an_interval_are_told_apart(interval: tuple[float, float], text: str):
    table = pd.DataFrame({"model": ["LSTM"], "score": [interval[0]]})
    examples = ScoredExamples(50, "texts", saved_interval=interval)
    (note,) = Evaluation(table, {"score": "high"}, pd.DataFrame(), examples=examples).notes
    assert note == f"With 50 texts, the 95 % interval of this model's score is {text}."


def test_a_baseline_that_cannot_replace_the_model_is_not_advised():
    assert evaluation([1, 0]).headline.endswith("The best baseline, always yes, has 1: use that one.")
    headline = evaluation([1, 0], not_alternatives={"always yes": "it knows the answers"}).headline
    assert headline.endswith("The best baseline, always yes, has 1 and is better, but it knows the answers.")


@pytest.mark.parametrize("references", [1, 2])
def test_bleu_of_rows_is_that_of_sacrebleu(references: int):
    hypotheses = ["a red dog runs on the grass", "two men sit", "a cat", "the dog sleeps in the red house"]
    first = ["a red dog runs over the grass", "two men sit down", "one cat", "a dog sleeps in the red house"]
    sets = [first, ["the red dog runs on grass", None, "a cat", None]][:references]
    metric = BLEU()
    bleu = bleu_of_rows(metric, hypotheses, sets)
    for rows in ([0, 1, 2, 3], [3, 0, 0], [2]):
        chosen = [[of_set[i] for i in rows] for of_set in sets]
        expected = metric.corpus_score([hypotheses[i] for i in rows], chosen).score
        assert bleu(np.array(rows)) == pytest.approx(expected)


def test_mase_of_all_windows_is_that_of_the_table():
    rng = np.random.default_rng(0)
    windows = [("a", 0), ("a", 1), ("a", 2), ("b", 0)]  # series, cutoff
    rows = [(name, cutoff, 3 * cutoff + step) for name, cutoff in windows for step in range(3)]
    frame = pd.DataFrame(rows, columns=["unique_id", "cutoff", "ds"])
    forecasts = frame.assign(
        **{name: rng.normal(size=len(frame)) for name in ("y", "LSTM", "LSTM-lo-80", "LSTM-hi-80")}
    )
    past = pd.DataFrame({"unique_id": ["a"] * 9 + ["b"] * 9, "ds": [*range(-9, 0)] * 2, "y": rng.normal(size=18)})
    table = forecast_scores(forecasts, past, ["LSTM"], season=1, levels=[80])
    count, mase = mase_of_windows(forecasts, past, "LSTM", 1)
    assert count == 4
    assert mase(np.arange(4)) == pytest.approx(table["MASE"].iloc[0])
    assert mase(np.array([3])) != pytest.approx(mase(np.array([0])))
