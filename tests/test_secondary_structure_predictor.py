"""Secondary structure: reading chains, windows, segment overlap, baselines, and the job."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lstmkit.data.batch import Batch
from lstmkit.data.proteins.chains import (
    AMINO_ACIDS,
    STATES,
    UNKNOWN,
    Columns,
    ProteinChains,
    read_protein_chains,
    without_shared_kmers,
)
from lstmkit.data.proteins.residue_windows import ResidueDataset
from lstmkit.data.proteins.residues import N_RESIDUE_IDS, encode_residues, split_into_windows
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs import load
from lstmkit.jobs.secondary_structure_predictor.baselines import most_frequent_states, windowed_logistic_regression
from lstmkit.jobs.secondary_structure_predictor.job import SecondaryStructurePredictor
from lstmkit.jobs.secondary_structure_predictor.plots import chain_figure
from lstmkit.jobs.secondary_structure_predictor.segment_overlap import mean_segment_overlap, segment_overlap, segments
from lstmkit.jobs.secondary_structure_predictor.state_mapping import (
    DSSP_MAPPING,
    fit_mapping,
    joint_probabilities,
    joint_states,
)
from lstmkit.modules.encoders import ResidueEncoder
from lstmkit.modules.heads import MultiTaskTagHead
from lstmkit.progress import Progress
from lstmkit.recipes.secondary_structure_predictor import homology_reduced

# ---- reading ---------------------------------------------------------------------------------------------------------

WIDE = pd.DataFrame({"id": ["a", "b"], "sequence": ["MKV", "gx"], "ss3": ["HH-", "EC"], "eval_mask": ["101", "01"]})
LONG = pd.DataFrame(
    {
        "id": ["a", "a", "b", "a", "b"],
        "residue": [*"MKgVx"],
        "ss3": [*"HHE-C"],
        "eval_mask": [1, 0, 0, 1, 1],
        "p": [1.0, 2, 4, 3, 5],
    }
)


def test_wide_and_long_tables_are_read_alike(tmp_path: Path):
    WIDE.to_csv(tmp_path / "wide.csv.gz", index=False)
    LONG.to_csv(tmp_path / "long.tsv", index=False, sep="\t")
    for data in (WIDE, LONG, tmp_path / "wide.csv.gz", str(tmp_path / "long.tsv")):
        chains = read_protein_chains(data)
        assert (chains.ids, chains.sequences) == (("a", "b"), ("MKV", "GX"))
        assert chains.states == {"ss3": ("HHC", "EC")}
        assert chains.scored is not None
        assert [values.tolist() for values in chains.scored] == [[True, False, True], [False, True]]
        assert chains.digest() == read_protein_chains(WIDE).digest()
    profile = read_protein_chains(LONG, Columns(profile=("p",))).profile
    assert profile is not None
    assert [values.ravel().tolist() for values in profile] == [[1, 2, 3], [4, 5]]


def test_fasta(tmp_path: Path):
    text = "\n>one of many words\nMKV\nay\r\n\n>two\nG\n>\nA A\n"
    (tmp_path / "chains.fa").write_text(text)
    (tmp_path / "chains.fasta.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("chains.fa", "chains.fasta.gz"):
        chains = read_protein_chains(tmp_path / name)
        assert (chains.ids, chains.sequences) == (("one", "two", "3"), ("MKVAY", "G", "AA"))
        assert chains.states == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.fasta", "MKV\n", r"a.fasta is not a FASTA file: it begins with 'MKV'"),
        ("a.fasta", ">x\n>y\nMK\n", "a.fasta: chain 'x' has no residues"),
        ("a.fasta", ">x\nMK*\n", r"chain 'x', position 3: '\*' is not a residue.*; remove gaps and stops"),
        ("a.fasta", " \n", "a.fasta is empty"),
        ("a.fa.gz", "not gzip", "a.fa.gz is not a complete gzip file"),
        ("a.csv", "id,sequence,ss3\nx,MK,HHH\n", "chain 'x' has 2 residues and 3 letters of ss3"),
        ("a.csv", "id,sequence,ss3\nx,MK,HZ\n", "chain 'x', position 2: 'Z' is not a letter of ss3: give HEC-_LP"),
        ("a.csv", "id,sequence,ss8\nx,MK,\n", "chain 'x' has 2 residues and 0 letters of ss8"),
        ("a.csv", "id,sequence\nx,\n", "chain 'x' has no residues"),
        ("a.csv", "id,sequence,eval_mask\nx,MK,12\n", "position 2: '2' is not a letter of mask: give 01"),
        ("a.csv", "id,chain\nx,MK\n", r"neither a column 'sequence' .* nor 'residue' .*give sequence_col=NAME"),
        ("a.csv", "name,residue\nx,M\n", "no column 'id' in a.csv"),
        ("a.csv", "id,residue\nx,MK\n", "column 'residue', row 1 below the header: 'MK' is not one letter"),
        ("a.csv", "id,residue\n,M\n", "column 'id', row 1 below the header: '' is not a valid id: every row needs one"),
        ("a.pdb", "x", "unsupported file format"),
        ("missing.fasta", None, "no such file"),
    ],
)
def test_invalid_files_are_refused(name: str, content: str | None, message: str, tmp_path: Path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_protein_chains(tmp_path / name)


@pytest.mark.parametrize("letter", ["-", "1", "é", "ß", "\u212a", " ", "\n"])
def test_invalid_residues_are_refused(letter: str):
    """The Kelvin sign is not lysine, although its lower case is k."""
    with pytest.raises(DataError, match=r"the list: chain '2', position 3: .* is not a residue"):
        read_protein_chains(["MK", f"AC{letter}D"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the list has no chains"),
        ([3], r"a list of strings, not \[3\]"),
        (7, "not 7"),
        (WIDE.assign(eval_mask=[1.5, 1.0]), "is not text"),
        (WIDE.iloc[:0], "the frame has no chains"),
    ],
)
def test_invalid_objects_are_refused(data: object, message: str):
    with pytest.raises(DataError, match=message):
        read_protein_chains(data)


def test_unknown_residues_share_one_id():
    assert set(encode_residues(UNKNOWN).tolist()) == {N_RESIDUE_IDS - 1}
    assert encode_residues(AMINO_ACIDS).tolist() == list(range(1, 21))


def test_chains_with_shared_kmers_are_dropped():
    test = read_protein_chains(["MKVAYGGG", "XXXXX"])
    assert without_shared_kmers(read_protein_chains(["AAMKVAYAA", "MKVA", "XXXXX", "GGG"]), test, 5) == [1, 2, 3]


# ---- windows ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 60))
def test_windows_predict_every_residue_once(length: int, max_residues: int):
    windows = split_into_windows(length, max_residues)
    assert [i for window in windows for i in range(window.first, window.last)] == list(range(length))
    for window in windows:
        assert 0 <= window.start <= window.first < window.last <= window.stop <= length
        assert window.stop - window.start <= max_residues
        assert window.first - window.start == min(window.first, max_residues // 8 if length > max_residues else 0)


def test_windows_have_only_the_targets_that_they_predict():
    states = np.arange(12)[:, None]
    source = ResidueDataset([np.arange(1, 13)], [np.arange(24.0).reshape(12, 2)], [states], max_residues=8)
    batch = source.batch(np.arange(2))
    assert batch.inputs.shape == (2, 7, 3)
    assert batch.inputs[1, :, 0].tolist() == [6, 7, 8, 9, 10, 11, 12]
    assert batch.inputs[1, 0, 1:].tolist() == [10, 11]
    assert batch.targets is not None
    assert batch.targets[..., 0].tolist() == [[0, 1, 2, 3, 4, 5, -1], [-1, 6, 7, 8, 9, 10, 11]]


# ---- network ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [0, 2])
def test_padding_does_not_change_the_encoding(profile: int):
    torch.manual_seed(0)
    encoder = ResidueEncoder(N_RESIDUE_IDS, 4, profile, (3, 7), 5, dropout=0.5).eval()
    ids = torch.randint(1, N_RESIDUE_IDS, (1, 6))
    inputs = ids if not profile else torch.cat([ids.unsqueeze(2).float(), torch.randn(1, 6, profile)], 2)
    padded = torch.cat([inputs, inputs.new_zeros((1, 5, *inputs.shape[2:]))], 1)
    with torch.no_grad():
        torch.testing.assert_close(encoder(padded)[:, :6], encoder(inputs))
        assert encoder(inputs).shape == (1, 6, encoder.output_size)


def test_the_losses_of_two_tasks_are_added():
    torch.manual_seed(0)
    head = MultiTaskTagHead(4, (3, 8))
    outputs = head(torch.randn(2, 5, 4))
    targets = torch.stack([torch.randint(3, (2, 5)), torch.randint(8, (2, 5))], -1)
    targets[1, 3:] = -1
    loss = head.loss(outputs, Batch(torch.zeros(2, 5), targets=targets))
    log_p = [outputs[..., :3].log_softmax(-1), outputs[..., 3:].log_softmax(-1)]
    known = [(b, t) for b in range(2) for t in range(5) if targets[b, t, 0] >= 0]
    by_hand = sum(-log_p[k][b, t, targets[b, t, k]].item() for k in range(2) for b, t in known) / len(known)
    assert loss.item() == pytest.approx(by_hand)


# ---- segment overlap -------------------------------------------------------------------------------------------------


def test_segment_overlap_by_hand():
    """The segment overlap equals the definition, computed on paper."""
    # H: shared 3, either 4, slack min(1, 3, 2, 1) = 1: whole. First C: shared 1, either 2, slack 0: half.
    assert segment_overlap("CHHHHC", "CCHHHC") == pytest.approx(100 * (0.5 * 1 + 1 * 4 + 1 * 1) / 6)
    # A helix found as two: (3 + 1) / 8 and (4 + 2) / 8, each of 8 residues; both E residues are missed.
    assert segment_overlap("HHHHHHHHEE", "HHHCHHHHCC") == pytest.approx(100 * (4 / 8 * 8 + 6 / 8 * 8) / 18)
    # Slack is at most half of the shorter: shared 2, either 10, slack min(8, 2, 5, 1) = 1.
    assert segment_overlap("H" * 10, "HH" + "C" * 8) == pytest.approx(100 * 3 / 10)
    assert segment_overlap("HHH", "CCC") == 0


def test_residues_that_are_not_scored_split_segments():
    scored = np.array([True, True, False, True])
    assert [(s.start, s.stop) for s in segments("HHHH", scored)] == [(0, 2), (3, 4)]
    assert segment_overlap("HHHH", "HHCH", scored) == 100
    assert np.isnan(segment_overlap("HH", "HH", np.zeros(2, dtype=bool)))
    assert mean_segment_overlap(["HH", "HH", "HH"], ["HH", "CC", "HH"], [None, None, np.zeros(2, dtype=bool)]) == 50


def segment_overlap_by_sets(true: str, predicted: str) -> float:
    """The segment overlap, computed again from sets of positions."""

    def runs(states: str) -> list[tuple[str, set[int]]]:
        segment_sets: list[tuple[str, set[int]]] = []
        for i, state in enumerate(states):
            if segment_sets and segment_sets[-1][0] == state and i - 1 in segment_sets[-1][1]:
                segment_sets[-1][1].add(i)
            else:
                segment_sets.append((state, {i}))
        return segment_sets

    total = weight = 0.0
    for (a, s1), (b, s2) in itertools.product(runs(true), runs(predicted)):
        if a == b and s1 & s2:
            shared, either = len(s1 & s2), len(s1 | s2)
            slack = min(either - shared, shared, int(0.5 * len(s1)), int(0.5 * len(s2)))
            total += (shared + slack) / either * len(s1)
            weight += len(s1)
    weight += sum(len(s) for a, s in runs(true) if not any(a == b and s & o for b, o in runs(predicted)))
    return 100 * total / weight


same_length = st.integers(1, 40).flatmap(lambda n: st.tuples(*[st.text("HEC", min_size=n, max_size=n)] * 2))


@given(same_length)
def test_segment_overlap_equals_the_papers_definition(pair: tuple[str, str]):
    true, predicted = pair
    actual = segment_overlap(true, predicted)
    assert actual == pytest.approx(segment_overlap_by_sets(true, predicted))
    assert 0 <= actual <= 100 + 1e-9
    assert segment_overlap(true, true) == pytest.approx(100)
    assert segment_overlap(true[::-1], predicted[::-1]) == pytest.approx(actual)


# ---- two alphabets that agree ----------------------------------------------------------------------------------------


@hypothesis_settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([DSSP_MAPPING, "HHCEECCC", "HCCECCCC", "CEHHHEEC"]))
def test_both_alphabets_agree(seed: int, mapping: str):
    """Each 3-state probability is the sum over its states, and the state shown is the best of the class shown."""
    rng = np.random.default_rng(seed)
    ss3, logits = rng.dirichlet(np.full(3, 0.3), 20), rng.normal(0, 4, (20, 8))
    ss8 = joint_probabilities(ss3, logits, mapping)
    for i, letter in enumerate(STATES["ss3"]):
        members = [k for k, class_ in enumerate(mapping) if class_ == letter]
        np.testing.assert_allclose(ss8[:, members].sum(axis=1), ss3[:, i], atol=1e-12)
        relative = np.exp(logits[:, members]) / np.exp(logits[:, members]).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(ss8[:, members], ss3[:, [i]] * relative, atol=1e-12)
    classes, states = joint_states(ss3, ss8, mapping)
    for t in range(20):
        assert classes[t] == ss3[t].argmax()
        assert mapping[states[t]] == STATES["ss3"][classes[t]]
        assert ss8[t, states[t]] == max(
            p for p, class_ in zip(ss8[t], mapping, strict=True) if class_ == "HEC"[classes[t]]
        )


def test_extreme_logits_have_finite_probabilities():
    """A class that the 8-state output rules out still gets the 3-state probability."""
    logits = np.array([[-2000.0, -2001, -2000, 0, 0, 2000, 0, 0]])
    ss8 = joint_probabilities(np.array([[1.0, 0.0, 0.0]]), logits, DSSP_MAPPING)
    assert ss8[0, :3] == pytest.approx(np.array([0.42232, 0.15536, 0.42232]), abs=1e-5)
    assert ss8[0, 3:].tolist() == [0] * 5


def test_the_mapping_is_that_of_the_training_chains():
    """A π-helix may count as coil; the most frequent class counts; states that do not occur are mapped as in DSSP."""
    assert fit_mapping(["HHCC", "E"], ["HHIT", "E"], "the frame") == "HHCEECCC"
    assert fit_mapping(["HHC"], ["GGG"], "the frame") == DSSP_MAPPING
    with pytest.raises(DataError, match="no state of the 8-state column is mostly 'E' in the 3-state column"):
        fit_mapping(["CC"], ["EB"], "the frame")


# ---- baselines -------------------------------------------------------------------------------------------------------


def test_most_frequent_state_per_residue():
    predicted = most_frequent_states([np.array([1, 2, 2, 1])], [np.array([0, 1, 1, 1])], 4, 2)
    assert predicted.tolist() == [1, 0, 1, 1]  # of residue 1 both are as frequent: the first; 0 and 3 never occur


def test_logistic_regression_uses_neighboring_residues():
    """The state of a residue is determined by the residue three positions before it."""
    rng = np.random.default_rng(0)
    chains = [rng.integers(1, 4, 60) for _ in range(12)]
    states = [np.concatenate([[0] * 3, chain[:-3] - 1]) for chain in chains]
    predicted = windowed_logistic_regression(
        (chains[:10], states[:10]), chains[10:], letters=4, seed=0, progress=Progress()
    )
    assert np.mean(np.concatenate(predicted) == np.concatenate(states[10:])) > 0.97
    single_state = windowed_logistic_regression(
        (chains[:1], [np.full(60, 2)]), chains[:1], letters=4, seed=0, progress=Progress()
    )
    assert single_state[0].tolist() == [2] * 60


# ---- the job ---------------------------------------------------------------------------------------------------------

TINY: dict[str, Any] = {
    "hidden_size": 12, "embedding_size": 8, "conv_channels": 6, "kernel_sizes": (5,), "batch_size": 4, "lr": 0.02,
    "dropout": 0.0, "ema_decay": 0.9,
}  # fmt: skip


def shifted(n: int, seed: int) -> pd.DataFrame:
    """The state of a residue depends on the residue two positions after it, not on itself."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        chain = rng.choice([*"AGV"], int(rng.integers(6, 14)))
        after = [*chain[2:], "A", "A"]
        three = [{"A": "H", "G": "E", "V": "C"}[r] for r in after]
        eight = [{"H": "G", "E": "B", "C": "T"}[s] for s in three]
        rows.append({"id": f"c{i}", "sequence": "".join(chain), "ss3": "".join(three), "ss8": "".join(eight)})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def fitted() -> SecondaryStructurePredictor:
    return SecondaryStructurePredictor(epochs=6, num_layers=1, **TINY).fit(shifted(150, 0))


