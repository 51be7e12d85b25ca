"""Translation: parallel text, attention, the encoder-decoder, beam search, and the job that joins them."""

from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.data.batch import Batch
from lstmkit.data.text.text_pairs import TextPairDataset, filter_by_length, read_sources, read_text_pairs
from lstmkit.data.text.tokenizer import Tokenizer, detokenize
from lstmkit.decoding.generation import beam_search
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs import load
from lstmkit.jobs.common.seq2seq_search import InputSegment, decode_text, split_into_segments
from lstmkit.jobs.common.text_retrieval import TranslationMemory
from lstmkit.jobs.translator import metrics as scoring
from lstmkit.jobs.translator.job import Translator
from lstmkit.models.base import Ensemble
from lstmkit.models.encoder_decoder import Decoder, DecoderState, EncoderDecoder, attention_weights
from lstmkit.modules import attention as attending
from lstmkit.modules.attention import ATTENTIONS, Attention, build_attention
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.plots.text import attention_figure
from lstmkit.progress import Progress

EN = ["a red dog", "a cat sleeps", "the dog runs"]
DE = ["ein roter Hund", "eine Katze schläft", "der Hund rennt"]

every_kind = pytest.mark.parametrize("kind", ATTENTIONS)


# ---- parallel text ---------------------------------------------------------------------------------------------------


def _files(folder: Path, en: str, de: str) -> str:
    (folder / "x.en").write_text(en, encoding="utf-8")
    (folder / "x.de.gz").write_bytes(gzip.compress(de.encode()))
    return f"{folder / 'x.en'},{folder / 'x.de.gz'}"


