"""Slots that go to others while their holders wait in silence."""

from __future__ import annotations

import asyncio

import pytest

from hotset.store import Slots


async def until_free(slots: Slots) -> None:
    async with asyncio.timeout(10):
        while slots.free.locked():
            await asyncio.sleep(0)


async def test_who_waits_in_silence_gives_its_slot_away_and_gets_it_back() -> None:
    slots = Slots(1, most_lent=1, patience_s=0)
    said = asyncio.Event()
    order = []

    async def silent() -> None:
        async with slots.slot() as slot:
            await slot.waited(said.wait())
            order.append("silent goes on")

    task = asyncio.create_task(silent())
    await asyncio.sleep(0)
    assert slots.free.locked()
    async with asyncio.timeout(10), slots.slot():
        said.set()
        for _ in range(5):
            await asyncio.sleep(0)
        order.append("the other")
    await task
    assert order == ["the other", "silent goes on"]
    assert (slots.lent, slots.free.locked()) == (0, False)


async def test_what_comes_at_once_costs_no_slot() -> None:
    slots = Slots(1, most_lent=1, patience_s=60)
    async with slots.slot() as slot:
        assert await slot.waited(asyncio.sleep(0, "said")) == "said"
        assert slots.free.locked()


async def test_no_more_are_lent_than_may_be() -> None:
    slots = Slots(2, most_lent=1)
    async with slots.slot() as one, slots.slot() as two:
        one.lend()
        one.lend()
        two.lend()
        assert slots.lent == 1
        async with slots.slot():
            assert slots.free.locked()
    assert slots.lent == 0
    for _ in range(2):
        await slots.free.acquire()
    assert slots.free.locked(), "none was lost, and none won"


@pytest.mark.parametrize("way", ["fails", "is cancelled"])
async def test_who_fails_while_another_has_its_slot_leaves_all_as_it_was(way: str) -> None:
    slots = Slots(1, most_lent=1, patience_s=0)
    said: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def silent() -> None:
        async with slots.slot() as slot:
            await slot.waited(said)

    task = asyncio.create_task(silent())
    await asyncio.sleep(0)
    await until_free(slots)
    if way == "fails":
        said.set_exception(OSError("away"))
    else:
        task.cancel()
    with pytest.raises((OSError, asyncio.CancelledError)):
        await task
    assert (slots.lent, slots.free.locked()) == (0, False)
    await slots.free.acquire()
    assert slots.free.locked()
