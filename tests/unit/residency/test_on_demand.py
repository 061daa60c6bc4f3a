"""Discovery on demand: the store is asked for what is in use, and for nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hotset.catalog import Settling, Sighting
from hotset.config import load_settings
from hotset.errors import ConfigError, LoadingError, NotFoundError, StoreError
from hotset.events import Cause, Evicted, Synced
from hotset.keys import ModelKey, ModelRef, fingerprint
from hotset.residency.working_set import COLD_PASSES, Seen, WorkingSet, due, left_behind
from hotset.status import ModelPage
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

INTERVAL_S = 10.0


def on_demand(path: Path, store: FakeStore, **settings: Any) -> Any:
    return bench(path, store, **{"discovery": "on_demand", "sync_interval": INTERVAL_S, **settings})


def many(count: int, *numbers: int) -> FakeStore:
    store = FakeStore()
    versions(store, {f"m{number:04}": numbers or (1,) for number in range(count)})
    return store


def requests(it: Bench) -> int:
    """How many requests the store got since the last question, downloads aside."""
    asked = it.store.counts["list"] + it.store.counts["scan"] + it.store.counts["open"]
    it.store.counts.clear()
    return asked


async def evict(it: Bench, *names: str) -> None:
    for name in names:
        for entry in it.memory.entries_of(name):
            it.memory.evict(entry.key, Cause.EXPLICIT)
    await it.settled()


async def later(it: Bench, seconds: float = INTERVAL_S + 1.0) -> None:
    it.clock.advance(seconds)


# Which names are due


def seen(**ages: float) -> dict[str, Seen]:
    return {name: Seen(1000.0 - age, Settling()) for name, age in ages.items()}


def test_all_that_is_hot_is_due_at_every_pass() -> None:
    assert due(WorkingSet({"b", "a"}, set()), {}, {"a", "b"}) == ["a", "b"]


def test_what_is_only_on_disk_has_its_turn() -> None:
    cold = {f"c{number:03}" for number in range(100)}
    state = seen(**{name: float(name[1:]) for name in cold})
    found = due(WorkingSet({"hot"}, cold), state, cold | {"hot"})
    assert found == ["hot", "c099", "c098", "c097", "c096"], "the oldest looks first"
    passes = -(-len(cold) // (len(found) - 1))
    assert passes <= COLD_PASSES


def test_what_is_on_disk_and_not_known_is_due_at_once() -> None:
    assert due(WorkingSet((), {"a", "b", "c"}), seen(b=5.0, c=1.0), {"b", "c"}) == ["a", "b"]


def test_what_is_hot_and_cold_is_looked_at_once() -> None:
    assert due(WorkingSet({"a"}, {"a"}), {}, {"a"}) == ["a"]
    assert due(WorkingSet((), ()), {}, ()) == []


def test_what_nobody_uses_is_left_behind() -> None:
    waiting = Settling({ModelKey("new", 1): Sighting(fingerprint([("m", 1, "e")]), 0.0, dated=True)})
    state = {**seen(used=5.0, gone=5.0), "new": Seen(990.0, waiting), "old": Seen(100.0, waiting)}
    left = left_behind(WorkingSet({"used"}, {"cold"}), state, {"used", "cold", "gone"}, oldest_s=500.0)
    assert (left.models, left.seen, left.unsettled) == (("gone",), ("gone", "old"), ())
    left = left_behind(WorkingSet({"new"}, ()), state, (), oldest_s=500.0)
    assert left.unsettled == (ModelKey("new", 1),)


# What it costs


@pytest.mark.parametrize("models", [10, 500])
async def test_the_cost_follows_what_is_in_use_and_not_the_store(tmp_path: Path, models: int) -> None:
    async with on_demand(tmp_path, many(models)) as it:
        assert requests(it) == 1, "nothing is in use: one page, to know that the store is there"
        for number in range(5):
            await it.ask(f"m{number:04}")
        assert requests(it) == 5 * 2, "one look and one listing of the fetch for each"
        for _ in range(3):
            await later(it)
            await it.sync()
        assert requests(it) == 5 * 3
        for number in range(5):
            await it.ask(f"m{number:04}")
        assert requests(it) == 0
        assert len(it.manager.catalog.snapshot.models) == 5


async def test_models_on_disk_cost_a_thirtieth(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(60), model_cache_size=2) as it:
        for number in range(60):
            await it.ask(f"m{number:04}")
        requests(it)
        await it.sync()  # all that was asked for since the last one
        assert requests(it) == 60
        await later(it)
        await it.sync()
        assert requests(it) == 2 + 58 // COLD_PASSES + 1


async def test_unknown_names_cost_nothing_twice(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(3)) as it:
        requests(it)
        for _ in range(3):
            with pytest.raises(NotFoundError):
                await it.ask("absent")
            await it.sync()
        assert requests(it) == 1 + 3, "one look, and the page of each pass with nothing in use"


async def test_what_is_in_no_tier_any_more_is_forgotten(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(9), model_cache_size=1, disk_model_cache_size=1) as it:
        for number in range(9):
            await it.ask(f"m{number:04}")
        await it.settled()
        await it.sync()
        await later(it)
        await it.sync()
        assert [*it.manager.catalog.snapshot.models] == ["m0008"]
        assert len(it.replica.discovery._seen) == 1
        assert await it.ask("m0000") == "m0000@1|m0000-1"


# What the store does is followed


async def test_a_new_version_of_what_is_in_memory_takes_over(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(3)) as it:
        assert await it.ask("m0001") == "m0001@1|m0001-1"
        versions(it.store, {"m0001": [2]})
        await later(it)
        await it.sync()
        await it.settled()
        assert await it.ask("m0001") == "m0001@2|m0001-2"


async def test_what_was_deleted_leaves_memory_and_disk(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(3)) as it:
        await it.ask("m0000")
        await it.ask("m0001")
        it.store.delete("m0001/")
        await later(it)
        await it.sync()
        await it.settled()
        assert (it.in_memory(), it.on_disk()) == ({"m0000@1"}, {"m0000@1"})
        with pytest.raises(NotFoundError):
            await it.ask("m0001")


async def test_a_store_that_shows_nothing_of_all_in_use_is_doubted_once(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(3)) as it:
        await it.ask("m0000")
        it.store.delete("")
        await it.sync()
        assert it.replica.sync.status().last_error is not None
        assert "served on until the next pass" in (it.replica.sync.status().last_error or "")
        assert await it.ask("m0000") == "m0000@1|m0000-1"
        await it.sync()
        await it.settled()
        assert it.in_memory() == set()


async def test_files_that_change_in_place_are_noticed(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(3)) as it:
        await it.ask("m0000")
        it.store.put("m0000/1/model.txt", b"changed")
        await it.sync()
        await it.settled()
        assert await it.ask("m0000") == "m0000@1|changed"


async def test_what_is_on_disk_is_looked_at_again_before_it_is_loaded(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(3)) as it:
        await it.ask("m0000")
        await evict(it, "m0000")
        versions(it.store, {"m0000": [2]})
        await later(it)
        assert await it.ask("m0000") == "m0000@2|m0000-2"
        await evict(it, "m0000")
        requests(it)
        assert await it.ask("m0000") == "m0000@2|m0000-2"
        assert requests(it) == 0, "that was seen just now"


async def test_what_was_deleted_is_not_answered_from_disk(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(3)) as it:
        await it.ask("m0000")
        await evict(it, "m0000")
        it.store.delete("m0000/")
        await later(it)
        with pytest.raises(NotFoundError, match="m0000"):
            await it.ask("m0000")


async def test_while_the_store_is_away_what_is_on_disk_is_served(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(3)) as it:
        await it.ask("m0000")
        await it.ask("m0001")
        await evict(it, "m0000", "m0001")
        it.store.list_fault = StoreError("away")
        await later(it)
        assert await it.ask("m0000") == "m0000@1|m0000-1", "a look that fails changes nothing"
        await it.sync()
        assert it.replica.sync.status().degraded
        requests(it)
        assert await it.ask("m0001") == "m0001@1|m0001-1"
        assert requests(it) == 0, "and after a pass that failed none is tried"
        with pytest.raises(StoreError):
            await it.ask("m0002")


async def test_a_store_that_hangs_holds_up_what_is_on_disk_for_two_seconds_at_most(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(1)) as it:
        await it.ask("m0000")
        await evict(it, "m0000")
        await later(it)
        it.store.list_gate.close()
        assert await it.ask("m0000", timeout_s=60.0) == "m0000@1|m0000-1"
        it.store.list_gate.open()


async def test_a_version_that_is_not_as_it_was_seen_is_looked_at_again(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(1, 1, 2), parallel_fetches=1) as it:
        await it.manager.offer.resolve(ModelRef("m0000"), deadline_s=it.clock.now_s + 5.0)
        it.store.put("m0000/2/model.txt", b"changed")
        with pytest.raises(StoreError, match="has changed in the store"):
            await it.ask("m0000", "2")
        it.clock.advance(2.0)
        assert await it.ask("m0000") == "m0000@2|changed"


async def test_of_a_model_whose_newest_version_is_not_as_it_was_seen_the_one_before_answers(
    tmp_path: Path,
) -> None:
    async with on_demand(tmp_path, many(1, 1, 2), parallel_fetches=1) as it:
        await it.manager.offer.resolve(ModelRef("m0000"), deadline_s=it.clock.now_s + 5.0)
        it.store.put("m0000/2/model.txt", b"changed")
        assert await it.ask("m0000") == "m0000@1|m0000-1"
        await it.sync()
        await it.settled()
        assert await it.ask("m0000") == "m0000@2|changed"


async def test_one_model_that_cannot_be_looked_at_costs_only_itself(tmp_path: Path) -> None:
    store = many(3)
    listing = store.list

    def list_(prefix: str = "") -> Any:
        if prefix == "m0001/" and broken:
            raise StoreError("403")
        return listing(prefix)

    broken = False
    store.list = list_  # type: ignore[method-assign]
    async with on_demand(tmp_path, store) as it:
        for number in range(3):
            await it.ask(f"m{number:04}")
        broken = True
        versions(store, {"m0000": [2], "m0002": [2]})
        await it.sync()
        await it.settled()
        status = it.replica.sync.status()
        assert (status.degraded, status.note) == (False, "1 of 3 models could not be looked at: 403")
        assert it.in_memory() == {"m0000@2", "m0001@1", "m0002@2"}


async def test_half_an_upload_is_not_served(tmp_path: Path) -> None:
    store = FakeStore()
    store.put("paris/1/model.txt", b"half", modified_s=1000.0)
    async with on_demand(tmp_path, store, settle_time=10.0, negative_cache_ttl=0) as it:
        with pytest.raises(NotFoundError):
            await it.ask("paris")
        store.put("paris/1/more.txt", b"whole", modified_s=1004.0)
        it.clock.advance(11.0)  # the first file is old enough, the second is not
        with pytest.raises(NotFoundError):
            await it.ask("paris")
        it.clock.advance(4.0)
        assert await it.ask("paris") == "paris@1|half|whole"


# Starting


async def test_a_restart_while_the_store_is_away_serves_what_is_on_disk(tmp_path: Path) -> None:
    store = many(3)
    async with on_demand(tmp_path, store) as it:
        await it.ask("m0000")
        await it.sync()
    store.list_fault = StoreError("away")
    async with on_demand(tmp_path, store, sync=False) as it:
        await it.replica.sync.restore()
        assert await it.ask("m0000") == "m0000@1|m0000-1"
        await it.sync()
        assert it.replica.sync.status().degraded
        assert await it.ask("m0000") == "m0000@1|m0000-1"


async def test_a_restart_without_a_snapshot_finds_what_is_on_disk(tmp_path: Path) -> None:
    store = many(40)
    async with on_demand(tmp_path, store) as it:
        for number in range(35):
            await it.ask(f"m{number:04}")
    (tmp_path / "catalog").unlink(missing_ok=True)
    async with on_demand(tmp_path, store) as it:
        assert len(it.manager.catalog.snapshot.models) == 35
        assert len(it.on_disk()) == 35


async def test_what_is_on_disk_stays_while_it_cannot_be_looked_at(tmp_path: Path) -> None:
    store = many(3)
    async with on_demand(tmp_path, store) as it:
        await it.ask("m0000")
        await it.ask("m0001")
    (tmp_path / "catalog").unlink(missing_ok=True)
    listing = store.list

    def list_(prefix: str = "") -> Any:
        if prefix == "m0001/":
            raise StoreError("403")
        return listing(prefix)

    store.list = list_  # type: ignore[method-assign]
    async with on_demand(tmp_path, store) as it:
        await it.sync()
        assert it.on_disk() == {"m0000@1", "m0001@1"}
        assert it.replica.sync.status().last_error == "403"


async def test_names_to_preload_are_looked_for(tmp_path: Path) -> None:
    it = Bench(tmp_path, many(5), discovery="on_demand", preload="m0003,absent")
    await it.replica.start()
    try:
        async with asyncio.timeout(20.0):
            while not it.replica.readiness().ready:
                await asyncio.sleep(0.001)
        assert it.in_memory() == {"m0003@1"}
    finally:
        await it.stop()


async def test_a_store_in_which_nothing_fits_says_what_does_not(tmp_path: Path) -> None:
    store = FakeStore()
    store.put("readme.txt")
    async with on_demand(tmp_path, store) as it:
        assert [reject.path for reject in it.manager.catalog.snapshot.rejects] == ["readme.txt"]


async def test_a_store_that_is_away_at_the_start_is_not_ready(tmp_path: Path) -> None:
    store = many(3)
    store.list_fault = StoreError("away")
    async with on_demand(tmp_path, store) as it:
        assert not it.replica.sync.first_pass.is_set()
        assert it.replica.sync.status().last_error == "away"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": {"a": "./a"}}, "expected model_dir"),
        ({"model_dir": "x", "on_missing": "error"}, "expected lookup"),
        ({"model_dir": "x", "preload": "all"}, "the whole store"),
    ],
)
def test_settings_that_need_all_models_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(None, {}, {"discovery": "on_demand", **settings})


# What is shown


async def page(it: Bench, *, prefix: str = "", limit: int = 100, after: str = "") -> ModelPage:
    return await it.replica.dataplane.residency.models(
        prefix=prefix, limit=limit, after=after, deadline_s=it.clock.now_s + 5.0
    )


async def test_pages_of_models_come_from_the_store(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(25, 1, 2)) as it:
        await it.ask("m0003", "1")
        requests(it)
        names, after = [], ""
        while True:
            found = await page(it, limit=10, after=after)
            names += [model.name for model in found.models]
            if found.next is None:
                break
            after = found.next
        assert names == [f"m{number:04}" for number in range(25)]
        assert requests(it) == 3, "a page is a request"
        (third,) = (await page(it, prefix="m0003")).models
        assert (third.latest, [version.tier for version in third.versions]) == (2, ["memory", "store"])
        assert [model.name for model in (await page(it, prefix="m001")).models] == [
            f"m001{n}" for n in range(10)
        ]
        assert (await page(it, prefix="zagreb")).models == ()
        assert len(it.manager.catalog.snapshot.models) == 1, "a page puts nothing into the catalog"


async def test_a_page_ends_after_so_many_requests(tmp_path: Path) -> None:
    store = FakeStore(page_size=2)
    versions(store, {f"m{number:04}": [1, 2] for number in range(100)})
    async with on_demand(tmp_path, store) as it:
        requests(it)
        first = await page(it)
        assert 0 < len(first.models) < 100
        assert first.next == first.models[-1].name
        assert requests(it) == 20


async def test_a_page_of_a_store_that_hangs_ends_at_the_deadline(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(3)) as it:
        it.store.list_gate.close()
        with pytest.raises(LoadingError, match="still being listed"):
            await it.replica.dataplane.residency.models(
                prefix="", limit=10, after="", deadline_s=it.clock.now_s + 0.01
            )
        it.store.list_gate.open()


async def test_status_says_where_the_snapshot_is_from(tmp_path: Path) -> None:
    async with on_demand(tmp_path, many(3)) as it:
        assert it.replica.dataplane.residency.status().sync.source == "lookups"
        assert b'hotset_sync_source{source="lookups"} 1' in it.replica.metrics.render()
        synced = [event for event in it.seen if isinstance(event, Synced)]
        assert len(synced) == 1
        assert not [event for event in it.seen if isinstance(event, Evicted)]
        assert it.manager.catalog.version(ModelKey("m0000", 1)) is None
