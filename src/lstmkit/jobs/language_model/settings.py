"""The settings of language models."""

from __future__ import annotations

from typing import ClassVar

from lstmkit.jobs.settings import JobSettings
from lstmkit.settings import setting, settings_class


@settings_class
class LanguageModelSettings(JobSettings):
    """Settings of :class:`lstmkit.LanguageModel`."""

    name: ClassVar[str] = "language_model"
    summary: ClassVar[str] = "Model text by words, characters or subword units; score and generate text."
    extra: ClassVar[str] = "text"
    old_settings: ClassVar = {
        "tokens": "tokenization",
        "vocabulary": "vocab_size",
        "at_least": "min_count",
        "lower": "lowercase",
        "embed_size": "embedding_size",
        "tied": "tie_weights",
        "layer_dropout": "hidden_dropout",
        "activation": "activation_reg",
        "slowness": "temporal_activation_reg",
        "window": "bptt_steps",
        "ngram": "ngram_order",
        "cache": "cache_size",
        "dynamic": "dynamic_eval_lr",
    }
    old_choices: ClassVar = {"tokenization": {"spaces": "whitespace"}}

    tokenization: str = setting(
        "tokenization: words and punctuation (words), split at spaces (whitespace), characters (chars) or subword "
        "units (bpe)",
        default="words",
        group="text",
        choices=("whitespace", "words", "chars", "bpe"),
    )
    vocab_size: int = setting(
        "maximum number of tokens in the vocabulary; 0 = all (8,000 with bpe)", default=0, group="text", low=0
    )
    min_count: int = setting(
        "minimum occurrences of a token in the training data to enter the vocabulary", default=1, group="text", low=1
    )
    lowercase: bool = setting("convert text to lowercase", default=False, group="text")
    hidden_size: int = setting("hidden units per layer", default=200, low=1)
    num_layers: int = setting("number of recurrent layers", default=2, low=1)
    embedding_size: int = setting("size of token embeddings; 0 = hidden_size", default=0, low=0)
    tie_weights: bool = setting("share weights between token embeddings and output layer", default=True)
    cutoffs: tuple[int, ...] = setting(
        "cutoffs of the adaptive softmax: token ranks by frequency; empty = full softmax", default=(), low=1
    )
    dropout: float = setting("dropout probability before the output layer", default=0.3, low=0, high=0.95)
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
    batch_size: int = setting("parallel token streams per batch", default=20, group="training", low=1)
    lr: float = setting("peak learning rate", default=5e-3, group="training", low=0)
    max_grad_norm: float = setting("maximum gradient norm; 0 = no clipping", default=0.5, group="training", low=0)
    ema_decay: float = setting(
        "decay of the exponential moving average of weights; 0 = no averaging",
        default=0.999,
        group="training",
        low=0,
        high=1,
    )
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
