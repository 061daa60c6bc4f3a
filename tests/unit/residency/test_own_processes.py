"""Models that live alone, on fakes: which they are before the first load and after it, and how they leave and come back."""

from __future__ import annotations

from pathlib import Path

from hotset.events import Cause, Copied, Evicted, Loaded, WorkerDied
from hotset.keys import ModelKey, ModelRef
from hotset.testing import FakeStore, FakeWorker, versions
from residency_bench import Bench, bench

MIB = 1 << 20
ABOVE = {"own_process_above": "1MiB"}


def stored(**tree: list[int]) -> FakeStore:
    store = FakeStore()
    versions(store, tree)
    return store


def worker_of(it: Bench, key: str) -> FakeWorker:
    name, _, version = key.partition("@")
    entry = it.memory.entry(ModelKey(name, int(version)))
    assert entry is not None
    worker = entry.value.resident.worker
    assert isinstance(worker, FakeWorker)
    return worker


def alone(it: Bench) -> dict[str, int]:
    return {status.model: status.id for status in it.replica.pool.statuses() if status.model}


async def test_what_it_weighed_decides_from_the_second_load_on(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(a=[1]), model_cache_size=5, **ABOVE) as it:
        it.script.weights["a"] = 2 * MIB
        await it.ask("a")
        assert alone(it) == {}
        await it.manager.unload([ModelKey("a", 1)], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
        await it.ask("a")
        assert alone(it) == {"a@1": 2}


async def test_before_the_first_load_its_files_decide(tmp_path: Path) -> None:
    store = stored(small=[1])
    store.put("large/1/model.txt", b"x" * (2 * MIB))
    async with bench(tmp_path, store, model_cache_size=5, **ABOVE) as it:
        await it.ask("small")
        await it.ask("large")
        assert alone(it) == {"large@1": 2}
        await it.manager.unload([ModelKey("large", 1)], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
        assert alone(it) == {}
        await it.ask("large")  # it weighs 100 bytes, as is known by now
        assert alone(it) == {}


async def test_its_death_costs_its_model_alone_and_that_comes_back(tmp_path: Path) -> None:
    store = stored(small=[1])
    store.put("large/1/model.txt", b"x" * (2 * MIB))
    async with bench(tmp_path, store, model_cache_size=5, **ABOVE) as it:
        it.script.weights["large"] = 3 * MIB
        await it.ask("small")
        await it.ask("large")
        first = worker_of(it, "large@1")
        first.die("killed by signal 9 (SIGKILL)")
        assert it.in_memory() == {"small@1"}
        assert (await it.ask("large")).startswith("large@1|")
        assert worker_of(it, "large@1") is not first
        assert it.script.loads == {"small@1": 1, "large@1": 2}
        died = [event for event in it.seen if isinstance(event, WorkerDied)]
        assert [(event.worker, event.lost_models) for event in died] == [(first.id, 1)]


async def test_where_it_runs_out_of_memory_others_make_room(tmp_path: Path) -> None:
    """There is nothing beside it in its own process that could."""
    store = stored(idle=[1])
    store.put("large/1/model.txt", b"x" * (2 * MIB))
    async with bench(tmp_path, store, model_cache_size=5, **ABOVE) as it:
        await it.ask("idle")
        await it.ask("large")
        it.script.short_of_memory["large"] = 1
        assert (await it.infer("large")).startswith("large@1|")
        gone = [(str(event.key), event.cause) for event in it.seen if isinstance(event, Evicted)]
        assert gone == [("idle@1", Cause.PRESSURE)]


async def test_a_newer_version_gets_another_and_the_old_one_ends(tmp_path: Path) -> None:
    store = stored()
    store.put("city/1/model.txt", b"x" * (2 * MIB))
    async with bench(tmp_path, store, model_cache_size=5, **ABOVE) as it:
        await it.ask("city")
        old = worker_of(it, "city@1")
        store.put("city/2/model.txt", b"y" * (2 * MIB))
        await it.sync()
        await it.settled()
        assert (await it.ask("city")).startswith("city@2|")
        assert list(alone(it)) == ["city@2"]
        assert worker_of(it, "city@2") is not old


async def test_it_waits_for_the_room_of_those_who_leave_a_shared_worker(tmp_path: Path) -> None:
    """It cannot come in behind them: they leave another process than its own."""
    store = stored(small=[1])
    store.put("large/1/model.txt", b"x" * (2 * MIB))
    async with bench(tmp_path, store, model_cache_size=1, disk_model_cache_size=5, **ABOVE) as it:
        await it.ask("small")
        await it.ask("large")
        assert list(alone(it)) == ["large@1"]
        await it.ask("small")
        assert alone(it) == {}
        assert it.script.most_live == 1


async def test_a_hot_one_is_copied_nowhere(tmp_path: Path) -> None:
    store = stored(small=[1])
    store.put("large/1/model.txt", b"x" * (2 * MIB))
    async with bench(tmp_path, store, processes_per_replica=2, model_cache_size=5, **ABOVE) as it:
        await it.ask("small")
        leases = [await it.lease("large") for _ in range(30)]
        worker_of(it, "large@1").queued = 30
        for _ in range(200):
            it.clock.advance(0.1)
            it.manager.copies.look()
        await it.settled()
        for lease in leases:
            lease.release()
        assert [event for event in it.seen if isinstance(event, Copied)] == []
        entry = it.memory.find(ModelRef("large"))
        assert entry is not None
        assert entry.copies == ()


async def test_each_alone_as_many_as_there_may_be(tmp_path: Path) -> None:
    store = stored(a=[1], b=[1], c=[1])
    async with bench(tmp_path, store, isolation="own", max_own_processes=2) as it:
        assert it.memory.capacity.models == 2
        for name in "abcab":
            await it.ask(name)
            assert len(alone(it)) <= 2
        assert alone(it).keys() == {"a@1", "b@1"}
        assert it.script.most_live == 2
        assert {event.worker for event in it.seen if isinstance(event, Loaded)} == {1, 2}
        left = [str(event.key) for event in it.seen if isinstance(event, Evicted)]
        assert left == ["a@1", "b@1", "c@1"]


async def test_a_smaller_cache_counts_more_than_the_processes(tmp_path: Path) -> None:
    async with bench(tmp_path, isolation="own", max_own_processes=9, model_cache_size=3) as it:
        assert it.memory.capacity.models == 3
