"""The memory tier: which versions are loaded, who uses them, and which of them answer for ``latest`` and for labels.

The residency manager calls it; it holds opaque values and does no I/O, awaits nothing and reads no clock.

Recency is kept for what clients *wrote*: a version number, the word ``latest`` and a label have a last-used time each. An
entry is as young as the youngest word that means it now. So when ``latest`` moves on, nothing is reordered: the
old version keeps what was asked of it by number, the new one inherits the time of ``latest``.

A version may be in memory several times, in different places: its entry has *copies*. They have no recency of their
own and answer to the same words; a lease goes to the one with the fewest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar, cast

from hotset.events import Cause
from hotset.keys import LATEST, ModelKey, ModelRef
from hotset.tiers.books import Takes
from hotset.tiers.eviction import LRU, Eviction
from hotset.tiers.labels import LabelWords
from hotset.tiers.ledger import NOTHING, Capacity, Entry, Ledger, LedgerStatistics, Reservation, Weight

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


class MemoryTier(Generic[V]):
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
        self._recency: Eviction[ModelRef] = eviction if eviction is not None else LRU()
        self._ledger: Ledger[ModelKey, V] = Ledger(
            capacity,
            order=self._keys_by_recency,
            wake=lambda: self.wake(),  # noqa: PLW0108 - the owner sets `wake` later
        )
        self._latest: dict[str, ModelKey] = {}
        self._labels: Final = LabelWords(self._recency)
        self._labelled: Final = self._labels.by_name
        self._versions: dict[str, set[ModelKey]] = {}
        self._unasked: dict[ModelKey, None] = {}
        self._leases = 0

    # Looking and leasing: the hot path

    def find(self, ref: ModelRef) -> Entry[ModelKey, V] | None:
        """Return the entry that ``ref`` means in memory now; ``latest`` is the version that answers for it."""
        if ref.version == LATEST:
            key = self._latest.get(ref.name)
            return None if key is None else self._ledger.entries.get(key)
        if self._labelled and isinstance(ref.version, str):
            key = self._labels.means(ref)
            return None if key is None else self._ledger.entries.get(key)
        return self._ledger.entries.get(ref)  # type: ignore[call-overload, no-any-return]  # equal tuples

    def entry(self, key: ModelKey) -> Entry[ModelKey, V] | None:
        """Return the entry of a version, or None if it is not in memory."""
        return self._ledger.entries.get(key)

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

    # Recency

    def touch(self, ref: ModelRef, now_s: float) -> None:
        """Note a use of something that is being loaded. Forgotten again by ``forget_unused``."""
        self._recency.touch(ref, now_s)
        self._note_word(ref)
        if isinstance(ref.version, str) and ref.version != LATEST:
            self._labels.await_(ref)

    def admit(self, ref: ModelRef, used_s: float) -> None:
        """Give a word its last-used time of before a restart; call it oldest first."""
        self._recency.admit(ref, used_s)
        self._note_word(ref)
        if isinstance(ref.version, str) and ref.version != LATEST:
            self._labels.await_(ref)

    def last_used_s(self, ref: ModelRef) -> float | None:
        return self._recency.last_used_s(ref)

    def entry_used_s(self, key: ModelKey) -> float | None:
        """Return the youngest of the times that count for an entry, or None if it was never asked for."""
        if self._labelled and key.name in self._labelled:
            word = self._youngest_word(key)
            return None if word is None else self._recency.last_used_s(word)
        by_number_s = self._recency.last_used_s(_word(key))
        if self._latest.get(key.name) != key:
            return by_number_s
        as_latest_s = self._recency.last_used_s(ModelRef(key.name))
        if by_number_s is None or as_latest_s is None:
            return by_number_s if as_latest_s is None else as_latest_s
        return max(by_number_s, as_latest_s)

    def oldest_used_s(self) -> float | None:
        """Return the time of the entry that would go first, leased or not; None if the tier is empty."""
        for key in self._keys_by_recency():
            used_s = self.entry_used_s(key)
            return float("-inf") if used_s is None else used_s
        return None

    def by_recency(self) -> list[tuple[ModelRef, float]]:
        """Every word with a last-used time that means an entry now, the oldest first."""
        return [
            (ref, self._recency.last_used_s(ref) or 0.0) for ref in self._recency.victims() if self.find(ref)
        ]

    # Latest

    def serving_latest(self, name: str) -> ModelKey | None:
        """Return the version that answers for ``latest``; it stays so while a newer one is loaded."""
        return self._latest.get(name)

    def point_latest(self, key: ModelKey) -> ModelKey | None:
        """From now on ``key``, which must be in memory, answers for ``latest``. Returns the version that did."""
        if key not in self._ledger.entries:
            raise RuntimeError(f"latest cannot mean what is not in memory: {key}")
        previous = self._latest.get(key.name)
        self._latest[key.name] = key
        self._note_whether_asked(key)
        if previous is not None:
            self._note_whether_asked(previous)
        return previous

    # Labels

    def serving(self, ref: ModelRef) -> ModelKey | None:
        """Return the version that answers for a label; it stays so until ``point`` moves it."""
        return self._labels.means(ref)

    def labels_of(self, name: str) -> dict[str, ModelKey]:
        """Return what a model's labels mean in memory now."""
        return self._labels.of(name) if self._labelled else {}

    def point(self, ref: ModelRef, key: ModelKey) -> ModelKey | None:
        """From now on ``key``, which must be in memory, answers for a label. Returns the version that did."""
        if key not in self._ledger.entries:
            raise RuntimeError(f"a label cannot mean what is not in memory: {ref} → {key}")
        previous = self._labels.point(ref, key)
        self._note_whether_asked(key)
        if previous is not None:
            self._note_whether_asked(previous)
        return previous

    def forget_label(self, ref: ModelRef) -> None:
        """A label means nothing any more, here or in the store."""
        previous = self._labels.drop(ref)
        if previous is not None:
            self._note_whether_asked(previous)

    # Room, entries and leaving: the ledger's, with the words kept in step

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
        self._ledger.capacity = capacity

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
        self._versions.setdefault(entry.key.name, set()).add(entry.key)
        self._note_whether_asked(entry.key)
        if self.is_wanted:
            self.wake()
        return entry

    def enter(self, reservation: Reservation[ModelKey], value: V) -> Entry[ModelKey, V]:
        """As ``commit``, for what is on its way in behind those who leave; its load has a lease until ``settle`` or ``withdraw``."""
        entry = self._ledger.enter(reservation, value)
        self._leases += 1
        self._versions.setdefault(entry.key.name, set()).add(entry.key)
        self._note_whether_asked(entry.key)
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
        return tuple(self._ledger.entries.values())

    def idle(self) -> Iterator[Entry[ModelKey, V]]:
        """Yield what is neither leased nor pinned, the one to go first first. Nothing may be changed meanwhile."""
        for key in self._keys_by_recency():
            entry = self._ledger.entries[key]
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

    def has_any_of(self, name: str) -> bool:
        """Whether any version of a model is in memory."""
        return name in self._versions

    def has_only(self, key: ModelKey) -> bool:
        """Whether this version of its model is in memory, and no other."""
        return self._versions.get(key.name) == {key}

    def entries_of(self, name: str) -> tuple[Entry[ModelKey, V], ...]:
        """Return the versions of one model that are in memory, ascending."""
        return tuple(self._ledger.entries[key] for key in sorted(self._versions.get(name, ())))

    @property
    def leases(self) -> int:
        """How many there are, of all that is in memory or on its way out of it."""
        return self._leases

    def leases_of(self, name: str) -> tuple[int, int]:
        """Return how many leases there are on the versions of a model, and how many there were and have ended."""
        held = used = 0
        for key in self._versions.get(name, ()):
            entry = self._ledger.entries[key]
            for place in (entry, *entry.copies):
                held += place.holds
                used += place.uses
        return held, used - held

    def forget_unused(self, ref: ModelRef) -> None:
        """Drop the last-used time of a word that means nothing in memory: after a load that failed."""
        if self.find(ref) is None:
            self._recency.remove(ref)
            if self._labelled:
                self._labels.drop(ref)

    def forget_words(self, key: ModelKey) -> None:
        """Drop the last-used times of the words that may mean a version, where they mean nothing in memory."""
        if key not in self._ledger.entries:
            self._recency.remove(_word(key))
        if key.name not in self._latest:
            self._recency.remove(ModelRef(key.name))
        if self._labelled:
            self._labels.drop_those_of(key.name, None)

    def statistics(self) -> MemoryStatistics:
        return MemoryStatistics(
            ledger=self._ledger.statistics(), leases=self._leases, oldest_used_s=self.oldest_used_s()
        )

    def check_invariants(self) -> None:
        self._ledger.check_invariants()
        entries = self._ledger.entries
        assert {key for keys in self._versions.values() for key in keys} == entries.keys()
        assert all(key in entries for key in self._latest.values())
        assert all(key in entries for name in self._labelled for key in self._labels.of(name).values())
        assert {key for key in entries if self.entry_used_s(key) is None} == self._unasked.keys()
        everything = (*entries.values(), *self._ledger.copies(), *self._ledger.draining())
        held = sum(entry.holds for entry in everything)
        assert held == self._leases, (held, self._leases)
        assert self.capacity.holds(self.usage), (self.capacity, self.usage)

    def _forget(self, key: ModelKey) -> None:
        if key in self._ledger.entries:
            return  # superseded in place: the words now mean the new entry
        self._forget_words_of(key)

    def _taken_over(self, takes: Takes[ModelKey], victims: Sequence[Entry[ModelKey, Any]]) -> bool:
        """Nobody hands them out later, so they are forgotten now."""
        if not takes(victims):
            return False
        for entry in victims:
            self._forget_words_of(entry.key)
        return True

    def _forget_words_of(self, key: ModelKey) -> None:
        versions = self._versions.get(key.name)
        if versions is None or key not in versions:
            return  # forgotten when it was evicted; by now its word may stand for a load that is under way
        versions.discard(key)
        self._recency.remove(_word(key))
        self._unasked.pop(key, None)
        if self._latest.get(key.name) == key:
            del self._latest[key.name]
        if self._labelled:
            self._labels.drop_those_of(key.name, key)
        if not versions:
            del self._versions[key.name]
            self._recency.remove(ModelRef(key.name))

    def _note_word(self, ref: ModelRef) -> None:
        if self._unasked:
            entry = self.find(ref)
            if entry is not None:
                self._unasked.pop(entry.key, None)

    def _note_whether_asked(self, key: ModelKey) -> None:
        if key in self._ledger.entries and self.entry_used_s(key) is None:
            self._unasked[key] = None
        else:
            self._unasked.pop(key, None)

    def _keys_by_recency(self) -> Iterator[ModelKey]:
        """Entries nobody asked for first, then by the youngest of the times that count for them."""
        yield from self._unasked
        for ref in self._recency.victims():
            entry = self.find(ref)
            if entry is not None and self._is_youngest(ref, entry.key):
                yield entry.key

    def _is_youngest(self, ref: ModelRef, key: ModelKey) -> bool:
        """Whether it is this word that gives an entry its place: one of several, also where all were used at the same time."""
        if self._labelled and key.name in self._labelled:
            return self._youngest_word(key) == ref
        if ref.version == LATEST:
            number_s, latest_s = self._recency.last_used_s(_word(key)), self._recency.last_used_s(ref)
            return number_s is None or (latest_s is not None and number_s <= latest_s)
        if self._latest.get(key.name) != key:
            return True
        number_s, latest_s = self._recency.last_used_s(ref), self._recency.last_used_s(ModelRef(key.name))
        return latest_s is None or (number_s is not None and number_s > latest_s)

    def _youngest_word(self, key: ModelKey) -> ModelRef | None:
        """The word that was used last of all that mean an entry."""
        is_latest = self._latest.get(key.name) == key
        return self._labels.youngest(key, [_word(key), ModelRef(key.name)][: 1 + is_latest])


def _word(key: ModelKey) -> ModelRef:
    """The word that means a version by its number: an equal tuple, so the key itself will do to look it up."""
    return cast("ModelRef", key)
