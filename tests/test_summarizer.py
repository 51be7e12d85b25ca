"""Summaries: copying, coverage beside it, nothing twice, ROUGE and its baselines, and the job that joins them."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lstmkit.data import catalog
from lstmkit.data.batch import Batch
from lstmkit.data.text.copy_vocabulary import encode_source, encode_target
from lstmkit.data.text.lines import split_sentences
from lstmkit.data.text.text_pairs import SUMMARIES, read_sources, read_text_pairs
from lstmkit.data.text.tokenizer import Tokenizer
from lstmkit.decoding.generation import beam_search, block_repeated_ngrams
from lstmkit.errors import DataError
from lstmkit.jobs import load
from lstmkit.jobs.summarizer import metrics as scoring
from lstmkit.jobs.summarizer.baselines import lead, leading_words
from lstmkit.jobs.summarizer.job import Summarizer
from lstmkit.models.base import Ensemble
from lstmkit.models.encoder_decoder import Decoder, EncoderDecoder, attention_weights, generation_probabilities
from lstmkit.modules.attention import build_attention
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.pointer_generator import final_log_probabilities, log_likelihood, pointer_generator_loss
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress
from lstmkit.recipes import protocols
from scored import run_protocol

V, S, BEGIN, END, UNKNOWN = 6, 4, 0, 1, 2


# ---- the final distribution ------------------------------------------------------------------------------------------


def _numbers(seed: int = 0, rows: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, switches, attention and what was read, with words read twice and words unknown."""
    torch.manual_seed(seed)
    ids = torch.tensor([[3, 3, 5, 7], [6, 7, 6, 2], [0, 1, 2, 3], [4, 4, 4, 4], [6, 7, 8, 9]])[:rows]
    logits, switch = torch.randn(rows, V).double(), torch.randn(rows).double()
    return logits, switch, torch.randn(rows, S).double().softmax(-1), ids


def _slowly(logits: Tensor, switch: float, weights: Tensor, ids: Tensor) -> list[float]:
    """See et al. 2017, equations 8 and 9, word by word."""
    p_gen = 1 / (1 + math.exp(-switch))
    odds = [math.exp(x) for x in logits.tolist()]
    found = [0.0] * (V + S)
    for word, odd in enumerate(odds):
        found[word] += p_gen * odd / sum(odds)
    for word, weight in zip(ids.tolist(), weights.tolist(), strict=True):
        found[word] += (1 - p_gen) * weight
    return found


def test_the_final_distribution_is_the_papers():
    logits, switch, weights, ids = _numbers()
    found = final_log_probabilities(logits, switch, weights, ids)
    assert found.shape == (5, V + S)
    for row in range(5):
        wanted = _slowly(logits[row], float(switch[row]), weights[row], ids[row])
        assert found[row].exp().tolist() == pytest.approx(wanted)
        assert sum(wanted) == pytest.approx(1)
        for word, p in enumerate(wanted):
            told = log_likelihood(*(x[row] for x in (logits, switch, weights, ids)), torch.tensor(word))
            assert float(told.exp()) == pytest.approx(p)


def test_the_gradient_of_the_likelihood_is_right():
    """Of words that are known, read, both, and neither."""
    logits, switch, weights, ids = _numbers()
    leaves = [x.requires_grad_() for x in (logits, switch, weights)]
    for words in ([3, 7, 5, 0, 9], [7, 6, 3, 4, 8], [5, 2, 2, 4, 0]):
        assert torch.autograd.gradcheck(lambda a, b, c, w=words: log_likelihood(a, b, c, ids, torch.tensor(w)), leaves)
    loss = pointer_generator_loss(*leaves, ids, torch.tensor([9, 8, 3, 4, 0]), smoothing=0.1)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(loss, leaves))


def test_what_cannot_be_told_has_a_finite_loss():
    """Extreme numbers in single precision: no infinity, no NaN, in loss or gradient."""
    logits = torch.tensor([[300.0, -300, 0, 0, 0, 0]] * 3, requires_grad=True)
    switch = torch.tensor([200.0, -200.0, 200.0], requires_grad=True)
    weights = torch.tensor([[1.0, 0, 0, 0]] * 3, requires_grad=True)
    loss = pointer_generator_loss(logits, switch, weights, torch.full((3, 4), 6), torch.tensor([7, 1, 6]))
    grads = torch.autograd.grad(loss, [logits, switch, weights])
    assert torch.isfinite(loss)
    assert all(torch.isfinite(grad).all() for grad in grads)
    none = torch.zeros(0, 4, dtype=torch.long)
    assert pointer_generator_loss(logits[:0], switch[:0], weights[:0], none, none[:, 0]).item() == 0


