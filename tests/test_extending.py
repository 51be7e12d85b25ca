"""The lists of ``docs/architecture.md`` that add a job, a back end and a data set, each followed in a copied checkout.

The edits are those that the page asks for, in the files that it names. Everything runs in processes of their own, which
import the copied package.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lstmkit
from lstmkit.ops.cpu.kernels import extension

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")

#: What a checkout has beside the package, as far as the lists name it.
COPIED = ("pyproject.toml", "conftest.py", "README.md", "mkdocs.yml", "docs", "tests", "results")

#: Runs ``lstmkit``, ``pytest``, a script or code with the package in ``src/``, not the installed one: an editable
#: installation has a finder that would come before the path.
RUN = """
import runpy, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if finder.__module__.startswith("_frozen_importlib")]
sys.path.insert(0, "src")
what, *sys.argv[1:] = sys.argv[1:]
if what.endswith(".py"):
    sys.path.insert(0, "docs")
    runpy.run_path(what, run_name="__main__")
elif what == "-c":
    exec(sys.argv[1])
else:
    runpy.run_module(what, run_name="__main__", alter_sys=True)
"""

Run = Callable[..., str]

PYTEST = ("pytest", "--assert=plain", "-p", "no:cacheprovider")

SENTENCES = [("the cat sat", "D N V"), ("a mat is", "D N V"), ("the mat", "D N"), ("is a cat", "V D N")] * 5
CONLL = "\n\n".join("\n".join(map("\t".join, zip(a.split(), b.split(), strict=True))) for a, b in SENTENCES) + "\n"
TINY = ["--epochs", "1", "--steps-per-epoch", "2", "--hidden-size", "4", "--embedding-size", "3"]
TINY += ["--char-feature-size", "4"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout, with the extension in the package if there is one."""
    root = tmp_path / "checkout"
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("lab", "speed", "img", "audio", "*.pyc")
            shutil.copytree(source, root / name, ignore=ignored)
        else:
            root.mkdir(exist_ok=True)
            shutil.copy(source, root)
    package = shutil.copytree(Path(lstmkit.__file__).parent, root / "src/lstmkit")  # its compiled files too
    if extension is not None and not list(package.glob("_native*")):
        shutil.copy(extension.__file__, package)
    return root


