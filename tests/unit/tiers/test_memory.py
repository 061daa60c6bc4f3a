"""The memory tier: leases, room, and words that go with what leaves. What words mean: test_words.py."""

from __future__ import annotations

import pytest

from hotset.events import Cause
from hotset.keys import ModelKey, ModelRef
from hotset.tiers.eviction import LRU
from hotset.tiers.ledger import NOTHING, Capacity, Entry, Weight
from hotset.tiers.memory import MemoryTier

PARIS1, PARIS2, ROME1, OSLO1 = (
    ModelKey("paris", 1),
    ModelKey("paris", 2),
    ModelKey("rome", 1),
    ModelKey("oslo", 1),
)
PARIS = ModelRef("paris")


class Tier:
    """A memory tier with the steps that tests take all the time."""

    def __init__(self, places: int | None = None) -> None:
        self.lru: LRU[ModelRef] = LRU()
        self.woken = 0
        self.tier: MemoryTier[str] = MemoryTier(Capacity(models=places), wake=self.wake, eviction=self.lru)

    def wake(self) -> None:
        self.woken += 1

    def load(self, key: ModelKey, *, latest: bool = False) -> Entry[ModelKey, str]:
        reservation = self.tier.reserve(key, Weight(bytes=10), lambda: None)
        for entry in self.tier.advance():
            self.tier.freed(entry)
        self.tier.advance()
        entry = self.tier.commit(reservation, str(key))
        if latest:
            self.tier.point_latest(key)
        self.tier.check_invariants()
        return entry

    def use(self, word: ModelRef | ModelKey, now_s: float) -> None:
        lease = self.tier.lease(ModelRef(*word), now_s)
        assert lease is not None
        lease.release()
        self.tier.check_invariants()

    def victims(self, count: int = 1) -> list[ModelKey]:
        """Who would go for ``count`` more places, in order, without letting them go."""
        return list(self.tier._keys_by_recency())[:count]

    def nothing_is_left(self) -> None:
        tier = self.tier
        assert tier.usage == NOTHING
        assert not tier._versions
        assert not tier._latest
        assert not tier._unasked
        assert not list(self.lru.victims())
        assert tier.entries() == tier.draining() == ()


@pytest.fixture
def tier() -> Tier:
    return Tier()


# Leases


def test_a_lease_is_the_right_to_use_until_released(tier: Tier):
    tier.load(PARIS1)
    lease = tier.tier.lease(ModelRef("paris", 1), 1.0)
    assert lease is not None
    assert (lease.key, lease.value, lease.is_released) == (PARIS1, "paris@1", False)
    assert tier.tier.statistics().leases == 1
    lease.release()
    assert lease.is_released
    assert tier.tier.statistics().leases == 0
    with pytest.raises(RuntimeError, match="lease released twice: paris@1"):
        lease.release()
    assert tier.tier.statistics().leases == 0


def test_a_lease_is_a_context_manager_and_ends_with_an_exception_too(tier: Tier):
    tier.load(PARIS1)
    lease = tier.tier.lease(ModelRef("paris", 1), 1.0)
    assert lease is not None
    with pytest.raises(ValueError, match="predict"), lease as value:
        assert value == "paris@1"
        raise ValueError("predict")
    assert lease.is_released


def test_what_is_not_in_memory_is_not_leased_and_leaves_no_trace(tier: Tier):
    assert tier.tier.lease(PARIS, 1.0) is None
    assert tier.tier.lease(ModelRef("paris", 7), 1.0) is None
    assert tier.tier.find(ModelRef("paris", "a label")) is None
    tier.nothing_is_left()


def test_what_is_evicted_under_a_lease_is_handed_out_after_it(tier: Tier):
    entry = tier.load(PARIS1)
    lease = tier.tier.lease_entry(entry)
    assert tier.tier.evict(PARIS1, Cause.EXPLICIT)
    assert tier.tier.find(ModelRef("paris", 1)) is None
    assert tier.tier.lease(ModelRef("paris", 1), 1.0) is None
    assert tier.tier.advance() == []
    assert lease.value == "paris@1"
    assert tier.tier.draining() == (entry,)
    lease.release()
    assert tier.tier.advance() == [entry]
    assert tier.tier.usage == Weight(1, 10)
    tier.tier.freed(entry)
    tier.nothing_is_left()


