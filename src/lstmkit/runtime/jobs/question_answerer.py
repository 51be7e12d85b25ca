"""Answers to questions about texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.data.padding import pad_sequences
from lstmkit.errors import DataError
from lstmkit.libraries import imports_of
from lstmkit.runtime.base import ExportedJob, batches_by_length

with imports_of("text", "text"):
    from lstmkit.data.text.questions import ClassificationCodec, SpanCodec, pad_stories, question_from_entry


class QuestionAnswerer(ExportedJob):
    """Answers questions: chooses one of the training answers, or extracts a span of the story."""

    def predict(self, data: Any) -> list[dict[str, Any]]:
        """Answer questions.

        Args:
            data: ``(story, question)`` pairs, or triples whose answers are not read. Files and tables are not read.

        Returns:
            ``question, answer, probability`` for each question, and for spans ``start``: the character of the story
            at which the answer starts.

        Raises:
            DataError: There are no questions, or one is something else.
        """
        if not isinstance(data, (list, tuple)) or not data:
            raise DataError(f"give at least one (story, question) pair, not {type(data).__name__} {data!r:.40}")
        questions = [question_from_entry(entry, number) for number, entry in enumerate(data, 1)]
        settings = self.settings
        tokenizer = self.tokenizer("words")
        if settings["answer_type"] == "span":
            codec = SpanCodec(tokenizer, settings["max_tokens"], settings["max_answer_tokens"])
            logits = self._span_logits([codec.encode(question) for question in questions])
        else:
            limits = settings["max_tokens"], settings["max_sentences"]
            codec = ClassificationCodec(tokenizer, settings["answers"], *limits)
            logits = self._class_logits(codec.encode(questions))
        records = []
        for question, found in zip(questions, logits, strict=True):
            text, probability, start = codec.to_prediction(question, found, settings["temperature"])
            record = {"question": question.question, "answer": text, "probability": probability}
            records.append(record | ({"start": start} if settings["answer_type"] == "span" else {}))
        return records

    def _class_logits(self, stories: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
        """Logits ``(1, C)`` of each question."""
        logits = np.zeros((len(stories), 1, len(self.settings["answers"])), dtype=np.float32)
        for rows, lengths in batches_by_length(stories, self.settings["batch_size"]):
            logits[rows, 0] = self.network(inputs=pad_stories([stories[row] for row in rows]), lengths=lengths)[0]
        return list(logits)

    def _span_logits(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Logits ``(2, T)`` of each question, in double precision: the lowest of single precision can be divided."""
        logits = [np.zeros((2, 0))] * len(sequences)
        for rows, lengths in batches_by_length(sequences, self.settings["batch_size"]):
            batch = self.network(inputs=pad_sequences([sequences[row] for row in rows], 0), lengths=lengths)[0]
            for k, (row, length) in enumerate(zip(rows, lengths, strict=True)):
                logits[row] = batch[k, :length].T.astype(np.float64)
        return logits