def test_parallel_text_in_every_form(tmp_path: Path):
    """Two files, three kinds of tables, a frame and pairs say the same; pairs with a blank side are counted."""
    en, de = [*EN, "", "lost"], [*DE, "verloren", "  "]
    frame = pd.DataFrame({"source": en, "target": de, "other": 1})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True, force_ascii=False)
    for ending in ("csv", "tsv", "jsonl"):
        (tmp_path / f"t.{ending}.gz").write_bytes(gzip.compress((tmp_path / f"t.{ending}").read_bytes()))
    forms: list[Any] = [
        _files(tmp_path, "\n".join(en), "\n".join(de)),
        *(tmp_path / f"t.{ending}" for ending in ("csv", "tsv", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz")),
        frame,
        list(zip(en, de, strict=True)),
    ]
    for data in forms:
        pairs = read_text_pairs(data)
        assert (list(pairs.sources), list(pairs.targets), pairs.num_blank) == (EN, DE, 2)
        assert pairs.digest() == read_text_pairs(list(zip(EN, DE, strict=True))).digest()
        assert read_sources(data) == en
    renamed = frame.rename(columns={"source": "en", "target": "de"})
    assert read_text_pairs(renamed, "en", "de").sources == tuple(EN)
    assert read_sources(tmp_path / "x.en") == en
    assert read_sources(["a\nb", ""]) == ["a\nb", ""]
    assert read_text_pairs(pairs) is pairs
    assert pairs.slice(1, 3).targets == tuple(DE[1:])


def test_a_comma_may_be_part_of_a_path(tmp_path: Path):
    folder = tmp_path / "a,b"
    folder.mkdir()
    assert len(read_text_pairs(_files(folder, "one\ntwo", "eins\nzwei"))) == 2


def test_a_very_long_line_stays_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Else the lines below it would stand beside the wrong ones."""
    monkeypatch.setattr("lstmkit.data.text.lines.MAX_LINE_LENGTH", 10)
    pairs = read_text_pairs(_files(tmp_path, "long " * 9 + "\nshort\n", "lang\nkurz\n"))
    assert pairs.sources == ("long " * 9, "short")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("x.en", "is only one side of a parallel text: give both files as SOURCE,TARGET"),
        ("no.en,x.de", "no such file: .*no.en"),
        ("no.csv", "no such file"),
        ("x.en,y.de", r"x\.en has 3 lines, y\.de has 2: line i of y\.de must be the translation"),
        ("x.en,empty", "empty is empty"),
        ("x.en,latin", r"latin, line 2: byte 0xFC is not UTF-8"),
        ("latin.csv", r"latin\.csv, line 2: byte 0xFC is not UTF-8"),
        ("bad.csv", r"bad\.csv: line 3: a quotation mark .* is never closed"),
        ("bad.jsonl", r"bad\.jsonl: line 1 is not JSON"),
        ("bad.csv.gz", r"bad\.csv\.gz cannot be read \(Compressed file ended"),
        ("bad.jsonl.gz", r"bad\.jsonl\.gz cannot be read \(Not a gzipped file"),
        ("other.csv", r"no column 'source' in other\.csv \(columns: a, b\)"),
    ],
)
def test_files_that_are_no_parallel_text(data: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each in one line that says what, where and what to do."""
    monkeypatch.chdir(tmp_path)
    contents = {
        "x.en": b"1\n2\n3\n", "x.de": b"1\n2\n3\n", "y.de": b"1\n2", "empty": b"",
        "latin": "a\nfür\nc".encode("latin-1"),
        "latin.csv": "source,target\na,für".encode("latin-1"), "bad.csv": b"source,target\n1,2,3,4,5\n\"",
        "bad.jsonl": b"{]", "bad.csv.gz": gzip.compress(b"source,target" * 99)[:-9], "bad.jsonl.gz": b"no",
        "other.csv": b"a,b\n1,2",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_text_pairs(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([("a", "b", "c")], "pair 1 is"),
        (["a"], "pair 1 is 'a': give each pair as"),
        ([("a", "b"), ("c", 3)], "entry 2 is int 3: give text"),
        ([("", "b"), ("a", " ")], "has no pair with text on both sides"),
        (7, "not int"),
        (pd.DataFrame({"source": ["a", None], "target": ["b", "c"]}), "entry 2 is NoneType None: give text"),
    ],
)
def test_what_is_no_parallel_text(data: Any, says: str):
    with pytest.raises(DataError, match=says):
        read_text_pairs(data)


def test_nothing_to_translate(tmp_path: Path):
    (tmp_path / "empty.txt").write_text("")
    for data, says in (
        ([], "nothing to translate"),
        (tmp_path / "empty.txt", "is empty"),
        ([3], "is int 3: give text"),
    ):
        with pytest.raises(DataError, match=says):
            read_sources(data)


def test_pairs_as_numbers():
    """Sources are padded with 0, targets with what is not scored; what is too long is counted."""
    both = [(np.arange(n) + 5, np.arange(m) + 5) for n, m in ((2, 1), (1, 3), (4, 1), (1, 4))]
    source, too_long = filter_by_length(both, 3, 3)
    assert too_long == 2
    assert source.lengths.tolist() == [2, 1]
    batch = source.batch(np.array([1, 0]))
    assert batch.inputs.tolist() == [[5, 0], [5, 6]]
    assert batch.targets is not None
    assert batch.targets.tolist() == [[5, 6, 7], [5, -1, -1]]
    assert batch.target_lengths is not None
    assert batch.target_lengths.tolist() == [3, 1]


def test_words_are_joined_as_one_writes_them():
    for text in ("a man (in red), running.", "it's a t-shirt!", "one; two: three?", "5% of 1/2 …"):
        tokenizer = Tokenizer.fit([text], "words")
        (ids,) = tokenizer.encode([text])
        assert detokenize(tokenizer.tokens(ids)).replace(" …", "…") == text.replace(" …", "…")


# ---- attention -------------------------------------------------------------------------------------------------------


def _attention(kind: str, coverage: bool = False) -> tuple[Attention, Tensor, Tensor, Tensor]:
    """With queries ``(2, 3, 4)``, keys ``(2, 5, 4)`` and a mask that hides two keys of the second sequence."""
    torch.manual_seed(0)
    attention = build_attention(kind, 4, 4, 6, coverage).double()
    if attention.coverage is not None:
        torch.nn.init.normal_(attention.coverage)
    queries, keys = torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double()
    return attention, queries, keys, torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def _score(attention: Any, kind: str, query: Tensor, key: Tensor, covered: float) -> float:
    """One query and one key, as the papers write it."""
    of_coverage = 0.0 if attention.coverage is None else covered * attention.coverage
    if kind == "additive":
        inside = attention.query.weight @ query + attention.query.bias + attention.key.weight @ key + of_coverage
        return float(attention.value.weight[0] @ torch.tanh(inside))
    between = query @ key if kind == "dot" else query @ attention.key.weight @ key
    return float(between + of_coverage)


@every_kind
@pytest.mark.parametrize("coverage", [False, True])
@torch.no_grad()
def test_attention_is_what_the_papers_write(kind: str, coverage: bool):
    """Scores, softmax over the keys that are there, and the mean of the keys, in plain loops."""
    attention, queries, keys, mask = _attention(kind, coverage)
    covered = torch.rand(2, 3, 5).double()
    contexts, weights = attention(queries, keys, mask, covered=covered)
    for b, t in itertools.product(range(2), range(3)):
        there = range(5 if b == 0 else 3)
        odds = [math.exp(_score(attention, kind, queries[b, t], keys[b, s], float(covered[b, t, s]))) for s in there]
        wanted = [odd / sum(odds) for odd in odds] + [0.0] * (5 - len(odds))
        assert weights[b, t].tolist() == pytest.approx(wanted)
        mean = sum(w * keys[b, s] for s, w in enumerate(wanted))
        torch.testing.assert_close(contexts[b, t], mean)


@every_kind
def test_keys_that_are_not_there_change_nothing(kind: str):
    """Whatever stands in the padding; prepared keys are the same; without any key the context is 0, not NaN."""
    attention, queries, keys, mask = _attention(kind)
    contexts, weights = attention(queries, keys, mask)
    other = keys.masked_fill(~mask.unsqueeze(-1), 1e6)
    torch.testing.assert_close(attention(queries, other, mask, attention.prepare(other)), (contexts, weights))
    alone = attention(queries[1:], keys[1:, :3])
    torch.testing.assert_close(alone, (contexts[1:], weights[1:, :, :3]))
    none, _ = attention(queries.requires_grad_(), keys, torch.zeros_like(mask))
    assert not none.any()
    none.sum().backward()
    assert torch.isfinite(queries.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("coverage", [False, True])
def test_a_large_comparison_is_made_in_pieces(coverage: bool, monkeypatch: pytest.MonkeyPatch):
    """With the same scores and gradients as all at once: of 60 numbers a step one step fits, of 120 two of three."""
    attention, queries, keys, mask = _attention("additive", coverage)
    covered = torch.rand(2, 3, 5).double() if coverage else None
    found = []
    for at_once in (2**26, 1, 120):
        monkeypatch.setattr(attending, "_MAX_ELEMENTS", at_once)
        asked = queries.clone().requires_grad_()
        attention.zero_grad()
        contexts, weights = attention(asked, keys, mask, covered=covered)
        contexts.square().sum().backward()
        found.append([contexts, weights, asked.grad, *(p.grad for p in attention.parameters())])
    for whole, *pieces in zip(*found, strict=True):
        for piece in pieces:
            torch.testing.assert_close(piece, whole)


def test_dot_products_want_one_width():
    with pytest.raises(ValueError, match="queries and keys of the same width, got 4 and 6"):
        build_attention("dot", 4, 6)


# ---- the encoder-decoder ---------------------------------------------------------------------------------------------

SOURCES, TARGETS, BEGIN, END = 9, 7, 5, 6


def _model(
    kind: str = "general",
    cell: str = "lstm",
    upper: int = 1,
    layers: int = 1,
    feeding: bool = False,
    coverage: float = 0.0,
    sampling: float = 0.0,
    rise: int = 0,
) -> EncoderDecoder:
    torch.manual_seed(0)
    trunk = build_trunk(cell, 3, 4, num_layers=layers, bidirectional=True, merge="sum")
    lower = build_trunk(cell, 3 + (5 if feeding else 0), 4, num_layers=layers)
    above = build_trunk(cell, 8, 6, num_layers=upper) if upper else None
    attention = build_attention(kind, 4, 4, coverage=coverage > 0)
    decoder = Decoder(TokenEncoder(TARGETS, 3), lower, attention, above, 4, 5, feeding)
    head = TokenHead(5, TARGETS)
    return EncoderDecoder(TokenEncoder(SOURCES, 3), trunk, decoder, head, BEGIN, 0.0, coverage, sampling, rise).double()


def _batch() -> Batch:
    torch.manual_seed(1)
    targets = torch.randint(5, (3, 6))
    targets[1, 4:], targets[2, 2:] = -1, -1
    return Batch(torch.randint(SOURCES, (3, 5)), torch.tensor([5, 2, 4]), targets, torch.tensor([6, 4, 2]))


def _stepwise(model: EncoderDecoder, batch: Batch) -> Tensor:
    """Logits ``(B, T, V)``, a token at a time."""
    assert batch.targets is not None
    _, state = model(batch.inputs, None, batch.lengths)
    before, told = torch.full((len(batch),), BEGIN), []
    for t in range(batch.targets.shape[1]):
        logits, state = model.step(before, state)
        told.append(logits)
        before = batch.targets[:, t].clamp(min=0)
    return torch.stack(told, 1)


OPTIONS = [
    {},
    {"kind": "additive", "upper": 0},
    {"kind": "dot", "upper": 2, "layers": 2},
    {"cell": "gru"},
    {"cell": "rnn", "feeding": True},
    {"feeding": True, "upper": 0},
    {"kind": "additive", "coverage": 0.5},
    {"coverage": 0.5, "feeding": True, "layers": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_loss_is_that_of_one_token_after_the_other(options: dict[str, Any]):
    """All steps at once, or in a loop where they must be: cross-entropy and gradient of what ``step`` tells."""
    model, batch = _model(**options), _batch()
    model.coverage_weight = 0.0  # its penalty has a test of its own
    assert batch.targets is not None
    wanted = F.cross_entropy(_stepwise(model, batch).flatten(0, 1), batch.targets.flatten(), ignore_index=-1)
    loss, _ = model.loss(batch)
    torch.testing.assert_close(loss, wanted)
    weights = [w for name, w in model.named_parameters() if "coverage" not in name]
    pairs = zip(*(torch.autograd.grad(value, weights) for value in (loss, wanted)), strict=True)
    for found, right in pairs:
        torch.testing.assert_close(found, right)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_padding_changes_nothing(options: dict[str, Any]):
    """Neither in the source nor in the target, nor the other sentences of a batch: the mean is over known tokens."""
    model, batch = _model(**options), _batch()
    assert batch.targets is not None
    assert batch.lengths is not None
    assert batch.target_lengths is not None
    total = 0.0
    for row, (source, target) in enumerate(zip(batch.lengths, batch.target_lengths, strict=True)):
        alone = Batch(batch.inputs[row : row + 1, :source], targets=batch.targets[row : row + 1, :target])
        total = total + model.loss(alone)[0] * target
    torch.testing.assert_close(model.loss(batch)[0], total / batch.target_lengths.sum())


def test_input_feeding_reads_the_features_of_the_step_before():
    model, batch = _model(feeding=True), _batch()
    _, state = model(batch.inputs, None, batch.lengths)
    seen: list[Tensor] = []
    model.decoder.lower.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    (features, _, _), state = model.decoder(torch.tensor([[1], [2], [3]]), state)
    model.decoder(torch.tensor([[1], [1], [1]]), state)
    assert not seen[0][:, :, 3:].any()
    torch.testing.assert_close(seen[1][:, :, 3:], features)


@torch.no_grad()
def test_the_coverage_penalty_is_the_papers():
    """See et al. 2017, equations 10 to 13: the sum of past weights, and what of it is attended to again."""
    model, batch = _model("additive", coverage=0.7), _batch()
    torch.nn.init.normal_(model.decoder.attention.coverage)  # type: ignore[arg-type]
    assert batch.targets is not None
    _, state = model(batch.inputs, None, batch.lengths)
    before, penalty = torch.full((3, 1), BEGIN), 0.0
    covered = torch.zeros(3, 5).double()
    for t in range(6):
        (_, weights, _), state = model.decoder(before, state)
        torch.testing.assert_close(state.coverage, covered + weights[:, 0])
        for b in range(3):
            if batch.targets[b, t] >= 0:
                penalty += sum(min(float(weights[b, 0, s]), float(covered[b, s])) for s in range(5))
        covered = covered + weights[:, 0]
        before = batch.targets[:, t : t + 1].clamp(min=0)
    whole, _ = model.loss(batch)
    model.coverage_weight = 0.0
    plain, _ = model.loss(batch)
    assert float(whole - plain) == pytest.approx(0.7 * float(penalty) / 12)


def test_scheduled_sampling_feeds_what_the_model_says():
    """Bengio et al. 2015: at a share of 1 every token before is the most probable one; the share rises evenly."""
    model, batch = _model(sampling=1.0), _batch()
    assert batch.targets is not None
    _, state = model(batch.inputs, None, batch.lengths)
    before, told = torch.full((3,), BEGIN), []
    for _ in range(6):
        logits, state = model.step(before, state)
        told.append(logits)
        before = logits.argmax(-1)
    wanted = F.cross_entropy(torch.stack(told, 1).flatten(0, 1), batch.targets.flatten(), ignore_index=-1)
    torch.testing.assert_close(model.train().loss(batch)[0], wanted)
    plain = _model()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k != "batches"})
    torch.testing.assert_close(model.eval().loss(batch), plain.loss(batch))  # training alone samples
    rising = _model(sampling=0.8, rise=4).train()
    assert [rising._sampling_probability() for _ in range(6)] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 0.8])


# ---- beam search -----------------------------------------------------------------------------------------------------


def _exhaustive(model: Any, inputs: Tensor, limit: int, penalty: float) -> list[tuple[float, tuple[int, ...]]]:
    """Every sequence of at most ``limit`` tokens with its normalised score, the best first."""
    found: list[tuple[float, tuple[int, ...]]] = []

    def go_on(ids: tuple[int, ...], log_p: float, before: int, state: Any) -> None:
        logits, state = model.step(torch.tensor([before]), state)
        for token, gain in enumerate(logits[0].log_softmax(-1).tolist()):
            count, total = len(ids) + 1, log_p + gain
            if token == END:
                found.append((total / ((5 + count) / 6) ** penalty, ids))
            elif count == limit:
                found.append((total / ((5 + count) / 6) ** penalty, (*ids, token)))
            else:
                go_on((*ids, token), total, token, state)

    _, state = model(inputs)
    go_on((), 0.0, BEGIN, state)
    return sorted(found, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@torch.no_grad()
def test_a_beam_wide_enough_finds_the_very_best(penalty: float):
    """As the search through all sequences does, of each sentence of a batch with its own limit, and their n-best."""
    model = _model().float()
    for weight in model.parameters():
        weight.mul_(4)  # so that what is said matters
    inputs, limits = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])
    _, state = model(inputs, None, torch.tensor([3, 2]))
    first = torch.full((2,), BEGIN)
    width = TARGETS**3
    found = beam_search(model.step, first, state, width, limits, end=END, length_penalty=penalty, n_best=5)
    for b, length in enumerate((3, 2)):
        wanted = _exhaustive(model, inputs[b : b + 1, :length], int(limits[b]), penalty)[:5]
        assert [one.ids for one in found[b]] == [ids for _, ids in wanted]
        assert [one.score for one in found[b]] == pytest.approx([score for score, _ in wanted], rel=1e-4)


