"""Text: reading, tokenization, token streams, language models, scores and generation."""

from __future__ import annotations

import gzip
import itertools
import math
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lstmkit import LSTM
from lstmkit.data.batch import Batch
from lstmkit.data.catalog import locate
from lstmkit.data.text import lines as text_module
from lstmkit.data.text import tokenizer as tokenizer_module
from lstmkit.data.text.lines import read_text
from lstmkit.data.text.token_stream import TokenStreamLoader, token_counts, token_stream
from lstmkit.data.text.tokenizer import END, UNKNOWN, Tokenizer
from lstmkit.decoding.generation import filter_logits, sample
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs.common.token_labels import annotations
from lstmkit.jobs.language_model import metrics as scoring
from lstmkit.jobs.language_model.baselines import KneserNey
from lstmkit.jobs.language_model.job import LanguageModel
from lstmkit.jobs.language_model.predictor import CacheSettings
from lstmkit.models.sequence import NextTokenModel
from lstmkit.modules.cross_entropy import linear_cross_entropy
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.heads import TokenHead
from lstmkit.plots.text import surprisal_figure
from lstmkit.progress import Progress
from lstmkit.training.optimization import TrainSettings
from lstmkit.training.train import History, _TrainingState

CPU = torch.device("cpu")
PROSE = ["The cat sat on the mat.", 'It said "purr" (twice).', "Then it slept.", "The cat sat still."] * 6


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_a_file_is_read_line_by_line(tmp_path: Path):
    """Files may be gzipped and have either line end, the last with or without one; slices know their lines."""
    content = b"one\r\ntwo\n\nfour"
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.gz").write_bytes(gzip.compress(content))
    for name in ("a.txt", "b.gz"):
        text = read_text(tmp_path / name)
        assert list(text) == ["one", "two", "", "four"]
        assert list(text.slice(1, 3)) == ["two", ""]
        assert list(text.slice(1, 3).slice(1, 99)) == [""]
        assert len(text.slice(2, 99)) == 2
        assert text.digest() == read_text(["one", "two", "", "four"]).digest()
    assert read_text(["one\ntwo"]).digest() != text.digest()


def test_a_very_long_line_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Long lines are split to bound memory; no character is lost or cut."""
    monkeypatch.setattr(text_module, "MAX_LINE_LENGTH", 7)
    (tmp_path / "long.txt").write_text("äöüß" * 5 + "\nshort\n", encoding="utf-8")
    assert list(read_text(tmp_path / "long.txt")) == ["äöüßäöü", "ßäöüßäö", "üßäöüß", "short"]


@pytest.mark.parametrize("name", ["long.txt", "long.txt.gz"])
def test_a_line_that_must_stay_whole_has_a_maximum_length(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The message names the line; in a stream of text such a line is split instead."""
    monkeypatch.setattr(text_module, "MAX_WHOLE_LENGTH", 7)
    (tmp_path / name).write_bytes(_maybe_gzipped(name, b"short\nseven77\n"))
    assert list(read_text(tmp_path / name, whole=True)) == ["short", "seven77"]
    (tmp_path / name).write_bytes(_maybe_gzipped(name, b"short\neight888\n"))
    with pytest.raises(DataError, match=rf"{name}, line 2 has more than 7 characters: break it into several lines"):
        read_text(tmp_path / name, whole=True)
    assert len(read_text(tmp_path / name)) == 2


