"""What a worker's death takes out of memory, and what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotset.errors import LoadFailedError
from hotset.events import Cause, Evicted, WorkerDied
from hotset.keys import ModelKey, ModelRef
from hotset.testing import FakeStore, versions
from residency_bench import bench


def stored(**tree: list[int]) -> FakeStore:
    store = FakeStore()
    versions(store, tree)
    return store


async def test_only_what_was_in_the_dead_worker_is_lost(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(a=[1], b=[1], c=[1], d=[1]), processes_per_replica=2) as it:
        for name in "abcd":
            await it.ask(name)
        lost = {str(e.key) for e in it.memory.entries() if e.value.resident.worker.id == 1}
        assert len(lost) == 2
        it.workers[0].die()
        assert it.in_memory() == {"a@1", "b@1", "c@1", "d@1"} - lost
        await it.settled()
        assert it.in_memory() == {"a@1", "b@1", "c@1", "d@1"}
        evicted = [event for event in it.seen if isinstance(event, Evicted)]
        assert {(str(event.key), event.cause) for event in evicted} == {
            (key, Cause.WORKER_DIED) for key in lost
        }
        died = [event for event in it.seen if isinstance(event, WorkerDied)]
        assert [(event.worker, event.lost_models) for event in died] == [(1, 2)]


async def test_the_most_recently_used_comes_back_first(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(a=[1], b=[1], c=[1]), parallel_loads=1) as it:
        for name in "abcb":
            await it.ask(name)
        it.script.loads.clear()
        it.workers[0].die()
        await it.settled()
        assert list(it.script.loads) == ["b@1", "c@1", "a@1"]


async def test_latest_comes_back_as_what_it_means_by_now(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1], rome=[1]), model_cache_size=2) as it:
        await it.ask("paris")
        await it.ask("rome")
        versions(it.store, {"paris": [2]})
        await it.sync()
        it.workers[0].die()
        await it.settled()
        assert it.in_memory() == {"paris@2", "rome@1"}


async def test_what_fails_to_come_back_leaves_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1], rome=[1])) as it:
        await it.ask("paris")
        await it.ask("rome")
        it.script.load_faults["paris"] = LoadFailedError("bad")
        it.workers[0].die()
        await it.settled()
        assert it.in_memory() == {"rome@1"}
        assert it.words() == {ModelRef("rome")}
        with pytest.raises(LoadFailedError):
            await it.ask("paris")


async def test_what_may_not_be_tried_yet_leaves_nothing(tmp_path: Path) -> None:
    """Regression: its last-used time stayed for ever."""
    async with bench(tmp_path, stored(paris=[1])) as it:
        await it.ask("paris", "1")
        version = it.manager.catalog.version(ModelKey("paris", 1))
        assert version is not None
        it.manager.failures.note(version.key, version.fingerprint, LoadFailedError("bad"), it.clock.now_s)
        it.workers[0].die()
        await it.settled()
        assert it.words() == set()


async def test_a_pin_nobody_has_asked_for_lately_comes_back(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(paris=[1])) as it:
        version = it.manager.catalog.version(ModelKey("paris", 1))
        assert version is not None
        await it.manager.ensure_loaded(version, deadline_s=it.clock.now_s + 5)
        it.manager.pin(version.key, pinned=True)
        it.workers[0].die()
        await it.settled()
        assert [entry.pinned for entry in it.memory.entries()] == [True]
