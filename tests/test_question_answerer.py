"""Question answering: questions, encoders, both answer models, scores, and the job."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmkit.data.batch import Batch
from lstmkit.data.text.question_answering import Columns, Question, Questions, StoryDataset, read_questions
from lstmkit.errors import DataError
from lstmkit.evaluation.calibration import fit_temperature
from lstmkit.jobs import load
from lstmkit.jobs.common.text_retrieval import nearest_sentence
from lstmkit.jobs.question_answerer import metrics
from lstmkit.jobs.question_answerer.baselines import baseline_answers
from lstmkit.jobs.question_answerer.job import QuestionAnswerer
from lstmkit.jobs.question_answerer.methods import AnswerClassifier, SpanExtractor, choose_answer_model
from lstmkit.jobs.question_answerer.settings import QuestionAnswererSettings
from lstmkit.layers.rnn import LSTM
from lstmkit.models.sequence import SpanModel
from lstmkit.modules.encoders import QuestionPassageEncoder, StoryEncoder
from lstmkit.modules.pooling import AttentionPool, MultiHopPool
from lstmkit.plots.text import story_figure
from lstmkit.progress import Progress

BABI = """1 Mary went to the garden.
2 John left.
3 Where is Mary?\tgarden\t1
4 Mary went home.
5 Where is Mary?\thome\t4
1 Sue sat.
2 Who sat?\tSue\t1
"""
PLACES = ("garden", "kitchen", "hall", "yard")
NAMES = ("Mary", "John", "Ann", "Tom", "Sue")


def _stories(n: int = 120, seed: int = 0) -> list[tuple[str, str, str]]:
    """Three go somewhere, one after the other; one of them is asked for."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        who, where = rng.permutation(NAMES)[:3], rng.choice(PLACES, 3)
        story = "\n".join(f"{a} went to the {b}." for a, b in zip(who, where, strict=True))
        k = int(rng.integers(3))
        found.append((story, f"Where is {who[k]}?", str(where[k])))
    return found


# ---- questions -------------------------------------------------------------------------------------------------------


def test_babi(tmp_path: Path):
    """A story grows by what is told, not by what is asked, until line 1 begins the next."""
    (tmp_path / "qa1_facts_train.txt.gz").write_bytes(gzip.compress(BABI.encode()))
    first, second, third = read_questions(tmp_path / "qa1_facts_train.txt.gz")
    assert first.story == "Mary went to the garden.\nJohn left."
    assert (first.question, first.answers, first.kind) == ("Where is Mary?", ("garden",), "qa1_facts")
    assert second.sentences == ["Mary went to the garden.", "John left.", "Mary went home."]
    assert (third.story, third.answer) == ("Sue sat.", "Sue")
    assert first.group == second.group != third.group


def _squad(**changes: Any) -> dict[str, Any]:
    asked = {"id": "7", "question": "Who won?", "answers": [{"text": "the Normans", "answer_start": 8}], **changes}
    article = {"title": "War", "paragraphs": [{"context": "In 1066 the Normans won.", "qas": [asked]}]}
    return {"data": [article], "version": "1.1"}


def test_squad(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(_squad()), encoding="utf-8")
    (one,) = read_questions(path)
    assert (one.answer, one.start, one.group) == ("the Normans", 8, "War")
    path.write_text(json.dumps(_squad(answers=[])), encoding="utf-8")
    assert read_questions(path).items[0].answers == ()


