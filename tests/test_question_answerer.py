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
from lstmkit.data.text.question_answering import Columns, Questions, StoryDataset, read_questions
from lstmkit.data.text.questions import Question
from lstmkit.errors import DataError
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
    """Three people go to a place, one after the other; the question asks for one of them."""
    rng = np.random.default_rng(seed)
    stories = []
    for _ in range(n):
        who, where = rng.permutation(NAMES)[:3], rng.choice(PLACES, 3)
        story = "\n".join(f"{a} went to the {b}." for a, b in zip(who, where, strict=True))
        k = int(rng.integers(3))
        stories.append((story, f"Where is {who[k]}?", str(where[k])))
    return stories


# ---- questions -------------------------------------------------------------------------------------------------------


def test_babi(tmp_path: Path):
    """A story grows with its statements, not with its questions, until line 1 begins the next story."""
    (tmp_path / "qa1_facts_train.txt.gz").write_bytes(gzip.compress(BABI.encode()))
    first, second, third = read_questions(tmp_path / "qa1_facts_train.txt.gz")
    assert first.story == "Mary went to the garden.\nJohn left."
    assert (first.question, first.answers, first.kind) == ("Where is Mary?", ("garden",), "qa1_facts")
    assert second.sentences == ["Mary went to the garden.", "John left.", "Mary went home."]
    assert (third.story, third.answer) == ("Sue sat.", "Sue")
    assert first.group == second.group != third.group


def _squad(**changes: Any) -> dict[str, Any]:
    question = {"id": "7", "question": "Who won?", "answers": [{"text": "the Normans", "answer_start": 8}], **changes}
    article = {"title": "War", "paragraphs": [{"context": "In 1066 the Normans won.", "qas": [question]}]}
    return {"data": [article], "version": "1.1"}


def test_squad(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(_squad()), encoding="utf-8")
    (question,) = read_questions(path)
    assert (question.answer, question.start, question.group) == ("the Normans", 8, "War")
    path.write_text(json.dumps(_squad(answers=[])), encoding="utf-8")
    assert read_questions(path).items[0].answers == ()


def test_tables_and_lists_are_read_alike(tmp_path: Path):
    frame = pd.DataFrame(
        {"story": ["He ran. He fell.", "x"], "question": ["Who?", "y"], "answer": ["he", None], "kind": "a"}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    for data in (frame, tmp_path / "t.csv", tmp_path / "t.jsonl"):
        questions = read_questions(data)
        assert [question.answer for question in questions] == ["he", ""]
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
    ("data", "message"),
    [
        ([], "has no questions"),
        ([("only a story",)], r"question 1 is .*\(story, question, answer\)"),
        (7, "give a file, a table, or .* not int"),
        (pd.DataFrame({"story": ["a"]}), "no column 'question' in the frame .*question_col"),
        ("missing.txt", "no such file: .*missing.txt"),
    ],
)
def test_invalid_data_are_refused(data: Any, message: str):
    with pytest.raises(DataError, match=message):
        read_questions(data)