def test_the_model_uses_later_residues_for_both_tasks(fitted: SecondaryStructurePredictor):
    table = fitted.evaluate(shifted(40, 1)).table.set_index("model")
    assert list(table.columns) == ["Q3", "SOV3", "Q8", "SOV8"]
    assert (table.loc["LSTM"] > 95).all()
    assert table.loc["most frequent state per residue", "Q3"] < 60
    assert table.loc["most frequent state", "Q3"] <= table.loc["most frequent state per residue", "Q3"] + 5
    assert table.loc["logistic regression, 17 residues", "Q3"] > 90
    evaluation = fitted.evaluate(shifted(2, 1))
    assert "chains" in str(evaluation)
    assert "validation residues" in evaluation.notes[-1]
    assert evaluation.notes[-1].endswith("(8 states within each class).")


def test_only_residues_of_the_eval_mask_are_scored(fitted: SecondaryStructurePredictor):
    data = shifted(20, 2)
    predictions = fitted.predict(data)
    correct = [np.array([*f.states["ss3"]]) == np.array([*t]) for f, t in zip(predictions, data["ss3"], strict=True)]
    wrong_states = [f.states["ss3"].translate(str.maketrans("HEC", "ECH")) for f in predictions]
    labels = [bad[:3] + good[3:] for bad, good in zip(wrong_states, data["ss3"], strict=True)]
    masks = ["000" + "1" * (len(s) - 3) for s in data["sequence"]]
    score = fitted.evaluate(data.assign(ss3=labels, eval_mask=masks)).table["Q3"][0]
    assert score == pytest.approx(100 * np.concatenate([r[3:] for r in correct]).mean())
    assert fitted.evaluate(data.assign(ss3=labels)).table["Q3"][0] < score
    with pytest.raises(DataError, match="no residue to score: its eval_mask is 0 everywhere"):
        fitted.evaluate(data.assign(eval_mask=["0" * len(s) for s in data["sequence"]]))