@torch.no_grad()
def test_a_beam_of_one_is_greedy_and_rows_lead_back():
    """And of several, each token's row is that of the call which told it: the probabilities along them add up."""
    model = _model("additive", feeding=True).float()
    inputs = torch.randint(SOURCES, (4, 5), generator=torch.Generator().manual_seed(3))
    _, state = model(inputs)
    first = torch.full((4,), BEGIN)
    greedy = beam_search(model.step, first, state, 1, 8, end=END)
    for b in range(4):
        before, ids = BEGIN, []
        _, alone = model(inputs[b : b + 1])
        while len(ids) < 8:
            logits, alone = model.step(torch.tensor([before]), alone)
            before = int(logits.argmax())
            if before == END:
                break
            ids.append(before)
        assert greedy[b][0].ids == tuple(ids)

    told: list[Tensor] = []

    def step(ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = model.step(ids, state)
        told.append(logits.log_softmax(-1))
        return logits, state

    for best in beam_search(step, first, state, 3, 8, end=END, n_best=3):
        assert [one.score for one in best] == sorted((one.score for one in best), reverse=True)
        for one in best:
            steps = zip(one.ids, one.rows, strict=True)
            log_p = sum(float(told[t][row, token]) for t, (token, row) in enumerate(steps))
            assert one.log_p <= log_p + 1e-4
            if len(one.ids) == 8:
                assert one.log_p == pytest.approx(log_p, rel=1e-4)


@torch.no_grad()
def test_a_sentence_is_translated_the_same_in_any_batch():
    model = _model().float()
    inputs = torch.randint(SOURCES, (5, 4), generator=torch.Generator().manual_seed(1))
    limits = torch.tensor([9, 3, 7, 1, 5])
    _, state = model(inputs)
    together = beam_search(model.step, torch.full((5,), BEGIN), state, 3, limits, end=END, n_best=2)
    for b in range(5):
        _, state = model(inputs[b : b + 1])
        (alone,) = beam_search(model.step, torch.tensor([BEGIN]), state, 3, limits[b : b + 1], end=END, n_best=2)
        assert [one.ids for one in alone] == [one.ids for one in together[b]]
    assert beam_search(model.step, torch.zeros(0, dtype=torch.long), None, 3, 5, end=END) == []


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reversing() -> Translator:
    """Fitted to sequences and their reverse: no fixed vector need hold them, since the decoder can look."""
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(list("abcdefgh"), rng.integers(3, 8))) for _ in range(700)]
    pairs = [(line, line[::-1].upper()) for line in lines]
    return Translator(
        tokenization="whitespace", epochs=16, hidden_size=32, batch_size=32, lr=0.01, dropout=0.0, input_dropout=0.0,
        label_smoothing=0.0, ema_decay=0.98, attention="general", patience=0,
    ).fit(pairs)  # fmt: skip


