"""Options of pytest for the tests and for the examples in docstrings and pages.

``--complete`` runs every test. A normal run leaves out tests marked ``complete`` and runs a sample of the cases marked
``sampled``. ``--one-in N`` runs one test in N. A hash of the test's name decides, so the sample is always the same.
``@sampled(3, each=("name",))`` also runs the first case of each value of ``name``, so that no job or layer is left out.
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
        "sampled(n, each=()): one case in n runs, the first, and the first of each value of the parameters `each`; "
        "all of them with --complete",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    one_in = config.getoption("--one-in")
    # A test named on the command line always runs.
    whole = config.getoption("--complete") or any("::" in argument for argument in config.args)
    first = {}
    for item in items:
        for group in _groups(item):
            first.setdefault(group, item)
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


def _groups(item: pytest.Item) -> list[tuple[object, ...]]:
    """Groups of items of which the first one runs: its function, and that for each parameter that ``sampled`` names."""
    sampled = item.get_closest_marker("sampled")
    function = item.parent, getattr(item, "originalname", item.name)
    if sampled is None or not isinstance(item, pytest.Function):
        return [function]
    parameters = item.callspec.params
    return [function, *((*function, name, repr(parameters[name])) for name in sampled.kwargs.get("each", ()))]


def _in_sample(item: pytest.Item, n: int) -> bool:
    return zlib.crc32(item.name.encode()) % n == 0
