"""Tagging: sentences in columns, tags that hang on each other, letters of unseen words."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lstmkit.data.text.conll import read_tagged_sentences
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs.tagger.job import Tagger
from lstmkit.jobs.tagger.spans import iob_spans, span_f1
from lstmkit.modules.crf import CRF
from lstmkit.modules.encoders import WordEncoder
from lstmkit.modules.heads import TagHead

# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("the\tDET\ncat\tNOUN\n\n\na\tDET\n", {}),
        ("the DET\ncat NOUN\n  \na DET", {}),
        ("1\tthe\tx\tDET\t_\n2\tcat\tx\tNOUN\t_\n\n1\ta\tx\tDET\t_\n", {"token_column": 1, "tag_column": 3}),
        ("# text = the cat\nthe\tDET\ncat\tNOUN\n\na\tDET\n", {}),
    ],
)
def test_a_file_in_columns(content: str, columns: dict[str, int], tmp_path: Path):
    (tmp_path / "tagged.txt").write_text(content)
    found = read_tagged_sentences(tmp_path / "tagged.txt", **columns)
    assert found.tokens == (("the", "cat"), ("a",))
    assert found.tags == (("DET", "NOUN"), ("DET",))
    assert found.digest() == read_tagged_sentences([(["the", "cat"], ["DET", "NOUN"]), (["a"], ["DET"])]).digest()


def test_a_file_without_tags(tmp_path: Path):
    (tmp_path / "tokens.txt").write_text("the\ncat\n\na\n")
    assert read_tagged_sentences(tmp_path / "tokens.txt").tags is None
    assert read_tagged_sentences(["the cat", "a"]).tokens == (("the", "cat"), ("a",))
    assert read_tagged_sentences([["the", "cat"], ("a",)]).tokens == (("the", "cat"), ("a",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("the DET\ncat\n", r"bad.txt, line 2: 1 columns, expected at least 2"),
        ("\n \n", "bad.txt is empty"),
        (" \n", "bad.txt is empty"),
    ],
)
def test_files_that_do_not_do(content: str, says: str, tmp_path: Path):
    (tmp_path / "bad.txt").write_text(content)
    with pytest.raises(DataError, match=says):
        read_tagged_sentences(tmp_path / "bad.txt")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([(["a", "b"], ["X"])], "entry 1 has 2 tokens and 1 tags"),
        ([(["a"], ["X"]), ["b"]], "entry 2 has no tags, but others have"),
        ([["a b"]], "'a b' is not a token"),
        ([["a", 3]], "3 is not a token"),
        ([], "the list has no sentence"),
        ([[]], "the list has no sentence"),
        (3, "not int"),
    ],
)
def test_lists_that_do_not_do(data: object, says: str):
    with pytest.raises(DataError, match=says):
        read_tagged_sentences(data)


# ---- the random field ------------------------------------------------------------------------------------------------


def field_and_scores(steps: int = 4, tags: int = 3) -> tuple[CRF, torch.Tensor]:
    torch.manual_seed(0)
    crf = CRF(tags).double()
    for weight in crf.parameters():
        torch.nn.init.normal_(weight)
    return crf, torch.randn(2, steps, tags, dtype=torch.float64)


@torch.no_grad()
def by_hand(crf: CRF, emissions: torch.Tensor) -> dict[tuple[int, ...], float]:
    """The score of every sequence of tags, as the docstring has it."""
    steps, tags = emissions.shape
    found = {}
    for y in itertools.product(range(tags), repeat=steps):
        score = float(crf.first[y[0]] + crf.last[y[-1]]) + sum(float(emissions[t, k]) for t, k in enumerate(y))
        found[y] = score + sum(float(crf.transitions[a, b]) for a, b in itertools.pairwise(y))
    return found


def test_the_field_against_all_sequences():
    """Partition, score, the best one and every marginal, of sequences of other lengths side by side."""
    crf, emissions = field_and_scores()
    lengths = torch.tensor([4, 2])
    for row, n in enumerate(lengths.tolist()):
        scores = by_hand(crf, emissions[row, :n])
        total = sum(math.exp(s) for s in scores.values())
        assert crf.log_partition(emissions, lengths)[row].item() == pytest.approx(math.log(total))
        best = max(scores, key=scores.__getitem__)
        assert tuple(crf.decode(emissions, lengths)[row].tolist()) == best
        marginals = crf.marginals(emissions, lengths)[row]
        for t, k in itertools.product(range(n), range(3)):
            share = sum(math.exp(s) for y, s in scores.items() if y[t] == k) / total
            assert marginals[t, k].item() == pytest.approx(share)
        assert (marginals[n:] == 0).all()
        y = torch.full((2, 4), -1)
        y[row, :n] = torch.tensor(best)
        assert crf.score(emissions, y, lengths)[row].item() == pytest.approx(scores[best])


def test_marginals_under_inference_mode():
    crf, emissions = field_and_scores()
    with torch.inference_mode():
        found = crf.marginals(emissions.clone(), torch.tensor([4, 4]))
    assert found.sum(-1).flatten().tolist() == pytest.approx([1] * 8)


def test_the_loss_is_a_probability_of_the_whole():
    """Summed over all sequences it is one, so a network can be trained on it; padding changes nothing."""
    crf, emissions = field_and_scores(3)
    total = 0.0
    for y in itertools.product(range(3), repeat=3):
        nats = 3 * crf.loss(emissions[:1], torch.tensor([y]), torch.tensor([3])).item()
        total += math.exp(-nats)
    assert total == pytest.approx(1)
    y = torch.tensor([[0, 2, 1]])
    padded = torch.cat([emissions[:1], torch.full((1, 2, 3), 99.0, dtype=torch.float64)], 1)
    longer = torch.cat([y, torch.full((1, 2), -1)], 1)
    lengths = torch.tensor([3])
    assert crf.loss(padded, longer, lengths).item() == pytest.approx(crf.loss(emissions[:1], y, lengths).item())
    assert torch.equal(crf.decode(padded, lengths)[0], crf.decode(emissions[:1], lengths)[0])


def test_gradients_of_the_field():
    crf, emissions = field_and_scores(3)
    y, lengths = torch.tensor([[0, 2, 1], [1, 1, -1]]), torch.tensor([3, 2])
    assert torch.autograd.gradcheck(lambda e: crf.loss(e, y, lengths), emissions[:, :3].clone().requires_grad_(True))


# ---- words and letters -----------------------------------------------------------------------------------------------


def test_words_are_spelled_whatever_stands_beside_them():
    """More room for letters, or more words beside it, change no word's vector; other letters do."""
    torch.manual_seed(0)
    encoder = WordEncoder(9, 9, embedding_size=3, char_feature_size=4, dropout=0.5).eval()
    word = torch.tensor([[[5, 1, 2, 3]]])
    wide = torch.tensor([[[5, 1, 2, 3, 0, 0], [6, 4, 4, 4, 4, 4]]])
    with torch.no_grad():
        torch.testing.assert_close(encoder(wide)[:, 0], encoder(word)[:, 0])
        other = encoder(torch.tensor([[[5, 3, 2, 1]]]))
        assert torch.equal(other[..., :3], encoder(word)[..., :3])
        assert not torch.allclose(other[..., 3:], encoder(word)[..., 3:])
        assert encoder(torch.zeros(1, 2, 5, dtype=torch.long)).isfinite().all()  # padding: a word without letters


