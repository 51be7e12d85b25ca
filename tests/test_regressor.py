"""Regressor: reading, splits, losses and metrics by hand, carried state, live rows, bad data, the entity-aware LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import lstmkit
from lstmkit import Regressor, load, quantize
from lstmkit.data.audio.diode_clipper import DiodeClipper
from lstmkit.data.audio.plucked_strings import guitar_phrases, plucked_string
from lstmkit.data.batch import Batch
from lstmkit.data.sequence_chunks import SequenceChunks
from lstmkit.data.tables.row_sequences import RowColumns, read_row_sequences
from lstmkit.decoding.regression import TargetDecoding
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.evaluation import regression_metrics as metrics
from lstmkit.jobs.regressor import baselines
from lstmkit.modules.entity_aware_lstm import EntityAwareLSTM
from lstmkit.modules.regression_head import RegressionHead


def tanks(n: int = 24, seed: int = 0) -> pd.DataFrame:
    """Tanks whose level is the sum of their inflows; rows of several tanks are interleaved."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"tank": np.tile(np.arange(n), 20), "time": np.repeat(np.arange(20), n)})
    frame["inflow"], frame["valve"] = rng.standard_normal(len(frame)), rng.choice(["open", "shut"], len(frame))
    frame["size"] = frame["tank"] % 3
    frame["level"] = frame.groupby("tank")["inflow"].cumsum() + (frame["valve"] == "open")
    return frame


def tiny(**options: Any) -> Regressor:
    defaults = {"id_col": "tank", "target_cols": ("level",), "hidden_size": 8, "epochs": 3, "steps_per_epoch": 4}
    return Regressor(**{**defaults, "lr": 0.02, **options})


@pytest.fixture(scope="module")
def fitted() -> Regressor:
    return tiny(epochs=15, steps_per_epoch=12, hidden_size=16).fit(tanks())


# ---- the entity-aware LSTM -------------------------------------------------------------------------------------------


def test_the_entity_aware_lstm_computes_the_equations_of_the_paper():
    """Kratzert et al. 2019, eqs. 8 to 13, in NumPy: the input gate from static features, the others from the rest."""
    torch.manual_seed(0)
    layer, hidden = EntityAwareLSTM(5, 4, static=[1, 3], batch_first=True).double(), 4
    x = torch.randn(1, 6, 5, dtype=torch.float64)
    x[:, :, [1, 3]] = x[:, :1, [1, 3]]
    weights = {name: w.detach().numpy() for name, w in layer.state_dict().items()}
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    gates = ("i", "f", "g", "o")
    parts = weights["weight_ih_l0"], weights["weight_hh_l0"], bias
    w, u, b = (dict(zip(gates, np.split(part, 4), strict=True)) for part in parts)
    static, dynamic = [1, 3], [0, 2, 4]

    def sigmoid(values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    steps = x[0].numpy()
    input_gate = sigmoid(w["i"][:, static] @ steps[0, static] + b["i"])
    h, c, outputs = np.zeros(hidden), np.zeros(hidden), []
    for step in steps:
        read = {k: w[k][:, dynamic] @ step[dynamic] + u[k] @ h + b[k] for k in "fgo"}
        c = sigmoid(read["f"]) * c + input_gate * np.tanh(read["g"])
        h = sigmoid(read["o"]) * np.tanh(c)
        outputs.append(h)
    found, (_, cell) = layer(x)
    np.testing.assert_allclose(found[0].detach().numpy(), np.stack(outputs), atol=1e-12)
    np.testing.assert_allclose(cell[0, 0].detach().numpy(), c, atol=1e-12)


def test_weights_of_the_entity_aware_lstm_stay_zero_in_training():
    layer = EntityAwareLSTM(3, 4, static=[2], batch_first=True)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(2, 5, 3))[0].square().sum().backward()
        optimizer.step()
    weights = layer.weights(0, 0)
    assert not weights["weight_ih"][:4, :2].any()
    assert not weights["weight_ih"][4:, 2].any()
    assert not weights["weight_hh"][:4].any()
    assert weights["weight_hh"][4:].all()
    x = torch.randn(2, 5, 3)
    stream = layer.eval().stream()
    torch.testing.assert_close(torch.stack([stream(step) for step in x.unbind(1)], 1), layer(x)[0])
    torch.testing.assert_close(quantize(layer)(x)[0], layer(x)[0], atol=0.02, rtol=0)


