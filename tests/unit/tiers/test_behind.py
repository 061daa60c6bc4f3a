"""Work that nobody waits for: later, one piece at a time, and at once when it is asked for."""

from __future__ import annotations

import asyncio

from hotset.tiers.behind import Behind

LONG_S = 3600.0


class Work:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, key: str) -> None:
        self.at_once += 1
        assert self.at_once == 1
        await self.gate.wait()
        await asyncio.sleep(0)
        self.done.append(key)
        self.at_once -= 1


async def test_it_waits_and_is_done_when_asked_for() -> None:
    work = Work()
    behind = Behind(work, delay_s=LONG_S)
    behind.add("a")
    behind.add("b")
    behind.add("a")
    for _ in range(5):
        await asyncio.sleep(0)
    assert work.done == []
    await behind.settled()
    assert work.done == ["a", "b"]
    await behind.settled()
    behind.add("c")
    await behind.settled()
    assert work.done == ["a", "b", "c"]


async def test_what_comes_meanwhile_is_done_too() -> None:
    work = Work()
    behind = Behind(work, delay_s=0.0)
    work.gate.clear()
    behind.add("a")
    while not work.at_once:
        await asyncio.sleep(0)
    behind.add("b")
    work.gate.set()
    await behind.settled()
    assert work.done == ["a", "b"]


async def test_a_stop_waits_so_long_and_leaves_the_rest() -> None:
    work = Work()
    work.gate.clear()
    behind = Behind(work, delay_s=0.0)
    behind.add("a")
    behind.add("b")
    await behind.close(limit_s=0.01)
    await behind.close(limit_s=0.01)
    assert work.done == []


async def test_without_work_nothing_is_waited_for() -> None:
    behind = Behind(Work())
    await behind.settled()
    await behind.close(limit_s=1.0)
    behind.stop()
