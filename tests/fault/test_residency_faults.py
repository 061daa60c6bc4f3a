"""Faults on the way into memory, with the real tiers, fetch and manager: what the client gets, and what is left behind."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from hotset.errors import (
    CapacityError,
    ErrorKind,
    HotsetError,
    LoadFailedError,
    StoreError,
)
from hotset.events import Cause, Evicted, Fetched, FetchFailed, LoadFailed, TierName
from hotset.keys import ModelKey
from hotset.store import ObjectChangedError, ObjectMeta
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

PARIS = ModelKey("paris", 1)


class FlakyStore(FakeStore):
    """Downloads fail with these errors, one after the other, or leave what a test puts there; then they work."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: deque[Exception | Callable[[Path], None]] = deque()

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        if not self.faults:
            await super().download(object_, target)
            return
        self.counts["download"] += 1
        fault = self.faults.popleft()
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(fault, Exception):
            target.write_bytes(b"half")
            raise fault
        fault(target)


def stored(**tree: list[int]) -> FlakyStore:
    store = FlakyStore()
    versions(store, tree)
    return store


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


async def unload(it: Bench, *keys: ModelKey) -> None:
    await it.manager.unload(keys, Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)


def files_of(it: Bench, name: str) -> list[Path]:
    record = next(record for record in it.disk.records() if record.key.name == name)
    return sorted(path for path in it.disk.path(record.fingerprint).rglob("*") if path.is_file())


def nothing_is_left(it: Bench) -> None:
    assert it.disk.usage == (0, 0, ())
    assert it.memory.usage == (0, 0, ())
    assert it.disk._holds == {}
    assert it.words() == set()
    assert list((Path(it.replica.settings.disk_path) / "staging").iterdir()) == []


# The fetch


@pytest.mark.parametrize(
    ("faults", "expected", "kind"),
    [
        ([StoreError("slow"), StoreError("slow")], StoreError, ErrorKind.STORE_UNAVAILABLE),
        ([ObjectChangedError("other etag")], StoreError, ErrorKind.STORE_UNAVAILABLE),
        ([no_space(), no_space()], CapacityError, ErrorKind.DISK_FULL),
        ([OSError(errno.EDQUOT, "Disk quota exceeded")], CapacityError, ErrorKind.DISK_FULL),
        ([OSError(errno.EIO, "Input/output error")], LoadFailedError, ErrorKind.LOAD_FAILED),
        ([OSError(errno.EROFS, "Read-only file system")], LoadFailedError, ErrorKind.LOAD_FAILED),
        # Once, and it is fetched once more: test_files_that_are_not_as_listed_are_fetched_once_more.
        ([lambda path: path.write_bytes(b"short")] * 2, StoreError, ErrorKind.STORE_UNAVAILABLE),
        (
            [lambda path: path.write_bytes(b"longer than it was listed")] * 2,
            StoreError,
            ErrorKind.STORE_UNAVAILABLE,
        ),
        ([lambda _path: None] * 2, StoreError, ErrorKind.STORE_UNAVAILABLE),
    ],
)
async def test_a_fetch_that_fails(tmp_path, faults, expected, kind):
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        store.faults.extend(faults)
        with pytest.raises(expected) as error:
            await it.ask("paris")
        assert error.value.kind is kind
        assert error.value.key == PARIS
        await it.settled()
        nothing_is_left(it)
        failed = [event for event in it.seen if isinstance(event, FetchFailed | LoadFailed)]
        assert [(type(event), event.key, event.kind) for event in failed] == [
            (FetchFailed, PARIS, kind),
            (LoadFailed, PARIS, kind),
        ]
        store.faults.clear()
        it.clock.advance(1000.0)
        assert await it.ask("paris") == "paris@1|paris-1"


@pytest.mark.parametrize(
    "fault",
    [
        lambda path: path.write_bytes(b"short"),
        lambda path: path.write_bytes(b"longer than it was listed"),
        lambda _path: None,
    ],
    ids=["short", "longer", "none"],
)
async def test_files_that_are_not_as_listed_are_fetched_once_more(tmp_path, fault):
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        store.faults.append(fault)
        assert await it.ask("paris") == "paris@1|paris-1"
        assert store.counts["download"] == 2
        assert not [event for event in it.seen if isinstance(event, FetchFailed | LoadFailed)]
        await it.settled()