def test_it_learns_to_reverse(reversing: Translator):
    """Sequences it was not shown, by looking where it should."""
    lines = ["a b c d e f", "h a h b", "c c d"]
    found = reversing.predict(lines)
    assert [one.text for one in found] == [line[::-1].upper() for line in lines]
    assert found[0].attention.shape == (6, 6)
    assert found[0].attention.sum(1) == pytest.approx(np.ones(6), abs=1e-4)


def test_blank_and_long_lines(reversing: Translator):
    """A blank line stays blank; a long one is read in segments and nothing of it is lost; each line is one line."""
    reversing.predictor.settings.max_tokens = 4
    try:
        found = reversing.predict(["", "a b c d e f g h a b c", " \t", "a\nb c"], n_best=2)
    finally:
        reversing.predictor.settings.max_tokens = 100
    assert [one.text for one in found] == ["", "D C B A H G F E C B A", "", "C B A"]
    assert [len(one.n_best) for one in found] == [1, 2, 1, 2]
    assert found[1].source_tokens == ("a", "b", "c", "d")
    text = reversing.to_text(found).splitlines()
    assert len(text) == 6
    assert text[1].startswith("1 ||| D C B A H G F E C B A ||| ")
    assert reversing.to_text(reversing.predict(["a b c", "", "d e f"])).splitlines() == ["C B A", "", "F E D"]
    assert reversing.predict([" "])[0].text == ""
    with pytest.raises(DataError, match="all lines from line 2 on are blank"):
        reversing.example_sequences(["a", "", ""], line=2)
    with pytest.raises(DataError, match="there is no line 9"):
        reversing.example_sequences(["a"], line=9)
    assert len(reversing.plot(None, reversing.predict([""])).axes) == 1


