"""Protocols of the recipes of applications: each scores as it says, and does not see the test part."""

from __future__ import annotations

import gzip
import io
import wave
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lstmkit.data import catalog
from lstmkit.jobs.classifier.job import Classifier
from lstmkit.jobs.forecaster.job import Forecaster
from lstmkit.jobs.recommender.job import Recommender
from lstmkit.jobs.recommender.metrics import UNRANKED, ranking_queries
from lstmkit.jobs.transcriber.job import Transcriber
from lstmkit.recipes import _next_item, classifier, forecaster, recommender, transcriber
from scored import run_protocol


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the catalog finds every file in."""
    monkeypatch.setattr(catalog, "locate", lambda name, file: tmp_path / file)
    return tmp_path


# ---- prices, weather, demand -----------------------------------------------------------------------------------------


def prices(days: int = 60, last: float = 0.0) -> pd.DataFrame:
    """Two stocks on working days; ``last`` is added to the last ten."""
    rng = np.random.default_rng(0)
    dates = pd.bdate_range("2020-01-01", periods=days)
    frames = [
        pd.DataFrame({"symbol": name, "date": dates, "close": base + rng.standard_normal(days).cumsum()})
        for name, base in (("A", 100.0), ("B", 50.0))
    ]
    late = last * (np.arange(days) >= days - 10)
    return pd.concat([frame.assign(close=frame["close"] + late) for frame in frames], ignore_index=True)


def stocks(horizon: int, target: str) -> Forecaster:
    return Forecaster(
        horizon=horizon,
        id_col="symbol",
        time_col="day",
        target_col=target,
        epochs=1,
        steps_per_epoch=2,
        hidden_size=4,
        test_windows=0,
    )


def test_a_random_walk_of_trading_days_repeats_the_last_close(here: Path):
    """Weekends are no gaps; the score of the random walk equals one by hand."""
    data = prices()
    data.to_csv(here / "prices.csv", index=False)
    job = stocks(5, "close")
    table = run_protocol(forecaster.trading_days, job, here, {"file": "prices.csv", "test": 10}).set_index("model")
    assert table.index.tolist() == ["LSTM (direct)", "random walk", "AutoETS"]
    errors = []
    for _, stock in data.groupby("symbol"):
        y = stock["close"].to_numpy()
        errors += [abs(y[t + h] - y[t - 1]) for t in (50, 55) for h in range(5)]
    assert table.loc["random walk", "MAE"] == pytest.approx(np.mean(errors))
    assert set(job.predictor.last_trained_timestamps.values()) == {"49"}


def test_returns_are_scored_on_every_day_of_the_test(here: Path):
    """A return of 0 has no direction; the test part changes scores only."""
    jobs = []
    for last in (0.0, 5.0):
        data = prices(last=last)
        data.to_csv(here / "prices.csv", index=False)
        jobs.append(stocks(1, "return"))
        table = run_protocol(forecaster.daily_returns, jobs[-1], here, {"file": "prices.csv", "test": 10})
        returns = 100 * np.log(data["close"]).groupby(data["symbol"]).diff()
        test = returns.groupby(data["symbol"]).tail(10)
        scores = table.set_index("model")
        assert scores.loc["random walk (return 0)", "MAE"] == pytest.approx(test.abs().mean())
        assert np.isnan(scores.loc["random walk (return 0)", "directions right"])
        before = returns.groupby(data["symbol"]).nth(slice(1, 50)).groupby(data["symbol"]).mean()
        right = np.sign(test.to_numpy()) == np.sign(np.repeat(before.to_numpy(), 10))
        assert scores.loc["random walk with drift", "directions right"] == pytest.approx(right.mean())
    first, second = ({n: p.detach().numpy() for n, p in job.predictor.model.named_parameters()} for job in jobs)
    assert all((first[name] == second[name]).all() for name in first)


def test_local_days_are_forecast_from_a_date_on(here: Path):
    """UTC becomes local time, baselines are those of the options, and training ends before the date."""
    hours = pd.date_range("2020-03-01", periods=24 * 30, freq="h", tz="UTC")
    local = hours.tz_convert("America/New_York")
    data = pd.DataFrame({"time": hours.strftime("%Y-%m-%dT%H:%M:%SZ"), "y": np.sin(local.hour * np.pi / 12) + 20})
    data.to_csv(here / "hours.csv", index=False)
    job = Forecaster(horizon=24, time_col="time", epochs=1, steps_per_epoch=1, hidden_size=2, test_windows=0)
    options = {"file": "hours.csv", "time_zone": ["America", "New_York"], "test": [2020, 3, 25]}
    baselines = ["SeasonalNaive", "Naive", "WeeklyNaive", "MSTL"]
    table = run_protocol(forecaster.local_time, job, here, {**options, "baselines": baselines})
    assert table["model"].tolist() == ["LSTM (direct)", *baselines]
    assert table.set_index("model")["MAE"][["SeasonalNaive", "WeeklyNaive"]].max() < 1e-9  # a day repeats itself
    assert table.set_index("model")["MAE"]["Naive"] > 0.5
    assert list(job.predictor.last_trained_timestamps.values()) == ["2020-03-24 23:00:00-04:00"]


# ---- next items ------------------------------------------------------------------------------------------------------


def shoppers() -> list[list[str]]:
    """Every user goes round a ring of 20 items, so that the last item decides the next one."""
    rng = np.random.default_rng(0)
    starts, lengths = rng.integers(20, size=80), rng.integers(5, 9, size=80)
    return [[str((a + k) % 20) for k in range(n)] for a, n in zip(starts, lengths, strict=True)]


@pytest.mark.parametrize("per_line", [True, False])
def test_next_items_are_ranked_among_all_and_among_sampled(here: Path, per_line: bool):
    """Both forms of files give the same scores; transition counts know a ring of items."""
    users = shoppers()
    pairs = [f"{user} {item}" for user, items in enumerate(users) for item in items]
    lines = [" ".join([str(user), *items]) for user, items in enumerate(users)] if per_line else pairs
    (here / "users.txt.gz").write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    job = Recommender(
        split_strategy="leave_one_out", seen_items="exclude", hidden_size=4, epochs=1, test_fraction=0.0, eval_k=2
    )
    options = {"file": "users.txt.gz", "user_per_line": per_line, "sampled": 5, "seed": 0}
    table = run_protocol(recommender.next_items, job, here, options)
    assert table.columns.tolist()[1:] == [f"{s}@2 among {n}" for n in ("all", "5 sampled") for s in ("HR", "NDCG")]
    scores = table.set_index("model")
    assert scores.loc["transition counts"].tolist() == [1.0] * 4
    assert table["model"][0] == "LSTM with transition counts (weight 0.1)"  # the least that is enough
    assert scores.iloc[0].tolist() == [1.0] * 4
    assert scores.loc["LSTM alone"].max() < 1.0
    assert (scores["HR@2 among 5 sampled"] >= scores["HR@2 among all"]).all()  # fewer items compete


def test_ranks_by_hand():
    """Items of the history and outside the catalog compete with none; ties count against the model."""
    queries = ranking_queries([np.array([0, 1]), np.array([2, -1])], np.array([1, 1]))
    scores = np.array([[9.0, 2.0, 2.0, 3.0]], dtype=np.float32)
    ranks = _next_item.rank(lambda h: np.tile(scores, (len(h), 1)), queries, np.array([[2, -1], [0, 3]]), 4)
    assert ranks.among_all.tolist() == [3, UNRANKED]  # of item 1: item 3 is above, item 2 is equal, item 0 was there
    assert ranks.among_sampled.tolist() == [2, UNRANKED]


def test_sampled_items_are_new_to_the_user():
    """No item of the user, none twice, and the same ones for the same seed."""
    items = [str(k) for k in range(12)]
    drawn = _next_item.sample_negatives([("1", "2"), ("3",)], items, 6, seed=1)
    assert drawn.shape == (2, 6)
    assert not {1, 2} & set(drawn[0])
    assert 3 not in drawn[1]
    assert all(len(set(row)) == 6 for row in drawn)
    assert (drawn == _next_item.sample_negatives([("1", "2"), ("3",)], items, 6, seed=1)).all()


# ---- speech and ink --------------------------------------------------------------------------------------------------


def tone(frequency: float) -> bytes:
    """A WAV file of a tenth of a second."""
    samples = np.sin(np.arange(800) * 2 * np.pi * frequency / 8000)
    with io.BytesIO() as stream:
        with wave.open(stream, "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes((samples * 20000).astype("<i2").tobytes())
        return stream.getvalue()


def test_the_table_names_the_part_of_each_recording(tmp_path: Path):
    """Words come from the table; the test part has the recordings of the table and no other."""
    rows = []
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as archive:
        for part, count in (("train", 6), ("valid", 2), ("test", 3)):
            for k in range(2 * count):
                word = ("low", "high")[k % 2]
                rows.append({"file": f"{word}/{part}{k}.wav", "word": word, "split": part})
                archive.writestr(rows[-1]["file"], tone(300 + 1500 * (k % 2) + 10 * k))
    pd.DataFrame(rows).to_csv(tmp_path / "clips.csv", index=False)
    job = Classifier(epochs=2, hidden_size=4, conv_channels=4, test_fraction=0.0)
    options = {"file": "clips.zip", "table": "clips.csv"}
    table = run_protocol(classifier.listed, job, tmp_path, options).set_index("model")
    assert table.loc["1-nearest neighbor", "accuracy"] == 1.0
    assert table.loc["majority class", "accuracy"] == 0.5


@pytest.mark.parametrize("upward", [True, False])
def test_pen_strokes_are_read_by_the_parts_of_the_table(here: Path, upward: bool):
    """y grows downwards for the job; the nearest training ink has the text of the same drawing."""
    rng = np.random.default_rng(0)
    shapes = {"L": [[0, 0, 0], [0, 9, 0], [6, 0, 1]], "V": [[0, 0, 0], [5, 9, 0], [5, -9, 1]]}
    drawings, rows = [], []
    for part, count in (("train", 4), ("valid", 2), ("test", 3)):
        for k in range(2 * count):
            text = "LV"[k % 2]
            ink = np.array(shapes[text]) * [3, 3, 1] + np.r_[0, rng.integers(2, size=2)][:, None] * [1, 1, 0]
            drawings.append(ink * [1, -1 if upward else 1, 1])
            rows.append({"split": part, "text": text})
    offsets = np.cumsum([0, *map(len, drawings)]).astype(np.int32)
    np.savez(here / "ink.npz", points=np.concatenate(drawings).astype(np.int16), offsets=offsets)
    pd.DataFrame(rows).to_csv(here / "texts.csv", index=False)
    job = Transcriber(epochs=1, hidden_size=4, feature_size=4, test_fraction=0.0)
    options = {"strokes": "ink.npz", "table": "texts.csv", "upward": upward}
    table = run_protocol(transcriber.pen_strokes, job, here, options).set_index("model")
    assert table.index.tolist() == ["LSTM", "most frequent text", "empty text", "nearest training ink"]
    assert table.loc["nearest training ink", "CER"] == 0.0
    assert table.loc["empty text", "CER"] == 100.0
    drawing = transcriber._outline(np.array(shapes["L"], dtype=np.float32), 5)
    assert drawing[-1, 1] == pytest.approx(0.5)  # down is positive, in units of the height from the center