def test_an_entry_that_left_is_not_leased(tier: Tier):
    old = tier.load(PARIS1)
    tier.load(PARIS1)
    with pytest.raises(RuntimeError, match="not in memory any more: paris@1"):
        tier.tier.lease_entry(old)
    assert tier.tier.statistics().leases == 0


def test_evicting_what_is_not_there(tier: Tier):
    assert not tier.tier.evict(PARIS1, Cause.EXPLICIT)


# Who goes, and what goes with it


def test_the_least_recently_used_goes_first():
    tier = Tier(places=2)
    tier.load(PARIS1)
    tier.load(ROME1)
    tier.use(PARIS1, 1.0)
    tier.use(ROME1, 2.0)
    tier.use(PARIS1, 3.0)
    tier.load(OSLO1)
    assert {entry.key for entry in tier.tier.entries()} == {PARIS1, OSLO1}


def test_two_words_used_at_the_same_time_are_one_victim():
    """It would have counted twice, and room that was never there would have been promised."""
    tier = Tier(places=3)
    tier.load(PARIS1, latest=True)
    tier.load(ROME1)
    tier.load(OSLO1)
    for word in (ModelRef("paris", 1), PARIS, ModelRef("rome", 1), ModelRef("oslo", 1)):
        tier.use(word, 1.0)
    assert tier.victims(9) == [PARIS1, ROME1, OSLO1]
    reservations = [
        tier.tier.reserve(ModelKey("bern", version), Weight(bytes=10), lambda: None) for version in (1, 2)
    ]
    for entry in tier.tier.advance():
        tier.tier.freed(entry)
    tier.tier.advance()
    assert all(reservation.is_granted for reservation in reservations)
    assert [entry.key for entry in tier.tier.entries()] == [OSLO1]


@pytest.mark.parametrize("others", [[], [PARIS2]])
def test_a_lease_that_outlives_its_entry_does_not_take_the_word_of_the_next_one_along(
    tier: Tier, others: list[ModelKey]
):
    """Evicted under a lease, asked for again, and only then released: the new load keeps its time."""
    for key in others:
        tier.load(key)
    lease = tier.tier.lease_entry(tier.load(PARIS1))
    tier.tier.evict(PARIS1, Cause.WORKER_DIED)
    tier.tier.touch(ModelRef("paris", 1), 7.0)
    tier.tier.touch(PARIS, 8.0)
    lease.release()
    (entry,) = tier.tier.advance()
    tier.tier.freed(entry)
    tier.load(PARIS1, latest=True)
    assert tier.tier.last_used_s(ModelRef("paris", 1)) == 7.0
    assert tier.tier.entry_used_s(PARIS1) == 8.0


def test_replaced_in_place_it_keeps_its_words(tier: Tier):
    old = tier.load(PARIS1, latest=True)
    tier.use(PARIS, 4.0)
    new = tier.load(PARIS1)
    assert tier.tier.find(PARIS) is new is not old
    assert tier.tier.entry_used_s(PARIS1) == 4.0
    (gone,) = tier.tier.advance()
    assert gone is old
    tier.tier.freed(old)
    tier.tier.check_invariants()
    assert tier.tier.serving_latest("paris") == PARIS1


# Room, pins, figures


def test_the_oldest_time_is_that_of_who_would_go_first(tier: Tier):
    assert tier.tier.oldest_used_s() is None
    tier.load(PARIS1)
    tier.load(ROME1)
    tier.use(PARIS1, 3.0)
    tier.use(ROME1, 5.0)
    assert tier.tier.oldest_used_s() == 3.0
    with tier.tier.lease_entry(tier.tier.entries()[0]):
        assert tier.tier.statistics().oldest_used_s == 3.0  # leased or not
    tier.use(PARIS1, 6.0)
    assert tier.tier.oldest_used_s() == 5.0


def test_a_pinned_version_is_no_victim():
    tier = Tier(places=1)
    tier.load(PARIS1)
    assert tier.tier.pin(PARIS1, pinned=True)
    assert not tier.tier.pin(ROME1, pinned=True)
    reservation = tier.tier.reserve(ROME1, Weight(), lambda: None)
    assert tier.tier.advance() == []
    tier.woken = 0
    tier.tier.pin(PARIS1, pinned=False)
    assert tier.woken == 1
    (victim,) = tier.tier.advance()
    tier.tier.freed(victim)
    tier.tier.advance()
    assert reservation.is_granted
    tier.tier.cancel(reservation)
    tier.nothing_is_left()


