"""Event classification as events arrive. The state of each entity is kept: in memory, and beyond a limit in SQLite."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from lstmkit.data.tables.live_rows import RowTime, read_time, read_values
from lstmkit.errors import DataError, ModelFileError, SettingError
from lstmkit.export.graphs import flatten, unflatten
from lstmkit.jobs.event_classifier.predictor import EventPredictor

_WAITING_SECONDS = 30.0  # for a store that another process writes
_EVICTED = 100  # entities that go to the store at once, at most a tenth of the memory


class EntityState(NamedTuple):
    """What is kept of an entity.

    Attributes:
        seconds: Time of its last event.
        values: The state of the network as one vector of float32.
    """

    seconds: float
    values: np.ndarray


class LiveEvents:
    """Classifies events as they arrive, with the answers that ``predict`` gives for all of them at once.

    Args:
        predictor: Fitted.
        max_entities: Entities whose states are in memory, the most recent ones; others are in the store.
        store: SQLite file of the states, which a later :class:`LiveEvents` goes on with; empty for a temporary one,
            which is made when it is needed and removed at the end.

    Raises:
        SettingError: The model is bidirectional, or ``max_entities`` is below 1.
        ModelFileError: The store is that of another model, or no store.
    """

    def __init__(self, predictor: EventPredictor, max_entities: int = 100_000, store: str | Path = "") -> None:
        if predictor.settings.bidirectional:
            raise SettingError("a bidirectional model reads later events: fit with bidirectional=False for live events")
        if max_entities < 1:
            raise SettingError(f"max_entities must be at least 1, got {max_entities}")
        self._predictor, self._max_entities = predictor, max_entities
        self._model = predictor.model.to(predictor.device).eval()
        features = torch.zeros(1, len(predictor.encoding.columns), device=predictor.device)
        with torch.inference_mode():
            self._example_state = self._model.step(features)[1]
        self._shapes = [tuple(tensor.shape) for tensor in flatten(self._example_state)]
        self._states: OrderedDict[str, EntityState] = OrderedDict()
        self._keeps_store = bool(store)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._database: sqlite3.Connection | None = self._opened(Path(store)) if store else None

    # ---- events --------------------------------------------------------------------------------------------------

    def add(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Classify the next event.

        Args:
            event: Values by column, as in a row of the training data: id, time, numbers and categories. ``None`` is a
                missing value.

        Returns:
            ``id, time, label`` and the probability ``p_CLASS`` of each class.

        Raises:
            DataError: A value cannot be read, or the event is earlier than the last one of its entity. The states stay
                as they were.
        """
        return self.add_all([event])[0]

    def add_all(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Classify several events; those of different entities run together, which is faster.

        Raises:
            DataError: As :meth:`add`; then none of the events counts.
        """
        names = [self._entity(event) for event in events]
        encoding, column = self._predictor.encoding, self._predictor.settings.time_col
        times = [read_time(event, column, encoding) for event in events]
        self._check_order(names, [time.seconds for time in times])
        read = [read_values(event, encoding) for event in events]
        answers: list[dict[str, Any]] = [{} for _ in events]
        remaining = list(range(len(events)))
        while remaining:  # the first remaining event of each entity
            first = list({names[k]: k for k in reversed(remaining)}.values())
            for k, probabilities in zip(first, self._step(first, names, times, read), strict=True):
                columns = self._predictor.decisions.columns(probabilities[None])
                shown = {} if times[k].shown is None else {"time": times[k].shown}
                answers[k] = {"id": names[k], **shown, **{name: values.tolist()[0] for name, values in columns.items()}}
            taken = set(first)
            remaining = [k for k in remaining if k not in taken]
        return answers

    @torch.inference_mode()
    def _step(
        self,
        rows: Sequence[int],
        names: Sequence[str],
        times: Sequence[RowTime],
        read: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> np.ndarray:
        """Probabilities ``(B, C)`` of events of different entities, whose states go on."""
        predictor = self._predictor
        before = [self._state_of(names[k]) for k in rows]
        seconds = np.array([times[k].seconds for k in rows])
        last = np.array([np.nan if state is None else state.seconds for state in before])
        features = predictor.encoding.encode(
            np.stack([read[k][0] for k in rows]),
            np.stack([read[k][1] for k in rows]),
            seconds - last,
            np.array([times[k].clock for k in rows]),
        )
        inputs = torch.from_numpy(features).to(predictor.device)
        logits, state = self._model.step(inputs, self._stacked(before))
        vectors = torch.cat([tensor.transpose(0, 1).flatten(1) for tensor in flatten(state)], 1).float().cpu().numpy()
        for k, vector in zip(rows, vectors, strict=True):
            self._keep(names[k], EntityState(times[k].seconds, vector))
        return predictor.decisions.probabilities(logits.float().cpu().numpy())

    def _stacked(self, states: Sequence[EntityState | None]) -> Any:
        """The states of several entities as a state of the network; zeros for new ones."""
        width = sum(int(np.prod(shape)) for shape in self._shapes)
        vectors = np.stack([np.zeros(width, np.float32) if state is None else state.values for state in states])
        tensors: list[Tensor] = []
        start = 0
        for layers, _, units in self._shapes:
            part = torch.from_numpy(vectors[:, start : start + layers * units].copy()).to(self._predictor.device)
            tensors.append(part.unflatten(1, (layers, units)).transpose(0, 1).contiguous())
            start += layers * units
        return unflatten(self._example_state, tensors)

    # ---- values of an event --------------------------------------------------------------------------------------

    def _entity(self, event: Mapping[str, Any]) -> str:
        column = self._predictor.settings.id_col
        if column not in event and column in ("", "id"):
            return ""
        value = event.get(column)
        if value is None or value == "" or value != value:
            raise DataError(f"the event has no {column!r}: every event needs the id of its entity")
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    def _check_order(self, names: Sequence[str], seconds: Sequence[float]) -> None:
        """Raise DataError if an event is earlier than the one before of its entity."""
        last: dict[str, float] = {}
        for name, now in zip(names, seconds, strict=True):
            if name not in last:
                state = self._state_of(name)
                last[name] = -np.inf if state is None or np.isnan(state.seconds) else state.seconds
            if now < last[name]:
                raise DataError(
                    f"an event of {name!r} is {last[name] - now:,.6g} earlier than its last one: give events in order"
                )
            last[name] = now

    # ---- states --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Entities whose states are kept, in memory and in the store."""
        if self._database is None:
            return len(self._states)
        stored = {name for (name,) in self._database.execute("SELECT name FROM states")}
        return len(stored | self._states.keys())

    @property
    def num_in_memory(self) -> int:
        """Entities whose states are in memory: at most ``max_entities``."""
        return len(self._states)

    def _state_of(self, name: str) -> EntityState | None:
        if name in self._states:
            return self._states[name]
        if self._database is None:
            return None
        row = self._database.execute("SELECT seconds, state FROM states WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        values = np.frombuffer(row[1], dtype="<f4")
        if values.shape != (sum(int(np.prod(shape)) for shape in self._shapes),):
            raise ModelFileError("the store of states is damaged: remove it and start again")
        return EntityState(np.nan if row[0] is None else float(row[0]), values)

    def _keep(self, name: str, state: EntityState) -> None:
        self._states[name] = state
        self._states.move_to_end(name)
        if len(self._states) > self._max_entities:
            count = min(_EVICTED, max(1, self._max_entities // 10))
            self._write([self._states.popitem(last=False) for _ in range(count)])

    def _write(self, states: Sequence[tuple[str, EntityState]]) -> None:
        if self._database is None:
            self._folder = tempfile.TemporaryDirectory(prefix="lstmkit-events-")
            self._database = self._opened(Path(self._folder.name) / "states.sqlite")
        rows = [
            (name, None if np.isnan(state.seconds) else state.seconds, state.values.astype("<f4").tobytes())
            for name, state in states
        ]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO states VALUES (?, ?, ?)", rows)

    def _opened(self, path: Path) -> sqlite3.Connection:
        try:
            database = sqlite3.connect(path, timeout=_WAITING_SECONDS, check_same_thread=False)
            with database:
                database.execute("CREATE TABLE IF NOT EXISTS model (sha256 TEXT)")
                database.execute("CREATE TABLE IF NOT EXISTS states (name TEXT PRIMARY KEY, seconds REAL, state BLOB)")
                row = database.execute("SELECT sha256 FROM model").fetchone()
                if row is None:
                    database.execute("INSERT INTO model VALUES (?)", (self._digest(),))
        except sqlite3.Error as err:
            raise ModelFileError(f"{path} cannot be used as a store of states ({err}): give another file") from err
        if row is not None and row[0] != self._digest():
            database.close()
            raise ModelFileError(f"{path} holds the states of another model: give another file, or remove it")
        return database

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in self._model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        """Write all states to the store, or remove a temporary one."""
        if self._database is not None:
            if self._keeps_store:
                self._write(list(self._states.items()))
            self._database.close()
            self._database = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
