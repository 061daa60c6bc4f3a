"""The way of one version into memory: store → disk → room → worker → entry. The work of a flight's leader.

The manager starts it through a flight, so it runs once at a time for a version; versions run side by side.
Whatever ends it early (a failure, a cancellation) leaves nothing behind: no room, no hold, no model in a worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from hotset.catalog import VersionEntry
from hotset.clock import Clock
from hotset.errors import (
    ErrorKind,
    HotsetError,
    LoadFailedError,
    OverloadedError,
    UnavailableError,
    WorkerDiedError,
)
from hotset.events import Cause, EventBus, Fetched, FetchFailed, Loaded
from hotset.keys import ModelKey
from hotset.limits import Limits
from hotset.residency.churn import ChurnGuard
from hotset.residency.devices import Devices
from hotset.residency.fetch import Fetcher
from hotset.residency.flight import Flight
from hotset.residency.state import Phase
from hotset.residency.turns import Turn, Turns
from hotset.signing.verifier import Verifier
from hotset.tiers.disk import DiskTier
from hotset.tiers.ledger import Entry, Reservation, Weight
from hotset.tiers.memory import MemoryTier
from hotset.tiers.record import DiskRecord
from hotset.workers.pool import Resident, WorkerPool

Estimate: TypeAlias = Callable[[DiskRecord], int]
"""What a version is expected to weigh in memory, in bytes, before it was ever measured."""


TURNS_PER_LOAD: Final = 2
"""While some load, room is made for as many others: a worker that ends a load finds the next one waiting."""

_MOST_DEATHS: Final = 2
"""So many workers may end while they load a version before it is taken for what killed them."""

_MOST_LOSSES: Final = 6
"""So many workers may end while they load a version and are at another, which ends them: that one is soon quarantined."""

_MOST_YIELDS: Final = 2
"""How often a load that needs more room than it asked for makes way; the weight is known from the first time on."""


@dataclass(frozen=True, slots=True, eq=False)
class Occupant:
    """What stands behind an entry of the memory tier: which files, where they are loaded, how they came."""

    version: VersionEntry
    resident: Resident
    tier: str
    fetch_s: float
    load_s: float


@dataclass(frozen=True, slots=True)
class _Behind:
    """Models that leave a worker, whose room is taken by the one that is loaded there behind them."""

    worker: int
    handles: tuple[int, ...]


class _Room:
    """Room that is spoken for in memory; a context manager, which gives it up at the end unless it became an entry.

    Owned by one flight.
    """

    __slots__ = ("_memory", "_waiter", "reservation")

    def __init__(self, memory: MemoryTier[Occupant], key: ModelKey, weight: Weight) -> None:
        self._memory = memory
        self._waiter: asyncio.Future[None] | None = None
        self.reservation: Reservation[ModelKey] = memory.reserve(key, weight, self._on_granted)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._memory.cancel(self.reservation)
        del self.reservation  # which has this in its callback

    def _on_granted(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def granted(self) -> None:
        """Return when the room is there."""
        while not self.reservation.is_granted:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


MemoryEntry: TypeAlias = Entry[ModelKey, Occupant]


class Arrival:
    """Owned by the event loop; stateless between calls."""

    def __init__(
        self,
        *,
        disk: DiskTier,
        memory: MemoryTier[Occupant],
        fetcher: Fetcher,
        pool: WorkerPool,
        estimate: Estimate,
        clock: Clock,
        events: EventBus,
        parallel_loads: int,
        room_timeout_s: float,
        waits_for_room: bool = True,
        verifier: Verifier | None = None,
    ) -> None:
        """``room_timeout_s`` is how long a load waits for leases to end before it gives up. With
        ``verifier`` nothing is loaded that was not signed.

        Without ``waits_for_room`` it gives up at once where that would be waiting for leases to end.
        """
        self._disk = disk
        self._memory = memory
        self._fetcher = fetcher
        self._pool = pool
        self._estimate = estimate
        self._clock = clock
        self._events = events
        self._turns = Turns(parallel_loads * TURNS_PER_LOAD)
        self.room_timeout_s = room_timeout_s
        self._limits = Limits()
        self._waits_for_room = waits_for_room
        self._verifier = verifier
        self.churn: ChurnGuard | None = None
        """Where one is set: what holds loads back while all that is in memory is in use, or was a moment ago."""
        self.devices: Devices | None = None
        """Where the replica has devices: which of them each version is loaded on."""
        self.refuse: Callable[[], None] | None = None
        """Raises, while nothing is loaded because memory is short."""

    async def bring(self, version: VersionEntry, flight: Flight[Any, Any]) -> MemoryEntry:
        """Return the version's entry in memory, committed and not leased yet.

        Raises:
            StoreError, CapacityError, OverloadedError, LoadFailedError
        """
        if self.refuse is not None:
            self.refuse()
        self._disk.hold(version.fingerprint)
        try:
            try:
                return await self._bring(version, flight)
            except LoadFailedError as error:
                if error.kind is not ErrorKind.FILES_DAMAGED:
                    raise
                # Whatever happened to the files on disk: those in the store are whole.
                self._disk.evict(version.fingerprint, Cause.CORRUPT)
                return await self._bring(version, flight)
        except BaseException:
            self._disk.release(version.fingerprint)
            raise
        finally:
            if self.devices is not None:
                self.devices.forget(version.key)

    def has_nothing_to_ask(self, version: VersionEntry) -> bool:
        """Whether what is on disk may be loaded as it is: memory is not short, and a signature that is asked for was seen."""
        if self.refuse is not None:
            return False
        return self._verifier is None or self._verifier.is_good(version.key, version.fingerprint)

    def measured(self, resident: Resident) -> Weight:
        """Return what was loaded takes."""
        if resident.reply.device_bytes and self.devices is not None:
            return self.devices.measured(resident)
        return Weight(bytes=resident.reply.bytes)

    def expected_bytes(self, version: VersionEntry) -> int:
        """Return what the version weighed in memory last time, else an estimate from its files, else their size."""
        record = self._disk.lookup(version.fingerprint)
        if record is None:
            return version.bytes
        return record.memory_bytes if record.memory_bytes is not None else self._estimate(record)

    async def _bring(self, version: VersionEntry, flight: Flight[Any, Any]) -> MemoryEntry:
        on_disk = self._disk.lookup(version.fingerprint) is not None
        fetch_s = None if on_disk else await self._fetch(version, flight)
        if self._verifier is not None:
            if not on_disk:
                self._verifier.forget(version.fingerprint)
            await self._verify(self._verifier, version)
        return await self._into_memory(version, flight, fetch_s)

    async def _fetch(self, version: VersionEntry, flight: Flight[Any, Any]) -> float:
        """Return the seconds that it took."""
        flight.phase = Phase.FETCHING
        began_s = self._clock.monotonic()
        try:
            fetched = await self._fetcher.fetch(version)
        except HotsetError as error:
            took_s = self._clock.monotonic() - began_s
            self._events.publish(FetchFailed(version.key, error.kind, str(error), took_s))
            raise
        self._events.publish(Fetched(version.key, fetched.bytes, fetched.objects, fetched.seconds))
        return fetched.seconds

    async def _verify(self, verifier: Verifier, version: VersionEntry) -> None:
        record = self._disk.lookup(version.fingerprint)
        if record is None:
            return  # the load says so
        path = Path(self._disk.files_at(version.fingerprint))
        files = (file.path for file in record.files)
        try:
            await verifier.verify(version.key, version.fingerprint, path, files)
        except LoadFailedError as error:
            if error.kind is ErrorKind.TAMPERED:
                # Here or in the store: the next attempt looks at what the store has then.
                self._disk.evict(version.fingerprint, Cause.CORRUPT)
            raise

    async def _into_memory(
        self, version: VersionEntry, flight: Flight[Any, Any], fetch_s: float | None
    ) -> MemoryEntry:
        for _ in range(_MOST_YIELDS):
            entry = await self._try_memory(version, flight, fetch_s, yields=True)
            if entry is not None:
                return entry
        entry = await self._try_memory(version, flight, fetch_s, yields=False)
        assert entry is not None
        return entry

    async def _try_memory(
        self, version: VersionEntry, flight: Flight[Any, Any], fetch_s: float | None, *, yields: bool
    ) -> MemoryEntry | None:
        """Return the entry; or None if it ``yields``: it weighs more than expected, and there is no room for that."""
        expected = self.expected_bytes(version)
        weight = (
            Weight(bytes=expected) if self.devices is None else await self.devices.weigh(version, expected)
        )
        flight.phase = Phase.LOADING
        async with self._turns.turn() as turn:
            if self.churn is not None:
                flight.phase = Phase.WAITING_FOR_ROOM
                await self.churn.passed(version.key, weight, turn)
                flight.phase = Phase.LOADING
            with _Room(self._memory, version.key, weight) as room:
                behind = await self._granted(room, flight, turn)
                began_s = self._clock.monotonic()
                try:
                    resident = await self._load(version, expected, behind)
                except OverloadedError:
                    if behind is None:
                        raise
                    await self._stand_back(room)
                    began_s = self._clock.monotonic()
                    resident = await self._load(version, expected, None)
                load_s = self._clock.monotonic() - began_s
                turn.give_up()
                if not await self._has_its_room(version, resident, room, yields=yields):
                    return None
                return self._commit(version, resident, room.reservation, fetch_s, load_s)

    async def _load(self, version: VersionEntry, expected_bytes: int, behind: _Behind | None) -> Resident:
        record = self._disk.lookup(version.fingerprint)
        if record is None:
            raise LoadFailedError(
                f"another model that shares the files of {version.key} found them damaged",
                kind=ErrorKind.FILES_DAMAGED,
            )
        path = self._disk.files_at(version.fingerprint)
        deaths = losses = 0
        while True:
            try:
                return await self._pool.load(
                    version.key,
                    path,
                    expected_bytes=expected_bytes,
                    weight=record.memory_bytes,
                    files=record.files,
                    worker=None if behind is None else behind.worker,
                    after=() if behind is None else behind.handles,
                )
            except WorkerDiedError as error:
                behind = None  # what was to leave there is gone too
                losses += 1
                deaths += error.is_suspect  # the first may be another model's fault all the same
                if deaths >= _MOST_DEATHS or losses >= _MOST_LOSSES:
                    raise LoadFailedError(
                        f"the worker ended while it loaded {version.key}: {error}"
                    ) from error

    async def _has_its_room(
        self, version: VersionEntry, resident: Resident, room: _Room, *, yields: bool
    ) -> bool:
        """Whether there is room for the measured weight; if not, the model was unloaded again.

        With ``yields`` it does not wait for leases to end: two that each hold a part of what the other lacks would
        wait for each other, and what is loaded beyond its reservation is memory that nobody has granted.
        """
        reply, devices = resident.reply, self.devices
        self._disk.remember(
            version.fingerprint,
            memory_bytes=None if reply.is_estimate else reply.bytes,
            runtime=reply.runtime,
            signature=reply.signature,
            device_bytes=None if devices is None else reply.device_bytes,
        )
        weight = Weight(bytes=reply.bytes) if devices is None else devices.measured(resident)
        try:
            has_room = await self._resize(room, weight, yields=yields)
        except BaseException:
            await asyncio.shield(self._pool.unload(resident))
            raise
        if not has_room:
            await asyncio.shield(self._pool.unload(resident))
        return has_room

    def _commit(
        self,
        version: VersionEntry,
        resident: Resident,
        reservation: Reservation[ModelKey],
        fetch_s: float | None,
        load_s: float,
    ) -> MemoryEntry:
        if not self._pool.is_up(resident.worker):
            # It had loaded, so its files are not to blame: not remembered as a failure of the version.
            raise UnavailableError(
                f"the worker ended just after it loaded {version.key}", kind=ErrorKind.WORKER_DIED
            )
        reply = resident.reply
        occupant = Occupant(
            version=version,
            resident=resident,
            tier="disk" if fetch_s is None else "store",
            fetch_s=fetch_s or 0.0,
            load_s=load_s,
        )
        entry = self._memory.commit(reservation, occupant)
        self._events.publish(Loaded(version.key, resident.worker.id, reply.runtime, reply.bytes, load_s))
        return entry

    async def _granted(self, room: _Room, flight: Flight[Any, Any], turn: Turn) -> _Behind | None:
        """Return when the room is there, or will be there behind those who leave a worker.

        If that needs leases to end, others may load meanwhile.
        """
        self._memory.pump()
        if not self._waits_for_room:
            self._refuse_to_wait(room)
        if not room.reservation.is_promised:
            flight.phase = Phase.WAITING_FOR_ROOM
            turn.give_up()
            await self._until_granted(room)
            await turn.take()
            flight.phase = Phase.LOADING
        elif not room.reservation.is_granted:
            behind = self._behind(room)
            if behind is not None:
                return behind
        await self._until_granted(room)
        return None

    def _behind(self, room: _Room) -> _Behind | None:
        """Have the room granted at once where it is only a load behind unloads away, in the order of one worker.

        That saves the way there and back, on which both would wait for nothing but each other.
        """
        leaving: dict[int, list[MemoryEntry]] = {}
        for entry in self._memory.draining():
            leaving.setdefault(entry.value.resident.worker.id, []).append(entry)
        for worker, entries in leaving.items():
            reservation = room.reservation
            if not self._pool.suits(reservation.key, worker, expected_bytes=reservation.weight.bytes):
                continue
            if self._memory.grant_behind(room.reservation, entries):
                handles = [entry.value.resident.handle for entry in room.reservation.behind]
                return _Behind(worker, tuple(handles))
        return None

    async def _stand_back(self, room: _Room) -> None:
        """Wait for the room as others do: a model that had to leave before is used by a prediction that nobody waits for."""
        self._memory.stand_back(room.reservation)
        await self._until_granted(room)

    async def _resize(self, room: _Room, weight: Weight, *, yields: bool) -> bool:
        self._memory.resize(room.reservation, weight)
        if not room.reservation.is_granted:
            self._memory.pump()
            if yields and not room.reservation.is_promised:
                return False
            if not self._waits_for_room:
                self._refuse_to_wait(room)
            await self._until_granted(room)
        return True

    def _refuse_to_wait(self, room: _Room) -> None:
        """Raise if the room is there only once leases end: of what is in memory, or is on its way out of it."""
        asked = room.reservation
        if not asked.is_promised or (not asked.is_granted and self._memory.is_held_up):
            raise no_room(asked.key, asked.weight.bytes, "has to stay")

    async def _until_granted(self, room: _Room) -> None:
        if room.reservation.is_granted:
            return
        try:
            with self._limits.within(self.room_timeout_s):
                await room.granted()
        except TimeoutError as error:
            why = f"is in use; expected room within {self.room_timeout_s:g} s"
            asked = room.reservation
            raise no_room(asked.key, asked.weight.bytes, why) from error


def no_room(key: ModelKey, bytes_: int, why: str) -> OverloadedError:
    """Return the error of a load that did not get its room."""
    return OverloadedError(
        f"no room for {key}: it needs {bytes_} bytes, and all that is in memory {why}",
        kind=ErrorKind.NO_ROOM,
    )
