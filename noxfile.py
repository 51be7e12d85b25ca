"""Tests in fresh environments: ``nox -s floors``, ``nox -s ceiling``, ``nox -s extras``.

``make test`` runs none of them. Each environment downloads torch, which is several GB on Linux.
What follows ``--`` goes to pytest: ``nox -s floors -- tests/test_layers.py``. For ``extras`` it is a wheel, so that the
extension is not compiled each time: ``nox -s extras-3.11 -- dist/lstmkit-*.whl``.
"""

from __future__ import annotations

import nox

nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "venv"

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
#: Not tested alone: for other hardware, for developers, and the name of ``forecast`` in 0.1.
NOT_ALONE = ("gpu", "cluster", "bench", "dev", "series")
DECLARED = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]
EXTRAS = [extra for extra in DECLARED if extra not in NOT_ALONE]
#: ``all`` without the libraries that have no oldest version.
WITH_FLOORS = ".[forecast,text,proteins,music,sound,pictures,video,writing,tensorboard,gpu]"
TEST_TOOLS = ("pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100", "polars>=1.20", "tomli>=2", "packaging")
#: hierarchicalforecast needs a newer narwhals than the oldest.
WITHOUT_HIERARCHY = ("--deselect", "tests/test_examples.py::test_examples_run[hierarchical_forecasts.py]")
#: Old libraries meet new ones of others, which deprecate what they call.
OLD_LIBRARIES = ("-W", "ignore::DeprecationWarning")

#: torch warns of Python 3.13.0 itself, under torch.compile.
FIRST_3_13 = ("-W", "ignore:Guards may run slower:RuntimeWarning")


@nox.session(python=PYTHONS[0])
def floors(session: nox.Session) -> None:
    """The oldest versions of constraints-floor.txt, on the oldest Python."""
    session.install("--constraint", "constraints-floor.txt", WITH_FLOORS, *TEST_TOOLS)
    session.run("pytest", *OLD_LIBRARIES, *WITHOUT_HIERARCHY, *(session.posargs or ("tests", "-n", "2")))


@nox.session(python=PYTHONS)
def ceiling(session: nox.Session) -> None:
    """The newest versions that pyproject.toml admits."""
    session.install(".[all,gpu]", *TEST_TOOLS)
    session.run("pytest", *FIRST_3_13, *(session.posargs or ("tests", "-n", "2")))


@nox.session(python=PYTHONS)
@nox.parametrize("extra", EXTRAS)
def extras(session: nox.Session, extra: str) -> None:
    """One extra alone: its jobs fit, save, load and predict, without any library of the tests."""
    lstmkit = session.posargs[0] if session.posargs else "."
    session.install(f"{lstmkit}[{extra}]")
    session.run("python", "tests/check_install.py", extra)
    if extra == "hierarchy":
        session.run("python", "examples/hierarchical_forecasts.py")
