"""The admin's verbs and the statuses, on a whole replica of fakes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotset.errors import LoadFailedError, LoadingError, NotFoundError, StoreError
from hotset.events import Cause
from hotset.keys import ModelKey, ModelRef
from hotset.residency.front import Front
from hotset.status import VersionState
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

PARIS = ModelRef("paris")


def front(it: Bench) -> Front:
    found = it.replica.dataplane.residency
    assert isinstance(found, Front)
    return found


def soon(it: Bench, seconds: float = 5.0) -> float:
    return it.clock.now_s + seconds


def stored(**tree: list[int]) -> FakeStore:
    store = FakeStore()
    versions(store, tree)
    return store


async def test_load_returns_when_it_is_there(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1, 2])) as it:
        status = await front(it).load(PARIS, deadline_s=soon(it))
        assert (status.latest, status.serving) == (2, 2)
        assert [version.state for version in status.versions] == [
            VersionState.UNAVAILABLE,
            VersionState.READY,
        ]
        assert it.in_memory() == {"paris@2"}


async def test_load_brings_the_newest_although_an_older_one_would_answer(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1], rome=[1]), model_cache_size=2) as it:
        await it.ask("paris")
        await it.ask("rome")
        versions(it.store, {"paris": [2]})
        await it.sync()
        await it.settled()
        assert "paris@2" not in it.in_memory(), "the coldest is not loaded ahead into a full memory"
        status = await front(it).load(PARIS, deadline_s=soon(it))
        assert status.serving == 2
        assert await it.ask("paris") == "paris@2|paris-2"


async def test_load_sees_what_was_published_a_moment_ago(tmp_path: Path) -> None:
    """Regression: a version that somebody had asked for too early could not be loaded for as long as the no was remembered."""
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        with pytest.raises(NotFoundError):
            await front(it).load(ModelRef("paris", 2), deadline_s=soon(it))
        versions(store, {"paris": [2]})
        await front(it).load(ModelRef("paris", 2), deadline_s=soon(it))
        versions(store, {"paris": [3]})
        status = await front(it).load(PARIS, deadline_s=soon(it))
        assert status.latest == 3
        assert "paris@3" in it.in_memory()


async def test_load_needs_no_store_for_what_is_known(tmp_path: Path) -> None:
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        await it.ask("paris")
        store.list_fault = StoreError("away")
        await front(it).load(PARIS, deadline_s=soon(it))


async def test_load_tells_why_it_cannot(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1])) as it:
        it.script.load_faults["paris"] = LoadFailedError("bad pickle")
        for _ in range(2):
            with pytest.raises(LoadFailedError, match="bad pickle"):
                await front(it).load(PARIS, deadline_s=soon(it))
        with pytest.raises(NotFoundError):
            await front(it).load(ModelRef("oslo"), deadline_s=soon(it))


async def test_unload_takes_one_version_or_all(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1, 2, 3])) as it:
        for version in ("1", "2", "3"):
            await it.ask("paris", version)
        await front(it).unload(ModelRef("paris", 2), deadline_s=soon(it))
        assert it.in_memory() == {"paris@1", "paris@3"}
        status = await front(it).unload(PARIS, deadline_s=soon(it))
        assert it.in_memory() == set()
        assert status.serving is None
        assert it.on_disk() == {"paris@1", "paris@2", "paris@3"}


async def test_unload_waits_for_leases_and_says_so_at_the_deadline(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1])) as it:
        lease = await it.lease("paris")
        for _ in range(2):  # the second finds it on its way out
            with pytest.raises(LoadingError, match="still in use"):
                await front(it).unload(PARIS, deadline_s=soon(it, 0.01))
        lease.release()
        await it.settled()
        assert it.in_memory() == set()


async def test_unload_of_what_is_not_loaded_is_fine_and_of_what_is_not_there_is_not(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1])) as it:
        await front(it).unload(PARIS, deadline_s=soon(it))
        with pytest.raises(NotFoundError):
            await front(it).unload(ModelRef("oslo"), deadline_s=soon(it))


async def test_a_pin_keeps_a_version_and_an_unpin_lets_it_go(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1], rome=[1], oslo=[1]), model_cache_size=2) as it:
        status = await front(it).pin(PARIS, deadline_s=soon(it))
        assert status.versions[0].pinned
        for name in ("rome", "oslo", "rome"):
            await it.ask(name)
        assert "paris@1" in it.in_memory()
        status = await front(it).unpin(PARIS, deadline_s=soon(it))
        assert not status.versions[0].pinned
        await it.ask("oslo")
        assert it.in_memory() == {"rome@1", "oslo@1"}


async def test_an_unload_ends_a_pin(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1], rome=[1]), model_cache_size=1) as it:
        await front(it).pin(PARIS, deadline_s=soon(it))
        await front(it).unload(PARIS, deadline_s=soon(it))
        await it.ask("paris")
        assert await it.ask("rome") == "rome@1|rome-1"


async def test_a_pin_of_what_leaves_meanwhile_says_so(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1], rome=[1])) as it:
        gate = it.script.gate("paris")
        gate.close()
        pinning = asyncio.create_task(front(it).pin(PARIS, deadline_s=soon(it)))
        await gate.arrived()
        it.store.delete("paris/")
        await it.sync()
        gate.open()
        with pytest.raises(LoadingError, match="try again"):
            await pinning
        assert it.memory.statistics().leases == 0


async def test_metadata_loads_a_version_once_and_then_knows_it(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1, 2])) as it:
        metadata = await front(it).metadata(PARIS, deadline_s=soon(it))
        assert (metadata.name, metadata.versions, metadata.signature.platform) == ("paris", (1, 2), "fake")
        await it.manager.unload([ModelKey("paris", 2)], Cause.EXPLICIT, deadline_s=soon(it))
        await front(it).metadata(PARIS, deadline_s=soon(it))
        assert it.script.loads == {"paris@2": 1}
        assert it.memory.statistics().leases == 0


async def test_ready_of_memory_of_disk_and_of_a_failure(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1]), load_failure_backoff="5s") as it:
        assert (await front(it).ready(PARIS, resident=False, deadline_s=soon(it))).ready
        resident = await front(it).ready(PARIS, resident=True, deadline_s=soon(it))
        assert not resident.ready
        assert "paris@1 is not in memory" in resident.reason
        it.script.load_faults["paris"] = LoadFailedError("bad pickle")
        with pytest.raises(LoadFailedError):
            await it.ask("paris")
        failed = await front(it).ready(PARIS, resident=False, deadline_s=soon(it))
        assert (failed.ready, failed.reason) == (False, "bad pickle")
        del it.script.load_faults["paris"]
        it.clock.advance(6.0)
        await it.ask("paris")
        assert (await front(it).ready(PARIS, resident=True, deadline_s=soon(it))).ready


async def test_a_model_s_status_may_be_looked_up(tmp_path: Path) -> None:
    async with bench(tmp_path, stored()) as it:
        versions(it.store, {"paris": [1, 4]})
        status = await front(it).model("paris", deadline_s=soon(it))
        assert [version.version for version in status.versions] == [1, 4]
        with pytest.raises(NotFoundError):
            await front(it).model("oslo", deadline_s=soon(it))
