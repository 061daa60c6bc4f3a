"""What lies on disk, seen from the event loop: versions, who holds them, and which go first. No I/O, no await.

``DiskTier`` is a shelf with hands. What is held does not go: an ``evict`` of it waits for the last ``release``, and a
``hold`` in between takes it back, because a fingerprint that is wanted again has the same content. Only files that
were found corrupt are not given out again; those who hold them get the copy that comes next.

Holds belong to a fingerprint and not to a copy of it, so one can be taken before the files are there: there is no
moment between the end of a fetch and the start of a load in which a version could go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from hotset.events import Cause
from hotset.keys import Fingerprint
from hotset.payload import Signature
from hotset.tiers.directory import FILES
from hotset.tiers.eviction import Eviction
from hotset.tiers.ledger import Capacity, Entry, Ledger, Reservation, Weight
from hotset.tiers.record import DiskRecord

NEVER_USED = float("-inf")


@dataclass(slots=True)
class DiskVersion:
    """A record and the directory with its files. For the disk tier alone; the record is replaced when it is learned.

    ``is_durable`` once the medium has it all.
    """

    record: DiskRecord
    path: Path
    is_durable: bool
    files: str = field(init=False)
    """Where the files themselves are; as text, because each load asks for it."""

    def __post_init__(self) -> None:
        self.files = str(self.path / FILES)


class Shelf:
    """Owned by the event loop. ``hold`` … ``release`` in pairs, before or after the version comes; anything else any time."""

    def __init__(
        self, capacity: Capacity, *, recency: Eviction[Fingerprint], wake: Callable[[], None]
    ) -> None:
        self._recency = recency
        self._ledger: Ledger[Fingerprint, DiskVersion] = Ledger(capacity, order=recency.victims, wake=wake)
        self._holds: dict[Fingerprint, int] = {}
        self._doomed: dict[Fingerprint, Cause] = {}
        self._dirty: set[Fingerprint] = set()

    # Looking

    def lookup(self, fingerprint: Fingerprint) -> DiskRecord | None:
        """Return the record of a version that is whole on disk, or None."""
        entry = self._ledger.entries.get(fingerprint)
        if entry is None or self._doomed.get(fingerprint) is Cause.CORRUPT:
            return None
        return entry.value.record

    def path(self, fingerprint: Fingerprint) -> Path:
        """Return the directory of a version's files. It stays while the fingerprint is held.

        Raises:
            KeyError: it is not on disk.
        """
        return self._ledger.entries[fingerprint].value.path / FILES

    def files_at(self, fingerprint: Fingerprint) -> str:
        """As ``path``, as text: what a load is given."""
        return self._ledger.entries[fingerprint].value.files

    def records(self) -> tuple[DiskRecord, ...]:
        """Return all that is on disk, the least recently used first."""
        found = (self.lookup(fingerprint) for fingerprint in self._recency.victims())
        return tuple(record for record in found if record is not None)

    def each_record(self) -> Iterator[DiskRecord]:
        """Return what is on disk now, in no order: cheap to ask for, and to be gone through in any thread."""
        corrupt = {it for it, cause in self._doomed.items() if cause is Cause.CORRUPT}
        entries = tuple(self._ledger.entries.items())
        return (entry.value.record for fingerprint, entry in entries if fingerprint not in corrupt)

    @property
    def capacity(self) -> Capacity:
        return self._ledger.capacity

    @property
    def usage(self) -> Weight:
        return self._ledger.usage

    @property
    def is_short(self) -> bool:
        """Whether a fetch waits for room that only the end of a hold can make."""
        return self._ledger.is_short

    def oldest_used_s(self) -> float | None:
        """Return the time of the version that would go first, held or not; None if there is none or it has none."""
        oldest = next(self._recency.victims(), None)
        used_s = None if oldest is None else self._recency.last_used_s(oldest)
        return None if used_s == NEVER_USED else used_s

    def check_invariants(self) -> None:
        entries = self._ledger.entries
        self._ledger.check_invariants()
        assert set(self._recency.victims()) == entries.keys()
        assert all(entry.holds == self._holds.get(key, 0) for key, entry in entries.items())
        assert all(not entry.holds for entry in self._ledger.draining())
        assert all(entries[key].holds for key in self._doomed)
        assert self.capacity.holds(self.usage), (self.capacity, self.usage)

    # Holds

    def hold(self, fingerprint: Fingerprint) -> None:
        """Keep a version on disk until ``release``, from now on or from when it comes there. Holds are counted."""
        if self._doomed.get(fingerprint) is not Cause.CORRUPT:
            self._doomed.pop(fingerprint, None)
        self._hold(fingerprint)

    def release(self, fingerprint: Fingerprint) -> None:
        """One hold less."""
        holds = self._holds.get(fingerprint, 0)
        if not holds:
            raise RuntimeError(f"released more often than held: {fingerprint}")
        if holds > 1:
            self._holds[fingerprint] = holds - 1
        else:
            del self._holds[fingerprint]
        entry = self._ledger.entries.get(fingerprint)
        if entry is not None:
            self._ledger.release(entry)
            if fingerprint in self._doomed and not entry.holds:
                self._take_out(fingerprint, self._doomed[fingerprint])

    def _hold(self, fingerprint: Fingerprint) -> None:
        self._holds[fingerprint] = self._holds.get(fingerprint, 0) + 1
        entry = self._ledger.entries.get(fingerprint)
        if entry is not None:
            entry.holds += 1

    @contextmanager
    def _held(self, fingerprint: Fingerprint) -> Iterator[None]:
        """A hold of our own while files are touched: unlike a caller's, it does not say that they are wanted."""
        self._hold(fingerprint)
        try:
            yield
        finally:
            self.release(fingerprint)

    # What is learned

    def touch(self, fingerprint: Fingerprint, now_s: float) -> None:
        """Note a use. An unknown fingerprint is fine."""
        if fingerprint in self._ledger.entries:
            self._recency.touch(fingerprint, now_s)

    def demote(self, fingerprint: Fingerprint) -> None:
        """Let it go before all that was ever used. An unknown fingerprint is fine."""
        if fingerprint in self._ledger.entries:
            self._recency.admit(fingerprint, NEVER_USED)

    def remember(
        self,
        fingerprint: Fingerprint,
        *,
        memory_bytes: int | None,
        runtime: str,
        signature: Signature,
        device_bytes: int | None = None,
    ) -> None:
        """Note what the last load measured; the tier's ``save`` writes it. An unknown fingerprint is fine."""
        entry = self._ledger.entries.get(fingerprint)
        if entry is None:
            return
        known = entry.value.record
        measured = (memory_bytes, device_bytes, runtime, signature)
        if (known.memory_bytes, known.device_bytes, known.runtime, known.signature) != measured:
            entry.value.record = replace(
                known,
                memory_bytes=memory_bytes,
                device_bytes=device_bytes,
                runtime=runtime,
                signature=signature,
            )
            self._dirty.add(fingerprint)

    # Coming and going

    def _adopt(self, version: DiskVersion, used_s: float) -> None:
        """Enter what was found at start; called oldest first."""
        fingerprint = version.record.fingerprint
        entry = self._ledger.adopt(fingerprint, version, Weight(bytes=version.record.bytes))
        entry.holds = self._holds.get(fingerprint, 0)
        self._recency.admit(fingerprint, used_s)

    def _enter(self, reservation: Reservation[Fingerprint], version: DiskVersion, now_s: float) -> bool:
        """Turn a granted reservation into the entry; False if another copy came meanwhile, which then stays."""
        fingerprint = reservation.key
        if self.lookup(fingerprint) is not None:
            return False
        self._take_out(fingerprint, Cause.CORRUPT)
        self._ledger.resize(reservation, Weight(bytes=version.record.bytes))
        entry = self._ledger.commit(reservation, version)
        entry.holds = self._holds.get(fingerprint, 0)
        self._recency.touch(fingerprint, now_s)
        return True

    def evict(self, fingerprint: Fingerprint, cause: Cause) -> bool:
        """Let a version go: now, or when its holds end. Returns False if it is not on disk."""
        entry = self._ledger.entries.get(fingerprint)
        if entry is None:
            return False
        if not entry.holds:
            self._take_out(fingerprint, cause)
        elif self._doomed.get(fingerprint) is not Cause.CORRUPT:
            self._doomed[fingerprint] = cause
        return True

    def _take_out(self, fingerprint: Fingerprint, cause: Cause) -> None:
        """Out of the books at once, whoever holds it: the holds pass to the copy that comes next."""
        self._doomed.pop(fingerprint, None)
        self._recency.remove(fingerprint)
        entry = self._ledger.evict(fingerprint, cause)
        if entry is not None:
            entry.holds = 0

    def _choose(self, wanted_bytes: int) -> tuple[list[Fingerprint], int]:
        """Least recently used versions of so many bytes, as far as they are free to go; and their bytes."""
        chosen: list[Fingerprint] = []
        total = 0
        for fingerprint in self._recency.victims():
            entry = self._ledger.entries[fingerprint]
            if total < wanted_bytes and entry.weight.bytes and not entry.holds:
                chosen.append(fingerprint)
                total += entry.weight.bytes
        return chosen, total

    def _advance(self) -> list[Entry[Fingerprint, DiskVersion]]:
        """Grant what can be granted; return what is to be deleted now."""
        ready = self._ledger.advance()
        for entry in ready:
            if entry.key not in self._ledger.entries:
                self._recency.remove(entry.key)
        return ready
