"""The balance of a tier's books: how much of its capacity is taken, and how much is spoken for.

The ledger has one, and tells it of each entry that comes, leaves or is gone and of each reservation. It chooses nobody,
knows no keys and no turns, and says no where the sums say so. No I/O, no await, no clock.

Two sums are kept below the capacity, each in every part:

* *usage* = entries + entries that are being given back + reservations that were granted. It is what the tier
  really holds, so a reservation is granted only once the room is physically there. But whoever comes in behind those who
  leave, in the same place and not before they are gone, is granted their room at once (``grant_behind``, or by one order that
  takes their places: ``take_over``); of the two, what is larger counts.
* *commitment* = entries + reservations that have been promised room. Victims are chosen against it, so that the
  room which one reservation waits for is never given to another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

from hotset.tiers.books import NOTHING, Capacity, Entry, Reservation, Weight, larger

AnyEntry: TypeAlias = Entry[Any, Any]
AnyReservation: TypeAlias = Reservation[Any]


class Balance:
    """Owned by the ledger. For an entry: ``add`` → ``leave`` → ``give_back``. For a reservation: ``promise`` → ``grant``,
    ``grant_behind`` or ``take_over`` → ``close``; or ``assign`` → ``close``.
    """

    __slots__ = ("capacity", "commitment", "spare", "usage")

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.usage = NOTHING
        self.commitment = NOTHING
        self.spare = NOTHING
        """What copies take, of both: nobody has to wait for it."""

    def has_room(self, weight: Weight) -> bool:
        """Whether ``weight`` would fit without evicting anything but copies."""
        return self.has_free_room(weight.minus(self.spare))

    def has_free_room(self, weight: Weight) -> bool:
        """Whether ``weight`` would fit without evicting anything at all."""
        holds = self.capacity.holds
        return holds(self.commitment.plus(weight)) and holds(self.usage.plus(weight))

    # Entries

    def add(self, weight: Weight) -> None:
        """An entry is there that had no room before."""
        self.usage = self.usage.plus(weight)
        self.commitment = self.commitment.plus(weight)

    def add_copy(self, weight: Weight) -> None:
        """A copy is there that had no room before."""
        self.add(weight)
        self.spare = self.spare.plus(weight)

    def drop_copy(self, weight: Weight) -> None:
        """A copy is none any more: it leaves, or stands for the key itself."""
        self.spare = self.spare.minus(weight)

    def leave(self, weight: Weight) -> None:
        """An entry is on its way out: its room may be promised to others."""
        self.commitment = self.commitment.minus(weight)

    def give_back(self, entry: AnyEntry) -> None:
        """An entry is gone: its room may be granted to others, but to whoever has it already."""
        follower = entry.followed_by
        if follower is None:
            self.usage = self.usage.minus(entry.weight)
            return
        entry.followed_by = None  # which knows the entry, too: neither is to wait for the garbage collector
        taken = _taken(follower)
        is_last = follower.leaving == entry.weight
        follower.leaving = NOTHING if is_last else follower.leaving.minus(entry.weight)
        if taken != follower.granted:  # as what leaves is larger than what comes
            self.usage = self.usage.minus(taken).plus(_taken(follower))

    # Reservations

    def promise(self, reservation: AnyReservation, weight: Weight) -> None:
        """It will have ``weight``, whatever it was promised before."""
        if reservation.promised is not NOTHING:
            self.commitment = self.commitment.minus(reservation.promised)
        self.commitment = self.commitment.plus(weight)
        reservation.promised = weight

    def grant(self, reservation: AnyReservation) -> bool:
        """Give it what it was promised, if that is there by now. False: it is not, or it has it already."""
        weight = reservation.weight
        if reservation.granted == weight or reservation.promised != weight:
            return False
        leaving = reservation.leaving
        usage = self.usage.minus(_taken(reservation))
        usage = usage.plus(weight if leaving is NOTHING else larger(weight, leaving))
        if not self.capacity.holds(usage):
            return False
        self.usage, reservation.granted = usage, weight
        return True

    def assign(self, reservation: AnyReservation, weight: Weight) -> None:
        """Promise and grant it ``weight``: that is free, or less than it has."""
        self.usage = self.usage.minus(_taken(reservation))
        reservation.granted = weight
        self.usage = self.usage.plus(_taken(reservation))
        self.promise(reservation, weight)

    def close(self, reservation: AnyReservation) -> None:
        """It asks for nothing any more: what it had is free."""
        self.fall_back(reservation)
        self.commitment = self.commitment.minus(reservation.promised)
        reservation.promised = NOTHING

    # Room of those who leave

    def grant_behind(self, reservation: AnyReservation, entries: Iterable[AnyEntry]) -> bool:
        """Grant promised room at once to whoever comes in only once as many of ``entries`` are gone as that needs.

        They have to be handed out. ``reservation.behind`` are those that it needs. False, and nothing is changed, if all of
        them are not enough.
        """
        if not reservation.is_promised or reservation.granted != NOTHING:
            return False
        behind, leaving, usage = [], NOTHING, self.usage.plus(reservation.weight)
        for entry in entries:
            if self.capacity.holds(usage):
                break
            if entry.handed_out and entry.followed_by is None:
                behind.append(entry)
                leaving = leaving.plus(entry.weight)
                usage = self.behind(leaving, reservation.weight)
        if not self.capacity.holds(usage):
            return False
        self.take_over(reservation, behind, leaving, usage)
        return True

    def behind(self, leaving: Weight, coming: Weight) -> Weight:
        """Return the usage if what weighs ``coming`` comes in only once ``leaving`` is gone."""
        return self.usage.minus(leaving).plus(larger(leaving, coming))

    def take_over(
        self, reservation: AnyReservation, entries: Iterable[AnyEntry], leaving: Weight, usage: Weight
    ) -> None:
        """Grant it the room of ``entries``, which weigh ``leaving``; ``usage`` is what ``behind`` says of them."""
        behind = reservation.behind = tuple(entries)
        for entry in behind:
            entry.followed_by = reservation
        self.usage, reservation.granted, reservation.leaving = usage, reservation.weight, leaving

    def fall_back(self, reservation: AnyReservation) -> None:
        """It has no room any more; whoever it was to come in behind has theirs until they are gone."""
        self.usage = self.usage.minus(_taken(reservation)).plus(reservation.leaving)
        reservation.granted = reservation.leaving = NOTHING
        for entry in reservation.behind:
            entry.followed_by = None
        reservation.behind = ()

    def check(
        self,
        entries: Collection[AnyEntry],
        copies: Collection[AnyEntry],
        draining: Collection[AnyEntry],
        reservations: Collection[AnyReservation],
    ) -> None:
        """Recompute every sum from all that there is, and compare."""
        spare = _sum(copy.weight for copy in copies)
        usage = commitment = spare.plus(_sum(entry.weight for entry in entries))
        usage = usage.plus(_sum(map(_extra, entries)))
        for entry in draining:
            if entry.followed_by is None:
                usage = usage.plus(entry.weight).plus(_extra(entry))
            else:
                assert entry in entry.followed_by.behind
        for reservation in reservations:
            leaving = _sum(entry.weight for entry in reservation.behind if entry in draining)
            assert leaving == reservation.leaving, (leaving, reservation.leaving)
            usage = usage.plus(_taken(reservation))
            commitment = commitment.plus(reservation.promised)
        assert (usage, commitment, spare) == (self.usage, self.commitment, self.spare)


def _extra(entry: AnyEntry) -> Weight:
    """What those still take beyond it whom an entry follows."""
    return NOTHING if entry.follows is None else _taken(entry.follows).minus(entry.weight)


def _taken(reservation: AnyReservation) -> Weight:
    """What a reservation and those whom it comes in behind take together, as they are never there at once."""
    granted, leaving = reservation.granted, reservation.leaving
    return granted if leaving is NOTHING else larger(granted, leaving)


def _sum(weights: Iterable[Weight]) -> Weight:
    total = NOTHING
    for weight in weights:
        total = total.plus(weight)
    return total
