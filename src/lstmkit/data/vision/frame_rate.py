"""Frame rate of clips that are arrays, for jobs and their exports."""

from __future__ import annotations

DEFAULT_FRAME_RATE = 10.0  #: In frames per second.