@pytest.fixture
def run(checkout: Path, tmp_path: Path) -> Run:
    """``run("lstmkit", …)``, ``run("pytest", …)``, ``run("docs/….py")`` or ``run("-c", code)``: stdout and stderr.

    In the copied checkout, without the network; ``fails=True`` expects an exit code that is not 0.
    """
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LSTMKIT_", "PYTEST_"))}
    places = {"LSTMKIT_DATA": str(tmp_path / "data"), "LSTMKIT_CACHE": str(tmp_path / "cache")}
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = plain | places | offline | {"OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "0"}

    def run(*args: str | Path, fails: bool = False) -> str:
        command = [sys.executable, "-c", RUN, *map(str, args)]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, said
        assert fails or extension is None or "Warning" not in said, said
        return said

    return run


def edit(path: Path, pattern: str, replacement: str) -> None:
    """Replace the only match of a regular expression in a file that the page names."""
    assert path.name in PAGE
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count == 1, f"{pattern} is {count} times in {path.name}"
    path.write_text(text, encoding="utf-8")


def passed(said: str) -> int:
    """How many tests pytest counted as passed in its last line; none has failed."""
    assert not re.search(r"\d+ (failed|error)", said), said
    return int(re.findall(r"(\d+) passed", said)[-1])


# ---- add a job -------------------------------------------------------------------------------------------------------


@pytest.fixture
def my_job(checkout: Path) -> Path:
    """Steps 1 and 2 of "Add a job": the folder ``my_job``, a copy of ``tagger`` under other names."""
    folder = shutil.copytree(checkout / "src/lstmkit/jobs/tagger", checkout / "src/lstmkit/jobs/my_job")
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8").replace("tagger", "my_job").replace("Tagger", "MyJob")
        path.write_text(text, encoding="utf-8")
    edit(folder / "settings.py", r"^    old_settings: ClassVar\[.*?\] = \{(?:.|\n)*?^    \}\n", "")
    return folder


@pytest.mark.usefixtures("my_job")
def test_a_copied_job_is_fitted_loaded_and_predicts(run: Run, checkout: Path):
    """``lstmkit fit my_job``, ``lstmkit.load`` and ``lstmkit.MyJob`` find the folder; the original keeps its name."""
    (checkout / "train.conll").write_text(CONLL)
    listed = run("lstmkit", "jobs")
    assert re.findall(r"^(\w+) +Tag every token", listed, flags=re.MULTILINE) == ["my_job", "tagger"]
    table = run("lstmkit", "-q", "fit", "my_job", "train.conll", "-o", "run", *TINY)
    assert re.findall(r"^(LSTM|most frequent tag per word) +\*?\d\.\d+", table, flags=re.MULTILINE)[0] == "LSTM"
    assert json.loads((checkout / "run/model.json").read_text())["job"] == "my_job"
    code = """
import lstmkit
job = lstmkit.load("run")
assert type(job) is lstmkit.MyJob is not lstmkit.Tagger
assert "MyJob" in lstmkit.__all__
print(job, job.to_text(job.predict(["the cat"])))
"""
    assert re.search(r"^<MyJob\(hidden_size=4, .*\), fitted> the\t[DNV]\ncat\t[DNV]\n", run("-c", code))


def test_a_job_without_its_own_name_is_named(run: Run, checkout: Path):
    """A folder whose settings still have another job's name: the error has the file and the name that is missing."""
    shutil.copytree(checkout / "src/lstmkit/jobs/tagger", checkout / "src/lstmkit/jobs/my_job")
    assert "my_job/settings.py has no class of settings with the folder's name: give one name = 'my_job'" in run(
        "lstmkit", "jobs", fails=True
    )


@pytest.mark.usefixtures("my_job")
def test_a_copied_job_with_tiny_data_passes_the_contract_of_jobs(run: Run, checkout: Path):
    """Without a case in ``CASES`` and the lists for readers the tests fail; with them they pass."""
    lists = ["tests/test_jobs.py::test_every_job_has_test_data"]
    lists += ["tests/test_imports.py::test_imports_for_type_checkers_are_the_public_names"]
    lists += ["tests/test_docs.py::test_type_checking_imports_list_all_jobs"]
    lists += ["tests/test_docs.py::test_readme_lists_all_jobs"]
    untouched = "tests/test_saved_models.py::test_every_job_of_version_0_1_has_a_saved_model"
    assert "4 failed, 1 passed" in run(*PYTEST, *lists, untouched, fails=True)
    edit(checkout / "tests/job_cases.py", r"^TINY = ", 'CASES["my_job"] = CASES["tagger"]\nTINY = ')
    imported = "from lstmkit.jobs.tagger.job import Tagger"
    both = f"{imported.replace('tagger', 'my_job').replace('Tagger', 'MyJob')}\n    {imported}"
    edit(checkout / "src/lstmkit/__init__.py", imported, both)
    edit(checkout / "README.md", r"^(\| `tagger` \| `Tagger` .*)$", r"\1\n| `my_job` | `MyJob` | sentences | tags |")
    contract = (
        "every_job_has_a_name_and_a_summary",
        "evaluate_compares_the_model_with_baselines",
        "a_loaded_job_predicts_the_same",
    )
    lists += [f"tests/test_jobs.py::test_{name}" for name in contract]
    assert passed(run(*PYTEST, *lists, "-k", "my_job or test_data or type_check or readme")) == 4 + 2 + 5


# ---- add a back end --------------------------------------------------------------------------------------------------

BACKEND = '''"""The plain loop under another name, for LSTMs without peepholes."""

from __future__ import annotations

from lstmkit.ops import reference
from lstmkit.ops.call import Call, Result

NAME: str = "my_backend"
count = 0


def unsupported_reason(call: Call) -> str | None:
    if call.spec.kind != "lstm":
        return f"my_backend has no {call.spec.kind} cell"
    return "my_backend has no peephole option" if call.spec.peephole else None


def run(call: Call) -> Result:
    global count
    count += 1
    return reference.run(call)
'''


@pytest.fixture
def my_backend(checkout: Path) -> Path:
    """Steps 1 to 4 of "Add a back end": a folder in ``ops/``, and its place in ``dispatch.py``."""
    folder = checkout / "src/lstmkit/ops/my_backend"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "backend.py").write_text(BACKEND)
    dispatch = checkout / "src/lstmkit/ops/dispatch.py"
    after = r"^from lstmkit\.ops\.hopper import .*$"
    edit(dispatch, after, r"\g<0>\nfrom lstmkit.ops.my_backend import backend as my_backend")
    edit(dispatch, r"^(_FASTEST_FIRST: .*), reference\)$", r"\1, my_backend, reference)")
    return folder / "backend.py"


@pytest.mark.usefixtures("my_backend")
def test_a_new_back_end_is_found_chosen_and_refuses(run: Run):
    """By name, by ``"auto"`` for what the faster ones refuse, and with its sentence if it refuses."""
    code = """
import torch
import lstmkit
from lstmkit.ops import dispatch
from lstmkit.ops.my_backend import backend

x = torch.randn(5, 2, 3)
ours, reference = (lstmkit.LSTM(3, 4, backend=name) for name in ("my_backend", "reference"))
ours.load_state_dict(reference.state_dict())
assert torch.equal(ours(x, lengths=[5, 2])[0], reference(x, lengths=[5, 2])[0])
assert backend.count == 1

plain = lstmkit.LSTM(3, 4)
call = plain.call_for(x, None)._replace(trace=True)  # the C++ kernels and torch return no gates
assert [c.backend for c in dispatch.candidates(call) if c.chosen] == ["my_backend"]
plain.trace(x)
assert backend.count == 2

print(lstmkit.explain_backend(plain, x))
for layer in (lstmkit.LSTM(3, 4, peephole=True, backend="my_backend"), lstmkit.GRU(3, 4, backend="my_backend")):
    try:
        layer(x)
    except lstmkit.BackendUnavailable as error:
        print(error)
assert backend.count == 2
"""
    said = run("-c", code)
    assert re.search(r"^my_backend could run this too\nreference +could run this too$", said, flags=re.MULTILINE)
    assert said.splitlines()[-2:] == [
        "backend 'my_backend' cannot run this: my_backend has no peephole option",
        "backend 'my_backend' cannot run this: my_backend has no gru cell",
    ]


