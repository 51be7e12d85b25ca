"""Questions over stories: from bAbI's text files, SQuAD's JSON, tables, or lists."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.text.lines import read_text, sentences
from lstmkit.errors import DataError, listing, one_line

_NUMBERED = re.compile(r"\s*(\d+) (.*)")


class Columns(NamedTuple):
    """Which column of a table is what; ``answer`` and ``kind`` need not be there."""

    story: str = "story"
    question: str = "question"
    answer: str = "answer"
    kind: str = "kind"


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        story: What is to be read; it may have several lines.
        question: What is asked.
        answers: What would be right, the first to learn from; none where it is not known.
        start: Where in the story the first of them begins, in characters; -1 where that is not said.
        kind: What sort of question it is, for scores of each kind; empty where there is one.
        group: Questions over one text: never in two parts of the data.
    """

    story: str
    question: str
    answers: tuple[str, ...] = ()
    start: int = -1
    kind: str = ""
    group: str = ""

    @property
    def answer(self) -> str:
        """The one to learn from; empty where none is known."""
        return self.answers[0] if self.answers else ""

    @property
    def sentences(self) -> list[str]:
        """The story's."""
        return sentences(self.story)


@dataclass(frozen=True)
class Questions:
    """Questions, and what messages call them."""

    items: tuple[Question, ...]
    name: str

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Question]:
        return iter(self.items)

    def __add__(self, other: Questions) -> Questions:
        return Questions(self.items + other.items, f"{self.name} and {other.name}")

    def part(self, rows: Sequence[int] | np.ndarray) -> Questions:
        """The questions ``rows``."""
        return replace(self, items=tuple(self.items[i] for i in rows))

    def require_answers(self) -> None:
        """Raise DataError where an answer is not known."""
        for number, one in enumerate(self.items, 1):
            if not one.answer:
                raise DataError(f"{self.name}: question {number} ({one_line(one.question)}) has no answer: give it one")

    def digest(self) -> str:
        """A fingerprint."""
        found = hashlib.sha256()
        for one in self.items:
            found.update(
                repr((one.story, one.question, one.answers, one.start, one.kind, one.group)).encode("utf-8", "replace")
            )
        return found.hexdigest()


def read_questions(data: object, columns: Columns | None = None) -> Questions:
    """Questions over stories.

    Args:
        data: A ``.txt`` file as bAbI has it (numbered lines; a question's line has its answer after a tab), SQuAD's
            ``.json``, a table (.csv, .tsv, .jsonl, .parquet or a DataFrame; all of them may be gzipped), or a list of
            ``(story, question)`` or ``(story, question, answer)``.
        columns: Of a table.

    Raises:
        DataError: No such file, or it is none of these: the message names the place.

    >>> read_questions([("Mary went to the garden.", "Where is Mary?", "garden")]).items[0].answer
    'garden'
    """
    if isinstance(data, Questions):
        return data
    columns = columns or Columns()
    if isinstance(data, pd.DataFrame):
        found = _of_table(Table(data.set_axis(data.columns.map(str), axis=1), "the frame"), columns)
    elif isinstance(data, (str, os.PathLike)):
        found = _of_file(Path(data), columns)
    elif isinstance(data, Sequence):
        found = Questions(tuple(_of_entry(entry, i) for i, entry in enumerate(data, 1)), "the questions")
    else:
        raise DataError(f"give a file, a table, or (story, question, answer) triples, not {type(data).__name__}")
    if not found.items:
        raise DataError(f"{found.name} has no questions")
    return found


def _of_file(path: Path, columns: Columns) -> Questions:
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    readers: dict[str, Callable[[Path], list[Question]]] = {".txt": _babi, ".json": _squad}
    if kind in readers:
        return Questions(tuple(readers[kind](path)), path.name)
    return _of_table(read_file(path), columns)


# ---- bAbI --------------------------------------------------------------------------------------------------------


def _babi(path: Path) -> list[Question]:
    """Weston et al. 2015: ``1 Mary moved.`` tells, ``2 Where is Mary?<tab>garden<tab>1`` asks; 1 begins a new story."""
    story: list[str] = []
    stories = 0
    found = []
    for number, line in enumerate(read_text(path), 1):
        if not line.strip():
            continue
        match = _NUMBERED.fullmatch(line)
        if match is None:
            raise DataError(
                f"{path.name}, line {number}: {one_line(line)} has no number before it: a .txt of questions is bAbI's "
                "'1 a sentence' or '2 a question<tab>answer', where 1 begins a new story; give others as a table"
            )
        if match[1] == "1":
            story, stories = [], stories + 1
        told, *answer = match[2].split("\t")
        if not answer:
            story.append(told.strip())
            continue
        where = f"{path.name} {stories}"
        answers = (answer[0].strip(),) if answer[0].strip() else ()
        found.append(Question("\n".join(story), told.strip(), answers, kind=_task(path), group=where))
    return found


