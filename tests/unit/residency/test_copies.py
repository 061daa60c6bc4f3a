"""Copies on fakes: how one comes, where requests go, and every way in which one goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hotset.errors import LoadFailedError
from hotset.events import Cause, Copied, CopyDropped, CopyFailed, Event, Evicted, Loaded
from hotset.keys import ModelKey, ModelRef
from hotset.residency.copies import FAILURE_FIRST_S, thread_busy_s
from hotset.residency.spread import CALM_S, Copy, Drop, Move
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

A, B = ModelKey("a", 1), ModelKey("b", 1)


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Bench]:
    """Room for three, two workers, ``a`` in memory."""
    store = FakeStore()
    versions(store, {"a": [1], "b": [1], "c": [1]})
    async with bench(tmp_path, store, processes_per_replica=2, model_cache_size=3) as it:
        await it.ask("a")
        it.seen.clear()
        yield it


def workers_of(it: Bench, key: ModelKey = A) -> list[int]:
    entry = it.memory.find(ModelRef(*key))
    return [place.value.resident.worker.id for place in (entry, *entry.copies)] if entry else []


def seen(it: Bench, *types: type[Event]) -> list[Event]:
    return [event for event in it.seen if isinstance(event, types)]


async def spread(it: Bench, key: ModelKey = A) -> None:
    task = it.manager.copies.take(Copy(key, 3 - workers_of(it, key)[0]))
    assert task is not None
    await task


def look_for(it: Bench, seconds: float) -> None:
    for _ in range(round(seconds / 0.1)):
        it.clock.advance(0.1)
        it.manager.copies.look()


async def test_a_copy_is_the_same_version_in_another_worker(it: Bench) -> None:
    first = workers_of(it)
    await spread(it)
    assert sorted(workers_of(it)) == [1, 2]
    assert workers_of(it)[:1] == first
    assert it.in_memory() == {"a@1"}
    assert it.memory.usage.models == 2
    assert len(it.script.live) == 2
    (copied,) = seen(it, Copied)
    assert isinstance(copied, Copied)
    assert (copied.key, copied.worker) == (A, 3 - first[0])
    assert not seen(it, Loaded), "no miss of anybody's was answered by it"


async def test_leases_go_where_the_fewest_are(it: Bench) -> None:
    await spread(it)
    leases = [await it.lease("a") for _ in range(4)]
    by_worker = [lease._occupant.resident.worker.id for lease in leases]
    assert sorted(by_worker) == [1, 1, 2, 2]
    here = [lease for lease in leases if lease._occupant.resident.worker.id == 1]
    for lease in here:
        lease.release()
    again = [await it.lease("a") for _ in range(2)]
    assert {lease._occupant.resident.worker.id for lease in again} == {1}
    for lease in (*again, *(other for other in leases if other not in here)):
        lease.release()


async def test_the_status_tells_of_copies(it: Bench) -> None:
    await spread(it)
    lease = await it.lease("a")
    status = (await it.replica.dataplane.residency.model("a", deadline_s=it.clock.now_s + 1)).versions[0]
    assert (status.copies, status.memory_bytes, status.leases) == (1, 200, 1)
    memory = it.replica.dataplane.residency.status().tiers[0]
    assert (memory.copies, memory.models) == (1, 2)
    assert b"hotset_copies 1.0" in it.replica.metrics.render()
    lease.release()


async def test_a_copy_makes_way_for_a_model(it: Bench) -> None:
    await it.ask("b")
    await spread(it, B)
    await it.ask("c")
    assert it.in_memory() == {"a@1", "b@1", "c@1"}, "the copy went, and not the least recently used"
    await it.settled()
    (dropped,) = seen(it, CopyDropped)
    assert isinstance(dropped, CopyDropped)
    assert (dropped.key, dropped.cause) == (B, Cause.CAPACITY)
    assert not seen(it, Evicted)


async def test_a_copy_pushes_nothing_out(it: Bench) -> None:
    await it.ask("b")
    await it.ask("c")
    assert it.manager.copies.take(Copy(A, 3 - workers_of(it)[0])) is None
    assert it.in_memory() == {"a@1", "b@1", "c@1"}


async def test_a_copy_in_use_answers_its_last_requests(it: Bench) -> None:
    await spread(it)
    leases = [await it.lease("a"), await it.lease("a")]
    it.manager.copies.take(Drop(A))
    await it.manager.quiet()
    assert len(it.script.live) == 2, "leased, so not unloaded"
    for lease in leases:
        answer = await lease.predict(
            codec="", body=b"", content_type="", query_string="", headers=(), deadline_s=float("inf")
        )
        assert answer.body == b"a@1|a-1"
        lease.release()
    await it.settled()
    assert len(it.script.live) == 1


async def test_a_moved_model_is_never_away(it: Bench) -> None:
    (before,) = workers_of(it)
    lease = await it.lease("a")
    task = it.manager.copies.take(Move(A, 3 - before))
    assert task is not None
    await task
    assert workers_of(it) == [3 - before]
    assert await it.ask("a") == "a@1|a-1"
    lease.release()
    await it.settled()
    assert len(it.script.live) == 1
    assert it.memory.usage.models == 1
    assert [(e.worker, e.cause) for e in seen(it, CopyDropped)] == [(before, Cause.MOVED)]  # type: ignore[union-attr]
    assert it.script.loads["a@1"] == 2


async def test_what_is_pinned_is_pinned_where_it_moves(it: Bench) -> None:
    it.manager.pin(A, pinned=True)
    task = it.manager.copies.take(Move(A, 3 - workers_of(it)[0]))
    assert task is not None
    await task
    entry = it.memory.find(ModelRef(*A))
    assert entry is not None
    assert entry.pinned


async def test_unloading_takes_all_places(it: Bench) -> None:
    await spread(it)
    await it.manager.unload([A], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
    assert not it.script.live
    assert it.memory.usage.models == 0


async def test_a_deleted_model_leaves_every_worker_and_the_disk(it: Bench) -> None:
    await spread(it)
    it.store.delete("a/")
    await it.sync()
    await it.settled()
    assert not it.script.live
    assert it.on_disk() == set()


async def test_a_newer_version_takes_the_place_of_all(it: Bench) -> None:
    await spread(it)
    versions(it.store, {"a": [2]})
    await it.sync()
    await it.settled()
    assert it.in_memory() == {"a@2"}
    assert await it.ask("a") == "a@2|a-2"
    assert len(it.script.live) == 1


@pytest.mark.parametrize("dies", [0, 1], ids=["the first", "the copy"])
async def test_what_is_elsewhere_too_survives_a_death_without_a_load(it: Bench, dies: int) -> None:
    it.manager.pin(A, pinned=True)
    await spread(it)
    places = workers_of(it)
    it.workers[places[dies] - 1].die()
    assert workers_of(it) == [places[1 - dies]]
    entry = it.memory.find(ModelRef(*A))
    assert entry is not None
    assert entry.pinned
    assert await it.ask("a") == "a@1|a-1"
    await it.settled()
    assert it.script.loads["a@1"] == 2, "once, and once more for the copy"
    assert it.memory.usage.models == 1


async def test_a_request_that_was_in_the_dead_worker_is_answered_by_the_other(it: Bench) -> None:
    await spread(it)
    task = asyncio.create_task(it.infer("a"))
    await asyncio.sleep(0)
    it.workers[workers_of(it)[0] - 1].die()
    assert await task == "a@1|a-1"


async def test_relief_takes_copies_before_models(it: Bench) -> None:
    await it.ask("b")
    (home,) = workers_of(it, B)
    assert workers_of(it) == [3 - home]
    await spread(it)  # a copy of ``a`` beside ``b``
    await it.manager.relief.relieve(B, deadline_s=it.clock.now_s + 5)
    assert it.in_memory() == {"a@1", "b@1"}
    assert workers_of(it) == [3 - home]


# A copy on its way


async def held_up(it: Bench) -> asyncio.Task[None]:
    it.script.gate("a").close()
    task = it.manager.copies.take(Copy(A, 3 - workers_of(it)[0]))
    assert task is not None
    await it.script.gate("a").arrived()
    return task


async def test_only_one_is_on_its_way_at_a_time(it: Bench) -> None:
    await it.ask("b")
    task = await held_up(it)
    assert it.manager.copies.take(Move(B, 3 - workers_of(it, B)[0])) is None
    it.script.gate("a").open()
    await task


async def test_a_copy_of_what_was_unloaded_meanwhile_is_unloaded_too(it: Bench) -> None:
    task = await held_up(it)
    await it.manager.unload([A], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
    it.script.gate("a").open()
    await task
    assert not it.script.live
    assert it.memory.usage.models == 0
    assert it.disk._holds == {}


async def test_a_stop_undoes_a_copy_that_is_on_its_way(it: Bench) -> None:
    task = await held_up(it)
    await it.manager.copies.close()
    assert task.cancelled()
    it.script.gate("a").open()
    assert it.memory.usage.models == 1
    assert await it.ask("a") == "a@1|a-1"


async def test_a_copy_that_cannot_be_loaded_changes_nothing_and_is_not_tried_soon(it: Bench) -> None:
    it.script.load_faults["a"] = LoadFailedError("no")
    task = it.manager.copies.take(Copy(A, 3 - workers_of(it)[0]))
    assert task is not None
    await task
    (failed,) = seen(it, CopyFailed)
    assert isinstance(failed, CopyFailed)
    assert failed.retry_in_s == FAILURE_FIRST_S
    assert await it.ask("a") == "a@1|a-1"
    assert it.memory.usage.models == 1
    assert len(it.manager.failures) == 0


async def test_a_copy_that_weighs_more_than_is_free_is_given_back(tmp_path: Path) -> None:
    store = FakeStore()
    versions(store, {"a": [1]})
    async with bench(tmp_path, store, processes_per_replica=2, model_cache_size="300KiB") as it:
        it.script.weights["a"] = 100 << 10
        await it.ask("a")
        it.script.weights["a"] = 290 << 10
        task = it.manager.copies.take(Copy(A, 3 - workers_of(it)[0]))
        assert task is not None
        await task
        assert len(workers_of(it)) == 1
        assert it.memory.usage.bytes == 100 << 10
        assert [event.kind for event in seen(it, CopyFailed)] == ["too_large"]  # type: ignore[union-attr]


async def test_what_the_store_has_no_more_is_not_copied(it: Bench) -> None:
    versions(it.store, {"a": [1]})  # written anew: other files under the same number
    it.script.gate("a").close()
    await it.sync()
    assert it.manager.copies.take(Copy(A, 3 - workers_of(it)[0])) is None
    it.script.gate("a").open()
    await it.settled()


# Looking


async def test_a_queue_that_stays_long_makes_a_copy_and_a_calm_takes_it_away(it: Bench) -> None:
    """The whole of it, with the queues that leases make; the fakes' own are told by the test."""
    leases = [await it.lease("a") for _ in range(6)]
    home = workers_of(it)[0]
    it.workers[home - 1].queued = 6
    look_for(it, 4.0)
    await it.settled()
    while it.manager.copies._task is not None:
        await asyncio.sleep(0)
    assert sorted(workers_of(it)) == [1, 2]
    for lease in leases:
        lease.release()
    it.workers[home - 1].queued = 0
    look_for(it, CALM_S + 8.0)
    await it.settled()
    assert len(workers_of(it)) == 1
    assert [event.cause for event in seen(it, CopyDropped)] == [Cause.IDLE]  # type: ignore[union-attr]


async def test_it_looks_until_it_is_cancelled(it: Bench) -> None:
    looks = asyncio.Semaphore(0)

    async def sleep(_seconds: float) -> None:
        it.clock.advance(0.1)
        looks.release()
        await asyncio.sleep(0)

    task = asyncio.create_task(it.manager.copies.run(sleep))
    for _ in range(5):
        await looks.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_time_that_a_thread_is_busy_includes_its_wait_for_a_processor(tmp_path: Path) -> None:
    (tmp_path / "schedstat").write_text("1500000000 250000000 7\n")
    assert thread_busy_s(tmp_path / "schedstat") == 1.75


def test_where_the_system_does_not_tell_it_is_the_time_on_a_processor(tmp_path: Path) -> None:
    before_s = time.thread_time()
    assert before_s <= thread_busy_s(tmp_path / "missing") <= time.thread_time()


@pytest.mark.parametrize("settings", [{"processes_per_replica": 1}, {"spread_hot_models": False}])
async def test_where_there_is_nowhere_to_go_nobody_looks(tmp_path: Path, settings: dict[str, object]) -> None:
    async with bench(tmp_path, **{"processes_per_replica": 2, **settings}) as it:
        await it.manager.copies.run()