def test_a_line_of_very_many_tokens_is_left_out_of_training():
    """It is counted and told; where nothing else is left, the message says what to do."""
    told: list[str] = []

    class Teller(Progress):
        def say(self, text: str) -> None:
            told.append(text)

    pairs = [*zip(EN, DE, strict=True)] * 4
    options: dict[str, Any] = {
        "tokenization": "whitespace",
        "epochs": 1,
        "hidden_size": 2,
        "test_fraction": 0.0,
        "valid_fraction": 0.0,
    }
    job = Translator(**options).fit([("a " * 10**5, "lang"), *pairs], progress=Teller())
    assert told == ["the pairs: 1 pairs with a side above 100 tokens are left out"]
    assert job._num_too_long == 1
    with pytest.raises(DataError, match="every pair has a side above 2 tokens: raise --max-tokens"):
        Translator(max_tokens=2, **options).fit(pairs)


def test_beams_that_cannot_be(reversing: Translator):
    for beam_size, n_best in ((0, 1), (5, 0), (2, 3)):
        with pytest.raises(SettingError, match="n_best must be between 1 and beam_size"):
            reversing.predict(["a"], beam_size=beam_size, n_best=n_best)


def test_the_evidence(reversing: Translator):
    """Beside a translation memory, which a loaded model has not, and a copy of the source."""
    pairs = [("a b c d", "D C B A"), ("e f g h", "H G F E")]
    found = reversing.evaluate(pairs)
    table = found.table.set_index("model")
    assert table.index.tolist() == ["LSTM", "translation memory", "copy of the source"]
    assert table.loc["LSTM", "BLEU"] == pytest.approx(100)
    assert table.loc["LSTM", "BLEU"] > table["BLEU"].iloc[1:].max()
    assert any("tok:13a" in note and "version" in note for note in found.notes)


