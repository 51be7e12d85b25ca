"""Speech synthesis end to end beside a plain model of torch.nn: the same weights, the same frames, how fast it speaks.

A training step is all of it: forward, loss, backward, clipping, AdamW. Speaking is from a text to samples, one step of
frames after another, then Griffin-Lim; its unit is seconds of sound a second, the inverse of the real-time factor. The
peer is what one writes with torch.nn: LSTMCell in the decoder, one step after another in training too, and the
attention as its paper has it. Griffin-Lim is the same for both: "frames" is without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from end_to_end import AS_TRAINED, SOUND, main, row, stepper
from lstmkit import LSTM
from lstmkit.data.audio.griffin_lim import mel_to_audio
from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.data.batch import Batch
from lstmkit.models.tacotron import StreamingDecoder, Tacotron, TacotronDecoder, guided_attention_penalty
from lstmkit.modules.attention import LocationAttention
from lstmkit.modules.encoders import PreNet, TokenEncoder
from lstmkit.training.train import optimizer_for
from timing import in_turns

TOKENS, WIDTH = 30, 15  # characters there are; those that the attention sees around each


@dataclass(frozen=True)
class Case:
    """A model and its batch."""

    name: str
    rate: int
    hidden: int
    prenet: int
    attention: int
    together: int
    batch: int
    read: int
    steps: int

    @property
    def mel(self) -> LogMelSpectrogram:
        return LogMelSpectrogram(self.rate, 80, 0.05, 0.0125)

    @property
    def seconds(self) -> float:
        """Of sound, a text."""
        return self.steps * self.together * self.mel.step / self.rate


CASES = (
    Case("digits, 8 kHz", 8000, 128, 64, 64, 3, 32, 12, 40),
    Case("sentences, 22 kHz", 22_050, 192, 96, 96, 5, 16, 100, 110),
)


class Plain(nn.Module):
    """As one writes it with torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        h, keys, bands = case.hidden, 2 * case.hidden, case.mel.bands
        self.case = case
        self.embedding = nn.Embedding(TOKENS, h)
        self.reader = nn.LSTM(h, h, batch_first=True, bidirectional=True)
        self.first, self.second = nn.Linear(bands, case.prenet), nn.Linear(case.prenet, case.prenet)
        self.lower, self.upper = nn.LSTMCell(case.prenet, h), nn.LSTMCell(h + keys, h)
        self.lower_start, self.upper_start = nn.Linear(keys, 2 * h), nn.Linear(keys, 2 * h)
        self.query, self.key = nn.Linear(h, case.attention), nn.Linear(keys, case.attention, bias=False)
        self.around = nn.Conv1d(1, case.attention, WIDTH, padding=WIDTH // 2, bias=False)
        self.value = nn.Linear(case.attention, 1, bias=False)
        self.tell = nn.Linear(h + keys, case.together * bands + 1)

    def begin(self, ids: Tensor) -> tuple[Any, ...]:
        keys, _ = self.reader(self.embedding(ids))
        lower, upper = (
            tuple(torch.tanh(start(keys.mean(1))).chunk(2, -1)) for start in (self.lower_start, self.upper_start)
        )
        return keys, self.key(keys), lower, upper, keys.new_zeros(keys.shape[:2])

    def step(self, frame: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        keys, prepared, lower, upper, covered = state
        heard = F.relu(self.second(F.relu(self.first(frame))))
        lower = self.lower(heard, lower)
        seen = self.around(covered.unsqueeze(1)).transpose(1, 2)
        inside = self.query(lower[0]).unsqueeze(1) + prepared + seen
        weights = self.value(torch.tanh(inside)).squeeze(-1).softmax(-1)
        found = torch.bmm(weights.unsqueeze(1), keys).squeeze(1)
        upper = self.upper(torch.cat([lower[0], found], -1), upper)
        outputs = self.tell(torch.cat([upper[0], found], -1))
        return outputs, weights, (keys, prepared, lower, upper, covered + weights)

    def loss(self, ids: Tensor, frames: Tensor) -> Tensor:
        """Of recordings that are all as long."""
        r, bands = self.case.together, frames.shape[2]
        state, told, attended = self.begin(ids), [], []
        for t in range(frames.shape[1] // r):
            heard = frames[:, t * r - 1] if t else torch.zeros_like(frames[:, 0])
            outputs, weights, state = self.step(heard, state)
            told.append(outputs)
            attended.append(weights)
        outputs, weights = torch.stack(told, 1), torch.stack(attended, 1)
        error = outputs[..., :-1].reshape(frames.shape[0], -1, bands) - frames
        last = torch.zeros_like(outputs[..., -1])
        last[:, -1] = 1
        stop = F.binary_cross_entropy_with_logits(outputs[..., -1], last, pos_weight=torch.tensor(5.0))
        read, steps = (torch.full((len(ids),), n) for n in (ids.shape[1], outputs.shape[1]))
        off = guided_attention_penalty(weights, read, steps, 0.2).mean()
        return (error.abs().mean() + error.square().mean()) / 2 + stop + off


def ours(case: Case, plain: Plain) -> Tacotron:
    """Our model, with the peer's weights."""
    h, keys, bands = case.hidden, 2 * case.hidden, case.mel.bands
    trunk = LSTM(h, h, batch_first=True, bidirectional=True)
    decoder = TacotronDecoder(
        PreNet(bands, case.prenet, 0.0),
        LSTM(case.prenet, h, batch_first=True),
        LocationAttention(h, keys, case.attention, WIDTH),
        LSTM(h + keys, h, batch_first=True),
        keys,
        bands,
        case.together,
    )
    model = Tacotron(TokenEncoder(TOKENS, h), trunk, decoder)
    model.encoder.embedding.load_state_dict(plain.embedding.state_dict())
    trunk.load_state_dict(plain.reader.state_dict())
    pairs = [
        (decoder.prenet.first, plain.first), (decoder.prenet.second, plain.second), (decoder.tell, plain.tell),
        (decoder.lower_bridge.linear, plain.lower_start), (decoder.upper_bridge.linear, plain.upper_start),
        (decoder.attention.query, plain.query), (decoder.attention.key, plain.key),
        (decoder.attention.value, plain.value),
    ]  # fmt: skip
    for mine, theirs in pairs:
        mine.load_state_dict(theirs.state_dict())
    for mine, theirs in ((decoder.lower, plain.lower), (decoder.upper, plain.upper)):
        mine.load_state_dict({f"{name}_l0": weight for name, weight in theirs.state_dict().items()})
    with torch.no_grad():
        decoder.attention.around.weight.copy_(plain.around.weight[:, 0])
    return model


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """A row for training, in frames a second; one for speaking, in seconds of sound a second."""
    torch.manual_seed(0)
    plain = Plain(case)
    model = ours(case, plain)
    ids = torch.randint(TOKENS, (case.batch, case.read))
    frames = torch.randn(case.batch, case.steps * case.together, case.mel.bands)
    batch = Batch(ids, torch.full((case.batch,), case.read), frames, torch.full((case.batch,), frames.shape[1]))
    both = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(plain, torch.optim.AdamW(plain.parameters(), lr=AS_TRAINED.lr), lambda: plain.loss(ids, frames)),
    )
    for _ in range(3):  # the losses of three steps hang on all gradients
        torch.testing.assert_close(*(step() for step in both), rtol=1e-4, atol=1e-4)
    training = row(case, "training", frames.shape[0] * frames.shape[1], in_turns(both, seconds))

    model.load_state_dict(ours(case, plain).state_dict())
    model.eval()
    speakers = (
        speaker(
            lambda heard, live: (live(heard)[0], live), lambda: StreamingDecoder(model.decoder, model(ids[:1])[1]), case
        ),
        speaker(lambda heard, state: plain.step(heard, state)[::2], lambda: plain.begin(ids[:1]), case),
    )
    torch.testing.assert_close(*(speak() for speak in speakers), rtol=1e-3, atol=1e-3)
    frames_s = row(case, "frames", case.seconds, in_turns(speakers, seconds), SOUND)
    sounding = [lambda speak=speak: heard(case, speak()) for speak in speakers]
    return [training, frames_s, row(case, "speaking", case.seconds, in_turns(sounding, seconds), SOUND)]


def heard(case: Case, told: Tensor) -> np.ndarray:
    """Samples, by Griffin-Lim; the frames of a model that has learnt nothing are no louder than sound is."""
    return mel_to_audio(case.mel, told.reshape(-1, case.mel.bands).numpy().clip(-20, 5))


def speaker(step: Any, begin: Any, case: Case) -> Any:
    """One text, step by step."""
    bands = case.mel.bands

    @torch.inference_mode()
    def speak() -> Tensor:
        state, heard, found = begin(), torch.zeros(1, bands), []
        for _ in range(case.steps):
            outputs, state = step(heard, state)
            heard = outputs[:, -bands - 1 : -1]
            found.append(outputs[:, :-1])
        return torch.stack(found, 1)

    return speak


if __name__ == "__main__":
    main(__doc__, CASES, measure, "speech_synthesizer", "frames", threads=(1, 2))
