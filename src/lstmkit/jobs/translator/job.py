"""Translation: a sentence is read in both directions, then written in the other language, word by word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pandas as pd
from torch import Tensor

from lstmkit.data.text.text_pairs import TRANSLATIONS, MessageWording, Pairs, TextPairDataset, fitting
from lstmkit.errors import DataError
from lstmkit.jobs.base import Evaluation
from lstmkit.jobs.common.seq2seq import BEAM_SIZE, Answer, TextToText
from lstmkit.jobs.common.seq2seq_search import Piece, split_into_segments
from lstmkit.jobs.common.text_retrieval import TranslationMemory
from lstmkit.jobs.translator import metrics as scoring
from lstmkit.progress import Progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class

_EXAMPLES = 8  # in the report


@dataclass(frozen=True, eq=False)
class Translation(Answer):
    """A line and what it was translated to, see :class:`Answer`."""


@settings_class
class Translator(TextToText):
    """Learn to translate from sentences and their translations.

    Data to fit or evaluate: two files line by line beside each other, ``"train.en,train.de"``; a table (.tsv, .csv,
    .jsonl, DataFrame) with a column for each language; or a list of pairs. To predict: a text file or lines.

    >>> pairs = [("a red dog", "ein roter Hund"), ("a red cat", "eine rote Katze")] * 20
    >>> translator = Translator(epochs=1, hidden_size=8, tokens="words").fit(pairs)
    >>> len(translator.predict(["a dog", ""]))
    2
    """

    name: ClassVar[str] = "translator"
    summary: ClassVar[str] = "Translate sentences, with attention and beam search, beside a translation memory."
    wording: ClassVar[MessageWording] = TRANSLATIONS
    answer: ClassVar[type[Answer]] = Translation

    longest: int = setting("tokens of a line: longer pairs are not trained on, longer lines are read in pieces",
                           default=100, low=1)  # fmt: skip
    source_col: str = setting("column of the sources, in a table", default="source")
    target_col: str = setting("column of the translations, in a table", default="target")

    _too_long: int = field(default=0, init=False, repr=False)

    @property
    def columns(self) -> tuple[str, str]:
        return self.source_col, self.target_col

    def source(self, examples: Pairs) -> TextPairDataset:
        found, too_long = fitting(self.encoded(examples.sources, examples.targets), self.longest, self.longest)
        if examples is self._trained_on:
            self._too_long = too_long
        if not len(found):
            raise DataError(f"{examples.name}: every pair has a side of more than {self.longest} tokens: raise longest")
        if too_long:
            self._progress.say(f"{examples.name}: {too_long:,} pairs of more than {self.longest} tokens are left out")
        return found

    def pieces(self, lines: Sequence[str]) -> list[Piece]:
        """Lines of more tokens than ``longest`` in pieces of that many; what is written for them is joined."""
        return split_into_segments(lines, self.reads, self.longest, self.copying)

    def max_output_tokens(self, lengths: Tensor) -> Tensor:
        return 2 * lengths + 10

    # ---- evidence ------------------------------------------------------------------------------------------------

    def score(self, test: Pairs, progress: Progress) -> Evaluation:
        told: dict[str, Sequence[str]] = {
            self.cell.upper(): [one.text for one in self.predict(test, progress=progress)],
        }
        if self._trained_on is not None:
            memory = TranslationMemory(self._trained_on.sources, self._trained_on.targets)
            told["most similar source of the training part"] = memory(test.sources)
        told["the source as it stands"] = test.sources
        rows = [{"model": name, **scoring.scores(lines, test.targets)} for name, lines in told.items()]
        details = pd.DataFrame({"source": test.sources, "reference": test.targets, **told})
        notes = [
            f"{len(test):,} sentences, one reference each; beam of {BEAM_SIZE}, length penalty {self.length_penalty:g}.",
            *scoring.signatures(),
        ]
        return Evaluation(pd.DataFrame(rows), scoring.BEST, details, tuple(notes))

    def attended(self, one: Answer) -> Section:
        return Section(
            "What it attends to",
            f"Left, from top to bottom, what it wrote for: {one.source}\n\nDark is what each token attended to.",
            figure=self.plot_attention(one),
            caption="Attention of each token written over the tokens read",
        )

    def counted(self, examples: Pairs) -> Section:
        counted = pd.DataFrame(
            {
                "parallel text": ["pairs", "left out: a blank side", "not trained on: too long",
                                  "tokens known of the source", "tokens known of the translation"],
                "count": [len(examples), examples.left_out, self._too_long, len(self.reads), len(self.writes)],
            }
        )  # fmt: skip
        return Section("The data", f"Tokens are {self.tokens}, at most {self.longest} of a line.", counted)

    def evaluation_sections(self, evaluation: Evaluation) -> list[Section]:
        details = evaluation.details
        told = {name: details[name].tolist() for name in evaluation.table["model"]}
        sources, references = details["source"].tolist(), details["reference"].tolist()
        lengths = scoring.by_length(sources, references, told)
        columns = ["source", "reference", next(iter(told))]
        return [
            Section(
                "How well it translates",
                "Of the pairs at the end of the data, which fit had held out. " + " ".join(evaluation.notes),
                evaluation.table,
                best=evaluation.best,
            ),
            Section("Examples", "The first of the held-out test.", details.loc[: _EXAMPLES - 1, columns]),
            Section("BLEU by length", "Sentences of like length together.", lengths, best=dict.fromkeys(told, "high")),
        ]
