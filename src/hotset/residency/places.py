"""A version in a certain worker: for handlers, whose models have to be in the process in which they run.

What is in memory in another worker only is loaded here too, as a copy that has a weight and leases of its own. Unlike
``copies``, which spreads hot models where room is free, this makes room for it, and no copy goes while it is leased.
Nothing here waits for leases to end: where that would be needed there is no room, and ``handlers`` decides who gives way.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final, TypeAlias

from hotset.catalog import VersionEntry
from hotset.clock import Clock
from hotset.errors import ErrorKind, LoadFailedError, OverloadedError, UnavailableError, WorkerDiedError
from hotset.events import Cause, Copied, EventBus, Loaded
from hotset.keys import ModelKey, ModelRef
from hotset.residency.arrival import MemoryEntry, Occupant
from hotset.residency.flight import Flight, Flights
from hotset.residency.lease import ModelLease
from hotset.residency.manager import Manager
from hotset.tiers.ledger import Reservation, Weight
from hotset.workers.base import Worker
from hotset.workers.pool import Resident

_Place: TypeAlias = tuple[ModelKey, int]

MOST_TRIES: Final = 8
"""So often a version may leave memory, or come into another worker, while it is on its way into this one."""

GRANT_LIMIT_S: Final = 60.0
"""So long the unloads under way may take whose room was promised."""


class Places:
    """Owned by the event loop. Leases may be taken until ``close``, and are given back with ``let_go``."""

    def __init__(self, manager: Manager, *, clock: Clock, events: EventBus) -> None:
        self._manager = manager
        self._memory = manager.memory
        self._clock = clock
        self._events = events
        self._flights: Flights[_Place, MemoryEntry, ModelLease] = Flights(
            share=self._share, give_back=self.let_go
        )

    @property
    def loading(self) -> int:
        """Copies on their way."""
        return len(self._flights)

    def lease_now(self, ref: ModelRef, worker: Worker) -> ModelLease | None:
        """Lease what is in memory in this worker and note the use; None if it is not."""
        entry = self._memory.find(ref)
        if entry is None:
            return None
        for place in (entry, *entry.copies):
            if place.value.resident.worker is worker:
                self._memory.touch(ref, self._clock.monotonic())
                lease = self.kept(ModelLease(self._memory.lease_entry(place), "memory", 0.0, 0.0))
                if self._manager.rollover.is_outdated(ref.name):
                    self._manager.rollover.load_newer(ref)
                return lease
        return None

    async def lease(self, ref: ModelRef, worker: Worker, *, deadline_s: float) -> ModelLease:
        """Fetch and load into this worker as needed, then lease.

        Raises:
            HotsetError: as ``Manager.lease``; ``OverloadedError`` of the kind ``NO_ROOM``, at once, where leases would
                have to end first.
        """
        for _ in range(MOST_TRIES):
            lease = self.lease_now(ref, worker)
            if lease is not None:
                return lease
            if worker not in self._manager.pool.workers:
                raise WorkerDiedError(
                    f"worker {worker.id} ended before it was given {ref}"
                )  # the next one has its id
            try:
                lease = await self._brought(ref, worker, deadline_s)
            except OverloadedError as error:
                if error.kind is not ErrorKind.NO_ROOM or not self.drop_idle_twin():
                    raise
            if lease is not None and lease.entry.value.resident.worker is worker:
                return lease
            if lease is not None:
                self.let_go(lease)
        raise OverloadedError(
            f"{ref} left memory as often as it was loaded; try again", kind=ErrorKind.NO_ROOM
        )

    def kept(self, lease: ModelLease) -> ModelLease:
        """Return a lease whose place is no victim while it lasts, also where it is a copy."""
        lease.entry.pinned = lease.entry.pinned or lease.entry.is_copy
        return lease

    def let_go(self, lease: ModelLease) -> None:
        """Give back a lease that was ``kept``."""
        entry = lease.entry
        lease.release()
        if entry.is_copy and not entry.holds:
            entry.pinned = False

    async def close(self) -> None:
        """End every load."""
        await self._flights.close()

    # Bringing

    async def _brought(self, ref: ModelRef, worker: Worker, deadline_s: float) -> ModelLease:
        """Return a lease on the version, most often in this worker."""
        entry = self._memory.find(ref)
        if entry is not None:
            return await self._copy(entry.value.version, worker, deadline_s)
        version = await self._manager.offer.resolve(ref, deadline_s=deadline_s)
        wishes = self._manager.pool.wishes
        wishes[version.key] = worker.id
        try:
            return self.kept(await self._manager.lease(ref, deadline_s=deadline_s))
        finally:
            wishes.pop(version.key, None)

    async def _copy(self, version: VersionEntry, worker: Worker, deadline_s: float) -> ModelLease:
        now_s = self._clock.monotonic()
        place = (version.key, worker.id)
        waiter = self._flights.wait(
            place,
            partial(self._bring, version, worker),
            now_s=now_s,
            limit_s=deadline_s - now_s,
            late=lambda: UnavailableError(
                f"{version.key} is still being loaded into worker {worker.id}; try again",
                kind=ErrorKind.LOADING,
            ),
        )
        return await self._flights.share_of(place, waiter)

    def _share(self, _place: _Place, entry: MemoryEntry) -> ModelLease:
        lease = self._memory.lease_entry(entry)
        return self.kept(ModelLease(lease, "disk", 0.0, entry.value.load_s))

    async def _bring(
        self, version: VersionEntry, worker: Worker, _flight: Flight[MemoryEntry, ModelLease]
    ) -> MemoryEntry:
        began_s = self._clock.monotonic()
        disk, memory = self._manager.disk, self._memory
        granted = asyncio.Event()
        weight = self._manager.expected_weight(version, at=worker.id)
        reservation = memory.reserve(version.key, weight, granted.set)
        disk.hold(version.fingerprint)
        is_ours = False
        try:
            await self._granted(reservation, granted)
            resident = await self._load(version, worker, weight)
            try:
                measured = self._manager.measured(resident)
                if measured != weight:
                    granted.clear()
                    memory.resize(reservation, measured)
                    await self._granted(reservation, granted)
                entry = self._enter(version, reservation, resident, self._clock.monotonic() - began_s)
                is_ours = entry.value.resident is resident
            finally:
                if not is_ours:
                    await asyncio.shield(self._manager.pool.unload(resident))
        finally:
            memory.cancel(reservation)
            if not is_ours:
                disk.release(version.fingerprint)
        return entry

    async def _load(self, version: VersionEntry, worker: Worker, weight: Weight) -> Resident:
        record = self._manager.disk.lookup(version.fingerprint)
        if record is None:
            raise LoadFailedError(f"the files of {version.key} are not on disk any more; try again")
        return await self._manager.pool.load(
            version.key,
            self._manager.disk.files_at(version.fingerprint),
            expected_bytes=weight.bytes,
            weight=record.memory_bytes,
            files=record.files,
            worker=worker.id,
        )

    async def _granted(self, reservation: Reservation[ModelKey], granted: asyncio.Event) -> None:
        """Return when the room is there; what is being unloaded is waited for, and leases are not."""
        if reservation.is_granted:
            return
        self._memory.pump()
        if not reservation.is_promised or (not reservation.is_granted and self._memory.is_held_up):
            raise _no_room(reservation)
        try:
            async with asyncio.timeout(GRANT_LIMIT_S):
                while not reservation.is_granted:
                    granted.clear()
                    await granted.wait()
        except TimeoutError as error:
            raise _no_room(reservation) from error

    def _enter(
        self, version: VersionEntry, reservation: Reservation[ModelKey], resident: Resident, took_s: float
    ) -> MemoryEntry:
        """Return the place of what was loaded: another where that is of no use by now."""
        if resident.worker not in self._manager.pool.workers:
            raise UnavailableError(
                f"the worker ended just after it loaded {version.key}", kind=ErrorKind.WORKER_DIED
            )
        occupant = Occupant(version=version, resident=resident, tier="disk", fetch_s=0.0, load_s=took_s)
        first = self._memory.entry(version.key)
        if first is None:
            return self._enter_anew(reservation, occupant)
        if first.value.version.fingerprint != version.fingerprint:
            return first  # its files have changed meanwhile, and those came into memory elsewhere
        for place in (first, *first.copies):
            if place.value.resident.worker is resident.worker:
                return place
        copy = self._memory.commit_copy(reservation, occupant)
        self._events.publish(Copied(version.key, resident.worker.id, resident.reply.bytes, took_s))
        return copy

    def _enter_anew(self, reservation: Reservation[ModelKey], occupant: Occupant) -> MemoryEntry:
        """What it would have been a copy of has left meanwhile."""
        key, reply = occupant.version.key, occupant.resident.reply
        entry = self._memory.commit(reservation, occupant)
        worker = occupant.resident.worker.id
        self._events.publish(Loaded(key, worker, reply.runtime, reply.bytes, occupant.load_s))
        self._manager.rollover.follow(key.name)
        if self._manager.catalog.version(key) is None:
            asyncio.get_running_loop().call_soon(self._memory.evict, key, Cause.DELETED)
        return entry

    def drop_idle_twin(self) -> bool:
        """Whether a place could be given up that nobody uses, of a version that is in use in another."""
        for copy in self._memory.copies():
            first = self._memory.entry(copy.key)
            places = () if first is None else (first, *first.copies)
            idle = [place for place in places if not place.holds and not (place.pinned and not place.is_copy)]
            if idle and len(idle) < len(places):
                self._memory.drop(idle[-1], Cause.CAPACITY)
                return True
        return False

    def make_up_for_leaving(self) -> bool:
        """Whether something could be evicted for what is on its way out and still leased.

        The ledger promises room without that, as if it were gone: its files have changed while a handler has it, say.
        """
        if not any(entry.holds for entry in self._memory.draining()):
            return False
        oldest = next(self._memory.idle(), None)
        return oldest is not None and self._memory.evict(oldest.key, Cause.CAPACITY)


def _no_room(reservation: Reservation[ModelKey]) -> OverloadedError:
    return OverloadedError(
        f"no room for {reservation.key}: it needs {reservation.weight.bytes} bytes, and all that is in memory is in use",
        kind=ErrorKind.NO_ROOM,
    )