def test_tables_and_lists_say_the_same(tmp_path: Path):
    frame = pd.DataFrame(
        {"story": ["He ran. He fell.", "x"], "question": ["Who?", "y"], "answer": ["he", None], "kind": "a"}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    for data in (frame, tmp_path / "t.csv", tmp_path / "t.jsonl"):
        questions = read_questions(data)
        assert [one.answer for one in questions] == ["he", ""]
        assert questions.items[0].kind == "a"
        assert questions.digest() == read_questions(frame).digest()
    renamed = frame.rename(columns={"story": "text"})
    assert read_questions(renamed, Columns(story="text")).items[0].sentences == ["He ran.", "He fell."]
    listed = read_questions([("He ran. He fell.", "Who?", "he"), ["x", "y"]])
    assert [(o.story, o.question, o.answers) for o in listed] == [
        (o.story, o.question, o.answers) for o in read_questions(frame)
    ]
    assert read_questions(listed) is listed
    assert len(listed + listed) == 4


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "has no questions"),
        ([("only a story",)], r"question 1 is .*\(story, question, answer\)"),
        (7, "give a file, a table, or .* not int"),
        (pd.DataFrame({"story": ["a"]}), "no column 'question' in the frame .*--question-col"),
        ("missing.txt", "no such file: .*missing.txt"),
    ],
)
def test_what_is_no_question(data: Any, says: str):
    with pytest.raises(DataError, match=says):
        read_questions(data)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "1 Mary left.\nWho left?", "a.txt, line 2: Who left. does not begin with a number"),
        ("a.txt", "1 Mary left.\n", "a.txt has no questions"),
        ("a.json", "{}", "a.json is not SQuAD JSON"),
        (
            "a.json",
            json.dumps(_squad(answers=[{"text": "Norman", "answer_start": 0}])),
            "is not at",
        ),
    ],
)
def test_files_that_are_not_what_their_name_says(tmp_path: Path, name: str, content: str, says: str):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=says):
        read_questions(tmp_path / name)


