"""Surprisal, perplexity and bits per character of a text: plain, with a neural cache, and with dynamic evaluation."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.data.text.lines import Text
from lstmkit.data.text.token_stream import TokenStreamLoader
from lstmkit.data.text.tokenizer import UNKNOWN
from lstmkit.errors import SettingError
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.language_model.baselines import KneserNey
from lstmkit.jobs.language_model.predictor import CacheSettings, LanguageModelPredictor, TokenStream
from lstmkit.layers.quantization import has_int8_weights
from lstmkit.models.base import Model, map_state
from lstmkit.models.sequence import NextTokenModel
from lstmkit.progress import Progress
from lstmkit.training.train import online_sgd

_WINDOW = 200  # steps computed at once; the results do not depend on it
_CACHE_WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.3)  # grid for the validation split
_THETAS = (0.2, 0.4, 0.7, 1.0)
_MAX_NGRAM_TOKENS = 5_000_000  # training tokens of the n-gram baseline, which is held in memory


def evaluate_text(
    predictor: LanguageModelPredictor,
    test: Text,
    train_stream: TokenStream | None,
    progress: Progress,
    cache: CacheSettings | None = None,
    dynamic_eval_lr: float = 0.0,
) -> Evaluation:
    """Perplexity and bits per character of the model and of the n-gram baselines.

    Args:
        predictor: The model.
        test: A text that the model was not fitted to.
        train_stream: The training split, for the n-grams; without it only unigrams are compared.
        progress: Where to report progress.
        cache: A neural cache to score next to the model.
        dynamic_eval_lr: Learning rate of dynamic evaluation, scored next to the model; 0 for none.

    Raises:
        SettingError: There is a learning rate, and the weights are in 8 bits.
    """
    if dynamic_eval_lr and has_int8_weights(predictor.network):
        raise SettingError("weights in 8 bits do not learn: use dynamic_eval_lr=0")
    settings, device = predictor.settings, predictor.device
    stream = predictor.read_stream(test, progress)
    ids = predictor.with_line_start(stream.ids)
    label = settings.cell.upper()
    nats = {label: token_surprisal(predictor.model, ids, device, progress)}
    notes = [
        f"{len(stream.ids):,} tokens, {stream.characters:,} characters; the state is carried through the text. "
        f"Out-of-vocabulary tokens: {_unknown_fraction(predictor, stream):.2%}; they are scored as <unk>."
    ]
    if cache is not None:
        name = f"{label} + cache ({cache.size})"
        nats[name] = cache_surprisal(predictor.network, ids, cache, device, progress)
    if dynamic_eval_lr:
        name = f"{label} + dynamic evaluation"
        steps = settings.bptt_steps
        nats[name] = dynamic_eval_surprisal(predictor.network, ids, dynamic_eval_lr, steps, device, progress)
    if len(nats) > 1:
        notes.append("The cache and dynamic evaluation use the text up to each token.")
    nats |= _baseline_surprisal(predictor, ids, train_stream)
    missing = ("Kneser-Ney n-grams",) if train_stream is None else ()
    rows = [
        {
            "model": name,
            "perplexity": float(np.exp(values.mean())),
            "bits per character": float(values.sum() / math.log(2) / stream.characters),
        }
        for name, values in nats.items()
    ]
    details = pd.DataFrame({"token": predictor.tokenizer.tokens(ids[1:]), **nats})
    return Evaluation(
        pd.DataFrame(rows),
        {"perplexity": "low", "bits per character": "low"},
        details,
        tuple(notes),
        missing_baselines=missing,
        examples=ScoredExamples(len(stream.ids), "tokens"),
    )


def _unknown_fraction(predictor: LanguageModelPredictor, stream: TokenStream) -> float:
    if UNKNOWN not in predictor.tokenizer:
        return 0.0
    return float((stream.ids == predictor.tokenizer[UNKNOWN]).mean())


def _baseline_surprisal(
    predictor: LanguageModelPredictor, ids: np.ndarray, train_stream: TokenStream | None
) -> dict[str, np.ndarray]:
    """``(N - 1,)`` nats of each token after the first: Kneser-Ney n-grams, then add-one unigrams."""
    counts, size = predictor.unigram_counts, predictor.vocab_size
    unigrams = (counts + 1) / (counts.sum() + size)
    nats = {"unigram": -np.log(unigrams[ids[1:]])}
    if train_stream is None:
        return nats
    order = predictor.settings.ngram_order or (7 if predictor.settings.tokenization == "chars" else 5)
    ngrams = KneserNey(predictor.with_line_start(train_stream.ids[-_MAX_NGRAM_TOKENS:]), order, size)
    part = f" of the last {_MAX_NGRAM_TOKENS:,} tokens" if len(train_stream.ids) > _MAX_NGRAM_TOKENS else ""
    return {f"Kneser-Ney, {order}-grams{part}": -np.log(ngrams.probabilities(ids)[1:]), **nats}


@torch.no_grad()
def token_surprisal(model: Model, ids: np.ndarray, device: torch.device, progress: Progress) -> np.ndarray:
    """``(N - 1,)`` nats of each token of ``ids (N,)`` after the first; the state is carried through the whole text."""
    nats = []
    for batch, state in _windows(model, ids, device, progress):
        logits, state[0] = model(batch.inputs, state[0])
        nats.append(F.cross_entropy(logits[0], batch.targets[0], reduction="none"))
    return torch.cat(nats).double().cpu().numpy()


@torch.no_grad()
def cache_surprisal(
    model: NextTokenModel, ids: np.ndarray, cache: CacheSettings, device: torch.device, progress: Progress
) -> np.ndarray:
    """As :func:`token_surprisal`, with each probability interpolated with the cache's."""
    model_log_p, cache_p = [], []
    for log_p, matches in _cache_matches(model, ids, cache.size, (cache.theta,), device, progress):
        model_log_p.append(log_p)
        cache_p.append(matches[0])
    return -_interpolate(torch.cat(model_log_p), torch.cat(cache_p), cache.weight).cpu().numpy()