async def test_one_failed_download_is_tried_again_within_the_fetch(tmp_path):
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        store.faults.append(StoreError("reset by peer"))
        store.faults.append(lambda path: path.write_bytes(b"paris-1"))
        assert await it.ask("paris") == "paris@1|paris-1"
        assert store.counts["download"] == 2


async def test_a_store_that_fails_is_asked_again_at_once(tmp_path):
    """It is not the version's fault, so no backoff: the client's own retry is what comes next."""
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        store.faults.extend([StoreError("slow"), StoreError("slow")])
        with pytest.raises(StoreError):
            await it.ask("paris")
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_a_version_that_changes_between_the_pass_and_the_fetch_is_served_after_the_next_pass(tmp_path):
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        store.put("paris/1/model.txt", b"changed")
        with pytest.raises(StoreError, match="changed in the store"):
            await it.ask("paris")
        await it.sync()
        assert await it.ask("paris") == "paris@1|changed"


async def test_one_failed_object_of_many_leaves_nothing_of_the_others(tmp_path):
    store = stored()
    for number in range(20):
        store.put(f"paris/1/part-{number:02}", b"part")
    async with bench(tmp_path, store) as it:
        store.faults.extend([StoreError("slow")] * 40)
        with pytest.raises(StoreError):
            await it.ask("paris")
        await it.settled()
        nothing_is_left(it)


async def test_a_full_disk_makes_room_and_tries_once_more(tmp_path):
    store = stored(paris=[1], rome=[1])
    async with bench(tmp_path, store) as it:
        await it.ask("rome")
        await unload(it, ModelKey("rome", 1))
        store.faults.append(no_space())
        assert await it.ask("paris") == "paris@1|paris-1"
        assert it.on_disk() == {"paris@1"}
        evicted = [event for event in it.seen if isinstance(event, Evicted) and event.tier is TierName.DISK]
        assert [(event.key.name, event.cause) for event in evicted] == [("rome", Cause.PRESSURE)]


async def test_a_full_disk_keeps_what_is_in_memory(tmp_path):
    store = stored(paris=[1], rome=[1])
    async with bench(tmp_path, store) as it:
        await it.ask("rome")
        store.faults.extend([no_space(), no_space()])
        with pytest.raises(CapacityError, match="disk is full"):
            await it.ask("paris")
        assert it.on_disk() == {"rome@1"}
        assert await it.ask("rome") == "rome@1|rome-1"


async def test_a_fetch_that_fails_reaches_every_waiter_and_ends_one_flight(tmp_path):
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        store.faults.extend([StoreError("slow"), StoreError("slow")])
        errors = await asyncio.gather(*(it.ask("paris") for _ in range(20)), return_exceptions=True)
        assert all(isinstance(error, StoreError) for error in errors)
        assert store.counts["download"] == 2


async def test_the_store_goes_away_in_the_middle_of_a_fetch(tmp_path):
    store = stored(paris=[1], rome=[1])
    async with bench(tmp_path, store) as it:
        await it.ask("rome")
        store.download_gate.close()
        asked = asyncio.create_task(it.ask("paris"))
        await store.download_gate.arrived()
        store.list_fault = store.download_fault = StoreError("away")
        store.download_gate.open()
        with pytest.raises(StoreError):
            await asked
        await it.sync()
        assert await it.ask("rome") == "rome@1|rome-1"


# Files that are damaged on disk


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"longer than it was"),
        lambda path: (path.unlink(), path.symlink_to("/etc/hostname")),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
async def test_damaged_files_are_noticed_at_the_next_load_and_fetched_again_once(tmp_path, damage):
    """Regression: the load failed, and went on failing with backoff until somebody cleaned the disk."""
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        await it.ask("paris")
        damage(files_of(it, "paris")[0])
        assert await it.ask("paris") == "paris@1|paris-1", "what is loaded goes on"
        await unload(it, PARIS)
        assert await it.ask("paris") == "paris@1|paris-1"
        await it.settled()
        assert store.counts["download"] == 2
        evicted = [event for event in it.seen if isinstance(event, Evicted) and event.tier is TierName.DISK]
        assert [(event.key, event.cause) for event in evicted] == [(PARIS, Cause.CORRUPT)]
        assert len([event for event in it.seen if isinstance(event, Fetched)]) == 2
        await unload(it, PARIS)
        assert await it.ask("paris") == "paris@1|paris-1"
        assert store.counts["download"] == 2