def test_questions_over_one_text_are_never_in_two_parts():
    items = tuple(
        Question(f"Story {g}.", f"q{i}?", ("a",), kind="xy"[g % 2], group=str(g)) for g in range(20) for i in range(3)
    )
    parts = QuestionAnswerer(valid_fraction=0.2, test_fraction=0.2).split(Questions(items, "the questions"), None)
    groups = [{one.group for one in part} for part in (parts.train, parts.valid, parts.test)]
    assert [len(of) for of in groups] == [12, 4, 4]
    assert all(not a & b for a, b in itertools.combinations(groups, 2))
    for part in (parts.valid, parts.test):
        assert {one.kind for one in part} == {"x", "y"}
    mixed = tuple(Question("s", "q?", ("a",), kind="xyz"[i % 3], group=str(i // 3)) for i in range(60))
    parts = QuestionAnswerer(valid_fraction=0.2, test_fraction=0.2).split(Questions(mixed, "the questions"), None)
    groups = [{one.group for one in part} for part in (parts.train, parts.valid, parts.test)]
    assert [len(of) for of in groups] == [12, 4, 4]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    with pytest.raises(DataError, match="questions about 1 texts, too few"):
        QuestionAnswerer().split(Questions(items[:3], "the questions"), None)
    with pytest.raises(DataError, match=r"question 1 .q0.. has no answer"):
        QuestionAnswerer().split(read_questions([("s", "q0?")]), None)


# ---- what reads them -------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 3))
def test_a_sentence_is_read_by_itself(sentences: int, words: int, padding: int):
    """Its vector hangs on its words alone, however much is filled up and whatever stands beside it."""
    torch.manual_seed(sentences)
    encoder = StoryEncoder(9, 4, 6).double().eval()
    ids = torch.randint(1, 9, (2, sentences, words))
    steps = encoder(F.pad(ids, (0, padding)))
    assert steps.shape == (2, sentences, 18)
    one = encoder.reader(encoder.words(ids[1, -1:]))[1][0].transpose(0, 1).flatten()
    asked = encoder.reader(encoder.words(ids[1, :1]))[1][0].transpose(0, 1).flatten()
    torch.testing.assert_close(steps[1, -1], torch.cat([one, one * asked, (one - asked).abs()]))


def test_hops_do_not_see_past_the_end():
    torch.manual_seed(0)
    pool = MultiHopPool(4, 3).double()
    steps, lengths = torch.randn(2, 6, 4).double(), torch.tensor([6, 3])
    found, weights = pool.attend(steps, lengths)
    changed = steps.clone()
    changed[1, 3:] = 7
    torch.testing.assert_close(pool(changed, lengths), found)
    assert weights.shape == (2, 3, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3).double())
    assert not weights[1, :, 2:].any()
    alone = pool(steps[:, :1], torch.tensor([1, 1]))
    assert not alone[:, 4:].any()


def test_a_span_is_of_the_passage():
    """Nothing outside it can be pointed at, the loss is that of both ends, and padding changes nothing."""
    torch.manual_seed(0)
    encoder = QuestionPassageEncoder(9, 4)
    model = SpanModel(encoder, LSTM(encoder.output_size, 3, batch_first=True, bidirectional=True), AttentionPool(6))
    words = torch.tensor([[1, 2, 3, 4, 5], [1, 6, 7, 0, 0]])
    passage = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
    inputs = torch.stack([words, passage, torch.zeros_like(words)], -1)
    lengths, targets = torch.tensor([5, 3]), torch.tensor([[2, 4], [1, 1]])
    logits, _ = model(inputs, None, lengths)
    stated = logits.softmax(1)
    assert not stated[passage == 0].any()
    torch.testing.assert_close(stated.sum(1), torch.ones(2, 2))
    loss, _ = model.loss(Batch(inputs, lengths, targets))
    by_hand = [-stated[b, targets[b, k], k].log() for b in (0, 1) for k in (0, 1)]
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())
    alone, _ = model(inputs[1:, :3], None, lengths[1:])
    torch.testing.assert_close(alone[0], logits[1, :3])


def test_stories_side_by_side():
    ids = [[np.array([1, 2]), np.array([3])], [np.array([4])]]
    batch = StoryDataset(ids, np.array([5, 6])).batch(np.array([1, 0]))
    assert batch.inputs.tolist() == [[[4, 0], [0, 0]], [[1, 2], [3, 0]]]
    assert batch.lengths is not None
    assert batch.targets is not None
    assert (batch.lengths.tolist(), batch.targets.tolist()) == ([1, 2], [6, 5])


# ---- answer models ---------------------------------------------------------------------------------------------------


def test_the_answer_type_follows_from_the_data():
    assert choose_answer_model(read_questions(_stories()).items) is AnswerClassifier
    spans = [(f"It was {n} then.", "When?", str(n)) for n in range(20)]
    assert choose_answer_model(read_questions(spans).items) is SpanExtractor
    elsewhere = [(f"It was {n} then.", "When?", f"x{n}") for n in range(20)]
    assert choose_answer_model(read_questions(elsewhere).items) is AnswerClassifier


def _extractor(questions: list[Question], **changes: Any) -> SpanExtractor:
    return SpanExtractor.fitted(QuestionAnswererSettings(answer_type="span", **changes), questions, Progress())


def test_the_time_steps_of_an_answer():
    """By its characters, or by its first occurrence; an answer beyond ``max_tokens`` cannot be learned."""
    story = "The dog, the old dog, sleeps."
    with_start = Question(story, "Who sleeps?", ("dog",), start=17)
    without_start = Question(story, "Who sleeps?", ("old DOG",))
    missing = Question(story, "Who sleeps?", ("cat",))
    questions = [with_start, without_start, missing]
    source, targets, num_left_out = _extractor(questions).training_data(questions)
    length = 3  # Who sleeps ?
    assert (targets - length).tolist() == [[5, 5], [4, 5]]
    assert (len(source), num_left_out) == (2, 1)
    assert _extractor(questions, max_tokens=5).training_data(questions[:2]).num_left_out == 2
    matches = source.batch(np.array([0])).inputs[0, length:, 2].tolist()
    assert matches == [0, 0, 0, 0, 0, 0, 0, 1, 0]  # "sleeps"


@pytest.mark.parametrize("longest", [1, 2, 9])
def test_the_best_span_is_predicted(longest: int):
    """Against an exhaustive search."""
    story = "one two three four five"
    question = Question(story, "which")
    model = _extractor([question], max_answer_tokens=longest)
    logits = np.random.default_rng(3).standard_normal((2, 6)) * 3
    spans = [(i, j) for i in range(5) for j in range(i, min(5, i + longest))]
    weights = np.exp([logits[0, 1 + i] + logits[1, 1 + j] for i, j in spans])
    i, j = spans[int(weights.argmax())]
    prediction = model.to_prediction(question, logits, 1.0)
    assert prediction.text == " ".join(story.split()[i : j + 1])
    assert prediction.start == story.index(story.split()[i])
    assert prediction.probability == pytest.approx(weights.max() / weights.sum())
    covered = [sum(w for w, (a, b) in zip(weights, spans, strict=True) if a <= k <= b) for k in range(5)]
    assert model.token_probabilities(question, logits, 1.0) == pytest.approx(np.array(covered) / weights.sum())


def test_an_empty_passage_has_an_empty_answer():
    job = QuestionAnswerer(answer_type="span", hidden_size=4, epochs=1, valid_fraction=0, test_fraction=0)
    job.fit([("It is red.", "What colour?", "red"), ("It is blue.", "What colour?", "blue")])
    assert job.predict([("", "What colour?")])["answer"].tolist() == [""]


def test_answers_that_do_not_occur_cannot_be_learned():
    job = QuestionAnswerer(answer_type="span", valid_fraction=0, test_fraction=0)
    with pytest.raises(DataError, match=r"no answer occurs in the first 400 tokens .*--answer-type classification"):
        job.fit([("a story", "q?", "elsewhere")] * 3)


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_scores_of_squad():
    """Case, punctuation and articles do not count; the best of several correct answers does."""
    asked = [Question("", "", ("The Normans", "Norman men")), Question("", "", ("a blue whale",))]
    assert metrics.scores("span", ["normans.", "the whale"], asked) == {"exact match": 0.5, "F1": pytest.approx(5 / 6)}
    assert metrics.scores("classification", ["Normans", "whale"], asked) == {"accuracy": 0.5}
    assert metrics.token_f1("", "") == metrics.token_f1("the", "a") == 1
    assert metrics.token_f1("x", "") == 0


def test_scores_by_question_type():
    details = pd.DataFrame({"question type": ["b", "a", "b"], "correct answer": ["x", "y", "z"], "M": ["x", "n", "n"]})
    by_type = metrics.scores_by_question_type(details, ["M"])
    assert by_type.to_dict("list") == {"question type": ["b", "a"], "M": [0.5, 0.0]}


def test_baselines_of_answers():
    train = read_questions(
        [("s", "Where is he?", "hall")] * 3 + [("s", "Where is she?", "yard")] * 2 + [("s", "Is he in?", "yes")]
    ).items
    asked = read_questions([("s", "Where is she?"), ("s", "Where are they?"), ("s", "Why?")]).items
    told = baseline_answers("classification", train, asked, "hall", Progress())
    assert told["most frequent answer per question"] == ["yard", "hall", "hall"]
    assert told["most frequent answer"] == ["hall"] * 3
    assert set(told["TF-IDF, logistic regression"]) <= {"hall", "yard", "yes"}
    assert list(baseline_answers("classification", (), asked, "hall", Progress())) == ["most frequent answer"]
    (like,) = baseline_answers("span", (), [Question("A dog barks. A cat sleeps.", "Who sleeps?")], "", Progress())
    assert like == "most similar sentence"
    assert nearest_sentence("Who?", []) == ""


def test_few_that_are_all_right_prove_little():
    logits, right = np.tile([8.0, 0.0], (10, 1)), np.zeros(10, dtype=int)
    stated = 1 / (1 + np.exp(-8 / fit_temperature(logits, right)))
    assert stated == pytest.approx(11 / 12, abs=0.01)


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chooser() -> QuestionAnswerer:
    job = QuestionAnswerer(hidden_size=16, epochs=25, lr=0.02, batch_size=16, hops=2, patience=0)
    return job.fit(_stories(400))


def test_it_learns_to_look_where_the_answer_stands(chooser: QuestionAnswerer):
    test = _stories(60, seed=1)
    evaluation = chooser.evaluate(test)
    ours, *others = evaluation.table["accuracy"]
    assert ours > 0.9
    assert ours > max(others)
    answers = chooser.predict([(story, asked) for story, asked, _ in test])
    assert (answers["answer"] == [right for *_, right in test]).mean() == pytest.approx(ours)
    assert answers["probability"].between(0, 1).all()


def test_the_report_looks_into_questions_of_the_test(tmp_path: Path):
    """Not into training questions; if nothing was held out, the report says so."""
    stories = _stories(60)
    for share, says in ((0.2, "A question of the test split."), (0.0, "A question of the data.")):
        job = QuestionAnswerer(hidden_size=4, epochs=1, test_fraction=share).fit(stories, run=tmp_path / str(share))
        sections = [s for s in job.report_sections(job.read(stories)) if s.title.startswith("Attention")]
        assert sections
        assert all(s.text.startswith(says) for s in sections)


def test_what_was_never_seen_is_answered_too(chooser: QuestionAnswerer):
    """An unknown word, an empty story, an empty question."""
    odd = [("Zoe flew to the moon.", "Where is Zoe?"), ("", "Where is Mary?"), ("Mary went to the hall.", "")]
    assert set(chooser.predict(odd)["answer"]) <= set(PLACES)


@pytest.mark.parametrize("answer_type", ["classification", "span"])
def test_no_text_is_too_long(answer_type: str):
    """What is beyond the words and sentences that are read changes nothing, and fills no memory."""
    job = QuestionAnswerer(
        answer_type=answer_type,
        hidden_size=4,
        epochs=1,
        max_tokens=9,
        max_sentences=3,
        valid_fraction=0,
        test_fraction=0,
    )
    job.fit(_stories(20))
    asked, more = "Who is there ? " * 3, "word " * 100_000
    cut, whole = (f"It is red and blue and green and{end}" for end in (" so", f" so {more}"))
    told = job.predict([(cut, asked), (whole, asked + more), ("gone. " * 50 + cut, asked)])
    assert told["probability"][0] == pytest.approx(told["probability"][1])
    if answer_type == "classification":
        last = job.predict([(f"gone. gone. {cut}", asked)])
        assert told["probability"][2] == pytest.approx(last["probability"][0])


def test_a_loaded_model_answers_the_same(chooser: QuestionAnswerer, tmp_path: Path):
    chooser.save(tmp_path / "m")
    asked = _stories(5, seed=2)
    again = load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.predict(asked), chooser.predict(asked))
    table = again.evaluate(asked).table
    assert table["model"].tolist() == ["LSTM", "most frequent answer"]


