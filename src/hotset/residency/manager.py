"""The residency manager: what joins the catalog, the tiers, the store and the workers. The life of a request.

A request names a model. What is in memory is leased at once. What is not is resolved in the catalog, joins the
flight that brings it in, and is leased in the step in which the flight ends. The sync loop hands new snapshots to
``apply``; the doors reach all of this through the data plane. Nothing here is slow: every decision is made in one
step of the event loop, and fetching, loading and unloading are awaited outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from hotset.catalog import Catalog, VersionEntry
from hotset.clock import Clock
from hotset.devices import Assignment
from hotset.errors import (
    CapacityError,
    ErrorKind,
    HotsetError,
    LoadFailedError,
    LoadingError,
    OverloadedError,
    StoreError,
    UnavailableError,
)
from hotset.events import Cause, EventBus, LoadFailed, Quarantined
from hotset.keys import LATEST, ModelKey, ModelRef
from hotset.residency.arrival import Arrival, MemoryEntry, Occupant
from hotset.residency.copies import Copies
from hotset.residency.departure import Departure
from hotset.residency.devices import Devices
from hotset.residency.failures import Failures
from hotset.residency.flight import Flight, Flights
from hotset.residency.lease import ModelLease
from hotset.residency.light_arrival import Landing, LightArrival
from hotset.residency.lookup import Lookup
from hotset.residency.offer import Offer
from hotset.residency.quarantine import Quarantine
from hotset.residency.relief import Relief
from hotset.residency.reload import Reload
from hotset.residency.rollover import Rollover
from hotset.residency.state import Phase
from hotset.store import ObjectChangedError
from hotset.tiers.disk import DiskTier
from hotset.tiers.ledger import Weight
from hotset.tiers.memory import MemoryTier
from hotset.workers.pool import Resident, WorkerPool

STORE_PAUSE_S: Final = 1.0
MOST_STORE_PAUSE_S: Final = 30.0
"""What nobody waits for is not asked of a store again sooner that has not given it, unless a pass over the store goes well."""


class Manager:
    """Owned by the event loop. ``close`` ends flights and unloads everything; leases must be released before."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        disk: DiskTier,
        memory: MemoryTier[Occupant],
        arrival: Arrival,
        pool: WorkerPool,
        lookup: Lookup | None,
        failures: Failures,
        clock: Clock,
        events: EventBus,
        is_static: bool = False,
        threads: int = 1,
        most_copies: int | None = None,
    ) -> None:
        """``lookup`` None means that a name which is not in the catalog is not looked for in the store.

        ``threads`` is how many calls a worker runs at once; for ``most_copies`` see ``Copies``.
        """
        self.catalog: Final = catalog
        self.disk: Final = disk
        self.memory: Final = memory
        self.pool: Final = pool
        self.failures: Final = failures
        self.is_static: Final = is_static
        self._ahead = Failures(first_s=STORE_PAUSE_S, most_s=MOST_STORE_PAUSE_S)
        self._arrival = arrival
        self._clock = clock
        self._events = events
        self.flights: Final[Flights[ModelKey, MemoryEntry, ModelLease]] = Flights(
            share=self._share, give_back=ModelLease.release
        )
        self.rollover: Final = Rollover(
            catalog=catalog,
            memory=memory,
            failures=failures,
            start_load=self.start_load,
            clock=clock,
            events=events,
        )
        self._departure = Departure(disk=disk, memory=memory, pool=pool, clock=clock, events=events)
        self._light = LightArrival(
            disk=disk,
            memory=memory,
            pool=pool,
            departure=self._departure,
            clock=clock,
            events=events,
            room_timeout_s=arrival.room_timeout_s,
            may_come=arrival.has_nothing_to_ask,
        )
        self._reload = Reload(memory=memory, offered=self.rollover.offered, start_load=self.start_load)
        self.copies: Final = Copies(
            memory=memory,
            disk=disk,
            pool=pool,
            offered=catalog.version,
            clock=clock,
            events=events,
            threads=threads,
            most_copies=most_copies,
        )
        self.relief: Final = Relief(
            memory=memory, pool=pool, arrival=arrival, departure=self._departure, clock=clock
        )
        self.quarantine: Final = Quarantine()
        self.offer: Final = Offer(
            catalog=catalog,
            disk=disk,
            memory=memory,
            lookup=lookup,
            rollover=self.rollover,
            reload=self._reload,
            failures=failures,
            ahead=self._ahead,
            quarantine=self.quarantine,
            clock=clock,
            is_static=is_static,
        )
        self._quarantined: list[ModelKey] = []
        pool.on_suspects = self._suspect
        pool.on_lost = self._worker_lost

    # A request

    def lease_now(self, ref: ModelRef) -> ModelLease | None:
        """Lease what is in memory and note the use; None if it is not, or if only ``lease`` can tell."""
        if self.is_static and ref.version != LATEST:
            return None
        lease = self.memory.lease(ref, self._clock.monotonic())
        if lease is None:
            return None
        if self.rollover.is_outdated(ref.name):
            self.rollover.load_newer(ref)
        return ModelLease(lease, "memory", 0.0, 0.0)

    async def lease(self, ref: ModelRef, *, deadline_s: float) -> ModelLease:
        """Fetch and load as needed, then lease.

        Raises:
            HotsetError: with ``key`` set once the ref was resolved; ``LoadingError`` at the deadline, and then
                the load goes on, so that the retry finds it.
        """
        version = await self.offer.resolve(ref, deadline_s=deadline_s)
        try:
            return await self._lease_version(ref, version, deadline_s)
        except HotsetError as error:
            error.key = version.key
            return await self.lease_instead(ref, error, deadline_s=deadline_s)

    def lease_soon(self, ref: ModelRef, *, deadline_s: float) -> asyncio.Future[ModelLease] | None:
        """Join the flight of a version that is plainly missing, in no task; None if only ``lease`` can tell.

        Who cancels the future gets no lease; else the lease is to be released. It fails as ``lease`` would, except that
        nothing was tried in the place of what could not be loaded: that is ``lease_instead``.
        """
        if self.is_static and ref.version != LATEST:
            return None
        if self.memory.has_any_of(ref.name) or self.offer.is_stale(ref.name):
            return None
        version = self.rollover.offered(ref)
        if version is None or self.failures.get(version.key, version.fingerprint) is not None:
            return None
        return self._join(ref, version, deadline_s)

    async def lease_instead(self, ref: ModelRef, failed: HotsetError, *, deadline_s: float) -> ModelLease:
        """Lease what answers for ``ref`` in the place of the version that has just failed.

        Raises:
            HotsetError: ``failed`` itself, if nothing does.
        """
        older = self._older(ref, failed)
        if older is None:
            try:
                raise failed
            finally:
                del failed  # which has this frame from now on
        try:
            return await self._lease_version(ref, older, deadline_s)
        except HotsetError as error:
            error.key = older.key
            raise

    def _older(self, ref: ModelRef, error: HotsetError) -> VersionEntry | None:
        """What answers for a word instead: the newest that loads, that the store has, or while it is away, that is on disk."""
        if error.key is None or not isinstance(error, (LoadFailedError, CapacityError, StoreError)):
            return None
        failed = ModelKey(*error.key)
        if not isinstance(error, StoreError):
            return self.rollover.fallback(ref, failed)
        earlier = self.rollover.earlier(ref, failed)
        if isinstance(error, ObjectChangedError):
            return next(earlier, None)  # the store is there, and has lost this one alone
        usable = (it for it in earlier if self.disk.lookup(it.fingerprint) is not None)
        return next(usable, None)

    async def _lease_version(self, ref: ModelRef, version: VersionEntry, deadline_s: float) -> ModelLease:
        # A version that was loaded by its number may be what latest means by now.
        self.rollover.follow(ref.name)
        ready = self.lease_now(ref)
        if ready is not None:
            return ready
        self.failures.refuse(version.key, version.fingerprint, self._clock.monotonic())
        return await self.flights.share_of(version.key, self._join(ref, version, deadline_s))

    async def ensure_loaded(self, version: VersionEntry, *, deadline_s: float) -> None:
        """Return when these very files are in memory, also where older ones would answer meanwhile."""
        if not self.rollover.holds(version):
            self.failures.refuse(version.key, version.fingerprint, self._clock.monotonic())
            waiter = self._join(None, version, deadline_s)
            (await self.flights.share_of(version.key, waiter)).release()

    def check_may_load(self, version: VersionEntry) -> None:
        """Return if a load may be tried now.

        Raises:
            LoadFailedError, CapacityError: it failed lately, and the retry is not due.
        """
        self.failures.refuse(version.key, version.fingerprint, self._clock.monotonic())

    def expected_weight(self, version: VersionEntry, *, at: int | None = None) -> Weight:
        """Return what the version weighed in memory last time, or an estimate; of the device of the worker ``at``."""
        expected, devices = self._arrival.expected_bytes(version), self._arrival.devices
        if devices is None:
            return Weight(bytes=expected)
        weight = devices.expected(version, expected)
        return weight if at is None else devices.moved(weight, at)

    def use(self, devices: Assignment, *, has_predictor: bool) -> None:
        """Load where devices are, and count what is taken of each. Before the first load."""
        self._arrival.devices = self.copies.devices = Devices(
            devices, memory=self.memory, disk=self.disk, pool=self.pool, has_predictor=has_predictor
        )
        if self.pool.own is not None:
            self.pool.own.bounds = self.pool.bounds

    def measured(self, resident: Resident) -> Weight:
        """Return what was loaded takes."""
        return self._arrival.measured(resident)

    def _join(
        self, ref: ModelRef | None, version: VersionEntry, deadline_s: float
    ) -> asyncio.Future[ModelLease]:
        """Wait with others for a version; what ``ref`` was used is noted now, and when the lease is there."""
        now_s = self._clock.monotonic()
        if ref is not None:
            self.memory.touch(ref, now_s)
        waiter = self.flights.wait(
            version.key,
            partial(self._bring, version),
            now_s=now_s,
            limit_s=deadline_s - now_s,
            late=partial(self._too_late, version),
            launch=partial(self._launch, version),
        )
        if ref is not None:
            if waiter.done():
                self._answered(ref, waiter)
            else:
                waiter.add_done_callback(partial(self._answered, ref))
        return waiter

    def _answered(self, ref: ModelRef, waiter: asyncio.Future[ModelLease]) -> None:
        """Runs before whoever waits."""
        if waiter.cancelled() or waiter.exception() is not None:
            return
        self.rollover.answered(ref, waiter.result().key)
        self.memory.touch(ref, self._clock.monotonic())
        # It may have been deleted in the step between the flight's end and this one.
        self.memory.forget_unused(ref)

    def _too_late(self, version: VersionEntry) -> UnavailableError:
        flight = self.flights.get(version.key)
        phase = flight.phase if flight is not None else Phase.LOADING
        error: UnavailableError
        if phase == Phase.WAITING_FOR_ROOM:
            error = OverloadedError(
                f"no room for {version.key}: all that is in memory is in use", kind=ErrorKind.NO_ROOM
            )
        else:
            error = LoadingError(f"{version.key} is still {phase or Phase.LOADING}; it goes on, try again")
        error.key = version.key
        return error

    def _launch(self, version: VersionEntry, flight: Flight[MemoryEntry, ModelLease]) -> bool:
        """Begin a flight without a task, if the version is light."""
        if self.memory.has_any_of(version.key.name):
            return False
        landing = Landing(
            landed=partial(self._landed, version, flight),
            failed=partial(self._not_landed, version, flight),
            usual=partial(self.flights.go_on, version.key, flight, partial(self._bring, version)),
        )
        flight.phase = Phase.WAITING_FOR_ROOM
        cancel = self._light.begin(version, landing)
        if cancel is not None and flight.task is None and version.key in self.flights:
            flight.cancel = cancel  # else it has landed, or goes the usual way
        return cancel is not None

    def _landed(
        self, version: VersionEntry, flight: Flight[MemoryEntry, ModelLease], entry: MemoryEntry
    ) -> None:
        self._arrived(version)
        self.flights.land(version.key, flight, entry)

    def _not_landed(
        self, version: VersionEntry, flight: Flight[MemoryEntry, ModelLease], error: HotsetError
    ) -> None:
        self._missed(version, error, flight.started_s)
        self.flights.fail(version.key, flight, error)

    async def _bring(self, version: VersionEntry, flight: Flight[MemoryEntry, ModelLease]) -> MemoryEntry:
        """The work of a flight: bring the version into memory, remember how that ended, let latest move."""
        began_s = self._clock.monotonic()
        try:
            entry = await self._arrival.bring(version, flight)
        except BaseException as error:
            self._missed(version, error, began_s)
            raise
        self._arrived(version)
        return entry

    def _missed(self, version: VersionEntry, error: BaseException, began_s: float) -> None:
        self.memory.forget_words(version.key)
        if isinstance(error, HotsetError):
            error.key = version.key
            self._note_failure(version, error, began_s)

    def _arrived(self, version: VersionEntry) -> None:
        """It is in memory: those who have waited for it follow in this very step."""
        self.failures.forget(version.key)
        self._ahead.forget(version.key)
        self._reload.arrived(version.key)
        self.rollover.follow(version.key.name)
        self.memory.forget_words(version.key)
        if self.catalog.version(version.key) is None:
            # Deleted meanwhile: it answers those who wait, and no one else.
            asyncio.get_running_loop().call_soon(self.memory.evict, version.key, Cause.DELETED)

    def _share(self, _key: ModelKey, entry: MemoryEntry) -> ModelLease:
        occupant = entry.value
        lease = self.memory.lease_entry(entry)
        return ModelLease(lease, occupant.tier, occupant.fetch_s, occupant.load_s)

    def _note_failure(self, version: VersionEntry, error: HotsetError, began_s: float) -> None:
        now_s = self._clock.monotonic()
        retry_in_s = error.retry_after_s or 0.0
        offered = self.catalog.version(version.key)
        is_offered = offered is not None and offered.fingerprint == version.fingerprint
        if is_offered and not isinstance(error, UnavailableError):  # what passes by itself is not its fault
            failure = self.failures.note(version.key, version.fingerprint, error, now_s)
            retry_in_s = failure.retry_at_s - now_s
            error.retry_after_s = retry_in_s  # for those who wait for this load, as for those who ask later
        elif is_offered and isinstance(error, StoreError):
            self._ahead.note(version.key, version.fingerprint, error, now_s)
        self._events.publish(LoadFailed(version.key, error.kind, str(error), retry_in_s, now_s - began_s))

    # A worker dies

    def _suspect(self, keys: Sequence[ModelKey], reason: str) -> None:
        """A worker died while it was at these: one that was there too often is left alone for a while."""
        now_s = self._clock.monotonic()
        offered = {key: version for key in keys if (version := self.catalog.version(key)) is not None}
        worst = self.quarantine.note({key: it.fingerprint for key, it in offered.items()}, now_s)
        if worst is None:
            return
        error = LoadFailedError(
            f"{worst} is quarantined: one process after the other has ended while it was loaded or predicted, and the last one"
            f" {reason}; mend it and upload it anew",
            kind=ErrorKind.QUARANTINED,
        )
        times = self.quarantine.times(worst)
        failure = self.failures.note(worst, offered[worst].fingerprint, error, now_s, least=times)
        error.retry_after_s = failure.retry_at_s - now_s
        self._quarantined.append(worst)
        self._events.publish(Quarantined(worst, reason, error.retry_after_s))

    def _worker_lost(self, worker: int, _reason: str) -> int:
        lost = self._reload.worker_lost(worker)
        while self._quarantined:
            self.memory.evict(self._quarantined.pop(), Cause.WORKER_DIED)  # from other workers too
        return lost

    def start_load(self, version: VersionEntry) -> bool:
        """Load in the background; False if it failed lately and is not due for a retry."""
        now_s = self._clock.monotonic()
        for failures in (self.failures, self._ahead):
            failure = failures.get(version.key, version.fingerprint)
            if failure is not None and failure.retry_at_s > now_s:
                return False
        self.flights.start(version.key, partial(self._bring, version), now_s=now_s)
        return True

    def remember_label(self, ref: ModelRef, number: int) -> None:
        """A label meant this version before a restart; forgotten if the store has no such label any more."""
        self.rollover.labels.remember(ref, number)
        self.rollover.labels.forget_gone(ref.name, self.catalog.model(ref.name))

    # Leaving memory

    async def unload(self, keys: Iterable[ModelKey], cause: Cause, *, deadline_s: float) -> None:
        """Take versions out of memory; return when their memory was given back, after their leases end.

        Raises:
            LoadingError: they are still in use at the deadline; they leave all the same.
        """
        keys = tuple(keys)
        self._reload.forget(keys)
        try:
            async with asyncio.timeout(max(0.0, deadline_s - self._clock.monotonic())):
                await self._departure.unload(keys, cause)
        except TimeoutError as error:
            raise LoadingError("still in use; it is unloaded as soon as its requests have ended") from error

    async def quiet(self) -> None:
        """Return when nothing is being unloaded."""
        await self._departure.quiet()

    def pin(self, key: ModelKey, *, pinned: bool) -> bool:
        """A pinned version is no victim of capacity, until it is unpinned, unloaded or deleted. False: not in memory."""
        if not pinned:
            self._reload.forget([key])
        return self.memory.pin(key, pinned=pinned)

    async def close(self) -> None:
        """End every flight, unload everything and wait for it."""
        await self.flights.close()
        await self.copies.close()
        await self.relief.close()
        await self.offer.close()
        await self._departure.close()
