"""Text after prompts, token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.decoding.sampling_options import SamplingOptions
from lstmkit.runtime.base import ExportedJob, texts_of
from lstmkit.runtime.sampling import draw, filter_logits, sample_tokens


class LanguageModel(ExportedJob):
    """Generates text."""

    def predict(
        self,
        data: Any,
        *,
        max_tokens: int = 100,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str = "",
    ) -> list[dict[str, Any]]:
        """Generate text after each prompt; at ``temperature=0`` that of the job.

        Other temperatures have the same distribution, but not the same random numbers.

        Args:
            data: Prompts.
            max_tokens, temperature, top_k, top_p, seed, stop: As in :meth:`lstmkit.LanguageModel.predict`.

        Returns:
            ``prompt, text, tokens, surprisal, unknown`` for each prompt.

        Raises:
            SettingError: An option is out of range.
        """
        SamplingOptions(max_tokens, temperature, top_k, top_p, seed, stop).check()
        tokenizer = self.tokenizer(self.settings["tokenization"])
        prompts, unknown_id = texts_of(data), self.settings["unknown_id"]
        records = []
        for row, (prompt, ids) in enumerate(zip(prompts, tokenizer.encode(prompts), strict=True)):
            rng = np.random.default_rng((seed, row))
            logits, states = self._step([self.settings["end_id"], *ids], self.network.zero_states(rows=1))
            chosen, nats = sample_tokens(
                lambda previous, states: self._step([previous], states),
                logits,
                states,
                max_tokens,
                lambda logits, rng=rng: draw(filter_logits(logits, temperature, top_k, top_p), rng),
                (lambda ids: stop in tokenizer.decode(ids)) if stop else None,
            )
            text = tokenizer.decode(chosen)
            records.append(
                {
                    "prompt": prompt,
                    "text": text[: text.index(stop) + len(stop)] if stop and stop in text else text,
                    "tokens": tuple(tokenizer.tokens(chosen)),
                    "surprisal": tuple(n / math.log(2) for n in nats),
                    "unknown": tuple(tokenizer.out_of_vocabulary(prompt)) if unknown_id in ids else (),
                }
            )
        return records

    def _step(self, ids: Sequence[int], states: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Logits ``(V,)`` of the token after ``ids``, and the state; ``<unk>`` is never generated."""
        (logits,), states = self.network.step(states, ids=[ids])
        logits = logits[0]
        if self.settings["unknown_id"] >= 0:
            logits[self.settings["unknown_id"]] = -np.inf
        return logits, list(states)