async def test_damaged_files_while_the_store_is_away(tmp_path):
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        await it.ask("paris")
        await unload(it, PARIS)
        files_of(it, "paris")[0].unlink()
        store.list_fault = StoreError("away")
        with pytest.raises(StoreError):
            await it.ask("paris")
        assert len(it.manager.failures) == 0
        store.list_fault = None
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_extra_files_beside_a_version_do_no_harm(tmp_path):
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        await it.ask("paris")
        await unload(it, PARIS)
        (files_of(it, "paris")[0].parent / "zz.cache").write_text("a model's own")
        assert (await it.ask("paris")).startswith("paris@1|paris-1")
        assert store.counts["download"] == 1


async def test_damaged_files_that_another_flight_was_about_to_load(tmp_path):
    """Two models share their files. One finds them damaged while the other is about to load them."""
    store = stored(rome=[1])
    for name in ("paris", "oslo"):
        store.put(f"{name}/1/model.txt", b"same")
        store.objects[f"{name}/1/model.txt"].etag = "the-same"
    async with bench(tmp_path, store, model_cache_size=1) as it:
        await it.ask("paris")
        lease = await it.lease("rome")
        waiting = asyncio.create_task(it.ask("paris"))
        while it.memory._ledger.statistics().reservations == 0:
            await asyncio.sleep(0)
        files_of(it, "paris")[0].unlink()
        store.download_gate.close()
        other = asyncio.create_task(it.ask("oslo"))
        lease.release()
        await store.download_gate.arrived()
        store.download_gate.open()
        assert await waiting == "paris@1|same"
        assert await other == "oslo@1|same"
        assert store.counts["download"] == 3, "rome, and the shared files once before and once after"


# Loads and workers


async def test_a_load_that_fails_keeps_the_files_and_gives_the_room_back(tmp_path):
    store = stored(paris=[1], rome=[1])
    async with bench(tmp_path, store, model_cache_size=1) as it:
        it.script.load_faults["paris"] = LoadFailedError("ValueError: bad pickle")
        with pytest.raises(LoadFailedError, match="bad pickle"):
            await it.ask("paris")
        await it.settled()
        assert it.on_disk() == {"paris@1"}
        assert it.memory.usage == (0, 0, ())
        assert await it.ask("rome") == "rome@1|rome-1"


async def test_a_load_that_raises_something_else_is_an_error_and_no_leak(tmp_path):
    """A worker never does that; if it does, the flight ends all the same."""
    store = stored(paris=[1])
    async with bench(tmp_path, store, model_cache_size=1) as it:
        it.script.load_faults["paris"] = RuntimeError("a bug")
        with pytest.raises(RuntimeError):
            await it.ask("paris")
        del it.script.load_faults["paris"]
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_a_worker_that_is_killed_over_and_over(tmp_path):
    store = stored(a=[1], b=[1], c=[1])
    async with bench(tmp_path, store, model_cache_size=2, processes_per_replica=2) as it:
        for round_ in range(12):
            for name in "abc":
                assert await it.ask(name) == f"{name}@1|{name}-1"
            workers = it.replica.pool.workers
            workers[round_ % len(workers)].die()
            it.clock.advance(60.0)
            it.check()
        await it.settled()
        for name in "abc":
            assert await it.ask(name) == f"{name}@1|{name}-1"
        assert store.counts["download"] == 3


async def test_a_prediction_in_a_worker_that_dies_and_its_retry(tmp_path):
    """What the data plane does: one more attempt, with a fresh lease."""
    store = stored(paris=[1])
    async with bench(tmp_path, store) as it:
        await it.ask("paris")
        answers = [asyncio.create_task(it.infer("paris")) for _ in range(20)]
        await asyncio.sleep(0)
        it.workers[0].die()
        assert set(await asyncio.gather(*answers)) == {"paris@1|paris-1"}


async def test_a_prediction_out_of_memory_and_its_retry(tmp_path):
    store = stored(a=[1], b=[1], c=[1])
    async with bench(tmp_path, store) as it:
        for name in "abc":
            await it.ask(name)
        it.script.short_of_memory["c"] = 1
        assert await it.infer("c") == "c@1|c-1"
        assert it.in_memory() == {"b@1", "c@1"}
        it.script.short_of_memory["c"] = 2
        with pytest.raises(HotsetError) as error:
            await it.infer("c")
        assert error.value.kind is ErrorKind.OUT_OF_MEMORY
        assert it.in_memory() == {"c@1"}