def test_predictions_and_their_text(fitted: SecondaryStructurePredictor, tmp_path: Path):
    """Text is aligned, probabilities add up to 1, and residues of either case and rare residues are kept."""
    (tmp_path / "new.fasta").write_text(f">one long\n{'agvu' * 20}\n>two\nA\n")
    first, second = fitted.predict(tmp_path / "new.fasta")
    assert (first.id, first.sequence, second.sequence) == ("one", "AGVU" * 20, "A")
    for kind, letters in STATES.items():
        probabilities = first.probabilities[kind]
        assert probabilities.shape == (80, len(letters))
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(80))
        shown = np.array([letters.index(letter) for letter in first.states[kind]])
        assert first.confidence(kind).tolist() == probabilities[np.arange(80), shown].tolist()
    assert first.states["ss3"] == "".join("HEC"[i] for i in first.probabilities["ss3"].argmax(axis=1))
    lines = fitted.to_text([first, second]).splitlines()
    assert lines[0] == ">one"
    assert lines[1] == "residue    " + first.sequence[:60]
    assert lines[2] == "ss3        " + first.states["ss3"][:60]
    assert lines[5] == "residue    " + first.sequence[60:]
    assert lines[9:11] == ["", ">two"]
    record = fitted.to_records([second])[0]
    assert sum(record["p_ss3"][letter][0] for letter in "HEC") == pytest.approx(1, abs=1e-5)