def _maybe_gzipped(name: str, content: bytes) -> bytes:
    return gzip.compress(content) if name.endswith(".gz") else content


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "empty.txt is empty"),
        ("blank.txt", b" \n\n", "blank.txt is empty"),
        ("latin.txt", "good\nnaïve\n".encode("latin-1"), r"latin.txt, line 2: byte 0xEF is not UTF-8"),
        ("late.txt", b"fine\n" * 9000 + b"caf\xe9\n", r"late.txt, line 9001: byte 0xE9"),
        ("sign.txt", "a \ufffd sign\n".encode() + b"\xff\n", r"sign.txt, line 2: byte 0xFF"),
        ("cut.gz", gzip.compress(b"text\n" * 99, mtime=0)[:-9], "cut.gz is not a complete gzip file"),
        ("not.gz", b"text", "not.gz is not a complete gzip file"),
    ],
)
def test_files_that_are_not_text_are_refused(name: str, content: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_text(tmp_path / name)


def test_invalid_objects_are_refused(tmp_path: Path):
    for data, message in ((tmp_path / "no.txt", "no such file"), (3, "not int"), (["a", 3], "one entry is int 3")):
        with pytest.raises(DataError, match=message):
            read_text(data)


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_words_and_unknown_words():
    tokenizer = Tokenizer.fit(["to be, or not to be"], "words", special_tokens=(END,))
    assert sorted(tokenizer.tokens(range(len(tokenizer)))) == sorted([UNKNOWN, END, "to", "be", ",", "or", "not"])
    (ids,) = tokenizer.encode(["be nice, be"], add_line_end=True)
    assert tokenizer.tokens(ids) == ["be", UNKNOWN, ",", "be", END]
    assert tokenizer.out_of_vocabulary("be nice, nice") == ["nice"]
    assert tokenizer.decode(ids[2:4]) == ", be"


def test_unk_in_the_text_is_the_unknown_token():
    """As in the Penn Treebank, rare words are written <unk>; every id has a token."""
    tokenizer = Tokenizer.fit(["a <unk> b <unk>", "b a a"], "whitespace", special_tokens=(END,))
    assert len(tokenizer) == 4
    assert sorted(tokenizer[t] for t in ("a", "b", UNKNOWN, END)) == [0, 1, 2, 3]
    (ids,) = tokenizer.encode(["a <unk> c"])
    assert ids[1] == ids[2] == tokenizer[UNKNOWN]


def test_rare_words_case_and_size():
    lines = ["A a b B b c"]
    assert "c" not in Tokenizer.fit(lines, "words", min_count=2)
    assert "A" not in Tokenizer.fit(lines, "words", lowercase=True)
    assert len(Tokenizer.fit(lines, "words", vocab_size=3)) == 3


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1), min_size=1))
def test_characters_and_bytes_round_trip(lines: list[str]):
    """Characters restore the fitted text, byte-level BPE restores any text."""
    whole = "".join(line + "\n" for line in lines)
    for kind in ("chars", "bpe"):
        tokenizer = Tokenizer.fit(lines, kind, vocab_size=300 if kind == "bpe" else 0)
        ids = [i for line in tokenizer.encode(lines, add_line_end=True) for i in line]
        assert tokenizer.decode(ids) == whole
        restored = Tokenizer(kind, tokenizer.to_json())
        assert restored.to_json() == tokenizer.to_json()
        assert [i for line in restored.encode(lines, add_line_end=True) for i in line] == ids
    (ids,) = tokenizer.encode(["⁂ none of it was there"])
    assert tokenizer.decode(ids) == "⁂ none of it was there"


def test_fitting_a_tokenizer_is_deterministic():
    assert Tokenizer.fit(PROSE, "words").to_json() == Tokenizer.fit(PROSE, "words").to_json()


def test_an_invalid_vocabulary_is_refused():
    with pytest.raises(ValueError, match="its vocabulary is invalid"):
        Tokenizer("words", "{}")


def test_few_long_lines_are_tokenized_at_once(monkeypatch: pytest.MonkeyPatch):
    """A chunk is bounded in characters too: 1,000 lines of 1,000,000 characters would take gigabytes."""
    monkeypatch.setattr(tokenizer_module, "_CHARACTERS_PER_CHUNK", 50)
    tokenizer = Tokenizer.fit(PROSE, "words", special_tokens=(END,))
    lines, taken = [30 * "a ", *PROSE, 30 * "b "], 0

    def counted() -> Iterator[str]:
        nonlocal taken
        for taken, line in enumerate(lines, 1):  # noqa: B007
            yield line

    encoded = tokenizer.encode(counted())
    first = next(encoded)
    assert taken == 1
    assert [first, *encoded] == [ids for line in lines for ids in tokenizer.encode([line])]
    tokens = list(tokenizer.encode_with_tokens(lines))
    assert tokens == [pair for line in lines for pair in tokenizer.encode_with_tokens([line])]