def _task(path: Path) -> str:
    """``qa1_single-supporting-fact_train.txt`` is of the kind ``qa1_single-supporting-fact``."""
    return re.sub(r"_(train|valid|test)$", "", path.name.split(".")[0])


# ---- SQuAD -------------------------------------------------------------------------------------------------------


def _squad(path: Path) -> list[Question]:
    """Rajpurkar et al. 2016; questions without an answer (SQuAD 2) are read as such."""
    text = "\n".join(read_text(path, whole=True))
    try:
        articles = json.loads(text)["data"]
        return [one for i, article in enumerate(articles) for one in _of_article(article, i, path.name)]
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise DataError(f"{path.name} is not SQuAD's JSON ({type(err).__name__}: {one_line(err)})") from err


def _of_article(article: dict[str, Any], number: int, name: str) -> Iterator[Question]:
    group = str(article.get("title") or f"{name} {number}")
    for paragraph in article["paragraphs"]:
        story = paragraph["context"]
        for asked in paragraph["qas"]:
            answers = [(a["text"], a["answer_start"]) for a in asked.get("answers", ())]
            for said, start in answers:
                if story[start : start + len(said)] != said:
                    raise DataError(
                        f"{name}: the answer {said!r} of question {asked.get('id')} does not stand at character {start}"
                    )
            start = answers[0][1] if answers else -1
            yield Question(story, asked["question"].strip(), tuple(said for said, _ in answers), start, group=group)


# ---- tables and lists --------------------------------------------------------------------------------------------


def _of_table(table: Table, columns: Columns) -> Questions:
    for column in (columns.story, columns.question):
        if column not in table.frame:
            known = listing(table.frame.columns)
            raise DataError(
                f"no column {column!r} in {table.name} (columns: {known}): give --story-col and --question-col"
            )
    optional = [columns.answer, columns.kind]
    cells = [table.column(c).tolist() if c in table.frame else None for c in (*columns[:2], *optional)]
    rows = range(len(table.frame))
    stories, asked, answers, kinds = [[_cell(of, row) for row in rows] for of in cells]
    return Questions(
        tuple(
            Question(story, question, (answer,) if answer else (), kind=kind, group=story)
            for story, question, answer, kind in zip(stories, asked, answers, kinds, strict=True)
        ),
        table.name,
    )


def _cell(of: list[Any] | None, row: int) -> str:
    return "" if of is None or pd.isna(of[row]) else str(of[row]).strip()


def _of_entry(entry: Any, number: int) -> Question:
    if isinstance(entry, Question):
        return entry
    if not isinstance(entry, (tuple, list)) or len(entry) not in (2, 3) or not all(isinstance(e, str) for e in entry):
        raise DataError(f"question {number} is {one_line(repr(entry))}: give each as (story, question, answer)")
    story, question, *answer = entry
    return Question(story, question.strip(), tuple(a.strip() for a in answer if a.strip()), group=story)


# ---- batches -----------------------------------------------------------------------------------------------------


class StoryDataset:
    """Stories as numbers, as a source of batches: a sentence a step.

    Args:
        stories: Of each its sentences, the question first, each ``(W,)`` words by number, at least one.
        targets: Of each its answer, ``(N,)``.
    """

    def __init__(self, stories: Sequence[Sequence[np.ndarray]], targets: np.ndarray | None = None) -> None:
        self.stories, self.targets = stories, targets
        self.lengths = np.array([len(one) for one in stories], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.stories)

    def batch(self, rows: np.ndarray) -> Batch:
        """Inputs ``(B, N, W)``, filled up with 0."""
        stories = [self.stories[row] for row in rows]
        words = max(len(sentence) for story in stories for sentence in story)
        inputs = np.zeros((len(rows), self.lengths[rows].max(), words), dtype=np.int64)
        for into, story in zip(inputs, stories, strict=True):
            for i, sentence in enumerate(story):
                into[i, : len(sentence)] = sentence
        targets = None if self.targets is None else torch.from_numpy(self.targets[rows])
        return Batch(torch.from_numpy(inputs), torch.from_numpy(self.lengths[rows]), targets, rows=rows)
