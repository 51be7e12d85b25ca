"""Check an installed lstmkit, in an environment with none of the libraries of the tests.

``python check_install.py [--native] [EXTRA]`` compares a layer with the reference and starts the command line; with
``--native`` the extension must run the layer. With an extra, every job of that extra is fitted to tiny data, saved,
loaded and applied. Errors end the process; the last line says what was checked.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import lstmkit

#: Extras that are not enough for any job: nothing else, or libraries beside the layers.
WITHOUT_JOBS = ("", "export", "keras", "tensorboard", "gpu")


def check_layers(native: bool) -> str:
    """Compare a layer with the reference in outputs and gradients; with ``native`` the extension must run it."""
    from lstmkit import LSTM, explain_backend

    x = torch.randn(3, 20, 5)
    results = []
    for backend in ("auto", "reference"):
        torch.manual_seed(0)
        layer = LSTM(5, 8, num_layers=2, batch_first=True, bidirectional=True, peephole=True, backend=backend)
        output, (h, c) = layer(x, lengths=[20, 7, 1])
        (output.square().sum() + h.sum() + c.sum()).backward()
        results.append([output.detach(), h.detach(), c.detach(), *(p.grad for p in layer.parameters())])
    torch.testing.assert_close(*results)
    report = explain_backend(LSTM(5, 8, batch_first=True), x)
    assert not native or report.chosen == "native", f"the extension does not run the layer:\n{report}"
    return f"layers run on {report.chosen}"


def check_command_line(extra: str) -> str:
    """Run ``python -m lstmkit``. With the layers alone, it must name the extra to install."""
    done = subprocess.run([sys.executable, "-m", "lstmkit", "--version"], capture_output=True, text=True)
    if extra in WITHOUT_JOBS and importlib.util.find_spec("typer") is None:
        line = "error: the command line needs typer: pip install 'lstmkit[jobs]'\n"
        assert (done.returncode, done.stderr) == (2, line), done
        return "the command line names its extra"
    assert (done.returncode, done.stdout) == (0, f"{lstmkit.__version__}\n"), done
    return "the command line starts"


def check_onnx() -> str:
    """Export a layer and run the file."""
    import onnxruntime

    layer, x = lstmkit.LSTM(5, 8), torch.randn(4, 1, 5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "layer.onnx")
        lstmkit.export_onnx(layer, path)
        output, *_ = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(output), layer(x)[0].detach(), atol=1e-5, rtol=1e-4)
    return "ONNX Runtime runs an exported layer"


def check_keras() -> str:
    """Write a Keras file and read it again."""
    layer, x = lstmkit.LSTM(5, 8, batch_first=True), torch.randn(1, 4, 5)
    with tempfile.TemporaryDirectory() as folder:
        path = lstmkit.export_keras(layer, Path(folder, "layer.keras"))
        read = lstmkit.import_keras(path)
    torch.testing.assert_close(read(x), layer(x)[0])
    return "a Keras file is written and read"


def cases_of(extra: str) -> list[str]:
    """Names of the cases in ``job_cases.py`` that an extra is enough for."""
    from job_cases import CASES, extra_of

    return [name for name in CASES if extra in ("all", extra_of(name))]


def fit_case(name: str) -> None:
    """Fit a job to its tiny data in a run folder, which saves, evaluates and reports; load it and predict."""
    from job_cases import CASES, make

    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        fitted = make(name, epochs=1).fit(case.data(), run=run)
        assert (run / "report.html").exists()
        loaded = lstmkit.load(run)
        first, second = (job.to_text(job.predict(case.other(), **case.predict_options)) for job in (fitted, loaded))
    assert first == second, f"{name}: the loaded model predicts something else"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--native", action="store_true", help="fail if the extension does not run a layer")
    parser.add_argument("extra", nargs="?", default="", help="name of the extra that is installed")
    options = parser.parse_args()
    checked = [check_layers(options.native), check_command_line(options.extra)]
    if options.extra in ("export", "all"):
        checked.append(check_onnx())
    if options.extra in ("keras", "all"):
        checked.append(check_keras())
    if options.extra not in WITHOUT_JOBS:
        for name in cases_of(options.extra):
            fit_case(name)
            checked.append(name)
    print(f"lstmkit {lstmkit.__version__} [{options.extra}]: {', '.join(checked)}")


if __name__ == "__main__":
    main()