def test_smoothing_asks_the_vocabulary_to_be_even():
    logits, switch, weights, ids = _numbers()
    targets = torch.tensor([3, 7, 3, 0, 9])
    plain = pointer_generator_loss(logits, switch, weights, ids, targets)
    wanted = 0.8 * plain - 0.2 * logits.log_softmax(-1).mean()
    torch.testing.assert_close(pointer_generator_loss(logits, switch, weights, ids, targets, 0.2), wanted)


# ---- in the encoder-decoder ------------------------------------------------------------------------------------------


def _model(kind: str = "additive", upper: int = 0, feeding: bool = False, coverage: float = 0.0) -> EncoderDecoder:
    torch.manual_seed(0)
    embedding = TokenEncoder(V, 3, unknown=UNKNOWN)
    trunk = build_trunk("lstm", 3, 4, num_layers=1, bidirectional=True, merge="sum")
    lower = build_trunk("lstm", 3 + (5 if feeding else 0), 4, num_layers=1)
    above = build_trunk("lstm", 8, 4, num_layers=1) if upper else None
    attention = build_attention(kind, 4, 4, coverage=coverage > 0)
    decoder = Decoder(embedding, lower, attention, above, 4, 5, feeding, copy_mechanism=True)
    model = EncoderDecoder(embedding, trunk, decoder, TokenHead(5, V), BEGIN, coverage_weight=coverage).double()
    for weight in model.parameters():
        weight.data.mul_(3)  # so that words differ
    return model


OPTIONS = [{}, {"upper": 1, "kind": "general"}, {"feeding": True, "kind": "dot"}, {"coverage": 0.7}]


def _batch(seed: int = 1) -> Batch:
    torch.manual_seed(seed)
    lengths, ends = torch.tensor([4, 2, 3]), torch.tensor([5, 1, 3])
    inputs, targets = torch.randint(V + 2, (3, 4)), torch.randint(V + 2, (3, 5))
    inputs[torch.arange(4) >= lengths[:, None]] = 0
    there = (inputs.unsqueeze(1) == targets.unsqueeze(2)).any(-1)
    targets[(targets >= V) & ~there] = UNKNOWN  # what cannot be told has a test of its own
    targets[torch.arange(5) >= ends[:, None]] = -1
    return Batch(inputs, lengths, targets, ends)


def _stepwise(model: EncoderDecoder, batch: Batch) -> list[float]:
    """Mean of ``-log p``, from what ``step`` tells."""
    assert batch.targets is not None
    _, state = model(batch.inputs, None, batch.lengths)
    before, found = torch.full((len(batch),), BEGIN), []
    for t in range(batch.targets.shape[1]):
        told, state = model.step(before, state)
        assert told.exp().sum(-1).tolist() == pytest.approx([1.0] * len(batch))
        known = batch.targets[:, t] >= 0
        before = batch.targets[:, t].clamp(min=0)
        found += told.gather(1, before.unsqueeze(1))[known, 0].neg().tolist()
    return found


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_the_loss_is_that_of_what_steps_tell(options: dict[str, Any]):
    model, batch = _model(**options), _batch()
    weight, model.coverage_weight = model.coverage_weight, 0.0
    assert float(model.loss(batch)[0]) == pytest.approx(np.mean(_stepwise(model, batch)), rel=1e-5)
    model.coverage_weight = weight
    assert (float(model.loss(batch)[0]) > np.mean(_stepwise(model, batch)) + 1e-3) == bool(weight)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@given(seed=st.integers(0, 2**16), filled=st.integers(0, V + 3))
