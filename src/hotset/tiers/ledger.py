"""The books of a tier: entries, room that is spoken for, and room that is still being given back.

Both tiers keep them here. The ledger decides, the tier's owner acts: it asks for room (``reserve``), unloads or
deletes what ``advance`` hands out, says when that is done (``freed``), and turns a granted reservation into an
entry (``commit``). No I/O, no await, no clock.

Two sums are kept below the capacity, each in every part:

* *usage* = entries + entries that are being given back + reservations that were granted. It is what the tier
  really holds, so a reservation is granted only once the room is physically there.
* *commitment* = entries + reservations that have been promised room. Victims are chosen against it, so that the
  room which one reservation waits for is never given to another.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from hotset.errors import CapacityError, ErrorKind
from hotset.events import Cause

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Weight(NamedTuple):
    """What an entry takes: places, host (or disk) bytes, device bytes."""

    models: int = 1
    bytes: int = 0
    device_bytes: int = 0

    def plus(self, other: Weight) -> Weight:
        return Weight(
            self.models + other.models, self.bytes + other.bytes, self.device_bytes + other.device_bytes
        )

    def minus(self, other: Weight) -> Weight:
        return Weight(
            self.models - other.models, self.bytes - other.bytes, self.device_bytes - other.device_bytes
        )


NOTHING = Weight(0, 0, 0)


class Capacity(NamedTuple):
    """What a tier may hold; None is no limit in that part."""

    models: int | None = None
    bytes: int | None = None
    device_bytes: int | None = None

    def holds(self, weight: Weight) -> bool:
        """Whether ``weight`` is within every part."""
        return (
            (self.models is None or weight.models <= self.models)
            and (self.bytes is None or weight.bytes <= self.bytes)
            and (self.device_bytes is None or weight.device_bytes <= self.device_bytes)
        )

    def is_eased(self, target: Weight, without: Weight) -> bool:
        """Whether taking ``without`` off ``target`` lowers a part that is over its limit."""
        return any(
            limit is not None and total > limit and part > 0
            for limit, total, part in zip(self, target, without, strict=True)
        )


class Entry(Generic[K, V]):
    """Something in a tier. ``holds`` counts those who use it (leases, pins of the tier above): no victim while > 0."""

    __slots__ = ("cause", "handed_out", "holds", "key", "pinned", "value", "weight")

    def __init__(self, key: K, value: V, weight: Weight) -> None:
        self.key = key
        self.value = value
        self.weight = weight
        self.holds = 0
        self.pinned = False
        self.cause: Cause | None = None
        self.handed_out = False

    def __repr__(self) -> str:
        return f"Entry({self.key!s}, {self.weight}, holds={self.holds}, cause={self.cause})"


class Reservation(Generic[K]):
    """Room spoken for. ``on_granted`` is called once, from ``advance``, when the room is there."""

    __slots__ = ("granted", "key", "on_granted", "promised", "weight")

    def __init__(self, key: K, weight: Weight, on_granted: Callable[[], None]) -> None:
        self.key = key
        self.weight = weight
        self.on_granted = on_granted
        self.promised = NOTHING
        self.granted = NOTHING

    @property
    def is_promised(self) -> bool:
        """Whether its room is there or being made; if not, all the rest is held."""
        return self.promised == self.weight

    @property
    def is_granted(self) -> bool:
        return self.granted == self.weight


@dataclass(frozen=True, slots=True)
class LedgerStatistics:
    """A moment of a tier's books."""

    capacity: Capacity
    usage: Weight
    entries: int
    draining: int
    reservations: int
    held: int


