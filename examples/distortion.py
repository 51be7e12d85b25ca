"""Learn a guitar distortion from a dry and a wet recording, play it sample by sample, and write it for plug-ins.

Run: python examples/distortion.py [FOLDER]. The folder receives the recordings, amp.json (RTNeural), amp.nam and amp.h.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch

import lstmkit
from lstmkit.data.audio.diode_clipper import DiodeClipper
from lstmkit.data.audio.plucked_strings import guitar_phrases


def main(folder: Path) -> None:
    dry = guitar_phrases(seconds=30, sample_rate=44_100)
    soundfile.write(folder / "dry.wav", dry, 44_100, "FLOAT")
    soundfile.write(folder / "wet.wav", DiodeClipper()(dry, 44_100), 44_100, "FLOAT")  # the circuit of a pedal
    audio = pd.DataFrame({name: soundfile.read(folder / f"{name}.wav")[0] for name in ("dry", "wet")})
    audio["id"] = np.arange(len(audio)) // 44_100  # sequences of one second
    training = {"hidden_size": 24, "bptt_steps": 1024, "burn_in": 200, "lr": 0.01, "epochs": 8, "test_fraction": 0}
    amp = lstmkit.Regressor(target_cols=("wet",), compress_tails=False, **training).fit(audio[audio["id"] < 25])
    layers, held_out = amp.layers(), audio[audio["id"] >= 25]
    lstmkit.export_rtneural(layers, folder / "amp.json")
    lstmkit.export_nam(layers, folder / "amp.nam", sample_rate=44_100)
    lstmkit.export_c(layers, folder / "amp.h", name="amp")
    step, output, started = layers[0].stream(), layers[1], time.time()
    with torch.inference_mode():  # sample by sample, as a sound card asks for them
        samples = torch.tensor(held_out["dry"].to_numpy("f4")).view(-1, 1, 1)
        played = torch.stack([output.bias[0] + torch.dot(output.weight[0], step(x)[0]) for x in samples]).numpy()
    ratio = ((played - held_out["wet"]) ** 2).sum() / (held_out["wet"] ** 2).sum()
    print(f"error-to-signal ratio {ratio:.4f}, {5 / (time.time() - started):.1f} times as fast as real time")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
