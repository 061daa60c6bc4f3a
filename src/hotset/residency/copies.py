"""Copies: a model whose queue stays long is loaded into another worker as well, or moves there, and back.

``run`` looks at the queues many times a second; ``spread`` says what follows, and it is done here, one thing at a
time. A copy takes only room that nobody else wants, pushes nothing out, and is the first to go when room is needed.
Requests know nothing of it: the memory tier gives each the place with the fewest leases.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from hotset.catalog import VersionEntry
from hotset.clock import Clock
from hotset.errors import CapacityError, HotsetError, LoadFailedError
from hotset.events import Cause, Copied, CopyFailed, EventBus
from hotset.keys import ModelKey, ModelRef
from hotset.residency.arrival import MemoryEntry, Occupant
from hotset.residency.devices import Devices
from hotset.residency.failures import Failures
from hotset.residency.spread import (
    NEGLIGIBLE,
    Copy,
    Demand,
    Drop,
    Means,
    Moment,
    Move,
    Step,
    averaged,
    next_step,
)
from hotset.tiers.disk import DiskTier
from hotset.tiers.ledger import Reservation, Weight
from hotset.tiers.memory import MemoryTier
from hotset.workers.pool import Resident, WorkerPool

LOOK_S: Final = 0.1
FAILURE_FIRST_S: Final = 60.0
FAILURE_MOST_S: Final = 3600.0


class Copies:
    """Owned by the event loop. ``run`` or ``look`` until ``close``, which undoes a copy that is on its way."""

    def __init__(
        self,
        *,
        memory: MemoryTier[Occupant],
        disk: DiskTier,
        pool: WorkerPool,
        offered: Callable[[ModelKey], VersionEntry | None],
        clock: Clock,
        events: EventBus,
        threads: int = 1,
        most_copies: int | None = None,
        busy_s: Callable[[], float] | None = None,
    ) -> None:
        """``offered`` is what the store has under a key now; ``threads`` how many calls a worker runs at once.

        ``most_copies`` None means: one in every worker. ``busy_s`` is how long the event loop has been busy so far.
        """
        self._memory = memory
        self._disk = disk
        self._pool = pool
        self._offered = offered
        self._clock = clock
        self._events = events
        self._threads = threads
        self.most_copies: Final = (
            pool.size - 1 if most_copies is None else max(0, min(most_copies, pool.size - 1))
        )
        self._busy_s = busy_s if busy_s is not None else thread_busy_s
        self._failures = Failures(first_s=FAILURE_FIRST_S, most_s=FAILURE_MOST_S)
        self._means: Means | None = None
        self.devices: Devices | None = None
        """Where the replica has devices: what a copy takes of which."""
        self._task: asyncio.Task[None] | None = None
        self.holds_back: Callable[[], bool] = lambda: False
        """Whether nothing is copied now, as memory is short."""

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look, and act, until cancelled. Returns at once where there is nowhere to copy to."""
        while self.most_copies:
            await sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Take the queues of this moment into the means, and begin what follows from them."""
        self._means = averaged(self._means, self._moment(), threads=self._threads)
        if self._task is None and not self.holds_back():
            step = next_step(self._means, most_copies=self.most_copies, barred=self._barred())
            if step is not None:
                self.take(step)

    def take(self, step: Step) -> asyncio.Task[None] | None:
        """Begin a step, if it can still be taken; the task of a load."""
        entry = self._memory.find(ModelRef(*step.key))
        if entry is None or self._task is not None:
            return None
        if isinstance(step, Drop):
            if entry.copies:
                self._memory.drop(entry.copies[-1], Cause.IDLE)
            return None
        return self._begin(entry, step)

    async def close(self) -> None:
        """Undo the copy that is on its way; begin no other."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    # Looking

    def _moment(self) -> Moment:
        workers = {worker.id: worker.queued for worker in self._pool.workers}
        return Moment(
            now_s=self._clock.monotonic(),
            gateway_s=self._busy_s(),
            workers=workers,
            models=self._demands(is_busy=any(queued > 1 for queued in workers.values())),
        )

    def _demands(self, *, is_busy: bool) -> dict[ModelKey, Demand]:
        """The models in use where a call waits, those that were in use of late, and those with copies."""
        found = [entry for entry in self._memory.entries() if entry.holds] if is_busy else []
        late = self._means.models.items() if self._means is not None else ()
        keys = {key for key, mean in late if mean.queue >= NEGLIGIBLE}
        keys.update(copy.key for copy in self._memory.copies())
        keys.difference_update(entry.key for entry in found)
        more = (self._memory.find(ModelRef(*key)) for key in keys)
        found += (entry for entry in more if entry is not None)
        return {entry.key: _demand(entry) for entry in found}

    def _barred(self) -> frozenset[ModelKey]:
        barred = self._failures.keys(self._clock.monotonic())
        for key in barred:
            if self._memory.find(ModelRef(*key)) is None:
                self._failures.forget(key)
        return barred

    # Acting

    def _begin(self, entry: MemoryEntry, step: Copy | Move) -> asyncio.Task[None] | None:
        version = entry.value.version
        offered = self._offered(version.key)
        if (
            offered is None
            or offered.fingerprint != version.fingerprint
            or step.worker in _workers(entry)
            or (self.devices is not None and not self.devices.suits(version, step.worker))
            or not self._memory.has_free_room(weight := self._weight_at(entry, step.worker))
        ):
            return None
        self._task = asyncio.create_task(
            self._bring(version, weight, step), name=f"copy {version.key} to worker {step.worker}"
        )
        self._task.add_done_callback(self._ended)
        return self._task

    def _weight_at(self, entry: MemoryEntry, worker: int) -> Weight:
        return entry.weight if self.devices is None else self.devices.moved(entry.weight, worker)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._task = None

    async def _bring(self, version: VersionEntry, weight: Weight, step: Copy | Move) -> None:
        began_s = self._clock.monotonic()
        try:
            is_in = await self._copy(version, weight, step.worker, began_s)
        except HotsetError as error:
            now_s = self._clock.monotonic()
            failure = self._failures.note(version.key, version.fingerprint, error, now_s)
            retry_in_s = failure.retry_at_s - now_s
            self._events.publish(
                CopyFailed(version.key, step.worker, error.kind, str(error), retry_in_s, now_s - began_s)
            )
            return
        if is_in and isinstance(step, Move):
            self._leave_behind(version.key, step.worker)

    async def _copy(self, version: VersionEntry, weight: Weight, worker: int, began_s: float) -> bool:
        """Load a copy; False if there is no room for it, or nothing any more that it is a copy of."""
        reservation = self._memory.reserve_copy(version.key, weight)
        if reservation is None:
            return False
        self._disk.hold(version.fingerprint)
        is_in = False
        try:
            resident = await self._load(version, reservation, worker)
            try:
                is_in = self._enter(version, reservation, resident, self._clock.monotonic() - began_s)
            finally:
                if not is_in:
                    await asyncio.shield(self._pool.unload(resident))
        finally:
            if not is_in:
                self._disk.release(version.fingerprint)
                self._memory.cancel(reservation)
        return is_in

    async def _load(self, version: VersionEntry, reservation: Reservation[ModelKey], worker: int) -> Resident:
        record = self._disk.lookup(version.fingerprint)
        if record is None:
            raise LoadFailedError(f"the files of {version.key} are not on disk any more")
        return await self._pool.load(
            version.key,
            self._disk.files_at(version.fingerprint),
            expected_bytes=reservation.weight.bytes,
            weight=record.memory_bytes,
            files=record.files,
            worker=worker,
        )

    def _enter(
        self, version: VersionEntry, reservation: Reservation[ModelKey], resident: Resident, took_s: float
    ) -> bool:
        """Whether what was loaded is in the tier now: not if what it is a copy of has left, or its worker has died.

        Raises:
            CapacityError: it weighs more than expected, and there is no free room for that.
        """
        entry = self._memory.find(ModelRef(*version.key))
        if (
            entry is None
            or entry.value.version.fingerprint != version.fingerprint
            or resident.worker not in self._pool.workers
            or resident.worker.id in _workers(entry)
        ):
            return False
        weight = Weight(bytes=resident.reply.bytes)
        if self.devices is not None:
            weight = self.devices.measured(resident)
        if not self._memory.resize_copy(reservation, weight):
            raise CapacityError(f"no free room for a copy of {version.key}: it needs {weight.bytes} bytes")
        occupant = Occupant(version=version, resident=resident, tier="disk", fetch_s=0.0, load_s=took_s)
        self._memory.commit_copy(reservation, occupant)
        self._failures.forget(version.key)
        self._events.publish(Copied(version.key, resident.worker.id, resident.reply.bytes, took_s))
        return True

    def _leave_behind(self, key: ModelKey, worker: int) -> None:
        """Unload what was moved where it was."""
        entry = self._memory.find(ModelRef(*key))
        if entry is not None and entry.copies and entry.value.resident.worker.id != worker:
            self._memory.drop(entry, Cause.MOVED)


def thread_busy_s(schedule: Path = Path("/proc/thread-self/schedstat")) -> float:
    """Return for how long this thread has run so far or, where the system tells, waited for a processor to run on."""
    try:
        ran, waited, _ = schedule.read_bytes().split()
    except (OSError, ValueError):
        return time.thread_time()
    return (int(ran) + int(waited)) / 1e9


def _workers(entry: MemoryEntry) -> tuple[int, ...]:
    return tuple(it.value.resident.worker.id for it in (entry, *entry.copies))


def _demand(entry: MemoryEntry) -> Demand:
    places = (entry, *entry.copies)
    return Demand(
        queued=sum(place.holds for place in places),
        used=sum(place.uses for place in places),
        workers=_workers(entry),
    )
