"""After every test: what it has left behind, and whether the books of every replica in it still add up."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
import pytest_asyncio

import leaks

# An example may take as long as it takes: how fast the machine is, is nothing that a test decides.
hypothesis.settings.register_profile("hotset", deadline=None)
hypothesis.settings.load_profile("hotset")


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
