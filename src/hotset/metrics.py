"""Counts what happens, for Prometheus. The only file that imports prometheus_client.

Events and the ``RequestCounts`` of each protocol are counted as plain numbers, without locks, as one event loop does
it all; the page is made of them, and of a ``Statistics``, when it is asked for. Nothing here decides anything, and
no label has a value that a client chose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hotset import instruments
from hotset.events import (
    Copied,
    CopyDropped,
    CopyFailed,
    Event,
    Evicted,
    Fetched,
    FetchFailed,
    LabelMoved,
    LabelsRefused,
    LatestMoved,
    Loaded,
    LoadFailed,
    Quarantined,
    Synced,
    SyncFailed,
    WorkerDied,
    WorkerStarted,
)
from hotset.instruments import Instrument
from hotset.request_counts import Distribution, ModelCounts, RequestCounts, Tallies
from hotset.status import MemoryStatus, ServerStatus

Labels: TypeAlias = tuple[str, ...]
Samples: TypeAlias = Iterable[tuple[Labels, float | None]]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the gauges show: the server's status, predictions accepted and not answered, versions being loaded, and how many
    of these are held back; and how many predictions were refused, by the bound that they would have gone past."""

    server: ServerStatus
    inside: int
    loading: int
    refusals: Mapping[str, int] = field(default_factory=dict)
    held_back: int = 0


class Metrics:
    """All instruments of one server, in a registry of their own. Owned by the event loop.

    Legal order: ``on_event`` and the observers any time; ``render`` any time after ``read_from``, and before it
    without the gauges.
    """

    def __init__(self, *, model_label: bool = False, max_models: int = 1000) -> None:
        self.registry: Final = CollectorRegistry(auto_describe=False)
        self.tallies: Final = Tallies()
        self._models = ModelCounts(max_models) if model_label else None
        self._protocols: dict[str, RequestCounts] = {}
        self._statistics: Callable[[], Statistics] | None = None
        self._counts = {item: _zero(item) for item in _EVENT_COUNTERS}
        self._seconds: dict[Instrument, dict[Labels, Distribution]] = {item: {} for item in _EVENT_HISTOGRAMS}
        # The two of which there are hundreds a second where models come and go.
        self._often: Final[dict[type[Event], Callable[[Any], None]]] = {
            Loaded: self._count_load,
            Evicted: self._count_eviction,
        }
        self._loads = self._seconds[instruments.LOAD_SECONDS]
        self._evictions = self._counts[instruments.EVICTIONS]
        self._evicted_bytes = self._counts[instruments.EVICTED_BYTES]
        self.registry.register(_Page(self._families))
        ProcessCollector(registry=self.registry)

    def read_from(self, statistics: Callable[[], Statistics]) -> None:
        """Read the gauges from here whenever the page is asked for."""
        self._statistics = statistics

    def request_observer(self, protocol: str) -> RequestCounts:
        """Return the counts of a protocol; always the same one for the same name."""
        return self._protocols.setdefault(protocol, RequestCounts(self.tallies, self._models))

    def render(self) -> bytes:
        """Return the page in Prometheus' text format."""
        return generate_latest(self.registry)

    @property
    def content_type(self) -> str:
        return CONTENT_TYPE_PLAIN_0_0_4

    def page(self) -> tuple[bytes, str]:
        """Return the page and its content type."""
        return self.render(), self.content_type

    def on_event(self, event: Event) -> None:
        """Count one event. A subscriber for the event bus."""
        self._often.get(type(event), self._count_other)(event)

    def _count_load(self, event: Loaded) -> None:
        labels = (event.runtime,)
        seconds = self._loads.get(labels)
        if seconds is None:
            seconds = self._loads[labels] = Distribution(instruments.LOAD_SECONDS.buckets)
        seconds.observe(event.seconds)

    def _count_eviction(self, event: Evicted) -> None:
        labels, tier = (event.tier, event.cause), (event.tier,)  # each is a string
        self._evictions[labels] = self._evictions.get(labels, 0) + 1
        self._evicted_bytes[tier] = self._evicted_bytes.get(tier, 0) + event.bytes

    def _count_other(self, event: Event) -> None:
        match event:
            case Fetched():
                self._observe(instruments.FETCH_SECONDS, event.seconds)
                self._count(instruments.FETCHED_BYTES, by=event.bytes)
            case FetchFailed():
                self._count(instruments.FETCH_FAILURES, event.kind.value)
            case LoadFailed():
                self._count(instruments.LOAD_FAILURES, event.kind.value)
            case Copied():
                self._count(instruments.COPIES_MADE)
            case CopyFailed():
                self._count(instruments.COPY_FAILURES, event.kind.value)
            case CopyDropped():
                self._count(instruments.COPIES_DROPPED, event.cause.value)
            case LatestMoved():
                self._count(instruments.LATEST_MOVES)
            case LabelMoved():
                self._count(instruments.LABEL_MOVES)
            case LabelsRefused():
                self._count(instruments.LABELS_REFUSED)
            case Synced():
                self._observe(instruments.SYNC_SECONDS, event.seconds)
            case SyncFailed():
                self._count(instruments.SYNC_FAILURES)
            case WorkerStarted():
                self._count(instruments.WORKER_STARTS)
                kind = "shared" if event.key is None else "own"
                self._observe(instruments.WORKER_START_SECONDS, event.seconds, kind)
            case WorkerDied():
                self._count(instruments.WORKER_DEATHS)
            case Quarantined():
                self._count(instruments.QUARANTINES)
            case _:
                pass

    def _count(self, item: Instrument, *labels: str, by: float = 1) -> None:
        counts = self._counts[item]
        counts[labels] = counts.get(labels, 0) + by

    def _observe(self, item: Instrument, seconds: float, *labels: str) -> None:
        distributions = self._seconds[item]
        if labels not in distributions:
            distributions[labels] = Distribution(item.buckets)
        distributions[labels].observe(seconds)

    def _families(self) -> Iterator[Metric]:
        yield from _request_families(self._protocols)
        if self._models is not None:
            counts = self._models.counts
            yield _family(instruments.MODEL_REQUESTS, (((name,), count) for name, count in counts.items()))
        for item, values in self._counts.items():
            yield _family(item, values.items())
        for item, distributions in self._seconds.items():
            yield _histogram(item, distributions.items())
        if self._statistics is not None:
            yield from _gauge_families(self._statistics())


