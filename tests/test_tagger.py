"""Tagging: column files, the conditional random field, character features, and the job."""

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
def test_column_files_are_read(content: str, columns: dict[str, int], tmp_path: Path):
    (tmp_path / "tagged.txt").write_text(content)
    sentences = read_tagged_sentences(tmp_path / "tagged.txt", **columns)
    assert sentences.tokens == (("the", "cat"), ("a",))
    assert sentences.tags == (("DET", "NOUN"), ("DET",))
    assert sentences.digest() == read_tagged_sentences([(["the", "cat"], ["DET", "NOUN"]), (["a"], ["DET"])]).digest()


def test_a_file_without_tags(tmp_path: Path):
    (tmp_path / "tokens.txt").write_text("the\ncat\n\na\n")
    assert read_tagged_sentences(tmp_path / "tokens.txt").tags is None
    assert read_tagged_sentences(["the cat", "a"]).tokens == (("the", "cat"), ("a",))
    assert read_tagged_sentences([["the", "cat"], ("a",)]).tokens == (("the", "cat"), ("a",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the DET\ncat\n", r"bad.txt, line 2: 1 columns, expected at least 2"),
        ("\n \n", "bad.txt is empty"),
        (" \n", "bad.txt is empty"),
    ],
)
def test_invalid_files_are_refused(content: str, message: str, tmp_path: Path):
    (tmp_path / "bad.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        read_tagged_sentences(tmp_path / "bad.txt")


@pytest.mark.parametrize(
    ("data", "message"),
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
def test_invalid_lists_are_refused(data: object, message: str):
    with pytest.raises(DataError, match=message):
        read_tagged_sentences(data)


# ---- the conditional random field ------------------------------------------------------------------------------------


def crf_and_emissions(steps: int = 4, tags: int = 3) -> tuple[CRF, torch.Tensor]:
    torch.manual_seed(0)
    crf = CRF(tags).double()
    for weight in crf.parameters():
        torch.nn.init.normal_(weight)
    return crf, torch.randn(2, steps, tags, dtype=torch.float64)


@torch.no_grad()
def sequence_scores(crf: CRF, emissions: torch.Tensor) -> dict[tuple[int, ...], float]:
    """The score of every tag sequence, from the definition."""
    steps, tags = emissions.shape
    scores = {}
    for y in itertools.product(range(tags), repeat=steps):
        score = float(crf.first[y[0]] + crf.last[y[-1]]) + sum(float(emissions[t, k]) for t, k in enumerate(y))
        scores[y] = score + sum(float(crf.transitions[a, b]) for a, b in itertools.pairwise(y))
    return scores


def test_the_crf_equals_enumeration():
    """Partition function, scores, best sequence and marginals equal an enumeration, for two lengths in a batch."""
    crf, emissions = crf_and_emissions()
    lengths = torch.tensor([4, 2])
    for row, n in enumerate(lengths.tolist()):
        scores = sequence_scores(crf, emissions[row, :n])
        total = sum(math.exp(s) for s in scores.values())
        assert crf.log_partition(emissions, lengths)[row].item() == pytest.approx(math.log(total))
        best = max(scores, key=scores.__getitem__)
        assert tuple(crf.decode(emissions, lengths)[row].tolist()) == best
        marginals = crf.marginals(emissions, lengths)[row]
        for t, k in itertools.product(range(n), range(3)):
            probability = sum(math.exp(s) for y, s in scores.items() if y[t] == k) / total
            assert marginals[t, k].item() == pytest.approx(probability)
        assert (marginals[n:] == 0).all()
        y = torch.full((2, 4), -1)
        y[row, :n] = torch.tensor(best)
        assert crf.score(emissions, y, lengths)[row].item() == pytest.approx(scores[best])


def test_marginals_under_inference_mode():
    crf, emissions = crf_and_emissions()
    with torch.inference_mode():
        marginals = crf.marginals(emissions.clone(), torch.tensor([4, 4]))
    assert marginals.sum(-1).flatten().tolist() == pytest.approx([1] * 8)


def test_sequence_probabilities_sum_to_one():
    """exp(-loss) summed over all sequences is 1; padding does not change the loss."""
    crf, emissions = crf_and_emissions(3)
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


def test_gradients_of_the_crf():
    crf, emissions = crf_and_emissions(3)
    y, lengths = torch.tensor([[0, 2, 1], [1, 1, -1]]), torch.tensor([3, 2])
    assert torch.autograd.gradcheck(lambda e: crf.loss(e, y, lengths), emissions[:, :3].clone().requires_grad_(True))


# ---- words and characters --------------------------------------------------------------------------------------------


def test_a_word_vector_does_not_depend_on_padding_or_other_words():
    """Padding and other words do not change a word's vector; other characters do."""
    torch.manual_seed(0)
    encoder = WordEncoder(9, 9, embedding_size=3, char_feature_size=4, dropout=0.5).eval()
    word = torch.tensor([[[5, 1, 2, 3]]])
    wide = torch.tensor([[[5, 1, 2, 3, 0, 0], [6, 4, 4, 4, 4, 4]]])
    with torch.no_grad():
        torch.testing.assert_close(encoder(wide)[:, 0], encoder(word)[:, 0])
        other = encoder(torch.tensor([[[5, 3, 2, 1]]]))
        assert torch.equal(other[..., :3], encoder(word)[..., :3])
        assert not torch.allclose(other[..., 3:], encoder(word)[..., 3:])
        assert encoder(torch.zeros(1, 2, 5, dtype=torch.long)).isfinite().all()  # padding: a word without characters


def test_a_head_without_a_crf_is_a_softmax():
    torch.manual_seed(0)
    head = TagHead(4, 3)
    outputs = head(torch.randn(2, 5, 4))
    tags, probabilities = head.decode(outputs, torch.tensor([5, 2]))
    assert [len(t) for t in tags] == [5, 2]
    torch.testing.assert_close(probabilities, outputs.softmax(-1))


# ---- the job ---------------------------------------------------------------------------------------------------------


def flags(n: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Each tag depends on a flag at the end of the sentence and on the ending of its word."""
    rng = np.random.default_rng(seed)
    sentences = []
    for _ in range(n):
        flag = str(rng.choice(["left", "right"]))
        stems = ["".join(rng.choice(list("bdfgk"), 4)) for _ in range(4)]
        endings = [str(rng.choice(["ing", "ed"])) for _ in stems]
        tokens = [stem + ending for stem, ending in zip(stems, endings, strict=True)]
        tags = [f"{flag[0]}{ending[0]}".upper() for ending in endings]
        sentences.append(([*tokens, flag], [*tags, "FLAG"]))
    return sentences


@pytest.mark.parametrize("crf", [False, True])
def test_the_model_uses_both_directions_and_characters_of_unseen_words(crf: bool):
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
    model_name = "LSTM and CRF" if crf else "LSTM"
    assert table.loc[model_name, "accuracy"] > 0.97
    assert table.loc[model_name, "accuracy, out-of-vocabulary words"] > 0.97
    assert table.loc["most frequent tag per word", "accuracy"] < 0.6


def test_the_crf_learns_tag_transitions():
    """I- tags follow only B- or I- tags, even if the words are ambiguous."""
    rng = np.random.default_rng(0)
    data = []
    for _ in range(200):
        tags = [t for _ in range(4) for t in (["O"] if rng.random() < 0.5 else ["B-X", "I-X"])]
        words = ["n" if t == "O" else str(rng.choice(["x", "n"], p=[0.7, 0.3])) for t in tags]
        data.append((words, tags))
    tagger = Tagger(
        hidden_size=8, embedding_size=4, char_feature_size=0, epochs=10, batch_size=16, lr=0.02, crf=True
    ).fit(data)
    predictions = tagger.predict([words for words, _ in data])
    transitions = {pair for prediction in predictions for pair in itertools.pairwise(("O", *prediction.tags))}
    assert ("O", "I-X") not in transitions
    assert ("B-X", "I-X") in transitions
    assert "span F1" in tagger.evaluate(data[:50]).table


def test_every_tag_has_a_probability():
    tagger = Tagger(hidden_size=8, epochs=3, lr=0.02, batch_size=8).fit(flags(40, 0))
    for prediction in tagger.predict(flags(5, 1)):
        assert len(prediction.tokens) == len(prediction.tags) == len(prediction.probabilities)
        assert all(1 / 5 <= p <= 1 for p in prediction.probabilities)
    assert tagger.to_text(tagger.predict(["bding left"])).splitlines()[1].split("\t")[0] == "left"


@pytest.mark.parametrize(
    ("settings", "data", "error", "message"),
    [
        ({"crf": True, "ensemble_size": 2}, flags(9, 0), SettingError, "give ensemble_size=1 or crf=False"),
        ({"char_feature_size": 3}, flags(9, 0), SettingError, "char_feature_size must be even"),
        ({}, flags(2, 0), DataError, "has 2 sentences, too few"),
        ({}, ["no tags here"] * 9, DataError, "the list has no tags"),
    ],
)
def test_invalid_settings_and_data_are_refused(
    settings: dict[str, object], data: object, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        Tagger(epochs=1, hidden_size=4, **settings).fit(data)  # type: ignore[arg-type]


def test_unknown_tags_and_sentences_are_refused():
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
    actual, predicted = [["B-A", "I-A", "O", "B-B"]], [["B-A", "O", "O", "B-B"]]
    assert span_f1(actual, predicted) == pytest.approx(0.5)  # one of two, in precision and recall
    assert span_f1(actual, actual) == 1
    assert span_f1([["O"]], [["O"]]) == 0