# ---- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_has_all_tokens_of_the_text():
    tokenizer = Tokenizer.fit(PROSE, "words", special_tokens=(END,))
    ids = token_stream(read_text(PROSE), tokenizer)
    assert ids.tolist() == [i for line in tokenizer.encode(PROSE, add_line_end=True) for i in line]
    assert isinstance(ids, np.memmap)
    assert ids.dtype == np.uint16


def test_a_stream_is_not_held_in_memory(tmp_path: Path):
    """Of 4 MB of text and its tokens, at most 1.5 MB are in memory at a time."""
    rng = np.random.default_rng(0)
    with (tmp_path / "large.txt").open("w") as file:
        for _ in range(20_000):
            file.write(" ".join(map(str, rng.integers(100, 1000, 50))) + "\n")
    tokenizer = Tokenizer.fit([str(i) for i in range(100, 1000)], "whitespace", special_tokens=(END,))
    text = read_text(tmp_path / "large.txt")
    tracemalloc.start()
    ids = token_stream(text, tokenizer)
    counts = token_counts(ids, len(tokenizer))
    batches = list(itertools.islice(TokenStreamLoader(ids, 20, 35, seed=0).epoch(), 3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ids) == 20_000 * 51 == counts.sum()
    assert len(batches) == 3
    assert peak < 1.5e6


@given(st.integers(2, 200), st.integers(1, 9), st.integers(1, 12), st.integers(0, 3))
def test_unshuffled_windows_cover_the_stream(n: int, rows: int, window: int, number: int):
    """Each row is a contiguous part, each window continues the one before, and targets are one step ahead."""
    loader = TokenStreamLoader(np.arange(n), rows, window)
    batches = list(loader.epoch(number))
    assert len(batches) == len(loader)
    assert [b.continues for b in batches] == [i > 0 for i in range(len(batches))]
    read = torch.cat([b.inputs for b in batches], 1)
    assert torch.equal(torch.cat([b.targets for b in batches if b.targets is not None], 1), read + 1)
    assert torch.equal(read, read[:, :1] + torch.arange(read.shape[1]))
    assert read.numel() == (n - 1) // len(read) * len(read)
    assert torch.equal(read[:, 0], torch.arange(len(read)) * read.shape[1])


@given(st.integers(2, 200), st.integers(1, 9), st.integers(1, 12), st.integers(0, 5), st.integers(-1, 40))
def test_shuffled_windows_differ_in_every_epoch(n: int, rows: int, window: int, number: int, n_batches: int):
    """No step is read twice in a pass, no window is empty or too long, and an epoch is reproducible."""
    loader = TokenStreamLoader(np.arange(n), rows, window, seed=1, n_batches=n_batches)
    batches = list(loader.epoch(number))
    assert len(batches) == len(loader)
    assert not batches[0].continues
    assert all(1 <= b.inputs.shape[1] <= window for b in batches)
    for before, after in itertools.pairwise(batches):
        assert after.continues == (after.inputs[0, 0] == before.inputs[0, -1] + 1)
    repeated = list(TokenStreamLoader(np.arange(n), rows, window, seed=1, n_batches=n_batches).epoch(number))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(batches, repeated, strict=True))


def test_a_long_epoch_reads_the_stream_several_times():
    loader = TokenStreamLoader(np.arange(41), 4, 5, seed=0, n_batches=7)
    starts = [int(batch.inputs[0, 0]) for epoch in range(2) for batch in loader.epoch(epoch)]
    assert [start == 0 for start in starts] == [True, False] * 7


def test_short_epochs_cover_the_whole_stream():
    loader = TokenStreamLoader(np.arange(401), 4, 10, seed=0, n_batches=3)
    tokens = {int(i) for e in range(6) for b in loader.epoch(e) for i in b.inputs.flatten()}
    assert len(tokens) > 350