class _Page(Collector):
    """What the registry asks for our numbers, each time the page is made."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()

    def describe(self) -> Iterable[Metric]:
        return ()


_EVENT_COUNTERS: Final = (
    instruments.FETCHED_BYTES,
    instruments.FETCH_FAILURES,
    instruments.LOAD_FAILURES,
    instruments.EVICTIONS,
    instruments.EVICTED_BYTES,
    instruments.COPIES_MADE,
    instruments.COPY_FAILURES,
    instruments.COPIES_DROPPED,
    instruments.LATEST_MOVES,
    instruments.LABEL_MOVES,
    instruments.LABELS_REFUSED,
    instruments.SYNC_FAILURES,
    instruments.WORKER_STARTS,
    instruments.WORKER_DEATHS,
    instruments.QUARANTINES,
)
_EVENT_HISTOGRAMS: Final = (
    instruments.FETCH_SECONDS,
    instruments.LOAD_SECONDS,
    instruments.SYNC_SECONDS,
    instruments.WORKER_START_SECONDS,
)


_LEVELS: Final = ("normal", "high", "critical")


def _zero(item: Instrument) -> dict[Labels, float]:
    """Return the counts to begin with: 0 where there is but one series, so that it is there from the start."""
    return {} if item.labels else {(): 0}


def _family(item: Instrument, samples: Samples) -> Metric:
    """Return a counter or gauge with its samples; those without a value are left out."""
    new = CounterMetricFamily if item.type == "counter" else GaugeMetricFamily
    family = new(item.name, item.help, labels=item.labels)
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, value)
    return family


def _histogram(item: Instrument, distributions: Iterable[tuple[Labels, Distribution]]) -> Metric:
    family = HistogramMetricFamily(item.name, item.help, labels=item.labels)
    for labels, distribution in distributions:
        family.add_metric(labels, distribution.buckets(), distribution.sum)
    return family


def _request_families(protocols: Mapping[str, RequestCounts]) -> Iterator[Metric]:
    answered = [
        ((protocol, tier), seconds)
        for protocol, counts in protocols.items()
        for tier, seconds in counts.tiers.items()
    ]
    failed = [((protocol,), counts.failed_seconds) for protocol, counts in protocols.items()]
    outcomes: Counter[Labels] = Counter()
    found: Counter[str] = Counter()
    for (protocol, tier), seconds in answered:
        outcomes[protocol, "ok"] += seconds.total
        found[tier] += seconds.total
    for protocol, counts in protocols.items():
        outcomes.update({(protocol, kind): count for kind, count in counts.failures.items()})
    yield _family(instruments.REQUESTS, outcomes.items())
    yield _histogram(instruments.REQUEST_SECONDS, answered)
    yield _histogram(instruments.FAILED_SECONDS, failed)
    memory, disk, store = found["memory"], found["disk"], found["store"]
    yield _family(instruments.TIER_HITS, [(("memory",), memory), (("disk",), disk)])
    yield _family(instruments.TIER_MISSES, [(("memory",), disk + store), (("disk",), store)])


def _gauge_families(statistics: Statistics) -> Iterator[Metric]:
    server = statistics.server
    catalog, sync = server.catalog, server.sync
    yield _family(instruments.INFO, [((server.version,), 1)])
    plain = (
        (instruments.READY, server.readiness.ready),
        (instruments.INSIDE, statistics.inside),
        (instruments.LOADING, statistics.loading),
        (instruments.HELD_BACK, statistics.held_back),
        (instruments.CATALOG_MODELS, catalog.models),
        (instruments.CATALOG_VERSIONS, catalog.versions),
        (instruments.CATALOG_REJECTS, catalog.rejects),
        (instruments.CATALOG_UNSETTLED, catalog.unsettled),
        (instruments.SYNC_DEGRADED, sync.failures > 0),
        (instruments.SYNC_NOTED, bool(sync.note)),
        (instruments.SYNC_AGE, sync.last_ok_s),
    )
    yield _family(instruments.REFUSALS, (((bound,), count) for bound, count in statistics.refusals.items()))
    for item, value in plain:
        yield _family(item, [((), value)])
    yield _family(instruments.SYNC_SOURCE, [((sync.source,), 1)] if sync.source else [])
    yield from _tier_families(server)
    if server.memory is not None:
        yield from _memory_families(server.memory)
    yield from _worker_families(server)


def _tier_families(server: ServerStatus) -> Iterator[Metric]:
    tiers = server.tiers
    yield _family(instruments.TIER_MODELS, (((tier.tier,), tier.models) for tier in tiers))
    yield _family(instruments.TIER_BYTES, (((tier.tier,), tier.bytes) for tier in tiers))
    yield _family(instruments.TIER_CAPACITY_MODELS, (((tier.tier,), tier.capacity_models) for tier in tiers))
    yield _family(instruments.TIER_CAPACITY_BYTES, (((tier.tier,), tier.capacity_bytes) for tier in tiers))
    yield _family(instruments.TIER_LEASES, (((tier.tier,), tier.leases) for tier in tiers))
    yield _family(instruments.TIER_PINNED, (((tier.tier,), tier.pinned) for tier in tiers))
    devices = [device for tier in tiers for device in tier.devices]
    yield _family(instruments.DEVICE_BYTES, (((it.device,), it.bytes) for it in devices))
    yield _family(instruments.DEVICE_CAPACITY_BYTES, (((it.device,), it.capacity_bytes) for it in devices))
    copies = sum(tier.copies for tier in tiers)
    yield _family(instruments.COPIES, [((), copies)])
    yield _family(instruments.TIER_OLDEST, (((tier.tier,), tier.oldest_used_s) for tier in tiers))


def _memory_families(memory: MemoryStatus) -> Iterator[Metric]:
    marks = {"low": memory.low_bytes, "high": memory.high_bytes, "critical": memory.critical_bytes}
    yield _family(instruments.MEMORY_TAKEN, [((), memory.taken_bytes)])
    yield _family(instruments.MEMORY_LIMIT, [((), memory.limit_bytes)])
    yield _family(instruments.MEMORY_MARK, (((mark,), bytes_) for mark, bytes_ in marks.items()))
    yield _family(instruments.MEMORY_LEVEL, [((), _LEVELS.index(memory.level))])
    yield _family(instruments.MEMORY_STALL, [((), memory.stall_share)])


def _worker_families(server: ServerStatus) -> Iterator[Metric]:
    workers = server.workers
    yield _family(instruments.OWN_PROCESSES, [((), sum(bool(worker.model) for worker in workers))])
    yield _family(instruments.WORKER_ALIVE, (((str(worker.id),), worker.alive) for worker in workers))
    yield _family(instruments.WORKER_MODELS, (((str(worker.id),), worker.models) for worker in workers))
    yield _family(instruments.WORKER_QUEUED, (((str(worker.id),), worker.queued) for worker in workers))
    yield _family(instruments.WORKER_STUCK, (((str(worker.id),), worker.stuck) for worker in workers))