def test_the_answers_of_a_model_never_contradict_each_other(fitted: SecondaryStructurePredictor, tmp_path: Path):
    """After fit, loaded, and as version 0.1 saved it, which had no mapping; also of a model that knows little."""
    sequences = ["".join(np.random.default_rng(i).choice([*AMINO_ACIDS], 60)) for i in range(5)]
    weak = SecondaryStructurePredictor(epochs=1, valid_fraction=0.0, **TINY).fit(shifted(20, 0))
    old_state = {name: value for name, value in weak.predictor.state().items() if name != "ss3_of_ss8"}
    old = type(weak.predictor).from_state(weak.predictor.settings, old_state)
    assert (weak.predictor.mapping, old.mapping) == ("HHHEECCC", "HHHEECCC")
    for job in (fitted, weak, load(weak.save(tmp_path))):
        assert isinstance(job, SecondaryStructurePredictor)
        for structure in job.predict(sequences):
            translated = structure.states["ss8"].translate(str.maketrans(STATES["ss8"], "HHHEECCC"))
            assert structure.states["ss3"] == translated
            np.testing.assert_allclose(
                structure.probabilities["ss8"] @ np.eye(3)[[0, 0, 0, 1, 1, 2, 2, 2]], structure.probabilities["ss3"]
            )
    with pytest.raises(ValueError, match="classes of the eight states are damaged"):
        type(weak.predictor).from_state(weak.predictor.settings, {**old_state, "ss3_of_ss8": "HHHHHCCC"})


