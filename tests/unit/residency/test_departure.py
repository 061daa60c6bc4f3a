"""The way out of memory: what is told, what the disk tier learns of it, and who goes when the disk is short."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hotset.events import Cause, Evicted, TierName
from hotset.keys import ModelKey
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

A, B, C = (ModelKey(name, 1) for name in "abc")


def stored(**tree: list[int]) -> FakeStore:
    store = FakeStore()
    versions(store, tree)
    return store


def gone(it: Bench, tier: TierName = TierName.MEMORY) -> list[tuple[str, Cause]]:
    events = [event for event in it.seen if isinstance(event, Evicted) and event.tier is tier]
    return [(str(event.key), event.cause) for event in events]


async def test_each_way_out_is_told_with_its_cause(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(a=[1], b=[1], c=[1], d=[1]), model_cache_size=3) as it:
        for name in "abcd":
            await it.ask(name)
        await it.manager.unload([B], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
        it.store.delete("c/")
        await it.sync()
        versions(it.store, {"d": [2]})
        await it.sync()
        await it.settled()
        assert gone(it) == [
            ("a@1", Cause.CAPACITY),
            ("b@1", Cause.EXPLICIT),
            ("c@1", Cause.DELETED),
            ("d@1", Cause.SUPERSEDED),
        ]


async def test_an_eviction_is_told_with_its_size_and_time(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(a=[1])) as it:
        it.script.weights["a"] = 5000
        await it.ask("a")
        it.script.unload_gate.close()
        leaving = asyncio.create_task(it.manager.unload([A], Cause.EXPLICIT, deadline_s=it.clock.now_s + 50))
        await it.script.unload_gate.arrived()
        it.clock.advance(3.0)
        assert it.memory.usage.bytes == 5000, "nothing is free before the worker says so"
        it.script.unload_gate.open()
        await leaving
        assert it.memory.usage.bytes == 0
        await asyncio.sleep(0)
        assert it.seen[-1] == Evicted(TierName.MEMORY, A, Cause.EXPLICIT, 5000, 3.0)


async def test_what_was_superseded_goes_from_disk_before_what_was_used(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(a=[1], b=[1]), disk_model_cache_size=3) as it:
        await it.ask("b")
        await it.manager.unload([B], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
        await it.ask("a")
        versions(it.store, {"a": [2]})
        await it.sync()
        await it.settled()
        assert it.on_disk() == {"a@1", "a@2", "b@1"}
        versions(it.store, {"c": [1]})
        await it.sync()
        await it.ask("c")
        await it.settled()
        assert it.on_disk() == {"a@2", "b@1", "c@1"}


async def test_what_left_memory_last_leaves_the_disk_last(tmp_path: Path) -> None:
    names = "abcde"
    store = stored(**{name: [1] for name in names})
    async with bench(tmp_path, store, model_cache_size=1, disk_model_cache_size=3) as it:
        for name in names:
            await it.ask(name)
        await it.settled()
        assert it.on_disk() == {"c@1", "d@1", "e@1"}


async def test_a_short_disk_takes_the_oldest_idle_ones_from_memory_one_by_one(tmp_path: Path) -> None:
    store = stored(a=[1], b=[1], c=[1], d=[1])
    async with bench(tmp_path, store, model_cache_size=3, disk_model_cache_size=3) as it:
        for name in "abc":
            await it.ask(name)
        leases = [await it.lease(name) for name in "b"]
        it.memory.pin(A, pinned=True)
        assert await it.ask("d") == "d@1|d-1"
        assert it.in_memory() == {"a@1", "b@1", "d@1"}
        assert gone(it) == [("c@1", Cause.CAPACITY)]
        for lease in leases:
            lease.release()


async def test_a_disk_short_of_bytes_gets_as_many_as_it_needs(tmp_path: Path) -> None:
    store = FakeStore()
    for name in "abc":
        store.put(f"{name}/1/model.bin", name.encode() * 40)
    store.put("large/1/model.bin", b"x" * 100)
    async with bench(
        tmp_path,
        store,
        model_cache_size={"models": 4},
        disk_model_cache_size={"models": 4, "bytes": 130},
    ) as it:
        for name in "abc":
            await it.ask(name)
        assert (await it.ask("large")).startswith("large@1|")
        assert it.in_memory() == {"large@1"}


async def test_nobody_is_asked_to_leave_once_the_disk_has_room(tmp_path: Path) -> None:
    store = stored(a=[1], b=[1], c=[1], d=[1])
    async with bench(tmp_path, store, model_cache_size=2, disk_model_cache_size=2) as it:
        for name in "abc":
            await it.ask(name)
        await it.settled()
        assert it.in_memory() == {"b@1", "c@1"}
        for _ in range(3):
            await it.ask("b")
            await it.ask("c")
            await it.settled()
        assert it.in_memory() == {"b@1", "c@1"}
        assert not it.memory.is_wanted


async def test_close_unloads_everything_and_waits_for_it(tmp_path: Path) -> None:
    it = Bench(tmp_path, stored(a=[1], b=[1]))
    await it.start()
    await it.ask("a")
    await it.ask("b")
    it.script.unload_gate.close()
    closing = asyncio.create_task(it.manager.close())
    await it.script.unload_gate.arrived()
    await it.script.unload_gate.arrived()
    assert not closing.done()
    it.script.unload_gate.open()
    await closing
    assert not it.script.live
    await it.stop()