# ---- modules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_linear_cross_entropy_equals_torchs(smoothing: float, dtype: torch.dtype):
    """Loss and all gradients are equal with unscored targets, on the kernels and without them."""
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(s, dtype=dtype, requires_grad=True) for s in ((11, 3), (7, 3), (7,)))
    targets = torch.tensor([0, 6, -1, 3, 3, -1, 2, 1, 5, 4, 0])
    scored = targets >= 0
    expected = F.cross_entropy(F.linear(x, weight, bias)[scored], targets[scored], label_smoothing=smoothing)
    actual = linear_cross_entropy(x, weight, bias, targets, smoothing)
    torch.testing.assert_close(actual, expected)
    for a, b in zip(*(torch.autograd.grad(3 * t, (x, weight, bias)) for t in (actual, expected)), strict=True):
        torch.testing.assert_close(a, b, **({} if dtype == torch.float64 else {"rtol": 0.05, "atol": 0.02}))
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(x, weight, bias, targets, smoothing), expected)


def test_linear_cross_entropy_of_large_logits_and_of_no_targets():
    x, weight = torch.tensor([[1e4]], requires_grad=True), torch.tensor([[1.0], [-1.0]], requires_grad=True)
    assert linear_cross_entropy(x, weight, torch.zeros(2), torch.tensor([0])).item() == 0
    loss = linear_cross_entropy(x, weight, torch.zeros(2), torch.tensor([-1]))
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert weight.grad is not None
    assert not x.grad.any()
    assert not weight.grad.any()


def test_a_head_gives_the_same_logits_for_few_and_many_rows():
    """A decoding step uses the kernels, a whole text uses torch."""
    torch.manual_seed(0)
    head = TokenHead(24, 5000)
    features = torch.randn(300, 2, 24)
    with torch.no_grad():
        steps = torch.stack([head(step) for step in features])
        torch.testing.assert_close(steps, head(features), rtol=1e-5, atol=1e-5)


def test_variational_dropout_drops_the_same_features_at_all_steps():
    torch.manual_seed(0)
    dropped = variational_dropout(torch.ones(50, 9, 20), 0.25, training=True)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}
    assert 0.2 < float((dropped == 0).float().mean()) < 0.3
    assert torch.equal(variational_dropout(dropped, 0.25, training=False), dropped)


def test_variational_dropout_between_layers():
    """The inputs of the second layer are dropped for whole sequences; in evaluation nothing is dropped."""
    torch.manual_seed(0)
    layer = LSTM(2, 40, 2, batch_first=True, dropout=0.5, variational=True)
    x = torch.randn(3, 6, 2)
    first = LSTM(2, 40, batch_first=True)
    first.load_state_dict({k: v for k, v in layer.state_dict().items() if k.endswith("l0")})
    with torch.no_grad():
        dropped_steps: list[torch.Tensor] = []
        dropped = layer._dropped
        layer._dropped = lambda steps: dropped_steps.append(dropped(steps)) or dropped_steps[-1]  # type: ignore[method-assign]
        layer(x)
        zero = dropped_steps[0].transpose(0, 1) == 0
        assert torch.equal(zero, zero[:, :1].expand_as(zero))
        expected = torch.where(zero, 0.0, first(x)[0] * 2)
        torch.testing.assert_close(dropped_steps[0].transpose(0, 1), expected)
        layer.eval()(x)
    assert len(dropped_steps) == 1


def test_word_dropout_drops_whole_words():
    torch.manual_seed(0)
    encoder = TokenEncoder(50, 8, word_dropout=0.5)
    vectors = encoder(torch.arange(50).repeat(4, 1))
    dropped = (vectors == 0).all(-1)
    assert 0.2 < float(dropped.float().mean()) < 0.8
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    padded = TokenEncoder(5, 3, padding=0)
    assert (padded(torch.tensor([[0, 1]]))[0, 0] == 0).all()


