"""Recommender: reading, splits, ranks and losses by hand, baselines, streaming sessions."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmkit import LSTM, Recommender, load
from lstmkit.data.batch import Batch
from lstmkit.data.sessions import Columns, Sessions, read_sessions, training_windows
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.recommender import metrics as ranking
from lstmkit.jobs.recommender.baselines import ItemKNN, MarkovChain, MostPopular
from lstmkit.models.sequence import NextTokenModel
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.item_head import ItemHead, bpr_max, sampled_cross_entropy, top1_max
from lstmkit.progress import Progress
from lstmkit.recipes import recommender as protocols
from scored import run_protocol

COLUMNS = Columns("session_id", "item_id", ("timestamp",))


def sessions(n: int, seed: int = 0) -> list[list[str]]:
    """The last item depends on the first item, not on the one before it."""
    rng = np.random.default_rng(seed)
    return [[key, "x", "y", key.upper()] for key in rng.choice(list("abc"), n)]


def tiny(**options: Any) -> Recommender:
    return Recommender(**{"hidden_size": 8, "epochs": 2, "batch_size": 8, **options})


# ---- reading ---------------------------------------------------------------------------------------------------------


#: Settings for fast learning.
QUICK = {"hidden_size": 12, "lr": 0.04, "ema_decay": 0.8, "dropout": 0.0, "input_dropout": 0.0, "eval_k": 1}


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("events.csv", "session_id,item_id,timestamp\nu,7,30\nv,8,5\nu,9,10\nu,7,20\n"),
        ("events.tsv", "item_id\tsession_id\ttimestamp\n7\tu\t30.5\n8\tv\t5.0\n9\tu\t10.25\n7\tu\t20.0\n"),
        ("ml.inter.gz", "session_id:token\titem_id:token\ttimestamp:float\nu\t7\t30\nv\t8\t5\nu\t9\t10\nu\t7\t20\n"),
        ("e.csv", "session_id;item_id;timestamp\nu;7;2020-01-03\nv;8;2020-01-01\nu;9;2020-01-01\nu;7;2020-01-02\n"),
    ],
)
def test_events_become_sessions_in_order_of_time(name: str, text: str, tmp_path: Path):
    data = read_sessions(write(tmp_path / name, text), COLUMNS)
    assert dict(zip(data.names, data.items, strict=True)) == {"u": ("9", "7", "7"), "v": ("8",)}
    assert data.start_times is not None
    assert data.start_times[0] >= data.start_times[1]


def test_time_columns_sort_events_and_ties_keep_row_order():
    frame = pd.DataFrame(
        {
            "session_id": [1, 1, 1, 1],
            "item_id": ["d", "b", "c", "a"],
            "day": ["2020-01-02", "2020-01-01", "2020-01-01", "2020-01-01"],
            "ms": [0, 5, 5, 1],
        }
    )
    assert read_sessions(frame, Columns("session_id", "item_id", ("day", "ms"))).items == (("a", "b", "c", "d"),)
    assert read_sessions(frame, Columns("session_id", "item_id", ())).items == (("d", "b", "c", "a"),)


def test_duplicate_events_are_read_once():
    frame = pd.DataFrame({"session_id": 1, "item_id": ["a", "a", "b", "a"], "timestamp": [1, 1, 1, 2]})
    data = read_sessions(frame, COLUMNS)
    assert data.items == (("a", "b", "a"),)
    assert data.notes == ("1 duplicate events were dropped",)
    assert (
        len(read_sessions(frame, Columns("session_id", "item_id")).items[0]) == 4
    )  # without a time column no event is a duplicate


def test_lists_of_ids():
    assert read_sessions(["a", "b"], COLUMNS).items == (("a", "b"),)
    assert read_sessions([1, np.int64(2)], COLUMNS).items == (("1", "2"),)
    assert read_sessions([np.array([3, 4]), ("日本", "é")], COLUMNS).items == (("3", "4"), ("日本", "é"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the list is empty"),
        ([["a"], []], "session 2 has no items"),
        ([["a"], "b"], "session 2 is 'b': give a list of item ids"),
        ([["a", None]], "session 1: None is not an item id"),
        ([["a", 1.5]], "1.5 is not an item id"),
        ([["a", True]], "True is not an item id"),
        ([["a", " "]], "' ' is not an item id"),
        (3, "not int"),
        ({"a": 1}, "not dict"),
    ],
)
def test_bad_lists_are_refused(data: object, message: str):
    with pytest.raises(DataError, match=message):
        read_sessions(data, COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("session_id,item_id,timestamp\n", "has no rows below the header"),
        ("user,item_id,timestamp\n1,2,3\n", "no column 'session_id' in e.csv .*: give session_col=NAME"),
        ("session_id,item,timestamp\n1,2,3\n", "no column 'item_id' .*: give item_col=NAME"),
        ("session_id,item_id\n1,2\n", "no column 'timestamp' .*: give time_cols=NAME .or time_cols=''"),
        ("session_id,item_id,timestamp\n1,,3\n", "column 'item_id', row 1 below the header: '' is not a valid item id"),
        ("session_id,item_id,timestamp\n,2,3\n", "'' is not a valid session id: every row needs one"),
        ("session_id,item_id,timestamp\n1,2,3\n1,2,\n", "row 2 below the header: '' is not a time"),
        ("session_id,item_id,timestamp\n1,2,soon\n", "'soon' is not a date"),
        ("session_id,item_id,timestamp\n1,2,3\n1,2\n", "line 3 has 2 fields, expected 3"),
        ("session_id:token,session_id:float,item_id,timestamp\n1,2,3,4\n", "2 columns have the name 'session_id'"),
    ],
)
def test_bad_files_are_refused(text: str, message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        read_sessions(write(tmp_path / "e.csv", text), COLUMNS)


def test_missing_file(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        read_sessions(tmp_path / "none.csv", COLUMNS)


@given(st.integers(2, 30), st.integers(1, 29), st.integers(1, 9))
def test_windows_have_every_item_as_target_once(length: int, first: int, max_targets: int):
    """Each item after the context is a target once, after the item before it."""
    ids = np.arange(length)
    all_targets = []
    for inputs, targets in training_windows(ids, min(first, length), max_targets):
        assert len(inputs) == len(targets)
        assert (targets[targets >= 0] == inputs[targets >= 0] + 1).all()
        assert 1 <= (targets >= 0).sum() <= max_targets
        all_targets += targets[targets >= 0].tolist()
    assert all_targets == list(range(min(first, length), length))


# ---- splits ----------------------------------------------------------------------------------------------------------


def test_the_last_items_are_held_out():
    data = [["a", "b", "c", "d"], ["e", "f"], ["a", "b", "c"], ["g"]]
    parts = tiny(split_strategy="leave_one_out").split(read_sessions(data, COLUMNS), None)
    assert parts.train.items == (("a", "b"), ("e", "f"), ("a",))
    assert parts.valid.items == (("a", "b", "c"), ("a", "b"))
    assert parts.valid.n_context.tolist() == [2, 1]
    assert parts.test.items == (("a", "b", "c", "d"), ("a", "b", "c"))
    assert parts.test.n_context.tolist() == [3, 2]
    unsplit = tiny(split_strategy="leave_one_out", valid_fraction=0, test_fraction=0).split(
        read_sessions(data, COLUMNS), None
    )
    assert unsplit.train.items == (("a", "b", "c", "d"), ("e", "f"), ("a", "b", "c"))
    assert unsplit.valid is unsplit.test is None


def test_the_latest_sessions_are_held_out():
    frame = pd.DataFrame(
        [(u, item, 100 - 10 * u + t) for u in range(10) for t, item in enumerate("ab")],
        columns=["session_id", "item_id", "timestamp"],
    )
    parts = tiny().split(read_sessions(frame, COLUMNS), None)
    assert parts.test.names == ("0",)
    assert parts.valid.names == ("1",)
    assert parts.train.names == tuple(str(u) for u in range(9, 1, -1))


def test_the_catalog_comes_from_the_training_split():
    """Items and counts of the test split are not in the catalog."""
    job = tiny(split_strategy="leave_one_out", epochs=1).fit([["a", "b", "b", "a", "t"]] * 10)
    assert job.catalog == ("b", "a")
    assert job.predictor.counts.tolist() == [20, 10]


@pytest.mark.parametrize(
    ("options", "data", "error", "message"),
    [
        ({}, [["a"], ["b"]], DataError, "every session has one item only"),
        ({}, [["a", "b"], ["a", "b"]], DataError, "has 2 sessions, too few"),
        ({}, [["a", "a"]] * 9, DataError, "has 1 different items: give at least two"),
        (
            {"min_count": 99},
            sessions(9),
            DataError,
            "has 0 different items that occur at least 99 times: give at least two",
        ),
        ({"split_strategy": "leave_one_out"}, [["a", "b"]] * 9, DataError, "no session has 3 items"),
        (
            {"split_strategy": "leave_one_out"},
            [["a", "b", "c"]] * 9,
            DataError,
            "has 1 different items: give at least two",
        ),
        (
            {"split_strategy": "leave_one_out"},
            [["a", "b", "c"], ["b", "d", "e"]],
            DataError,
            "no session has two items of the catalog in a row",
        ),
        (
            {"min_count": 2},
            [["a", "b"], ["a", "c"], ["b", "d"]] * 1 + [["e", "f"]] * 2,
            DataError,
            "two items of the catalog in a row",
        ),
        ({"loss": "hinge"}, sessions(9), SettingError, "loss must be one of cross-entropy"),
    ],
)
def test_unusable_data_and_settings_are_refused(
    options: dict[str, Any], data: Any, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        tiny(**options).fit(data)


# ---- ranks -----------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(-2, 2), min_size=4, max_size=4), min_size=1, max_size=5), st.data())
def test_ranks_equal_sorting_with_the_target_last_among_ties(rows: list[list[int]], data: st.DataObject):
    targets = [data.draw(st.integers(-1, 3)) for _ in rows]
    histories = [np.array(data.draw(st.lists(st.integers(0, 3), max_size=3)), dtype=np.int64) for _ in rows]
    ranks = ranking.ranks(torch.tensor(rows, dtype=torch.float32), torch.tensor(targets), histories)
    for row, target, history, rank in zip(rows, targets, histories, ranks.tolist(), strict=True):
        candidates = [i for i in range(4) if i not in history]
        if target not in candidates:
            assert rank == ranking.UNRANKED
        else:
            assert sorted(candidates, key=lambda i: (-row[i], i == target)).index(target) + 1 == rank


def test_scores_by_hand():
    ranks = np.array([1, 2, 21, ranking.UNRANKED])
    assert ranking.recall(ranks, 20) == 0.5
    assert ranking.recall(ranks, 1) == 0.25
    assert ranking.mean_reciprocal_rank(ranks, 20) == pytest.approx((1 + 0.5) / 4)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_recall_does_not_decrease_with_k(ranks: list[int]):
    by_length = [ranking.recall(np.array(ranks), k) for k in range(1, 41)]
    assert by_length == sorted(by_length)
    assert by_length[-1] == 1
    assert all(ranking.mean_reciprocal_rank(np.array(ranks), k) <= r for k, r in enumerate(by_length, 1))


def test_ranking_queries_skip_unknown_items():
    queries = ranking.ranking_queries([np.array([0, -1, 2, 1]), np.array([-1, 2])], np.array([2, 1]))
    assert [items.tolist() for items in queries.item_ids] == [[0, 2, 1], [2]]
    assert queries.session_index.tolist() == [0, 0, 1]
    assert queries.history_length.tolist() == [1, 2, 0]
    assert queries.target.tolist() == [2, 1, 2]
    assert [items.tolist() for items in queries.histories(slice(0, 3))] == [[0], [0, 2], []]


def test_nan_scores_count_against_the_model():
    """A model that has diverged must not look perfect."""
    scores = torch.tensor([[torch.nan, 1.0, 2.0], [torch.nan, torch.nan, torch.nan]])
    assert ranking.ranks(scores, torch.tensor([2, 0])).tolist() == [2, 3]


def test_batched_ranks_equal_those_of_each_history_alone(monkeypatch: pytest.MonkeyPatch):
    """Ranks do not depend on batch and block size, for an ensemble too."""
    job = tiny(ensemble_size=2, epochs=1).fit(sessions(30))
    data = read_sessions([["a", "x", "new", "y", "z"], ["new", "b", "x"], ["c", "C"], ["new", "newer"]], COLUMNS)
    queries = ranking.ranking_queries(job.predictor.item_indices(data), data.n_context)
    options: Any = {"batch_size": 3, "device": torch.device("cpu"), "progress": Progress()}
    expected = []
    for n, row, target in zip(queries.history_length, queries.session_index, queries.target, strict=True):
        if n == 0 or target < 0:
            expected.append(ranking.UNRANKED)
            continue
        scores, _ = job.model(torch.from_numpy(queries.item_ids[row][:n]).unsqueeze(0))
        expected.append(int((scores[0, -1] >= scores[0, -1, target]).sum()))
    assert ranking.UNRANKED in expected
    for block_size in (1 << 20, 1):
        monkeypatch.setattr(ranking, "_SCORE_BLOCK", block_size)
        assert ranking.ranks_from_model(job.model, queries, False, **options).tolist() == expected


def test_ties_count_against_the_model(monkeypatch: pytest.MonkeyPatch):
    """Items with equal vectors have equal scores however they are computed; items of the history are excluded."""
    torch.manual_seed(0)
    encoder, head = TokenEncoder(40, 24), ItemHead(24, 40)
    model = NextTokenModel(encoder, LSTM(24, 24, batch_first=True), head).eval()
    with torch.no_grad():
        head.scores.weight[:] = head.scores.weight[0] + torch.arange(40.0).unsqueeze(1) // 10  # four groups of ten
    batch, steps = Batch(torch.randint(40, (3, 7))), [np.arange(7)] * 3
    targets = torch.randint(-1, 40, (21,))
    histories = [np.unique(sequence[: t + 1].numpy()) for sequence in batch.inputs for t in range(7)]
    for block in (1 << 20, 64, 1):
        monkeypatch.setattr(ranking, "_SCORE_BLOCK", block)
        for excluded in (None, histories):
            with torch.inference_mode():
                ranks = ranking.ranks_at_steps(model, batch, steps, targets, excluded)
                up = head.score_targets(model.features(batch.inputs)[0].flatten(0, 1), torch.full((21,), 39))[0]
                down = head.score_targets(
                    model.features(batch.inputs)[0].flatten(0, 1), torch.zeros(21, dtype=torch.long)
                )[0]
            for i, (target, rank) in enumerate(zip(targets.tolist(), ranks.tolist(), strict=True)):
                excluded_items = set() if excluded is None else set(excluded[i].tolist())
                better = range(10 * (target // 10), 40) if up[i] > down[i] else range(10 * (target // 10) + 10)
                expected = (
                    ranking.UNRANKED if target < 0 or target in excluded_items else len(set(better) - excluded_items)
                )
                assert rank == expected


# ---- losses ----------------------------------------------------------------------------------------------------------


def some_scores() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    target, others = torch.randn(3, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    hit = torch.zeros(3, 4, dtype=torch.bool)
    hit[1, 2] = True
    return target, others, hit


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_losses_by_hand():
    """The losses equal the equations of Hidasi and Karatzoglou; a negative that is the target does not count."""
    target, others, hit = some_scores()
    bpr, top1 = 0.0, 0.0
    for i in range(3):
        r = [float(others[i, j]) for j in range(4) if not hit[i, j]]
        total = sum(math.exp(x) for x in r)
        s = [math.exp(x) / total for x in r]
        target_score = float(target[i])
        bpr += -math.log(sum(a * sigmoid(target_score - x) for a, x in zip(s, r, strict=True)))
        bpr += 0.7 * sum(a * x * x for a, x in zip(s, r, strict=True))
        top1 += sum(a * (sigmoid(x - target_score) + sigmoid(x * x)) for a, x in zip(s, r, strict=True))
    assert bpr_max(target, others, hit, 0.7).item() == pytest.approx(bpr)
    assert top1_max(target, others, hit).item() == pytest.approx(top1)


def test_gradients_of_the_losses():
    target, others, hit = some_scores()
    sampling_probabilities = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    for loss in (
        lambda t, o: bpr_max(t, o, hit, 0.7),
        lambda t, o: top1_max(t, o, hit),
        lambda t, o: sampled_cross_entropy(t, o, hit, sampling_probabilities),
    ):
        assert torch.autograd.gradcheck(loss, (target.requires_grad_(True), others.requires_grad_(True)))


def test_losses_of_huge_scores_are_finite():
    hit = torch.tensor([[True, False], [True, True]])
    target, others = torch.tensor([-1e4, 1e4]), torch.tensor([[5.0, 1e4], [1e4, -1e4]])
    for loss in (bpr_max(target, others, hit, 0.0), top1_max(target, others, hit)):
        assert loss.isfinite()
    assert sampled_cross_entropy(target, others, hit, torch.tensor([0.5, 0.5])).isfinite()


def test_the_sampled_softmax_estimates_the_full_softmax():
    """With many samples the loss equals that over all items, however often each is sampled."""
    torch.manual_seed(0)
    head = ItemHead(3, 5, num_negatives=200_000, weights=[1.0, 2.0, 3.0, 4.0, 10.0]).train()
    with torch.no_grad():
        head.scores.weight.copy_(torch.randn(5, 3))
    features, targets = torch.randn(2, 4, 3), torch.tensor([[0, 1, 2, -1], [3, 4, -1, -1]])
    sampled = head.loss(features, Batch(targets, targets=targets)).item()
    assert sampled == pytest.approx(head.eval().loss(features, Batch(targets, targets=targets)).item(), abs=0.01)
    scored = targets >= 0
    assert head.loss(features, Batch(targets, targets=targets)).item() == pytest.approx(
        F.cross_entropy(head(features)[scored], targets[scored]).item()
    )
    frequencies = torch.bincount(head.sample_negatives(), minlength=5) / 200_000
    torch.testing.assert_close(frequencies, torch.tensor([0.05, 0.1, 0.15, 0.2, 0.5]), atol=0.01, rtol=0)


@pytest.mark.parametrize("loss", ["bpr-max", "top1-max"])
def test_in_validation_all_other_items_are_negatives(loss: str, monkeypatch: pytest.MonkeyPatch):
    """The validation loss is deterministic and does not depend on the chunk size."""
    torch.manual_seed(0)
    head = ItemHead(3, 5, loss=loss, num_negatives=2, weights=[1.0] * 5, bpr_reg=0.5).eval()
    features, targets = torch.randn(1, 4, 3), torch.tensor([[0, 4, 2, -1]])
    scores, expected = head(features)[0, :3], targets[0, :3]
    other_scores = torch.stack(
        [torch.cat([row[:t], row[t + 1 :]]) for row, t in zip(scores, expected.tolist(), strict=True)]
    )
    no_hits = torch.zeros_like(other_scores, dtype=torch.bool)
    target_scores = scores[range(3), expected]
    by_hand = (
        bpr_max(target_scores, other_scores, no_hits, 0.5)
        if loss == "bpr-max"
        else top1_max(target_scores, other_scores, no_hits)
    )
    assert head.loss(features, Batch(targets, targets=targets)).item() == pytest.approx(by_hand.item() / 3, rel=1e-5)
    monkeypatch.setattr("lstmkit.modules.item_head._MAX_SCORES", 1)
    assert head.loss(features, Batch(targets, targets=targets)).item() == pytest.approx(by_hand.item() / 3, rel=1e-5)
    assert head.loss(features, Batch(targets, targets=torch.full((1, 4), -1))).item() == 0


# ---- baselines -------------------------------------------------------------------------------------------------------

TRAIN_SESSIONS = [np.array([0, 1, 2]), np.array([0, 1]), np.array([1, 1, 3]), np.array([3])]


def test_item_knn_by_hand():
    """Scores are cosines of the sessions that two items share; an item is not its own neighbor."""
    shared = np.array([[sum(a in s and b in s for s in TRAIN_SESSIONS) for b in range(4)] for a in range(4)])
    cosine = shared / np.sqrt(np.outer(np.diag(shared), np.diag(shared)))
    np.fill_diagonal(cosine, 0)
    knn = ItemKNN(TRAIN_SESSIONS, 4)
    np.testing.assert_allclose(knn([np.array([0, 1]), np.array([], dtype=int)]), [cosine[1], np.zeros(4)], rtol=1e-6)
    knn.history_length = 2
    np.testing.assert_allclose(knn([np.array([3, 0, 1])]), [cosine[0] + cosine[1]], rtol=1e-6)


def test_item_knn_keeps_the_nearest_neighbors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lstmkit.jobs.recommender.baselines._MAX_NEIGHBORS", 1)
    monkeypatch.setattr("lstmkit.jobs.recommender.baselines._ROWS", 3)
    assert (ItemKNN(TRAIN_SESSIONS, 4)([np.array([k]) for k in range(4)]) > 0).sum(1).tolist() == [1, 1, 1, 1]


def test_the_markov_chain_by_hand():
    counts = np.array([2, 4, 1, 2])
    chain = MarkovChain(TRAIN_SESSIONS, counts)
    chain.backoff_strength = 0.9
    backoff = 0.9 * counts / 9
    expected = backoff + np.array([[0, 1, 1, 1], [0, 2, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(chain([np.array([3, 1]), np.array([0]), np.array([], dtype=int)]), expected, rtol=1e-6)
    assert MostPopular(counts)([np.array([0])] * 2).tolist() == [[2, 4, 1, 2]] * 2


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    return tiny(**QUICK, tie_weights=False, epochs=80, patience=0).fit(sessions(100))


def test_the_network_uses_the_first_item(fitted: Recommender):
    """After x and y only the first item determines the next item, which limits the baselines' Recall@1."""
    table = fitted.evaluate(sessions(60, seed=1)).table.set_index("model")
    assert table.index.tolist() == ["LSTM", "most popular", "item-kNN", "Markov chain"]
    assert table.loc["LSTM", "Recall@1"] > 0.85
    assert table.loc["Markov chain", "Recall@1"] < 0.8
    assert table.loc["most popular", "Recall@1"] < 0.5


