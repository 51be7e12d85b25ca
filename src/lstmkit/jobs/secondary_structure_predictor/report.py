"""What the report of a predictor of structure shows: the table, state by state, a chain drawn, chain by chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lstmkit.data.proteins.chains import STATES, ProteinChains
from lstmkit.jobs.common.classification_report import by_class, calibration_section, confusion_section
from lstmkit.jobs.secondary_structure_predictor import metrics as scoring
from lstmkit.jobs.secondary_structure_predictor.plots import chain_figure
from lstmkit.jobs.secondary_structure_predictor.segment_overlap import segment_overlap
from lstmkit.report import Section

if TYPE_CHECKING:
    from lstmkit.jobs.secondary_structure_predictor.job import SecondaryStructurePredictor

_NAMES = {
    "ss3": {"H": "helix", "E": "strand", "C": "coil"},
    "ss8": {
        "H": "α-helix", "G": "3-10 helix", "I": "π-helix", "E": "strand", "B": "bridge", "T": "turn", "S": "bend",
        "C": "coil",
    },
}  # fmt: skip


def sections(job: SecondaryStructurePredictor, examples: ProteinChains) -> list[Section]:
    """The whole of the report that is about chains."""
    if job.evaluation is None or job.tested is None:
        text = "No part of the data was held out (test_share=0), so there is no test."
        return [Section("Test", text), _data(examples)]
    test, found = job.tested
    kinds = [kind for kind in job.kinds if kind in test.states]
    said = " ".join(job.evaluation.notes)
    told = "In percent, of the test part, which nothing was fitted to."
    return [
        Section("How well it tells structure", f"{told} {said}", job.evaluation.table, best=job.evaluation.best),
        *(section for kind in kinds for section in _by_state(test, found, kind)),
        _chain(job, test, found, kinds),
        _chain_table_section(test, found, kinds[0]),
        _data(examples),
    ]


def _by_state(test: ProteinChains, found: scoring.Found, kind: str) -> list[Section]:
    """Of one kind: state by state, what was taken for what, whether probabilities came true."""
    scored = np.concatenate(scoring.scored_residues(test))
    true = np.concatenate(scoring.states_to_indices(test.states[kind], kind))[scored]
    stated, raw = (np.concatenate(of[kind])[scored] for of in (found.stated, found.raw))
    names = [f"{letter} {_NAMES[kind][letter]}" for letter in STATES[kind]]
    table = by_class(true, stated.argmax(axis=1), range(len(names)), "state").assign(state=names)
    of_kind = f"{len(names)} states"
    each = (confusion_section(true, stated.argmax(axis=1), names), calibration_section(stated, raw, true))
    return [
        Section(f"{of_kind}, one by one", "Of the residues that are scored.", table),
        *(Section(f"{of_kind}: {s.title}", s.text, s.table, s.figure, s.caption) for s in each),
    ]


def _chain(
    job: SecondaryStructurePredictor, test: ProteinChains, found: scoring.Found, kinds: Sequence[str]
) -> Section:
    (one,) = job.structures(test.part([0]), found.part([0]))
    states = {**one.states, **{f"true {kind}": test.states[kind][0] for kind in kinds}}
    return Section(
        "The first chain of the test part",
        "Drawn is what was said; below it in letters what is true. Bars say how sure it was.",
        figure=chain_figure(one.sequence, states, one.sure(job.kinds[0]), one.id),
        caption=f"Structure of chain {one.id} along its residues",
    )


def _chain_table_section(test: ProteinChains, found: scoring.Found, kind: str) -> Section:
    """A row a chain, the worst first."""
    said, masks = found.said()[kind], scoring.scored_residues(test)
    rows = [
        {
            "chain": test.ids[i],
            "residues scored": int(mask.sum()),
            f"Q{len(STATES[kind])}": 100 * float((np.array([*true]) == np.array([*said[i]]))[mask].mean()),
            "SOV": segment_overlap(true, said[i], mask),
            "mean probability": float(found.stated[kind][i].max(axis=1)[mask].mean()),
        }
        for i, (true, mask) in enumerate(zip(test.states[kind], masks, strict=True))
        if mask.any()
    ]
    table = pd.DataFrame(rows).sort_values(f"Q{len(STATES[kind])}", kind="stable")
    return Section("Chain by chain", "The worst first.", table)


def _data(examples: ProteinChains) -> Section:
    text = f"{len(examples):,} chains, {examples.residues:,} residues in all. " + " ".join(examples.notes)
    rows = [
        {
            "kind": kind,
            "state": f"{letter} {_NAMES[kind][letter]}",
            "residues": sum(one.count(letter) for one in of_each),
        }
        for kind, of_each in examples.states.items()
        for letter in STATES[kind]
    ]
    table = pd.DataFrame(rows)
    return Section("The data", text, table.assign(share=table["residues"] / examples.residues))
