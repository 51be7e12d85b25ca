"""The report of the secondary structure predictor: results, results by state and by chain, a chain drawn, the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lstmkit.data.proteins.chains import ProteinChains
from lstmkit.data.proteins.residues import STATES
from lstmkit.jobs.common.classification_report import by_class, calibration_section, confusion_section
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.secondary_structure_predictor import metrics
from lstmkit.jobs.secondary_structure_predictor.plots import chain_figure
from lstmkit.jobs.secondary_structure_predictor.predictor import StructurePredictor
from lstmkit.jobs.secondary_structure_predictor.results import StateProbabilities, states_to_indices
from lstmkit.jobs.secondary_structure_predictor.segment_overlap import segment_overlap
from lstmkit.report import Section

_NAMES = {
    "ss3": {"H": "helix", "E": "strand", "C": "coil"},
    "ss8": {
        "H": "α-helix", "G": "3-10 helix", "I": "π-helix", "E": "strand", "B": "bridge", "T": "turn", "S": "bend",
        "C": "coil",
    },
}  # fmt: skip


def sections(predictor: StructurePredictor, evaluation: Evaluation | None, examples: ProteinChains) -> list[Section]:
    """The job's part of the report.

    Args:
        predictor: Fitted.
        evaluation: Its ``outputs`` are the scored chains and their probabilities; ``None`` if none were held out.
        examples: Everything that was read.
    """
    if evaluation is None:
        return [Section("Results", "No chains were held out, so there are no scores."), _data_section(examples)]
    test, predicted = evaluation.outputs
    alphabets = [alphabet for alphabet in predictor.state_alphabets if alphabet in test.states]
    text = f"In percent. {evaluation.introduction}"
    return [
        Section("Results", text, evaluation.table, best=evaluation.directions),
        *(section for alphabet in alphabets for section in _state_sections(test, predicted, alphabet)),
        _chain_section(predictor, test, predicted, alphabets),
        _chain_table_section(test, predicted, alphabets[0]),
        _data_section(examples),
    ]


def _state_sections(test: ProteinChains, predicted: StateProbabilities, alphabet: str) -> list[Section]:
    """For one alphabet: scores by state, confusion matrix, calibration."""
    scored = np.concatenate(metrics.scored_residues(test))
    true = np.concatenate(states_to_indices(test.states[alphabet], alphabet))[scored]
    calibrated, uncalibrated = (
        np.concatenate(of[alphabet])[scored] for of in (predicted.calibrated, predicted.uncalibrated)
    )
    shown = np.concatenate(states_to_indices(predicted.most_likely()[alphabet], alphabet))[scored]
    names = [f"{letter} {_NAMES[alphabet][letter]}" for letter in STATES[alphabet]]
    states = f"{len(names)} states"
    table = by_class(true, shown, range(len(names)), "state").assign(state=names)
    further = (
        confusion_section(true, shown, names),
        calibration_section(calibrated, uncalibrated, true),
    )
    return [
        Section(f"Results by state ({states})", "On the scored residues.", table),
        *(Section(f"{s.title} ({states})", s.text, s.table, s.figure, s.caption) for s in further),
    ]


def _chain_section(
    predictor: StructurePredictor, test: ProteinChains, predicted: StateProbabilities, alphabets: Sequence[str]
) -> Section:
    (structure,) = predictor.to_structures(test.subset([0]), predicted.subset([0]))
    states = {**structure.states, **{f"true {alphabet}": test.states[alphabet][0] for alphabet in alphabets}}
    confidence = structure.confidence(predictor.state_alphabets[0])
    return Section(
        "The first test chain",
        "The drawing shows the predicted structure; the letters below show the true one. Bars show the confidence.",
        figure=chain_figure(structure.sequence, states, confidence, structure.id),
        caption=f"Structure of chain {structure.id}",
    )


def _chain_table_section(test: ProteinChains, predicted: StateProbabilities, alphabet: str) -> Section:
    """One row per chain, the worst first."""
    states, confidences = predicted.most_likely()[alphabet], predicted.confidences(alphabet)
    masks = metrics.scored_residues(test)
    accuracy = f"Q{len(STATES[alphabet])}"
    rows = [
        {
            "chain": test.ids[i],
            "residues scored": int(mask.sum()),
            accuracy: 100 * float((np.array([*true]) == np.array([*states[i]]))[mask].mean()),
            "SOV": segment_overlap(true, states[i], mask),
            "mean probability": float(confidences[i][mask].mean()),
        }
        for i, (true, mask) in enumerate(zip(test.states[alphabet], masks, strict=True))
        if mask.any()
    ]
    return Section("Results by chain", "The worst first.", pd.DataFrame(rows).sort_values(accuracy, kind="stable"))


def _data_section(examples: ProteinChains) -> Section:
    text = f"{len(examples):,} chains, {examples.residues:,} residues. " + " ".join(examples.notes)
    rows = [
        {
            "alphabet": alphabet,
            "state": f"{letter} {_NAMES[alphabet][letter]}",
            "residues": sum(states.count(letter) for states in chains),
        }
        for alphabet, chains in examples.states.items()
        for letter in STATES[alphabet]
    ]
    table = pd.DataFrame(rows)
    return Section("The data", text, table.assign(fraction=table["residues"] / examples.residues))