@settings(max_examples=8, deadline=None)
@torch.no_grad()
def test_padding_and_other_rows_change_nothing(options: dict[str, Any], seed: int, filled: int):
    """Whatever stands in the padding: the mean over known tokens is that of each example alone."""
    model, batch = _model(**options), _batch(seed)
    assert batch.lengths is not None
    assert batch.targets is not None
    assert batch.target_lengths is not None
    total = 0.0
    for row, (source, target) in enumerate(zip(batch.lengths, batch.target_lengths, strict=True)):
        alone = Batch(batch.inputs[row : row + 1, :source], targets=batch.targets[row : row + 1, :target])
        total = total + model.loss(alone)[0] * target
    batch.inputs[torch.arange(4) >= batch.lengths[:, None]] = filled
    torch.testing.assert_close(model.loss(batch)[0], total / batch.target_lengths.sum())


def test_an_unknown_word_is_fed_as_unknown():
    """Its number says which word of the source it is, not what it means."""
    model = _model()
    torch.testing.assert_close(model.encoder(torch.tensor([[V, V + 3]])), model.encoder(torch.tensor([[2, 2]])))
    with pytest.raises(IndexError):
        TokenEncoder(V, 3)(torch.tensor([[V]]))


@torch.no_grad()
def test_a_search_copies_in_any_batch_and_with_any_ensemble():
    """What is found is the same alone and beside others, by one model and by several alike."""
    model = _model().float()
    inputs = torch.tensor([[6, 7, 6, 3], [7, 6, 5, 8], [6, 3, 0, 0]])
    lengths = torch.tensor([4, 4, 2])
    for beam_search_batch in (model, Ensemble([model, model])):
        _, state = beam_search_batch(inputs, None, lengths)
        found = beam_search(beam_search_batch.step, torch.zeros(3, dtype=torch.long), state, 3, 6, end=END)
        assert any(i >= V for one in found for i in one[0].ids)
        for row, length in enumerate(lengths):
            _, state = model(inputs[row : row + 1, :length])
            (alone,) = beam_search(model.step, torch.zeros(1, dtype=torch.long), state, 3, 6, end=END)
            assert found[row][0].ids == alone[0].ids
            assert found[row][0].score == pytest.approx(alone[0].score, rel=1e-4)
            assert all(i < V or i in inputs[row] for i in alone[0].ids)
    _, state = model.step(torch.zeros(1, dtype=torch.long), state)
    p_gen = generation_probabilities(state)
    assert p_gen is not None
    assert 0 < float(p_gen) < 1
    assert attention_weights(state).sum() == pytest.approx(1)


# ---- numbers of unknown words ----------------------------------------------------------------------------------------


def test_unknown_words_have_numbers_of_their_own_text():
    """The same word the same number, whatever its case where all is lower-cased; a summary has the text's numbers."""
    tokens = Tokenizer.fit(["send the report"], "words", lowercase=True, special_tokens=("<unk>",))
    size = len(tokens)
    (ids, words), (told, said) = tokens.encode_with_tokens(["Send Zoë the ZOË files", "zoë files by Ann"])
    found, beyond = encode_source(tokens, ids, words)
    assert found == [tokens["send"], size, tokens["the"], size, size + 1]
    assert beyond == {"zoë": size, "files": size + 1}
    assert encode_target(tokens, told, said, beyond) == [
        size,
        size + 1,
        tokens["<unk>"],
        tokens["<unk>"],
    ]
    assert list(tokens.encode(["Send Zoë"])) == [ids[:2]]
    assert words == tokens.tokenize("Send Zoë the ZOË files")


