"""What decided about an event: contributions of its columns and of earlier events; sequences for a look inside."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.errors import DataError, listing
from lstmkit.jobs.event_classifier.predictor import EventPredictor
from lstmkit.jobs.event_classifier.results import times_as_text
from lstmkit.look.integrated_gradients import integrated_gradients
from lstmkit.look.traces import Answer, ExampleSequence, evaluation_mode
from lstmkit.models.base import Ensemble, Model
from lstmkit.modules.column_encoder import ColumnEncoder

MAX_HISTORY = 200  #: Events of an entity, the last one included, whose contributions are computed.
_MAX_SEQUENCES = 16


def event_attribution(predictor: EventPredictor, features: np.ndarray, class_index: int) -> np.ndarray:
    """Contributions ``(T, K)`` of each event and column to the log odds of a class for the last event.

    They compare the events with events of mean numbers and unknown categories, by integrated gradients over numbers and
    embeddings. The sum is the change of the log odds. Of more than 200 events the last ones are read.

    Args:
        predictor: Fitted.
        features: ``(T, F)`` of the events of one entity, up to the one that is explained.
        class_index: The class.

    Returns:
        ``(T, K)`` for the ``K`` names of :func:`attributed_columns`.
    """
    model = predictor.model
    members = [*model.members] if isinstance(model, Ensemble) else [model]
    device = next(model.parameters()).device
    rows = torch.from_numpy(features[-MAX_HISTORY:])[None].to(device)
    each = [_attribution_of(member, rows, class_index) for member in members]  # type: ignore[arg-type]
    by_feature = np.mean(each, axis=0)
    columns = list(attributed_columns(predictor))
    contributions = np.zeros((len(by_feature), len(columns)))
    for feature, name in enumerate(predictor.encoding.columns):
        contributions[:, columns.index(name)] += by_feature[:, feature]
    return contributions


def attributed_columns(predictor: EventPredictor) -> tuple[str, ...]:
    """Columns and kinds of time that contribute, each once."""
    return tuple(dict.fromkeys(predictor.encoding.columns))


def _attribution_of(member: Model, rows: Tensor, class_index: int) -> np.ndarray:
    """Contributions ``(T, F)`` of the features for one network."""
    columns = next(module for module in member.modules() if isinstance(module, ColumnEncoder))

    def log_odds(encoded: Tensor) -> Tensor:
        hook = columns.register_forward_hook(lambda *_: encoded)
        try:
            logits = member(rows.expand(len(encoded), -1, -1))[0][:, -1]
        finally:
            hook.remove()
        others = torch.cat([logits[:, :class_index], logits[:, class_index + 1 :]], dim=1)
        return logits[:, class_index] - others.logsumexp(1)

    with evaluation_mode(member):
        with torch.no_grad():
            encoded, baseline = columns(rows), columns(torch.zeros_like(rows))
        of_outputs = integrated_gradients(log_odds, encoded, baseline)[0].cpu().numpy()
    by_feature = np.zeros((rows.shape[1], rows.shape[2]))
    np.add.at(by_feature.T, columns.sources, of_outputs.T)
    return by_feature


def example_sequences(predictor: EventPredictor, events: RowSequences, entity: str) -> list[ExampleSequence]:
    """The events of up to 16 entities, ``entity`` first; by default the one with the most suspicious event.

    Raises:
        DataError: There is no such entity.
    """
    if entity and entity not in events.names:
        raise DataError(f"there is no entity {entity!r} in {events.name} (entities: {listing(events.names)})")
    probabilities = predictor.probabilities(events)
    suspicion = suspicions(predictor, probabilities)
    highest = np.maximum.reduceat(suspicion, events.starts[:-1])
    first = events.names.index(entity) if entity else int(highest.argmax())
    order = [first, *(i for i in np.argsort(-highest, kind="stable").tolist() if i != first)][:_MAX_SEQUENCES]
    features = predictor.encode(events)
    device = next(predictor.network.parameters()).device
    return [_example_sequence(predictor, events, features, suspicion, i, device) for i in order]


def suspicions(predictor: EventPredictor, probabilities: np.ndarray) -> np.ndarray:
    """``(R,)`` the probability of the positive class, or with more than two classes of any but the most frequent."""
    positive = predictor.positive
    if positive is not None:
        return probabilities[:, positive]
    return 1 - probabilities[:, int(predictor.counts.argmax())]


def _example_sequence(
    predictor: EventPredictor,
    events: RowSequences,
    features: np.ndarray,
    suspicion: np.ndarray,
    entity: int,
    device: torch.device,
) -> ExampleSequence:
    own = slice(int(events.starts[entity]), int(events.starts[entity + 1]))
    labels = None if events.times is None else [str(time) for time in times_as_text(events.times[own])]
    annotations = {name: events.numbers[own, k] for k, name in enumerate(events.number_names)}
    if events.targets is not None:
        known = events.targets[own, 0]
        annotations["label"] = np.array(["" if label is None else label for label in known], dtype=object)
    positive = predictor.positive
    shown = int(predictor.counts.argmin()) if positive is None else positive
    return ExampleSequence(
        torch.from_numpy(features[own])[None].to(device),
        name=events.names[entity],
        labels=labels,
        values=suspicion[own],
        value_name="probability",
        annotations=annotations,
        answers={f"logit of {predictor.classes[shown]} for the last event": _last_logit(shown)},
    )


def _last_logit(class_index: int) -> Answer:
    return lambda output: output[0, -1, class_index]