def test_how_a_question_is_looked_into(chooser: QuestionAnswerer):
    story, asked, _ = _stories(1, seed=3)[0]
    (one,) = chooser.example_sequences([(story, asked)])
    assert one.labels is not None
    assert len(one.labels) == one.inputs.shape[1] == 4
    figure = chooser.plot([(story, asked)], chooser.predict([(story, asked)]))
    assert figure.get_suptitle().startswith(asked)
    with pytest.raises(DataError, match="there is no question 2"):
        chooser.example_sequences([(story, asked)], example=2)


def test_a_long_story_is_drawn_by_what_was_looked_at():
    weights = np.zeros((1, 50))
    weights[0, 45] = 1
    ticks = [t.get_text() for t in story_figure([f"s{i}" for i in range(50)], weights, "q").axes[0].get_yticklabels()]
    assert len(ticks) == 30
    assert "s45" in ticks
    assert story_figure([], np.zeros((2, 0)), "q").axes


def test_spans_are_learnt_and_pointed_at():
    """The word after 'is' answers, wherever it stands, be it known or not."""
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]

    def asked(n: int) -> list[tuple[str, str, str]]:
        found = []
        for _ in range(n):
            a, b, c = rng.permutation(words)[:3]
            story, answer = (f"{a} was {b} then is {c} .", c) if rng.random() < 0.5 else (f"is {a} but {b} {c} .", a)
            found.append((story, "what is it", str(answer)))
        return found

    job = QuestionAnswerer(
        answer_type="span", hidden_size=16, epochs=15, lr=0.02, batch_size=16, dropout=0.0, patience=0
    )
    job.fit(asked(200))
    test = asked(40)
    evaluation = job.evaluate(test)
    assert evaluation.table["exact match"][0] > 0.9
    assert list(evaluation.table["model"]) == ["LSTM", "most similar sentence"]
    found = job.predict(test)
    for (story, *_), answer, start in zip(test, found["answer"], found["start"], strict=True):
        assert story[start : start + len(answer)] == answer
    assert job.plot(test, found).get_suptitle().startswith("what is it")
