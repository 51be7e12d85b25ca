"""Questions about texts: readers of bAbI files, SQuAD JSON, tables and lists."""

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
from lstmkit.data.files import reading
from lstmkit.data.formats import UTF, DataFormat, check_format
from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.data.tables.table import DELIMITED, JSON_LINES, PARQUET, Table, read_file
from lstmkit.data.text.lines import read_text
from lstmkit.data.text.questions import Question, pad_stories, question_from_entry
from lstmkit.data.text_files import text_suffix
from lstmkit.errors import DataError, listing, one_line

_NUMBERED = re.compile(r"\s*(\d+) (.*)")


#: Formats of questions.
FORMATS = (
    DataFormat(
        "bAbI",
        (".txt",),
        gzip=True,
        encoding=UTF,
        notes="Numbered lines; a question has its answer after a tab.",
    ),
    DataFormat("SQuAD", (".json",), gzip=True, encoding=UTF, notes="Version 1.1 or 2.0."),
    DELIMITED.only(".csv", ".tsv", ".inter"),
    JSON_LINES,
    PARQUET,
)


class Columns(NamedTuple):
    """Columns of a table of questions; ``answer`` and ``kind`` (type of question) are optional."""

    story: str = "story"
    question: str = "question"
    answer: str = "answer"
    kind: str = "kind"


@dataclass(frozen=True)
class Questions:
    """Questions, the name of the data in messages, and which column is missing if a table has no answers."""

    items: tuple[Question, ...]
    name: str
    absence: str = ""

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Question]:
        return iter(self.items)

    def __add__(self, other: Questions) -> Questions:
        return Questions(self.items + other.items, f"{self.name} and {other.name}")

    def subset(self, rows: Sequence[int] | np.ndarray) -> Questions:
        """The questions ``rows``."""
        return replace(self, items=tuple(self.items[i] for i in rows))

    def require_answers(self) -> None:
        """Raise DataError if a question has no answer."""
        for number, item in enumerate(self.items, 1):
            if not item.answer and self.absence:
                raise DataError(f"{self.absence}: name the column of the answers with answer_col=NAME")
            if not item.answer:
                where = f"{self.name}: question {number} ({one_line(item.question)})"
                raise DataError(f"{where} has no answer: give it one")

    def digest(self) -> str:
        """SHA-256 of the questions."""
        digest = hashlib.sha256()
        for q in self.items:
            digest.update(repr((q.story, q.question, q.answers, q.start, q.kind, q.group)).encode("utf-8", "replace"))
        return digest.hexdigest()


def read_questions(data: object, columns: Columns | None = None) -> Questions:
    """Read questions about texts.

    Args:
        data: A ``.txt`` file in bAbI format (numbered lines; a question has its answer after a tab), a ``.json`` file
            in SQuAD format, a table (.csv, .tsv, .jsonl, .parquet or a DataFrame), or a list of ``(story, question)``
            or ``(story, question, answer)``. Files may be gzipped, except .parquet.
        columns: Columns of a table.

    Raises:
        DataError: The data cannot be read. The message names the line or column.

    >>> read_questions([("Mary went to the garden.", "Where is Mary?", "garden")]).items[0].answer
    'garden'
    """
    data = as_pandas(data)
    if isinstance(data, Questions):
        return data
    columns = columns or Columns()
    if isinstance(data, pd.DataFrame):
        questions = _from_table(Table(data.set_axis(data.columns.map(str), axis=1), "the frame"), columns)
    elif isinstance(data, (str, os.PathLike)):
        questions = _from_file(Path(data), columns)
    elif isinstance(data, Sequence):
        questions = Questions(tuple(question_from_entry(entry, i) for i, entry in enumerate(data, 1)), "the questions")
    else:
        raise DataError(f"give a file, a table, or (story, question, answer) triples, not {type(data).__name__}")
    if not questions.items:
        raise DataError(f"{questions.name} has no questions: give at least one")
    return questions


def _from_file(path: Path, columns: Columns) -> Questions:
    suffix = text_suffix(path)
    check_format(path, FORMATS)
    readers: dict[str, Callable[[Path], list[Question]]] = {".txt": _babi, ".json": _squad}
    if suffix in readers:
        return Questions(tuple(readers[suffix](path)), path.name)
    return _from_table(read_file(path), columns)


# ---- bAbI --------------------------------------------------------------------------------------------------------


