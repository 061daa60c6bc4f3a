"""The workers of a replica: how many, on which devices, where their processes come from, and what these import ahead of loads.

One worker is made in ``worker.py``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from hotset.assembly.ground import Ground
from hotset.assembly.worker import WorkerMaker
from hotset.catalog import Snapshot
from hotset.config import Settings
from hotset.devices import VISIBLE, Assignment, DeviceDriver, assign, name_of
from hotset.events import Loaded
from hotset.nvml import Nvml
from hotset.own_processes import own_processes
from hotset.residency.frameworks import Frameworks
from hotset.runtimes.ahead import imports_for_predictor
from hotset.shared.extents import whole_grains
from hotset.shared.room import Room
from hotset.tiers.record import DiskRecord
from hotset.units import format_bytes
from hotset.workers.base import MakeWorker, Want, WantHandler, Word, no_models
from hotset.workers.forking import ForkServer
from hotset.workers.headstart import StartedServer
from hotset.workers.pool import WorkerPool

FRAMEWORKS_LIMIT_S: Final = 1.0
"""Workers start without imported frameworks if nothing is known of the models by then."""

_logger: Final = logging.getLogger(__name__)

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class Workforce:
    """Owned by the event loop. ``start`` → ``learn`` once the first snapshot is in force → ``close``."""

    def __init__(
        self,
        ground: Ground,
        *,
        make_worker: MakeWorker | None,
        forks: StartedServer | None,
        driver: DeviceDriver | None,
    ) -> None:
        """``make_worker`` None: as the settings say. ``forks`` is a fork server that runs already. ``driver`` None: NVIDIA's.

        Raises:
            ConfigError: a device that the settings name is not there.
        """
        self._ground = ground
        settings = ground.settings
        has_children = make_worker is None and settings.processes_per_replica > 0
        self.count: Final = _worker_count(settings, has_children=has_children)
        self.processes: Final = self.count if has_children else 0
        """How many processes models share; none: they live in the gateway."""
        self.devices: Final = _devices(settings, driver)
        self.room: Final = _room_for_payloads(settings)
        """Where bodies are that the gateway and its processes share."""
        self.on_want: WantHandler = no_models
        """Called when a handler in a worker asks for a model; the composition root sets it where there may be one."""
        self._children = ForkServer(limit_s=settings.start_timeout, started=forks) if has_children else None
        self.pool: Final = self._pool(make_worker or self._maker())
        self._frameworks = Frameworks(self.pool, store=ground.store)

    def _maker(self) -> WorkerMaker:
        return WorkerMaker(
            self._ground.settings,
            room=self.room,
            devices=self.devices,
            children=self._children,
            on_want=self._wanted,
        )

    def _pool(self, make_worker: MakeWorker) -> WorkerPool:
        settings = self._ground.settings
        return WorkerPool(
            make_worker,
            count=self.count,
            serving=max(1, settings.processes_per_replica),
            own=own_processes(settings, self._children),
            may_swap=_may_swap(self._ground),
            presumes_light=settings.predictor is None,
            clock=self._ground.clock,
            events=self._ground.events,
            hang_s=settings.load_timeout,
            children=self._children,
        )

    def _wanted(self, want: Want, give: Callable[[Word], None]) -> None:
        self.on_want(want, give)

    @property
    def device_bytes(self) -> tuple[int, ...]:
        """How much of each device is for models."""
        if self.devices is None:
            return ()
        size = self._ground.settings.model_cache_size
        return self.devices.capacities(None if size is None else size.device_bytes, workers=self.count)

    def pids(self) -> list[int]:
        """Return the processes of this server."""
        workers = [status.pid for status in self.pool.statuses()]
        forks = None if self._children is None else self._children.pid
        return [os.getpid(), *(pid for pid in (*workers, forks) if pid is not None)]

    async def start(self, records: Iterable[DiskRecord], spawn: Spawn) -> None:
        """Have the frameworks imported that are known to be needed, and the workers started behind that.

        Only a predictor is waited for, as it may not fit: requests can be taken before the workers are up.

        Raises:
            ConfigError: the predictor does not fit.
            WorkerDiedError: a child did not start.
        """
        if self.room is not None:
            self.room.open()
        predictor = self._ground.settings.predictor
        if predictor is not None:
            self._frameworks.need(imports_for_predictor(Path(predictor)))
        else:
            self._frameworks.see_files(file.path for record in records for file in record.files)
            self._ground.events.subscribe(self._frameworks.on_event, Loaded)
        if self._children is None or predictor is not None:
            await self.pool.start()
        else:
            self.pool.open(spawn(self._learned(), "frameworks"))

    async def learn(self, snapshot: Snapshot) -> None:
        """Have imported what the models in the store need, unless a predictor imports by itself."""
        if self._ground.settings.predictor is None:
            await self._frameworks.look_at(snapshot)

    async def close(self) -> None:
        """Stop the workers, which ends every call of theirs."""
        await self.pool.close()
        if self.room is not None:
            self.room.close()

    async def _learned(self) -> None:
        """Return when the frameworks are known, or could be known by now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FRAMEWORKS_LIMIT_S):
                await self._frameworks.settled.wait()


def _worker_count(settings: Settings, *, has_children: bool) -> int:
    """One more than was asked for, unless a handler runs there: its models have to be where its requests are.

    None where each model gets one of its own.
    """
    if settings.isolation == "own":
        return 0
    has_one_more = has_children and settings.isolation == "auto" and settings.cortex is None
    return max(1, settings.processes_per_replica) + has_one_more


def _devices(settings: Settings, driver: DeviceDriver | None) -> Assignment | None:
    """Those that workers are bound to; the log says which, as a machine may have some that are not used."""
    places = settings.devices.places
    if places == () or settings.processes_per_replica == 0:
        return None
    found = assign(
        places,
        Nvml() if driver is None else driver,
        said=os.environ.get(VISIBLE),
        processes=settings.processes_per_replica,
    )
    for place, device in enumerate(() if found is None else found.devices):
        free = format_bytes(device.free_bytes)
        _logger.info("%s is %s, with %s free", name_of(place), device.id, free)
    return found


def _room_for_payloads(settings: Settings) -> Room | None:
    if settings.processes_per_replica == 0 or settings.shared_memory_size == 0:
        return None
    return Room(whole_grains(max(settings.shared_memory_size, settings.max_body_size)))


def _may_swap(ground: Ground) -> bool:
    """Not where others than requests say what is in memory, nor where loads are held back to keep what was used a moment ago."""
    settings = ground.settings
    return bool(settings.processes_per_replica) and ground.requests_decide and not settings.min_churn_age
