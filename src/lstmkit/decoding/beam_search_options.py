"""Options of a beam search for text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lstmkit.errors import SettingError

BEAM_SIZE = 5  #: Default number of beam hypotheses for texts.
CAPTION_BEAM_SIZE = 3  #: The same for captions.


@dataclass(frozen=True)
class BeamSearchOptions:
    """Options of the beam search.

    Attributes:
        beam_size: Number of beam hypotheses; 1 is greedy search.
        n_best: Number of texts per input.
        length_penalty: See :func:`lstmkit.decoding.generation.beam_search`.
        no_repeat_ngram_size: Length of n-grams that are generated at most once; 0 = no limit.
        max_tokens: Maximum number of generated tokens, the end included: so many per input step, and so many more.
        known: Whether ``<unk>`` is never generated; for inputs without words to replace it.

    Raises:
        SettingError: ``n_best`` is above ``beam_size`` or below 1.

    >>> BeamSearchOptions(5, n_best=1, length_penalty=1.0, no_repeat_ngram_size=0, max_tokens=(2, 10)).limit(7)
    24
    """

    beam_size: int
    n_best: int
    length_penalty: float
    no_repeat_ngram_size: int
    max_tokens: tuple[int, int]
    known: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.n_best <= self.beam_size:
            raise SettingError(
                f"n_best must be from 1 to beam_size, got n_best {self.n_best} and beam_size {self.beam_size}"
            )

    def limit(self, lengths: Any) -> Any:
        """Maximum number of tokens of inputs with ``lengths``: a number, an array or a tensor, and of the same kind."""
        per_step, constant = self.max_tokens
        return per_step * lengths + constant
