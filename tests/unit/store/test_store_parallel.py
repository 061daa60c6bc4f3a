"""Several listings that share a store, against keys in memory: all is shown once, whatever the keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hotset.errors import StoreError
from hotset.store import ObjectMeta
from hotset.store.parallel import KeyLayout, OutOfOrderError, ParallelListing

LIMIT_S = 20.0
PATHS = st.text(st.sampled_from("ab-/1\uffff"), min_size=1, max_size=5).filter(lambda path: path != "/")


class Keys:
    """Lists like S3: pages of raw keys in their order, behind a key. A key that ends in a slash is a folder's marker."""

    def __init__(self, keys: Sequence[str], *, page: int = 2) -> None:
        self.keys = sorted(keys)
        self.page = page
        self.open = self.most_open = self.requests = 0
        self.faults: dict[int, Exception] = {}
        self.gate: asyncio.Event | None = None

    async def behind(self, after: str) -> AsyncGenerator[Sequence[ObjectMeta], None]:
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            keys = [key for key in self.keys if key > after]
            for start in range(0, len(keys), self.page):
                self.requests += 1
                fault = self.faults.get(self.requests)
                if self.gate is not None:
                    await self.gate.wait()
                await asyncio.sleep(0)
                if fault is not None:
                    raise fault
                yield [_object(key) for key in keys[start : start + self.page]]
        finally:
            self.open -= 1


def _object(key: str) -> ObjectMeta:
    return ObjectMeta(key.removesuffix("/"), int(not key.endswith("/")), "e", 0.0)


async def listed(keys: Keys, layout: KeyLayout | None = None, *, most: int = 4) -> list[str]:
    listing = ParallelListing(
        keys.behind, layout=layout or KeyLayout(), url="s3://b", page_objects=keys.page, most=most
    )
    async with asyncio.timeout(LIMIT_S):
        found = [object_.path async for page in listing.pages() for object_ in page]
    assert keys.open == 0
    return found


MANY = [f"city-{number:03}/{part}" for number in range(60) for part in "ab"]


async def test_a_small_store_is_listed_in_a_row() -> None:
    keys = Keys(MANY[:14])
    assert await listed(keys) == MANY[:14]
    assert (keys.most_open, keys.requests) == (1, 7)


async def test_a_large_store_is_shared_once_it_shows_that_it_is() -> None:
    keys = Keys(MANY)
    assert sorted(await listed(keys)) == MANY
    assert keys.most_open == 4
    assert keys.requests < 90


async def test_the_next_listing_knows_where_to_cut_and_asks_for_little_more_than_one_in_a_row() -> None:
    layout = KeyLayout()
    keys = Keys(MANY)
    await listed(keys, layout)
    keys.requests = 0
    assert sorted(await listed(keys, layout)) == MANY
    assert keys.most_open == 4
    assert keys.requests <= 60 + 2 * 4


async def test_a_store_that_shrank_or_grew_is_shown_whole() -> None:
    layout = KeyLayout()
    await listed(Keys(MANY), layout)
    for now in (MANY[:3], [*MANY, *(f"rome-{number:04}/m" for number in range(300))], []):
        assert sorted(await listed(Keys(now), layout)) == sorted(now)


async def test_a_failure_of_one_listing_ends_all() -> None:
    keys = Keys(MANY)
    keys.faults[20] = StoreError("away")
    layout = KeyLayout()
    with pytest.raises(StoreError, match="away"):
        await listed(keys, layout)
    assert keys.open == 0
    assert layout.pages == ()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_who_stops_early_leaves_nothing_running() -> None:
    keys = Keys(MANY)
    pages = ParallelListing(keys.behind, layout=KeyLayout(), url="s3://b", page_objects=2).pages()
    await anext(pages)
    await pages.aclose()
    assert keys.open == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_pass_leaves_nothing_running() -> None:
    keys = Keys(MANY)
    keys.gate = asyncio.Event()
    task = asyncio.create_task(listed(keys))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert keys.open == 0


async def test_what_nobody_takes_is_not_asked_for() -> None:
    keys = Keys(MANY)
    pages = ParallelListing(keys.behind, layout=KeyLayout(), url="s3://b", page_objects=2, most=2).pages()
    await anext(pages)
    for _ in range(200):
        await asyncio.sleep(0)
    assert keys.requests <= 1 + 4 + 2
    await pages.aclose()


async def test_a_store_that_lists_in_no_order_is_found_out() -> None:
    keys = Keys(MANY)
    keys.keys[5], keys.keys[6] = keys.keys[6], keys.keys[5]
    layout = KeyLayout()
    with pytest.raises(OutOfOrderError, match="s3://b does not list in order"):
        await listed(keys, layout)
    assert not layout.is_ordered


@settings(deadline=None, max_examples=150)
@given(st.sets(PATHS, max_size=80), st.lists(st.sets(PATHS, max_size=10), max_size=2), st.integers(1, 4))
def test_all_is_shown_once_whatever_the_keys(first: set[str], more: list[set[str]], page: int) -> None:
    async def run() -> None:
        layout = KeyLayout()
        keys = {key for key in first if not key.endswith("/")}
        for extra in [set[str](), *more]:
            keys ^= {key for key in extra if not key.endswith("/")}
            assert sorted(await listed(Keys(sorted(keys), page=page), layout)) == sorted(keys)

    asyncio.run(run())


@settings(deadline=None, max_examples=150)
@given(st.sets(PATHS, max_size=80), st.integers(1, 4))
@example({"-", "1", "1/", "11", "111", "1111", "1a", "a", "a1", "b-", "b/"}, 1)
def test_markers_of_folders_are_in_nobody_s_way(paths: set[str], page: int) -> None:
    async def run() -> None:
        layout = KeyLayout()
        for _ in range(2):
            found = await listed(Keys(sorted(paths), page=page), layout)
            assert set(found) == {key.removesuffix("/") for key in paths}
            assert sorted(it for it in found if it in paths) == sorted(
                it for it in paths if not it.endswith("/")
            ) or any(f"{it}/" in paths for it in found)

    asyncio.run(run())
