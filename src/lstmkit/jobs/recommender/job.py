"""Recommendation: which item comes next in a session."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, field
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.sequence_dataset import Sequences
from lstmkit.data.sessions import Columns, Sessions, read_sessions, windows
from lstmkit.data.splits import holdout_sizes
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.recommender import metrics as ranking
from lstmkit.jobs.recommender import report
from lstmkit.jobs.recommender.evaluation import beside
from lstmkit.jobs.recommender.results import Choice, Recommendation, StreamingSession, table_of
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.models.sequence import NextTokenModel
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.item_head import LOSSES, ItemHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class
from lstmkit.training.predict import predict

_SEEN = ("keep", "drop")
_LOOKED_AT, _MOST_LOOKS = 200, 16  # items of a session that is looked at, its last; and sessions


@settings_class
class Recommender(Job):
    """Learn from sessions what is chosen next, and recommend it.

    Data: a file or frame of events, with a column that says whose each is, the item, and the time; or a list of
    sessions. See ``read_sessions``.

    >>> sessions = [["tea", "milk", "sugar"], ["bread", "butter", "jam"]] * 30
    >>> recommender = Recommender(hidden_size=8, epochs=15, batch_size=8, lr=0.02).fit(sessions)
    >>> recommender.predict([["tea"], ["bread", "butter"]], k=1)[1].items
    ('jam',)
    >>> live = recommender.session(k=1)
    >>> live.click("tea").items, live.click("milk").items
    (('milk',), ('sugar',))
    """

    name: ClassVar[str] = "recommender"
    summary: ClassVar[str] = (
        "Recommend what comes next in a session, beside item-kNN, a Markov chain, the most popular."
    )

    session_col: str = setting("column that says whose an event is: a session, a user", default="session_id")
    item_col: str = setting("column of the items", default="item_id")
    time_col: tuple[str, ...] = setting(
        "columns that put events in order, the first counting most; empty where the rows are in order",
        default=("timestamp",),
    )
    at_least: int = setting("how often an item must occur in the training part to be known", default=1, low=1)
    held_out: str = setting(
        "what validation and test are: whole sessions, the latest, asked for every next item; or the last two items "
        "of each session",
        default="sessions",
        choices=("sessions", "last"),
    )
    seen: str = setting(
        "whether items of the session itself may be recommended again, by model and baselines alike",
        default="keep",
        choices=_SEEN,
    )
    top: int = setting("length of the list that is scored, Recall@top", default=20, low=1)
    longest: int = setting("steps that a training example has at most: longer sessions are cut", default=50, low=1)
    hidden_size: int = setting("units in a layer", default=100, low=1)
    embed_size: int = setting("width of an item's vector; 0 for hidden_size", default=0, low=0)
    tied: bool = setting("the vectors of items are also the weights that tell the next one", default=True)
    loss: str = setting("what is minimised", default="cross-entropy", choices=LOSSES)
    negatives: int = setting(
        "items drawn for a batch in place of all, for large catalogues; 0 for all", default=0, low=0
    )
    alpha: float = setting("drawn in proportion to their number of occurrences to this power", default=0.75, low=0)
    penalty: float = setting("of the size of other items' scores, with bpr-max", default=1.0, low=0)
    dropout: float = setting("share of features hidden before the scores", default=0.2, low=0, high=0.95)
    layer_dropout: float = setting("share of features hidden between layers", default=0.2, low=0, high=0.95)
    input_dropout: float = setting("share of an item's vector hidden", default=0.2, low=0, high=0.95)
    item_dropout: float = setting("share of the catalogue hidden in a batch", default=0.0, low=0, high=0.95)
    lr: float = setting("peak learning rate", default=3e-3, low=0)
    valid_share: float = setting("share of the sessions to validate on; 0 for none", default=0.1, low=0, high=0.5)
    test_share: float = setting("share held out for the test; 0 for none", default=0.1, low=0, high=0.5)

    tested: tuple[Sessions, ranking.Questions] | None = field(default=None, init=False, repr=False)  # last evaluated
    train_notes: tuple[str, ...] = field(default=(), init=False, repr=False)  # what was done to read the data
    _catalogue: tuple[str, ...] = field(default=(), init=False, repr=False)  # the most frequent first
    _numbers: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    _counts: np.ndarray | None = field(default=None, init=False, repr=False)
    _learnt: list[np.ndarray] | None = field(default=None, init=False, repr=False)  # not saved, nor the next
    _valid: ranking.Questions | None = field(default=None, init=False, repr=False)

    # ---- from file to sequences ----------------------------------------------------------------------------------

    def read(self, data: Any) -> Sessions:
        return read_sessions(data, Columns(self.session_col, self.item_col, self.time_col))

    def split(self, examples: Sessions, validation: Sessions | None) -> DataSplit:
        """The latest sessions, or the last items of each, as ``held_out`` says."""
        held_out = None if validation is None else self._asked(validation)
        followed = self._with_next_item(examples).in_order()
        valid_share = self.valid_share if validation is None else 0.0
        if self.held_out == "last":
            return self._split_items(followed, held_out, valid_share)
        valid, test = holdout_sizes(len(followed), "session", examples.name, valid_share, self.test_share)
        train, *rest = (
            followed.part(rows)
            for rows in np.split(np.arange(len(followed)), [len(followed) - valid - test, len(followed) - test])
        )
        return DataSplit(train, rest[0] if valid else held_out, rest[1] if test else None)

    def _split_items(self, sessions: Sessions, validation: Sessions | None, valid_share: float) -> DataSplit:
        """The last item of each session for the test, the one before for validation; of two both are learnt from."""
        test, valid = int(self.test_share > 0), int(valid_share > 0)
        lengths = sessions.lengths
        long = np.flatnonzero(lengths > max(2, test + valid))
        if not len(long) and test + valid:
            raise DataError(
                f"{sessions.name}: no session has {max(3, 1 + test + valid)} items, so that the last could be held "
                "back for validation and test: give more, or --held-out sessions"
            )
        kept = lengths.copy()
        kept[long] -= test + valid
        asked = sessions.part(long)
        before = asked.shorter(lengths[long] - test).leave_one_out() if valid else validation
        return DataSplit(sessions.shorter(kept), before, asked.leave_one_out() if test else None)

    def _with_next_item(self, sessions: Sessions) -> Sessions:
        found = sessions.followed()
        if not len(found):
            raise DataError(f"{sessions.name}: every session has one item alone: there is nothing that follows")
        return found

    def _asked(self, sessions: Sessions) -> Sessions:
        """What validation and test ask of sessions."""
        found = self._with_next_item(sessions)
        return found.leave_one_out() if self.held_out == "last" else found

    def prepare(self, train: Sessions) -> None:
        """The catalogue, and how popular each item is, from the training part."""
        counts = Counter(item for items in train.items for item in items)
        known = sorted(
            (item for item, n in counts.items() if n >= self.at_least), key=lambda item: (-counts[item], item)
        )
        if len(known) < 2:
            often = f" that occurs {self.at_least} times" if self.at_least > 1 else ""
            raise DataError(
                f"{train.name}: there is {len(known) or 'no'} item{often} to choose from: give at least two"
            )
        self._set_catalog(tuple(known), np.array([counts[item] for item in known]))
        self._learnt = [items[items >= 0] for items in self.numbered(train)]
        self.train_notes = train.notes

    def _set_catalog(self, catalogue: tuple[str, ...], counts: np.ndarray) -> None:
        self._catalogue, self._counts = catalogue, counts
        self._numbers = {item: i for i, item in enumerate(catalogue)}

    def numbered(self, sessions: Sessions) -> list[np.ndarray]:
        """Items by number, -1 where training has not seen one."""
        return [np.array([self._numbers.get(item, -1) for item in items], dtype=np.int64) for items in sessions.items]

    def source(self, examples: Sessions) -> Sequences:
        """Windows over the known items, a target a step."""
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for items, given in zip(self.numbered(examples), examples.given, strict=True):
            told = items >= 0
            found += windows(items[told], max(1, int(told[:given].sum())), self.longest)
        if not found:
            raise DataError(f"{examples.name}: in no session does a known item follow a known one: give more sessions")
        inputs, targets = zip(*found, strict=True)
        return Sequences(inputs, targets)

    @property
    def catalogue(self) -> tuple[str, ...]:
        """The items' ids, the most popular of the training part first."""
        return self._catalogue

    @property
    def counts(self) -> np.ndarray:
        """``(V,)`` how often each was chosen in the training part."""
        assert self._counts is not None
        return self._counts

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        items, width = len(self._catalogue), self.embed_size or self.hidden_size
        encoder = TokenEncoder(items, width, self.item_dropout, self.input_dropout)
        trunk = build_trunk(
            self.cell, width, self.hidden_size, num_layers=self.num_layers, dropout=self.layer_dropout, variational=True
        )
        tied = encoder.embedding if self.tied else None
        weights = (self.counts**self.alpha).tolist() if self.negatives else ()
        head = ItemHead(trunk.output_size, items, tied, self.loss, self.negatives, weights, self.penalty)
        return NextTokenModel(encoder, trunk, head, self.dropout)

    def calibrate(self, valid: Sessions | None) -> None:
        """Nothing of the network; the validation part is kept, since the baselines are chosen on it."""
        self._valid = None if valid is None else ranking.ask(self.numbered(valid), valid.given)

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, k: int = 20, seen: str = "") -> list[Recommendation]:
        """The best next items of every session; items that training has not seen are passed over.

        Args:
            data: As of fit; sessions of one item too.
            k: How many.
            seen: ``"keep"`` or ``"drop"`` items of the session itself; by default as the setting.

        Raises:
            SettingError: A number or word out of its range.
        """
        self.model  # noqa: B018  (says so if there is none)
        return self._recommend(self.read(data), self._choice(k, seen))

    def session(self, *, k: int = 20, seen: str = "") -> StreamingSession:
        """A session to be followed click by click; arguments as of :meth:`predict`."""
        return StreamingSession(self.model, self._numbers.get, self._choice(k, seen), self._device())

    def _choice(self, k: int, seen: str) -> Choice:
        if not isinstance(k, int) or k < 1 or seen not in ("", *_SEEN):
            raise SettingError(
                f"k must be at least 1, a whole number, and seen one of {', '.join(_SEEN)}; got {k!r}, {seen!r}"
            )
        return Choice(self._catalogue, k, (seen or self.seen) == "drop", self.loss == "cross-entropy")

    def _recommend(self, sessions: Sessions, choice: Choice) -> list[Recommendation]:
        numbered = self.numbered(sessions)
        unknown = [
            tuple(item for item, number in zip(items, ids, strict=True) if number < 0)
            for items, ids in zip(sessions.items, numbered, strict=True)
        ]
        known = [ids[ids >= 0] for ids in numbered]
        readable = [i for i, ids in enumerate(known) if len(ids)]

        def decode(model: Model, batch: Batch) -> list[Recommendation]:
            assert batch.rows is not None
            of = [readable[row] for row in batch.rows]
            last = [np.array([len(known[i]) - 1]) for i in of]
            found: list[Recommendation] = []
            for part, scores in ranking.scores_at(model, batch, last):
                rows = zip(of[part], scores, strict=True)
                found += [choice.best(sessions.names[i], one, known[i], unknown[i]) for i, one in rows]
            return found

        loader = Loader(Sequences([known[i] for i in readable]), 4 * self.batch_size)
        told = dict(zip(readable, predict(self.model, loader, decode, device=self._device()), strict=True))
        return [told.get(i, choice.nothing(sessions.names[i], unknown[i])) for i in range(len(sessions))]

    def text(self, answer: list[Recommendation]) -> str:
        """A row an item: session, rank, item, score and, where it is known, probability."""
        return table_of(answer).to_csv(index=False).rstrip("\n")

    def records(self, answer: list[Recommendation]) -> list[dict[str, Any]]:
        return [asdict(one) for one in answer]

    def picture(self, data: Any, answer: list[Recommendation]) -> Figure:
        """The first sessions and what is recommended."""
        return report.recommended_figure(self.read(data), answer)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Recall and MRR of what came next among all items, ties against us, beside the baselines.

        Item-kNN and the Markov chain are counted in the sessions that this object was fitted to; a loaded model has
        the most popular items only.
        """
        self.model  # noqa: B018
        return self.score(self._asked(self.read(data)), progress or default_progress())

    def score(self, test: Sessions, progress: Progress) -> Evaluation:
        asked, drop, items = ranking.ask(self.numbered(test), test.given), self.seen == "drop", len(self._catalogue)
        options = {"batch_size": 4 * self.batch_size, "device": self._device(), "progress": progress}
        found = {self.cell.upper(): ranking.ranks_from_model(self.model, asked, drop, **options)}
        others, chosen = beside(self.counts, self._learnt, self._valid, drop, self.top, progress)
        found |= {name: ranking.ranks_from_scores(scores, asked, items, drop) for name, scores in others.items()}
        self.tested = (test, asked)
        table = ranking.score_table(found, self.top)
        details = report.details(test, asked, self.counts, found)
        notes = (*report.notes(asked, found, items, self.top, drop), *chosen)
        return Evaluation(table, dict.fromkeys(list(table)[1:], "high"), details, notes)

    def sections(self, examples: Sessions) -> list[Section]:
        return report.sections(self)

    def example_sequences(self, data: Any, session: int = 1) -> list[ExampleSequence]:
        """Sessions of at most 200 known items, the last ones, that of number ``session`` (from 1) first."""
        self.model  # noqa: B018
        read = self.read(data)
        if not 1 <= session <= len(read):
            raise DataError(f"there is no session {session}: {read.name} has 1 to {len(read)}")
        rows = [session - 1, *(i for i in range(len(read)) if i != session - 1)]
        known = [
            (i, ids[ids >= 0][-_LOOKED_AT:])
            for i, ids in zip(rows, self.numbered(read.part(np.array(rows))), strict=True)
        ]
        if not len(known[0][1]):
            raise DataError(f"session {session} of {read.name} has no item that training has seen: choose another")
        return [self._specimen(ids, f"session {read.names[i]}") for i, ids in known if len(ids)][:_MOST_LOOKS]

    def _specimen(self, ids: np.ndarray, name: str) -> ExampleSequence:
        inputs = torch.from_numpy(ids).unsqueeze(0).to(next(self.network.parameters()).device)
        with torch.no_grad():
            best = int(self.network.eval()(inputs)[0][0, -1].argmax())
        annotations = {
            "times in training": self.counts[ids].astype(float),
            "was there before": np.array([float(item in ids[:t]) for t, item in enumerate(ids)]),
        }
        return ExampleSequence(
            inputs,
            name=name,
            labels=[self._catalogue[i] for i in ids],
            annotations={what: values for what, values in annotations.items() if values.std() > 0},
            answers={f"score of {self._catalogue[best]}, the best next": lambda output: output[0, -1, best]},
        )

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"catalogue": list(self._catalogue), "counts": self.counts.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._set_catalog(tuple(state["catalogue"]), np.array(state["counts"], dtype=np.int64))
        texts = all(isinstance(item, str) for item in self._catalogue)
        if not texts or len(self._catalogue) < 2 or len(self._numbers) < len(self._catalogue):
            raise ValueError("its items are none")
        if self.counts.shape != (len(self._catalogue),) or self.counts.min() < 1:
            raise ValueError("its counts are not of its items")
