"""What a writer's run shows: its table, where it is surprised, what it writes, what was done to the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lstmkit.data.ink.strokes import Ink, InkSet
from lstmkit.jobs.handwriting_synthesizer.plots import ink_figure, soft_window_figure, surprisal_figure
from lstmkit.report import Section

if TYPE_CHECKING:
    from lstmkit.jobs.base import Evaluation
    from lstmkit.jobs.handwriting_synthesizer.job import HandwritingSynthesizer

_DRAWN = 18  # drawings side by side
_BIASES = (0.0, 0.5, 1.0, 2.0)  # with which a text is written


def sections(job: HandwritingSynthesizer, examples: InkSet) -> list[Section]:
    """The whole of the report that is about handwriting."""
    told = examples.given("test") or examples
    found = []
    if job.evaluation is not None:
        found = [_evidence(job.evaluation), _surprise(job.evaluation)]
    written = _texts(job, told) if job.characters is not None else _drawings(job, told)
    return [*found, *written, _data(job, examples)]


def _evidence(evaluation: Evaluation) -> Section:
    text = (
        "Negative log-likelihood (NLL) of drawings that fit had held out: of where each point is, and of the pen. Lift "
        "F1: how well it was foreseen after which points the pen is lifted. " + " ".join(evaluation.notes)
    )
    return Section("How well it knows what comes", text, evaluation.table, best=evaluation.best)


def _surprise(evaluation: Evaluation) -> Section:
    details = evaluation.details
    name = str(details["drawing"].iloc[0])
    begins = np.flatnonzero(details["point"] == 0)
    first = details.iloc[: begins[1] if len(begins) > 1 else len(details)]
    points = first[["right", "down", "lifted"]].to_numpy()
    nats = np.asarray(first[details.columns[5]])
    return Section(
        "Where it is surprised",
        f"{name}, the first drawing of the test, point by point. Nats of a density may be below 0.",
        first.drop(columns="drawing"),
        surprisal_figure(points, nats, name),
        caption="Nats of each point",
    )


def _drawings(job: HandwritingSynthesizer, examples: InkSet) -> list[Section]:
    some = examples.inks[:_DRAWN]
    written = job.handwrite(_DRAWN, seed=job.seed)
    half = [Ink(ink.points[: max(1, len(ink.points) // 2)], ink.name) for ink in some]
    gone_on = [job.handwrite(1, seed=job.seed + i, prime=ink)[0] for i, ink in enumerate(half[: _DRAWN // 3])]
    return [
        _side_by_side("Drawings of the data", "For comparison.", [ink.points for ink in some]),
        _side_by_side("Drawings it made", "Drawn point by point from nothing.", [one.strokes for one in written]),
        Section(
            "Drawings it went on with",
            "The first half of drawings was given.",
            figure=ink_figure([one.strokes for one in gone_on], [""] * len(gone_on), [o.given for o in gone_on]),
            caption="Drawings it went on with",
        ),
    ]


def _side_by_side(title: str, text: str, drawings: list[np.ndarray]) -> Section:
    return Section(title, text, figure=ink_figure(drawings, [""] * len(drawings)), caption=title)


def _texts(job: HandwritingSynthesizer, examples: InkSet) -> list[Section]:
    known = [ink for ink in examples.inks if not set(ink.text) - set(job.characters or "")]
    if not known:
        return []
    ink = known[0]
    written = [job.handwrite([ink.text], bias=bias, seed=job.seed)[0] for bias in _BIASES]
    names = [f"bias {bias:g}" for bias in _BIASES]
    steady = written[-1]
    assert steady.window is not None
    return [
        Section(
            "A text it wrote",
            f"“{ink.text}”, as the data have it, and with several biases towards what is most likely.",
            figure=ink_figure([ink.points, *(one.strokes for one in written)], ["as in the data", *names]),
            caption="A text it wrote",
        ),
        Section(
            "Where in the text it was",
            "How much of each character was read at each point, the darker the more; what is read most is coloured.",
            figure=soft_window_figure(steady.strokes, steady.window, steady.text, names[-1]),
            caption="The window's path over the text",
        ),
    ]


def _data(job: HandwritingSynthesizer, examples: InkSet) -> Section:
    points = np.concatenate([ink.points for ink in examples.inks])
    scale, floor = job.units
    rows = {
        "drawings": len(examples),
        "points": examples.points,
        "points of the longest drawing": max(len(ink.points) for ink in examples.inks),
        "share of points after which the pen is lifted, %": round(100 * float(points[:, 2].mean()), 2),
        "longest offset": round(float(np.hypot(*points[:, :2].T).max()), 3),
    }
    if job.characters is not None:
        rows |= {"different characters": len(job.characters), "points a character": round(job.pace, 2)}
    text = (
        f"Offsets are divided by {scale:.4g}, their deviation in the training part. No deviation below {floor:.3g} is "
        "told: what is rounded to whole numbers could else be told with ever narrower Gaussians. "
        + " ".join(examples.remarks)
    )
    return Section("The data", text, pd.DataFrame({"all data": list(rows), "count": list(rows.values())}))
