"""Cases of the layer benchmarks: shapes, options, peers and targets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

#: Names of lstmkit and of the peers in tables and JSON; peers.py and jax_peers.py have the peers.
LSTMKIT = "lstmkit"
TORCH, PACKED, ORT = "torch.nn", "torch packed", "ONNX Runtime"
EAGER, COMPILED = "eager loop", "compiled loop"


@dataclass(frozen=True)
class Case:
    """One layer, one shape, one kind of work.

    Attributes:
        kind: ``"lstm"``, ``"gru"`` or ``"rnn"``.
        mode: ``"train"``, ``"infer"`` or ``"stream"``.
        options: Keyword arguments of the lstmkit layer that ``torch.nn`` does not have, and ``proj_size``.
        ragged: Whether lengths are sampled uniformly from 1…T.
    """

    kind: str
    mode: str
    batch: int
    steps: int
    inputs: int
    hidden: int
    layers: int = 1
    bidirectional: bool = False
    options: dict[str, float] = field(default_factory=dict)
    ragged: bool = False
    dtype: str = "float32"

    @property
    def shape(self) -> str:
        """B×T×I×H and further properties of the layer; H→P for a projection."""
        hidden = f"{self.hidden}→{self.options['proj_size']}" if "proj_size" in self.options else str(self.hidden)
        more = (" two layers" if self.layers == 2 else "") + (" bidirectional" if self.bidirectional else "")
        return f"{self.batch}×{self.steps}×{self.inputs}×{hidden}{more}"

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1


@dataclass(frozen=True)
class Group:
    """Cases with one target.

    Attributes:
        judged: Peers; the target is for the ratio to the fastest of them.
        shown: Further peers, without a target.
        target: Minimum geometric mean of the ratios, the time of the peer divided by that of lstmkit.
        floor: Minimum of every single ratio.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    judged: tuple[str, ...]
    target: float
    floor: float | None = None
    shown: tuple[str, ...] = ()


#: batch, steps, inputs, hidden, layers, bidirectional
LSTM_SHAPES = (
    (1, 100, 32, 32),
    (1, 100, 128, 128),
    (8, 50, 64, 64),
    (32, 100, 64, 128),
    (64, 100, 256, 512),
    (16, 1000, 16, 128),
    (256, 100, 8, 32),
    (20, 35, 650, 650, 2),
    (32, 100, 64, 128, 2, True),
)
SOME_SHAPES = ((8, 50, 64, 64), (32, 100, 64, 128), (64, 100, 256, 512), (16, 1000, 16, 128), (256, 100, 8, 32))
RAGGED_SHAPES = ((32, 100, 64, 128), (64, 100, 256, 512), (256, 100, 8, 32))
RAGGED_LONG_SHAPES = ((16, 1000, 16, 128), (32, 1000, 32, 64), (64, 1000, 16, 128))
# Short, because the compiler unrolls the loop: compiling a training step takes 1.5 seconds per time step.
VARIANT_SHAPES = ((8, 20, 64, 64), (32, 20, 64, 128), (256, 20, 8, 32))
PROJECTIONS = ((32, 100, 64, 128, 64), (64, 100, 256, 512, 128), (8, 50, 64, 64, 32))
BF16_SHAPES = ((32, 100, 64, 128), (64, 100, 256, 512), (20, 35, 650, 650, 2))


def _cases(kind: str, mode: str, shapes: tuple[tuple[int, ...], ...], **more: object) -> tuple[Case, ...]:
    return tuple(Case(kind, mode, *shape, **more) for shape in shapes)  # type: ignore[arg-type]


def _variant(name: str, title: str, **options: float) -> Group:
    return Group(
        name,
        f"LSTM training step, {title}",
        _cases("lstm", "train", VARIANT_SHAPES, options=options),
        judged=(EAGER, COMPILED),
        target=4.0,
    )


GROUPS = (
    Group("lstm-train", "LSTM training step", _cases("lstm", "train", LSTM_SHAPES), (TORCH,), 1.5, floor=1.0),
    Group("lstm-infer", "LSTM inference", _cases("lstm", "infer", LSTM_SHAPES), (TORCH, ORT), 1.15, floor=0.95),
    Group("gru-train", "GRU training step", _cases("gru", "train", SOME_SHAPES), (TORCH,), 3.0),
    Group("rnn-train", "RNN training step", _cases("rnn", "train", SOME_SHAPES), (TORCH,), 2.5),
    Group(
        "ragged",
        "LSTM training step, lengths uniform in 1…T",
        _cases("lstm", "train", RAGGED_SHAPES, ragged=True),
        (PACKED,),
        5.0,
    ),
    Group(
        "ragged-long",
        "LSTM training step, lengths uniform in 1…1000",
        _cases("lstm", "train", RAGGED_LONG_SHAPES, ragged=True),
        (PACKED,),
        20.0,
    ),
    Group(
        "projection",
        "LSTM training step, projection",
        tuple(Case("lstm", "train", *shape, options={"proj_size": p}) for *shape, p in PROJECTIONS),
        (TORCH,),
        4.0,
    ),
    _variant("peephole", "peephole", peephole=True),
    _variant("coupled", "coupled gates", coupled=True),
    _variant("layer-norm", "layer normalization", layer_norm=True),
    _variant("zoneout", "zoneout 0.1", zoneout=0.1),
    Group(
        "stream",
        "LSTM, one streaming step",
        tuple(Case("lstm", "stream", 1, 1, size, size) for size in (64, 128, 256)),
        (ORT,),
        2.0,
        shown=(TORCH,),
    ),
    Group("bf16", "LSTM training step, bf16", _cases("lstm", "train", BF16_SHAPES, dtype="bfloat16"), (TORCH,), 1.3),
)

#: Targets for the fraction of the FMA peak by group, over the float32 LSTM cases for which :func:`is_large` holds.
PEAK_TARGETS = {"lstm-infer": 0.75, "lstm-train": 0.70}


def is_large(case: Case) -> bool:
    """Whether the matrix products are large enough that arithmetic should limit the speed."""
    return case.hidden >= 128 and case.batch >= 16


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(math.log(v) for v in values) / len(values))
