"""The residency of a replica: both tiers, the workers, what finds models, the guard of real memory, and the manager that joins them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hotset.assembly.finding import Finding
from hotset.assembly.ground import CATALOG, Ground
from hotset.assembly.real_memory import RealMemory
from hotset.assembly.tiers import disk_tier, estimate_of, memory_tier
from hotset.assembly.workforce import Workforce
from hotset.catalog import Catalog
from hotset.devices import DeviceDriver
from hotset.events import Cause
from hotset.residency.arrival import Arrival, Occupant
from hotset.residency.churn import ChurnGuard
from hotset.residency.failures import Failures
from hotset.residency.fetch import Fetcher
from hotset.residency.manager import Manager
from hotset.residency.memory_meter import MemoryMeter
from hotset.signing.keys import read_checking_keys
from hotset.signing.verifier import Verifier
from hotset.tiers.memory import MemoryTier
from hotset.workers.base import MakeWorker
from hotset.workers.headstart import StartedServer
from hotset.workers.pool import WorkerPool


class Residency:
    """Owned by the event loop. Nothing of it runs before the replica starts it; the replica also ends it."""

    def __init__(
        self,
        ground: Ground,
        directory: Path,
        *,
        make_worker: MakeWorker | None,
        forks: StartedServer | None,
        driver: DeviceDriver | None,
        meter: MemoryMeter | None,
    ) -> None:
        """``directory`` is the disk tier's; what is None is that of the settings, or of this system.

        Raises:
            ConfigError: a directory, a device or a key of ``signing_keys`` does not fit.
        """
        settings = ground.settings
        self.disk: Final = disk_tier(ground, directory)
        self.workforce: Final = Workforce(ground, make_worker=make_worker, forks=forks, driver=driver)
        self.real_memory: Final = RealMemory(ground, children=self.workforce.processes)
        self.memory: Final = memory_tier(
            settings, self.real_memory.cache_size, device_bytes=self.workforce.device_bytes
        )
        self.finding: Final = Finding(ground)
        self.churn: Final = ChurnGuard(
            self.memory,
            clock=ground.clock,
            min_age_s=settings.min_churn_age,
            most_wait_s=settings.request_timeout,
        )
        """Holds loads back that would push out what was used a moment ago."""
        self.manager: Final = self._manager(ground)
        self.guard: Final = self.real_memory.guard(
            meter, models=self.manager.relief, trim=self.workforce.pool.trim, pids=self.workforce.pids
        )
        self.manager.copies.holds_back = lambda: self.guard.is_short
        self.finding.follow(self.manager, state=directory / CATALOG)

    def _manager(self, ground: Ground) -> Manager:
        """The one that joins the tiers."""
        settings, memory, pool = ground.settings, self.memory, self.workforce.pool
        if pool.own is not None:
            pool.own.make_room = lambda: _end_oldest_own(memory, pool)
        joined = Manager(
            catalog=Catalog(),
            disk=self.disk,
            memory=memory,
            arrival=self._arrival(ground),
            pool=pool,
            lookup=self.finding.lookup(),
            failures=Failures(
                first_s=settings.load_failure_backoff, most_s=settings.load_failure_backoff_max
            ),
            clock=ground.clock,
            events=ground.events,
            is_static=ground.layout.static,
            threads=settings.threads_per_process,
            most_copies=settings.processes_per_replica - 1 if settings.spread_hot_models else 0,
        )
        if self.workforce.devices is not None:
            joined.use(self.workforce.devices, has_predictor=settings.predictor is not None)
        return joined

    def _arrival(self, ground: Ground) -> Arrival:
        """The manager's way in."""
        settings = ground.settings
        arrival = Arrival(
            disk=self.disk,
            memory=self.memory,
            fetcher=self._fetcher(ground),
            pool=self.workforce.pool,
            estimate=estimate_of(settings),
            clock=ground.clock,
            events=ground.events,
            parallel_loads=settings.parallel_loads,
            room_timeout_s=settings.request_timeout,
            waits_for_room=ground.requests_decide,
            verifier=_verifier(ground),
        )
        if settings.min_churn_age and ground.requests_decide:
            arrival.churn = self.churn
        return arrival

    def _fetcher(self, ground: Ground) -> Fetcher:
        return Fetcher(
            store=ground.store,
            disk=self.disk,
            clock=ground.clock,
            parallel_fetches=ground.settings.parallel_fetches,
            on_changed=self.finding.store_changed,
        )


def _verifier(ground: Ground) -> Verifier | None:
    paths = ground.settings.signing_keys
    return Verifier(read_checking_keys(paths), binds_names=not ground.layout.static) if paths else None


def _end_oldest_own(memory: MemoryTier[Occupant], pool: WorkerPool) -> bool:
    """Have the model leave that was not used for longest, of those that live alone and are idle."""
    for entry in memory.idle():
        if not pool.is_shared(entry.value.resident.worker.id):
            return memory.evict(entry.key, Cause.CAPACITY)
    return False