@pytest.mark.parametrize("kind", ["plain", "tied", "narrow", "adaptive"])
def test_loss_and_logits_of_a_head_agree(kind: str):
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(20, 6 if kind == "narrow" else 16)
    tied = embedding if kind in ("tied", "narrow") else None
    head = TokenHead(16, 20, tied, cutoffs=(5, 12) if kind == "adaptive" else ())
    features, targets = torch.randn(3, 4, 16), torch.randint(20, (3, 4))
    targets[0, 1] = -1
    logits = head(features)
    assert logits.shape == (3, 4, 20)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
    torch.testing.assert_close(head.loss(features, Batch(targets, targets=targets)), expected)
    assert (head.weight is embedding.weight) if tied is not None else True


def test_activation_penalties_act_only_in_training():
    torch.manual_seed(0)
    encoder = TokenEncoder(9, 4)
    plain = NextTokenModel(encoder, LSTM(4, 4, batch_first=True), TokenHead(4, 9))
    loader = TokenStreamLoader(np.arange(40) % 9, 2, 10)
    batch = next(loader.epoch())
    features, _ = plain.features(batch.inputs)
    loss = plain.loss(batch)[0].item()
    plain.activation_reg, plain.temporal_activation_reg = 2.0, 3.0
    extra = 2 * features.square().mean() + 3 * (features[:, 1:] - features[:, :-1]).square().mean()
    assert plain.loss(batch)[0].item() == pytest.approx(loss + extra.item(), rel=1e-5)
    assert plain.eval().loss(batch)[0].item() == pytest.approx(loss, rel=1e-5)


# ---- training --------------------------------------------------------------------------------------------------------


def test_averaged_sgd_starts_when_validation_stops_improving():
    """Merity et al. 2018, algorithm 1: worse than the best of all but the last five epochs; then the plain mean."""
    train_settings = TrainSettings(
        epochs=1, lr=0.1, weight_decay=0, warmup=0, lr_schedule="none", max_grad_norm=0, ema_decay=0.9, patience=0,
        precision="float32", seed=0, device=CPU, optimizer="asgd",
    )  # fmt: skip
    model = NextTokenModel(TokenEncoder(9, 4), LSTM(4, 4, batch_first=True), TokenHead(4, 9))
    run = _TrainingState(model, TokenStreamLoader(np.arange(40) % 9, 2, 10), None, train_settings, None, print)
    falling = [{"valid_loss": 10.0 - e} for e in range(6)]
    run.history = History(rows=falling)
    assert run.averaging_start_epoch is None
    assert run._averaging_decay(7) == 0
    run.history = History(rows=[*falling, {"valid_loss": 9.5}])
    assert run.averaging_start_epoch == 7
    assert [run._averaging_decay(7 * len(run.loader) + i) for i in range(3)] == [0, 1 / 2, 2 / 3]
    run.history = History(rows=[*falling, {"valid_loss": 8.9}, {"valid_loss": 9.5}, {"valid_loss": 0.1}])
    assert run.averaging_start_epoch == 8


@pytest.mark.parametrize("optimizer", ["sgd", "asgd"])
def test_sgd_learns(optimizer: str):
    model = LanguageModel(
        optimizer=optimizer, lr=5.0, lr_schedule="none", epochs=12, hidden_size=12, bptt_steps=8, batch_size=4,
        dropout=0.0, hidden_dropout=0.0, input_dropout=0.0, word_dropout=0.0, weight_decay=0.0,
    )  # fmt: skip
    model.fit(PROSE * 4)
    table = model.evaluate(PROSE[:4]).table.set_index("model")["perplexity"]
    assert table["LSTM"] < 0.6 * table["unigram"]


# ---- scoring ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> LanguageModel:
    return LanguageModel(
        epochs=6, hidden_size=16, bptt_steps=8, batch_size=4, lr=0.02, cache_size=7, dynamic_eval_lr=0.3
    ).fit(PROSE * 3)


