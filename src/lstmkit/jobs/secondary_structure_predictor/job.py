"""Protein structure: helix, strand or coil for every residue of a chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.proteins.chains import STATES, Columns, ProteinChains, read_protein_chains
from lstmkit.data.proteins.residue_windows import N_RESIDUE_IDS, ResidueDataset, numbered
from lstmkit.errors import DataError, SettingError, listing
from lstmkit.evaluation.calibration import fit_temperature, probabilities
from lstmkit.frontends.standardized import StandardizedFrontEnd
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.common.splitting import looked_at, most_likely_class, random_split
from lstmkit.jobs.secondary_structure_predictor import metrics as scoring
from lstmkit.jobs.secondary_structure_predictor import report as structure_report
from lstmkit.jobs.secondary_structure_predictor.plots import chain_figure
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import ResidueEncoder
from lstmkit.modules.heads import MultiTaskTagHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class
from lstmkit.training.predict import predict

_LINE = 60  # residues


@dataclass(frozen=True, eq=False)
class SecondaryStructure:
    """A chain and what was found.

    Attributes:
        id: What it is called.
        sequence: A letter a residue.
        states: By kind (``"ss3"``, ``"ss8"``) a letter a residue.
        probabilities: By kind ``(T, C)``, in the order of ``STATES``.
    """

    id: str
    sequence: str
    states: dict[str, str]
    probabilities: dict[str, np.ndarray]

    def sure(self, kind: str) -> np.ndarray:
        """``(T,)``: the probability of each residue's state."""
        return self.probabilities[kind].max(axis=1)


