"""What is counted of executions: alone, together, while versions come and go, and from workers that end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from hotset.errors import WorkerDiedError
from hotset.keys import ModelKey
from hotset.status import Executions
from hotset.workers.counting import Counting
from hotset.workers.executions import ExecutionBook, Told

PARIS, ROME = ModelKey("paris", 1), ModelKey("rome", 2)


def test_alone_and_together_by_size() -> None:
    executed = ExecutionBook().of("paris", 1)
    assert executed.told() == ()
    executed.together(3, 0.5)
    executed.alone(0.25)
    executed.alone(0.25)
    executed.together(3, 0.25)
    assert executed.told() == (Executions(1, 2, 0.5), Executions(3, 2, 0.75))


def test_a_version_that_comes_again_goes_on_counting() -> None:
    book = ExecutionBook()
    book.of("paris", 1).alone(1.0)
    book.of("rome", 2)
    book.of("paris", 1).alone(1.0)
    assert book.told() == [Told("paris", 1, (Executions(1, 2, 2.0),))]
    assert book.told("rome") == []


def test_of_very_many_those_go_that_were_not_loaded_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExecutionBook, "MOST", 2)
    book = ExecutionBook()
    for name in ("paris", "rome", "paris", "oslo"):
        book.of(name, 1).alone(1.0)
    assert [row.name for row in book.told()] == ["paris", "oslo"]


class Worker:
    """Says what a test gives it."""

    def __init__(self, *rows: Told) -> None:
        self.rows = rows
        self.gate: asyncio.Event | None = None
        self.is_dead = False

    async def executions(self, name: str) -> Sequence[Told]:
        if self.is_dead:
            raise WorkerDiedError("gone")
        if self.gate is not None:
            await self.gate.wait()
        return [row for row in self.rows if not name or row.name == name]


def told(key: ModelKey, *executions: Executions) -> Told:
    return Told(key.name, key.version, executions)


async def test_all_workers_together() -> None:
    one = Worker(told(PARIS, Executions(1, 2, 1.0)), told(ROME, Executions(1, 1, 1.0)))
    other = Worker(told(PARIS, Executions(1, 1, 0.5), Executions(4, 1, 2.0)))
    counting = Counting(lambda: [one, other])  # type: ignore[list-item]
    assert await counting.of("paris") == {PARIS: (Executions(1, 3, 1.5), Executions(4, 1, 2.0))}
    assert set(await counting.of()) == {PARIS, ROME}


async def test_what_a_worker_had_told_outlives_it_and_counts_once() -> None:
    first = Worker(told(PARIS, Executions(1, 2, 1.0)))
    workers: list[Any] = [first]
    counting = Counting(lambda: workers)
    await counting.of()
    first.is_dead = True
    assert await counting.of() == {PARIS: (Executions(1, 2, 1.0),)}
    workers[:] = [Worker(told(PARIS, Executions(1, 1, 1.0)))]
    for _ in range(2):
        assert await counting.of() == {PARIS: (Executions(1, 3, 2.0),)}


async def test_a_worker_that_says_nothing_counts_with_what_it_said_before() -> None:
    worker = Worker(told(PARIS, Executions(1, 2, 1.0)))
    counting = Counting(lambda: [worker], limit_s=0.01)  # type: ignore[list-item]
    await counting.of()
    worker.gate = asyncio.Event()
    assert await counting.of() == {PARIS: (Executions(1, 2, 1.0),)}