@torch.no_grad()
def choose_cache(
    model: NextTokenModel, ids: np.ndarray, size: int, device: torch.device, progress: Progress
) -> CacheSettings:
    """The cache weight and theta of the lowest surprisal on a text, the validation split."""
    windows = _cache_matches(model, ids, size, _THETAS, device, progress)
    model_log_p, cache_p = zip(*windows, strict=True)
    log_p, matches = torch.cat(model_log_p), torch.cat(cache_p, dim=1)
    mean_log_p = {
        (weight, theta): float(_interpolate(log_p, matches[i], weight).mean())
        for i, theta in enumerate(_THETAS)
        for weight in _CACHE_WEIGHTS
    }
    return CacheSettings(size, *max(mean_log_p, key=mean_log_p.__getitem__))


def dynamic_eval_surprisal(
    model: NextTokenModel, ids: np.ndarray, lr: float, window: int, device: torch.device, progress: Progress
) -> np.ndarray:
    """As :func:`token_surprisal`, of a copy of the model that takes an SGD step after each scored window.

    Dynamic evaluation (Krause et al. 2018) in its plain form: every token is scored before the model learns it.
    """
    learner = copy.deepcopy(model)
    learn = online_sgd(learner, lr, clip=1.0)
    nats = []
    for batch, state in _windows(learner, ids, device, progress, window):
        logits, state[0] = learner(batch.inputs, map_state(state[0], Tensor.detach))
        losses = F.cross_entropy(logits[0], batch.targets[0], reduction="none")
        learn(losses.mean())
        nats.append(losses.detach())
    return torch.cat(nats).double().cpu().numpy()


class _Window(NamedTuple):
    inputs: Tensor
    targets: Tensor


def _windows(
    model: Model, ids: np.ndarray, device: torch.device, progress: Progress, window: int = _WINDOW
) -> Iterator[tuple[_Window, list]]:
    """The windows of a text, and a list that holds the carried state."""
    model.to(device).eval()
    loader, state = TokenStreamLoader(ids, 1, window), [None]
    with progress.task("scoring", len(loader)) as task:
        for i, batch in enumerate(loader.epoch()):
            assert batch.targets is not None
            yield _Window(batch.inputs.to(device), batch.targets.to(device)), state
            task.update(i + 1)


def _cache_matches(
    model: NextTokenModel,
    ids: np.ndarray,
    size: int,
    thetas: tuple[float, ...],
    device: torch.device,
    progress: Progress,
) -> Iterator[tuple[Tensor, Tensor]]:
    """By window: the model's log-probability of each token, ``(T,)``, and the cache's probability, ``(thetas, T)``."""
    keys = torch.zeros(0, 1, device=device)
    words = torch.zeros(0, dtype=torch.long, device=device)
    for batch, state in _windows(model, ids, device, progress):
        features, state[0] = model.features(batch.inputs, state[0])
        logits, queries = model.head(features)[0], F.normalize(features[0], dim=-1)
        keys = torch.cat([keys, queries])[-size - len(queries) :] if len(keys) else queries
        words = torch.cat([words, batch.targets[0]])[-size - len(queries) :]
        steps = torch.arange(len(keys) - len(queries), len(keys), device=device).unsqueeze(1)
        entries = torch.arange(len(keys), device=device)
        in_cache = (entries < steps) & (entries >= steps - size)
        same_word = words == batch.targets[0].unsqueeze(1)
        similarity = (queries @ keys.t()) * queries.shape[1] ** 0.5
        matches = []
        for theta in thetas:
            weights = (theta * similarity).masked_fill(~in_cache, -torch.inf).softmax(-1).nan_to_num()
            matches.append(torch.where(same_word, weights, 0.0).sum(-1))
        yield -F.cross_entropy(logits, batch.targets[0], reduction="none"), torch.stack(matches)


def _interpolate(log_p: Tensor, cache_p: Tensor, weight: float) -> Tensor:
    return ((1 - weight) * log_p.double().exp() + weight * cache_p.double()).log()
