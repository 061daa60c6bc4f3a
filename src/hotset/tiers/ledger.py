"""The books of a tier: entries, room that is spoken for, and room that is still being given back.

Both tiers keep them here. The ledger decides, the tier's owner acts: it asks for room (``reserve``), unloads or
deletes what ``advance`` hands out, says when that is done (``freed``), and turns a granted reservation into an
entry (``commit``). Whether there is room, and for whom, are sums: its ``balance``. No I/O, no await, no clock.

An entry may have *copies*: further values for the same key, each with a weight and holds of its own. They take only
room that nobody else wants, they are the first to go, and they go with their entry.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeVar

from hotset.errors import CapacityError, ErrorKind
from hotset.events import Cause
from hotset.tiers.balance import Balance
from hotset.tiers.books import NOTHING, Capacity, Entry, LedgerStatistics, Reservation, Takes, Weight, smaller
from hotset.tiers.line import serve
from hotset.tiers.victims import choose

__all__ = ["NOTHING", "Capacity", "Entry", "Ledger", "LedgerStatistics", "Reservation", "Weight"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Ledger(Generic[K, V]):
    """Owned by the event loop. Order for one key: ``reserve`` → (granted) → ``commit`` or ``cancel``;
    ``evict`` or being chosen by ``advance`` → handed out by ``advance`` → ``freed``. For a copy:
    ``reserve_free`` → ``commit_copy`` or ``cancel``; ``drop``, ``evict`` or being chosen → as above. What takes places:
    ``reserve`` → (granted) → ``enter`` → ``settle`` or ``withdraw``.
    """

    def __init__(
        self, capacity: Capacity, *, order: Callable[[], Iterator[K]], wake: Callable[[], None] = lambda: None
    ) -> None:
        """``order`` yields keys, each once, the first to go first; ``wake`` is called when ``advance`` is worth calling."""
        self.entries: dict[K, Entry[K, V]] = {}
        self._order = order
        self._wake = wake
        self._copies: dict[Entry[K, V], None] = {}  # in the order in which they came
        self._draining: dict[Entry[K, V], None] = {}  # in the order in which they were evicted
        self._reservations: dict[Reservation[K], None] = {}
        self._balance = Balance(capacity)
        self._is_advancing = False

    # What is there

    @property
    def capacity(self) -> Capacity:
        return self._balance.capacity

    @property
    def usage(self) -> Weight:
        return self._balance.usage

    @property
    def commitment(self) -> Weight:
        return self._balance.commitment

    def draining(self) -> tuple[Entry[K, V], ...]:
        return tuple(self._draining)

    def copies(self) -> tuple[Entry[K, V], ...]:
        """Return the copies of all entries, the oldest first."""
        return tuple(self._copies)

    def statistics(self) -> LedgerStatistics:
        """O(entries): it counts the held ones."""
        return LedgerStatistics(
            capacity=self.capacity,
            usage=self.usage,
            entries=len(self.entries),
            copies=len(self._copies),
            draining=len(self._draining),
            reservations=len(self._reservations),
            held=sum(1 for entry in self.entries.values() if entry.is_used),
        )

    @property
    def is_asked(self) -> bool:
        """Whether there are reservations."""
        return bool(self._reservations)

    @property
    def is_short(self) -> bool:
        """Whether somebody asks for room that cannot be made, because all the rest is held."""
        return any(reservation.promised != reservation.weight for reservation in self._reservations)

    def has_room(self, weight: Weight) -> bool:
        """Whether ``weight`` would fit without evicting anything but copies."""
        return self._balance.has_room(weight)

    def has_free_room(self, weight: Weight) -> bool:
        """Whether ``weight`` would fit without evicting anything at all, and nobody waits for room."""
        return not self.is_short and self._balance.has_free_room(weight)

    # Room

    def limit(self, capacity: Capacity) -> None:
        """Set the capacity; ``advance`` shrinks what is there to it."""
        self._balance.capacity = capacity

    def reserve(
        self,
        key: K,
        weight: Weight,
        on_granted: Callable[[], None],
        *,
        takes: Takes[K] | None = None,
    ) -> Reservation[K]:
        """Ask for room; ``advance`` grants it, at once or later.

        Where ``takes`` says yes to those who have to go for it, they are evicted and handed out to whoever asks: ``behind``.

        Raises:
            CapacityError: it is larger than the whole tier.
        """
        self._refuse_larger_than_capacity(key, weight)
        reservation = Reservation(key, weight, on_granted, takes)
        self._reservations[reservation] = None
        self._wake()
        return reservation

    def resize(self, reservation: Reservation[K], weight: Weight) -> None:
        """Correct a granted reservation to the measured weight; if it grew, it must be granted again.

        Raises:
            CapacityError: it is larger than the whole tier; the reservation stands as it was.
        """
        self._refuse_larger_than_capacity(reservation.key, weight)
        if weight == reservation.granted:
            reservation.weight = weight
            return
        reservation.weight = weight
        self._balance.assign(reservation, smaller(reservation.granted, weight))
        self._wake()

    def reserve_free(self, key: K, weight: Weight) -> Reservation[K] | None:
        """Take free room, granted at once, or None: what a copy takes is never made or waited for."""
        if not self.has_free_room(weight):
            return None
        reservation = Reservation(key, weight, lambda: None)
        self._reservations[reservation] = None
        self._balance.assign(reservation, weight)
        return reservation

    def resize_free(self, reservation: Reservation[K], weight: Weight) -> bool:
        """Correct what ``reserve_free`` gave; False, and nothing is changed, if there is no free room for more."""
        more = weight.minus(smaller(reservation.granted, weight))
        if more != NOTHING and not self.has_free_room(more):
            return False
        reservation.weight = weight
        self._balance.assign(reservation, weight)
        self._wake()
        return True

    def grant_behind(self, reservation: Reservation[K], entries: Iterable[Entry[K, V]]) -> bool:
        """Grant promised room at once to whoever comes in only once as many of ``entries`` are gone as that needs.

        They have to be handed out. ``reservation.behind`` are those that it needs. False, and nothing is changed, if all of
        them are not enough.
        """
        return self._balance.grant_behind(reservation, entries)

    def stand_back(self, reservation: Reservation[K]) -> None:
        """Undo ``grant_behind``: the promised room is granted once it is there, as any other."""
        self._balance.fall_back(reservation)
        self._wake()

    def cancel(self, reservation: Reservation[K]) -> None:
        """Give a reservation up. One that was committed or cancelled before is fine."""
        if reservation in self._reservations:
            self._close(reservation)
            self._wake()

    def commit(self, reservation: Reservation[K], value: V) -> Entry[K, V]:
        """Turn a granted reservation into the entry of its key; one that was there before is superseded.

        A pin belongs to the key, so the new entry takes it over.
        """
        if reservation not in self._reservations or not reservation.is_granted:
            raise RuntimeError(f"commit of a reservation that is not granted: {reservation.key!s}")
        self._close(reservation)
        replaced = self.evict(reservation.key, Cause.SUPERSEDED) if reservation.key in self.entries else None
        entry = self.adopt(reservation.key, value, reservation.weight)
        entry.pinned = replaced is not None and replaced.pinned
        if self._reservations:
            self._wake()  # what was room spoken for is now an entry, which may go for those who wait
        return entry

    def enter(self, reservation: Reservation[K], value: V) -> Entry[K, V]:
        """As ``commit``, for what is on its way in behind those who leave. It is held until ``settle`` or ``withdraw``."""
        if reservation not in self._reservations or not reservation.is_granted:
            raise RuntimeError(f"enter of a reservation that is not granted: {reservation.key!s}")
        del self._reservations[reservation]
        if reservation.key in self.entries:
            self.evict(reservation.key, Cause.SUPERSEDED)
        entry: Entry[K, V] = Entry(reservation.key, value, reservation.weight)
        entry.holds = 1
        if reservation.behind:
            entry.follows = reservation
        self.entries[entry.key] = entry  # its room was the reservation's, in both sums
        return entry

    def settle(self, entry: Entry[K, V]) -> None:
        """What was entered on its way is there, and those whom it follows are ``freed``."""
        entry.follows = None
        self.release(entry)

    def withdraw(self, entry: Entry[K, V]) -> tuple[Entry[K, V], ...]:
        """What was entered on its way did not come: it leaves, and weighs nothing. Returns those whom it was to follow.

        They are still to be ``freed``, each with its own room from now on.
        """
        follows, entry.follows = entry.follows, None
        if entry.cause is None:
            self.evict(entry.key, Cause.CORRUPT)
        behind = follows.behind if follows is not None else ()
        if follows is not None:
            self._balance.fall_back(follows)
        else:
            self._balance.give_back(entry)
        entry.weight = NOTHING
        self.release(entry)
        return behind

    def commit_copy(self, reservation: Reservation[K], value: V) -> Entry[K, V]:
        """Turn a reservation of ``reserve_free`` into a copy of the key's entry, which must be there."""
        if reservation not in self._reservations or not reservation.is_granted:
            raise RuntimeError(f"commit of a reservation that is not granted: {reservation.key!s}")
        first = self.entries[reservation.key]
        self._close(reservation)
        copy: Entry[K, V] = Entry(first.key, value, reservation.weight)
        copy.is_copy = True
        first.copies = (*first.copies, copy)
        self._copies[copy] = None
        self._balance.add_copy(copy.weight)
        if self._reservations:
            self._wake()  # it came too late: whoever waits may have its room
        return copy

    def adopt(self, key: K, value: V, weight: Weight) -> Entry[K, V]:
        """Enter what is there already (found on disk at start), whatever the capacity; ``advance`` shrinks it."""
        if key in self.entries:
            raise RuntimeError(f"there is an entry already: {key!s}")
        entry: Entry[K, V] = Entry(key, value, weight)
        self.entries[key] = entry
        self._balance.add(weight)
        return entry

    def advance(self) -> list[Entry[K, V]]:
        """Promise and grant what is possible; return the entries to be given back now, each handed out once.

        They come in the order in which they were evicted. ``on_granted`` must not raise.
        """
        balance, reservations = self._balance, self._reservations
        granted: list[Reservation[K]] = []
        self._is_advancing = True
        try:
            if not balance.capacity.holds(balance.commitment):
                self._shrink_to_capacity()
            if reservations:
                serve(reservations, partial(self._promise, granted))
        finally:
            self._is_advancing = False
        if reservations:
            granted += filter(balance.grant, reservations)
        ready = [entry for entry in self._draining if entry.holds == 0 and not entry.handed_out]
        for entry in ready:
            entry.handed_out = True
        for reservation in granted:
            reservation.on_granted()
        return ready

    # Leaving

    def evict(self, key: K, cause: Cause) -> Entry[K, V] | None:
        """Take the entry and its copies out at once; they count as usage until ``freed``. None if there is none."""
        entry = self.entries.pop(key, None)
        if entry is None:
            return None
        if entry.copies:
            for copy in entry.copies:
                self._drain_copy(copy, cause)
            entry.copies = ()
        self._drain(entry, cause)
        return entry

    def drop(self, entry: Entry[K, V], cause: Cause) -> None:
        """Take out one of those that stand for a key: a copy, or the first one, whose place its oldest copy takes.

        The first one of all and the last one left is evicted with its key.
        """
        first = self.entries[entry.key]
        if entry.is_copy:
            first.copies = tuple(copy for copy in first.copies if copy is not entry)
            self._drain_copy(entry, cause)
        elif entry.copies:
            self._promote(entry)
            self._drain(entry, cause)
        else:
            self.evict(entry.key, cause)

    def _promote(self, first: Entry[K, V]) -> None:
        heir, *others = first.copies
        first.copies = ()
        del self._copies[heir]
        self._balance.drop_copy(heir.weight)
        first.is_copy, heir.is_copy = True, False  # they change places
        heir.copies = tuple(others)
        heir.pinned = first.pinned
        self.entries[heir.key] = heir

    def _drain_copy(self, copy: Entry[K, V], cause: Cause) -> None:
        del self._copies[copy]
        self._balance.drop_copy(copy.weight)
        self._drain(copy, cause)

    def _drain(self, entry: Entry[K, V], cause: Cause) -> None:
        entry.cause = cause
        self._draining[entry] = None
        self._balance.leave(entry.weight)
        if not self._is_advancing:  # else it is handed out in this very call
            self._wake()

    def freed(self, entry: Entry[K, V]) -> None:
        """The room of an entry that was handed out has come back."""
        if not entry.handed_out or entry not in self._draining:
            raise RuntimeError(f"freed twice, or before it was handed out: {entry.key!s}")
        del self._draining[entry]
        self._balance.give_back(entry)
        if self._reservations:
            self._wake()

    def release(self, entry: Entry[K, V]) -> None:
        """One hold less."""
        if entry.holds <= 0:
            raise RuntimeError(f"released more often than held: {entry.key!s}")
        entry.holds -= 1
        if entry.holds == 0 and (entry.cause is not None or (self._reservations and self.is_short)):
            self._wake()

    def pin(self, key: K, *, pinned: bool) -> bool:
        """A pinned entry is no victim of capacity. Returns False if there is none."""
        entry = self.entries.get(key)
        if entry is None:
            return False
        entry.pinned = pinned
        if not pinned and self._reservations:
            self._wake()
        return True

    def check_invariants(self) -> None:
        """Recompute every sum from the entries and compare. For tests and for the sync loop's pass."""
        entries, copies = self.entries.values(), self._copies.keys()
        assert not any(entry.is_copy or entry.cause for entry in entries)
        assert all(copy.is_copy and not (copy.cause or copy.copies) for copy in copies)
        assert {copy for entry in entries for copy in entry.copies} == copies
        assert all(entry.cause for entry in self._draining)
        self._balance.check(entries, copies, self._draining, self._reservations)

    # Inside

    def _refuse_larger_than_capacity(self, key: K, weight: Weight) -> None:
        if self._balance.capacity.holds(weight):
            return
        excess = self._balance.capacity.excess(weight)
        assert excess is not None
        part, need, limit = excess
        raise CapacityError(
            f"{key!s} needs {need} {part}, the whole capacity is {limit}", kind=ErrorKind.TOO_LARGE
        )

    def _shrink_to_capacity(self) -> None:
        """What was adopted beyond the capacity leaves, as far as it is free to."""
        victims, _ = self._choose(self._balance.commitment, None)
        self._evict_all(victims)

    def _promise(self, granted: list[Reservation[K]], reservation: Reservation[K]) -> bool:
        """Promise it its room, if that can be made. One that takes the places of others has it with that, and is ``granted``."""
        balance = self._balance
        target = balance.commitment.plus(reservation.weight)
        if reservation.promised is not NOTHING:
            target = target.minus(reservation.promised)
        if not balance.capacity.holds(target):
            victims, fits = self._choose(target, reservation.key)
            if not fits:
                return False
            takes = reservation.takes
            if takes is not None and self._take_places(reservation, victims, takes):
                granted.append(reservation)
                return True
            self._evict_all(victims)
        balance.promise(reservation, reservation.weight)
        return True

    def _take_places(self, reservation: Reservation[K], victims: list[Entry[K, V]], takes: Takes[K]) -> bool:
        """Evict idle entries whose places are taken in the same order; False, and nothing is changed, if they cannot be.

        Nor by one that has room already and was corrected to more.
        """
        if reservation.granted != NOTHING:
            return False
        leaving = NOTHING
        for entry in victims:
            if entry.is_copy or entry.copies:
                return False
            leaving = entry.weight if leaving is NOTHING else leaving.plus(entry.weight)
        balance = self._balance
        usage = balance.behind(leaving, reservation.weight)
        if not balance.capacity.holds(usage) or not takes(victims):
            return False
        for entry in victims:
            self.evict(entry.key, Cause.CAPACITY)
            entry.handed_out = True
        balance.take_over(reservation, victims, leaving, usage)
        balance.promise(reservation, reservation.weight)
        return True

    def _evict_all(self, victims: list[Entry[K, V]]) -> None:
        for entry in victims:
            if entry.cause is None:  # a copy may have gone with its entry
                self._leave(entry)

    def _leave(self, entry: Entry[K, V]) -> None:
        if entry.is_copy:
            self.drop(entry, Cause.CAPACITY)
        else:
            self.evict(entry.key, Cause.CAPACITY)

    def _choose(self, target: Weight, but: K | None) -> tuple[list[Entry[K, V]], bool]:
        copies = tuple([copy for copy in self._copies if not copy.pinned]) if self._copies else ()
        return choose(self._balance.capacity, target, copies=copies, entries=self._evictable(but))

    def _evictable(self, but: K | None) -> Iterator[Entry[K, V]]:
        """Entries that nobody uses, in the order in which they go, ``but`` last."""
        spared: Entry[K, V] | None = None
        for key in self._order():
            entry = self.entries.get(key)
            if entry is None or entry.holds or entry.pinned or (entry.copies and entry.is_used):
                continue
            if key == but:
                spared = entry
                continue
            yield entry
        if spared is not None:
            yield spared

    def _close(self, reservation: Reservation[K]) -> None:
        del self._reservations[reservation]
        self._balance.close(reservation)
