"""Discovery by the index of a store: one conditional request a pass, and a listing wherever it cannot be trusted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotset.catalog import Labels, Layout, ListingReader
from hotset.catalog.index import INDEX_PATH, index_line, index_versions, join_lines
from hotset.errors import NotFoundError, StoreError
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

INTERVAL_S = 10.0
CHECK_S = 3600.0


def stored(**tree: list[int]) -> FakeStore:
    store = FakeStore()
    versions(store, tree)
    return store


def indexed(**tree: list[int]) -> FakeStore:
    store = stored(**tree)
    write_index(store)
    return store


def write_index(store: FakeStore, *, without: str = "") -> None:
    """What ``hotset index`` does."""
    metas = [store._meta(path) for path in sorted(store.objects) if not path.startswith("_")]
    reader = ListingReader(Layout())
    reader.feed(metas)
    lines = (
        index_line(name, index_versions(model, [it for it in metas if it.path.startswith(f"{name}/")]))
        for name, model in reader.finish().models.items()
        if name != without
    )
    store.put(INDEX_PATH, join_lines(lines))


def by_index(path: Path, store: FakeStore, **settings: Any) -> Any:
    given = {"sync_interval": INTERVAL_S, "index_check_interval": CHECK_S, "settle_time": 10.0, **settings}
    return bench(path, store, **given)


def source(it: Bench) -> str:
    return str(it.replica.sync.status().source)


def note(it: Bench) -> str:
    return it.replica.sync.status().note


def asked(it: Bench) -> dict[str, int]:
    """The requests since the last question, but for downloads."""
    found = {name: count for name, count in it.store.counts.items() if name in {"list", "open"}}
    it.store.counts.clear()
    return found


async def test_a_pass_is_one_request_where_there_is_an_index(tmp_path: Path) -> None:
    async with by_index(tmp_path, indexed(paris=[1, 2], rome=[1])) as it:
        assert asked(it) == {"open": 1}
        assert (source(it), note(it)) == ("index", "")
        assert {name: len(model.versions) for name, model in it.manager.catalog.snapshot.models.items()} == {
            "paris": 2,
            "rome": 1,
        }
        for _ in range(3):
            it.clock.advance(INTERVAL_S)
            await it.sync()
        assert asked(it) == {"open": 3}
        assert await it.ask("paris") == "paris@2|paris-2"


async def test_what_a_publisher_writes_into_the_index_is_offered_at_once(tmp_path: Path) -> None:
    async with by_index(tmp_path, indexed(paris=[1])) as it:
        assert await it.ask("paris") == "paris@1|paris-1"
        versions(it.store, {"paris": [2], "oslo": [1]})
        write_index(it.store)
        await it.sync()
        await it.settled()
        assert await it.ask("paris") == "paris@2|paris-2"
        assert await it.ask("oslo") == "oslo@1|oslo-1"
        it.store.delete("paris/")
        write_index(it.store)
        await it.sync()
        await it.settled()
        assert (it.in_memory(), it.on_disk()) == ({"oslo@1"}, {"oslo@1"})


async def test_without_an_index_the_store_is_listed(tmp_path: Path) -> None:
    async with by_index(tmp_path, stored(paris=[1])) as it:
        assert (source(it), note(it), asked(it)) == ("listing", "", {"open": 1, "list": 1})
        write_index(it.store)
        await it.sync()
        await it.sync()
        assert source(it) == "index"
        it.store.delete(INDEX_PATH)
        await it.sync()
        assert (source(it), note(it)) == ("listing", "")
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_a_damaged_index_is_not_used_and_said_to_be(tmp_path: Path) -> None:
    async with by_index(tmp_path, indexed(paris=[1])) as it:
        it.store.put(INDEX_PATH, it.store.objects[INDEX_PATH].data[:-10])
        versions(it.store, {"rome": [1]})
        for _ in range(2):
            it.clock.advance(INTERVAL_S)
            await it.sync()
            assert source(it) == "listing"
            assert "truncated; the store is listed instead" in note(it)
        assert b"hotset_sync_noted 1" in it.replica.metrics.render()
        it.clock.advance(INTERVAL_S)
        await it.sync()
        assert await it.ask("rome") == "rome@1|rome-1"
        write_index(it.store)
        await it.sync()
        assert (source(it), note(it)) == ("listing", ""), "compared first"
        await it.sync()
        assert source(it) == "index"


async def test_what_an_index_lacks_is_found_by_the_check(tmp_path: Path) -> None:
    async with by_index(tmp_path, indexed(paris=[1])) as it:
        versions(it.store, {"paris": [2]})
        it.clock.advance(CHECK_S - 1.0)
        await it.sync()
        assert (source(it), asked(it)) == ("index", {"open": 2})
        it.clock.advance(2.0)
        await it.sync()
        it.clock.advance(INTERVAL_S)
        await it.sync()
        assert source(it) == "listing"
        assert "differs from the store for 1 models (paris)" in note(it)
        assert await it.ask("paris") == "paris@2|paris-2"
        versions(it.store, {"rome": [1]})
        write_index(
            it.store, without="paris"
        )  # a publisher writes its own line: the index is still not whole
        it.clock.advance(INTERVAL_S)
        await it.sync()
        assert (source(it), "paris" in note(it)) == ("listing", True)
        write_index(it.store)
        it.clock.advance(INTERVAL_S)
        await it.sync()
        await it.sync()
        assert (source(it), note(it)) == ("index", "")
        assert it.in_memory() == {"paris@2"}, "nothing was unloaded meanwhile"


async def test_the_check_can_be_turned_off(tmp_path: Path) -> None:
    async with by_index(tmp_path, indexed(paris=[1]), index_check_interval=0) as it:
        versions(it.store, {"paris": [2]})
        it.clock.advance(1e6)
        await it.sync()
        assert source(it) == "index"


async def test_a_model_that_only_a_lookup_found_is_not_taken_away_by_an_index(tmp_path: Path) -> None:
    async with by_index(tmp_path, indexed(paris=[1])) as it:
        versions(it.store, {"rome": [1]})
        it.clock.advance(100.0)
        with pytest.raises(NotFoundError):  # its time says that it is old, but the last pass has not seen it
            await it.ask("oslo")
        assert await it.ask("rome") == "rome@1|rome-1"
        it.clock.advance(INTERVAL_S)
        await it.sync()
        assert source(it) == "listing"
        await it.settled()
        assert it.in_memory() == {"rome@1"}


async def test_a_version_that_is_gone_from_the_store_is_refused_and_the_index_with_it(tmp_path: Path) -> None:
    async with by_index(tmp_path, indexed(paris=[1], rome=[1])) as it:
        it.store.delete("paris/")
        with pytest.raises(StoreError, match="has changed in the store"):
            await it.ask("paris")
        assert it.replica.sync._wake.is_set(), "the next pass comes at once"
        await it.sync()
        assert (source(it), "paris" in note(it)) == ("listing", True)
        with pytest.raises(NotFoundError):
            await it.ask("paris")
        assert await it.ask("rome") == "rome@1|rome-1"


async def test_an_index_of_other_files_serves_nothing_torn(tmp_path: Path) -> None:
    async with by_index(tmp_path, indexed(paris=[1])) as it:
        it.store.put("paris/1/model.txt", b"other")
        with pytest.raises(StoreError):
            await it.ask("paris")
        await it.sync()
        assert (source(it), "paris" in note(it)) == ("listing", True), "not trusted while that settles"
        it.clock.advance(INTERVAL_S + 1.0)
        await it.sync()
        assert await it.ask("paris") == "paris@1|other"


async def test_what_cannot_be_fetched_makes_no_listing_after_listing(tmp_path: Path) -> None:
    async with by_index(tmp_path, indexed(paris=[1])) as it:
        assert it.replica.discovery.distrust_index()
        assert not it.replica.discovery.distrust_index()
        await it.sync()
        assert source(it) == "listing"
        await it.sync()
        assert source(it) == "index"
        assert not it.replica.discovery.distrust_index(), "not again so soon"
        it.clock.advance(61.0)
        assert it.replica.discovery.distrust_index()


async def test_a_store_that_is_away_fails_the_pass_and_is_not_listed(tmp_path: Path) -> None:
    async with by_index(tmp_path, indexed(paris=[1])) as it:
        await it.ask("paris")
        it.store.list_fault = StoreError("away")
        asked(it)
        await it.sync()
        assert asked(it) == {"open": 1}
        assert it.replica.sync.status().last_error == "away"
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_an_empty_index_is_doubted_once(tmp_path: Path) -> None:
    async with by_index(tmp_path, indexed(paris=[1])) as it:
        await it.ask("paris")
        it.store.put(INDEX_PATH, join_lines([]))
        await it.sync()
        assert it.replica.sync.status().degraded
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_a_restart_trusts_an_index_that_says_what_was_served(tmp_path: Path) -> None:
    store = indexed(paris=[1], rome=[1])
    async with by_index(tmp_path, store) as it:
        await it.ask("paris")
    versions(store, {"oslo": [1]})
    write_index(store)
    async with by_index(tmp_path, store, sync=False) as it:
        await it.replica.sync.restore()
        asked(it)
        await it.sync()
        assert (source(it), asked(it)) == ("index", {"open": 1})
        assert await it.ask("oslo") == "oslo@1|oslo-1"
        assert it.on_disk() == {"paris@1", "oslo@1"}


async def test_a_restart_lists_before_it_deletes_what_an_index_does_not_know(tmp_path: Path) -> None:
    store = indexed(paris=[1], rome=[1])
    async with by_index(tmp_path, store) as it:
        await it.ask("paris")
    write_index(store, without="paris")
    async with by_index(tmp_path, store, sync=False) as it:
        await it.replica.sync.restore()
        await it.sync()
        assert (source(it), "paris" in note(it)) == ("listing", True)
        assert it.on_disk() == {"paris@1"}
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_a_static_list_has_no_index(tmp_path: Path) -> None:
    store = FakeStore()
    store.put("paris/model.txt", b"static")
    async with bench(tmp_path, store, models={"paris": "./unused"}) as it:
        assert asked(it) == {"list": 1}


def write_labelled_index(store: FakeStore, **targets: int) -> None:
    """What ``hotset label`` does: the file, and then the model's line."""
    text = "".join(f"{label}: {number}\n" for label, number in targets.items())
    store.put("paris/labels.yaml", text.encode())
    metas = [store._meta(path) for path in sorted(store.objects) if path.startswith("paris/")]
    reader = ListingReader(Layout())
    reader.feed(metas)
    model = replace(reader.finish().models["paris"], labels=Labels("", tuple(sorted(targets.items()))))
    store.put(INDEX_PATH, join_lines([index_line("paris", index_versions(model, metas))]))