def test_predictions_depend_little_on_windows_and_not_on_batches(fitted: SecondaryStructurePredictor, tmp_path: Path):
    long = "".join(np.random.default_rng(3).choice([*"AGV"], 300))
    whole = fitted.predict([long])[0].probabilities["ss3"]
    batched = fitted.predict([long, "AGV", long[:50]])[0].probabilities["ss3"]
    np.testing.assert_allclose(batched, whole, atol=1e-5)
    loaded = load(fitted.save(tmp_path))
    assert isinstance(loaded, SecondaryStructurePredictor)
    loaded.predictor.settings.max_residues = 120
    windowed = loaded.predict([long])[0]
    assert len(windowed.states["ss3"]) == 300
    assert np.mean(windowed.probabilities["ss3"].argmax(1) == whole.argmax(1)) > 0.8
    assert (
        "Chains of more than 120 residues are read in windows (1 chains)."
        in loaded.evaluate(pd.DataFrame({"sequence": [long], "ss3": ["H" * 300]})).notes
    )


def test_one_task_alone_and_a_loaded_model(tmp_path: Path):
    predictor = SecondaryStructurePredictor(epochs=2, **TINY).fit(shifted(30, 0).drop(columns="ss8"))
    loaded = load(predictor.save(tmp_path))
    table = loaded.evaluate(shifted(9, 1)).table
    assert list(table.columns) == ["model", "Q3", "SOV3"]
    assert table["model"].tolist() == ["LSTM", "most frequent state per residue", "most frequent state"]
    with pytest.raises(DataError, match="has no ss3, which this model predicts"):
        loaded.evaluate(shifted(9, 1).drop(columns="ss3"))
    with pytest.raises(DataError, match="has no secondary structure"):
        loaded.evaluate(["AGV"])


