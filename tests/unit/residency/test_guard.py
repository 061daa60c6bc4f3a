"""The guard over a whole replica on fakes, with a meter that the test scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hotset.errors import ErrorKind, OverloadedError
from hotset.events import Cause, Evicted, MemoryPressure, TierName
from hotset.keys import ModelRef
from hotset.residency.guard import LOOK_S, RETRY_AFTER_S, SETTLE_S
from hotset.residency.watermarks import MemoryReading
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

LIMIT = 10_000
NAMES = "abcdef"


class ScriptedMeter:
    """Tells what the test says; or what the models that are alive weigh, over a base."""

    def __init__(self) -> None:
        self.taken = 0
        self.stall: float | None = None

    def read(self) -> MemoryReading:
        return MemoryReading(self.taken, LIMIT, self.stall)


@asynccontextmanager
async def pressed(path: Path, **settings: Any) -> AsyncIterator[tuple[Bench, ScriptedMeter]]:
    """Six models of 1,000 bytes in memory, a the least recently used."""
    store, meter = FakeStore(), ScriptedMeter()
    versions(store, {name: [1] for name in NAMES})
    marks = {"memory_low": 0.6, "memory_high": 0.8, "memory_critical": 0.9}
    async with bench(path, store, meter=meter, **marks, **settings) as it:
        it.script.weights = dict.fromkeys(NAMES, 1000)
        for name in NAMES:
            await it.ask(name)
        yield it, meter


def evicted(it: Bench) -> list[str]:
    found = [event for event in it.seen if isinstance(event, Evicted) and event.tier is TierName.MEMORY]
    assert all(event.cause is Cause.PRESSURE for event in found)
    return [event.key.name for event in found]


def told(it: Bench) -> list[tuple[str, int]]:
    return [(event.level, event.evicting_bytes) for event in it.seen if isinstance(event, MemoryPressure)]


async def test_below_high_nothing_happens(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        meter.taken = 8000
        assert not await it.replica.guard.look()
        assert (evicted(it), told(it), it.script.trims) == ([], [], 0)


async def test_above_high_what_is_free_is_given_back_before_anybody_leaves(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        meter.taken = 8500
        assert await it.replica.guard.look()
        assert (evicted(it), it.script.trims) == ([], 1)
        meter.taken = 5000
        assert not await it.replica.guard.look()
        assert (evicted(it), told(it)) == ([], [("high", 0), ("normal", 0)])


async def test_the_least_recently_used_leave_until_low(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        meter.taken = 8500
        await it.replica.guard.look()
        assert await it.replica.guard.look()
        assert evicted(it) == ["a", "b", "c"]
        assert it.script.trims == 2
        meter.taken = 6500  # not all of it came back
        await it.replica.guard.look()
        assert evicted(it) == ["a", "b", "c", "d"]
        meter.taken = 6000
        assert not await it.replica.guard.look()
        assert told(it) == [("high", 0), ("high", 3000), ("high", 1000), ("normal", 0)]
        assert it.in_memory() == {"e@1", "f@1"}


async def test_who_left_can_come_back_once_it_is_over(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        for meter.taken in (8500, 8500, 5000):
            await it.replica.guard.look()
        assert await it.ask("a") == "a@1|a-1"


async def test_what_is_leased_or_pinned_stays(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        lease = await it.lease("a")
        it.manager.pin(it.manager.catalog.resolve(ModelRef("b")).key, pinned=True)
        meter.taken = 8500
        await it.replica.guard.look()
        await it.replica.guard.look()
        lease.release()
        assert evicted(it) == ["c", "d", "e"]


async def test_what_is_leaving_already_counts(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        it.script.unload_gate.close()
        meter.taken = 8500
        await it.replica.guard.look()
        looking = asyncio.ensure_future(it.replica.guard.look())
        while not it.memory.draining():
            await asyncio.sleep(0)
        assert it.manager.relief.shed(2500) == 0
        assert it.manager.relief.shed(3001) == 1000
        it.script.unload_gate.open()
        await looking
        assert evicted(it) == ["a", "b", "c", "d"]


async def test_above_critical_they_leave_at_once_and_nothing_is_loaded(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        meter.taken = 9100
        await it.replica.guard.look()
        assert evicted(it) == ["a", "b", "c", "d"]
        with pytest.raises(OverloadedError, match="memory_critical") as caught:
            await it.ask("a")
        assert caught.value.kind is ErrorKind.MEMORY_PRESSURE
        assert caught.value.retry_after_s == RETRY_AFTER_S
        assert await it.ask("f") == "f@1|f-1"  # what is in memory answers
        meter.taken = 5000
        await it.replica.guard.look()
        assert await it.ask("a") == "a@1|a-1"  # it was no failure of the model


async def test_a_stall_takes_an_eighth_and_then_is_waited_for(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        meter.taken, meter.stall = 5500, 0.5
        await it.replica.guard.look()
        assert evicted(it) == ["a"]
        await it.replica.guard.look()
        assert evicted(it) == ["a"]
        it.clock.advance(10.0)
        await it.replica.guard.look()
        assert evicted(it) == ["a", "b"]


async def test_where_the_platform_decides_nobody_has_to_leave(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        it.replica.guard._evicts = False
        meter.taken = 9500
        for _ in range(3):
            await it.replica.guard.look()
        assert evicted(it) == []
        assert it.script.trims == 3


async def test_status_and_gauges_tell_what_was_read(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        assert it.replica.guard.status() is None
        meter.taken, meter.stall = 8500, 0.125
        await it.replica.guard.look()
        page = it.replica.metrics.render().decode()
        for line in (
            "hotset_memory_taken_bytes 8500.0",
            "hotset_memory_limit_bytes 10000.0",
            'hotset_memory_watermark_bytes{mark="high"} 8000.0',
            "hotset_memory_level 1.0",
            "hotset_memory_stall_ratio 0.125",
        ):
            assert line in page


async def test_run_looks_and_waits_for_what_it_did(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 1:
                meter.taken = 8500
            if len(slept) == 2:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await it.replica.guard.run(sleep)
        assert slept == [LOOK_S, LOOK_S + SETTLE_S]
        assert told(it) == [("high", 0)]


async def test_when_a_worker_dies_its_memory_is_back_and_its_models_come_back_at_once(tmp_path: Path) -> None:
    async with pressed(tmp_path) as (it, meter):
        meter.taken = 9100
        await it.replica.guard.look()
        with pytest.raises(OverloadedError, match="memory_critical"):
            await it.ask("a")
        it.workers[0].die()
        assert await it.ask("a") == "a@1|a-1"
        await it.settled()
        await it.replica.guard.look()
        assert told(it)[-1][0] == "critical", "what is read after it counts again"
