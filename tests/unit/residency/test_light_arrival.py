"""What is light comes in by one order that takes the places of idle models; where that was wrong, the usual way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotset.errors import (
    CapacityError,
    ErrorKind,
    HotsetError,
    LoadFailedError,
    OverloadedError,
    WorkerDiedError,
)
from hotset.events import Cause, Evicted, Loaded
from hotset.payload import Signature
from hotset.residency.light_arrival import MOST_ON_THE_WAY
from hotset.testing import FakeStore
from residency_bench import Bench, bench

NAMES = ("aachen", "basel", "bern", "oslo", "paris", "rome", "turin", "york")


def light_store() -> FakeStore:
    store = FakeStore()
    for name in NAMES:
        store.put(f"{name}/1/model.txt", name.encode())
    return store


async def known_to_be_light(it: Bench) -> None:
    """Load each once the usual way; the last of them stay."""
    it.script.light = True
    for name in NAMES:
        await it.ask(name)
    await it.settled()
    it.script.asked.clear()


async def test_it_takes_the_place_of_the_oldest_with_one_order(tmp_path: Path) -> None:
    async with bench(tmp_path, light_store(), model_cache_size=2) as it:
        await known_to_be_light(it)
        events: list[object] = []
        it.replica.events.subscribe(events.append)
        gone = it.memory.entries()[0].value.resident.handle
        loads = it.script.loads.total()
        assert await it.ask("bern") == "bern@1|bern"
        await it.settled()
        (order,) = it.script.asked
        assert order.after == (gone,)
        assert it.script.swaps == {"bern@1": 1}
        assert it.script.loads.total() == loads
        assert [type(event) for event in events] == [Evicted, Loaded]
        assert it.in_memory() == {"bern@1", "york@1"}


async def test_its_requests_go_behind_it_without_waiting(tmp_path: Path) -> None:
    async with bench(tmp_path, light_store(), model_cache_size=2) as it:
        await known_to_be_light(it)
        it.script.swap_gate.close()
        asks = [asyncio.ensure_future(it.ask("bern")) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        entry = it.memory.entries()[-1]
        assert (entry.key.name, entry.holds) == ("bern", 4), "three requests and its load"
        it.check()
        it.script.swap_gate.open()
        assert await asyncio.gather(*asks) == ["bern@1|bern"] * 3
        assert len(it.script.asked) == 1


async def test_few_are_on_the_way_at_once_and_the_others_wait_for_their_turn(tmp_path: Path) -> None:
    async with bench(tmp_path, light_store(), model_cache_size=4) as it:
        await known_to_be_light(it)
        for name in NAMES[:4]:
            await it.ask(name)  # from now on known in any place
        await it.settled()
        it.script.asked.clear()
        it.script.swap_gate.close()
        wanted = [name for name in NAMES if f"{name}@1" not in it.in_memory()]
        others = [name for name in NAMES if name not in wanted]
        asks = [asyncio.ensure_future(it.ask(name)) for name in wanted]
        while len(it.script.asked) < MOST_ON_THE_WAY:
            await asyncio.sleep(0)
        missing = asyncio.ensure_future(it.ask(others[0]))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(it.script.asked) == MOST_ON_THE_WAY
        it.script.swap_gate.open()
        await asyncio.gather(*asks, missing)


@pytest.mark.parametrize("reason", ["in use", "not light any more"])
async def test_a_refused_order_changes_nothing_and_the_request_goes_the_usual_way(
    tmp_path: Path, reason: str
) -> None:
    async with bench(tmp_path, light_store(), model_cache_size=2) as it:
        await known_to_be_light(it)
        it.script.in_use, it.script.light = reason == "in use", reason == "in use"
        it.script.swap_gate.close()
        ask = asyncio.ensure_future(it.infer("bern"))
        while not it.script.asked:
            await asyncio.sleep(0)
        loads = it.script.loads["bern@1"]
        it.script.swap_gate.open()
        assert await ask == "bern@1|bern"
        await it.settled()
        assert it.script.loads["bern@1"] == loads + 1
        assert it.script.swaps.total() == 0
        assert len(it.memory.entries()) == 2


async def test_a_load_that_fails_in_the_order_fails_as_any_other(tmp_path: Path) -> None:
    async with bench(tmp_path, light_store(), model_cache_size=2) as it:
        await known_to_be_light(it)
        it.script.load_faults["bern"] = LoadFailedError("made to fail")
        with pytest.raises(LoadFailedError, match="made to fail"):
            await it.infer("bern")
        await it.settled()
        assert it.in_memory() == {"york@1"}
        it.script.load_faults.clear()
        assert await it.infer("rome") == "rome@1|rome"


async def test_who_waits_for_leases_to_end_gives_up_at_the_limit(tmp_path: Path) -> None:
    async with bench(tmp_path, light_store(), model_cache_size=1, request_timeout="0.05s") as it:
        await known_to_be_light(it)
        lease = await it.lease("york")
        with pytest.raises(OverloadedError) as caught:
            await it.lease("bern", timeout_s=60.0)
        assert caught.value.kind is ErrorKind.NO_ROOM
        lease.release()
        assert await it.ask("bern") == "bern@1|bern"


async def test_a_worker_that_dies_with_the_order_fails_its_requests_and_loses_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, light_store(), model_cache_size=2) as it:
        await known_to_be_light(it)
        it.script.swap_gate.close()
        ask = asyncio.ensure_future(it.ask_once("bern"))
        while not it.script.asked:
            await asyncio.sleep(0)
        it.workers[-1].die()
        with pytest.raises(WorkerDiedError):
            await ask
        it.script.swap_gate.open()
        assert await it.infer("bern") == "bern@1|bern"
        await it.settled()


async def test_deleted_while_it_comes_it_answers_those_who_wait_and_leaves(tmp_path: Path) -> None:
    store = light_store()
    async with bench(tmp_path, store, model_cache_size=2) as it:
        await known_to_be_light(it)
        it.script.swap_gate.close()
        ask = asyncio.ensure_future(it.ask("bern"))
        while not it.script.asked:
            await asyncio.sleep(0)
        store.delete("bern/")
        await it.sync()
        it.check()
        it.script.swap_gate.open()
        assert await ask == "bern@1|bern"
        await it.settled()
        assert "bern@1" not in it.in_memory()


async def test_what_leaves_in_an_order_is_waited_for_by_who_unloads_it(tmp_path: Path) -> None:
    async with bench(tmp_path, light_store(), model_cache_size=2) as it:
        await known_to_be_light(it)
        leaving = it.memory.entries()[0]
        it.script.swap_gate.close()
        ask = asyncio.ensure_future(it.ask("bern"))
        while not it.script.asked:
            await asyncio.sleep(0)
        unload = asyncio.ensure_future(
            it.manager.unload([leaving.key], Cause.EXPLICIT, deadline_s=it.clock.now_s + 60.0)
        )
        for _ in range(5):
            await asyncio.sleep(0)
        assert not unload.done()
        it.script.swap_gate.open()
        await unload
        assert await ask == "bern@1|bern"


async def test_the_end_does_not_leave_those_who_wait(tmp_path: Path) -> None:
    async with bench(tmp_path, light_store(), model_cache_size=1) as it:
        await known_to_be_light(it)
        lease = await it.lease("york")
        ask = asyncio.ensure_future(it.lease("bern", timeout_s=60.0))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(it.manager.flights) == 1
        lease.release()
        await it.manager.flights.close()
        with pytest.raises((HotsetError, asyncio.CancelledError)):
            await ask


async def test_nothing_is_ordered_while_memory_is_short(tmp_path: Path) -> None:
    """Nor of those who waited for their turn when it became so."""

    def refuse() -> None:
        raise OverloadedError("memory is short", kind=ErrorKind.MEMORY_PRESSURE)

    async with bench(tmp_path, light_store(), model_cache_size=4) as it:
        await known_to_be_light(it)
        for name in NAMES:
            await it.ask(name)
        it.script.swap_gate.close()
        it.script.asked.clear()
        wanted = [name for name in NAMES if f"{name}@1" not in it.in_memory()][:MOST_ON_THE_WAY]
        asks = [asyncio.ensure_future(it.ask(name)) for name in wanted]
        while len(it.script.asked) < MOST_ON_THE_WAY:
            await asyncio.sleep(0)
        missing = next(name for name in NAMES if f"{name}@1" not in it.in_memory())
        late = asyncio.ensure_future(it.ask(missing))
        for _ in range(5):
            await asyncio.sleep(0)
        it.manager.relief.refuse_loads(refuse)
        it.script.swap_gate.open()
        assert await asyncio.gather(*asks) == [f"{name}@1|{name}" for name in wanted]
        with pytest.raises(OverloadedError, match="memory is short"):
            await late
        assert len(it.script.asked) == MOST_ON_THE_WAY
        it.manager.relief.refuse_loads(None)
        assert await it.ask(missing) == f"{missing}@1|{missing}"


async def test_larger_than_all_of_memory_by_now_it_is_refused_as_any_other(tmp_path: Path) -> None:
    async with bench(tmp_path, light_store(), model_cache_size={"models": 2, "bytes": "1MiB"}) as it:
        await known_to_be_light(it)
        it.disk.remember(
            it.manager.catalog.snapshot.models["bern"].versions[0].fingerprint,
            memory_bytes=2 << 20,
            runtime="fake",
            signature=Signature("fake"),
        )
        with pytest.raises(CapacityError):
            await it.ask("bern")
        assert not it.script.asked
        await it.settled()
