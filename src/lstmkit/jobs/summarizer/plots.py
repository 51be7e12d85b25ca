"""The figure of a summary: its attention."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lstmkit.data.text.generated_text import GeneratedText
from lstmkit.jobs.common.token_labels import visible_token
from lstmkit.plots.text import attention_figure

MAX_ATTENTION_COLUMNS = 40  #: Source tokens in the figure.


def plot_attention(summary: GeneratedText) -> Figure:
    """Attention of each generated token over the source tokens with the most attention, in the order of the text."""
    columns = np.sort(np.argsort(-summary.attention.sum(0), kind="stable")[:MAX_ATTENTION_COLUMNS])
    source_tokens = [visible_token(summary.source_tokens[i]) for i in columns]
    return attention_figure(source_tokens, [visible_token(t) for t in summary.tokens], summary.attention[:, columns])
