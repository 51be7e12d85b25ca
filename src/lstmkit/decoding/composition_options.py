"""Options of composing music."""

from __future__ import annotations

import math
from typing import NamedTuple

from lstmkit.data.music.midi import MAX_STEPS, MAX_TEMPO, MIN_TEMPO
from lstmkit.errors import SettingError

NUM_PARTICLES = 16  #: Accompaniments that are sampled side by side to harmonize a melody.
_CONDITIONS = ("start", "melody")


class CompositionOptions(NamedTuple):
    """How to compose; see :meth:`lstmkit.MusicComposer.predict`."""

    length: int
    condition: str
    prompt_steps: int
    temperature: float
    seed: int
    tempo: float

    def check(self) -> None:
        """Raise SettingError if a value is out of range."""
        if self.condition not in _CONDITIONS:
            raise SettingError(f"condition must be one of {', '.join(_CONDITIONS)}, got {self.condition!r}")
        whole = all(isinstance(number, int) for number in (self.length, self.prompt_steps, self.seed))
        in_range = whole and 1 <= self.length <= MAX_STEPS and self.prompt_steps >= -1 and 0 <= self.seed < 2**32
        if not in_range:
            raise SettingError(
                f"length must be 1 to {MAX_STEPS:,} steps, prompt_steps at least 0 (or -1 for all), seed within 0…2³², "
                f"whole numbers; got {self.length}, {self.prompt_steps}, {self.seed}"
            )
        if not 0 <= self.temperature < math.inf or not (self.tempo == 0 or MIN_TEMPO <= self.tempo <= MAX_TEMPO):
            raise SettingError(
                f"temperature must be at least 0, tempo {MIN_TEMPO:g} to {MAX_TEMPO:g} quarter notes per minute (or 0 "
                f"for the piece's own); got {self.temperature:g}, {self.tempo:g}"
            )
