"""Ten minutes without a store, on the manual clock: a warm replica does not notice, nor does one that starts in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotset.errors import StoreError
from hotset.events import Fetched, FetchFailed, SyncFailed
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

MODELS = [f"m{number}" for number in range(12)]
IN_MEMORY = 4
OUTAGE_S = 600


def stored() -> FakeStore:
    store = FakeStore()
    versions(store, {name: [1] for name in [*MODELS, "far"]})
    return store


def go_away(store: FakeStore) -> None:
    store.list_fault = store.download_fault = store.read_fault = StoreError("the connection was refused")


async def live_through(it: Bench, *, seconds: int) -> int:
    """Ask one model a second, on disk or in memory, and list the store when that is due; return the answers."""
    answers, next_pass_s = 0, it.clock.now_s
    for second in range(seconds):
        it.clock.advance(1.0)
        if it.clock.now_s >= next_pass_s:
            await it.sync()
            failures = [event for event in it.seen if isinstance(event, SyncFailed)]
            next_pass_s = it.clock.now_s + failures[-1].retry_in_s
        name = MODELS[second % len(MODELS)]
        assert await it.ask(name) == f"{name}@1|{name}-1"
        answers += 1
    return answers


@pytest.mark.parametrize("discovery", ["list", "on_demand"])
async def test_ten_minutes_without_a_store_cost_a_warm_replica_nothing(
    tmp_path: Path, discovery: str
) -> None:
    store = stored()
    settings = {"model_cache_size": IN_MEMORY, "discovery": discovery, "sync_interval": 10}
    async with bench(tmp_path, store, **settings) as it:
        for name in MODELS:
            await it.ask(name)
        await it.sync()
        fetched = [event for event in it.seen if isinstance(event, Fetched)]
        go_away(store)
        before = store.counts.total()
        assert await live_through(it, seconds=OUTAGE_S) == OUTAGE_S
        assert [event for event in it.seen if isinstance(event, Fetched)] == fetched
        assert it.on_disk() == {f"{name}@1" for name in MODELS}
        passes = len([event for event in it.seen if isinstance(event, SyncFailed)])
        assert passes < OUTAGE_S / 10, "it asks less and less often"
        if discovery == "list":
            assert store.counts.total() - before == 2 * passes, (
                "who asked, but the passes?"
            )  # an index, a listing
        with pytest.raises(StoreError) as refused:
            await it.ask("far")
        assert refused.value.retry_after_s


async def test_a_replica_that_starts_in_those_minutes_serves_all_that_is_on_its_disk(tmp_path: Path) -> None:
    store = stored()
    settings = {"model_cache_size": IN_MEMORY, "sync_interval": 10}
    async with bench(tmp_path, store, **settings) as it:
        for name in MODELS:
            await it.ask(name)
    go_away(store)
    async with bench(tmp_path, store, sync=False, **settings) as it:
        assert await it.replica.sync.restore() is not None
        assert await live_through(it, seconds=OUTAGE_S // 2) == OUTAGE_S // 2
        assert not [event for event in it.seen if isinstance(event, Fetched)]
        store.list_fault = store.download_fault = store.read_fault = None
        await it.sync()
        assert not it.replica.sync.is_degraded
        assert await it.ask("far") == "far@1|far-1"


async def test_a_newer_version_that_cannot_be_had_is_not_asked_for_with_each_request(tmp_path: Path) -> None:
    """The one before answers; the other is tried again after a second, then two, or when a pass has gone well."""
    store = stored()
    async with bench(tmp_path, store, model_cache_size=IN_MEMORY) as it:
        await it.ask("m0")
        versions(store, {"m0": [2]})
        store.download_fault = StoreError("HTTP 403 AccessDenied")
        await it.sync()

        async def tries(requests: int) -> int:
            before = len([event for event in it.seen if isinstance(event, FetchFailed)])
            for _ in range(requests):
                assert await it.ask("m0") == "m0@1|m0-1"
                await it.settled()
            return len([event for event in it.seen if isinstance(event, FetchFailed)]) - before

        assert await tries(50) == 1
        it.clock.advance(1.0)
        assert await tries(50) == 1
        it.clock.advance(1.0)
        assert await tries(50) == 0
        await it.sync()
        assert await tries(50) == 1
        store.download_fault = None
        it.clock.advance(1.0)
        await it.ask("m0")
        await it.settled()
        assert await it.ask("m0") == "m0@2|m0-2"