@pytest.mark.parametrize("static", [[], [3], [-1]])
def test_static_features_must_be_features(static: list[int]):
    with pytest.raises(ValueError, match="static must be indices of 0 to 2"):
        EntityAwareLSTM(3, 4, static=static)


# ---- chunks ----------------------------------------------------------------------------------------------------------


def sequences(lengths: list[int]) -> list[np.ndarray]:
    return [np.stack([np.full(n, k), np.arange(n)], axis=1).astype(np.float32) for k, n in enumerate(lengths)]


def steps_of(chunks: SequenceChunks, number: int = 0) -> list[tuple[int, int]]:
    """Sequence and step of every step with a target, in order."""
    found = []
    for batch in chunks.epoch(number):
        assert batch.lengths is not None
        assert batch.targets is not None
        for inputs, targets, n in zip(batch.inputs, batch.targets, batch.lengths.tolist(), strict=True):
            assert torch.isnan(targets[n:]).all()
            known = ~torch.isnan(targets[:n, 0])
            assert torch.equal(inputs[:n, 1][known], targets[:n, 0][known])
            found += [(int(k), int(t)) for k, t in inputs[:n][known].tolist()]
    return found


def chunked(lengths: list[int], **options: Any) -> SequenceChunks:
    inputs = sequences(lengths)
    return SequenceChunks(inputs, [own[:, 1:] for own in inputs], **{"batch_size": 2, "chunk_steps": 4, **options})


@pytest.mark.parametrize(
    "options", [{}, {"seed": 0}, {"seed": 0, "segment_steps": 6}, {"batch_size": 9, "chunk_steps": 99}]
)
def test_a_pass_reads_every_step_once(options: dict[str, Any]):
    lengths = [3, 11, 7, 1, 20]
    chunks = chunked(lengths, **options)
    found = steps_of(chunks)
    assert set(found) >= {(k, t) for k, n in enumerate(lengths) for t in range(n)} or "segment_steps" in options
    assert len(found) == len(set(found))
    assert len(list(chunks.epoch())) == len(chunks)


def test_rows_of_a_chunk_continue_those_of_the_one_before():
    last: dict[int, tuple[int, int]] = {}
    for batch in chunked([3, 11, 7, 1, 20], seed=3, segment_steps=9, n_batches=40).epoch(2):
        assert batch.lengths is not None
        for row, (inputs, n) in enumerate(zip(batch.inputs.long(), batch.lengths.tolist(), strict=True)):
            if n and batch.continues:
                k, t = inputs[0].tolist()
                assert last[row] == (k, t - 1)
            if n:
                last[row] = tuple(inputs[n - 1].tolist())


def test_an_epoch_is_the_same_again_and_others_differ():
    chunks = chunked([30, 31], seed=1, segment_steps=8, n_batches=12)
    assert steps_of(chunks, 1) == steps_of(chunks, 1)
    assert steps_of(chunks, 1) != steps_of(chunks, 2)
    assert len(chunks) == 12


def test_burn_in_leaves_out_the_first_targets():
    assert steps_of(chunked([9], burn_in=5)) == [(0, t) for t in range(5, 9)]


def test_carried_state_gives_the_outputs_of_the_whole_sequence(fitted: Regressor):
    rows = fitted.read(tanks())
    whole = fitted.predictor.outputs(rows, fitted.progress)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmkit.jobs.common.step_outputs.CHUNK_STEPS", 3)
        patch.setattr("lstmkit.jobs.common.step_outputs.SEQUENCES_AT_ONCE", 5)
        np.testing.assert_allclose(fitted.predictor.outputs(rows, fitted.progress), whole, atol=1e-6)


# ---- losses and metrics ----------------------------------------------------------------------------------------------


def head_loss(loss: str, outputs: list[float], targets: list[float], **options: Any) -> float:
    batch = Batch(torch.zeros(1, 2, 1), targets=torch.tensor(targets).view(1, -1, 1), **options)
    levels = (0.1, 0.5, 0.9) if loss == "pinball" else ()
    return float(RegressionHead(4, 1, loss, levels).loss(torch.tensor(outputs).view(1, len(targets), -1), batch))


