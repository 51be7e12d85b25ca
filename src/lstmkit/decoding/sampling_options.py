"""Options of sampling text token by token."""

from __future__ import annotations

from typing import NamedTuple

from lstmkit.errors import SettingError


class SamplingOptions(NamedTuple):
    """How tokens are sampled, see :meth:`lstmkit.LanguageModel.generate`."""

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    stop: str

    def check(self) -> None:
        """Raise a SettingError for an option out of range."""
        ranges = {
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
            "temperature": (self.temperature >= 0, "at least 0"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
        }
        for name, (in_range, expected) in ranges.items():
            if not in_range:
                raise SettingError(f"{name} must be {expected}, got {getattr(self, name):g}")
