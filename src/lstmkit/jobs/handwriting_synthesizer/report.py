"""The report of the handwriting synthesizer: results, likelihood by point, generated drawings, the data."""

from __future__ import annotations

import numpy as np

from lstmkit.data.ink.strokes import InkSet
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.handwriting_synthesizer.generation import GenerationOptions
from lstmkit.jobs.handwriting_synthesizer.plots import ink_figure, nll_figure, soft_window_figure
from lstmkit.jobs.handwriting_synthesizer.predictor import HandwritingPredictor
from lstmkit.report import Section, quantities

_NUM_DRAWINGS = 18
_BIASES = (0.0, 0.5, 1.0, 2.0)


def sections(predictor: HandwritingPredictor, evaluation: Evaluation | None, examples: InkSet) -> list[Section]:
    """The job's part of the report.

    Args:
        predictor: Fitted.
        evaluation: Scores, if there are any.
        examples: Everything that was read.
    """
    test = examples.predefined_split("test") or examples
    results = [] if evaluation is None else [_results_section(evaluation), _nll_section(evaluation)]
    of_kind = _generated_drawings_sections if predictor.characters is None else _generated_text_sections
    return [*results, *of_kind(predictor, test), _data_section(predictor, examples)]


def _results_section(evaluation: Evaluation) -> Section:
    text = (
        "Negative log-likelihood (NLL): of each point's offset and pen, and of the pen alone. "
        "Pen-lift F1: prediction of the points after which the pen is lifted. " + evaluation.introduction
    )
    return Section("Results", text, evaluation.table, best=evaluation.directions)


def _nll_section(evaluation: Evaluation) -> Section:
    details, model = evaluation.details, str(evaluation.table["model"].iloc[0])
    name = str(details["drawing"].iloc[0])
    end = [*np.flatnonzero(details["point"] == 0), len(details)][1]
    first = details.head(int(end))
    return Section(
        "Negative log-likelihood by point",
        f"{name}, the first test drawing. The NLL of a density may be negative.",
        first.drop(columns="drawing"),
        nll_figure(first[["dx", "dy", "pen_up"]].to_numpy(), np.asarray(first[model]), name),
        caption="Nats per point",
    )


def _generated_drawings_sections(predictor: HandwritingPredictor, examples: InkSet) -> list[Section]:
    inks, seed = examples.inks[:_NUM_DRAWINGS], predictor.settings.seed
    generated = predictor.generate_drawings(_NUM_DRAWINGS, GenerationOptions(seed=seed))
    continued = [
        predictor.continue_drawings([ink], GenerationOptions(seed=seed + i, prime_points=max(1, len(ink.points) // 2)))[
            0
        ]
        for i, ink in enumerate(inks[: _NUM_DRAWINGS // 3])
    ]
    num_prime = [drawing.num_prime_points for drawing in continued]
    return [
        _drawings_section("Drawings of the data", "For comparison.", [ink.points for ink in inks]),
        _drawings_section(
            "Generated drawings", "Sampled point by point, without a prime.", [drawing.strokes for drawing in generated]
        ),
        Section(
            "Continued drawings",
            "The prime is the first half of a drawing.",
            figure=ink_figure([drawing.strokes for drawing in continued], [""] * len(continued), num_prime),
            caption="Continued drawings",
        ),
    ]


def _drawings_section(title: str, text: str, drawings: list[np.ndarray]) -> Section:
    return Section(title, text, figure=ink_figure(drawings, [""] * len(drawings)), caption=title)


def _generated_text_sections(predictor: HandwritingPredictor, examples: InkSet) -> list[Section]:
    known = [ink for ink in examples.inks if not set(ink.text) - set(predictor.characters or "")]
    if not known:
        return []
    ink, seed = known[0], predictor.settings.seed
    generated = [predictor.generate_texts([ink.text], GenerationOptions(bias, seed))[0] for bias in _BIASES]
    names = [f"bias {bias:g}" for bias in _BIASES]
    neatest = generated[-1]
    sections = [
        Section(
            "Handwriting with several biases",
            f"“{ink.text}” as in the data, and generated. A higher bias gives neater writing.",
            figure=ink_figure([ink.points, *(drawing.strokes for drawing in generated)], ["as in the data", *names]),
            caption="Handwriting with several biases",
        )
    ]
    if neatest.window is not None:
        sections.append(
            Section(
                "Attention window",
                "Weight of each character at each point, darker for more. The color shows the character with the "
                "highest weight.",
                figure=soft_window_figure(neatest.strokes, neatest.window, neatest.text, names[-1]),
                caption="Attention window over the text",
            )
        )
    return sections


def _data_section(predictor: HandwritingPredictor, examples: InkSet) -> Section:
    points = np.concatenate([ink.points for ink in examples.inks])
    rows = {
        "drawings": len(examples),
        "points": examples.points,
        "points of the longest drawing": max(len(ink.points) for ink in examples.inks),
        "points after which the pen is lifted, %": round(100 * float(points[:, 2].mean()), 2),
        "longest offset": round(float(np.hypot(*points[:, :2].T).max()), 3),
    }
    if predictor.characters is not None:
        rows |= {
            "different characters": len(predictor.characters),
            "points per character": round(predictor.points_per_character, 2),
        }
    text = (
        f"Offsets are divided by {predictor.offset_scale:.4g}, their standard deviation in the training split. No "
        f"model predicts a standard deviation below {predictor.min_std:.3g}: on rounded data, ever narrower "
        "Gaussians would otherwise have ever higher densities. " + " ".join(examples.notes)
    )
    return Section("The data", text, quantities("all data", rows))
