"""The guard of real memory: looks every second, and has models leave, or none come, before the system has to kill.

``run`` is a task of the replica. What a reading means is decided in ``watermarks``; here it is done. What is unloaded goes back
to the system only when the workers are told so, and a moment later: so free heap is given back before anything is evicted,
and after an eviction nothing is decided until it shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

from hotset.clock import Clock
from hotset.errors import ErrorKind, OverloadedError
from hotset.events import Event, EventBus, MemoryPressure, WorkerDied
from hotset.residency.memory_meter import MemoryMeter
from hotset.residency.watermarks import Level, MemoryReading, Verdict, Watermarks, judge
from hotset.status import MemoryStatus

LOOK_S: Final = 1.0
SETTLE_S: Final = 1.0
"""So long after it was told to, a worker has given free memory back."""
UNLOAD_LIMIT_S: Final = 5.0
STALL_MEMORY_S: Final = 10.0
"""Stalls are told as a mean over so long."""
RETRY_AFTER_S: Final = 5.0


class Shedding(Protocol):
    """What the guard asks of the manager."""

    @property
    def held_bytes(self) -> int:
        """What the weights of all models in memory add up to."""
        ...

    def shed(self, wanted_bytes: int) -> int:
        """Begin to unload, by recency, so that ``wanted_bytes`` come back; what is leaving already counts.

        Returns the bytes that leave now because of this.
        """
        ...

    def refuse_loads(self, refuse: Callable[[], None] | None) -> None:
        """From now on ``refuse``, which raises, is called in the place of each load; None: load again."""
        ...

    async def quiet(self) -> None:
        """Return when nothing is being unloaded."""
        ...


class MemoryGuard:
    """Owned by the event loop. ``run``, or ``look`` again and again."""

    def __init__(
        self,
        meter: MemoryMeter,
        marks: Watermarks,
        *,
        models: Shedding,
        trim: Callable[[], None],
        clock: Clock,
        events: EventBus,
        evicts: bool = True,
    ) -> None:
        """``trim`` has the workers give back to the system what is free. Without ``evicts`` no model has to leave."""
        self._meter = meter
        self._marks = marks
        self._models = models
        self._trim = trim
        self._clock = clock
        self._events = events
        self._evicts = evicts
        self._reading: MemoryReading | None = None
        self._level = Level.NORMAL
        self._is_evicting = False
        self._stalls_count_s = 0.0
        self._deaths = 0
        events.subscribe(self._worker_died, WorkerDied)

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look, and act, until cancelled."""
        while True:
            has_acted = await self.look()
            await sleep(LOOK_S + SETTLE_S if has_acted else LOOK_S)

    def _refuse(self) -> None:
        """Raise: a model was to be loaded, and memory is above the critical mark."""
        assert self._reading is not None
        raise OverloadedError(
            f"no model is loaded while memory is above memory_critical: {self._reading.taken_bytes} bytes are taken"
            f" of {self._reading.limit_bytes}, expected {self._marks.critical:.0%} at most; try again",
            kind=ErrorKind.MEMORY_PRESSURE,
            retry_after_s=RETRY_AFTER_S,
        )

    @property
    def is_short(self) -> bool:
        """Whether memory is above the high mark, or on its way from there to the low one."""
        return self._level is not Level.NORMAL

    async def look(self) -> bool:
        """Read, judge, act. Whether the next reading is worth something only after a moment."""
        self._reading = reading = await self._read()
        verdict = judge(
            reading,
            self._marks,
            was_evicting=self._is_evicting,
            models_bytes=self._models.held_bytes,
            stalls_count=self._clock.monotonic() >= self._stalls_count_s,
        )
        if not verdict.excess_bytes:
            self._is_evicting = False
            self._tell(verdict, reading, 0)
            return False
        shed_bytes = await self._relieve(verdict)
        self._tell(verdict, reading, shed_bytes)
        return True

    async def _read(self) -> MemoryReading:
        """Return what is true now: a reading during which a worker died is not."""
        while True:
            deaths = self._deaths
            reading = await asyncio.to_thread(self._meter.read)
            if deaths == self._deaths:
                return reading

    def _worker_died(self, _event: Event) -> None:
        """Its memory is back, and its models are to be loaded again at once: what was read before says nothing of now."""
        self._deaths += 1
        if self._level is Level.CRITICAL:
            self._level = Level.HIGH
            self._models.refuse_loads(None)

    async def _relieve(self, verdict: Verdict) -> int:
        """Give back what is free; evict too if that was done before, or nothing may be lost in waiting for it."""
        is_first = not self._is_evicting
        self._is_evicting = True
        shed_bytes = 0
        if self._evicts and (not is_first or verdict.is_stalled or verdict.level is Level.CRITICAL):
            shed_bytes = self._models.shed(verdict.excess_bytes)
            with suppress(TimeoutError):
                async with asyncio.timeout(UNLOAD_LIMIT_S):
                    await self._models.quiet()
        if verdict.is_stalled:
            self._is_evicting = False
            self._stalls_count_s = self._clock.monotonic() + STALL_MEMORY_S
        self._trim()
        return shed_bytes

    def _tell(self, verdict: Verdict, reading: MemoryReading, shed_bytes: int) -> None:
        before, self._level = self._level, verdict.level
        if before is not verdict.level:
            self._models.refuse_loads(self._refuse if verdict.level is Level.CRITICAL else None)
        if before is not verdict.level or shed_bytes:
            self._events.publish(
                MemoryPressure(
                    verdict.level, reading.taken_bytes, reading.limit_bytes, reading.stall, shed_bytes
                )
            )

    def status(self) -> MemoryStatus | None:
        """Return what was read last; None before the first time."""
        reading = self._reading
        if reading is None:
            return None
        return MemoryStatus(
            level=self._level.value,
            taken_bytes=reading.taken_bytes,
            limit_bytes=reading.limit_bytes,
            low_bytes=int(reading.limit_bytes * self._marks.low),
            high_bytes=int(reading.limit_bytes * self._marks.high),
            critical_bytes=int(reading.limit_bytes * self._marks.critical),
            stall_share=reading.stall,
        )
