"""Room that is granted before those have left who have it: to whoever comes in behind them."""

from __future__ import annotations

import pytest

from hotset.events import Cause
from hotset.tiers.ledger import Capacity, Entry, Ledger, Reservation, Weight


def of(bytes_: int) -> Weight:
    return Weight(1, bytes_)


class Books:
    """A ledger of 100 bytes that holds ``weights``, the first to go first."""

    def __init__(self, *weights: int) -> None:
        self.ledger: Ledger[str, str] = Ledger(
            Capacity(bytes=100), order=lambda: iter(sorted(self.ledger.entries))
        )
        self.entries = [self.ledger.adopt(chr(97 + n), "", of(weight)) for n, weight in enumerate(weights)]

    def ask(self, bytes_: int, key: str = "new") -> Reservation[str]:
        return self.ledger.reserve(key, of(bytes_), lambda: None)

    @property
    def used(self) -> int:
        self.ledger.check_invariants()
        assert self.ledger.capacity.holds(self.ledger.usage)
        return self.ledger.usage.bytes


@pytest.fixture
def half() -> tuple[Books, Reservation[str], list[Entry[str, str]]]:
    """Two of 50, of which one makes room for a new one of 50."""
    books = Books(50, 50)
    asked = books.ask(50)
    ready = books.ledger.advance()
    assert [entry.key for entry in ready] == ["a"]
    assert not asked.is_granted
    return books, asked, ready


Half = tuple[Books, Reservation[str], list[Entry[str, str]]]


def test_the_room_of_one_that_leaves_counts_once(half: Half) -> None:
    books, asked, ready = half
    assert books.ledger.grant_behind(asked, ready)
    assert asked.is_granted
    assert asked.behind == tuple(ready)
    assert books.used == 100
    books.ledger.freed(ready[0])
    assert books.used == 100
    books.ledger.commit(asked, "value")
    assert books.used == 100


def test_it_takes_as_many_as_it_needs_and_no_more() -> None:
    books = Books(30, 30, 40)
    asked = books.ask(50)
    ready = books.ledger.advance()
    books.ledger.evict("c", Cause.EXPLICIT)
    ready += books.ledger.advance()
    assert [entry.key for entry in ready] == ["a", "b", "c"]
    assert books.ledger.grant_behind(asked, ready)
    assert [entry.key for entry in asked.behind] == ["a", "b"]
    assert books.used == 100


def test_too_few_change_nothing() -> None:
    books = Books(30, 30, 40)
    asked = books.ask(50)
    ready = books.ledger.advance()
    assert not books.ledger.grant_behind(asked, ready[:1])
    assert (asked.is_granted, asked.behind, ready[0].followed_by) == (False, (), None)
    assert books.used == 100


def test_nobody_comes_in_behind_two() -> None:
    books = Books(50, 50)
    one, other = books.ask(50, "one"), books.ask(50, "other")
    first, second = books.ledger.advance()
    assert books.ledger.grant_behind(one, [first])
    assert not books.ledger.grant_behind(other, [first])
    assert books.ledger.grant_behind(other, [first, second])
    assert other.behind == (second,)
    assert books.used == 100


def test_a_small_one_behind_a_large_one_frees_nothing_before_that_is_gone() -> None:
    """Else somebody else would be granted room in which the large one still is."""
    books = Books(90, 10)
    small, next_ = books.ask(5, "small"), books.ask(80, "next")
    ready = books.ledger.advance()
    assert books.ledger.grant_behind(small, ready)
    assert books.used == 100
    books.ledger.advance()
    assert not next_.is_granted
    books.ledger.freed(ready[0])
    assert books.used == 15
    books.ledger.advance()
    assert next_.is_granted
    assert books.used == 95


def test_who_gives_up_leaves_the_room_to_those_who_still_have_it(half: Half) -> None:
    books, asked, ready = half
    books.ledger.grant_behind(asked, ready)
    books.ledger.cancel(asked)
    assert books.used == 100
    assert ready[0].followed_by is None
    books.ledger.freed(ready[0])
    assert books.used == 50


def test_who_stands_back_is_granted_the_room_once_it_is_there(half: Half) -> None:
    books, asked, ready = half
    books.ledger.grant_behind(asked, ready)
    books.ledger.stand_back(asked)
    assert (asked.is_promised, asked.is_granted, asked.behind) == (True, False, ())
    assert books.used == 100
    books.ledger.advance()
    assert not asked.is_granted
    books.ledger.freed(ready[0])
    books.ledger.advance()
    assert asked.is_granted
    assert books.used == 100


def test_only_what_is_promised_and_not_granted_can_come_in_behind() -> None:
    books = Books(50, 50)
    books.entries[0].holds = books.entries[1].holds = 1
    asked = books.ask(50)
    books.ledger.evict("a", Cause.EXPLICIT)
    assert books.ledger.advance() == []  # it is held
    assert asked.is_promised
    assert not books.ledger.grant_behind(asked, books.ledger.draining())
    books.ledger.release(books.entries[0])
    ready = books.ledger.advance()
    assert books.ledger.grant_behind(asked, ready)
    assert not books.ledger.grant_behind(asked, ready)


def test_one_that_was_corrected_to_more_takes_no_places() -> None:
    """It has room already, which is not given up for the place of another."""
    books = Books(30)
    asked = books.ledger.reserve("new", of(10), lambda: None, takes=lambda _: True)
    books.ledger.advance()
    assert asked.is_granted
    assert books.used == 40
    books.ledger.resize(asked, of(80))
    ready = books.ledger.advance()
    assert [entry.key for entry in ready] == ["a"], "it is unloaded as for any other"
    assert not asked.is_granted
    assert books.used == 40
    books.ledger.freed(ready[0])
    assert books.ledger.advance() == []
    assert asked.is_granted
    assert books.used == 80


def test_one_that_took_places_and_is_corrected_to_more_is_granted_once_each_time() -> None:
    books, grants = Books(60, 30), []
    asked = books.ledger.reserve("new", of(50), lambda: grants.append(books.used), takes=lambda _: True)
    assert books.ledger.advance() == []
    assert ([entry.key for entry in asked.behind], grants) == (["a"], [90])
    books.ledger.resize(asked, of(65))
    assert books.used == 90, "those who leave still take more"
    assert books.ledger.advance() == []
    assert grants == [90, 95]
    books.ledger.freed(asked.behind[0])
    assert books.used == 95