@pytest.mark.parametrize(
    ("name", "content", "message"),
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
def test_invalid_files_are_refused(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_questions(tmp_path / name)


def test_questions_about_one_text_are_in_one_split():
    items = tuple(
        Question(f"Story {g}.", f"q{i}?", ("a",), kind="xy"[g % 2], group=str(g)) for g in range(20) for i in range(3)
    )
    parts = QuestionAnswerer(valid_fraction=0.2, test_fraction=0.2).split(Questions(items, "the questions"), None)
    groups = [{question.group for question in part} for part in (parts.train, parts.valid, parts.test)]
    assert [len(group) for group in groups] == [12, 4, 4]
    assert all(not a & b for a, b in itertools.combinations(groups, 2))
    for part in (parts.valid, parts.test):
        assert {question.kind for question in part} == {"x", "y"}
    mixed = tuple(Question("s", "q?", ("a",), kind="xyz"[i % 3], group=str(i // 3)) for i in range(60))
    parts = QuestionAnswerer(valid_fraction=0.2, test_fraction=0.2).split(Questions(mixed, "the questions"), None)
    groups = [{question.group for question in part} for part in (parts.train, parts.valid, parts.test)]
    assert [len(group) for group in groups] == [12, 4, 4]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    with pytest.raises(DataError, match="questions about 1 texts, too few"):
        QuestionAnswerer().split(Questions(items[:3], "the questions"), None)
    with pytest.raises(DataError, match=r"question 1 .q0.. has no answer"):
        QuestionAnswerer().split(read_questions([("s", "q0?")]), None)


# ---- encoders --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 3))
def test_a_sentence_vector_depends_only_on_its_words_and_the_question(sentences: int, words: int, padding: int):
    """Padding and other sentences do not change a sentence's vector."""
    torch.manual_seed(sentences)
    encoder = StoryEncoder(9, 4, 6).double().eval()
    ids = torch.randint(1, 9, (2, sentences, words))
    steps = encoder(F.pad(ids, (0, padding)))
    assert steps.shape == (2, sentences, 18)
    sentence = encoder.reader(encoder.words(ids[1, -1:]))[1][0].transpose(0, 1).flatten()
    question = encoder.reader(encoder.words(ids[1, :1]))[1][0].transpose(0, 1).flatten()
    torch.testing.assert_close(steps[1, -1], torch.cat([sentence, sentence * question, (sentence - question).abs()]))


def test_hops_ignore_padding():
    torch.manual_seed(0)
    pool = MultiHopPool(4, 3).double()
    steps, lengths = torch.randn(2, 6, 4).double(), torch.tensor([6, 3])
    expected, weights = pool.attend(steps, lengths)
    changed = steps.clone()
    changed[1, 3:] = 7
    torch.testing.assert_close(pool(changed, lengths), expected)
    assert weights.shape == (2, 3, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3).double())
    assert not weights[1, :, 2:].any()
    single = pool(steps[:, :1], torch.tensor([1, 1]))
    assert not single[:, 4:].any()


def test_spans_are_inside_the_passage():
    """Tokens outside the passage have probability 0, the loss covers both ends, and padding changes nothing."""
    torch.manual_seed(0)
    encoder = QuestionPassageEncoder(9, 4)
    model = SpanModel(encoder, LSTM(encoder.output_size, 3, batch_first=True, bidirectional=True), AttentionPool(6))
    words = torch.tensor([[1, 2, 3, 4, 5], [1, 6, 7, 0, 0]])
    passage = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
    inputs = torch.stack([words, passage, torch.zeros_like(words)], -1)
    lengths, targets = torch.tensor([5, 3]), torch.tensor([[2, 4], [1, 1]])
    logits, _ = model(inputs, None, lengths)
    probabilities = logits.softmax(1)
    assert not probabilities[passage == 0].any()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 2))
    loss, _ = model.loss(Batch(inputs, lengths, targets))
    by_hand = [-probabilities[b, targets[b, k], k].log() for b in (0, 1) for k in (0, 1)]
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())
    alone, _ = model(inputs[1:, :3], None, lengths[1:])
    torch.testing.assert_close(alone[0], logits[1, :3])


def test_stories_are_padded_in_a_batch():
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


def test_answers_are_located_in_the_story():
    """An answer is at its character position or first occurrence; one beyond ``max_tokens`` is left out."""
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


@pytest.mark.parametrize("max_length", [1, 2, 9])
def test_the_best_span_is_predicted(max_length: int):
    """The predicted span equals that of an exhaustive search."""
    story = "one two three four five"
    question = Question(story, "which")
    model = _extractor([question], max_answer_tokens=max_length)
    logits = np.random.default_rng(3).standard_normal((2, 6)) * 3
    spans = [(i, j) for i in range(5) for j in range(i, min(5, i + max_length))]
    weights = np.exp([logits[0, 1 + i] + logits[1, 1 + j] for i, j in spans])
    i, j = spans[int(weights.argmax())]
    prediction = model.codec.to_prediction(question, logits, 1.0)
    assert prediction.text == " ".join(story.split()[i : j + 1])
    assert prediction.start == story.index(story.split()[i])
    assert prediction.probability == pytest.approx(weights.max() / weights.sum())
    covered = [sum(w for w, (a, b) in zip(weights, spans, strict=True) if a <= k <= b) for k in range(5)]
    assert model.codec.token_probabilities(question, logits, 1.0) == pytest.approx(np.array(covered) / weights.sum())


def test_an_empty_passage_has_an_empty_answer():
    job = QuestionAnswerer(answer_type="span", hidden_size=4, epochs=1, valid_fraction=0, test_fraction=0)
    job.fit([("It is red.", "What color?", "red"), ("It is blue.", "What color?", "blue")])
    assert job.predict([("", "What color?")])["answer"].tolist() == [""]


def test_answers_that_do_not_occur_cannot_be_learned():
    job = QuestionAnswerer(answer_type="span", valid_fraction=0, test_fraction=0)
    with pytest.raises(DataError, match=r"no answer occurs in the first 400 tokens .*answer_type=classification"):
        job.fit([("a story", "q?", "elsewhere")] * 3)


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_scores_of_squad():
    """Case, punctuation and articles do not count; the best of several correct answers does."""
    questions = [Question("", "", ("The Normans", "Norman men")), Question("", "", ("a blue whale",))]
    assert metrics.scores("span", ["normans.", "the whale"], questions) == {
        "exact match": 0.5,
        "F1": pytest.approx(5 / 6),
    }
    assert metrics.scores("classification", ["Normans", "whale"], questions) == {"accuracy": 0.5}
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
    questions = read_questions([("s", "Where is she?"), ("s", "Where are they?"), ("s", "Why?")]).items
    answers = baseline_answers("classification", train, questions, "hall", Progress())
    assert answers["most frequent answer per question"] == ["yard", "hall", "hall"]
    assert answers["most frequent answer"] == ["hall"] * 3
    assert set(answers["TF-IDF, logistic regression"]) <= {"hall", "yard", "yes"}
    assert list(baseline_answers("classification", (), questions, "hall", Progress())) == ["most frequent answer"]
    (baseline,) = baseline_answers("span", (), [Question("A dog barks. A cat sleeps.", "Who sleeps?")], "", Progress())
    assert baseline == "most similar sentence"
    assert nearest_sentence("Who?", []) == ""


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> QuestionAnswerer:
    job = QuestionAnswerer(hidden_size=16, epochs=25, lr=0.02, batch_size=16, hops=2, patience=0)
    return job.fit(_stories(400))


def test_the_model_learns_where_the_answer_is(trained: QuestionAnswerer):
    test = _stories(60, seed=1)
    evaluation = trained.evaluate(test)
    accuracy, *baseline_accuracies = evaluation.table["accuracy"]
    assert accuracy > 0.9
    assert accuracy > max(baseline_accuracies)
    answers = trained.predict([(story, question) for story, question, _ in test])
    assert (answers["answer"] == [answer for *_, answer in test]).mean() == pytest.approx(accuracy)
    assert answers["probability"].between(0, 1).all()


def test_the_report_shows_questions_of_the_test_split(tmp_path: Path):
    """Training questions are not shown; without a test split those of the validation split are, and it says so."""
    stories = _stories(60)
    for test_fraction, message in (
        (0.2, "A question of the test split."),
        (0.0, "A question of the validation split."),
    ):
        job = QuestionAnswerer(hidden_size=4, epochs=1, test_fraction=test_fraction).fit(
            stories, run=tmp_path / str(test_fraction)
        )
        sections = [s for s in job.report_sections(job.read(stories)) if s.title.startswith("Attention")]
        assert sections
        assert all(s.text.startswith(message) for s in sections)


def test_unusual_questions_have_an_answer(trained: QuestionAnswerer):
    """An unknown word, an empty story and an empty question are answered."""
    odd = [("Zoe flew to the moon.", "Where is Zoe?"), ("", "Where is Mary?"), ("Mary went to the hall.", "")]
    assert set(trained.predict(odd)["answer"]) <= set(PLACES)


@pytest.mark.parametrize("answer_type", ["classification", "span"])
def test_no_text_is_too_long(answer_type: str):
    """Words and sentences beyond the limits change nothing and use no memory."""
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
    question, more = "Who is there ? " * 3, "word " * 100_000
    short_story, long_story = (f"It is red and blue and green and{end}" for end in (" so", f" so {more}"))
    predictions = job.predict(
        [(short_story, question), (long_story, question + more), ("gone. " * 50 + short_story, question)]
    )
    assert predictions["probability"][0] == pytest.approx(predictions["probability"][1])
    if answer_type == "classification":
        last = job.predict([(f"gone. gone. {short_story}", question)])
        assert predictions["probability"][2] == pytest.approx(last["probability"][0])


def test_a_loaded_model_answers_the_same(trained: QuestionAnswerer, tmp_path: Path):
    trained.save(tmp_path / "m")
    questions = _stories(5, seed=2)
    loaded = load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict(questions), trained.predict(questions))
    table = loaded.evaluate(questions).table
    assert table["model"].tolist() == ["LSTM", "most frequent answer"]


