"""A worker died: its models leave memory at once, and come back by recency, pinned as they were.

The manager hands it the deaths that the pool reports. They are told in the same step in which the worker's calls
fail, so a request that is tried again finds the entry gone and waits for the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hotset.catalog import VersionEntry
from hotset.events import Cause
from hotset.keys import ModelKey, ModelRef
from hotset.residency.arrival import MemoryEntry, Occupant
from hotset.tiers.memory import MemoryTier


class Reload:
    """Owned by the event loop. ``worker_lost``, then ``arrived`` for whatever comes back, or ``forget``."""

    def __init__(
        self,
        *,
        memory: MemoryTier[Occupant],
        offered: Callable[[ModelRef], VersionEntry | None],
        start_load: Callable[[VersionEntry], bool],
    ) -> None:
        """``offered`` says what a word means in the store now; ``start_load`` is False if it may not be tried now."""
        self._memory = memory
        self._offered = offered
        self._start_load = start_load
        self._pins: set[ModelKey] = set()

    def worker_lost(self, worker: int) -> int:
        """Forget what was in a worker and load it again, the most recently used first; return how much it was.

        What is in another worker as well stays in memory there.
        """
        spared = self._drop_copies(worker)
        lost = {
            entry.key: entry for entry in self._memory.entries() if entry.value.resident.worker.id == worker
        }
        words = [
            word
            for word in self._memory.by_recency()
            if (entry := self._memory.find(word[0])) and entry.key in lost
        ]
        self._take_out(lost.values())
        for ref, used_s in words:
            self._memory.admit(ref, used_s)
        for ref, _ in reversed(words):
            version = self._offered(ref)
            if version is None or not self._start_load(version):
                self._memory.forget_unused(ref)
        for key in self._pins & lost.keys():
            version = self._offered(ModelRef(*key))
            if version is not None:
                self._start_load(version)
        return len(lost) + spared

    def arrived(self, key: ModelKey) -> None:
        """A version is in memory; if it was pinned before its worker died, it is again."""
        if key in self._pins:
            self._pins.discard(key)
            self._memory.pin(key, pinned=True)

    def forget(self, keys: Iterable[ModelKey]) -> None:
        """These are not to be pinned when they come back: unpinned, unloaded or deleted meanwhile."""
        self._pins.difference_update(keys)

    def _drop_copies(self, worker: int) -> int:
        """Drop what was in this worker of all that is in others too; return how much it was."""
        firsts = {copy.key: self._memory.find(ModelRef(*copy.key)) for copy in self._memory.copies()}
        places = [place for first in firsts.values() if first for place in (first, *first.copies)]
        dropped = [place for place in places if place.value.resident.worker.id == worker]
        for place in dropped:
            self._memory.drop(place, Cause.WORKER_DIED)
        return len(dropped)

    def _take_out(self, entries: Iterable[MemoryEntry]) -> None:
        for entry in entries:
            if entry.pinned:
                self._pins.add(entry.key)
            self._memory.evict(entry.key, Cause.WORKER_DIED)
