"""A speech synthesizer as graphs: text to the decoder's state, a step of the decoder, and frames to magnitudes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.data.audio.mel_inversion import power_of_bands
from lstmkit.data.text.tokenizer import END, UNKNOWN
from lstmkit.export.graphs import Graph, JobExport, State, flatten, step_graph
from lstmkit.jobs.speech_synthesizer.predictor import SpeechPredictor
from lstmkit.jobs.speech_synthesizer.synthesis import MAX_SLOWDOWN, synthesizer_networks
from lstmkit.models.tacotron import Tacotron, TacotronState


def exported_speech_synthesizer(predictor: SpeechPredictor) -> JobExport:
    """The graphs and the settings of a fitted speech synthesizer."""
    chosen, mel, scaler, tokenizer = predictor.settings, predictor.mel, predictor.scaler, predictor.tokenizer
    networks = synthesizer_networks(predictor.model)
    settings = {
        "tokenization": tokenizer.kind,
        "unknown_id": tokenizer[UNKNOWN],
        "end_id": tokenizer[END],
        "reduction_factor": chosen.reduction_factor,
        "max_frames_per_token": MAX_SLOWDOWN * predictor.frames_per_token[1],
        "max_frames": chosen.max_seconds * chosen.sample_rate / mel.hop_length,
        "means": scaler.means.tolist(),
        "stds": scaler.stds.tolist(),
        "floor": scaler.floor,
        "ceiling": scaler.ceiling,
        "iterations": chosen.griffin_lim_iterations,
        "sample_rate": chosen.sample_rate,
        "n_fft": mel.n_fft,
        "hop_length": mel.hop_length,
        "window_length": mel.window_length,
    }
    owner = nn.ModuleList(networks)
    encoder = _Encoder(networks)
    inputs = {"ids": torch.zeros(2, 3, dtype=torch.int64), "lengths": torch.tensor([3, 2])}
    with torch.no_grad():
        outputs = [f"state_{k}" for k in range(len(encoder(*inputs.values())))]
    graphs = {
        "encoder": Graph(encoder, inputs, {"ids": ("batch", "length"), "lengths": ("batch",)}, outputs),
        "decoder": _decoder(networks, owner),
        "magnitudes": Graph(
            _Magnitudes(mel), {"frames": torch.zeros(2, mel.n_mels)}, {"frames": ("time", None)}, ["magnitudes"]
        ),
    }
    return JobExport(graphs, settings, {"tokenizer.json": tokenizer.to_json()})


class _Encoder(nn.Module):
    """Ids ``(B, S)`` and lengths ``(B,)`` to the tensors of the decoders' initial states."""

    def __init__(self, networks: Sequence[Tacotron]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        return tuple(flatten([_without_weights(network(ids, None, lengths)[1]) for network in self.networks]))


def _decoder(networks: Sequence[Tacotron], owner: nn.Module) -> Graph:
    """A graph of a step: the last frame ``(B, F)`` to frames and stop logit ``(B, r·F + 1)`` and weights ``(B, S)``."""

    def step(frame: Tensor, states: State) -> tuple[tuple[Tensor, ...], State]:
        outputs, weights, after = [], [], []
        for network, state in zip(networks, states, strict=True):
            output, new = network.step(frame, TacotronState(*state, weights=state[-1]))
            outputs.append(output)
            weights.append(new.weights)
            after.append(_without_weights(new))
        return (torch.stack(outputs).mean(0), torch.stack(weights).mean(0)), after

    def example(rows: int, length: int) -> tuple[dict[str, Tensor], State]:
        ids, lengths = torch.zeros(rows, length, dtype=torch.int64), torch.full((rows,), length)
        with torch.no_grad():
            states = [_without_weights(network(ids, None, lengths)[1]) for network in networks]
        return {"frame": torch.zeros(rows, networks[0].decoder.frame_size)}, states

    return step_graph(step, example, {"rows": 2, "length": 3}, ["output", "weights"], owner)


def _without_weights(state: TacotronState) -> State:
    """What the next step reads of a state."""
    return tuple(state)[:-1]


class _Magnitudes(nn.Module):
    """Log-mel frames ``(T, F)`` to magnitudes ``(T, bins)`` of the spectrum."""

    def __init__(self, mel: LogMelSpectrogram) -> None:
        super().__init__()
        self.filters: Tensor
        self.inverse: Tensor
        self.register_buffer("filters", mel.filters.clone())
        self.register_buffer("inverse", torch.linalg.pinv(mel.filters))

    def forward(self, frames: Tensor) -> Tensor:
        return power_of_bands(frames.exp(), self.filters, self.inverse).sqrt()