def test_surprisal_does_not_depend_on_the_window(fitted: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    """The state is carried between windows, so the surprisal equals that of the whole text at once."""
    ids = np.array(list(range(10)) * 7) % len(fitted.tokenizer)
    whole = torch.from_numpy(ids)[None]
    with torch.no_grad():
        logits, _ = fitted.network.eval()(whole[:, :-1])
    expected = F.cross_entropy(logits[0], whole[0, 1:], reduction="none").numpy()
    for window in (1, 13, 200):
        monkeypatch.setattr(scoring, "_WINDOW", window)
        assert scoring.token_surprisal(fitted.model, ids, CPU, Progress()) == pytest.approx(expected, rel=1e-4)


def test_the_cache_equals_a_plain_loop(fitted: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    """Grave et al. 2017, equation 2, written out."""
    ids = np.array([1, 2, 3, 1, 2, 4, 1, 2, 3, 3, 1, 2, 4, 4, 1, 2])
    model, cache = fitted.predictor.network, CacheSettings(size=5, weight=0.3, theta=0.7)
    with torch.no_grad():
        features, _ = model.eval().features(torch.from_numpy(ids)[None, :-1])
        log_p = model.head(features)[0].log_softmax(-1).double().numpy()
    h = F.normalize(features[0], dim=-1).double().numpy()
    expected = []
    for t, word in enumerate(ids[1:]):
        past = range(max(0, t - 5), t)
        similar = [math.exp(0.7 * math.sqrt(h.shape[1]) * float(h[t] @ h[i])) for i in past]
        match = sum(s for s, i in zip(similar, past, strict=True) if ids[i + 1] == word) / (sum(similar) or 1)
        expected.append(-math.log(0.7 * math.exp(log_p[t, word]) + 0.3 * match))
    for window in (1, 4, 200):
        monkeypatch.setattr(scoring, "_WINDOW", window)
        actual = scoring.cache_surprisal(model, ids, cache, CPU, Progress())
        assert actual == pytest.approx(expected, rel=1e-4)


def test_dynamic_evaluation_and_the_cache_learn_repetitions(fitted: LanguageModel):
    """Both lower the surprisal of a repetitive text; the model itself does not change."""
    ids = np.array([3, 1, 4, 1, 5, 9, 2, 6] * 60) % len(fitted.tokenizer)
    before = {k: v.clone() for k, v in fitted.model.state_dict().items()}
    plain = scoring.token_surprisal(fitted.model, ids, CPU, Progress())
    dynamic = scoring.dynamic_eval_surprisal(fitted.predictor.network, ids, 0.5, 8, CPU, Progress())
    cached = scoring.cache_surprisal(fitted.predictor.network, ids, CacheSettings(50, 0.3, 1.0), CPU, Progress())
    assert dynamic[:8] == pytest.approx(plain[:8], rel=1e-4)
    assert dynamic[-80:].mean() < 0.5 * plain[-80:].mean()
    assert cached[-80:].mean() < plain[-80:].mean()
    assert all(torch.equal(v, before[k]) for k, v in fitted.model.state_dict().items())


def test_bits_per_character_and_perplexity_agree(fitted: LanguageModel):
    """Perplexity is per token, bits are per character, line ends included."""
    lines = PROSE[:7]
    evaluation = fitted.evaluate(lines)
    tokens = sum(len(ids) for ids in fitted.tokenizer.encode(lines, add_line_end=True))
    characters = sum(len(line) + 1 for line in lines)
    assert f"{tokens:,} tokens, {characters:,} characters" in evaluation.notes[0]
    for _, row in evaluation.table.iterrows():
        assert row["bits per character"] * characters == pytest.approx(math.log2(row["perplexity"]) * tokens)
    names = evaluation.table["model"].tolist()
    assert names == ["LSTM", "LSTM + cache (7)", "LSTM + dynamic evaluation", "Kneser-Ney, 5-grams", "unigram"]


def test_the_lstm_learns_what_n_grams_cannot():
    """Each line ends with the letter that opened it, ten steps before."""
    rng = np.random.default_rng(0)
    lines = [(a := "AB"[int(rng.integers(2))]) + "".join(rng.choice(list("xyz"), 9)) + a for _ in range(600)]
    model = LanguageModel(
        tokenization="chars", epochs=25, hidden_size=24, num_layers=1, bptt_steps=12, batch_size=16, lr=0.02,
        dropout=0.0, input_dropout=0.0, word_dropout=0.0, ema_decay=0.99, valid_fraction=0.1, test_fraction=0.1,
    ).fit(lines[:500])  # fmt: skip
    table = model.evaluate(lines[500:]).table.set_index("model")["perplexity"]
    assert table["LSTM"] < table["Kneser-Ney, 7-grams"]


# ---- n-grams ---------------------------------------------------------------------------------------------------------


def test_n_grams_by_hand():
    """Order 1 interpolates the discounted counts of a b a a with the uniform distribution over three tokens."""
    model = KneserNey(np.array([0, 1, 0, 0]), order=1, vocab_size=3)
    # Too few counts to estimate discounts: 1/2 per type, and the rest is uniform.
    uniform_mass = 2 * 0.5 / 4
    expected = [(3 - 0.5) / 4 + uniform_mass / 3, (1 - 0.5) / 4 + uniform_mass / 3, uniform_mass / 3]
    assert model.probabilities(np.array([0, 1, 2])) == pytest.approx(expected)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 5), st.lists(st.integers(0, 4), max_size=6))
