"""Speech synthesis end to end, compared with plain torch.nn: same weights, same frames, seconds of audio per second.

A training step is forward, loss, backward, gradient clipping and AdamW. Synthesis goes from a text to mel frames, one
decoder step after another, then to audio by Griffin-Lim, which is the same for both. The unit is seconds of audio per
second, the inverse of the real-time factor. The peer is the usual code: nn.LSTMCell in the decoder, also in training,
and the attention of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from end_to_end import AS_TRAINED, AUDIO, main, row, stepper
from lstmkit import LSTM
from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.data.audio.mel_inversion import mel_to_audio
from lstmkit.data.batch import Batch
from lstmkit.models.tacotron import StreamingDecoder, Tacotron, TacotronDecoder, guided_attention_penalty
from lstmkit.modules.attention import LocationAttention
from lstmkit.modules.encoders import PreNet, TokenEncoder
from lstmkit.training.optimization import optimizer_for
from timing import in_turns

TOKENS, WIDTH = 30, 15  # vocabulary size; kernel size of the location-sensitive attention


@dataclass(frozen=True)
class Case:
    """A model and its batch."""

    name: str
    sample_rate: int
    hidden: int
    prenet_size: int
    attention_size: int
    reduction_factor: int
    batch: int
    text_length: int
    steps: int

    @property
    def mel(self) -> LogMelSpectrogram:
        return LogMelSpectrogram(self.sample_rate, 80, 0.05, 0.0125)

    @property
    def seconds(self) -> float:
        """Seconds of audio per text."""
        return self.steps * self.reduction_factor * self.mel.hop_length / self.sample_rate


CASES = (
    Case("digits, 8 kHz", 8000, 128, 64, 64, 3, 32, 12, 40),
    Case("sentences, 22 kHz", 22_050, 192, 96, 96, 5, 16, 100, 110),
)


class Peer(nn.Module):
    """The peer: the usual model in plain torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        h, keys, bands = case.hidden, 2 * case.hidden, case.mel.n_mels
        self.case = case
        self.embedding = nn.Embedding(TOKENS, h)
        self.reader = nn.LSTM(h, h, batch_first=True, bidirectional=True)
        self.first, self.second = nn.Linear(bands, case.prenet_size), nn.Linear(case.prenet_size, case.prenet_size)
        self.lower, self.upper = nn.LSTMCell(case.prenet_size, h), nn.LSTMCell(h + keys, h)
        self.lower_start, self.upper_start = nn.Linear(keys, 2 * h), nn.Linear(keys, 2 * h)
        self.query, self.key = nn.Linear(h, case.attention_size), nn.Linear(keys, case.attention_size, bias=False)
        self.location = nn.Conv1d(1, case.attention_size, WIDTH, padding=WIDTH // 2, bias=False)
        self.value = nn.Linear(case.attention_size, 1, bias=False)
        self.output = nn.Linear(h + keys, case.reduction_factor * bands + 1)

    def begin(self, ids: Tensor) -> tuple[Any, ...]:
        keys, _ = self.reader(self.embedding(ids))
        lower, upper = (
            tuple(torch.tanh(start(keys.mean(1))).chunk(2, -1)) for start in (self.lower_start, self.upper_start)
        )
        return keys, self.key(keys), lower, upper, keys.new_zeros(keys.shape[:2])

    def step(self, frame: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        keys, prepared, lower, upper, covered = state
        features = F.relu(self.second(F.relu(self.first(frame))))
        lower = self.lower(features, lower)
        location = self.location(covered.unsqueeze(1)).transpose(1, 2)
        energies = self.query(lower[0]).unsqueeze(1) + prepared + location
        weights = self.value(torch.tanh(energies)).squeeze(-1).softmax(-1)
        context = torch.bmm(weights.unsqueeze(1), keys).squeeze(1)
        upper = self.upper(torch.cat([lower[0], context], -1), upper)
        outputs = self.output(torch.cat([upper[0], context], -1))
        return outputs, weights, (keys, prepared, lower, upper, covered + weights)

    def loss(self, ids: Tensor, frames: Tensor) -> Tensor:
        """The loss of recordings of equal length."""
        r, bands = self.case.reduction_factor, frames.shape[2]
        state, predicted, attended = self.begin(ids), [], []
        for t in range(frames.shape[1] // r):
            previous = frames[:, t * r - 1] if t else torch.zeros_like(frames[:, 0])
            outputs, weights, state = self.step(previous, state)
            predicted.append(outputs)
            attended.append(weights)
        outputs, weights = torch.stack(predicted, 1), torch.stack(attended, 1)
        error = outputs[..., :-1].reshape(frames.shape[0], -1, bands) - frames
        last = torch.zeros_like(outputs[..., -1])
        last[:, -1] = 1
        stop = F.binary_cross_entropy_with_logits(outputs[..., -1], last, pos_weight=torch.tensor(5.0))
        text_lengths, steps = (torch.full((len(ids),), n) for n in (ids.shape[1], outputs.shape[1]))
        penalty = guided_attention_penalty(weights, text_lengths, steps, 0.2).mean()
        return (error.abs().mean() + error.square().mean()) / 2 + stop + penalty


def lstmkit_model(case: Case, peer: Peer) -> Tacotron:
    """The model of lstmkit with the weights of the peer."""
    h, keys, bands = case.hidden, 2 * case.hidden, case.mel.n_mels
    trunk = LSTM(h, h, batch_first=True, bidirectional=True)
    decoder = TacotronDecoder(
        PreNet(bands, case.prenet_size, 0.0),
        LSTM(case.prenet_size, h, batch_first=True),
        LocationAttention(h, keys, case.attention_size, WIDTH),
        LSTM(h + keys, h, batch_first=True),
        keys,
        bands,
        case.reduction_factor,
    )
    model = Tacotron(TokenEncoder(TOKENS, h), trunk, decoder)
    model.encoder.embedding.load_state_dict(peer.embedding.state_dict())
    trunk.load_state_dict(peer.reader.state_dict())
    pairs = [
        (decoder.prenet.first, peer.first), (decoder.prenet.second, peer.second), (decoder.linear, peer.output),
        (decoder.lower_bridge.linear, peer.lower_start), (decoder.upper_bridge.linear, peer.upper_start),
        (decoder.attention.query, peer.query), (decoder.attention.key, peer.key),
        (decoder.attention.value, peer.value),
    ]  # fmt: skip
    for module, peer_module in pairs:
        module.load_state_dict(peer_module.state_dict())
    for layer, cell in ((decoder.lower, peer.lower), (decoder.upper, peer.upper)):
        layer.load_state_dict({f"{name}_l0": weight for name, weight in cell.state_dict().items()})
    with torch.no_grad():
        decoder.attention.around.weight.copy_(peer.location.weight[:, 0])
    return model


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training in frames per second, two for synthesis in seconds of audio per second."""
    torch.manual_seed(0)
    peer = Peer(case)
    model = lstmkit_model(case, peer)
    ids = torch.randint(TOKENS, (case.batch, case.text_length))
    frames = torch.randn(case.batch, case.steps * case.reduction_factor, case.mel.n_mels)
    batch = Batch(ids, torch.full((case.batch,), case.text_length), frames, torch.full((case.batch,), frames.shape[1]))
    steppers = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), lambda: peer.loss(ids, frames)),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-4, atol=1e-4)
    training = row(case, "training", frames.shape[0] * frames.shape[1], in_turns(steppers, seconds))

    model.load_state_dict(lstmkit_model(case, peer).state_dict())
    model.eval()
    synthesizers = (
        synthesizer(
            lambda frame, live: (live(frame)[0], live), lambda: StreamingDecoder(model.decoder, model(ids[:1])[1]), case
        ),
        synthesizer(lambda frame, state: peer.step(frame, state)[::2], lambda: peer.begin(ids[:1]), case),
    )
    torch.testing.assert_close(*(synthesize() for synthesize in synthesizers), rtol=1e-3, atol=1e-3)
    mel_frames = row(case, "mel synthesis", case.seconds, in_turns(synthesizers, seconds), AUDIO)
    with_audio = [lambda synthesize=synthesize: to_audio(case, synthesize()) for synthesize in synthesizers]
    return [training, mel_frames, row(case, "audio synthesis", case.seconds, in_turns(with_audio, seconds), AUDIO)]


def to_audio(case: Case, frames: Tensor) -> np.ndarray:
    """Samples by Griffin-Lim; frames are clipped, because those of an untrained model have no natural range."""
    return mel_to_audio(case.mel, frames.reshape(-1, case.mel.n_mels).numpy().clip(-20, 5))


def synthesizer(step: Any, begin: Any, case: Case) -> Any:
    """A function that synthesizes the frames of one text, step by step."""
    bands = case.mel.n_mels

    @torch.inference_mode()
    def synthesize() -> Tensor:
        state, frame, steps = begin(), torch.zeros(1, bands), []
        for _ in range(case.steps):
            outputs, state = step(frame, state)
            frame = outputs[:, -bands - 1 : -1]
            steps.append(outputs[:, :-1])
        return torch.stack(steps, 1)

    return synthesize


if __name__ == "__main__":
    main(__doc__, CASES, measure, "speech_synthesizer", "frames", threads=(1, 2))
