"""What the manager does with versions that end the workers that are at them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotset.errors import ErrorKind, LoadFailedError
from hotset.events import Quarantined, WorkerDied
from hotset.keys import ModelKey, ModelRef
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

BACKOFF_S = 10.0


def stored(**tree: list[int]) -> FakeStore:
    store = FakeStore()
    versions(store, tree)
    return store


async def killed_by(it: Bench, name: str, version: int = 1, *beside: str) -> None:
    """A worker dies while it is at this version, and perhaps at others; what it held comes back."""
    await it.ask(name, str(version))
    entry = it.memory.find(ModelRef(name, version))
    assert entry is not None
    worker = entry.value.resident.worker
    suspects = [entry.value.resident.handle]
    suspects += [it.memory.find(ModelRef(other, 1)).value.resident.handle for other in beside]
    worker.die("killed by signal 11 (SIGSEGV)", suspects=suspects)
    await it.settled()


async def test_the_third_death_quarantines_and_the_others_come_back(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(bad=[1], good=[1]), load_failure_backoff="10s") as it:
        await it.ask("good")
        for _ in range(3):
            await killed_by(it, "bad")
        assert it.in_memory() == {"good@1"}
        (event,) = [event for event in it.seen if isinstance(event, Quarantined)]
        assert (event.key, event.retry_in_s) == (ModelKey("bad", 1), BACKOFF_S)
        assert [event.at for event in it.seen if isinstance(event, WorkerDied)] == ["bad@1"] * 3
        with pytest.raises(LoadFailedError, match=r"bad@1 is quarantined.*SIGSEGV") as caught:
            await it.ask("bad")
        assert caught.value.kind is ErrorKind.QUARANTINED
        assert caught.value.retry_after_s == pytest.approx(BACKOFF_S, abs=1.0)


async def test_it_is_tried_again_and_one_more_death_doubles_the_wait(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(bad=[1]), load_failure_backoff="10s") as it:
        for _ in range(3):
            await killed_by(it, "bad")
        it.clock.advance(BACKOFF_S + 1)
        await killed_by(it, "bad")
        waits = [event.retry_in_s for event in it.seen if isinstance(event, Quarantined)]
        assert waits == [BACKOFF_S, 2 * BACKOFF_S]


async def test_an_older_version_answers_for_latest(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(bad=[1, 2])) as it:
        for _ in range(3):
            await killed_by(it, "bad", 2)
        assert "bad@1" in await it.ask("bad")


async def test_new_files_are_tried_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(bad=[1])) as it:
        for _ in range(3):
            await killed_by(it, "bad")
        it.store.put("bad/1/model.txt", b"mended")
        await it.sync()
        assert "mended" in await it.ask("bad")
        await killed_by(it, "bad")
        assert "mended" in await it.ask("bad"), "it begins anew"


async def test_a_load_beside_one_that_kills_is_tried_until_that_is_quarantined(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(good=[1])) as it:
        gate = it.script.gate("good")
        gate.close()
        asking = asyncio.create_task(it.ask("good"))
        for attempt in range(1, 5):
            async with asyncio.timeout(10):
                while it.script.loads["good@1"] < attempt:
                    await asyncio.sleep(0.001)
            it.workers[-1].die(suspects=[999])
        gate.open()
        assert "good@1" in await asking


async def test_one_that_was_only_near_goes_on(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(bad=[1], good=[1])) as it:
        await it.ask("good", "1")
        await killed_by(it, "bad", 1, "good")
        await it.ask("good", "1")
        for _ in range(2):
            await killed_by(it, "bad")
        assert "good@1" in await it.ask("good")
        with pytest.raises(LoadFailedError, match="quarantined"):
            await it.ask("bad")
