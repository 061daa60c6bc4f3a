"""The fakes that hotset ships: they do what they promise, so that tests built on them mean something."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotset.errors import ErrorKind, LoadFailedError, StoreError, UnavailableError, WorkerDiedError
from hotset.store import ObjectChangedError, ObjectMeta
from hotset.testing import FakeStore, FakeWorker, Gate, ManualClock, WorkerScript, versions
from hotset.workers.base import LoadSpec, PredictCall


async def listed(store: FakeStore, prefix: str = "") -> list[list[ObjectMeta]]:
    return [list(page) async for page in store.list(prefix)]


def test_the_clock_moves_when_it_is_told_to() -> None:
    clock = ManualClock(5.0)
    assert clock.monotonic() == clock.wall() == 5.0
    clock.advance(2.5)
    assert clock.monotonic() == 7.5


async def test_a_gate_holds_callers_up_and_tells_of_each() -> None:
    gate = Gate()
    await gate.pass_through()
    gate.close()
    callers = [asyncio.create_task(gate.pass_through()) for _ in range(2)]
    await gate.arrived()
    await gate.arrived()
    assert not any(caller.done() for caller in callers)
    gate.open()
    await asyncio.gather(*callers)


async def test_a_store_lists_in_pages_sorted_below_a_prefix() -> None:
    store = FakeStore(page_size=2)
    versions(store, {"b": [1], "a": [1, 2], "ab": [1]})
    pages = await listed(store)
    assert [[meta.path for meta in page] for page in pages] == [
        ["a/1/model.txt", "a/2/model.txt"],
        ["ab/1/model.txt", "b/1/model.txt"],
    ]
    assert [[meta.path for meta in page] for page in await listed(store, "a/")] == [
        ["a/1/model.txt", "a/2/model.txt"]
    ]
    assert store.counts["list"] == 2


async def test_each_write_has_its_own_etag_and_an_old_one_is_refused(tmp_path: Path) -> None:
    store = FakeStore()
    store.put("a/1/m", b"one")
    [[old]] = await listed(store)
    store.put("a/1/m", b"two")
    [[new]] = await listed(store)
    assert old.etag != new.etag
    with pytest.raises(ObjectChangedError):
        await store.download(old, tmp_path / "old")
    await store.download(new, tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b"two"
    assert not (tmp_path / "old").exists()
    with pytest.raises(FileExistsError):
        await store.download(new, tmp_path / "new")
    assert store.downloads["a/1/m"] == 3


async def test_a_store_fails_as_it_is_told_to(tmp_path: Path) -> None:
    store = FakeStore()
    store.put("a/1/m", b"one")
    [[meta]] = await listed(store)
    store.list_fault = store.download_fault = StoreError("away")
    with pytest.raises(StoreError):
        await listed(store)
    with pytest.raises(StoreError):
        await store.download(meta, tmp_path / "m")


async def test_reads_and_deletions() -> None:
    store = FakeStore()
    store.put("a/1/m", b"12345")
    assert await store.read("a/1/m", limit_bytes=3) == b"123"
    assert await store.read("a/1/other") is None
    store.delete("a/")
    assert await listed(store) == []


@pytest.fixture
def script() -> WorkerScript:
    return WorkerScript()


def spec(tmp_path: Path, handle: int = 1, name: str = "paris") -> LoadSpec:
    (tmp_path / "model.txt").write_text("contents")
    return LoadSpec(handle, name, 1, str(tmp_path))


async def test_a_worker_answers_with_what_it_has_loaded(tmp_path: Path, script: WorkerScript) -> None:
    worker = FakeWorker(3, lambda _: None, script)
    await worker.start()
    script.weights["paris"] = 42
    reply = await worker.load(spec(tmp_path))
    assert (reply.bytes, worker.id, worker.pid, worker.queued) == (42, 3, None, 0)
    (tmp_path / "model.txt").write_text("changed on disk")
    assert (await worker.predict(PredictCall(1, "", b""))).body == b"paris@1|contents"
    assert script.live.keys() == {1}
    await worker.unload(1)
    await worker.unload(1)
    assert not script.live
    assert script.most_live == 1


async def test_use_after_unload_is_noted(tmp_path: Path, script: WorkerScript) -> None:
    worker = FakeWorker(1, lambda _: None, script)
    await worker.load(spec(tmp_path))
    await worker.unload(1)
    with pytest.raises(UnavailableError):
        await worker.predict(PredictCall(1, "", b""))
    assert script.used_after_unload == [1]


async def test_loads_fail_and_wait_as_told(tmp_path: Path, script: WorkerScript) -> None:
    worker = FakeWorker(1, lambda _: None, script)
    script.load_faults["paris"] = LoadFailedError("bad")
    with pytest.raises(LoadFailedError):
        await worker.load(spec(tmp_path))
    script.load_faults.clear()
    with pytest.raises(LoadFailedError, match="no files"):
        await worker.load(LoadSpec(2, "rome", 1, str(tmp_path / "nothing")))
    gate = script.gate("paris")
    gate.close()
    loading = asyncio.create_task(worker.load(spec(tmp_path)))
    await gate.arrived()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert not script.live
    assert script.loads == {"paris@1": 2, "rome@1": 1}


async def test_a_death_fails_what_is_under_way_and_is_told_once(tmp_path: Path, script: WorkerScript) -> None:
    deaths: list[str] = []
    worker = FakeWorker(1, deaths.append, script)
    await worker.load(spec(tmp_path))
    script.gate("rome").close()
    loading = asyncio.create_task(worker.load(spec(tmp_path, 2, "rome")))
    predicting = asyncio.ensure_future(worker.predict(PredictCall(1, "", b"")))
    await script.gate("rome").arrived()
    await asyncio.sleep(0)
    worker.die("killed by signal 9")
    assert not script.live
    with pytest.raises(WorkerDiedError, match="signal 9"):
        await loading
    await asyncio.wait([predicting])
    with pytest.raises(WorkerDiedError):
        await worker.predict(PredictCall(1, "", b""))
    with pytest.raises(WorkerDiedError):
        await worker.unload(1)
    assert deaths == ["killed by signal 9"]
    assert script.used_after_unload == []
    await worker.close()


async def test_a_death_in_the_middle_of_an_answer(tmp_path: Path, script: WorkerScript) -> None:
    """Regression: the answer failed with a KeyError."""
    worker = FakeWorker(1, lambda _: None, script)
    await worker.load(spec(tmp_path))
    predicting = asyncio.ensure_future(worker.predict(PredictCall(1, "", b"")))
    await asyncio.sleep(0)
    worker.die()
    with pytest.raises(WorkerDiedError):
        await predicting


async def test_want_of_memory_is_counted_down(tmp_path: Path, script: WorkerScript) -> None:
    worker = FakeWorker(1, lambda _: None, script)
    await worker.load(spec(tmp_path))
    script.short_of_memory["paris"] = 1
    with pytest.raises(UnavailableError) as error:
        await worker.predict(PredictCall(1, "", b""))
    assert error.value.kind is ErrorKind.OUT_OF_MEMORY
    assert (await worker.predict(PredictCall(1, "", b""))).body == b"paris@1|contents"
