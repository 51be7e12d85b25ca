"""Options of pytest for the tests and for the examples in docstrings and pages.

``--complete`` runs every test. A normal run leaves out tests marked ``complete`` and runs a sample of the cases marked
``sampled``. ``--one-in N`` runs one test in N. A hash of the test's name decides, so the sample is always the same.
``@sampled(3, each="name")`` also runs the first case of each value of ``name``, so that no job or layer is left out.
"""

from __future__ import annotations

import zlib

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lstmkit")
    group.addoption("--complete", action="store_true", help="run every test, also those that a normal run leaves out")
    group.addoption("--one-in", type=int, default=1, metavar="N", help="run a fixed sample of one test in N")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "complete: runs only with --complete")
    config.addinivalue_line(
        "markers",
        "sampled(n, each=''): one case in n runs, and the first (of each value of the parameter `each`); "
        "all of them with --complete",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    one_in = config.getoption("--one-in")
    # A test named on the command line always runs.
    whole = config.getoption("--complete") or any("::" in argument for argument in config.args)
    first = {}
    for item in items:
        first.setdefault(_group(item), item)
    firsts = {id(item) for item in first.values()}

    def chosen(item: pytest.Item) -> bool:
        if not _in_sample(item, one_in):
            return False
        if whole:
            return True
        if item.get_closest_marker("complete"):
            return False
        sampled = item.get_closest_marker("sampled")
        return sampled is None or id(item) in firsts or _in_sample(item, *sampled.args)

    config.hook.pytest_deselected(items=[item for item in items if not chosen(item)])
    items[:] = [item for item in items if chosen(item)]


@pytest.fixture(autouse=True)
def _examples_run_in_a_folder_of_their_own(request: pytest.FixtureRequest) -> None:
    """The files that examples in docstrings and pages write are not left in the tree."""
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))


def _group(item: pytest.Item) -> tuple[object, ...]:
    """What items have in common of which the first one runs: their function, and a parameter that ``sampled`` names."""
    sampled = item.get_closest_marker("sampled")
    each = sampled.kwargs.get("each") if sampled else None
    value = repr(item.callspec.params[each]) if each and isinstance(item, pytest.Function) else ""
    return item.parent, getattr(item, "originalname", item.name), value


def _in_sample(item: pytest.Item, n: int) -> bool:
    return zlib.crc32(item.name.encode()) % n == 0
