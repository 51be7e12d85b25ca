"""What is said of a text: frames from the model, step by step until it stops, and the sound of them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from lstmkit.data.audio.audio_io import WRITTEN, AudioClip, check_writable, encode_audio
from lstmkit.data.batch import Batch, Loader
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.decoding.generation import roll_out
from lstmkit.jobs.common.token_labels import shown
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.tacotron import StreamingDecoder, Tacotron, TacotronState
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

NATS_TO_DB = 10 / np.log(10)  #: In a natural logarithm of power.
_RANGE = 80 / NATS_TO_DB  # what is so far below the loudest is silence
_MAX_SLOWDOWN = 2.0  # than the slowest recording that was learnt: then it stops, whatever the stop token says
_ZIP_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # of files in a zip, so that the same speech makes the same file


@dataclass(frozen=True, eq=False)
class Speech:
    """What was said.

    Attributes:
        text: What was to be said.
        samples: ``(N,)`` float32, full scale is -1…1.
        rate: Samples a second.
        frames: ``(T, F)`` natural logarithms of the power in each mel band.
        tokens: What was read of the text, and its end, ``S`` in all.
        attention: ``(T / r, S)``: what each step of ``r`` frames attended to.
        stopped: Whether it ended by itself; else it was cut off as too long.
        unknown: Characters of the text that were never heard in training, and left out.
        heard: What a transcriber understood, if one was asked.
    """

    text: str
    samples: np.ndarray
    rate: int
    frames: np.ndarray
    tokens: tuple[str, ...]
    attention: np.ndarray
    stopped: bool
    unknown: tuple[str, ...] = ()
    heard: str | None = None

    @property
    def sound(self) -> AudioClip:
        return AudioClip(self.text, self.samples, self.rate)

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def line(self) -> str:
        """Length, text, and what must be known of them, on a line."""
        notes = [] if self.stopped else ["cut off"]
        notes += [f"left out: {' '.join(map(shown, self.unknown))}"] if self.unknown else []
        notes += [f"heard as: {self.heard}"] if self.heard is not None else []
        return "\t".join([f"{self.seconds:.2f} s", self.text, *notes])


def write_speech(answer: Sequence[Speech], path: Path) -> bool:
    """``NAME.wav`` (or ``.flac``, ``.ogg``), of several texts ``NAME-1.wav`` and so on; in a ``.zip`` are ``1.wav``, …

    Returns:
        Whether the name's ending asked for sound.
    """
    check_writable(path)
    ending = path.suffix.lower()
    if ending in WRITTEN:
        for i, one in enumerate(answer, 1):
            place = path if len(answer) == 1 else path.with_stem(f"{path.stem}-{i}")
            place.write_bytes(encode_audio(one.sound, ending))
    elif ending == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for i, one in enumerate(answer, 1):
                archive.writestr(zipfile.ZipInfo(f"{i}.wav", _ZIP_TIMESTAMP), encode_audio(one.sound))
    return ending in (*WRITTEN, ".zip")


class SpectrogramScaler(NamedTuple):
    """Frames as the network has them: each band of mean 0 and deviation 1 over the training part.

    Attributes:
        means, widths: ``(F,)``.
        floor: What is quieter is taken for this; what is more than 80 dB louder, for that.
    """

    means: np.ndarray
    widths: np.ndarray
    floor: float

    @classmethod
    def fit(cls, frames: Sequence[np.ndarray]) -> Self:
        """Of all ``(T, F)``; silence is 80 dB below the loudest band."""
        every = np.concatenate(frames).astype(np.float64)
        floor = float(every.max() - _RANGE)
        every = every.clip(min=floor)
        return cls(every.mean(0), every.std(0).clip(min=1e-3), floor)

    def clipped(self, frames: np.ndarray) -> np.ndarray:
        """No quieter than silence, no louder than the loudest that was learnt."""
        return frames.clip(np.float32(self.floor), np.float32(self.floor + _RANGE))

    def scaled(self, frames: np.ndarray) -> np.ndarray:
        return ((self.clipped(frames) - self.means) / self.widths).astype(np.float32)

    def unscale(self, frames: np.ndarray) -> np.ndarray:
        return self.clipped((frames * self.widths + self.means).astype(np.float32))


def pad_to_decoder_steps(frames: np.ndarray, together: int, floor: float) -> np.ndarray:
    """``(T, F)`` filled up with silence to a multiple of ``together``."""
    return np.pad(frames, ((0, -len(frames) % together), (0, 0)), constant_values=floor)


class Said(NamedTuple):
    """What a model told of one text.

    Attributes:
        frames: ``(T, F)``, scaled.
        attention: ``(T / r, S)``.
        stopped: Whether it ended by itself.
    """

    frames: np.ndarray
    attention: np.ndarray
    stopped: bool


def max_decoder_steps(ids: Sequence[np.ndarray], pace: float, longest: float, together: int) -> np.ndarray:
    """Steps after which each text is cut off.

    Args:
        ids: Of each its tokens.
        pace: Frames a token of the slowest recording.
        longest: Frames of a recording at most.
        together: Frames a step.
    """
    frames = [min(_MAX_SLOWDOWN * pace * len(one), longest) for one in ids]
    return np.maximum(1, np.ceil(np.array(frames) / together)).astype(np.int64)


def say(
    model: Model,
    ids: Sequence[np.ndarray],
    limits: np.ndarray,
    batch_size: int,
    device: torch.device,
    progress: Progress | None = None,
) -> list[Said]:
    """Read texts, ``(S,)`` each, and tell their frames, each until it stops or for ``limits`` steps at most."""
    bands = members(model)[0].decoder.frame_size

    def decode(model: Model, batch: Batch) -> list[Said]:
        assert batch.rows is not None
        assert batch.lengths is not None
        most = torch.from_numpy(limits[batch.rows]).to(batch.inputs.device)
        attention: list[Tensor] = []
        going = torch.ones_like(most, dtype=torch.bool)

        def one(told: Tensor, t: int, live: list[StreamingDecoder]) -> tuple[Tensor, list[StreamingDecoder]]:
            each = [member(told[:, -bands - 1 : -1]) for member in live]
            told, weights = (torch.stack(parts).mean(0) for parts in zip(*each, strict=True))
            attention.append(weights)
            return told, live

        def over(told: Tensor, t: int) -> bool:
            going.logical_and_((told[:, -1] <= 0) & (t + 1 < most))
            return not bool(going.any())

        begun = [member(batch.inputs, None, batch.lengths)[1] for member in members(model)]
        live = [StreamingDecoder(of.decoder, TacotronState(*at)) for of, at in zip(members(model), begun, strict=True)]
        together = members(model)[0].decoder.together
        silence = batch.inputs.new_zeros((len(batch), together * bands + 1), dtype=torch.float32)
        told = roll_out(one, silence, live, int(most.max()), over).float().cpu()
        weights = torch.stack(attention, 1).float().cpu().numpy()
        found = []
        for row, (limit, read) in enumerate(zip(most.tolist(), batch.lengths.tolist(), strict=True)):
            ends = (told[row, :limit, -1] > 0).nonzero().flatten().tolist()
            steps = ends[0] + 1 if ends else limit
            frames = told[row, :steps, :-1].reshape(-1, bands).numpy()
            found.append(Said(frames, weights[row, :steps, :read], bool(ends)))
        return found

    loader = Loader(TextPairDataset(list(ids)), batch_size)
    return predict(model, loader, decode, device=device, progress=progress, title="speaking")


def teacher_forced(
    model: Model, source: TextPairDataset, batch_size: int, device: torch.device, progress: Progress | None = None
) -> list[np.ndarray]:
    """``(T, F)``, scaled: of each recording what is told where the true frames before every step are heard."""

    def decode(model: Model, batch: Batch) -> list[np.ndarray]:
        assert batch.target_lengths is not None
        told = torch.stack([member.teacher_forced(batch).frames for member in members(model)]).mean(0).flatten(1, 2)
        return [one[:n].float().cpu().numpy() for one, n in zip(told, batch.target_lengths.tolist(), strict=True)]

    return predict(model, Loader(source, batch_size), decode, device=device, progress=progress, title="listening")


def members(model: Model | torch.nn.Module) -> list[Tacotron]:
    """The one network, or those of an ensemble."""
    every: Iterable[Any] = model.members if isinstance(model, Ensemble) else [model]
    found = []
    for member in every:
        assert isinstance(member, Tacotron)
        found.append(member)
    return found


def loaded(transcriber: Any) -> Any:
    """The object itself, or the model in that run folder."""
    if not isinstance(transcriber, (str, Path)):
        return transcriber
    from lstmkit.jobs import load

    return load(transcriber)
