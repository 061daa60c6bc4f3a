"""The composition root of one replica: settings become objects, which start bottom-up and stop top-down.

``server.py`` puts it behind a socket; an embedder runs it inside another process. Its parts are made in ``assembly``.
No decision is made here.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final

from hotset import body_limits
from hotset.api.auth import TokenGate
from hotset.assembly.doors import Doors
from hotset.assembly.ground import Ground
from hotset.assembly.hot_set import HotSet
from hotset.assembly.residency import Residency
from hotset.assembly.store_notices import StoreNotices
from hotset.assembly.tiers import bound_by_free_space
from hotset.background import Background
from hotset.clock import Clock
from hotset.config import Settings
from hotset.devices import DeviceDriver
from hotset.drain_times import time_to_end
from hotset.events import EventBus, Recovered, Synced
from hotset.metrics import Metrics
from hotset.residency.memory_meter import MemoryMeter
from hotset.status import Readiness
from hotset.store import ObjectStore
from hotset.tokens import tokens_of
from hotset.workers.base import MakeWorker
from hotset.workers.headstart import StartedServer

UNLOAD_LIMIT_S: Final = 5.0
"""At the end, unloads that wait for a prediction are waited for so long."""


class Replica:
    """Owned by the event loop in which it is made. ``start`` → ``app`` serves → ``drain`` → ``stop``."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        events: EventBus | None = None,
        store: ObjectStore | None = None,
        make_worker: MakeWorker | None = None,
        forks: StartedServer | None = None,
        driver: DeviceDriver | None = None,
        meter: MemoryMeter | None = None,
    ) -> None:
        """``store`` and ``make_worker`` None: those that the settings name. ``forks`` is a fork server that runs already.

        ``meter`` None: what measures real memory on this system. ``driver`` None: NVIDIA's, where there is one.

        Raises:
            ConfigError: a store, a directory or a device does not fit.
        """
        body_limits.configure(
            json_depth=settings.max_json_depth,
            elements=settings.max_tensor_elements,
            unpacked_bytes=settings.max_body_size,
        )
        ground = Ground.of(settings, clock=clock, events=events, store=store)
        self.settings: Final = settings
        self.clock: Final = ground.clock
        self.events: Final = ground.events
        self.store: Final = ground.store
        self.metrics: Final = Metrics(
            model_label=settings.metrics_model_label, max_models=settings.metrics_max_models
        )
        self.events.subscribe(self.metrics.on_event)
        self.events.subscribe(self._after_sync, Synced)
        self.tokens: Final = None if settings.auth is None else TokenGate(tokens_of(settings.auth))

        directory = Path(settings.disk_path)
        self._residency = residency = Residency(
            ground, directory, make_worker=make_worker, forks=forks, driver=driver, meter=meter
        )
        self.disk: Final = residency.disk
        self.memory: Final = residency.memory
        self.pool: Final = residency.workforce.pool
        self.manager: Final = residency.manager
        self.churn: Final = residency.churn
        self.guard: Final = residency.guard
        self.finding: Final = residency.finding
        self.discovery: Final = residency.finding.discovery
        self.sync: Final = residency.finding.sync

        doors = Doors(ground, residency, metrics=self.metrics, tokens=self.tokens, readiness=self.readiness)
        self.dataplane: Final = doors.dataplane
        self.app: Final = doors.app
        self.handlers: Final = doors.handlers

        self._background = Background()
        self._hot_set = HotSet(ground, self.manager, self.disk, path=directory / "hot.json")
        self._saving: asyncio.Task[None] | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._notices = StoreNotices(ground, self.manager)

    # Life

    async def start(self) -> None:
        """Return when requests can be taken; the store is listed and models are preloaded behind it.

        Raises:
            ConfigError: the disk directory is another replica's, or the predictor does not fit.
            WorkerDiedError: a child did not start.
        """
        try:
            report = await self.disk.recover()
            bound_by_free_space(self.disk, self.settings)
            self.events.publish(Recovered(report.adopted, report.removed, report.bytes))
            self._residency.real_memory.log()
            await self._residency.workforce.start(self.disk.records(), self._background.spawn)
            await self.sync.restore()
            await self._hot_set.read()
        except BaseException:
            await self._background.end()
            await self._close()
            raise
        self._background.spawn(self.sync.run(), "sync loop")
        self._background.spawn(self.manager.copies.run(), "copies")
        self._background.spawn(self.guard.run(), "memory guard")
        self._background.spawn(self._warm_up(), "warm-up")

    def readiness(self) -> Readiness:
        """Not ready before the first snapshot, and before what ``preload`` names was tried."""
        if not self.sync.first_pass.is_set():
            reason = self.sync.status().last_error or "the store has not been listed yet"
            return Readiness(ready=False, reason=reason)
        if not self._hot_set.is_preloaded:
            return Readiness(ready=False, reason="models are being preloaded")
        if not self.pool.can_serve and not self.pool.is_starting:
            return Readiness(ready=False, reason="no worker is up")
        return Readiness(ready=True)

    def drain(self) -> None:
        """Take no new predictions and be not ready, from now on; what hangs in a worker is ended in time. Safe to call twice."""
        self.dataplane.drain()
        if self._ending is None:
            limits = time_to_end(self.settings.drain_timeout)
            self._ending = asyncio.get_running_loop().call_later(limits.workers_s, self.pool.kill)

    async def stop(self) -> None:
        """Let what is inside end, within ``drain_timeout``; save; unload everything; stop the workers."""
        self.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(time_to_end(self.settings.drain_timeout).inside_s):
                await self.dataplane.drained()
        await self._background.end()
        await self._hot_set.save()
        await self._close()
        if self._ending is not None:
            self._ending.cancel()

    async def _close(self) -> None:
        """Unload everything and stop the workers; a prediction that does not end holds nothing of it up for long."""
        if self.handlers is not None:
            await self.handlers.close()
        unloading = asyncio.create_task(self.manager.close(), name="unload everything")
        await asyncio.wait({unloading}, timeout=UNLOAD_LIMIT_S)
        await (
            self._residency.workforce.close()
        )  # which ends every call of a worker, the unloads that still wait too
        await unloading
        await self.disk.close()

    async def _warm_up(self) -> None:
        await self.sync.first_pass.wait()
        await self._residency.workforce.learn(self.manager.catalog.snapshot)
        await self._hot_set.load()

    def _after_sync(self, event: object) -> None:
        if not isinstance(event, Synced):
            return
        if self._saving is None or self._saving.done():
            self._saving = self._background.spawn(self._hot_set.save(), "save")
        self._notices.after(event)