def test_losses_by_hand():
    nan = float("nan")
    assert head_loss("mse", [1.0, 5.0, 2.0], [3.0, nan, 2.0]) == pytest.approx(2.0)
    assert head_loss("mae", [1.0, 5.0, 2.0], [3.0, nan, 2.0]) == pytest.approx(1.0)
    assert head_loss("huber", [1.0, 5.0, 2.5], [3.0, nan, 2.0]) == pytest.approx((1.5 + 0.125) / 2)
    extras = {"target_std": torch.tensor([[0.4]])}
    assert head_loss("nse", [1.0, 2.0], [2.0, 2.0], extras=extras) == pytest.approx(1 / 0.5**2 / 2)
    assert head_loss("pinball", [0.0, 1.0, 3.0], [2.0]) == pytest.approx(2 * (0.1 * 2 + 0.5 * 1 + 0.1 * 1) / 3)
    assert head_loss("mse", [1.0], [nan]) == 0


def test_metrics_by_hand():
    truth, values = np.array([1.0, 2.0, 3.0, 6.0]), np.array([2.0, 2.0, 2.0, 6.0])
    assert metrics.r2(truth, values) == pytest.approx(1 - 2 / 14)
    r = np.corrcoef(truth, values)[0, 1]
    kge = 1 - np.sqrt((r - 1) ** 2 + (values.std() / truth.std() - 1) ** 2)
    assert metrics.kge(truth, values) == pytest.approx(kge)
    assert metrics.kge(truth, np.full(4, 3.0)) == pytest.approx(1 - np.sqrt(2))
    assert metrics.phm08_score(np.array([10.0, 10.0]), np.array([20.0, -3.0])) == pytest.approx(2 * (np.e - 1))
    assert metrics.error_to_signal_ratio(truth, 0 * truth) == 1
    for metric in (metrics.r2, metrics.kge):
        assert np.isnan(metric(np.ones(3), np.zeros(3)))
    assert np.isfinite(metrics.phm08_score(np.array([0.0]), np.array([1e9])))


@pytest.mark.parametrize("quantiles", [False, True])
def test_decoded_intervals_hold_the_prediction_and_stay_below_the_cap(quantiles: bool):
    targets = np.array([[1.0, 10.0], [3.0, 30.0], [np.nan, 20.0]])
    decoding = TargetDecoding.fitted(("a", "b"), targets, (95, 50), quantiles=quantiles, max_target=25.0)
    assert decoding.levels == (50, 95)
    assert decoding.standardize(targets)[:2, 0].tolist() == [-1, 1]
    rng = np.random.default_rng(0)
    predictions = decoding.decode(rng.standard_normal((50, 2 * (5 if quantiles else 1))))
    assert predictions.values.shape == (50, 2)
    assert (predictions.low <= predictions.values[..., None]).all()
    assert (predictions.high >= predictions.values[..., None]).all()
    assert (predictions.low[..., 1] <= predictions.low[..., 0]).all()
    assert predictions.high.max() <= 25
    columns = list(decoding.columns(predictions))
    assert columns[:5] == ["a", "a-lo-50", "a-hi-50", "a-lo-95", "a-hi-95"]


