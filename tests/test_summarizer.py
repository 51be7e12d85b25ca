"""Summaries: pointer-generator, coverage, n-gram blocking, ROUGE and its baselines, and the job."""

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


def _pointer_inputs(seed: int = 0, rows: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, switches, attention weights and source ids, with repeated and with unknown words."""
    torch.manual_seed(seed)
    ids = torch.tensor([[3, 3, 5, 7], [6, 7, 6, 2], [0, 1, 2, 3], [4, 4, 4, 4], [6, 7, 8, 9]])[:rows]
    logits, switch = torch.randn(rows, V).double(), torch.randn(rows).double()
    return logits, switch, torch.randn(rows, S).double().softmax(-1), ids


def _final_distribution(logits: Tensor, switch: float, weights: Tensor, ids: Tensor) -> list[float]:
    """See et al. 2017, equations 8 and 9, word by word."""
    p_gen = 1 / (1 + math.exp(-switch))
    odds = [math.exp(x) for x in logits.tolist()]
    distribution = [0.0] * (V + S)
    for word, odd in enumerate(odds):
        distribution[word] += p_gen * odd / sum(odds)
    for word, weight in zip(ids.tolist(), weights.tolist(), strict=True):
        distribution[word] += (1 - p_gen) * weight
    return distribution


def test_the_final_distribution_equals_the_papers_equations():
    logits, switch, weights, ids = _pointer_inputs()
    actual = final_log_probabilities(logits, switch, weights, ids)
    assert actual.shape == (5, V + S)
    for row in range(5):
        expected = _final_distribution(logits[row], float(switch[row]), weights[row], ids[row])
        assert actual[row].exp().tolist() == pytest.approx(expected)
        assert sum(expected) == pytest.approx(1)
        for word, p in enumerate(expected):
            word_log_p = log_likelihood(*(x[row] for x in (logits, switch, weights, ids)), torch.tensor(word))
            assert float(word_log_p.exp()) == pytest.approx(p)


def test_the_likelihood_passes_gradcheck():
    """The words are in the vocabulary, in the source, in both, and in neither."""
    logits, switch, weights, ids = _pointer_inputs()
    leaves = [x.requires_grad_() for x in (logits, switch, weights)]
    for words in ([3, 7, 5, 0, 9], [7, 6, 3, 4, 8], [5, 2, 2, 4, 0]):
        assert torch.autograd.gradcheck(lambda a, b, c, w=words: log_likelihood(a, b, c, ids, torch.tensor(w)), leaves)
    loss = pointer_generator_loss(*leaves, ids, torch.tensor([9, 8, 3, 4, 0]), smoothing=0.1)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(loss, leaves))


def test_impossible_words_have_a_finite_loss():
    """Extreme float32 numbers give no infinity and no NaN in loss or gradient."""
    logits = torch.tensor([[300.0, -300, 0, 0, 0, 0]] * 3, requires_grad=True)
    switch = torch.tensor([200.0, -200.0, 200.0], requires_grad=True)
    weights = torch.tensor([[1.0, 0, 0, 0]] * 3, requires_grad=True)
    loss = pointer_generator_loss(logits, switch, weights, torch.full((3, 4), 6), torch.tensor([7, 1, 6]))
    grads = torch.autograd.grad(loss, [logits, switch, weights])
    assert torch.isfinite(loss)
    assert all(torch.isfinite(grad).all() for grad in grads)
    none = torch.zeros(0, 4, dtype=torch.long)
    assert pointer_generator_loss(logits[:0], switch[:0], weights[:0], none, none[:, 0]).item() == 0


def test_label_smoothing_is_uniform_over_the_vocabulary():
    logits, switch, weights, ids = _pointer_inputs()
    targets = torch.tensor([3, 7, 3, 0, 9])
    plain = pointer_generator_loss(logits, switch, weights, ids, targets)
    expected = 0.8 * plain - 0.2 * logits.log_softmax(-1).mean()
    torch.testing.assert_close(pointer_generator_loss(logits, switch, weights, ids, targets, 0.2), expected)


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
    in_source = (inputs.unsqueeze(1) == targets.unsqueeze(2)).any(-1)
    targets[(targets >= V) & ~in_source] = UNKNOWN  # impossible words have a separate test
    targets[torch.arange(5) >= ends[:, None]] = -1
    return Batch(inputs, lengths, targets, ends)


def _stepwise(model: EncoderDecoder, batch: Batch) -> list[float]:
    """All values of ``-log p``, computed with ``step``."""
    assert batch.targets is not None
    _, state = model(batch.inputs, None, batch.lengths)
    before, losses = torch.full((len(batch),), BEGIN), []
    for t in range(batch.targets.shape[1]):
        log_p, state = model.step(before, state)
        assert log_p.exp().sum(-1).tolist() == pytest.approx([1.0] * len(batch))
        known = batch.targets[:, t] >= 0
        before = batch.targets[:, t].clamp(min=0)
        losses += log_p.gather(1, before.unsqueeze(1))[known, 0].neg().tolist()
    return losses


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_the_loss_equals_that_of_single_steps(options: dict[str, Any]):
    model, batch = _model(**options), _batch()
    weight, model.coverage_weight = model.coverage_weight, 0.0
    assert float(model.loss(batch)[0]) == pytest.approx(np.mean(_stepwise(model, batch)), rel=1e-5)
    model.coverage_weight = weight
    assert (float(model.loss(batch)[0]) > np.mean(_stepwise(model, batch)) + 1e-3) == bool(weight)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@given(seed=st.integers(0, 2**16), padding=st.integers(0, V + 3))
@settings(max_examples=8, deadline=None)
@torch.no_grad()
def test_padding_and_other_rows_do_not_change_the_loss(options: dict[str, Any], seed: int, padding: int):
    """The loss is the mean over the known tokens of each example alone, whatever the padding holds."""
    model, batch = _model(**options), _batch(seed)
    assert batch.lengths is not None
    assert batch.targets is not None
    assert batch.target_lengths is not None
    total = 0.0
    for row, (source, target) in enumerate(zip(batch.lengths, batch.target_lengths, strict=True)):
        alone = Batch(batch.inputs[row : row + 1, :source], targets=batch.targets[row : row + 1, :target])
        total = total + model.loss(alone)[0] * target
    batch.inputs[torch.arange(4) >= batch.lengths[:, None]] = padding
    torch.testing.assert_close(model.loss(batch)[0], total / batch.target_lengths.sum())


def test_unknown_words_are_embedded_as_unknown():
    """The id of an unknown word is its position in the source, not its meaning."""
    model = _model()
    torch.testing.assert_close(model.encoder(torch.tensor([[V, V + 3]])), model.encoder(torch.tensor([[2, 2]])))
    with pytest.raises(IndexError):
        TokenEncoder(V, 3)(torch.tensor([[V]]))


@torch.no_grad()
def test_beam_search_copies_the_same_in_any_batch_and_ensemble():
    """Results are the same alone and in a batch, from one model and from an ensemble of equal models."""
    model = _model().float()
    inputs = torch.tensor([[6, 7, 6, 3], [7, 6, 5, 8], [6, 3, 0, 0]])
    lengths = torch.tensor([4, 4, 2])
    for searched_model in (model, Ensemble([model, model])):
        _, state = searched_model(inputs, None, lengths)
        hypotheses = beam_search(searched_model.step, torch.zeros(3, dtype=torch.long), state, 3, 6, end=END)
        assert any(i >= V for beam in hypotheses for i in beam[0].ids)
        for row, length in enumerate(lengths):
            _, state = model(inputs[row : row + 1, :length])
            (alone,) = beam_search(model.step, torch.zeros(1, dtype=torch.long), state, 3, 6, end=END)
            assert hypotheses[row][0].ids == alone[0].ids
            assert hypotheses[row][0].score == pytest.approx(alone[0].score, rel=1e-4)
            assert all(i < V or i in inputs[row] for i in alone[0].ids)
    _, state = model.step(torch.zeros(1, dtype=torch.long), state)
    p_gen = generation_probabilities(state)
    assert p_gen is not None
    assert 0 < float(p_gen) < 1
    assert attention_weights(state).sum() == pytest.approx(1)


# ---- ids of unknown words --------------------------------------------------------------------------------------------


def test_unknown_words_have_ids_of_their_source_text():
    """The same word has the same id, in any case if lowercased; the summary uses the ids of its source."""
    tokens = Tokenizer.fit(["send the report"], "words", lowercase=True, special_tokens=("<unk>",))
    size = len(tokens)
    (ids, words), (target_ids, target_words) = tokens.encode_with_tokens(["Send Zoë the ZOË files", "zoë files by Ann"])
    source_ids, unknown_ids = encode_source(tokens, ids, words)
    assert source_ids == [tokens["send"], size, tokens["the"], size, size + 1]
    assert unknown_ids == {"zoë": size, "files": size + 1}
    assert encode_target(tokens, target_ids, target_words, unknown_ids) == [
        size,
        size + 1,
        tokens["<unk>"],
        tokens["<unk>"],
    ]
    assert list(tokens.encode(["Send Zoë"])) == [ids[:2]]
    assert words == tokens.tokenize("Send Zoë the ZOË files")


# ---- n-gram blocking -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
def test_repeated_ngrams_are_blocked(n: int):
    """The search without blocking repeats n-grams; the search with blocking does not."""
    torch.manual_seed(n)
    table = torch.randn(5, 5) * 3
    table[:, END] = -9.0

    def step(ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        return table[ids], state

    first = torch.zeros(2, dtype=torch.long)
    blocked = beam_search(block_repeated_ngrams(step, n), first, (None, first[:, None][:, :0]), 4, 9, end=END, n_best=4)
    free = beam_search(step, first, None, 4, 9, end=END, n_best=4)

    def repeats(ids: tuple[int, ...]) -> bool:
        runs = [ids[i : i + n] for i in range(len(ids) - n + 1)]
        return len(set(runs)) < len(runs)

    assert any(repeats(hypothesis.ids) for hypothesis in free[0])
    assert blocked[0]
    assert not any(repeats(hypothesis.ids) for row in blocked for hypothesis in row)
    logits, _ = block_repeated_ngrams(step, 2)(torch.tensor([3]), (None, torch.tensor([[3, 4, 2]])))
    assert logits.isinf().tolist() == [[False, False, False, False, True]]


# ---- scores and baselines --------------------------------------------------------------------------------------------


def test_rouge_by_hand():
    """Two of three words, one of two bigrams, and two words in order are shared; stems count as words."""
    assert scoring.scores(["the red dogs"], ["a red dog"]) == {"ROUGE-1": 66.67, "ROUGE-2": 50.0, "ROUGE-L": 66.67}
    assert scoring.scores(["b a", ""], ["a b", "x"]) == {"ROUGE-1": 50.0, "ROUGE-2": 0.0, "ROUGE-L": 25.0}
    assert "rouge-score 0.1" in scoring.signature(["a red dog"])


def test_lead_baselines():
    texts = ["Hi Ann,\nplease send it. Thanks!", "One sentence", "Is it 3.5? No."]
    assert lead([split_sentences(text) for text in texts], 9) == ["Hi Ann,", "One sentence", "Is it 3.5?"]
    assert lead([split_sentences(text) for text in texts], 2) == ["Hi Ann,", "One sentence", "Is it"]
    assert leading_words(texts, 3) == ["Hi Ann, please", "One sentence", "Is it 3.5?"]


# ---- the job ---------------------------------------------------------------------------------------------------------


def _names(rng: np.random.Generator, count: int) -> list[str]:
    return ["".join(rng.choice(list("bcdfgklmnprst"), 5)) for _ in range(count)]


def _mails(seed: int, count: int) -> list[tuple[str, str]]:
    """Each text is about a unique name, so that its summary can be copied but not known."""
    rng = np.random.default_rng(seed)
    filler = ["well", "so", "then", "now"]
    return [
        (" ".join([*rng.choice(filler, rng.integers(0, 4)), "about", name, *rng.choice(filler, 2)]), f"re {name}")
        for name in _names(rng, count)
    ]


@pytest.fixture(scope="module")
def summarizer() -> Summarizer:
    return Summarizer(
        epochs=12, hidden_size=24, batch_size=16, lr=0.02, dropout=0.0, input_dropout=0.0, ema_decay=0.9, min_count=3,
        post_attention_layers=0, patience=0, max_tokens=20, valid_fraction=0.0, test_fraction=0.0,
    ).fit(_mails(0, 400))  # fmt: skip


def test_the_model_learns_to_copy(summarizer: Summarizer):
    """Names that the model has never seen are copied as written; known words are generated."""
    mails = _mails(1, 40)
    predictions = summarizer.predict([text for text, _ in mails])
    num_correct = sum(prediction.text == summary for prediction, (_, summary) in zip(predictions, mails, strict=True))
    assert num_correct >= 36
    prediction = next(
        prediction for prediction, (_, summary) in zip(predictions, mails, strict=True) if prediction.text == summary
    )
    assert prediction.tokens[1] not in summarizer.predictor.source_tokenizer
    assert prediction.generation_probabilities[0] > 0.5 > prediction.generation_probabilities[1]
    assert prediction.source_tokens[int(prediction.attention[1].argmax())] == prediction.tokens[1]
    assert summarizer.predict(["about XyZzy now"])[0].text.endswith("XyZzy")


def test_only_the_beginning_of_a_text_is_read(summarizer: Summarizer):
    """The rest of a long text is ignored, in one line or in many, and a note counts such texts."""
    text = "so about bcdfg now"
    summarizer.predictor.settings.max_tokens = 4
    try:
        short_text, long_text = summarizer.predict([text, f"{text}\nwell then " + "now " * 10**4])
        evaluation = summarizer.evaluate([(f"{text}\nwell", "re bcdfg"), (text, "re bcdfg")])
    finally:
        summarizer.predictor.settings.max_tokens = 20
    assert long_text.tokens == short_text.tokens
    assert long_text.source_tokens == short_text.source_tokens == tuple(text.split())
    assert any("1 texts have more than 4 tokens; only their first 4 are read" in note for note in evaluation.notes)


def test_empty_texts_and_evaluation(summarizer: Summarizer, tmp_path: Path):
    """An empty text has an empty summary; a loaded model has all baselines but the nearest neighbor."""
    empty, _ = summarizer.predict(["\n ", "about bcdfg"])
    assert (empty.text, empty.tokens, empty.attention.size) == ("", (), 0)
    assert summarizer.to_text(summarizer.predict(["", "about bcdfg"])).split("\n")[0] == ""
    mails = _mails(2, 20)
    table = summarizer.evaluate(mails).table
    names = table["model"].tolist()
    assert names[1:3] == ["first 2 words", "Lead-1"]
    assert names[3:] == ["nearest-neighbor summary"]
    assert table["ROUGE-1"][0] > table["ROUGE-1"][1:].max()
    loaded = load(summarizer.save(tmp_path))
    pd.testing.assert_frame_equal(loaded.evaluate(mails).table, table[:3])
    assert loaded.to_records(loaded.predict(mails[:2])) == summarizer.to_records(summarizer.predict(mails[:2]))


def test_the_report_shows_what_was_copied(summarizer: Summarizer):
    section = next(s for s in summarizer.report_sections(read_text_pairs(_mails(3, 2))) if s.title == "Attention")
    assert "% of the summary was copied" in section.text
    assert section.table is not None
    assert section.table.columns.tolist() == ["generated token", "most attended token", "weight", "p_gen"]
    assert len(summarizer.plot(None, summarizer.predict(["", "about bcdfg"])).axes) == 2
    assert len(summarizer.plot(None, summarizer.predict([""])).axes) == 1
    assert summarizer.example_sequences(["", "about bcdfg"])[0].labels == ["about", "bcdfg"]


def test_long_summaries_are_left_out_of_training():
    messages: list[str] = []

    class RecordingProgress(Progress):
        def say(self, text: str) -> None:
            messages.append(text)

    tiny: dict[str, Any] = {"epochs": 1, "hidden_size": 2, "test_fraction": 0.0, "valid_fraction": 0.0, "max_tokens": 3}
    pairs = [("a b c d", "a b c"), *[("a b", "a b")] * 9]
    job = Summarizer(max_summary_tokens=2, **tiny).fit(pairs, progress=RecordingProgress())
    assert messages == ["the pairs: 1 pairs with a summary above 2 tokens are left out"]
    assert (job._num_too_long, job._num_truncated, job.predictor.median_summary_words) == (1, 1, 2)
    assert all(len(prediction.tokens) <= 2 for prediction in job.predict(["a b c d"] * 3))
    with pytest.raises(DataError, match="every summary is above 1 tokens: raise max_summary_tokens"):
        Summarizer(max_summary_tokens=1, **tiny).fit(pairs)


def test_texts_of_many_lines_come_from_a_table(tmp_path: Path):
    """Tables may be gzipped; each line of a text file is one text; messages speak of summaries."""
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


def test_summaries_with_predefined_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The splits come from files; the test split is used neither for training nor for validation."""
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