@pytest.mark.parametrize("loss", ["cross-entropy", "bpr-max", "top1-max"])
@pytest.mark.parametrize("negatives", [0, 6])
def test_every_loss_learns(loss: str, negatives: int):
    """Each loss learns the successor of six items in a circle."""
    circle = [list(("abcdef" * 2)[k : k + 5]) for k in range(6)] * 8
    job = tiny(**QUICK, epochs=8, loss=loss, num_negatives=negatives, bpr_reg=0.1).fit(circle)
    assert job.evaluate(circle[:6]).table["Recall@1"][0] > 0.9


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_streaming_equals_predicting_the_whole_session(cell: str):
    """After every item, a streaming session gives the same as predict on all items so far."""
    job = tiny(cell=cell, num_layers=2, ensemble_size=2).fit(sessions(40))
    for seen_items in ("allow", "exclude"):
        stream, history = job.start_session(k=4, seen_items=seen_items), []
        for item in ("a", "x", "never seen", "y", "a", "Z!", "z", "never seen"):
            history.append(item)
            (whole,) = job.predict([history], k=4, seen_items=seen_items)
            streamed = stream.add_item(item)
            assert streamed.items == whole.items
            assert streamed.scores == pytest.approx(whole.scores, abs=1e-5)
            assert streamed.probabilities == pytest.approx(whole.probabilities, abs=1e-5)
            assert streamed.unknown == whole.unknown
            assert seen_items == "allow" or not set(streamed.items) & set(history)


