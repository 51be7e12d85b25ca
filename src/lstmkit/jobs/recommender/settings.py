"""The settings of the recommender."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.decoding.recommendation_options import SEEN_ITEMS
from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class RecommenderSettings(JobSettings):
    """Settings of :class:`lstmkit.Recommender`."""

    name: ClassVar[str] = "recommender"
    summary: ClassVar[str] = (
        "Recommend the next item in a session; compare with item-kNN, a Markov chain and the most popular items."
    )
    extra: ClassVar[str] = "forecast"
    main_settings: ClassVar[tuple[str, ...]] = ("session_col", "item_col", *JobSettings.main_settings)
    old_settings: ClassVar[Mapping[str, str]] = {
        "time_col": "time_cols",
        "at_least": "min_count",
        "held_out": "split_strategy",
        "seen": "seen_items",
        "top": "eval_k",
        "longest": "max_items",
        "embed_size": "embedding_size",
        "tied": "tie_weights",
        "negatives": "num_negatives",
        "alpha": "sampling_alpha",
        "penalty": "bpr_reg",
        "layer_dropout": "hidden_dropout",
    }
    old_choices: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "split_strategy": {"sessions": "temporal", "last": "leave_one_out"},
        "seen_items": {"keep": "allow", "drop": "exclude"},
    }

    session_col: str = setting("column of the session or user id", default="session_id", group="data", names="column")
    item_col: str = setting("column of the item id", default="item_id", group="data", names="label column")
    time_cols: tuple[str, ...] = setting(
        "columns to sort events by, most significant first; empty = row order",
        default=("timestamp",),
        group="data",
        names="date column",
    )
    min_count: int = setting(
        "minimum occurrences of an item in the training data to enter the catalog", default=1, group="data", low=1
    )
    valid_fraction: float = setting(
        "validation fraction of the sessions; 0 = none", default=0.1, group="data", low=0, high=0.5
    )
    test_fraction: float = setting(
        "test fraction of the sessions; 0 = none", default=0.1, group="data", low=0, high=0.5
    )
    hidden_size: int = inherited(JobSettings, "hidden_size", default=100)
    embedding_size: int = setting("size of item embeddings; 0 = hidden_size", default=0, low=0)
    tie_weights: bool = setting("share weights between item embeddings and output layer", default=True)
    dropout: float = inherited(JobSettings, "dropout", default=0.2, help="dropout probability before the item scores")
    hidden_dropout: float = setting("dropout probability between recurrent layers", default=0.2, low=0, high=0.95)
    input_dropout: float = setting("dropout probability on item embeddings", default=0.2, low=0, high=0.95)
    item_dropout: float = setting("dropout probability of whole catalog items per batch", default=0.0, low=0, high=0.95)
    batch_size: int = inherited(JobSettings, "batch_size", default=64, help="sessions per batch")
    lr: float = inherited(JobSettings, "lr", default=3e-3)
    max_items: int = setting(
        "maximum number of target items in a training window; longer sessions are split",
        default=50,
        group="training",
        low=1,
    )
    loss: str = setting(
        "loss function",
        default="cross-entropy",
        group="training",
        choices=("cross-entropy", "bpr-max", "top1-max"),
    )
    num_negatives: int = setting(
        "number of negative items sampled per batch; 0 = full catalog", default=0, group="training", low=0
    )
    sampling_alpha: float = setting(
        "exponent of item counts in negative sampling; 0 = uniform, 1 = by popularity",
        default=0.75,
        group="training",
        low=0,
    )
    bpr_reg: float = setting("weight of score regularization in the loss bpr-max", default=1.0, group="training", low=0)
    seen_items: str = setting(
        "recommend items already in the session: allow or exclude; also applies to baselines",
        default="allow",
        group="decoding",
        choices=SEEN_ITEMS,
    )
    split_strategy: str = setting(
        "evaluation split: latest sessions (temporal), or last items of each session (leave_one_out)",
        default="temporal",
        group="evaluation",
        choices=("temporal", "leave_one_out"),
    )
    eval_k: int = setting("k of Recall@k and MRR@k", default=20, group="evaluation", low=1)
