"""The way out of memory: worker → room given back → the files' place in the disk tier. The counterpart of ``arrival``.

The memory tier decides who goes, and the pump has the worker unload whom it chose; there is no task for it. Nothing is
counted as free before the worker says that the memory came back.

What is in memory keeps its files on disk. Where the disk has no room because of that (its capacity may be that of
memory), the least recently used leave memory, one by one, until a fetch that waits has room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from hotset.clock import Clock
from hotset.events import Cause, CopyDropped, EventBus, Evicted, TierName
from hotset.keys import Fingerprint, ModelKey
from hotset.residency.arrival import MemoryEntry, Occupant
from hotset.tiers.books import NOTHING
from hotset.tiers.disk import DiskTier
from hotset.tiers.memory import MemoryTier
from hotset.workers.pool import WorkerPool


class Departure:
    """Owned by the event loop. ``close`` waits for the unloads under way."""

    def __init__(
        self,
        *,
        disk: DiskTier,
        memory: MemoryTier[Occupant],
        pool: WorkerPool,
        clock: Clock,
        events: EventBus,
    ) -> None:
        self._disk = disk
        self._memory = memory
        self._pool = pool
        self._clock = clock
        self._events = events
        self._unloading: dict[MemoryEntry, float] = {}
        self._is_quiet = asyncio.Event()
        self._gone: dict[MemoryEntry, asyncio.Event] = {}
        self._due: asyncio.Handle | None = None
        memory.wake = self._pump_soon
        memory.pump = self._pump
        disk.on_short = self._pump_soon

    async def unload(self, keys: Iterable[ModelKey], cause: Cause) -> None:
        """Take versions out of memory; return when their memory was given back, after their leases end.

        What is leaving already is waited for as well.
        """
        leaving = set(keys)
        for key in leaving:
            self._memory.evict(key, cause)
        await self._until_gone(entry for entry in self._memory.draining() if entry.key in leaving)

    async def unload_places(self, places: Iterable[MemoryEntry], cause: Cause) -> None:
        """Take some of the places out in which versions are; return when their memory was given back."""
        leaving = set(places)
        for place in leaving:
            self._memory.drop(place, cause)
        await self._until_gone(entry for entry in self._memory.draining() if entry in leaving)

    async def _until_gone(self, entries: Iterable[MemoryEntry]) -> None:
        waits = [self._gone.setdefault(entry, asyncio.Event()) for entry in entries]
        for gone in waits:
            await gone.wait()

    async def quiet(self) -> None:
        """Return when nothing is being unloaded."""
        self._pump()
        while self._unloading:
            self._is_quiet.clear()
            await self._is_quiet.wait()
            self._pump()

    async def close(self) -> None:
        """Unload all that is in memory and unleased, and wait for it."""
        for entry in self._memory.entries():
            self._memory.evict(entry.key, Cause.EXPLICIT)
        await self.quiet()

    def _pump_soon(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        for entry in self._memory.advance():
            self._unloading[entry] = self._clock.monotonic()
            self._pool.begin_unload(entry.value.resident, partial(self._unloaded, entry))
        self._ease_disk()

    def leave_with(self, entries: Iterable[MemoryEntry]) -> None:
        """These leave in the order that loads another one in their places; ``have_left`` or ``unload_after_all`` follows."""
        now_s = self._clock.monotonic()
        for entry in entries:
            self._unloading[entry] = now_s

    def have_left(self, entries: Iterable[MemoryEntry]) -> None:
        """Their worker has unloaded them, or has ended."""
        for entry in entries:
            self._unloaded(entry)

    def unload_after_all(self, entries: Iterable[MemoryEntry]) -> None:
        """The order in which they were to leave was refused."""
        for entry in entries:
            self._pool.begin_unload(entry.value.resident, partial(self._unloaded, entry))

    def _ease_disk(self) -> None:
        self._memory.is_wanted = self._disk.is_short
        if not self._disk.is_short or self._unloading:
            return  # what is being unloaded may be enough: the disk says so if it was not
        oldest = next(self._memory.idle(), None)
        if oldest is not None:
            self._memory.evict(oldest.key, Cause.CAPACITY)

    def _unloaded(self, entry: MemoryEntry) -> None:
        took_s = self._clock.monotonic() - self._unloading[entry]
        occupant, cause = entry.value, entry.cause or Cause.EXPLICIT
        self._leave_disk_behind(occupant.version.fingerprint, cause, is_copy=entry.is_copy)
        self._memory.freed(entry)
        gone = self._gone.pop(entry, None)
        if gone is not None:
            gone.set()
        if self._disk.is_short:
            # Behind the disk's own pump, so that nobody else is asked to leave if this was enough.
            asyncio.get_running_loop().call_soon(self._ended, entry)
        else:
            self._ended(entry)
            if self._memory.is_asked:
                self._pump()  # at once: a load waits for this room
        bytes_ = entry.weight.bytes
        if entry.weight is NOTHING:
            return  # it never came
        if entry.is_copy:
            worker = occupant.resident.worker.id
            self._events.publish(CopyDropped(entry.key, worker, cause, bytes_, took_s))
        else:
            self._events.publish(Evicted(TierName.MEMORY, entry.key, cause, bytes_, took_s))

    def _ended(self, entry: MemoryEntry) -> None:
        del self._unloading[entry]
        if not self._unloading:
            self._is_quiet.set()

    def _leave_disk_behind(self, fingerprint: Fingerprint, cause: Cause, *, is_copy: bool) -> None:
        self._disk.release(fingerprint)
        if is_copy:
            return  # what it is a copy of says when the version was used last
        if cause in {Cause.SUPERSEDED, Cause.DELETED}:
            self._disk.demote(fingerprint)
        else:
            # In the order in which they leave memory, so that the two tiers agree on what is older.
            self._disk.touch(fingerprint, self._clock.monotonic())
