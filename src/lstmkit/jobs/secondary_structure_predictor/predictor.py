"""What the secondary structure predictor's ``fit`` leaves: state statistics, profile scale, network, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from typing_extensions import Self

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.proteins.chains import ProteinChains
from lstmkit.data.proteins.residue_windows import ResidueDataset
from lstmkit.data.proteins.residues import N_RESIDUE_IDS, STATES, encode_residues
from lstmkit.errors import DataError, listing
from lstmkit.evaluation.calibration import TemperatureScaling, fit_temperature, probabilities
from lstmkit.frontends.standardized import StandardizedFrontEnd
from lstmkit.jobs.predictor import Predictor
from lstmkit.jobs.secondary_structure_predictor.baselines import most_frequent_states
from lstmkit.jobs.secondary_structure_predictor.results import (
    SecondaryStructure,
    StateProbabilities,
    indices_to_states,
    states_to_indices,
)
from lstmkit.jobs.secondary_structure_predictor.settings import SecondaryStructureSettings
from lstmkit.jobs.secondary_structure_predictor.state_mapping import (
    DSSP_MAPPING,
    check_mapping,
    joint_probabilities,
    within_class,
)
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import ResidueEncoder
from lstmkit.modules.heads import MultiTaskTagHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress
from lstmkit.training.predict import predict


class StructurePredictor(Predictor[SecondaryStructureSettings]):
    """Predicts the states of every residue, for one or both alphabets.

    Attributes:
        most_frequent: By alphabet (``"ss3"``, ``"ss8"``) the most frequent state of each residue id, one letter each.
        profile: Scale of the profile columns; ``None`` if the model reads none.
        mapping: The 3-state class of each of the eight states, if both alphabets are predicted; else ``None``.
        scaling: By alphabet the calibration; that of ``"ss8"`` is within the 3-state class if both are predicted.
    """

    def __init__(
        self,
        settings: SecondaryStructureSettings,
        most_frequent: dict[str, str],
        profile: StandardizedFrontEnd | None,
        mapping: str | None,
    ) -> None:
        super().__init__(settings)
        self.most_frequent, self.profile, self.mapping = most_frequent, profile, mapping
        self.scaling = dict.fromkeys(most_frequent, TemperatureScaling())

    @property
    def state_alphabets(self) -> tuple[str, ...]:
        """The alphabets that it predicts: ``"ss3"``, ``"ss8"`` or both."""
        return tuple(self.most_frequent)

    def build(self) -> Model:
        settings = self.settings
        encoder = ResidueEncoder(
            N_RESIDUE_IDS,
            settings.embedding_size,
            len(settings.profile_cols),
            settings.kernel_sizes,
            settings.conv_channels,
            settings.dropout,
        )
        trunk = build_trunk(
            settings.cell,
            encoder.output_size,
            settings.hidden_size,
            num_layers=settings.num_layers,
            dropout=settings.dropout,
            variational=True,
            bidirectional=settings.bidirectional,
        )
        sizes = [len(STATES[alphabet]) for alphabet in self.state_alphabets]
        return SequenceModel(encoder, trunk, MultiTaskTagHead(trunk.output_size, sizes, settings.dropout))

    # ---- encode and decode ---------------------------------------------------------------------------------------

    def dataset(self, chains: ProteinChains, max_residues: int | None = None) -> ResidueDataset:
        """Windows of encoded chains, with states as targets if they are known.

        Args:
            chains: Protein chains.
            max_residues: Longest window; by default that of the settings.

        Raises:
            DataError: The model reads a profile and the chains have none.
        """
        targets = None
        if all(alphabet in chains.states for alphabet in self.state_alphabets):
            each = [states_to_indices(chains.states[alphabet], alphabet) for alphabet in self.state_alphabets]
            targets = [np.stack(of_chain, 1) for of_chain in zip(*each, strict=True)]
        profile = None
        if self.profile is not None:
            if chains.profile is None:
                names = listing(self.settings.profile_cols)
                raise DataError(
                    f"{chains.name} has no profile: this model also reads {names}, from a table with a row per residue"
                )
            profile = self.profile.encode(chains.profile)
        ids = [encode_residues(sequence) for sequence in chains.sequences]
        return ResidueDataset(ids, profile, targets, max_residues or self.settings.max_residues)

    def logits(self, chains: ProteinChains, progress: Progress | None = None) -> dict[str, list[np.ndarray]]:
        """By alphabet, for each chain ``(T, C)``."""
        dataset = self.dataset(chains)

        def decode(model: Model, batch: Batch) -> list[np.ndarray]:
            rows = [] if batch.rows is None else batch.rows
            outputs = model(batch.inputs, None, batch.lengths)[0].float().cpu().numpy()
            windows = [dataset.windows[row][1] for row in rows]
            return [of[w.first - w.start : w.last - w.start] for of, w in zip(outputs, windows, strict=True)]

        loader = Loader(dataset, 4 * self.settings.batch_size)
        residues = np.concatenate(predict(self.model, loader, decode, device=self.device, progress=progress))
        ends = np.cumsum([len(STATES[alphabet]) for alphabet in self.state_alphabets])[:-1]
        cuts = np.cumsum([len(sequence) for sequence in chains.sequences])[:-1]
        columns = zip(self.state_alphabets, np.split(residues, ends, axis=1), strict=True)
        return {alphabet: np.split(of_alphabet, cuts) for alphabet, of_alphabet in columns}

    def calibrate(self, valid: ProteinChains, progress: Progress) -> None:
        """Fit a temperature for each alphabet."""
        logits = {alphabet: np.concatenate(chains) for alphabet, chains in self.logits(valid, progress).items()}
        true = {
            alphabet: np.concatenate(states_to_indices(valid.require_states()[alphabet], alphabet))
            for alphabet in self.state_alphabets
        }
        if self.mapping is not None:
            classes = np.array([STATES["ss3"].index(letter) for letter in self.mapping])[true["ss8"]]
            logits["ss8"] = within_class(logits["ss8"], classes, self.mapping)
        self.scaling = {alphabet: fit_temperature(logits[alphabet], true[alphabet]) for alphabet in logits}

    def probabilities(self, chains: ProteinChains, progress: Progress | None = None) -> StateProbabilities:
        """Probabilities of every state of every residue, calibrated and uncalibrated."""
        logits = self.logits(chains, progress)
        calibrated = self._probabilities(logits, {name: scaling.temperature for name, scaling in self.scaling.items()})
        uncalibrated = self._probabilities(logits, dict.fromkeys(logits, 1.0))
        return StateProbabilities(calibrated, uncalibrated, self.mapping)

    def _probabilities(
        self, logits: Mapping[str, list[np.ndarray]], temperatures: Mapping[str, float]
    ) -> dict[str, list[np.ndarray]]:
        """By alphabet, for each chain ``(T, C)``; of both alphabets, probabilities that agree."""
        result = {
            alphabet: [probabilities(of_chain, False, temperatures[alphabet]) for of_chain in chains]
            for alphabet, chains in logits.items()
        }
        if self.mapping is not None:
            pairs = zip(result["ss3"], logits["ss8"], strict=True)
            result["ss8"] = [joint_probabilities(ss3, l8 / temperatures["ss8"], self.mapping) for ss3, l8 in pairs]
        return result

    def to_structures(
        self, chains: ProteinChains, predicted: StateProbabilities | None = None
    ) -> list[SecondaryStructure]:
        """The predicted structure of each chain."""
        predicted = predicted or self.probabilities(chains)
        states = predicted.most_likely()
        return [
            SecondaryStructure(
                chains.ids[i],
                chains.sequences[i],
                {alphabet: states[alphabet][i] for alphabet in self.state_alphabets},
                {alphabet: predicted.calibrated[alphabet][i] for alphabet in self.state_alphabets},
            )
            for i in range(len(chains))
        ]

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        states = {
            alphabet: {"usual": self.most_frequent[alphabet], **self.scaling[alphabet].state()}
            for alphabet in self.state_alphabets
        }
        profile = None if self.profile is None else self.profile.state()
        return {"states": states, "ss3_of_ss8": self.mapping, "profile": profile}

    @classmethod
    def from_state(cls, settings: SecondaryStructureSettings, state: Mapping[str, Any]) -> Self:
        states = {alphabet: state["states"][alphabet] for alphabet in STATES if alphabet in state["states"]}
        if not states or len(states) < len(state["states"]):
            raise ValueError("unknown alphabets of states")
        profile = None
        if (state["profile"] is None) == bool(settings.profile_cols):
            raise ValueError("the profile does not fit profile_cols")
        if state["profile"] is not None:
            profile = StandardizedFrontEnd()
            profile.load_state(state["profile"])
            if profile.width != len(settings.profile_cols):
                raise ValueError("the profile does not fit profile_cols")
        mapping = None
        if len(states) == len(STATES):
            mapping = check_mapping(state.get("ss3_of_ss8", DSSP_MAPPING))  # models of version 0.1 have none
        predictor = cls(settings, {alphabet: of["usual"] for alphabet, of in states.items()}, profile, mapping)
        predictor.scaling = {alphabet: TemperatureScaling.from_state(of) for alphabet, of in states.items()}
        for alphabet, usual in predictor.most_frequent.items():
            if len(usual) != N_RESIDUE_IDS or set(usual) - set(STATES[alphabet]):
                raise ValueError("most frequent states do not fit the residues")
        return predictor


def fit_most_frequent(train: ProteinChains, alphabet: str) -> str:
    """The most frequent state of each residue id, one letter each."""
    ids = [encode_residues(sequence) for sequence in train.sequences]
    states = states_to_indices(train.require_states()[alphabet], alphabet)
    return indices_to_states([most_frequent_states(ids, states, N_RESIDUE_IDS, len(STATES[alphabet]))], alphabet)[0]
