"""How good captions are: BLEU of sacreBLEU against all sentences of each, beside what needs no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sacrebleu.metrics.bleu import BLEU

from lstmkit.data.captioned_media import CaptionedMedia
from lstmkit.data.vision.image_io import thumbnail
from lstmkit.data.vision.video_io import VideoClip
from lstmkit.jobs.base import Evaluation
from lstmkit.jobs.common.classifier_baselines import resampled
from lstmkit.progress import Progress

if TYPE_CHECKING:
    from lstmkit.jobs.captioner.job import Captioner

NGRAM_ORDERS = (1, 2, 3, 4)  #: Words in a row that are counted.
_NUM_RESAMPLED_FRAMES = 8  # of a clip or of features
_NUM_TRAINING_EXAMPLES = 100  # of the training part


def scores(told: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1 to BLEU-4 in lower case, 0 to 100, and, where each has one sentence, the share that is exactly it.

    >>> scores(["a dog runs fast"], [["A dog runs fast .", "a dog runs fast"]])["BLEU-4"]
    100.0
    """
    padded = _side_by_side(references)
    found: dict[str, float] = {}
    for order in NGRAM_ORDERS:
        # Sentences as the data have them, tokenised or not: sacreBLEU cuts them all alike, and need not warn.
        score = BLEU(lowercase=True, force=True, max_ngram_order=order).corpus_score(told, padded).score
        found[f"BLEU-{order}"] = round(score, 2)
    if all(len(of) == 1 for of in references):
        same = [one.lower().split() == of[0].lower().split() for one, of in zip(told, references, strict=True)]
        found = {"exact match": float(np.mean(same)), **found}
    return found


def signature(references: Sequence[Sequence[str]]) -> str:
    """What the scores are exactly, as sacreBLEU writes it."""
    metric = BLEU(lowercase=True, force=True)
    metric.corpus_score([""] * len(references), _side_by_side(references))
    return f"BLEU: {metric.get_signature().format()}, BLEU-n with n words in a row at most."


def _side_by_side(references: Sequence[Sequence[str]]) -> list[Any]:
    """As sacreBLEU wants them, the first of each, the second of each, …; ``None`` where there is none."""
    return [list(of) for of in zip_longest(*references)]


def most_frequent(train: CaptionedMedia) -> str:
    """The sentence that the training part has most often; of as many the one of the commonest words."""
    sentences = Counter(text for texts in train.texts for text in texts)
    words = Counter(word for text in sentences for word in text.lower().split())

    def common(text: str) -> tuple[int, float]:
        return sentences[text], float(np.mean([words[word] for word in text.lower().split()]))

    return max(sentences, key=common)


class NearestCaption:
    """The first sentence of what looks most alike, dot by dot, at 8 by 8 dots; of clips at 8 moments.

    Args:
        train: What is remembered.
    """

    def __init__(self, train: CaptionedMedia) -> None:
        self._texts = train.texts
        self._known = _thumbnails(train.seen)

    def __call__(self, seen: Sequence[Any]) -> list[str]:
        asked = _thumbnails(seen)
        square = (self._known**2).sum(axis=1)
        nearest = (square - 2 * asked @ self._known.T).argmin(axis=1)
        return [self._texts[int(i)][0] for i in nearest]


def _thumbnails(seen: Sequence[Any]) -> np.ndarray:
    """``(N, F)`` float32."""

    def thumb(dots: np.ndarray) -> np.ndarray:
        return thumbnail(dots, colour=dots.shape[2] == 3)

    def row(one: Any) -> np.ndarray:
        if isinstance(one, VideoClip):
            return resampled(np.stack([thumb(frame) for frame in one.frames]), _NUM_RESAMPLED_FRAMES)
        return thumb(one) if one.ndim == 3 else resampled(one, _NUM_RESAMPLED_FRAMES)

    return np.stack([row(one) for one in seen]).astype(np.float32)


def evaluated(job: Captioner, test: CaptionedMedia, train: CaptionedMedia | None, progress: Progress) -> Evaluation:
    """The model's sentences, and its baselines', against all that was said."""
    name = job.cell.upper()
    told = {name: [one.text for one in job.predict(test, progress=progress)]}
    notes = [f"{len(test):,} {test.kind}, {sum(map(len, test.texts)):,} sentences. {signature(test.texts)}"]
    if train is None:
        notes.append("A loaded model has not what it learnt from: there is nothing beside it.")
    else:
        told["sentence of the most similar one in training"] = NearestCaption(train)(test.seen)
        told["most frequent sentence"] = [most_frequent(train)] * len(test)
    rows = [{"model": model, **scores(lines, test.texts)} for model, lines in told.items()]
    table = pd.DataFrame(rows)
    if train is not None:
        again = train.part(np.arange(min(_NUM_TRAINING_EXAMPLES, len(train))))
        known = scores([one.text for one in job.predict(again, progress=progress)], again.texts)["BLEU-4"]
        table["BLEU-4 in training"] = [known, *[float("nan")] * (len(rows) - 1)]
        notes.append(
            f"BLEU-4 in training: of the first {len(again)} it learnt from; what is above the test is by heart."
        )
    details = pd.DataFrame({"name": list(test.ids), "references": [" / ".join(of) for of in test.texts], **told})
    best = dict.fromkeys(table.columns.drop("model"), "high")
    return Evaluation(table, best, details, tuple(notes))
