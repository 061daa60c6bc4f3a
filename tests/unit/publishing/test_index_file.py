"""The index in the store: one model's line at a time, all of it anew, and never one writer over another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from hotset.catalog import Layout
from hotset.catalog.index import INDEX_PATH, IndexReader, lines_of
from hotset.clock import SystemClock
from hotset.errors import StoreError
from hotset.publishing import IndexReport, Publisher, Target, check_index, rebuild_index, update_index
from hotset.store import ConflictError, Revision, WritableStore
from hotset.testing import ManualClock

Source = Callable[..., Path]
CLOCK = SystemClock()
LATER = ManualClock(4e9)
LAYOUT = Layout()


async def publish(store: WritableStore, source: Path, name: str) -> None:
    await Publisher(store, clock=CLOCK).publish(source, Target("", name, None))


async def no_pause(_seconds: float) -> None:
    await asyncio.sleep(0)


async def indexed(store: WritableStore) -> dict[str, int]:
    """Name → how many versions."""
    data = await store.read(INDEX_PATH)
    assert data is not None
    return {name: line.count(b'"version":') for name, line in lines_of(data).items()}


async def test_a_store_without_an_index_gets_none(store: WritableStore, source: Source) -> None:
    await publish(store, source(), "paris")
    assert not await update_index(store, LAYOUT, "paris", clock=CLOCK)
    assert await store.read(INDEX_PATH) is None
    assert await check_index(store, LAYOUT, clock=CLOCK) is None


async def test_an_index_is_made_of_what_is_complete(store: WritableStore, source: Source) -> None:
    await publish(store, source(), "paris")
    await publish(store, source(), "paris")
    await store.write("rome/1/model", b"without a marker")
    await store.write("oslo/1/model", b"x")
    await store.write("oslo/1/_PUBLISHING", b"x")
    await store.write("stray", b"x")
    now = SystemClock()
    assert await rebuild_index(store, LAYOUT, clock=now) == IndexReport(models=1, versions=2, left_out=2)
    assert await indexed(store) == {"paris": 2}
    assert await rebuild_index(store, LAYOUT, clock=LATER) == IndexReport(models=2, versions=3, left_out=1)
    assert await check_index(store, LAYOUT, clock=LATER) == []


async def test_one_model_is_changed_added_and_removed(store: WritableStore, source: Source) -> None:
    await publish(store, source(), "paris")
    await rebuild_index(store, LAYOUT, clock=CLOCK)
    await publish(store, source(), "rome")
    await publish(store, source(), "paris")
    assert await check_index(store, LAYOUT, clock=CLOCK) == ["paris", "rome"]
    for name in ("rome", "paris", "absent"):
        assert await update_index(store, LAYOUT, name, clock=CLOCK)
    assert await indexed(store) == {"paris": 2, "rome": 1}
    for path in [path async for page in store.list("rome/") for path in (it.path for it in page)]:
        await store.delete(path)
    assert await update_index(store, LAYOUT, "rome", clock=CLOCK)
    assert await indexed(store) == {"paris": 2}
    assert await check_index(store, LAYOUT, clock=CLOCK) == []


async def test_an_index_that_did_not_change_is_not_written(store: WritableStore, source: Source) -> None:
    await publish(store, source(), "paris")
    await rebuild_index(store, LAYOUT, clock=CLOCK)
    before = await store.open(INDEX_PATH)
    await update_index(store, LAYOUT, "paris", clock=CLOCK)
    after = await store.open(INDEX_PATH)
    assert before is not None
    assert after is not None
    assert before.revision == after.revision
    for content in (before, after):
        assert content.chunks is not None
        assert [chunk async for chunk in content.chunks]


async def test_publishers_at_the_same_time_lose_nothing(store: WritableStore, source: Source) -> None:
    await rebuild_index(store, LAYOUT, clock=CLOCK)

    async def one(number: int) -> None:
        name = f"city-{number}"
        await publish(store, source(name, model=name), name)
        assert await update_index(store, LAYOUT, name, clock=CLOCK, sleep=no_pause)

    await asyncio.gather(*(one(number) for number in range(10)))
    assert await indexed(store) == {f"city-{number}": 1 for number in range(10)}


async def test_two_who_change_one_model_lose_nothing(store: WritableStore, source: Source) -> None:
    """The slower one writes what the store has, not what it remembers."""
    await publish(store, source(), "paris")
    await rebuild_index(store, LAYOUT, clock=CLOCK)
    write_if = store.write_if
    raced = False

    async def overtaken(path: str, data: bytes, revision: Revision | None) -> None:
        nonlocal raced
        if path == INDEX_PATH and not raced:
            raced = True
            await publish(store, source("other", model="2"), "paris")
            await update_index(store, LAYOUT, "paris", clock=CLOCK)
        await write_if(path, data, revision)

    await publish(store, source("third", model="3"), "paris")
    store.write_if = overtaken  # type: ignore[method-assign]
    assert await update_index(store, LAYOUT, "paris", clock=CLOCK, sleep=no_pause)
    assert await indexed(store) == {"paris": 3}


async def test_a_rebuild_that_is_overtaken_begins_again(store: WritableStore, source: Source) -> None:
    await publish(store, source(), "paris")
    await rebuild_index(store, LAYOUT, clock=CLOCK)
    write_if = store.write_if
    raced = False

    async def overtaken(path: str, data: bytes, revision: Revision | None) -> None:
        nonlocal raced
        if not raced:
            raced = True
            await publish(store, source("other", model="2"), "rome")
            await update_index(store, LAYOUT, "rome", clock=CLOCK)
        await write_if(path, data, revision)

    store.write_if = overtaken  # type: ignore[method-assign]
    await rebuild_index(store, LAYOUT, clock=CLOCK, sleep=no_pause)
    assert await indexed(store) == {"paris": 1, "rome": 1}


async def test_one_who_never_gets_through_says_so(store: WritableStore, source: Source) -> None:
    await rebuild_index(store, LAYOUT, clock=CLOCK)
    await publish(store, source(), "paris")

    async def always(path: str, data: bytes, revision: Revision | None) -> None:
        raise ConflictError("others were faster")

    store.write_if = always  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="changed 30 times"):
        await update_index(store, LAYOUT, "paris", clock=CLOCK, sleep=no_pause)


async def test_what_is_no_index_is_not_changed_but_may_be_made_anew(
    store: WritableStore, source: Source
) -> None:
    await store.write(INDEX_PATH, b"<html>")
    await publish(store, source(), "paris")
    with pytest.raises(StoreError, match="is of no use"):
        await update_index(store, LAYOUT, "paris", clock=CLOCK)
    assert await store.read(INDEX_PATH) == b"<html>"
    assert (await rebuild_index(store, LAYOUT, clock=CLOCK)).models == 1


async def test_labels_stand_in_the_index_and_follow_their_file(store: WritableStore, source: Source) -> None:
    await publish(store, source(), "paris")
    await store.write("paris/labels.yaml", b"stable: 1\nnext: 2\n")
    await rebuild_index(store, LAYOUT, clock=CLOCK)
    assert await labels_of(store, "paris") == {"next": 2, "stable": 1}
    assert await check_index(store, LAYOUT, clock=CLOCK) == []
    await store.write("paris/labels.yaml", b"stable: 2\n")
    assert await check_index(store, LAYOUT, clock=CLOCK) == ["paris"]
    await publish(store, source(), "paris")
    await update_index(store, LAYOUT, "paris", clock=CLOCK)
    assert await labels_of(store, "paris") == {"stable": 2}
    await store.write("paris/labels.yaml", b"stable: two\n")
    await update_index(store, LAYOUT, "paris", clock=CLOCK)
    assert await labels_of(store, "paris") == {}
    assert await check_index(store, LAYOUT, clock=CLOCK) == [], "nobody knows what it should say"
    await store.delete("paris/labels.yaml")
    await update_index(store, LAYOUT, "paris", clock=CLOCK)
    assert b"labels" not in (await store.read(INDEX_PATH) or b"")


async def labels_of(store: WritableStore, name: str) -> dict[str, int]:
    """What a server that reads the index takes for the labels of a model."""
    reader = IndexReader(LAYOUT)
    for _ in (*reader.feed(await store.read(INDEX_PATH) or b""), *reader.finish()):
        pass
    labels = reader.listing().models[name].labels
    return dict(labels.targets) if labels is not None else {}