def test_n_gram_probabilities_add_up(ids: list[int], order: int, context: list[int]):
    model = KneserNey(np.array(ids), order, vocab_size=5)
    total = sum(model.probabilities(np.array([*context, w]))[-1] for w in range(5))
    assert total == pytest.approx(1)


def test_kneser_ney_counts_contexts():
    """'Francisco' follows only 'San': after a new word it is less likely than a word with many contexts."""
    line = "San Francisco . a b . c b . d b . San Francisco . San Francisco ."
    text = line.split()
    numbers = {w: i for i, w in enumerate(dict.fromkeys(text))}
    assert Counter(text)["Francisco"] >= Counter(text)["b"]
    model = KneserNey(np.array([numbers[w] for w in text]), 2, len(numbers))
    after = {w: model.probabilities(np.array([numbers["b"], numbers[w]]))[1] for w in ("Francisco", "b")}
    assert after["b"] > after["Francisco"]


def _is_installed(name: str) -> bool:
    try:
        return bool(locate(name))
    except DataError:
        return False


@pytest.mark.skipif(not _is_installed("ptb"), reason="ptb is not installed: set LSTMKIT_DATA")
def test_n_grams_of_the_penn_treebank():
    """Published: 141.2 (T. Mikolov and G. Zweig 2012: 5-grams with modified Kneser-Ney smoothing, no cache)."""
    tokenizer = Tokenizer.fit(read_text(locate("ptb", "ptb.train.txt")), "whitespace", special_tokens=(END,))
    assert len(tokenizer) == 10_000
    train, test = (token_stream(read_text(locate("ptb", f"ptb.{part}.txt")), tokenizer) for part in ("train", "test"))
    assert (len(train), len(test)) == (929_589, 82_430)
    assert KneserNey(train, 5, 10_000).perplexity(test) == pytest.approx(141.2, abs=0.3)


# ---- generation ------------------------------------------------------------------------------------------------------


def test_filter_logits():
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0]])
    assert torch.equal(filter_logits(logits, 1, 0, 1.0), logits)
    assert filter_logits(logits, 1, 2, 1.0).isfinite().tolist() == [[False, True, False, True]]
    assert filter_logits(logits, 0, 0, 1.0).isfinite().tolist() == [[False, True, False, False]]
    assert filter_logits(logits, 1, 0, 1e-6).isfinite().tolist() == [[False, True, False, False]]
    # The probabilities are .03, .64, .09, .24: the first two have .88 together.
    assert filter_logits(logits, 1, 0, 0.85).isfinite().tolist() == [[False, True, False, True]]
    assert filter_logits(logits, 1, 0, 0.9).isfinite().tolist() == [[False, True, True, True]]


