"""What a language model's run shows: its table, where it is surprised, what it writes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from lstmkit.jobs.common.token_labels import shown
from lstmkit.plots.text import surprisal_figure
from lstmkit.report import Section

if TYPE_CHECKING:
    from lstmkit.jobs.base import Evaluation
    from lstmkit.jobs.language_model.job import LanguageModel

_SHOWN = 300  # tokens whose surprise is drawn


def sections(job: LanguageModel) -> list[Section]:
    """The whole of the report that is about language."""
    found = [] if job.evaluation is None else [_evidence(job.evaluation), _surprisal_section(job.evaluation)]
    return [*found, _written(job), _text(job)]


def _evidence(evaluation: Evaluation) -> Section:
    text = "Perplexity and bits per character of text at the end of the data, which fit had held out. "
    title = "How well it knows the language"
    return Section(title, text + " ".join(evaluation.notes), evaluation.table, best=evaluation.best)


def _surprisal_section(evaluation: Evaluation) -> Section:
    details = evaluation.details.head(_SHOWN)
    tokens = [shown(t) for t in details["token"]]
    bits = (details.iloc[:, 1] / math.log(2)).tolist()
    return Section(
        "Where it is surprised",
        "The first tokens of the test, and how many bits each took: 0 was certain, 10 was one in a thousand.",
        pd.DataFrame({"token": tokens, "bits": bits}),
        surprisal_figure(tokens, bits),
        caption="Surprise token by token",
    )


def _written(job: LanguageModel) -> Section:
    rows = [
        {"temperature": t, "written": job.text([job.generate(length=60, temperature=t, seed=job.seed)])}
        for t in (0.5, 0.8, 1.0)
    ]
    return Section("What it writes", "From the end of a line on, at three temperatures.", pd.DataFrame(rows))


def _text(job: LanguageModel) -> Section:
    assert job.learnt is not None
    counts = [len(job.learnt.ids), job.learnt.characters, len(job.tokenizer)]
    names = ["tokens", "characters", "different tokens kept"]
    return Section("The text", f"Tokens are {job.tokens}.", pd.DataFrame({"training text": names, "count": counts}))
