"""The music composer: reading MIDI and piano rolls, NADE likelihoods, sampling, baselines, written files."""

from __future__ import annotations

import itertools
import json
import math
import struct
import wave
from pathlib import Path

import mido
import numpy as np
import pretty_midi
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmkit import MusicComposer, load
from lstmkit.cli import main
from lstmkit.data import catalog
from lstmkit.data.batch import Batch, Loader
from lstmkit.data.music.keys import tonics
from lstmkit.data.music.midi import LOWEST_PITCH, N_KEYS, read_midi, roll_to_midi, synthesize
from lstmkit.data.music.piano_rolls import PianoRollDataset, PianoRolls, read_piano_rolls
from lstmkit.data.music.rolls import shift_right, skyline
from lstmkit.decoding.generation import sample_labels
from lstmkit.decoding.particles import particle_filter
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.jobs.music_composer import baselines
from lstmkit.jobs.music_composer.generation import negative_log_likelihoods
from lstmkit.jobs.music_composer.plots import key_frequency_figure, likelihood_figure, piano_roll_figure
from lstmkit.modules.heads import MultilabelHead, NADEHead

CADENCE = [[60, 64, 67], [60, 65, 69], [59, 62, 67], [60, 64, 67]]
CPU = torch.device("cpu")


def tiny(**options) -> MusicComposer:
    defaults = {
        "hidden_size": 8,
        "embedding_size": 6,
        "nade_hidden_size": 4,
        "epochs": 2,
        "batch_size": 4,
        "max_transposition": 1,
    }
    return MusicComposer(**{**defaults, **options})


def pieces(n: int = 10, steps: int = 8, seed: int = 0) -> list[list[list[int]]]:
    rng = np.random.default_rng(seed)
    return [[sorted(rng.choice(np.arange(55, 75), 3, replace=False).tolist()) for _ in range(steps)] for _ in range(n)]


@pytest.fixture(scope="module")
def fitted() -> MusicComposer:
    return tiny().fit(pieces())


def midi_file(path: Path, *tracks: list[mido.Message | mido.MetaMessage], **header) -> Path:
    file = mido.MidiFile(**{"ticks_per_beat": 96, **header})
    file.tracks += [mido.MidiTrack(track) for track in tracks]
    file.save(path)
    return path


def note(pitch: int, length: int, wait: int = 0, channel: int = 0) -> list[mido.Message]:
    """One note; lengths in ticks, 96 per quarter."""
    on = mido.Message("note_on", note=pitch, velocity=64, time=wait, channel=channel)
    return [on, mido.Message("note_off", note=pitch, time=length, channel=channel)]


def sounding(roll: np.ndarray) -> list[list[int]]:
    return [[LOWEST_PITCH + int(k) for k in np.flatnonzero(row)] for row in roll]


# ---- reading MIDI ----------------------------------------------------------------------------------------------------


def test_midi_files_are_read_on_a_grid(tmp_path: Path):
    """Steps are fractions of a quarter in the file's beat, at any tempo, without silence at the ends."""
    slow = [mido.MetaMessage("set_tempo", tempo=1_000_000, time=0)]
    fast = [mido.MetaMessage("set_tempo", tempo=250_000, time=96)]
    path = midi_file(tmp_path / "a.mid", slow + fast, note(60, 96, wait=192) + note(64, 48))
    read = read_midi(path, 0.5)
    assert sounding(read.roll) == [[60], [60], [64]]
    assert read.tempo == 60
    assert sounding(read_midi(path, 0.25).roll) == [[60]] * 4 + [[64]] * 2
    assert sounding(read_midi(path, 1.0).roll) == [[60], [64]]


def test_played_notes_fall_on_the_nearest_step(tmp_path: Path):
    """Small timing differences have no effect, and every note has at least one step."""
    path = midi_file(tmp_path / "a.mid", note(60, 90, wait=3) + note(62, 1, wait=5) + note(64, 0, wait=94))
    assert sounding(read_midi(path, 1.0).roll) == [[60], [62], [64]]


def test_tracks_are_merged_without_drums_and_other_keys(tmp_path: Path):
    tracks = [note(60, 96), note(64, 96, channel=3), note(38, 96, channel=9), note(12, 96), note(127, 96)]
    read = read_midi(midi_file(tmp_path / "a.mid", *tracks), 1.0)
    assert (sounding(read.roll), read.dropped, read.drums) == ([[60, 64]], 2, 1)
    rolls = read_piano_rolls(tmp_path)
    assert rolls.notes == ("2 notes outside the 88 keys were dropped.", "1 drum notes were dropped.")


def test_notes_without_note_off(tmp_path: Path):
    """A second note_on starts the note again; without note_off it ends with its track; velocity 0 is note_off."""
    on = mido.Message("note_on", note=60, velocity=9, time=0)
    second_on = mido.Message("note_on", note=60, velocity=9, time=96)
    off = mido.Message("note_on", note=60, velocity=0, time=96)
    assert sounding(read_midi(midi_file(tmp_path / "a.mid", [on, second_on, off]), 1.0).roll) == [[60], [60]]
    end = mido.MetaMessage("end_of_track", time=288)
    assert sounding(read_midi(midi_file(tmp_path / "b.mid", [on, end]), 1.0).roll) == [[60]] * 3


