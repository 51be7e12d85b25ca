"""How a translator is served."""

from __future__ import annotations

from typing import Any

from lstmkit.jobs.common.seq2seq_serving import text_serving
from lstmkit.jobs.serving import Serving


def serving(_predictor: Any) -> Serving:
    """Lines of text; requests are translated together."""
    return text_serving("a dog runs on the beach")
