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
from lstmkit.data.text.generated_text import InputSegment, decode_text, split_into_segments
from lstmkit.data.text.text_pairs import TextPairDataset, filter_by_length, read_sources, read_text_pairs
from lstmkit.data.text.tokenizer import Tokenizer, detokenize
from lstmkit.decoding.generation import beam_search
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs import load
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
    """Two files, tables, a frame and pairs are read alike; pairs with a blank side are counted."""
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
    """A split line would misalign the lines below it."""
    monkeypatch.setattr("lstmkit.data.text.lines.MAX_LINE_LENGTH", 10)
    pairs = read_text_pairs(_files(tmp_path, "long " * 9 + "\nshort\n", "lang\nkurz\n"))
    assert pairs.sources == ("long " * 9, "short")


@pytest.mark.parametrize(
    ("data", "message"),
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
def test_invalid_files_are_refused(data: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each one-line message says what is wrong, where, and what to do."""
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
    with pytest.raises(DataError, match=message) as caught:
        read_text_pairs(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([("a", "b", "c")], "pair 1 is"),
        (["a"], "pair 1 is 'a': give each pair as"),
        ([("a", "b"), ("c", 3)], "entry 2 is int 3: give text"),
        ([("", "b"), ("a", " ")], "has no pair with text on both sides"),
        (7, "not int"),
        (pd.DataFrame({"source": ["a", None], "target": ["b", "c"]}), "entry 2 is NoneType None: give text"),
    ],
)
def test_invalid_pairs_are_refused(data: Any, message: str):
    with pytest.raises(DataError, match=message):
        read_text_pairs(data)


def test_nothing_to_translate(tmp_path: Path):
    (tmp_path / "empty.txt").write_text("")
    for data, message in (
        ([], "nothing to translate"),
        (tmp_path / "empty.txt", "is empty"),
        ([3], "is int 3: give text"),
    ):
        with pytest.raises(DataError, match=message):
            read_sources(data)


def test_pairs_as_ids():
    """Sources are padded with 0, targets with -1; pairs that are too long are counted."""
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


def test_detokenization_restores_the_text():
    for text in ("a man (in red), running.", "it's a t-shirt!", "one; two: three?", "5% of 1/2 …"):
        tokenizer = Tokenizer.fit([text], "words")
        (ids,) = tokenizer.encode([text])
        assert detokenize(tokenizer.tokens(ids)).replace(" …", "…") == text.replace(" …", "…")


# ---- attention -------------------------------------------------------------------------------------------------------


def _attention(kind: str, coverage: bool = False) -> tuple[Attention, Tensor, Tensor, Tensor]:
    """Attention with queries ``(2, 3, 4)``, keys ``(2, 5, 4)`` and a mask that hides two keys of one sequence."""
    torch.manual_seed(0)
    attention = build_attention(kind, 4, 4, 6, coverage).double()
    if attention.coverage is not None:
        torch.nn.init.normal_(attention.coverage)
    queries, keys = torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double()
    return attention, queries, keys, torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def _score(attention: Any, kind: str, query: Tensor, key: Tensor, covered: float) -> float:
    """The score of one query and one key, as in the papers."""
    coverage_term = 0.0 if attention.coverage is None else covered * attention.coverage
    if kind == "additive":
        hidden = attention.query.weight @ query + attention.query.bias + attention.key.weight @ key + coverage_term
        return float(attention.value.weight[0] @ torch.tanh(hidden))
    score = query @ key if kind == "dot" else query @ attention.key.weight @ key
    return float(score + coverage_term)


@every_kind
@pytest.mark.parametrize("coverage", [False, True])
@torch.no_grad()
def test_attention_equals_the_papers_equations(kind: str, coverage: bool):
    """Scores, softmax over the keys of the mask, and the mean of the keys equal plain loops."""
    attention, queries, keys, mask = _attention(kind, coverage)
    covered = torch.rand(2, 3, 5).double()
    contexts, weights = attention(queries, keys, mask, covered=covered)
    for b, t in itertools.product(range(2), range(3)):
        positions = range(5 if b == 0 else 3)
        odds = [
            math.exp(_score(attention, kind, queries[b, t], keys[b, s], float(covered[b, t, s]))) for s in positions
        ]
        expected = [odd / sum(odds) for odd in odds] + [0.0] * (5 - len(odds))
        assert weights[b, t].tolist() == pytest.approx(expected)
        mean = sum(w * keys[b, s] for s, w in enumerate(expected))
        torch.testing.assert_close(contexts[b, t], mean)


@every_kind
def test_masked_keys_change_nothing(kind: str):
    """Padding has no effect, prepared keys give the same result, and without keys the context is 0, not NaN."""
    attention, queries, keys, mask = _attention(kind)
    contexts, weights = attention(queries, keys, mask)
    other = keys.masked_fill(~mask.unsqueeze(-1), 1e6)
    torch.testing.assert_close(attention(queries, other, mask, attention.prepare(other)), (contexts, weights))
    alone = attention(queries[1:], keys[1:, :3])
    torch.testing.assert_close(alone, (contexts[1:], weights[1:, :, :3]))
    no_keys, _ = attention(queries.requires_grad_(), keys, torch.zeros_like(mask))
    assert not no_keys.any()
    no_keys.sum().backward()
    assert torch.isfinite(queries.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("coverage", [False, True])
def test_additive_attention_in_chunks(coverage: bool, monkeypatch: pytest.MonkeyPatch):
    """Scores and gradients equal those at once: of 60 numbers per step one step fits, of 120 two of three."""
    attention, queries, keys, mask = _attention("additive", coverage)
    covered = torch.rand(2, 3, 5).double() if coverage else None
    results = []
    for max_elements in (2**26, 1, 120):
        monkeypatch.setattr(attending, "_MAX_ELEMENTS", max_elements)
        query_leaf = queries.clone().requires_grad_()
        attention.zero_grad()
        contexts, weights = attention(query_leaf, keys, mask, covered=covered)
        contexts.square().sum().backward()
        results.append([contexts, weights, query_leaf.grad, *(p.grad for p in attention.parameters())])
    for whole, *chunked in zip(*results, strict=True):
        for chunk_result in chunked:
            torch.testing.assert_close(chunk_result, whole)


def test_dot_attention_needs_equal_widths():
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
    scheduled_sampling: float = 0.0,
    sampling_rise: int = 0,
) -> EncoderDecoder:
    torch.manual_seed(0)
    trunk = build_trunk(cell, 3, 4, num_layers=layers, bidirectional=True, merge="sum")
    lower = build_trunk(cell, 3 + (5 if feeding else 0), 4, num_layers=layers)
    above = build_trunk(cell, 8, 6, num_layers=upper) if upper else None
    attention = build_attention(kind, 4, 4, coverage=coverage > 0)
    decoder = Decoder(TokenEncoder(TARGETS, 3), lower, attention, above, 4, 5, feeding)
    head = TokenHead(5, TARGETS)
    return EncoderDecoder(
        TokenEncoder(SOURCES, 3), trunk, decoder, head, BEGIN, 0.0, coverage, scheduled_sampling, sampling_rise
    ).double()


def _batch() -> Batch:
    torch.manual_seed(1)
    targets = torch.randint(5, (3, 6))
    targets[1, 4:], targets[2, 2:] = -1, -1
    return Batch(torch.randint(SOURCES, (3, 5)), torch.tensor([5, 2, 4]), targets, torch.tensor([6, 4, 2]))


def _stepwise(model: EncoderDecoder, batch: Batch) -> Tensor:
    """Logits ``(B, T, V)``, computed one token at a time."""
    assert batch.targets is not None
    _, state = model(batch.inputs, None, batch.lengths)
    before, step_logits = torch.full((len(batch),), BEGIN), []
    for t in range(batch.targets.shape[1]):
        logits, state = model.step(before, state)
        step_logits.append(logits)
        before = batch.targets[:, t].clamp(min=0)
    return torch.stack(step_logits, 1)


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
def test_the_loss_equals_that_of_single_steps(options: dict[str, Any]):
    """Cross-entropy and gradients equal those of ``step``, whether the steps run at once or in a loop."""
    model, batch = _model(**options), _batch()
    model.coverage_weight = 0.0  # its penalty has a separate test
    assert batch.targets is not None
    expected = F.cross_entropy(_stepwise(model, batch).flatten(0, 1), batch.targets.flatten(), ignore_index=-1)
    loss, _ = model.loss(batch)
    torch.testing.assert_close(loss, expected)
    weights = [w for name, w in model.named_parameters() if "coverage" not in name]
    pairs = zip(*(torch.autograd.grad(value, weights) for value in (loss, expected)), strict=True)
    for actual, expected_gradient in pairs:
        torch.testing.assert_close(actual, expected_gradient)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_padding_does_not_change_the_loss(options: dict[str, Any]):
    """Padding and other sentences have no effect: the loss is the mean over known tokens."""
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
    decoder_inputs: list[Tensor] = []
    model.decoder.lower.register_forward_pre_hook(lambda module, args: decoder_inputs.append(args[0]))
    (features, _, _), state = model.decoder(torch.tensor([[1], [2], [3]]), state)
    model.decoder(torch.tensor([[1], [1], [1]]), state)
    assert not decoder_inputs[0][:, :, 3:].any()
    torch.testing.assert_close(decoder_inputs[1][:, :, 3:], features)


@torch.no_grad()
def test_the_coverage_penalty_equals_the_papers_equations():
    """See et al. 2017, equations 10 to 13: the sum of past weights, and the part of it attended to again."""
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


def test_scheduled_sampling_feeds_the_models_tokens():
    """Bengio et al. 2015: with probability 1 each input is the most probable token; the probability rises linearly."""
    model, batch = _model(scheduled_sampling=1.0), _batch()
    assert batch.targets is not None
    _, state = model(batch.inputs, None, batch.lengths)
    before, step_logits = torch.full((3,), BEGIN), []
    for _ in range(6):
        logits, state = model.step(before, state)
        step_logits.append(logits)
        before = logits.argmax(-1)
    expected = F.cross_entropy(torch.stack(step_logits, 1).flatten(0, 1), batch.targets.flatten(), ignore_index=-1)
    torch.testing.assert_close(model.train().loss(batch)[0], expected)
    plain = _model()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k != "batches"})
    torch.testing.assert_close(model.eval().loss(batch), plain.loss(batch))  # only training samples
    rising = _model(scheduled_sampling=0.8, sampling_rise=4).train()
    assert [rising._sampling_probability() for _ in range(6)] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 0.8])


# ---- beam search -----------------------------------------------------------------------------------------------------


def _exhaustive(model: Any, inputs: Tensor, limit: int, penalty: float) -> list[tuple[float, tuple[int, ...]]]:
    """Every sequence of at most ``limit`` tokens with its normalized score, best first."""
    hypotheses: list[tuple[float, tuple[int, ...]]] = []

    def extend(ids: tuple[int, ...], log_p: float, before: int, state: Any) -> None:
        logits, state = model.step(torch.tensor([before]), state)
        for token, gain in enumerate(logits[0].log_softmax(-1).tolist()):
            count, total = len(ids) + 1, log_p + gain
            if token == END:
                hypotheses.append((total / ((5 + count) / 6) ** penalty, ids))
            elif count == limit:
                hypotheses.append((total / ((5 + count) / 6) ** penalty, (*ids, token)))
            else:
                extend((*ids, token), total, token, state)

    _, state = model(inputs)
    extend((), 0.0, BEGIN, state)
    return sorted(hypotheses, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@torch.no_grad()
def test_a_wide_beam_finds_the_best_sequences(penalty: float):
    """The n-best lists equal those of an exhaustive search, each sentence of a batch with its own limit."""
    model = _model().float()
    for weight in model.parameters():
        weight.mul_(4)  # so that scores depend on the tokens
    inputs, limits = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])
    _, state = model(inputs, None, torch.tensor([3, 2]))
    first = torch.full((2,), BEGIN)
    width = TARGETS**3
    hypotheses = beam_search(model.step, first, state, width, limits, end=END, length_penalty=penalty, n_best=5)
    for b, length in enumerate((3, 2)):
        expected = _exhaustive(model, inputs[b : b + 1, :length], int(limits[b]), penalty)[:5]
        assert [hypothesis.ids for hypothesis in hypotheses[b]] == [ids for _, ids in expected]
        assert [hypothesis.score for hypothesis in hypotheses[b]] == pytest.approx(
            [score for score, _ in expected], rel=1e-4
        )


@torch.no_grad()
def test_a_beam_of_one_is_greedy_and_rows_are_tracked():
    """Each token's row is that of the call that scored it: the log-probabilities along them add up."""
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

    step_log_p: list[Tensor] = []

    def step(ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = model.step(ids, state)
        step_log_p.append(logits.log_softmax(-1))
        return logits, state

    for best in beam_search(step, first, state, 3, 8, end=END, n_best=3):
        assert [hypothesis.score for hypothesis in best] == sorted(
            (hypothesis.score for hypothesis in best), reverse=True
        )
        for hypothesis in best:
            steps = zip(hypothesis.ids, hypothesis.rows, strict=True)
            log_p = sum(float(step_log_p[t][row, token]) for t, (token, row) in enumerate(steps))
            assert hypothesis.log_p <= log_p + 1e-4
            if len(hypothesis.ids) == 8:
                assert hypothesis.log_p == pytest.approx(log_p, rel=1e-4)


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
        assert [hypothesis.ids for hypothesis in alone] == [hypothesis.ids for hypothesis in together[b]]
    assert beam_search(model.step, torch.zeros(0, dtype=torch.long), None, 3, 5, end=END) == []


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def translator() -> Translator:
    """A translator of sequences to their reverse, which attention makes possible."""
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(list("abcdefgh"), rng.integers(3, 8))) for _ in range(700)]
    pairs = [(line, line[::-1].upper()) for line in lines]
    return Translator(
        tokenization="whitespace", epochs=16, hidden_size=32, batch_size=32, lr=0.01, dropout=0.0, input_dropout=0.0,
        label_smoothing=0.0, ema_decay=0.98, attention="general", patience=0,
    ).fit(pairs)  # fmt: skip


def test_the_model_learns_to_reverse(translator: Translator):
    """The model reverses sequences that it was not trained on."""
    lines = ["a b c d e f", "h a h b", "c c d"]
    translations = translator.predict(lines)
    assert [translation.text for translation in translations] == [line[::-1].upper() for line in lines]
    assert translations[0].attention.shape == (6, 6)
    assert translations[0].attention.sum(1) == pytest.approx(np.ones(6), abs=1e-4)


def test_blank_and_long_lines(translator: Translator):
    """A blank line stays blank, a long one is translated in segments, and each line gives one line."""
    translator.predictor.settings.max_tokens = 4
    try:
        translations = translator.predict(["", "a b c d e f g h a b c", " \t", "a\nb c"], n_best=2)
    finally:
        translator.predictor.settings.max_tokens = 100
    assert [translation.text for translation in translations] == ["", "D C B A H G F E C B A", "", "C B A"]
    assert [len(translation.n_best) for translation in translations] == [1, 2, 1, 2]
    assert translations[1].source_tokens == ("a", "b", "c", "d")
    text = translator.to_text(translations).splitlines()
    assert len(text) == 6
    assert text[1].startswith("1 ||| D C B A H G F E C B A ||| ")
    assert translator.to_text(translator.predict(["a b c", "", "d e f"])).splitlines() == ["C B A", "", "F E D"]
    assert translator.predict([" "])[0].text == ""
    with pytest.raises(DataError, match="all lines from line 2 on are blank"):
        translator.example_sequences(["a", "", ""], line=2)
    with pytest.raises(DataError, match="there is no line 9"):
        translator.example_sequences(["a"], line=9)
    assert len(translator.plot(None, translator.predict([""])).axes) == 1


def test_long_pairs_are_left_out_of_training():
    """Long pairs are counted and reported; if no pair is left, the message says what to do."""
    messages: list[str] = []

    class RecordingProgress(Progress):
        def say(self, text: str) -> None:
            messages.append(text)

    pairs = [*zip(EN, DE, strict=True)] * 4
    options: dict[str, Any] = {
        "tokenization": "whitespace",
        "epochs": 1,
        "hidden_size": 2,
        "test_fraction": 0.0,
        "valid_fraction": 0.0,
    }
    job = Translator(**options).fit([("a " * 10**5, "lang"), *pairs], progress=RecordingProgress())
    assert messages == ["the pairs: 1 pairs with a side above 100 tokens are left out"]
    assert job._num_too_long == 1
    with pytest.raises(DataError, match="every pair has a side above 2 tokens: raise max_tokens"):
        Translator(max_tokens=2, **options).fit(pairs)


def test_invalid_beam_sizes_are_refused(translator: Translator):
    for beam_size, n_best in ((0, 1), (5, 0), (2, 3)):
        with pytest.raises(SettingError, match="n_best must be from 1 to beam_size"):
            translator.predict(["a"], beam_size=beam_size, n_best=n_best)


def test_the_evaluation_has_baselines(translator: Translator):
    """The table has a translation memory and a copy of the source."""
    pairs = [("a b c d", "D C B A"), ("e f g h", "H G F E")]
    evaluation = translator.evaluate(pairs)
    table = evaluation.table.set_index("model")
    assert table.index.tolist() == ["LSTM", "translation memory", "copy of the source"]
    assert table.loc["LSTM", "BLEU"] == pytest.approx(100)
    assert table.loc["LSTM", "BLEU"] > table["BLEU"].iloc[1:].max()
    assert any("tok:13a" in note and "version" in note for note in evaluation.notes)


def test_a_loaded_model_has_no_translation_memory(translator: Translator, tmp_path: Path):
    loaded = load(translator.save(tmp_path))
    assert loaded.evaluate([("a b c d", "D C B A")]).table["model"].tolist() == ["LSTM", "copy of the source"]


def test_unknown_words_are_copied():
    """An unknown token becomes the source word with the most attention, as written there."""
    tokenizer = Tokenizer.fit(["x y"], "words", lowercase=True, special_tokens=("<pad>", "<bos>", "<eos>", "<unk>"))
    (segment,) = split_into_segments(["Der alte Zürcher"], tokenizer, 9)
    assert segment.words == ("Der", "alte", "Zürcher")
    ids = (tokenizer["x"], tokenizer["<unk>"], tokenizer["<unk>"])
    attention = np.array([[0.9, 0.1, 0.0], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
    translation = decode_text(ids, -1.0, attention, segment, tokenizer)
    assert translation.text == "x Zürcher Der"
    assert translation.tokens == ("x", "Zürcher", "Der")


def test_the_attention_of_an_ensemble_is_the_mean_of_its_members():
    members = [_model("additive").float() for _ in range(2)]
    for weight in members[1].parameters():
        weight.data.mul_(1.5)
    model = Ensemble(members)
    with torch.no_grad():
        _, state = model(torch.tensor([[1, 2, 3]]))
        _, state = model.step(torch.tensor([BEGIN]), state)
    assert isinstance(state[0], DecoderState)
    torch.testing.assert_close(attention_weights(state), (state[0].weights + state[1].weights) / 2)


def test_long_attention_figures_are_truncated():
    """Sixty tokens per side are drawn, and math markup is drawn as text."""
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


def test_subword_units_have_no_unknown_tokens():
    tokenizer = Tokenizer.fit(["Ein Hund."], "bpe", vocab_size=270, special_tokens=("<pad>", "<bos>", "<eos>"))
    (segment,) = split_into_segments(["Zürich!"], tokenizer, 99)
    assert isinstance(segment, InputSegment)
    translation = decode_text(tuple(segment.ids.tolist()), 0.0, np.eye(len(segment.ids)), segment, tokenizer)
    assert translation.text == "Zürich!"
    assert TextPairDataset([segment.ids]).batch(np.array([0])).targets is None