def test_a_head_without_a_field_is_a_softmax():
    torch.manual_seed(0)
    head = TagHead(4, 3)
    outputs = head(torch.randn(2, 5, 4))
    tags, shares = head.decode(outputs, torch.tensor([5, 2]))
    assert [len(t) for t in tags] == [5, 2]
    torch.testing.assert_close(shares, outputs.softmax(-1))


# ---- the job ---------------------------------------------------------------------------------------------------------


def flags(n: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """A word's tag hangs on a flag at the sentence's other end, and on its own ending."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        flag = str(rng.choice(["left", "right"]))
        stems = ["".join(rng.choice(list("bdfgk"), 4)) for _ in range(4)]
        endings = [str(rng.choice(["ing", "ed"])) for _ in stems]
        tokens = [stem + ending for stem, ending in zip(stems, endings, strict=True)]
        tags = [f"{flag[0]}{ending[0]}".upper() for ending in endings]
        found.append(([*tokens, flag], [*tags, "FLAG"]))
    return found


@pytest.mark.parametrize("crf", [False, True])
def test_it_reads_both_ways_and_the_letters_of_words_it_never_saw(crf: bool):
    tagger = Tagger(
        hidden_size=16,
        char_feature_size=16,
        embedding_size=8,
        epochs=12,
        batch_size=16,
        lr=0.02,
        dropout=0.0,
        crf=crf,
        ema_decay=0.9,
    ).fit(flags(300, 0))
    table = tagger.evaluate(flags(40, 1)).table.set_index("model")
    ours = "LSTM and CRF" if crf else "LSTM"
    assert table.loc[ours, "accuracy"] > 0.97
    assert table.loc[ours, "accuracy, out-of-vocabulary words"] > 0.97
    assert table.loc["most frequent tag per word", "accuracy"] < 0.6


def test_a_field_learns_which_tag_follows_which():
    """Names begin before they go on: no I- comes of nothing, even where the words say little."""
    rng = np.random.default_rng(0)
    data = []
    for _ in range(200):
        tags = [t for _ in range(4) for t in (["O"] if rng.random() < 0.5 else ["B-X", "I-X"])]
        words = ["n" if t == "O" else str(rng.choice(["x", "n"], p=[0.7, 0.3])) for t in tags]
        data.append((words, tags))
    tagger = Tagger(
        hidden_size=8, embedding_size=4, char_feature_size=0, epochs=10, batch_size=16, lr=0.02, crf=True
    ).fit(data)
    found = tagger.predict([words for words, _ in data])
    follows = {pair for one in found for pair in itertools.pairwise(("O", *one.tags))}
    assert ("O", "I-X") not in follows
    assert ("B-X", "I-X") in follows
    assert "span F1" in tagger.evaluate(data[:50]).table


def test_probabilities_are_those_of_the_tags():
    tagger = Tagger(hidden_size=8, epochs=3, lr=0.02, batch_size=8).fit(flags(40, 0))
    for one in tagger.predict(flags(5, 1)):
        assert len(one.tokens) == len(one.tags) == len(one.probabilities)
        assert all(1 / 5 <= p <= 1 for p in one.probabilities)
    assert tagger.to_text(tagger.predict(["bding left"])).splitlines()[1].split("\t")[0] == "left"


@pytest.mark.parametrize(
    ("settings", "data", "error", "says"),
    [
        ({"crf": True, "ensemble_size": 2}, flags(9, 0), SettingError, "give --ensemble-size 1 or --no-crf"),
        ({"char_feature_size": 3}, flags(9, 0), SettingError, "char_feature_size must be even"),
        ({}, flags(2, 0), DataError, "has 2 sentences, too few"),
        ({}, ["no tags here"] * 9, DataError, "the list has no tags"),
    ],
)
def test_what_does_not_do(settings: dict[str, object], data: object, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        Tagger(epochs=1, hidden_size=4, **settings).fit(data)  # type: ignore[arg-type]


def test_a_tag_that_training_has_not_seen():
    tagger = Tagger(hidden_size=4, epochs=1).fit(flags(20, 0))
    with pytest.raises(
        DataError, match=r"tags that are not in the training data: NEW \(its tags: FLAG, LE, LI, RE, RI\)"
    ):
        tagger.evaluate([(["left"], ["NEW"])])
    with pytest.raises(DataError, match="there is no sentence 3: the list has 1 to 2"):
        tagger.example_sequences(["one", "two words"], sentence=3)


# ---- spans -----------------------------------------------------------------------------------------------------------


def test_spans_by_hand():
    assert iob_spans(["O", "O"]) == set()
    assert iob_spans(["I-A", "I-A", "I-B", "B-B", "I-B"]) == {(0, 2, "A"), (2, 3, "B"), (3, 5, "B")}
    told, found = [["B-A", "I-A", "O", "B-B"]], [["B-A", "O", "O", "B-B"]]
    assert span_f1(told, found) == pytest.approx(0.5)  # one of two, both ways
    assert span_f1(told, told) == 1
    assert span_f1([["O"]], [["O"]]) == 0
