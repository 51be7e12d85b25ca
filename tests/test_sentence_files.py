"""Files of sentences: CoNLL columns, CoNLL-U and plain text; every token and every sentence gets an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmkit.data.text.conll import read_sentences, read_tagged_sentences
from lstmkit.errors import DataError
from lstmkit.jobs.tagger.job import Tagger

TAGS = ("DET", "NOUN", "VERB", ".")


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_docstart_lines_end_sentences_and_are_none(tmp_path: Path):
    content = "-DOCSTART- -X- O O\n\nthe DT B-NP O\ndog NN I-NP O\n-DOCSTART- -X- O O\ncats NNS B-NP O\n"
    sentences = read_tagged_sentences(write(tmp_path / "a.conll", content))
    assert sentences.tokens == (("the", "dog"), ("cats",))


def test_a_hash_with_the_columns_of_a_word_is_a_word(tmp_path: Path):
    content = (
        "# SYM B-NP O\n12 CD I-NP O\n\n# sent_id = 2\n# a longer comment without a key\nthe DT B-NP O\n# SYM I-NP O\n"
    )
    sentences = read_tagged_sentences(write(tmp_path / "a.conll", content))
    assert sentences.tokens == (("#", "12"), ("the", "#"))
    tokens = write(tmp_path / "tokens.txt", "the\n#\n\n#\n#tag\n")
    assert read_tagged_sentences(tokens).tokens == (("the", "#"), ("#", "#tag"))


def test_ranges_and_empty_nodes_of_conllu_are_not_words(tmp_path: Path):
    rows = [
        "# newdoc",
        "# text = vámonos",
        "1-2\tvámonos\t_\t_",
        "1\tvamos\tir\tVERB",
        "1.1\ta\ta\tADP",
        "2\tnos\tnos\tPRON",
    ]
    path = write(tmp_path / "a.conllu", "\n".join([*rows, "", "# newpar", "1\tsí\tsí\tINTJ", ""]))
    sentences = read_tagged_sentences(path, 1, 3)
    assert sentences.tokens == (("vamos", "nos"), ("sí",))
    assert sentences.tags == (("VERB", "PRON"), ("INTJ",))
    with pytest.raises(
        DataError, match=r"a\.conllu has the number of each word in its first column, .*: give token_col=1"
    ):
        read_tagged_sentences(path)


def test_numbers_that_are_tokens_are_kept(tmp_path: Path):
    path = write(tmp_path / "a.conll", "1-2\tx\ty\tNUM\n1\tx\ty\tNUM\n3\tx\ty\tNUM\n")
    assert read_tagged_sentences(path).tokens == (("1-2", "1", "3"),)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("the ship left Oslo on Friday .\nthe team reached Lima .\n", "line 2: 5 columns, but line 1 has 7"),
        ("the ship left .\n\nthe team .\n", "line 3: 3 columns, but line 1 has 4"),
        ("the\tX\tDET\ndog\tNOUN\n", "line 2: 2 columns, but line 1 has 3"),
        ("the\tDET\ndog\n", "line 2: 1 columns, expected at least 2"),
        ("the\tDET\n# dog\n", "line 2: 1 columns, expected at least 2"),
        ("the\tDET\ndog\t\n", "line 2: the token or its tag is empty"),
    ],
)
def test_columns_that_are_not_there_are_refused_with_their_line(content: str, line: str, tmp_path: Path):
    with pytest.raises(DataError, match=line):
        read_tagged_sentences(write(tmp_path / "a.txt", content))


def test_plain_text_is_read_word_by_word(tmp_path: Path):
    content = "the dog sees the cat .\n\nthe cat sleeps\n"
    sentences = read_sentences(write(tmp_path / "a.txt", content), TAGS)
    assert sentences.tokens == (("the", "dog", "sees", "the", "cat", "."), (), ("the", "cat", "sleeps"))
    assert sentences.tags is None
    same_length = write(tmp_path / "b.txt", "the dog barks .\nthe cat sleeps .\n")
    assert read_sentences(same_length, TAGS).tokens == (("the", "dog", "barks", "."), ("the", "cat", "sleeps", "."))


def test_columns_to_tag_are_known_by_their_tags(tmp_path: Path):
    columns = write(tmp_path / "a.txt", "the DET\ncat NOUN\n\nsleeps VERB\n")
    assert read_sentences(columns, TAGS).tokens == (("the", "cat"), ("sleeps",))
    damaged = write(tmp_path / "b.txt", "the DET\ncat NOUN\nsleeps\n")
    with pytest.raises(DataError, match="line 3: 1 columns"):
        read_sentences(damaged, TAGS)
    single = write(tmp_path / "s.txt", "the dog runs\n")
    assert read_sentences(single, TAGS).tokens == (("the", "dog", "runs"),)
    unclear = write(tmp_path / "c.txt", "good morning\nhello there\n")
    with pytest.raises(DataError, match=r"c\.txt, line 1: may be a token with columns or a sentence"):
        read_sentences(unclear, TAGS)
    without_tags = write(tmp_path / "d.tsv", "the\t\ncat\t\n")
    assert read_sentences(without_tags, TAGS).tokens == (("the", "cat"),)


def test_every_sentence_gets_an_answer(tmp_path: Path):
    data = [(["the", "cat", "sat"], ["DET", "NOUN", "VERB"]), (["a", "dog", "ran"], ["DET", "NOUN", "VERB"])] * 6
    tagger = Tagger(epochs=1, hidden_size=4, embedding_size=4, batch_size=4, test_fraction=0).fit(data)
    texts = ["the cat", "", "a dog ran off", " "]
    answers = tagger.predict(texts)
    assert [answer.tokens for answer in answers] == [tuple(text.split()) for text in texts]
    assert all(len(answer.tags) == len(answer.probabilities) == len(answer.tokens) for answer in answers)
    assert tagger.predict(write(tmp_path / "plain.txt", "\n".join(texts))) == answers
    assert tagger.predict([(["a", "cat"], ["DET", "NOUN"]), ([], [])])[1].tags == ()