def test_a_thousand_tracks_and_all_keys_at_once(tmp_path: Path):
    tracks = [note(LOWEST_PITCH + i % N_KEYS, 96) for i in range(1000)]
    assert read_midi(midi_file(tmp_path / "a.mid", *tracks), 1.0).roll.tolist() == [[1] * N_KEYS]


def test_written_files_read_back_the_same(tmp_path: Path):
    """The roll reads back at any step and tempo; a key in consecutive steps is one note."""
    rng = np.random.default_rng(0)
    for step, tempo in itertools.product((0.25, 0.5, 1.0), (37.0, 100.0, 240.0)):
        roll = (rng.random((50, N_KEYS)) < 0.1).astype(np.uint8)
        roll[[0, -1], 39] = 1
        roll_to_midi(roll, step, tempo).write(str(tmp_path / "a.mid"))
        read = read_midi(tmp_path / "a.mid", step)
        assert np.array_equal(read.roll, roll)
        assert read.tempo == pytest.approx(tempo, rel=1e-4)
    sustained = np.zeros((4, N_KEYS), dtype=np.uint8)
    sustained[:3, 39] = 1
    (merged_note,) = roll_to_midi(sustained, 1.0, 60.0).instruments[0].notes
    assert (merged_note.pitch, merged_note.start, merged_note.end) == (60, 0.0, 3.0)


def test_pretty_midi_reads_the_same_notes(tmp_path: Path):
    """pretty_midi's piano roll, sampled in the middle of each step, is the same."""
    roll = read_piano_rolls(pieces(1)).pieces[0].roll
    roll_to_midi(roll, 1.0, 60.0).write(str(tmp_path / "a.mid"))
    pretty_midi_roll = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).get_piano_roll(fs=2)[
        LOWEST_PITCH : LOWEST_PITCH + N_KEYS, 1::2
    ]
    assert np.array_equal(pretty_midi_roll.T[: len(roll)] > 0, roll > 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a MIDI file"),
        (b"RIFFxxxxWAVE" * 9, "is not a MIDI file"),
        (b"MThd", "is truncated"),
        (b"MThd" + struct.pack(">Lhhh", 6, 1, 1, 96), "is truncated"),
        (b"MThd" + struct.pack(">Lhhh", 6, 1, 1, 96) + b"MTrk" + struct.pack(">L", 99) + b"\x00\x90", "is truncated"),
        (b"MThd" + struct.pack(">Lhhh", 6, 1, 0, 96), "has no note on the 88 keys of a piano"),
        (b"MThd" + struct.pack(">Lhhh", 6, 1, 0, -6360), "has SMPTE time instead of beats"),
        (b"MThd" + struct.pack(">Lhhh", 6, 2, 0, 96), "several pieces in one file"),
        (np.random.default_rng(0).bytes(500), "is not a MIDI file"),
    ],
)
def test_files_that_are_not_midi(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "a.mid").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_piano_rolls(tmp_path / "a.mid")
    assert "a.mid" in str(caught.value)


def test_a_truncated_or_changed_file_is_read_or_refused(tmp_path: Path):
    """The result is a roll or a one-line DataError."""
    path = midi_file(tmp_path / "a.mid", note(60, 96) + note(64, 96))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [content[:n] for n in range(len(content))]
    for _ in range(300):
        changed = bytearray(content)
        changed[rng.integers(len(content))] = rng.integers(256)
        damaged.append(bytes(changed))
    messages = set()
    for damaged_content in damaged:
        path.write_bytes(damaged_content)
        try:
            assert read_piano_rolls(path).pieces[0].roll.any()
        except DataError as err:
            messages.add(str(err))
    assert len(messages) > 3
    assert not any("\n" in line for line in messages)


def test_files_without_piano_notes_or_too_long(tmp_path: Path):
    drums = midi_file(tmp_path / "a.mid", note(38, 96, channel=9) + note(5, 96))
    with pytest.raises(DataError, match=r"no note .* \(1 notes are outside of them, 1 are drums\)"):
        read_piano_rolls(drums)
    hours = midi_file(tmp_path / "b.mid", note(60, 96) + note(60, 96, wait=2**27))
    with pytest.raises(DataError, match=r"b\.mid has [\d,]+ steps, the maximum is 100,000: split it, or increase"):
        read_piano_rolls(hours)


def test_one_note_is_a_piece(tmp_path: Path, fitted: MusicComposer):
    path = midi_file(tmp_path / "a.mid", note(108, 1))
    assert sounding(read_piano_rolls(path).pieces[0].roll) == [[108]]
    assert len(fitted.compose(path, length=2).chords) == 3


# ---- other data ------------------------------------------------------------------------------------------------------


def packed(path: Path, **parts: list[np.ndarray]) -> Path:
    arrays = {}
    for part, rolls in parts.items():
        arrays[f"{part}_rolls"] = np.packbits(np.concatenate(rolls), axis=1)
        arrays[f"{part}_offsets"] = np.cumsum([0, *map(len, rolls)]).astype(np.int32)
    np.savez(path, **arrays)
    return path


