"""Summaries: a text is read in both directions; words are then written, or copied from it, one by one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lstmkit.data.text.lines import sentences
from lstmkit.data.text.text_pairs import SUMMARIES, MessageWording, Pairs, TextPairDataset, fitting
from lstmkit.data.text.tokenizer import KINDS
from lstmkit.errors import DataError
from lstmkit.jobs.base import Evaluation
from lstmkit.jobs.common.seq2seq import BEAM_SIZE, Answer, TextToText
from lstmkit.jobs.common.seq2seq_search import Piece, split_into_segments
from lstmkit.jobs.common.text_retrieval import TranslationMemory
from lstmkit.jobs.common.token_labels import shown
from lstmkit.jobs.summarizer import metrics as scoring
from lstmkit.jobs.summarizer.baselines import lead, leading_words
from lstmkit.plots.text import attention_figure
from lstmkit.progress import Progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class

_EXAMPLES = 8  # in the report
_SHOWN = 200  # characters of a text there
_COLUMNS = 40  # tokens read that a picture of the attention has


@dataclass(frozen=True, eq=False)
class Summary(Answer):
    """A text and its summary, see :class:`Answer`; ``source_tokens`` are those of its beginning, which was read."""


@settings_class
class Summarizer(TextToText):
    """Learn to summarise from texts and their summaries: headlines, subject lines, abstracts.

    A pointer-generator (See, Liu and Manning 2017): each word comes from the vocabulary, or is copied from the text.

    Data to fit or evaluate: a table (.tsv, .csv, .jsonl, gzipped or not, DataFrame) with a column of texts and one of
    summaries, where a text may have many lines; two files, line by line beside each other, ``"texts.txt,titles.txt"``;
    or a list of pairs. To predict: a text file, of which each line is a text, a table's texts, or a list of them.

    >>> pairs = [("Ann, please send me the gas report.", "gas report"), ("The gas deal is off.", "gas deal")] * 20
    >>> summarizer = Summarizer(epochs=1, hidden_size=8).fit(pairs)
    >>> len(summarizer.predict(["Please send the oil report.", ""]))
    2
    """

    name: ClassVar[str] = "summarizer"
    summary: ClassVar[str] = "Summarise texts, copying words from them, beside their first words and sentences."
    wording: ClassVar[MessageWording] = SUMMARIES
    answer: ClassVar[type[Answer]] = Summary

    tokens: str = setting(
        "what a token is: words and punctuation, what stands between spaces, characters, or pieces of words",
        default="words",
        choices=KINDS,
    )
    vocabulary: int = setting("most tokens that are kept; 0 for all (bpe: 8,000)", default=20_000, low=0)
    copying: bool = setting(
        "words may also be copied from the text, unknown ones too; then there is one vocabulary for both sides",
        default=True,
    )
    smoothing: float = setting("label smoothing", default=0.0, low=0, high=0.9)
    no_repeat_ngram_size: int = setting(
        "so many tokens in a row are not written twice; 0 for no such rule", default=3, low=0
    )
    longest: int = setting("tokens of a text that are read, its first ones; the rest is not", default=200, low=1)
    longest_summary: int = setting(
        "tokens of a summary: longer ones are not trained on, and none is written", default=50, low=1, high=10_000
    )
    text_col: str = setting("column of the texts, in a table", default="text")
    summary_col: str = setting("column of the summaries, in a table", default="summary")

    _cut: int = field(default=0, init=False, repr=False)
    _too_long: int = field(default=0, init=False, repr=False)
    _median_summary_words: int = field(default=0, init=False, repr=False)

    @property
    def columns(self) -> tuple[str, str]:
        return self.text_col, self.summary_col

    def prepare(self, train: Pairs) -> None:
        """The vocabulary, and how many words a summary usually has, from the training part."""
        super().prepare(train)
        self._median_summary_words = round(statistics.median(len(summary.split()) for summary in train.targets))

    def source(self, examples: Pairs) -> TextPairDataset:
        # Texts in one line, as they are when summaries are asked for.
        texts, summaries = ([" ".join(one.split()) for one in side] for side in (examples.sources, examples.targets))
        found, too_long = fitting(self.encoded(texts, summaries, self.longest), self.longest, self.longest_summary + 1)
        if examples is self._trained_on:
            self._cut, self._too_long = self._count_truncated(examples.sources), too_long
        if not len(found):
            raise DataError(
                f"{examples.name}: every summary has more than {self.longest_summary} tokens: raise longest_summary"
            )
        if too_long:
            self._progress.say(
                f"{examples.name}: {too_long:,} pairs whose summary has more than {self.longest_summary} tokens are "
                "left out"
            )
        return found

    def _count_truncated(self, texts: Sequence[str]) -> int:
        return sum(len(ids) > self.longest for ids in self.reads.encode(" ".join(text.split()) for text in texts))

    def pieces(self, lines: Sequence[str]) -> list[Piece]:
        """The first ``longest`` tokens of each text."""
        return [
            piece for piece in split_into_segments(lines, self.reads, self.longest, self.copying) if not piece.start
        ]

    def max_output_tokens(self, lengths: Tensor) -> Tensor:
        return torch.full_like(lengths, self.longest_summary)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def score(self, test: Pairs, progress: Progress) -> Evaluation:
        told: dict[str, Sequence[str]] = {
            self.cell.upper(): [one.text for one in self.predict(test, progress=progress)],
            f"the first {self._median_summary_words} words": leading_words(test.sources, self._median_summary_words),
            "the first sentence (Lead)": lead([sentences(text) for text in test.sources], self.longest_summary),
        }
        if self._trained_on is not None:
            memory = TranslationMemory(self._trained_on.sources, self._trained_on.targets)
            told["summary of the most similar training text"] = memory(test.sources)
        rows = [{"model": name, **scoring.scores(lines, test.targets)} for name, lines in told.items()]
        details = pd.DataFrame({"source": test.sources, "reference": test.targets, **told})
        notes = [
            f"{len(test):,} texts; beam of {BEAM_SIZE}, length penalty {self.length_penalty:g}.",
            f"{self._count_truncated(test.sources):,} of them have more than {self.longest} tokens: of these only the first "
            f"{self.longest} are read.",
            f"{self._median_summary_words} words are the median of the training part's summaries.",
            scoring.signature(),
        ]
        return Evaluation(pd.DataFrame(rows), scoring.BEST, details, tuple(notes))

    def attended(self, one: Answer) -> Section:
        return Section(
            "What it attends to",
            f"Left, from top to bottom, what it wrote for: {_beginning(one.source)}\n\nDark is what each token "
            f"attended to.{_copy_rate_text(one)}",
            _token_table(one),
            figure=self.plot_attention(one),
            caption=f"Attention of each token written over the {_COLUMNS} tokens attended to most, in the text's order",
        )

    def counted(self, examples: Pairs) -> Section:
        counted = pd.DataFrame(
            {
                "texts and summaries": ["pairs", "left out: a blank side", "not trained on: a long summary",
                                        "trained on their beginning: a long text", "tokens known"],
                "count": [len(examples), examples.left_out, self._too_long, self._cut, len(self.reads)],
            }
        )  # fmt: skip
        said = (
            f"Tokens are {self.tokens}. The first {self.longest} of a text are read; summaries have at most "
            f"{self.longest_summary}."
        )
        return Section("The data", said, counted)

    def evaluation_sections(self, evaluation: Evaluation) -> list[Section]:
        examples = evaluation.details.loc[: _EXAMPLES - 1, ["source", "reference", evaluation.table["model"].iloc[0]]]
        return [
            Section(
                "How well it summarises",
                "Of the pairs at the end of the data, which fit had held out. " + " ".join(evaluation.notes),
                evaluation.table,
                best=evaluation.best,
            ),
            Section(
                "Examples",
                f"The first of the held-out test; of each text {_SHOWN} characters.",
                examples.assign(source=[_beginning(text) for text in examples["source"]]),
            ),
        ]

    def plot_attention(self, one: Answer) -> Figure:
        """What each token written attended to, of the tokens that were attended to most."""
        most = np.sort(np.argsort(-one.attention.sum(0), kind="stable")[:_COLUMNS])
        read, written = ([shown(token) for token in side] for side in (one.source_tokens, one.tokens))
        return attention_figure([read[i] for i in most], written, one.attention[:, most])

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {**super().state(), "usual_words": self._median_summary_words}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._median_summary_words = int(state["usual_words"])


def _beginning(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _copy_rate_text(one: Answer) -> str:
    """What share of a summary was copied, in a sentence."""
    if not one.generated:
        return ""
    return f" {1 - statistics.fmean(one.generated):.0%} of what it wrote was copied: the mean of 1 - p_gen."


def _token_table(one: Answer) -> pd.DataFrame | None:
    """Each token written with what it attended to most, and with copying p_gen."""
    if not one.tokens:
        return None
    looked_at = [one.source_tokens[i] for i in one.attention.argmax(1)]
    table = pd.DataFrame({"written": one.tokens, "attended to most": looked_at, "weight": one.attention.max(1)})
    return table.assign(p_gen=one.generated) if one.generated else table
