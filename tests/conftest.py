"""Before all tests: how they are divided between processes. After every test: what it has left behind, and whether the books of
every replica in it still add up.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
import pytest_asyncio

import leaks

# An example may take as long as it takes: how fast the machine is, is nothing that a test decides. The examples are the same in
# each run, so that what fails is of the change at hand; HOTSET_EXAMPLES makes the machines look for new ones.
hypothesis.settings.register_profile("hotset", deadline=None, derandomize="HOTSET_EXAMPLES" not in os.environ)
hypothesis.settings.load_profile("hotset")

DRAWN_FORWARD = 0.8


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups; pytest-randomly has shuffled by then
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the tests that share a server of their module in one process, where it is started once, and none of the slow ones
    among the last: a process that has come to its end early waits for the other.
    """
    for item in items:
        if not item.get_closest_marker("xdist_group") and _shares(item):
            item.add_marker(pytest.mark.xdist_group(_module_of(item)))
    slow = [item.get_closest_marker("slow") is not None for item in items]
    places = [number * (DRAWN_FORWARD if is_slow else 1.0) for number, is_slow in enumerate(slow)]
    items[:] = [item for _, item in sorted(zip(places, items, strict=True), key=lambda it: it[0])]


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist tells which tests there are
def pytest_collection_finish(session: pytest.Session) -> None:
    """Put the group of each test into its id, by which pytest-xdist 3.8 divides the tests: it writes where pytest 9.2 no longer
    reads, so that without this the groups have no effect, and nothing tells (pytest-xdist's issue 1386).
    """
    gc.collect()
    gc.freeze()  # a collection would look through thousands of tests each time: a third of a second
    if not getattr(session.config.option, "loadgroup", False):
        return
    for item in session.items:
        names = {str(mark.args[0]) for mark in item.iter_markers("xdist_group")}
        suffix = f"@{'_'.join(sorted(names))}"
        if names and not item.nodeid.endswith(suffix):
            item._id = type(item._id).parse(item.nodeid + suffix)  # type: ignore[attr-defined]
            assert item.nodeid.endswith(suffix), "pytest keeps a test's id in yet another place"


def _shares(item: pytest.Item) -> bool:
    """Whether a fixture of the test's own module is made once for several tests."""
    found = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
    return any(one.scope != "function" and one.baseid == _module_of(item) for ones in found for one in ones)


def _module_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves threads, children, files or tasks behind, or a manager whose books do not add up."""
    before = leaks.belongings()
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("ends_its_tasks")
    yield
    for manager in list(leaks.managers):
        manager.memory.check_invariants()
        manager.disk.check_invariants()
    leaks.managers.clear()
    left = leaks.left_over(before)
    assert not left, f"the test left behind: {left}"


@pytest_asyncio.fixture
async def ends_its_tasks() -> AsyncIterator[None]:
    yield
    left = _others()
    if left:
        _, left = await asyncio.wait(left, timeout=leaks.GRACE_S)
    assert not left, f"the test left tasks behind: {left}"


def _others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