def test_room_and_capacity_are_those_of_the_ledger():
    tier = Tier(places=2)
    assert tier.tier.capacity == Capacity(models=2)
    tier.load(PARIS1)
    assert tier.tier.has_room(Weight())
    reservation = tier.tier.reserve(ROME1, Weight(bytes=5), lambda: None)
    tier.tier.advance()
    tier.tier.resize(reservation, Weight(bytes=7))
    tier.tier.advance()
    assert tier.tier.usage == Weight(2, 17)
    assert not tier.tier.has_room(Weight())
    statistics = tier.tier.statistics().ledger
    assert (statistics.entries, statistics.reservations) == (1, 1)


def test_nothing_is_left_of_two_thousand_models():
    """Promise 9: state does not grow with the names that were ever asked for."""
    small = Tier(places=3)
    for number in range(2_000):
        key = ModelKey(f"city-{number}", number % 3)
        small.load(key, latest=number % 2 == 0)
        small.use(key, float(number))
    assert len(small.lru) == 3
    assert len(small.tier._versions) == 3
    assert len(small.tier._latest) <= 3
    for entry in small.tier.entries():
        small.tier.evict(entry.key, Cause.EXPLICIT)
    for entry in small.tier.advance():
        small.tier.freed(entry)
    small.nothing_is_left()


def test_a_broken_book_is_noticed(tier: Tier):
    """``check_invariants`` is what all the other tests rely on, so it must be able to fail."""
    tier.load(PARIS1).holds += 1
    with pytest.raises(AssertionError):
        tier.tier.check_invariants()


# Copies


def copied(it: Tier, key: ModelKey) -> Entry[ModelKey, str]:
    reservation = it.tier.reserve_copy(key, Weight(bytes=10))
    assert reservation is not None
    copy = it.tier.commit_copy(reservation, f"copy of {key}")
    it.tier.check_invariants()
    return copy


def test_a_lease_goes_to_the_place_with_the_fewest() -> None:
    it = Tier()
    it.load(PARIS1, latest=True)
    copied(it, PARIS1)
    leases = [it.tier.lease(PARIS, 1.0) for _ in range(4)]
    values = [lease.value for lease in leases if lease is not None]
    assert values == ["paris@1", "copy of paris@1"] * 2
    assert it.tier.statistics().leases == 4
    for lease in leases:
        assert lease is not None
        lease.release()


def test_a_copy_has_no_recency_of_its_own() -> None:
    it = Tier()
    it.load(PARIS1)
    it.load(ROME1)
    it.use(PARIS1, 1.0)
    it.use(ROME1, 2.0)
    copied(it, ROME1)
    assert it.victims(3) == [PARIS1, ROME1]
    assert [entry.key for entry in it.tier.entries()] == [PARIS1, ROME1]


def test_what_has_a_copy_in_use_is_not_idle() -> None:
    it = Tier()
    first = it.load(PARIS1)
    it.tier.lease_entry(copied(it, PARIS1)).release()
    assert [entry.key for entry in it.tier.idle()] == [PARIS1]
    lease = it.tier.lease_entry(first.copies[0])
    assert list(it.tier.idle()) == []
    lease.release()


def test_the_words_outlive_the_first_place() -> None:
    it = Tier()
    first = it.load(PARIS1, latest=True)
    it.use(PARIS, 5.0)
    copied(it, PARIS1)
    it.tier.drop(first, Cause.WORKER_DIED)
    it.tier.check_invariants()
    assert it.tier.serving_latest("paris") == PARIS1
    assert it.tier.last_used_s(PARIS) == 5.0
    lease = it.tier.lease(PARIS, 6.0)
    assert lease is not None
    assert lease.value == "copy of paris@1"
    lease.release()
    for entry in it.tier.advance():
        it.tier.freed(entry)
    it.tier.check_invariants()
    assert it.tier.find(PARIS) is not None


def test_dropping_the_last_place_forgets_the_words() -> None:
    it = Tier()
    it.tier.drop(it.load(PARIS1, latest=True), Cause.WORKER_DIED)
    assert it.tier.find(PARIS) is None
    assert it.tier.serving_latest("paris") is None


def test_dropping_what_is_leaving_already_is_fine() -> None:
    it = Tier()
    it.load(PARIS1)
    copy = copied(it, PARIS1)
    it.tier.drop(copy, Cause.IDLE)
    it.tier.drop(copy, Cause.WORKER_DIED)
    assert copy.cause is Cause.IDLE
