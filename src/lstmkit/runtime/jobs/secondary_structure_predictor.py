"""Helix, strand or coil of every residue of protein chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmkit.data.padding import pad_sequences
from lstmkit.data.proteins.residues import AMINO_ACIDS, UNKNOWN, encode_residues, split_into_windows
from lstmkit.errors import DataError
from lstmkit.runtime.base import ExportedJob, batches_by_length


class SecondaryStructurePredictor(ExportedJob):
    """Predicts the states of every residue."""

    def predict(self, data: Any) -> list[dict[str, Any]]:
        """States, and by letter of the state the probability of every residue.

        Args:
            data: Sequences of residues as text; or mappings with ``id``, ``sequence`` and, if the model reads one, a
                ``profile`` of ``T`` rows of numbers in the order of the training columns.

        Returns:
            ``id, sequence``, the states per alphabet, and ``p_ALPHABET``, rounded to six digits, as the job's records.

        Raises:
            DataError: A letter is no residue, or a profile is missing or has another shape.
        """
        chains = [_chain(number, one) for number, one in enumerate([data] if isinstance(data, str) else data, 1)]
        ids = [encode_residues(chain["sequence"]) for chain in chains]
        profiles = [self._profile(chain) for chain in chains]
        found = [{name: np.zeros((len(one), len(s))) for name, s in self.settings["states"].items()} for one in ids]
        windows = [
            (k, w) for k, one in enumerate(ids) for w in split_into_windows(len(one), self.settings["max_residues"])
        ]
        for rows, lengths in batches_by_length([np.empty(w.stop - w.start) for _, w in windows]):
            picked = [windows[row] for row in rows]
            inputs = {"ids": pad_sequences([ids[k][w.start : w.stop] for k, w in picked], 0), "lengths": lengths}
            if self.settings["profile_columns"]:
                inputs["profile"] = pad_sequences([profiles[k][w.start : w.stop] for k, w in picked], 0)
            outputs = dict(zip(self.network.outputs, self.network(**inputs), strict=True))
            for alphabet, of_alphabet in outputs.items():
                for (k, w), p in zip(picked, of_alphabet, strict=True):
                    found[k][alphabet][w.first : w.last] = p[w.first - w.start : w.last - w.start]
        return [self._record(chain, p) for chain, p in zip(chains, found, strict=True)]

    def _profile(self, chain: Mapping[str, Any]) -> np.ndarray:
        columns = self.settings["profile_columns"]
        if not columns:
            return np.zeros((0, 0))
        expected = (len(chain["sequence"]), len(columns))
        profile = np.asarray(chain.get("profile", ()), dtype=np.float64)
        if profile.shape != expected:
            raise DataError(f"chain {chain['id']}: the profile has shape {profile.shape}: give {expected}")
        return profile

    def _record(self, chain: Mapping[str, Any], probabilities: Mapping[str, np.ndarray]) -> dict[str, Any]:
        states, mapping = self.settings["states"], self.settings["mapping"]
        likely = {alphabet: p.argmax(axis=1) for alphabet, p in probabilities.items()}
        if mapping is not None:  # the most probable state of the most probable class
            classes = np.array([states["ss3"].index(letter) for letter in mapping])
            outside = classes != likely["ss3"][:, None]
            likely["ss8"] = np.where(outside, -np.inf, probabilities["ss8"]).argmax(axis=1)
        return {
            "id": chain["id"],
            "sequence": chain["sequence"],
            **{alphabet: "".join(states[alphabet][k] for k in likely[alphabet]) for alphabet in probabilities},
            **{
                f"p_{alphabet}": dict(zip(states[alphabet], p.T.round(6).tolist(), strict=True))
                for alphabet, p in probabilities.items()
            },
        }


def _chain(number: int, given: Any) -> Mapping[str, Any]:
    chain = {"id": str(number), "sequence": given} if isinstance(given, str) else given
    if not isinstance(chain, Mapping) or not isinstance(chain.get("sequence"), str) or not chain["sequence"]:
        raise DataError(f"chain {number} is {type(given).__name__}: give its residues as text")
    sequence = chain["sequence"].upper()
    for letter in sequence:
        if letter not in AMINO_ACIDS + UNKNOWN:
            raise DataError(f"chain {number}: {letter!r} is not a residue: give {AMINO_ACIDS}, or {UNKNOWN}")
    return {"id": str(number), **chain, "sequence": sequence}
