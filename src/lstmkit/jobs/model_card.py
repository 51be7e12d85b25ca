"""The model card of a run: a ``README.md`` with the metadata that the Hugging Face hub reads, from what fit knows."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import pandas as pd

from lstmkit import settings
from lstmkit.errors import one_line
from lstmkit.jobs import class_name
from lstmkit.jobs.evaluation import NO_SCORES, Evaluation
from lstmkit.jobs.settings import JobSettings
from lstmkit.report import table_markdown
from lstmkit.version import __version__


class CardData(NamedTuple):
    """What a card says of the data; never a path or a part of them.

    Attributes:
        kinds: Kinds of data whose settings count, some of :data:`lstmkit.settings.DATA_KINDS`.
        digest: SHA-256 of the data that ``fit`` read.
        examples: Number of examples that ``fit`` read; ``None`` if they cannot be counted.
    """

    kinds: Collection[str]
    digest: str
    examples: int | None


def model_card(job: JobSettings, data: CardData, evaluation: Evaluation | None, ended: Sequence[str]) -> str:
    """The card as Markdown, after a block of YAML.

    Args:
        job: Settings of the job.
        data: What is said of the data.
        evaluation: The scores of ``fit``.
        ended: Why the training of each member ended.
    """
    title = f"lstmkit {job.name}"
    training = "; ".join(dict.fromkeys(ended)) or "unknown"
    sections = {
        f"# {title}": f"{job.summary} A model of [lstmkit](https://pypi.org/project/lstmkit/) {__version__}.",
        "## Scores": _scores(evaluation),
        "## Use": _use(job),
        "## Data": _data(data),
        "## Training": f"{_settings(job, data.kinds)}\n\nTraining ended: {training}.",
        "## Limits": _limits(evaluation),
    }
    body = "\n\n".join(f"{heading}\n\n{text}" for heading, text in sections.items())
    return f"---\n{_front_matter(title, job, data.kinds, evaluation)}---\n\n{body}\n"


def _front_matter(title: str, job: JobSettings, kinds: Collection[str], evaluation: Evaluation | None) -> str:
    """The lines of YAML. Texts are written as JSON, which is YAML too. The license is the author's to add."""
    tags = job.pipeline_tags
    task = next((tags[kind] for kind in ("", *sorted(kinds)) if kind in tags), None)
    lines = ["library_name: lstmkit", *([f"pipeline_tag: {task}"] if task else [])]
    lines += ["tags:", "- lstmkit", "- lstm", f"- {job.name.replace('_', '-')}"]
    metrics = _metrics(evaluation)
    if evaluation is not None and metrics:
        lines += ["model-index:", f"- name: {_text(title)}", "  results:"]
        lines += ["  - task:", f"      type: {task or job.name.replace('_', '-')}"]
        lines += ["    dataset:", "      type: own", f"      name: {_text(evaluation.part)}", "    metrics:"]
        for name, value in metrics.items():
            lines += [f"    - type: {_text(name.lower())}", f"      name: {_text(name)}", f"      value: {value!r}"]
    return "".join(f"{line}\n" for line in lines)


def _metrics(evaluation: Evaluation | None) -> dict[str, float]:
    """The scores of this model that are finite numbers."""
    if evaluation is None:
        return {}
    scores: Any = evaluation.table.iloc[0]
    values = {name: float(scores[name]) for name in evaluation.directions if not pd.isna(scores[name])}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _text(text: object) -> str:
    return json.dumps(one_line(text), ensure_ascii=False)


def _scores(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return NO_SCORES
    table = table_markdown(evaluation.table, evaluation.directions)
    return f"{evaluation.introduction}\n\n{table}\n\nThe first row is this model, the others are baselines."


def _use(job: JobSettings) -> str:
    return f"""\
```
pip install 'lstmkit[{job.extra}]'
```

In Python, with the folder of the model; no code from it runs:

```python
import lstmkit

model = lstmkit.load("FOLDER")  # a lstmkit.{class_name(job.name)}
predictions = model.predict("DATA")
```

On the command line, also from the Hugging Face hub:

```
lstmkit pull USER/NAME -o FOLDER
lstmkit predict FOLDER DATA
```"""


def _data(data: CardData) -> str:
    count = "" if data.examples is None else f", {data.examples:,} examples"
    return f"The data are not part of the model. Fitted to data with the digest `{one_line(data.digest)}`{count}."


def _settings(job: JobSettings, kinds: Collection[str]) -> str:
    """The settings that differ from the defaults; run folders are paths of a machine and are left out."""
    fields = settings.declared(type(job))
    changed = {
        name: "(a run on the author's machine)"
        if fields[name].metadata["names"] == "run"
        else json.dumps(value, ensure_ascii=False)
        for name, value in settings.in_effect(job, kinds).items()
        if getattr(job, name) != fields[name].default
    }
    if not changed:
        return "All settings have their defaults."
    table = pd.DataFrame({"setting": list(changed), "value": list(changed.values())})
    return f"Settings other than the defaults:\n\n{table_markdown(table)}"


def _limits(evaluation: Evaluation | None) -> str:
    scored = "It was not scored" if evaluation is None else f"It was scored on {evaluation.part} alone"
    return (
        f"{scored}: on data from another source, or of another time, it may be worse. Its license is not stated here: "
        "the author adds `license:` to the block at the top of this file."
    )
