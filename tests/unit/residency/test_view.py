"""What the status routes show, against what the replica does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotset.errors import ErrorKind, LoadFailedError, StoreError
from hotset.events import Cause
from hotset.keys import ModelKey
from hotset.status import ModelPage, ModelStatus, VersionState, VersionStatus
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench


def stored(**tree: list[int]) -> FakeStore:
    store = FakeStore()
    versions(store, tree)
    return store


async def page(it: Bench, prefix: str = "", limit: int = 100, after: str = "") -> ModelPage:
    deadline_s = it.clock.now_s + 5.0
    return await it.replica.dataplane.residency.models(
        prefix=prefix, limit=limit, after=after, deadline_s=deadline_s
    )


def names(found: ModelPage) -> list[str]:
    return [model.name for model in found.models]


async def model(it: Bench, name: str = "paris") -> ModelStatus:
    return next(model for model in (await page(it)).models if model.name == name)


async def version(it: Bench, name: str = "paris") -> VersionStatus:
    return (await model(it, name)).versions[-1]


async def test_pages_are_sorted_and_follow_each_other(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(**{f"m{number:02}": [1] for number in range(10)})) as it:
        first = await page(it, limit=4)
        assert (names(first), first.next) == (["m00", "m01", "m02", "m03"], "m03")
        second = await page(it, limit=4, after=first.next or "")
        last = await page(it, limit=4, after=second.next or "")
        assert (names(last), last.next) == (["m08", "m09"], None)
        assert (await page(it, limit=10)).next is None, "no empty page at the end"


@pytest.mark.parametrize(
    ("prefix", "after", "found"),
    [
        ("b", "", ["ba", "bb"]),
        ("b", "ba", ["bb"]),
        ("b", "a", ["ba", "bb"]),
        ("b", "zz", []),
        ("x", "", []),
        ("", "bb", ["c"]),
        ("", "b", ["ba", "bb", "c"]),
    ],
)
async def test_pages_of_a_prefix(tmp_path: Path, prefix: str, after: str, found: list[str]) -> None:
    async with bench(tmp_path, stored(a=[1], ba=[1], bb=[1], c=[1])) as it:
        assert names(await page(it, prefix=prefix, after=after)) == found


async def test_a_model_found_by_a_lookup_is_on_the_page(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1])) as it:
        versions(it.store, {"oslo": [1]})
        await it.ask("oslo")
        assert names(await page(it)) == ["oslo", "paris"]


async def test_the_life_of_a_version(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1])) as it:
        on_store = await version(it)
        assert (on_store.state, on_store.tier) == (VersionState.UNAVAILABLE, "store")
        assert "fetches" in on_store.reason
        assert (on_store.store_bytes, on_store.disk_bytes, on_store.memory_bytes) == (7, 0, 0)

        it.store.download_gate.close()
        gate = it.script.gate("paris")
        gate.close()
        asked = asyncio.create_task(it.lease("paris"))
        await it.store.download_gate.arrived()
        assert ((await version(it)).state, (await version(it)).reason) == (
            VersionState.LOADING,
            "being fetched from the store",
        )
        it.store.download_gate.open()
        await gate.arrived()
        assert ((await version(it)).state, (await version(it)).tier) == (VersionState.LOADING, "disk")
        assert (await version(it)).reason == "being loaded"
        gate.open()
        lease = await asked
        loaded = await version(it)
        assert (loaded.state, loaded.tier, loaded.reason) == (VersionState.READY, "memory", "")
        assert (loaded.disk_bytes, loaded.memory_bytes, loaded.leases) == (7, 100, 1)
        assert (await model(it)).serving == 1

        leaving = asyncio.create_task(
            it.manager.unload([ModelKey("paris", 1)], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
        )
        await asyncio.sleep(0)
        assert (await version(it)).state is VersionState.UNLOADING
        lease.release()
        await leaving
        on_disk = await version(it)
        assert (on_disk.state, on_disk.tier) == (VersionState.UNAVAILABLE, "disk")
        assert "from disk" in on_disk.reason
        assert (await model(it)).serving is None


async def test_a_version_whose_flight_has_only_just_begun(tmp_path: Path) -> None:
    """Regression: it showed as being loaded although it was not even fetched."""
    async with bench(tmp_path, stored(paris=[1])) as it:
        found = it.manager.catalog.version(ModelKey("paris", 1))
        assert found is not None
        it.manager.start_load(found)
        assert (await version(it)).reason == "being fetched from the store"
        await it.settled()


async def test_a_failure_shows_with_its_reason_and_its_retry(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1]), load_failure_backoff="5s") as it:
        it.script.load_faults["paris"] = LoadFailedError("ValueError: bad pickle")
        with pytest.raises(LoadFailedError):
            await it.ask("paris")
        it.clock.advance(2.0)
        failed = await version(it)
        assert (failed.failure, failed.reason) == (ErrorKind.LOAD_FAILED, "ValueError: bad pickle")
        assert failed.retry_in_s == pytest.approx(3.0)
        it.clock.advance(10.0)
        assert (await version(it)).retry_in_s == 0.0


async def test_latest_and_what_serves_for_it_may_differ(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1])) as it:
        await it.ask("paris")
        versions(it.store, {"paris": [2]})
        it.script.gate("paris").close()
        await it.sync()
        await it.script.gate("paris").arrived()
        assert ((await model(it)).latest, (await model(it)).serving) == (2, 1)
        it.script.gate("paris").open()
        await it.settled()
        assert ((await model(it)).latest, (await model(it)).serving) == (2, 2)


async def test_last_used_is_an_age(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1], rome=[1])) as it:
        assert (await model(it)).last_used_s is None
        await it.ask("paris")
        it.clock.advance(30.0)
        assert (await model(it)).last_used_s == pytest.approx(30.0, abs=0.1)
        assert (await version(it)).last_used_s == pytest.approx(30.0, abs=0.1)
        assert (await version(it, "rome")).last_used_s is None


async def test_the_server_s_status(tmp_path: Path) -> None:
    store = stored(paris=[1, 2], rome=[1])
    store.put("stray.txt", b"x")
    async with bench(tmp_path, store, model_cache_size=2, disk_model_cache_size=5) as it:
        it.clock.advance(10.0)
        await it.ask("rome")
        it.clock.advance(20.0)
        lease = await it.lease("paris")
        it.manager.pin(ModelKey("paris", 2), pinned=True)
        status = it.replica.dataplane.residency.status()
        assert status.uptime_s == pytest.approx(30.0, abs=0.1)
        assert (status.catalog.models, status.catalog.versions) == (2, 3)
        memory, disk = status.tiers
        assert (memory.tier, memory.models, memory.capacity_models) == ("memory", 2, 2)
        assert (memory.bytes, memory.leases, memory.pinned) == (200, 1, 1)
        assert memory.oldest_used_s == pytest.approx(20.0, abs=0.1)
        assert (disk.tier, disk.models, disk.bytes, disk.capacity_models) == ("disk", 2, 13, 5)
        assert [(worker.id, worker.alive, worker.models) for worker in status.workers] == [(1, True, 2)]
        assert status.sync.reason == ""
        lease.release()


async def test_a_sync_that_fails_shows_why(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1]), sync_interval="10s") as it:
        it.clock.advance(5.0)
        it.store.list_fault = StoreError("the bucket is away")
        await it.sync()
        sync = it.replica.dataplane.residency.status().sync
        assert (sync.enabled, sync.interval_s, sync.failures) == (True, 10.0, 1)
        assert sync.last_ok_s == pytest.approx(5.0)
        assert "away" in sync.reason