def test_saved_it_has_no_memory(reversing: Translator, tmp_path: Path):
    again = load(reversing.save(tmp_path))
    assert again.evaluate([("a b c d", "D C B A")]).table["model"].tolist() == ["LSTM", "copy of the source"]


def test_unknown_words_are_copied():
    """What the vocabulary has not is the source's word that was attended to most, as it is written there."""
    tokenizer = Tokenizer.fit(["x y"], "words", lowercase=True, special_tokens=("<pad>", "<bos>", "<eos>", "<unk>"))
    (piece,) = split_into_segments(["Der alte Zürcher"], tokenizer, 9)
    assert piece.words == ("Der", "alte", "Zürcher")
    ids = (tokenizer["x"], tokenizer["<unk>"], tokenizer["<unk>"])
    attention = np.array([[0.9, 0.1, 0.0], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
    found = decode_text(ids, -1.0, attention, piece, tokenizer)
    assert found.text == "x Zürcher Der"
    assert found.tokens == ("x", "Zürcher", "Der")


def test_an_ensemble_attends_as_its_members_do_on_the_mean():
    members = [_model("additive").float() for _ in range(2)]
    for weight in members[1].parameters():
        weight.data.mul_(1.5)
    model = Ensemble(members)
    with torch.no_grad():
        _, state = model(torch.tensor([[1, 2, 3]]))
        _, state = model.step(torch.tensor([BEGIN]), state)
    assert isinstance(state[0], DecoderState)
    torch.testing.assert_close(attention_weights(state), (state[0].weights + state[1].weights) / 2)


def test_the_longest_reach_the_picture_in_part():
    """Sixty tokens of a side are drawn, signs that mathematics would be read into as they stand."""
    figure = attention_figure(["$x$"] * 99, ["_y^"] * 80, np.full((80, 99), 1 / 99))
    ax = figure.axes[0]
    assert (len(ax.get_xticks()), len(ax.get_yticks())) == (60, 60)
    figure.canvas.draw()  # type: ignore[union-attr]


def test_bleu_by_length():
    sources = ["w " * n for n in (3, 8, 9, 30)]
    references = ["a b c d e", "b c d e f", "c d e f g", "d e f g h"]
    table = scoring.bleu_by_length(sources, references, {"model": references, "other": ["x"] * 4})
    assert table["source words"].tolist() == ["1 to 8", "9 to 12", "over 24"]
    assert table["sentences"].tolist() == [2, 1, 1]
    assert table["model"].tolist() == pytest.approx([100] * 3)


def test_a_translation_memory():
    memory = TranslationMemory(EN, DE)
    assert memory(["the dog ran", "one cat"]) == ["der Hund rennt", "eine Katze schläft"]
    assert memory(["??"]) == [DE[0]]  # nothing in common: the first


def test_pieces_of_words_leave_nothing_unknown():
    tokenizer = Tokenizer.fit(["Ein Hund."], "bpe", vocab_size=270, special_tokens=("<pad>", "<bos>", "<eos>"))
    (piece,) = split_into_segments(["Zürich!"], tokenizer, 99)
    assert isinstance(piece, InputSegment)
    found = decode_text(tuple(piece.ids.tolist()), 0.0, np.eye(len(piece.ids)), piece, tokenizer)
    assert found.text == "Zürich!"
    assert TextPairDataset([piece.ids]).batch(np.array([0])).targets is None