def test_files_with_predefined_splits(tmp_path: Path):
    """Rolls packed into bits and chords in JSON keep their splits, and evaluate takes the test split alone."""
    unsplit = read_piano_rolls(pieces(6))
    rolls = [piece.roll for piece in unsplit.pieces]
    path = packed(tmp_path / "a.npz", train=rolls[:3], valid=rolls[3:5], test=rolls[5:])
    chords = {"train": pieces(6)[:3], "valid": pieces(6)[3:5], "test": pieces(6)[5:]}
    (tmp_path / "a.json").write_text(json.dumps(chords))
    for read in (read_piano_rolls(path), read_piano_rolls(tmp_path / "a.json")):
        assert read.splits == ("train",) * 3 + ("valid",) * 2 + ("test",)
        assert all(np.array_equal(piece.roll, roll) for piece, roll in zip(read.pieces, rolls, strict=True))
    job = tiny().fit(path)
    parts = job.split(job.read(path), None)
    assert [len(part) for part in (parts.train, parts.valid, parts.test)] == [3, 2, 1]
    evaluation = job.evaluate(path)
    assert evaluation.details["piece"].unique().tolist() == ["test 1"]
    assert evaluation.table.equals(job.evaluate(pieces(6)[5:]).table)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the list is empty"),
        ("nowhere.mid", "no such file"),
        (["nowhere.mid"], "no such file"),
        (3, "give a path, or a list"),
        ([[]], "piece 1 has no note"),
        ([[[60]], [[], []]], "piece 2 has no note"),
        ([[[60], [20]]], "piece 1, step 2: 20 is not a piano key: give MIDI numbers 21…108"),
        ([[[60.5]]], r"60\.5 is not a piano key"),
        ([[["C4"]]], "'C4' is not a piano key"),
        ([[60, 64]], "piece 1 must be an array"),
        ([np.zeros((4, 87))], "piece 1 has dtype"),
        ([np.full((4, 88), 2)], "piece 1 has dtype int64 and shape"),
        ([np.full((4, 88), np.nan)], "give 0 and 1 of shape"),
        ([np.ones((100_001, 88), dtype=np.uint8)], "the maximum is 100,000"),
    ],
)
def test_bad_data_are_refused(data, message: str):
    with pytest.raises(DataError, match=message):
        read_piano_rolls(data)