@settings_class
class SecondaryStructurePredictor(Job):
    """Tell the secondary structure of proteins, residue by residue: 3 states, DSSP's 8, or both at once.

    Data: a FASTA file (to predict); a table with a chain a row, ``id, sequence, ss3, ss8`` and perhaps ``eval_mask``;
    or one with a residue a row, where columns of numbers (``profile_cols``) may stand beside the letter. See
    ``read_protein_chains``.

    >>> chains = pd.DataFrame({"sequence": ["AAAAAGGG", "GGGAAAAA"] * 20, "ss3": ["HHHHHCCC", "CCCHHHHH"] * 20})
    >>> predictor = SecondaryStructurePredictor(hidden_size=8, channels=4, epochs=10, lr=0.02, batch_size=8).fit(chains)
    >>> predictor.predict(["AAAAAAGGGG"])[0].states
    {'ss3': 'HHHHHHCCCC'}
    """

    name: ClassVar[str] = "secondary_structure_predictor"
    summary: ClassVar[str] = "Tell the secondary structure of proteins, beside what each residue's neighbours say."

    id_col: str = setting("column of the chains' names", default="id")
    sequence_col: str = setting("column of the chains", default="sequence")
    residue_col: str = setting("column of the residues, in a table with a residue a row", default="residue")
    ss3_col: str = setting("column of the 3 states; empty to leave them out", default="ss3")
    ss8_col: str = setting("column of the 8 states; empty to leave them out", default="ss8")
    mask_col: str = setting("column that has 1 for each residue that is scored", default="eval_mask")
    profile_cols: tuple[str, ...] = setting(
        "columns of numbers beside the letter, in a table with a residue a row", default=()
    )
    vector_size: int = setting("width of a residue's vector", default=32, low=1)
    widths: tuple[int, ...] = setting(
        "residues that each convolution sees, odd numbers; none for no convolution", default=(3, 7, 11), low=1, high=99
    )
    channels: int = setting("channels of each convolution", default=48, low=1)
    hidden_size: int = setting("units in a layer and direction", default=160, low=1)
    num_layers: int = setting("recurrent layers", default=2, low=1)
    bidirectional: bool = setting("read the chain both ways", default=True)
    longest: int = setting(
        "residues read at once; longer chains are read in windows that overlap by a quarter", default=1000, low=1
    )
    dropout: float = setting("share of features hidden", default=0.4, low=0, high=0.95)
    epochs: int = setting("passes at most", default=20, low=1)
    batch_size: int = setting("chains, or windows of them, in a step", default=32, low=1)
    lr: float = setting("peak learning rate", default=2e-3, low=0)
    valid_share: float = setting("share of the chains to validate and calibrate on", default=0.1, low=0, high=0.5)
    test_share: float = setting("share of the chains held out for the test", default=0.1, low=0, high=0.5)

    tested: tuple[ProteinChains, scoring.Found] | None = field(
        default=None, init=False, repr=False
    )  # what was last evaluated
    _usual: dict[str, str] = field(default_factory=dict, init=False, repr=False)  # each residue's most frequent state
    _temperatures: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _profile: StandardizedFrontEnd | None = field(default=None, init=False, repr=False)
    _train_part: ProteinChains | None = field(default=None, init=False, repr=False)  # not saved

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> ProteinChains:
        even = [width for width in self.widths if width % 2 == 0]
        if even:
            raise SettingError(f"widths must be odd, as many residues on either side, got {even[0]}")
        found = read_protein_chains(data, self._columns())
        if self.profile_cols and found.profile is None:
            raise DataError(
                f"{found.name} has letters alone: this model also reads {listing(self.profile_cols)}, from a table "
                "with a residue a row"
            )
        return found

    def _columns(self) -> Columns:
        return Columns(
            self.id_col, self.sequence_col, self.residue_col, self.ss3_col, self.ss8_col, self.mask_col,
            self.profile_cols,
        )  # fmt: skip

    def split(self, examples: ProteinChains, validation: ProteinChains | None) -> DataSplit:
        """At random by the seed."""
        kinds = examples.told()
        for name, kind in ((self.ss3_col, "ss3"), (self.ss8_col, "ss8")):
            if name not in ("", kind) and kind not in kinds:
                raise DataError(f"{examples.name} has no column {name!r}: mend --{kind}-col")
        if self.mask_col not in ("", Columns().mask) and examples.scored is None:
            raise DataError(f"{examples.name} has no column {self.mask_col!r}: mend --mask-col")
        if validation is not None and not kinds.keys() <= validation.told().keys():
            raise DataError(f"{examples.name} has {listing(kinds)}, {validation.name} not all of it: give both alike")
        return random_split(examples, validation, "chain", self.valid_share, self.test_share, self.seed)

    def prepare(self, train: ProteinChains) -> None:
        """Each residue's most frequent state and the scale of the profile, from the training part."""
        self._usual = {kind: scoring.usual(train, kind) for kind in STATES if kind in train.told()}
        self._temperatures = dict.fromkeys(self._usual, 1.0)
        if train.profile is not None:
            self._profile = StandardizedFrontEnd()
            self._profile.fit(train.profile, self._progress)
        self._train_part = train

    def source(self, examples: ProteinChains) -> ResidueDataset:
        return self._source(examples, self.longest)

    def _source(self, examples: ProteinChains, longest: int) -> ResidueDataset:
        states = None
        if all(kind in examples.states for kind in self.kinds):
            each = [scoring.states_to_indices(examples.states[kind], kind) for kind in self.kinds]
            states = [np.stack(of_one, 1) for of_one in zip(*each, strict=True)]
        profile = None
        if self._profile is not None:
            assert examples.profile is not None
            profile = self._profile.encode(examples.profile)
        return ResidueDataset([numbered(sequence) for sequence in examples.sequences], profile, states, longest)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of states that it tells: ``"ss3"``, ``"ss8"`` or both."""
        return tuple(self._usual)

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        encoder = ResidueEncoder(
            N_RESIDUE_IDS, self.vector_size, len(self.profile_cols), self.widths, self.channels, self.dropout
        )
        trunk = build_trunk(
            self.cell, encoder.output_size, self.hidden_size, num_layers=self.num_layers, dropout=self.dropout,
            variational=True, bidirectional=self.bidirectional,
        )  # fmt: skip
        head = MultiTaskTagHead(trunk.output_size, [len(STATES[kind]) for kind in self.kinds], self.dropout)
        return SequenceModel(encoder, trunk, head)

    def calibrate(self, valid: ProteinChains | None) -> None:
        """A temperature for each kind of states, on the validation part."""
        if valid is None:
            return
        logits = self._logits(valid, self._progress)
        for kind in self.kinds:
            told = scoring.states_to_indices(valid.told()[kind], kind)
            self._temperatures[kind] = fit_temperature(np.concatenate(logits[kind]), np.concatenate(told))

    def _logits(self, chains: ProteinChains, progress: Progress | None = None) -> dict[str, list[np.ndarray]]:
        """By kind, of each chain ``(T, C)``."""
        source = self.source(chains)

        def decode(model: Model, batch: Batch) -> list[np.ndarray]:
            assert batch.rows is not None
            outputs = model(batch.inputs, None, batch.lengths)[0].float().cpu().numpy()
            picked = [source.windows[row][1] for row in batch.rows]
            return [one[w.first - w.start : w.last - w.start] for one, w in zip(outputs, picked, strict=True)]

        loader = Loader(source, 4 * self.batch_size)
        every = np.concatenate(predict(self.model, loader, decode, device=self._device(), progress=progress))
        ends = np.cumsum([len(STATES[kind]) for kind in self.kinds])[:-1]
        cuts = np.cumsum([len(sequence) for sequence in chains.sequences])[:-1]
        each = zip(self.kinds, np.split(every, ends, axis=1), strict=True)
        return {kind: np.split(of_kind, cuts) for kind, of_kind in each}

    def _found(self, chains: ProteinChains, progress: Progress | None = None) -> scoring.Found:
        logits = self._logits(chains, progress)
        stated = {
            kind: [probabilities(one, False, self._temperatures[kind]) for one in logits[kind]] for kind in self.kinds
        }
        raw = {kind: [probabilities(one, False) for one in logits[kind]] for kind in self.kinds}
        return scoring.Found(stated, raw)

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any) -> list[SecondaryStructure]:
        """The states of every residue of chains; none need be told."""
        self.model  # noqa: B018  (says so if there is none)
        return self.structures(self.read(data))

    def structures(self, chains: ProteinChains, found: scoring.Found | None = None) -> list[SecondaryStructure]:
        """What was found of chains, each by itself."""
        found = found or self._found(chains)
        said = found.said()
        return [
            SecondaryStructure(
                chains.ids[i],
                chains.sequences[i],
                {kind: said[kind][i] for kind in self.kinds},
                {kind: found.stated[kind][i] for kind in self.kinds},
            )
            for i in range(len(chains))
        ]

    def text(self, answer: list[SecondaryStructure]) -> str:
        """Sequence and states under each other, and how sure each is: the tenths of its probability, 9 for more."""
        return "\n\n".join("\n".join([f">{one.id}", *self._lines(one)]) for one in answer)

    def _lines(self, one: SecondaryStructure) -> list[str]:
        rows = {"residue": one.sequence, **one.states}
        rows["sure"] = "".join(str(min(9, int(10 * p))) for p in one.sure(self.kinds[0]))
        starts = range(0, len(one.sequence), _LINE)
        width = max(len(name) for name in rows)
        return [f"{name:{width}} {row[i : i + _LINE]}" for i in starts for name, row in rows.items()]

    def records(self, answer: list[SecondaryStructure]) -> list[dict[str, Any]]:
        """Probabilities by letter of the state, one a residue."""
        return [
            {
                "id": one.id,
                "sequence": one.sequence,
                **one.states,
                **{
                    f"p_{kind}": dict(zip(STATES[kind], stated.T.round(6).tolist(), strict=True))
                    for kind, stated in one.probabilities.items()
                },
            }
            for one in answer
        ]

    def picture(self, data: Any, answer: list[SecondaryStructure]) -> Figure:
        """The first chain, its helices and strands, and how sure each residue's state is."""
        one = answer[0]
        return chain_figure(one.sequence, one.states, one.sure(self.kinds[0]), one.id)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Q3, Q8 and segment overlap in percent, on the residues that are to be scored, beside what knows less.

        The regression on neighbours learns from the chains that this object was fitted to: a loaded model has it not.

        Raises:
            DataError: The states are not told, or no residue is to be scored.
        """
        self.model  # noqa: B018
        return self.score(self.read(data), progress or default_progress())

    def score(self, test: ProteinChains, progress: Progress) -> Evaluation:
        kinds = [kind for kind in self.kinds if kind in test.told()]
        if not kinds:
            raise DataError(f"{test.name} has no {' and no '.join(self.kinds)}, which is what this model tells")
        if not any(mask.any() for mask in scoring.scored_residues(test)):
            raise DataError(f"{test.name} has no residue that is to be scored: its {self.mask_col} is 0 everywhere")
        found = self._found(test, progress)
        self.tested = (test, found)
        usual = {kind: self._usual[kind] for kind in kinds}
        beside = scoring.baselines(self._train_part, usual, test, self.seed, progress)
        said = found.said()
        models = {self.cell.upper(): {kind: said[kind] for kind in kinds}, **beside}
        rows = [{"model": name, **scoring.scores(test, of)} for name, of in models.items()]
        details = scoring.details(test, found, kinds)
        return Evaluation(pd.DataFrame(rows), dict.fromkeys(list(rows[0])[1:], "high"), details, self._notes(test))

    def _notes(self, test: ProteinChains) -> tuple[str, ...]:
        scored = sum(int(mask.sum()) for mask in scoring.scored_residues(test))
        notes = [f"{len(test):,} chains, {test.residues:,} residues, of which {scored:,} are scored."]
        long = sum(len(sequence) > self.longest for sequence in test.sequences)
        if long:
            notes.append(f"Chains of more than {self.longest:,} residues are read in windows ({long} of them).")
        if self._train_part is None:
            notes.append("A loaded model has not the chains it learnt from: no regression on neighbours stands beside.")
        elif self._profile is not None:
            notes.append("What stands beside it reads the letters alone.")
        return tuple(notes)

    def sections(self, examples: ProteinChains) -> list[Section]:
        return structure_report.sections(self, examples)

    def example_sequences(self, data: Any, chain: int = 1) -> list[ExampleSequence]:
        """Chains, that of number ``chain`` (from 1) first, each as a whole."""
        self.model  # noqa: B018
        read = self.read(data)
        return [self._specimen(read.part([row])) for row in looked_at(chain, read, "chain")]

    def _specimen(self, one: ProteinChains) -> ExampleSequence:
        (sequence,) = one.sequences
        inputs = self._source(one, len(sequence)).batch(np.array([0])).inputs
        inputs = inputs.to(next(self.network.parameters()).device)
        middle = len(sequence) // 2
        state, logit = most_likely_class(self.network, inputs, middle, STATES[self.kinds[0]])
        return ExampleSequence(
            inputs,
            name=f"chain {one.ids[0]}",
            labels=list(sequence),
            annotations={kind: np.array([*states[0]]) for kind, states in one.states.items()},
            answers={f"logit of {state} for residue {middle + 1}": logit},
        )

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        told = {kind: {"usual": self._usual[kind], "temperature": self._temperatures[kind]} for kind in self.kinds}
        return {"states": told, "profile": None if self._profile is None else self._profile.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        told = {kind: state["states"][kind] for kind in STATES if kind in state["states"]}
        if not told or len(told) < len(state["states"]):
            raise ValueError("the kinds of states that it tells are none")
        self._usual = {kind: of_kind["usual"] for kind, of_kind in told.items()}
        self._temperatures = {kind: float(of_kind["temperature"]) for kind, of_kind in told.items()}
        for kind in told:
            if len(self._usual[kind]) != N_RESIDUE_IDS or set(self._usual[kind]) - set(STATES[kind]):
                raise ValueError("its residues' usual states are none")
            if not np.isfinite(self._temperatures[kind]) or self._temperatures[kind] <= 0:
                raise ValueError("its temperature is none")
        if (state["profile"] is None) == bool(self.profile_cols):
            raise ValueError("its profile is not of the columns that it reads")
        if state["profile"] is not None:
            self._profile = StandardizedFrontEnd()
            self._profile.load_state(state["profile"])
            if self._profile.width != len(self.profile_cols):
                raise ValueError("its profile is not of the columns that it reads")