def test_profiles_add_information_to_residues(tmp_path: Path):
    rng = np.random.default_rng(0)

    def data(n: int) -> pd.DataFrame:
        states = rng.choice([*"HEC"], (n, 8))
        signal = {"H": -1.0, "E": 0.0, "C": 1.0}
        rows = [(f"c{i}", "A", s, signal[s] + 100, 7.0) for i in range(n) for s in states[i]]
        return pd.DataFrame(rows, columns=["id", "residue", "ss3", "p", "still"])

    predictor = SecondaryStructurePredictor(epochs=10, profile_cols=("p", "still"), **TINY).fit(data(80))
    test = data(10)
    assert predictor.evaluate(test).table["Q3"][0] > 95
    assert "The baselines read the letters alone." in predictor.evaluate(test).notes
    loaded = load(predictor.save(tmp_path))
    assert loaded.to_records(loaded.predict(test)) == predictor.to_records(predictor.predict(test))
    with pytest.raises(DataError, match="has no profile: this model also reads p, still"):
        loaded.predict(["AAA"])
    with pytest.raises(DataError, match="'p', row 1: nan is a missing value"):
        loaded.predict(test.assign(p=np.nan))
    with pytest.raises(DataError, match="has one chain per row: profile columns"):
        loaded.predict(shifted(3, 0))


