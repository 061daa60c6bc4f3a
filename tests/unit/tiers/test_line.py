"""Whose turn it is, and how long who waits for much may be overtaken by those who need little."""

from __future__ import annotations

from hotset.tiers.books import Reservation, Weight
from hotset.tiers.line import MOST_OVERTAKEN, serve


def asked(key: str, *, bytes_: int = 1, overtaken: int = 0) -> Reservation[str]:
    reservation = Reservation(key, Weight(bytes=bytes_), lambda: None)
    reservation.overtaken = overtaken
    return reservation


class Room:
    """So many bytes, promised to whoever still fits; ``offered`` are those who were asked about, ``served`` those who fit."""

    def __init__(self, bytes_: int) -> None:
        self.left = bytes_
        self.offered: list[str] = []
        self.served: list[str] = []

    def promise(self, reservation: Reservation[str]) -> bool:
        self.offered.append(reservation.key)
        if reservation.weight.bytes > self.left:
            return False
        self.left -= reservation.weight.bytes
        self.served.append(reservation.key)
        reservation.promised = reservation.weight
        return True


def test_first_come_first_served() -> None:
    room = Room(2)
    serve([asked("one"), asked("two"), asked("three")], room.promise)
    assert room.offered == ["one", "two", "three"]
    assert room.served == ["one", "two"]


def test_who_was_promised_room_already_does_not_wait() -> None:
    room, line = Room(2), [asked("one"), asked("two")]
    serve(line, room.promise)
    serve(line, room.promise)
    assert room.offered == ["one", "two"]


def test_who_needs_more_than_there_is_is_overtaken_and_it_is_counted() -> None:
    room, large, small = Room(2), asked("large", bytes_=5), [asked("one"), asked("two")]
    serve([large, *small], room.promise)
    assert room.served == ["one", "two"]
    assert large.overtaken == 2
    assert small[0].overtaken == 0


def test_after_so_many_nobody_that_came_later_is_served_before_it() -> None:
    room, large = Room(2), asked("large", bytes_=5, overtaken=MOST_OVERTAKEN)
    serve([large, asked("small")], room.promise)
    assert room.offered == ["large"]
    assert large.overtaken == MOST_OVERTAKEN


def test_those_before_it_are_served_all_the_same() -> None:
    room, large = Room(2), asked("large", bytes_=5, overtaken=MOST_OVERTAKEN)
    serve([asked("first"), large, asked("last")], room.promise)
    assert room.served == ["first"]


def test_when_there_is_room_for_it_the_others_follow() -> None:
    room, large = Room(6), asked("large", bytes_=5, overtaken=MOST_OVERTAKEN)
    serve([large, asked("small")], room.promise)
    assert room.served == ["large", "small"]


def test_it_is_overtaken_by_so_many_and_no_more() -> None:
    large, room = asked("large", bytes_=5), Room(4)
    for number in range(2 * MOST_OVERTAKEN):
        room.left = 4
        serve([large, asked(str(number))], room.promise)
    assert large.overtaken == len(room.served) == MOST_OVERTAKEN


def test_who_holds_a_part_already_is_served_even_then() -> None:
    """It was corrected to more, and those before it may be waiting for that part."""
    grown = asked("grown", bytes_=2)
    grown.granted = grown.promised = Weight(bytes=1)
    room, large = Room(2), asked("large", bytes_=5, overtaken=MOST_OVERTAKEN)
    serve([large, asked("small"), grown], room.promise)
    assert room.served == ["grown"]