def _babi(path: Path) -> list[Question]:
    """bAbI (Weston et al. 2015): ``1 Mary moved.`` is a sentence, ``2 Where is Mary?<tab>garden<tab>1`` a question.

    Number 1 starts a new story.
    """
    story: list[str] = []
    stories = 0
    questions = []
    for number, line in enumerate(read_text(path), 1):
        if not line.strip():
            continue
        match = _NUMBERED.fullmatch(line)
        if match is None:
            raise DataError(
                f"{path.name}, line {number}: {one_line(line)} does not begin with a number: write bAbI lines as "
                "'1 a sentence' or '2 a question<tab>answer', where 1 starts a new story; or give a table"
            )
        if match[1] == "1":
            story, stories = [], stories + 1
        text, *answer = match[2].split("\t")
        if not answer:
            story.append(text.strip())
            continue
        group = f"{path.name} {stories}"
        answers = (answer[0].strip(),) if answer[0].strip() else ()
        questions.append(Question("\n".join(story), text.strip(), answers, kind=_task(path), group=group))
    return questions


def _task(path: Path) -> str:
    """Task name: ``qa1_single-supporting-fact`` for ``qa1_single-supporting-fact_train.txt``."""
    return re.sub(r"_(train|valid|test)$", "", path.name.split(".")[0])


# ---- SQuAD -------------------------------------------------------------------------------------------------------


def _squad(path: Path) -> list[Question]:
    """SQuAD (Rajpurkar et al. 2016); unanswerable questions of SQuAD 2 have no answers."""
    text = "\n".join(read_text(path, whole=True))
    with reading(path.name, "is not SQuAD JSON", "give a .json file in SQuAD format, or a table"):
        articles = json.loads(text)["data"]
        return [item for i, article in enumerate(articles) for item in _from_article(article, i, path.name)]


def _from_article(article: dict[str, Any], number: int, name: str) -> Iterator[Question]:
    group = str(article.get("title") or f"{name} {number}")
    for paragraph in article["paragraphs"]:
        story = paragraph["context"]
        for item in paragraph["qas"]:
            answers = [(a["text"], a["answer_start"]) for a in item.get("answers", ())]
            for answer, start in answers:
                if story[start : start + len(answer)] != answer:
                    raise DataError(
                        f"{name}: the answer {answer!r} of question {item.get('id')} is not at character {start}: "
                        "correct answer_start"
                    )
            start = answers[0][1] if answers else -1
            yield Question(story, item["question"].strip(), tuple(answer for answer, _ in answers), start, group=group)


# ---- tables and lists --------------------------------------------------------------------------------------------


def _from_table(table: Table, columns: Columns) -> Questions:
    for column in (columns.story, columns.question):
        if column not in table.frame:
            known = listing(table.frame.columns)
            raise DataError(f"no column {column!r} in {table.name} (columns: {known}): give story_col and question_col")
    optional = [columns.answer, columns.kind]
    cells = [table.column(c).tolist() if c in table.frame else None for c in (*columns[:2], *optional)]
    rows = range(len(table.frame))
    stories, questions, answers, kinds = [[_cell(column, row) for row in rows] for column in cells]
    return Questions(
        tuple(
            Question(story, question, (answer,) if answer else (), kind=kind, group=story)
            for story, question, answer, kind in zip(stories, questions, answers, kinds, strict=True)
        ),
        table.name,
        table.absence(columns.answer),
    )


def _cell(column: list[Any] | None, row: int) -> str:
    return "" if column is None or pd.isna(column[row]) else str(column[row]).strip()


# ---- batches -----------------------------------------------------------------------------------------------------


class StoryDataset:
    """Dataset of encoded stories; each step is a sentence.

    Args:
        stories: For each story its sentences, the question first; each sentence is ``(W,)`` word ids, at least one.
        targets: Answer class of each story, ``(N,)``.
    """

    def __init__(self, stories: Sequence[Sequence[np.ndarray]], targets: np.ndarray | None = None) -> None:
        self.stories, self.targets = stories, targets
        self.lengths = np.array([len(story) for story in stories], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.stories)

    def batch(self, rows: np.ndarray) -> Batch:
        """Inputs ``(B, N, W)``, padded with 0."""
        inputs = pad_stories([self.stories[row] for row in rows])
        targets = None if self.targets is None else torch.from_numpy(self.targets[rows])
        return Batch(torch.from_numpy(inputs), torch.from_numpy(self.lengths[rows]), targets, rows=rows)
