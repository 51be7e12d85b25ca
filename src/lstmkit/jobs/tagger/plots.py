"""Figure of tagged sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from lstmkit.jobs.tagger.predictor import TaggedSentence
from lstmkit.plots.style import note_selection
from lstmkit.plots.text import surprisal_figure

_MAX_SENTENCES = 12


def tags_figure(sentences: Sequence[TaggedSentence]) -> Figure:
    """The first sentences, each token with its tag; the darker a tag, the lower its probability."""
    tokens, bits = [], []
    for sentence in sentences[:_MAX_SENTENCES]:
        tokens += [f"{token}/{tag}" for token, tag in zip(sentence.tokens, sentence.tags, strict=True)]
        bits += [-math.log2(max(probability, 1e-6)) for probability in sentence.probabilities]
        tokens.append("⏎")
        bits.append(0.0)
    figure = surprisal_figure(tokens, bits, "surprisal of the tag, bits")
    return note_selection(figure, len(sentences), "sentences", drawn=_MAX_SENTENCES)