def test_a_new_back_end_is_compared_with_the_reference(run: Run, my_backend: Path):
    """The tests of back ends and layers take it up from the table; a wrong result fails them."""
    chosen = ["tests/test_ops.py::test_contract", "tests/test_ops.py::test_every_refusal_is_an_error_with_its_reason"]
    chosen += ["tests/test_layers.py::test_packed_in_order", "-k", "my_backend and not (rnn or gru_ or layer_norm)"]
    assert passed(run(*PYTEST, *chosen)) > 20
    edit(my_backend, r"reference\.run\(call\)", "reference.run(call._replace(lengths=None))")
    assert re.search(r"\d+ failed", run(*PYTEST, *chosen[:1], *chosen[3:], fails=True))


# ---- add a data set --------------------------------------------------------------------------------------------------

URL = f"https://raw.githubusercontent.com/nobody/my-data/{'0123456789' * 4}/train.conll"
TABLE = """
[my_set]
title = "My sentences"
license = "CC0"
citation = "Nobody, My sentences, 2020."

[[my_set.files]]
name = "train.conll"
url = "{url}"
sha256 = "{sha256}"
"""
RECIPE = """
title = "My sentences: every tenth to test"
job = "tagger"
data = "my_set"
protocol = "held_out"

[options]
file = "train.conll"

[settings]
epochs = 1
steps_per_epoch = 2
hidden_size = 4
embedding_size = 3
char_feature_size = 4

[[published]]
name = "Nobody's tagger"
metric = "accuracy"
value = 0.25
source = "Nobody 2020, table 1"
"""


@pytest.fixture
def my_set(checkout: Path, tmp_path: Path) -> Path:
    """Step 1 of "Add a data set": a table in the catalog; its file lies in ``$LSTMKIT_DATA``."""
    path = tmp_path / "data/my_set/train.conll"
    path.parent.mkdir(parents=True)
    path.write_text(CONLL)
    with (checkout / "src/lstmkit/data/catalog.toml").open("a", encoding="utf-8") as file:
        file.write(TABLE.format(url=URL, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    return path


def test_a_new_data_set_is_listed_located_and_checked(run: Run, my_set: Path):
    """By ``lstmkit data`` and ``catalog.locate``; a missing file is asked for by its URL, a changed one is refused."""
    assert re.search(r"^my_set +My sentences +CC0$", run("lstmkit", "data"), flags=re.MULTILINE)
    assert run("lstmkit", "data", "my_set") == f"{my_set.parent}\n"
    locate = "from lstmkit.data import catalog; print(catalog.locate('my_set', 'train.conll'))"
    assert run("-c", locate) == f"{my_set}\n"
    my_set.write_text(CONLL.replace("mat", "hat"))
    assert f"error: {my_set} is not the file of the catalog: its sha256 is" in run(
        "lstmkit", "data", "my_set", fails=True
    )
    my_set.unlink()
    assert f"download it with 'lstmkit data my_set', or put {URL} at {my_set} or" in run("-c", locate, fails=True)


def test_a_recipe_on_a_new_data_set_is_reproduced(run: Run, checkout: Path, my_set: Path):
    """``lstmkit reproduce`` writes the result, with baselines and published figures, and the results page shows it."""
    (checkout / "src/lstmkit/recipes/my_recipe.toml").write_text(RECIPE)
    known = run(
        *PYTEST, "tests/test_catalog.py", "tests/test_recipes.py", "-k", "entry_is_complete or my_recipe or my_set"
    )
    assert passed(known) == 1 + 1 + 2
    assert "Nobody's tagger: accuracy 0.25 (Nobody 2020, table 1)" in run("lstmkit", "-q", "reproduce", "my_recipe")
    result = json.loads((checkout / "results/my_recipe.json").read_text())
    assert [row["model"] for row in result["scores"]] == ["LSTM", "most frequent tag per word", "most frequent tag"]
    assert "run make readme" in run("docs/results_table.py", "--check", fails=True)
    run("docs/results_table.py")
    run("docs/results_table.py", "--check")
    row = r"^\| `my_recipe`: My sentences: every tenth to test \| accuracy \| .* \| Nobody's tagger 0\.250 \|$"
    assert re.search(row, (checkout / "docs/results.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
