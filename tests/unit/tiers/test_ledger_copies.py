"""Copies in the books, and whose turn it is: one rule at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.events import Cause
from hotset.tiers.ledger import Capacity, Entry, Ledger, Reservation, Weight
from hotset.tiers.line import MOST_OVERTAKEN


class Books:
    def __init__(self, capacity: Capacity) -> None:
        self.order: list[str] = []
        self.ledger: Ledger[str, str] = Ledger(capacity, order=lambda: iter(self.order))

    def ask(self, key: str, bytes_: int = 1) -> Reservation[str]:
        return self.ledger.reserve(key, Weight(bytes=bytes_), lambda: None)

    def enter(self, key: str, bytes_: int = 1) -> Entry[str, str]:
        reservation = self.ask(key, bytes_)
        self.settle()
        return self.commit(reservation)

    def commit(self, reservation: Reservation[str]) -> Entry[str, str]:
        self.order.append(reservation.key)
        return self.ledger.commit(reservation, f"first of {reservation.key}")

    def copy(self, key: str, bytes_: int = 1) -> Entry[str, str]:
        reservation = self.ledger.reserve_free(key, Weight(bytes=bytes_))
        assert reservation is not None
        return self.ledger.commit_copy(reservation, f"copy of {key}")

    def settle(self) -> None:
        while ready := self.ledger.advance():
            for entry in ready:
                self.ledger.freed(entry)


@pytest.fixture
def four() -> Iterator[Books]:
    books = Books(Capacity(bytes=4))
    yield books
    books.ledger.check_invariants()
    assert books.ledger.capacity.holds(books.ledger.usage)


def test_a_copy_weighs_and_counts_as_a_model_does(four: Books) -> None:
    first = four.enter("a", 2)
    copy = four.copy("a", 1)
    assert first.copies == (copy,)
    assert four.ledger.usage == Weight(2, 3)
    assert four.ledger.statistics().entries == 1
    assert four.ledger.statistics().copies == 1


def test_a_copy_takes_only_what_is_free(four: Books) -> None:
    four.enter("a", 2)
    four.enter("b", 1)
    assert four.ledger.reserve_free("a", Weight(bytes=2)) is None
    assert set(four.ledger.entries) == {"a", "b"}
    assert four.ledger.usage == Weight(2, 3)


def test_a_copy_takes_nothing_while_somebody_waits(four: Books) -> None:
    four.enter("a", 1).holds = 1
    four.ask("b", 4)
    four.settle()
    assert four.ledger.reserve_free("a", Weight(bytes=1)) is None


def test_a_copy_that_weighs_more_than_expected_takes_only_what_is_free(four: Books) -> None:
    four.enter("a", 1)
    reservation = four.ledger.reserve_free("a", Weight(bytes=1))
    assert reservation is not None
    assert not four.ledger.resize_free(reservation, Weight(bytes=4))
    assert four.ledger.usage == Weight(2, 2)
    assert four.ledger.resize_free(reservation, Weight(bytes=3))
    assert four.ledger.usage == Weight(2, 4)
    assert four.ledger.resize_free(reservation, Weight(bytes=2))
    assert four.ledger.commit_copy(reservation, "copy").weight == Weight(bytes=2)


def test_copies_count_as_room_for_models(four: Books) -> None:
    four.enter("a", 2)
    four.copy("a", 2)
    assert four.ledger.has_room(Weight(bytes=2))
    assert not four.ledger.has_free_room(Weight(bytes=1))


def test_copies_go_before_what_was_used_least_recently(four: Books) -> None:
    four.enter("old", 1)
    four.enter("hot", 1)
    copy = four.copy("hot", 2)
    four.enter("new", 2)
    assert set(four.ledger.entries) == {"old", "hot", "new"}
    assert copy.cause is Cause.CAPACITY
    assert not four.ledger.entries["hot"].copies


def test_who_waits_gets_the_room_of_a_copy_that_came_too_late(four: Books) -> None:
    four.enter("a", 1)
    coming = four.ledger.reserve_free("a", Weight(bytes=2))
    waiting = four.ask("b", 3)
    four.settle()
    assert coming is not None
    four.ledger.entries["a"].holds = 1
    four.ledger.commit_copy(coming, "copy")
    four.settle()
    assert waiting.is_granted


def test_the_entry_of_a_copy_in_use_is_no_victim(four: Books) -> None:
    first = four.enter("hot", 1)
    copy = four.copy("hot", 1)
    copy.holds = 1
    waiting = four.ask("big", 4)
    four.settle()
    assert not waiting.is_promised
    assert first.cause is None
    four.ledger.release(copy)
    four.settle()
    assert waiting.is_granted


def test_copies_go_with_their_entry_each_when_it_is_not_used_any_more(four: Books) -> None:
    first, copy = four.enter("a"), four.copy("a")
    copy.holds = 1
    assert four.ledger.evict("a", Cause.DELETED) is first
    assert four.ledger.advance() == [first]
    assert copy.cause is Cause.DELETED
    four.ledger.freed(first)
    assert four.ledger.advance() == []
    four.ledger.release(copy)
    assert four.ledger.advance() == [copy]
    four.ledger.freed(copy)
    assert four.ledger.usage == Weight(0, 0)


def test_a_newer_entry_under_the_same_key_supersedes_the_copies_too(four: Books) -> None:
    four.enter("a")
    copy = four.copy("a")
    newer = four.enter("a")
    assert copy.cause is Cause.SUPERSEDED
    assert newer.copies == ()
    four.settle()
    assert four.ledger.usage == Weight(1, 1)


def test_dropping_a_copy_leaves_the_rest(four: Books) -> None:
    first = four.enter("a")
    one, two = four.copy("a"), four.copy("a")
    four.ledger.drop(one, Cause.IDLE)
    assert four.ledger.entries["a"] is first
    assert first.copies == (two,)
    four.settle()
    assert four.ledger.usage == Weight(2, 2)


def test_dropping_the_first_puts_its_oldest_copy_in_its_place_with_its_pin(four: Books) -> None:
    first = four.enter("a")
    four.ledger.pin("a", pinned=True)
    one, two = four.copy("a"), four.copy("a")
    four.ledger.drop(first, Cause.WORKER_DIED)
    assert four.ledger.entries["a"] is one
    assert (one.is_copy, one.copies, one.pinned) == (False, (two,), True)
    assert (first.is_copy, first.copies) == (True, ())
    assert four.ledger.copies() == (two,)


def test_dropping_the_only_one_evicts_it(four: Books) -> None:
    four.ledger.drop(four.enter("a"), Cause.WORKER_DIED)
    assert not four.ledger.entries


def test_a_cancelled_copy_gives_its_room_back(four: Books) -> None:
    four.enter("a")
    reservation = four.ledger.reserve_free("a", Weight(bytes=3))
    assert reservation is not None
    four.ledger.cancel(reservation)
    assert four.ledger.usage == Weight(1, 1)


# Whose turn it is


def test_one_that_needs_much_is_overtaken_a_limited_number_of_times(four: Books) -> None:
    """Regression: while small loads kept coming, a large one waited until its time was up."""
    held = four.enter("held", 2)
    held.holds = 1
    large = four.ask("large", 4)
    passed = 0
    for number in range(MOST_OVERTAKEN + 5):
        small = four.ask(f"small-{number}", 2)
        four.settle()
        if not small.is_granted:
            break
        four.commit(small)
        passed += 1
    assert passed == MOST_OVERTAKEN
    four.ledger.release(held)
    four.settle()
    assert large.is_granted


def test_whoever_holds_a_part_is_served_even_then(four: Books) -> None:
    """Else the two would wait for each other: the large one for that part, and its owner for its turn."""
    part = four.ask("part", 1)
    four.settle()
    large = four.ask("large", 4)
    large.overtaken = MOST_OVERTAKEN
    four.settle()
    four.ledger.resize(part, Weight(bytes=2))
    fresh = four.ask("fresh", 1)
    four.settle()
    assert part.is_granted
    assert not fresh.is_promised


def test_who_gives_up_lets_the_others_go_on(four: Books) -> None:
    four.enter("held", 2).holds = 1
    large = four.ask("large", 4)
    large.overtaken = MOST_OVERTAKEN
    small = four.ask("small", 2)
    four.settle()
    assert not small.is_promised
    four.ledger.cancel(large)
    four.settle()
    assert small.is_granted


@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=5), large=st.integers(6, 8))
def test_nobody_waits_for_ever_while_others_come_and_go(sizes: list[int], large: int) -> None:
    """Whatever small entries come, one that needs much gets its turn, though there is always one in use.

    Each lease ends, but not before the next one was taken, unless nobody came.
    """
    books = Books(Capacity(bytes=8))
    waiting: list[Reservation[str]] = []
    held: list[Entry[str, str]] = []
    big: Reservation[str] | None = None
    for step in range(4 * MOST_OVERTAKEN):
        waiting.append(books.ask(f"small-{step}", sizes[step % len(sizes)]))
        if step == 4:
            big = books.ask("large", large)
        books.settle()
        came = [it for it in waiting if it.is_granted]
        waiting = [it for it in waiting if not it.is_granted]
        new = [books.commit(it) for it in came]
        for entry in new:
            entry.holds = 1
        for entry in held:
            books.ledger.release(entry)
        held = new
        books.settle()
        books.ledger.check_invariants()
        if big is not None and big.is_granted:
            return
    raise AssertionError(f"still waiting after {step} others")
