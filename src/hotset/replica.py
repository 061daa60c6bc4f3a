"""The composition root of one replica: settings become objects, which start bottom-up and stop top-down.

``server.py`` puts it behind a socket; an embedder runs it inside another process. No decision is made here.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from hotset import __version__, body_limits
from hotset.api.app import App
from hotset.api.auth import OPEN_GATE, TokenGate
from hotset.api.dataplane import DataPlane
from hotset.catalog import Catalog, ModelEntry, VersionEntry, explain_misfit
from hotset.clock import Clock, SystemClock
from hotset.config import Settings
from hotset.config_values import CacheSize
from hotset.devices import VISIBLE, Assignment, DeviceDriver, assign, name_of
from hotset.errors import ConfigError, LoadFailedError
from hotset.events import Cause, EventBus, Evicted, Loaded, Recovered, Synced, TierName
from hotset.metrics import Metrics, Statistics
from hotset.models import layout_of, open_models
from hotset.nvml import Nvml
from hotset.own_processes import own_processes, with_process, within_processes
from hotset.real_memory import RealMemory
from hotset.residency.arrival import Arrival, Occupant
from hotset.residency.churn import ChurnGuard
from hotset.residency.failures import Failures
from hotset.residency.fetch import Fetcher
from hotset.residency.finder import Finder
from hotset.residency.frameworks import Frameworks
from hotset.residency.front import Front
from hotset.residency.given import GivenModels
from hotset.residency.handler_front import HandlerFront
from hotset.residency.handlers import Handlers
from hotset.residency.index_source import IndexSource
from hotset.residency.label_files import LabelFiles
from hotset.residency.lookup import Lookup
from hotset.residency.manager import Manager
from hotset.residency.memory_meter import MemoryMeter
from hotset.residency.on_demand import OnDemand
from hotset.residency.places import Places
from hotset.residency.pressure import default_disk_bytes
from hotset.residency.snapshot_file import SnapshotFile
from hotset.residency.store_pages import StorePages
from hotset.residency.sync import SyncLoop
from hotset.residency.view import View
from hotset.residency.warmup import HotWord, Warmup, hot_words, read_hot_set, write_hot_set
from hotset.residency.whole import WholeStore
from hotset.residency.working_set import WorkingSet
from hotset.runtimes import registry as runtimes
from hotset.runtimes.ahead import imports_for_predictor
from hotset.shared.extents import whole_grains
from hotset.shared.room import Room
from hotset.signing.keys import read_checking_keys
from hotset.signing.verifier import Verifier
from hotset.status import Readiness, SyncStatus
from hotset.store import LinkedStore, MountedStore, ObjectStore
from hotset.tiers.disk import DiskTier
from hotset.tiers.ledger import Capacity
from hotset.tiers.memory import MemoryTier
from hotset.tiers.record import DiskRecord
from hotset.tokens import tokens_of
from hotset.units import format_bytes
from hotset.workers.base import DeathHandler, Want, WantHandler, Word, Worker, no_models
from hotset.workers.forking import ForkServer
from hotset.workers.handler_kit import CODELESS_HANDLER_KIT, HANDLER_KIT, threaded_handler_kit
from hotset.workers.headstart import StartedServer
from hotset.workers.kit import CODELESS_KIT, STANDARD_KIT, Kit
from hotset.workers.own_children import MakeWorker
from hotset.workers.pool import WorkerPool
from hotset.workers.process import ProcessOptions, ProcessWorker
from hotset.workers.standard import codeless_kit, standard_kit
from hotset.workers.thread import ThreadWorker

FRAMEWORKS_LIMIT_S: Final = 1.0
"""Workers start without imported frameworks if nothing is known of the models by then."""
LEAST_ESTIMATE_BYTES: Final = 64 * 1024
BODY_TIMEOUT_S: Final = 60.0
HANDLER_DISK_LIMIT_S: Final = 1.0
"""So long a fetch waits for room on disk on behalf of a handler: longer, and its request gives way to others."""
UNLOAD_LIMIT_S: Final = 5.0
UNLOAD_LEAST_S: Final = 1.0
END_S: Final = 2.0
"""The server may need so long to end when all that was inside is answered or cut off."""
"""At the end, unloads that wait for a prediction are waited for so long."""

logger = logging.getLogger(__name__)


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

        ``meter`` None: what measures real memory on this system.

        ``driver`` None: NVIDIA's, where there is one.

        Raises:
            ConfigError: a store, a directory or a device does not fit.
        """
        self.settings: Final = settings
        body_limits.configure(
            json_depth=settings.max_json_depth,
            elements=settings.max_tensor_elements,
            unpacked_bytes=settings.max_body_size,
        )
        self.clock: Final = clock if clock is not None else SystemClock()
        self.events: Final = events if events is not None else EventBus()
        self.store: Final = store if store is not None else open_models(settings)
        self.layout: Final = layout_of(settings)
        self.metrics: Final = Metrics(
            model_label=settings.metrics_model_label, max_models=settings.metrics_max_models
        )
        self.events.subscribe(self.metrics.on_event)
        self.events.subscribe(self._after_sync, Synced)
        self.tokens: Final = None if settings.auth is None else TokenGate(tokens_of(settings.auth))
        directory = Path(settings.disk_path)
        _make_directory(directory)
        self._hot_path = directory / "hot.json"
        self.disk: Final = DiskTier(
            directory,
            _disk_capacity(settings),
            clock=self.clock,
            on_evicted=self._disk_evicted,
            room_timeout_s=settings.request_timeout if settings.cortex is None else HANDLER_DISK_LIMIT_S,
        )
        has_children = make_worker is None and settings.processes_per_replica > 0
        self._real_memory = RealMemory(
            settings, children=_worker_count(settings, has_children=has_children) if has_children else 0
        )
        self.memory: Final[MemoryTier[Occupant]] = MemoryTier(
            within_processes(settings, _memory_capacity(self._real_memory.cache_size))
        )
        self.devices: Final = _devices(settings, driver)
        if self.devices is not None:
            limits = self.devices.capacities(
                None if settings.model_cache_size is None else settings.model_cache_size.device_bytes,
                workers=_worker_count(settings, has_children=has_children),
            )
            self.memory.limit(self.memory.capacity._replace(device_bytes=limits))
        self._room = _room_for_payloads(settings)
        children = ForkServer(limit_s=settings.start_timeout, started=forks) if has_children else None
        self.pool: Final = WorkerPool(
            make_worker
            or partial(
                _make_worker, settings, self._room, self._wanted, devices=self.devices, children=children
            ),
            count=_worker_count(settings, has_children=has_children),
            serving=max(1, settings.processes_per_replica),
            own=own_processes(settings, children),
            may_swap=_may_swap(settings),
            clock=self.clock,
            events=self.events,
            hang_s=settings.load_timeout,
            children=children,
        )
        if self.pool.own is not None:
            self.pool.own.make_room = self._end_oldest_own
        self.handlers: Handlers | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._frameworks = Frameworks(self.pool, store=self.store)
        self._starts_at_once = children is None or settings.predictor is not None
        self.churn: Final = ChurnGuard(
            self.memory,
            clock=self.clock,
            min_age_s=settings.min_churn_age,
            most_wait_s=settings.request_timeout,
        )
        self.manager: Final = self._make_manager()
        if self.devices is not None:
            self.manager.use(self.devices, has_predictor=settings.predictor is not None)
        self.guard: Final = self._real_memory.guard(
            meter,
            models=self.manager,
            trim=self.pool.trim,
            pids=lambda: _pids(self.pool, children),
            clock=self.clock,
            events=self.events,
        )
        self.manager.copies.holds_back = lambda: self.guard.is_short
        self._labels: Final = LabelFiles(self.store, events=self.events)
        self._finder: Final = Finder(
            store=self.store,
            layout=self.layout,
            clock=self.clock,
            settle_time_s=settings.settle_time,
            labels=self._labels,
        )
        self.discovery: Final = self._make_discovery()
        self.sync: Final = self._make_sync(directory / "catalog")
        view = self._make_view()
        self.dataplane: Final = self._make_dataplane(view)
        self.metrics.read_from(
            lambda: Statistics(
                server=view.server(),
                inside=self.dataplane.inside,
                loading=len(self.manager.flights),
                refusals=self.dataplane.admission.refusals,
                held_back=self.churn.held,
            )
        )
        self.app: Final = App(
            self.dataplane,
            metrics=self.metrics.page,
            version=__version__,
            max_body_bytes=settings.max_body_size,
            body_timeout_s=BODY_TIMEOUT_S,
            max_batch=settings.max_batch_size,
            room=self._room,
            gate=OPEN_GATE if self.tokens is None else self.tokens,
            has_admin_port=settings.admin_port > 0,
            most_name=settings.max_name_length,
            given=self.discovery if isinstance(self.discovery, GivenModels) else None,
            handler=None if self.handlers is None else self._offered,
        )
        self._warmup: Warmup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._saving: asyncio.Task[None] | None = None
        self._told_of_misfit = False

    # Life

    async def start(self) -> None:
        """Return when requests can be taken; the store is listed and models are preloaded behind it.

        Raises:
            ConfigError: the disk directory is another replica's, or the predictor does not fit.
            WorkerDiedError: a child did not start.
        """
        try:
            report = await self.disk.recover()
            if self.settings.disk_model_cache_size is None and not self.settings.sagemaker:
                limit_bytes = default_disk_bytes(Path(self.settings.disk_path), self.disk.usage.bytes)
                self.disk.limit(Capacity(bytes=limit_bytes))
            self.events.publish(Recovered(report.adopted, report.removed, report.bytes))
            self._real_memory.log()
            if self._room is not None:
                self._room.open()
            await self._start_workers()
            await self.sync.restore()
            hot = await asyncio.to_thread(read_hot_set, self._hot_path)
        except BaseException:
            await self._end_tasks()
            await self._close()
            raise
        self._spawn(self.sync.run(), "sync loop")
        self._spawn(self.manager.copies.run(), "copies")
        self._spawn(self.guard.run(), "memory guard")
        self._spawn(self._warm_up(hot), "warm-up")

    async def _start_workers(self) -> None:
        """Have the frameworks imported that are known to be needed, and the workers started behind that.

        Only a predictor is waited for, as it may not fit: requests can be taken before the workers are up.
        """
        if self.settings.predictor is not None:
            self._frameworks.need(imports_for_predictor(Path(self.settings.predictor)))
        else:
            self._frameworks.see_files(file.path for record in self.disk.records() for file in record.files)
            self.events.subscribe(self._frameworks.on_event, Loaded)
        if self._starts_at_once:
            await self.pool.start()
        else:
            self.pool.open(self._spawn(self._learn_frameworks(), "frameworks"))

    async def _learn_frameworks(self) -> None:
        """Return when the frameworks are known, or could be known by now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FRAMEWORKS_LIMIT_S):
                await self._frameworks.settled.wait()

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
        await self._end_tasks()
        await self._save()
        await self._close()
        if self._ending is not None:
            self._ending.cancel()

    def readiness(self) -> Readiness:
        """Not ready before the first snapshot, and before what ``preload`` names was tried."""
        if not self.sync.first_pass.is_set():
            reason = self.sync.status().last_error or "the store has not been listed yet"
            return Readiness(ready=False, reason=reason)
        if self._warmup is None or not self._warmup.preloaded.is_set():
            return Readiness(ready=False, reason="models are being preloaded")
        if not self.pool.can_serve and not self.pool.is_starting:
            return Readiness(ready=False, reason="no worker is up")
        return Readiness(ready=True)

    async def _warm_up(self, hot: list[HotWord]) -> None:
        await self.sync.first_pass.wait()
        if self.settings.predictor is None:
            await self._frameworks.look_at(self.manager.snapshot)
        self._warmup = Warmup(
            self.manager,
            clock=self.clock,
            hot=hot,
            preload=self.settings.preload,
            parallel=self.settings.parallel_fetches,
        )
        await self._warmup.run()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _close(self) -> None:
        """Unload everything and stop the workers; a prediction that does not end holds nothing of it up for long."""
        if self.handlers is not None:
            await self.handlers.close()
        unloading = asyncio.create_task(self.manager.close(), name="unload everything")
        await asyncio.wait({unloading}, timeout=UNLOAD_LIMIT_S)
        await self.pool.close()  # which ends every call of a worker, the unloads that still wait too
        if self._room is not None:
            self._room.close()
        await unloading
        await self.disk.close()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s ended with an error", task.get_name(), exc_info=task.exception())

    # State that outlives the process

    def _after_sync(self, event: object) -> None:
        if not isinstance(event, Synced):
            return
        if self._saving is None or self._saving.done():
            self._saving = self._spawn(self._save(), "save")
        if event.unsettled and not event.models:
            logger.info(
                "%d versions found; they are offered once their files have not changed for %g s (settle_time)",
                event.unsettled,
                self.settings.settle_time,
            )
        elif (
            not event.models
            and not self._told_of_misfit
            and not self.settings.sagemaker
            and (event.rejects or not self._is_on_demand)
        ):
            self._told_of_misfit = True
            trees = explain_misfit(self.layout, self.manager.snapshot.rejects)
            logger.warning("no models in %s yet\n%s", self.store.url, trees)

    async def _save(self) -> None:
        """Write down the hot set and what the disk tier remembers. A failure costs a slower start, no more."""
        words = hot_words(self.manager, self.clock.monotonic())
        try:
            if self._warmup is not None and self._warmup.ended:
                await asyncio.to_thread(write_hot_set, self._hot_path, words)
            await self.disk.save()
        except OSError as error:
            logger.warning("what is hot could not be saved: %s", error)

    # Pieces

    def _make_sync(self, state_path: Path) -> SyncLoop:
        return SyncLoop(
            discovery=self.discovery,
            target=self.manager,
            url=self.store.url,
            clock=self.clock,
            events=self.events,
            interval_s=self._sync_interval_s,
            state=None
            if self.settings.sagemaker
            else SnapshotFile(state_path, origin=f"{self.store.url} with {self.layout.expected}"),
        )

    @property
    def _sync_interval_s(self) -> float:
        return 0.0 if self.layout.static else self.settings.sync_interval

    @property
    def _is_on_demand(self) -> bool:
        return self.settings.discovery == "on_demand"

    def _make_discovery(self) -> WholeStore | OnDemand | GivenModels:
        settings = self.settings
        if settings.sagemaker and isinstance(self.store, MountedStore):
            return GivenModels(
                self.manager,
                store=self.store,
                open_store=LinkedStore,
                clock=self.clock,
                limit_s=settings.load_timeout,
                roots=[Path(root) for root in settings.sagemaker_roots],
            )
        if self._is_on_demand:
            return OnDemand(
                store=self.store,
                layout=self.layout,
                target=self.manager,
                finder=self._finder,
                clock=self.clock,
                working_set=self._working_set,
                interval_s=self._sync_interval_s,
            )
        index = IndexSource(
            self.store, self.layout, clock=self.clock, check_interval_s=settings.index_check_interval
        )
        return WholeStore(
            store=self.store,
            layout=self.layout,
            target=self.manager,
            clock=self.clock,
            settle_time_s=settings.settle_time,
            labels=self._labels,
            index=index if settings.models is None else None,
        )

    def _working_set(self) -> WorkingSet:
        """The names in use: preloaded ones count as in memory, so that they are found before they are."""
        hot = {entry.key.name for entry in self.memory.entries()}
        hot.update(key.name for key in self.manager.flights.keys())  # noqa: SIM118  (it is no mapping)
        hot.update(ref.name for ref in self.settings.preload.refs)
        return WorkingSet(hot, {record.key.name for record in self.disk.records()})

    def _make_view(self) -> View:
        return View(
            self.manager,
            clock=self.clock,
            version=__version__,
            store_url=self.store.url,
            sync=self._sync_status,
            readiness=self.readiness,
            real_memory=self.guard.status,
        )

    def _make_dataplane(self, view: View) -> DataPlane:
        return DataPlane(
            self._make_front(view),
            clock=self.clock,
            observe=self.metrics.request_observer,
            statistics=self.metrics.tallies,
            request_timeout_s=self.settings.request_timeout,
            max_queue=self.settings.max_queue,
            max_concurrency_per_model=self.settings.max_concurrency_per_model or None,
        )

    def _make_front(self, view: View) -> Front:
        if self.settings.cortex is None:
            return Front(self.manager, view, readiness=self.readiness, pages=self._make_pages())
        self.handlers = self._make_handlers()
        return HandlerFront(
            self.manager, view, handlers=self.handlers, readiness=self.readiness, pages=self._make_pages()
        )

    def _make_handlers(self) -> Handlers:
        settings = self.settings
        told = settings.predictor_config
        return Handlers(
            self.manager,
            Places(self.manager, clock=self.clock, events=self.events),
            clock=self.clock,
            name=str(told.get("name", "handler")),
            only=told.get("only"),
            begins_again=settings.begin_again,
            threads=settings.threads_per_process,
        )

    def _wanted(self, want: Want, give: Callable[[Word], None]) -> None:
        """A handler in a worker asks for a model."""
        (no_models if self.handlers is None else self.handlers.wanted)(want, give)

    def _offered(self) -> Mapping[str, Sequence[tuple[int, float]]]:
        models = self.manager.snapshot.models
        return {
            name: [(version.key.version, version.modified_s) for version in model.versions]
            for name, model in models.items()
        }

    def _make_pages(self) -> StorePages | None:
        """Where a page of models comes from, if not from the catalog."""
        if not self._is_on_demand:
            return None
        return StorePages(
            store=self.store, layout=self.layout, clock=self.clock, settle_time_s=self.settings.settle_time
        )

    def _make_verifier(self) -> Verifier | None:
        if not self.settings.signing_keys:
            return None
        keys = read_checking_keys(self.settings.signing_keys)
        return Verifier(keys, binds_names=not self.layout.static)

    def _make_manager(self) -> Manager:
        settings = self.settings
        arrival = Arrival(
            disk=self.disk,
            memory=self.memory,
            fetcher=Fetcher(
                store=self.store,
                disk=self.disk,
                clock=self.clock,
                parallel_fetches=settings.parallel_fetches,
                on_changed=self._store_changed,
            ),
            pool=self.pool,
            estimate=with_process(settings, _estimate_with_predictor if settings.predictor else _estimate),
            clock=self.clock,
            events=self.events,
            parallel_loads=settings.parallel_loads,
            room_timeout_s=settings.request_timeout,
            waits_for_room=not settings.sagemaker and settings.cortex is None,
            verifier=self._make_verifier(),
        )
        if settings.min_churn_age and not settings.sagemaker and settings.cortex is None:
            arrival.churn = self.churn
        lookup = Lookup(
            self._find,
            clock=self.clock,
            ttl_s=settings.negative_cache_ttl,
            is_stale=self._is_stale,
            forgets=not self._is_on_demand,
        )
        return Manager(
            catalog=Catalog(),
            disk=self.disk,
            memory=self.memory,
            arrival=arrival,
            pool=self.pool,
            lookup=lookup if settings.on_missing == "lookup" and not self.layout.static else None,
            failures=Failures(
                first_s=settings.load_failure_backoff, most_s=settings.load_failure_backoff_max
            ),
            clock=self.clock,
            events=self.events,
            is_static=self.layout.static,
            threads=settings.threads_per_process,
            most_copies=settings.processes_per_replica - 1 if settings.spread_hot_models else 0,
        )

    def _end_oldest_own(self) -> bool:
        """Have the model leave that was not used for longest, of those that live alone and are idle."""
        for entry in self.memory.idle():
            if not self.pool.is_shared(entry.value.resident.worker.id):
                return self.memory.evict(entry.key, Cause.CAPACITY)
        return False

    async def _find(self, name: str) -> ModelEntry | None:
        """Look for one model in the store."""
        if isinstance(self.discovery, OnDemand):
            return await self.discovery.find(name)
        assert isinstance(self.discovery, WholeStore)  # where models are given, nothing is looked up
        known = self.manager.catalog.model(name)
        entry, _ = await self._finder.find(name, known=known, memory=self.discovery.settling)
        return entry

    def _is_stale(self, name: str) -> bool:
        return isinstance(self.discovery, OnDemand) and self.discovery.is_stale(name)

    def _store_changed(self, version: VersionEntry) -> None:
        """A version was not in the store as the catalog has it: whatever said so is not believed any more."""
        if isinstance(self.discovery, OnDemand):
            self.discovery.distrust(version.key.name)
        elif isinstance(self.discovery, WholeStore) and self.discovery.distrust_index():
            self.sync.trigger()

    def _disk_evicted(self, record: DiskRecord, cause: Cause, seconds: float) -> None:
        self.events.publish(Evicted(TierName.DISK, record.key, cause, record.bytes, seconds))

    def _sync_status(self) -> SyncStatus:
        status = self.sync.status()
        interval_s = self.settings.sync_interval
        return SyncStatus(
            enabled=interval_s > 0 and not self.layout.static,
            interval_s=interval_s,
            last_ok_s=status.last_success_age_s,
            failures=status.consecutive_failures,
            reason=status.last_error or "",
            source=status.source.value if status.source is not None else "",
            note=status.note,
        )


def _memory_capacity(size: CacheSize) -> Capacity:
    return Capacity(models=size.models, bytes=size.bytes)


def _pids(pool: WorkerPool, children: ForkServer | None) -> list[int]:
    """The processes of this server."""
    workers = [status.pid for status in pool.statuses()]
    forks = None if children is None else children.pid
    return [os.getpid(), *(pid for pid in (*workers, forks) if pid is not None)]


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"disk_path: cannot make the directory {path}: {error.strerror}; choose one that can be written"
        ) from error


def _disk_capacity(settings: Settings) -> Capacity:
    """Unbounded where the settings leave it open: that is decided once it is known what is there already."""
    size = settings.disk_model_cache_size or CacheSize()
    return Capacity(models=size.models, bytes=size.bytes)


def _estimate(record: DiskRecord) -> int:
    try:
        factor = runtimes.detect([file.path for file in record.files]).size_factor
    except LoadFailedError:
        factor = 1.0  # the worker will say so, in the words of whatever it loads with
    return max(LEAST_ESTIMATE_BYTES, int(record.bytes * factor))


def _may_swap(settings: Settings) -> bool:
    """Not where a platform alone says what leaves memory, nor where models are used by a handler beside its requests.

    Nor where loads are held back to keep what was used a moment ago.
    """
    is_plain = not settings.sagemaker and settings.cortex is None and not settings.min_churn_age
    return bool(settings.processes_per_replica) and is_plain


def _estimate_with_predictor(record: DiskRecord) -> int:
    return max(LEAST_ESTIMATE_BYTES, record.bytes)


class TimeToEnd(NamedTuple):
    """Seconds from the signal: so long may requests go on, and so long may the workers live."""

    inside_s: float
    workers_s: float


def time_to_end(drain_timeout_s: float) -> TimeToEnd:
    """Divide ``drain_timeout``: most of it is for requests, the rest for unloading, and for whatever hangs to be ended.

    However short it is, workers in which nothing hangs have the time to unload.
    """
    rest_s = min(END_S, drain_timeout_s / 5)
    return TimeToEnd(max(0.0, drain_timeout_s - rest_s), max(UNLOAD_LEAST_S, drain_timeout_s - rest_s / 2))


def _room_for_payloads(settings: Settings) -> Room | None:
    if settings.processes_per_replica == 0 or settings.shared_memory_size == 0:
        return None
    return Room(whole_grains(max(settings.shared_memory_size, settings.max_body_size)))


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
        logger.info("%s is %s, with %s free", name_of(place), device.id, free)
    return found


def _make_worker(
    settings: Settings,
    room: Room | None,
    on_want: WantHandler,
    number: int,
    on_death: DeathHandler,
    *,
    devices: Assignment | None,
    children: ForkServer | None,
) -> Worker:
    if settings.processes_per_replica == 0:
        return ThreadWorker(
            number,
            kit=_kit(settings),
            on_death=on_death,
            threads=settings.threads_per_process,
            parallel_loads=settings.parallel_loads,
            max_batch=settings.max_batch_size,
            max_body_bytes=settings.max_body_size,
            stuck_after_s=settings.request_timeout,
            on_want=on_want,
        )
    options = ProcessOptions(
        max_json_depth=settings.max_json_depth,
        max_elements=settings.max_tensor_elements,
        threads=settings.threads_per_process,
        parallel_loads=settings.parallel_loads,
        max_batch=settings.max_batch_size,
        max_body_bytes=settings.max_body_size,
        predictor=settings.predictor,
        predictor_config=settings.predictor_config,
        kit=_kit_name(settings),
        log_level=settings.log_level,
        log_format=settings.log_format,
        start_timeout_s=settings.start_timeout,
        stuck_after_s=settings.request_timeout,
        children=children,
        on_want=on_want,
        device=None if devices is None else devices.bound(number),
    )
    return ProcessWorker(
        number, options=options, on_death=on_death, bodies=None if room is None else room.arena
    )


def _kit_name(settings: Settings) -> str:
    if settings.cortex is not None:
        return HANDLER_KIT if settings.allow_pickle else CODELESS_HANDLER_KIT
    return STANDARD_KIT if settings.allow_pickle else CODELESS_KIT


def _kit(settings: Settings) -> Callable[[], Kit]:
    if settings.cortex is not None:
        return partial(
            threaded_handler_kit,
            settings.predictor,
            settings.predictor_config,
            runs_code=settings.allow_pickle,
        )
    kit = standard_kit if settings.allow_pickle else codeless_kit
    return partial(kit, settings.predictor, settings.predictor_config)