async def test_labels_come_from_the_index_too(tmp_path: Path) -> None:
    store = stored(paris=[1, 2])
    write_labelled_index(store, stable=1, ahead=3)
    async with by_index(tmp_path, store) as it:
        assert await it.ask("paris", "stable") == "paris@1|paris-1"
        it.clock.advance(INTERVAL_S)
        write_labelled_index(store, stable=2, ahead=3)
        await it.sync()
        await it.settled()
        assert store.counts["read"] == 0, "the file itself is not asked for"
        assert await it.ask("paris", "stable") == "paris@2|paris-2"
        assert (source(it), note(it)) == ("index", "")
        with pytest.raises(NotFoundError, match="says 'ahead: 3'"):
            await it.ask("paris", "ahead")


async def test_an_index_that_does_not_say_what_the_labels_do_is_refused(tmp_path: Path) -> None:
    store = stored(paris=[1, 2])
    write_labelled_index(store, stable=1)
    async with by_index(tmp_path, store) as it:
        store.put("paris/labels.yaml", b"stable: 2\n")
        it.clock.advance(CHECK_S)
        await it.sync()
        assert source(it) == "listing"
        assert "differs from the store for 1 models (paris)" in note(it)
        assert await it.ask("paris", "stable") == "paris@2|paris-2"