def test_bad_files_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="has no MIDI files"):
        read_piano_rolls(tmp_path)
    for name, content, message in (
        ("a.npz", b"PK\x03\x04 nothing", "is not a readable .npz of piano rolls"),
        ("b.json", b'{"train": [[[60]', "is not readable JSON"),
        ("c.json", b"[[60]]", "must be an object with lists of pieces"),
        ("d.json", b"{}", "has no piece in train, valid, test"),
        ("e.json", b'{"train": [[[]]]}', "train 1 has no note"),
        ("f.json", b'{"test": [[[60]]]}', "has no training pieces"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            tiny().fit(tmp_path / name)
    np.savez(tmp_path / "g.npz", train_rolls=np.zeros((3, 11), dtype=np.uint8))
    with pytest.raises(DataError, match=r"is not a readable .npz of piano rolls"):
        read_piano_rolls(tmp_path / "g.npz")
    np.savez(tmp_path / "h.npz", np.array([object()]))
    with pytest.raises(DataError, match=r"is not a readable .npz of piano rolls|has no piece"):
        read_piano_rolls(tmp_path / "h.npz")


def test_too_few_pieces_for_a_split():
    with pytest.raises(DataError, match="1 piece, too few for a training, a validation and a test split"):
        tiny().fit(pieces(1))


# ---- windows ---------------------------------------------------------------------------------------------------------


def test_excerpts_cover_the_piece():
    """Concatenated targets are the piece; inputs are the piece shifted by one step, silence first."""
    read = read_piano_rolls(pieces(2, steps=7))
    source = PianoRollDataset(read, window=3)
    assert source.lengths.tolist() == [3, 3, 1] * 2
    batch = source.batch(np.arange(3))
    assert batch.targets is not None
    targets = [rows[:n].numpy() for rows, n in zip(batch.targets, source.lengths[:3], strict=True)]
    inputs = [rows[:n].numpy() for rows, n in zip(batch.inputs, source.lengths[:3], strict=True)]
    assert np.array_equal(np.concatenate(targets), read.pieces[0].roll)
    assert np.array_equal(np.concatenate(inputs), shift_right(read.pieces[0].roll))


def test_transposition_keeps_all_keys_on_the_piano():
    read = read_piano_rolls([[[21, 30]], [[60], [108]], [[50]]])
    source = PianoRollDataset(read, max_transposition=2)
    moved = [sounding(source.batch(np.array([i])).targets[0].numpy()) for i in range(len(source))]
    assert moved[:3] == [[[21, 30]], [[22, 31]], [[23, 32]]]
    assert moved[3:6] == [[[58], [106]], [[59], [107]], [[60], [108]]]
    assert moved[6:] == [[[48]], [[49]], [[50]], [[51]], [[52]]]


# ---- NADE ------------------------------------------------------------------------------------------


def head_and_outputs(labels: int = 5, steps: int = 3) -> tuple[NADEHead, torch.Tensor]:
    torch.manual_seed(0)
    head = NADEHead(4, labels, 3).double()
    torch.nn.init.normal_(head.label_embedding.weight[1:])
    return head, head(torch.randn(1, steps, 4, dtype=torch.float64))


def key_by_key_nll(head: NADEHead, outputs: torch.Tensor, keys: tuple[int, ...]) -> float:
    """The equations of the docstring, key by key, for one step's outputs."""
    bias, activation = outputs[: head.labels], outputs[head.labels :].clone()
    nats = 0.0
    for k in reversed(range(head.labels)):
        p = torch.sigmoid(bias[k] + head.output_layer.weight[k] @ torch.sigmoid(activation)).item()
        nats -= math.log(p if keys[k] else 1 - p)
        if keys[k]:
            activation = activation + head.label_embedding.weight[k + 1]
    return nats


def test_the_likelihood_equals_the_equations_and_sums_to_one():
    """The likelihood of every chord of five keys equals a computation by hand."""
    head, outputs = head_and_outputs()
    chords = list(itertools.product((0, 1), repeat=5))
    for t in range(3):
        total = 0.0
        for keys in chords:
            target = torch.tensor(keys, dtype=torch.float64).view(1, 1, 5)
            nats = head.loss(outputs[:, t : t + 1], Batch(target, targets=target)).item()
            assert nats == pytest.approx(key_by_key_nll(head, outputs[0, t], keys))
            total += math.exp(-nats)
        assert total == pytest.approx(1)


def test_logits_of_the_keys_below_are_the_same():
    head, outputs = head_and_outputs()
    for keys in itertools.product((0, 1), repeat=5):
        labels = torch.tensor(keys, dtype=torch.float64).expand(1, 3, 5)
        lowest = next((k for k in range(5) if keys[k]), 5)
        both = head.logits(outputs, labels), head.below(outputs, labels)
        torch.testing.assert_close(*(logits[..., :lowest] for logits in both))


def test_chunked_logits_and_padding(monkeypatch: pytest.MonkeyPatch):
    """Logits do not depend on the chunk size; padding does not change the loss."""
    head, outputs = head_and_outputs(steps=6)
    labels = (torch.rand(1, 6, 5, dtype=torch.float64) < 0.5).double()
    whole = head.logits(outputs, labels)
    monkeypatch.setattr("lstmkit.modules.heads._MAX_ROWS", 2)
    torch.testing.assert_close(head.logits(outputs, labels), whole)
    for loss_head in (head, MultilabelHead(4, 5).double()):
        head_outputs = outputs if loss_head is head else outputs[..., :5]
        short = loss_head.loss(head_outputs[:, :4], Batch(labels, targets=labels[:, :4]))
        padded = loss_head.loss(head_outputs, Batch(labels, torch.tensor([4]), labels))
        torch.testing.assert_close(short, padded)


def test_gradients_of_the_head():
    head, outputs = head_and_outputs(steps=2)
    labels = torch.tensor([[[0, 1, 0, 1, 1], [0, 0, 0, 0, 0.0]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda o: head.logits(o, labels), outputs.detach().requires_grad_(True))
    head.logits(outputs, labels).sum().backward()
    assert (head.label_embedding.weight.grad[0] == 0).all()


def test_samples_follow_the_likelihood():
    """Of 20,000 samples each chord is as frequent as its likelihood, within five standard deviations."""
    head, outputs = head_and_outputs(labels=3, steps=1)
    n = 20_000
    rows = outputs[0].expand(n, -1)
    noise = torch.rand(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        samples = sample_labels(lambda labels: head.below(rows, labels), noise)
    for keys in itertools.product((0, 1), repeat=3):
        p = math.exp(-key_by_key_nll(head, outputs[0, 0], keys))
        frequency = (samples == torch.tensor(keys)).all(1).double().mean().item()
        assert abs(frequency - p) < 5 * math.sqrt(p * (1 - p) / n)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_sampling_equals_sampling_key_by_key(seed: int, nade: bool):
    """At temperature 1 the same noise gives the same keys as one key after the other; known keys are kept."""
    torch.manual_seed(seed)
    head, noise = NADEHead(4, 6, 3) if nade else MultilabelHead(4, 6), torch.rand(1, 6)
    outputs = head(torch.randn(1, 4))
    known = torch.where(torch.rand(1, 6) < 0.3, torch.randint(2, (1, 6)).float(), torch.nan)
    with torch.no_grad():
        sampled = sample_labels(lambda labels: head.below(outputs, labels), noise, 1.0, known)
        expected_keys = torch.zeros(1, 6)
        for k in reversed(range(6)):
            probability = head.logits(outputs, expected_keys)[0, k].sigmoid()
            probability = probability if known[0, k].isnan() else known[0, k]
            expected_keys[0, k] = float(noise[0, k] < probability)
    assert torch.equal(sampled, expected_keys)


def tempered_probability(logits: list[float], keys: tuple[int, ...], temperature: float) -> float:
    """The probability of a chord of independent keys by the definition: another key or none, then which one."""
    p = [1 / (1 + math.exp(-logit)) for logit in logits]
    result, limit = 1.0, len(p)
    while True:
        next_key = {k: p[k] * math.prod(1 - q for q in p[k + 1 : limit]) for k in range(limit)}
        none = math.prod(1 - q for q in p[:limit])
        another = (1 - none) ** (1 / temperature)
        another /= another + none ** (1 / temperature)
        sounding_below = [k for k in range(limit) if keys[k]]
        if not sounding_below:
            return result * (1 - another)
        shares = {k: share ** (1 / temperature) for k, share in next_key.items()}
        limit = max(sounding_below)
        result *= another * shares[limit] / sum(shares.values())


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_acts_on_another_key_and_on_which(temperature: float):
    """Of 20,000 samples each chord is as frequent as the definition says, within five standard deviations."""
    n, logits = 20_000, [0.5, -1.0, -0.3]
    noise = torch.rand(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    samples = sample_labels(lambda labels: torch.tensor([logits]).expand(n, -1), noise, temperature)
    chords = list(itertools.product((0, 1), repeat=3))
    expected = [tempered_probability(logits, keys, temperature) for keys in chords]
    assert sum(expected) == pytest.approx(1)
    for keys, p in zip(chords, expected, strict=True):
        frequency = (samples == torch.tensor(keys)).all(1).double().mean().item()
        assert abs(frequency - p) < 5 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("temperature", [0.0, 1e-9, 0.3])
def test_keys_that_are_improbable_one_by_one_still_sound(temperature: float):
    """Of 40 keys with probability 0.1 one sounds with probability 0.99: a low temperature must not give silence."""
    noise = torch.rand(50, 40, generator=torch.Generator().manual_seed(0))
    samples = sample_labels(lambda labels: torch.full((50, 40), math.log(1 / 9)), noise, temperature)
    assert (samples.sum(1) > 0).all()


def test_a_particle_filter_samples_given_all_observations():
    """A hidden Markov chain: the frequency of the first state is its exact probability given the later observations."""
    stay, hit, observations = 0.9, 0.8, [None, None, 1, 1]  # unknown at first: later observations decide
    weights = {}
    for states in itertools.product((0, 1), repeat=4):
        p = 0.5 * math.prod(stay if a == b else 1 - stay for a, b in itertools.pairwise(states))
        weights[states] = p * math.prod(
            1 if seen is None else hit if seen == state else 1 - hit
            for state, seen in zip(states, observations, strict=True)
        )
    exact = sum(w for states, w in weights.items() if states[0] == 1) / sum(weights.values())

    def sampled_first(seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)

        def step(values: torch.Tensor, t: int, state: None) -> tuple[torch.Tensor, torch.Tensor, None]:
            noise = torch.rand(len(values), generator=generator)
            moved = (noise < 0.5).float() if t == 0 else torch.where(noise < stay, values, 1 - values)
            seen = observations[t]
            p = torch.ones(len(values)) if seen is None else torch.where(moved == seen, hit, 1 - hit)
            return moved, p.log(), None

        path = particle_filter(step, torch.zeros(64), None, 4, select=lambda state, rows: state, generator=generator)
        assert len(path.rows) == len(path.values) == 4
        return float(path.values[0])

    frequency = np.mean([sampled_first(seed) for seed in range(1500)])
    assert abs(frequency - exact) < 4 * math.sqrt(exact * (1 - exact) / 1500) + 0.01
    assert abs(exact - 0.5) > 0.1  # without the later observations it would be one half


# ---- keys of pieces --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(-20, 20), st.integers(0, 100))
def test_a_transposed_piece_has_a_transposed_tonic(shift: int, seed: int):
    rng = np.random.default_rng(seed)
    roll = np.zeros((30, N_KEYS), dtype=np.uint8)
    roll[np.arange(30), rng.integers(20, 60, 30)] = 1
    before, after = tonics([roll, np.roll(roll, shift, axis=1)])
    assert after == (before + shift) % 12


def test_pieces_are_transposed_if_they_are_in_several_keys():
    """The default moves pieces in several keys and leaves pieces in one; an epoch is as long with as without."""
    one_key, several_keys = (
        [[[note + k * i for note in chord] for chord in CADENCE * 2] for i in range(12)] for k in (0, 1)
    )
    for data, expected in ((one_key, 0), (several_keys, 5)):
        lengths = []
        for max_transposition in (-1, 0, 3):
            job = tiny(max_transposition=max_transposition, valid_fraction=0.0, test_fraction=0.0, batch_size=5)
            read = job.read(data)
            job._predictor = job.prepare(read)
            used = expected if max_transposition < 0 else max_transposition
            assert job.predictor.max_transposition == used
            loader = job.batches(read, 0)
            assert len(loader.source) == 12 * (1 + 2 * used)
            lengths.append(len(loader))
        assert lengths == [3, 3, 3]


# ---- baselines -------------------------------------------------------------------------------------------------------


def test_the_baselines_by_hand():
    """Two keys: counts after off and after on, each smoothed toward all keys with the weight of one step."""
    counts = baselines.key_transition_counts([np.array([[1, 0], [1, 0], [0, 1]]), np.array([[1, 1]])])
    assert counts[:, 1].tolist() == [[2, 2], [1, 0]]  # start, continue
    assert counts[:, 0].tolist() == [[0, 2], [1, 0]]  # stay off, end
    smoothing_off, smoothing_on = (4 + 1) / (6 + 2), (1 + 1) / (2 + 2)
    p_start = [(2 + smoothing_off) / 3, (2 + smoothing_off) / 5]
    p_continue = (1 + smoothing_on) / 3
    roll = np.array([[1, 0], [1, 0]])
    expected = [-math.log(p_start[0] * (1 - p_start[1])), -math.log(p_continue * (1 - p_start[1]))]
    assert baselines.markov_nll(counts, roll).tolist() == pytest.approx(expected)
    smoothing = (5 + 1) / (8 + 2)
    probabilities = [(3 + smoothing) / 5, (2 + smoothing) / 5]
    assert baselines.frequency_nll(counts, roll).tolist() == pytest.approx(
        [-math.log(probabilities[0] * (1 - probabilities[1]))] * 2
    )


def test_a_key_without_training_data_has_a_finite_likelihood():
    counts = baselines.key_transition_counts([read_piano_rolls(pieces(1)).pieces[0].roll])
    everything = np.ones((2, N_KEYS), dtype=np.uint8)
    for baseline in (baselines.frequency_nll, baselines.markov_nll):
        assert np.isfinite(baseline(counts, everything)).all()


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_scores_are_the_mean_over_all_steps():
    """The score is the mean NLL of the model on each piece alone; the first step follows silence."""
    data = [piece[: 3 + i] for i, piece in enumerate(pieces(5))]
    for distribution in ("nade", "independent"):
        job = tiny(distribution=distribution, max_steps=2).fit(pieces())
        evaluation = job.evaluate(data)
        nats = []
        for piece in read_piano_rolls(data).pieces:
            roll = torch.from_numpy(piece.roll).float().unsqueeze(0)
            outputs, _ = job.network(torch.from_numpy(shift_right(piece.roll)).float().unsqueeze(0))
            p = job.network.head.logits(outputs, roll).sigmoid()
            nats.append(-torch.where(roll == 1, p, 1 - p).log().sum(-1)[0].detach().numpy())
        model_row = evaluation.table.iloc[0]
        assert model_row["NLL per step"] == pytest.approx(np.concatenate(nats).mean(), rel=1e-5)
        assert model_row["NLL without first step"] == pytest.approx(
            np.concatenate([n[1:] for n in nats]).mean(), rel=1e-5
        )


def test_an_ensemble_averages_logits():
    job = tiny(ensemble_size=2).fit(pieces())
    read = read_piano_rolls(pieces(1))
    roll = torch.from_numpy(read.pieces[0].roll).float().unsqueeze(0)
    before = torch.from_numpy(shift_right(read.pieces[0].roll)).float().unsqueeze(0)
    logits = torch.stack([m.head.logits(m(before)[0], roll) for m in job.model.members]).mean(0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, roll, reduction="none").sum(-1)
    assert negative_log_likelihoods(job.model, read, CPU)[0].tolist() == pytest.approx(expected[0].tolist(), rel=1e-5)


@pytest.fixture(scope="module", params=["nade", "independent"])
def two_chord_model(request: pytest.FixtureRequest) -> tuple[MusicComposer, list[list[list[int]]]]:
    """A model fitted to one of two chords at random at each step; the chords share no key."""
    rng = np.random.default_rng(0)
    data = [[[[60, 64, 67], [59, 62, 66]][int(rng.integers(2))] for _ in range(10)] for _ in range(40)]
    job = MusicComposer(
        distribution=request.param, hidden_size=8, embedding_size=8, nade_hidden_size=8, epochs=15, steps_per_epoch=0,
        lr=0.03, batch_size=4, ema_decay=0.0, max_transposition=0, dropout=0.0, valid_fraction=0.0, test_fraction=0.0,
    )  # fmt: skip
    return job.fit(data), data


def test_nade_learns_chords_that_independent_keys_cannot(two_chord_model: tuple[MusicComposer, list[list[list[int]]]]):
    """One bit per step with NADE, one bit for each of the six keys if they are independent."""
    job, data = two_chord_model
    score = job.evaluate(data).table["NLL per step"][0]
    assert score == pytest.approx(math.log(2) * (1 if job.distribution == "nade" else 6), abs=0.25)


def test_harmonization_is_conditioned_on_the_melody(
    two_chord_model: tuple[MusicComposer, list[list[list[int]]]],
):
    """With NADE the top note of a chord determines the others."""
    job, _ = two_chord_model
    compositions = [job.compose(melody=[[67], [66], [66], [67]], seed=seed).chords for seed in range(15)]
    num_true_chords = sum(chord in ([60, 64, 67], [59, 62, 66]) for chords in compositions for chord in chords)
    assert (num_true_chords > 40) == (job.distribution == "nade")


# ---- composition -----------------------------------------------------------------------------------------------------


def test_a_prompt_is_kept_and_continued(fitted: MusicComposer):
    composition = fitted.compose(CADENCE, length=5, seed=3)
    assert composition.chords[:4] == CADENCE
    assert len(composition.chords) == 9
    assert composition.is_given[:4].all()
    assert not composition.is_given[4:].any()
    assert composition.chords == fitted.compose(CADENCE, length=5, seed=3).chords
    assert composition.chords != fitted.compose(CADENCE, length=5, seed=4).chords
    (short_prompt,) = fitted.predict([CADENCE], prompt_steps=2, length=5)
    assert short_prompt.chords[:2] == CADENCE[:2]
    assert len(short_prompt.chords) == 7
    (no_prompt,) = fitted.predict([CADENCE], prompt_steps=0, length=5)
    assert no_prompt.chords == fitted.compose(length=5).chords


def test_nll_per_step_equals_that_of_the_whole_piece(fitted: MusicComposer):
    """Step by step with a state, and in one pass, the NLL is the same."""
    composition = fitted.compose(CADENCE, length=6)
    expected = negative_log_likelihoods(fitted.model, read_piano_rolls([composition.roll]), CPU)[0]
    assert list(composition.nll_per_step) == pytest.approx(expected[4:].tolist(), rel=1e-4)


def test_a_composition_does_not_depend_on_other_pieces(fitted: MusicComposer):
    """Each piece has its own state and noise."""
    both = fitted.predict([CADENCE, CADENCE[:2]], length=4)
    assert both[0].chords == fitted.predict([CADENCE], length=4)[0].chords
    assert both[0].chords[4:] != fitted.predict([CADENCE[:2], CADENCE], length=4)[1].chords[4:]


def test_harmonization_does_not_collapse_to_the_melody(fitted: MusicComposer):
    """A model that is unsure of every single key still accompanies the melody, at any temperature."""
    melody = [[72], [74], [71], [72]] * 2
    for temperature in (0.0, 0.5, 1.0):
        composed = [fitted.compose(melody=melody, temperature=temperature, seed=seed).chords for seed in range(8)]
        bare_steps = np.mean([len(chord) == 1 for chords in composed for chord in chords])
        assert bare_steps < 0.15
    assert composed[0] == fitted.compose(melody=melody, seed=0).chords
    assert composed[0] != composed[1]


@pytest.mark.parametrize("ensemble_size", [1, 2])
def test_nll_of_a_harmonization_is_that_of_the_whole_piece(ensemble_size: int):
    """The kept particle's own steps and states are looked up, also after resampling."""
    job = tiny(ensemble_size=ensemble_size, num_layers=2).fit(pieces())
    composition = job.compose(melody=[[72], [], [60], [74]] * 3, seed=1)
    expected = negative_log_likelihoods(job.model, read_piano_rolls([composition.roll]), CPU)[0]
    assert list(composition.nll_per_step) == pytest.approx(expected.tolist(), rel=1e-4)


def test_the_report_shows_a_typical_composition(fitted: MusicComposer):
    """The examples are the median of several samples, and the report says so."""
    sections = {section.title: section.text for section in fitted.report_sections(fitted.read(pieces(2)))}
    assert "The first 16 steps of piece 1 are the prompt." in sections["Continuation"]
    assert "Of 9 samples at temperature 1, this is the one with the median likelihood" in sections["Harmonization"]
    melody = read_piano_rolls(pieces(2)).subset([0])
    nll = sorted(np.mean(fitted.predict(melody, condition="melody", seed=i)[0].nll_per_step) for i in range(9))
    assert f"likelihood: {nll[4]:.2f} nats per step" in sections["Harmonization"]
    assert "transposed by up to 1 semitones" in sections["The data"]


@pytest.mark.parametrize("distribution", ["nade", "independent"])
def test_a_melody_stays_on_top(distribution: str):
    """The melody's keys are kept and those above are silent; a rest gives no key."""
    job = tiny(distribution=distribution).fit(pieces())
    melody = [[72], [71], [], [50, 67]]
    composition = job.compose(melody=melody, temperature=3.0)
    assert len(composition.chords) == 4
    assert [max(composition.chords[t]) for t in (0, 1, 3)] == [72, 71, 67]
    assert composition.is_given.sum(axis=1).tolist() == [108 - 71, 108 - 70, 0, 108 - 66]
    assert sum(map(len, composition.chords)) > 4


def test_the_highest_key_of_each_step():
    roll = read_piano_rolls([[[60, 64], [], [50]]]).pieces[0].roll
    assert sounding(skyline(roll)) == [[64], [], [50]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length must be 1 to 100,000"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"temperature": float("nan")}, "temperature must be at least 0"),
        ({"tempo": 1.0}, "tempo 5 to 1000"),
        ({"prompt_steps": -2}, "prompt_steps at least 0"),
        ({"seed": -1}, "seed within"),
        ({"condition": "bass"}, "condition must be one of start, melody"),
    ],
)
def test_options_out_of_range(fitted: MusicComposer, options: dict, message: str):
    with pytest.raises(SettingError, match=message):
        fitted.predict([CADENCE], **options)


def test_very_high_and_very_low_temperatures(fitted: MusicComposer):
    """Near 0 the result is that of 0; at a very high temperature another key is as likely as none."""
    assert fitted.compose(length=4, temperature=1e-9).chords == fitted.compose(length=4, temperature=0).chords
    assert 0.3 < np.mean([len(chord) for chord in fitted.compose(length=100, temperature=1e9).chords]) < 2


# ---- files -----------------------------------------------------------------------------------------------------------


def test_compositions_are_written_as_midi_audio_and_text(fitted: MusicComposer, tmp_path: Path):
    composition = fitted.compose(CADENCE, length=4, tempo=120.0)
    composition.write(tmp_path / "a.MID")
    read = read_midi(tmp_path / "a.MID", fitted.quarters_per_step)
    assert sounding(read.roll)[:4] == CADENCE
    assert read.tempo == pytest.approx(120)
    with pytest.raises(
        UserError, match=r"a.mp3: this audio format cannot be written: give a file name that ends in .wav"
    ):
        composition.write(tmp_path / "a.mp3")
    with pytest.raises(UserError, match="there is no folder"):
        composition.write(tmp_path / "none/a.mid")
    composition.write(tmp_path / "a.wav")
    with wave.open(str(tmp_path / "a.wav")) as file:
        seconds = file.getnframes() / file.getframerate()
    assert seconds == pytest.approx(len(read.roll) * 0.25 + 1, abs=0.01)  # a second of decay
    composition.write(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text().splitlines()[0] == "C4 E4 G4"


def test_silence_becomes_midi_and_sound():
    silent = roll_to_midi(np.zeros((4, N_KEYS), dtype=np.uint8), 1.0, 60.0)
    assert silent.instruments[0].notes == []
    assert np.abs(synthesize(silent)).max(initial=0.0) == 0


def test_command_line(fitted: MusicComposer, tmp_path: Path, capsys, monkeypatch):
    """One piece becomes one file, several become several; a melody is harmonized; JSON on request."""
    monkeypatch.chdir(tmp_path)
    fitted.save("run")
    Path("in").mkdir()
    for name in ("a", "ü b"):
        roll_to_midi(read_piano_rolls([CADENCE]).pieces[0].roll, 0.5, 90.0).write(f"in/{name}.mid")

    def run(*words: str) -> None:
        monkeypatch.setattr("sys.argv", ["lstmkit", "predict", "run", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0, capsys.readouterr().err

    run("in/a.mid", "-o", "out.mid", "--length", "3", "--temperature", "0.9", "--tempo", "70", "--picture", "p.png")
    read = read_midi(Path("out.mid"), 0.5)
    assert sounding(read.roll)[:4] == CADENCE
    assert read.tempo == pytest.approx(70, rel=1e-4)
    assert Path("p.png").stat().st_size > 1000
    run("in", "-o", "many.mid", "--condition", "melody")
    assert sorted(path.name for path in Path().glob("many*")) == ["many-1.mid", "many-2.mid"]
    run("in/a.mid", "--length", "2", "-o", "a.json", "--json")
    (record,) = json.loads(Path("a.json").read_text())
    assert record["chords"][:4] == CADENCE
    assert (record["tempo"], record["composed"]) == (pytest.approx(90, rel=1e-4), 2)
    capsys.readouterr()
    run("in/a.mid", "--length", "2")
    assert capsys.readouterr().out.splitlines()[:1] == ["C4 E4 G4"]


def test_a_loaded_model_composes_and_scores_the_same(fitted: MusicComposer, tmp_path: Path):
    """A loaded model composes and scores the same, with its baselines; invalid counts are refused."""
    loaded = load(fitted.save(tmp_path / "run"))
    assert isinstance(loaded, MusicComposer)
    assert loaded.compose(CADENCE).chords == fitted.compose(CADENCE).chords
    assert loaded.evaluate(pieces(2)).table.equals(fitted.evaluate(pieces(2)).table)
    with pytest.raises(ValueError, match="88 keys"):
        type(loaded.predictor).from_state(loaded.predictor.settings, {"counts": "1 2 3"})


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = midi_file(tmp_path / "a.mid", note(60, 96))
    monkeypatch.setitem(__import__("sys").modules, "mido", None)
    with pytest.raises(UserError, match=r"needs mido: pip install 'lstmkit\[music\]'"):
        read_piano_rolls(path)


# ---- figures ---------------------------------------------------------------------------------------------------------


def test_figures_of_unusual_rolls():
    """Silence, one key at either end, all keys, and rolls longer than the figure are drawn."""
    roll = np.zeros((300, N_KEYS), dtype=np.uint8)
    no_steps = np.zeros(roll.shape, dtype=bool)
    for keys in ([], [0], [87], range(N_KEYS)):
        roll[:, list(keys)] = 1
        for is_given in (no_steps, ~no_steps):
            assert piano_roll_figure(roll, is_given, "a $piece_").axes
        roll[:] = 0
    assert piano_roll_figure(roll[:0], no_steps[:0], "").axes
    assert key_frequency_figure({"one": np.zeros(N_KEYS), "other": np.ones(N_KEYS)}).axes
    assert likelihood_figure({"one": np.ones(1)}, "").axes


def test_example_sequences_refuse_an_unknown_piece(fitted: MusicComposer):
    assert [example.name for example in fitted.example_sequences(pieces(3), piece=2)] == [
        "piece 2",
        "piece 1",
        "piece 3",
    ]
    with pytest.raises(DataError, match="there is no piece 4: the list has 1 to 3"):
        fitted.example_sequences(pieces(3), piece=4)


# ---- published data --------------------------------------------------------------------------------------------------


def _is_installed() -> bool:
    try:
        catalog.locate("piano_rolls")
    except DataError:
        return False
    return True


@pytest.mark.skipif(not _is_installed(), reason="piano_rolls is not installed: set LSTMKIT_DATA")
def test_the_chorales_have_the_published_sizes():
    read = read_piano_rolls(catalog.locate("piano_rolls", "jsb_chorales.npz"))
    assert isinstance(read, PianoRolls)
    counts = {
        part: (len(split), split.steps) for part in ("train", "valid", "test") if (split := read.predefined_split(part))
    }
    assert counts == {"train": (229, 13807), "valid": (76, 4602), "test": (77, 4725)}
    assert len(Loader(PianoRollDataset(read), 32)) == 12
