"""The books of a tier, one rule at a time. The machine in ``tests/property`` tries the rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hotset.errors import CapacityError, ErrorKind
from hotset.events import Cause
from hotset.tiers.ledger import NOTHING, Capacity, Entry, Ledger, Reservation, Weight


class Books:
    """A ledger whose eviction order is the order of entering, and which notes what it was told."""

    def __init__(self, capacity: Capacity) -> None:
        self.woken = 0
        self.granted: list[str] = []
        self.order: list[str] = []
        self.ledger: Ledger[str, str] = Ledger(capacity, order=lambda: iter(self.order), wake=self.wake)

    def wake(self) -> None:
        self.woken += 1

    def reserve(self, key: str, weight: Weight) -> Reservation[str]:
        return self.ledger.reserve(key, weight, lambda: self.granted.append(key))

    def enter(self, key: str, weight: Weight) -> Entry[str, str]:
        reservation = self.reserve(key, weight)
        assert self.ledger.advance() == []
        self.order.append(key)
        return self.ledger.commit(reservation, f"value of {key}")

    def advance(self) -> list[str]:
        return [entry.key for entry in self.ledger.advance()]

    def settle(self) -> None:
        """Give back all that is handed out, until there is nothing more."""
        while ready := self.ledger.advance():
            for entry in ready:
                self.ledger.freed(entry)


@pytest.fixture
def hundred() -> Iterator[Books]:
    books = Books(Capacity(bytes=100))
    yield books
    books.ledger.check_invariants()
    assert books.ledger.capacity.holds(books.ledger.usage)


def of(bytes_: int, *device_bytes: int) -> Weight:
    return Weight(1, bytes_, device_bytes)


def test_the_way_of_an_entry(hundred: Books):
    reservation = hundred.reserve("paris", of(60))
    assert hundred.woken == 1
    assert hundred.ledger.usage == NOTHING
    assert not reservation.is_granted
    assert hundred.advance() == []
    assert hundred.granted == ["paris"]
    assert reservation.is_granted
    assert hundred.ledger.usage == of(60)
    entry = hundred.ledger.commit(reservation, "model")
    assert (entry.key, entry.value, entry.weight, entry.holds) == ("paris", "model", of(60), 0)
    assert hundred.ledger.evict("paris", Cause.EXPLICIT) is entry
    assert hundred.ledger.entries == {}
    assert hundred.ledger.usage == of(60)
    assert hundred.ledger.draining() == (entry,)
    assert hundred.ledger.advance() == [entry]
    hundred.ledger.freed(entry)
    assert hundred.ledger.usage == NOTHING
    assert "paris" in repr(entry)
    assert "explicit" in repr(entry)


def test_a_grant_is_told_once(hundred: Books):
    hundred.reserve("paris", of(60))
    hundred.advance()
    hundred.advance()
    assert hundred.granted == ["paris"]


def test_room_is_granted_only_when_it_is_physically_there(hundred: Books):
    hundred.enter("paris", of(80))
    reservation = hundred.reserve("rome", of(50))
    (victim,) = hundred.ledger.advance()
    assert victim.key == "paris"
    assert victim.cause is Cause.CAPACITY
    assert not reservation.is_granted
    assert hundred.ledger.usage == of(80)
    hundred.woken = 0
    hundred.ledger.freed(victim)
    assert hundred.woken == 1
    assert hundred.advance() == []
    assert reservation.is_granted
    assert hundred.ledger.usage == of(50)


def test_promised_room_is_not_given_to_another(hundred: Books):
    hundred.enter("paris", of(100))
    first = hundred.reserve("rome", of(100))
    (victim,) = hundred.ledger.advance()
    second = hundred.reserve("oslo", of(100))
    assert hundred.advance() == []
    hundred.ledger.freed(victim)
    hundred.advance()
    assert first.is_granted
    assert not second.is_granted
    hundred.ledger.cancel(first)
    hundred.advance()
    assert second.is_granted


@pytest.mark.parametrize(
    ("needed", "victims"), [(10, []), (11, ["a"]), (30, ["a"]), (31, ["a", "b"]), (100, ["a", "b", "c"])]
)
def test_no_more_victims_than_needed_and_the_oldest_first(hundred: Books, needed: int, victims: list[str]):
    hundred.enter("a", of(20))
    hundred.enter("b", of(30))
    hundred.enter("c", of(40))
    hundred.reserve("new", of(needed))
    assert hundred.advance() == victims


def test_who_takes_nothing_of_what_is_short_is_passed_over():
    """A model on the device needs room on the device: those in host memory alone stay."""
    books = Books(Capacity(bytes=100, device_bytes=(10,)))
    for key, weight in (("host", of(10)), ("old", of(10, 6)), ("young", of(10, 4))):
        books.enter(key, weight)
    books.reserve("new", of(10, 6))
    assert books.advance() == ["old"]
    assert sorted(books.ledger.entries) == ["host", "young"]


def test_victims_are_chosen_on_the_device_that_is_short():
    books = Books(Capacity(bytes=100, device_bytes=(10, 10)))
    for key, weight in (
        ("host", of(10)),
        ("first", of(10, 8)),
        ("second", of(10, 0, 8)),
        ("both", of(10, 1, 1)),
    ):
        books.enter(key, weight)
    books.reserve("new", of(10, 0, 5))
    assert books.advance() == ["second"]
    assert sorted(books.ledger.entries) == ["both", "first", "host"]


def test_a_full_device_holds_up_nobody_on_another():
    books = Books(Capacity(device_bytes=(10, 10)))
    books.enter("held", of(1, 10)).holds += 1
    waits = books.reserve("same device", of(1, 5))
    goes_on = books.reserve("another device", of(1, 0, 5))
    books.advance()
    assert not waits.is_promised
    assert goes_on.is_granted


def test_what_is_held_or_pinned_is_no_victim(hundred: Books):
    held = hundred.enter("held", of(30))
    held.holds += 1
    hundred.enter("pinned", of(30))
    assert hundred.ledger.pin("pinned", pinned=True)
    hundred.enter("free", of(30))
    reservation = hundred.reserve("new", of(40))
    assert hundred.advance() == ["free"]
    assert not reservation.is_granted


def test_nothing_is_evicted_in_vain(hundred: Books):
    """If even all that is free would not make room, it stays until the room can be made."""
    held = hundred.enter("held", of(70))
    held.holds += 1
    hundred.enter("free", of(30))
    reservation = hundred.reserve("new", of(60))
    assert hundred.advance() == []
    assert "free" in hundred.ledger.entries
    hundred.woken = 0
    hundred.ledger.release(held)
    assert hundred.woken == 1
    hundred.settle()
    assert reservation.is_granted
    assert list(hundred.ledger.entries) == ["free"]


def test_unpinning_wakes_who_waits_for_room(hundred: Books):
    hundred.enter("pinned", of(100))
    hundred.ledger.pin("pinned", pinned=True)
    reservation = hundred.reserve("new", of(10))
    assert hundred.advance() == []
    hundred.woken = 0
    hundred.ledger.pin("pinned", pinned=False)
    assert hundred.woken == 1
    hundred.settle()
    assert reservation.is_granted


def test_pinning_what_is_not_there_says_so(hundred: Books):
    assert not hundred.ledger.pin("paris", pinned=True)


def test_a_pin_belongs_to_the_key(hundred: Books):
    hundred.enter("paris", of(10))
    hundred.ledger.pin("paris", pinned=True)
    hundred.enter("paris", of(20))
    assert hundred.ledger.entries["paris"].pinned


def test_what_drains_is_not_counted_twice_when_the_next_one_needs_room(hundred: Books):
    """Room that is already on its way back is enough: nobody else has to go for it."""
    hundred.enter("paris", of(50))
    hundred.enter("rome", of(50))
    hundred.ledger.evict("paris", Cause.EXPLICIT)
    hundred.reserve("oslo", of(50))
    assert hundred.advance() == ["paris"]
    assert list(hundred.ledger.entries) == ["rome"]


def test_what_grew_is_promised_again_before_anybody_else_is(hundred: Books):
    hundred.enter("old", of(40))
    grown = hundred.reserve("grown", of(30))
    hundred.advance()
    hundred.ledger.resize(grown, of(70))
    assert hundred.ledger.commitment == Weight(2, 70)
    assert hundred.advance() == ["old"]
    assert hundred.ledger.commitment == of(70)


def test_a_commit_wakes_who_waits_for_the_room(hundred: Books):
    """Room spoken for cannot be taken; an entry that nobody holds can."""
    first, second = hundred.reserve("paris", of(100)), hundred.reserve("rome", of(100))
    hundred.advance()
    hundred.order.append("paris")
    hundred.woken = 0
    hundred.ledger.commit(first, "model")
    assert hundred.woken == 1
    hundred.settle()
    assert second.is_granted


def test_waiting_behind_one_that_cannot_be_had_yet(hundred: Books):
    """A large reservation that waits for a lease does not hold up the small ones."""
    held = hundred.enter("held", of(80))
    held.holds += 1
    large, small = hundred.reserve("large", of(90)), hundred.reserve("small", of(20))
    hundred.advance()
    assert not large.is_granted
    assert small.is_granted


def test_replacing_in_place_keeps_the_old_one_until_the_commit(hundred: Books):
    old = hundred.enter("paris", of(40))
    old.holds += 1
    reservation = hundred.reserve("paris", of(40))
    assert hundred.advance() == []
    assert hundred.ledger.entries["paris"] is old
    new = hundred.ledger.commit(reservation, "newer")
    assert hundred.ledger.entries["paris"] is new
    assert old.cause is Cause.SUPERSEDED
    assert hundred.advance() == []
    hundred.ledger.release(old)
    assert hundred.ledger.advance() == [old]
    assert hundred.ledger.usage == Weight(2, 80)
    hundred.ledger.freed(old)
    assert hundred.ledger.usage == of(40)


def test_replacing_in_place_takes_others_before_the_old_one(hundred: Books):
    hundred.enter("paris", of(50))
    hundred.enter("rome", of(50))
    hundred.reserve("paris", of(50))
    assert hundred.advance() == ["rome"]


def test_replacing_in_place_takes_the_old_one_when_there_is_no_other_room(hundred: Books):
    hundred.enter("paris", of(60))
    held = hundred.enter("rome", of(20))
    held.holds += 1
    reservation = hundred.reserve("paris", of(60))
    assert hundred.advance() == ["paris"]
    assert not reservation.is_granted


@pytest.mark.parametrize(
    ("capacity", "part", "need", "limit"),
    [
        (Capacity(bytes=100), "bytes", 101, 100),
        (Capacity(device_bytes=(7,)), "bytes of device 0", 9, 7),
        (Capacity(bytes=200, device_bytes=(None, 7)), "bytes of device 1", 8, 7),
        (Capacity(models=0), "models", 1, 0),
    ],
)
def test_what_is_larger_than_everything_is_refused_with_both_figures(
    capacity: Capacity, part: str, need: int, limit: int
):
    books = Books(capacity)
    with pytest.raises(
        CapacityError, match=f"paris needs {need} {part}, the whole capacity is {limit}"
    ) as info:
        books.reserve("paris", of(101, 9, 8))
    assert info.value.kind is ErrorKind.TOO_LARGE
    assert books.ledger.statistics().reservations == 0


def test_resizing_down_keeps_the_grant_and_frees_the_rest(hundred: Books):
    reservation = hundred.reserve("paris", of(80))
    other = hundred.reserve("rome", of(60))
    hundred.advance()
    assert not other.is_granted
    hundred.woken = 0
    hundred.ledger.resize(reservation, of(40))
    assert hundred.woken == 1
    assert reservation.is_granted
    hundred.advance()
    assert other.is_granted
    assert hundred.ledger.usage == Weight(2, 100)


def test_resizing_up_asks_again_and_keeps_what_it_has(hundred: Books):
    hundred.enter("old", of(50))
    reservation = hundred.reserve("paris", of(40))
    hundred.advance()
    hundred.ledger.resize(reservation, of(70))
    assert not reservation.is_granted
    assert hundred.ledger.usage == Weight(2, 90)
    with pytest.raises(RuntimeError, match="not granted"):
        hundred.ledger.commit(reservation, "too early")
    hundred.settle()
    assert reservation.is_granted
    assert hundred.granted == ["old", "paris", "paris"]
    assert hundred.ledger.commit(reservation, "model").weight == of(70)


def test_resizing_one_part_up_and_one_down():
    books = Books(Capacity(bytes=100, device_bytes=(10,)))
    reservation = books.reserve("paris", of(80, 2))
    books.advance()
    books.ledger.resize(reservation, of(20, 9))
    assert books.ledger.usage == of(20, 2)
    books.advance()
    assert books.ledger.usage == of(20, 9)
    books.ledger.check_invariants()


def test_resizing_beyond_everything_is_refused_and_changes_nothing(hundred: Books):
    reservation = hundred.reserve("paris", of(40))
    hundred.advance()
    with pytest.raises(CapacityError, match="needs 101 bytes, the whole capacity is 100"):
        hundred.ledger.resize(reservation, of(101))
    assert reservation.is_granted
    assert reservation.weight == of(40)
    assert hundred.ledger.usage == of(40)


def test_two_that_grew_and_block_each_other_go_on_when_one_gives_up(hundred: Books):
    """Both hold half and want more: the books cannot solve that, so whoever waits needs a limit."""
    first, second = hundred.reserve("a", of(50)), hundred.reserve("b", of(50))
    hundred.advance()
    hundred.ledger.resize(first, of(70))
    hundred.ledger.resize(second, of(70))
    assert hundred.advance() == []
    assert not first.is_granted
    assert not second.is_granted
    hundred.woken = 0
    hundred.ledger.cancel(second)
    assert hundred.woken == 1
    hundred.advance()
    assert first.is_granted


def test_cancelling_gives_the_room_back_and_twice_is_fine(hundred: Books):
    reservation = hundred.reserve("paris", of(100))
    hundred.advance()
    hundred.ledger.cancel(reservation)
    hundred.ledger.cancel(reservation)
    assert hundred.ledger.usage == NOTHING
    with pytest.raises(RuntimeError, match="not granted"):
        hundred.ledger.commit(reservation, "too late")


def test_cancelling_what_was_committed_changes_nothing(hundred: Books):
    reservation = hundred.reserve("paris", of(10))
    hundred.advance()
    hundred.ledger.commit(reservation, "model")
    hundred.ledger.cancel(reservation)
    assert hundred.ledger.usage == of(10)
    assert "paris" in hundred.ledger.entries


def test_evicting_what_is_not_there(hundred: Books):
    assert hundred.ledger.evict("paris", Cause.EXPLICIT) is None
    assert hundred.woken == 0


def test_what_is_evicted_while_held_is_handed_out_after_the_last_release(hundred: Books):
    entry = hundred.enter("paris", of(10))
    entry.holds += 2
    hundred.ledger.evict("paris", Cause.DELETED)
    assert hundred.advance() == []
    hundred.ledger.release(entry)
    hundred.woken = 0
    assert hundred.advance() == []
    hundred.ledger.release(entry)
    assert hundred.woken == 1
    assert hundred.ledger.advance() == [entry]
    assert hundred.advance() == []


def test_an_ordinary_release_wakes_nobody(hundred: Books):
    """The hot path: nothing waits and nothing leaves, so there is nothing to advance."""
    entry = hundred.enter("paris", of(10))
    entry.holds += 1
    hundred.woken = 0
    hundred.ledger.release(entry)
    assert hundred.woken == 0


def test_releasing_more_often_than_held(hundred: Books):
    entry = hundred.enter("paris", of(10))
    with pytest.raises(RuntimeError, match="released more often than held: paris"):
        hundred.ledger.release(entry)


def test_freeing_is_for_what_was_handed_out_and_once(hundred: Books):
    entry = hundred.enter("paris", of(10))
    with pytest.raises(RuntimeError, match="freed"):
        hundred.ledger.freed(entry)
    hundred.ledger.evict("paris", Cause.EXPLICIT)
    with pytest.raises(RuntimeError, match="freed"):
        hundred.ledger.freed(entry)
    hundred.advance()
    hundred.ledger.freed(entry)
    with pytest.raises(RuntimeError, match="freed"):
        hundred.ledger.freed(entry)
    assert hundred.ledger.usage == NOTHING


def test_room_is_there_when_nothing_has_to_go(hundred: Books):
    hundred.enter("paris", of(60))
    assert hundred.ledger.has_room(of(40))
    assert not hundred.ledger.has_room(of(41))
    hundred.ledger.evict("paris", Cause.EXPLICIT)
    assert not hundred.ledger.has_room(of(41))  # it is still being given back
    hundred.settle()
    assert hundred.ledger.has_room(of(100))


def test_adopting_more_than_the_capacity_shrinks_to_it():
    books = Books(Capacity(models=2))
    for key in ("a", "b", "c", "d"):
        books.ledger.adopt(key, "found", of(10))
        books.order.append(key)
    assert books.advance() == ["a", "b"]
    assert books.ledger.statistics().draining == 2


def test_adopting_more_than_the_capacity_lets_go_what_is_free_to_go():
    books = Books(Capacity(models=1))
    for key in ("a", "b", "c"):
        books.order.append(key)
        books.ledger.adopt(key, "found", of(10)).holds = int(key != "c")
    assert books.advance() == ["c"]
    assert sorted(books.ledger.entries) == ["a", "b"]


def test_adopting_a_key_twice(hundred: Books):
    hundred.ledger.adopt("paris", "found", of(10))
    with pytest.raises(RuntimeError, match="there is an entry already: paris"):
        hundred.ledger.adopt("paris", "found again", of(10))


def test_keys_of_the_order_that_are_not_there_are_passed_over(hundred: Books):
    hundred.order.append("a ghost")
    hundred.enter("paris", of(100))
    hundred.reserve("rome", of(1))
    assert hundred.advance() == ["paris"]


def test_statistics(hundred: Books):
    hundred.enter("a", of(10)).holds += 1
    hundred.enter("b", of(20))
    hundred.ledger.evict("b", Cause.IDLE)
    hundred.reserve("c", of(30))
    statistics = hundred.ledger.statistics()
    assert statistics.capacity == Capacity(bytes=100)
    assert statistics.usage == Weight(2, 30)
    assert (statistics.entries, statistics.draining) == (1, 1)
    assert (statistics.reservations, statistics.held) == (1, 1)


def test_without_a_wake_nobody_is_told():
    ledger: Ledger[str, str] = Ledger(Capacity(models=1), order=lambda: iter(()))
    ledger.cancel(ledger.reserve("paris", of(1), lambda: None))
    assert ledger.advance() == []
