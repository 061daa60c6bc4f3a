"""The way into memory: what is expected before anything is measured, and how far a load is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotset.assembly.tiers import LEAST_ESTIMATE_BYTES
from hotset.catalog import VersionEntry
from hotset.errors import ErrorKind, LoadingError, OverloadedError
from hotset.events import Cause, Fetched, Loaded
from hotset.keys import ModelKey
from hotset.residency.state import Phase
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

PARIS = ModelKey("paris", 1)


def stored(**tree: list[int]) -> FakeStore:
    store = FakeStore()
    versions(store, tree)
    return store


def entry(it: Bench, key: ModelKey = PARIS) -> VersionEntry:
    found = it.manager.catalog.version(key)
    assert found is not None
    return found


async def test_the_expected_weight_gets_better_with_what_is_known(tmp_path: Path) -> None:
    store = FakeStore()
    store.put("paris/1/model.txt", b"x" * 100)
    async with bench(tmp_path, store) as it:
        assert it.manager.expected_weight(entry(it)).bytes == 100
        gate = it.script.gate("paris")
        gate.close()
        it.script.weights["paris"] = 777_777
        asked = asyncio.create_task(it.ask("paris"))
        await gate.arrived()
        assert it.manager.expected_weight(entry(it)).bytes == LEAST_ESTIMATE_BYTES
        gate.open()
        await asked
        assert it.manager.expected_weight(entry(it)).bytes == 777_777


async def test_what_was_measured_survives_a_restart(tmp_path: Path) -> None:
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        it.script.weights["paris"] = 777_777
        await it.ask("paris")
    async with bench(tmp_path, store) as it:
        assert it.manager.expected_weight(entry(it)).bytes == 777_777


async def test_the_phases_of_a_flight(tmp_path: Path) -> None:
    store = stored(paris=[1], rome=[1])
    async with bench(tmp_path, store, model_cache_size=1) as it:
        lease = await it.lease("rome")
        store.download_gate.close()
        gate = it.script.gate("paris")
        gate.close()
        asked = asyncio.create_task(it.ask("paris"))
        await store.download_gate.arrived()
        flight = it.manager.flights.get(PARIS)
        assert flight is not None
        assert flight.phase == Phase.FETCHING
        store.download_gate.open()
        while flight.phase != Phase.WAITING_FOR_ROOM:
            await asyncio.sleep(0)
        lease.release()
        await gate.arrived()
        assert flight.phase == Phase.LOADING
        gate.open()
        await asked


@pytest.mark.parametrize(("gated", "words"), [("download", "still fetching"), ("load", "still loading")])
async def test_who_cannot_wait_is_told_how_far_it_is(tmp_path: Path, gated: str, words: str) -> None:
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        gate = store.download_gate if gated == "download" else it.script.gate("paris")
        gate.close()
        patient = asyncio.create_task(it.ask("paris", timeout_s=60.0))
        await gate.arrived()
        with pytest.raises(LoadingError, match=words):
            await it.ask("paris", timeout_s=0.05)
        gate.open()
        assert await patient == "paris@1|paris-1"


async def test_a_load_that_finds_no_room_gives_up_in_the_end(tmp_path: Path) -> None:
    store = stored(paris=[1], rome=[1])
    async with bench(tmp_path, store, model_cache_size=1, request_timeout="0.5s") as it:
        lease = await it.lease("rome")
        with pytest.raises(OverloadedError, match="all that is in memory is in use") as error:
            await it.ask("paris", timeout_s=30.0)
        assert error.value.kind is ErrorKind.NO_ROOM
        lease.release()
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_a_fetch_that_finds_no_room_on_disk_gives_up_in_the_end(tmp_path: Path) -> None:
    store = stored(paris=[1], rome=[1])
    async with bench(
        tmp_path, store, model_cache_size=1, disk_model_cache_size=1, request_timeout="0.5s"
    ) as it:
        lease = await it.lease("rome")
        with pytest.raises(OverloadedError, match="no room on disk") as error:
            await it.ask("paris", timeout_s=30.0)
        assert error.value.kind is ErrorKind.NO_ROOM
        lease.release()
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_a_fetch_and_a_load_are_told(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1])) as it:
        await it.ask("paris")
        fetched = [event for event in it.seen if isinstance(event, Fetched)]
        assert fetched == [Fetched(PARIS, 7, 1, fetched[0].seconds)]
        loaded = [event for event in it.seen if isinstance(event, Loaded)]
        assert loaded == [Loaded(PARIS, 1, "fake", 100, loaded[0].seconds)]
        await it.manager.unload([PARIS], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
        await it.ask("paris")
        assert len([event for event in it.seen if isinstance(event, Fetched)]) == 1
        assert len([event for event in it.seen if isinstance(event, Loaded)]) == 2


async def test_a_lease_tells_the_way_and_what_it_took(tmp_path: Path) -> None:
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        store.download_gate.close()
        gate = it.script.gate("paris")
        gate.close()
        asked = asyncio.create_task(it.lease("paris", timeout_s=1000.0))
        await store.download_gate.arrived()
        it.clock.advance(2.0)
        store.download_gate.open()
        await gate.arrived()
        it.clock.advance(3.0)
        gate.open()
        lease = await asked
        assert (lease.tier, lease.fetch_s, lease.load_s) == ("store", 2.0, 3.0)
        lease.release()


async def test_loads_run_side_by_side_within_the_limit(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(12)]
    store = stored(**{name: [1] for name in names})
    async with bench(tmp_path, store, parallel_loads=2, parallel_fetches=12) as it:
        gates = [it.script.gate(name) for name in names]
        for gate in gates:
            gate.close()
        asked = [asyncio.create_task(it.ask(name)) for name in names]
        while len(it.disk.records()) < len(names):
            await asyncio.sleep(0.001)
        for _ in range(50):
            await asyncio.sleep(0)
        begun = sum(it.script.loads.values())
        assert 2 <= begun <= 4, "as many turns as keep the workers busy, and no more"
        assert it.memory.statistics().ledger.reservations == begun
        for gate in gates:
            gate.open()
        await asyncio.gather(*asked)