def test_example_sequences_and_the_figure_of_a_question(trained: QuestionAnswerer):
    story, question, _ = _stories(1, seed=3)[0]
    (example,) = trained.example_sequences([(story, question)])
    assert example.labels is not None
    assert len(example.labels) == example.inputs.shape[1] == 4
    figure = trained.plot([(story, question)], trained.predict([(story, question)]))
    assert figure.get_suptitle().startswith(question)
    with pytest.raises(DataError, match="there is no question 2"):
        trained.example_sequences([(story, question)], example=2)


def test_a_long_story_shows_its_most_attended_sentences():
    weights = np.zeros((1, 50))
    weights[0, 45] = 1
    ticks = [t.get_text() for t in story_figure([f"s{i}" for i in range(50)], weights, "q").axes[0].get_yticklabels()]
    assert len(ticks) == 30
    assert "s45" in ticks
    assert story_figure([], np.zeros((2, 0)), "q").axes


def test_spans_are_learned():
    """The word after 'is' is the answer, at any position, whether known or not."""
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]

    def questions(n: int) -> list[tuple[str, str, str]]:
        examples = []
        for _ in range(n):
            a, b, c = rng.permutation(words)[:3]
            story, answer = (f"{a} was {b} then is {c} .", c) if rng.random() < 0.5 else (f"is {a} but {b} {c} .", a)
            examples.append((story, "what is it", str(answer)))
        return examples

    job = QuestionAnswerer(
        answer_type="span", hidden_size=16, epochs=15, lr=0.02, batch_size=16, dropout=0.0, patience=0
    )
    job.fit(questions(200))
    test = questions(40)
    evaluation = job.evaluate(test)
    assert evaluation.table["exact match"][0] > 0.9
    assert list(evaluation.table["model"]) == ["LSTM", "most similar sentence"]
    predictions = job.predict(test)
    for (story, *_), answer, start in zip(test, predictions["answer"], predictions["start"], strict=True):
        assert story[start : start + len(answer)] == answer
    assert job.plot(test, predictions).get_suptitle().startswith("what is it")