def test_samples_follow_the_probabilities():
    logits = torch.tensor([[0.1, 0.2, 0.7]]).log()
    sampled = sample(lambda ids, state: (logits, state), logits, None, 4000, seed=1)
    frequencies = torch.bincount(sampled.ids[0], minlength=3) / 4000
    assert frequencies.tolist() == pytest.approx([0.1, 0.2, 0.7], abs=0.03)
    assert sampled.surprise[0, :5].tolist() == pytest.approx(
        [-math.log([0.1, 0.2, 0.7][i]) for i in sampled.ids[0, :5]]
    )
    resampled = sample(lambda ids, state: (logits, state), logits, None, 4000, seed=1)
    assert torch.equal(resampled.ids, sampled.ids)


def test_generation_is_determined_by_the_seed(fitted: LanguageModel):
    generated = fitted.generate("The cat", 12, temperature=1.5)
    assert fitted.generate("The cat", 12, temperature=1.5) == generated
    assert fitted.generate("The cat", 12, temperature=1.5, seed=7) != generated
    assert len(generated.tokens) == len(generated.surprisal) == 12
    both = fitted.predict(["The cat", "It said"], max_tokens=12, temperature=0)
    assert both[1] == fitted.predict(["It said"], max_tokens=12, temperature=0)[0]


def test_generation_ends_at_the_stop_text(fitted: LanguageModel):
    free = fitted.generate("The cat", 50, temperature=2.0)
    stop = free.tokens[5]
    generated = fitted.generate("The cat", 50, temperature=2.0, stop=stop)
    assert generated.text == free.text[: free.text.index(stop) + len(stop)]
    assert len(generated.tokens) <= 6


def test_unknown_words_of_a_prompt_are_named(fitted: LanguageModel):
    generated = fitted.generate("The dog and the fox sat", 3)
    assert generated.unknown == ("dog", "and", "fox")
    assert UNKNOWN not in generated.tokens
    assert fitted.generate("", 3).prompt == ""


@pytest.mark.parametrize(
    "options", [{"max_tokens": 0}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}], ids=str
)
def test_sampling_options_out_of_range(options: dict[str, float], fitted: LanguageModel):
    ((name, value),) = options.items()
    with pytest.raises(SettingError, match=f"{name} must be .*, got {value:g}"):
        fitted.generate("The", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "lines", "error", "message"),
    [
        ({}, ["one line"], DataError, "has 1 line, too few for a training"),
        ({}, ["a", "b"], DataError, "has 2 lines, too few"),
        ({"cutoffs": (3,)}, PROSE, SettingError, "give tie_weights=False"),
        ({"tie_weights": False, "cutoffs": (5, 3)}, PROSE, SettingError, "cutoffs must rise"),
        ({"tie_weights": False, "cutoffs": (99,)}, PROSE, SettingError, "stay below the vocabulary"),
        (
            {"tie_weights": False, "cutoffs": (3, 5), "hidden_size": 8},
            PROSE,
            SettingError,
            "hidden_size of at least 16",
        ),
        ({"cache_size": 5, "ensemble_size": 2}, PROSE, SettingError, "give ensemble_size=1"),
    ],
)
def test_invalid_settings_and_data_are_refused(
    settings: dict[str, object], lines: list[str], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        LanguageModel(epochs=1, **{"hidden_size": 16, **settings}).fit(lines)  # type: ignore[arg-type]


def test_an_unknown_line_is_refused(fitted: LanguageModel):
    with pytest.raises(DataError, match="there is no line 99: the text has lines 1 to 24"):
        fitted.example_sequences(PROSE, line=99)
    assert fitted.example_sequences(PROSE, line=2)[0].name == "the text from line 2"


# ---- inspection ------------------------------------------------------------------------------------------------------


def test_token_annotations():
    tokens = list('a ("b")\nC')
    known = annotations(tokens)
    assert known["in brackets"].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert known["in quotes"].tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert known["place in line"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert known["capital"].tolist() == [0] * 8 + [1]
    assert known["word begins"].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]


def test_the_surprisal_figure():
    many = ["word"] * 2000
    assert len(surprisal_figure(many, [1.0] * 2000).axes[0].texts) == 40 * 17
    figure = surprisal_figure(["a", "<eos>", "b"], [0.0, 1.0, 12.0])
    assert [t.get_text() for t in figure.axes[0].texts] == ["a", "<eos>", "b"]
