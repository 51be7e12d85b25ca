"""The figure of a translation: its attention."""

from __future__ import annotations

from matplotlib.figure import Figure

from lstmkit.data.text.generated_text import GeneratedText
from lstmkit.jobs.common.token_labels import visible_token
from lstmkit.plots.text import attention_figure


def plot_attention(translation: GeneratedText) -> Figure:
    """Attention of each generated token over the source tokens."""
    source_tokens, tokens = (
        [visible_token(t) for t in side] for side in (translation.source_tokens, translation.tokens)
    )
    return attention_figure(source_tokens, tokens, translation.attention)