@pytest.mark.parametrize(
    ("settings", "data", "error", "message"),
    [
        ({"kernel_sizes": (3, 4)}, shifted(9, 0), SettingError, "kernel_sizes must be odd"),
        ({}, shifted(2, 0), DataError, "has 2 chains, too few"),
        ({}, ["AGV"] * 9, DataError, "has no secondary structure"),
    ],
)
def test_invalid_settings_and_data_are_refused(
    settings: dict[str, Any], data: object, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        SecondaryStructurePredictor(epochs=1, hidden_size=4, **settings).fit(data)


def test_validation_data_need_the_same_columns():
    with pytest.raises(DataError, match="the frame has ss3, ss8, the frame does not have all of them"):
        SecondaryStructurePredictor(epochs=1).fit(shifted(9, 0), validation=shifted(9, 1).drop(columns="ss8"))


def test_example_sequences_are_chains(fitted: SecondaryStructurePredictor):
    first = fitted.example_sequences(shifted(3, 0), chain=2)[0]
    assert first.name == "chain c1"
    assert first.labels is not None
    assert "".join(first.labels) == shifted(3, 0)["sequence"][1]
    with pytest.raises(DataError, match="there is no chain 4: the frame has 1 to 3"):
        fitted.example_sequences(shifted(3, 0), chain=4)


def test_figures_of_any_chain():
    """One residue, strands across a line end, a chain too long to draw whole, and names with markup are drawn."""
    for n in (1, 61):
        figure = chain_figure("A" * n, {"ss3": "E" * n, "ss8": "B" * n}, np.full(n, 0.5), r"$\alpha$ <b>")
        figure.canvas.draw()  # type: ignore[attr-defined]
    long = chain_figure("A" * 700, {"ss8": "H" * 700}, np.ones(700), "long")
    assert long.legends[0].get_title().get_text() == "long, the first 600 of 700 residues"


def test_the_recipe_drops_similar_chains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train, test = shifted(60, 0), shifted(5, 9)
    train.loc[7, ["sequence", "ss3", "ss8"]] = test.loc[0, ["sequence", "ss3", "ss8"]]
    for name, frame in (("train.csv", train), ("test.csv", test)):
        frame.to_csv(tmp_path / name, index=False)
    monkeypatch.setattr("lstmkit.data.catalog.locate", lambda _, name: tmp_path / name)
    job = SecondaryStructurePredictor(epochs=1, test_fraction=0.0, **TINY)
    splits: list[ProteinChains] = []

    def fit(data: ProteinChains, validation: ProteinChains) -> None:
        splits.extend([data, validation])
        job.fit(data, validation=validation)

    options = {"train": "train.csv", "test": "test.csv", "shared": 6, "valid_every": 10}
    table = homology_reduced(job, fit, tmp_path, options, Progress())
    assert table["model"][0] == "LSTM"
    kept = sorted([*splits[0].ids, *splits[1].ids], key=lambda name: int(name[1:]))
    assert "c7" not in kept
    assert list(splits[1].ids) == kept[9::10]
    assert len(set(kept)) == len(kept) > 20


def test_named_columns_must_exist():
    frame = pd.DataFrame({"sequence": ["AAAA", "GGGG"] * 10, "ss3": ["HHHH", "CCCC"] * 10})
    for settings in ({"ss8_col": "nope"}, {"ss3_col": "nope"}, {"mask_col": "nope"}):
        with pytest.raises(DataError, match=r"'nope'|has no secondary structure"):
            SecondaryStructurePredictor(hidden_size=4, conv_channels=2, epochs=1, **settings).fit(frame)
