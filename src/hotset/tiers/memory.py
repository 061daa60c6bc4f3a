"""The memory tier: which versions are loaded, who uses them, and who goes when there is no room.

The residency manager calls it; it holds opaque values and does no I/O, awaits nothing and reads no clock. Which version
a word means, and whose turn it is to go, are in ``words``; room, entries and leaving are the ledger's.

A version may be in memory several times, in different places: its entry has *copies*. They have no recency of their
own and answer to the same words; a lease goes to the one with the fewest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Generic, TypeVar

from hotset.events import Cause
from hotset.keys import ModelKey, ModelRef
from hotset.tiers.books import Takes
from hotset.tiers.eviction import LRU, Eviction
from hotset.tiers.ledger import NOTHING, Capacity, Entry, Ledger, LedgerStatistics, Reservation, Weight
from hotset.tiers.words import Words

V = TypeVar("V")

_fewest_leases = attrgetter("holds")


class Lease(Generic[V]):
    """The right to use a loaded version until ``release``, which is called exactly once; a context manager."""

    __slots__ = ("_entry", "_tier")

    def __init__(self, tier: MemoryTier[V], entry: Entry[ModelKey, V]) -> None:
        self._tier: MemoryTier[V] | None = tier
        self._entry = entry
        entry.holds += 1
        entry.uses += 1

    @property
    def key(self) -> ModelKey:
        return self._entry.key

    @property
    def value(self) -> V:
        return self._entry.value

    @property
    def entry(self) -> Entry[ModelKey, V]:
        return self._entry

    @property
    def is_released(self) -> bool:
        return self._tier is None

    def release(self) -> None:
        tier = self._tier
        if tier is None:
            raise RuntimeError(f"lease released twice: {self._entry.key}")
        self._tier = None
        tier.release(self._entry)

    def __enter__(self) -> V:
        return self._entry.value

    def __exit__(self, *exc_info: object) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class MemoryStatistics:
    """A moment of the memory tier; ``oldest_used_s`` is the time of the entry that would go first."""

    ledger: LedgerStatistics
    leases: int
    oldest_used_s: float | None


class MemoryTier(Words[V]):
    """Owned by the event loop. For one version: ``reserve`` → ``commit`` → leases → ``evict`` or chosen → ``freed``.

    For a copy of what is in memory: ``reserve_copy`` → ``commit_copy`` → leases → ``drop``, ``evict`` or chosen → ``freed``.
    """

    def __init__(
        self,
        capacity: Capacity,
        *,
        wake: Callable[[], None] = lambda: None,
        eviction: Eviction[ModelRef] | None = None,
    ) -> None:
        """``wake`` is called when ``advance`` may have something to do; it must not call back at once."""
        self.wake = wake
        self.pump: Callable[[], object] = self.advance
        """Has the owner call ``advance`` and do what follows from it, now: for whoever cannot wait until it is woken."""
        self.is_wanted = False
        """Whether the owner waits for entries to become idle without having reserved room: it is woken for each."""
        self._ledger: Ledger[ModelKey, V] = Ledger(
            capacity,
            order=self._keys_by_recency,
            wake=lambda: self.wake(),  # noqa: PLW0108 - the owner sets `wake` later
        )
        super().__init__(self._ledger.entries, eviction if eviction is not None else LRU())
        self._leases = 0

    # Leasing: the hot path

    def lease(self, ref: ModelRef, now_s: float) -> Lease[V] | None:
        """Return a lease and note the use, or None if that version is not in memory."""
        entry = self.find(ref)
        if entry is None:
            return None
        self._recency.touch(ref, now_s)
        if self._unasked:
            self._unasked.pop(entry.key, None)
        self._leases += 1
        if entry.copies:
            entry = min(entry, *entry.copies, key=_fewest_leases)
        return Lease(self, entry)

    def lease_entry(self, entry: Entry[ModelKey, V]) -> Lease[V]:
        """Return a lease on an entry that is in memory, without noting a use."""
        if entry.cause is not None:
            raise RuntimeError(f"not in memory any more: {entry.key}")
        self._leases += 1
        return Lease(self, entry)

    def release(self, entry: Entry[ModelKey, V]) -> None:
        """For ``Lease`` alone."""
        self._leases -= 1
        self._ledger.release(entry)
        if self.is_wanted:
            self.wake()

    @property
    def leases(self) -> int:
        """How many there are, of all that is in memory or on its way out of it."""
        return self._leases

    def leases_of(self, name: str) -> tuple[int, int]:
        """Return how many leases there are on the versions of a model, and how many there were and have ended."""
        held = used = 0
        for key in self._versions.get(name, ()):
            entry = self._entries[key]
            for place in (entry, *entry.copies):
                held += place.holds
                used += place.uses
        return held, used - held

    # Room and entries: the ledger's, with the words kept in step

    @property
    def capacity(self) -> Capacity:
        return self._ledger.capacity

    @property
    def usage(self) -> Weight:
        return self._ledger.usage

    @property
    def commitment(self) -> Weight:
        return self._ledger.commitment

    def limit(self, capacity: Capacity) -> None:
        """Set the capacity; before anything is in it."""
        self._ledger.limit(capacity)

    @property
    def is_asked(self) -> bool:
        """Whether room is spoken for that is not an entry yet."""
        return self._ledger.is_asked

    def has_room(self, weight: Weight) -> bool:
        """Whether ``weight`` would fit without evicting anything but copies."""
        return self._ledger.has_room(weight)

    def reserve(
        self,
        key: ModelKey,
        weight: Weight,
        on_granted: Callable[[], None],
        *,
        takes: Takes[ModelKey] | None = None,
    ) -> Reservation[ModelKey]:
        """Ask for room. ``takes`` says of idle entries whether what comes in can take their places, in one order."""
        if takes is None:
            return self._ledger.reserve(key, weight, on_granted)
        return self._ledger.reserve(key, weight, on_granted, takes=partial(self._taken_over, takes))

    def grant_behind(self, reservation: Reservation[ModelKey], entries: Iterable[Entry[ModelKey, V]]) -> bool:
        """Grant promised room to what will be loaded only once those of ``entries`` are gone that ``reservation.behind`` tells.

        False if all of them, unloaded, would not be enough.
        """
        return self._ledger.grant_behind(reservation, entries)

    def stand_back(self, reservation: Reservation[ModelKey]) -> None:
        """Undo ``grant_behind``; it is granted once its room is there."""
        self._ledger.stand_back(reservation)

    def resize(self, reservation: Reservation[ModelKey], weight: Weight) -> None:
        self._ledger.resize(reservation, weight)

    def cancel(self, reservation: Reservation[ModelKey]) -> None:
        self._ledger.cancel(reservation)

    def commit(self, reservation: Reservation[ModelKey], value: V) -> Entry[ModelKey, V]:
        entry = self._ledger.commit(reservation, value)
        self._came(entry.key)
        if self.is_wanted:
            self.wake()
        return entry

    def enter(self, reservation: Reservation[ModelKey], value: V) -> Entry[ModelKey, V]:
        """As ``commit``, for what is on its way in behind those who leave; its load has a lease until ``settle`` or ``withdraw``."""
        entry = self._ledger.enter(reservation, value)
        self._leases += 1
        self._came(entry.key)
        if self.is_wanted:
            self.wake()
        return entry

    def settle(self, entry: Entry[ModelKey, V]) -> None:
        """What was entered on its way is there, and those whom it follows are ``freed``."""
        self._leases -= 1
        self._ledger.settle(entry)

    def withdraw(self, entry: Entry[ModelKey, V]) -> tuple[Entry[ModelKey, V], ...]:
        """What was entered on its way did not come, and is out. Returns those whom it was to follow, still to be ``freed``."""
        self._leases -= 1
        behind = self._ledger.withdraw(entry)
        self._forget(entry.key)
        return behind

    # Copies

    def has_free_room(self, weight: Weight) -> bool:
        """Whether ``weight`` would fit without evicting anything at all, and nobody waits for room."""
        return self._ledger.has_free_room(weight)

    def reserve_copy(self, key: ModelKey, weight: Weight) -> Reservation[ModelKey] | None:
        """Take free room, at once, or None if there is none that nobody else wants."""
        return self._ledger.reserve_free(key, weight)

    def resize_copy(self, reservation: Reservation[ModelKey], weight: Weight) -> bool:
        """Correct it to the measured weight; False, and nothing is changed, if there is no free room for more."""
        return self._ledger.resize_free(reservation, weight)

    def commit_copy(self, reservation: Reservation[ModelKey], value: V) -> Entry[ModelKey, V]:
        """Enter a copy of a version that is in memory; the next leases are its."""
        copy = self._ledger.commit_copy(reservation, value)
        if self.is_wanted:
            self.wake()
        return copy

    def drop(self, entry: Entry[ModelKey, V], cause: Cause) -> None:
        """Take out one of those that stand for a version; with the last one the version is evicted.

        Where it is the first one, its oldest copy takes its place, its pin too.
        """
        if entry.cause is not None:
            return  # it is leaving already
        if entry.copies or entry.is_copy:
            self._ledger.drop(entry, cause)
        else:
            self.evict(entry.key, cause)

    def copies(self) -> tuple[Entry[ModelKey, V], ...]:
        """Return the copies of all versions, the oldest first."""
        return self._ledger.copies()

    # Leaving

    def advance(self) -> list[Entry[ModelKey, V]]:
        """Grant what can be granted; return the unleased entries that are to be unloaded now."""
        ready = self._ledger.advance()
        for entry in ready:
            self._forget(entry.key)
        return ready

    def evict(self, key: ModelKey, cause: Cause) -> bool:
        """Take a version and its copies out: no new lease from now on; each is unloaded once its leases are released."""
        evicted = self._ledger.evict(key, cause) is not None
        if evicted:
            self._forget(key)
        return evicted

    def freed(self, entry: Entry[ModelKey, V]) -> None:
        self._ledger.freed(entry)

    def pin(self, key: ModelKey, *, pinned: bool) -> bool:
        """A pinned version is no victim of capacity. Returns False if it is not in memory."""
        return self._ledger.pin(key, pinned=pinned)

    def entries(self) -> tuple[Entry[ModelKey, V], ...]:
        return tuple(self._entries.values())

    def idle(self) -> Iterator[Entry[ModelKey, V]]:
        """Yield what is neither leased nor pinned, the one to go first first. Nothing may be changed meanwhile."""
        for key in self._keys_by_recency():
            entry = self._entries[key]
            if not entry.is_used and not entry.pinned:
                yield entry

    def draining(self) -> tuple[Entry[ModelKey, V], ...]:
        return self._ledger.draining()

    @property
    def is_held_up(self) -> bool:
        """Whether room that was promised is there only once leases end on what is on its way out."""
        kept = NOTHING
        for entry in self._ledger.draining():
            if entry.holds:
                kept = kept.plus(entry.weight)
        return kept != NOTHING and not self.capacity.holds(self._ledger.commitment.plus(kept))

    # Figures

    def statistics(self) -> MemoryStatistics:
        return MemoryStatistics(
            ledger=self._ledger.statistics(), leases=self._leases, oldest_used_s=self.oldest_used_s()
        )

    def check_invariants(self) -> None:
        super().check_invariants()
        self._ledger.check_invariants()
        everything = (*self.entries(), *self._ledger.copies(), *self._ledger.draining())
        held = sum(entry.holds for entry in everything)
        assert held == self._leases, (held, self._leases)
        assert self.capacity.holds(self.usage), (self.capacity, self.usage)

    def _forget(self, key: ModelKey) -> None:
        if key in self._entries:
            return  # superseded in place: the words now mean the new entry
        self._left(key)

    def _taken_over(self, takes: Takes[ModelKey], victims: Sequence[Entry[ModelKey, Any]]) -> bool:
        """Nobody hands them out later, so they are forgotten now."""
        if not takes(victims):
            return False
        for entry in victims:
            self._left(entry.key)
        return True
