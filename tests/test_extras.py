"""The extras of pyproject.toml: each alone is enough for its jobs, and the oldest versions are listed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tomli
from packaging.requirements import Requirement
from packaging.version import Version

import lstmkit
from job_cases import CASES, extra_of
from lstmkit.jobs import job_names
from lstmkit.jobs.settings import settings_of

ROOT = Path(__file__).parents[1]
PROJECT = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
#: Extras with which the command line starts: those that bring its libraries.
WITH_COMMAND_LINE = ("jobs", "forecast", "text", "proteins", "music", "sound", "pictures", "video", "writing", "serve")
#: Extras for developers and GPUs, and for an example, whose versions are not the least ones.
NOT_TESTED_AT_THE_FLOOR = {"dev", "bench", "cluster", "export", "hierarchy", "serve"}


def process_with(extra: str, *options: str) -> dict[str, Any]:
    """What a process reports in which only the libraries of an extra can be imported, see ``one_extra.py``."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("one_extra.py")), str(ROOT / "pyproject.toml"), extra, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_extras_the_command_names_the_one_to_install():
    line = "error: the command line needs typer: pip install 'lstmkit[jobs]'\n"
    report = process_with("")
    assert report["commands"].values()
    for code, message in (*report["commands"].values(), *report["fit"].values()):
        assert (code, message) == (2, line)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("extra", WITH_COMMAND_LINE)
def test_with_one_extra_commands_start_and_jobs_read_or_name_theirs(extra: str):
    report = process_with(extra)
    assert {name: code for name, (code, _) in report["commands"].items()} == dict.fromkeys(report["commands"], 0)
    assert list(report["fit"]) == job_names()
    for job, (code, message) in report["fit"].items():
        own = settings_of(job).extra
        reads = re.fullmatch(r"error: no such file( or folder)?: missing.csv\n", message) is not None
        assert code == 2
        assert reads or re.fullmatch(rf"error: .+ needs \w+: pip install 'lstmkit\[{own}\]'\n", message), message
        assert reads or own != extra, message


@pytest.mark.complete
@pytest.mark.parametrize("extra", sorted(set(map(extra_of, CASES))))
def test_a_job_fits_with_its_extra_alone(extra: str):
    assert process_with(extra, "--fit")["fitted"] == {}


def floors() -> dict[str, Version]:
    """The oldest version of each library, from constraints-floor.txt."""
    lines = (ROOT / "constraints-floor.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {r.name: Version(next(iter(r.specifier)).version) for r in requirements}


def test_the_oldest_versions_are_those_of_pyproject():
    declared = [*PROJECT["dependencies"]]
    declared += [text for extra, texts in EXTRAS.items() if extra not in NOT_TESTED_AT_THE_FLOOR for text in texts]
    requirements = [r for r in map(Requirement, declared) if r.name != "lstmkit"]
    lowest = {r.name: Version(next(s.version for s in r.specifier if s.operator == ">=")) for r in requirements}
    assert floors() == lowest


def test_the_page_states_the_oldest_versions():
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", page, re.MULTILINE))
    assert {name: Version(version) for name, version in stated.items()} == floors()


@pytest.mark.parametrize("job", job_names())
def test_settings_have_annotations_that_python_3_10_evaluates(job: str):
    """Python 3.10 refuses a plain ``ClassVar`` in ``typing.get_type_hints``."""
    annotations = [
        (c, name, a) for c in settings_of(job).__mro__ for name, a in vars(c).get("__annotations__", {}).items()
    ]
    assert annotations
    assert not [(c.__name__, name) for c, name, annotation in annotations if annotation in ("ClassVar", ClassVar)]


def libraries_of(extra: str) -> set[str]:
    """Names of the libraries that an extra brings, also by way of other extras."""
    requirements = [Requirement(text) for text in EXTRAS[extra]]
    own = {r.name for r in requirements if r.name != "lstmkit"}
    return own.union(*(libraries_of(other) for r in requirements if r.name == "lstmkit" for other in r.extras))


@pytest.mark.parametrize("case", CASES)
def test_the_extra_of_every_job_is_declared_and_part_of_all(case: str):
    libraries = libraries_of(extra_of(case))
    assert libraries_of("jobs") < libraries <= libraries_of("all")


def test_all_has_export_and_nothing_for_other_hardware_or_developers():
    assert libraries_of("export") <= libraries_of("all")
    for extra in ("gpu", "cluster", "dev"):
        assert libraries_of(extra) - libraries_of("all")


def test_every_extra_is_on_the_page():
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    table = page.split("| extra | jobs |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == EXTRAS.keys() - {"series", "bench", "dev"}


def test_extras_named_in_messages_and_pages_are_declared():
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.py")]
    files += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    named = {}
    for path in files:
        text = path.read_text(encoding="utf-8")
        for extras in re.findall(r"(?:lstmkit|'\.|whl)\[([a-z,]+)\]", text):
            named |= dict.fromkeys(extras.split(","), path)
        named |= dict.fromkeys(re.findall(r"imports_of\(\"(\w+)\"", text), path)
        named |= dict.fromkeys(re.findall(r"import_library\([^,()]+, \"(\w+)\"", text), path)
    assert {"forecast", "all", "jobs", "sound", "writing"} <= named.keys()
    assert {name: path for name, path in named.items() if name not in EXTRAS} == {}


def test_the_version_is_written_in_one_place():
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]
    assert metadata.version("lstmkit") == lstmkit.__version__
    written = rf"(?<![\d.]){re.escape(lstmkit.__version__)}(?![\d.])"
    files = [*(ROOT / "src").rglob("*.py"), ROOT / "CMakeLists.txt"]
    assert [p.name for p in files if re.search(written, p.read_text(encoding="utf-8"))] == ["version.py"]


def test_wheels_are_not_compiled_for_the_processor_at_hand():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert set(re.findall(r"-m(?:arch|tune|cpu)=[\w-]+", text)) == {"-march=x86-64-v3", "-march=x86-64-v4"}


def test_the_check_of_an_installation_passes_here():
    """It runs in fresh environments (``make wheel``, ``nox -s extras``); here it is seen to run at all."""
    script = Path(__file__).with_name("check_install.py")
    done = subprocess.run([sys.executable, script, "jobs"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"lstmkit {lstmkit.__version__} [jobs]: layers run on ")
