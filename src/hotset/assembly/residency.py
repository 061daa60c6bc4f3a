"""What joins a replica's tiers: the manager with its way in, and who leaves where a model lives in a process of its own."""

from __future__ import annotations

from hotset.assembly.finding import Finding
from hotset.assembly.ground import Ground
from hotset.assembly.tiers import estimate_of
from hotset.assembly.workforce import Workforce
from hotset.catalog import Catalog
from hotset.events import Cause
from hotset.residency.arrival import Arrival, Occupant
from hotset.residency.churn import ChurnGuard
from hotset.residency.failures import Failures
from hotset.residency.fetch import Fetcher
from hotset.residency.manager import Manager
from hotset.signing.keys import read_checking_keys
from hotset.signing.verifier import Verifier
from hotset.tiers.disk import DiskTier
from hotset.tiers.memory import MemoryTier
from hotset.workers.pool import WorkerPool


def churn_guard(ground: Ground, memory: MemoryTier[Occupant]) -> ChurnGuard:
    """Return what holds loads back that would push out what was used a moment ago."""
    settings = ground.settings
    return ChurnGuard(
        memory, clock=ground.clock, min_age_s=settings.min_churn_age, most_wait_s=settings.request_timeout
    )


def manager_of(
    ground: Ground,
    *,
    disk: DiskTier,
    memory: MemoryTier[Occupant],
    workforce: Workforce,
    finding: Finding,
    churn: ChurnGuard,
) -> Manager:
    """Return the one that joins the tiers.

    Raises:
        ConfigError: a key of ``signing_keys`` cannot be read.
    """
    settings, pool = ground.settings, workforce.pool
    arrival = _arrival(ground, disk=disk, memory=memory, pool=pool, finding=finding)
    if settings.min_churn_age and ground.requests_decide:
        arrival.churn = churn
    if pool.own is not None:
        pool.own.make_room = lambda: _end_oldest_own(memory, pool)
    joined = Manager(
        catalog=Catalog(),
        disk=disk,
        memory=memory,
        arrival=arrival,
        pool=pool,
        lookup=finding.lookup(),
        failures=Failures(first_s=settings.load_failure_backoff, most_s=settings.load_failure_backoff_max),
        clock=ground.clock,
        events=ground.events,
        is_static=ground.layout.static,
        threads=settings.threads_per_process,
        most_copies=settings.processes_per_replica - 1 if settings.spread_hot_models else 0,
    )
    if workforce.devices is not None:
        joined.use(workforce.devices, has_predictor=settings.predictor is not None)
    return joined


def _arrival(
    ground: Ground, *, disk: DiskTier, memory: MemoryTier[Occupant], pool: WorkerPool, finding: Finding
) -> Arrival:
    settings = ground.settings
    return Arrival(
        disk=disk,
        memory=memory,
        fetcher=Fetcher(
            store=ground.store,
            disk=disk,
            clock=ground.clock,
            parallel_fetches=settings.parallel_fetches,
            on_changed=finding.store_changed,
        ),
        pool=pool,
        estimate=estimate_of(settings),
        clock=ground.clock,
        events=ground.events,
        parallel_loads=settings.parallel_loads,
        room_timeout_s=settings.request_timeout,
        waits_for_room=ground.requests_decide,
        verifier=_verifier(ground),
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
