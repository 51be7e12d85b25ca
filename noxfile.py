"""Tests in fresh environments: ``nox -s floors``, ``nox -s ceiling``, ``nox -s extras``.

``make test`` runs none of them. Each environment downloads torch, which is several GB on Linux.
What follows ``--`` goes to pytest: ``nox -s floors -- tests/test_layers.py``.
"""

from __future__ import annotations

import nox

nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "venv"

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
EXTRAS = ("jobs", "series", "text", "proteins", "music", "sound", "pictures", "video", "writing")
EVERYTHING = f".[{','.join(EXTRAS)},tensorboard,gpu]"
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
    session.install("--constraint", "constraints-floor.txt", EVERYTHING, *TEST_TOOLS)
    session.run("pytest", *OLD_LIBRARIES, *WITHOUT_HIERARCHY, *(session.posargs or ("tests", "-n", "2")))


@nox.session(python=PYTHONS)
def ceiling(session: nox.Session) -> None:
    """The newest versions that pyproject.toml admits."""
    session.install(EVERYTHING.replace("gpu]", "gpu,hierarchy,export]"), *TEST_TOOLS)
    session.run("pytest", *FIRST_3_13, *(session.posargs or ("tests", "-n", "2")))


@nox.session(python=PYTHONS)
@nox.parametrize("extra", EXTRAS)
def extras(session: nox.Session, extra: str) -> None:
    """One extra alone; triton is only for the set-up of the tests."""
    session.install(f".[{extra}]", "triton; sys_platform == 'linux'", *TEST_TOOLS)
    session.run("lstmkit", "jobs")
    session.run("pytest", "tests/test_extras.py", "--complete", "-k", f"[{extra}]")
