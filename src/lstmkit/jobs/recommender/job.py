"""The recommender: session-based recommendation of the next item."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lstmkit.data.sequence_dataset import Sequences
from lstmkit.data.sessions import Sessions
from lstmkit.data.splits import holdout_sizes
from lstmkit.data.tables.table import TABLES
from lstmkit.errors import DataError, listing
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.recommender.evaluation import evaluate_recommender
from lstmkit.jobs.recommender.example_sequences import example_sessions
from lstmkit.jobs.recommender.export import exported_recommender
from lstmkit.jobs.recommender.metrics import RankingQueries, ranking_queries
from lstmkit.jobs.recommender.predictor import RecommenderPredictor, read_recommender_sessions
from lstmkit.jobs.recommender.report import recommender_sections, session_figure
from lstmkit.jobs.recommender.results import Recommendation, recommendation_table
from lstmkit.jobs.recommender.settings import RecommenderSettings
from lstmkit.jobs.recommender.streaming import StreamingSession
from lstmkit.look.traces import ExampleSequence
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section


class Recommender(RecommenderSettings, Job[RecommenderPredictor]):
    """Recommend the next item in a session.

    The data are a file or frame of events with the columns session, item and time, or a list of sessions; see
    ``read_sessions``.

    >>> sessions = [["tea", "milk", "sugar"], ["bread", "butter", "jam"]] * 30
    >>> recommender = Recommender(hidden_size=8, epochs=15, batch_size=8, lr=0.02).fit(sessions)
    >>> recommender.predict([["tea"], ["bread", "butter"]], k=1)[1].items
    ('jam',)
    >>> session = recommender.start_session(k=1)
    >>> session.add_item("tea").items, session.add_item("milk").items
    (('milk',), ('sugar',))
    """

    predictor_class = RecommenderPredictor
    data_formats = TABLES
    answer_suffixes = (".csv",)

    _train_sessions: list[np.ndarray] | None = None  # for the baselines; not saved
    _valid_queries: RankingQueries | None = None  # to tune the baselines; not saved
    _train_notes: tuple[str, ...] = ()

    # ---- fit -----------------------------------------------------------------------------------------------------

    def read(self, data: Any) -> Sessions:
        return read_recommender_sessions(self, data)

    def split(self, examples: Sessions, validation: Sessions | None) -> DataSplit:
        """Hold out the latest sessions, or the last items of each session, as ``split_strategy`` says."""
        held_out = None if validation is None else self._evaluation_sessions(validation)
        sessions = _with_next_item(examples).sort_by_time()
        valid_fraction = self.valid_fraction if validation is None else 0.0
        if self.split_strategy == "leave_one_out":
            return self._split_last_items(sessions, held_out, valid_fraction)
        n_valid, n_test = holdout_sizes(len(sessions), "session", examples.name, valid_fraction, self.test_fraction)
        bounds = [len(sessions) - n_valid - n_test, len(sessions) - n_test]
        train, valid, test = (sessions.subset(rows) for rows in np.split(np.arange(len(sessions)), bounds))
        return DataSplit(train, valid if n_valid else held_out, test if n_test else None)

    def _split_last_items(self, sessions: Sessions, validation: Sessions | None, valid_fraction: float) -> DataSplit:
        """The last item of each session is for the test, the one before it for validation.

        A session of two items is for training only.
        """
        n_test, n_valid = int(self.test_fraction > 0), int(valid_fraction > 0)
        lengths = sessions.lengths
        long = np.flatnonzero(lengths > max(2, n_test + n_valid))
        if not len(long) and n_test + n_valid:
            raise DataError(
                f"{sessions.name}: no session has {max(3, 1 + n_test + n_valid)} items, which "
                "split_strategy=leave_one_out needs: give longer sessions, or split_strategy=temporal"
            )
        train_lengths = lengths.copy()
        train_lengths[long] -= n_test + n_valid
        split = sessions.subset(long)
        valid = split.truncate(lengths[long] - n_test).leave_one_out() if n_valid else validation
        return DataSplit(sessions.truncate(train_lengths), valid, split.leave_one_out() if n_test else None)

    def _evaluation_sessions(self, sessions: Sessions) -> Sessions:
        """Sessions with the items to predict: all but the first, or the last one."""
        sessions = _with_next_item(sessions)
        return sessions.leave_one_out() if self.split_strategy == "leave_one_out" else sessions

    def prepare(self, train: Sessions) -> RecommenderPredictor:
        predictor = RecommenderPredictor.fitted(self.snapshot(), train)
        self._train_sessions = [items[items >= 0] for items in predictor.item_indices(train)]
        self._train_notes = train.notes
        return predictor

    def source(self, examples: Sessions) -> Sequences:
        return self.predictor.training_windows(examples)

    def calibrate(self, valid: Sessions | None) -> None:
        """Keep the validation split to tune the baselines; the network needs no calibration."""
        if valid is not None:
            self._valid_queries = ranking_queries(self.predictor.item_indices(valid), valid.n_context)

    # ---- recommendations -----------------------------------------------------------------------------------------

    def predict(self, data: Any, *, k: int = 20, seen_items: str = "") -> list[Recommendation]:
        """The best next items of every session. Items that are not in the catalog are skipped.

        Args:
            data: Sessions as for ``fit``; a session may have one item.
            k: The number of items to recommend.
            seen_items: ``"allow"`` or ``"exclude"`` items of the session; by default as in the settings.

        A session without an item of the catalog gets no recommendations, and a warning.

        Raises:
            DataError: The data cannot be read, or no session has an item of the catalog.
            SettingError: ``k`` or ``seen_items`` is out of range.
        """
        predictor = self.predictor
        sessions = predictor.read(data)
        _check_known(predictor, sessions)
        return predictor.recommend(sessions, predictor.top_k_options(k, seen_items))

    def start_session(self, *, k: int = 20, seen_items: str = "") -> StreamingSession:
        """A session that grows item by item; arguments as of :meth:`predict`."""
        return StreamingSession(self.predictor, k, seen_items)

    @property
    def catalog(self) -> tuple[str, ...]:
        """The ids of the items, the most popular of the training split first."""
        return self.predictor.catalog

    def exported(self) -> JobExport:
        return exported_recommender(self.predictor)

    def to_text(self, predictions: list[Recommendation]) -> str:
        """The recommendations as CSV, a row per item: session, rank, item, score and, if there is one, probability."""
        return recommendation_table(predictions).to_csv(index=False).rstrip("\n")

    def to_records(self, predictions: list[Recommendation]) -> list[dict[str, Any]]:
        return [asdict(recommendation) for recommendation in predictions]

    def plot(self, data: Any, predictions: list[Recommendation]) -> Figure:
        """The recommendations for the first sessions."""
        return session_figure(self.predictor.read(data), predictions)

    # ---- evaluation and report -----------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Recall@k and MRR@k of the next items among all items, of model and baselines. Ties count against the model.

        Item-kNN and the Markov chain need the training sessions, which are not saved. A loaded model is compared with
        the most popular items only.
        """
        predictor = self.predictor
        sessions = self._evaluation_sessions(predictor.read(data))
        return self.evaluate_examples(sessions, progress or default_progress())

    def evaluate_examples(self, test: Sessions, progress: Progress) -> Evaluation:
        return evaluate_recommender(self.predictor, test, self._train_sessions, self._valid_queries, progress)

    def report_sections(self, examples: Sessions) -> list[Section]:
        return recommender_sections(self.predictor, self.full_evaluation, self._train_notes)

    def example_sequences(self, data: Any, session_number: int = 1) -> list[ExampleSequence]:
        """Sessions of up to 200 known items, the last ones; that of ``session_number`` (from 1) in front."""
        return example_sessions(self.predictor, self.predictor.read(data), session_number)


def _check_known(predictor: RecommenderPredictor, sessions: Sessions) -> None:
    """Warn of sessions without an item of the catalog. Raises DataError if no session has one."""
    unknown = [
        name
        for name, items in zip(sessions.names, predictor.item_indices(sessions), strict=True)
        if not (items >= 0).any()
    ]
    if not unknown:
        return
    catalog = f"the model knows {len(predictor.catalog):,} items: {listing(predictor.catalog[:5])}, …"
    if len(unknown) == len(sessions):
        raise DataError(f"{sessions.name}: no item is in the catalog, so there is nothing to recommend from; {catalog}")
    warnings.warn(
        f"{sessions.name}: {len(unknown)} of {len(sessions)} sessions have no item of the catalog and get no "
        f"recommendations ({listing(unknown)}); {catalog}",
        stacklevel=3,
    )


def _with_next_item(sessions: Sessions) -> Sessions:
    """The sessions of at least two items. Raises DataError if there is none."""
    kept = sessions.with_targets()
    if not len(kept):
        raise DataError(f"{sessions.name}: every session has one item only: give sessions of two items or more")
    return kept
