"""The two sums of a tier: what is taken and what is spoken for, without a ledger, keys in order or turns."""

from __future__ import annotations

import pytest

from hotset.tiers.balance import Balance
from hotset.tiers.books import NOTHING, Capacity, Entry, Reservation, Weight


def of(bytes_: int) -> Weight:
    return Weight(1, bytes_)


class Tier:
    """A balance of 100 bytes, and what is in it."""

    def __init__(self, *weights: int) -> None:
        self.balance = Balance(Capacity(bytes=100))
        self.entries = [self.come(weight) for weight in weights]
        self.draining: list[Entry[str, None]] = []
        self.reservations: list[Reservation[str]] = []

    def come(self, bytes_: int) -> Entry[str, None]:
        self.balance.add(of(bytes_))
        return Entry("entry", None, of(bytes_))

    def leave(self) -> Entry[str, None]:
        """The first one is handed out."""
        entry = self.entries.pop(0)
        entry.handed_out = True
        self.draining.append(entry)
        self.balance.leave(entry.weight)
        return entry

    def gone(self, entry: Entry[str, None]) -> None:
        self.draining.remove(entry)
        self.balance.give_back(entry)

    def ask(self, bytes_: int, *, is_promised: bool = True) -> Reservation[str]:
        reservation = Reservation("new", of(bytes_), lambda: None)
        self.reservations.append(reservation)
        if is_promised:
            self.balance.promise(reservation, reservation.weight)
        return reservation

    @property
    def sums(self) -> tuple[int, int]:
        """Bytes taken and spoken for; they are those of what is there."""
        self.balance.check(self.entries, [], self.draining, self.reservations)
        return self.balance.usage.bytes, self.balance.commitment.bytes


def test_what_is_leaving_takes_room_until_it_is_gone() -> None:
    tier = Tier(60, 30)
    assert tier.sums == (90, 90)
    entry = tier.leave()
    assert tier.sums == (90, 30)
    tier.gone(entry)
    assert tier.sums == (30, 30)


def test_what_was_promised_is_granted_once_it_is_there() -> None:
    tier = Tier(60, 30)
    leaving, asked = tier.leave(), tier.ask(50)
    assert not tier.balance.grant(asked)
    assert tier.sums == (90, 80)
    tier.gone(leaving)
    assert tier.balance.grant(asked)
    assert tier.sums == (80, 80)
    assert not tier.balance.grant(asked), "it has it already"


def test_what_was_not_promised_is_not_granted() -> None:
    tier = Tier()
    assert not tier.balance.grant(tier.ask(50, is_promised=False))
    assert tier.sums == (0, 0)


def test_who_asks_no_more_frees_what_it_was_promised_and_what_it_has() -> None:
    tier = Tier(10)
    asked, promised = tier.ask(20), tier.ask(30)
    tier.balance.grant(asked)
    assert tier.sums == (30, 60)
    for reservation in (asked, promised):
        tier.balance.close(reservation)
        assert (reservation.promised, reservation.granted) == (NOTHING, NOTHING)
    assert tier.sums == (10, 10)


def test_what_is_assigned_is_promised_and_granted_in_one() -> None:
    tier = Tier(10)
    asked = tier.ask(50, is_promised=False)
    tier.balance.assign(asked, of(50))
    assert (asked.is_granted, tier.sums) == (True, (60, 60))
    tier.balance.assign(asked, of(20))
    assert tier.sums == (30, 30)


def test_there_is_room_where_both_sums_leave_it() -> None:
    tier = Tier(60, 30)
    assert tier.balance.has_free_room(of(10))
    assert not tier.balance.has_free_room(of(11))
    leaving = tier.leave()
    assert not tier.balance.has_free_room(of(11)), "it is spoken for by nobody, and not there yet"
    tier.gone(leaving)
    assert tier.balance.has_free_room(of(70))


def test_what_copies_take_is_room_for_others() -> None:
    tier = Tier(60)
    tier.balance.add_copy(of(30))
    assert tier.balance.has_room(of(40))
    assert not tier.balance.has_free_room(of(40))


# Room of those who leave


def test_two_that_are_never_there_at_once_count_as_the_larger_one() -> None:
    tier = Tier(50, 50)
    leaving, asked = tier.leave(), tier.ask(30)
    assert tier.balance.grant_behind(asked, [leaving])
    assert (asked.behind, leaving.followed_by, tier.sums) == ((leaving,), asked, (100, 80))
    tier.gone(leaving)
    assert tier.sums == (80, 80)


def test_no_more_are_followed_than_are_needed() -> None:
    tier = Tier(50, 50)
    asked, leaving = tier.ask(50), [tier.leave(), tier.leave()]
    assert tier.balance.grant_behind(asked, leaving)
    assert asked.behind == tuple(leaving[:1])


def test_nothing_changes_where_they_are_not_enough() -> None:
    tier = Tier(10, 10, 80)
    leaving, _, asked = tier.leave(), tier.leave(), tier.ask(20)
    assert not tier.balance.grant_behind(asked, [leaving])
    assert (asked.granted, asked.behind, leaving.followed_by) == (NOTHING, (), None)


@pytest.mark.parametrize(
    "why", ["is not promised", "has room already", "nobody is handed out", "is followed"]
)
def test_whom_nobody_can_be_followed_by(why: str) -> None:
    tier = Tier(50, 50)
    leaving, asked = tier.leave(), tier.ask(30, is_promised=why != "is not promised")
    if why == "has room already":
        tier.balance.assign(asked, asked.weight)
    if why == "nobody is handed out":
        leaving.handed_out = False
    if why == "is followed":
        assert tier.balance.grant_behind(tier.ask(20), [leaving])
    sums = tier.sums
    assert not tier.balance.grant_behind(asked, [leaving])
    assert tier.sums == sums


def test_who_falls_back_leaves_the_room_to_those_who_still_have_it() -> None:
    tier = Tier(50, 50)
    leaving, asked = tier.leave(), tier.ask(50)
    tier.balance.grant_behind(asked, [leaving])
    tier.balance.fall_back(asked)
    assert (asked.is_promised, asked.granted, asked.behind, leaving.followed_by) == (True, NOTHING, (), None)
    assert tier.sums == (100, 100)
    tier.gone(leaving)
    assert tier.balance.grant(asked)


def test_a_sum_that_is_off_is_noticed() -> None:
    """``check`` is what all the other tests rely on, so it must be able to fail."""
    tier = Tier(50)
    tier.entries[0].weight = of(51)
    with pytest.raises(AssertionError):
        tier.balance.check(tier.entries, [], [], [])
