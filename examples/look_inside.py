"""Look inside an LSTM that forecasts the temperature of the next hour: how long its units remember, which inputs count.

Run: python examples/look_inside.py [FOLDER]. The folder receives inside.html, with all figures.
"""

import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from lstmkit import Forecaster, look


def main(folder: Path) -> None:
    with as_file(files("lstmkit") / "data/samples/beijing_hourly.csv") as path:
        forecaster = Forecaster(horizon=6, target_col="temperature", hidden_size=16, epochs=2, steps_per_epoch=30)
        forecaster.fit(path)
        examples = forecaster.example_sequences(path)
        trace = forecaster.trace(path)

    print("gates of layer 1, mean over the steps and units:")
    for gate in ("input", "forget", "output"):
        print(f"  {gate:<7} {trace.gates[0, 0][gate].mean():.2f}")
    (layer,) = look.trace_layers(forecaster.network, examples[0].inputs).values()
    assert layer.half_lives is not None
    print(f"memory half-life of the units, in steps: {np.sort(layer.half_lives).round(1)}")
    look.write_inspection_page(folder / "inside.html", forecaster.network, examples)
    print(f"all figures: {folder / 'inside.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