class Ledger(Generic[K, V]):
    """Owned by the event loop. Order for one key: ``reserve`` → (granted) → ``commit`` or ``cancel``;
    ``evict`` or being chosen by ``advance`` → handed out by ``advance`` → ``freed``.
    """

    def __init__(
        self, capacity: Capacity, *, order: Callable[[], Iterator[K]], wake: Callable[[], None] = lambda: None
    ) -> None:
        """``order`` yields keys, each once, the first to go first; ``wake`` is called when ``advance`` is worth calling."""
        self.capacity = capacity
        self.entries: dict[K, Entry[K, V]] = {}
        self._order = order
        self._wake = wake
        self._draining: dict[Entry[K, V], None] = {}  # in the order in which they were evicted
        self._reservations: dict[Reservation[K], None] = {}
        self._resident = NOTHING
        self._leaving = NOTHING
        self._promised = NOTHING
        self._granted = NOTHING

    # What is there

    @property
    def usage(self) -> Weight:
        return self._resident.plus(self._leaving).plus(self._granted)

    @property
    def commitment(self) -> Weight:
        return self._resident.plus(self._promised)

    def draining(self) -> tuple[Entry[K, V], ...]:
        return tuple(self._draining)

    def statistics(self) -> LedgerStatistics:
        """O(entries): it counts the held ones."""
        return LedgerStatistics(
            capacity=self.capacity,
            usage=self.usage,
            entries=len(self.entries),
            draining=len(self._draining),
            reservations=len(self._reservations),
            held=sum(1 for entry in self.entries.values() if entry.holds),
        )

    @property
    def is_short(self) -> bool:
        """Whether somebody asks for room that cannot be made, because all the rest is held."""
        return any(not reservation.is_promised for reservation in self._reservations)

    def has_room(self, weight: Weight) -> bool:
        """Whether ``weight`` would fit without evicting anything."""
        return self.capacity.holds(self.commitment.plus(weight)) and self.capacity.holds(
            self.usage.plus(weight)
        )

    # Room

    def reserve(self, key: K, weight: Weight, on_granted: Callable[[], None]) -> Reservation[K]:
        """Ask for room; ``advance`` grants it, at once or later.

        Raises:
            CapacityError: it is larger than the whole tier.
        """
        self._refuse_larger_than_capacity(key, weight)
        reservation = Reservation(key, weight, on_granted)
        self._reservations[reservation] = None
        self._wake()
        return reservation

    def resize(self, reservation: Reservation[K], weight: Weight) -> None:
        """Correct a granted reservation to the measured weight; if it grew, it must be granted again.

        Raises:
            CapacityError: it is larger than the whole tier; the reservation stands as it was.
        """
        self._refuse_larger_than_capacity(reservation.key, weight)
        reservation.weight = weight
        kept = _smaller(reservation.granted, weight)
        self._set_granted(reservation, kept)
        self._set_promised(reservation, kept)
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
        replaced = self.evict(reservation.key, Cause.SUPERSEDED)
        entry = self.adopt(reservation.key, value, reservation.weight)
        entry.pinned = replaced is not None and replaced.pinned
        if self._reservations:
            self._wake()  # what was room spoken for is now an entry, which may go for those who wait
        return entry

    def adopt(self, key: K, value: V, weight: Weight) -> Entry[K, V]:
        """Enter what is there already (found on disk at start), whatever the capacity; ``advance`` shrinks it."""
        if key in self.entries:
            raise RuntimeError(f"there is an entry already: {key!s}")
        entry: Entry[K, V] = Entry(key, value, weight)
        self.entries[key] = entry
        self._resident = self._resident.plus(weight)
        return entry

    def advance(self) -> list[Entry[K, V]]:
        """Promise and grant what is possible; return the entries to be given back now, each handed out once.

        They come in the order in which they were evicted. ``on_granted`` must not raise.
        """
        self._shrink_to_capacity()
        for reservation in [r for r in self._reservations if not r.is_promised]:
            self._promise(reservation)
        granted = [r for r in self._reservations if self._grant(r)]
        ready = [entry for entry in self._draining if entry.holds == 0 and not entry.handed_out]
        for entry in ready:
            entry.handed_out = True
        for reservation in granted:
            reservation.on_granted()
        return ready

    # Leaving

    def evict(self, key: K, cause: Cause) -> Entry[K, V] | None:
        """Take the entry out at once; it counts as usage until it is ``freed``. None if there is none."""
        entry = self.entries.pop(key, None)
        if entry is None:
            return None
        entry.cause = cause
        self._draining[entry] = None
        self._resident = self._resident.minus(entry.weight)
        self._leaving = self._leaving.plus(entry.weight)
        self._wake()
        return entry

    def freed(self, entry: Entry[K, V]) -> None:
        """The room of an entry that was handed out has come back."""
        if not entry.handed_out or entry not in self._draining:
            raise RuntimeError(f"freed twice, or before it was handed out: {entry.key!s}")
        del self._draining[entry]
        self._leaving = self._leaving.minus(entry.weight)
        self._wake()

    def release(self, entry: Entry[K, V]) -> None:
        """One hold less."""
        if entry.holds <= 0:
            raise RuntimeError(f"released more often than held: {entry.key!s}")
        entry.holds -= 1
        if entry.holds == 0 and (entry.cause is not None or self._reservations):
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
        total = NOTHING
        for entry in self.entries.values():
            total = total.plus(entry.weight)
            assert entry.cause is None
        assert total == self._resident, (total, self._resident)
        total = NOTHING
        for entry in self._draining:
            total = total.plus(entry.weight)
            assert entry.cause is not None
        assert total == self._leaving, (total, self._leaving)
        granted, promised = NOTHING, NOTHING
        for reservation in self._reservations:
            granted = granted.plus(reservation.granted)
            promised = promised.plus(reservation.promised)
        assert (granted, promised) == (self._granted, self._promised)

    # Inside

    def _refuse_larger_than_capacity(self, key: K, weight: Weight) -> None:
        for part, need, limit in zip(("models", "bytes", "device bytes"), weight, self.capacity, strict=True):
            if limit is not None and need > limit:
                raise CapacityError(
                    f"{key!s} needs {need} {part}, the whole capacity is {limit}", kind=ErrorKind.TOO_LARGE
                )

    def _shrink_to_capacity(self) -> None:
        """What was adopted beyond the capacity leaves, as far as it is free to."""
        victims, _ = self._choose(self.commitment)
        for key in victims:
            self.evict(key, Cause.CAPACITY)

    def _promise(self, reservation: Reservation[K]) -> None:
        needed = reservation.weight.minus(reservation.promised)
        victims, left = self._choose(self.commitment.plus(needed), but=reservation.key)
        if not self.capacity.holds(left):
            return
        for key in victims:
            self.evict(key, Cause.CAPACITY)
        self._set_promised(reservation, reservation.weight)

    def _choose(self, target: Weight, *, but: K | None = None) -> tuple[list[K], Weight]:
        """Victims in eviction order, ``but`` last, until ``target`` fits or nobody is left; what is left of it.

        Whoever takes nothing of what is short is passed over: device memory is not made by evicting what is in
        host memory alone.
        """
        victims: list[K] = []
        if self.capacity.holds(target):
            return victims, target
        for key in self._evictable(but):
            weight = self.entries[key].weight
            if self.capacity.is_eased(target, weight):
                victims.append(key)
                target = target.minus(weight)
                if self.capacity.holds(target):
                    break
        return victims, target

    def _evictable(self, but: K | None) -> Iterator[K]:
        spared = False
        for key in self._order():
            entry = self.entries.get(key)
            if entry is None or entry.holds or entry.pinned:
                continue
            if key == but:
                spared = True
                continue
            yield key
        if spared and but is not None:
            yield but

    def _grant(self, reservation: Reservation[K]) -> bool:
        if reservation.is_granted or not reservation.is_promised:
            return False
        missing = reservation.weight.minus(reservation.granted)
        if not self.capacity.holds(self.usage.plus(missing)):
            return False
        self._set_granted(reservation, reservation.weight)
        return True

    def _set_granted(self, reservation: Reservation[K], weight: Weight) -> None:
        self._granted = self._granted.minus(reservation.granted).plus(weight)
        reservation.granted = weight

    def _set_promised(self, reservation: Reservation[K], weight: Weight) -> None:
        self._promised = self._promised.minus(reservation.promised).plus(weight)
        reservation.promised = weight

    def _close(self, reservation: Reservation[K]) -> None:
        del self._reservations[reservation]
        self._set_granted(reservation, NOTHING)
        self._set_promised(reservation, NOTHING)


def _smaller(one: Weight, other: Weight) -> Weight:
    return Weight(*(min(a, b) for a, b in zip(one, other, strict=True)))
