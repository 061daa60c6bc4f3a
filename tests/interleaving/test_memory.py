"""The races of the memory tier, each forced by name. Its calls are steps; a test is an order of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hotset.events import Cause
from hotset.keys import ModelKey, ModelRef
from hotset.tiers.ledger import NOTHING, Capacity, Entry, Reservation, Weight
from hotset.tiers.memory import Lease, MemoryTier

OLD, NEW, ROME = ModelKey("paris", 1), ModelKey("paris", 2), ModelKey("rome", 1)
PARIS = ModelRef("paris")


class Two:
    """A tier with two places. At the end of a test all leases are released and nothing may be left."""

    def __init__(self) -> None:
        self.tier: MemoryTier[str] = MemoryTier(Capacity(models=2))
        self.now_s = 0.0

    def reserve(self, key: ModelKey) -> Reservation[ModelKey]:
        return self.tier.reserve(key, Weight(), lambda: None)

    def load(self, key: ModelKey) -> Entry[ModelKey, str]:
        reservation = self.reserve(key)
        self.tier.advance()
        return self.tier.commit(reservation, str(key))

    def lease(self, word: ModelRef | ModelKey) -> Lease[str]:
        self.now_s += 1
        lease = self.tier.lease(ModelRef(*word), self.now_s)
        assert lease is not None
        self.tier.check_invariants()
        return lease

    def unload(self) -> list[ModelKey]:
        """Advance and give back what was handed out."""
        ready = self.tier.advance()
        for entry in ready:
            assert entry.holds == 0
            self.tier.freed(entry)
        self.tier.check_invariants()
        return [entry.key for entry in ready]


@pytest.fixture
def two() -> Iterator[Two]:
    two = Two()
    yield two
    for entry in two.tier.entries():
        two.tier.evict(entry.key, Cause.EXPLICIT)
    two.unload()
    assert two.tier.usage == NOTHING
    assert two.tier.statistics().leases == 0
    assert two.tier.draining() == ()


def test_lease_then_evict_the_lease_wins(two: Two):
    two.load(OLD)
    lease = two.lease(OLD)
    two.tier.evict(OLD, Cause.EXPLICIT)
    assert two.unload() == []
    assert lease.value == "paris@1"
    lease.release()
    assert two.unload() == [OLD]


def test_evict_then_lease_the_eviction_wins(two: Two):
    two.load(OLD)
    two.tier.evict(OLD, Cause.EXPLICIT)
    assert two.tier.lease(ModelRef(*OLD), 1.0) is None
    assert two.unload() == [OLD]


def test_a_lease_taken_after_the_victims_were_chosen_finds_another_place(two: Two):
    """Choosing and taking out are one step: whoever comes after it finds a miss and never a dying entry."""
    two.load(OLD)
    two.load(ROME)
    two.lease(ROME).release()
    reservation = two.reserve(NEW)
    (victim,) = two.tier.advance()
    assert victim.key == OLD
    assert two.tier.lease(ModelRef(*OLD), 9.0) is None
    two.tier.freed(victim)
    two.tier.advance()
    two.tier.commit(reservation, "new")


def test_all_leased_the_first_release_makes_the_room(two: Two):
    first, second = two.load(OLD), two.load(ROME)
    leases = [two.tier.lease_entry(first), two.tier.lease_entry(second)]
    reservation = two.reserve(NEW)
    assert two.unload() == []
    leases[1].release()
    assert two.unload() == [ROME]
    two.tier.advance()
    assert reservation.is_granted
    two.tier.cancel(reservation)
    leases[0].release()


def test_two_leases_one_eviction_the_last_release_lets_go(two: Two):
    two.load(OLD)
    first, second = two.lease(OLD), two.lease(OLD)
    two.tier.evict(OLD, Cause.DELETED)
    first.release()
    assert two.unload() == []
    second.release()
    assert two.unload() == [OLD]
    assert two.unload() == []


def test_latest_moves_between_two_requests_and_both_finish(two: Two):
    two.load(OLD)
    two.tier.point_latest(OLD)
    before = two.lease(PARIS)
    two.load(NEW)
    two.tier.point_latest(NEW)
    after = two.lease(PARIS)
    assert (before.key, after.key) == (OLD, NEW)
    two.tier.evict(OLD, Cause.SUPERSEDED)
    assert two.unload() == []
    before.release()
    assert two.unload() == [OLD]
    after.release()


def test_a_rollover_of_latest_never_has_a_gap(two: Two):
    """At every step of loading the newer version, ``latest`` is answered from memory."""
    two.load(OLD)
    two.tier.point_latest(OLD)
    served = [two.lease(PARIS)]
    reservation = two.reserve(NEW)
    served.append(two.lease(PARIS))
    two.tier.advance()
    served.append(two.lease(PARIS))
    two.tier.commit(reservation, "new")
    served.append(two.lease(PARIS))
    two.tier.point_latest(NEW)
    served.append(two.lease(PARIS))
    two.tier.evict(OLD, Cause.SUPERSEDED)
    served.append(two.lease(PARIS))
    assert [lease.key.version for lease in served] == [1, 1, 1, 1, 2, 2]
    for lease in served:
        lease.release()
    assert two.unload() == [OLD]


def test_replaced_in_place_under_a_lease_each_answers_with_what_it_leased(two: Two):
    two.load(OLD)
    lease = two.lease(OLD)
    reservation = two.reserve(OLD)
    two.tier.advance()
    two.tier.commit(reservation, "the same version, other files")
    younger = two.lease(OLD)
    assert (lease.value, younger.value) == ("paris@1", "the same version, other files")
    younger.release()
    assert two.unload() == []
    lease.release()
    assert two.unload() == [OLD]
    assert two.tier.find(ModelRef(*OLD)) is not None


def test_deleted_while_its_successor_loads_latest_is_inherited_by_the_successor(two: Two):
    two.load(OLD)
    two.tier.point_latest(OLD)
    two.lease(PARIS).release()
    used_s = two.tier.last_used_s(PARIS)
    two.load(NEW)
    two.tier.evict(OLD, Cause.DELETED)
    assert two.tier.serving_latest("paris") is None
    two.tier.point_latest(NEW)
    assert two.tier.entry_used_s(NEW) == used_s
    assert two.unload() == [OLD]


def test_evicted_between_the_grant_and_the_commit_of_another(two: Two):
    two.load(OLD)
    reservation = two.reserve(ROME)
    two.tier.advance()
    two.tier.evict(OLD, Cause.PRESSURE)
    two.tier.commit(reservation, "rome")
    assert two.unload() == [OLD]
    assert [entry.key for entry in two.tier.entries()] == [ROME]


def test_cancelled_after_its_victim_was_handed_out_the_next_in_line_gets_the_room(two: Two):
    two.load(OLD)
    two.load(ROME)
    first = two.reserve(NEW)
    (victim,) = two.tier.advance()
    second = two.reserve(ModelKey("oslo", 1))
    two.tier.cancel(first)
    assert two.tier.advance() == []  # nobody else has to go: the room that was made is promised on
    assert not second.is_granted
    two.tier.freed(victim)
    two.tier.advance()
    assert second.is_granted
    two.tier.cancel(second)


def test_released_inside_the_step_that_evicted_it(two: Two):
    two.load(OLD)
    with two.lease(OLD):
        two.tier.evict(OLD, Cause.IDLE)
    assert two.unload() == [OLD]
