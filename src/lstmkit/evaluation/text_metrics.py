"""The tokens that text metrics compare, by the script of the references.

ROUGE and BLEU were defined for scripts with spaces between words; rouge-score even drops everything but ASCII letters.
Han, kana, Thai, Lao, Khmer and Burmese have no spaces: there each character is a token, as in sacreBLEU's ``zh`` and
``char`` tokenizers.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_OTHERS_WITHOUT_SPACES = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_is_han = re.compile(f"[{_HAN}]").match
_has_no_spaces = re.compile(f"[{_HAN}{_OTHERS_WITHOUT_SPACES}]").search
#: Fraction of letters outside ASCII up to which a text counts as English with a few foreign words.
_MAX_FOREIGN = 0.001
_MIN_UNSPACED = 0.2  # fraction of letters of scripts without spaces from which on a text is tokenized by characters


def is_ascii_text(texts: Iterable[str]) -> bool:
    """Whether nearly all letters are ASCII, so that metrics made for English apply.

    >>> is_ascii_text(["A red dog."]), is_ascii_text(["Красная собака."])
    (True, False)
    """
    letters = [c for text in texts for c in text if c.isalpha()]
    return sum(not c.isascii() for c in letters) <= _MAX_FOREIGN * len(letters)


def has_unspaced_script(text: str) -> bool:
    """Whether a text has characters of a script without spaces between words."""
    return _has_no_spaces(text) is not None


def words(text: str) -> list[str]:
    """Case-folded words of letters, marks and digits; characters of scripts without spaces are words of their own.

    >>> words("Der Hund, 2 हिन्दी 狗 跑了")
    ['der', 'hund', '2', 'हिन्दी', '狗', '跑', '了']
    """
    tokens = [""]
    for c in unicodedata.normalize("NFKC", text).casefold():
        if has_unspaced_script(c):
            tokens += [c, ""]
        elif unicodedata.category(c)[0] in "LMN":
            tokens[-1] += c
        else:
            tokens.append("")
    return [token for token in tokens if token]


def bleu_tokenizer(texts: Iterable[str]) -> str:
    """sacreBLEU's tokenizer for these references: ``"13a"``, or ``"zh"`` or ``"char"`` for scripts without spaces.

    >>> bleu_tokenizer(["Ein Hund läuft."]), bleu_tokenizer(["一只狗在跑。"]), bleu_tokenizer(["犬が走っています。"])
    ('13a', 'zh', 'char')
    """
    letters = [c for text in texts for c in text if c.isalpha()]
    unspaced = [c for c in letters if has_unspaced_script(c)]
    if len(unspaced) < _MIN_UNSPACED * len(letters) or not unspaced:
        return "13a"
    return "zh" if all(map(_is_han, unspaced)) else "char"


def corpus_bleu(metric: BLEU, hypotheses: Sequence[str], references: Sequence[Sequence[str | None]]) -> float:
    """BLEU of all texts, 0 to 100; NaN if no reference is as long as the longest n-grams: then even a copy has 0.

    Args:
        metric: sacreBLEU's metric.
        hypotheses: ``N`` texts.
        references: Sets of ``N`` references as sacreBLEU takes them; ``None`` if a text has fewer.
    """
    texts = [text for of_set in references for text in of_set if text is not None]
    if all(len(metric.tokenizer(text).split()) < metric.max_ngram_order for text in texts):
        return math.nan
    given: Any = references  # sacreBLEU takes None for a reference that a text lacks; its types do not say so
    return round(metric.corpus_score(hypotheses, given).score, 2)


def bleu_of_rows(
    metric: BLEU, hypotheses: Sequence[str], references: Sequence[Sequence[str | None]]
) -> Callable[[np.ndarray], float]:
    """A function that computes the corpus BLEU of the texts of given rows, fast enough to resample them.

    Args:
        metric: sacreBLEU's metric, with its default smoothing.
        hypotheses: ``N`` texts.
        references: Sets of ``N`` references as sacreBLEU takes them; ``None`` if a text has fewer.
    """

    @cache
    def statistics() -> np.ndarray:
        """Matches and totals of each n-gram order and the two lengths: ``(N, 2 * orders + 2)``."""
        rows = []
        for i, hypothesis in enumerate(hypotheses):
            known = [text for of_set in references if (text := of_set[i]) is not None]
            score = metric.corpus_score([hypothesis], [[text] for text in known])
            rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
        return np.array(rows)

    def bleu(rows: np.ndarray) -> float:
        *counts, hypothesis_length, reference_length = statistics()[rows].sum(axis=0).tolist()
        orders = metric.max_ngram_order
        matches, totals = counts[:orders], counts[orders:]
        return metric.compute_bleu(
            matches, totals, hypothesis_length, reference_length, smooth_method="exp", max_ngram_order=orders
        ).score

    return bleu