def test_unknown_items_are_skipped(fitted: Recommender):
    with pytest.warns(UserWarning, match="1 of 3 sessions have no item of the catalog"):
        with_new, without, only_new = fitted.predict([["a", "new", "x"], ["a", "x"], ["new"]], k=3)
    assert with_new.items == without.items
    assert (with_new.unknown, without.unknown) == (("new",), ())
    assert only_new.items == only_new.scores == only_new.probabilities == ()
    stream = fitted.start_session(k=3)
    assert stream.add_item("new").items == ()
    assert stream.add_item("a").items == fitted.predict(["a"], k=3)[0].items


def test_recommendations_as_text(fitted: Recommender):
    with pytest.warns(UserWarning, match="1 of 3 sessions"):
        rows = fitted.to_text(fitted.predict([["a"], ["new"], ["b", "x"]], k=2)).splitlines()
    assert rows[0] == "session,rank,item,score,probability"
    assert [row.split(",")[:3] for row in rows[1:]] == [["1", "1", "x"], ["1", "2", rows[2].split(",")[2]],
                                                        ["3", "1", "y"], ["3", "2", rows[4].split(",")[2]]]  # fmt: skip
    (whole,) = fitted.predict(["a"], k=99)
    assert len(whole.items) == len(fitted.catalog) == 8
    assert sum(whole.probabilities or ()) == pytest.approx(1, abs=1e-5)


