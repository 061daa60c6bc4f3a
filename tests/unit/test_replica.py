"""The composition root: what stands after the start, what is ready when, and what an end leaves behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotset.assembly.ground import CATALOG, Ground
from hotset.catalog import Snapshot
from hotset.config import Settings
from hotset.errors import ConfigError, ErrorKind, OverloadedError, StoreError, UnavailableError
from hotset.events import Recovered, Synced
from hotset.keys import ModelRef
from hotset.replica import Replica
from hotset.residency.snapshot_file import SnapshotFile
from hotset.residency.warmup import read_hot_set
from hotset.testing import FakeStore, versions
from residency_bench import Bench
from waiting import until


def stored(**tree: list[int]) -> FakeStore:
    store = FakeStore()
    versions(store, tree)
    return store


async def stopped(it: Bench) -> None:
    """As a test that has failed in the middle would leave it, too."""
    it.script.unload_gate.open()
    await it.replica.stop()


async def test_it_is_ready_once_the_store_was_listed(tmp_path: Path) -> None:
    it = Bench(tmp_path, stored(paris=[1]))
    it.store.list_gate.close()
    await it.replica.start()
    try:
        await it.store.list_gate.arrived()
        readiness = it.replica.readiness()
        assert (readiness.ready, readiness.reason) == (False, "the store has not been listed yet")
        it.store.list_gate.open()
        await until(lambda: it.replica.readiness().ready)
        assert await it.infer("paris") == "paris@1|paris-1"
    finally:
        await stopped(it)


async def test_it_says_why_it_is_not_ready(tmp_path: Path) -> None:
    it = Bench(tmp_path, stored(paris=[1]))
    it.store.list_fault = StoreError("no such bucket: city-models")
    await it.replica.start()
    try:
        await until(lambda: "no such bucket" in it.replica.readiness().reason)
        with pytest.raises(UnavailableError):
            await it.infer("paris")
    finally:
        await stopped(it)


async def test_it_is_ready_once_what_is_to_be_preloaded_was_tried(tmp_path: Path) -> None:
    it = Bench(tmp_path, stored(paris=[1], rome=[1, 2]), preload=["paris", "rome@1", "missing"])
    gate = it.script.gate("rome")
    gate.close()
    await it.replica.start()
    try:
        await gate.arrived()
        assert it.replica.readiness().reason == "models are being preloaded"
        gate.open()
        await until(lambda: it.replica.readiness().ready)
        assert it.in_memory() == {"paris@1", "rome@1"}
    finally:
        await stopped(it)


async def test_it_is_not_ready_without_a_worker(tmp_path: Path) -> None:
    it = Bench(tmp_path, stored(paris=[1]))
    await it.replica.start()
    try:
        await until(lambda: it.replica.readiness().ready)
        it.workers[0].die()
        assert it.replica.readiness().reason == "no worker is up"
        await until(lambda: it.replica.readiness().ready)
    finally:
        await stopped(it)


def test_a_directory_that_is_away_keeps_only_those_from_starting_who_know_nothing_of_it(
    tmp_path: Path,
) -> None:
    away = tmp_path / "away"
    kept = {"model_dir": str(away), "disk_path": str(tmp_path / "disk"), "processes_per_replica": 0}
    with pytest.raises(ConfigError, match="the directory does not exist"):
        Replica(Settings(**kept))
    away.mkdir()
    ground = Ground.of(Settings(**kept), clock=None, events=None, store=None)
    away.rmdir()
    SnapshotFile(tmp_path / "disk" / CATALOG, origin=ground.origin).write(Snapshot())
    assert Ground.of(Settings(**kept), clock=None, events=None, store=None).store.url == str(away)
    with pytest.raises(ConfigError, match=r"does not exist: .+elsewhere"):
        Replica(Settings(**{**kept, "model_dir": str(tmp_path / "elsewhere")}))


async def test_a_restart_loads_what_was_hot_and_serves_without_its_store(tmp_path: Path) -> None:
    store = stored(a=[1], b=[1], c=[1])
    first = Bench(tmp_path, store, model_cache_size=2)
    await first.replica.start()
    await until(lambda: first.replica.readiness().ready)
    for name in "abc":
        await first.infer(name)
        first.clock.advance(1.0)
    await stopped(first)
    assert [word.name for word in read_hot_set(tmp_path / "hot.json")] == ["b", "c"]
    store.list_fault = store.download_fault = StoreError("away")
    second = Bench(tmp_path, store, model_cache_size=2)
    await second.replica.start()
    try:
        await until(lambda: second.in_memory() == {"b@1", "c@1"})
        assert [event for event in second.seen if isinstance(event, Recovered)] == [Recovered(3, 0, 9)]
        for name in "abc":
            assert await second.infer(name) == f"{name}@1|{name}-1"
    finally:
        await stopped(second)
    assert store.counts["download"] == 3


async def test_an_end_waits_for_what_is_inside_and_refuses_what_comes(tmp_path: Path) -> None:
    it = Bench(tmp_path, stored(paris=[1]))
    await it.replica.start()
    await until(lambda: it.replica.readiness().ready)
    gate = it.script.gate("paris")
    gate.close()
    inside = asyncio.create_task(it.infer("paris"))
    await gate.arrived()
    stopping = asyncio.create_task(it.replica.stop())
    await until(lambda: it.replica.dataplane.draining)
    with pytest.raises(UnavailableError) as error:
        await it.infer("paris")
    assert error.value.kind is ErrorKind.SHUTTING_DOWN
    assert not stopping.done()
    gate.open()
    assert await inside == "paris@1|paris-1"
    await stopping
    assert not it.script.live


async def test_an_end_does_not_wait_for_ever(tmp_path: Path) -> None:
    it = Bench(tmp_path, stored(paris=[1]), drain_timeout="0.05s")
    await it.replica.start()
    await until(lambda: it.replica.readiness().ready)
    gate = it.script.gate("paris")
    gate.close()
    inside = asyncio.create_task(it.infer("paris"))
    await gate.arrived()
    await it.replica.stop()
    with pytest.raises((asyncio.CancelledError, UnavailableError)):
        await inside
    assert it.memory.usage == (0, 0, ())


async def test_a_second_replica_on_the_same_directory_is_refused_and_leaves_the_first_alone(
    tmp_path: Path,
) -> None:
    store = stored(paris=[1])
    first = Bench(tmp_path, store)
    await first.replica.start()
    try:
        await until(lambda: first.replica.readiness().ready)
        second = Bench(tmp_path, store)
        with pytest.raises(ConfigError, match="used by another process"):
            await second.replica.start()
        assert await first.infer("paris") == "paris@1|paris-1"
    finally:
        await stopped(first)


async def test_a_worker_that_does_not_start_leaves_the_directory_free(tmp_path: Path) -> None:
    it = Bench(tmp_path, stored(paris=[1]))
    it.script.start_fault = ConfigError("predictor.py, line 3: no load_model")
    with pytest.raises(ConfigError, match="line 3"):
        await it.replica.start()
    again = Bench(tmp_path, it.store)
    await again.replica.start()
    await stopped(again)


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    it = Bench(tmp_path, stored(paris=[1]), max_queue=2, max_concurrency_per_model=2)
    await it.replica.start()
    try:
        await until(lambda: it.replica.readiness().ready)
        gate = it.script.gate("paris")
        gate.close()
        inside = [asyncio.create_task(it.infer("paris")) for _ in range(2)]
        await gate.arrived()
        with pytest.raises(OverloadedError):
            await it.infer("paris")
        gate.open()
        await asyncio.gather(*inside)
    finally:
        await stopped(it)


async def test_a_flooded_cold_model_leaves_places_for_hot_ones_and_for_other_cold_ones(
    tmp_path: Path,
) -> None:
    it = Bench(tmp_path, stored(hot=[1], flooded=[1], other=[1]), max_queue=20)
    await it.replica.start()
    inside: list[asyncio.Task[str]] = []
    try:
        await until(lambda: it.replica.readiness().ready)
        await it.infer("hot")
        gate = it.script.gate("flooded")
        gate.close()
        inside += [asyncio.create_task(it.infer("flooded")) for _ in range(10)]
        await gate.arrived()
        with pytest.raises(OverloadedError, match="model 'flooded'") as refused:
            await it.infer("flooded")
        assert refused.value.retry_after_s
        assert await it.infer("hot") == "hot@1|hot-1"
        assert await it.infer("other") == "other@1|other-1"
        assert it.replica.dataplane.admission.refusals == {"queue": 0, "model": 1, "loading": 0}
        gate.open()
        assert set(await asyncio.gather(*inside)) == {"flooded@1|flooded-1"}
    finally:
        await stopped(it)


async def test_one_model_has_no_more_inside_than_it_may(tmp_path: Path) -> None:
    it = Bench(tmp_path, stored(paris=[1, 2], rome=[1]), max_concurrency_per_model=3)
    await it.replica.start()
    try:
        await until(lambda: it.replica.readiness().ready)
        leases = [await it.lease("paris"), await it.lease("paris", "1"), await it.lease("paris", "1")]
        dataplane = it.replica.dataplane
        for _ in leases:
            dataplane.enter(ModelRef("paris"))
        with pytest.raises(OverloadedError, match="model 'paris'"):
            await it.infer("paris")
        assert await it.infer("rome") == "rome@1|rome-1"
        for lease in leases:
            lease.release()
            dataplane.leave()
        assert await it.infer("paris") == "paris@2|paris-2"
    finally:
        await stopped(it)


async def test_a_static_list_is_listed_once(tmp_path: Path) -> None:
    store = FakeStore()
    store.put("paris/model.txt", b"static")
    it = Bench(tmp_path, store, models={"paris": "./unused"}, sync_interval="0.001s")
    await it.replica.start()
    try:
        await until(lambda: it.replica.readiness().ready)
        assert await it.infer("paris") == "paris@1|static"
        assert not it.replica.dataplane.residency.status().sync.enabled
        assert len([event for event in it.seen if isinstance(event, Synced)]) == 1
    finally:
        await stopped(it)


@pytest.mark.parametrize("name", ["acme", "acme/paris/1", "acme//paris", "../acme"])
async def test_a_name_of_another_depth_is_not_looked_for(tmp_path: Path, name: str) -> None:
    store = FakeStore()
    store.put("acme/paris/1/model.txt", b"deep")
    it = Bench(tmp_path, store, name_depth=2)
    await it.start()
    listings = store.counts["list"]
    assert await it.replica.finding.find(name) is None
    assert store.counts["list"] == listings
    assert await it.ask("acme/paris") == "acme/paris@1|deep"
    await it.stop()


async def test_what_is_saved_after_a_pass_is_enough_after_a_kill(tmp_path: Path) -> None:
    """The hot set is not only written at the end."""
    it = Bench(tmp_path, stored(paris=[1]))
    await it.replica.start()
    try:
        await until(lambda: it.replica._hot_set.is_loaded)
        await it.infer("paris")
        assert it.manager.lease_now(ModelRef("oslo")) is None
        it.replica.sync.trigger()
        await until(lambda: [word.name for word in read_hot_set(tmp_path / "hot.json")] == ["paris"])
    finally:
        await stopped(it)


@pytest.mark.parametrize(
    ("processes", "isolation", "workers", "copies"),
    [
        (0, "auto", 1, 0),
        (1, "auto", 2, 0),
        (1, "shared", 1, 0),
        (2, "auto", 3, 1),
        (2, "shared", 2, 1),
        (2, "own", 0, 0),
    ],
)
async def test_a_process_more_is_for_loads_and_not_for_copies(
    tmp_path: Path, processes: int, isolation: str, workers: int, copies: int
) -> None:
    settings = Settings(
        model_dir=str(tmp_path),
        disk_path=str(tmp_path / "disk"),
        processes_per_replica=processes,
        isolation=isolation,  # type: ignore[arg-type]
    )
    replica = Replica(settings, store=FakeStore())
    assert replica.pool.size == workers
    assert replica.manager.copies.most_copies == copies
    await replica.stop()
