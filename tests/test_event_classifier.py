"""The event classifier: splits, thresholds, baselines, live events, attribution, and data that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from job_cases import CASES, fitted, make
from lstmkit import load
from lstmkit.data.tables.row_sequences import RowColumns, RowSequences, read_row_sequences
from lstmkit.data.tables.row_windows import cut_windows
from lstmkit.errors import DataError, ModelFileError, SettingError
from lstmkit.evaluation.event_metrics import entity_precision_at_k, fit_threshold
from lstmkit.jobs.event_classifier.attribution import attributed_columns, event_attribution
from lstmkit.jobs.event_classifier.baselines import aggregates
from lstmkit.jobs.event_classifier.job import EventClassifier
from lstmkit.jobs.event_classifier.leakage import leaking_columns
from lstmkit.jobs.event_classifier.splitting import known_positive
from lstmkit.look.integrated_gradients import integrated_gradients
from lstmkit.modules.event_head import EventHead
from lstmkit.progress import Progress

NAME = "event_classifier"


def events(seed: int = 0) -> pd.DataFrame:
    return CASES[NAME].data() if seed == 0 else CASES[NAME].other()


def shared(ensemble_size: int = 1) -> EventClassifier:
    """The fitted job that all tests share."""
    job = fitted(NAME, ensemble_size)
    assert isinstance(job, EventClassifier)
    return job


def read(frame: pd.DataFrame) -> RowSequences:
    return read_row_sequences(frame, RowColumns(targets=("label",), labels=True))


def split(frame: pd.DataFrame, **options: Any) -> Any:
    job = make(NAME, **options)
    job.progress = Progress()
    return job.split(job.read(frame), None)


# ---- splits ----------------------------------------------------------------------------------------------------------


def test_the_latest_labeled_events_are_held_out_with_their_past_as_context():
    parts = split(events())
    whole = read(events())
    assert whole.seconds is not None
    total = int(whole.has_target.sum())
    labeled = [part.seconds[part.has_target] for part in (parts.train, parts.valid, parts.test)]
    assert [len(times) for times in labeled] == [
        total - len(labeled[1]) - len(labeled[2]),
        len(labeled[1]),
        len(labeled[2]),
    ]
    assert len(labeled[2]) == pytest.approx(0.2 * total, abs=1)
    assert labeled[0].max() < labeled[1].min() < labeled[1].max() < labeled[2].min()
    assert parts.train.seconds.max() < labeled[1].min()
    assert parts.test.num_rows == whole.num_rows  # all earlier events are context


def test_labels_that_were_not_yet_known_are_left_out():
    parts, late = split(events()), split(events(), label_delay_days=2.0)
    known = late.train.seconds[late.train.has_target]
    assert known.max() < late.valid.seconds[late.valid.has_target].min() - 2 * 86_400
    assert late.train.has_target.sum() < parts.train.has_target.sum()
    with pytest.raises(SettingError, match="label_delay_days needs dates"):
        split(events().drop(columns="time"), label_delay_days=1.0)


def test_without_times_the_latest_rows_are_held_out():
    parts = split(events().drop(columns="time"))
    assert parts.train.rows[parts.train.has_target].max() < parts.test.rows[parts.test.has_target].min()


def test_whole_entities_can_be_held_out():
    parts = split(events(), split_strategy="entity", test_fraction=0.3)
    names = [set(part.names) for part in (parts.train, parts.valid, parts.test)]
    assert set.union(*names) == set(read(events()).names)
    assert sum(map(len, names)) == 6


def test_entities_known_to_be_positive_are_dropped():
    frame = pd.DataFrame({"id": ["a"] * 4 + ["b"] * 2, "day": [0, 2, 3, 5, 0, 5], "label": list("nynnyn")})
    rows = read_row_sequences(frame, RowColumns(time="day", targets=("label",), labels=True))
    is_positive = rows.require_targets()[:, 0] == "y"
    assert rows.seconds is not None
    dropped = known_positive(rows, is_positive, rows.seconds, 2)
    assert dropped.tolist() == [False, False, False, True, False, True]
    many = events().assign(id=np.arange(240) % 60)
    kept, all_events = (split(many, known_positives=rule).test for rule in ("drop", "score"))
    assert 0 < kept.has_target.sum() < all_events.has_target.sum()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(2, 17), st.integers(0, 2**16))
def test_every_labeled_event_is_scored_in_one_window(lengths: list[int], window: int, seed: int):
    starts = np.concatenate([[0], np.cumsum(lengths)])
    labeled = np.random.default_rng(seed).random(starts[-1]) < 0.5
    bounds = cut_windows(starts, labeled, window)
    scored = np.zeros(starts[-1], dtype=int)
    for first, begin, end in bounds:
        assert first <= begin < end <= first + window
        assert np.searchsorted(starts, first, "right") == np.searchsorted(starts, end - 1, "right")
        assert first == begin or begin - first == window // 2
        scored[begin:end] += 1
    assert (scored[labeled] == 1).all()
    assert scored.max(initial=0) <= 1


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_later_events_change_no_answer():
    job, frame = shared(), events()
    answers, early = job.predict(frame), job.predict(frame.head(100))
    assert np.allclose(answers["p_fraud"].head(100), early["p_fraud"], atol=1e-6)


def test_answers_are_in_the_order_of_the_rows():
    job, frame = shared(), events()
    shuffled = frame.sample(frac=1, random_state=0)
    answers = job.predict(frame).iloc[shuffled.index].reset_index(drop=True)
    again = job.predict(shuffled)
    assert np.allclose(again["p_fraud"], answers["p_fraud"], atol=1e-6)
    assert (again["time"] == answers["time"]).all()


def test_a_long_entity_runs_in_chunks(monkeypatch: pytest.MonkeyPatch):
    job, frame = shared(), events().assign(id="one")
    whole = job.predict(frame)
    monkeypatch.setattr("lstmkit.jobs.common.step_outputs.CHUNK_STEPS", 7)
    assert np.allclose(job.predict(frame)["p_fraud"], whole["p_fraud"], atol=1e-6)


def test_unseen_categories_and_missing_values_are_read():
    job = shared()
    frame = events().assign(shop="never seen", amount=np.nan)
    assert np.isfinite(job.predict(frame)["p_fraud"]).all()


def test_weights_of_classes_do_not_shift_probabilities():
    """Balanced weights make rare labels half of the loss; the probabilities are still those of the data."""
    job = make(NAME, class_weight="balanced", epochs=15, lr=0.02, steps_per_epoch=20).fit(events())
    mean = job.predict(events())["p_fraud"].mean()
    assert mean < 0.3
    assert job.predictor.class_weights.min() < 0.6 < job.predictor.class_weights.max()


def test_the_loss_is_that_of_weighted_focal_cross_entropy():
    from lstmkit.data.batch import Batch

    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 2), torch.tensor([[0, 1, -1], [1, -1, -1]])
    head = EventHead(4, 2, 3, class_weights=[0.5, 2.0], focal_gamma=2.0)
    p = logits.softmax(-1)
    terms = [(0.5, p[0, 0, 0]), (2.0, p[0, 1, 1]), (2.0, p[1, 0, 1])]
    expected = sum(-w * (1 - q) ** 2 * q.log() for w, q in terms) / sum(w for w, _ in terms)
    loss = head.loss(logits, Batch(torch.zeros(2, 3, 4), targets=targets))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_more_than_two_labels():
    rng = np.random.default_rng(0)
    frame = events().assign(label=rng.choice(["a", "b", "c"], 240))
    job = make(NAME).fit(frame)
    assert job.evaluation is not None
    assert list(job.evaluation.directions) == ["accuracy", "macro F1", "log loss"]
    assert {"p_a", "p_b", "p_c"} < set(job.predict(frame).columns)
    with pytest.raises(DataError, match="has 3 labels: positive_label is for two"):
        make(NAME, positive_label="a").fit(frame)


# ---- thresholds and scores -------------------------------------------------------------------------------------------


@given(st.integers(0, 2**16), st.sampled_from(["f1", "cost", "alarms"]))
def test_no_other_threshold_is_better(seed: int, method: str):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, 30) / 8
    positive = rng.random(30) < 0.4
    positive[0] = True

    def value(threshold: float) -> float:
        alarms = scores >= threshold
        if method == "f1":
            return 2 * (alarms & positive).sum() / (alarms.sum() + positive.sum())
        if method == "cost":
            return -(2 * (alarms & ~positive).sum() + 5 * (positive & ~alarms).sum())
        return alarms.sum() if alarms.sum() <= 9 else -1

    found = fit_threshold(scores, positive, method, costs=(2, 5), max_alarms=9)
    assert value(found) == pytest.approx(max(value(t) for t in [*scores, 1.5]))


def test_entity_precision_agrees_with_a_plain_computation():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"day": rng.integers(0, 4, 300), "card": rng.integers(0, 60, 300), "s": rng.random(300)})
    frame["y"] = rng.random(300) < 0.1
    found: set[int] = set()
    expected = []
    for _, of_day in frame.groupby("day"):
        best: Any = of_day.groupby("card")[["s", "y"]].max()
        best = best[~best.index.isin(found)].sort_values("s", ascending=False).head(10)
        hits = best.index[best["y"].astype(bool)]
        found |= set(hits)
        expected.append(len(hits) / 10)
    columns = (frame[name].to_numpy() for name in ("s", "y", "day", "card"))
    assert entity_precision_at_k(*columns, k=10) == pytest.approx(np.mean(expected))


def test_alarms_per_day_are_kept():
    job = make(NAME, threshold_method="alarms", alarms_per_day=0.5, valid_fraction=0.4).fit(events())
    valid = split(events(), valid_fraction=0.4).valid
    scores = job.predictor.probabilities(valid)[valid.has_target, job.predictor.positive]
    days = len(np.unique(np.floor(valid.seconds[valid.has_target] / 86_400)))
    assert (scores >= job.predictor.threshold).sum() <= 0.5 * days
    with pytest.raises(DataError, match="threshold_method=alarms needs dates"):
        make(NAME, threshold_method="alarms").fit(events().drop(columns="time"))


def test_aggregates_agree_with_a_plain_loop():
    rows = read(events())
    found = aggregates(rows)
    assert rows.seconds is not None
    for row in (0, 5, 77, 150, rows.num_rows - 1):
        first = int(rows.starts[rows.entities[row]])
        past = rows.numbers[first:row, 0]
        means = [np.nanmean(past[-k:]) if np.isfinite(past[-k:]).any() else np.nan for k in (5, 20)]
        amount = rows.numbers[row, 0]
        since = rows.seconds[row] - rows.seconds[row - 1] if row > first else np.nan
        within = [(rows.seconds[first:row] >= rows.seconds[row] - 86_400 * d).sum() for d in (1, 7)]
        expected = [row - first, means[0], amount - means[0], means[1], amount - means[1], since, *within]
        assert found[row] == pytest.approx(expected, nan_ok=True)


# ---- live events -----------------------------------------------------------------------------------------------------


def as_events(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.drop(columns="label").to_dict("records")


@pytest.mark.parametrize("ensemble_size", [1, 2])
@pytest.mark.parametrize("max_entities", [100, 2])
def test_live_answers_are_those_of_predict(ensemble_size: int, max_entities: int):
    """Also if the states of most entities are in the store."""
    job, frame = shared(ensemble_size), events()
    expected = job.predict(frame)
    with job.live(max_entities=max_entities) as live:
        one_by_one = [live.add(event) for event in as_events(frame)[:60]]
        together = live.add_all(as_events(frame)[60:])
        assert live.num_in_memory <= max_entities
        assert len(live) == 6
    answers = pd.DataFrame([*one_by_one, *together])
    assert np.allclose(answers["p_fraud"], expected["p_fraud"], atol=1e-5)
    assert (answers["id"] == expected["id"]).all()
    assert (answers["time"] == expected["time"]).all()


def test_a_store_goes_on_where_it_ended(tmp_path: Path):
    job, frame = shared(), events()
    store = tmp_path / "states.sqlite"
    with job.live(store=store) as live:
        live.add_all(as_events(frame)[:100])
    with job.live(store=store, max_entities=1) as live:
        answers = pd.DataFrame(live.add_all(as_events(frame)[100:]))
    assert np.allclose(answers["p_fraud"], job.predict(frame)["p_fraud"].iloc[100:], atol=1e-5)
    with pytest.raises(ModelFileError, match="holds the states of another model"):
        shared(2).live(store=store)
    (tmp_path / "text").write_text("no database, but long enough to be looked at" * 50)
    with pytest.raises(ModelFileError, match="cannot be used as a store of states"):
        job.live(store=tmp_path / "text")


def test_a_refused_event_changes_nothing():
    job, frame = shared(), as_events(events())
    with job.live() as live, job.live() as other:
        live.add_all(frame[:50])
        other.add_all(frame[:50])
        early = {**frame[50], "time": "2023-12-31"}
        for bad, message in (
            (early, "earlier than its last one: give events in order"),
            ({**frame[50], "amount": "much"}, "column 'amount': 'much' is not a finite number"),
            ({**frame[50], "amount": float("inf")}, "inf is not a finite number"),
            ({**frame[50], "time": "soon"}, "column 'time': 'soon' is not a time"),
            ({**frame[50], "time": None}, "has no 'time': the model reads times"),
            ({**frame[50], "id": None}, "has no 'id': every event needs the id"),
            ({name: value for name, value in frame[50].items() if name != "shop"}, "has no 'shop'"),
        ):
            with pytest.raises(DataError, match=message):
                live.add_all([frame[50], bad])
        assert live.add(frame[50]) == other.add(frame[50])


def test_unix_times_and_text_are_the_same_time():
    job, frame = shared(), events()
    seconds = pd.to_datetime(frame["time"]).astype("datetime64[s]").astype("int64")
    with job.live() as live, job.live() as other:
        a = live.add_all(as_events(frame))
        b = other.add_all(as_events(frame.assign(time=seconds)))
    assert [each["p_fraud"] for each in a] == [each["p_fraud"] for each in b]


def test_hindsight_has_no_live_events():
    job = make(NAME, bidirectional=True).fit(events())
    assert isinstance(job, EventClassifier)
    with pytest.raises(SettingError, match="a bidirectional model reads later events"):
        job.live()
    with pytest.raises(SettingError, match="max_entities must be at least 1, got 0"):
        shared().live(max_entities=0)


# ---- what decided ----------------------------------------------------------------------------------------------------


def test_contributions_sum_to_the_change_of_the_log_odds():
    predictor = shared().predictor
    rows = predictor.read(events())
    features = predictor.encode(rows)[: rows.starts[1]]
    contributions = event_attribution(predictor, features, 0)
    assert contributions.shape == (len(features), len(attributed_columns(predictor)))
    model = predictor.model.eval()
    inputs = torch.from_numpy(features)[None]
    with torch.no_grad():
        logits = [model(x)[0][0, -1] for x in (inputs, torch.zeros_like(inputs))]
    change = float((logits[0][0] - logits[0][1]) - (logits[1][0] - logits[1][1]))
    assert contributions.sum() == pytest.approx(change, rel=0.02, abs=1e-3)


def test_integrated_gradients_of_a_product():
    inputs, baseline = torch.tensor([[2.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    found = integrated_gradients(lambda x: x[:, 0] * x[:, 1], inputs, baseline, steps=4)
    assert found.tolist() == [[pytest.approx(4.0), pytest.approx(2.0)]]


# ---- data that are refused, and warnings -----------------------------------------------------------------------------


def test_a_column_that_gives_the_label_away_is_named():
    frame = events()
    leak = np.where(frame["label"] == "fraud", 7.0, np.random.default_rng(0).random(240))
    job = make(NAME).fit(frame.assign(settled=leak))
    (warning,) = leaking_columns(job.predictor, job.read(frame.assign(settled=leak)))
    assert "column 'settled' alone tells the events with label 'fraud' (ROC AUC 1.0000)" in warning
    assert warning in job.notes_on(job.read(frame.assign(settled=leak)))
    assert not leaking_columns(shared().predictor, shared().read(frame))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"label": "genuine"}, {}, "the training part has only the label 'genuine'"),
        ({"label": None}, {}, "has 0 labeled event"),
        ({}, {"label_col": "fraud"}, "no column 'fraud' in the frame: give label_col=NAME"),
        ({}, {"positive_label": "theft"}, "no training event has the label positive_label='theft'"),
        ({}, {"label_delay_days": 900.0}, "has no labeled event before its held-out parts"),
        ({}, {"ignored_cols": ("amount", "shop")}, "has no column to read beside id, time and label"),
        ({"time": "2024-01-01"}, {}, "all labeled events have the same time"),
    ],
)
def test_events_that_cannot_be_learned_from(change: dict[str, Any], options: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message) as caught:
        make(NAME, **options).fit(events().assign(**change))
    assert "\n" not in str(caught.value)


def test_events_that_cannot_be_answered():
    job = shared()
    with pytest.raises(DataError, match="no column 'amount'"):
        job.predict(events().drop(columns="amount"))
    with pytest.raises(DataError, match="has no times, which the model reads"):
        job.predict(events().drop(columns="time"))
    with pytest.raises(DataError, match="its times are numbers, the model was fitted to dates"):
        job.predict(events().assign(time=np.arange(240) * 0.5))
    with pytest.raises(DataError, match="has labels that are not in the training data: theft"):
        job.evaluate(events().assign(label="theft"))
    with pytest.raises(DataError, match="has no target column"):
        job.evaluate(events().drop(columns="label"))


def test_a_loaded_model_gets_its_baselines_from_the_training_data(tmp_path: Path):
    job = shared()
    run = job.save(tmp_path / "run")
    loaded = load(run, train=events())
    assert loaded.evaluate(events(1)).table.equals(job.evaluate(events(1)).table)
    assert load(run).evaluate(events(1)).missing_baselines
