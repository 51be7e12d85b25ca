"""A process with the libraries of one extra: ``python one_extra.py PYPROJECT EXTRA [--fit]`` prints JSON.

All other libraries are installed, but none of their modules can be found. ``EXTRA`` is "" for lstmkit without extras.
With ``--fit`` the jobs of the extra are fitted to tiny data, too.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import tomli
from packaging.requirements import Requirement


def distributions_of(project: dict[str, Any], extra: str) -> set[str]:
    """Normalized names of all distributions that ``pip install lstmkit[extra]`` installs."""
    found: set[str] = set()
    seen, pending = set(), [("lstmkit", extra)]
    while pending:
        name, extra = pending.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found.add(name)
        for requirement in map(Requirement, _requirements(project, name, extra)):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                pending += [(_normalized(requirement.name), wanted) for wanted in ("", *requirement.extras)]
    return found


def _requirements(project: dict[str, Any], name: str, extra: str) -> Sequence[str]:
    if name == "lstmkit":
        return [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else ())]
    try:
        return metadata.requires(name) or ()
    except metadata.PackageNotFoundError:  # of another system
        return ()


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class Without:
    """A finder that does not find some top-level modules."""

    def __init__(self, finder: Any, modules: set[str]) -> None:
        self._finder, self._modules = finder, modules

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] in self._modules else self._finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def hide_other_libraries(project: dict[str, Any], extra: str) -> None:
    """Hide the modules of all distributions that do not belong to an extra."""
    wanted = distributions_of(project, extra)
    hidden = {
        module
        for module, owners in metadata.packages_distributions().items()
        if not wanted & {_normalized(owner) for owner in owners}
    }
    for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
        del sys.modules[name]
    sys.meta_path[:] = [Without(finder, hidden) for finder in sys.meta_path]


def run(*arguments: str) -> tuple[Any, str]:
    """Exit code of a command line, and what it printed to stderr; the name of the error if it raised one."""
    from lstmkit.__main__ import main

    sys.argv[1:] = arguments
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as printed:
        try:
            main()
        except SystemExit as stop:
            return stop.code, printed.getvalue()
        except Exception as error:
            return type(error).__name__, str(error)
    return None, printed.getvalue()


def fit(extra: str) -> dict[str, str]:
    """Fit, save, load and predict with the jobs of an extra; what each raised, by job."""
    from check_install import cases_of, fit_case
    from lstmkit.errors import UserError

    def error_of(name: str) -> str:
        try:
            fit_case(name)
        except (ImportError, UserError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    return {name: error for name in cases_of(extra) if (error := error_of(name))}


def report(extra: str, with_fit: bool) -> dict[str, Any]:
    """What commands do if only the libraries of an extra are there."""
    from lstmkit.jobs import job_names

    commands = (["--help"], ["jobs"], ["fit", "--help"], ["data"], ["lab"], ["reproduce"])
    return {
        "commands": {" ".join(command): run(*command) for command in commands},
        "fit": {job: run("fit", job, "missing.csv", "-o", "run") for job in job_names()},
        "fitted": fit(extra) if with_fit else {},
    }


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        PROJECT = tomli.load(file)["project"]
    EXTRA, WITH_FIT = sys.argv[2], "--fit" in sys.argv
    hide_other_libraries(PROJECT, EXTRA)
    print(json.dumps(report(EXTRA, WITH_FIT)))
