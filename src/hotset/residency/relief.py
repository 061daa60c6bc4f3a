"""Who leaves memory because real memory is short: in the machine, or beside a prediction that ran out of it.

The guard calls it, and the data plane; who goes is chosen by the pure rules of ``pressure``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from hotset.clock import Clock
from hotset.events import Cause
from hotset.keys import ModelKey, ModelRef
from hotset.residency.arrival import Arrival, MemoryEntry, Occupant
from hotset.residency.departure import Departure
from hotset.residency.flight import Flight, Flights
from hotset.residency.pressure import to_relieve, to_shed
from hotset.tiers.memory import MemoryTier
from hotset.workers.base import Worker
from hotset.workers.pool import WorkerPool


class Relief:
    """Owned by the event loop. ``shed``, ``relieve`` and ``refuse_loads`` at any time; ``close`` last."""

    def __init__(
        self,
        *,
        memory: MemoryTier[Occupant],
        pool: WorkerPool,
        arrival: Arrival,
        departure: Departure,
        clock: Clock,
    ) -> None:
        self._memory = memory
        self._pool = pool
        self._arrival = arrival
        self._departure = departure
        self._clock = clock
        self._under_way: Flights[int, None, None] = Flights(
            share=lambda _, done: done, give_back=lambda _: None
        )

    @property
    def held_bytes(self) -> int:
        """What the weights of all models in memory add up to."""
        return self._memory.usage.bytes

    def refuse_loads(self, refuse: Callable[[], None] | None) -> None:
        """From now on ``refuse``, which raises, is called in the place of each load; None: load again."""
        self._arrival.refuse = refuse

    def shed(self, wanted_bytes: int) -> int:
        """Real memory is short: begin to unload, by recency; what is leaving counts. Returns the bytes that leave now."""
        wanted_bytes -= sum(entry.weight.bytes for entry in self._memory.draining())
        chosen = to_shed(((place, place.weight.bytes) for place in self._idle()), wanted_bytes)
        for place in chosen:
            self._memory.drop(place, Cause.PRESSURE)
        return sum(place.weight.bytes for place in chosen)

    async def quiet(self) -> None:
        """Return when nothing is being unloaded."""
        await self._departure.quiet()

    async def relieve(self, key: ModelKey, *, deadline_s: float) -> None:
        """A prediction of ``key`` ran out of memory: unload some of what lies idle beside it, at most till then.

        Predictions that run out of memory at the same time in the same worker share one relief.
        """
        entry = self._memory.find(ModelRef(*key))
        if entry is None:
            return
        workers = [place.value.resident.worker for place in (entry, *entry.copies)]
        now_s = self._clock.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, deadline_s - now_s)):
                for worker in workers:  # where there are several, nobody has said which of them it was
                    await self._under_way.join(worker.id, partial(self._relieve, worker, key), now_s=now_s)

    async def close(self) -> None:
        await self._under_way.close()

    async def _relieve(self, worker: Worker, but: ModelKey, _flight: Flight[None, None]) -> None:
        here = [place for place in self._idle() if self._is_near(place, worker) and place.key != but]
        await self._departure.unload_places(to_relieve(here), Cause.PRESSURE)

    def _idle(self) -> Iterator[MemoryEntry]:
        """Yield whoever may go, in order: copies first. All are told before anything is changed."""
        idle = (*(copy for copy in self._memory.copies() if not copy.holds), *self._memory.idle())
        return iter(idle)

    def _is_near(self, place: MemoryEntry, worker: Worker) -> bool:
        """Whether it takes of the memory that ran out: it is in that worker, or on the same device. Where the worker holds one
        model alone, that is the machine's, and so is what others take of it."""
        at, devices = place.value.resident.worker, self._arrival.devices
        if devices is None:
            return at is worker or not self._pool.is_shared(worker.id)
        return at is worker or devices.is_beside(place, at.id, worker.id)