@pytest.mark.parametrize("loss", ["mse", "pinball"])
def test_intervals_are_calibrated(loss: str):
    """On exchangeable sequences, intervals have about their level in coverage."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"id": np.repeat(np.arange(120), 20), "x": rng.standard_normal(2400)})
    frame["target"] = frame["x"] + rng.standard_normal(2400)
    job = Regressor(hidden_size=4, epochs=4, loss=loss, levels=(50, 90), valid_fraction=0.4, test_fraction=0.3, lr=0.02)
    evaluation = job.fit(frame).evaluation
    assert evaluation is not None
    coverage = evaluation.table.iloc[0][["coverage-50", "coverage-90"]].tolist()
    assert coverage == pytest.approx([50, 90], abs=7)


# ---- predictions -----------------------------------------------------------------------------------------------------


def test_answers_are_in_the_order_of_the_table(fitted: Regressor):
    frame = tanks()
    predictions = fitted.predict(frame.drop(columns="level"))
    assert predictions["tank"].astype(int).tolist() == frame["tank"].tolist()
    assert predictions["time"].tolist() == frame["time"].tolist()
    assert np.corrcoef(predictions["level"], frame["level"])[0, 1] > 0.8
    shuffled = frame.sample(frac=1, random_state=0)
    again = fitted.predict(shuffled)
    np.testing.assert_allclose(again["level"], predictions["level"].to_numpy()[shuffled.index], atol=1e-5)


def test_a_prediction_reads_no_later_row(fitted: Regressor):
    frame = tanks()
    changed = frame.assign(inflow=frame["inflow"].where(frame["time"] < 12, 9.0))
    before, after = (fitted.predict(each)["level"].to_numpy() for each in (frame, changed))
    early = (frame["time"] < 12).to_numpy()
    np.testing.assert_allclose(after[early], before[early], atol=1e-6)
    assert np.abs(after[~early] - before[~early]).min() > 0


def test_live_rows_get_the_answers_of_predict(fitted: Regressor):
    frame = tanks()
    own = frame[frame["tank"] == 3]
    live, expected = fitted.live(), fitted.predict(frame)
    expected = expected[(frame["tank"] == 3).to_numpy()].drop(columns=["tank", "time"])
    answers = pd.DataFrame([live.step(row) for row in own.to_dict("records")])
    assert answers.columns.tolist() == expected.columns.tolist()
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_live_rows_with_irregular_dates_and_gaps_get_the_answers_of_predict():
    rng = np.random.default_rng(0)
    frame = tanks()
    frame["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(
        60 * frame["time"] + rng.integers(0, 50, len(frame)), unit="min"
    )
    frame.loc[rng.random(len(frame)) < 0.2, "inflow"] = np.nan
    frame.loc[rng.random(len(frame)) < 0.2, "valve"] = None
    frame.loc[rng.random(len(frame)) < 0.3, "level"] = np.nan
    job = tiny(loss="pinball").fit(frame)
    assert job.predictor.encoding.elapsed is not None
    assert job.predictor.encoding.periods
    own, live = (frame["tank"] == 5).to_numpy(), job.live()
    answers = [live.step(row)["level"] for row in frame[own].to_dict("records")]
    np.testing.assert_allclose(answers, job.predict(frame)["level"][own], atol=1e-5)


def test_a_bad_live_row_leaves_the_state_as_it_was(fitted: Regressor):
    rows = [row | {"time": 5 + k} for k, row in enumerate(tanks().to_dict("records")[:2])]
    live, other = fitted.live(), fitted.live()
    bad = [
        ({"inflow": 1.0, "size": 1}, "no 'valve'"),
        (rows[0] | {"inflow": "much"}, "'inflow': 'much' is not a finite number"),
    ]
    first = live.step(rows[0])
    for row, message in (*bad, (rows[0] | {"inflow": float("inf")}, "inf is not a finite number")):
        with pytest.raises(DataError, match=message):
            live.step(row)
    assert [first, live.step(rows[1])] == [other.step(row) for row in rows]


def test_a_live_row_before_the_last_one_is_refused():
    frame = tanks().assign(time=lambda f: f["time"] ** 2)
    live = tiny().fit(frame).live()
    row = frame.iloc[0].to_dict()
    live.step(row | {"time": 9})
    with pytest.raises(DataError, match="4 earlier than the last one: give rows in the order of time"):
        live.step(row | {"time": 5})
    with pytest.raises(DataError, match="the row has no 'time': the model reads times"):
        live.step({name: value for name, value in row.items() if name != "time"})


def test_one_answer_per_sequence():
    frame = tanks()
    last = frame["time"] == 19
    job = tiny(predict_at="last_step").fit(frame.assign(level=frame["level"].where(last)))
    predictions = job.predict(frame)
    assert predictions["tank"].tolist() == [str(k) for k in range(24)]
    assert (predictions["time"] == 19).all()
    repeated = frame.merge(frame.loc[last, ["tank", "level"]].rename(columns={"level": "final"}), on="tank")
    same = tiny(predict_at="last_step").fit(repeated.drop(columns="level").rename(columns={"final": "level"}))
    np.testing.assert_allclose(same.predict(frame)["level"], predictions["level"])


def test_a_cap_bounds_targets_and_predictions():
    frame = tanks().assign(level=lambda f: 20 - f["time"])
    job = tiny(max_target=8.0, epochs=10, steps_per_epoch=10).fit(frame)
    assert job.predict(frame)[["level", "level-hi-95"]].to_numpy().max() <= 8
    assert job.evaluation is not None
    assert job.evaluation.details["true level"].max() == 8
    assert "Targets above 8 count as 8." in job.evaluation.notes


def test_steps_of_the_burn_in_are_not_scored():
    job = tiny(burn_in=15).fit(tanks())
    assert job.evaluation is not None
    assert (job.evaluation.details["time"] >= 15).all()
    with pytest.raises(DataError, match="all targets are within the burn-in of 15 steps"):
        job.evaluate(tanks().query("time < 15"))


def test_several_targets_have_a_relative_score():
    frame = tanks().assign(double=lambda f: 2 * f["level"] + 5)
    job = tiny(target_cols=("level", "double"), epochs=10, steps_per_epoch=10).fit(frame)
    assert job.evaluation is not None
    scores = job.evaluation.table.iloc[0]
    std = job.predictor.decoding.std
    relative = [scores["RMSE of level"] / std[0], scores["RMSE of double"] / std[1]]
    assert scores["relative RMSE"] == pytest.approx(np.mean(relative))


def test_the_model_beats_the_mean_and_baselines_are_complete(fitted: Regressor):
    assert fitted.evaluation is not None
    table = fitted.evaluation.table.set_index("model")
    assert table.index.tolist() == ["LSTM", "mean", "last value", "ridge", "gradient boosting"]
    assert table.loc["LSTM", "RMSE"] < 0.6 * table.loc["mean", "RMSE"]
    assert {"MAE", "R²", "median NSE", "median KGE", "coverage-80", "coverage-95"} <= {*table}


def test_a_loaded_model_has_baselines_with_its_training_data(fitted: Regressor, tmp_path):
    loaded = load(fitted.save(tmp_path / "model"))
    assert loaded.evaluate(tanks(seed=1)).missing_baselines == ("ridge", "gradient boosting")
    table = load(tmp_path / "model", train=tanks()).evaluate(tanks(seed=1)).table
    pd.testing.assert_frame_equal(table, fitted.evaluate(tanks(seed=1)).table)


# ---- splits ----------------------------------------------------------------------------------------------------------


def test_many_sequences_are_split_as_wholes_and_few_by_time():
    frame = tanks()
    for rows, by_time in ((frame, False), (frame[frame["tank"] < 4], True)):
        job = tiny()
        parts = job.split(job.read(rows), None)
        names = [set(part.names) for part in (parts.train, parts.valid, parts.test)]
        assert (names[0] == names[1] == names[2]) is by_time
        assert bool(names[0] & names[2]) is by_time
        known = [int((~np.isnan(part.targets)).sum()) for part in (parts.train, parts.valid, parts.test)]
        assert sum(known) == len(rows)
    assert parts.train.lengths.tolist() == [14] * 4
    assert parts.valid.lengths.tolist() == [17] * 4  # with the past as context
    assert parts.test.lengths.tolist() == [20] * 4
    assert np.isnan(parts.test.targets[:17]).all()


def test_given_validation_data_are_the_validation_part():
    job = tiny()
    parts = job.split(job.read(tanks()), job.read(tanks(seed=1)))
    assert len(parts.valid) == 24
    assert len(parts.train) == 20


# ---- bad data --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({"level": 3.0}, {}, DataError, "target column 'level' is 3 in every row of the training split"),
        ({"level": np.nan}, {}, DataError, "no row has a value in level"),
        ({"level": "full"}, {}, DataError, "column 'level', row 1: 'full' is not a number"),
        ({"level": np.inf}, {}, DataError, "column 'level', row 1: inf is infinite"),
        ({"inflow": lambda f: f["inflow"].where(f.index > 0, -np.inf)}, {}, DataError, "row 1: -inf is infinite"),
        ({}, {"numeric_cols": ("valve",)}, DataError, "column 'valve', row 1: '(open|shut)' is not a number"),
        ({}, {"numeric_cols": ("inflow", "level")}, DataError, "column 'level' has two roles"),
        ({}, {"target_cols": ("height",)}, DataError, "has no target column height: correct target_cols"),
        ({}, {"target_cols": ("level", "height")}, DataError, "has no target column height: correct target_cols"),
        ({}, {"ignored_cols": ("inflow", "valve", "size")}, DataError, "has no column to predict from"),
        ({}, {"static_cols": ("inflow",)}, DataError, "column 'inflow' changes within '0'"),
        ({}, {"entity_aware": True}, SettingError, "entity_aware needs static columns"),
        ({}, {"entity_aware": True, "static_cols": ("size",), "cell": "gru"}, SettingError, "needs cell=lstm, got gru"),
        ({}, {"predict_at": "last_step", "split_strategy": "time"}, SettingError, "split_strategy=time is for"),
        ({"time": None}, {}, DataError, "is not a timestamp"),
    ],
)  # fmt: skip
def test_bad_data_are_refused_in_one_line(change: dict, options: dict, error: type[Exception], message: str):
    with pytest.raises(error, match=message) as caught:
        tiny(**options).fit(tanks().assign(**change))
    assert "\n" not in str(caught.value)


def test_a_sequence_of_one_row_counts(fitted: Regressor):
    frame = tanks()
    one = frame[(frame["tank"] > 0) | (frame["time"] == 0)]
    for options in ({}, {"split_strategy": "time"}, {"predict_at": "last_step"}):
        predictions = tiny(**options).fit(one).predict(one)
        assert np.isfinite(predictions["level"]).all()
    alone = fitted.predict(frame.query("tank == 2 and time == 0"))
    together = fitted.predict(frame)["level"][((frame["tank"] == 2) & (frame["time"] == 0)).to_numpy()]
    np.testing.assert_allclose(alone["level"], together, atol=1e-5)


def test_rows_out_of_order_are_sorted_and_equal_times_keep_their_order():
    frame = tanks()
    frame.loc[frame["time"] == 7, "time"] = 6
    job = tiny().fit(frame)
    shuffled = frame.sort_values(["time", "tank"], ascending=[False, True], kind="stable")
    notes = " ".join(job.read(shuffled).notes)
    assert "rows are earlier than the row before them: rows were sorted by time" in notes
    assert "24 rows have the time of another row of their sequence, such as 6: they keep the order" in notes


def test_times_that_the_model_reads_must_be_there():
    job = tiny().fit(tanks().assign(time=lambda f: f["time"] ** 2))
    with pytest.raises(DataError, match="no column of times, which the model reads: give 'time'"):
        job.predict(tanks().drop(columns="time"))
    dated = tiny().fit(tanks().assign(time=lambda f: pd.Timestamp("2024-01-01") + pd.to_timedelta(f["time"], unit="h")))
    with pytest.raises(DataError, match="column 'time' has no dates, as the training data have"):
        dated.predict(tanks())


# ---- layers for C and plug-ins ---------------------------------------------------------------------------------------


def numbers_only() -> pd.DataFrame:
    return tanks()[["tank", "inflow", "size", "level"]].assign(inflow=lambda f: 1000 * f["inflow"] + 300)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_plain_layers_predict_in_the_units_of_the_columns(cell: str):
    frame = numbers_only()
    job = tiny(cell=cell, num_layers=2, compress_tails=False).fit(frame)
    own = frame[frame["tank"] == 4]
    layers = job.layers()
    inputs = torch.tensor(own[["inflow", "size"]].to_numpy(), dtype=torch.float32)[None]
    with torch.no_grad():
        found = layers[1](layers[0](inputs)[0])[0, :, 0].numpy()
    np.testing.assert_allclose(found, job.predict(own)["level"], rtol=1e-3, atol=1e-3)


def test_plain_layers_can_be_exported(tmp_path):
    job = tiny(compress_tails=False).fit(numbers_only())
    assert lstmkit.export_rtneural(job.layers(), tmp_path / "amp.json").stat().st_size
    assert "amp_step" in lstmkit.export_c(job.layers(), tmp_path / "amp.h", name="amp").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "cannot read categories, times or gaps"),
        ({"categorical_cols": (), "ignored_cols": ("valve",), "loss": "pinball"}, "cannot give quantiles"),
        ({"ignored_cols": ("valve",), "ensemble_size": 2}, "cannot give quantiles or the mean of an ensemble"),
        ({"ignored_cols": ("valve",), "entity_aware": True, "static_cols": ("size",)}, "cannot be entity-aware"),
    ],
)
def test_other_models_have_no_plain_layers(options: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        tiny(**options).fit(tanks()).layers()


def test_heavy_tails_are_compressed_unless_asked_otherwise():
    frame = numbers_only()
    frame.loc[5, "inflow"] = 1e6
    assert tiny().fit(frame).predictor.encoding.is_compressed[0]
    with pytest.raises(UserError, match="cannot compress values beyond 8 standard deviations"):
        tiny().fit(frame).layers()
    encoding = tiny(compress_tails=False).fit(frame).predictor.encoding
    assert not encoding.is_compressed.any()
    scaled = encoding.encode(frame[["inflow", "size"]].to_numpy(), np.empty((len(frame), 0), dtype=object))
    assert np.abs(scaled).max() <= 10
    spread = scaled[:, 0] * encoding.std[0] + encoding.mean[0]
    np.testing.assert_allclose(spread, frame["inflow"], rtol=1e-4, atol=1)


# ---- baselines -------------------------------------------------------------------------------------------------------


def test_window_summaries_by_hand():
    rng = np.random.default_rng(0)
    features = [np.concatenate([rng.standard_normal((n, 2)), np.ones((n, 1))], axis=1) for n in (30, 3)]
    found = baselines.window_summaries(features, num_numbers=2)
    assert found.shape == (33, 3 + 2 * 2 * len(baselines.WINDOWS) + 1)
    np.testing.assert_allclose(found[20, 3:5], features[0][17:21, :2].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found[20, 5:7], features[0][17:21, :2].std(axis=0), atol=1e-5)
    np.testing.assert_allclose(found[31, 7:9], features[1][:2, :2].mean(axis=0), atol=1e-5)
    assert found[:, -1].tolist() == [*range(1, 31), 1, 2, 3]


def test_previous_values_skip_rows_without_a_target():
    frame = pd.DataFrame({"id": list("aaab"), "x": 1.0, "y": [1.0, np.nan, 3.0, 4.0]})
    rows = read_row_sequences(frame, RowColumns(targets=("y",)))
    previous = baselines.previous_values(rows, rows.require_targets())[:, 0]
    np.testing.assert_array_equal(previous, [np.nan, 1.0, 1.0, np.nan])


# ---- the distortion --------------------------------------------------------------------------------------------------


def test_the_diode_clipper_settles_where_its_currents_balance():
    clipper = DiodeClipper(gain=1.0, high_pass=1e-3, tone=20_000.0)
    volts = np.array([0.05, 0.4, 3.0])
    found = np.array([clipper(np.full(8000, level), 44_100)[6000] for level in volts])
    diodes = 2 * clipper.saturation_current * np.sinh(found / clipper.thermal_voltage)
    np.testing.assert_allclose((volts - found) / clipper.resistance, diodes, rtol=0.02, atol=1e-7)


def test_the_diode_clipper_is_odd_and_its_parts_join(monkeypatch: pytest.MonkeyPatch):
    sound = guitar_phrases(0.3, seed=1)
    wet = DiodeClipper()(sound, 44_100)
    np.testing.assert_allclose(DiodeClipper()(-sound, 44_100), -wet, atol=1e-7)
    monkeypatch.setattr("lstmkit.data.audio.diode_clipper._PARALLEL_STEPS", 1000)
    np.testing.assert_allclose(DiodeClipper()(sound, 44_100), wet, atol=1e-7)


def test_a_plucked_string_has_its_pitch():
    note = plucked_string(220.5, 1.0, 44_100, 0.998, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(note * np.hanning(len(note))))
    peaks = spectrum[[round(k * 44_100 / 200.5) for k in (1, 2, 3)]]
    assert peaks.min() > 20 * np.median(spectrum)
