from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from hotset.catalog import ModelEntry, VersionEntry
from hotset.errors import OverloadedError, StoreError
from hotset.keys import Fingerprint, ModelKey
from hotset.residency.lookup import FOUND_TTL_S, Lookup
from hotset.testing import Gate, ManualClock


def model(name: str) -> ModelEntry:
    return ModelEntry(name, (VersionEntry(ModelKey(name, 1), Fingerprint(name), f"{name}/1/", 10, 1, 0.0),))


class Store:
    """What a lookup lists, and how often."""

    def __init__(self) -> None:
        self.models: dict[str, ModelEntry] = {}
        self.listed: Counter[str] = Counter()
        self.gate = Gate()
        self.fault: Exception | None = None
        self.inside = 0
        self.most_inside = 0

    async def find(self, name: str) -> ModelEntry | None:
        self.listed[name] += 1
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await self.gate.pass_through()
            if self.fault is not None:
                raise self.fault
            return self.models.get(name)
        finally:
            self.inside -= 1


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def lookup(store: Store, clock: ManualClock) -> Lookup:
    return Lookup(store.find, clock=clock, ttl_s=30.0, most=3, most_at_once=2)


async def test_a_model_that_is_there(lookup: Lookup, store: Store) -> None:
    store.models["paris"] = model("paris")
    assert await lookup.look("paris") == model("paris")
    assert len(lookup) == 0


async def test_a_no_is_remembered_for_a_while(lookup: Lookup, store: Store, clock: ManualClock) -> None:
    assert await lookup.look("paris") is None
    assert lookup.is_known_missing("paris")
    clock.advance(29.9)
    assert await lookup.look("paris") is None
    assert store.listed["paris"] == 1
    clock.advance(0.2)
    store.models["paris"] = model("paris")
    assert await lookup.look("paris") == model("paris")


async def test_a_yes_is_not_listed_again_right_away(lookup: Lookup, store: Store, clock: ManualClock) -> None:
    store.models["paris"] = model("paris")
    for _ in range(5):
        assert await lookup.look("paris") == model("paris")
    assert store.listed["paris"] == 1
    clock.advance(FOUND_TTL_S)
    await lookup.look("paris")
    assert store.listed["paris"] == 2


async def test_who_was_told_that_it_changed_sees_it_at_once(lookup: Lookup, store: Store) -> None:
    assert await lookup.look("paris") is None
    store.models["paris"] = model("paris")
    assert await lookup.look("paris") is None
    assert await lookup.look("paris", afresh=True) == model("paris")
    del store.models["paris"]
    assert await lookup.look("paris") == model("paris")
    assert await lookup.look("paris", afresh=True) is None
    assert store.listed["paris"] == 3


async def test_a_look_that_began_before_it_changed_is_not_enough(lookup: Lookup, store: Store) -> None:
    store.gate.close()
    early = asyncio.create_task(lookup.look("paris"))
    await store.gate.arrived()
    fresh = asyncio.create_task(lookup.look("paris", afresh=True))
    await asyncio.sleep(0)
    store.gate.open()
    assert await early is None
    store.models["paris"] = model("paris")
    assert await fresh == model("paris")
    assert store.listed["paris"] == 2


async def test_a_look_before_that_failed_does_not_fail_the_fresh_one(lookup: Lookup, store: Store) -> None:
    store.gate.close()
    store.fault = StoreError("away")
    early = asyncio.create_task(lookup.look("paris"))
    await store.gate.arrived()
    fresh = asyncio.create_task(lookup.look("paris", afresh=True))
    await asyncio.sleep(0)
    store.gate.open()
    with pytest.raises(StoreError):
        await early
    store.fault = None
    assert await fresh is None


async def test_all_is_forgotten_when_the_store_was_listed(lookup: Lookup, store: Store) -> None:
    store.models["paris"] = model("paris")
    await lookup.look("paris")
    await lookup.look("rome")
    lookup.forget()
    assert len(lookup) == 0
    await lookup.look("paris")
    await lookup.look("rome")
    assert store.listed == {"paris": 2, "rome": 2}


async def test_a_hundred_who_ask_at_once_list_once(lookup: Lookup, store: Store) -> None:
    store.gate.close()
    asked = [asyncio.create_task(lookup.look("paris")) for _ in range(100)]
    await store.gate.arrived()
    store.gate.open()
    assert await asyncio.gather(*asked) == [None] * 100
    assert store.listed["paris"] == 1


async def test_noes_are_bounded_the_oldest_goes(lookup: Lookup) -> None:
    for name in ("a", "b", "c", "d"):
        await lookup.look(name)
    assert len(lookup) == 3
    assert not lookup.is_known_missing("a")
    assert lookup.is_known_missing("d")


async def test_few_listings_at_a_time_and_not_too_many_waiting(lookup: Lookup, store: Store) -> None:
    store.gate.close()
    asked = [asyncio.create_task(lookup.look(f"m{number}")) for number in range(128)]
    await store.gate.arrived()
    await store.gate.arrived()
    with pytest.raises(OverloadedError, match="'one-more'"):
        await lookup.look("one-more")
    again = asyncio.create_task(lookup.look("m5"))
    await asyncio.sleep(0)
    assert not again.done(), "who asks for what is being looked up joins"
    store.gate.open()
    await asyncio.gather(*asked, again)
    assert store.most_inside == 2


async def test_a_store_that_does_not_answer_is_not_remembered(lookup: Lookup, store: Store) -> None:
    store.fault = StoreError("away")
    with pytest.raises(StoreError):
        await lookup.look("paris")
    store.fault = None
    store.models["paris"] = model("paris")
    assert await lookup.look("paris") == model("paris")


async def test_who_goes_away_does_not_end_the_look(lookup: Lookup, store: Store) -> None:
    store.gate.close()
    leader = asyncio.create_task(lookup.look("paris"))
    await store.gate.arrived()
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    store.gate.open()
    assert await lookup.look("paris") is None
    assert store.listed["paris"] == 1


async def test_close_ends_what_is_in_the_air(lookup: Lookup, store: Store) -> None:
    store.gate.close()
    asked = asyncio.create_task(lookup.look("paris"))
    await store.gate.arrived()
    await lookup.close()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert store.inside == 0


async def test_noes_outlive_a_snapshot_that_says_nothing_of_them():
    asked = []

    async def find(name):
        asked.append(name)

    clock = ManualClock()
    lookup = Lookup(find, clock=clock, ttl_s=30.0, forgets=False, is_stale=lambda name: name == "old")
    assert await lookup.look("a") is None
    lookup.forget()
    assert await lookup.look("a") is None
    assert asked == ["a"]
    clock.advance(31.0)
    assert await lookup.look("a") is None
    assert asked == ["a", "a"]
    assert (lookup.is_stale("old"), lookup.is_stale("new")) == (True, False)
    await lookup.close()
