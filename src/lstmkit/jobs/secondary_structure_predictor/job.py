"""Secondary structure prediction: helix, strand or coil for every residue of a protein."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.data.proteins.chains import FORMATS, Columns, ProteinChains, read_protein_chains
from lstmkit.data.proteins.residue_windows import ResidueDataset
from lstmkit.data.proteins.residues import STATES
from lstmkit.errors import DataError, SettingError, listing
from lstmkit.export.graphs import JobExport
from lstmkit.frontends.standardized import StandardizedFrontEnd
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.splitting import looked_at, most_likely_class, random_split
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.secondary_structure_predictor import metrics, report
from lstmkit.jobs.secondary_structure_predictor.export import exported_structure_predictor
from lstmkit.jobs.secondary_structure_predictor.plots import chain_figure
from lstmkit.jobs.secondary_structure_predictor.predictor import StructurePredictor, fit_most_frequent
from lstmkit.jobs.secondary_structure_predictor.results import SecondaryStructure
from lstmkit.jobs.secondary_structure_predictor.settings import SecondaryStructureSettings
from lstmkit.jobs.secondary_structure_predictor.state_mapping import fit_mapping
from lstmkit.look.traces import ExampleSequence
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section

_LINE_LENGTH = 60  # residues


class SecondaryStructurePredictor(SecondaryStructureSettings, Job[StructurePredictor]):
    """Predict the secondary structure of proteins for every residue: 3 states, DSSP's 8, or both at once.

    If both are predicted they agree: the probability of a class is the sum over its states, and the state shown is one
    of the class shown.

    Data: a FASTA file (to predict); a table with one row per chain, ``id, sequence, ss3, ss8`` and optionally
    ``eval_mask``; or a table with one row per residue, optionally with numeric columns (``profile_cols``). See
    ``read_protein_chains``.

    >>> chains = pd.DataFrame({"sequence": ["AAAAAGGG", "GGGAAAAA"] * 20, "ss3": ["HHHHHCCC", "CCCHHHHH"] * 20})
    >>> job = SecondaryStructurePredictor(hidden_size=8, conv_channels=4, epochs=10, lr=0.02, batch_size=8)
    >>> job.fit(chains).predict(["AAAAAAGGGG"])[0].states
    {'ss3': 'HHHHHHCCCC'}
    """

    predictor_class = StructurePredictor
    data_formats = FORMATS
    live_inputs = ("row",)

    _train_split: ProteinChains | None = None  # for the regression; not saved

    # ---- from file to predictor ----------------------------------------------------------------------------------

    def read(self, data: Any) -> ProteinChains:
        return self._read(data, self.mask_col)

    def _read(self, data: Any, mask_col: str) -> ProteinChains:
        even = [size for size in self.kernel_sizes if size % 2 == 0]
        if even:
            raise SettingError(f"kernel_sizes must be odd, got {even[0]}")
        chains = read_protein_chains(data, self._columns(mask_col))
        if self.profile_cols and chains.profile is None:
            raise DataError(
                f"{chains.name} has no profile: this model also reads {listing(self.profile_cols)}, from a table "
                "with one row per residue"
            )
        return chains

    def _columns(self, mask_col: str) -> Columns:
        return Columns(
            self.id_col,
            self.sequence_col,
            self.residue_col,
            self.ss3_col,
            self.ss8_col,
            mask_col,
            self.profile_cols,
        )

    def split(self, examples: ProteinChains, validation: ProteinChains | None) -> DataSplit:
        """At random, by the seed."""
        known = examples.require_states()
        for column, alphabet in ((self.ss3_col, "ss3"), (self.ss8_col, "ss8")):
            if column not in ("", alphabet) and alphabet not in known:
                raise DataError(f"{examples.name} has no column {column!r}: correct {alphabet}_col")
        if self.mask_col not in ("", Columns().mask) and examples.scored is None:
            raise DataError(f"{examples.name} has no column {self.mask_col!r}: correct mask_col")
        if validation is not None and not known.keys() <= validation.require_states().keys():
            raise DataError(
                f"{examples.name} has {listing(known)}, {validation.name} does not have all of them: give both the same"
            )
        return random_split(examples, validation, "chain", self.valid_fraction, self.test_fraction, self.seed)

    def prepare(self, train: ProteinChains) -> StructurePredictor:
        self._train_split = train
        profile = None
        if train.profile is not None:
            profile = StandardizedFrontEnd()
            profile.fit(train.profile, self.progress)
        known = train.require_states()
        most_frequent = {alphabet: fit_most_frequent(train, alphabet) for alphabet in STATES if alphabet in known}
        mapping = None
        if len(known) == len(STATES):
            mapping = fit_mapping(known["ss3"], known["ss8"], train.name)
        return StructurePredictor(self.snapshot(), most_frequent, profile, mapping)

    def source(self, examples: ProteinChains) -> ResidueDataset:
        return self.predictor.dataset(examples)

    def calibrate(self, valid: ProteinChains | None) -> None:
        """A temperature for each alphabet, if there is a validation split."""
        if valid is not None:
            self.predictor.calibrate(valid, self.progress)

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any) -> list[SecondaryStructure]:
        """The states of every residue of every chain."""
        predictor = self.predictor
        return predictor.to_structures(self.read(data))

    def exported(self) -> JobExport:
        return exported_structure_predictor(self.predictor)

    def to_text(self, predictions: list[SecondaryStructure]) -> str:
        """Sequence, states and confidence in lines: one digit per residue, the tenths of its probability, at most 9."""
        return "\n\n".join("\n".join([f">{structure.id}", *self._lines(structure)]) for structure in predictions)

    def _lines(self, structure: SecondaryStructure) -> list[str]:
        rows = {"residue": structure.sequence, **structure.states}
        confidence = structure.confidence(self.predictor.state_alphabets[0])
        rows["confidence"] = "".join(str(min(9, int(10 * p))) for p in confidence)
        starts = range(0, len(structure.sequence), _LINE_LENGTH)
        width = max(len(name) for name in rows)
        return [f"{name:{width}} {row[i : i + _LINE_LENGTH]}" for i in starts for name, row in rows.items()]

    def to_records(self, predictions: list[SecondaryStructure]) -> list[dict[str, Any]]:
        """States and, by letter of the state, the probability of every residue."""
        return [
            {
                "id": structure.id,
                "sequence": structure.sequence,
                **structure.states,
                **{
                    f"p_{alphabet}": dict(zip(STATES[alphabet], p.T.round(6).tolist(), strict=True))
                    for alphabet, p in structure.probabilities.items()
                },
            }
            for structure in predictions
        ]

    def plot(self, data: Any, predictions: list[SecondaryStructure]) -> Figure:
        """The first chain: helices, strands, and the confidence of each residue's state."""
        first = predictions[0]
        confidence = first.confidence(self.predictor.state_alphabets[0])
        figure = chain_figure(first.sequence, first.states, confidence, first.id)
        return note_selection(figure, len(predictions), "chains")

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, mask_col: str = "", progress: Progress | None = None) -> Evaluation:
        """Q3, Q8 and segment overlap in percent on the scored residues, of model and baselines.

        The windowed regression learns from the chains that this object was fitted to: load a model with ``train``.

        Args:
            data: Chains with their states.
            mask_col: Column with 1 for each residue to score and 0 for others; empty for the setting.
            progress: Where to report progress.

        Raises:
            DataError: The states are unknown, or no residue is scored.
        """
        self.check_fitted()
        chains = self._read(data, mask_col or self.mask_col)
        if mask_col and chains.scored is None:
            raise DataError(f"{chains.name} has no column {mask_col!r}: correct mask_col")
        return self.evaluate_examples(chains, progress or default_progress())

    def evaluate_examples(self, test: ProteinChains, progress: Progress) -> Evaluation:
        predictor = self.predictor
        alphabets = [alphabet for alphabet in predictor.state_alphabets if alphabet in test.require_states()]
        if not alphabets:
            missing = " and no ".join(predictor.state_alphabets)
            raise DataError(f"{test.name} has no {missing}, which this model predicts")
        if not any(mask.any() for mask in metrics.scored_residues(test)):
            raise DataError(f"{test.name} has no residue to score: its {self.mask_col} is 0 everywhere")
        predicted = predictor.probabilities(test, progress)
        most_frequent = {alphabet: predictor.most_frequent[alphabet] for alphabet in alphabets}
        states = predicted.most_likely()
        models = {self.cell.upper(): {alphabet: states[alphabet] for alphabet in alphabets}}
        models |= metrics.baselines(self._train_split, most_frequent, test, self.seed, progress)
        rows = [{"model": name, **metrics.scores(test, of_model)} for name, of_model in models.items()]
        return Evaluation(
            pd.DataFrame(rows),
            dict.fromkeys(list(rows[0])[1:], "high"),
            metrics.details(test, predicted, alphabets),
            self._notes(test),
            outputs=(test, predicted),
            missing_baselines=("windowed logistic regression",) if self._train_split is None else (),
            examples=metrics.scored_examples(test, alphabets[0], states[alphabets[0]]),
        )

    def _notes(self, test: ProteinChains) -> tuple[str, ...]:
        scored = sum(int(mask.sum()) for mask in metrics.scored_residues(test))
        notes = [f"{len(test):,} chains, {test.residues:,} residues, {scored:,} of them scored."]
        longest = self.predictor.settings.max_residues
        long = sum(len(sequence) > longest for sequence in test.sequences)
        if long:
            notes.append(f"Chains of more than {longest:,} residues are read in windows ({long} chains).")
        if self.predictor.profile is not None:
            notes.append("The baselines read the letters alone.")
        within = "" if self.predictor.mapping is None else " within each class"
        names = {"ss3": "3 states", "ss8": f"8 states{within}"}
        for alphabet, scaling in self.predictor.scaling.items():
            notes.append(f"{scaling.describe('validation residues')} ({names[alphabet]}).")
        return tuple(notes)

    def report_sections(self, examples: ProteinChains) -> list[Section]:
        return report.sections(self.predictor, self.full_evaluation, examples)

    def example_sequences(self, data: Any, chain: int = 1) -> list[ExampleSequence]:
        """Whole chains, number ``chain`` (from 1) first."""
        predictor = self.predictor
        read = self.read(data)
        return [_example_sequence(predictor, read.subset([row])) for row in looked_at(chain, read, "chain")]


def _example_sequence(predictor: StructurePredictor, chain: ProteinChains) -> ExampleSequence:
    (sequence,) = chain.sequences
    inputs = predictor.dataset(chain, len(sequence)).batch(np.array([0])).inputs
    inputs = inputs.to(next(predictor.network.parameters()).device)
    middle = len(sequence) // 2
    state, logit = most_likely_class(predictor.network, inputs, middle, STATES[predictor.state_alphabets[0]])
    return ExampleSequence(
        inputs,
        name=f"chain {chain.ids[0]}",
        labels=list(sequence),
        annotations={alphabet: np.array([*states[0]]) for alphabet, states in chain.states.items()},
        answers={f"logit of {state} for residue {middle + 1}": logit},
    )