def test_scores_of_a_ranking_loss_are_not_probabilities():
    job = tiny(loss="bpr-max").fit(sessions(30))
    assert job.predict(["a"])[0].probabilities is None
    assert job.to_text(job.predict(["a"])).startswith("session,rank,item,score\n")


def test_a_loaded_model_is_compared_with_the_most_popular(fitted: Recommender, tmp_path: Path):
    loaded = load(fitted.save(tmp_path / "model"))
    evaluation = loaded.evaluate(sessions(20, seed=1))
    assert evaluation.table["model"].tolist() == ["LSTM", "most popular"]
    assert evaluation.missing_baselines == ("item-kNN", "Markov chain")


def test_unknown_next_items_are_misses_for_all(fitted: Recommender):
    evaluation = fitted.evaluate([["a", "x"], ["a", "new"]])
    assert (evaluation.table["Recall@1"] <= 0.5).all()
    assert "1 of the next items (50.0%) are not in the catalog" in evaluation.notes[1]
    assert evaluation.details["LSTM"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda job: job.evaluate([["a"], ["b"]]), DataError, "every session has one item only"),
        (lambda job: job.predict(["a"], k=0), SettingError, "k must be a whole number of at least 1, got 0"),
        (
            lambda job: job.start_session(seen_items="maybe"),
            SettingError,
            "seen_items must be one of allow, exclude, got 'maybe'",
        ),
        (lambda job: job.start_session().add_item(1.5), DataError, "1.5 is not an item id"),
        (
            lambda job: job.example_sequences(["a"], session_number=2),
            DataError,
            "there is no session 2 in the list: it has 1 to 1",
        ),
        (lambda job: job.example_sequences(["new"]), DataError, "has no item of the catalog"),
    ],
)
def test_bad_requests_are_refused(fitted: Recommender, ask: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        ask(fitted)


def test_example_sequences_hold_known_items(fitted: Recommender):
    first, second = fitted.example_sequences([["a", "new", "x", "a"], ["b", "x"]], session_number=1)
    assert (first.name, first.labels) == ("session 1", ["a", "x", "a"])
    assert first.annotations["seen before"].tolist() == [0, 0, 1]
    assert second.labels == ["b", "x"]


# ---- benchmark protocols ---------------------------------------------------------------------------------------------


def test_k_core():
    data = read_sessions([["a", "a", "b"], ["a", "b", "c"], ["c", "d"], ["b", "a"], ["e"]], COLUMNS)
    assert protocols.drop_repeats(data).items[0] == ("a", "b")
    assert protocols.k_core(data, 2).items == (("a", "a", "b"), ("a", "b"), ("b", "a"))
    with pytest.raises(DataError, match="no session is left after items that occur fewer than 9 times"):
        protocols.k_core(data, 9)


def views(days: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (f"{day}-{u}", item, 10 * (5 - t), f"2016-05-{day + 1:02}")
        for day in range(days)
        for u in range(6)
        for t, item in enumerate([*rng.permutation(list("abcd"))[:3], *(["late"] if day == days - 1 else [])])
    ]
    return pd.DataFrame(rows, columns=["session_id", "item_id", "timeframe", "eventdate"])


def test_the_last_days_are_the_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    views(6).to_csv(tmp_path / "views.csv", sep=";", index=False)
    monkeypatch.setattr("lstmkit.data.catalog.locate", lambda name, file: tmp_path / file)
    evaluations = []

    def evaluate_examples(job: Recommender, test: Sessions, progress: Progress) -> Evaluation:
        evaluations.append(original(job, test, progress))
        return evaluations[-1]

    original = Recommender.evaluate_examples
    monkeypatch.setattr(Recommender, "evaluate_examples", evaluate_examples)
    job = tiny(time_cols=("eventdate", "timeframe"), test_fraction=0.0)
    table = run_protocol(protocols.last_days, job, tmp_path, {"file": "views.csv", "days": 2, "at_least": 2})
    assert table["model"].tolist() == ["LSTM", "most popular", "item-kNN", "Markov chain"]
    assert table["Recall@20"].tolist()[:2] == [1, 1]  # four items in all, and a list of twenty
    assert set(job.catalog) == set("abcd")
    assert job.predictor.counts.sum() == 2 * 6 * 3  # of six days two are the test, two validate
    (evaluation,) = evaluations
    assert len(evaluation.outputs.sessions) == 12
    assert len(evaluation.outputs.queries.target) == 12 * 2  # "late" is not in the training part and is left out


def test_days_need_dates():
    data = read_sessions([["a", "b"]], COLUMNS)
    with pytest.raises(DataError, match="needs sessions with dates"):
        protocols.split_last_days(data, 7)
    dated = Sessions(("u",), (("a", "b"),), np.ones(1, int), np.array(["2016-05-01"], "datetime64[ns]"), "views")
    with pytest.raises(DataError, match="nothing is left to train on"):
        protocols.split_last_days(dated, 7)
