"""The settings that translation and summarization share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmkit.jobs.common.text_settings import TextSettings
from lstmkit.settings import inherited, setting, settings_class


@settings_class
class Seq2SeqSettings(TextSettings):
    """Settings of jobs that read one text and generate another one with an encoder-decoder."""

    extra: ClassVar[str] = "text"
    old_settings: ClassVar[Mapping[str, str]] = {
        "joint": "share_vocab",
        "copying": "copy_mechanism",
        "upper_layers": "post_attention_layers",
        "coverage": "coverage_weight",
        "sampling": "scheduled_sampling",
        "sampling_rise": "scheduled_sampling_steps",
        "tied": "tie_weights",
        "smoothing": "label_smoothing",
        "no_repeat": "no_repeat_ngram_size",
        "longest": "max_tokens",
        "longest_summary": "max_summary_tokens",
    }

    tokenization: str = inherited(TextSettings, "tokenization", default="bpe")
    vocab_size: int = inherited(
        TextSettings, "vocab_size", default=0, help="maximum number of tokens per vocabulary; 0 = all (8,000 with bpe)"
    )
    share_vocab: bool = setting(
        "one vocabulary and one embedding table for source and target", default=False, group="text"
    )
    copy_mechanism: bool = setting(
        "copy words from the source (pointer-generator), including out-of-vocabulary words; implies one shared "
        "vocabulary",
        default=False,
    )
    hidden_size: int = inherited(
        TextSettings, "hidden_size", default=256, help="hidden units per layer; in the encoder per direction"
    )
    num_layers: int = inherited(
        TextSettings,
        "num_layers",
        default=1,
        help="recurrent layers of the encoder, and of the decoder below the attention",
    )
    post_attention_layers: int = setting(
        "recurrent layers of the decoder above the attention", default=1, low=0, high=8
    )
    attention: str = setting("attention score function", default="additive", choices=("additive", "general", "dot"))
    input_feeding: bool = setting(
        "feed the attention vector to the decoder at the next step (Luong et al. 2015)", default=False
    )
    coverage_weight: float = setting(
        "weight of the coverage loss (See et al. 2017); above 0 also adds coverage to the attention; 0 = neither",
        default=0.0,
        low=0,
    )
    scheduled_sampling: float = setting(
        "scheduled sampling: probability of feeding the model's own token in training",
        default=0.0,
        group="training",
        low=0,
        high=1,
    )
    scheduled_sampling_steps: int = setting(
        "training steps over which the scheduled-sampling probability rises from 0",
        default=1000,
        group="training",
        low=0,
    )
    tie_weights: bool = setting("share weights between token embeddings and output layer", default=True)
    label_smoothing: float = setting("label smoothing", default=0.1, group="training", low=0, high=0.9)
    no_repeat_ngram_size: int = setting(
        "length in tokens of n-grams that are generated at most once; 0 = no limit", default=0, group="decoding", low=0
    )
    length_penalty: float = setting(
        "exponent of the length normalization of beam scores; 0 = none", default=1.0, group="decoding", low=0, high=5
    )
    dropout: float = inherited(
        TextSettings,
        "dropout",
        default=0.3,
        help="dropout probability between layers and before attention and output layer",
    )
    input_dropout: float = setting("dropout probability on token embeddings", default=0.3, low=0, high=0.95)
    word_dropout: float = setting(
        "dropout probability of whole vocabulary entries per batch (embedding dropout)", default=0.0, low=0, high=0.95
    )
    recurrent_dropout: float = setting(
        "dropout probability on the recurrent hidden state", default=0.0, low=0, high=0.95
    )
    epochs: int = inherited(TextSettings, "epochs", default=20)
    lr: float = inherited(TextSettings, "lr", default=2e-3)
    ema_decay: float = inherited(TextSettings, "ema_decay", default=0.999)
    valid_fraction: float = setting(
        "validation fraction of the pairs, before the test split", default=0.05, group="data", low=0, high=0.5
    )
    test_fraction: float = setting(
        "test fraction of the pairs, at the end of the data", default=0.05, group="data", low=0, high=0.5
    )

    @property
    def has_shared_vocab(self) -> bool:
        """Whether source and target share a vocabulary: the copy mechanism needs the same ids on both sides."""
        return self.share_vocab or self.copy_mechanism
