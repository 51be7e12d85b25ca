"""The settings of language models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.common.text_settings import TextSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class LanguageModelSettings(TextSettings):
    """Settings of :class:`lstmkit.LanguageModel`."""

    name: ClassVar[str] = "language_model"
    summary: ClassVar[str] = "Model text by words, characters or subword units; score and generate text."
    extra: ClassVar[str] = "text"
    pipeline_tags: ClassVar[Mapping[str, str]] = {"": "text-generation"}
    old_settings: ClassVar[Mapping[str, str]] = {
        "tied": "tie_weights",
        "layer_dropout": "hidden_dropout",
        "activation": "activation_reg",
        "slowness": "temporal_activation_reg",
        "window": "bptt_steps",
        "ngram": "ngram_order",
        "cache": "cache_size",
        "dynamic": "dynamic_eval_lr",
    }

    hidden_size: int = inherited(TextSettings, "hidden_size", default=200)
    num_layers: int = inherited(TextSettings, "num_layers", default=2)
    tie_weights: bool = setting("share weights between token embeddings and output layer", default=True)
    cutoffs: tuple[int, ...] = setting(
        "cutoffs of the adaptive softmax: token ranks by frequency; empty = full softmax", default=(), low=1
    )
    dropout: float = inherited(TextSettings, "dropout", default=0.3, help="dropout probability before the output layer")
    hidden_dropout: float = setting("dropout probability between recurrent layers", default=0.2, low=0, high=0.95)
    input_dropout: float = setting("dropout probability on token embeddings", default=0.2, low=0, high=0.95)
    word_dropout: float = setting(
        "dropout probability of whole vocabulary entries per batch (embedding dropout)", default=0.05, low=0, high=0.95
    )
    weight_drop: float = setting(
        "DropConnect probability on recurrent weights (AWD-LSTM)", default=0.0, low=0, high=0.95
    )
    recurrent_dropout: float = setting(
        "dropout probability on the recurrent hidden state", default=0.0, low=0, high=0.95
    )
    activation_reg: float = setting("weight of activation regularization (AR)", default=0.0, low=0)
    temporal_activation_reg: float = setting("weight of temporal activation regularization (TAR)", default=0.0, low=0)
    bptt_steps: int = setting("steps of truncated backpropagation through time", default=35, group="training", low=1)
    batch_size: int = inherited(TextSettings, "batch_size", default=20, help="parallel token streams per batch")
    lr: float = inherited(TextSettings, "lr", default=5e-3)
    max_grad_norm: float = inherited(TextSettings, "max_grad_norm", default=0.5)
    ema_decay: float = inherited(TextSettings, "ema_decay", default=0.999)
    valid_fraction: float = setting(
        "validation fraction of the lines, before the test part", default=0.05, group="data", low=0, high=0.5
    )
    test_fraction: float = setting(
        "test fraction of the lines, at the end of the text", default=0.05, group="data", low=0, high=0.5
    )
    ngram_order: int = setting(
        "order of the n-gram baseline; 0 = 5, or 7 for characters", default=0, group="evaluation", low=0, high=20
    )
    cache_size: int = setting(
        "size in tokens of the neural cache, evaluated next to the model; 0 = none",
        default=0,
        group="evaluation",
        low=0,
    )
    dynamic_eval_lr: float = setting(
        "learning rate of dynamic evaluation, evaluated next to the model; 0 = none",
        default=0.0,
        group="evaluation",
        low=0,
    )
