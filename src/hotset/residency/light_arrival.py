"""The way into memory of what is light: one order to a worker, in which it takes the places of idle models.

A model of a few kilobytes is loaded in a tenth of a millisecond; what is done around a load costs several times as much. So
what is on disk, and was light before, gets its entry, and its requests their leases, in the step in which its room is granted:
the order to unload whom it takes the place of and to load it goes to the worker ahead of those requests, on their channel.
Where that was wrong (files damaged, a place still in use) the entry is withdrawn; its requests come back, and go the usual way:
``arrival``. The manager calls it, for flights without a task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from hotset.catalog import VersionEntry
from hotset.clock import Clock
from hotset.errors import CapacityError, OverloadedError
from hotset.events import EventBus, Loaded
from hotset.keys import ModelKey
from hotset.limits import Waits, loop_time_s
from hotset.residency.arrival import MemoryEntry, Occupant, no_room
from hotset.residency.departure import Departure
from hotset.tiers.books import Entry
from hotset.tiers.disk import DiskTier
from hotset.tiers.ledger import Reservation, Weight
from hotset.tiers.memory import MemoryTier
from hotset.tiers.record import DiskRecord
from hotset.workers.base import LoadReply, Swapped, Worker
from hotset.workers.pool import WorkerPool

MOST_ON_THE_WAY: Final = 3
"""So many are asked of a worker ahead of its answers: it is never idle, and the others wait where more requests join them."""


@dataclass(frozen=True, slots=True)
class Landing:
    """What becomes of an arrival that was begun: one of these, once, at once or later; none after it was cancelled."""

    landed: Callable[[MemoryEntry], None]
    failed: Callable[[OverloadedError], None]
    usual: Callable[[], None]
    """It has to go the usual way after all."""


class _Coming:
    """One version on its way. Owned by one arrival."""

    __slots__ = ("began_s", "behind", "entry", "landing", "record", "reply", "room", "version", "worker")

    def __init__(self, version: VersionEntry, record: DiskRecord, reply: LoadReply, landing: Landing) -> None:
        self.version = version
        self.record = record
        self.reply = reply
        self.landing: Landing | None = landing
        """None once it has landed, or does not come this way."""
        self.room: Reservation[ModelKey] | None = None
        """While it is asked for: its callbacks have this, and nothing is to wait for the collector."""
        self.worker: Worker | None = None
        self.entry: MemoryEntry
        self.behind: tuple[MemoryEntry, ...] = ()
        self.began_s = 0.0


class LightArrival:
    """Owned by the event loop. ``begin``, and what it returned to cancel it. It has no tasks, and nothing to close."""

    def __init__(
        self,
        *,
        disk: DiskTier,
        memory: MemoryTier[Occupant],
        pool: WorkerPool,
        departure: Departure,
        clock: Clock,
        events: EventBus,
        room_timeout_s: float,
        may_come: Callable[[VersionEntry], bool],
    ) -> None:
        """``room_timeout_s`` is how long a version waits for leases to end before it gives up.

        ``may_come`` says whether nothing has to be asked before a load; else the usual way asks, and says why not.
        """
        self._disk = disk
        self._memory = memory
        self._pool = pool
        self._departure = departure
        self._clock = clock
        self._events = events
        self._room_timeout_s = room_timeout_s
        self._may_come = may_come
        self._waiting: Waits[_Coming, None] = Waits(self._too_late)
        self._queue: deque[_Coming] = deque()
        self._on_the_way = 0

    def begin(self, version: VersionEntry, landing: Landing) -> Callable[[], None] | None:
        """Bring in what is on disk and light. Returns what cancels that; None, and nothing was begun, if it is not."""
        if not self._pool.is_light(version.key) or not self._may_come(version):
            return None
        record = self._disk.lookup(version.fingerprint)
        if (
            record is None
            or record.memory_bytes is None
            or record.runtime is None
            or record.signature is None
        ):
            return None
        if record.device_bytes:
            return None  # somebody has to choose a device for it
        reply = LoadReply(record.runtime, record.memory_bytes, record.signature, is_light=True)
        coming = _Coming(version, record, reply, landing)
        self._disk.hold(version.fingerprint)
        self._queue.append(coming)
        self._go_on()
        if coming.landing is not None:
            self._waiting.add(coming, loop_time_s() + self._room_timeout_s, None)
        return partial(self._cancel, coming)

    def _go_on(self) -> None:
        """Ask for room for those whose turn it is."""
        while self._queue and self._on_the_way < MOST_ON_THE_WAY:
            coming = self._queue.popleft()
            if coming.landing is not None:
                self._ask(coming)

    def _ask(self, coming: _Coming) -> None:
        if not self._may_come(coming.version):
            self._end(coming).usual()  # things have changed while it waited for its turn
            return
        weight = Weight(bytes=coming.reply.bytes)
        granted, takes = partial(self._granted, coming), partial(self._takes, coming)
        try:
            coming.room = self._memory.reserve(coming.version.key, weight, granted, takes=takes)
        except CapacityError:
            self._end(coming).usual()  # which has the words for it
        else:
            self._on_the_way += 1
            self._memory.pump()

    def _takes(self, coming: _Coming, leaving: Sequence[Entry[ModelKey, Any]]) -> bool:
        """Whether these can leave in the order that loads it: all of them light, in one worker, and it may be there."""
        worker = leaving[0].value.resident.worker
        if not self._pool.may_swap(coming.version.key, worker):
            return False
        for entry in leaving:
            if entry.value.resident.worker is not worker or not self._pool.is_light(entry.key):
                return False
        coming.worker = worker
        return True

    def _granted(self, coming: _Coming) -> None:
        """Its room is there, or will be in the order of its worker."""
        worker = coming.worker or self._pool.swapper(coming.version.key)
        if worker is None:
            self._end(coming).usual()
            return
        version, reply, room = coming.version, coming.reply, coming.room
        assert room is not None
        behind = coming.behind = room.behind
        coming.began_s = self._clock.monotonic()
        resident = self._pool.swap(
            version.key,
            self._disk.files_at(version.fingerprint),
            reply,
            files=coming.record.files,
            worker=worker,
            leaving=[entry.value.resident for entry in behind],
            then=partial(self._swapped, coming),
        )
        self._departure.leave_with(behind)
        coming.entry = self._memory.enter(room, Occupant(version, resident, "disk", 0.0, 0.0))
        coming.room = None
        self._waiting.drop(coming)
        landing, coming.landing = coming.landing, None
        assert landing is not None
        landing.landed(coming.entry)

    def _swapped(self, coming: _Coming, outcome: Swapped | None) -> None:
        """The worker has carried out the order, or refused it, or has ended: None."""
        entry, behind = coming.entry, coming.behind
        if outcome is None or outcome.are_gone:
            self._departure.have_left(behind)
        if outcome is None:
            self._memory.settle(entry)
        elif outcome.is_loaded:
            self._memory.settle(entry)
            worker, reply = entry.value.resident.worker, coming.reply
            seconds = self._clock.monotonic() - coming.began_s
            self._events.publish(Loaded(entry.key, worker.id, reply.runtime, reply.bytes, seconds))
        else:
            self._memory.withdraw(entry)
            if not outcome.are_gone:
                self._departure.unload_after_all(behind)
        self._on_the_way -= 1
        self._go_on()

    def _too_late(self, coming: _Coming, _: None) -> None:
        key, need = coming.version.key, coming.reply.bytes
        why = f"is in use; expected room within {self._room_timeout_s:g} s"
        self._end(coming).failed(no_room(key, need, why))

    def _cancel(self, coming: _Coming) -> None:
        """Nothing is left behind of what waits for room; what has it goes on."""
        if coming.landing is not None:
            self._end(coming)

    def _end(self, coming: _Coming) -> Landing:
        """It does not come this way."""
        landing, coming.landing = coming.landing, None
        assert landing is not None
        self._waiting.drop(coming)
        self._disk.release(coming.version.fingerprint)
        if coming.room is not None:
            self._memory.cancel(coming.room)
            coming.room = None
            self._on_the_way -= 1
            self._go_on()
        return landing
