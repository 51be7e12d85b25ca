"""Handwriting synthesis: model pen strokes, score drawings, continue one, write texts by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from lstmkit.data.batch import Batches, Loader
from lstmkit.data.ink.points import Ink, encode_text, scale_offsets, shift_right
from lstmkit.data.ink.strokes import FORMATS, InkSet, read_strokes
from lstmkit.data.text.lines import read_prompts
from lstmkit.decoding.handwriting import GenerationOptions, check_drawings_to_continue
from lstmkit.errors import DataError
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.splitting import inspection_rows, random_split
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.handwriting_synthesizer import metrics, report
from lstmkit.jobs.handwriting_synthesizer.export import exported_handwriting_synthesizer
from lstmkit.jobs.handwriting_synthesizer.generation import head_of
from lstmkit.jobs.handwriting_synthesizer.plots import ink_figure, soft_window_figure
from lstmkit.jobs.handwriting_synthesizer.predictor import HandwritingPredictor
from lstmkit.jobs.handwriting_synthesizer.results import FILE_SUFFIXES, Handwriting, to_csv, write_file
from lstmkit.jobs.handwriting_synthesizer.settings import HandwritingSettings
from lstmkit.look.traces import ExampleSequence
from lstmkit.models.soft_window import SoftWindowModel
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section


class HandwritingSynthesizer(HandwritingSettings, Job[HandwritingPredictor]):
    """Model handwriting and other pen drawings: score drawings, continue one, write texts by hand.

    Data: a ``.npz`` of strokes, with or without splits; a table of points; SVG files; or lists. See
    :func:`lstmkit.data.ink.strokes.read_strokes`. If the drawings have texts, the model learns to write texts.

    >>> zigzag = [[1, 1, 0], [1, -1, 0], [1, 1, 0], [1, -1, 1]] * 2
    >>> job = HandwritingSynthesizer(
    ...     hidden_size=16, num_layers=1, mixture_components=2, epochs=30, lr=0.03, batch_size=8
    ... )
    >>> first, second = job.fit([zigzag] * 20).generate(2, bias=2, seed=1)
    >>> first.strokes.shape[1], first.svg()[:4]
    (3, '<svg')
    """

    predictor_class = HandwritingPredictor
    data_formats = FORMATS
    live_inputs = ("lines", "count", "canvas")
    answer_suffixes = (".svg", ".npz", ".csv")

    # ---- from file to predictor ----------------------------------------------------------------------------------

    def read(self, data: Any) -> InkSet:
        return read_strokes(data)

    def split(self, examples: InkSet, validation: InkSet | None) -> DataSplit:
        """By the splits of the data, else at random by the seed."""
        if examples.splits is not None:
            train = examples.predefined_split("train")
            if train is None:
                raise DataError(f"{examples.name} has no training drawings: none in the split 'train'")
            valid = examples.predefined_split("valid") if validation is None else validation
            return DataSplit(train, valid, examples.predefined_split("test"))
        return random_split(examples, validation, "drawing", self.valid_fraction, self.test_fraction, self.seed)

    def prepare(self, train: InkSet) -> HandwritingPredictor:
        return HandwritingPredictor.fit_front_end(self.snapshot(), train)

    def source(self, examples: InkSet) -> InkSet:
        return self.predictor.with_texts_checked(examples)

    def batches(self, source: InkSet, seed: int | None) -> Batches:
        """Drawings; long training drawings without texts are cut into windows."""
        predictor = self.predictor
        if seed is None:
            return Loader(predictor.dataset(source), 4 * self.batch_size)
        max_points = self.max_points if predictor.characters is None else 0
        return Loader(predictor.dataset(source, max_points), self.batch_size, seed, self.steps_per_epoch)

    def calibrate(self, valid: InkSet | None) -> None:
        """Nothing to calibrate: densities are the network's own."""

    # ---- answers -------------------------------------------------------------------------------------------------

    def generate(
        self,
        texts: int | str | Sequence[str] = 1,
        *,
        bias: float = 0.0,
        seed: int = 0,
        prime: Any = None,
        prime_points: int = -1,
        max_new_points: int = 0,
    ) -> list[Handwriting]:
        """Write texts, or generate drawings.

        Args:
            texts: Texts to write; for a model without texts, the number of drawings.
            bias: Probability bias: 0 samples as trained; higher is neater and less varied.
            seed: Random seed; each further drawing has the next one.
            prime: A drawing to continue, in whose style the model writes: a path, a list with one drawing, or an
                :class:`Ink`; of several the first. For a model with texts it must have a text; new text follows it.
            prime_points: Without texts: number of points of the prime; -1 for all.
            max_new_points: Maximum number of new points. 0 means the length of the longest training drawing; with
                texts, twice the mean length of such a text.

        Raises:
            DataError: A text is empty or has an unknown character, or the prime is not a drawing.
            SettingError: A value is out of range.
        """
        predictor = self.predictor
        options = GenerationOptions(bias, seed, max_new_points, prime_points)
        options.check()
        first = None if prime is None else self.read(prime).inks[0]
        if predictor.characters is None:
            if not isinstance(texts, int):
                raise DataError("this model was trained without texts: give a number of drawings")
            return predictor.generate_drawings(texts, options, first)
        if isinstance(texts, int):
            raise DataError("this model writes texts: give texts, not a number")
        return predictor.generate_texts([texts] if isinstance(texts, str) else list(texts), options, first)

    def predict(
        self,
        data: Any,
        *,
        bias: float = 0.0,
        seed: int = 0,
        prime: Any = None,
        prime_points: int = -1,
        max_new_points: int = 0,
    ) -> list[Handwriting]:
        """Write texts, generate drawings, or continue drawings; see :meth:`generate`.

        Args:
            data: With texts: a file with one text per line, a list of texts, or drawings whose texts are written anew.
                Without texts: a number of drawings, or drawings to continue.
            bias: Probability bias: 0 samples as trained; higher is neater and less varied.
            seed: Random seed; each further drawing has the next one.
            prime: A drawing to continue, in whose style the model writes; see :meth:`generate`.
            prime_points: Without texts: number of points of the prime; -1 for all.
            max_new_points: Maximum number of new points; 0 for the length of the longest training drawing.
        """
        predictor = self.predictor
        options = GenerationOptions(bias, seed, max_new_points, prime_points)
        keywords = {**options._asdict(), "prime": prime}
        texts = _read_texts(data)
        if predictor.characters is not None:
            if texts is None:
                texts = [ink.text for ink in self.source(self.read(data)).inks]
            return self.generate(texts, **keywords)
        if isinstance(data, int) or (isinstance(data, str) and data.isdecimal()):
            return self.generate(int(data), **keywords)
        options.check()
        check_drawings_to_continue(prime is not None, texts is not None)
        return predictor.continue_drawings(self.read(data).inks, options)

    def to_text(self, predictions: list[Handwriting]) -> str:
        """One row per point: ``id, x, y, pen, text``."""
        return to_csv(predictions)

    def write(self, predictions: list[Handwriting], path: Path) -> None:
        """Write an SVG page (``.svg``), arrays (``.npz``), JSON, or a table of points."""
        if path.suffix.lower() in FILE_SUFFIXES:
            write_file(predictions, path)
        else:
            super().write(predictions, path)

    def to_records(self, predictions: list[Handwriting]) -> list[dict[str, Any]]:
        return [
            {
                "name": drawing.name,
                "text": drawing.text,
                "strokes": drawing.strokes.tolist(),
                "num_prime_points": drawing.num_prime_points,
                "ended": drawing.ended,
                "nll_per_point": list(drawing.nll_per_point),
            }
            for drawing in predictions
        ]

    def plot(self, data: Any, predictions: list[Handwriting]) -> Figure:
        """With texts the first drawing and its attention window; else all drawings."""
        first = predictions[0]
        if first.window is not None:
            figure = soft_window_figure(first.strokes, first.window, first.text, first.text)
            return note_selection(figure, len(predictions), "texts")
        num_prime_points = [drawing.num_prime_points for drawing in predictions]
        return ink_figure([drawing.strokes for drawing in predictions], [""] * len(predictions), num_prime_points)

    def exported(self) -> JobExport:
        return exported_handwriting_synthesizer(self.predictor)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Negative log-likelihood per point, compared with baselines; if the data have splits, of the test split."""
        self.check_fitted()
        examples = self.read(data)
        return self.evaluate_examples(examples.predefined_split("test") or examples, progress or default_progress())

    def evaluate_examples(self, test: InkSet, progress: Progress) -> Evaluation:
        return metrics.evaluate(self.predictor, test, progress)

    def report_sections(self, examples: InkSet) -> list[Section]:
        return report.sections(self.predictor, self.full_evaluation, examples)

    def example_sequences(self, data: Any, drawing: int = 1) -> list[ExampleSequence]:
        """Drawings, number ``drawing`` (from 1) first."""
        predictor = self.predictor
        examples = self.source(self.read(data))
        rows = inspection_rows(drawing, examples, "drawing")
        return [_example_sequence(predictor, examples.inks[row]) for row in rows]


def _example_sequence(predictor: HandwritingPredictor, ink: Ink) -> ExampleSequence:
    network = predictor.network
    device = next(network.parameters()).device
    before = shift_right(ink.points)
    inputs: Any = torch.from_numpy(scale_offsets(before, predictor.offset_scale)).unsqueeze(0).to(device)
    if isinstance(network, SoftWindowModel) and predictor.characters is not None:
        text = torch.from_numpy(encode_text(ink.text, predictor.characters)).unsqueeze(0).to(device)
        inputs = (inputs, network.initial_state(text))
    head = head_of(network)
    return ExampleSequence(
        inputs,
        name=ink.name,
        annotations={
            "pen lifted before": before[:, 2].astype(bool),
            "offset to the right": before[:, 0].astype(float),
            "offset down": before[:, 1].astype(float),
        },
        answers={"logit of a pen lift at the last point": lambda output: head.mixture(output[0, -1]).pen},
    )


def _read_texts(data: Any) -> list[str] | None:
    """The texts of a ``.txt`` file or a list of texts; ``None`` for other data."""
    if isinstance(data, (str, Path)):
        is_text_file = Path(data).suffix.lower() == ".txt"
        return read_prompts(data) if is_text_file else None
    if isinstance(data, (list, tuple)) and data and all(isinstance(item, str) for item in data):
        return list(data)
    return None
