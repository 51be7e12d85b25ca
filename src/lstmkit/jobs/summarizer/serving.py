"""How a summarizer is served."""

from __future__ import annotations

from typing import Any

from lstmkit.jobs.common.seq2seq_serving import text_serving
from lstmkit.jobs.serving import Serving


def serving(_predictor: Any) -> Serving:
    """Texts; requests are summarized together."""
    return text_serving("The meeting is moved to Friday at ten. Please send your slides by Thursday.")
