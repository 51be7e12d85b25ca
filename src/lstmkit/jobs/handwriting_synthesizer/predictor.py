"""What the handwriting synthesizer's ``fit`` leaves: offset scale, characters, drawing lengths, baselines, network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn
from typing_extensions import Self

from lstmkit.data.ink.points import MAX_POINTS, Ink
from lstmkit.data.ink.strokes import InkDataset, InkSet
from lstmkit.decoding.handwriting import (
    GenerationOptions,
    HandwritingTask,
    check_count,
    continuation_task,
    drawing_tasks,
    text_task,
)
from lstmkit.errors import DataError
from lstmkit.jobs.handwriting_synthesizer.baselines import (
    HandwritingBaselines,
    baselines_from_text,
    fit_handwriting_baselines,
)
from lstmkit.jobs.handwriting_synthesizer.generation import generate_handwriting, score_drawings
from lstmkit.jobs.handwriting_synthesizer.results import Handwriting, PointScores
from lstmkit.jobs.handwriting_synthesizer.settings import HandwritingSettings
from lstmkit.jobs.predictor import Predictor
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.models.soft_window import SoftWindowModel
from lstmkit.modules.mixture_density import MixtureDensityHead
from lstmkit.modules.soft_window import SoftWindow
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress

_ROUNDING_STD = 1 / math.sqrt(12)  # standard deviation of rounding to whole numbers
_MIN_RELATIVE_STD = 1e-3  # for other data, in standard deviations of the offsets
_SCALE_RANGE = 1e-12, 1e12


class HandwritingPredictor(Predictor[HandwritingSettings]):
    """Scores and generates drawings.

    Attributes:
        offset_scale: Standard deviation of the training offsets; the network reads offsets divided by it.
        min_std: Smallest standard deviation that any model predicts, in the data's unit.
        characters: The characters of the training texts; ``None`` if the drawings have no texts.
        points_per_character: Mean points per character in the training split; without texts, per drawing.
        max_training_points: Points of the longest training drawing.
        baselines: Fitted to the training split.
    """

    def __init__(
        self,
        settings: HandwritingSettings,
        *,
        offset_scale: float,
        min_std: float,
        characters: str | None,
        points_per_character: float,
        max_training_points: int,
        baselines: HandwritingBaselines,
    ) -> None:
        super().__init__(settings)
        self.offset_scale, self.min_std, self.characters = offset_scale, min_std, characters
        self.points_per_character, self.max_training_points = points_per_character, max_training_points
        self.baselines = baselines

    @classmethod
    def fit_front_end(cls, settings: HandwritingSettings, train: InkSet) -> Self:
        """A predictor without a network.

        Raises:
            DataError: All offsets are the same, or only some drawings have a text.
        """
        drawings = [ink.points for ink in train.inks]
        offsets = np.concatenate(drawings)[:, :2].astype(np.float64)
        scale = float(offsets.std())
        if not _SCALE_RANGE[0] <= scale:
            raise DataError(f"{train.name}: all offsets of the training split are equal, so nothing is drawn")
        is_whole = bool((offsets == np.round(offsets)).all())
        min_std = min(_ROUNDING_STD, scale) if is_whole else _MIN_RELATIVE_STD * scale
        characters = "".join(sorted({c for ink in train.inks for c in ink.text})) if train.has_texts else None
        counts = [len(ink.text) for ink in train.inks] if characters is not None else [1] * len(train)
        return cls(
            settings,
            offset_scale=scale,
            min_std=min_std,
            characters=characters,
            points_per_character=len(offsets) / sum(counts),
            max_training_points=max(map(len, drawings)),
            baselines=fit_handwriting_baselines(drawings, min_std, settings.seed),
        )

    def build(self) -> Model:
        settings, floor = self.settings, self.min_std / self.offset_scale
        hidden, components, dropout = settings.hidden_size, settings.mixture_components, settings.dropout

        def trunk(input_size: int, num_layers: int) -> Any:
            return build_trunk(
                settings.cell,
                input_size,
                hidden,
                num_layers=num_layers,
                dropout=dropout,
                variational=True,
                residual=True,
            )

        if self.characters is None:
            head = MixtureDensityHead(hidden, components, floor, ending=True, dropout=dropout)
            return SequenceModel(nn.Identity(), trunk(3, settings.num_layers), head)
        input_size = 3 + len(self.characters)
        lower = trunk(input_size, 1)
        window = SoftWindow(hidden, settings.window_components, 1 / self.points_per_character)
        upper = trunk(input_size + hidden, settings.num_layers - 1) if settings.num_layers > 1 else None
        width = hidden * (1 if upper is None else 2)
        head = MixtureDensityHead(width, components, floor, ending=False, dropout=dropout)
        return SoftWindowModel(len(self.characters), lower, window, upper, head)

    # ---- scoring -------------------------------------------------------------------------------------------------

    def with_texts_checked(self, examples: InkSet) -> InkSet:
        """The examples. Raises DataError if the model needs texts and they have none."""
        if self.characters is not None and not examples.has_texts:
            raise DataError(
                f"{examples.name} has no texts, but the model was trained on drawings with texts: add the texts"
            )
        return examples

    def dataset(self, examples: InkSet, max_points: int = 0) -> InkDataset:
        """Encoded drawings, cut into windows of at most ``max_points`` points; 0 = whole drawings."""
        return InkDataset(examples, self.offset_scale, max_points, self.characters)

    def score(self, examples: InkSet, progress: Progress | None = None) -> list[PointScores]:
        """The network's scores of each drawing, in the data's unit."""
        source = self.dataset(self.with_texts_checked(examples))
        return score_drawings(self.model, source, self.offset_scale, self.device, progress)

    # ---- generation ----------------------------------------------------------------------------------------------

    def generate_texts(
        self, texts: Sequence[str], options: GenerationOptions, prime: Ink | None = None
    ) -> list[Handwriting]:
        """Write texts, each after the prime if there is one.

        Raises:
            DataError: A text is empty or too long, has an unknown character, or the prime has no text.
            SettingError: ``prime_points`` is given.
        """
        characters, pace = self.characters or "", self.points_per_character
        return self._generate([text_task(text, prime, options, characters, pace) for text in texts], options)

    def generate_drawings(self, count: int, options: GenerationOptions, prime: Ink | None = None) -> list[Handwriting]:
        """Generate ``count`` drawings without texts, each after the prime if there is one."""
        check_count(count)
        if prime is not None:
            return self.continue_drawings([prime] * count, options)
        return self._generate(drawing_tasks(count, options, self.max_training_points), options)

    def continue_drawings(self, inks: Sequence[Ink], options: GenerationOptions) -> list[Handwriting]:
        """Continue drawings without texts."""
        tasks = [continuation_task(ink, options, self.max_training_points) for ink in inks]
        return self._generate(tasks, options)

    def _generate(self, tasks: list[HandwritingTask], options: GenerationOptions) -> list[Handwriting]:
        check_count(len(tasks))
        return generate_handwriting(self.model, tasks, options, self.offset_scale, self.characters, self.device)

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "scale": self.offset_scale,
            "floor": self.min_std,
            "characters": self.characters,
            "pace": self.points_per_character,
            "longest": self.max_training_points,
            "baselines": self.baselines.to_text(),
        }

    @classmethod
    def from_state(cls, settings: HandwritingSettings, state: Mapping[str, Any]) -> Self:
        scale, min_std, points_per_character = (float(state[key]) for key in ("scale", "floor", "pace"))
        characters, max_training_points = state["characters"], state["longest"]
        if not _SCALE_RANGE[0] <= scale <= _SCALE_RANGE[1] or not 0 < min_std <= scale:
            raise ValueError("the offset scale or the smallest standard deviation is out of range")
        if not 1e-3 <= points_per_character <= MAX_POINTS:
            raise ValueError("the points per character are out of range")
        if not isinstance(max_training_points, int) or not 1 <= max_training_points <= MAX_POINTS:
            raise ValueError("the number of points of the longest drawing is out of range")
        if characters is not None and len(set(characters)) != len(str(characters)):
            raise ValueError("the characters are not distinct")
        return cls(
            settings,
            offset_scale=scale,
            min_std=min_std,
            characters=characters,
            points_per_character=points_per_character,
            max_training_points=max_training_points,
            baselines=baselines_from_text(state["baselines"]),
        )
