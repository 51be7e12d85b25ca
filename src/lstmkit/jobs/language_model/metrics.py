"""How surprised a language model is by a text, token by token: as it is, with a cache, or learning as it reads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.data.text.token_stream import TokenStreamLoader
from lstmkit.models.base import Model, map_state
from lstmkit.models.sequence import NextTokenModel
from lstmkit.progress import Progress
from lstmkit.training.train import online_sgd

_WINDOW = 200  # steps computed together; what they are makes no difference
_CACHE_WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.3)  # of the cache, tried on the validation part
_THETAS = (0.2, 0.4, 0.7, 1.0)


class CacheSettings(NamedTuple):
    """The neural cache of Grave, Joulin and Usunier 2017, "Improving Neural Language Models with a Continuous Cache".

    Attributes:
        size: Steps of the past that it looks back on.
        share: Its part in the probability.
        flatness: How sharply it prefers the most similar features (their theta, of features of length 1).
    """

    size: int
    share: float
    theta: float


@torch.no_grad()
def surprise(model: Model, ids: np.ndarray, device: torch.device, progress: Progress) -> np.ndarray:
    """``(N - 1,)`` nats of each token of ``ids (N,)`` after the first, the state carried through the whole text."""
    told = []
    for batch, state in _windows(model, ids, device, progress):
        logits, state[0] = model(batch.inputs, state[0])
        told.append(F.cross_entropy(logits[0], batch.targets[0], reduction="none"))
    return torch.cat(told).double().cpu().numpy()


@torch.no_grad()
def cache_surprisal(
    model: NextTokenModel, ids: np.ndarray, cache: CacheSettings, device: torch.device, progress: Progress
) -> np.ndarray:
    """As :func:`surprise`, each probability mixed with the cache's."""
    plain, found = [], []
    for log_p, matches in _cache_matches(model, ids, cache.size, (cache.theta,), device, progress):
        plain.append(log_p)
        found.append(matches[0])
    return -_mixed(torch.cat(plain), torch.cat(found), cache.share).cpu().numpy()


@torch.no_grad()
def choose_cache(
    model: NextTokenModel, ids: np.ndarray, size: int, device: torch.device, progress: Progress
) -> CacheSettings:
    """Share and flatness under which a text, the validation part, surprises least."""
    plain, found = zip(*_cache_matches(model, ids, size, _THETAS, device, progress), strict=True)
    log_p, matches = torch.cat(plain), torch.cat(found, dim=1)
    tried = {
        (share, theta): float(_mixed(log_p, matches[i], share).mean())
        for i, theta in enumerate(_THETAS)
        for share in _CACHE_WEIGHTS
    }
    return CacheSettings(size, *max(tried, key=tried.__getitem__))


def dynamic_eval_surprisal(
    model: NextTokenModel, ids: np.ndarray, lr: float, window: int, device: torch.device, progress: Progress
) -> np.ndarray:
    """As :func:`surprise`, of a copy of the model that takes a step of SGD after each window it was scored on.

    Dynamic evaluation (Krause et al. 2018), in its plain form: every token is scored before it is learnt.
    """
    reader = copy.deepcopy(model)
    learn = online_sgd(reader, lr, clip=1.0)
    told = []
    for batch, state in _windows(reader, ids, device, progress, window):
        logits, state[0] = reader(batch.inputs, map_state(state[0], Tensor.detach))
        losses = F.cross_entropy(logits[0], batch.targets[0], reduction="none")
        learn(losses.mean())
        told.append(losses.detach())
    return torch.cat(told).double().cpu().numpy()


class _Chunk(NamedTuple):
    inputs: Tensor
    targets: Tensor


def _windows(
    model: Model, ids: np.ndarray, device: torch.device, progress: Progress, window: int = _WINDOW
) -> Iterator[tuple[_Chunk, list]]:
    """The text in pieces, and a place for the state, which is carried."""
    model.to(device).eval()
    loader, state = TokenStreamLoader(ids, 1, window), [None]
    with progress.task("scoring", len(loader)) as task:
        for i, batch in enumerate(loader.epoch()):
            assert batch.targets is not None
            yield _Chunk(batch.inputs.to(device), batch.targets.to(device)), state
            task.update(i + 1)


def _cache_matches(
    model: NextTokenModel, ids: np.ndarray, size: int, flatnesses: tuple[float, ...], device: torch.device,
    progress: Progress,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Window by window the log-probability of each token, ``(T,)``, and the cache's probability, ``(flatness, T)``."""
    past = torch.zeros(0, 1, device=device)
    words = torch.zeros(0, dtype=torch.long, device=device)
    for batch, state in _windows(model, ids, device, progress):
        features, state[0] = model.features(batch.inputs, state[0])
        logits, here = model.head(features)[0], F.normalize(features[0], dim=-1)
        past = torch.cat([past, here])[-size - len(here) :] if len(past) else here
        words = torch.cat([words, batch.targets[0]])[-size - len(here) :]
        steps = torch.arange(len(past) - len(here), len(past), device=device).unsqueeze(1)
        entries = torch.arange(len(past), device=device)
        seen = (entries < steps) & (entries >= steps - size)
        same = words == batch.targets[0].unsqueeze(1)
        alike = (here @ past.t()) * here.shape[1] ** 0.5
        matches = [
            torch.where(same, (theta * alike).masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num(), 0.0).sum(-1)
            for theta in flatnesses
        ]
        yield -F.cross_entropy(logits, batch.targets[0], reduction="none"), torch.stack(matches)


def _mixed(log_p: Tensor, match: Tensor, share: float) -> Tensor:
    return ((1 - share) * log_p.double().exp() + share * match.double()).log()