# ---- nothing twice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
def test_so_many_tokens_in_a_row_are_not_written_twice(n: int):
    """And what is not a repetition is as it was: of all allowed sequences the search finds the most probable."""
    torch.manual_seed(n)
    table = torch.randn(5, 5) * 3
    table[:, END] = -9.0

    def step(ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        return table[ids], state

    first = torch.zeros(2, dtype=torch.long)
    found = beam_search(block_repeated_ngrams(step, n), first, (None, first[:, None][:, :0]), 4, 9, end=END, n_best=4)
    free = beam_search(step, first, None, 4, 9, end=END, n_best=4)

    def repeats(ids: tuple[int, ...]) -> bool:
        runs = [ids[i : i + n] for i in range(len(ids) - n + 1)]
        return len(set(runs)) < len(runs)

    assert any(repeats(one.ids) for one in free[0])
    assert found[0]
    assert not any(repeats(one.ids) for row in found for one in row)
    logits, _ = block_repeated_ngrams(step, 2)(torch.tensor([3]), (None, torch.tensor([[3, 4, 2]])))
    assert logits.isinf().tolist() == [[False, False, False, False, True]]


# ---- scores and baselines --------------------------------------------------------------------------------------------


def test_rouge_is_that_of_the_library():
    """By hand: two of three words, one of two pairs of words, two in order; stems count as words."""
    assert scoring.scores(["the red dogs"], ["a red dog"]) == {"ROUGE-1": 66.67, "ROUGE-2": 50.0, "ROUGE-L": 66.67}
    assert scoring.scores(["b a", ""], ["a b", "x"]) == {"ROUGE-1": 50.0, "ROUGE-2": 0.0, "ROUGE-L": 25.0}
    assert "rouge-score 0.1" in scoring.signature(["a red dog"])


def test_the_beginning_of_a_text():
    texts = ["Hi Ann,\nplease send it. Thanks!", "One sentence", "Is it 3.5? No."]
    assert lead([split_sentences(text) for text in texts], 9) == ["Hi Ann,", "One sentence", "Is it 3.5?"]
    assert lead([split_sentences(text) for text in texts], 2) == ["Hi Ann,", "One sentence", "Is it"]
    assert leading_words(texts, 3) == ["Hi Ann, please", "One sentence", "Is it 3.5?"]


# ---- the job ---------------------------------------------------------------------------------------------------------


def _names(rng: np.random.Generator, count: int) -> list[str]:
    return ["".join(rng.choice(list("bcdfgklmnprst"), 5)) for _ in range(count)]


def _mails(seed: int, count: int) -> list[tuple[str, str]]:
    """Each about a name that no other has: its summary can be copied, not known."""
    rng = np.random.default_rng(seed)
    filler = ["well", "so", "then", "now"]
    return [
        (" ".join([*rng.choice(filler, rng.integers(0, 4)), "about", name, *rng.choice(filler, 2)]), f"re {name}")
        for name in _names(rng, count)
    ]


@pytest.fixture(scope="module")
def copying() -> Summarizer:
    return Summarizer(
        epochs=12, hidden_size=24, batch_size=16, lr=0.02, dropout=0.0, input_dropout=0.0, ema_decay=0.9, min_count=3,
        post_attention_layers=0, patience=0, max_tokens=20, valid_fraction=0.0, test_fraction=0.0,
    ).fit(_mails(0, 400))  # fmt: skip


def test_it_learns_to_copy(copying: Summarizer):
    """Names that it has never seen, as they are written; a word of its own where there is one."""
    mails = _mails(1, 40)
    found = copying.predict([text for text, _ in mails])
    right = sum(one.text == summary for one, (_, summary) in zip(found, mails, strict=True))
    assert right >= 36
    one = next(one for one, (_, summary) in zip(found, mails, strict=True) if one.text == summary)
    assert one.tokens[1] not in copying.predictor.source_tokenizer
    assert one.generation_probabilities[0] > 0.5 > one.generation_probabilities[1]
    assert one.source_tokens[int(one.attention[1].argmax())] == one.tokens[1]
    assert copying.predict(["about XyZzy now"])[0].text.endswith("XyZzy")


def test_only_the_beginning_of_a_text_is_read(copying: Summarizer):
    """However long it is, in one line or many; and how often that was so is said."""
    text = "so about bcdfg now"
    copying.predictor.settings.max_tokens = 4
    try:
        whole, cut = copying.predict([text, f"{text}\nwell then " + "now " * 10**4])
        told = copying.evaluate([(f"{text}\nwell", "re bcdfg"), (text, "re bcdfg")])
    finally:
        copying.predictor.settings.max_tokens = 20
    assert cut.tokens == whole.tokens
    assert cut.source_tokens == whole.source_tokens == tuple(text.split())
    assert any("1 texts have more than 4 tokens; only their first 4 are read" in note for note in told.notes)


def test_empty_texts_and_the_evidence(copying: Summarizer, tmp_path: Path):
    """An empty text has an empty summary; what the table has beside the model a loaded one has too, but the memory."""
    empty, _ = copying.predict(["\n ", "about bcdfg"])
    assert (empty.text, empty.tokens, empty.attention.size) == ("", (), 0)
    assert copying.to_text(copying.predict(["", "about bcdfg"])).split("\n")[0] == ""
    mails = _mails(2, 20)
    table = copying.evaluate(mails).table
    names = table["model"].tolist()
    assert names[1:3] == ["first 2 words", "Lead-1"]
    assert names[3:] == ["nearest-neighbor summary"]
    assert table["ROUGE-1"][0] > table["ROUGE-1"][1:].max()
    again = load(copying.save(tmp_path))
    pd.testing.assert_frame_equal(again.evaluate(mails).table, table[:3])
    assert again.to_records(again.predict(mails[:2])) == copying.to_records(copying.predict(mails[:2]))


def test_the_report_says_what_was_copied(copying: Summarizer):
    section = next(s for s in copying.report_sections(read_text_pairs(_mails(3, 2))) if s.title == "Attention")
    assert "% of the summary was copied" in section.text
    assert section.table is not None
    assert section.table.columns.tolist() == ["generated token", "most attended token", "weight", "p_gen"]
    assert len(copying.plot(None, copying.predict(["", "about bcdfg"])).axes) == 2
    assert len(copying.plot(None, copying.predict([""])).axes) == 1
    assert copying.example_sequences(["", "about bcdfg"])[0].labels == ["about", "bcdfg"]


def test_long_summaries_are_left_out_of_training():
    told: list[str] = []

    class Teller(Progress):
        def say(self, text: str) -> None:
            told.append(text)

    tiny: dict[str, Any] = {"epochs": 1, "hidden_size": 2, "test_fraction": 0.0, "valid_fraction": 0.0, "max_tokens": 3}
    pairs = [("a b c d", "a b c"), *[("a b", "a b")] * 9]
    job = Summarizer(max_summary_tokens=2, **tiny).fit(pairs, progress=Teller())
    assert told == ["the pairs: 1 pairs with a summary above 2 tokens are left out"]
    assert (job._num_too_long, job._num_truncated, job.predictor.median_summary_words) == (1, 1, 2)
    assert all(len(one.tokens) <= 2 for one in job.predict(["a b c d"] * 3))
    with pytest.raises(DataError, match="every summary is above 1 tokens: raise --max-summary-tokens"):
        Summarizer(max_summary_tokens=1, **tiny).fit(pairs)


def test_texts_of_many_lines_come_from_a_table(tmp_path: Path):
    """Plain and gzipped; of a text file each line is a text; messages speak of summaries."""
    rows = [{"body": "one\ntwo", "subject": "s"}, {"body": "three", "subject": "t"}]
    (tmp_path / "m.jsonl.gz").write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    pairs = read_text_pairs(tmp_path / "m.jsonl.gz", "body", "subject", SUMMARIES)
    assert pairs.sources == ("one\ntwo", "three")
    assert read_sources(tmp_path / "m.jsonl.gz", "body") == ["one\ntwo", "three"]
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("s\n")
    assert read_sources(tmp_path / "a.txt") == ["one", "two"]
    with pytest.raises(DataError, match="must be the summary of line i of"):
        Summarizer().fit(f"{tmp_path / 'a.txt'},{tmp_path / 'b.txt'}")
    with pytest.raises(
        DataError, match=r"is only one side of texts and their summaries: give both .* text and summary"
    ):
        Summarizer().fit(tmp_path / "a.txt")
    with pytest.raises(DataError, match="nothing to summarize"):
        read_sources([], wording=SUMMARIES)


def test_summaries_of_given_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The recipe's own files; the test part trains nothing and validates nothing."""
    for part, word in (("train", "gas"), ("dev", "oil"), ("test", "coal")):
        rows = [{"body": f"the {word} report", "subject": word}] * 8
        (tmp_path / f"{part}.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    monkeypatch.setattr(catalog, "locate", lambda name, file: tmp_path / f"{file}.gz")
    options = {"train": "train.jsonl", "valid": "dev.jsonl", "test": "test.jsonl"}
    job = Summarizer(epochs=1, hidden_size=2, test_fraction=0.0, text_col="body", summary_col="subject")
    table = run_protocol(protocols("summarizer")["given_parts"], job, tmp_path, options)
    assert len(table) == 4
    assert "gas" in job.predictor.source_tokenizer
    assert "oil" not in job.predictor.source_tokenizer
    assert "coal" not in job.predictor.source_tokenizer
