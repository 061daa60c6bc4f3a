"""The residency manager: each race between a request and what happens beside it, forced by name."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from hotset.catalog import Snapshot
from hotset.errors import (
    ErrorKind,
    LoadFailedError,
    LoadingError,
    NotFoundError,
    UnavailableError,
)
from hotset.events import Cause, Evicted, Loaded, TierName
from hotset.keys import LATEST, ModelKey, ModelRef
from hotset.residency.lease import ModelLease
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

PARIS = ModelKey("paris", 1)


def stored(**tree: list[int]) -> FakeStore:
    store = FakeStore()
    versions(store, tree)
    return store


async def answer(lease: ModelLease) -> str:
    encoded = await lease.predict(
        codec="", body=b"", content_type="", query_string="", headers=(), deadline_s=float("inf")
    )
    return encoded.body.decode()


async def unload(it: Bench, *keys: ModelKey) -> None:
    await it.manager.unload(keys, Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)


async def steps(count: int = 20) -> None:
    """Let everything go on that waits for nothing but its turn."""
    for _ in range(count):
        await asyncio.sleep(0)


# Leases against whatever takes a version away


async def test_lease_vs_evict(tmp_path):
    async with bench(tmp_path, stored(paris=[1], rome=[1]), model_cache_size=1) as it:
        lease = await it.lease("paris")
        rome = asyncio.create_task(it.ask("rome"))
        await steps()
        assert await answer(lease) == "paris@1|paris-1", "what is leased stays"
        assert not rome.done()
        lease.release()
        assert await rome == "rome@1|rome-1"


async def test_a_lease_taken_in_the_step_in_which_the_last_one_ends(tmp_path):
    async with bench(tmp_path, stored(paris=[1], rome=[1]), model_cache_size=1) as it:
        first = await it.lease("paris")
        rome = asyncio.create_task(it.ask("rome"))
        await steps()
        first.release()
        second = it.manager.lease_now(ModelRef("paris"))
        assert second is not None, "the pump has not run yet, so it is not chosen yet"
        await steps()
        assert await answer(second) == "paris@1|paris-1"
        assert not rome.done()
        second.release()
        assert await rome == "rome@1|rome-1"


async def test_sync_vs_lease_of_a_deleted_version(tmp_path):
    async with bench(tmp_path, stored(paris=[1], rome=[1])) as it:
        lease = await it.lease("paris")
        it.store.delete("paris/")
        await it.sync()
        assert it.manager.lease_now(ModelRef("paris")) is None, "no new lease on what is gone"
        with pytest.raises(NotFoundError):
            await it.lease("paris")
        assert await answer(lease) == "paris@1|paris-1", "the lease that was there before goes on"
        lease.release()
        await it.settled()
        assert it.on_disk() == set()


async def test_the_request_that_waits_while_its_model_is_deleted_leaves_no_trace(tmp_path):
    """Regression: its last-used time came back after the version had gone, and stayed for ever."""
    async with bench(tmp_path, stored(paris=[1], rome=[1])) as it:
        gate, asked = await it.held_up("paris")
        it.store.delete("paris/")
        await it.sync()
        gate.open()
        assert await asked == "paris@1|paris-1"
        await it.settled()
        assert it.words() == set()


async def test_a_failed_load_of_a_version_deleted_meanwhile_is_not_remembered(tmp_path):
    """Regression: a failure was kept for a version that the catalog had no more, and nothing ever forgot it."""
    async with bench(tmp_path, stored(paris=[1], rome=[1])) as it:
        it.script.load_faults["paris"] = LoadFailedError("bad")
        gate, asked = await it.held_up("paris")
        it.store.delete("paris/")
        await it.sync()
        gate.open()
        with pytest.raises(LoadFailedError):
            await asked
        await it.settled()
        assert len(it.manager.failures) == 0


async def test_files_that_arrive_after_their_version_was_deleted_go_at_the_next_pass(tmp_path):
    """Regression: files fetched while the version was deleted stayed on disk until capacity took them."""
    async with bench(tmp_path, stored(paris=[1], rome=[1])) as it:
        it.store.download_gate.close()
        asked = asyncio.create_task(it.ask("paris"))
        await it.store.download_gate.arrived()
        late = dict(it.store.objects)
        it.store.delete("paris/")
        await it.sync()
        it.store.objects.update(late)  # the download had begun before the deletion, so it ends well
        it.store.download_gate.open()
        assert await asked == "paris@1|paris-1"
        it.store.delete("paris/")
        await it.sync()
        await it.settled()
        assert it.in_memory() == set()
        assert it.on_disk() == set()


async def test_what_a_restart_finds_on_disk_and_not_in_the_store_is_deleted(tmp_path):
    store = stored(paris=[1], rome=[1])
    async with bench(tmp_path, store) as it:
        await it.ask("paris")
        await it.ask("rome")
    store.delete("paris/")
    async with bench(tmp_path, store, sync=False) as it:
        await it.replica.sync.restore()
        assert it.on_disk() == {"paris@1", "rome@1"}
        await it.sync()
        await it.settled()
        assert it.on_disk() == {"rome@1"}


# Flights


async def test_the_leader_is_cancelled_and_the_flight_goes_on(tmp_path):
    async with bench(tmp_path, stored(paris=[1])) as it:
        gate, leader = await it.held_up("paris")
        waiter = asyncio.create_task(it.ask("paris"))
        await steps()
        leader.cancel()
        await steps()
        gate.open()
        assert await waiter == "paris@1|paris-1"
        assert leader.cancelled()
        assert it.script.loads == {"paris@1": 1}


async def test_every_waiter_is_cancelled_and_the_model_is_there_for_the_next(tmp_path):
    async with bench(tmp_path, stored(paris=[1])) as it:
        gate = it.script.gate("paris")
        gate.close()
        asked = [asyncio.create_task(it.ask("paris")) for _ in range(3)]
        await gate.arrived()
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)
        gate.open()
        await it.settled()
        assert it.in_memory() == {"paris@1"}
        assert it.memory.statistics().leases == 0


async def test_a_waiter_cancelled_in_the_step_in_which_the_flight_ends_gives_its_lease_back(tmp_path):
    async with bench(tmp_path, stored(paris=[1])) as it:
        gate, asked = await it.held_up("paris")
        loaded = [event for event in it.seen if isinstance(event, Loaded)]
        gate.open()
        while not loaded:
            await asyncio.sleep(0)
            loaded = [event for event in it.seen if isinstance(event, Loaded)]
        asked.cancel()
        await asyncio.wait([asked])
        assert it.memory.statistics().leases == 0


async def test_explicit_unload_during_a_flight_leaves_the_flight_alone(tmp_path):
    async with bench(tmp_path, stored(paris=[1])) as it:
        gate, asked = await it.held_up("paris")
        await unload(it, PARIS)
        gate.open()
        assert await asked == "paris@1|paris-1", "who had asked is answered"
        await unload(it, PARIS)
        assert it.in_memory() == set()


async def test_unload_vs_predict(tmp_path):
    async with bench(tmp_path, stored(paris=[1])) as it:
        lease = await it.lease("paris")
        leaving = asyncio.create_task(unload(it, PARIS))
        await steps()
        assert it.manager.lease_now(ModelRef("paris")) is None
        assert await answer(lease) == "paris@1|paris-1"
        assert not leaving.done()
        lease.release()
        await leaving
        assert not it.script.live


async def test_a_second_unload_waits_for_what_the_first_has_begun(tmp_path):
    """Regression: it returned at once, while the memory was still in use."""
    async with bench(tmp_path, stored(paris=[1])) as it:
        lease = await it.lease("paris")
        both = [asyncio.create_task(unload(it, PARIS)) for _ in range(2)]
        await steps()
        assert not any(task.done() for task in both)
        lease.release()
        await asyncio.gather(*both)
        assert not it.script.live


async def test_an_unload_that_is_given_up_goes_on(tmp_path):
    async with bench(tmp_path, stored(paris=[1])) as it:
        lease = await it.lease("paris")
        with pytest.raises(LoadingError):
            await it.manager.unload([PARIS], Cause.EXPLICIT, deadline_s=it.clock.now_s + 0.01)
        lease.release()
        await it.settled()
        assert it.in_memory() == set()


async def test_a_request_while_its_model_is_unloaded_loads_it_again_from_disk(tmp_path):
    async with bench(tmp_path, stored(paris=[1]), model_cache_size=1) as it:
        await it.ask("paris")
        it.script.unload_gate.close()
        leaving = asyncio.create_task(unload(it, PARIS))
        await it.script.unload_gate.arrived()
        asked = asyncio.create_task(it.ask("paris"))
        await steps()
        assert it.script.loads["paris@1"] == 1, "its room has not come back yet"
        it.script.unload_gate.open()
        await leaving
        assert await asked == "paris@1|paris-1"
        assert it.store.counts["download"] == 1


# A load that makes room for itself


@asynccontextmanager
async def behind_paris(path, **settings):
    """Room for one: paris is in memory and is told to leave, and does not yet; rome waits for its room."""
    async with bench(path, stored(paris=[1], rome=[1], oslo=[1]), model_cache_size=1, **settings) as it:
        await it.ask("paris")
        it.script.unload_gate.close()
        asked = asyncio.create_task(it.ask("rome"))
        await it.script.unload_gate.arrived()
        await steps()
        yield it, asked


async def test_a_load_is_asked_for_together_with_the_unload_that_makes_room_for_it(tmp_path):
    async with behind_paris(tmp_path) as (it, asked):
        paris, rome = it.script.asked
        assert rome.after == (paris.handle,)
        assert it.script.loads["rome@1"] == 0, "it has not begun"
        assert it.memory.usage.models == 1
        it.script.unload_gate.open()
        assert await asked == "rome@1|rome-1"
        assert it.script.most_live == 1


async def test_who_asks_next_waits_for_room_of_its_own(tmp_path):
    async with behind_paris(tmp_path) as (it, asked):
        other = asyncio.create_task(it.ask("oslo"))
        await steps()
        assert len(it.script.asked) == 2
        it.script.unload_gate.open()
        assert await asked == "rome@1|rome-1"
        assert await other == "oslo@1|oslo-1"
        assert it.script.most_live == 1


async def test_the_worker_dies_while_a_load_waits_behind_an_unload(tmp_path):
    async with behind_paris(tmp_path) as (it, asked):
        it.script.unload_gate.open()
        it.workers[0].die()
        assert await asked == "rome@1|rome-1", "in the worker that takes its place"
        assert it.script.asked[-1].after == ()
        assert it.in_memory() == {"rome@1"}


async def test_a_load_behind_a_model_that_is_still_used_waits_for_its_room_as_others_do(tmp_path):
    async with bench(tmp_path, stored(paris=[1], rome=[1]), model_cache_size=1) as it:
        await it.ask("paris")
        it.script.in_use = True
        it.script.unload_gate.close()
        asked = asyncio.create_task(it.ask("rome"))
        await it.script.unload_gate.arrived()
        await steps()
        assert [spec.after != () for spec in it.script.asked] == [False, True]
        assert it.memory.usage.models == 1
        it.script.unload_gate.open()
        assert await asked == "rome@1|rome-1"
        assert it.script.asked[-1].after == ()
        assert it.script.most_live == 1


async def test_a_load_that_fails_behind_an_unload_leaves_free_room(tmp_path):
    async with behind_paris(tmp_path) as (it, asked):
        it.script.load_faults["rome"] = LoadFailedError("broken")
        it.script.unload_gate.open()
        with pytest.raises(LoadFailedError):
            await asked
        await it.settled()
        assert it.memory.usage.models == 0
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_the_replica_stops_while_a_load_waits_behind_an_unload(tmp_path):
    it = Bench(tmp_path, stored(paris=[1], rome=[1]), model_cache_size=1)
    await it.start()
    await it.ask("paris")
    it.script.unload_gate.close()
    asked = asyncio.create_task(it.ask("rome"))
    await it.script.unload_gate.arrived()
    await steps()
    stopping = asyncio.create_task(it.stop())
    await steps()
    it.script.unload_gate.open()
    await stopping
    await asyncio.gather(asked, return_exceptions=True)  # answered or let go, as it came
    assert it.memory.usage.models == 0
    assert it.disk.statistics().ledger.held == 0


async def test_drain_during_a_flight(tmp_path):
    """The replica stops while a model loads: the one who waits for it is let go, and nothing stays behind."""
    it = Bench(tmp_path, stored(paris=[1]))
    await it.start()
    _, asked = await it.held_up("paris")
    await it.stop()
    with pytest.raises((asyncio.CancelledError, UnavailableError)):
        await asked
    assert it.disk.statistics().ledger.held == 0


# What changes in the store while something loads


async def test_delete_vs_load(tmp_path):
    async with bench(tmp_path, stored(paris=[1, 2])) as it:
        gate, asked = await it.held_up("paris")
        it.store.delete("paris/2/")
        await it.sync()
        gate.open()
        assert await asked == "paris@2|paris-2", "it was offered when it was asked for"
        assert await it.ask("paris") == "paris@1|paris-1"
        await it.settled()
        assert it.in_memory() == {"paris@1"}


async def test_files_changed_in_place_while_the_old_ones_load(tmp_path):
    async with bench(tmp_path, stored(paris=[1])) as it:
        gate, asked = await it.held_up("paris")
        it.store.put("paris/1/model.txt", b"changed")
        await it.sync()
        gate.open()
        assert await asked == "paris@1|paris-1"
        assert await it.ask("paris") == "paris@1|changed", "latest never means files that are no more"
        await it.settled()
        assert it.disk.usage.models == 1


async def test_capacity_one_with_files_changed_in_place_under_a_lease(tmp_path):
    async with bench(tmp_path, stored(paris=[1]), model_cache_size=1) as it:
        lease = await it.lease("paris")
        it.store.put("paris/1/model.txt", b"changed")
        await it.sync()
        assert await it.ask("paris") == "paris@1|paris-1", "the old one serves until the new one is ready"
        await steps()
        assert await answer(lease) == "paris@1|paris-1"
        lease.release()
        await it.settled()
        assert await it.ask("paris") == "paris@1|changed"


async def test_rollover_vs_eviction_of_the_old(tmp_path):
    """While the newer version loads, the older one has to go for another model."""
    async with bench(tmp_path, stored(paris=[1], rome=[1]), model_cache_size=2) as it:
        await it.ask("paris")
        versions(it.store, {"paris": [2], "oslo": [1]})
        gate = it.script.gate("paris")
        gate.close()
        await it.sync()
        await gate.arrived()
        assert await it.ask("rome") == "rome@1|rome-1"
        assert it.in_memory() == {"rome@1"}
        asked = asyncio.create_task(it.ask("paris"))
        await steps()
        gate.open()
        assert await asked == "paris@2|paris-2"
        assert it.memory.serving_latest("paris") == ("paris", 2)


async def test_a_pin_on_latest_moves_with_it(tmp_path):
    """Regression: the pinned version went when latest moved on, and the one that came was not pinned."""
    async with bench(tmp_path, stored(paris=[1], rome=[1], oslo=[1]), model_cache_size=2) as it:
        await it.ask("paris")
        it.manager.pin(PARIS, pinned=True)
        versions(it.store, {"paris": [2]})
        await it.sync()
        await it.settled()
        await it.ask("rome")
        await it.ask("oslo")
        assert it.in_memory() == {"paris@2", "oslo@1"}


async def test_pin_during_eviction(tmp_path):
    async with bench(tmp_path, stored(paris=[1], rome=[1]), model_cache_size=1) as it:
        await it.ask("paris")
        it.script.unload_gate.close()
        rome = asyncio.create_task(it.ask("rome"))
        await it.script.unload_gate.arrived()
        assert not it.manager.pin(PARIS, pinned=True), "it has left already, so it says so"
        it.script.unload_gate.open()
        assert await rome == "rome@1|rome-1"


async def test_pin_before_the_pump_spares_it(tmp_path):
    async with bench(tmp_path, stored(paris=[1], rome=[1]), model_cache_size=1) as it:
        lease = await it.lease("paris")
        rome = asyncio.create_task(it.ask("rome"))
        await steps()
        lease.release()
        assert it.manager.pin(PARIS, pinned=True)
        await steps()
        assert not rome.done()
        it.manager.pin(PARIS, pinned=False)
        assert await rome == "rome@1|rome-1"


# Room


async def test_two_flights_that_both_need_more_room_than_they_asked_for(tmp_path):
    """Regression: each held what the other lacked, until both gave up."""
    store = stored(paris=[1], rome=[1])
    async with bench(tmp_path, store, model_cache_size="1000KiB") as it:
        it.script.weights.update(paris=500 << 10, rome=500 << 10)
        for name in ("paris", "rome"):
            await it.ask(name)
        await unload(it, PARIS, ModelKey("rome", 1))
        it.script.weights.update(paris=600 << 10, rome=600 << 10)
        gates = [it.script.gate(name) for name in ("paris", "rome")]
        for gate in gates:
            gate.close()
        asked = [asyncio.create_task(it.ask(name)) for name in ("paris", "rome")]
        for gate in gates:
            await gate.arrived()
        for gate in gates:
            gate.open()
        async with asyncio.timeout(5):
            assert await asyncio.gather(*asked) == ["paris@1|paris-1", "rome@1|rome-1"]
        assert it.memory.usage.bytes <= 1000 << 10


async def test_a_disk_as_small_as_memory_lets_the_next_model_in(tmp_path):
    """Regression: what is in memory keeps its files on disk, so no other model was ever fetched."""
    store = stored(a=[1], b=[1], c=[1])
    async with bench(tmp_path, store, model_cache_size=1, disk_model_cache_size=1) as it:
        for name in "abcab":
            async with asyncio.timeout(5):
                assert await it.ask(name) == f"{name}@1|{name}-1"
            it.check()


async def test_a_disk_as_small_as_memory_waits_for_the_lease_to_end(tmp_path):
    store = stored(a=[1], b=[1])
    async with bench(tmp_path, store, model_cache_size=1, disk_model_cache_size=1) as it:
        lease = await it.lease("a")
        asked = asyncio.create_task(it.ask("b"))
        while it.store.counts["list"] < 2:  # the pass, and then the fetch of b
            await asyncio.sleep(0)
        await steps()
        assert not asked.done()
        assert await answer(lease) == "a@1|a-1"
        lease.release()
        async with asyncio.timeout(5):
            assert await asked == "b@1|b-1"


async def test_many_flights_through_one_place_in_each_tier(tmp_path):
    names = [f"m{number}" for number in range(12)]
    store = stored(**{name: [1] for name in names})
    async with bench(tmp_path, store, model_cache_size=1, disk_model_cache_size=1) as it:
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*(it.ask(name, timeout_s=20) for name in names))
        assert answers == [f"{name}@1|{name}-1" for name in names]


async def test_a_new_version_comes_into_a_disk_and_a_memory_of_one_place(tmp_path):
    store = stored(paris=[1])
    async with bench(tmp_path, store, model_cache_size=1, disk_model_cache_size=1) as it:
        await it.ask("paris")
        versions(store, {"paris": [2]})
        await it.sync()
        async with asyncio.timeout(5):
            await it.ask("paris")
            await it.settled()
            assert await it.ask("paris") == "paris@2|paris-2"


# Workers


async def test_a_worker_that_dies_between_the_load_and_its_commit(tmp_path):
    """What had loaded is not to blame for the death: the next request may try at once."""
    store = stored(paris=[1], rome=[1])
    async with bench(tmp_path, store, model_cache_size="1000KiB") as it:
        it.script.weights.update(rome=600 << 10, paris=600 << 10)
        await it.ask("rome")
        it.script.unload_gate.close()
        asked = asyncio.create_task(it.ask("paris"))
        await it.script.unload_gate.arrived()  # paris is loaded and waits for the room of rome
        it.workers[0].die()
        it.script.unload_gate.open()
        with pytest.raises(UnavailableError) as error:
            await asked
        assert error.value.kind is ErrorKind.WORKER_DIED
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_a_dead_worker_s_entries_are_gone_before_a_failed_request_can_be_tried_again(tmp_path):
    async with bench(tmp_path, stored(paris=[1])) as it:
        await it.ask("paris")
        it.workers[0].die()
        assert it.manager.lease_now(ModelRef("paris")) is None, "in the very step of its death"
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_a_pin_survives_its_worker(tmp_path):
    """Regression: a pinned model came back unpinned after its worker had died."""
    async with bench(tmp_path, stored(a=[1], b=[1], c=[1]), model_cache_size=2) as it:
        await it.ask("a")
        it.manager.pin(ModelKey("a", 1), pinned=True)
        it.workers[0].die()
        await it.settled()
        await it.ask("b")
        await it.ask("c")
        assert it.in_memory() == {"a@1", "c@1"}


async def test_an_unpin_while_the_model_comes_back_counts(tmp_path):
    async with bench(tmp_path, stored(a=[1], b=[1], c=[1]), model_cache_size=2) as it:
        await it.ask("a")
        it.manager.pin(ModelKey("a", 1), pinned=True)
        it.workers[0].die()
        it.manager.pin(ModelKey("a", 1), pinned=False)
        await it.settled()
        await it.ask("b")
        await it.ask("c")
        assert it.in_memory() == {"b@1", "c@1"}


async def test_a_worker_dies_while_its_model_s_deletion_is_put_in_force(tmp_path):
    async with bench(tmp_path, stored(paris=[1], rome=[1])) as it:
        await it.ask("paris")
        await it.ask("rome")
        it.store.delete("paris/")
        applying = asyncio.create_task(it.sync())
        while "paris" in it.manager.catalog.snapshot.models:
            await asyncio.sleep(0)
        it.workers[0].die()
        await applying
        await it.settled()
        assert it.in_memory() == {"rome@1"}
        assert it.words() == {ModelRef("rome")}


# Lookups


async def test_a_lookup_that_shows_another_version_gone_lets_it_go(tmp_path):
    """Regression: a version that a lookup had dropped from the catalog was never unloaded or deleted."""
    async with bench(tmp_path, stored(paris=[1])) as it:
        await it.ask("paris", "1")
        it.store.delete("paris/")
        versions(it.store, {"paris": [2]})
        assert await it.ask("paris", "2") == "paris@2|paris-2"
        await it.settled()
        assert it.in_memory() == {"paris@2"}
        await it.sync()
        await it.settled()
        assert it.on_disk() == {"paris@2"}
        assert it.manager.catalog.snapshot.models.version_count == 1


async def test_lookup_vs_sync_of_a_model_that_goes(tmp_path):
    """The lookup has listed before the pass: what the pass saw is newer."""
    async with bench(tmp_path, stored(paris=[1])) as it:
        it.store.list_gate.close()
        asked = asyncio.create_task(it.ask("paris", "2"))
        await it.store.list_gate.arrived()
        snapshot = it.manager.catalog.snapshot
        await it.manager.offer.apply(snapshot)
        versions(it.store, {"paris": [2]})
        it.store.list_gate.open()
        with pytest.raises(NotFoundError):
            await asked
        assert it.manager.catalog.snapshot is snapshot
        assert await it.ask("paris", "2") == "paris@2|paris-2"


async def test_a_model_found_while_a_snapshot_is_put_in_force_is_listed(tmp_path):
    """Regression: its name was missing from the list of models until the next pass."""
    async with bench(tmp_path, stored(paris=[1])) as it:
        versions(it.store, {"oslo": [1]})
        applying = asyncio.create_task(it.manager.offer.apply(it.manager.catalog.snapshot))
        await asyncio.sleep(0)
        assert await it.ask("oslo") == "oslo@1|oslo-1"
        await applying
        assert list(it.manager.catalog.snapshot.models) == ["oslo", "paris"]
        assert it.manager.catalog.snapshot.models.version_count == 2
        assert it.on_disk() == {"oslo@1"}


async def test_a_model_that_comes_back_while_a_snapshot_without_it_is_followed_stays(tmp_path):
    """What is gone is followed in small steps; a lookup between two of them is newer than the snapshot."""
    names = [f"m{number:04}" for number in range(500)]
    async with bench(tmp_path, stored(**{name: [1] for name in names}), model_cache_size=500) as it:
        for name in ("m0000", "m0499"):
            await it.ask(name)
        applying = asyncio.create_task(it.manager.offer.apply(Snapshot()))
        async with asyncio.timeout(20):
            while it.in_memory() == {"m0000@1", "m0499@1"}:
                await asyncio.sleep(0)
        assert it.in_memory() == {"m0499@1"}
        assert not applying.done()
        await it.manager.offer.resolve(ModelRef("m0499"), deadline_s=it.clock.now_s + 5)
        assert not applying.done()
        await applying
        assert it.in_memory() == {"m0499@1"}
        assert list(it.manager.catalog.snapshot.models) == ["m0499"]


async def test_a_lookup_in_the_air_at_the_end(tmp_path):
    it = Bench(tmp_path, stored(paris=[1]))
    await it.start()
    it.store.list_gate.close()
    asked = asyncio.create_task(it.ask("rome"))
    await it.store.list_gate.arrived()
    await it.stop()
    with pytest.raises((asyncio.CancelledError, UnavailableError)):
        await asked


# Out of memory


async def test_relief_unloads_the_older_half_of_what_lies_idle(tmp_path):
    async with bench(tmp_path, stored(a=[1], b=[1], c=[1], d=[1], e=[1])) as it:
        for name in "abcde":
            await it.ask(name)
        lease = await it.lease("a")
        it.manager.pin(ModelKey("b", 1), pinned=True)
        await it.manager.relief.relieve(ModelKey("d", 1), deadline_s=it.clock.now_s + 5)
        assert it.in_memory() == {"a@1", "b@1", "d@1", "e@1"}
        lease.release()
        gone = [event for event in it.seen if isinstance(event, Evicted) and event.tier is TierName.MEMORY]
        assert [(event.key.name, event.cause) for event in gone] == [("c", Cause.PRESSURE)]


async def test_predictions_that_run_out_of_memory_together_share_one_relief(tmp_path):
    async with bench(tmp_path, stored(a=[1], b=[1], c=[1], d=[1], e=[1])) as it:
        for name in "abcde":
            await it.ask(name)
        it.script.unload_gate.close()
        key = ModelKey("e", 1)
        deadline_s = it.clock.now_s + 5
        reliefs = [
            asyncio.create_task(it.manager.relief.relieve(key, deadline_s=deadline_s)) for _ in range(20)
        ]
        await it.script.unload_gate.arrived()
        await steps()
        it.script.unload_gate.open()
        await asyncio.gather(*reliefs)
        assert it.in_memory() == {"c@1", "d@1", "e@1"}


async def test_relief_ends_at_the_deadline(tmp_path):
    async with bench(tmp_path, stored(a=[1], b=[1])) as it:
        await it.ask("a")
        await it.ask("b")
        it.script.unload_gate.close()
        await it.manager.relief.relieve(ModelKey("b", 1), deadline_s=it.clock.now_s + 0.01)
        it.script.unload_gate.open()
        await it.settled()
        assert it.in_memory() == {"b@1"}


async def test_relief_of_what_has_left_or_is_alone_does_nothing(tmp_path):
    async with bench(tmp_path, stored(a=[1])) as it:
        await it.ask("a")
        for name in ("a", "gone"):
            await it.manager.relief.relieve(ModelKey(name, 1), deadline_s=it.clock.now_s + 5)
        assert it.in_memory() == {"a@1"}


class TestLeaseSoon:
    """Waiting for a load in no task: ``lease_soon`` in the place of ``lease``."""

    async def test_it_waits_with_others_and_is_leased_in_the_step_in_which_the_flight_ends(self, tmp_path):
        async with bench(tmp_path, stored(paris=[1])) as it:
            gate = it.script.gate("paris")
            gate.close()
            waiting = it.manager.lease_soon(ModelRef("paris"), deadline_s=it.clock.now_s + 5)
            assert waiting is not None
            other = asyncio.create_task(it.ask("paris"))
            await gate.arrived()
            gate.open()
            lease = await waiting
            assert it.manager.memory.serving_latest("paris") == lease.key
            lease.release()
            assert await other == "paris@1|paris-1"
            assert it.script.loads == {"paris@1": 1}

    async def test_what_is_in_memory_or_unknown_is_for_others_to_answer(self, tmp_path):
        async with bench(tmp_path, stored(paris=[1, 2])) as it:
            deadline_s = it.clock.now_s + 5
            assert it.manager.lease_soon(ModelRef("oslo"), deadline_s=deadline_s) is None
            await it.ask("paris", "1")
            for version in (LATEST, 1, 2):
                assert it.manager.lease_soon(ModelRef("paris", version), deadline_s=deadline_s) is None

    async def test_what_failed_lately_is_refused_by_lease(self, tmp_path):
        async with bench(tmp_path, stored(paris=[1])) as it:
            it.script.load_faults["paris"] = LoadFailedError("corrupt")
            waiting = it.manager.lease_soon(ModelRef("paris"), deadline_s=it.clock.now_s + 5)
            assert waiting is not None
            with pytest.raises(LoadFailedError) as error:
                await waiting
            assert error.value.key == ("paris", 1)
            assert it.manager.lease_soon(ModelRef("paris"), deadline_s=it.clock.now_s + 5) is None
            assert it.words() == set()

    async def test_an_older_version_answers_instead(self, tmp_path):
        async with bench(tmp_path, stored(paris=[1, 2])) as it:
            gate = it.script.gate("paris")
            gate.close()
            it.script.load_faults["paris"] = LoadFailedError("corrupt")
            deadline_s = it.clock.now_s + 5
            waiting = it.manager.lease_soon(ModelRef("paris"), deadline_s=deadline_s)
            assert waiting is not None
            await gate.arrived()
            gate.open()
            with pytest.raises(LoadFailedError) as error:
                await waiting
            del it.script.load_faults["paris"]
            lease = await it.manager.lease_instead(ModelRef("paris"), error.value, deadline_s=deadline_s)
            assert lease.key == ("paris", 1)
            lease.release()

    async def test_past_its_deadline_it_fails_and_the_load_goes_on(self, tmp_path):
        async with bench(tmp_path, stored(paris=[1])) as it:
            gate = it.script.gate("paris")
            gate.close()
            waiting = it.manager.lease_soon(ModelRef("paris"), deadline_s=it.clock.now_s + 0.05)
            assert waiting is not None
            await gate.arrived()
            with pytest.raises(LoadingError) as error:
                await waiting
            assert error.value.key == ("paris", 1)
            gate.open()
            await it.settled()
            assert it.in_memory() == {"paris@1"}

    async def test_who_cancels_it_leaves_no_lease(self, tmp_path):
        async with bench(tmp_path, stored(paris=[1])) as it:
            gate = it.script.gate("paris")
            gate.close()
            waiting = it.manager.lease_soon(ModelRef("paris"), deadline_s=it.clock.now_s + 5)
            assert waiting is not None
            await gate.arrived()
            waiting.cancel()
            gate.open()
            await it.settled()
            assert it.memory.statistics().leases == 0
