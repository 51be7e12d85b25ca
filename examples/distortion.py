"""Learn a guitar distortion from a dry and a wet recording; play it sample by sample in C, which needs a compiler, cc.
Run: python examples/distortion.py FOLDER. It receives the recordings, amp.json (RTNeural), amp.nam, amp.h and amp.so.
"""

import ctypes
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import soundfile

import lstmkit
from lstmkit.data.audio.diode_clipper import DiodeClipper
from lstmkit.data.audio.plucked_strings import guitar_phrases


def main(folder: Path) -> None:
    dry = guitar_phrases(seconds=25, sample_rate=44_100)
    for name, sound in {"dry": dry, "wet": DiodeClipper()(dry, 44_100)}.items():
        soundfile.write(folder / f"{name}.wav", sound, 44_100, "FLOAT")
    audio = pd.DataFrame({name: soundfile.read(folder / f"{name}.wav")[0] for name in ("dry", "wet")})
    settings = {"hidden_size": 24, "bptt_steps": 1024, "burn_in": 200, "lr": 0.01, "epochs": 10, "test_fraction": 0}
    layers = lstmkit.Regressor(target_cols=("wet",), compress_tails=False, **settings).fit(audio[:882_000]).layers()
    lstmkit.export_rtneural(layers, folder / "amp.json")
    lstmkit.export_nam(layers, folder / "amp.nam", sample_rate=44_100)
    lstmkit.export_c(layers, folder / "amp.h", name="amp")
    play = "void play(float *x, int n) {amp_state s; for (amp_reset(&s); n--; x++) amp_step(&s, x, x);}"
    build = f"cc -x c - -include {folder}/amp.h -O2 -shared -fPIC -o {folder}/amp.so -lm"
    subprocess.run(build.split(), input=play.encode(), check=True)
    samples, wet, started = audio["dry"].to_numpy("f4")[882_000:], audio["wet"][882_000:], time.time()
    ctypes.CDLL(str(folder / "amp.so")).play(ctypes.c_void_p(samples.ctypes.data), len(samples))
    ratio, speed = ((samples - wet) ** 2).sum() / (wet**2).sum(), 5 / (time.time() - started)
    print(f"error-to-signal ratio {ratio:.4f}, {speed:.0f} times real time")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
